//! The load generator as a program of its own, for benchmarks; people use `bifrost load`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use tracing_subscriber::EnvFilter;
use voice_load::Options;

#[derive(Debug, Parser)]
#[command(name = "voice-load", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Arguments = match service::arguments(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let filter = EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    let loaded = voice_load::command(arguments.options).await;
    match loaded.and_then(|text| Ok(io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
