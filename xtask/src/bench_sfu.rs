//! `cargo xtask bench sfu`: what a forward costs the voice server beside a bare relay of the same packets, and what
//! listeners wait for it. Server and clients have a core each.

use std::{collections::BTreeMap, process::Command, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    process::{release, say},
    voice_run,
};

/// Cores of the server and of the load generator.
const SERVER_CORE: &str = "0";
const GENERATOR_CORE: &str = "1";

/// Share of its core that the server uses where waiting is measured last.
const BUSY: f64 = 0.6;

/// How far from that it may be, and how often it is tried to come nearer.
const BUSY_OFF_MAX: f64 = 0.03;
const BUSY_TRIES: u32 = 4;

/// Share of its core that the generator may use there: above, figures are its own as much as the server's.
const GENERATOR_MAX: f64 = 0.9;

/// Most packets a second of one talker, as the load generator has it.
const RATE_MAX: f64 = 1_000.0;

/// What is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; each measures everything once. Odd, so that a median is one of them
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Measure only what has this in its name, and the floor
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Leave out what is measured at 60 % of a core
    #[arg(long)]
    only_costs: bool,
}

/// A server and how it is talked to.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
}

/// The floor comes first: the others are held against it. A server that coalesces holds voice back for a millisecond
/// while it is busy.
const CASES: [Case; 5] = [
    Case {
        name: "floor",
        arguments: &["--floor"],
    },
    Case {
        name: "data channels at once",
        arguments: &["--data-channels", "100", "--coalescing-us", "0"],
    },
    Case {
        name: "data channels, 1 ms",
        arguments: &["--data-channels", "100", "--coalescing-us", "1000"],
    },
    Case {
        name: "WebTransport at once",
        arguments: &["--data-channels", "0", "--coalescing-us", "0"],
    },
    Case {
        name: "WebTransport, 1 ms",
        arguments: &["--data-channels", "0", "--coalescing-us", "1000"],
    },
];

/// Rooms, peers and talkers.
struct Scenario {
    name: &'static str,
    size: [u32; 3],
}

const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "A: 50 peers, 32 talkers, one room",
        size: [1, 50, 32],
    },
    Scenario {
        name: "B: 5 rooms of 10 peers, 2 talkers each",
        size: [5, 10, 2],
    },
];

/// Packets of a talker in a second.
const RATE: u32 = 50;

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
struct Figures {
    us_per_forward: f64,
    cores: f64,
    p50_us: f64,
    p99_us: f64,
    loss: f64,
    generator: f64,
}

pub(crate) fn run_bench(options: &Options) -> Result<()> {
    ensure!(
        thread::available_parallelism()?.get() >= 2,
        "two cores are needed: one for the server, one for its clients"
    );
    ensure!(
        options.rounds > 0 && options.seconds > 0,
        "nothing to measure"
    );
    voice_run::build()?;
    let [floor, servers @ ..] = &CASES;
    let word = options.only.as_deref().unwrap_or_default();
    let servers = servers.iter().filter(|case| case.name.contains(word));
    let cases: Vec<&Case> = [floor].into_iter().chain(servers).collect();
    let mut all: BTreeMap<(usize, usize), Vec<Figures>> = BTreeMap::new();
    for round in 1..=options.rounds {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            for (which, case) in cases.iter().enumerate() {
                let figures = measure(options, scenario, case, RATE)?;
                say(&format!(
                    "round {round}, {}, {}: {}",
                    &scenario.name[..1],
                    case.name,
                    words(&figures)
                ));
                all.entry((at, which)).or_default().push(figures);
            }
        }
    }
    if !options.only_costs {
        say_waiting(options, &cases, &all)?;
    }
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        say_medians(scenario, at, &cases, &all);
    }
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        let ratios = cases.iter().enumerate().skip(1).map(|(which, case)| {
            let ratio = ratio_to_floor(&all, at, which);
            format!("{} {ratio:.2}", case.name)
        });
        let ratios: Vec<_> = ratios.collect();
        say(&format!(
            "ratio to the floor, {}: {}",
            &scenario.name[..1],
            ratios.join(", ")
        ));
    }
    Ok(())
}

