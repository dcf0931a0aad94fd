//! The mock-fleet command.

fn main() {}
