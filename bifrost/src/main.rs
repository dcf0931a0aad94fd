//! The `bifrost` command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    bifrost::command().await
}
