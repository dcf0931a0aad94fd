//! Voice for the players of a match: which rooms there are, the tokens that open them, the voice server they should be
//! on, and the end of them.

mod meters;

use std::{fs, time::Duration};

use chrono::{DateTime, Utc};
use gateway_api::{Claims, Internal, Names, POSITIONS, sign};
use reqwest::{Certificate, Client};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

pub(crate) use self::meters::{Meter, Meters};
use crate::{
    config::VoiceSettings,
    error::Error,
    matches::{
        claim::timestamp,
        record::{Match, Place, Seat, VoicePlan},
        request::VoiceWish,
    },
    model::Server,
    store::Timestamp,
};

/// The metadata key under which a voice server reports itself.
pub(crate) const NODE_KEY: &str = "voice_node";

/// A voice server that has not reported for this long is not chosen.
const REPORT_AGE_MAX: Duration = Duration::from_secs(30);

/// Time for one call of the gateway.
const CALL_TIME: Duration = Duration::from_secs(3);

/// How often closing a room is tried.
const CLOSE_ATTEMPTS: usize = 3;

/// The user that a game server's token is for; it says where others are, and is nowhere itself.
const GAME_SERVER_USER: &str = "game-server";

/// What a token for moderation may take until it is used.
const MODERATION_SECONDS: i64 = 60;

/// What a player needs for voice.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct VoiceAccess {
    /// The gateway to connect to.
    #[schema(example = "https://voice.example.com")]
    pub gateway: String,
    /// The rooms that the token opens.
    pub rooms: Vec<VoiceRoom>,
    /// Opens them until `expires_at`.
    pub token: String,
    /// When the token ends.
    pub expires_at: DateTime<Utc>,
}

/// A voice room of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VoiceRoom {
    /// The name to join it by.
    pub name: String,
    /// Who is in it.
    pub kind: RoomKind,
}

/// Who is in a voice room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// Everybody.
    Match,
    /// One team.
    Team,
    /// Everybody, each heard by those who are near.
    Proximity,
}

/// What the game server of a match needs to say where its players are heard.
#[derive(Serialize)]
pub(crate) struct GameServerVoice {
    /// The gateway to ask for the voice server.
    pub(crate) gateway: String,
    /// The room in which distance counts.
    pub(crate) room_id: String,
    /// Opens it for a game server until `expires_at`; a secret.
    pub(crate) token: String,
    /// When the token ends.
    pub(crate) expires_at: DateTime<Utc>,
}

/// Why voice cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    /// The certificates to trust cannot be read.
    #[error("voice.ca_file: {0}")]
    Certificates(#[source] std::io::Error),
    /// They are none, or the system's are not usable.
    #[error("voice.ca_file: {0}")]
    Client(#[from] reqwest::Error),
}

/// Hands out voice.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    settings: VoiceSettings,
    http: Client,
}

