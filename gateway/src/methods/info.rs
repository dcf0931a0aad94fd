//! `Info`: what an operator may want to see of a pool.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{Caller, Method};
use crate::{
    grid::{Binding, Pool, Server, Timestamp},
    metrics::CallOutcome,
    state::Gateway,
};

pub(super) fn info(gateway: &Gateway, caller: &Caller) -> Value {
    let calls: Value = Method::ALL
        .into_iter()
        .map(|it| calls(gateway, it))
        .collect();
    let stats = json!({"apiCalls": calls});
    gateway.store.read(|grid| {
        let pool = grid.pool(&caller.pool);
        let servers = pool.map(|pool| pool.servers().map(server).collect::<Value>());
        let rooms = pool.map(rooms);
        json!({
            "servers": servers.unwrap_or_else(|| json!([])),
            "rooms": rooms.unwrap_or_else(|| json!([])),
            "stats": stats,
        })
    })
}

/// Since the start.
fn calls(gateway: &Gateway, method: Method) -> Value {
    let count = |outcome| gateway.metrics.calls(method.name(), outcome);
    json!({
        "name": method.name(),
        "success": count(CallOutcome::Success),
        "failure": count(CallOutcome::Failure),
        "rejected": count(CallOutcome::Rejected),
    })
}

fn server((address, server): (&str, &Server)) -> Value {
    json!({
        "hostname": address,
        "address": address,
        "version": server.version,
        "disabled": server.disabled,
        "keyId": server.key_id,
        "report": server.report,
        "firstSeen": time(server.first_seen),
        "lastSeen": time(server.last_seen),
        "tasks": server.tasks_waiting(),
    })
}

fn rooms(pool: &Pool) -> Value {
    let room = |(hash, binding): (gateway_api::RoomHash, &Binding)| {
        json!({
            "hash": hash,
            "id": binding.id,
            "customer": binding.customer,
            "server": binding.server,
            "updated": time(binding.updated),
        })
    };
    pool.rooms().map(room).collect()
}

fn time(time: Timestamp) -> String {
    let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
    let time = DateTime::<Utc>::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
