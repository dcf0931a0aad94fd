//! A stand-in for a real game server on ODIN Fleet.
//!
//! It marks itself idle when it starts, occupied while a match runs, and idle again afterwards, by writing its own
//! instance metadata; and it answers a ping on its game port. Everything a studio's server has to do for
//! matchmaking is here, and nothing of a game.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use mock_game_server::{Config, Server};
//!
//! let config = Config::local("http://127.0.0.1:8085/api", "the-api-token", 1234)?;
//! let server = Server::bind(config).await?;
//! println!("POST http://{}/match/start", server.http_addr());
//! server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```

mod command;
mod config;
mod driver;
mod error;
mod fleet;
mod heartbeat;
mod http;
mod journal;
mod lifecycle;
mod ping;
mod server;

pub use command::command;
pub use config::{
    Config, ConfigError, DEFAULT_GAME_PORT, DEFAULT_HTTP_ADDR, ExitState, HEARTBEAT_MAX,
    MATCH_DURATION_MAX, MatchPort,
};
pub use error::ServerError;
pub use lifecycle::{MATCH_ID_BYTES_MAX, PLAYERS_MAX};
pub use ping::{NONCE_BYTES_MAX, PING_BYTES_MAX};
pub use server::Server;
