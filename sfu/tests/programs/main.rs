//! The voice server as a process: its command line, its signals, its death.

#[allow(dead_code, reason = "the tests of the server need more of it")]
#[path = "../server/client.rs"]
mod client;
mod command_line;
mod failover;
mod flood;
#[allow(dead_code, reason = "the tests of the server need more of it")]
#[path = "../server/grid.rs"]
mod grid;
mod license;
mod signals;
mod world;
