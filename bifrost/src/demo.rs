//! `bifrost demo`: a simulated Fleet, a game server for each of its services, voice and the bridge, in one process; then
//! a match with voice through all of it, step by step, over real HTTP, WebSockets, QUIC and UDP.

mod flow;
mod player;
mod servers;
mod timeline;
mod world;

use std::pin::pin;

use anyhow::{Result, bail};
use clap::Args;

use self::{timeline::Timeline, world::World};
use crate::voice;

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
    #[command(flatten)]
    pub(crate) voice: voice::Options,
}

/// Runs the demo; without `--once` until Ctrl-C or SIGTERM.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut end = pin!(service::ended());
    let timeline = Timeline::new();
    let mut world = tokio::select! {
        world = World::start(&options, &timeline) => world?,
        () = &mut end => bail!("interrupted"),
    };
    let mut result = tokio::select! {
        result = flow::play(&world, &timeline) => result,
        () = &mut end => Err(anyhow::anyhow!("interrupted")),
    };
    if result.is_ok() && !options.once {
        timeline.staying(&world);
        result = tokio::select! {
            failure = world.keep_up(&timeline) => failure.map(|never| match never {}),
            () = &mut end => Ok(()),
        };
        timeline.leaving();
    }
    // What went wrong first says more than what follows from it.
    let ended = world.end().await;
    result.and(ended)
}

/// Says why the demo failed.
pub(crate) fn say_failure(error: &anyhow::Error) {
    Timeline::new().failed(error);
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use tokio::time::{sleep, timeout};

    use super::{flow::Matchmaker, *};

    fn free_ports() -> Options {
        Options {
            once: true,
            fleet_port: Some(0),
            control_port: Some(0),
            bridge_port: Some(0),
            voice: voice::Options::on_free_ports(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_cycle_holds() {
        run(free_ports()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_port_that_was_asked_for_is_never_replaced() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let options = Options {
            bridge_port: Some(port),
            ..free_ports()
        };
        let error = format!("{:#}", run(options).await.unwrap_err());
        assert!(
            error.contains("--bridge-port") && error.contains(&port.to_string()),
            "{error}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn game_servers_follow_the_scaling_of_the_fleet() {
        let timeline = Timeline::new();
        let mut world = World::start(&free_ports(), &timeline).await.unwrap();
        let (_, fleet_url) = world.addresses().swap_remove(3);
        let setting = world.setting().clone();
        let matchmaker = Matchmaker::new(&world, &timeline).unwrap();
        let scaling = async {
            for (instances, idle) in [(5, 14), (1, 10), (3, 12)] {
                let url = format!("{fleet_url}/v1/app-location-settings/{}", setting.id);
                let body = serde_json::json!({"name": setting.name, "numInstances": instances});
                let request = reqwest::Client::new().put(url).json(&body);
                let response = request
                    .bearer_auth("local-development-token")
                    .send()
                    .await
                    .unwrap();
                assert_eq!(response.status(), 200);
                while matchmaker.idle().await.unwrap().len() != idle {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let scaled = async {
            tokio::select! {
                () = scaling => {}
                failure = world.keep_up(&timeline) => panic!("{failure:?}"),
            }
        };
        timeout(Duration::from_secs(30), scaled).await.unwrap();
        assert_eq!(world.game_servers(), 12);
        world.end().await.unwrap();
    }
}
