//! The calls that an allocation cannot do without, made by hand by somebody who knows which server is free: look at it,
//! write the claim, look whether the claim holds, start the match, look whether it runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fleet_client::{Builder, Client, Error, Metadata, Token, types};
use serde_json::{Value, json};

use crate::{APP_ID, TOKEN, game_servers::GameServers};

/// Calls the Fleet and the game servers directly.
pub(crate) struct Necessary {
    fleet: Client,
    http: reqwest::Client,
    servers: Arc<GameServers>,
    next_fence: AtomicU64,
}

impl Necessary {
    pub(crate) fn new(api_url: &str, servers: Arc<GameServers>) -> Result<Self> {
        let fleet = Builder::new().base_url(api_url).token(Token::new(TOKEN)?);
        Ok(Self {
            fleet: fleet.build()?,
            http: reqwest::Client::builder()
                .no_proxy()
                .tcp_nodelay(true)
                .build()?,
            servers,
            next_fence: AtomicU64::new(1),
        })
    }

    /// Makes the calls for the server that belongs to this worker, and then those that give it back; only the former
    /// are timed.
    pub(crate) async fn cycle(&self, worker: usize) -> Result<Duration> {
        let (service, match_api) = self.servers.nth(worker).context("a server")?;
        let fence = self.next_fence.fetch_add(1, Ordering::Relaxed);
        let id = format!("m-bench-{fence}");
        let claim = json!({
            "owner": "bench", "match": id, "fence": fence, "expires_at": "2100-01-01T00:00:00Z",
        });
        let asked = Instant::now();
        let before = self.metadata(service).await?;
        ensure!(before["instance_state"] == "idle", "{service}: {before}");
        self.write(
            service,
            json!({"instance_state": "reserved", "claim": claim}),
        )
        .await?;
        let claimed = self.metadata(service).await?;
        ensure!(claimed["claim"]["match"] == *id, "{service}: {claimed}");
        let start =
            json!({"match_id": id, "fence": fence, "user_ids": ["u1", "u2"], "max_players": 2});
        self.post(&format!("{match_api}/match/start"), &start)
            .await?;
        let running = self.metadata(service).await?;
        ensure!(running["match_id"] == *id, "{service}: {running}");
        let taken = asked.elapsed();

        let finish = json!({"match_id": id, "fence": fence});
        self.post(&format!("{match_api}/match/finish"), &finish)
            .await?;
        let claim = json!({"owner": "bench", "match": "", "fence": fence, "expires_at": null});
        self.write(service, json!({"instance_state": "idle", "claim": claim}))
            .await?;
        Ok(taken)
    }

    async fn metadata(&self, service: i64) -> Result<Value> {
        let call = self.fleet.get_server_by_id();
        let app = i64::try_from(APP_ID)?;
        let answer = call.app(app).docker_service(service).send().await;
        let server = answer.map_err(Error::from)?.into_inner();
        Ok(Value::Object(server.metadata.0))
    }

    async fn write(&self, service: i64, metadata: Value) -> Result<()> {
        let metadata = metadata.as_object().cloned().map(Metadata);
        let call = self.fleet.docker_services_metadata_update();
        let body = types::PatchMetadataRequest { metadata };
        let answer = call.docker_service(service).body(body).send().await;
        answer.map_err(Error::from)?;
        Ok(())
    }

    async fn post(&self, url: &str, body: &Value) -> Result<()> {
        let answer = self.http.post(url).json(body).send().await?;
        answer.error_for_status()?.bytes().await?;
        Ok(())
    }
}
