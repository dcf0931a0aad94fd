//! `cargo xtask soak crowd`: two thousand peers on one spot of one room, more voice than a server can carry, and what it
//! does about it: it stays, sheds by its policy, and has no budget any more once nobody talks, or few.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{
    process::{release, say},
    voice_run::{self, Run, Sample, settle},
};

/// Seconds with fewer talkers: a budget ends ten after it has refused anything, and it takes a while to be raised that far.
const THEN_S: u32 = 40;

/// Seconds within which the budget must have ended.
const RECOVER_MAX_S: f64 = 30.0;

/// Share of the voice of few that must be heard at the end.
const WHOLE_MIN: f64 = 0.99;

/// The gauge of the budget; 0 is none.
const BUDGET: &str = "sfu_shard_stream_budget";

/// What it refused.
const SHED: &str = "sfu_drops_total/shed";

/// How large the crowd is, and how loud.
#[derive(Args)]
pub(crate) struct Options {
    /// Peers of the room
    #[arg(long, default_value_t = 2_000)]
    peers: u32,
    /// Those who talk while it is too much
    #[arg(long, default_value_t = 64)]
    talkers: u32,
    /// Those who go on talking; what they say must be heard. One needs 100,000 packets a second: a core for the server, and
    /// one for its clients
    #[arg(long, default_value_t = 0)]
    then_talkers: u32,
    /// Seconds of too much
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Packets of a talker in a second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Peers that come in a second, at most
    #[arg(long, default_value_t = 50)]
    ramp: u32,
    /// Judge what an earlier run has left in this folder instead
    #[arg(long, value_name = "FOLDER")]
    judge: Option<PathBuf>,
}

pub(crate) fn soak(options: &Options) -> Result<()> {
    let run = match &options.judge {
        Some(folder) => Run::read(folder)?,
        None => Run::make("soak-crowd", voice_load(options))?,
    };
    tell(&run.samples);
    let seen = Seen::new(&run)?;
    seen.say();
    settle(&seen.faults(), "the voice server did not stand the crowd")
}

fn voice_load(options: &Options) -> Command {
    let mut command = Command::new(release("voice-load"));
    command.args(["--rooms", "1", "--place", "spot", "--moves", "0.2"]);
    for (flag, value) in [
        ("--peers", options.peers),
        ("--talkers", options.talkers),
        ("--then-talkers", options.then_talkers),
        ("--duration", options.seconds),
        ("--rate", options.rate),
        ("--ramp", options.ramp),
        ("--then", THEN_S),
    ] {
        command.args([flag, &value.to_string()]);
    }
    // Joining under overload is refused, which is not what is looked at here.
    command.args(["--silent-ramp", "--warm-up", "0", "--sample-every", "1"]);
    command
}

/// The levels over time.
fn tell(samples: &[Sample]) {
    say("  time  stage       streams  forwarded/s    shed/s   memory");
    let of_interest = |it: &&[Sample]| matches!(it[1].stage(), "counting" | "then");
    for pair in samples.windows(2).filter(of_interest) {
        let [before, after] = pair else { continue };
        let seconds = after.at_s() - before.at_s();
        let rate = |name| {
            let counts = after.metric(name).zip(before.metric(name));
            counts.map_or(f64::NAN, |(after, before)| (after - before) / seconds)
        };
        say(&format!(
            "{:>6.1}  {:<9} {:>9} {:>12.0} {:>9.0} {:>4.0} MiB",
            after.at_s(),
            after.stage(),
            match after.metric(BUDGET) {
                Some(0.0) => "any".to_owned(),
                Some(budget) => format!("{budget}"),
                None => "?".to_owned(),
            },
            rate("sfu_packets_out_total"),
            rate(SHED),
            after.number("/process/resident_kib").unwrap_or(f64::NAN) / 1024.0,
        ));
    }
}

