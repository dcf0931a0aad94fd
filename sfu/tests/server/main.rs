//! A whole voice server, and clients that talk to it over its sockets.

mod client;
mod protocol;
mod world;
