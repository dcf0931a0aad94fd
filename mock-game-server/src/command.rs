//! The command line: flags and variables in, an exit code out.

use std::{collections::HashMap, ffi::OsString, pin::pin, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use service::{EXIT_BAD_CONFIG, LogFormat, ended, start_log, variables};

use crate::{
    config::{self, Config, ConfigError, ExitState, MATCH_DURATION_MAX},
    fleet::Instance,
    server::Server,
};

/// What a person reads after the options.
const ENVIRONMENT_HELP: &str = "\
Environment:
  ODIN_API_TOKEN          token of the Fleet API (required; or a file: ODIN_API_TOKEN_FILE)
  ODIN_SERVICE_ID         which instance this server is (required)
  ODIN_GAME_PORT          port that players are sent to [default: 7777]
  ODIN_API_URL            base of the Fleet API [default: https://fleet.4players.io/api]
  MOCK_SERVER_ADDR        where HTTP is served; :8080 means every address of this machine, and everybody who
                          reaches it may start and finish matches [default: 127.0.0.1:8080]
  MOCK_SERVER_GAME_ADDR   where the game's UDP socket listens, if not on that interface and ODIN_GAME_PORT
  MOCK_SERVER_PUBLIC_URL  announced as match_api, for a matchmaker to find the HTTP side; {port} becomes its port
  MOCK_SERVER_MATCH_PORT  announced as match_port: the number that the HTTP port is published under, or own for the
                          port that is listened on
  MOCK_SERVER_TOKEN       what callers of the match API must present as a bearer token (or MOCK_SERVER_TOKEN_FILE)
  MOCK_SERVER_HEARTBEAT_SECONDS  how often heartbeat_at is written [default: 0, never]
  MOCK_SERVER_JOURNAL     a file to which what happens to matches is appended, one line of JSON each
  RUST_LOG                which log lines are shown [default: info]";

/// A stand-in game server that marks itself idle or occupied in its instance metadata.
#[derive(Clone, Debug, Parser)]
#[command(name = "mock-game-server", version, after_help = ENVIRONMENT_HELP)]
struct Arguments {
    /// Finish each match by itself after this time, for example 90s, 10m or 1h
    #[arg(long, value_parser = duration)]
    match_duration: Option<Duration>,
    /// The instance_state to leave behind at the end
    #[arg(long, value_enum, default_value_t)]
    on_exit: ExitState,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Read the configuration, say what is wrong with it, and end
    #[arg(long)]
    check_config: bool,
}

/// Runs the game server until SIGTERM or Ctrl-C. The exit code is 64 when the command line or the settings are wrong,
/// and 1 when the server could not start or could not say good-bye to the Fleet.
pub async fn command(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Arguments = match service::arguments(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    start_log(arguments.log_format);
    let (code, error) = match arguments.config(&variables()) {
        Ok(_) if arguments.check_config => return ExitCode::SUCCESS,
        Ok(config) => match serve(config).await {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (1, error),
        },
        Err(error) => (EXIT_BAD_CONFIG, error.into()),
    };
    tracing::error!("{error:#}");
    ExitCode::from(code)
}

async fn serve(config: Config) -> Result<()> {
    let mut end = pin!(ended());
    // While the Fleet is away the announcement takes its time; whoever ends the program need not wait for it.
    let server = tokio::select! {
        () = &mut end => return Ok(()),
        server = Server::bind(config) => server?,
    };
    server.run(end).await.context("the last update failed")
}

impl Arguments {
    fn config(&self, variables: &HashMap<String, String>) -> Result<Config, ConfigError> {
        let mut config = Config::from_variables(variables)?;
        config.match_duration = self.match_duration;
        config.exit_state = self.on_exit;
        // Whatever a server would refuse at its start is refused here already.
        Instance::new(&config).map_err(|error| config::invalid("ODIN_API_URL", error))?;
        Ok(config)
    }
}

/// A whole number with a unit (ms, s, m, h); without one, seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("the unit must be one of ms, s, m, h".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "it must start with a whole number".to_owned())?;
    let duration = Duration::from_millis(number.saturating_mul(unit_ms));
    if duration.is_zero() || duration > MATCH_DURATION_MAX {
        return Err("it must be longer than nothing and at most a week".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_duration_has_a_unit_and_a_bound() {
        for (text, ms) in [
            ("90", 90_000),
            ("250ms", 250),
            ("90s", 90_000),
            ("10m", 600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(duration("168h"), Ok(MATCH_DURATION_MAX));
        for text in [
            "",
            "0",
            "s",
            "-1s",
            "1.5s",
            "10 m",
            "169h",
            "18446744073709551615h",
            "1d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unusable_api_url_is_named() {
        let variables = [
            ("ODIN_API_URL", "fleet.4players.io"),
            ("ODIN_API_TOKEN", "s3cret"),
            ("ODIN_SERVICE_ID", "1"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = Arguments::parse_from(["mock-game-server"]);
        let error = options.config(&variables.into()).unwrap_err().to_string();
        assert!(error.starts_with("invalid ODIN_API_URL: "), "{error}");
    }
}
