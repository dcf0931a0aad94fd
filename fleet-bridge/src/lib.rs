//! HTTP bridge between a matchmaker and ODIN Fleet: lists, reads and updates game server instances in the words of
//! Nakama's fleet manager.

mod api;
mod auth;
mod command;
mod config;
mod error;
mod fleet;
mod index;
mod metrics;
mod model;
mod query;
mod server;
#[cfg_attr(not(test), expect(dead_code, reason = "nothing keeps matches yet"))]
mod store;

pub use api::openapi_json;
pub use auth::{AccessToken, Scope};
pub use command::{Arguments, command};
pub use config::{Config, ConfigError, IndexSettings, Limits, StoreConfig};
pub use error::{Error, Kind, PROBLEM_JSON, Problem};
pub use model::{
    ConnectionInfo, Instance, InstanceList, InstanceUpdate, Keys, Server as FleetServer,
    SkipReason, convert,
};
pub use query::{Conditions, Cursor, Filter, ListQuery, Place, Position, Rules, Source};
pub use server::{Server, ServerError};
