//! Starts and ends everything that the demo shows: the simulated Fleet, the game servers, voice, and the bridge.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use fleet_bridge::{MatchSettings, PageSettings, VoiceSettings};
use mock_fleet::world::PublishedPorts;
use tokio::time::sleep;

use super::{
    Options,
    servers::{Access, GamePorts, GameServers, Setting},
    timeline::Timeline,
};
use crate::{
    port::{Port, Protocol},
    program::Program,
    voice::Voice,
};

const WORLD: &str = include_str!("world.toml");

/// What [`WORLD`] contains.
const ACCESS: Access = Access {
    token: "local-development-token",
    app_id: 1,
};

/// How often the game servers follow what the Fleet runs. Scaling takes a few hundred milliseconds a server.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// How long voice tokens are good for: longer than anybody watches a demo, and than the lease of its matches.
const TOKEN_TIME: Duration = Duration::from_secs(6 * 60 * 60);

/// The running world.
#[derive(Debug)]
pub(crate) struct World {
    fleet: Program,
    fleet_url: String,
    controls: SocketAddr,
    setting: Setting,
    servers: GameServers,
    bridge: Program,
    bridge_url: String,
    voice: Voice,
}

impl World {
    /// Starts everything; when this returns, every game server has announced itself and the bridge listens.
    pub(crate) async fn start(options: &Options, timeline: &Timeline) -> Result<Self> {
        timeline.step("Start the world: a simulated Fleet, its game servers, voice, the bridge");
        let game_ports = GamePorts::reserve()?;
        let simulator = simulator(options, &game_ports, timeline).await?;
        let fleet_url = simulator.base_url();
        let controls = simulator.control_addr().context("no controls")?;
        let run = |shutdown| async { Ok(simulator.run(shutdown).await?) };
        let fleet = Program::start("the simulated Fleet", run);
        timeline.held(&format!("the Fleet API at {fleet_url}"));

        let mut servers = GameServers::new(&fleet_url, ACCESS, game_ports)?;
        servers.follow().await?;
        ensure!(servers.count() > 0, "the Fleet runs nothing");
        let cities: Vec<_> = servers.cities().into_iter().collect();
        let (count, cities) = (servers.count(), cities.join(", "));
        timeline.held(&format!("{count} game servers in {cities}"));

        let voice = Voice::start(&options.voice, |text| timeline.note(text)).await?;
        let (gateway, sfu) = (voice.gateway_url(), voice.sfu_address());
        timeline.held(&format!(
            "voice: the gateway at {gateway}, the voice server at {sfu}"
        ));

        let server = bridge(options, &fleet_url, &voice, timeline).await?;
        let bridge_url = server.base_url();
        let run = |shutdown| async {
            server.run(shutdown).await;
            Ok(())
        };
        let bridge = Program::start("the bridge", run);
        timeline.held(&format!("the bridge at {bridge_url}"));
        Ok(Self {
            fleet,
            fleet_url,
            controls,
            setting: servers.setting().await?,
            servers,
            bridge,
            bridge_url,
            voice,
        })
    }

    pub(crate) fn bridge_url(&self) -> &str {
        &self.bridge_url
    }

