//! What the storm blows over: a simulated Fleet and real stand-in game servers, in this process, each with a journal.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use mock_fleet::{Chance, FaultKind, FaultPlan, FaultRule, Handle, World};
use mock_game_server::MatchPort;
use serde_json::{Map, Value};

use super::{
    check::Violation,
    journal::{self, Event},
};

/// Opens the simulated Fleet.
pub const TOKEN: &str = "local-development-token";

/// The app that the game servers belong to.
pub const APP_ID: u64 = 1;

/// The id of an app's first service.
const FIRST_SERVICE: i64 = 101;

/// Time for a game server to say what it is doing.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);

/// The Fleet and its game servers. They run until the process ends.
#[derive(Debug)]
pub struct Ground {
    fleet: Handle,
    api_url: String,
    game_servers: BTreeMap<i64, GameServer>,
    http: reqwest::Client,
}

#[derive(Debug)]
struct GameServer {
    match_api: String,
    journal: PathBuf,
}

impl Ground {
    /// Starts a Fleet with so many game servers, all idle, whose journals lie in `folder`.
    ///
    /// # Errors
    /// When there are no more ports, or the folder cannot be written.
    pub async fn start(servers: u16, seed: u64, folder: &Path) -> Result<Self> {
        let mut config = mock_fleet::Config::new(world(servers)?);
        config.seed = seed;
        let server = mock_fleet::Server::bind(config).await?;
        let (fleet, api_url) = (server.handle(), server.base_url());
        tokio::spawn(server.run(std::future::pending()));
        let mut game_servers = BTreeMap::new();
        for service in (FIRST_SERVICE..).take(servers.into()) {
            let path = folder.join(format!("server-{service}.jsonl"));
            let mut config = mock_game_server::Config::local(&api_url, TOKEN, service)?;
            config.match_port = Some(MatchPort::Own);
            config.journal = Some(path.clone());
            let server = mock_game_server::Server::bind(config).await?;
            let game_server = GameServer {
                match_api: format!("http://{}", server.http_addr()),
                journal: path,
            };
            game_servers.insert(service, game_server);
            tokio::spawn(server.run(std::future::pending()));
        }
        Ok(Self {
            fleet,
            api_url,
            game_servers,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(LOOK_TIME_MAX)
                .build()?,
        })
    }

    /// Base URL of the Fleet API.
    #[must_use]
    pub fn api_url(&self) -> &str {
        &self.api_url
    }

    /// Base URL of each game server's match API, by service.
    #[must_use]
    pub fn match_apis(&self) -> Arc<HashMap<i64, String>> {
        let servers = self.game_servers.iter();
        let apis = servers.map(|(service, it)| (*service, it.match_api.clone()));
        Arc::new(apis.collect())
    }

    /// From now on six of a hundred Fleet calls fail or stall.
    pub(crate) fn inject_faults(&self, stall: Duration) -> Result<()> {
        let stall_ms = u32::try_from(stall.as_millis()).context("the stall is too long")?;
        let chance = |kind| Chance {
            kind,
            rate: 0.01,
            retry_after_seconds: None,
            stall_ms: Some(stall_ms),
        };
        let kinds = [
            FaultKind::Internal,
            FaultKind::Unavailable,
            FaultKind::Truncate,
            FaultKind::Drop,
            FaultKind::RateLimited,
            FaultKind::Stall,
        ];
        let rule = FaultRule {
            faults: kinds.map(chance).into(),
            ..FaultRule::default()
        };
        self.fleet.set_faults(FaultPlan::new(0, vec![rule])?);
        Ok(())
    }

    pub(crate) fn clear_faults(&self) {
        self.fleet.set_faults(FaultPlan::default());
    }

    /// All journals, by service.
    pub(crate) fn journals(&self) -> Result<BTreeMap<i64, Vec<Event>>> {
        let servers = self.game_servers.iter();
        let journals = servers.map(|(service, it)| Ok((*service, journal::read(&it.journal)?)));
        journals.collect()
    }

    /// The servers that are not free, and why.
    pub(crate) async fn not_idle(&self) -> Vec<Violation> {
        let mut not_idle = Vec::new();
        for (&server, game_server) in &self.game_servers {
            let metadata = self.fleet.metadata(server).unwrap_or_default();
            let why = match why_not_free(&metadata, Utc::now()) {
                Some(why) => Some(why),
                None => self.why_occupied(game_server).await,
            };
            not_idle.extend(why.map(|why| Violation::NotFree { server, why }));
        }
        not_idle
    }

    async fn why_occupied(&self, game_server: &GameServer) -> Option<String> {
        match self.standing(game_server).await {
            Ok(standing) if standing["state"] == "idle" => None,
            Ok(standing) => Some(format!("GET /match answers {standing}")),
            Err(error) => Some(format!("GET /match fails: {error:#}")),
        }
    }

    async fn standing(&self, game_server: &GameServer) -> Result<Value> {
        let answer = self.http.get(format!("{}/match", game_server.match_api));
        Ok(answer.send().await?.json().await?)
    }
}

/// Why a server with this metadata cannot be given to anybody.
fn why_not_free(metadata: &Map<String, Value>, now: DateTime<Utc>) -> Option<String> {
    let state = metadata.get("instance_state");
    if state.is_none_or(|state| state != "idle") {
        return Some(format!("its instance_state is {state:?}"));
    }
    let claim = metadata.get("claim")?;
    let owner = claim["match"].as_str().unwrap_or_default();
    let expires_at = claim["expires_at"].as_str();
    let expires_at = expires_at.and_then(|it| DateTime::parse_from_rfc3339(it).ok());
    let is_over = owner.is_empty() || expires_at.is_some_and(|it| it < now);
    (!is_over).then(|| format!("it is claimed: {claim}"))
}

fn world(servers: u16) -> Result<World> {
    let text = include_str!("../../worlds/bench.toml");
    let mut world = World::from_toml(text, "bench.toml")?;
    let node = world.nodes.first_mut().context("a node")?;
    node.capacity = servers.into();
    let app = world.apps.first_mut().context("an app")?;
    let setting = app.location_settings.first_mut();
    setting.context("a location setting")?.num_instances = servers.into();
    Ok(world)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(metadata: &Value, is_free: bool) {
        let now = DateTime::parse_from_rfc3339("2026-11-21T12:00:00Z").unwrap();
        let metadata = metadata.as_object().unwrap();
        let why = why_not_free(metadata, now.to_utc());
        assert_eq!(why.is_none(), is_free, "{metadata:?}: {why:?}");
    }

    #[test]
    fn a_server_is_free_when_it_is_idle_and_nobody_has_a_claim() {
        let claim = |owner: &str, expires_at: Value| {
            let claim = json!({"owner": "s", "match": owner, "fence": 7, "expires_at": expires_at});
            json!({"instance_state": "idle", "claim": claim})
        };
        check(&json!({}), false);
        check(&json!({"instance_state": "reserved"}), false);
        check(&json!({"instance_state": "idle"}), true);
        check(&claim("", Value::Null), true);
        check(&claim("m1", Value::Null), false);
        check(&claim("m1", "2026-11-21T12:00:01Z".into()), false);
        check(&claim("m1", "2026-11-21T11:59:59Z".into()), true);
    }
}
