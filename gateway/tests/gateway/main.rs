//! The gateway over HTTP, as customers, clients, voice servers and attackers meet it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod abuse;
mod moderation;
mod operation;
mod security;
mod world;
