//! One more instance of a location setting, for a match that finds no free server.

use std::{num::NonZeroU64, time::Instant};

use super::Coordinator;
use crate::{config::Scale, error::Error, matches::record::Match, model::Server, query::Filter};

/// How well the servers of a location setting fit a match, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// One of them has all that is asked for.
    Whole,
    /// One of them is where the match may run; what its metadata say may change.
    Place,
    /// None of them is known.
    Unknown,
}

impl Coordinator {
    /// Raises one location setting by one, if the settings allow it. What fails is said here.
    pub(super) async fn scale_up(&self, record: &Match) {
        let selectors = record.request.selectors.iter();
        let filters: Vec<Filter> = selectors
            .filter_map(|selector| selector.filter(self.rules()).ok())
            .collect();
        let order = self.index.read(|servers| {
            let servers = servers.values().map(|seen| &*seen.server);
            preferred(&self.instances.scale, &servers, &filters)
        });
        // The number is read and then written: two at once would raise it by one between them.
        let _alone = self.scaling.lock().await;
        for scale in order {
            match self.raise(scale).await {
                Ok(Raised::Full) => {}
                Ok(Raised::To(instances)) => {
                    self.metrics.scaled_up();
                    let setting = scale.location_setting;
                    tracing::info!(
                        setting,
                        instances,
                        operation = record.id,
                        "no server is free: a location setting is scaled up"
                    );
                    return;
                }
                Err(error) => {
                    let setting = scale.location_setting;
                    tracing::warn!(setting, "cannot be scaled up: {error}");
                }
            }
        }
    }

    /// An error means that the setting is as it was; where nobody knows, it counts as raised.
    async fn raise(&self, scale: Scale) -> Result<Raised, Error> {
        let setting = scale.location_setting;
        let ends = Instant::now() + self.call_time;
        let (name, instances) = self.fleet.instances_of(setting, ends).await?;
        let Some(wanted) = instances.checked_add(1).and_then(NonZeroU64::new) else {
            return Ok(Raised::Full);
        };
        if wanted.get() > u64::from(scale.instances_max) {
            return Ok(Raised::Full);
        }
        match self.fleet.scale(setting, &name, wanted, ends).await {
            Ok(()) => Ok(Raised::To(wanted.get())),
            Err(error) => match error.of_update() {
                error @ Error::UpdateUnconfirmed(_) => {
                    tracing::warn!(setting, "may have been scaled up: {error}");
                    Ok(Raised::To(wanted.get()))
                }
                error => Err(error),
            },
        }
    }
}

enum Raised {
    To(u64),
    /// It has as many instances as it may have.
    Full,
}

/// The settings in which one more server may help, the best first and otherwise in their order. One whose servers are
/// all elsewhere is left out.
fn preferred<'a>(
    scales: &[Scale],
    servers: &(impl Iterator<Item = &'a Server> + Clone),
    filters: &[Filter],
) -> Vec<Scale> {
    let places: Vec<Filter> = filters.iter().map(place).collect();
    let matches = |filters: &[Filter], server: &Server| filters.iter().any(|it| it.matches(server));
    let fit = |scale: &Scale| {
        let mut of_setting = servers
            .clone()
            .filter(|server| server.setting_id == scale.location_setting)
            .peekable();
        if of_setting.peek().is_none() {
            return Some(Fit::Unknown);
        }
        let fits = of_setting.filter_map(|server| {
            let is_there = matches(&places, server);
            let is_whole = is_there && matches(filters, server);
            is_there.then_some(if is_whole { Fit::Whole } else { Fit::Place })
        });
        fits.min()
    };
    let mut fitting: Vec<(Fit, Scale)> = scales
        .iter()
        .filter_map(|scale| Some((fit(scale)?, *scale)))
        .collect();
    fitting.sort_by_key(|(fit, _)| *fit);
    fitting.into_iter().map(|(_, scale)| scale).collect()
}

/// The part of a filter that says where.
fn place(filter: &Filter) -> Filter {
    Filter {
        status: None,
        metadata: None,
        ..filter.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::query::{Rules, Source};

    fn filter(query: &serde_json::Value) -> Filter {
        let rules = Rules {
            state_key: "instance_state",
            per_page_max: 100,
            app_id: 1,
            source: Source::Index,
        };
        Filter::parse(&query.to_string(), rules).unwrap()
    }

    fn server(id: i64, setting_id: i64, city: &str, mode: &str) -> Server {
        let mut server = Server::sample(id);
        server.setting_id = setting_id;
        city.clone_into(&mut server.city);
        server.metadata.insert("mode".to_owned(), mode.into());
        server
    }

    #[track_caller]
    fn check(query: &serde_json::Value, expected: &[i64]) {
        let servers = [
            server(1, 31, "limburg", "duel"),
            server(2, 32, "ashburn", "duel"),
            server(3, 33, "ashburn", "race"),
        ];
        let scale = |location_setting| Scale {
            location_setting,
            instances_max: 5,
        };
        let scales = [31, 32, 33, 34].map(scale);
        let found = preferred(&scales, &servers.iter(), &[filter(query)]);
        let found: Vec<i64> = found.iter().map(|it| it.location_setting).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn settings_whose_servers_fit_come_first() {
        check(&json!({}), &[31, 32, 33, 34]);
        check(&json!({"Metadata": {"mode": "race"}}), &[33, 31, 32, 34]);
    }

    #[test]
    fn settings_elsewhere_are_left_out() {
        check(&json!({"Location": {"City": "ashburn"}}), &[32, 33, 34]);
        check(
            &json!({"Location": {"City": "ashburn"}, "Metadata": {"mode": "race"}}),
            &[33, 32, 34],
        );
        check(&json!({"Location": {"City": "paris"}}), &[34]);
    }
}
