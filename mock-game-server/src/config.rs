//! What the game server is told: by variables of the environment, as inside a container, or by a program.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use fleet_client::{DEFAULT_BASE_URL, Token};
use service::Secret;

/// Where players are sent unless `ODIN_GAME_PORT` says otherwise.
pub const DEFAULT_GAME_PORT: u16 = 7777;

/// Where HTTP is served unless `MOCK_SERVER_ADDR` says otherwise. Only on this machine: whoever reaches it can start
/// and finish matches without a password, so the rest of the network is let in by saying `:8080`.
pub const DEFAULT_HTTP_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Longest time that a match can be given: a week. Nothing breaks beyond it; a typing error is more likely.
pub const MATCH_DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Longest time between two heartbeats: an hour. Nobody would wait longer to see that a server is gone.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60 * 60);

/// Longest public address in bytes: it stands in the metadata, which every List repeats.
const PUBLIC_URL_BYTES_MAX: usize = 256;

/// What a matchmaker sees of a server that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ExitState {
    /// Whoever asks for idle servers is not sent to a process that is gone. The next start sets idle.
    #[default]
    Stopped,
    /// For a platform that starts the process again at once, or a matchmaker that knows no third state.
    Idle,
}

impl ExitState {
    /// The value of `instance_state`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Idle => "idle",
        }
    }
}

/// Which port is announced as `match_port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchPort {
    /// The port that the match API listens on.
    Own,
    /// The port that it is published under.
    Published(NonZeroU16),
}

/// Everything a game server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the Fleet API, without `/v1`.
    pub api_url: String,
    /// Opens the Fleet API; must be allowed to write the metadata of [`Self::service_id`].
    pub token: Token,
    /// The service that this process is.
    pub service_id: i64,
    /// Where the match API listens. Port 0 takes a free one.
    pub http_listen: SocketAddr,
    /// The interface of the game port.
    pub game_interface: IpAddr,
    /// UDP port of the game. Port 0 takes a free one.
    pub game_port: u16,
    /// Announced as `game_port` in place of the port that is listened on, for a container whose port is published
    /// under another number. The bridge prefers a published port named `game_port` to either.
    pub announced_port: Option<u16>,
    /// Where a matchmaker reaches the match API; announced as `match_api` if set. `{port}` becomes the real port.
    pub public_url: Option<String>,
    /// Announced as `match_port` if set, for a matchmaker that knows the address of the node already.
    pub match_port: Option<MatchPort>,
    /// Callers of the match API must present this as a bearer token, if set.
    pub match_token: Option<Secret>,
    /// `heartbeat_at` is written this often, if set.
    pub heartbeat: Option<Duration>,
    /// What happens to matches is appended to this file, if set: one line of JSON each.
    pub journal: Option<PathBuf>,
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
        /// What is wrong; never the value of a secret.
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
        let token = Token::new(token).map_err(|error| invalid("ODIN_API_TOKEN", error))?;
        Ok(Self::on_loopback(api_url.into(), token, service_id))
    }

    fn on_loopback(api_url: String, token: Token, service_id: i64) -> Self {
        Self {
            api_url,
            token,
            service_id,
            http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            game_interface: IpAddr::from(Ipv4Addr::LOCALHOST),
            game_port: 0,
            announced_port: None,
            public_url: None,
            match_port: None,
            match_token: None,
            heartbeat: None,
            journal: None,
            match_duration: None,
            exit_state: ExitState::default(),
        }
    }

    /// Reads `ODIN_API_TOKEN` (or `ODIN_API_TOKEN_FILE`), `ODIN_SERVICE_ID`, `ODIN_GAME_PORT`, `ODIN_API_URL`,
    /// `MOCK_SERVER_ADDR`, `MOCK_SERVER_GAME_ADDR`, `MOCK_SERVER_PUBLIC_URL`, `MOCK_SERVER_MATCH_PORT`,
    /// `MOCK_SERVER_TOKEN` (or `MOCK_SERVER_TOKEN_FILE`), `MOCK_SERVER_HEARTBEAT_SECONDS` and `MOCK_SERVER_JOURNAL`
    /// from these variables. An empty one counts as not set.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first variable that is missing or malformed.
    pub fn from_variables(variables: &HashMap<String, String>) -> Result<Self, ConfigError> {
        let set = |name: &str| {
            let value = variables.get(name).map(String::as_str);
            value.filter(|it| !it.is_empty())
        };
        let token = token(set("ODIN_API_TOKEN"), set("ODIN_API_TOKEN_FILE"))?;
        let service_id = set("ODIN_SERVICE_ID").ok_or(ConfigError::Missing("ODIN_SERVICE_ID"))?;
        let service_id = service_id.parse().ok().filter(|id| *id > 0);
        let service_id = service_id
            .ok_or_else(|| invalid("ODIN_SERVICE_ID", "it must be a positive whole number"))?;
        let announced_port = match set("ODIN_GAME_PORT") {
            None => DEFAULT_GAME_PORT,
            Some(text) => {
                parsed::<NonZeroU16>("ODIN_GAME_PORT", text, "a port from 1 to 65535")?.get()
            }
        };
        let http_listen = match set("MOCK_SERVER_ADDR") {
            None => DEFAULT_HTTP_ADDR,
            Some(text) => listen_address("MOCK_SERVER_ADDR", text)?,
        };
        let game_listen = match set("MOCK_SERVER_GAME_ADDR") {
            None => SocketAddr::new(http_listen.ip(), announced_port),
            Some(text) => listen_address("MOCK_SERVER_GAME_ADDR", text)?,
        };
        let api_url = set("ODIN_API_URL").unwrap_or(DEFAULT_BASE_URL);
        let heartbeat = set("MOCK_SERVER_HEARTBEAT_SECONDS")
            .map(heartbeat)
            .transpose()?;
        Ok(Self {
            http_listen,
            game_interface: game_listen.ip(),
            game_port: game_listen.port(),
            announced_port: Some(announced_port),
            public_url: set("MOCK_SERVER_PUBLIC_URL").map(public_url).transpose()?,
            match_port: set("MOCK_SERVER_MATCH_PORT").map(match_port).transpose()?,
            match_token: match_token(set("MOCK_SERVER_TOKEN"), set("MOCK_SERVER_TOKEN_FILE"))?,
            heartbeat: heartbeat.flatten(),
            journal: set("MOCK_SERVER_JOURNAL").map(PathBuf::from),
            ..Self::on_loopback(api_url.to_owned(), token, service_id)
        })
    }
}

