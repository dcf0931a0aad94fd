//! Matches: a server that is a matchmaker's own, running its match. This module knows which steps that takes and what
//! may go wrong; it has no IO and no clock: [`world::World`] is all it sees of the outside.

pub(crate) mod claim;
pub(crate) mod delivery;
pub(crate) mod flow;
#[cfg(test)]
mod model;
pub(crate) mod obtain;
pub(crate) mod operation;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod sweep;
pub(crate) mod view;
pub(crate) mod world;
