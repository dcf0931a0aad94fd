//! Settings: `fleet-bridge.toml`, and the guide's variables for what must not or need not stand in a file. A setting
//! has one source: given in both places it is refused, instead of one silently winning.

mod file;
mod index;
mod matches;
mod page;
mod store;
mod voice;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use fleet_client::{DEFAULT_BASE_URL, RetryPolicy, Token};
use serde::Deserialize;
use service::{Settings, SettingsError};

use self::file::File;
pub use self::{
    index::IndexSettings,
    matches::{InstanceSettings, MatchSettings, Scale},
    page::PageSettings,
    store::StoreConfig,
    voice::VoiceSettings,
};
use crate::{auth::AccessToken, model::Keys};

/// Everything the bridge needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the bridge listens.
    pub listen: SocketAddr,
    /// Listen on other than loopback addresses without tokens.
    pub insecure: bool,
    /// The app whose servers are bridged.
    pub app_id: i64,
    /// Base URL of the Fleet API, without `/v1`.
    pub api_url: String,
    /// Opens the Fleet API.
    pub api_token: Token,
    /// Time to connect to the Fleet.
    pub connect_timeout: Duration,
    /// Time for one attempt of a Fleet call.
    pub request_timeout: Duration,
    /// When Fleet calls are tried again.
    pub retry: RetryPolicy,
    /// Metadata keys with a meaning.
    pub keys: Keys,
    /// What the bridge itself knows of the servers.
    pub index: IndexSettings,
    /// How matches are made; `None`: they are not.
    pub matches: Option<MatchSettings>,
    /// Which calls about instances do what ODIN Fleet has no operation for.
    pub instances: InstanceSettings,
    /// How players of a match get voice; `None`: they do not.
    pub voice: Option<VoiceSettings>,
    /// What the page in the browser shows, and to whom.
    pub page: PageSettings,
    /// What the bridge takes at most.
    pub limit: Limits,
    /// Who may call; nobody is asked when it is empty.
    pub tokens: Vec<AccessToken>,
    /// Where what must outlive a call is kept.
    pub store: StoreConfig,
}

/// What the bridge takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Milliseconds from the head of a call to its answer, all Fleet attempts included.
    pub request_deadline_ms: u64,
    /// Calls under way at once; more are answered 503.
    pub requests: usize,
    /// Largest page of a List; the Fleet itself allows 100.
    pub per_page: u8,
    /// Readers of the events at once; more are answered 503.
    pub subscribers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            request_deadline_ms: 5_000,
            requests: 512,
            per_page: 100,
            subscribers: 1_000,
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting that is missing or malformed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Tokens are missing where they are needed.
    #[error(
        "{0} can be reached from other machines and no [[auth.tokens]] are set: set some, listen on 127.0.0.1, \
         or pass --insecure"
    )]
    Open(SocketAddr),
}