fn token(value: Option<&str>, file: Option<&str>) -> Result<Token, ConfigError> {
    let (variable, token) = match (value, file) {
        (Some(value), None) => ("ODIN_API_TOKEN", Token::new(value)),
        (None, Some(path)) => ("ODIN_API_TOKEN_FILE", Token::from_file(Path::new(path))),
        (None, None) => return Err(ConfigError::Missing("ODIN_API_TOKEN")),
        (Some(_), Some(_)) => {
            return Err(invalid(
                "ODIN_API_TOKEN_FILE",
                "ODIN_API_TOKEN is set too; one of them has to go",
            ));
        }
    };
    token.map_err(|error| invalid(variable, error))
}

fn match_token(value: Option<&str>, file: Option<&str>) -> Result<Option<Secret>, ConfigError> {
    let (variable, token) = match (value, file) {
        (Some(value), None) => ("MOCK_SERVER_TOKEN", value.to_owned()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| invalid("MOCK_SERVER_TOKEN_FILE", format!("{path}: {error}")))?;
            ("MOCK_SERVER_TOKEN_FILE", text.trim().to_owned())
        }
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(invalid(
                "MOCK_SERVER_TOKEN_FILE",
                "MOCK_SERVER_TOKEN is set too; one of them has to go",
            ));
        }
    };
    if token.is_empty() || !token.bytes().all(|it| it.is_ascii_graphic()) {
        return Err(invalid(variable, "it must be visible ASCII characters"));
    }
    Ok(Some(token.into()))
}

