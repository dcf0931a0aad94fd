//! The settings file: its sections, and how they are judged.

use std::{collections::BTreeSet, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use service::{Settings, SettingsError};

use super::{
    Config, Limits,
    index::IndexSection,
    matches::{InstancesSection, MatchesSection},
    page::PageSection,
    store::StoreSection,
    voice::VoiceSection,
};
use crate::{
    auth::{AccessToken, Scope},
    model::Keys,
};

/// Bytes of a request body: an update names a few metadata keys of one server, and every call under way may hold one.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Milliseconds until a call is answered, or until one attempt at the Fleet is given up: nobody waits longer than five
/// minutes for a game server, and the way out waits as long for open calls.
const DEADLINE_MS_MAX: u64 = 300_000;

/// Attempts of one Fleet call, the first included: with waits that double up to two seconds, ten outlast the default
/// deadline twice; more of them only press on a Fleet that is down.
const ATTEMPTS_MAX: u32 = 10;

/// Calls under way at once: as many as one address has ports, and far below what the semaphore behind it can count.
const REQUESTS_MAX: usize = 65_536;

/// Readers of the events at once: each holds a connection, as a call does.
const SUBSCRIBERS_MAX: usize = 65_536;

/// Servers on a page: the Fleet sends no more.
const PER_PAGE_MAX: u8 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) fleet: FleetSection,
    pub(super) index: IndexSection,
    pub(super) matches: MatchesSection,
    pub(super) instances: InstancesSection,
    pub(super) voice: VoiceSection,
    pub(super) page: PageSection,
    pub(super) keys: KeysSection,
    pub(super) limit: Limits,
    pub(super) auth: AuthSection,
    pub(super) store: StoreSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FleetSection {
    pub(super) app_id: Option<i64>,
    pub(super) api_url: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) connect_timeout_ms: Option<u64>,
    pub(super) request_timeout_ms: Option<u64>,
    pub(super) attempts: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeysSection {
    game_port: Option<String>,
    instance_state: Option<String>,
    player_count: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuthSection {
    pub(super) tokens: Vec<TokenSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenSection {
    name: String,
    scope: Scope,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
}

pub(super) fn keys(settings: &Settings, section: KeysSection) -> Result<Keys, SettingsError> {
    let defaults = Keys::default();
    let keys = Keys {
        game_port: section.game_port.unwrap_or(defaults.game_port),
        instance_state: section.instance_state.unwrap_or(defaults.instance_state),
        player_count: section.player_count.unwrap_or(defaults.player_count),
    };
    let names = [&keys.game_port, &keys.instance_state, &keys.player_count];
    if names.iter().any(|name| name.is_empty()) {
        return Err(settings.error("keys", "a key must not be empty"));
    }
    if names.into_iter().collect::<BTreeSet<_>>().len() < 3 {
        return Err(settings.error("keys", "the three keys must differ"));
    }
    Ok(keys)
}

pub(super) fn limits(settings: &Settings, limits: Limits) -> Result<Limits, SettingsError> {
    within(
        settings,
        "limit.body_bytes",
        limits.body_bytes,
        BODY_BYTES_MAX,
    )?;
    within(
        settings,
        "limit.request_deadline_ms",
        limits.request_deadline_ms,
        DEADLINE_MS_MAX,
    )?;
    within(settings, "limit.requests", limits.requests, REQUESTS_MAX)?;
    within(settings, "limit.per_page", limits.per_page, PER_PAGE_MAX)?;
    let subscribers = limits.subscribers;
    within(settings, "limit.subscribers", subscribers, SUBSCRIBERS_MAX)?;
    Ok(limits)
}

/// Fills in what the section says about single calls of the Fleet.
pub(super) fn fleet_calls(
    settings: &Settings,
    section: &FleetSection,
    config: &mut Config,
) -> Result<(), SettingsError> {
    let millis = |key, value| {
        let millis = within(settings, key, value, DEADLINE_MS_MAX)?;
        Ok(Duration::from_millis(millis))
    };
    if let Some(value) = section.connect_timeout_ms {
        config.connect_timeout = millis("fleet.connect_timeout_ms", value)?;
    }
    if let Some(value) = section.request_timeout_ms {
        config.request_timeout = millis("fleet.request_timeout_ms", value)?;
    }
    if let Some(value) = section.attempts {
        config.retry.attempts_max = within(settings, "fleet.attempts", value, ATTEMPTS_MAX)?;
    }
    Ok(())
}

/// A number from 1 to `max`, or an error that names the bounds.
pub(super) fn within<N>(
    settings: &Settings,
    key: &str,
    value: N,
    max: N,
) -> Result<N, SettingsError>
where
    N: Copy + Ord + From<u8> + fmt::Display,
{
    if (N::from(1)..=max).contains(&value) {
        return Ok(value);
    }
    Err(settings.error(key, format!("it must be from 1 to {max}, not {value}")))
}

pub(super) fn tokens(
    settings: &Settings,
    sections: Vec<TokenSection>,
) -> Result<Vec<AccessToken>, SettingsError> {
    let mut tokens: Vec<AccessToken> = Vec::with_capacity(sections.len());
    for (place, section) in sections.into_iter().enumerate() {
        let at = |name: &str| format!("auth.tokens[{place}]{name}");
        let (key, secret) = match (section.token_env, section.token_file) {
            (Some(name), None) => {
                let key = at(".token_env");
                let secret = settings.variable(&name).ok_or_else(|| {
                    settings.error(&key, format!("the variable {name} is not set"))
                })?;
                (key, secret.to_owned())
            }
            (None, Some(file)) => {
                let key = at(".token_file");
                let secret = settings.secret_file(&key, &file)?;
                (key, secret.expose().trim().to_owned())
            }
            _ => {
                let problem = "it needs either token_env or token_file";
                return Err(settings.error(&at(""), problem));
            }
        };
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(settings.error(
                &key,
                "the token must be one line of visible ASCII characters",
            ));
        }
        if tokens.iter().any(|token| token.name == section.name) {
            return Err(settings.error(&at(".name"), "the name is given twice"));
        }
        tokens.push(AccessToken {
            name: section.name,
            scope: section.scope,
            secret,
        });
    }
    Ok(tokens)
}
