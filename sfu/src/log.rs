//! The log, as `[log.terminal]` asks for it. `RUST_LOG` in the environment decides alone what is in it.

use std::io::IsTerminal as _;

use service::LogFormat;
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::Log;

/// The running log; what is in it can be changed.
#[derive(Debug)]
pub(crate) struct RunningLog(reload::Handle<EnvFilter, Registry>);

impl RunningLog {
    /// Starts the log on standard error.
    pub(crate) fn start(config: &Log) -> Self {
        let (filter, handle) = reload::Layer::new(filter(config));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let registry = tracing_subscriber::registry().with(filter);
        match config.format {
            Some(LogFormat::Text) => registry.with(lines).init(),
            Some(LogFormat::Json) => registry.with(lines.json()).init(),
            None => registry.init(),
        }
        Self(handle)
    }

    /// Changes what is in the log; its form stays.
    pub(crate) fn change(&self, config: &Log) {
        // The log is there for as long as the program.
        let _ = self.0.reload(filter(config));
    }
}

fn filter(config: &Log) -> EnvFilter {
    match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(_) => EnvFilter::builder()
            .with_default_directive(tracing::Level::INFO.into())
            .from_env_lossy(),
        None => EnvFilter::new(directives(config)),
    }
}

/// The libraries of the media path speak of every packet, and tell the secrets of clients in passing: they are never as
/// loud as the server.
const QUIET: &str = "is=warn,dimpl=warn,rustls=warn";

fn directives(config: &Log) -> String {
    let mut directives = match config.verbosity {
        0 => "warn".to_owned(),
        1 => format!("info,{QUIET}"),
        2 => format!("info,{QUIET},sfu=debug"),
        _ => format!("debug,{QUIET},sfu=trace"),
    };
    for target in &config.filters {
        directives.push_str(&format!(",{target}=error"));
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verbosity_is_a_filter() {
        for (verbosity, wanted) in [
            (0, "warn,webrtc=error".to_owned()),
            (1, format!("info,{QUIET},webrtc=error")),
            (2, format!("info,{QUIET},sfu=debug,webrtc=error")),
            (3, format!("debug,{QUIET},sfu=trace,webrtc=error")),
        ] {
            let config = Log {
                verbosity,
                filters: vec!["webrtc".to_owned()],
                ..Log::default()
            };
            assert_eq!(directives(&config), wanted);
            assert!(EnvFilter::try_new(directives(&config)).is_ok());
        }
    }
}