fn match_port(text: &str) -> Result<MatchPort, ConfigError> {
    if text == "own" {
        return Ok(MatchPort::Own);
    }
    let expected = "a port from 1 to 65535, or own";
    parsed("MOCK_SERVER_MATCH_PORT", text, expected).map(MatchPort::Published)
}

/// `None` for 0, which means off.
fn heartbeat(text: &str) -> Result<Option<Duration>, ConfigError> {
    let variable = "MOCK_SERVER_HEARTBEAT_SECONDS";
    let expected = "a whole number of seconds, at most an hour";
    let time = Duration::from_secs(parsed(variable, text, expected)?);
    if time > HEARTBEAT_MAX {
        let problem = format_args!("{text:?} is not {expected}");
        return Err(invalid(variable, problem));
    }
    Ok(Some(time).filter(|it| !it.is_zero()))
}

fn parsed<T: FromStr>(
    variable: &'static str,
    text: &str,
    expected: &str,
) -> Result<T, ConfigError> {
    text.parse()
        .map_err(|_| invalid(variable, format_args!("{text:?} is not {expected}")))
}

pub(crate) fn invalid(variable: &'static str, problem: impl fmt::Display) -> ConfigError {
    let problem = problem.to_string();
    ConfigError::Invalid { variable, problem }
}

