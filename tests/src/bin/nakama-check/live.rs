//! Creates, matches and voice, from Nakama's modules to game servers and voice servers.

use std::{collections::BTreeSet, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use integration_tests::Nakama;
use serde_json::{Value, json};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{
    report::{Report, start},
    voice,
    world::{self, BRIDGE_TOKEN, Options, SERVERS},
};

/// Whatever is waited for comes within this time.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Statuses of Nakama's callback.
const SUCCESS: u64 = 0;
const TIMEOUT: u64 = 1;

pub(crate) async fn run(options: Options) -> Result<Report> {
    let bridge = world::start(&options).await?;
    let started = start(&bridge, BRIDGE_TOKEN).await?;
    let mut ground = Ground {
        nakama: started.nakama,
        players: started.players,
        certificate: options.certificate_file,
        creates: Vec::new(),
    };
    let mut report = Report::default();
    report.case("idle servers are listed", ground.lists().await);
    report.case("an update is read again", ground.updates().await);
    report.case(
        "a create that is refused is an error and has no callback",
        ground.refuses().await,
    );
    let (created, result) = split(ground.creates().await);
    report.case("a create tells of an occupied server and its seats", result);
    if let Some(created) = created {
        let result = ground.talks(&created["metadata"]["players"]).await;
        report.case("the players of a create hear each other", result);
        report.case("one joins late", ground.joins(&created).await);
    }
    let (matched, result) = split(ground.matches().await);
    report.case("players who are matched are told their server", result);
    if let Some(matched) = matched {
        report.case(
            "matched players hear each other",
            ground.talks(&matched).await,
        );
        let forged = voice::refuse_forgery(&matched[0]["voice"], &ground.certificate).await;
        report.case("a forged voice token opens nothing", forged);
    }
    report.case(
        "a create without a free server times out",
        ground.exhausts().await,
    );
    report.case(
        "players are told when no server is free",
        ground.tells_exhaustion().await,
    );
    if let Some(id) = ground.first_instance().await {
        report.case("a deleted server is gone", ground.deletes(&id).await);
    }
    report.case("each callback came once", ground.told_once().await);
    Ok(report)
}

fn split<T>(result: Result<T>) -> (Option<T>, Result<()>) {
    match result {
        Ok(value) => (Some(value), Ok(())),
        Err(error) => (None, Err(error)),
    }
}

struct Ground {
    nakama: Nakama,
    players: Option<Vec<String>>,
    certificate: PathBuf,
    /// Names of all creates, and how often the callback of each must have been invoked.
    creates: Vec<(String, usize)>,
}

impl Ground {
    async fn call(&self, name: &str, arguments: Value) -> Result<Value> {
        let answer = self.nakama.rpc(name, &arguments).await?;
        ensure!(answer.get("error").is_none(), "{name}: {answer}");
        Ok(answer)
    }

    async fn refused(&self, name: &str, arguments: Value) -> Result<String> {
        let answer = self.nakama.rpc(name, &arguments).await?;
        let kind = answer["error"].as_str();
        Ok(kind
            .with_context(|| format!("{name}: {answer}"))?
            .to_owned())
    }

    async fn idle(&self) -> Result<Vec<Value>> {
        let query = json!({"Metadata": {"instance_state": "idle"}}).to_string();
        let mut list = self.call("fleet_list", json!({"query": query})).await?;
        serde_json::from_value(list["instances"].take()).context("no instances")
    }

    async fn lists(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let idle = self.idle().await?.len();
            if idle == usize::try_from(SERVERS)? {
                break;
            }
            ensure!(began.elapsed() < WAIT_MAX, "{idle} are idle");
            sleep(PAUSE).await;
        }
        let query = json!({"Metadata": {"no_such_key": "a"}}).to_string();
        let none = self.call("fleet_list", json!({"query": query})).await?;
        ensure!(none["instances"] == json!([]), "{none}");
        let kind = self.refused("fleet_list", json!({"query": "{"})).await?;
        ensure!(kind == "invalid_query", "{kind}");
        Ok(())
    }

    async fn updates(&self) -> Result<()> {
        let idle = self.idle().await?;
        let id = &idle.first().context("none is idle")?["id"];
        let metadata = json!({"note": "from Nakama"});
        let update = json!({"id": id, "player_count": 2, "metadata": metadata});
        self.call("fleet_update", update).await?;
        let read = self.call("fleet_get", json!({"id": id})).await?;
        let instance = &read["instance"];
        ensure!(instance["metadata"]["note"] == "from Nakama", "{read}");
        ensure!(instance["player_count"] == 2, "{read}");
        let kind = self.refused("fleet_get", json!({"id": "4711"})).await?;
        ensure!(kind == "not_found", "{kind}");
        Ok(())
    }

    async fn refuses(&mut self) -> Result<()> {
        let name = self.creates.len().to_string();
        let kind = self
            .refused("fleet_create", json!({"max_players": 0}))
            .await?;
        self.creates.push((name, 0));
        ensure!(
            ["invalid_argument", "validation"].contains(&kind.as_str()),
            "{kind}"
        );
        Ok(())
    }

    /// Begins a create and returns the first that its callback is told.
    async fn create(&mut self, users: &[&str]) -> Result<Value> {
        let arguments =
            json!({"max_players": 4, "user_ids": users, "metadata": {"game_mode": "duel"}});
        let begun = self.call("fleet_create", arguments).await?;
        let name = begun["create"].as_str().context("no name")?.to_owned();
        self.creates.push((name.clone(), 1));
        let began = Instant::now();
        loop {
            let told = self.call("fleet_told", json!({"create": name})).await?;
            if let Some(told) = told["told"].get(0) {
                return Ok(told.clone());
            }
            ensure!(began.elapsed() < WAIT_MAX, "no callback");
            sleep(PAUSE).await;
        }
    }

    async fn creates(&mut self) -> Result<Value> {
        let told = self.create(&["a", "b"]).await?;
        ensure!(told["status"] == SUCCESS, "{told}");
        let metadata = &told["instance"]["metadata"];
        ensure!(metadata["instance_state"] == "occupied", "{told}");
        ensure!(metadata["game_mode"] == "duel", "{told}");
        ensure!(
            metadata["match_id"] == told["metadata"]["match_id"],
            "{told}"
        );
        let sessions = told["sessions"].as_array().context("no sessions")?;
        let users: Vec<_> = sessions.iter().map(|it| it["user_id"].clone()).collect();
        ensure!(users == ["a", "b"], "{told}");
        Ok(told)
    }

    async fn talks(&self, players: &Value) -> Result<()> {
        let (one, other) = (&players[0]["voice"], &players[1]["voice"]);
        voice::hear_each_other(one, other, &self.certificate).await
    }

    async fn joins(&self, created: &Value) -> Result<()> {
        let id = &created["instance"]["id"];
        let join = json!({"id": id, "user_ids": ["c"]});
        let joined = self.call("fleet_join", join).await?;
        ensure!(joined["instance_info"]["id"] == *id, "{joined}");
        ensure!(joined["session_info"][0]["user_id"] == "c", "{joined}");
        let many = json!({"id": id, "user_ids": ["d", "e", "f"]});
        let kind = self.refused("fleet_join", many).await?;
        ensure!(kind == "match_full", "{kind}");
        Ok(())
    }

    /// What two players are notified of who have been matched: `{"userId", "subject", "content"}` each.
    async fn notifications(&self) -> Result<Vec<Value>> {
        let mut answer = if let Some(words) = &self.players {
            let (program, arguments) = words.split_first().context("no program")?;
            let mut command = Command::new(program);
            command.args(arguments);
            let output = spawn_blocking(move || command.output()).await??;
            ensure!(
                output.status.success(),
                "the players: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            serde_json::from_slice::<Value>(&output.stdout)?
        } else {
            let player = |id: &str, team: &str| json!({"presence": {"userId": id}, "properties": {"team": team}});
            let entries = json!([player("red-1", "red"), player("blue-1", "blue")]);
            self.nakama.stand_in("matched", &entries).await?
        };
        ensure!(answer.get("error").is_none(), "{answer}");
        let all: Vec<Value> = serde_json::from_value(answer["notifications"].take())?;
        let users: BTreeSet<_> = all.iter().filter_map(|it| it["userId"].as_str()).collect();
        ensure!(all.len() == 2 && users.len() == 2, "{all:?}");
        Ok(all)
    }

    async fn matches(&self) -> Result<Value> {
        let notifications = self.notifications().await?;
        let mut players = Vec::new();
        for notification in &notifications {
            let content = &notification["content"];
            ensure!(notification["subject"] == "bifrost.match", "{notification}");
            ensure!(content["session_id"].is_string(), "{notification}");
            let owner = voice::owner(&content["voice"])?;
            ensure!(
                notification["userId"] == *owner,
                "{owner}'s: {notification}"
            );
            let told = &content["instance"];
            let id = json!({"id": told["id"]});
            let read = self.call("fleet_get", id).await?;
            let instance = &read["instance"];
            ensure!(
                instance["connection_info"] == told["connection_info"],
                "{told} is {instance}"
            );
            let metadata = &instance["metadata"];
            ensure!(metadata["instance_state"] == "occupied", "{instance}");
            ensure!(metadata["match_id"] == content["match_id"], "{instance}");
            players.push(content.clone());
        }
        ensure!(
            players[0]["match_id"] == players[1]["match_id"],
            "they are in different matches"
        );
        Ok(Value::Array(players))
    }

    async fn exhausts(&mut self) -> Result<()> {
        // Whatever is still idle is taken first.
        for _ in 0..=SERVERS {
            let told = self.create(&[]).await?;
            if told["status"] == SUCCESS {
                ensure!(told["sessions"].is_null(), "nobody was named: {told}");
                continue;
            }
            ensure!(told["status"] == TIMEOUT, "{told}");
            ensure!(told["instance"].is_null(), "{told}");
            let words = told["error"].as_str().unwrap_or_default();
            ensure!(words.starts_with("exhausted: "), "{told}");
            return Ok(());
        }
        bail!("there is always another server")
    }

    async fn tells_exhaustion(&self) -> Result<()> {
        for notification in self.notifications().await? {
            ensure!(
                notification["subject"] == "bifrost.no_match",
                "{notification}"
            );
            ensure!(
                notification["content"]["kind"] == "exhausted",
                "{notification}"
            );
        }
        Ok(())
    }

    async fn first_instance(&self) -> Option<String> {
        let list = self.call("fleet_list", json!({"query": ""})).await.ok()?;
        list["instances"][0]["id"].as_str().map(str::to_owned)
    }

    async fn deletes(&self, id: &str) -> Result<()> {
        self.call("fleet_delete", json!({"id": id})).await?;
        let began = Instant::now();
        loop {
            let answer = self.nakama.rpc("fleet_get", &json!({"id": id})).await?;
            let status = &answer["instance"]["status"];
            if answer["error"].is_string() || status != "running" {
                return Ok(());
            }
            ensure!(began.elapsed() < WAIT_MAX, "still there: {answer}");
            sleep(PAUSE).await;
        }
    }

    async fn told_once(&self) -> Result<()> {
        let begun = self.creates.iter().filter(|(_, times)| *times > 0);
        ensure!(begun.count() > 1, "no create has begun");
        for (name, times) in &self.creates {
            let told = self.call("fleet_told", json!({"create": name})).await?;
            let told = told["told"].as_array().context("nothing")?.len();
            ensure!(told == *times, "create {name} was told {told} times");
        }
        Ok(())
    }
}
