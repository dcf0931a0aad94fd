//! The simulated fleet. It has no clock, no IO and no lock: whoever drives it passes the time to
//! [`State::advance`] before each call, and the seed decides what is random.

pub(crate) mod access;
pub(crate) mod autoscaling;
pub(crate) mod backup;
pub(crate) mod catalog;
pub(crate) mod collection;
pub(crate) mod placement;
mod seed;
pub(crate) mod service;
pub(crate) mod setting;

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use self::access::Access;
use self::backup::Download;
use self::catalog::{App, Binary, DockerRegistry, Location, ResourcePackage, ServerConfig};
use self::collection::{Collection, Id};
use self::placement::Node;
use self::service::{AfterStop, Phase, Service};
use self::setting::Setting;
use crate::refusal::Refusal;
use crate::world::{Condition, Delays, PublishedPorts, SteamApp};

/// Everything that exists, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) now: DateTime<Utc>,
    /// Before this moment nothing changes by itself.
    due: DateTime<Utc>,
    random: fastrand::Rng,
    pub(crate) delays: Delays,
    published_ports: PublishedPorts,
    pub(crate) access: Access,
    pub(crate) locations: Vec<Location>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) packages: Collection<ResourcePackage>,
    pub(crate) registries: Collection<DockerRegistry>,
    pub(crate) steam_apps: Vec<SteamApp>,
    pub(crate) apps: Collection<App>,
    pub(crate) binaries: Collection<Binary>,
    pub(crate) configs: Collection<ServerConfig>,
    pub(crate) settings: Collection<Setting>,
    pub(crate) services: Collection<Service>,
    pub(crate) downloads: VecDeque<Download>,
    archives: u64,
    /// What the world file wants new services of a setting to start with.
    initial_metadata: BTreeMap<Id, Map<String, Value>>,
}

impl State {
    /// Brings everything up to `now`. Time does not go back: an earlier `now` changes nothing.
    pub(crate) fn advance(&mut self, now: DateTime<Utc>) {
        let now = now.max(self.now);
        while self.due <= now {
            match self.earliest_change() {
                Some(due) if due <= now => {
                    self.now = due.max(self.now);
                    self.step();
                }
                Some(due) => self.due = due,
                None => self.due = DateTime::<Utc>::MAX_UTC,
            }
        }
        self.now = now;
    }

    /// To be called after a change from outside: something may be due earlier than before.
    pub(crate) fn changed(&mut self) {
        self.due = DateTime::<Utc>::MIN_UTC;
    }

    fn earliest_change(&self) -> Option<DateTime<Utc>> {
        let services = self.services.iter().filter_map(Service::next_change);
        let settings = self.settings.iter().filter_map(|setting| setting.scaling);
        services
            .chain(settings.map(|scaling| scaling.next_step))
            .min()
    }

    /// Does everything that is due at `self.now`. All delays are at least a millisecond, so
    /// nothing that happens here is due again at the same moment.
    fn step(&mut self) {
        let (now, delays) = (self.now, self.delays);
        let mut to_place = Vec::new();
        let mut jobs_done = Vec::new();
        for service in self.services.iter_mut() {
            if service.job.as_ref().is_some_and(|job| job.until <= now) {
                jobs_done.push(service.id);
            }
            match service.phase {
                Phase::Pending { until } if until <= now => to_place.push(service.id),
                _ => service.step(now, &delays),
            }
        }
        for id in jobs_done {
            self.finish_job(id);
        }
        self.services.retain(|service| service.phase != Phase::Gone);
        for id in to_place {
            self.place(id);
        }
        let scaling: Vec<Id> = self
            .settings
            .iter()
            .filter(|setting| {
                setting
                    .scaling
                    .is_some_and(|scaling| scaling.next_step <= now)
            })
            .map(|setting| setting.id)
            .collect();
        for id in scaling {
            self.scale_step(id);
        }
    }

    /// Starts every service that `which` approves of.
    pub(crate) fn start_services(&mut self, which: impl Fn(&Service) -> bool) {
        let (now, delays) = (self.now, self.delays);
        for service in self.services.iter_mut().filter(|service| which(service)) {
            service.start(now, &delays);
        }
    }

