//! The `[index]` section.

use std::time::Duration;

use serde::Deserialize;
use service::{Settings, SettingsError};

use super::file::within;

/// Milliseconds between two walks: more often than ten times a second is load without news.
const REFRESH_MS_MIN: u64 = 100;

/// Milliseconds between two walks: an index that is older than a minute is none.
const REFRESH_MS_MAX: u64 = 60_000;

/// Milliseconds: a list that is older than ten minutes helps nobody to a game server.
const MAX_AGE_MS_MAX: u64 = 600_000;

/// What the bridge itself knows of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexSettings {
    /// Keep an index and answer List from it.
    pub enabled: bool,
    /// From the beginning of one walk over the Fleet's list to the next.
    pub refresh: Duration,
    /// How old a List may be that names no age.
    pub max_age: Duration,
}

impl Default for IndexSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            refresh: Duration::from_secs(2),
            max_age: Duration::from_secs(5),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IndexSection {
    enabled: bool,
    refresh_ms: Option<u64>,
    max_age_ms: Option<u64>,
}

impl IndexSection {
    pub(super) fn judge(&self, settings: &Settings) -> Result<IndexSettings, SettingsError> {
        let defaults = IndexSettings::default();
        let refresh = self.refresh_ms.map_or(Ok(defaults.refresh), |value| {
            if (REFRESH_MS_MIN..=REFRESH_MS_MAX).contains(&value) {
                return Ok(Duration::from_millis(value));
            }
            let problem =
                format!("it must be from {REFRESH_MS_MIN} to {REFRESH_MS_MAX}, not {value}");
            Err(settings.error("index.refresh_ms", problem))
        })?;
        let max_age = self.max_age_ms.map_or(Ok(defaults.max_age), |value| {
            within(settings, "index.max_age_ms", value, MAX_AGE_MS_MAX).map(Duration::from_millis)
        })?;
        Ok(IndexSettings {
            enabled: self.enabled,
            refresh,
            max_age,
        })
    }
}
