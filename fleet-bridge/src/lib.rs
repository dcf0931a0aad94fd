//! HTTP bridge between a matchmaker and ODIN Fleet: lists, reads and updates game server instances in the words of
//! Nakama's fleet manager.

mod api;
mod auth;
mod command;
mod config;
mod coordinator;
mod error;
mod fleet;
mod game_servers;
mod index;
mod matches;
mod metrics;
mod model;
mod page;
mod query;
mod server;
mod store;
mod voice;
mod webhook;

pub use api::openapi_json;
pub use auth::{AccessToken, Scope};
pub use command::{Arguments, command};
pub use config::{
    Config, ConfigError, IndexSettings, InstanceSettings, Limits, MatchSettings, PageSettings,
    Scale, StoreConfig, VoiceSettings,
};
pub use error::{Error, Kind, PROBLEM_JSON, Problem};
pub use matches::{
    record::Reason,
    request::{Latency, MatchRequest, Player, Policy, Selector, VoiceWish},
    view::{MatchInstance, MatchList, MatchView, PlayerView},
};
pub use model::{
    ConnectionInfo, Instance, InstanceList, InstanceUpdate, Keys, Server as FleetServer,
    SkipReason, convert,
};
pub use query::{Conditions, Cursor, Filter, ListQuery, Place, Position, Rules, Source};
pub use server::{Server, ServerError};
pub use voice::{RoomKind, VoiceAccess, VoiceError, VoiceRoom};
