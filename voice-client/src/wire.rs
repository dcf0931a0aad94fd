//! The words of the protocol: frames of calls and answers, events, and how frames lie in a stream of QUIC. Pure: bytes in,
//! values out.

pub(crate) mod framing;
pub(crate) mod notification;
pub(crate) mod rpc;
