//! The settings file: its sections, and how they are judged. Keeps the text to find the line of a key.

use std::{
    collections::{BTreeSet, HashMap},
    fmt, fs,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use serde::Deserialize;

use super::{Config, ConfigError, Limits};
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

/// Servers on a page: the Fleet sends no more.
const PER_PAGE_MAX: u8 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) fleet: FleetSection,
    pub(super) keys: KeysSection,
    pub(super) limit: Limits,
    pub(super) auth: AuthSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FleetSection {
    pub(super) app_id: Option<i64>,
    pub(super) api_url: Option<String>,
    pub(super) token_file: Option<String>,
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
    token_file: Option<String>,
}

/// The text of a file, kept to find the line of a key.
#[derive(Debug, Default)]
pub(super) struct Source {
    path: String,
    text: String,
}

impl Source {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self { path: name, text }),
            Err(source) => Err(ConfigError::File { path: name, source }),
        }
    }

    /// The parser's own text would quote the line, and with it a secret that stands on it.
    pub(super) fn parse(&self) -> Result<File, ConfigError> {
        let at = |key: String, error: &toml::de::Error| ConfigError::Key {
            path: self.path.clone(),
            line: error.span().map_or(1, |span| self.line_at(span.start)),
            key,
            problem: error.message().to_owned(),
        };
        let deserializer = toml::Deserializer::parse(&self.text)
            .map_err(|error| at("the file".to_owned(), &error))?;
        serde_path_to_error::deserialize(deserializer)
            .map_err(|error| at(error.path().to_string(), error.inner()))
    }

    fn line_at(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        before.matches('\n').count() + 1
    }

    /// An error at the first line that sets the last part of this key.
    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let name = key.rsplit('.').next().unwrap_or(key);
        let sets = |line: &str| line.split('=').next().is_some_and(|it| it.trim() == name);
        let line = self.text.lines().position(sets).unwrap_or(0) + 1;
        ConfigError::Key {
            path: self.path.clone(),
            line,
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn keys(&self, section: KeysSection) -> Result<Keys, ConfigError> {
        let defaults = Keys::default();
        let keys = Keys {
            game_port: section.game_port.unwrap_or(defaults.game_port),
            instance_state: section.instance_state.unwrap_or(defaults.instance_state),
            player_count: section.player_count.unwrap_or(defaults.player_count),
        };
        let names = [&keys.game_port, &keys.instance_state, &keys.player_count];
        if names.iter().any(|name| name.is_empty()) {
            return Err(self.error("keys", "a key must not be empty"));
        }
        if names.into_iter().collect::<BTreeSet<_>>().len() < 3 {
            return Err(self.error("keys", "the three keys must differ"));
        }
        Ok(keys)
    }

    pub(super) fn limits(&self, limits: Limits) -> Result<Limits, ConfigError> {
        self.within("limit.body_bytes", limits.body_bytes, BODY_BYTES_MAX)?;
        self.within(
            "limit.request_deadline_ms",
            limits.request_deadline_ms,
            DEADLINE_MS_MAX,
        )?;
        self.within("limit.requests", limits.requests, REQUESTS_MAX)?;
        self.within("limit.per_page", limits.per_page, PER_PAGE_MAX)?;
        Ok(limits)
    }

    /// Fills in what the section says about single calls of the Fleet.
    pub(super) fn fleet_calls(
        &self,
        section: &FleetSection,
        config: &mut Config,
    ) -> Result<(), ConfigError> {
        let millis = |key, value| {
            let millis = self.within(key, value, DEADLINE_MS_MAX)?;
            Ok(Duration::from_millis(millis))
        };
        if let Some(value) = section.connect_timeout_ms {
            config.connect_timeout = millis("fleet.connect_timeout_ms", value)?;
        }
        if let Some(value) = section.request_timeout_ms {
            config.request_timeout = millis("fleet.request_timeout_ms", value)?;
        }
        if let Some(value) = section.attempts {
            config.retry.attempts_max = self.within("fleet.attempts", value, ATTEMPTS_MAX)?;
        }
        Ok(())
    }

    /// A number from 1 to `max`, or an error that names the bounds.
    fn within<N>(&self, key: &str, value: N, max: N) -> Result<N, ConfigError>
    where
        N: Copy + Ord + From<u8> + fmt::Display,
    {
        if (N::from(1)..=max).contains(&value) {
            return Ok(value);
        }
        Err(self.error(key, format!("it must be from 1 to {max}, not {value}")))
    }

    pub(super) fn tokens(
        &self,
        sections: Vec<TokenSection>,
        variables: &HashMap<String, String>,
    ) -> Result<Vec<AccessToken>, ConfigError> {
        let mut tokens: Vec<AccessToken> = Vec::with_capacity(sections.len());
        for section in sections {
            let key = format!("auth.tokens.{}", section.name);
            let secret = match (section.token_env, section.token_file) {
                (Some(name), None) => variables
                    .get(&name)
                    .cloned()
                    .ok_or_else(|| self.error(&key, format!("the variable {name} is not set")))?,
                (None, Some(file)) => self.secret_file(&key, &file)?,
                _ => return Err(self.error(&key, "it needs either token_env or token_file")),
            };
            if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(self.error(
                    &key,
                    "the token must be one line of visible ASCII characters",
                ));
            }
            if tokens.iter().any(|token| token.name == section.name) {
                return Err(self.error(&key, "the name is given twice"));
            }
            tokens.push(AccessToken {
                name: section.name,
                scope: section.scope,
                secret,
            });
        }
        Ok(tokens)
    }

    pub(super) fn secret_file(&self, key: &str, file: &str) -> Result<String, ConfigError> {
        let text = fs::read_to_string(file)
            .map_err(|error| self.error(key, format!("{file} cannot be read: {error}")))?;
        Ok(text.trim().to_owned())
    }
}
