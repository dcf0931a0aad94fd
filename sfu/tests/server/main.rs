//! A whole voice server, and clients that talk to it over its sockets.

mod abuse;
mod bystanders;
mod client;
mod connections;
mod limits;
mod protocol;
mod world;
