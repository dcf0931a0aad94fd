//! The `gateway` command.

use std::{env, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    match service::arguments(env::args_os()) {
        Ok(arguments) => gateway::command(arguments).await,
        Err(code) => code,
    }
}
