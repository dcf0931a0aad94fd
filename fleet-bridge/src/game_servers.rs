//! Calls of game servers: start a match, finish it, ask what runs. The paths and bodies are those of ODIN's guide for
//! Nakama; `fence`, `teams`, `max_players`, `voice` and `GET /match` are ours, and game servers that do not know them still work.

use std::{net::IpAddr, time::Duration};

use http::StatusCode;
use reqwest::{Client, RequestBuilder, Response, redirect::Policy};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service::Secret;

use crate::{
    config::MatchSettings,
    matches::{
        record::Match,
        world::{Doing, Finished, Started},
    },
    model::{Server, port_number},
    voice::GameServerVoice,
};

/// Longest answer that is read, in bytes: all that counts of one is its status and a sentence.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Longest sentence of a game server that is passed on, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Connections that are kept for each game server.
const IDLE_PER_HOST: usize = 8;

/// Speaks to game servers.
#[derive(Clone, Debug)]
pub(crate) struct GameServers {
    http: Client,
    token: Option<Secret>,
    match_port: String,
}

/// What `GET /match` answers.
#[derive(Debug, Deserialize)]
struct Status {
    state: String,
    #[serde(default)]
    match_id: String,
}

impl GameServers {
    /// # Errors
    /// The system's certificates or resolver are not usable.
    pub(crate) fn new(settings: &MatchSettings) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .timeout(settings.game_server_timeout)
            .connect_timeout(settings.game_server_timeout.min(Duration::from_secs(2)))
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            token: settings.game_server_token.clone(),
            match_port: settings.match_port.clone(),
        })
    }

    /// Where this server takes calls about matches: on its own address, at the published port of the configured name,
    /// else at the port that its metadata name.
    pub(crate) fn api(&self, server: &Server) -> Option<String> {
        let address = server.address.as_deref()?;
        let port = self.port(server)?;
        Some(match address.parse() {
            Ok(IpAddr::V6(address)) => format!("http://[{address}]:{port}"),
            Ok(IpAddr::V4(_)) | Err(_) => format!("http://{address}:{port}"),
        })
    }

    /// Whether there is an address at which this server takes calls about matches.
    pub(crate) fn takes_calls(&self, server: &Server) -> bool {
        self.port(server).is_some()
    }

    fn port(&self, server: &Server) -> Option<u16> {
        server
            .address
            .as_deref()
            .filter(|address| !address.is_empty())?;
        let mut published = server.ports.iter().rev();
        match published.find(|(name, _)| *name == self.match_port) {
            Some((_, port)) => u16::try_from(*port).ok().filter(|port| *port != 0),
            None => port_number(server.metadata.get(&self.match_port)?),
        }
    }

    /// Has a match started. With `voice` the game server can say where players are heard.
    pub(crate) async fn start(
        &self,
        api: &str,
        fence: u64,
        record: &Match,
        voice: Option<&GameServerVoice>,
    ) -> Started {
        let request = self
            .http
            .post(format!("{api}/match/start"))
            .json(&start_body(fence, record, voice));
        let Ok(response) = self.send(request).await else {
            return Started::Unclear;
        };
        match response.status() {
            status if status.is_success() => Started::Yes,
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Started::Rejected(reason(response).await),
            status if status.is_client_error() => {
                tracing::info!(api, %status, "a game server does not start a match");
                Started::Refused
            }
            _ => Started::Unclear,
        }
    }

    pub(crate) async fn finish(
        &self,
        api: &str,
        fence: u64,
        match_id: &str,
        outcome: &str,
    ) -> Finished {
        let body = json!({ "match_id": match_id, "fence": fence, "outcome": outcome });
        let request = self.http.post(format!("{api}/match/finish")).json(&body);
        match self.send(request).await.map(|response| response.status()) {
            Ok(status) if status.is_success() => Finished::Yes,
            // Another match runs, or the guide's program answers for somebody else on this port by now.
            Ok(StatusCode::CONFLICT | StatusCode::NOT_FOUND) => Finished::Another,
            Ok(_) | Err(_) => Finished::Unclear,
        }
    }

    pub(crate) async fn doing(&self, api: &str) -> Doing {
        let Ok(response) = self.send(self.http.get(format!("{api}/match"))).await else {
            return Doing::Unclear;
        };
        match response.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Doing::Unknown,
            _ => return Doing::Unclear,
        }
        let Some(text) = read(response).await else {
            return Doing::Unclear;
        };
        match serde_json::from_slice::<Status>(&text) {
            Ok(status) if status.state == "idle" => Doing::Nothing,
            Ok(status) if !status.match_id.is_empty() => Doing::Runs(status.match_id),
            Ok(_) | Err(_) => Doing::Unknown,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, reqwest::Error> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        request.send().await
    }
}

