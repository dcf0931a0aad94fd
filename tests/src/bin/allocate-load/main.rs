//! What an allocation costs beyond the calls that it cannot do without: `cargo xtask bench allocate`. Fleet, game
//! servers, bridge and callers share one process and talk over loopback; game servers answer at once.

#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

mod allocation;
mod game_servers;
mod measure;
mod necessary;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use fleet_bridge::{Config, MatchSettings};
use mock_fleet::World;

use crate::{
    allocation::Allocation,
    game_servers::GameServers,
    measure::{Figures, Work, measure, median},
    necessary::Necessary,
};

/// Opens the simulated Fleet.
const TOKEN: &str = "local-development-token";

/// The app of the simulated Fleet.
const APP_ID: u64 = 1;

/// Allocations on an idle fleet whose game servers answer at once.
#[derive(Parser)]
struct Arguments {
    /// Rounds; each measures both sides. The median of an odd number is one of them
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Milliseconds of one side of a round
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..))]
    round_ms: u64,
    /// Callers at once
    #[arg(long, default_value_t = 64)]
    workers: u16,
    /// Game servers
    #[arg(long, default_value_t = 128)]
    servers: u16,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        (1..=arguments.servers).contains(&arguments.workers),
        "every worker needs a server of its own"
    );
    let fleet =
        mock_fleet::Server::bind(mock_fleet::Config::new(world(arguments.servers)?)).await?;
    let api_url = fleet.base_url();
    let servers = Arc::new(GameServers::start(fleet.handle(), arguments.servers).await?);
    tokio::spawn(fleet.run(std::future::pending()));
    let bridge = fleet_bridge::Server::bind(bridge_config(&api_url)?).await?;
    let base_url = bridge.base_url();
    tokio::spawn(bridge.run(std::future::pending()));

    let necessary = Work::Necessary(Arc::new(Necessary::new(&api_url, servers)?));
    let allocation = Work::Allocation(Arc::new(Allocation::new(base_url)?));
    let round = Duration::from_millis(arguments.round_ms);
    // Connections, caches and the allocator settle first.
    measure(&necessary, arguments.workers, round / 3).await?;
    measure(&allocation, arguments.workers, round / 3).await?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        let necessary = measure(&necessary, arguments.workers, round).await?;
        let allocation = measure(&allocation, arguments.workers, round).await?;
        rounds.push((necessary, allocation));
    }
    println!(
        "medians of {} rounds; {} workers, {} servers",
        arguments.rounds, arguments.workers, arguments.servers
    );
    let (necessary, allocation): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
    report("necessary calls", &necessary);
    report("allocation", &allocation);
    let ratio = |figure: fn(&Figures) -> f64| {
        median(
            rounds
                .iter()
                .map(|(necessary, allocation)| figure(allocation) / figure(necessary)),
        )
    };
    println!(
        "allocation ÷ necessary calls: p50 {:.2}, p99 {:.2}, per second {:.2}",
        ratio(|it| it.p50.as_secs_f64()),
        ratio(|it| it.p99.as_secs_f64()),
        ratio(|it| it.per_second),
    );
    Ok(())
}

/// The settings of the bridge: matches, on a store in memory.
fn bridge_config(api_url: &str) -> Result<Config> {
    let mut config = Config::new(APP_ID, api_url, TOKEN)?;
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.matches = Some(MatchSettings::default());
    Ok(config)
}

fn report(side: &str, rounds: &[Figures]) {
    let millis = |figure: fn(&Figures) -> Duration| {
        median(rounds.iter().map(|it| figure(it).as_secs_f64() * 1e3))
    };
    println!(
        "  {side}: p50 {:.3} ms, p99 {:.3} ms, {:.0} cycles/s",
        millis(|it| it.p50),
        millis(|it| it.p99),
        median(rounds.iter().map(|it| it.per_second)),
    );
}

fn world(servers: u16) -> Result<World> {
    let text = include_str!("../../../worlds/bench.toml");
    let mut world = World::from_toml(text, "bench.toml")?;
    world.nodes.first_mut().context("a node")?.capacity = servers.into();
    let app = world.apps.first_mut().context("an app")?;
    let setting = app.location_settings.first_mut();
    setting.context("a location setting")?.num_instances = servers.into();
    Ok(world)
}
