//! What a storm comes to, for a person.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use super::{
    Disturbances,
    check::Violation,
    journal::{Event, EventKind},
    record::Record,
};

/// Violations that are printed; the first ones say what is wrong.
const VIOLATIONS_SHOWN_MAX: usize = 20;

/// What a storm comes to.
#[derive(Debug)]
pub struct Outcome {
    /// What matchmakers have seen.
    pub record: Record,
    /// What game servers have written down, by service.
    pub journals: BTreeMap<i64, Vec<Event>>,
    /// What was ended.
    pub disturbances: Disturbances,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// The seed of it all.
    pub seed: u64,
    /// Matches that were asked for.
    pub cycles: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Outcome {
    /// How often game servers wrote down what.
    #[must_use]
    pub fn events(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for event in self.journals.values().flatten() {
            let name = match &event.kind {
                EventKind::Start => "journal: start".to_owned(),
                EventKind::Finish => "journal: finish".to_owned(),
                EventKind::Idle => "journal: idle".to_owned(),
                EventKind::Refused(refusal) => {
                    format!("journal: {} refused, {}", refusal.call, refusal.reason)
                }
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allocated = self.record.told.len();
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "seed {}, {seconds:.0} s", self.seed)?;
        let mut row = |count: u64, what: &str| writeln!(f, "  {count:>8}  {what}");
        row(self.cycles, "matches asked for")?;
        row(allocated as u64, "matches told of")?;
        for (what, count) in self.record.counts.iter().chain(&self.events()) {
            row(*count, what)?;
        }
        row(self.disturbances.bridges, "bridges killed")?;
        row(self.disturbances.store, "restarts of the store")?;
        quantiles(f, "call that brought a match", &self.record.calls)?;
        quantiles(f, "first call to match", &self.record.waits)?;
        writeln!(f, "{} violations", self.violations.len())?;
        for violation in self.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
            writeln!(f, "  {violation}")?;
        }
        Ok(())
    }
}

fn quantiles(f: &mut fmt::Formatter<'_>, what: &str, times: &[Duration]) -> fmt::Result {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |share: f64| times.get((times.len().saturating_sub(1) as f64 * share) as usize);
    let mut line = format!("{what}:");
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        if let Some(time) = at(share) {
            write!(line, " {name} {:.1} ms", time.as_secs_f64() * 1e3)?;
        }
    }
    writeln!(f, "{line}")
}
