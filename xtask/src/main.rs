//! Project tasks: `cargo xtask test | ci | interop | nakama | openapi | bench | soak | fuzz | deny`.

mod bench_gateway;
mod bench_sfu;
mod bench_sfu_core;
mod check;
mod fuzz;
mod go;
mod interop;
mod load;
mod matches;
mod nakama;
mod node;
mod odin_web;
mod page;
mod process;
mod python;
mod soak_crowd;
mod soak_lossy;
mod soak_voice;
mod tokens;
mod voice;
mod voice_run;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Bifrost project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// All tests: the workspace's own, then those with programs, clients and cases of others
    Test,
    /// What CI runs: formatting, lints, documentation, then `test`
    Ci,
    /// Drive a program with the clients and the cases of others
    Interop {
        what: Interop,
        /// Only this profile of the gateway
        #[arg(long)]
        profile: Option<String>,
        /// For the harness of `odin-web`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// The modules for Nakama in a Nakama, with a bridge, game servers, voice, and two real clients
    Nakama(nakama::Options),
    /// Write openapi/fleet-bridge.json from the code
    Openapi,
    /// Measure something beside its baseline, in one run
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Run the bridge for two minutes against a Fleet that fails 30 % of its calls, or another soak
    #[command(args_conflicts_with_subcommands = true)]
    Soak {
        #[command(subcommand)]
        what: Option<Soak>,
        /// Seconds under load
        #[arg(long, default_value_t = 120)]
        seconds: u64,
    },
    /// Look for input that breaks something: schemathesis for services, cargo-fuzz for parsers
    Fuzz {
        what: Fuzz,
        /// Seconds for each target of cargo-fuzz
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Hold the dependency tree against deny.toml
    Deny,
}

#[derive(Clone, Copy, ValueEnum)]
enum Interop {
    /// The gateway, in every profile of the conformance cases
    Gateway,
    /// The real web client in a real browser
    OdinWeb,
    /// The bridge's page in a real browser
    Page,
    /// Access keys and tokens of the `bifrost` command beside those of @4players/odin-tokens
    Tokens,
}

#[derive(Subcommand)]
enum Bench {
    /// List and Get through the bridge beside the same calls made directly
    Bridge,
    /// Matches from the bridge beside the Fleet calls that each cannot do without
    Allocate,
    /// Connects of one core beside the signatures alone
    Gateway,
    /// Packets through the voice server beside a bare relay of them, with the clients of each on a core of their own
    Sfu(bench_sfu::Options),
    /// Packets and moves of the voice server's core beside a list of receivers and a scan of all places
    SfuCore,
}

#[derive(Subcommand)]
enum Soak {
    /// Matchmakers over bridges that are killed and a Redis that is restarted, on a Fleet that fails; needs redis-server
    Matches(matches::Storm),
    /// Calls of both transports over a network that loses, delays, reorders and doubles packets
    Lossy(soak_lossy::Options),
    /// Half an hour of rooms that people enter and leave: nothing of them stays, and all that is counted was heard
    Voice(soak_voice::Options),
    /// Two thousand peers in one room: what there is no time for is shed, and that ends when they fall silent
    Crowd(soak_crowd::Options),
}

#[derive(Clone, Copy, ValueEnum)]
enum Fuzz {
    /// fleet-bridge against its own document
    Bridge,
    /// Tokens, access keys and tasks from any bytes
    GatewayApi,
    /// mock-fleet against openapi/odin-fleet.json
    MockFleet,
    /// STUN packets and offers of the voice server from any bytes
    Sfu,
    /// Frames, voice datagrams, rooms and the directory from any bytes
    SfuCore,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Test => check::test(),
        Task::Ci => check::ci(),
        Task::Interop {
            what,
            profile,
            arguments,
        } => interop(what, profile.as_deref(), &arguments),
        Task::Nakama(options) => nakama::test(&options),
        Task::Openapi => check::export_openapi(),
        Task::Bench {
            what: Bench::Allocate,
        } => matches::bench_allocate(),
        Task::Bench {
            what: Bench::Bridge,
        } => load::bench_bridge(),
        Task::Bench {
            what: Bench::Gateway,
        } => bench_gateway::run_bench(),
        Task::Bench {
            what: Bench::Sfu(options),
        } => bench_sfu::run_bench(&options),
        Task::Bench {
            what: Bench::SfuCore,
        } => bench_sfu_core::run_bench(),
        Task::Soak {
            what: None,
            seconds,
        } => load::soak(seconds),
        Task::Soak {
            what: Some(Soak::Matches(storm)),
            ..
        } => matches::soak(&storm),
        Task::Soak {
            what: Some(Soak::Lossy(options)),
            ..
        } => soak_lossy::soak(&options),
        Task::Soak {
            what: Some(Soak::Voice(options)),
            ..
        } => soak_voice::soak(&options),
        Task::Soak {
            what: Some(Soak::Crowd(options)),
            ..
        } => soak_crowd::soak(&options),
        Task::Fuzz { what, seconds } => match what {
            Fuzz::Bridge => load::fuzz_bridge(),
            Fuzz::GatewayApi => fuzz::crate_targets("gateway-api", seconds),
            Fuzz::MockFleet => load::fuzz_mock_fleet(),
            Fuzz::Sfu => fuzz::crate_targets("sfu", seconds),
            Fuzz::SfuCore => fuzz::crate_targets("sfu-core", seconds),
        },
        Task::Deny => check::deny(),
    }
}

fn interop(what: Interop, profile: Option<&str>, arguments: &[String]) -> Result<()> {
    match (what, profile, arguments) {
        (Interop::Gateway, profile, []) => interop::gateway(profile),
        (Interop::Tokens, None, []) => tokens::interop_tokens(),
        (Interop::Page, None, []) => page::interop(),
        (Interop::OdinWeb, None, []) => odin_web::test(),
        (Interop::OdinWeb, None, arguments) => odin_web::interop(arguments),
        (_, Some(_), _) => bail!("only the gateway has profiles"),
        _ => bail!("only odin-web takes arguments"),
    }
}
