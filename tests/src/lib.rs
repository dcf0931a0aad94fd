//! The programs together: tests, the bridge adapter and the benchmarks.
