//! A stand-in game server for ODIN Fleet: it marks itself idle or occupied in the metadata of its instance, takes
//! match starts and finishes over HTTP, and answers pings on its UDP game port.

mod command;
mod config;
mod error;
mod fleet;
mod http;
mod lifecycle;
mod ping;
mod server;

pub use command::{Arguments, command};
pub use config::{Config, ConfigError, DEFAULT_GAME_PORT, ExitState};
pub use error::ServerError;
pub use lifecycle::{
    Finish, GameMatch, Lifecycle, PLAYERS_MAX, Plan, Refusal, Start, State, USER_IDS_MAX,
};
pub use ping::{NONCE_BYTES, parse_ping};
pub use server::Server;
