//! Game server instances in the words of a matchmaker, and the conversion of a Fleet server into one.
//!
//! Pure: no clock, no IO, and nothing of Fleet's wire format. The field names are those of nakama-common.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A running game server that a matchmaker can send players to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Fleet's id of the server, a decimal number.
    #[schema(example = "101", pattern = "^[1-9][0-9]*$")]
    pub id: String,
    /// Where players connect to.
    pub connection_info: ConnectionInfo,
    /// When the server was created; the time of the call where Fleet does not know it.
    pub create_time: DateTime<Utc>,
    /// Players on the server as it last told Fleet; 0 where it never did.
    #[schema(example = 8, minimum = 0)]
    pub player_count: u64,
    /// Fleet's status text, passed on as it is.
    #[schema(example = "running")]
    pub status: String,
    /// The server's metadata, with every published port added under its name.
    #[schema(value_type = Object, example = json!({"instance_state": "idle", "game_port": 31001}))]
    pub metadata: Map<String, Value>,
}

/// The address of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionInfo {
    /// Address of the machine that the instance runs on.
    #[schema(example = "203.0.113.7")]
    pub ip_address: String,
    /// Always empty: Fleet names machines by address.
    #[schema(example = "")]
    pub dns_name: String,
    /// The public game port.
    #[schema(example = 31001, minimum = 1, maximum = 65535)]
    pub port: u16,
}

/// One answer of List.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceList {
    /// The instances of this answer, ordered by id. May be empty while `next_cursor` is not: servers that have no
    /// usable game port are left out, and a filter may leave a whole page of them.
    pub instances: Vec<Instance>,
    /// Continues the list after this answer; empty at the end.
    #[schema(example = "")]
    pub next_cursor: String,
}

/// What Update changes. A field that is absent or null is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceUpdate {
    /// Players on the server. Stored as metadata, unless `metadata` names the same key itself.
    #[schema(example = 8)]
    pub player_count: Option<u32>,
    /// Keys to add or replace. Keys that are not named here are kept.
    #[schema(value_type = Option<Object>, example = json!({"instance_state": "occupied"}))]
    pub metadata: Option<Map<String, Value>>,
}

impl InstanceUpdate {
    /// The metadata keys to write; an explicit player count in `metadata` wins.
    pub fn into_metadata(self, keys: &Keys) -> Map<String, Value> {
        let mut metadata = self.metadata.unwrap_or_default();
        if let Some(count) = self.player_count
            && !metadata.contains_key(&keys.player_count)
        {
            metadata.insert(keys.player_count.clone(), count.into());
        }
        metadata
    }
}

/// The metadata keys that carry a meaning. Studios with other names set these instead of writing a converter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Public game port: a published port of this name, else a metadata value.
    pub game_port: String,
    /// What the server is doing; the `state` parameter of List filters by it.
    pub instance_state: String,
    /// Players on the server.
    pub player_count: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            game_port: "game_port".to_owned(),
            instance_state: "instance_state".to_owned(),
            player_count: "player_count".to_owned(),
        }
    }
}

/// What the bridge knows of a Fleet server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Server {
    /// Fleet's id.
    pub id: i64,
    /// Fleet's name of the server.
    pub name: String,
    /// The location setting that the server belongs to (Fleet's `appLocationSettingId`).
    pub setting_id: i64,
    /// Fleet's status text.
    pub status: String,
    /// Up, and passing its checks.
    pub is_healthy: bool,
    /// No machine has room for it.
    pub is_pending: bool,
    /// The cluster has lost it.
    pub is_not_found: bool,
    /// Stopped on purpose.
    pub is_stopped: bool,
    /// Fleet is at work on it.
    pub maintenance: bool,
    /// City of the location as filters spell it, e.g. `limburg`.
    pub city: String,
    /// City of the location as people read it.
    pub city_display: String,
    /// Country of the location.
    pub country: String,
    /// Continent of the location.
    pub continent: String,
    /// Unknown while the server is being created.
    pub created_at: Option<DateTime<Utc>>,
    /// When Fleet last changed it, metadata included.
    pub updated_at: Option<DateTime<Utc>>,
    /// Address of the machine; `None` until one is assigned.
    pub address: Option<String>,
    /// Published ports in Fleet's order, by name.
    pub ports: Vec<(String, i64)>,
    /// The ports inside the container, published or not, by name.
    pub target_ports: Vec<(String, i64)>,
    /// When the Fleet last allocated it to somebody, if it is allocated (API 0.9.5).
    pub allocated_at: Option<DateTime<Utc>>,
    /// Whatever the server wrote.
    pub metadata: Map<String, Value>,
}

