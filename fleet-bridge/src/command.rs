//! The command line: flags, file and variables in, an exit code out.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use service::{EXIT_BAD_CONFIG, LogFormat, ended, start_log, variables};

use crate::{
    api,
    config::Config,
    server::{Server, ServerError},
};

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
    start_log(arguments.log_format);
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
    let mut config = Config::load(arguments.config.as_deref(), variables())?;
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
