//! Load on the bridge while the Fleet behind it fails: every call must get a correct result or a typed error within
//! its deadline, the memory must stay flat, and all must be well at once when the Fleet is.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Target;

/// Callers at once.
const CALLERS: u64 = 16;

/// The bridge's deadline (its default), and what a busy machine may add.
const ANSWER_MAX: Duration = Duration::from_millis(5_000 + 1_000);

/// Calls after the outage that must all succeed.
const CALLS_AFTER: u64 = 200;

/// Growth of the bridge's memory over the second half that still counts as flat, in KiB.
const GROWTH_MAX_KIB: u64 = 3 * 1024;

/// 30 % of all calls, in seven ways.
fn faults() -> Value {
    json!({"rules": [{
        "latency": {"log_normal": {"median_ms": 3.0, "sigma": 0.8, "max_ms": 100}},
        "faults": [
            {"kind": "rate_limited", "rate": 0.06, "retry_after_seconds": 1},
            {"kind": "internal", "rate": 0.06},
            {"kind": "bad_gateway", "rate": 0.05},
            {"kind": "garbage", "rate": 0.04},
            {"kind": "truncate", "rate": 0.04},
            {"kind": "drop", "rate": 0.03},
            {"kind": "hang", "rate": 0.02}
        ]
    }]})
}

/// Outcomes by name.
type Tally = BTreeMap<String, u64>;

struct Caller {
    http: Client,
    bridge: String,
    ids: Arc<[String]>,
}

pub(crate) async fn run(target: &Target, seconds: u64, bridge_pid: u32) -> Result<()> {
    let http = Client::builder()
        .no_proxy()
        .timeout(ANSWER_MAX * 2)
        .build()?;
    let ids = ids(&http, &target.bridge).await?;
    let caller = |number: u64| Caller {
        http: http.clone(),
        bridge: target.bridge.clone(),
        ids: ids
            .iter()
            .skip(number as usize % ids.len())
            .cloned()
            .collect(),
    };
    let controls = format!("{}/faults", target.control);
    http.put(&controls)
        .json(&faults())
        .send()
        .await?
        .error_for_status()?;

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        callers.spawn(caller(number).call_until(number, end));
    }
    let memory = tokio::spawn(watch_memory(bridge_pid, seconds));
    let mut tally = Tally::new();
    while let Some(outcome) = callers.join_next().await {
        for (name, count) in outcome?? {
            *tally.entry(name).or_default() += count;
        }
    }
    println!("{seconds} s, {CALLERS} callers, the Fleet fails 30 % of its calls:");
    for (name, count) in &tally {
        println!("  {count:>8}  {name}");
    }
    let (middle, last) = memory.await??;
    println!("  memory of the bridge: {middle} KiB at half time, {last} KiB at the end");
    ensure!(last <= middle + GROWTH_MAX_KIB, "the memory grows");
    ensure!(
        tally.keys().any(|name| name.contains("unavailable")),
        "nothing failed: were there faults?"
    );

    http.delete(&controls).send().await?.error_for_status()?;
    let after = caller(0);
    for call in 0..CALLS_AFTER {
        let outcome = after.call(call, 0).await?;
        ensure!(outcome.ends_with("ok"), "after the outage: {outcome}");
    }
    println!("  {CALLS_AFTER} calls right after the outage: all ok");
    Ok(())
}

async fn ids(http: &Client, bridge: &str) -> Result<Vec<String>> {
    let url = format!("{bridge}/v1/instances?limit=100");
    let page: Value = http
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let instances = page["instances"].as_array().context("instances")?;
    let ids: Vec<_> = instances
        .iter()
        .filter_map(|it| it["id"].as_str().map(str::to_owned))
        .collect();
    ensure!(!ids.is_empty(), "the Fleet has no servers");
    Ok(ids)
}

impl Caller {
    async fn call_until(self, number: u64, end: Instant) -> Result<Tally> {
        let mut tally = Tally::new();
        let mut call = 0;
        while Instant::now() < end {
            let outcome = self.call(call, number).await?;
            *tally.entry(outcome).or_default() += 1;
            call += 1;
        }
        Ok(tally)
    }

    /// One call; the name of its outcome, or an error when the bridge does not keep its word.
    async fn call(&self, call: u64, number: u64) -> Result<String> {
        let id = &self.ids[call as usize % self.ids.len()];
        let one = format!("{}/v1/instances/{id}", self.bridge);
        let mark = format!("{number}-{call}");
        let (name, request) = match call % 3 {
            0 => {
                let query = [("query", r#"{"Status":"running"}"#), ("limit", "100")];
                let url = format!("{}/v1/instances", self.bridge);
                ("List", self.http.request(Method::GET, url).query(&query))
            }
            1 => ("Get", self.http.get(one)),
            _ => {
                let body = json!({"metadata": {format!("mark_{number}"): mark}});
                ("Update", self.http.patch(one).json(&body))
            }
        };
        let sent = Instant::now();
        let response = request.send().await.context("the bridge did not answer")?;
        let status = response.status();
        let body: Value = response
            .json()
            .await
            .context("the bridge's answer breaks off")?;
        ensure!(
            sent.elapsed() < ANSWER_MAX,
            "{name} took {:?}",
            sent.elapsed()
        );
        if status != StatusCode::OK {
            return refusal(name, status, &body);
        }
        let is_right = match name {
            "List" => is_list(&body),
            "Get" => body["id"] == **id,
            _ => body["id"] == **id && body["metadata"][format!("mark_{number}")] == mark,
        };
        ensure!(is_right, "{name} of {id} answers {body}");
        Ok(format!("{name}: ok"))
    }
}

fn is_list(body: &Value) -> bool {
    let Some(instances) = body["instances"].as_array() else {
        return false;
    };
    let ids: Vec<_> = instances
        .iter()
        .filter_map(|it| it["id"].as_str()?.parse::<u64>().ok())
        .collect();
    let are_running = instances.iter().all(|it| it["status"] == "running");
    !ids.is_empty() && ids.len() == instances.len() && ids.is_sorted() && are_running
}

fn refusal(name: &str, status: StatusCode, body: &Value) -> Result<String> {
    match body["kind"].as_str() {
        Some(kind @ ("unavailable" | "bad_response")) if status.is_server_error() => {
            Ok(format!("{name}: {kind} ({})", status.as_u16()))
        }
        _ => bail!("{name} answers {status}: {body}"),
    }
}

/// Resident memory of a process in the middle and at the end of a time, in KiB: the largest of a few readings each.
async fn watch_memory(pid: u32, seconds: u64) -> Result<(u64, u64)> {
    let quarter = Duration::from_secs(seconds) / 4;
    tokio::time::sleep(quarter).await;
    let middle = largest(pid, quarter).await?;
    tokio::time::sleep(quarter).await;
    let last = largest(pid, quarter.mul_f64(0.9)).await?;
    Ok((middle, last))
}

async fn largest(pid: u32, time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    let mut largest = 0;
    while Instant::now() < end {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let figure = line.and_then(|line| line.split_whitespace().next());
        largest = largest.max(figure.context("no VmRSS in /proc")?.parse()?);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(largest)
}
