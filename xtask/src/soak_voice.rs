//! `cargo xtask soak voice`: half an hour of rooms that people enter and leave, and whether anything of them stays behind.
//!
//! The load is small: what is looked for is what grows, what is forgotten, and what is counted wrong. Whoever gets in, by
//! either transport, must leave nothing; and what the server counts must be what its listeners got.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    process::{release, say},
    voice_run::{self, Run, Sample, settle},
};

/// Rooms, peers of each and talkers of each: little enough for a machine that has other things to do.
const SIZE: [u32; 3] = [6, 8, 2];

/// Peers in a second that leave and come again.
const CHURN: u32 = 1;

/// Bytes of a voice datagram.
const PACKET_BYTES: u32 = 100;

/// Shorter, and memory that is taken once looks like memory that is taken all the time: some 600 peers have to come and go
/// before the allocator has the room that it goes on with, and only the second half is looked at.
const MINUTES_MIN: u32 = 20;

/// Open files at the end beyond those at the beginning: the connection that asks for metrics may be a new one while the
/// old one is being closed.
const FILES_MORE_MAX: f64 = 1.0;

/// The same of threads: one that the runtime keeps for blocking calls ends after 10 s without any.
const THREADS_MORE_MAX: f64 = 1.0;

/// Growth of resident memory over the second half, as a share in ten minutes.
const GROWTH_MAX: f64 = 0.01;

/// Share of packets that may be under way or in the kernel when somebody leaves: neither side counts them then.
const UNDER_WAY_MAX: f64 = 0.001;

/// Share of what the server has sent that its clients may miss: when they have no time, their sockets overflow, and sessions
/// give up on what was not acknowledged.
const CLIENTS_MISS_MAX: f64 = 0.005;

/// Share of the looks that may have had no answer in time, when the machine has other things to do.
const UNANSWERED_MAX: f64 = 0.01;

/// Share of what was owed to listeners that the server may drop when the machine has other things to do.
const LOSS_MAX: f64 = 0.01;

/// Share of those who were to leave and come again that may not have: some were just on their way.
const CHURN_MISSED_MAX: f64 = 0.1;

/// Share of connections that may end by themselves: a handshake has 10 s, which a busy machine may not have.
const ENDED_MAX: f64 = 0.01;

/// Looks in which everybody must have been seen present at once, except for those who were away for a moment.
const PRESENT_LOOKS: usize = 12;

/// What is zero when nobody is there.
const EMPTY_AT_END: [&str; 7] = [
    "sfu_clients",
    "sfu_peers",
    "sfu_lost_peers",
    "sfu_rooms",
    "sfu_open_connections",
    "sfu_shard_queue",
    "sfu_shard_stream_budget",
];

/// How long, and of what.
#[derive(Args)]
pub(crate) struct Options {
    /// Minutes of talking
    #[arg(long, default_value_t = 30)]
    minutes: u32,
    /// Judge what an earlier run has left in this folder instead
    #[arg(long, value_name = "FOLDER")]
    judge: Option<PathBuf>,
}

pub(crate) fn soak(options: &Options) -> Result<()> {
    let run = match &options.judge {
        Some(folder) => Run::read(folder)?,
        None => Run::make("soak-voice", voice_load(options)?)?,
    };
    for warning in run.report["warnings"].as_array().into_iter().flatten() {
        say(&format!("clients: {}", warning.as_str().unwrap_or("?")));
    }
    let faults = Judge::new(&run.samples, &run.report)?.faults();
    settle(&faults, "the voice server did not stand the soak")?;
    say("nothing stayed behind, nothing grew, and what was counted is what was heard");
    Ok(())
}

fn voice_load(options: &Options) -> Result<Command> {
    ensure!(
        options.minutes >= MINUTES_MIN,
        "growth does not show in less than {MINUTES_MIN} minutes"
    );
    let [rooms, peers, talkers] = SIZE.map(|it| it.to_string());
    let mut command = Command::new(release("voice-load"));
    command.args(["--rooms", &rooms, "--peers", &peers, "--talkers", &talkers]);
    command.args([
        "--pattern",
        "speech",
        "--data-channels",
        "50",
        "--moves",
        "0.5",
    ]);
    command.args(["--packet-bytes", &PACKET_BYTES.to_string()]);
    command.args(["--churn", &CHURN.to_string(), "--ramp", "20"]);
    command.args(["--shards", "2", "--settle", "10", "--sample-every", "5"]);
    command.args(["--duration", &(options.minutes * 60).to_string()]);
    Ok(command)
}

