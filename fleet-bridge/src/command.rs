//! The command line: flags, file and variables in, an exit code out.

use std::{
    collections::HashMap, env, ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    api,
    config::Config,
    server::{Server, ServerError},
};

/// `EX_USAGE` of sysexits.h: the settings are wrong.
pub const EXIT_BAD_CONFIG: u8 = 64;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Lists, reads and updates the game servers of an ODIN Fleet app. Needs ODIN_APP_ID and ODIN_API_TOKEN.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Settings file (fleet-bridge.toml in the source shows all)
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address to listen on, instead of the file's
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Listen on other than loopback addresses without tokens
    #[arg(long)]
    insecure: bool,
    #[arg(long, default_value = "text")]
    log_format: LogFormat,
    /// Check the settings and end
    #[arg(long)]
    check_config: bool,
    /// Print the OpenAPI document and end
    #[arg(long)]
    export_openapi: bool,
}

/// Runs the bridge until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the port cannot be opened. Settings that are not usable end in exit code 64.
pub async fn command(arguments: Arguments) -> Result<ExitCode> {
    if arguments.export_openapi {
        use std::io::Write as _;
        std::io::stdout().write_all(api::openapi_json().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    match serve(arguments).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ ServerError::Bind { .. }) => Err(error.into()),
        Err(error) => {
            tracing::error!("{error}");
            Ok(ExitCode::from(EXIT_BAD_CONFIG))
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), ServerError> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables: HashMap<_, _> = env::vars_os().filter_map(text).collect();
    let mut config = Config::load(arguments.config.as_deref(), &variables)?;
    config.listen = arguments.listen.unwrap_or(config.listen);
    config.insecure = arguments.insecure;
    if arguments.check_config {
        return Server::check(&config);
    }
    let server = Server::bind(config).await?;
    tracing::info!(address = %server.local_addr(), "listening; /docs shows the interface");
    server.run(ended()).await;
    Ok(())
}

async fn ended() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
