//! Load on the bridge.

fn main() {}
