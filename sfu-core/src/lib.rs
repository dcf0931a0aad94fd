//! The room and its words: a voice room as a pure state machine, and the ODIN wire formats beside it.
//!
//! Nothing here does IO, asks for the time or for chance, starts a thread or takes a lock: all of it is arguments. A
//! driver owns a [`Room`] and its [`Directory`] by `&mut`, hands them commands and datagrams, and carries out what they
//! say.

#![warn(
    missing_docs,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod bans;
mod bucket;
mod command;
mod directory;
mod drops;
mod event;
mod id;
pub mod limits;
mod mutes;
mod room;
mod shedding;
pub mod wire;

pub use bans::Bans;
pub use bucket::{Gate, Passage, TokenBucket};
pub use command::{Command, CommandError, MainCommand};
pub use directory::{Admitted, Directory, DirectoryLimits, Refusal, RoomKey, RoomSummary};
pub use drops::DropReason;
pub use event::{Event, LeaveReason, MediaInfo, Notice, PeerInfo, RoomInfo};
pub use id::{MediaId, MediaIds, PeerId, RoomNumber};
pub use mutes::{Mute, TooManyMutes};
pub use room::{Directed, Directive, Join, Pair, Position, Refused, Room, RoomLimits, Slot};
pub use shedding::{BudgetChange, Shedding};
