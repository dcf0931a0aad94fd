//! House rules the compiler cannot check. Runs with `cargo test`.
