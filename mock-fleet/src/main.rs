//! The `mock-fleet` command.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match mock_fleet::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            // When the terminal is gone there is nobody left to tell.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    mock_fleet::command(arguments).await
}