    /// Stops every service that `which` approves of.
    pub(crate) fn stop_services(&mut self, which: impl Fn(&Service) -> bool, then: AfterStop) {
        let (now, delays) = (self.now, self.delays);
        for service in self.services.iter_mut().filter(|service| which(service)) {
            service.stop(now, &delays, then);
        }
    }

    /// Restarts the services of a changed config, with the ports it has now.
    pub(crate) fn redeploy(&mut self, config: Id) {
        let ports = self.unpublished_ports(config);
        for service in self
            .services
            .iter_mut()
            .filter(|service| service.config_id == config)
        {
            let mut ports = ports.clone();
            for port in &mut ports {
                let old = service.ports.iter().find(|old| {
                    old.name == port.name
                        && old.target == port.target
                        && old.protocol == port.protocol
                });
                port.published = old.and_then(|old| old.published);
            }
            service.ports = ports;
        }
        let of_config = |service: &Service| service.config_id == config && !service.is_stopped();
        self.stop_services(of_config, AfterStop::StartAgain);
    }

    /// Removes a setting and its services at once.
    pub(crate) fn remove_setting(&mut self, id: Id) -> Result<(), Refusal> {
        self.settings.remove(id)?;
        self.services.retain(|service| service.setting_id != id);
        self.initial_metadata.remove(&id);
        Ok(())
    }

    /// Puts a service into a condition, as something outside the API would.
    pub(crate) fn set_condition(&mut self, id: Id, condition: Condition) -> Result<(), Refusal> {
        let (now, delays) = (self.now, self.delays);
        let service = self.services.find_mut(id)?;
        let was_overloaded = service.condition == Condition::Overload;
        service.condition = match condition {
            Condition::Stopped => Condition::Healthy,
            other => other,
        };
        service.updated_at = now;
        match condition {
            Condition::Overload => {
                service.node = None;
                for port in &mut service.ports {
                    port.published = None;
                }
                service.phase = Phase::Pending { until: now };
            }
            Condition::Stopped => service.stop(now, &delays, AfterStop::Stay),
            _ if was_overloaded && service.is_pending() => {
                service.phase = Phase::Pending {
                    until: now + service::span(delays.pending_ms),
                };
            }
            Condition::Healthy | Condition::Unhealthy | Condition::NotFound => {}
        }
        Ok(())
    }

    fn random_hex(&mut self) -> String {
        format!("{:032x}{:032x}", self.random.u128(..), self.random.u128(..))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::world::World;

    pub(super) const START: DateTime<Utc> = DateTime::<Utc>::UNIX_EPOCH;

    pub(super) fn settled() -> State {
        State::new(&World::default_world(), START, 7).unwrap()
    }

    pub(super) fn pass(state: &mut State, milliseconds: i64) {
        state.changed();
        state.advance(state.now + TimeDelta::milliseconds(milliseconds));
    }

    fn status(state: &State, id: Id) -> &'static str {
        state.services.find(id).unwrap().status()
    }

    #[test]
    fn a_cold_world_goes_through_the_whole_start() {
        let mut world = World::default_world();
        world.start = crate::world::Start::Cold;
        let mut state = State::new(&world, START, 7).unwrap();
        let service = state.services.find(101).unwrap();
        assert_eq!((service.status(), service.node), ("pending", None));
        assert!(service.ports.iter().all(|port| port.published.is_none()));
        pass(&mut state, 1);
        assert_eq!(status(&state, 101), "starting");
        assert_eq!(
            state.services.find(101).unwrap().ports[0].published,
            Some(20_000)
        );
        pass(&mut state, 599);
        assert_eq!(status(&state, 101), "running");
    }

