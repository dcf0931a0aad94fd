//! The outside of a program: its flags, its log, its signals, its exit code.

use std::{ffi::OsString, io::IsTerminal as _, process::ExitCode};

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// `EX_USAGE` of sysexits.h: the settings or the flags are wrong.
pub const EXIT_BAD_CONFIG: u8 = 64;

/// Understands the flags, the program's name first. Help, version and mistakes are printed and end the program with the
/// code that is given: 64 for a mistake.
///
/// # Errors
/// The exit code.
pub fn arguments<A: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    A::try_parse_from(words).map_err(|error| {
        // When the terminal is gone there is nobody left to tell.
        let _ = error.print();
        match error.use_stderr() {
            true => EXIT_BAD_CONFIG.into(),
            false => ExitCode::SUCCESS,
        }
    })
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log on standard error; `RUST_LOG` says what is in it, `info` and worse if it is not set.
pub fn start_log(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Ends with SIGTERM or Ctrl-C, which from this call on no longer end the process by themselves.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn ended() -> impl Future<Output = ()> + Send + 'static {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let [terminate, interrupt] = kinds.map(|kind| signal(kind).ok());
    async move {
        tokio::select! {
            () = arrived(terminate) => {}
            () = arrived(interrupt) => {}
        }
    }
}

/// A signal that cannot be listened to ends the process as it always did.
async fn arrived(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