/// What is judged.
#[derive(Debug, PartialEq)]
struct Seen {
    /// The server was there all the time, and answered at the end.
    is_alive: bool,
    shed: f64,
    /// The lowest budget while too many talked.
    least_budget: Option<f64>,
    /// From when fewer talked until there was no budget.
    recovered_after_s: Option<f64>,
    /// Shares of voice that was heard, before and at the end.
    heard: f64,
    heard_then: Option<f64>,
    misdelivered: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Seen {
    fn new(Run { samples, report }: &Run) -> Result<Self> {
        let loud = voice_run::of_stage(samples, "counting");
        let then = voice_run::of_stage(samples, "then");
        let (Some(first), Some(began), Some(last)) = (loud.first(), then.first(), samples.last())
        else {
            bail!("too few samples to judge");
        };
        let shed = |it: &Sample| it.metric(SHED);
        let shed = began.metric(SHED).zip(shed(first));
        let budgets = loud.iter().filter_map(|it| it.metric(BUDGET));
        let limited = then.iter().rposition(|it| it.metric(BUDGET) != Some(0.0));
        let free = match limited {
            Some(at) => then.get(at + 1),
            None => Some(began),
        };
        let figure = |pointer: &str| {
            let figure = report.pointer(pointer).and_then(Value::as_f64);
            figure.with_context(|| format!("{pointer} is not in the report"))
        };
        let expected_then = figure("/then/expected")?;
        let heard_then = figure("/then/received")? / expected_then;
        Ok(Self {
            is_alive: samples
                .iter()
                .all(|it| it.number("/process/files").is_some())
                && last.is_whole(),
            shed: shed.map_or(f64::NAN, |(after, before)| after - before),
            least_budget: budgets.filter(|it| *it > 0.0).reduce(f64::min),
            recovered_after_s: free.map(|it| it.at_s() - began.at_s()),
            heard: figure("/whole/received")? / figure("/whole/expected")?,
            heard_then: (expected_then > 0.0).then_some(heard_then),
            misdelivered: figure("/whole/misdelivered")? + figure("/then/misdelivered")?,
            p50_ms: figure("/whole/latency/p50_us")? / 1_000.0,
            p99_ms: figure("/whole/latency/p99_us")? / 1_000.0,
        })
    }

    fn say(&self) {
        say(&format!(
            "heard: {:.2} % of what was said, p50 {:.1} ms, p99 {:.1} ms; {:.0} packets shed, at least {} streams",
            self.heard * 100.0,
            self.p50_ms,
            self.p99_ms,
            self.shed,
            self.least_budget
                .map_or_else(|| "any".to_owned(), |it| it.to_string())
        ));
        if let Some(heard) = self.heard_then {
            say(&format!("with few: {:.2} % heard", heard * 100.0));
        }
        say(&format!(
            "no budget after {}",
            self.recovered_after_s
                .map_or_else(|| "?".to_owned(), |it| format!("{it:.0} s"))
        ));
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        check(self.is_alive, "the server died, or does not answer");
        let has_shed = self.shed > 0.0 && self.least_budget.is_some();
        check(has_shed, "nothing was shed");
        check(self.heard > 0.0, "nothing was heard");
        check(self.misdelivered == 0.0, "voice went astray");
        let recovered = self.recovered_after_s;
        check(
            recovered.is_some_and(|it| it <= RECOVER_MAX_S),
            "the budget has not ended in time",
        );
        let is_whole = self.heard_then.is_none_or(|it| it >= WHOLE_MIN);
        check(is_whole, "few are not heard whole");
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Budgets while too many talk, then while few do; a look a second.
    fn seen(loud: &[u32], then: &[u32], heard_then: u32) -> Seen {
        let stages = [
            ("before", &[0][..]),
            ("counting", loud),
            ("then", then),
            ("after", &[0]),
        ];
        let all = stages
            .into_iter()
            .flat_map(|(stage, budgets)| budgets.iter().map(move |it| (stage, *it)));
        let mut shed = 0;
        let mut samples = Vec::new();
        for (at, (stage, budget)) in all.enumerate() {
            shed += if budget > 0 { 100 } else { 0 };
            samples.push(voice_run::sample(json!({
                "at_s": at,
                "stage": stage,
                "process": {"files": 20},
                "metrics": {BUDGET: budget, SHED: shed},
            })));
        }
        let latency = json!({"p50_us": 1_000, "p99_us": 50_000});
        let report = json!({
            "whole": {"expected": 100, "received": 3, "misdelivered": 0, "latency": latency},
            "then": {"expected": 100, "received": heard_then, "misdelivered": 0},
        });
        Seen::new(&Run { samples, report }).unwrap()
    }

    #[test]
    fn a_server_that_sheds_and_recovers_has_no_fault() {
        let seen = seen(&[0, 4_000, 2_000, 3_000], &[3_000, 3_000, 0, 0], 100);
        assert_eq!(seen.faults(), [""; 0]);
        assert_eq!(seen.least_budget, Some(2_000.0));
        assert_eq!(seen.recovered_after_s, Some(2.0));
        assert_eq!(seen.shed, 400.0);
    }

    #[test]
    fn one_that_does_not_shed_or_recover_has() {
        for (loud, then, heard, fault) in [
            (&[0, 0][..], &[0, 0][..], 100, "shed"),
            (&[0, 9], &[9, 9, 9], 100, "ended"),
            (&[0, 9], &[9, 0, 9], 100, "ended"),
            (&[0, 9], &[9; 40], 100, "ended"),
            (&[0, 9], &[9, 0, 0], 98, "whole"),
            (&[0, 9], &[9, 0, 0], 0, "whole"),
        ] {
            let faults = seen(loud, then, heard).faults();
            assert!(faults.len() == 1 && faults[0].contains(fault), "{faults:?}");
        }
    }

    #[test]
    fn where_nobody_talks_in_the_end_nothing_has_to_be_heard() {
        let mut seen = seen(&[0, 9], &[9, 0], 100);
        seen.heard_then = None;
        assert_eq!(seen.faults(), [""; 0]);
    }

    #[test]
    fn one_that_died_or_says_nothing_has() {
        let mut seen = seen(&[0, 9], &[9, 0], 100);
        seen.is_alive = false;
        assert_eq!(seen.faults().len(), 1);
        seen.is_alive = true;
        seen.heard = 0.0;
        assert_eq!(seen.faults().len(), 1);
    }
}
