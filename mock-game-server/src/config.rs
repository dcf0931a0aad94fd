//! Settings, from the variables that ODIN's guide to Nakama names.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use fleet_client::{DEFAULT_BASE_URL, Token};

/// Port that is announced and listened on unless `ODIN_GAME_PORT` says otherwise.
pub const DEFAULT_GAME_PORT: u16 = 7777;

/// `MOCK_SERVER_ADDR` unless it is set; a leading colon means every interface.
const DEFAULT_HTTP_ADDRESS: &str = ":8080";

/// What a matchmaker sees of a server that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitState {
    /// `idle`: the platform starts it again at once, and it may be picked meanwhile.
    Idle,
    /// `stopped`: nobody picks it.
    #[default]
    Stopped,
}

impl ExitState {
    /// The value of `instance_state`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Stopped => "stopped",
        }
    }
}

/// Everything a game server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the Fleet API, without `/v1`.
    pub api_url: String,
    /// Opens the Fleet API.
    pub token: Token,
    /// The service that this process is.
    pub service_id: i64,
    /// Where the match API listens. Port 0 takes a free one.
    pub http_listen: SocketAddr,
    /// The interface of the game port.
    pub game_interface: IpAddr,
    /// UDP port of the game, announced as `game_port`. Port 0 takes a free one.
    pub game_port: u16,
    /// Where a matchmaker reaches the match API; announced as `match_api` if set. `{port}` becomes the real port.
    pub public_url: Option<String>,
    /// A match finishes by itself after this.
    pub match_duration: Option<Duration>,
    /// What is left in the metadata on the way out.
    pub exit_state: ExitState,
}

/// A setting that is missing or malformed; the text names the variable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not set, or empty.
    #[error("missing {0}")]
    Missing(&'static str),
    /// Set to something else than it must be.
    #[error("invalid {variable}: {problem}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// What it must be.
        problem: String,
    },
}

impl Config {
    /// Settings with everything optional at its default, on loopback and free ports.
    ///
    /// # Errors
    /// [`ConfigError`] when the token cannot be sent in a header.
    pub fn local(
        api_url: impl Into<String>,
        token: &str,
        service_id: i64,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            api_url: api_url.into(),
            token: checked_token(token)?,
            service_id,
            http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            game_interface: IpAddr::from(Ipv4Addr::LOCALHOST),
            game_port: 0,
            public_url: None,
            match_duration: None,
            exit_state: ExitState::default(),
        })
    }

    /// Reads `ODIN_API_TOKEN`, `ODIN_SERVICE_ID`, `ODIN_GAME_PORT`, `MOCK_SERVER_ADDR`, `ODIN_API_URL` and
    /// `MOCK_SERVER_PUBLIC_URL` from these variables.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first variable that is missing or malformed.
    pub fn from_variables(variables: &HashMap<String, String>) -> Result<Self, ConfigError> {
        let set = |name: &str| {
            variables
                .get(name)
                .map(String::as_str)
                .filter(|it| !it.is_empty())
        };
        let token = set("ODIN_API_TOKEN").ok_or(ConfigError::Missing("ODIN_API_TOKEN"))?;
        let token = checked_token(token)?;
        let service_id = set("ODIN_SERVICE_ID").ok_or(ConfigError::Missing("ODIN_SERVICE_ID"))?;
        let service_id = service_id.parse().ok().filter(|id| *id > 0);
        let service_id = service_id.ok_or_else(|| ConfigError::Invalid {
            variable: "ODIN_SERVICE_ID",
            problem: "it must be a positive whole number".to_owned(),
        })?;
        let game_port = match set("ODIN_GAME_PORT").map(str::parse) {
            None => DEFAULT_GAME_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => {
                return Err(ConfigError::Invalid {
                    variable: "ODIN_GAME_PORT",
                    problem: "it must be a port from 1 to 65535".to_owned(),
                });
            }
        };
        let address = set("MOCK_SERVER_ADDR").unwrap_or(DEFAULT_HTTP_ADDRESS);
        Ok(Self {
            api_url: set("ODIN_API_URL").unwrap_or(DEFAULT_BASE_URL).to_owned(),
            token,
            service_id,
            http_listen: listen_address(address)?,
            game_interface: IpAddr::from(Ipv4Addr::UNSPECIFIED),
            game_port,
            public_url: set("MOCK_SERVER_PUBLIC_URL").map(str::to_owned),
            match_duration: None,
            exit_state: ExitState::default(),
        })
    }
}

fn checked_token(token: &str) -> Result<Token, ConfigError> {
    Token::new(token).map_err(|_| ConfigError::Invalid {
        variable: "ODIN_API_TOKEN",
        problem: "it must be one line of visible ASCII characters".to_owned(),
    })
}

/// An address the way Go programs take it: `host:port` with an IP address or nothing as the host.
fn listen_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let with_host = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.replace("localhost:", "127.0.0.1:"),
    };
    with_host.parse().map_err(|_| ConfigError::Invalid {
        variable: "MOCK_SERVER_ADDR",
        problem: format!("{text:?} is not an IP address and port, such as 127.0.0.1:8080 or :8080"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let required = [("ODIN_API_TOKEN", "t"), ("ODIN_SERVICE_ID", "1234")];
        let all = required.iter().chain(pairs);
        let variables = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_variables(&variables.collect())
    }

    #[test]
    fn the_guides_defaults_hold() {
        let config = read(&[]).unwrap();
        assert_eq!(config.game_port, 7777);
        assert_eq!(config.http_listen.to_string(), "0.0.0.0:8080");
        assert_eq!(config.api_url, "https://fleet.4players.io/api");
    }

    #[test]
    fn every_mistake_names_its_variable() {
        for (name, value, text) in [
            ("ODIN_API_TOKEN", "", "missing ODIN_API_TOKEN"),
            ("ODIN_API_TOKEN", "a b", "invalid ODIN_API_TOKEN"),
            ("ODIN_SERVICE_ID", "", "missing ODIN_SERVICE_ID"),
            ("ODIN_SERVICE_ID", "abc", "invalid ODIN_SERVICE_ID"),
            ("ODIN_SERVICE_ID", "-1", "invalid ODIN_SERVICE_ID"),
            ("ODIN_GAME_PORT", "70000", "invalid ODIN_GAME_PORT"),
            ("ODIN_GAME_PORT", "0", "invalid ODIN_GAME_PORT"),
            ("MOCK_SERVER_ADDR", "8080", "invalid MOCK_SERVER_ADDR"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(text), "{name}={value}: {error}");
        }
    }

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        for (text, address) in [
            (":9090", "0.0.0.0:9090"),
            ("localhost:9090", "127.0.0.1:9090"),
            ("[::1]:9090", "[::1]:9090"),
        ] {
            let config = read(&[("MOCK_SERVER_ADDR", text)]).unwrap();
            assert_eq!(config.http_listen.to_string(), address);
        }
    }
}
