//! `cargo xtask soak lossy`: calls over a bad network, of both transports in the same rooms, stay up; and the server has
//! no more of them at the end than at the beginning.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    process::{release, say},
    voice_run,
};

/// The network, in each direction: percent, and milliseconds.
const LOSS_PERCENT: f64 = 5.0;
const DELAY_MS: f64 = 40.0;
const JITTER_MS: f64 = 30.0;
const DUPLICATES_PERCENT: f64 = 1.0;

/// Seconds between two looks at the run.
const LOOK_S: u64 = 10;

/// Time in which a program may get the memory that it keeps, in seconds. At least a minute more is needed to compare with.
const SETTLE_S: u64 = 120;
const MINUTE_S: u64 = 60;

/// How long the same is done without the network, in seconds.
const PERFECT_S: u64 = 60;

/// Talking before anything counts, in seconds: everybody has come, and retransmissions of the coming are over.
const WARM_UP_S: u64 = 5;

/// Share of packets that may be lost beyond what the network takes.
const LOSS_MORE_MAX: f64 = 0.015;

/// Growth of memory, and of the median time that the server has a packet.
const GROWTH_MAX: f64 = 1.10;
const SLOWER_MAX: f64 = 2.0;

/// How long, how many, and which chance.
#[derive(Args)]
pub(crate) struct Options {
    /// Minutes over the bad network; at least four
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Rooms of ten, half of them on each transport
    #[arg(long, default_value_t = 5)]
    rooms: u32,
    /// What the network's chance follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Peers of each room, and those who talk.
const PEERS: u32 = 10;
const TALKERS: u32 = 2;

pub(crate) fn soak(options: &Options) -> Result<()> {
    let seconds = options.minutes * MINUTE_S;
    ensure!(
        seconds >= SETTLE_S + 2 * MINUTE_S,
        "too short to see memory grow"
    );
    voice_run::build()?;
    say(&format!("without a bad network, {PERFECT_S} s:"));
    let perfect = load(options, PERFECT_S, &[])?;
    say_figures(&perfect)?;
    say(&format!(
        "{LOSS_PERCENT} % loss, {DELAY_MS} ms +- {JITTER_MS} ms, {DUPLICATES_PERCENT} % twice, in each direction, seed {}, {} min:",
        options.seed, options.minutes
    ));
    let network = [
        ("--relay-loss", LOSS_PERCENT.to_string()),
        ("--relay-delay-ms", DELAY_MS.to_string()),
        ("--relay-jitter-ms", JITTER_MS.to_string()),
        ("--relay-duplicates", DUPLICATES_PERCENT.to_string()),
        ("--relay-seed", options.seed.to_string()),
    ];
    let lossy = load(options, seconds, &network)?;
    say_figures(&lossy)?;
    let mut faults = Vec::new();
    for judge in [calls, losses, memory] {
        faults.extend(judge(&lossy)?);
    }
    faults.extend(forwarding(&perfect, &lossy)?);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    say("every call stayed up, nothing grew");
    Ok(())
}

/// One run of the load generator, against a server that it starts.
fn load(options: &Options, seconds: u64, more: &[(&str, String)]) -> Result<Value> {
    let mut command = Command::new(release("voice-load"));
    for (flag, value) in [
        ("--rooms", u64::from(options.rooms)),
        ("--peers", PEERS.into()),
        ("--talkers", TALKERS.into()),
        ("--data-channels", 50),
        ("--warm-up", WARM_UP_S),
        ("--duration", seconds),
        ("--look", LOOK_S),
    ] {
        command.args([flag, &value.to_string()]);
    }
    for (flag, value) in more {
        command.args([*flag, value]);
    }
    let output = command.args(["--json", "-"]).output();
    let output = output.context("voice-load does not start")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {words}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn figure(report: &Value, pointer: &str) -> Result<f64> {
    let figure = report.pointer(pointer).and_then(Value::as_f64);
    figure.with_context(|| format!("{pointer} is not in the report"))
}

fn course(report: &Value) -> Result<&[Value]> {
    let course = report["course"].as_array().context("no course")?;
    ensure!(!course.is_empty(), "nobody looked at the run");
    Ok(course)
}

/// The median of a figure of the looks in a stretch of the run, in seconds from its beginning.
fn median(report: &Value, pointer: &str, (from, until): (u64, u64)) -> Result<f64> {
    let mut figures = Vec::new();
    for sample in course(report)? {
        // A look is a moment later than it should be, and tells of the time before it.
        let at = figure(sample, "/at_s")?.round() as u64;
        if at > from && at <= until {
            figures.push(figure(sample, pointer)?);
        }
    }
    figures.sort_by(f64::total_cmp);
    let middle = figures.get(figures.len() / 2).copied();
    middle.with_context(|| format!("no {pointer} from {from} s to {until} s"))
}

/// The last minute of a run, in seconds from its beginning.
fn last_minute(report: &Value) -> Result<(u64, u64)> {
    let end = figure(report, "/plan/duration_s")? as u64;
    Ok((end.saturating_sub(MINUTE_S), end))
}

/// Everybody is there all the time.
fn calls(report: &Value) -> Result<Vec<String>> {
    let everybody = figure(report, "/plan/rooms")? * figure(report, "/plan/peers")?;
    let mut faults = Vec::new();
    for sample in course(report)? {
        let at = figure(sample, "/at_s")?;
        for who in ["present", "clients", "peers"] {
            let there = figure(sample, &format!("/{who}"))?;
            if there != everybody {
                faults.push(format!("{there} of {everybody} {who} after {at:.0} s"));
            }
        }
    }
    for (pointer, wanted, words) in [
        ("/generator/present", everybody, "peers at the end"),
        ("/generator/ended", 0.0, "voice connections that ended"),
        ("/generator/thrown_out", 0.0, "peers thrown out"),
        ("/whole/duplicates", 0.0, "packets heard twice"),
        ("/whole/misdelivered", 0.0, "packets to wrong listeners"),
        (
            "/relay/overflowed",
            0.0,
            "packets that the relay had no room for",
        ),
    ] {
        let is = figure(report, pointer)?;
        if is != wanted {
            faults.push(format!("{is} {words}, not {wanted}"));
        }
    }
    Ok(faults)
}

/// A packet goes through the network twice: from its talker, and to its listener.
fn losses(report: &Value) -> Result<Vec<String>> {
    let taken = 1.0 - (1.0 - LOSS_PERCENT / 100.0).powi(2);
    let mut faults = Vec::new();
    for transport in ["data-channel", "web-transport"] {
        let loss = figure(report, &format!("/by_transport/{transport}/loss"))?;
        if loss > taken + LOSS_MORE_MAX {
            faults.push(format!(
                "{transport}: {:.2} % lost, of which the network took {:.2} %",
                loss * 100.0,
                taken * 100.0
            ));
        }
        // A network that takes less is not the one that was asked for.
        if loss < taken - LOSS_MORE_MAX {
            faults.push(format!("{transport}: only {:.2} % lost", loss * 100.0));
        }
    }
    Ok(faults)
}

/// What server and generator have at the end, beside what they had when they had settled.
fn memory(report: &Value) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for whose in ["server", "generator"] {
        let pointer = format!("/{whose}_resident_kib");
        let settled = median(report, &pointer, (SETTLE_S, SETTLE_S + MINUTE_S))?;
        let last = median(report, &pointer, last_minute(report)?)?;
        say(&format!(
            "  {whose}: {:.1} MiB after {SETTLE_S} s, {:.1} MiB at the end: {:+.1} %",
            settled / 1_024.0,
            last / 1_024.0,
            (last / settled - 1.0) * 100.0
        ));
        if last > settled * GROWTH_MAX {
            faults.push(format!("the {whose} grew from {settled} KiB to {last} KiB"));
        }
    }
    Ok(faults)
}

/// How long the server has a packet: at the end beside the beginning, and beside a run without the network.
fn forwarding(perfect: &Value, lossy: &Value) -> Result<Vec<String>> {
    let pointer = "/forwards/median_us";
    let last = median(lossy, pointer, last_minute(lossy)?)?;
    let mut faults = Vec::new();
    for (words, before) in [
        (
            "in the first minute",
            median(lossy, pointer, (0, MINUTE_S))?,
        ),
        (
            "without the network",
            median(perfect, pointer, (0, PERFECT_S))?,
        ),
    ] {
        let ratio = last / before;
        say(&format!(
            "  a packet is in the server for {last:.1} us (median) in the last minute, {before:.1} us {words}: {ratio:.2}"
        ));
        if ratio.is_nan() || ratio > SLOWER_MAX {
            faults.push(format!("{last:.1} us beside {before:.1} us {words}"));
        }
    }
    Ok(faults)
}

fn say_figures(report: &Value) -> Result<()> {
    for transport in ["data-channel", "web-transport"] {
        let of = |name: &str| figure(report, &format!("/by_transport/{transport}/{name}"));
        say(&format!(
            "  {transport}: {} of {} packets, loss {:.3} %, {} reordered, {} twice, p50 {:.1} ms, p99 {:.1} ms, longest gap {:.0} ms",
            of("received")?,
            of("expected")?,
            of("loss")? * 100.0,
            of("reordered")?,
            of("duplicates")?,
            of("latency/p50_us")? / 1_000.0,
            of("latency/p99_us")? / 1_000.0,
            of("longest_gap_ms")?
        ));
    }
    for (what, pointer) in [("relay", "/relay"), ("server", "/metrics")] {
        let figures = report.pointer(pointer).filter(|it| !it.is_null());
        if let Some(figures) = figures {
            say(&format!("  {what}: {figures}"));
        }
    }
    let mean = median(report, "/forwards/mean_us", last_minute(report)?)?;
    say(&format!(
        "  {:.1} % of a core for the server, {:.1} % for the generator; {mean:.1} us in the server (mean, last minute)",
        figure(report, "/server/cores")? * 100.0,
        figure(report, "/generator/cores")? * 100.0
    ));
    for warning in report["warnings"].as_array().into_iter().flatten() {
        say(&format!("  warning: {}", warning.as_str().unwrap_or("?")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A run of ten minutes of which each look saw the same.
    fn good() -> Value {
        let look = |at: u64| {
            json!({
                "at_s": (at * LOOK_S) as f64 + 0.01, "present": 20, "clients": 20, "peers": 20,
                "server_resident_kib": 10_000, "generator_resident_kib": 20_000,
                "forwards": {"count": 10, "mean_us": 40.0, "median_us": 30.0},
            })
        };
        let figures = json!({"loss": 0.0975});
        json!({
            "plan": {"rooms": 2, "peers": 10, "duration_s": 600.0},
            "course": (1..=60).map(look).collect::<Vec<_>>(),
            "generator": {"present": 20, "ended": 0, "thrown_out": 0},
            "whole": {"duplicates": 0, "misdelivered": 0},
            "relay": {"overflowed": 0},
            "by_transport": {"data-channel": figures, "web-transport": figures},
        })
    }

    fn faults(change: impl Fn(&mut Value)) -> usize {
        let mut report = good();
        change(&mut report);
        let judged = [calls, losses, memory].map(|judge| judge(&report).unwrap().len());
        let slower = forwarding(&good(), &report).unwrap();
        judged.iter().sum::<usize>() + slower.len()
    }

    #[test]
    fn a_run_that_stayed_as_it_was_is_good() {
        assert_eq!(faults(|_| {}), 0);
        assert_eq!(
            faults(|it| it["course"][59]["server_resident_kib"] = json!(99_000)),
            0,
            "one look is no growth"
        );
    }

    #[test]
    fn a_call_that_broke_is_found() {
        assert_eq!(faults(|it| it["course"][30]["clients"] = json!(19)), 1);
        assert_eq!(faults(|it| it["course"][30]["peers"] = json!(19)), 1);
        assert_eq!(faults(|it| it["generator"]["present"] = json!(19)), 1);
        assert_eq!(faults(|it| it["generator"]["ended"] = json!(1)), 1);
        assert_eq!(faults(|it| it["generator"]["thrown_out"] = json!(1)), 1);
        assert_eq!(faults(|it| it["whole"]["duplicates"] = json!(1)), 1);
    }

    #[test]
    fn loss_growth_and_slowness_are_found() {
        for loss in [0.1126, 0.0824] {
            let change = |it: &mut Value| {
                it["by_transport"]["web-transport"]["loss"] = json!(loss);
            };
            assert_eq!(faults(change), 1, "{loss}");
        }
        let last = |name: &'static str, value: Value| {
            faults(move |it| {
                for at in 54..60 {
                    it["course"][at][name] = value.clone();
                }
            })
        };
        assert_eq!(last("server_resident_kib", json!(11_100)), 1);
        assert_eq!(last("generator_resident_kib", json!(22_100)), 1);
        assert_eq!(last("server_resident_kib", json!(10_900)), 0);
        // Slower than at the beginning, and than without the network.
        assert_eq!(last("forwards", json!({"median_us": 61.0})), 2);
    }

    #[test]
    fn a_report_that_says_nothing_is_no_good_one() {
        for missing in ["course", "generator", "relay", "by_transport"] {
            let mut report = good();
            report[missing] = Value::Null;
            let judged = [calls, losses, memory].map(|judge| judge(&report));
            assert!(judged.iter().any(Result::is_err), "{missing}");
        }
    }
}
