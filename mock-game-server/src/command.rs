//! The command line: flags and variables in, an exit code out.

use std::{collections::HashMap, env, ffi::OsString, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Config, ConfigError, ExitState},
    server::Server,
};

/// `EX_USAGE` of sysexits.h: the settings are wrong.
const EXIT_BAD_CONFIG: u8 = 64;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnExit {
    Idle,
    Stopped,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// A stand-in game server for ODIN Fleet. Needs ODIN_API_TOKEN and ODIN_SERVICE_ID; takes ODIN_GAME_PORT (7777),
/// MOCK_SERVER_ADDR (:8080), ODIN_API_URL and MOCK_SERVER_PUBLIC_URL.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Seconds after which a match finishes by itself
    #[arg(long)]
    match_duration: Option<u64>,
    /// The instance_state that is left behind
    #[arg(long, default_value = "stopped")]
    on_exit: OnExit,
    #[arg(long, default_value = "text")]
    log_format: LogFormat,
    /// Check the settings and end
    #[arg(long)]
    check_config: bool,
}

/// Runs the game server until SIGTERM or Ctrl-C.
///
/// # Errors
/// When it cannot start or cannot say good-bye to the Fleet.
pub async fn command(arguments: Arguments) -> Result<ExitCode> {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let config = match Config::from_variables(&variables()) {
        Ok(config) => with_flags(config, &arguments),
        Err(error) => return Ok(bad_config(&error)),
    };
    if !arguments.check_config {
        let mut terminate = signal(SignalKind::terminate())?;
        let server = Server::bind(config).await?;
        tracing::info!(http = %server.http_addr(), game = %server.game_addr(), "listening");
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        server
            .run(shutdown)
            .await
            .context("the last update failed")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The environment, without what is not text.
fn variables() -> HashMap<String, String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    env::vars_os().filter_map(text).collect()
}

fn with_flags(mut config: Config, arguments: &Arguments) -> Config {
    config.match_duration = arguments.match_duration.map(Duration::from_secs);
    config.exit_state = match arguments.on_exit {
        OnExit::Idle => ExitState::Idle,
        OnExit::Stopped => ExitState::Stopped,
    };
    config
}

fn bad_config(error: &ConfigError) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(EXIT_BAD_CONFIG)
}