    /// The certificate of the gateway and the voice server.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.voice.certificate_file()
    }

    pub(crate) fn game_servers(&self) -> usize {
        self.servers.count()
    }

    /// What a person may want to open.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, String)> {
        let world = [
            ("bridge", self.bridge_url.clone()),
            ("its page", format!("{}/", self.bridge_url)),
            ("its interface", format!("{}/docs", self.bridge_url)),
            ("Fleet API", self.fleet_url.clone()),
            ("Fleet controls", format!("http://{}", self.controls)),
        ];
        world.into_iter().chain(self.voice.addresses()).collect()
    }

    /// The setting that is shown being scaled.
    pub(crate) fn setting(&self) -> &Setting {
        &self.setting
    }

    /// The command that gives [`Self::setting`] this many servers.
    pub(crate) fn scale_command(&self, instances: u64) -> String {
        let Setting { id, name, .. } = &self.setting;
        let url = format!("{}/v1/app-location-settings/{id}", self.fleet_url);
        let token = ACCESS.token;
        format!(
            "curl -s -X PUT {url} -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \
             -d '{{\"name\":\"{name}\",\"numInstances\":{instances}}}'"
        )
    }

    /// Lets the game servers follow what the Fleet runs, for as long as it is polled. Returns when something has
    /// ended that should not have.
    pub(crate) async fn keep_up(&mut self, timeline: &Timeline) -> Result<Infallible> {
        let mut last_failure = None;
        loop {
            sleep(FOLLOW_EVERY).await;
            for program in [&self.fleet, &self.bridge]
                .into_iter()
                .chain(self.voice.programs())
            {
                if program.has_ended() {
                    bail!("{} has ended by itself", program.name());
                }
            }
            match self.servers.follow().await {
                Ok(changes) => {
                    last_failure = None;
                    for service in changes.ended {
                        timeline.happened(&format!("game server {} has ended", service.id));
                    }
                    for service in changes.started {
                        let (id, city, port) = (service.id, service.city, service.game_port);
                        timeline
                            .happened(&format!("game server {id} in {city} runs on port {port}"));
                    }
                }
                // Faults can be injected, so this is not the end; but it is said only once.
                Err(error) => {
                    let failure = format!("{error:#}");
                    if last_failure.as_ref() != Some(&failure) {
                        timeline.happened(&format!("not now: {failure}"));
                    }
                    last_failure = Some(failure);
                }
            }
        }
    }

    /// Ends everything. The bridge calls the others, so it ends first; the game servers say good-bye to the Fleet, so
    /// it ends last.
    pub(crate) async fn end(self) -> Result<()> {
        let bridge = self.bridge.end().await;
        let voice = self.voice.end().await;
        let servers = self.servers.end().await;
        let fleet = self.fleet.end().await;
        bridge.and(voice).and(servers).and(fleet)
    }
}

async fn simulator(
    options: &Options,
    game_ports: &GamePorts,
    timeline: &Timeline,
) -> Result<mock_fleet::Server> {
    let mut world = mock_fleet::World::from_toml(WORLD, "world.toml")?;
    world.published_ports = PublishedPorts::List(game_ports.list());
    let port = Port {
        flag: "--fleet-port",
        protocol: Protocol::Tcp,
        default: 8085,
        asked: options.fleet_port,
    };
    let controls = Port {
        flag: "--control-port",
        protocol: Protocol::Tcp,
        default: 8086,
        asked: options.control_port,
    };
    let mut config = mock_fleet::Config::new(world);
    config.listen = port.address(|text| timeline.note(text));
    config.control_listen = Some(controls.address(|text| timeline.note(text)));
    let server = mock_fleet::Server::bind(config).await;
    server.with_context(|| format!("{}, {}", port.failure("the simulated Fleet"), controls.flag))
}

async fn bridge(
    options: &Options,
    fleet_url: &str,
    voice: &Voice,
    timeline: &Timeline,
) -> Result<fleet_bridge::Server> {
    let mut config = fleet_bridge::Config::new(ACCESS.app_id, fleet_url, ACCESS.token)?;
    let port = Port {
        flag: "--bridge-port",
        protocol: Protocol::Tcp,
        default: 8090,
        asked: options.bridge_port,
    };
    config.listen = port.address(|text| timeline.note(text));
    config.matches = Some(MatchSettings::default());
    config.voice = Some(VoiceSettings {
        gateway_url: voice.gateway_url().to_owned(),
        call_url: voice.gateway_url().to_owned(),
        key: voice.key(),
        token_time: TOKEN_TIME,
        ca_file: Some(voice.certificate_file()),
        // The voice server does not run on the Fleet: the gateway chooses it.
        nodes: false,
    });
    let metrics = voice.metrics_url().map(|url| url.parse()).transpose()?;
    config.page = PageSettings {
        public: true,
        controls: true,
        voice_metrics: metrics.into_iter().collect(),
        voice_certificate_sha256: Some(voice.certificate_sha256().to_owned()),
        ..PageSettings::default()
    };
    let server = fleet_bridge::Server::bind(config).await;
    server.with_context(|| port.failure("the bridge"))
}
