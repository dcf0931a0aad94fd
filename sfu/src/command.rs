//! The command line: flags and files in, an exit code out.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use gateway_api::AccessKey;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use service::{EXIT_BAD_CONFIG, LogFormat, SettingsError, ended, variables};

use crate::{
    certificate::SelfSigned,
    config::{Config, Log},
    license::{License, license_authority},
    log::RunningLog,
    server::{Ended, Reload, Server, ServerError, settle},
};

/// The variable with the key of whoever gives licences.
const LICENSE_KEY: &str = "BIFROST_LICENSE_PUBLIC_KEY";

/// Forwards the voice of ODIN clients: rooms, proximity, moderation, metrics.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Settings file (config.example.toml in the source shows all)
    #[arg(long, default_value = "config.toml")]
    config: PathBuf,
    /// Licence file; without one nothing is limited
    #[arg(long, default_value = "license.toml")]
    license: PathBuf,
    /// Check the settings and end
    #[arg(long)]
    check_config: bool,
    /// Serve on this machine only, with a self-signed certificate and a new access key that is printed; no files needed
    #[arg(long, conflicts_with_all = ["config", "check_config"])]
    dev: bool,
    /// Seconds for which those who are in may stay after SIGTERM
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    drain: u64,
    /// How log lines look, instead of the file's
    #[arg(long)]
    log_format: Option<LogFormat>,
}

/// Runs the server until SIGTERM or Ctrl-C. Settings that are not usable end in exit code 64, and everything else that
/// ends it unasked in 1.
pub async fn command(arguments: Arguments) -> ExitCode {
    match serve(arguments).await {
        Ok(Ended::Asked) => ExitCode::SUCCESS,
        Ok(ended) => {
            tracing::error!("{}", reason(&ended));
            ExitCode::FAILURE
        }
        Err(error) => {
            let code = match &error {
                ServerError::Settings(_) | ServerError::Candidates(_) => {
                    ExitCode::from(EXIT_BAD_CONFIG)
                }
                _ => ExitCode::FAILURE,
            };
            tracing::error!("{:#}", anyhow::Error::from(error));
            code
        }
    }
}

fn reason(ended: &Ended) -> String {
    match ended {
        Ended::Asked => "ended as asked".to_owned(),
        Ended::GatewayLost { silent } => format!(
            "ended: the gateway has been silent for {} s",
            silent.as_secs()
        ),
        Ended::TelemetryFailing { failures } => {
            format!("ended: telemetry failed {failures} times in a row")
        }
        Ended::LicenseEnded => "ended: the licence has ended".to_owned(),
        Ended::ShardEnded => "ended: a thread that forwards voice has ended".to_owned(),
    }
}

async fn serve(arguments: Arguments) -> Result<Ended, ServerError> {
    let log = |config: &Config| {
        let log = Log {
            format: arguments.log_format.or(config.log.format),
            ..config.log.clone()
        };
        RunningLog::start(&log)
    };
    let dev = match arguments.dev {
        true => Some(Dev::new()?),
        false => None,
    };
    let path = match &dev {
        Some(_) => Path::new("--dev"),
        None => &arguments.config,
    };
    let read = || match &dev {
        Some(dev) => Ok(dev.text.clone()),
        None => std::fs::read_to_string(path).map_err(|cause| SettingsError::File {
            path: path.display().to_string(),
            cause,
        }),
    };
    let own = read().and_then(|text| Ok((Config::parse(path, &text, variables())?, text)));
    let (own, text) = match own {
        Ok(own) => own,
        Err(error) => {
            log(&Config::new());
            return Err(error.into());
        }
    };
    let log = log(&own);
    for warning in own.warnings() {
        tracing::warn!("{warning}");
    }
    let license = license(&arguments.license)?;
    if arguments.check_config {
        Server::check(&own, license.as_ref())?;
        return Ok(Ended::Asked);
    }
    let stop = ended();
    tokio::pin!(stop);
    let config = tokio::select! {
        config = settle(path, &text, variables()) => config?,
        () = &mut stop => return Ok(Ended::Asked),
    };
    raise_file_limit();
    let server = Server::bind(config, license).await?;
    let [http, webrtc, metrics] = [
        server.http_addr(),
        server.webrtc_addr(),
        server.metrics_addr(),
    ]
    .map(|address| address.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    tracing::info!(http, webrtc, metrics, "listening");
    if let Some(dev) = &dev {
        dev.introduce();
    }
    let reload = dev.is_none().then(|| Reload {
        config: arguments.config.clone(),
        log,
    });
    let drain = Duration::from_secs(arguments.drain);
    Ok(server.run_with(ended(), asked_twice(), drain, reload).await)
}

/// Ends with the second signal.
fn asked_twice() -> impl Future<Output = ()> + Send + 'static {
    let first = ended();
    async move {
        first.await;
        ended().await;
    }
}

/// The licence, if there is one.
fn license(path: &Path) -> Result<Option<License>, SettingsError> {
    if !path.exists() {
        return Ok(None);
    }
    let variables = variables();
    let key = variables.get(LICENSE_KEY).ok_or_else(|| {
        let path = path.display();
        SettingsError::variable(
            LICENSE_KEY,
            format!("is not set, and {path} cannot be checked without it"),
        )
    })?;
    let authority = license_authority(key)
        .map_err(|error| SettingsError::variable(LICENSE_KEY, error.to_string()))?;
    License::read(path, &authority).map(Some)
}

/// Every stream is a file to the system, and the usual limit is 1,024.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

/// A server for this machine only.
struct Dev {
    _certificate: SelfSigned,
    access_key: AccessKey,
    text: String,
}

impl Dev {
    fn new() -> Result<Self, ServerError> {
        let system = |error: &dyn std::fmt::Display| ServerError::System(error.to_string());
        let loopback = [
            std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::Ipv6Addr::LOCALHOST.into(),
        ];
        let certificate = SelfSigned::new(&loopback).map_err(|error| system(&error))?;
        let mut random = [0; gateway_api::RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| system(&error))?;
        let access_key = AccessKey::from_random(&random);
        let jwk = access_key.key_pair().public_jwk();
        let tls = certificate.files();
        let text = format!(
            "public_address = \"127.0.0.1:4433\"\n[[authorization.keys]]\nkid = \"{}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\nx = {:?}\n\
             [http]\nbinding = \"127.0.0.1:4433\"\ncertificate_file = {:?}\nprivatekey_file = {:?}\nwebrtc_binding = \"127.0.0.1:8844\"\n\
             [metrics]\nbinding = \"127.0.0.1:9000\"\n",
            jwk.kid, jwk.x, tls.certificate_file, tls.privatekey_file,
        );
        Ok(Self {
            _certificate: certificate,
            access_key,
            text,
        })
    }

    #[expect(
        clippy::print_stdout,
        reason = "the key is for whoever started the server, not for the log"
    )]
    fn introduce(&self) {
        println!("access key: {}", self.access_key.expose());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_for_this_machine_takes_tokens_of_the_key_it_prints() {
        let dev = Dev::new().unwrap();
        let config = Config::parse(Path::new("--dev"), &dev.text, [].into()).unwrap();
        Server::check(&config, None).unwrap();
        let printed: AccessKey = dev.access_key.expose().parse().unwrap();
        assert_eq!(config.authorization.keys, [printed.key_pair().public_jwk()]);
        let http = config.http.unwrap();
        assert!(http.binding.ip().is_loopback() && http.webrtc_binding.ip().is_loopback());
        let another = Dev::new().unwrap();
        assert_ne!(another.access_key.expose(), dev.access_key.expose());
    }
}
