//! The programs of the storm: bridges as an operator would run them, and the Redis that they share.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, Result};
use integration_tests::storm::{APP_ID, Ground, TOKEN};

use crate::process::{Process, free_address};

/// A real Redis that keeps what it is told.
pub(crate) struct Redis(pub(crate) Process);

impl Redis {
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let data = folder.join("redis");
        fs::create_dir(&data)?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1"]);
        command.args(["--port", &address.port().to_string()]);
        command.arg("--dir").arg(&data);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.args(["--save", ""]);
        let process = Process::start(command, address, folder.join("redis.log")).await;
        let process =
            process.context("is redis-server there? (Debian: apt-get install redis-server)")?;
        Ok(Self(process))
    }

    fn url(&self) -> String {
        format!("redis://{}/", self.0.address())
    }
}

/// A real bridge.
pub(crate) struct Bridge(pub(crate) Process);

impl Bridge {
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        number: u16,
        ground: &Ground,
        redis: &Redis,
    ) -> Result<Self> {
        let listen = free_address()?;
        let config = folder.join(format!("bridge-{number}.toml"));
        fs::write(
            &config,
            bridge_config(listen, ground.api_url(), &redis.url()),
        )?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config);
        for name in ["ODIN_APP_ID", "ODIN_API_URL"] {
            command.env_remove(name);
        }
        command.env("ODIN_API_TOKEN", TOKEN).env("RUST_LOG", "warn");
        let log = folder.join(format!("bridge-{number}.log"));
        Ok(Self(Process::start(command, listen, log).await?))
    }

    /// Its paths begin below this.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.0.address())
    }
}

/// The settings of a bridge.
fn bridge_config(listen: SocketAddr, api_url: &str, redis_url: &str) -> String {
    format!(
        r#"listen = "{listen}"

[fleet]
app_id = {APP_ID}
api_url = "{api_url}"

[matches]
enabled = true

[store]
redis = "{redis_url}"
"#
    )
}
