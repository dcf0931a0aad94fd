//! A simulated Fleet with game servers, and a bridge over it that does all it can.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use fleet_bridge::{
    AccessToken, Config, InstanceSettings, MatchSettings, Scope, Server, VoiceSettings,
};
use gateway_api::AccessKey;
use mock_fleet::World as FleetWorld;
use mock_game_server::MatchPort;
use serde_json::Value;

/// The token of the simulated Fleet's world.
const FLEET_TOKEN: &str = "local-development-token";

/// What the bridge wants of Nakama.
pub(crate) const BRIDGE_TOKEN: &str = "nakama-test-token";

/// One Create each in the two cases that make one, one match, and one that nobody may take any more.
pub(crate) const SERVERS: u32 = 3;

/// How long a Create looks for a server: short, because one of them must not find any.
const CREATE_TIME: Duration = Duration::from_secs(3);

/// Between two looks at what the Fleet runs.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);

/// The voice that players are sent to.
#[derive(Args)]
pub(crate) struct Options {
    /// The gateway's address
    #[arg(long)]
    gateway: String,
    /// The certificate of the gateway and the voice server
    #[arg(long)]
    pub(crate) certificate_file: PathBuf,
    /// Signs the tokens that both take
    #[arg(long, env = "ODIN_ACCESS_KEY", hide_env_values = true)]
    access_key: AccessKey,
}

/// Starts everything; it runs until the process ends. Returns the bridge's address.
pub(crate) async fn start(options: &Options) -> Result<String> {
    let text = include_str!("../../../worlds/bench.toml");
    let mut world = FleetWorld::from_toml(text, "bench.toml")?;
    let app = world.apps.first_mut().context("an app")?;
    app.location_settings
        .first_mut()
        .context("a setting")?
        .num_instances = SERVERS;
    let fleet = mock_fleet::Server::bind(mock_fleet::Config::new(world)).await?;
    let url = fleet.base_url();
    tokio::spawn(fleet.run(std::future::pending()));
    tokio::spawn(play(url.clone()));

    let mut config = Config::new(1, &url, FLEET_TOKEN)?;
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.tokens = vec![AccessToken {
        name: "nakama".to_owned(),
        scope: Scope::Write,
        secret: BRIDGE_TOKEN.to_owned(),
    }];
    config.matches = Some(MatchSettings {
        sweep: Duration::from_millis(200),
        ..MatchSettings::default()
    });
    config.instances = InstanceSettings {
        create: true,
        join: true,
        delete: true,
        create_time: CREATE_TIME,
        ..InstanceSettings::default()
    };
    config.voice = Some(VoiceSettings {
        gateway_url: options.gateway.clone(),
        call_url: options.gateway.clone(),
        key: options.access_key.key_pair(),
        token_time: Duration::from_secs(3600),
        ca_file: Some(options.certificate_file.clone()),
        nodes: false,
    });
    let server = Server::bind(config).await?;
    let address = server.base_url();
    tokio::spawn(server.run(std::future::pending()));
    Ok(address)
}

/// Starts a game server for each service that comes up.
async fn play(url: String) {
    let http = reqwest::Client::new();
    let mut playing = BTreeSet::new();
    loop {
        for id in running(&http, &url).await.unwrap_or_default() {
            if !playing.insert(id) {
                continue;
            }
            let mut config =
                mock_game_server::Config::local(&url, FLEET_TOKEN, id).expect("usable settings");
            config.match_port = Some(MatchPort::Own);
            let server = mock_game_server::Server::bind(config).await;
            tokio::spawn(server.expect("a game server").run(std::future::pending()));
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

async fn running(http: &reqwest::Client, url: &str) -> Result<Vec<i64>> {
    let url = format!("{url}/v1/apps/1/services?perPage=100&filter[status]=running");
    let answer = http.get(url).bearer_auth(FLEET_TOKEN).send().await?;
    let page: Value = answer.json().await?;
    let services = page["data"].as_array().context("data")?;
    Ok(services.iter().filter_map(|it| it["id"].as_i64()).collect())
}
