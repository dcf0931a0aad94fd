//! The cases of a fleet manager, through Nakama's RPCs.

use anyhow::{Context as _, Result};
use integration_tests::{
    ScriptedFleet,
    cases::{self, APP, TOKEN},
    free_bridge,
};
use serde_json::Value;

use crate::report::{Report, start};

/// The bridge asks for no token here, but Nakama's settings want one.
const ANY_TOKEN: &str = "any";

pub(crate) async fn run() -> Result<Report> {
    let fleet = ScriptedFleet::start().await?;
    let bridge = free_bridge(APP, &fleet.base_url(), TOKEN).await?;
    let nakama = start(&format!("http://{bridge}"), ANY_TOKEN).await?.nakama;
    let call = async |message: &Value| nakama.call(message).await;
    let mut report = Report::default();
    for case in cases::read()? {
        let id = case["id"].as_str().context("a case without an id")?;
        report.case(id, cases::hold(&case, &fleet, &call).await);
    }
    Ok(report)
}
