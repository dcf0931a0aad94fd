//! The settings as they are written: nothing is checked yet but the form. No `Debug`: some of it is secret.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) verbosity: Option<Whole>,
    pub(super) public_address: Option<String>,
    pub(super) log: Log,
    pub(super) supervisor: Option<Supervisor>,
    pub(super) authorization: Authorization,
    pub(super) quic: Option<Quic>,
    pub(super) http: Option<Http>,
    pub(super) metrics: Option<Metrics>,
    pub(super) limit: Limit,
    pub(super) telemetry: Option<Telemetry>,
    pub(super) fleet: Option<Fleet>,
    pub(super) internal: Internal,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) terminal: Terminal,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Terminal {
    pub(super) verbosity: Option<Whole>,
    pub(super) format: Option<String>,
    pub(super) filters: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Supervisor {
    pub(super) url: Option<String>,
    pub(super) report_interval: Option<Whole>,
    pub(super) no_warmup: Option<bool>,
    pub(super) version: Option<Whole>,
    pub(super) shutdown_after: Option<Whole>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Authorization {
    pub(super) allow_unsigned: bool,
    pub(super) allow_published_keys: bool,
    pub(super) leeway: Option<Whole>,
    pub(super) keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) kid: String,
    pub(super) kty: String,
    pub(super) crv: String,
    pub(super) x: String,
    pub(super) d: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quic {
    pub(super) binding: Option<String>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) privatekey_file: Option<PathBuf>,
    pub(super) public_address_override: Option<String>,
    pub(super) migration: Option<bool>,
    pub(super) keep_alive_interval: Option<Whole>,
    pub(super) idle_timeout: Option<Whole>,
    pub(super) pre_send_timeout: Option<Whole>,
    pub(super) connect_timeout: Option<Whole>,
    pub(super) no_peers_timeout: Option<Whole>,
    pub(super) max_parallel_connects: Option<Whole>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) binding: Option<String>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) privatekey_file: Option<PathBuf>,
    pub(super) public_address_override: Option<String>,
    pub(super) webrtc_binding: Option<String>,
    pub(super) webrtc_candidates: Option<Vec<String>>,
    pub(super) webrtc_enforce_tcp: Option<bool>,
    pub(super) webrtc_nack_buffer_log2: Option<Whole>,
    pub(super) timeout: Option<Whole>,
    pub(super) ping_interval: Option<Whole>,
    pub(super) no_peers_timeout: Option<Whole>,
    pub(super) shards: Option<Whole>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) binding: Option<String>,
    pub(super) idle_timeout: Option<Whole>,
    pub(super) global_labels: BTreeMap<String, String>,
    pub(super) allowed: Option<Vec<String>>,
    pub(super) system_update_interval: Option<Whole>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limit {
    pub(super) max_clients: Option<Whole>,
    pub(super) max_rooms: Option<Whole>,
    pub(super) max_peers: Option<Whole>,
    pub(super) network: Network,
    pub(super) peer: Peer,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Network {
    pub(super) incoming_media_packets: Option<PacketRate>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Peer {
    pub(super) incoming_messages: Option<MessageRate>,
    pub(super) medias: Option<Whole>,
    pub(super) concurrent_streams: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PacketRate {
    pub(super) rate: Whole,
    pub(super) capacity: Whole,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageRate {
    pub(super) rate: Whole,
    pub(super) capacity: Whole,
    pub(super) overflow: Whole,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Telemetry {
    pub(super) address: Option<String>,
    pub(super) interval: Option<Whole>,
    pub(super) max_consecutive_failures: Option<Whole>,
    pub(super) data: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fleet {
    pub(super) app_id: Option<Whole>,
    pub(super) api_url: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) service_id: Option<Whole>,
    pub(super) address: Option<String>,
    pub(super) http_port_name: Option<String>,
    pub(super) webrtc_port_name: Option<String>,
    pub(super) report_interval: Option<Whole>,
    pub(super) start_timeout: Option<Whole>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Internal {
    pub(super) log_hanging_api_calls: Option<Whole>,
    pub(super) log_rejected_api_calls: Option<bool>,
    pub(super) bundle_events: Option<Whole>,
    pub(super) voice_coalescing_us: Option<Whole>,
}

/// A whole number, 0 or more. A gateway that rewrites settings may give it a point and a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) u64);

/// The last number up to which a float counts every one.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, 0 or more")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
        Ok(Whole(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
        let whole = u64::try_from(value).map(Whole);
        whole.map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Whole, E> {
        if value.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&value) {
            // In this range the cast is exact.
            return Ok(Whole(value as u64));
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }
}
