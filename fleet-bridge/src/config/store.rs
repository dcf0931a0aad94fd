//! `[store]`: where claims, matches and events are kept.

use std::path::PathBuf;

use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

/// Where what must outlive a call is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In memory: one bridge alone, and its end is the end of what it knew.
    Memory,
    /// In memory and in a file: one bridge alone, which may end and start again.
    File(PathBuf),
    /// In a Redis that several bridges share.
    Redis {
        /// Its address, which may hold a password.
        url: Secret,
        /// What its keys start with. Bridges of one app have the same.
        prefix: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreSection {
    file: Option<PathBuf>,
    redis: Option<String>,
    redis_env: Option<String>,
    redis_file: Option<PathBuf>,
    prefix: Option<String>,
}

/// The section, judged. Nothing is opened yet.
pub(super) fn store(
    settings: &Settings,
    section: StoreSection,
    app_id: i64,
) -> Result<StoreConfig, SettingsError> {
    let prefix = prefix(settings, section.prefix.as_deref(), app_id)?;
    let (key, url) = match (section.redis, section.redis_env, section.redis_file) {
        (None, None, None) => {
            if section.prefix.is_some() {
                return Err(settings.error("store.prefix", "only a store in Redis has one"));
            }
            return match section.file {
                None => Ok(StoreConfig::Memory),
                Some(path) if path.as_os_str().is_empty() => {
                    Err(settings.error("store.file", "it must be the path of a file"))
                }
                Some(path) => Ok(StoreConfig::File(path)),
            };
        }
        // Inline, so that the key is known; this warns where others can read the file.
        (Some(url), None, None) => {
            let key = "store.redis";
            let url = settings.secret("", ("", None), (key, Some(url)))?;
            (key, url.expect("it was given"))
        }
        (None, Some(name), None) => {
            let key = "store.redis_env";
            let not_set = || settings.error(key, format!("the variable {name} is not set"));
            let url = settings.variable(&name).ok_or_else(not_set)?;
            (key, url.to_owned().into())
        }
        (None, None, Some(file)) => {
            let key = "store.redis_file";
            (key, settings.secret_file(key, &file)?)
        }
        (_, Some(_), _) => return Err(settings.error("store.redis_env", TWICE)),
        (Some(_), None, Some(_)) => return Err(settings.error("store.redis_file", TWICE)),
    };
    if section.file.is_some() {
        let problem = "a store in Redis is set as well: keep one";
        return Err(settings.error("store.file", problem));
    }
    let url = Secret::from(url.expose().trim().to_owned());
    if redis::Client::open(url.expose()).is_err() {
        let problem =
            "it must be an address like redis://host:6379/0 or rediss://user:password@host";
        return Err(settings.error(key, problem));
    }
    Ok(StoreConfig::Redis { url, prefix })
}

const TWICE: &str = "the address is given twice: keep one of redis, redis_env and redis_file";

fn prefix(settings: &Settings, prefix: Option<&str>, app_id: i64) -> Result<String, SettingsError> {
    let Some(prefix) = prefix else {
        return Ok(format!("bifrost:bridge:{app_id}:"));
    };
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(settings.error("store.prefix", "it must be visible ASCII characters"));
    }
    Ok(prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io::Write as _, path::Path};

    use super::*;

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct File {
        store: StoreSection,
    }

    fn read(text: &str) -> Result<StoreConfig, SettingsError> {
        let variables = HashMap::from([("URL".to_owned(), "redis://:hunter2@h/1".to_owned())]);
        let settings = Settings::of_text(Path::new("bridge.toml"), text.to_owned(), variables);
        let file: File = settings.parse()?;
        store(&settings, file.store, 7)
    }

    fn redis(url: &str, prefix: &str) -> StoreConfig {
        StoreConfig::Redis {
            url: url.to_owned().into(),
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn each_store_has_its_settings() {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        secret.write_all(b"redis://file\n").unwrap();
        let secret = format!("[store]\nredis_file = {:?}", secret.path());
        for (text, expected) in [
            ("", StoreConfig::Memory),
            ("[store]", StoreConfig::Memory),
            (
                "[store]\nfile = \"/var/lib/bridge.journal\"",
                StoreConfig::File("/var/lib/bridge.journal".into()),
            ),
            (
                "[store]\nredis = \"redis://127.0.0.1\"",
                redis("redis://127.0.0.1", "bifrost:bridge:7:"),
            ),
            (
                "[store]\nredis_env = \"URL\"\nprefix = \"mine:\"",
                redis("redis://:hunter2@h/1", "mine:"),
            ),
            (&secret, redis("redis://file", "bifrost:bridge:7:")),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named_by_line_and_shows_no_address() {
        for (text, place) in [
            (
                "[store]\nfile = \"a\"\nredis = \"redis://:hunter2@h\"",
                ":2: store.file: ",
            ),
            (
                "[store]\nredis = \"redis://:hunter2@h\"\nredis_env = \"URL\"",
                ":3: store.redis_env: ",
            ),
            (
                "[store]\nredis = \"redis://:hunter2@h\"\nredis_file = \"a\"",
                ":3: store.redis_file: ",
            ),
            ("[store]\nredis = \"http://hunter2\"", ":2: store.redis: "),
            ("[store]\nredis_env = \"NONE\"", ":2: store.redis_env: "),
            (
                "[store]\nredis_file = \"/no/such\"",
                ":2: store.redis_file: ",
            ),
            ("[store]\nfile = \"\"", ":2: store.file: "),
            ("[store]\nprefix = \"a:\"", ":2: store.prefix: "),
            (
                "[store]\nredis = \"redis://h\"\nprefix = \"a b\"",
                ":3: store.prefix: ",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_does_not_show_the_address() {
        let shown = format!("{:?}", redis("redis://:hunter2@h", "a:"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
