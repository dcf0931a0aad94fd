//! What the tests and the load drivers share: the programs started in one process, a scripted Fleet, the cases of a
//! fleet manager, and the storm of matchmakers.

mod adapter;
pub mod cases;
mod nakama;
mod scripted_fleet;
pub mod storm;

pub use adapter::{Adapter, free_bridge};
pub use nakama::Nakama;
pub use scripted_fleet::{Exchange, Recorded, ScriptedFleet};