impl Config {
    /// Settings with everything optional at its default.
    ///
    /// # Errors
    /// [`ConfigError`] when the id is out of range or the token cannot be sent in a header.
    pub fn new(app_id: u64, api_url: &str, api_token: &str) -> Result<Self, ConfigError> {
        let api_token =
            Token::new(api_token).map_err(|error| variable("ODIN_API_TOKEN", error.to_string()))?;
        Ok(Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)),
            insecure: false,
            app_id: positive(app_id)?,
            api_url: api_url.to_owned(),
            api_token,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(3),
            retry: RetryPolicy::default(),
            keys: Keys::default(),
            index: IndexSettings::default(),
            matches: None,
            instances: InstanceSettings::default(),
            voice: None,
            page: PageSettings::default(),
            limit: Limits::default(),
            tokens: Vec::new(),
            store: StoreConfig::Memory,
        })
    }

    /// Reads the file, if there is one, and the variables `ODIN_APP_ID`, `ODIN_API_TOKEN` and `ODIN_API_URL`.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that is missing, malformed or given twice.
    pub fn load(
        path: Option<&Path>,
        variables: HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let settings = Settings::read(path, variables)?;
        let file: File = settings.parse()?;
        let set = |name: &str| settings.variable(name).filter(|value| !value.is_empty());
        let fleet = &file.fleet;
        let twice = |name, key: &str| {
            variable(
                name,
                format!("and `{key}` in the file are both set: keep one"),
            )
        };

        let app_id = match (set("ODIN_APP_ID"), fleet.app_id) {
            (Some(_), Some(_)) => return Err(twice("ODIN_APP_ID", "fleet.app_id")),
            (Some(text), None) => text.parse().map_err(|_| {
                variable(
                    "ODIN_APP_ID",
                    format!("is {text:?}: it must be the app's id, a positive whole number"),
                )
            })?,
            (None, Some(id)) => u64::try_from(id).map_err(|_| {
                settings.error("fleet.app_id", "it must be a positive whole number")
            })?,
            (None, None) => return Err(missing("ODIN_APP_ID", "the id of your app")),
        };
        let api_url = match (set("ODIN_API_URL"), fleet.api_url.as_deref()) {
            (Some(_), Some(_)) => return Err(twice("ODIN_API_URL", "fleet.api_url")),
            (url, other) => url.or(other).unwrap_or(DEFAULT_BASE_URL),
        };
        let api_token = match (set("ODIN_API_TOKEN"), &fleet.token_file) {
            (Some(_), Some(_)) => return Err(twice("ODIN_API_TOKEN", "fleet.token_file")),
            (Some(token), None) => token.to_owned().into(),
            (None, Some(file)) => settings.secret_file("fleet.token_file", file)?,
            (None, None) => return Err(missing("ODIN_API_TOKEN", "a token of your ODIN account")),
        };

        let mut config = Self::new(app_id, api_url, api_token.expose().trim())?;
        config.listen = file.listen.unwrap_or(config.listen);
        file::fleet_calls(&settings, fleet, &mut config)?;
        config.keys = file::keys(&settings, file.keys)?;
        config.index = file.index.judge(&settings)?;
        config.limit = file::limits(&settings, file.limit)?;
        config.tokens = file::tokens(&settings, file.auth.tokens)?;
        config.matches = file.matches.judge(&settings)?;
        config.instances = file.instances.judge(&settings, config.matches.is_some())?;
        config.voice = file.voice.judge(&settings)?;
        config.page = file.page.judge(&settings)?;
        config.store = store::store(&settings, file.store, config.app_id)?;
        Ok(config)
    }

    /// Refuses to be open to other machines unless told so.
    ///
    /// # Errors
    /// [`ConfigError::Open`].
    pub fn check_exposure(&self) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() || !self.tokens.is_empty() || self.insecure {
            return Ok(());
        }
        Err(ConfigError::Open(self.listen))
    }
}

fn positive(app_id: u64) -> Result<i64, ConfigError> {
    let id = i64::try_from(app_id).ok().filter(|id| *id > 0);
    id.ok_or_else(|| variable("ODIN_APP_ID", "must be a positive whole number".to_owned()))
}

fn variable(variable: &str, problem: String) -> ConfigError {
    SettingsError::variable(variable, problem).into()
}

