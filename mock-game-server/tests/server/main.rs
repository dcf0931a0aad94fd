//! The running server against a Fleet that takes or refuses updates.

mod claims;
mod harness;
mod requests;
mod updates;
