//! A whole voice server, and clients that talk to it over its sockets.

mod abuse;
mod bystanders;
mod calls;
mod client;
mod connections;
mod grid;
mod limits;
mod offers;
mod operation;
mod protocol;
mod resume;
mod world;
