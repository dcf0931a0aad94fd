//! The `bifrost` command: access keys, tokens, licences and settings for a gateway and its voice servers, and a demo of the fleet.

mod access_key;
mod command;
mod config;
mod demo;
mod failure;
mod input;
mod license;
mod port;
mod program;
mod token;
mod voice;

pub use command::command;
