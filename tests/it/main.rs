//! The programs together, in one test binary.

mod bridge;
mod cases;
mod index;
mod outage;
mod processes;
