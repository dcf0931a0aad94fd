//! The same questions to the bridge and to the Fleet behind it, from the same client, in alternating rounds. A
//! caller decodes what it gets, so decoding is part of a call on both sides.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::Target;

/// Each round measures both sides, so that what else the machine does falls on both.
const ROUNDS: usize = 7;

/// Length of one side of a round.
const ROUND: Duration = Duration::from_millis(1500);

/// Servers on a page, as a matchmaker would ask for.
const PER_PAGE: u32 = 50;

const CONCURRENCIES: [usize; 2] = [1, 64];

/// One kind of call, to both sides.
struct Pair {
    name: String,
    direct: RequestBuilder,
    bridge: RequestBuilder,
}

/// What one side of a round gave.
#[derive(Clone, Copy)]
struct Figures {
    p50: Duration,
    p99: Duration,
    per_second: f64,
}

pub(crate) async fn run(target: &Target) -> Result<()> {
    let http = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    println!("medians of {ROUNDS} rounds; direct and bridge alternate in each");
    for pair in pairs(&http, target) {
        for concurrency in CONCURRENCIES {
            compare(&pair, concurrency).await?;
        }
    }
    Ok(())
}

fn pairs(http: &Client, target: &Target) -> [Pair; 2] {
    let services = format!("{}/v1/apps/{}/services", target.fleet, target.app);
    let instances = format!("{}/v1/instances", target.bridge);
    let direct = |url: String| {
        http.get(url)
            .bearer_auth(&target.token)
            .header("accept", "application/json")
    };
    let filter = r#"instance_state="idle""#;
    let per_page = PER_PAGE.to_string();
    let query = format!(r#"{{"Metadata":{{"instance_state":"idle"}},"PerPage":{PER_PAGE}}}"#);
    let direct_query = [
        ("filter[metadata]", filter),
        ("perPage", &per_page),
        ("sort[]", "id"),
    ];
    [
        Pair {
            name: format!("List, {PER_PAGE} idle servers"),
            direct: direct(services.clone()).query(&direct_query),
            bridge: http.get(&instances).query(&[("query", query)]),
        },
        Pair {
            name: "Get".to_owned(),
            direct: direct(format!("{services}/101")),
            bridge: http.get(format!("{instances}/101")),
        },
    ]
}

async fn compare(pair: &Pair, concurrency: usize) -> Result<()> {
    // Connections, caches and the allocator settle first.
    measure(&pair.direct, concurrency, ROUND / 3).await?;
    measure(&pair.bridge, concurrency, ROUND / 3).await?;
    let (mut direct, mut bridge) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(measure(&pair.direct, concurrency, ROUND).await?);
        bridge.push(measure(&pair.bridge, concurrency, ROUND).await?);
    }
    println!("\n{}, concurrency {concurrency}", pair.name);
    report("direct", &direct);
    report("bridge", &bridge);
    let ratio = |figure: fn(&Figures) -> f64| {
        median(
            direct
                .iter()
                .zip(&bridge)
                .map(|(direct, bridge)| figure(bridge) / figure(direct)),
        )
    };
    println!(
        "  bridge ÷ direct: p50 {:.2}, p99 {:.2}, requests/s {:.2}",
        ratio(|it| it.p50.as_secs_f64()),
        ratio(|it| it.p99.as_secs_f64()),
        ratio(|it| it.per_second),
    );
    Ok(())
}

fn report(side: &str, rounds: &[Figures]) {
    let millis = |figure: fn(&Figures) -> Duration| {
        median(rounds.iter().map(|it| figure(it).as_secs_f64() * 1e3))
    };
    println!(
        "  {side}: p50 {:.3} ms, p99 {:.3} ms, {:.0} requests/s",
        millis(|it| it.p50),
        millis(|it| it.p99),
        median(rounds.iter().map(|it| it.per_second)),
    );
}

async fn measure(request: &RequestBuilder, concurrency: usize, time: Duration) -> Result<Figures> {
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..concurrency {
        let request = request.try_clone().context("a request without a body")?;
        callers.spawn(call_until(request, started + time));
    }
    let mut latencies = Vec::new();
    while let Some(caller) = callers.join_next().await {
        latencies.extend(caller??);
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Ok(Figures {
        p50: at(0.50),
        p99: at(0.99),
        per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
    })
}

/// At least one call, and no new one after `end`.
async fn call_until(request: RequestBuilder, end: Instant) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    loop {
        let sent = Instant::now();
        let response = request
            .try_clone()
            .context("a request without a body")?
            .send()
            .await?;
        let status = response.status();
        let body: Value = serde_json::from_slice(&response.bytes().await?)?;
        ensure!(status.is_success(), "{status}: {body}");
        latencies.push(sent.elapsed());
        if Instant::now() >= end {
            return Ok(latencies);
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