fn missing(name: &str, what: &str) -> ConfigError {
    variable(name, format!("is not set: it must hold {what}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SAMPLE: &str = include_str!("../fleet-bridge.toml");

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(file.path()), variables.collect())
    }

    const REQUIRED: [(&str, &str); 2] = [("ODIN_APP_ID", "7"), ("ODIN_API_TOKEN", "t")];

    #[test]
    fn the_variables_of_the_guide_are_enough() {
        let variables = REQUIRED.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, variables.into()).unwrap();
        assert_eq!(
            (config.app_id, config.api_url.as_str()),
            (7, DEFAULT_BASE_URL)
        );
        assert!(config.check_exposure().is_ok());
    }

    #[test]
    fn a_missing_or_malformed_variable_is_named() {
        for (variables, name) in [
            (vec![("ODIN_API_TOKEN", "t")], "ODIN_APP_ID"),
            (vec![("ODIN_APP_ID", "7")], "ODIN_API_TOKEN"),
            (
                vec![("ODIN_APP_ID", "x"), ("ODIN_API_TOKEN", "t")],
                "ODIN_APP_ID",
            ),
            (
                vec![("ODIN_APP_ID", "0"), ("ODIN_API_TOKEN", "t")],
                "ODIN_APP_ID",
            ),
            (
                vec![("ODIN_APP_ID", "7"), ("ODIN_API_TOKEN", "a b")],
                "ODIN_API_TOKEN",
            ),
        ] {
            let error = load("", &variables).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_mistake_in_the_file_is_named_by_line_and_key() {
        for (text, place) in [
            ("\nlisten = 7", ":2: listen: "),
            ("[limit]\nbody_bites = 7", ":2: limit"),
            ("[limit]\nper_page = 101", ":2: limit.per_page: "),
            ("[limit]\nrequests = -1", ":2: limit.requests: "),
            ("[fleet]\napp_id = ", ":2: the file: "),
            ("[keys]\ngame_port = \"\"", ": keys: "),
            (
                "[[auth.tokens]]\nname = \"a\"\nscope = \"admin\"",
                ":3: auth.tokens[0].scope: ",
            ),
            (
                "\n[[auth.tokens]]\nname = \"a\"\nscope = \"read\"",
                ":2: auth.tokens[0]: ",
            ),
            (
                "[[auth.tokens]]\nname = \"a\"\nscope = \"read\"\ntoken_env = \"ODIN_APP_ID\"\n\
                 [[auth.tokens]]\nname = \"b\"\nscope = \"read\"\ntoken_env = \"NONE\"",
                ":8: auth.tokens[1].token_env: the variable NONE is not set",
            ),
            (
                "[[auth.tokens]]\nname = \"a\"\nscope = \"read\"\ntoken_env = \"ODIN_APP_ID\"\n\
                 [[auth.tokens]]\nscope = \"read\"\nname = \"a\"\ntoken_env = \"ODIN_APP_ID\"",
                ":7: auth.tokens[1].name: the name is given twice",
            ),
        ] {
            let error = load(text, &REQUIRED).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
        }
    }

    fn refused(text: &str) -> String {
        load(text, &REQUIRED).unwrap_err().to_string()
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_refused() {
        for (key, max) in [
            ("body_bytes", 1024 * 1024),
            ("request_deadline_ms", 300_000),
            ("requests", 65_536),
            ("per_page", 100),
            ("subscribers", 65_536),
        ] {
            for value in [0, max + 1] {
                let error = refused(&format!("[limit]\n{key} = {value}"));
                let place = format!(":2: limit.{key}: it must be from 1 to {max}");
                assert!(error.contains(&place), "{error}");
            }
            let largest = format!("[limit]\n{key} = {max}");
            assert!(load(&largest, &REQUIRED).is_ok(), "{largest}");
        }
        let error = refused(&format!("[limit]\nrequests = {}", i64::MAX));
        assert!(error.contains(":2: limit.requests: "), "{error}");
    }

    #[test]
    fn a_fleet_call_without_time_or_attempts_is_refused() {
        for (key, max) in [
            ("connect_timeout_ms", 300_000_u32),
            ("request_timeout_ms", 300_000),
            ("attempts", 10),
        ] {
            for value in [0, max + 1, 4_000_000_000] {
                let error = refused(&format!("[fleet]\n{key} = {value}"));
                let place = format!(":2: fleet.{key}: it must be from 1 to {max}");
                assert!(error.contains(&place), "{error}");
            }
            let largest = format!("[fleet]\n{key} = {max}");
            assert!(load(&largest, &REQUIRED).is_ok(), "{largest}");
        }
    }

    #[test]
    fn an_index_without_a_sensible_age_is_refused() {
        for (key, value, bounds) in [
            ("refresh_ms", 99, "from 100 to 60000"),
            ("refresh_ms", 60_001, "from 100 to 60000"),
            ("max_age_ms", 0, "from 1 to 600000"),
            ("max_age_ms", 600_001, "from 1 to 600000"),
        ] {
            let error = refused(&format!("[index]\n{key} = {value}"));
            let place = format!(":2: index.{key}: it must be {bounds}, not {value}");
            assert!(error.contains(&place), "{error}");
        }
        let text = "[index]\nenabled = true\nrefresh_ms = 100\nmax_age_ms = 600000";
        let index = load(text, &REQUIRED).unwrap().index;
        assert!(index.enabled);
        assert_eq!(index.refresh, Duration::from_millis(100));
        assert_eq!(index.max_age, Duration::from_secs(600));
    }

    #[test]
    fn a_setting_has_one_source() {
        let error = load("[fleet]\napp_id = 8", &REQUIRED)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ODIN_APP_ID") && error.contains("fleet.app_id"),
            "{error}"
        );
    }

    #[test]
    fn what_the_sample_says_of_matches_is_the_default() {
        let defaults = format!("{:?}", MatchSettings::default());
        let text = SAMPLE.replace("enabled = false\nmatch_port", "enabled = true\nmatch_port");
        let matches = load(&text, &REQUIRED).unwrap().matches;
        assert_eq!(format!("{:?}", matches.unwrap()), defaults);
        assert!(load(SAMPLE, &REQUIRED).unwrap().matches.is_none());
    }

    #[test]
    fn a_mistake_about_matches_is_named_by_line_and_key() {
        let variables = [&REQUIRED[..], &[("KEY", "no key")]].concat();
        for (text, place) in [
            (
                "[matches]\nenabled = true\nsweep_ms = 0",
                ":3: matches.sweep_ms: it must be from 1 to 60000",
            ),
            (
                "[matches]\nenabled = true\nlease_seconds = 99999",
                ":3: matches.lease_seconds: it is above lease_seconds_max",
            ),
            (
                "[matches]\nenabled = true\nmatch_port = \"\"",
                ":3: matches.match_port: it must not be empty",
            ),
            (
                "[matches]\nenabled = true\nfleet_location_settings = [0]",
                ":3: matches.fleet_location_settings: ",
            ),
            (
                "[matches]\nenabled = true\ngame_server_token_env = \"NONE\"",
                ": matches: the variable NONE is not set",
            ),
            (
                "[instances]\ncreate = true",
                ":2: instances.create: it needs `enabled = true` in [matches]",
            ),
            (
                "[voice]\ngateway_url = \"voice\"",
                ":2: voice.gateway_url: ",
            ),
            (
                "[voice]\ngateway_url = \"https://voice\"",
                ": voice: it needs access_key_env",
            ),
            (
                "[voice]\naccess_key_env = \"KEY\"",
                ": voice: it needs gateway_url",
            ),
            (
                "[voice]\ngateway_url = \"https://voice\"\naccess_key_env = \"A\"",
                ": voice: the variable A is not set",
            ),
            (
                "[voice]\ngateway_url = \"https://voice\"\naccess_key_env = \"ODIN_APP_ID\"",
                ": voice: the access key is not usable",
            ),
        ] {
            let error = load(text, &variables).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn an_open_address_needs_tokens_or_a_word() {
        let mut config = load("listen = \"0.0.0.0:1\"", &REQUIRED).unwrap();
        assert!(matches!(config.check_exposure(), Err(ConfigError::Open(_))));
        config.insecure = true;
        assert!(config.check_exposure().is_ok());
        let text = "listen = \"0.0.0.0:1\"\n[[auth.tokens]]\nname = \"a\"\nscope = \"read\"\ntoken_env = \"A\"";
        let variables = [&REQUIRED[..], &[("A", "secret")]].concat();
        assert!(load(text, &variables).unwrap().check_exposure().is_ok());
    }

    #[test]
    fn instances_are_read_and_mistakes_are_named() {
        let matches = "[matches]\nenabled = true\n[instances]\n";
        let key = "webhook_key_env = \"A\"\n";
        let variables = [&REQUIRED[..], &[("A", "secret")]].concat();
        let text = format!(
            "{matches}create = true\njoin = true\ndelete = true\ncreate_seconds = 3600\n{key}\
             webhook_urls = [\"https://hooks.example.com/fleet/\"]\n\
             [[instances.scale]]\nlocation_setting = 31\ninstances_max = 10"
        );
        let read = load(&text, &variables).unwrap().instances;
        assert!(read.create && read.join && read.delete && read.webhook_key.is_some());
        assert_eq!(read.create_time, Duration::from_secs(3_600));
        assert_eq!(read.webhook_urls[0].path(), "/fleet/");
        let scale = Scale {
            location_setting: 31,
            instances_max: 10,
        };
        assert_eq!(read.scale, [scale]);
        for (text, place) in [
            ("[instances]\ncreate = true", "instances.create: "),
            ("[instances]\njoin = true", "instances.join: "),
            (
                "[instances]\ncreate_seconds = 3601",
                "instances.create_seconds: ",
            ),
            (
                "[instances]\nwebhook_urls = [\"https://a.example\"]",
                "instances.webhook_urls: ",
            ),
            (
                "[instances]\nwebhook_key_env = \"A\"\nwebhook_urls = [\"ftp://a.example\"]",
                "instances.webhook_urls: ",
            ),
            (
                "[[instances.scale]]\nlocation_setting = 0\ninstances_max = 1",
                "instances.scale[0].location_setting: ",
            ),
        ] {
            let error = load(text, &variables).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn what_the_page_shows_is_read_and_mistakes_are_named() {
        let hash = "ab".repeat(32);
        let text = format!(
            "[page]\nenabled = false\npublic = true\ncontrols = true\nvoice_certificate_sha256 = \"{hash}\"\n\
             voice_metrics = [\"http://127.0.0.1:9000/metrics\"]"
        );
        let page = load(&text, &REQUIRED).unwrap().page;
        assert!(!page.enabled && page.public && page.controls);
        assert_eq!(page.voice_certificate_sha256.unwrap(), hash);
        assert_eq!(page.voice_metrics[0].path(), "/metrics");
        for (text, place) in [
            (
                "voice_metrics = [\"here\"]",
                ":2: page.voice_metrics: each must be like",
            ),
            (
                "voice_metrics = [\"http://user:word@127.0.0.1/\"]",
                ":2: page.voice_metrics: ",
            ),
            (
                "voice_certificate_sha256 = \"ab\"",
                ":2: page.voice_certificate_sha256: it must be 64",
            ),
        ] {
            let error = refused(&format!("[page]\n{text}"));
            assert!(error.contains(place), "{text}: {error}");
        }
        let many = "\"http://a\", ".repeat(17);
        let error = refused(&format!("[page]\nvoice_metrics = [{many}]"));
        assert!(
            error.contains("page.voice_metrics: more than 16"),
            "{error}"
        );
    }

    #[test]
    fn the_sample_is_the_default() {
        let config = load(SAMPLE, &REQUIRED).unwrap();
        assert_eq!(config.page, PageSettings::default());
        assert_eq!(config.limit, Limits::default());
        assert_eq!(config.index, IndexSettings::default());
        assert_eq!(config.keys, Keys::default());
        let (read, default) = (config.instances, InstanceSettings::default());
        assert_eq!(
            (read.create, read.join, read.delete, read.create_time),
            (
                default.create,
                default.join,
                default.delete,
                default.create_time
            )
        );
        assert!(read.webhook_urls.is_empty() && read.scale.is_empty());
        assert_eq!(config.listen, SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)));
    }
}
