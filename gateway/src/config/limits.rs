//! What the gateway takes at most.

use ipnet::IpNet;
use serde::Deserialize;
use service::{Settings, SettingsError};

/// What the gateway takes at most.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a body from customers and clients.
    pub body_bytes: usize,
    /// Bytes of a body from voice servers: reports name every room.
    pub internal_body_bytes: usize,
    /// Calls of a batch.
    pub batch: usize,
    /// Calls under way at once; more are answered 503.
    pub requests: usize,
    /// Milliseconds for a body to arrive, and for open calls to end when the gateway ends.
    pub request_deadline_ms: u64,
    /// Milliseconds for the head of a request to arrive.
    pub header_ms: u64,
    /// Calls with tokens of one key.
    pub key: Rate,
    /// Calls from one address (of IPv6: one /64 network).
    pub address: Rate,
    /// Proxies whose `X-Forwarded-For` is believed, for the limit by address.
    pub trusted_proxies: Vec<IpNet>,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Times per second; 0 is no limit.
    pub per_second: u32,
    /// Times at once after a pause.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            internal_body_bytes: 8 * 1024 * 1024,
            batch: 50,
            requests: 2048,
            request_deadline_ms: 5_000,
            header_ms: 10_000,
            key: Rate {
                per_second: 1_000,
                burst: 2_000,
            },
            address: Rate {
                per_second: 500,
                burst: 1_000,
            },
            trusted_proxies: Vec::new(),
        }
    }
}

/// Largest body that can be allowed: it is held in memory as a whole.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Largest batch that can be allowed: its calls run at the same time.
const BATCH_MAX: usize = 10_000;
/// Most calls under way that can be allowed.
const REQUESTS_MAX: usize = 1 << 20;
/// Longest time that can be allowed, in milliseconds.
const TIME_MS_MAX: u64 = 600_000;

impl Limits {
    pub(super) fn check(&self, settings: &Settings) -> Result<(), SettingsError> {
        let range = |key: &str, value: u64, max: u64| match (1..=max).contains(&value) {
            true => Ok(()),
            false => Err(settings.error(key, format!("it must be from 1 to {max}"))),
        };
        range(
            "limit.body_bytes",
            self.body_bytes as u64,
            BODY_BYTES_MAX as u64,
        )?;
        let bytes = self.internal_body_bytes as u64;
        range("limit.internal_body_bytes", bytes, BODY_BYTES_MAX as u64)?;
        range("limit.batch", self.batch as u64, BATCH_MAX as u64)?;
        range("limit.requests", self.requests as u64, REQUESTS_MAX as u64)?;
        range(
            "limit.request_deadline_ms",
            self.request_deadline_ms,
            TIME_MS_MAX,
        )?;
        range("limit.header_ms", self.header_ms, TIME_MS_MAX)?;
        for (key, rate) in [("limit.key", self.key), ("limit.address", self.address)] {
            if rate.per_second > 0 && rate.burst == 0 {
                return Err(settings.error(key, "burst must not be 0 when per_second is not"));
            }
        }
        Ok(())
    }
}
