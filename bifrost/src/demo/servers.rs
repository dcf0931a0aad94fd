//! A game server for each running service of the simulated Fleet: the part that containers play on the real one.
//!
//! Knows the Fleet by its API alone, as anybody would. [`GameServers::follow`] starts and ends game servers as the
//! services come and go, so scaling the Fleet does what one expects of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use mock_game_server::{Config, MatchPort, Server};
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};

use crate::program::Program;

/// Ports that services can be published on. More than the world starts with: the rest is for what scaling adds. All
/// services fit on one page of the Fleet's lists (100).
const GAME_PORTS: usize = 48;

/// One question to the Fleet.
const ASK_MAX: Duration = Duration::from_secs(5);

/// A game server must have announced itself within this time.
const START_MAX: Duration = Duration::from_secs(15);

/// How the Fleet is reached, and which part of it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) token: &'static str,
    pub(crate) app_id: u64,
}

/// UDP ports that nobody else gets: each is held by a socket until its game server takes it.
#[derive(Debug)]
pub(crate) struct GamePorts(BTreeMap<u16, UdpSocket>);

impl GamePorts {
    /// Takes free ports from the system.
    pub(crate) fn reserve() -> Result<Self> {
        let take = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            Ok((socket.local_addr()?.port(), socket))
        };
        (0..GAME_PORTS).map(take).collect::<Result<_>>().map(Self)
    }

    /// The ports, for the nodes of the simulated Fleet to publish.
    pub(crate) fn list(&self) -> Vec<u16> {
        self.0.keys().copied().collect()
    }

    fn hand_out(&mut self, port: u16) {
        self.0.remove(&port);
    }

    fn take_back(&mut self, port: u16) {
        // Somebody else may have been quicker; the next game server on this port will say so.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            self.0.insert(port, socket);
        }
    }
}

/// A running service, as far as its game server has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) id: i64,
    pub(crate) city: String,
    pub(crate) game_port: u16,
}

/// So many instances in one place, as the Fleet has been asked for.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) instances: u64,
}

/// What [`GameServers::follow`] did.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) started: Vec<Service>,
    pub(crate) ended: Vec<Service>,
}

/// The game servers of all running services.
#[derive(Debug)]
pub(crate) struct GameServers {
    fleet_url: String,
    access: Access,
    http: reqwest::Client,
    ports: GamePorts,
    running: BTreeMap<i64, (Service, Program)>,
}

impl GameServers {
    /// No game server yet.
    pub(crate) fn new(fleet_url: &str, access: Access, ports: GamePorts) -> Result<Self> {
        // The Fleet is on this machine: a proxy could not reach it.
        let http = reqwest::Client::builder()
            .timeout(ASK_MAX)
            .no_proxy()
            .build()?;
        Ok(Self {
            fleet_url: fleet_url.to_owned(),
            access,
            http,
            ports,
            running: BTreeMap::new(),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    /// Cities with a game server, in alphabetical order.
    pub(crate) fn cities(&self) -> BTreeSet<&str> {
        let services = self.running.values().map(|(service, _)| service);
        services.map(|service| service.city.as_str()).collect()
    }

    /// Ends the game servers of services that run no longer, and starts one for each that has none. One that does not
    /// start does not keep the others from it.
    pub(crate) async fn follow(&mut self) -> Result<Changes> {
        let wanted = self.services().await?;
        let mut changes = Changes::default();
        let is_over =
            |service: &Service, program: &Program| program.has_ended() || !wanted.contains(service);
        for (service, program) in self.take(is_over) {
            // The service may be gone, and with it the place to say good-bye.
            if let Err(error) = program.end().await {
                tracing::debug!("{error:#}");
            }
            self.ports.take_back(service.game_port);
            changes.ended.push(service);
        }
        let mut starting = JoinSet::new();
        for service in wanted {
            if !self.running.contains_key(&service.id) {
                self.ports.hand_out(service.game_port);
                starting.spawn(start(service.clone(), self.config(&service)?));
            }
        }
        let mut result = Ok(());
        while let Some(started) = starting.join_next().await {
            match started? {
                Ok((service, program)) => {
                    self.running.insert(service.id, (service.clone(), program));
                    changes.started.push(service);
                }
                Err(error) => result = Err(error),
            }
        }
        changes.started.sort_by_key(|service| service.id);
        result.map(|()| changes)
    }

    /// Ends all game servers, each of which says good-bye to the Fleet.
    pub(crate) async fn end(mut self) -> Result<()> {
        let mut ending = JoinSet::new();
        for (_, program) in self.take(|_, _| true) {
            ending.spawn(program.end());
        }
        while let Some(ended) = ending.join_next().await {
            ended??;
        }
        Ok(())
    }

    fn take(&mut self, which: impl Fn(&Service, &Program) -> bool) -> Vec<(Service, Program)> {
        let taken = self
            .running
            .extract_if(.., |_, (service, program)| which(service, program));
        taken.map(|(_, pair)| pair).collect()
    }

    fn config(&self, service: &Service) -> Result<Config> {
        let mut config = Config::local(&self.fleet_url, self.access.token, service.id)?;
        config.game_port = service.game_port;
        config.match_port = Some(MatchPort::Own);
        config.public_url = Some("http://127.0.0.1:{port}".to_owned());
        Ok(config)
    }

    /// The running services whose game port has been published.
    async fn services(&self) -> Result<Vec<Service>> {
        let query = [
            ("perPage", "100"),
            ("sort[]", "id"),
            ("filter[status]", "running"),
        ];
        let services = self.list("services", &query).await?;
        Ok(services.iter().filter_map(Service::read).collect())
    }

    /// The first location setting, to show how it is scaled.
    pub(crate) async fn setting(&self) -> Result<Setting> {
        let settings = self.list("location-settings", &[]).await?;
        let setting = settings.iter().find_map(Setting::read);
        setting.context("the Fleet has no location setting")
    }

    async fn list(&self, what: &str, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        let Access { token, app_id } = self.access;
        let url = format!("{}/v1/apps/{app_id}/{what}", self.fleet_url);
        let request = self.http.get(url).query(query).bearer_auth(token);
        let response = request.send().await.context("the Fleet does not answer")?;
        let status = response.status();
        ensure!(status.is_success(), "the Fleet answers {status}");
        let mut page: Value = response.json().await?;
        match page["data"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("the Fleet lists {other}"),
        }
    }
}

async fn start(service: Service, config: Config) -> Result<(Service, Program)> {
    let name = format!("the game server of service {}", service.id);
    let server = timeout(START_MAX, Server::bind(config))
        .await
        .map_err(anyhow::Error::from)
        .and_then(|bound| Ok(bound?))
        .with_context(|| format!("{name} does not start"))?;
    let run = |shutdown| async { Ok(server.run(shutdown).await?) };
    Ok((service, Program::start(name, run)))
}

impl Setting {
    fn read(setting: &Value) -> Option<Self> {
        Some(Self {
            id: setting["id"].as_i64()?,
            name: setting["name"].as_str()?.to_owned(),
            instances: setting["numInstances"].as_u64()?,
        })
    }
}

impl Service {
    fn read(service: &Value) -> Option<Self> {
        let ports = service["ports"].as_array()?;
        let game_port = ports.iter().find(|port| port["name"] == "game_port")?;
        Some(Self {
            id: service["id"].as_i64()?,
            city: service["location"]["cityDisplay"].as_str()?.to_owned(),
            game_port: u16::try_from(game_port["publishedPort"].as_u64()?).ok()?,
        })
    }
}