impl Voice {
    /// # Errors
    /// [`VoiceError`].
    pub(crate) fn new(settings: VoiceSettings) -> Result<Self, VoiceError> {
        let mut builder = Client::builder().timeout(CALL_TIME).no_proxy();
        if let Some(path) = &settings.ca_file {
            let pem = fs::read(path).map_err(VoiceError::Certificates)?;
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&pem)?);
        }
        Ok(Self {
            settings,
            http: builder.build()?,
        })
    }

    /// What a match's game server gets, where distance counts.
    pub(crate) fn for_game_server<'a>(
        &self,
        record: &Match,
        place: Option<&Place>,
        now: Timestamp,
        servers: impl Iterator<Item = &'a Server>,
    ) -> Option<GameServerVoice> {
        let wish = VoiceWish {
            by_proximity: record.request.voice.by_proximity,
            ..VoiceWish::default()
        };
        let room = rooms_of(&record.id, wish, None).pop()?;
        let plan = self.plan(record, place, now, servers);
        let claims = Claims {
            sub: Some(Names::Many(vec![
                "Connect".to_owned(),
                POSITIONS.to_owned(),
            ])),
            ..claims(&plan, room.name.as_str().into(), GAME_SERVER_USER)
        };
        Some(GameServerVoice {
            gateway: self.settings.gateway_url.clone(),
            room_id: room.name,
            token: sign(&claims, &self.settings.key),
            expires_at: plan.expires_at.into(),
        })
    }

    /// Where the voice of a match goes, and how long its tokens are good for. They outlive the lease, so that a match
    /// that is renewed does not lose its voice at once.
    pub(crate) fn plan<'a>(
        &self,
        record: &Match,
        place: Option<&Place>,
        now: Timestamp,
        servers: impl Iterator<Item = &'a Server>,
    ) -> VoicePlan {
        let lease = Duration::from_secs(record.request.lease_seconds.unwrap_or_default());
        let place = place.filter(|_| self.settings.nodes);
        let node = place.and_then(|place| nearest_node(place, now, servers));
        VoicePlan {
            node,
            issued_at: now,
            expires_at: now + lease.max(self.settings.token_time),
        }
    }

    /// What one player gets. The same match and seat always give the same.
    pub(crate) fn access(&self, record: &Match, seat: &Seat) -> Option<VoiceAccess> {
        let plan = record.voice.as_ref()?;
        let rooms = rooms_of(&record.id, record.request.voice, seat.team.as_deref());
        if rooms.is_empty() {
            return None;
        }
        let names = rooms.iter().map(|room| room.name.clone()).collect();
        let claims = claims(plan, Names::Many(names), &seat.user_id);
        Some(VoiceAccess {
            gateway: self.settings.gateway_url.clone(),
            rooms,
            token: sign(&claims, &self.settings.key),
            expires_at: plan.expires_at.into(),
        })
    }

    /// Closes the rooms of a match, and keeps them closed to its tokens. A room that cannot be closed is only logged:
    /// it ends when its players have left.
    pub(crate) async fn close(&self, record: &Match, now: Timestamp) {
        let Some(plan) = &record.voice else { return };
        let ban_seconds = plan
            .expires_at
            .0
            .saturating_sub(now.0)
            .div_ceil(1000)
            .max(1);
        for room in all_rooms(record) {
            let mut result = Ok(());
            for _ in 0..CLOSE_ATTEMPTS {
                result = self.close_room(&room, ban_seconds, now).await;
                if result.is_ok() {
                    break;
                }
            }
            if let Err(problem) = result {
                tracing::warn!(
                    match_id = record.id,
                    "a voice room was not closed: {problem}"
                );
            }
        }
    }

    async fn close_room(&self, room: &str, ban_seconds: u64, now: Timestamp) -> Result<(), String> {
        let claims = Claims {
            rid: Some(room.into()),
            uid: Some(String::new()),
            sub: Some("RoomClose".into()),
            exp: Some(seconds(now) + MODERATION_SECONDS),
            nbf: Some(seconds(now)),
            ..Claims::default()
        };
        let token = sign(&claims, &self.settings.key);
        let params = json!({ "room_id": room, "ban_time": ban_seconds });
        self.call(&token, "RoomClose", &params).await?.map(drop)
    }

    /// The voice server of a player's token, and the token that opens its rooms there.
    ///
    /// # Errors
    /// `invalid_argument` when the gateway refuses the token, `unavailable` when it does not answer.
    pub(crate) async fn connect(&self, token: &str) -> Result<(String, String), Error> {
        let is_sendable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_sendable {
            return Err(Error::invalid_argument("`token` is no token"));
        }
        let answer = self.call(token, "Connect", &json!({})).await;
        let result = answer
            .map_err(|problem| Error::Away(format!("voice: {problem}")))?
            .map_err(Error::invalid_argument)?;
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        let admission = text("address").zip(text("token"));
        admission.ok_or_else(|| Error::Away("voice: the gateway names no voice server".to_owned()))
    }

    /// One call of the gateway: what it answers, or why there is no answer; and of an answer its result, or what the
    /// gateway refuses.
    async fn call(
        &self,
        token: &str,
        method: &str,
        params: &Value,
    ) -> Result<Result<Value, String>, String> {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self
            .http
            .post(&self.settings.call_url)
            .bearer_auth(token)
            .json(&call);
        let response = request
            .send()
            .await
            .map_err(|error| error.without_url().to_string())?;
        let status = response.status();
        let mut answer: Value = response
            .json()
            .await
            .map_err(|_| format!("the gateway answers {status}"))?;
        match answer.get("error") {
            None if status.is_success() => Ok(Ok(answer["result"].take())),
            None => Err(format!("the gateway answers {status}")),
            Some(error) => Ok(Err(format!("the gateway says {error}"))),
        }
    }
}

