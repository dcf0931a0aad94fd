//! What progenitor generates from `openapi/odin-fleet.json`; see `build.rs`.

#![allow(
    missing_debug_implementations,
    private_interfaces,
    unnameable_types,
    unreachable_pub,
    unused_imports,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    rustdoc::all,
    reason = "generated"
)]

include!(concat!(env!("OUT_DIR"), "/client.rs"));