#[cfg(test)]
impl Server {
    /// A server that works, and of which nothing else is known.
    pub(crate) fn sample(id: i64) -> Self {
        Self {
            id,
            is_healthy: true,
            ..Self::default()
        }
    }
}

impl Server {
    /// Whether the Fleet says that it works.
    pub fn is_up(&self) -> bool {
        self.is_healthy
            && !self.is_pending
            && !self.is_not_found
            && !self.is_stopped
            && !self.maintenance
    }

    /// What the server says it is doing.
    pub(crate) fn state(&self, keys: &Keys) -> Option<&str> {
        self.metadata.get(&keys.instance_state)?.as_str()
    }

    /// Players on the server as it last told Fleet; 0 where it never did.
    pub(crate) fn player_count(&self, keys: &Keys) -> u64 {
        let count = self.metadata.get(&keys.player_count);
        count.and_then(Value::as_u64).unwrap_or(0)
    }

    /// The public game port, if there is a usable one.
    pub(crate) fn game_port(&self, keys: &Keys) -> Option<u16> {
        // Of two ports with one name the last is the one that an instance's metadata shows.
        let mut published = self.ports.iter().rev();
        match published.find(|(name, _)| *name == keys.game_port) {
            Some((_, port)) => u16::try_from(*port).ok().filter(|port| *port != 0),
            None => port_number(self.metadata.get(&keys.game_port)?),
        }
    }
}

/// Why a server cannot be offered to players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// Not on a machine yet, usually because no machine has room for it.
    NoAddress,
    /// Neither a published port nor a metadata value of the configured name.
    NoGamePort,
    /// The value is not a port number from 1 to 65535.
    BadGamePort,
}

impl SkipReason {
    /// The name used in metric labels.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::NoGamePort => "no_game_port",
            Self::BadGamePort => "bad_game_port",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "it has no address: Fleet has not put it on a machine yet",
            Self::NoGamePort => "it has no game port, neither published nor in its metadata",
            Self::BadGamePort => "its game port is not a port number from 1 to 65535",
        })
    }
}

/// Turns a server into an instance. `now` stands in for a creation time that Fleet does not know.
///
/// # Errors
///
/// The reason why players cannot be sent to this server.
pub fn convert(server: Server, keys: &Keys, now: DateTime<Utc>) -> Result<Instance, SkipReason> {
    let player_count = server.player_count(keys);
    let ip_address = server
        .address
        .filter(|address| !address.is_empty())
        .ok_or(SkipReason::NoAddress)?;
    let mut metadata = server.metadata;
    for (name, port) in server.ports {
        metadata.insert(name, port.into());
    }
    let port = metadata
        .get(&keys.game_port)
        .ok_or(SkipReason::NoGamePort)?;
    let port = port_number(port).ok_or(SkipReason::BadGamePort)?;
    Ok(Instance {
        id: server.id.to_string(),
        connection_info: ConnectionInfo {
            ip_address,
            dns_name: String::new(),
            port,
        },
        create_time: server.created_at.unwrap_or(now),
        player_count,
        status: server.status,
        metadata,
    })
}