/// Those of a token that opens rooms as planned.
fn claims(plan: &VoicePlan, rooms: Names, user_id: &str) -> Claims {
    let prefer = plan.node.clone();
    Claims {
        rid: Some(rooms),
        uid: Some(user_id.to_owned()),
        exp: Some(seconds(plan.expires_at)),
        nbf: Some(seconds(plan.issued_at)),
        internal: prefer.map(|prefer| Internal {
            server: None,
            prefer: Some(prefer),
        }),
        ..Claims::default()
    }
}

/// The rooms of a player. Their names share a tag, so that they live on one voice server.
fn rooms_of(match_id: &str, wish: VoiceWish, team: Option<&str>) -> Vec<VoiceRoom> {
    let room = |name: String, kind| VoiceRoom { name, kind };
    let mut rooms = Vec::new();
    if wish.for_match {
        rooms.push(room(format!("{{{match_id}}}match"), RoomKind::Match));
    }
    if let Some(team) = team.filter(|_| wish.for_teams) {
        rooms.push(room(format!("{{{match_id}}}team/{team}"), RoomKind::Team));
    }
    if wish.by_proximity {
        rooms.push(room(
            format!("{{{match_id}}}proximity"),
            RoomKind::Proximity,
        ));
    }
    rooms
}

/// All rooms of a match, each once.
fn all_rooms(record: &Match) -> Vec<String> {
    let of_seat = |seat: &Seat| rooms_of(&record.id, record.request.voice, seat.team.as_deref());
    let mut names: Vec<String> = record
        .seats
        .iter()
        .flat_map(of_seat)
        .map(|room| room.name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The voice server that is nearest to a game server: in its city, its country, on its continent, anywhere; and among
/// those the one with the lowest load. Never one that drains, or that has not been heard of lately.
fn nearest_node<'a>(
    place: &Place,
    now: Timestamp,
    servers: impl Iterator<Item = &'a Server>,
) -> Option<String> {
    let distance = |server: &Server| match () {
        () if server.city == place.city => 0,
        () if server.country == place.country => 1,
        () if server.continent == place.continent => 2,
        () => 3,
    };
    let nodes = servers
        .filter(|server| server.is_up())
        .filter_map(|server| {
            let node = server.metadata.get(NODE_KEY)?;
            let reported_at = node["reported_at"].as_str().and_then(timestamp)?;
            let is_usable = node["draining"] == false && now <= reported_at + REPORT_AGE_MAX;
            let address = node["address"]
                .as_str()
                .filter(|address| !address.is_empty() && is_usable)?;
            let load = node["load"].as_f64().filter(|load| load.is_finite())?;
            Some((distance(server), load, address))
        });
    let best = nodes.min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(b.2)));
    best.map(|(_, _, address)| address.to_owned())
}

