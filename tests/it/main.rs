//! The programs together, in one test binary.

mod bridge;
mod cases;
mod events;
mod index;
mod match_voice;
mod matches;
mod operations;
mod outage;
mod page;
mod processes;
mod voice_node;
