//! Where a server's limit is: the load is raised step by step until listeners would notice.

use serde::Serialize;

use crate::{
    plan::{Plan, RATE_MAX},
    report::{Report, ratio},
    table::{percent, time},
};

/// How much more load each step has.
const STEP: f64 = 1.25;

/// Most steps: the load is then more than eight hundred times the first.
const STEPS_MAX: i32 = 30;

/// What listeners may notice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// Of 100 packets, 99 take no longer than this, in microseconds.
    pub p99_us: f64,
    /// Share of packets that does not come.
    pub loss: f64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Search {
    /// What counted as too much.
    pub bounds: Bounds,
    /// All steps, with growing load.
    pub steps: Vec<Report>,
    /// Packets to listeners in a second at the last step within the bounds; `None` if there is none.
    pub limit_per_second: Option<f64>,
    /// Why there is no further step.
    pub ended: &'static str,
}

impl Plan {
    /// The same with so many times the load: more talkers as long as there are peers, then more packets of each. `None`
    /// if talkers cannot talk that fast.
    pub(crate) fn times(&self, factor: f64) -> Option<Self> {
        let wanted = f64::from(self.talkers) * f64::from(self.rate) * factor;
        let talkers = (f64::from(self.talkers) * factor).round() as u32;
        let talkers = talkers.clamp(1, self.peers);
        let rate = (wanted / f64::from(talkers)).round().max(1.0) as u32;
        (rate <= RATE_MAX).then(|| Self {
            talkers,
            rate,
            ..self.clone()
        })
    }
}

impl Bounds {
    fn hold(&self, report: &Report) -> bool {
        let whole = &report.whole;
        whole.latency.p99_us <= self.p99_us && whole.loss <= self.loss
    }
}

impl Search {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            steps: Vec::new(),
            limit_per_second: None,
            ended: "it was stopped",
        }
    }

    /// The next step's plan; `None` at the end.
    pub(crate) fn next(&mut self, first: &Plan) -> Option<Plan> {
        if let Some(last) = self.steps.last() {
            if !self.bounds.hold(last) {
                self.ended = "listeners notice";
                return None;
            }
            self.limit_per_second = Some(per_second(last));
        }
        let step = i32::try_from(self.steps.len()).unwrap_or(i32::MAX);
        let next = match step < STEPS_MAX {
            true => first.times(STEP.powi(step)),
            false => None,
        };
        if next.is_none() {
            self.ended = "talkers cannot talk more";
        }
        next
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:>10} {:>10} {:>8} {:>9} {:>9} {:>8} {:>8} {:>10}\n",
            "forwards/s", "arrived/s", "loss", "p50", "p99", "server", "us each", "generator"
        );
        for report in &self.steps {
            let server = report.server.as_ref();
            text.push_str(&format!(
                "{:>10} {:>10.0} {:>8} {:>9} {:>9} {:>8} {:>8} {:>10}\n",
                report.plan.forwards_per_second(),
                per_second(report),
                percent(report.whole.loss),
                time(report.whole.latency.p50_us),
                time(report.whole.latency.p99_us),
                server.map_or_else(|| "?".to_owned(), |it| format!("{:.0} %", it.cores * 100.0)),
                server.map_or_else(|| "?".to_owned(), |it| format!("{:.2}", it.us_per_forward)),
                format!("{:.0} %", report.generator.cores * 100.0),
            ));
        }
        let bounds = format!(
            "p99 {}, loss {}",
            time(self.bounds.p99_us),
            percent(self.bounds.loss)
        );
        text.push_str(&match self.limit_per_second {
            Some(limit) => format!("within {bounds}: {limit:.0} packets/s; {}\n", self.ended),
            None => format!("never within {bounds}\n"),
        });
        for warning in self.steps.last().into_iter().flat_map(|it| &it.warnings) {
            text.push_str(&format!("warning, of the last step: {warning}\n"));
        }
        text
    }
}

/// Packets that arrived, all listeners together.
pub(crate) fn per_second(report: &Report) -> f64 {
    ratio(report.whole.received as f64, report.elapsed_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::tests::plan, report::tests::report};

    #[test]
    fn load_grows_by_talkers_and_then_by_packets() {
        let first = plan();
        let doubled = first.times(2.0).unwrap();
        assert_eq!((doubled.talkers, doubled.rate), (4, 50));
        let much = first.times(20.0).unwrap();
        assert_eq!((much.talkers, much.rate), (10, 200));
        assert_eq!(first.times(1.0), Some(first.clone()));
        assert_eq!(first.times(1_000.0), None);
        let mut before = 0;
        for step in 0..15 {
            let load = first.times(STEP.powi(step)).unwrap().forwards_per_second();
            assert!(load > before, "step {step}");
            before = load;
        }
    }

    #[test]
    fn the_search_ends_where_listeners_notice() {
        let mut search = Search::new(Bounds {
            p99_us: 5_000.0,
            loss: 0.01,
        });
        let mut good = report();
        good.whole.loss = 0.0;
        let mut count = 0;
        while let Some(plan) = search.next(&plan()) {
            count += 1;
            let mut report = good.clone();
            report.plan = plan;
            report.whole.received = 1_000 * count;
            if count == 4 {
                report.whole.latency.p99_us = 6_000.0;
            }
            search.steps.push(report);
        }
        assert_eq!(search.steps.len(), 4);
        assert_eq!(search.limit_per_second, Some(3_000.0));
        assert!(
            search.table().contains("3000 packets/s; listeners notice"),
            "{}",
            search.table()
        );
    }

    #[test]
    fn a_first_step_that_is_too_much_is_no_limit() {
        let mut search = Search::new(Bounds {
            p99_us: 5_000.0,
            loss: 0.01,
        });
        search.steps.push(report());
        assert!(search.next(&plan()).is_none());
        assert_eq!(search.limit_per_second, None);
        assert!(search.table().contains("never within"));
    }
}
