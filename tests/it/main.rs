//! The programs together, in one test binary.

mod cases;
mod outage;
mod processes;