/// The guide's body, with the settings of the match in it.
fn start_body(fence: u64, record: &Match, voice: Option<&GameServerVoice>) -> Map<String, Value> {
    let mut body = record.request.settings.clone();
    let users: Vec<&str> = record
        .seats
        .iter()
        .map(|seat| seat.user_id.as_str())
        .collect();
    let mut teams: Map<String, Value> = Map::new();
    for seat in &record.seats {
        if let Some(team) = &seat.team
            && let Value::Array(members) = teams.entry(team).or_insert_with(|| json!([]))
        {
            members.push(seat.user_id.clone().into());
        }
    }
    body.insert("match_id".to_owned(), record.id.clone().into());
    body.insert("user_ids".to_owned(), users.into());
    body.insert("fence".to_owned(), fence.into());
    body.insert("max_players".to_owned(), record.request.seats_max().into());
    if !teams.is_empty() {
        body.insert("teams".to_owned(), teams.into());
    }
    if let Some(voice) = voice {
        body.insert("voice".to_owned(), json!(voice));
    }
    body
}

/// What a game server gives as its reason: `error` of its JSON, else its text.
async fn reason(response: Response) -> String {
    let bytes = read(response).await.unwrap_or_default();
    let said: Option<Value> = serde_json::from_slice(&bytes).ok();
    let said = said
        .as_ref()
        .and_then(|value| value["error"].as_str().map(str::to_owned));
    let text = said.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
    let is_shown = |c: &char| !c.is_control();
    text.chars()
        .filter(is_shown)
        .take(REASON_CHARS_MAX)
        .collect()
}

