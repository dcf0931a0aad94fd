//! `gateway.toml` as it is written; nothing is checked yet but the form.

use std::{net::SocketAddr, path::PathBuf};

use gateway_api::KeyId;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) master_key: Option<String>,
    pub(super) master_key_file: Option<PathBuf>,
    pub(super) unknown_customers: Option<toml::Value>,
    pub(super) room_match: super::RoomMatch,
    pub(super) token_lifetime: Option<f64>,
    pub(super) token_leeway: Option<f64>,
    pub(super) allow_published_keys: bool,
    pub(super) allow_unauthenticated_internal: bool,
    pub(super) tls: Option<super::Tls>,
    pub(super) internal: Internal,
    pub(super) customers: Vec<Customer>,
    pub(super) customer_api: Option<CustomerApi>,
    pub(super) pools: Option<super::Pools>,
    pub(super) sfu: Sfu,
    pub(super) store: Store,
    pub(super) limit: super::Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Internal {
    pub(super) listen: Option<SocketAddr>,
    pub(super) users: Vec<User>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password_env: Option<String>,
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Customer {
    pub(super) id: String,
    pub(super) max_peers: Option<u64>,
    pub(super) max_rooms: Option<u64>,
    #[serde(default)]
    pub(super) access_keys: Vec<AccessKey>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKey {
    pub(super) namespace: Option<String>,
    pub(super) kid: KeyId,
    pub(super) kty: String,
    pub(super) crv: String,
    pub(super) x: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomerApi {
    pub(super) url: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) update_interval: Option<f64>,
    pub(super) token_env: Option<String>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sfu {
    pub(super) metrics_server: Option<String>,
    pub(super) update_interval: Option<f64>,
    pub(super) disable_timeout: Option<f64>,
    pub(super) remove_timeout: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) redis: Option<String>,
    pub(super) redis_file: Option<PathBuf>,
    pub(super) prefix: Option<String>,
}
