//! The command line: which command is meant, and what becomes of its result.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{access_key, config, demo, failure::Failure, input::say, license, token, voice};

/// Game servers and voice for studios on ODIN.
#[derive(Debug, Parser)]
#[command(name = "bifrost", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole fleet on this machine and play a matchmaker's part on it
    Demo(demo::Options),
    /// Run a gateway and a voice server on this machine, for real clients to talk through
    Voice(voice::Command),
    /// Put a voice server under load and say what its listeners got
    Load(Box<voice_load::Options>),
    /// Make access keys and look at them
    #[command(subcommand)]
    AccessKey(access_key::Command),
    /// Sign, check and look at tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Print the settings with which a voice server or a gateway takes an access key's tokens
    #[command(subcommand)]
    Config(config::Command),
    /// Sign and check licences of voice servers
    #[command(subcommand)]
    License(license::Command),
}

/// Runs the command of the command line. Exit codes: 0, 1 for a token or a licence that is refused or a demo that failed, 64 for
/// wrong use, 74 when the machine does not play along.
pub async fn command() -> ExitCode {
    let arguments: Arguments = match service::arguments(env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let result = match arguments.command {
        Command::Demo(options) => return run_demo(options).await,
        Command::Voice(command) => {
            start_log();
            voice::run(command).await
        }
        Command::Load(options) => {
            start_log();
            load(*options).await
        }
        Command::AccessKey(command) => access_key::run(command),
        Command::Token(command) => token::run(command),
        Command::Config(command) => config::run(command),
        Command::License(command) => license::run(command),
    };
    let result = match result {
        Err(failure) => match failure.json() {
            Some(json) => print(&json).and(Err(failure)),
            None => Err(failure),
        },
        Ok(text) => print(&text),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.sentence());
            failure.exit_code()
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

async fn load(options: voice_load::Options) -> Result<String, Failure> {
    let loaded = Box::pin(voice_load::command(options)).await;
    loaded.map_err(|error| Failure::System(format!("{error:#}")))
}

async fn run_demo(options: demo::Options) -> ExitCode {
    start_log();
    match demo::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            demo::say_failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// What runs here speaks for itself; its log is for those who ask with `RUST_LOG`.
fn start_log() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(EnvFilter::from_default_env())
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