struct Judge<'a> {
    samples: &'a [Sample],
    report: &'a Value,
    first: &'a Sample,
    last: &'a Sample,
    /// While everybody was in and talked.
    counting: Vec<&'a Sample>,
    faults: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(samples: &'a [Sample], report: &'a Value) -> Result<Self> {
        let counting = voice_run::of_stage(samples, "counting");
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
            anyhow::bail!("no samples");
        };
        ensure!(counting.len() > PRESENT_LOOKS, "too few samples to judge");
        Ok(Self {
            samples,
            report,
            first,
            last,
            counting,
            faults: Vec::new(),
        })
    }

    fn faults(mut self) -> Vec<String> {
        let away = self.samples.iter().filter(|it| !it.is_whole()).count();
        let away_max = self.samples.len() as f64 * UNANSWERED_MAX;
        self.check(away as f64 <= away_max && self.last.is_whole(), || {
            format!("it did not answer {away} times")
        });
        self.what_stays();
        self.growth();
        self.churn();
        self.counters();
        self.listeners();
        self.faults
    }

    fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    /// After everybody has left.
    fn what_stays(&mut self) {
        let last = self.last;
        for gauge in EMPTY_AT_END {
            let left = last.metric(gauge);
            self.check(left == Some(0.0), || {
                format!("{gauge} is {left:?} at the end")
            });
        }
        let limits = [("files", FILES_MORE_MAX), ("threads", THREADS_MORE_MAX)];
        for (what, more_max) in limits {
            let pointer = format!("/process/{what}");
            let [before, after] = [self.first, last].map(|it| it.number(&pointer));
            let (before, after) = (before.unwrap_or(f64::NAN), after.unwrap_or(f64::NAN));
            say(&format!("{what}: {before} before, {after} after"));
            self.check(after <= before + more_max, || {
                format!("{after} {what} at the end, {before} at the beginning")
            });
        }
    }

    fn growth(&mut self) {
        let second_half = self.counting.iter().skip(self.counting.len() / 2);
        let points: Vec<_> = second_half
            .filter_map(|it| Some((it.at_s(), it.number("/process/resident_kib")?)))
            .collect();
        let growth = growth(&points) * 600.0;
        let kib = points.last().map_or(f64::NAN, |(_, kib)| *kib);
        say(&format!(
            "memory: {:.1} MiB, growing by {:.2} % in ten minutes",
            kib / 1024.0,
            growth * 100.0
        ));
        self.check(growth <= GROWTH_MAX, || {
            format!("memory grows by {:.2} % in ten minutes", growth * 100.0)
        });
    }

    /// Connections of those who came again.
    fn connections_again(&self) -> f64 {
        let ends = [self.counting.last(), self.counting.first()];
        let [after, before] = ends.map(|it| it.and_then(|it| it.metric("sfu_connections_total")));
        let came = after.zip(before).map(|(after, before)| after - before);
        came.unwrap_or(f64::NAN)
    }

    /// Who was to come again did, and stayed.
    fn churn(&mut self) {
        let ends = [self.counting.first(), self.counting.last()];
        let [began, ended] = ends.map(|it| it.map_or(f64::NAN, |it| it.at_s()));
        let came = self.connections_again();
        let wanted = f64::from(CHURN) * (ended - began) * (1.0 - CHURN_MISSED_MAX);
        say(&format!("connections of those who came again: {came}"));
        self.check(came >= wanted, || {
            format!("only {came} connections of {wanted:.0}")
        });
        let present = self.counting.iter().rev().take(PRESENT_LOOKS);
        let present = present.filter_map(|it| it.number("/present"));
        let present = present.fold(0.0, f64::max);
        let [rooms, peers, _] = SIZE;
        let everybody = f64::from(rooms * peers - CHURN);
        self.check(present >= everybody, || {
            format!("at the end no more than {present} peers were present at once")
        });
    }

    /// The server's account beside the one of its clients: what does not get from one count to the next was dropped.
    fn counters(&mut self) {
        let last = self.last;
        let metric = |name| last.metric(name).unwrap_or(f64::NAN);
        let client = |name| last.number(name).unwrap_or(f64::NAN);
        let billed = |name| metric(name) / f64::from(PACKET_BYTES);
        let (came, out) = (
            metric("sfu_packets_in_total"),
            metric("sfu_packets_out_total"),
        );
        let dropped = last.drops();
        let accounts = [
            ("said and taken in", client("/sent"), came, dropped),
            (
                "taken in and forwarded",
                came,
                billed("billing_voice_incoming_bytes"),
                dropped,
            ),
            (
                "given to receivers and sent",
                billed("billing_voice_outgoing_bytes"),
                out,
                dropped,
            ),
            (
                "sent and heard",
                out,
                client("/heard"),
                out * CLIENTS_MISS_MAX,
            ),
        ];
        say(&format!("dropped in all: {dropped:.0}"));
        for (what, before, after, explained) in accounts {
            say(&format!("{what}: {before:.0}, {after:.0}"));
            let under_way = before * UNDER_WAY_MAX;
            let missing = before - after;
            let is_right = (-under_way..=under_way + explained).contains(&missing);
            self.check(before > 0.0 && is_right, || {
                format!("{what} differ: {before:.0} and {after:.0}, {dropped:.0} dropped")
            });
        }
    }

    /// What was not heard was dropped, and the server says so.
    fn listeners(&mut self) {
        let figure = |pointer: &str| {
            let figure = self.report.pointer(pointer).and_then(Value::as_f64);
            figure.unwrap_or(f64::NAN)
        };
        let [expected, lost, misdelivered, duplicates] =
            ["expected", "lost", "misdelivered", "duplicates"]
                .map(|it| figure(&format!("/whole/{it}")));
        let reasons = self.report.pointer("/metrics/drops");
        let reasons = reasons.and_then(Value::as_object);
        let [_, peers, _] = SIZE;
        // One packet that is dropped before it is forwarded is missed by everybody else in its room.
        let dropped: f64 = reasons
            .into_iter()
            .flatten()
            .filter_map(|(_, count)| count.as_f64())
            .map(|count| count * f64::from(peers - 1))
            .sum();
        say(&format!(
            "owed to listeners: {expected:.0}, not heard: {lost:.0}, dropped: {}",
            reasons.map_or_else(|| "?".to_owned(), |it| Value::from(it.clone()).to_string())
        ));
        self.check(expected > 0.0 && lost <= expected * LOSS_MAX, || {
            format!("of {expected:.0} packets {lost:.0} were not heard")
        });
        self.check(lost <= dropped + expected * UNDER_WAY_MAX, || {
            format!("{lost:.0} packets were not heard, and drops account for {dropped:.0}")
        });
        let ended = figure("/generator/ended");
        let ended_max = self.connections_again() * ENDED_MAX;
        self.check(ended <= ended_max, || {
            format!("{ended} voice connections ended by themselves")
        });
        self.check(misdelivered == 0.0, || {
            format!("{misdelivered} packets went astray")
        });
        self.check(duplicates == 0.0, || {
            format!("{duplicates} packets came twice")
        });
    }
}