fn seconds(time: Timestamp) -> i64 {
    i64::try_from(time.0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use gateway_api::{AccessKey, Token};

    use super::*;
    use crate::matches::request::{MatchRequest, Player};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn node(id: i64, city: &str, country: &str, load: f64, age: u64, draining: bool) -> Server {
        let reported_at = Timestamp(NOW.0 - age * 1000).to_rfc3339();
        let report = json!({
            "address": format!("node-{id}:4433"), "load": load, "draining": draining, "reported_at": reported_at,
        });
        let mut server = Server {
            city: city.to_owned(),
            country: country.to_owned(),
            continent: "europe".to_owned(),
            ..Server::sample(id)
        };
        server.metadata.insert(NODE_KEY.to_owned(), report);
        server
    }

    fn place() -> Place {
        Place {
            server: 1,
            connection_info: crate::model::ConnectionInfo {
                ip_address: "203.0.113.7".to_owned(),
                dns_name: String::new(),
                port: 1,
            },
            city: "limburg".to_owned(),
            country: "germany".to_owned(),
            continent: "europe".to_owned(),
        }
    }

    fn pick(nodes: &[Server]) -> Option<String> {
        nearest_node(&place(), NOW, nodes.iter())
    }

    #[test]
    fn a_game_server_rules_the_room_in_which_distance_counts() {
        let key = AccessKey::from_random(&[7; 31]).key_pair();
        let public = key.public_jwk().public().unwrap();
        let voice = Voice::new(VoiceSettings {
            gateway_url: "https://voice.example.com".to_owned(),
            call_url: String::new(),
            key,
            token_time: Duration::from_secs(3600),
            ca_file: None,
            nodes: true,
        });
        let voice = voice.unwrap();
        let player = Player {
            user_id: "alice".to_owned(),
            team: None,
            latencies: Vec::new(),
        };
        let request = |by_proximity| MatchRequest {
            selectors: Vec::new(),
            players: vec![player.clone()],
            max_players: None,
            settings: serde_json::Map::new(),
            voice: VoiceWish {
                for_match: true,
                for_teams: false,
                by_proximity,
            },
            lease_seconds: None,
            deadline_ms: None,
        };
        let told = |by_proximity, place: Option<&Place>| {
            let record = Match::new("m-1".to_owned(), request(by_proximity), NOW, NOW);
            let nodes = [node(2, "limburg", "germany", 0.4, 0, false)];
            voice.for_game_server(&record, place, NOW, nodes.iter())
        };
        assert!(told(false, Some(&place())).is_none());
        let told = told(true, Some(&place())).unwrap();
        assert_eq!(told.room_id, "{m-1}proximity");
        let token = Token::read(&told.token).unwrap().verify(&public).unwrap();
        let claims = Value::Object(token.claims().unwrap());
        let seconds = i64::try_from(NOW.0 / 1000).unwrap();
        assert_eq!(
            claims,
            json!({
                "rid": "{m-1}proximity", "uid": "game-server", "sub": ["Connect", "positions"],
                "exp": seconds + 3600, "nbf": seconds, "internal": {"prefer": "node-2:4433"},
            })
        );
    }

    #[test]
    fn the_nearest_node_with_the_lowest_load_is_chosen() {
        let mut nodes = vec![
            node(1, "limburg", "germany", 0.9, 0, false),
            node(2, "limburg", "germany", 0.4, 0, false),
            node(3, "berlin", "germany", 0.1, 0, false),
            node(4, "paris", "france", 0.0, 0, false),
        ];
        assert_eq!(pick(&nodes).unwrap(), "node-2:4433");
        nodes.drain(..2);
        assert_eq!(pick(&nodes).unwrap(), "node-3:4433");
        nodes.remove(0);
        assert_eq!(pick(&nodes).unwrap(), "node-4:4433");
    }

    #[test]
    fn a_node_that_drains_or_is_silent_or_down_is_never_chosen() {
        let mut down = node(3, "limburg", "germany", 0.1, 0, false);
        down.is_stopped = true;
        let mut odd = node(4, "limburg", "germany", 0.1, 0, false);
        odd.metadata.insert(NODE_KEY.to_owned(), json!("here"));
        let nodes = [
            node(1, "limburg", "germany", 0.1, 0, true),
            node(2, "limburg", "germany", 0.1, 31, false),
            down,
            odd,
        ];
        assert_eq!(pick(&nodes), None);
    }

    #[test]
    fn rooms_of_a_match_share_a_tag() {
        let wish = VoiceWish {
            for_match: true,
            for_teams: true,
            by_proximity: true,
        };
        let rooms = rooms_of("m-1", wish, Some("red"));
        let names: Vec<_> = rooms.iter().map(|room| room.name.as_str()).collect();
        assert_eq!(names, ["{m-1}match", "{m-1}team/red", "{m-1}proximity"]);
        let hash = |name: &str| gateway_api::RoomId::from(("n".to_owned(), name.to_owned())).hash();
        assert_eq!(hash(names[0]).as_bytes(), hash(names[1]).as_bytes());
        assert_eq!(
            rooms_of("m-1", wish, None).len(),
            2,
            "no team, no team room"
        );
    }
}
