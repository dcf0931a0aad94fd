//! The mock-game-server command.

fn main() {}
