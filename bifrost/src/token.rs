//! `bifrost token`: signs tokens, checks them, and takes them apart.

mod decode;
mod keys;
mod parts;
mod sign;
mod verify;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::{failure::Failure, input::Input};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign a token with an access key
    Sign(sign::Options),
    /// Check a token against a key: exit code 0 when it is accepted, 1 when it is refused
    Verify(verify::Options),
    /// Show what a token says, without checking it
    Decode(decode::Options),
}

/// Gives what to print.
pub(crate) fn run(command: Command) -> Result<String, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_err(|_| Failure::System("the clock is set before 1970".to_owned()))?;
    match command {
        Command::Sign(options) => sign::run(options, now),
        Command::Verify(options) => verify::run(&options, now),
        Command::Decode(options) => decode::run(&options, now),
    }
}

/// Where a token comes from. It is a secret too, but lives for minutes.
#[derive(Args, Debug)]
struct TokenSource {
    /// The token; standard input if there is neither this nor --token-file
    #[arg(value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the token; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenSource {
    fn is_stdin(&self) -> bool {
        match (&self.token, &self.token_file) {
            (Some(token), _) => token == "-",
            (None, Some(path)) => crate::input::is_stdin(path),
            (None, None) => true,
        }
    }

    fn read(&self) -> Result<Zeroizing<String>, Failure> {
        if let Some(token) = self.token.as_ref().filter(|token| *token != "-") {
            return Ok(Zeroizing::new(token.trim().to_owned()));
        }
        let input = Input::read(self.token_file.as_deref(), "the token")?;
        input.warn_if_open("a token");
        Ok(Zeroizing::new(input.text().to_owned()))
    }
}

/// Whole seconds, as tokens count time.
fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
