//! The fleet manager of a Nakama, called through the RPCs of `nakama/rpcs`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::Url;
use serde_json::{Value, json};

/// One RPC: longer than the fleet manager gives the bridge.
const CALL_MAX: Duration = Duration::from_secs(20);

/// A Nakama with our modules, or what stands in for it.
#[derive(Debug)]
pub struct Nakama {
    base: Url,
    http_key: String,
    http: reqwest::Client,
}

impl Nakama {
    /// The Nakama at this address, whose RPCs want this key.
    ///
    /// # Errors
    /// When the address is none or the HTTP client cannot start.
    pub fn new(base: &str, http_key: &str) -> Result<Self> {
        Ok(Self {
            base: Url::parse(base)?,
            http_key: http_key.to_owned(),
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(CALL_MAX)
                .build()?,
        })
    }

    /// One call of `cases/bridge-cases.json`: `{"op", "args"}`.
    ///
    /// # Errors
    /// When Nakama does not answer as it should.
    pub async fn call(&self, message: &Value) -> Result<Value> {
        let op = message["op"].as_str().context("op is missing")?;
        let name = format!("fleet_{}", op.to_lowercase());
        self.rpc(&name, &message["args"]).await
    }

    /// One RPC: its answer, or `{"error", "message"}` with the bridge's kind.
    ///
    /// # Errors
    /// When Nakama does not answer as it should.
    pub async fn rpc(&self, name: &str, payload: &Value) -> Result<Value> {
        let mut url = self.base.join(&format!("/v2/rpc/{name}"))?;
        url.query_pairs_mut()
            .append_pair("http_key", &self.http_key)
            .append_pair("unwrap", "");
        self.post(url, payload).await
    }

    /// A call that only the stand-in has.
    ///
    /// # Errors
    /// When it does not answer as it should.
    pub async fn stand_in(&self, name: &str, body: &Value) -> Result<Value> {
        let url = self.base.join(&format!("/stand-in/{name}"))?;
        self.post(url, body).await
    }

    async fn post(&self, url: Url, body: &Value) -> Result<Value> {
        let response = self.http.post(url).json(body).send().await?;
        let is_success = response.status().is_success();
        let answer: Value = response.json().await?;
        if is_success {
            return Ok(answer);
        }
        let Some(text) = answer["message"].as_str() else {
            bail!("Nakama answers {answer}");
        };
        let kind = text.split_once(": ").map_or(text, |(kind, _)| kind);
        Ok(json!({"error": kind, "message": text}))
    }
}