/// An address the way Go programs take it: `host:port`, with an IP address, `localhost` or nothing (which means
/// every interface) as the host.
fn listen_address(variable: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let numeric = match text.split_once(':') {
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    parsed(
        variable,
        &numeric,
        "an IP address and port, such as 127.0.0.1:8080 or :8080",
    )
}

fn public_url(text: &str) -> Result<String, ConfigError> {
    let is_http = text.starts_with("http://") || text.starts_with("https://");
    let is_visible = text.bytes().all(|it| it.is_ascii_graphic());
    if !is_http || !is_visible || text.len() > PUBLIC_URL_BYTES_MAX {
        let problem = format!(
            "it must start with http:// or https:// and have at most {PUBLIC_URL_BYTES_MAX} visible characters"
        );
        return Err(invalid("MOCK_SERVER_PUBLIC_URL", problem));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let variables = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_variables(&variables.collect()).map_err(|error| error.to_string())
    }

    const REQUIRED: [(&str, &str); 2] = [("ODIN_API_TOKEN", "s3cret"), ("ODIN_SERVICE_ID", "1234")];

    fn with(name: &str, value: &str) -> Result<Config, String> {
        let others = REQUIRED.into_iter().filter(|(known, _)| *known != name);
        read(&others.chain([(name, value)]).collect::<Vec<_>>())
    }

    #[test]
    fn the_two_required_variables_are_enough() {
        let config = read(&REQUIRED).unwrap();
        assert_eq!(config.service_id, 1234);
        assert_eq!(config.api_url, "https://fleet.4players.io/api");
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.game_interface.to_string(), "127.0.0.1");
        assert_eq!(
            (config.announced_port, config.game_port),
            (Some(7777), 7777)
        );
    }

    #[test]
    fn the_short_form_means_every_interface_for_players_too() {
        let config = with("MOCK_SERVER_ADDR", ":9000").unwrap();
        assert_eq!(config.http_listen.to_string(), "0.0.0.0:9000");
        assert_eq!(config.game_interface.to_string(), "0.0.0.0");
        let config = with("MOCK_SERVER_ADDR", "localhost:9000").unwrap();
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:9000");
        let config = with("MOCK_SERVER_ADDR", "[::1]:9000").unwrap();
        assert_eq!(config.http_listen.to_string(), "[::1]:9000");
    }

    #[test]
    fn the_announced_port_may_differ_from_the_one_listened_on() {
        let config = with("ODIN_GAME_PORT", "20001").unwrap();
        assert_eq!(
            (config.announced_port, config.game_port),
            (Some(20001), 20001)
        );
        let config = with("MOCK_SERVER_GAME_ADDR", ":7000").unwrap();
        assert_eq!(
            (config.announced_port, config.game_port),
            (Some(7777), 7000)
        );
        assert_eq!(config.game_interface.to_string(), "0.0.0.0");
    }

    #[test]
    fn every_mistake_names_its_variable() {
        for (name, value, text) in [
            ("ODIN_API_TOKEN", "", "missing ODIN_API_TOKEN"),
            ("ODIN_API_TOKEN", "a b", "invalid ODIN_API_TOKEN: "),
            (
                "ODIN_API_TOKEN_FILE",
                "/no/such/file",
                "invalid ODIN_API_TOKEN_FILE: ",
            ),
            ("ODIN_SERVICE_ID", "", "missing ODIN_SERVICE_ID"),
            ("ODIN_SERVICE_ID", "abc", "invalid ODIN_SERVICE_ID: "),
            ("ODIN_SERVICE_ID", "0", "invalid ODIN_SERVICE_ID: "),
            ("ODIN_SERVICE_ID", "-1", "invalid ODIN_SERVICE_ID: "),
            ("ODIN_GAME_PORT", "70000", "invalid ODIN_GAME_PORT: "),
            ("ODIN_GAME_PORT", "0", "invalid ODIN_GAME_PORT: "),
            ("MOCK_SERVER_ADDR", "8080", "invalid MOCK_SERVER_ADDR: "),
            (
                "MOCK_SERVER_ADDR",
                "example.com:80",
                "invalid MOCK_SERVER_ADDR: ",
            ),
            (
                "MOCK_SERVER_GAME_ADDR",
                ":x",
                "invalid MOCK_SERVER_GAME_ADDR: ",
            ),
            (
                "MOCK_SERVER_PUBLIC_URL",
                "ftp://x",
                "invalid MOCK_SERVER_PUBLIC_URL: ",
            ),
            (
                "MOCK_SERVER_MATCH_PORT",
                "0",
                "invalid MOCK_SERVER_MATCH_PORT: ",
            ),
            (
                "MOCK_SERVER_HEARTBEAT_SECONDS",
                "3601",
                "invalid MOCK_SERVER_HEARTBEAT_SECONDS: ",
            ),
            (
                "MOCK_SERVER_HEARTBEAT_SECONDS",
                "-1",
                "invalid MOCK_SERVER_HEARTBEAT_SECONDS: ",
            ),
            ("MOCK_SERVER_TOKEN", "a b", "invalid MOCK_SERVER_TOKEN: "),
            (
                "MOCK_SERVER_TOKEN_FILE",
                "/no/such/file",
                "invalid MOCK_SERVER_TOKEN_FILE: ",
            ),
        ] {
            let error = with(name, value).unwrap_err();
            assert!(error.starts_with(text), "{name}={value}: {error}");
        }
    }

    #[test]
    fn what_matches_need_is_off_unless_set() {
        let config = read(&REQUIRED).unwrap();
        assert_eq!((config.match_port, config.heartbeat), (None, None));
        assert!(config.match_token.is_none() && config.journal.is_none());
        let config = with("MOCK_SERVER_MATCH_PORT", "own").unwrap();
        assert_eq!(config.match_port, Some(MatchPort::Own));
        let config = with("MOCK_SERVER_MATCH_PORT", "20001").unwrap();
        let published = NonZeroU16::new(20001).map(MatchPort::Published);
        assert_eq!(config.match_port, published);
        let config = with("MOCK_SERVER_HEARTBEAT_SECONDS", "0").unwrap();
        assert_eq!(config.heartbeat, None);
        let config = with("MOCK_SERVER_HEARTBEAT_SECONDS", "15").unwrap();
        assert_eq!(config.heartbeat, Some(Duration::from_secs(15)));
        let config = with("MOCK_SERVER_JOURNAL", "/tmp/j").unwrap();
        assert_eq!(config.journal, Some(PathBuf::from("/tmp/j")));
    }

    #[test]
    fn no_text_ever_shows_the_token() {
        assert!(!format!("{:?}", read(&REQUIRED).unwrap()).contains("s3cret"));
        let config = with("MOCK_SERVER_TOKEN", "s3cret").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        for variable in ["ODIN_API_TOKEN", "MOCK_SERVER_TOKEN"] {
            let error = with(variable, "s3cret\nx").unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
