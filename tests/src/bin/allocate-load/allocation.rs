//! A match from the bridge, and its end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// Asks one bridge.
pub(crate) struct Allocation {
    http: Client,
    base_url: String,
    next_key: AtomicU64,
}

impl Allocation {
    pub(crate) fn new(base_url: String) -> Result<Self> {
        Ok(Self {
            http: Client::builder().no_proxy().tcp_nodelay(true).build()?,
            base_url,
            next_key: AtomicU64::new(0),
        })
    }

    /// Gets a match and gives it back; only the getting is timed.
    pub(crate) async fn cycle(&self) -> Result<Duration> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "players": [{"user_id": "u1"}, {"user_id": "u2"}],
            "max_players": 2,
            "lease_seconds": 600,
            "deadline_ms": 10_000,
        });
        let request = self.http.post(format!("{}/v1/matches", self.base_url));
        let request = request.header("idempotency-key", format!("bench-{key}"));
        let asked = Instant::now();
        let answer = request.json(&body).send().await?;
        let (status, answer) = (answer.status(), answer.json::<Value>().await?);
        let taken = asked.elapsed();
        ensure!(status == StatusCode::CREATED, "{status}: {answer}");
        let id = answer["id"].as_str().context("id")?;

        let url = format!("{}/v1/matches/{id}", self.base_url);
        let ended = self.http.request(Method::DELETE, url).send().await?;
        let (status, ended) = (ended.status(), ended.json::<Value>().await?);
        ensure!(
            status == StatusCode::OK && ended["state"] == "ended",
            "{status}: {ended}"
        );
        Ok(taken)
    }
}