/// A port given as an integer or as its decimal digits.
pub(crate) fn port_number(value: &Value) -> Option<u16> {
    let port = match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok()?,
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().ok()?
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return None;
        }
    };
    (port != 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};
    use serde_json::json;

    use super::*;

    fn server(metadata: Value, ports: &[(&str, i64)]) -> Server {
        Server {
            id: 4_294_967_397,
            status: "Starting up".to_owned(),
            address: Some("203.0.113.7".to_owned()),
            ports: ports
                .iter()
                .map(|(name, port)| ((*name).to_owned(), *port))
                .collect(),
            metadata: match metadata {
                Value::Object(metadata) => metadata,
                other => panic!("{other} is no metadata"),
            },
            ..Server::default()
        }
    }

    fn check(metadata: Value, ports: &[(&str, i64)]) -> Result<Instance, SkipReason> {
        convert(
            server(metadata, ports),
            &Keys::default(),
            DateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn game_port_is_an_integer_or_its_digits() {
        for (value, port) in [
            (json!(7777), 7777),
            (json!("7777"), 7777),
            (json!(1), 1),
            (json!("65535"), 65535),
        ] {
            let instance = check(json!({"game_port": value}), &[]).unwrap();
            assert_eq!(instance.connection_info.port, port);
            assert_eq!(
                instance.metadata["game_port"], value,
                "metadata keeps its own type"
            );
        }
    }

    #[test]
    fn a_value_that_is_no_port_is_refused() {
        let values = [
            json!(0),
            json!(65536),
            json!(-1),
            json!(7777.5),
            json!(true),
            json!(null),
            json!([7777]),
            json!({"port": 7777}),
            json!(""),
            json!("seven"),
            json!("+7777"),
            json!(" 7777"),
            json!("0"),
            json!("99999999999999999999"),
        ];
        for value in values {
            assert_eq!(
                check(json!({"game_port": value}), &[]),
                Err(SkipReason::BadGamePort),
                "{value}"
            );
        }
        assert_eq!(
            check(json!({}), &[("query", 1)]),
            Err(SkipReason::NoGamePort)
        );
    }

    #[test]
    fn a_published_port_wins_over_metadata_and_every_port_is_merged() {
        let instance = check(
            json!({"game_port": 7777, "map": "m"}),
            &[("game_port", 31001), ("rcon", 5)],
        )
        .unwrap();
        assert_eq!(instance.connection_info.port, 31001);
        assert_eq!(
            json!(instance.metadata),
            json!({"game_port": 31001, "map": "m", "rcon": 5})
        );
    }

    #[test]
    fn a_server_without_a_machine_is_refused() {
        for address in [None, Some(String::new())] {
            let server = Server {
                address,
                ..server(json!({"game_port": 1}), &[])
            };
            assert_eq!(
                convert(server, &Keys::default(), DateTime::UNIX_EPOCH),
                Err(SkipReason::NoAddress)
            );
        }
    }

    #[test]
    fn player_count_is_read_only_from_a_non_negative_integer() {
        for (value, count) in [
            (json!(8), 8),
            (json!(-1), 0),
            (json!("8"), 0),
            (json!(1.5), 0),
            (json!(null), 0),
        ] {
            assert_eq!(
                check(json!({"game_port": 1, "player_count": value}), &[])
                    .unwrap()
                    .player_count,
                count
            );
        }
    }

    #[test]
    fn other_key_names_replace_the_defaults() {
        let keys = Keys {
            game_port: "port".to_owned(),
            player_count: "players".to_owned(),
            ..Keys::default()
        };
        let server = server(json!({"port": 5, "players": 3}), &[]);
        let instance = convert(server, &keys, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            (instance.connection_info.port, instance.player_count),
            (5, 3)
        );
        let update = InstanceUpdate {
            player_count: Some(0),
            metadata: None,
        };
        assert_eq!(json!(update.into_metadata(&keys)), json!({"players": 0}));
    }

    #[test]
    fn an_explicit_player_count_in_metadata_wins() {
        let update: InstanceUpdate =
            serde_json::from_value(json!({"player_count": 5, "metadata": {"player_count": 7}}))
                .unwrap();
        assert_eq!(
            json!(update.into_metadata(&Keys::default())),
            json!({"player_count": 7})
        );
    }

    proptest! {
        #[test]
        fn text_and_numbers_never_panic(text in ".*", number in any::<i64>(), float in any::<f64>()) {
            for value in [json!(text), json!(number), json!(float)] {
                let port = check(json!({"game_port": value, "player_count": value}), &[]).ok();
                if let Some(instance) = port {
                    assert_ne!(instance.connection_info.port, 0);
                }
            }
        }

        #[test]
        fn published_ports_out_of_range_are_refused(port in prop::num::i64::ANY) {
            let fits = (1..=65535).contains(&port);
            assert_eq!(check(json!({}), &[("game_port", port)]).is_ok(), fits);
        }
    }
}
