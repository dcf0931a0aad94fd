//! The programs together, in one test binary.

mod bridge;
mod cases;
mod events;
mod index;
mod outage;
mod processes;
mod voice_node;
