//! What the tests and the load drivers share: the programs started in one process, a scripted Fleet, and the storm of
//! matchmakers.

mod adapter;
mod scripted_fleet;
pub mod storm;

pub use adapter::{Adapter, free_bridge};
pub use scripted_fleet::{Exchange, Recorded, ScriptedFleet};
