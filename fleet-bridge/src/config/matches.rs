//! The `[matches]` and `[instances]` sections.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

use super::file::within;
use crate::matches::{request::Bounds, world::Pace};

/// Longest lease, in seconds: a week. Whoever forgets a match for longer than that has forgotten it.
const LEASE_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// Longest time to look for a server while a caller waits, in milliseconds.
const DEADLINE_MS_MAX: u64 = 300_000;

/// Longest of the times that a single step may take, in milliseconds.
const STEP_MS_MAX: u64 = 60_000;

/// Longest time that a server is kept for a match that has not started, or a seat for a late player, in seconds.
const CLAIM_SECONDS_MAX: u64 = 3_600;

/// Most starts sent to one game server for one match.
const START_ATTEMPTS_MAX: u32 = 10;

/// Longest time that a match which is over is remembered, in seconds: thirty days.
const KEEP_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// Longest age of a heartbeat, in seconds.
const HEARTBEAT_SECONDS_MAX: u64 = 86_400;

/// Longest time that a Create may take, in seconds: an hour.
const CREATE_SECONDS_MAX: u64 = 3_600;

/// How matches are made.
#[derive(Clone, Debug)]
pub struct MatchSettings {
    /// Published port at which game servers start and finish matches; else the metadata number of that name.
    pub match_port: String,
    /// Sent to game servers as `Authorization: Bearer …`.
    pub game_server_token: Option<Secret>,
    /// Time for one call of a game server.
    pub game_server_timeout: Duration,
    /// How often a start without a usable answer is sent.
    pub start_attempts: u32,
    /// How long the metadata may take to say `occupied`.
    pub occupied_timeout: Duration,
    /// How long a claim keeps a server for a match that has not started.
    pub claim_time: Duration,
    /// Lease of a match that asks for none.
    pub lease: Duration,
    /// Longest lease.
    pub lease_max: Duration,
    /// Time to look for a server for a match that names none.
    pub deadline: Duration,
    /// Longest such time.
    pub deadline_max: Duration,
    /// How long the seat of a late player is kept.
    pub seat_time: Duration,
    /// How long a match that is over, and its key, are remembered.
    pub keep: Duration,
    /// Between two looks at what nobody else looks after.
    pub sweep: Duration,
    /// Metadata key of heartbeats.
    pub heartbeat_key: String,
    /// Age at which a server's heartbeat no longer counts; `None`: heartbeats are not asked for.
    pub heartbeat_max_age: Option<Duration>,
    /// Location settings whose servers the Fleet itself allocates (API 0.9.5), in the order in which they are asked.
    pub fleet_settings: Vec<i64>,
}

impl Default for MatchSettings {
    fn default() -> Self {
        Self {
            match_port: "match_port".to_owned(),
            game_server_token: None,
            game_server_timeout: Duration::from_secs(3),
            start_attempts: 2,
            occupied_timeout: Duration::from_secs(5),
            claim_time: Duration::from_secs(60),
            lease: Duration::from_secs(3_600),
            lease_max: Duration::from_secs(86_400),
            deadline: Duration::from_secs(10),
            deadline_max: Duration::from_secs(60),
            seat_time: Duration::from_secs(60),
            keep: Duration::from_secs(3_600),
            sweep: Duration::from_secs(2),
            heartbeat_key: "heartbeat_at".to_owned(),
            heartbeat_max_age: None,
            fleet_settings: Vec::new(),
        }
    }
}

impl MatchSettings {
    /// How long things may take.
    pub(crate) fn pace(&self) -> Pace {
        Pace {
            claim: self.claim_time,
            occupied: self.occupied_timeout,
            start_attempts: self.start_attempts,
            avoid: self.claim_time,
            keep: self.keep,
        }
    }

    /// What a request may ask for.
    pub(crate) fn bounds(&self, has_voice: bool) -> Bounds {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Bounds {
            lease_seconds: self.lease.as_secs(),
            lease_seconds_max: self.lease_max.as_secs(),
            deadline_ms: millis(self.deadline),
            deadline_ms_max: millis(self.deadline_max),
            has_voice,
        }
    }

