//! The programs together, in one test binary.

mod cases;