/// The body, if it is not too long.
async fn read(mut response: Response) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_partial_json, header, method, path},
    };

    use super::*;
    use crate::{
        matches::request::{MatchRequest, Player, VoiceWish},
        store::Timestamp,
    };

    fn game_servers() -> GameServers {
        GameServers::new(&MatchSettings {
            game_server_token: Some("secret".to_owned().into()),
            game_server_timeout: Duration::from_millis(300),
            ..MatchSettings::default()
        })
        .unwrap()
    }

    fn record() -> Match {
        let player = |name: &str, team: &str| Player {
            user_id: name.to_owned(),
            team: Some(team.to_owned()),
            latencies: Vec::new(),
        };
        let players = vec![player("a", "red"), player("b", "blue"), player("c", "red")];
        let request = MatchRequest {
            selectors: Vec::new(),
            players: players.clone(),
            max_players: Some(4),
            settings: Map::from_iter([("game_mode".to_owned(), "duel".into())]),
            voice: VoiceWish::default(),
            lease_seconds: None,
            deadline_ms: None,
        };
        let mut record = Match::new("m-1".to_owned(), request, Timestamp(0), Timestamp(0));
        record.seat(&players, None, || 7);
        record
    }

    async fn answering(status: u16, body: &str) -> MockServer {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(status).set_body_string(body);
        Mock::given(header("authorization", "Bearer secret"))
            .respond_with(answer)
            .mount(&server)
            .await;
        server
    }

    #[tokio::test]
    async fn a_start_says_everything_about_the_match() {
        let server = MockServer::start().await;
        let body = json!({
            "match_id": "m-1", "fence": 7, "game_mode": "duel", "user_ids": ["a", "b", "c"], "max_players": 4,
            "teams": {"red": ["a", "c"], "blue": ["b"]},
            "voice": {"gateway": "https://voice.example.com", "room_id": "{m-1}proximity", "token": "a.b.c"},
        });
        let expected = Mock::given(method("POST"))
            .and(path("/match/start"))
            .and(body_partial_json(body));
        expected
            .respond_with(ResponseTemplate::new(200))
            .mount(&server)
            .await;
        let voice = GameServerVoice {
            gateway: "https://voice.example.com".to_owned(),
            room_id: "{m-1}proximity".to_owned(),
            token: "a.b.c".to_owned(),
            expires_at: Timestamp(0).into(),
        };
        let started = game_servers()
            .start(&server.uri(), 7, &record(), Some(&voice))
            .await;
        assert_eq!(started, Started::Yes);
        assert!(!start_body(7, &record(), None).contains_key("voice"));
    }

    #[tokio::test]
    async fn an_answer_is_taken_for_what_it_means() {
        let refusal = Started::Rejected("no such map".to_owned());
        for (status, body, expected) in [
            (200, "{}", Started::Yes),
            (409, "{}", Started::Refused),
            (404, "", Started::Refused),
            (401, "", Started::Refused),
            (400, r#"{"error": "no such map"}"#, refusal.clone()),
            (422, "no such\n map", refusal),
            (302, "", Started::Unclear),
            (502, "", Started::Unclear),
        ] {
            let server = answering(status, body).await;
            let started = game_servers()
                .start(&server.uri(), 1, &record(), None)
                .await;
            assert_eq!(started, expected, "{status} {body}");
        }
        for (status, expected) in [
            (200, Finished::Yes),
            (409, Finished::Another),
            (404, Finished::Another),
            (401, Finished::Unclear),
            (503, Finished::Unclear),
        ] {
            let server = answering(status, "").await;
            let finished = game_servers().finish(&server.uri(), 1, "m-1", "draw").await;
            assert_eq!(finished, expected, "{status}");
        }
        for (status, body, expected) in [
            (200, r#"{"state": "idle", "match_id": ""}"#, Doing::Nothing),
            (
                200,
                r#"{"state": "occupied", "match_id": "m-1"}"#,
                Doing::Runs("m-1".to_owned()),
            ),
            (200, r#"{"status": "ok"}"#, Doing::Unknown),
            (404, "", Doing::Unknown),
            (500, "", Doing::Unclear),
        ] {
            let server = answering(status, body).await;
            assert_eq!(
                game_servers().doing(&server.uri()).await,
                expected,
                "{status} {body}"
            );
        }
    }

    #[tokio::test]
    async fn nobody_there_and_too_much_of_an_answer_are_unclear() {
        let nowhere = "http://127.0.0.1:9";
        assert_eq!(
            game_servers().start(nowhere, 1, &record(), None).await,
            Started::Unclear
        );
        let long = format!(
            r#"{{"state": "idle", "x": "{}"}}"#,
            "y".repeat(ANSWER_BYTES_MAX)
        );
        let server = answering(200, &long).await;
        assert_eq!(game_servers().doing(&server.uri()).await, Doing::Unclear);
    }

    #[test]
    fn a_server_is_reached_at_its_published_port_or_the_one_it_names() {
        let of = |address: &str, ports: &[(&str, i64)], metadata: Value| {
            let Value::Object(metadata) = metadata else {
                panic!("metadata is an object")
            };
            game_servers().api(&Server {
                address: Some(address.to_owned()),
                ports: ports
                    .iter()
                    .map(|(name, port)| ((*name).to_owned(), *port))
                    .collect(),
                metadata,
                ..Server::sample(1)
            })
        };
        let ports = &[("game_port", 1), ("match_port", 31001)];
        assert_eq!(
            of("203.0.113.7", ports, json!({})).unwrap(),
            "http://203.0.113.7:31001"
        );
        let named = json!({"match_port": 8080});
        assert_eq!(of("::1", &[], named.clone()).unwrap(), "http://[::1]:8080");
        assert_eq!(of("::1", &[("match_port", 0)], named.clone()), None);
        assert_eq!(of("", &[], named), None);
        assert_eq!(of("::1", &[], json!({"match_port": "x"})), None);
    }
}
