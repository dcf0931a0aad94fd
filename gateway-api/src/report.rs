//! What a voice server tells its gateway, and what it is told.

use serde::{Deserialize, Serialize};

use crate::{
    room::RoomId,
    task::{QueuedTask, Span},
};

/// Which program reports. Newer method names ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// The voice server.
    Grid,
}

/// The params of `sfu.Report` and `SubmitReport`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The server's identity, `host:port` as clients reach it. When absent, the gateway takes the address the report
    /// comes from, and port 4433.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_endpoint: Option<String>,
    /// Must be there for `SubmitReport`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerKind>,
    /// The server's version.
    pub version: String,
    /// How busy the server is, 0 to 1.
    pub load: f64,
    /// Connected clients.
    pub clients: u64,
    /// Rooms that exist on the server.
    pub rooms: Vec<ReportedRoom>,
    /// An extension: the last task this server has carried out, 0 for none. A server that says it gets its tasks
    /// again until it acknowledges them; one that does not gets each task once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
    /// An extension: how long the gateway may hold the answer back until there is a task, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// An extension: the server is about to end. It gets no more rooms, and whoever connects to one of its rooms is sent
    /// to another server; a later report that does not say so undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
}

/// A room of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRoom {
    /// Which room.
    pub id: RoomId,
    /// Whose limits it counts against.
    pub customer: String,
    /// How long the room has existed.
    pub age: Span,
    /// How many peers are in it.
    pub peers: u64,
}

/// The result of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// What the server is to do, in this order.
    pub tasks: Vec<QueuedTask>,
}
