//! `cases/bridge-cases.json` on a bridge that is called directly.

use std::fmt::Write as _;

use integration_tests::{
    Adapter, ScriptedFleet,
    cases::{self, APP, TOKEN},
    free_bridge,
};
use serde_json::Value;

#[tokio::test]
async fn every_case_of_the_contract_holds() {
    let cases = cases::read().expect("the cases");
    let fleet = ScriptedFleet::start().await.expect("a fleet");
    let bridge = free_bridge(APP, &fleet.base_url(), TOKEN)
        .await
        .expect("a bridge");
    let adapter = Adapter::new(bridge).expect("an adapter");
    let call = async |message: &Value| adapter.call(message).await;

    let mut failures = String::new();
    for case in &cases {
        if let Err(error) = cases::hold(case, &fleet, &call).await {
            let _ = writeln!(failures, "{}: {error:#}", case["id"]);
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}
