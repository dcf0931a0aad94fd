//! HTTP bridge between a matchmaker and ODIN Fleet: list, get and update game server instances.
