//! `bifrost demo`: a simulated fleet, a game server for each of its services and the bridge, in one process; then
//! the guide's flow through it, step by step, over real HTTP and UDP.

mod flow;
mod timeline;
mod world;

use anyhow::{Context as _, Result};
use clap::Args;

use self::{timeline::Timeline, world::Fleet};

/// Where the parts listen. A default port that is taken is replaced by a free one; a port that was asked for is not.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// Run one cycle and end: 0 when every step held
    #[arg(long)]
    pub(crate) once: bool,
    /// Port of the simulated Fleet API (8085; 0 takes a free one)
    #[arg(long)]
    pub(crate) fleet_port: Option<u16>,
    /// Port of the simulator's controls (8086; 0 takes a free one)
    #[arg(long)]
    pub(crate) control_port: Option<u16>,
    /// Port of the bridge (8090; 0 takes a free one)
    #[arg(long)]
    pub(crate) bridge_port: Option<u16>,
}

/// Runs the demo; without `--once` until Ctrl-C.
pub(crate) async fn run(options: Options) -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let timeline = Timeline::new();
    let fleet = Fleet::start(&options, &timeline).await?;
    let result = flow::play(&fleet, &timeline).await;
    if result.is_ok() && !options.once {
        timeline.staying(&fleet);
        tokio::signal::ctrl_c().await.context("no Ctrl-C here")?;
        timeline.leaving();
    }
    fleet.stop().await?;
    result
}

/// Says why the demo failed.
pub(crate) fn say_failure(error: &anyhow::Error) {
    Timeline::new().failed(error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_cycle_holds() {
        let options = Options {
            once: true,
            fleet_port: Some(0),
            control_port: Some(0),
            bridge_port: Some(0),
        };
        run(options).await.unwrap();
    }
}
