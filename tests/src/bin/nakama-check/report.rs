//! What is said between the task and this program, a line each way, and then the cases.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use integration_tests::Nakama;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

/// Where the task has started Nakama, and how players come in.
#[derive(Deserialize)]
struct Place {
    nakama: String,
    http_key: String,
    #[serde(default)]
    players: Option<Vec<String>>,
}

/// A Nakama that is up.
pub(crate) struct Started {
    pub(crate) nakama: Nakama,
    /// The program, with its arguments, that has two real clients matched; without it the hook is called by itself.
    pub(crate) players: Option<Vec<String>>,
}

/// Tells the task which bridge Nakama is to use, and hears where Nakama is.
///
/// # Errors
/// When the task ends, or says something else.
pub(crate) async fn start(bridge: &str, token: &str) -> Result<Started> {
    println!("{}", json!({"bridge": bridge, "token": token}));
    let mut lines = BufReader::new(stdin()).lines();
    let line = lines
        .next_line()
        .await?
        .context("nobody has started Nakama")?;
    let place: Place = serde_json::from_str(&line)?;
    Ok(Started {
        nakama: Nakama::new(&place.nakama, &place.http_key)?,
        players: place.players,
    })
}

/// Counts what holds.
#[derive(Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    pub(crate) fn case(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("PASS {name}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }

    pub(crate) fn end(self) -> ExitCode {
        let Self { passed, failed } = self;
        println!("{passed} passed, {failed} failed");
        if failed == 0 && passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
