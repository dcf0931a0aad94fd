//! Bytes to words and back, and nothing else.

pub mod datagram;
pub mod notification;
pub mod rpc;
