//! The `[voice]` section.

use std::{path::PathBuf, time::Duration};

use gateway_api::{AccessKey, KeyPair, is_published};
use serde::Deserialize;
use service::{Settings, SettingsError};

use super::file::within;

/// Longest time that a voice token opens its rooms, in seconds: a week, as the longest lease.
const TOKEN_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// How players of a match get voice.
#[derive(Clone, Debug)]
pub struct VoiceSettings {
    /// The gateway's address, as players reach it.
    pub gateway_url: String,
    /// The gateway's address, as the bridge reaches it.
    pub call_url: String,
    /// Signs the tokens.
    pub key: KeyPair,
    /// How long a token opens its rooms.
    pub token_time: Duration,
    /// Certificates that the bridge trusts when it calls the gateway, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Voice servers that report a load are chosen near the game server.
    pub nodes: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VoiceSection {
    gateway_url: Option<String>,
    call_url: Option<String>,
    access_key_env: Option<String>,
    access_key_file: Option<PathBuf>,
    token_seconds: Option<u64>,
    ca_file: Option<PathBuf>,
    nodes: Option<bool>,
    allow_published_keys: bool,
}

impl VoiceSection {
    pub(super) fn judge(self, settings: &Settings) -> Result<Option<VoiceSettings>, SettingsError> {
        let file = ("access_key_file", self.access_key_file.as_deref());
        let key = settings.named_secret("voice", self.access_key_env.as_deref(), file)?;
        let Some(gateway_url) = self.gateway_url else {
            return match key {
                None => Ok(None),
                Some(_) => Err(settings.error("voice", "it needs gateway_url")),
            };
        };
        let call_url = self.call_url.unwrap_or_else(|| gateway_url.clone());
        for (name, url) in [("gateway_url", &gateway_url), ("call_url", &call_url)] {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                let text = format!("{url:?} is not like https://voice.example.com");
                return Err(settings.error(&format!("voice.{name}"), text));
            }
        }
        let Some(key) = key else {
            return Err(settings.error("voice", "it needs access_key_env or access_key_file"));
        };
        let key: AccessKey =
            key.expose()
                .trim()
                .parse()
                .map_err(|error: gateway_api::AccessKeyError| {
                    settings.error("voice", format!("the access key is not usable: {error}"))
                })?;
        let key = key.key_pair();
        if is_published(&key.public()) && !self.allow_published_keys {
            let text = "everybody knows this access key: `bifrost access-key new` makes a new one";
            return Err(settings.error("voice", text));
        }
        let seconds = self.token_seconds.unwrap_or(6 * 60 * 60);
        let seconds = within(settings, "voice.token_seconds", seconds, TOKEN_SECONDS_MAX)?;
        Ok(Some(VoiceSettings {
            gateway_url,
            call_url,
            key,
            token_time: Duration::from_secs(seconds),
            ca_file: self.ca_file,
            nodes: self.nodes.unwrap_or(true),
        }))
    }
}