    #[test]
    fn stop_start_and_restart_take_their_time() {
        let mut state = settled();
        state.stop_services(|service| service.id == 101, AfterStop::Stay);
        assert_eq!(status(&state, 101), "stopping");
        pass(&mut state, 299);
        assert_eq!(status(&state, 101), "stopping");
        pass(&mut state, 1);
        assert_eq!(status(&state, 101), "stopped");
        state.start_services(|service| service.id == 101);
        pass(&mut state, 200);
        assert_eq!(status(&state, 101), "starting");
        pass(&mut state, 600);
        assert_eq!(status(&state, 101), "running");
        let ports = state.services.find(101).unwrap().ports[0].published;
        state.stop_services(|service| service.id == 101, AfterStop::StartAgain);
        pass(&mut state, 10_000);
        assert_eq!(status(&state, 101), "running");
        assert_eq!(state.services.find(101).unwrap().ports[0].published, ports);
    }

    #[test]
    fn conditions_show_in_the_flags() {
        let mut state = settled();
        state.set_condition(101, Condition::Overload).unwrap();
        pass(&mut state, 60_000);
        let service = state.services.find(101).unwrap();
        assert!(service.is_pending() && service.node.is_none() && !service.is_healthy());
        state.set_condition(101, Condition::Healthy).unwrap();
        pass(&mut state, 60_000);
        assert!(state.services.find(101).unwrap().is_healthy());
        state.set_condition(101, Condition::Unhealthy).unwrap();
        assert_eq!(status(&state, 101), "unhealthy");
        state.set_condition(101, Condition::NotFound).unwrap();
        assert!(state.services.find(101).unwrap().is_not_found());
    }

    #[test]
    fn no_two_services_share_a_published_port() {
        let state = settled();
        let mut ports: Vec<_> = state
            .services
            .iter()
            .flat_map(|service| &service.ports)
            .filter_map(|port| Some((port.protocol, port.published?)))
            .collect();
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
        assert!(count >= 15);
    }

    #[test]
    fn an_explicit_list_of_ports_is_handed_out_in_order_and_can_run_out() {
        let mut world = World::default_world();
        world.published_ports = PublishedPorts::List(vec![9003, 9001]);
        let state = State::new(&world, START, 7).unwrap();
        let port = |id| state.services.find(id).unwrap().ports[0].published;
        assert_eq!(
            [port(101), port(102), port(103)],
            [Some(9003), Some(9001), None]
        );
    }

    #[test]
    fn a_full_node_leaves_services_pending_until_there_is_room() {
        let mut world = World::default_world();
        world.nodes[0].capacity = 3;
        let mut state = State::new(&world, START, 7).unwrap();
        let waiting: Vec<Id> = state
            .services
            .iter()
            .filter(|s| s.is_pending())
            .map(|s| s.id)
            .collect();
        assert!(waiting.contains(&104), "{waiting:?}");
        state.scale(31, 1).unwrap();
        pass(&mut state, 60_000);
        assert!(state.services.iter().filter(|s| s.is_pending()).count() <= 1);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut state = settled();
        state.advance(START - TimeDelta::days(1));
        assert_eq!(state.now, START);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let token = |seed| {
            let mut state = State::new(&World::default_world(), START, seed).unwrap();
            state
                .sign_in("developer@example.com", "local-development-password")
                .unwrap()
        };
        assert_eq!(token(1), token(1));
        assert_ne!(token(1), token(2));
    }

    #[test]
    fn a_backup_is_there_after_a_while_and_can_be_restored() {
        let mut state = settled();
        let id = state
            .services
            .iter()
            .find(|s| state.is_backupable(s) && s.is_healthy())
            .unwrap()
            .id;
        assert!(state.begin_restore(id).is_err());
        state.begin_backup(id, "first".to_owned()).unwrap();
        assert!(state.services.find(id).unwrap().backups.is_empty());
        pass(&mut state, 400);
        assert_eq!(
            backup::latest(state.services.find(id).unwrap())
                .unwrap()
                .name,
            "first"
        );
        state.begin_restore(id).unwrap();
        pass(&mut state, 400);
        assert_eq!(status(&state, id), "stopping");
        pass(&mut state, 10_000);
        assert_eq!(status(&state, id), "running");
        assert!(
            state.services.find(id).unwrap().backups[0]
                .restored_at
                .is_some()
        );
        assert!(
            state
                .begin_backup(101, "nothing to back up".to_owned())
                .is_err()
        );
    }
}
