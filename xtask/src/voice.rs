//! A running `bifrost voice`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{say, target_dir};

/// A gateway and a voice server on free ports; they end with it.
pub(crate) struct Voice {
    child: Child,
    addresses: Value,
}

impl Voice {
    /// Starts the built program; when this returns, clients are let in.
    pub(crate) fn start() -> Result<Self> {
        let program = target_dir().join("debug").join("bifrost");
        let mut command = Command::new(&program);
        command.args(["voice", "--json"]);
        for port in [
            "--gateway-port",
            "--sfu-port",
            "--webrtc-port",
            "--metrics-port",
        ] {
            command.args([port, "0"]);
        }
        say(&format!("$ {} voice", program.display()));
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("bifrost did not start")?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output is a pipe")?;
        BufReader::new(output).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(addresses) => Ok(Self { child, addresses }),
            Err(_) => {
                let status = child.wait()?;
                bail!("bifrost voice ended: {status}");
            }
        }
    }

    /// One of the addresses and keys that it names.
    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        self.addresses[name]
            .as_str()
            .with_context(|| format!("bifrost voice names no {name}"))
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}
