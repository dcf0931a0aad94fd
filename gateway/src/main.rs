//! The `gateway` command.

use std::process::ExitCode;

use clap::Parser as _;
use gateway::{Arguments, command};
use service::EXIT_BAD_CONFIG;

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => command(arguments).await,
        Err(error) => {
            // When the terminal is gone there is nobody left to tell.
            let _ = error.print();
            let code = if error.use_stderr() {
                EXIT_BAD_CONFIG
            } else {
                0
            };
            ExitCode::from(code)
        }
    }
}
