//! What the tests and the load driver share: the programs started in one process, and a scripted Fleet.

mod adapter;
mod scripted_fleet;

pub use adapter::{Adapter, free_bridge};
pub use scripted_fleet::{Exchange, Recorded, ScriptedFleet};
