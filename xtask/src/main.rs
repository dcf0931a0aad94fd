//! Project tasks: `cargo xtask test | ci | openapi | bench | soak | fuzz`.

fn main() {}