fn say_medians(
    scenario: &Scenario,
    at: usize,
    cases: &[&Case],
    all: &BTreeMap<(usize, usize), Vec<Figures>>,
) {
    say(&format!("{}, {RATE} packets/s, medians:", scenario.name));
    say(&format!(
        "  {:<24} {:>13} {:>8} {:>9} {:>9} {:>9} {:>10}",
        "", "us per forward", "server", "p50 us", "p99 us", "loss", "generator"
    ));
    for (which, case) in cases.iter().enumerate() {
        let of = |figure: fn(&Figures) -> f64| {
            median(
                all.get(&(at, which))
                    .into_iter()
                    .flatten()
                    .map(figure)
                    .collect(),
            )
        };
        say(&format!(
            "  {:<24} {:>14.2} {:>7.1}% {:>9.0} {:>9.0} {:>8.4}% {:>9.1}%",
            case.name,
            of(|it| it.us_per_forward),
            of(|it| it.cores * 100.0),
            of(|it| it.p50_us),
            of(|it| it.p99_us),
            of(|it| it.loss * 100.0),
            of(|it| it.generator * 100.0),
        ));
    }
}

/// The median of the ratios of each round: what else the machine did then was the same for both.
fn ratio_to_floor(all: &BTreeMap<(usize, usize), Vec<Figures>>, at: usize, which: usize) -> f64 {
    let costs = |which| {
        all.get(&(at, which))
            .into_iter()
            .flatten()
            .map(|it| it.us_per_forward)
    };
    median(
        costs(which)
            .zip(costs(0))
            .map(|(cost, floor)| cost / floor)
            .collect(),
    )
}

/// How long listeners wait where the server uses 60 % of its core: talkers talk as much faster as that takes.
fn say_waiting(
    options: &Options,
    cases: &[&Case],
    all: &BTreeMap<(usize, usize), Vec<Figures>>,
) -> Result<()> {
    let [scenario, ..] = &SCENARIOS;
    say(&format!(
        "at {:.0} % of the server's core, {}:",
        BUSY * 100.0,
        scenario.name
    ));
    for (which, case) in cases.iter().enumerate() {
        let before = all.get(&(0, which)).into_iter().flatten();
        let (cores, generator) = before.map(|it| (it.cores, it.generator)).unzip();
        let (mut cores, mut generator) = (median(cores), median(generator));
        let mut rate = f64::from(RATE);
        let mut last = None;
        for _ in 0..BUSY_TRIES {
            // Below the first rate the cost of a packet is another one, and so on: one step rarely does. Where the
            // generator has no more to give, the server is looked at with what there is.
            let more = (BUSY / cores).min(GENERATOR_MAX / generator);
            rate = (rate * more).clamp(1.0, RATE_MAX).round();
            let figures = measure(options, scenario, case, rate as u32)?;
            (cores, generator) = (figures.cores, figures.generator);
            last = Some(figures);
            let is_there = (cores - BUSY).abs() <= BUSY_OFF_MAX;
            let is_all = (generator - GENERATOR_MAX).abs() <= BUSY_OFF_MAX && cores < BUSY;
            if is_there || is_all || rate >= RATE_MAX {
                break;
            }
        }
        if let Some(figures) = last {
            say(&format!(
                "  {:<24} {rate:>4.0} packets/s each: {}",
                case.name,
                words(&figures)
            ));
        }
    }
    Ok(())
}

fn words(figures: &Figures) -> String {
    format!(
        "{:.2} us per forward, server {:.1} %, p50 {:.0} us, p99 {:.0} us, loss {:.4} %, generator {:.1} %",
        figures.us_per_forward,
        figures.cores * 100.0,
        figures.p50_us,
        figures.p99_us,
        figures.loss * 100.0,
        figures.generator * 100.0
    )
}

/// One run of the load generator, against a server that it starts on the other core.
fn measure(options: &Options, scenario: &Scenario, case: &Case, rate: u32) -> Result<Figures> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", GENERATOR_CORE])
        .arg(release("voice-load"));
    let [rooms, peers, talkers] = scenario.size.map(|it| it.to_string());
    command.args(["--rooms", &rooms, "--peers", &peers, "--talkers", &talkers]);
    command.args([
        "--rate",
        &rate.to_string(),
        "--duration",
        &options.seconds.to_string(),
    ]);
    command
        .args(["--server-core", SERVER_CORE, "--json", "-"])
        .args(case.arguments);
    let output = command.output();
    let output = output.context("taskset is missing (Debian: apt-get install util-linux)")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {words}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    for warning in report["warnings"].as_array().into_iter().flatten() {
        say(&format!(
            "  {}: {}",
            case.name,
            warning.as_str().unwrap_or("?")
        ));
    }
    let figure = |pointer: &str| {
        let figure = report.pointer(pointer).and_then(Value::as_f64);
        figure.with_context(|| format!("{pointer} is not in the report"))
    };
    Ok(Figures {
        us_per_forward: figure("/server/us_per_forward")?,
        cores: figure("/server/cores")?,
        p50_us: figure("/whole/latency/p50_us")?,
        p99_us: figure("/whole/latency/p99_us")?,
        loss: figure("/whole/loss")?,
        generator: figure("/generator/cores")?,
    })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
