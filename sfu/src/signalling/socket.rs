//! What carries the frames of a stream.

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures::SinkExt as _;

use super::close::Close;
use crate::shard::{Came, Pipe};

/// The connection of one stream.
pub(super) enum Socket {
    /// A WebSocket of a web client.
    Web(Box<WebSocket>),
    /// A stream of a native client.
    Quic(Pipe),
}

/// What came.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A frame.
    Frame(Bytes),
    /// A sign of life.
    Sign,
    /// The client has said that it goes.
    Left,
    /// The connection has ended without a word.
    Lost,
    /// It cannot go on.
    Close(Close),
}

/// The connection takes no more; the next [`Socket::receive`] says why.
#[derive(Debug)]
pub(super) struct Gone;

impl Socket {
    /// The next thing that comes. It may be dropped and called again.
    pub(super) async fn receive(&mut self) -> Arrival {
        match self {
            Self::Web(socket) => match socket.recv().await {
                None => Arrival::Lost,
                Some(Err(_)) => Arrival::Close(Close::Broken),
                Some(Ok(Message::Close(frame))) => closed(frame.as_ref()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Arrival::Sign,
                Some(Ok(Message::Text(_))) => Arrival::Close(Close::Garbage),
                Some(Ok(Message::Binary(frame))) => Arrival::Frame(frame),
            },
            Self::Quic(pipe) => match pipe.receive().await {
                None => Arrival::Lost,
                Some(Came::Broken) => Arrival::Close(Close::Broken),
                Some(Came::Left) => Arrival::Left,
                Some(Came::Frame(frame)) => Arrival::Frame(frame),
            },
        }
    }

    /// Writes a frame that may wait for [`Self::flush`].
    pub(super) async fn feed(&mut self, frame: Bytes) -> Result<(), Gone> {
        match self {
            Self::Web(socket) => socket.feed(Message::Binary(frame)).await.map_err(|_| Gone),
            Self::Quic(pipe) => pipe.feed(frame).await.map_err(|()| Gone),
        }
    }

    /// Sends what was written.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        match self {
            Self::Web(socket) => socket.flush().await.map_err(|_| Gone),
            Self::Quic(pipe) => {
                pipe.flush();
                Ok(())
            }
        }
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        match self {
            Self::Web(socket) => socket
                .send(Message::Ping(Bytes::new()))
                .await
                .map_err(|_| Gone),
            // The connection looks after itself.
            Self::Quic(_) => Ok(()),
        }
    }

    /// Ends it.
    pub(super) async fn close(&mut self, close: Close) {
        match self {
            Self::Web(socket) => {
                // A connection that is gone needs no word of its end.
                let _ = socket.send(Message::Close(Some(close.frame()))).await;
            }
            Self::Quic(pipe) => pipe.end(close.ending()).await,
        }
    }
}

/// A client that goes says so with one of these codes; without a code, as libraries of clients do by default, it goes as
/// well.
fn closed(frame: Option<&CloseFrame>) -> Arrival {
    match frame.map_or(close_code::NORMAL, |frame| frame.code) {
        close_code::NORMAL | close_code::AWAY | close_code::STATUS => Arrival::Left,
        _ => Arrival::Lost,
    }
}