/// Growth in a second as a share of the mean: the slope of the least squares.
fn growth(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|it| it.0), mean(|it| it.1));
    let (mut products, mut squares) = (0.0, 0.0);
    for (x, y) in points {
        products += (x - mean_x) * (y - mean_y);
        squares += (x - mean_x).powi(2);
    }
    products / squares / mean_y
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A run in which everything is as it should be; each look can be spoiled.
    fn run_with(spoil: impl Fn(&str, usize, &mut Value)) -> Vec<Sample> {
        let stages = [
            ("before", 1),
            ("counting", 40),
            ("leaving", 1),
            ("after", 1),
        ];
        let all = stages
            .into_iter()
            .flat_map(|(stage, count)| (0..count).map(move |_| stage));
        let sample = |(at, stage): (usize, &str)| {
            let is_in = stage == "counting";
            let seconds = at as f64 * 5.0;
            let mut sample = json!({
                "at_s": seconds,
                "stage": stage,
                "present": if is_in { 48 } else { 0 },
                "sent": 1_000,
                "heard": 7_000,
                "process": {
                    "files": if is_in { 68 } else { 20 },
                    "threads": 5,
                    "resident_kib": 20_000,
                },
                "metrics": {
                    "sfu_connections_total": 100.0 + 2.0 * seconds,
                    "sfu_packets_in_total": 1_000,
                    "sfu_packets_out_total": 7_000,
                    "billing_voice_incoming_bytes": 100_000,
                    "sfu_drops_total/stale": 0,
                    "billing_voice_outgoing_bytes": 700_000,
                },
            });
            for gauge in EMPTY_AT_END {
                sample["metrics"][gauge] = json!(if is_in { 1 } else { 0 });
            }
            spoil(stage, at, &mut sample);
            voice_run::sample(sample)
        };
        all.enumerate().map(sample).collect()
    }

    fn report() -> Value {
        json!({
            "whole": {"expected": 7_000, "lost": 0, "misdelivered": 0, "duplicates": 0},
            "metrics": {"drops": {}},
            "generator": {"ended": 0},
        })
    }

    fn faults(samples: &[Sample], report: &Value) -> Vec<String> {
        Judge::new(samples, report).unwrap().faults()
    }

    #[test]
    fn a_server_that_loses_nothing_has_no_fault() {
        let samples = run_with(|_, _, _| {});
        assert_eq!(faults(&samples, &report()), [""; 0]);
        let mut dropping = report();
        dropping["whole"]["lost"] = json!(63);
        dropping["metrics"]["drops"]["stale"] = json!(9);
        assert_eq!(faults(&samples, &dropping), [""; 0]);
    }

    /// What is wrong is said so, when a look is spoiled like this.
    type Wrong = (&'static str, fn(&str, usize, &mut Value));

    #[test]
    fn each_thing_that_stays_grows_or_is_counted_wrong_is_a_fault() {
        let wrong: [Wrong; 12] = [
            ("sfu_rooms is", |stage, _, it| {
                if stage == "after" {
                    it["metrics"]["sfu_rooms"] = json!(1);
                }
            }),
            ("files at the end", |stage, _, it| {
                if stage == "after" {
                    it["process"]["files"] = json!(22);
                }
            }),
            ("threads at the end", |stage, _, it| {
                if stage == "after" {
                    it["process"]["threads"] = json!(7);
                }
            }),
            ("memory grows", |_, at, it| {
                it["process"]["resident_kib"] = json!(20_000 + 3 * at);
            }),
            ("connections of", |_, _, it| {
                it["metrics"]["sfu_connections_total"] = json!(100);
            }),
            ("present at once", |_, _, it| it["present"] = json!(40)),
            ("did not answer", |_, at, it| {
                if at == 7 {
                    it["metrics"] = Value::Null;
                }
            }),
            ("said and taken in", |_, _, it| it["sent"] = json!(1_002)),
            ("sent and heard", |_, _, it| it["heard"] = json!(6_950)),
            ("taken in and", |_, _, it| {
                it["metrics"]["billing_voice_incoming_bytes"] = json!(90_000);
            }),
            ("given to receivers", |_, _, it| {
                it["metrics"]["billing_voice_outgoing_bytes"] = json!(710_000);
                it["metrics"]["sfu_drops_total/stale"] = json!(90);
            }),
            ("given to receivers", |_, _, it| {
                it["metrics"]["billing_voice_outgoing_bytes"] = json!(600_000);
            }),
        ];
        for (fault, spoil) in wrong {
            let found = faults(&run_with(spoil), &report());
            assert!(
                found.len() == 1 && found[0].contains(fault),
                "{fault}: {found:?}"
            );
        }
    }

    #[test]
    fn what_the_server_says_it_dropped_is_accounted_for() {
        let samples = run_with(|_, _, it| {
            it["sent"] = json!(1_020);
            it["metrics"]["sfu_drops_total/stale"] = json!(100);
            it["metrics"]["billing_voice_outgoing_bytes"] = json!(709_000);
        });
        assert_eq!(faults(&samples, &report()), [""; 0]);
    }

    #[test]
    fn what_listeners_missed_must_have_been_dropped() {
        let samples = run_with(|_, _, _| {});
        for (pointer, value) in [
            ("lost", 50),
            ("lost", 100),
            ("misdelivered", 1),
            ("duplicates", 1),
        ] {
            let mut report = report();
            report["whole"][pointer] = json!(value);
            assert!(!faults(&samples, &report).is_empty(), "{pointer}");
        }
    }

    #[test]
    fn connections_that_end_by_themselves_are_few() {
        // 390 came again.
        let samples = run_with(|_, _, _| {});
        for (ended, is_fault) in [(json!(3), false), (json!(4), true), (Value::Null, true)] {
            let mut report = report();
            report["generator"]["ended"] = ended;
            assert_eq!(!faults(&samples, &report).is_empty(), is_fault);
        }
    }

    #[test]
    fn growth_is_the_slope_as_a_share() {
        let line: Vec<_> = (0..100)
            .map(|at| (f64::from(at), 950.0 + f64::from(at)))
            .collect();
        let expected = 1.0 / (950.0 + 49.5);
        assert!((growth(&line) - expected).abs() < 1e-9);
        assert!(growth(&[(0.0, 5.0), (1.0, 5.0), (2.0, 5.0)]).abs() < 1e-12);
    }
}
