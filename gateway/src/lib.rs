//! The way into ODIN voice servers.
