//! The way into ODIN voice servers: checks customers' tokens, keeps rooms on servers, hands out session tokens and
//! carries moderation.
//!
#![doc = include_str!("../DEVIATIONS.md")]

mod auth;
mod command;
mod config;
mod customers;
mod error;
mod grid;
mod http;
mod methods;
mod metrics;
mod rate_limit;
mod rpc;
mod server;
mod state;
mod store;

pub use command::{Arguments, command};
pub use config::{
    Config, CustomerSource, Internal, InternalUser, Limits, Pools, Rate, RedisConfig, RoomMatch,
    Tls, UnknownCustomers,
};
pub use customers::{Customer, CustomerKey};
pub use grid::{
    Action, Applied, BANS_MAX, Barred, Bind, Binding, Command, Connect, Delivery, Grid, LastReport,
    MUTES_MAX, Outcome, Pick, Pool, ROOMS_MAX, Refused, Release, SERVERS_MAX,
    Server as VoiceServer, ServerRef, ServerReport, TASK_BYTES_MAX, TASKS_MAX, TaskKey, Timestamp,
    Timing, Usage, UsageLimits, WaitingTask,
};
pub use server::{Server, ServerError};
pub use store::{
    Counter, RedisAddressError, RedisTuning, Store, StoreHealth, StoreKind, StoreStats, Waiter,
};
