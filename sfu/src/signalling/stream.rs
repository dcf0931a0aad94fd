//! One WebSocket: frames at the rate that is allowed, pings, silence, and a client that does not read.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::SinkExt as _;
use sfu_core::{
    Gate, Passage,
    wire::rpc::{FrameError, Reply, Request, answer},
};
use tokio::time::{Interval, MissedTickBehavior, sleep_until, timeout};

use super::close::Close;
use crate::control::StreamSettings;

/// Frames that are written before they are flushed.
const FLUSH_AFTER: usize = 64;

/// How long a client may take to take its close frame.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// What a stream gives.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A frame, and when it came.
    Frame(Bytes, Instant),
    /// The client has ended it, or its connection broke.
    Ended,
    /// The server has to end it.
    Close(Close),
}

pub(super) struct Stream {
    socket: WebSocket,
    settings: StreamSettings,
    gate: Gate,
    delayed: VecDeque<(Instant, Bytes, Instant)>,
    ping: Interval,
    heard: Instant,
}

impl Stream {
    pub(super) fn new(socket: WebSocket, settings: StreamSettings) -> Self {
        let now = Instant::now();
        let rate = settings.messages;
        let first = tokio::time::Instant::now() + settings.ping_interval;
        let mut ping = tokio::time::interval_at(first, settings.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            socket,
            settings,
            gate: Gate::new(now, rate.rate, rate.capacity, rate.overflow),
            delayed: VecDeque::new(),
            ping,
            heard: now,
        }
    }

    /// The next frame, when its turn has come. It may be dropped and called again.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            let due = self.delayed.front().map(|(due, ..)| *due);
            tokio::select! {
                biased;
                () = turn(due) => {
                    if let Some((_, frame, since)) = self.delayed.pop_front() {
                        return Incoming::Frame(frame, since);
                    }
                }
                message = self.socket.recv() => {
                    if let Some(incoming) = self.take(message).await {
                        return incoming;
                    }
                }
                _ = self.ping.tick() => {
                    if self.heard.elapsed() > self.settings.timeout {
                        return Incoming::Close(Close::Silent);
                    }
                    if self.write(Message::Ping(Bytes::new())).await.is_err() {
                        return Incoming::Close(Close::TooSlow);
                    }
                }
            }
        }
    }

    async fn take(&mut self, message: Option<Result<Message, axum::Error>>) -> Option<Incoming> {
        self.heard = Instant::now();
        let frame = match message {
            None | Some(Ok(Message::Close(_))) => return Some(Incoming::Ended),
            Some(Err(_)) => return Some(Incoming::Close(Close::Broken)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return None,
            Some(Ok(Message::Text(_))) => return Some(Incoming::Close(Close::Garbage)),
            Some(Ok(Message::Binary(frame))) => frame,
        };
        match self.gate.pass(self.heard) {
            Passage::After(wait) => {
                let due = self.heard + wait;
                self.delayed.push_back((due, frame, self.heard));
                None
            }
            Passage::Disconnect => Some(Incoming::Close(Close::TooManyCalls)),
            Passage::Refused => self.refuse(&frame).await,
        }
    }

    /// Answers a call that may not be made.
    async fn refuse(&mut self, frame: &[u8]) -> Option<Incoming> {
        let id = match Request::parse(frame) {
            Ok(request) => request.id,
            Err(FrameError::Request { id, .. }) => id,
            Err(_) => return Some(Incoming::Close(Close::Garbage)),
        };
        let refusal = answer(id, &Reply::Error("too many calls"));
        match self.write(Message::Binary(refusal)).await {
            Ok(()) => None,
            Err(close) => Some(Incoming::Close(close)),
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// [`Close::TooSlow`] when the client does not take it in time.
    pub(super) async fn send(&mut self, frame: Bytes) -> Result<(), Close> {
        self.write(Message::Binary(frame)).await
    }

    /// Sends a frame and those that wait behind it.
    ///
    /// # Errors
    /// [`Close::TooSlow`] when the client does not take them in time.
    pub(super) async fn send_all(
        &mut self,
        first: Bytes,
        mut next: impl FnMut() -> Option<Bytes>,
    ) -> Result<(), Close> {
        let socket = &mut self.socket;
        let send = async {
            socket.feed(Message::Binary(first)).await?;
            for _ in 0..FLUSH_AFTER {
                let Some(frame) = next() else { break };
                socket.feed(Message::Binary(frame)).await?;
            }
            socket.flush().await
        };
        in_time(self.settings.timeout, send).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Close> {
        in_time(self.settings.timeout, self.socket.send(message)).await
    }

    /// Ends the stream.
    pub(super) async fn close(mut self, close: Close) {
        let frame = Message::Close(Some(close.frame()));
        let _ = timeout(CLOSE_TIME, self.socket.send(frame)).await;
    }
}

async fn in_time(
    time: Duration,
    send: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), Close> {
    match timeout(time, send).await {
        // A broken connection ends with the next look at it.
        Ok(_) => Ok(()),
        Err(_) => Err(Close::TooSlow),
    }
}

/// Until a time; without one, for ever.
pub(super) async fn turn(due: Option<Instant>) {
    match due {
        // The timer is a millisecond late, and most frames need not wait at all.
        Some(due) if due <= Instant::now() => {}
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
