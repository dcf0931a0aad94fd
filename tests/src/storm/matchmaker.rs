//! One matchmaker: asks for matches one after the other, as a careful one would, and writes down what it is told.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    Options,
    record::{SharedRecord, Told},
};

/// What a bridge may take beyond the deadline that it was given.
const DEADLINE_SLACK: Duration = Duration::from_secs(5);

/// Time for a bridge to end a match, or a game server to finish one.
const END_TIME_MAX: Duration = Duration::from_secs(15);

/// Time after which a matchmaker that goes away has gone: in the middle of an allocation, as a rule.
const GONE_AFTER: Duration = Duration::from_millis(50);

/// First pause before the same thing is tried again; doubles up to [`PAUSE_MAX`], and a random part of it is taken.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a match is played, in milliseconds.
const LIVE_MS: std::ops::RangeInclusive<u64> = 10..=50;

/// One of many.
pub(crate) struct Matchmaker {
    number: u64,
    options: Options,
    http: reqwest::Client,
    bridges: Arc<[String]>,
    match_apis: Arc<HashMap<i64, String>>,
    record: SharedRecord,
    random: fastrand::Rng,
}

/// A match that this matchmaker has got.
struct Allocation {
    told: Told,
    /// The answer, byte for byte.
    body: Vec<u8>,
    /// The bridge that gave it.
    bridge: usize,
}

/// An answer, or why there is none.
enum Answer {
    Status(u16, Vec<u8>),
    None(&'static str),
}

/// Tries again until its time is over.
struct Patience {
    end: Instant,
    pause: Duration,
}

impl Patience {
    fn new(time: Duration) -> Self {
        Self {
            end: Instant::now() + time,
            pause: PAUSE_FIRST,
        }
    }

