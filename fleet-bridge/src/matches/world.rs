//! Everything that a match needs from outside, so that its steps can be explored without any of it.

use std::{future::Future, time::Duration};

use serde_json::{Map, Value};

use super::record::{Match, VoicePlan};
use crate::{
    model::{Keys, Server},
    store::{Commit, Committed, Document, Key, Timestamp, Unavailable},
};

/// A call of the Fleet that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The Fleet knows no such server.
    Gone,
    /// No usable answer; an update may have been applied.
    Unclear,
}

/// What a game server said to the wish to start a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It starts.
    Yes,
    /// It runs another match, or has been claimed by somebody since.
    Refused,
    /// It will not start this match, nor will another server.
    Rejected(String),
    /// No usable answer; it may have started.
    Unclear,
}

/// What a game server said to the wish to finish a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// It does not run any more.
    Yes,
    /// Another match runs there.
    Another,
    /// No usable answer.
    Unclear,
}

/// What a game server says it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It runs this match.
    Runs(String),
    /// It runs none.
    Nothing,
    /// It cannot be asked: it has no such route.
    Unknown,
    /// No answer.
    Unclear,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long a claim keeps a server for a match that has not started.
    pub(crate) claim: Duration,
    /// How long the metadata may take to say `occupied` after the game server has said yes.
    pub(crate) occupied: Duration,
    /// How often a start without a usable answer is sent.
    pub(crate) start_attempts: u32,
    /// How long a server that did not start a match is left alone by it.
    pub(crate) avoid: Duration,
    /// How long a match that is over, and its key, are remembered.
    pub(crate) keep: Duration,
}

/// The outside.
pub(crate) trait World: Send + Sync {
    /// The store's clock.
    fn now(&self) -> Timestamp;

    fn random(&self) -> u64;

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;

    fn pace(&self) -> &Pace;

    fn keys(&self) -> &Keys;

    /// The id of the store: whose claims are ours.
    fn owner(&self) -> &str;

    /// The metadata key of heartbeats, and the age at which one no longer counts.
    fn heartbeat(&self) -> Option<(&str, Duration)>;

    /// Whoever waits for this work has gone away.
    fn is_abandoned(&self) -> bool;

    fn load(
        &self,
        keys: &[Key],
    ) -> impl Future<Output = Result<Vec<Option<Document>>, Unavailable>> + Send;

    fn commit(
        &self,
        commit: &Commit,
    ) -> impl Future<Output = Result<Committed, Unavailable>> + Send;

    /// Servers that seem free, the best first. What they are is looked at again before it counts.
    fn candidates(&self, record: &Match) -> impl Future<Output = Vec<i64>> + Send;

    /// The Fleet itself allocates servers: candidates are ours already, and are given back when they are not taken.
    fn allocates(&self) -> bool;

    /// Has one more server started where this match could run, if the settings allow it. Failures are the implementor's
    /// to report: it is tried again later.
    fn scale_up(&self, record: &Match) -> impl Future<Output = ()> + Send;

    /// Tells the Fleet that a server which it allocated is free again.
    fn deallocate(&self, server: i64) -> impl Future<Output = Result<(), Failed>> + Send;

    /// A server as it is now.
    fn read(&self, server: i64) -> impl Future<Output = Result<Server, Failed>> + Send;

    /// Merges keys into the metadata of a server; gives the server as it is then.
    fn write(
        &self,
        server: i64,
        metadata: Map<String, Value>,
    ) -> impl Future<Output = Result<Server, Failed>> + Send;

    /// Where matches are started and finished on this server; `None` where nothing says so.
    fn match_api(&self, server: &Server) -> Option<String>;

    /// Asks a game server to start a match.
    fn start(&self, api: &str, fence: u64, record: &Match) -> impl Future<Output = Started> + Send;

    /// Asks a game server to finish a match.
    fn finish(
        &self,
        api: &str,
        fence: u64,
        match_id: &str,
        outcome: &str,
    ) -> impl Future<Output = Finished> + Send;

    /// Asks a game server what it is doing.
    fn doing(&self, api: &str) -> impl Future<Output = Doing> + Send;

    /// Chooses where the voice of a match goes, if it has any.
    fn plan_voice(&self, record: &Match, server: &Server) -> Option<VoicePlan>;

    /// Closes the voice rooms of a match. Failures are the implementor's to report: rooms end without peers anyway.
    fn close_voice(&self, record: &Match) -> impl Future<Output = ()> + Send;
}
