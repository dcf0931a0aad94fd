//! `cargo xtask bench sfu-core`: what the pure core costs, beside what nothing can do for less.

use anyhow::Result;

use crate::process::{cargo, run};

/// The benchmark prints its own table: it has no other program to start or to wait for.
pub(crate) fn run_bench() -> Result<()> {
    run(&mut cargo(&[
        "bench", "-p", "sfu-core", "--bench", "core", "--locked",
    ]))
}