    /// Waits before the next attempt; false when there is to be none.
    async fn wait(&mut self, random: &mut fastrand::Rng) -> bool {
        let pause = self.pause.mul_f64(0.5 + random.f64() / 2.0);
        if Instant::now() + pause > self.end {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

impl Matchmaker {
    pub(crate) fn new(
        number: u64,
        options: &Options,
        http: reqwest::Client,
        bridges: Arc<[String]>,
        match_apis: Arc<HashMap<i64, String>>,
        record: SharedRecord,
    ) -> Self {
        Self {
            number,
            options: options.clone(),
            http,
            bridges,
            match_apis,
            record,
            random: fastrand::Rng::with_seed(options.seed.wrapping_add(number)),
        }
    }

    /// Plays until all cycles have been begun.
    pub(crate) async fn run(mut self, left: Arc<AtomicU64>) {
        let begin = |left: u64| left.checked_sub(1);
        let mut cycle = 0;
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin)
            .is_ok()
        {
            let key = format!("storm-{}-{}-{cycle}", self.options.seed, self.number);
            self.cycle(&key).await;
            cycle += 1;
        }
    }

    async fn cycle(&mut self, key: &str) {
        let Some(Allocation {
            mut told,
            body,
            bridge,
        }) = self.allocate(key).await
        else {
            return;
        };
        let shares = self.options.shares;
        if self.random.f64() < shares.replay {
            self.replay(key, &body, bridge).await;
        }
        let live = Duration::from_millis(self.random.u64(LIVE_MS));
        tokio::time::sleep(live).await;
        let end = self.random.f64();
        if end < shares.abandon {
            self.count("matches abandoned");
        } else if end < shares.abandon + shares.self_finish {
            told.until_ms = Some(now_ms());
            self.finish(&told).await;
        } else {
            told.until_ms = Some(now_ms());
            told.ended_ms = self.release(&told.match_id).await;
        }
        self.record.note(|record| record.told.push(told));
    }

    /// Asks for a match until there is one, with one key.
    async fn allocate(&mut self, key: &str) -> Option<Allocation> {
        let began = Instant::now();
        let mut goes_away = self.random.f64() < self.options.shares.go_away;
        let mut patience = Patience::new(self.options.patience);
        loop {
            let bridge = self.any_bridge();
            let time_max = if std::mem::take(&mut goes_away) {
                self.count("matchmakers gone in the middle of a call");
                GONE_AFTER
            } else {
                self.options.deadline + DEADLINE_SLACK
            };
            let asked = Instant::now();
            match self.ask(bridge, key, time_max).await {
                Answer::Status(200 | 201, body) => {
                    return self.allocated(body, bridge, asked.elapsed(), began.elapsed());
                }
                Answer::Status(503, body) if kind(&body) == "exhausted" => {
                    self.count("allocations exhausted");
                    return None;
                }
                Answer::Status(status, body) if !is_passing(status) => {
                    self.surprise("POST /v1/matches", status, &body);
                    return None;
                }
                Answer::Status(status, _) => self.count(format!("allocation retries: {status}")),
                Answer::None(why) => self.count(format!("allocation retries: {why}")),
            }
            if !patience.wait(&mut self.random).await {
                self.count("allocations given up");
                return None;
            }
        }
    }

    fn allocated(
        &self,
        body: Vec<u8>,
        bridge: usize,
        call: Duration,
        wait: Duration,
    ) -> Option<Allocation> {
        let told = match told(&body) {
            Ok(told) => told,
            Err(error) => {
                self.surprise(&format!("POST /v1/matches: {error:#}"), 201, &body);
                return None;
            }
        };
        self.record.note(|record| {
            record.calls.push(call);
            record.waits.push(wait);
        });
        Some(Allocation { told, body, bridge })
    }

    async fn ask(&self, bridge: usize, key: &str, time_max: Duration) -> Answer {
        let players = [0, 1].map(|player| json!({"user_id": format!("{key}-{player}")}));
        let body = json!({
            "players": players,
            "max_players": 8,
            "lease_seconds": self.options.lease.as_secs(),
            "deadline_ms": u64::try_from(self.options.deadline.as_millis()).unwrap_or(u64::MAX),
        });
        let url = format!("{}/v1/matches", self.bridges[bridge]);
        let request = self.http.post(url).header("idempotency-key", key);
        send(request.json(&body).timeout(time_max)).await
    }

    /// Asks another bridge for the same: it has to give the same answer, to the byte.
    async fn replay(&mut self, key: &str, body: &[u8], bridge: usize) {
        let mut patience = Patience::new(self.options.patience);
        let time_max = self.options.deadline + DEADLINE_SLACK;
        loop {
            let other =
                (bridge + self.random.usize(1..self.bridges.len().max(2))) % self.bridges.len();
            match self.ask(other, key, time_max).await {
                Answer::Status(200 | 201, answer) if answer == body => {
                    self.count("replays with the same answer");
                    return;
                }
                Answer::Status(status, _) if !is_passing(status) => {
                    self.count("replays with another answer");
                    let key = key.to_owned();
                    self.record.note(|record| record.unequal_replays.push(key));
                    return;
                }
                _ if !patience.wait(&mut self.random).await => {
                    self.count("replays given up");
                    return;
                }
                _ => self.count("replay retries"),
            }
        }
    }

    /// Ends the match at a bridge, and says when that was done.
    async fn release(&mut self, match_id: &str) -> Option<u64> {
        let mut patience = Patience::new(self.options.patience);
        loop {
            let bridge = self.any_bridge();
            let url = format!("{}/v1/matches/{match_id}", self.bridges[bridge]);
            match send(self.http.delete(url).timeout(END_TIME_MAX)).await {
                Answer::Status(200, body) if state(&body) == "ended" => {
                    self.count("matches released");
                    return Some(now_ms());
                }
                Answer::Status(404, _) => {
                    self.count("matches released: not known any more");
                    return Some(now_ms());
                }
                Answer::Status(200 | 202, _) => self.count("release retries: not ended yet"),
                Answer::Status(status, body) if !is_passing(status) => {
                    self.surprise("DELETE /v1/matches", status, &body);
                    return None;
                }
                Answer::Status(status, _) => self.count(format!("release retries: {status}")),
                Answer::None(why) => self.count(format!("release retries: {why}")),
            }
            if !patience.wait(&mut self.random).await {
                self.count("releases given up");
                return None;
            }
        }
    }

    /// Finishes the match as a game server does whose game is over. The bridges have to notice.
    async fn finish(&mut self, told: &Told) {
        let Some(match_api) = self.match_apis.get(&told.server).cloned() else {
            return;
        };
        let mut patience = Patience::new(self.options.patience);
        loop {
            let request = self.http.post(format!("{match_api}/match/finish"));
            let request = request.json(&json!({"match_id": told.match_id, "outcome": "played"}));
            match send(request.timeout(END_TIME_MAX)).await {
                Answer::Status(200, _) => return self.count("matches finished by their server"),
                // Its lease has ended, and the server is somebody else's; the journals say whether that is true.
                Answer::Status(409, _) => return self.count("matches finished too late"),
                Answer::Status(..) | Answer::None(_) => {}
            }
            if !patience.wait(&mut self.random).await {
                return self.count("finishes given up");
            }
        }
    }

    fn any_bridge(&mut self) -> usize {
        self.random.usize(..self.bridges.len())
    }

    fn count(&self, what: impl Into<String>) {
        self.record.note(|record| record.count(what));
    }

    fn surprise(&self, call: &str, status: u16, body: &[u8]) {
        let body = String::from_utf8_lossy(body);
        let text = format!("{call} answers {status}: {body}");
        self.record.note(|record| record.surprise(text));
    }
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let answer = async {
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.bytes().await?))
    };
    match answer.await {
        Ok((status, body)) => Answer::Status(status, body.to_vec()),
        Err(error) => why_none(&error),
    }
}

fn why_none(error: &reqwest::Error) -> Answer {
    Answer::None(if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "connection broken"
    })
}

/// Whether an answer with this status may be another one later.
fn is_passing(status: u16) -> bool {
    status >= 500 || matches!(status, 409 | 425 | 429)
}

fn kind(problem: &[u8]) -> String {
    text(problem, "kind")
}

fn state(answer: &[u8]) -> String {
    text(answer, "state")
}

fn text(json: &[u8], key: &str) -> String {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    value[key].as_str().unwrap_or_default().to_owned()
}

/// What the answer to an allocation says.
fn told(body: &[u8]) -> Result<Told> {
    let answer: Value = serde_json::from_slice(body)?;
    anyhow::ensure!(answer["state"] == "running", "the match does not run");
    let server = answer["instance"]["id"].as_str().context("instance.id")?;
    let expires_at = answer["expires_at"].as_str().context("expires_at")?;
    let expires_at = DateTime::parse_from_rfc3339(expires_at).context("expires_at")?;
    Ok(Told {
        match_id: answer["id"].as_str().context("id")?.to_owned(),
        server: server.parse().context("instance.id")?,
        from_ms: now_ms(),
        until_ms: None,
        expires_ms: expires_at.timestamp_millis().try_into()?,
        ended_ms: None,
    })
}

fn now_ms() -> u64 {
    u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default()
}
