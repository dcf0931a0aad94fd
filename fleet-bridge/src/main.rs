//! The fleet-bridge command.

fn main() {}
