//! Starts and stops everything that the demo shows: the simulated Fleet, a game server for each of its services, and
//! the bridge.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use mock_fleet::{World, world::PublishedPorts};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{Options, timeline::Timeline};

const WORLD: &str = include_str!("world.toml");
const TOKEN: &str = "local-development-token";
const APP_ID: u64 = 1;

/// The programs' defaults; each is replaced by a free port when it is taken.
const FLEET_PORT: u16 = 8085;
const CONTROL_PORT: u16 = 8086;
const BRIDGE_PORT: u16 = 8090;

/// Game ports to choose from: more than there are services, so that some are left for those that scaling adds.
const GAME_PORTS: usize = 48;

/// Everything must have ended within this time.
const STOP_MAX: Duration = Duration::from_secs(20);

/// The running world.
pub(crate) struct Fleet {
    fleet_url: String,
    control: SocketAddr,
    bridge: SocketAddr,
    game_servers: usize,
    stop: watch::Sender<bool>,
    programs: JoinSet<Result<()>>,
}

impl Fleet {
    pub(crate) async fn start(options: &Options, timeline: &Timeline) -> Result<Self> {
        timeline.step(
            "Start the world: a simulated Fleet, its game servers, the bridge",
            "",
        );
        let (stop, stopped) = watch::channel(false);
        let ended = move || wait(stopped.clone());
        let mut programs = JoinSet::new();

        let mut world = World::from_toml(WORLD, "world.toml")?;
        world.published_ports = PublishedPorts::List(free_game_ports()?);
        let mut config = mock_fleet::Config::new(world);
        config.listen = address(options.fleet_port, FLEET_PORT, "the Fleet", timeline)?;
        config.control_listen = Some(address(
            options.control_port,
            CONTROL_PORT,
            "the controls",
            timeline,
        )?);
        let simulator = mock_fleet::Server::bind(config).await?;
        let fleet_url = simulator.base_url();
        let control = simulator.control_addr().context("no controls")?;
        let shutdown = ended();
        programs.spawn(async move { Ok(simulator.run(shutdown).await?) });

        let services = services(&fleet_url).await?;
        let cities: BTreeSet<_> = services
            .iter()
            .map(|service| service.city.as_str())
            .collect();
        timeline.held(&format!(
            "Fleet API with {} services in {} cities: {fleet_url}",
            services.len(),
            cities.len()
        ));

        for service in &services {
            let server = mock_game_server::Server::bind(service.config(&fleet_url)?)
                .await
                .with_context(|| format!("the game server of service {}", service.id))?;
            let shutdown = ended();
            programs.spawn(async move { Ok(server.run(shutdown).await?) });
        }
        timeline.held(&format!(
            "{} game servers have marked themselves idle",
            services.len()
        ));

        let mut config = fleet_bridge::Config::new(APP_ID, &fleet_url, TOKEN)?;
        config.listen = address(options.bridge_port, BRIDGE_PORT, "the bridge", timeline)?;
        let server = fleet_bridge::Server::bind(config).await?;
        let bridge = server.local_addr();
        let shutdown = ended();
        programs.spawn(async move {
            server.run(shutdown).await;
            Ok(())
        });
        timeline.held(&format!("bridge: http://{bridge}"));
        Ok(Self {
            fleet_url,
            control,
            bridge,
            game_servers: services.len(),
            stop,
            programs,
        })
    }

    pub(crate) fn bridge_url(&self) -> String {
        format!("http://{}", self.bridge)
    }

    pub(crate) fn game_servers(&self) -> usize {
        self.game_servers
    }

    pub(crate) fn token(&self) -> &'static str {
        TOKEN
    }

    pub(crate) fn addresses(&self) -> [(&'static str, String); 4] {
        let bridge = self.bridge_url();
        [
            ("bridge", bridge.clone()),
            ("interface", format!("{bridge}/docs")),
            ("Fleet API", self.fleet_url.clone()),
            ("Fleet controls", format!("http://{}", self.control)),
        ]
    }

    /// Ends every program and waits for it. The game servers say good-bye to the Fleet, so the Fleet ends as well only
    /// when its open calls have.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let all = async {
            while let Some(ended) = self.programs.join_next().await {
                // A good-bye that comes after the Fleet has gone is lost, as in any shutdown of a whole machine.
                if let Err(error) = ended? {
                    tracing::debug!("{error:#}");
                }
            }
            Ok(())
        };
        timeout(STOP_MAX, all)
            .await
            .context("not everything has ended")?
    }
}

struct Service {
    id: i64,
    city: String,
    game_port: u16,
}

impl Service {
    fn config(&self, fleet_url: &str) -> Result<mock_game_server::Config> {
        let mut config = mock_game_server::Config::local(fleet_url, TOKEN, self.id)?;
        config.game_port = self.game_port;
        config.public_url = Some("http://127.0.0.1:{port}".to_owned());
        Ok(config)
    }

    fn read(service: &Value) -> Option<Self> {
        let ports = service["ports"].as_array()?;
        let game_port = ports.iter().find(|port| port["name"] == "game_port")?;
        Some(Self {
            id: service["id"].as_i64()?,
            city: service["location"]["city"].as_str()?.to_owned(),
            game_port: u16::try_from(game_port["publishedPort"].as_u64()?).ok()?,
        })
    }
}

/// What the Fleet runs, asked as anyone would.
async fn services(fleet_url: &str) -> Result<Vec<Service>> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()?;
    let url = format!("{fleet_url}/v1/apps/{APP_ID}/services?perPage=100");
    let response = http
        .get(url)
        .bearer_auth(TOKEN)
        .send()
        .await?
        .error_for_status()?;
    let page: Value = response.json().await?;
    let services = page["data"].as_array().context("the Fleet lists nothing")?;
    let read = |service| Service::read(service).with_context(|| format!("no game port: {service}"));
    let services = services.iter().map(read).collect::<Result<Vec<_>>>()?;
    ensure!(!services.is_empty(), "the Fleet lists no service");
    Ok(services)
}

/// UDP ports that were free a moment ago, all different.
fn free_game_ports() -> Result<Vec<u16>> {
    let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let sockets = (0..GAME_PORTS).map(bind).collect::<Result<Vec<_>, _>>()?;
    let port = |socket: &UdpSocket| Ok(socket.local_addr()?.port());
    sockets.iter().map(port).collect()
}

/// A port that was asked for is never changed; a default that is taken is.
fn address(
    asked: Option<u16>,
    default: u16,
    what: &str,
    timeline: &Timeline,
) -> Result<SocketAddr> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(port) = asked {
        return Ok(local(port));
    }
    if TcpListener::bind(local(default)).is_ok() {
        return Ok(local(default));
    }
    timeline.note(&format!("port {default} is taken: {what} takes a free one"));
    Ok(local(0))
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}