    /// How long a call about a match may take: looking, and then giving back what is of no use.
    pub(crate) fn call_time(&self, wanted: Duration) -> Duration {
        wanted + self.occupied_timeout + self.game_server_timeout * self.start_attempts * 2
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MatchesSection {
    enabled: bool,
    match_port: Option<String>,
    game_server_token_env: Option<String>,
    game_server_token_file: Option<PathBuf>,
    game_server_timeout_ms: Option<u64>,
    start_attempts: Option<u32>,
    occupied_timeout_ms: Option<u64>,
    claim_seconds: Option<u64>,
    lease_seconds: Option<u64>,
    lease_seconds_max: Option<u64>,
    deadline_ms: Option<u64>,
    deadline_ms_max: Option<u64>,
    seat_seconds: Option<u64>,
    keep_seconds: Option<u64>,
    sweep_ms: Option<u64>,
    heartbeat_key: Option<String>,
    heartbeat_max_age_seconds: Option<u64>,
    fleet_location_settings: Vec<i64>,
}

impl MatchesSection {
    pub(super) fn judge(self, settings: &Settings) -> Result<Option<MatchSettings>, SettingsError> {
        if !self.enabled {
            return Ok(None);
        }
        let mut made = MatchSettings::default();
        self.times(settings, &mut made)?;
        self.counts(settings, &mut made)?;
        for (name, text, slot) in [
            ("match_port", self.match_port, &mut made.match_port),
            ("heartbeat_key", self.heartbeat_key, &mut made.heartbeat_key),
        ] {
            match text {
                Some(text) if text.is_empty() => {
                    let key = format!("matches.{name}");
                    return Err(settings.error(&key, "it must not be empty"));
                }
                Some(text) => *slot = text,
                None => {}
            }
        }
        made.fleet_settings = self.fleet_location_settings;
        let file = self.game_server_token_file.as_deref();
        made.game_server_token = settings.named_secret(
            "matches",
            self.game_server_token_env.as_deref(),
            ("game_server_token_file", file),
        )?;
        Ok(Some(made))
    }

    fn times(&self, settings: &Settings, made: &mut MatchSettings) -> Result<(), SettingsError> {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        let timeout = &mut made.game_server_timeout;
        let set = |name, value, max, unit, slot| set_time(settings, name, (value, max), unit, slot);
        set(
            "game_server_timeout_ms",
            self.game_server_timeout_ms,
            STEP_MS_MAX,
            ms,
            timeout,
        )?;
        let occupied = &mut made.occupied_timeout;
        set(
            "occupied_timeout_ms",
            self.occupied_timeout_ms,
            STEP_MS_MAX,
            ms,
            occupied,
        )?;
        set("sweep_ms", self.sweep_ms, STEP_MS_MAX, ms, &mut made.sweep)?;
        set(
            "deadline_ms",
            self.deadline_ms,
            DEADLINE_MS_MAX,
            ms,
            &mut made.deadline,
        )?;
        let (max, slot) = (DEADLINE_MS_MAX, &mut made.deadline_max);
        set("deadline_ms_max", self.deadline_ms_max, max, ms, slot)?;
        let (max, slot) = (CLAIM_SECONDS_MAX, &mut made.claim_time);
        set("claim_seconds", self.claim_seconds, max, seconds, slot)?;
        set(
            "seat_seconds",
            self.seat_seconds,
            max,
            seconds,
            &mut made.seat_time,
        )?;
        let max = LEASE_SECONDS_MAX;
        set(
            "lease_seconds",
            self.lease_seconds,
            max,
            seconds,
            &mut made.lease,
        )?;
        set(
            "lease_seconds_max",
            self.lease_seconds_max,
            max,
            seconds,
            &mut made.lease_max,
        )?;
        set(
            "keep_seconds",
            self.keep_seconds,
            KEEP_SECONDS_MAX,
            seconds,
            &mut made.keep,
        )?;
        for (name, value, max) in [
            ("lease_seconds", made.lease, made.lease_max),
            ("deadline_ms", made.deadline, made.deadline_max),
        ] {
            if value > max {
                let problem = format!("it is above {name}_max");
                return Err(settings.error(&format!("matches.{name}"), problem));
            }
        }
        Ok(())
    }

    fn counts(&self, settings: &Settings, made: &mut MatchSettings) -> Result<(), SettingsError> {
        if let Some(attempts) = self.start_attempts {
            let key = "matches.start_attempts";
            made.start_attempts = within(settings, key, attempts, START_ATTEMPTS_MAX)?;
        }
        if let Some(age) = self.heartbeat_max_age_seconds {
            let key = "matches.heartbeat_max_age_seconds";
            let age = within(settings, key, age, HEARTBEAT_SECONDS_MAX)?;
            made.heartbeat_max_age = Some(Duration::from_secs(age));
        }
        if let Some(id) = self.fleet_location_settings.iter().find(|id| **id < 1) {
            let text = format!("{id} is not the id of a location setting");
            return Err(settings.error("matches.fleet_location_settings", text));
        }
        Ok(())
    }
}

/// Sets a time that the section names, if it is from one to the largest.
fn set_time(
    settings: &Settings,
    name: &str,
    (value, max): (Option<u64>, u64),
    unit: fn(u64) -> Duration,
    slot: &mut Duration,
) -> Result<(), SettingsError> {
    if let Some(value) = value {
        *slot = unit(within(settings, &format!("matches.{name}"), value, max)?);
    }
    Ok(())
}

/// Which calls about instances do what ODIN Fleet has no operation for.
#[derive(Clone, Debug)]
pub struct InstanceSettings {
    /// Create claims an idle server or scales a location setting up.
    pub create: bool,
    /// Join takes seats.
    pub join: bool,
    /// Delete stops the server.
    pub delete: bool,
    /// Location settings that Create may scale up, and the most instances that each may get that way.
    pub scale: Vec<Scale>,
    /// How long Create may take when a server has to come up first.
    pub create_time: Duration,
    /// Signs webhooks.
    pub webhook_key: Option<Secret>,
    /// Addresses that webhooks may be sent to begin with one of these.
    pub webhook_urls: Vec<Url>,
}

impl Default for InstanceSettings {
    fn default() -> Self {
        Self {
            create: false,
            join: false,
            delete: false,
            scale: Vec::new(),
            create_time: Duration::from_secs(300),
            webhook_key: None,
            webhook_urls: Vec::new(),
        }
    }
}

/// A location setting that may be scaled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The Fleet's id of the setting.
    pub location_setting: i64,
    /// The most instances it may have.
    pub instances_max: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InstancesSection {
    create: bool,
    join: bool,
    delete: bool,
    scale: Vec<Scale>,
    create_seconds: Option<u64>,
    webhook_key_env: Option<String>,
    webhook_key_file: Option<PathBuf>,
    webhook_urls: Vec<String>,
}

impl InstancesSection {
    pub(super) fn judge(
        self,
        settings: &Settings,
        has_matches: bool,
    ) -> Result<InstanceSettings, SettingsError> {
        for (name, wanted) in [("create", self.create), ("join", self.join)] {
            if wanted && !has_matches {
                let text = "it needs `enabled = true` in [matches]";
                return Err(settings.error(&format!("instances.{name}"), text));
            }
        }
        for (at, scale) in self.scale.iter().enumerate() {
            let key = |field: &str| format!("instances.scale[{at}].{field}");
            if scale.location_setting < 1 {
                return Err(settings.error(&key("location_setting"), "it is no id"));
            }
            within(settings, &key("instances_max"), scale.instances_max, 10_000)?;
        }
        let mut create_time = InstanceSettings::default().create_time;
        if let Some(seconds) = self.create_seconds {
            let seconds = within(
                settings,
                "instances.create_seconds",
                seconds,
                CREATE_SECONDS_MAX,
            )?;
            create_time = Duration::from_secs(seconds);
        }
        let file = ("webhook_key_file", self.webhook_key_file.as_deref());
        let key = settings.named_secret("instances", self.webhook_key_env.as_deref(), file)?;
        if key.is_none() && !self.webhook_urls.is_empty() {
            let text = "webhooks are signed: it needs webhook_key_env or webhook_key_file";
            return Err(settings.error("instances.webhook_urls", text));
        }
        let webhook_url = |text: &String| {
            let url = Url::parse(text).ok();
            let url = url.filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
            url.ok_or_else(|| {
                let text = format!("{text:?} is no address with http:// or https://");
                settings.error("instances.webhook_urls", text)
            })
        };
        let webhook_urls: Result<Vec<Url>, _> = self.webhook_urls.iter().map(webhook_url).collect();
        let webhook_urls = webhook_urls?;
        Ok(InstanceSettings {
            create: self.create,
            join: self.join,
            delete: self.delete,
            scale: self.scale,
            create_time,
            webhook_key: key,
            webhook_urls,
        })
    }
}
