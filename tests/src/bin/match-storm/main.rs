//! The storm of matchmakers over real bridges and a real Redis: `cargo xtask soak matches`. Ends with 1 when anything
//! happened that must not.

#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

mod disturb;
mod process;
mod programs;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use integration_tests::storm::{Ground, Options, run};

use crate::{
    disturb::{Disturber, Pace},
    programs::{Bridge, Redis},
};

/// Matchmakers over bridges that are killed, on a Fleet that fails.
#[derive(Parser)]
struct Arguments {
    /// The fleet-bridge program
    #[arg(long)]
    bridge_program: PathBuf,
    /// Matches to ask for in all
    #[arg(long, default_value_t = 20_000)]
    cycles: u64,
    /// Matchmakers at once
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    matchmakers: u64,
    /// Game servers
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    servers: u16,
    /// Bridges on one Redis
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    bridges: u16,
    /// Decides what is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds that a stalled call of the Fleet takes
    #[arg(long, default_value_t = 2_000)]
    stall_ms: u32,
    /// Seconds between two kills of a bridge
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    kill_seconds: u64,
    /// Seconds between two restarts of Redis
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    restart_seconds: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let ground = Ground::start(arguments.servers, arguments.seed, folder.path()).await?;
    let redis = Redis::start(folder.path()).await?;
    let mut bridges = Vec::new();
    for number in 0..arguments.bridges {
        bridges.push(
            Bridge::start(
                &arguments.bridge_program,
                folder.path(),
                number,
                &ground,
                &redis,
            )
            .await?,
        );
    }
    let addresses: Vec<String> = bridges.iter().map(Bridge::base_url).collect();
    let pace = Pace {
        kill: Duration::from_secs(arguments.kill_seconds),
        restart: Duration::from_secs(arguments.restart_seconds),
    };
    let mut disturber = Disturber::new(pace, arguments.seed, bridges, redis);
    let options = Options {
        cycles: arguments.cycles,
        matchmakers: arguments.matchmakers,
        seed: arguments.seed,
        stall: Duration::from_millis(arguments.stall_ms.into()),
        ..Options::default()
    };
    println!(
        "{} matches, {} matchmakers, {} servers, {} bridges, seed {}",
        options.cycles, options.matchmakers, arguments.servers, arguments.bridges, options.seed
    );
    let outcome = run(&options, &ground, &addresses, |stop| disturber.run(stop)).await;
    if !outcome.as_ref().is_ok_and(|it| it.violations.is_empty()) {
        println!("journals and logs lie in {}", folder.keep().display());
    }
    let outcome = outcome?;
    print!("{outcome}");
    Ok(if outcome.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
