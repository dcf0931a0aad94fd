//! Nakama's `FleetManager` calls, spoken to a running bridge over HTTP.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use fleet_bridge::{Config, Server};
use http::Method;
use reqwest::Url;
use serde_json::{Value, json};

/// Starts a bridge on a free loopback port; it runs until the process ends.
///
/// # Errors
/// When the settings are not usable or no port is free.
pub async fn free_bridge(app_id: u64, api_url: &str, token: &str) -> Result<SocketAddr> {
    let mut config = Config::new(app_id, api_url, token)?;
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(config).await?;
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    Ok(address)
}

/// Turns `{"op", "args"}` into a call of the bridge and its answer back into `{"instances"}`, `{"instance"}`,
/// `{"ok"}` or `{"error", "message"}`.
#[derive(Debug)]
pub struct Adapter {
    base: Url,
    http: reqwest::Client,
}

impl Adapter {
    /// An adapter of the bridge at this address.
    ///
    /// # Errors
    /// When the HTTP client cannot start.
    pub fn new(bridge: SocketAddr) -> Result<Self> {
        Ok(Self {
            base: Url::parse(&format!("http://{bridge}/"))?,
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// One call.
    ///
    /// # Errors
    /// When the message is not one of the five calls, or the bridge does not answer in JSON.
    pub async fn call(&self, message: &Value) -> Result<Value> {
        let args = &message["args"];
        let id = args["id"].as_str().unwrap_or_default();
        match message["op"].as_str().context("op is missing")? {
            "List" => self.list(args).await,
            "Get" => {
                let instance = self.send(Method::GET, &[id], None).await?;
                Ok(instance.map_or_else(|problem| problem, |it| json!({ "instance": it })))
            }
            "Update" => {
                let body =
                    json!({"player_count": args["player_count"], "metadata": args["metadata"]});
                let updated = self.send(Method::PATCH, &[id], Some(&body)).await?;
                Ok(updated.map_or_else(|problem| problem, |_| json!({ "ok": true })))
            }
            "Create" => {
                let body = json!({"max_players": args["max_players"], "user_ids": args["user_ids"],
                    "metadata": args["metadata"]});
                let created = self.send(Method::POST, &[], Some(&body)).await?;
                Ok(created.unwrap_or_else(|problem| problem))
            }
            "Join" => {
                let body = json!({"user_ids": args["user_ids"], "metadata": args["metadata"]});
                let joined = self
                    .send(Method::POST, &[id, "sessions"], Some(&body))
                    .await?;
                Ok(joined.unwrap_or_else(|problem| problem))
            }
            other => anyhow::bail!("no such call: {other}"),
        }
    }

    async fn list(&self, args: &Value) -> Result<Value> {
        let mut url = self.url(&[])?;
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("query", args["query"].as_str().unwrap_or_default());
            let limit = args["limit"].as_i64().unwrap_or_default();
            if limit != 0 {
                query.append_pair("limit", &limit.to_string());
            }
            let cursor = args["cursor"].as_str().unwrap_or_default();
            if !cursor.is_empty() {
                query.append_pair("cursor", cursor);
            }
        }
        let page = self.exchange(self.http.get(url)).await?;
        Ok(page.unwrap_or_else(|problem| problem))
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Result<Value, Value>> {
        let mut request = self.http.request(method, self.url(path)?);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.exchange(request).await
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.base.clone();
        let mut segments = url.path_segments_mut().ok().context("no path")?;
        segments.clear().extend(["v1", "instances"]).extend(path);
        drop(segments);
        Ok(url)
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Result<Value, Value>> {
        let response = request.send().await?;
        let is_success = response.status().is_success();
        let body: Value = response.json().await?;
        if is_success {
            return Ok(Ok(body));
        }
        Ok(Err(
            json!({"error": body["kind"], "message": body["detail"]}),
        ))
    }
}
