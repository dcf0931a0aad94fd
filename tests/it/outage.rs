//! The bridge while the Fleet behind it fails a third of its calls. `cargo xtask soak` does the same for longer and
//! watches the memory.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use mock_fleet::{Chance, FaultKind, FaultPlan, FaultRule, World};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const SEED: u64 = 7;
const CALLERS: usize = 8;
const CALLS: usize = 40;
const DEADLINE: Duration = Duration::from_secs(2);

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(3);

fn faults() -> FaultPlan {
    let chance = |kind, rate| Chance {
        kind,
        rate,
        retry_after_seconds: None,
        stall_ms: None,
    };
    let rule = FaultRule {
        faults: vec![
            chance(FaultKind::RateLimited, 0.05),
            chance(FaultKind::Internal, 0.07),
            chance(FaultKind::BadGateway, 0.05),
            chance(FaultKind::Garbage, 0.05),
            chance(FaultKind::Truncate, 0.05),
            chance(FaultKind::Drop, 0.02),
            chance(FaultKind::Hang, 0.01),
        ],
        ..FaultRule::default()
    };
    FaultPlan::new(0, vec![rule]).expect("a plan")
}

async fn stack() -> Result<(SocketAddr, SocketAddr)> {
    let mut config = mock_fleet::Config::new(World::default_world());
    config.control_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.faults = faults();
    config.seed = SEED;
    let fleet = mock_fleet::Server::bind(config).await?;
    let control = fleet.control_addr().context("controls")?;
    let mut config = fleet_bridge::Config::new(1, &fleet.base_url(), "local-development-token")?;
    tokio::spawn(fleet.run(std::future::pending()));
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.request_timeout = Duration::from_millis(500);
    config.limit.request_deadline_ms = DEADLINE.as_millis() as u64;
    let bridge = fleet_bridge::Server::bind(config).await?;
    let address = bridge.local_addr();
    tokio::spawn(bridge.run(std::future::pending()));
    Ok((address, control))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_gets_a_right_answer_or_a_typed_error_in_time() {
    let (bridge, control) = stack().await.expect("a stack");
    let http = reqwest::Client::new();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call_often(http.clone(), bridge, caller));
    }
    let mut right = 0;
    while let Some(answers) = callers.join_next().await {
        right += answers
            .expect("no panic")
            .expect("the bridge keeps its word");
    }
    let all = CALLERS * CALLS;
    assert!(
        right > all * 8 / 10,
        "retries make most calls right: {right} of {all}"
    );

    let cleared = http.delete(format!("http://{control}/faults")).send().await;
    cleared
        .expect("controls")
        .error_for_status()
        .expect("cleared");
    for number in 0..20 {
        let is_right = call(&http, bridge, number, 0).await.expect("an answer");
        assert!(is_right, "all is well as soon as the Fleet is");
    }
}

async fn call_often(http: reqwest::Client, bridge: SocketAddr, caller: usize) -> Result<usize> {
    let mut right = 0;
    for number in 0..CALLS {
        right += usize::from(call(&http, bridge, number, caller).await?);
    }
    Ok(right)
}

/// One call: whether it got what it asked for. An answer that is wrong, untyped or late is an error.
async fn call(
    http: &reqwest::Client,
    bridge: SocketAddr,
    number: usize,
    caller: usize,
) -> Result<bool> {
    let base = format!("http://{bridge}/v1/instances");
    let id = (101 + number % 9).to_string();
    let mark = format!("{caller}-{number}");
    let request = match number % 3 {
        0 => http.get(format!("{base}?status=running&limit=100")),
        1 => http.get(format!("{base}/{id}")),
        _ => {
            let body = json!({"metadata": {format!("mark_{caller}"): mark}});
            http.patch(format!("{base}/{id}")).json(&body)
        }
    };
    let sent = Instant::now();
    let response = request.send().await.context("no answer")?;
    let status = response.status();
    let body: Value = response.json().await.context("the answer breaks off")?;
    ensure!(sent.elapsed() < DEADLINE + SLACK, "{:?}", sent.elapsed());
    if !status.is_success() {
        return match body["kind"].as_str() {
            Some("unavailable" | "bad_response") if status.is_server_error() => Ok(false),
            _ => bail!("{status} {body}"),
        };
    }
    let is_right = match number % 3 {
        0 => body["instances"].as_array().is_some_and(|all| {
            !all.is_empty() && all.iter().all(|instance| instance["status"] == "running")
        }),
        1 => body["id"] == *id,
        _ => body["metadata"][format!("mark_{caller}")] == mark,
    };
    ensure!(is_right, "a wrong answer: {body}");
    Ok(true)
}
