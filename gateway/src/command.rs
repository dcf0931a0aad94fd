//! The command line: flags and file in, an exit code out.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use service::{EXIT_BAD_CONFIG, LogFormat, SettingsError, ended, start_log, variables};

use crate::{
    config::{Config, Tls},
    server::{Server, ServerError},
};

/// Lets ODIN clients into voice rooms: checks tokens, keeps rooms on servers, carries moderation.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Settings file (gateway.toml in the source shows all)
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address to listen on, instead of the file's
    #[arg(long)]
    host: Option<IpAddr>,
    /// Port to listen on, instead of the file's
    #[arg(long)]
    port: Option<u16>,
    /// Serve HTTPS, with the files of --certificate and --privatekey or of [tls]
    #[arg(long)]
    ssl: bool,
    /// Certificate chain, PEM
    #[arg(long, requires_all = ["privatekey", "ssl"])]
    certificate: Option<PathBuf>,
    /// Private key, PEM
    #[arg(long, requires_all = ["certificate", "ssl"])]
    privatekey: Option<PathBuf>,
    #[arg(long, default_value = "text")]
    log_format: LogFormat,
    /// Check the settings and end
    #[arg(long)]
    check_config: bool,
}

/// Runs the gateway until SIGTERM or Ctrl-C. Settings that are not usable end in exit code 64, and a port that cannot be
/// opened in 1.
pub async fn command(arguments: Arguments) -> ExitCode {
    start_log(arguments.log_format);
    let Err(error) = serve(arguments).await else {
        return ExitCode::SUCCESS;
    };
    let code = match &error {
        ServerError::Settings(_) => ExitCode::from(EXIT_BAD_CONFIG),
        _ => ExitCode::FAILURE,
    };
    tracing::error!("{:#}", anyhow::Error::from(error));
    code
}

async fn serve(arguments: Arguments) -> Result<(), ServerError> {
    let mut config = Config::load(arguments.config.as_deref(), variables())?;
    config
        .listen
        .set_ip(arguments.host.unwrap_or_else(|| config.listen.ip()));
    config
        .listen
        .set_port(arguments.port.unwrap_or_else(|| config.listen.port()));
    if let (Some(certificate), Some(private_key)) = (arguments.certificate, arguments.privatekey) {
        config.tls = Some(Tls {
            certificate,
            private_key,
        });
    }
    if arguments.ssl && config.tls.is_none() {
        let text = "--ssl needs --certificate and --privatekey, or [tls] in the settings";
        return Err(SettingsError::Whole(text.to_owned()).into());
    }
    if arguments.check_config {
        return Server::check(&config).await;
    }
    let server = Server::bind(config).await?;
    tracing::info!(
        url = server.base_url(),
        internal = server.internal_url(),
        "listening"
    );
    server.run(ended()).await;
    Ok(())
}
