//! A stream of frames, over whatever carries it.

use bytes::Bytes;

use super::{end::StreamEnd, web_socket, web_transport};

/// A stream in both directions. Dropping it says nothing to the server; [`Self::leave`] does.
pub(crate) enum Frames {
    WebSocket(Box<web_socket::Stream>),
    WebTransport(Box<web_transport::Stream>),
}

impl Frames {
    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: Vec<u8>) -> Result<(), StreamEnd> {
        match self {
            Self::WebSocket(stream) => stream.send(frame).await,
            Self::WebTransport(stream) => stream.send(&frame).await,
        }
    }

    /// The next frame. May be dropped at any time without loss.
    pub(crate) async fn next(&mut self) -> Result<Bytes, StreamEnd> {
        match self {
            Self::WebSocket(stream) => stream.next().await,
            Self::WebTransport(stream) => stream.next().await,
        }
    }

    /// Tells the server that the client goes.
    pub(crate) async fn leave(self) {
        match self {
            Self::WebSocket(stream) => stream.leave().await,
            Self::WebTransport(stream) => stream.leave().await,
        }
    }
}
