//! What voice servers call: settings with their key, and reports that bring tasks back.

use std::{net::SocketAddr, time::Duration};

use gateway_api::{QueuedTask, Recommendation, ReportAnswer, ReportedRoom};
use serde_json::{Value, json};

use super::{Caller, schema::Fields};
use crate::{
    error::RpcError,
    grid::{Action, Delivery, Outcome, ServerRef, ServerReport},
    rpc::{CallResult, Params},
    state::Gateway,
};

/// Longest address of a server, in bytes: a DNS name and a port.
const ADDRESS_BYTES_MAX: usize = 255 + 6;

/// The port of a server that does not say its address.
const DEFAULT_PORT: u16 = 4433;

/// Two names for the same methods, with different manners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `sfu.*`: `server` may be left out.
    Sfu,
    /// `GetConfig` and `SubmitReport`: `server` must be there.
    Plain,
}

impl Dialect {
    /// Reads `server`; only grid servers are spoken to.
    fn check(self, fields: &mut Fields<'_>) -> Result<(), &'static str> {
        const KINDS: &[&str] = &["grid", "saga"];
        let kind = match self {
            Self::Sfu => fields.optional_word("server", KINDS),
            Self::Plain => Some(fields.word("server", KINDS)),
        };
        match (kind, self) {
            (Some("saga"), Self::Sfu) => Err("api must be used for grid servers only"),
            (Some("saga"), Self::Plain) => Err("only grid is supported"),
            _ => Ok(()),
        }
    }
}

/// The settings of a server with the recommendation and its key.
pub(super) fn config(
    gateway: &Gateway,
    caller: &Caller,
    params: &Params,
    dialect: Dialect,
) -> CallResult {
    let mut fields = Fields::of(params);
    let address = address(&mut fields, caller.peer);
    fields.string("version");
    let config = fields.string("config");
    dialect.check(&mut fields).map_err(RpcError::refused)?;
    fields.finish()?;

    let recommendation = Recommendation {
        report_interval_ms: i64::try_from(gateway.config.timing.update_interval.as_millis())
            .unwrap_or(i64::MAX),
        metrics_server: gateway.config.metrics_server.clone(),
    };
    let key = gateway.server_keys.of(&address);
    match recommendation.apply(&config, &key) {
        Ok(config) => Ok(json!({"config": config})),
        Err(error) => {
            let before = error.span().and_then(|span| config.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            let text = format!("line {line}: {}", error.message());
            Err(RpcError::internal(Some(json!({"config": text}))))
        }
    }
}

/// Takes a report; the answer holds the server's tasks.
pub(super) async fn report(
    gateway: &Gateway,
    caller: &Caller,
    params: &Params,
    dialect: Dialect,
) -> CallResult {
    let mut fields = Fields::of(params);
    let server = ServerRef {
        pool: caller.pool.clone(),
        address: address(&mut fields, caller.peer),
    };
    let version = fields.string("version");
    let load = fields.number("load");
    let clients = fields.count("clients");
    let rooms = rooms(&mut fields);
    let acknowledged = fields.optional_count("acknowledged");
    let wait_ms = fields.optional_count("wait_ms").unwrap_or_default();
    let draining = fields.optional_flag("draining").unwrap_or_default();
    dialect.check(&mut fields).map_err(RpcError::refused)?;
    fields.finish()?;

    // Before the report: a task that is queued right after it must not be missed.
    let mut waiter = (wait_ms > 0).then(|| gateway.store.waiter(&server));
    let action = Action::Report(ServerReport {
        key_id: gateway.server_keys.of(&server.address).id().clone(),
        server: server.clone(),
        version,
        load,
        clients,
        rooms,
        acknowledged,
        released: None,
        draining,
    });
    let mut delivery = tasks(gateway.store.submit(action).await)?;
    gateway.count_released(&delivery);
    if let Some(waiter) = waiter.as_mut().filter(|_| delivery.tasks.is_empty()) {
        let wait = Duration::from_millis(wait_ms).min(gateway.config.timing.update_interval);
        let is_woken = tokio::time::timeout(wait, waiter.woken()).await.is_ok();
        if is_woken {
            delivery = tasks(gateway.store.submit(Action::Take { server }).await)?;
            gateway.count_released(&delivery);
        }
    }
    let acknowledges = delivery.acknowledges;
    let queued = delivery.tasks.into_iter().map(|waiting| QueuedTask {
        task: waiting.task,
        task_id: acknowledges.then_some(waiting.id),
    });
    let answer = ReportAnswer {
        tasks: queued.collect(),
    };
    serde_json::to_value(answer).map_err(|_| RpcError::internal(None))
}

fn tasks(outcome: Outcome) -> Result<Delivery, RpcError> {
    match outcome {
        Outcome::Tasks(delivery) => Ok(delivery?),
        Outcome::Connected(_) | Outcome::Moderated(_) | Outcome::Done => {
            Err(RpcError::internal(None))
        }
    }
}

/// The server's identity: what it says, or where it calls from.
fn address(fields: &mut Fields<'_>, peer: SocketAddr) -> String {
    let Some(address) = fields.optional_string("public_endpoint") else {
        return SocketAddr::new(peer.ip().to_canonical(), DEFAULT_PORT).to_string();
    };
    let is_usable = (1..=ADDRESS_BYTES_MAX).contains(&address.len())
        && address
            .chars()
            .all(|it| !it.is_control() && !it.is_whitespace());
    if !is_usable {
        let text = "Expected host:port, without spaces, of at most 261 bytes";
        fields.custom(&[json!("public_endpoint")], text);
    }
    address
}

fn rooms(fields: &mut Fields<'_>) -> Vec<ReportedRoom> {
    let items = fields.array("rooms");
    let mut rooms = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        match serde_json::from_value::<ReportedRoom>(Value::clone(item)) {
            Ok(room) => rooms.push(room),
            Err(error) => {
                fields.custom(&[json!("rooms"), json!(at)], &error.to_string());
                break;
            }
        }
    }
    rooms
}
