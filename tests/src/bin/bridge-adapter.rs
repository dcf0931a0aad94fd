//! Speaks `{"op", "args"}` lines on standard input to a real bridge, one answer a line: the other side of
//! `check_bridge_cases.py`. Needs `FLEET_BASE_URL`, `FLEET_APP_ID` and `FLEET_TOKEN`.

use std::env;

use anyhow::{Context as _, Result};
use integration_tests::{Adapter, free_bridge};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};

#[tokio::main]
async fn main() -> Result<()> {
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let app_id = variable("FLEET_APP_ID")?
        .parse()
        .context("FLEET_APP_ID is not a number")?;
    let bridge = free_bridge(
        app_id,
        &variable("FLEET_BASE_URL")?,
        &variable("FLEET_TOKEN")?,
    )
    .await?;
    let adapter = Adapter::new(bridge)?;
    let mut lines = BufReader::new(stdin()).lines();
    let mut out = stdout();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line) {
            Ok(message) => adapter.call(&message).await,
            Err(error) => Err(error.into()),
        };
        let answer = answer
            .unwrap_or_else(|error| json!({"error": "adapter", "message": format!("{error:#}")}));
        out.write_all(format!("{answer}\n").as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}
