//! The voice server.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match service::arguments(std::env::args_os()) {
        Ok(arguments) => sfu::command(arguments).await,
        Err(code) => code,
    }
}
