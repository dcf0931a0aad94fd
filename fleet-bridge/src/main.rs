//! The `fleet-bridge` command.

use std::{env, process::ExitCode};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match service::arguments(env::args_os()) {
        Ok(arguments) => fleet_bridge::command(arguments).await,
        Err(code) => Ok(code),
    }
}
