//! One stream: frames at the rate that is allowed, pings, silence, and a client that does not read.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::{
    Gate, Passage,
    wire::rpc::{FrameError, Reply, Request, answer},
};
use tokio::time::{Interval, MissedTickBehavior, sleep_until, timeout};

use super::{
    close::Close,
    socket::{Arrival, Gone, Socket},
};
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
    /// The client has ended it.
    Left,
    /// Its connection ended without a word.
    Lost,
    /// The server has to end it.
    Close(Close),
}

pub(super) struct Stream {
    socket: Socket,
    settings: StreamSettings,
    gate: Gate,
    delayed: VecDeque<(Instant, Bytes, Instant)>,
    ping: Option<Interval>,
    heard: Instant,
}

impl Stream {
    pub(super) fn new(socket: Socket, settings: StreamSettings) -> Self {
        let now = Instant::now();
        let rate = settings.messages;
        let ping = settings.ping_interval.map(|interval| {
            let first = tokio::time::Instant::now() + interval;
            let mut ping = tokio::time::interval_at(first, interval);
            ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ping
        });
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
                arrival = self.socket.receive() => {
                    if let Some(incoming) = self.take(arrival).await {
                        return incoming;
                    }
                }
                () = tick(&mut self.ping) => {
                    if self.heard.elapsed() > self.settings.timeout {
                        return Incoming::Close(Close::Silent);
                    }
                    if let Err(close) = in_time(self.settings.timeout, self.socket.ping()).await {
                        return Incoming::Close(close);
                    }
                }
            }
        }
    }

    async fn take(&mut self, arrival: Arrival) -> Option<Incoming> {
        self.heard = Instant::now();
        let frame = match arrival {
            Arrival::Frame(frame) => frame,
            Arrival::Sign => return None,
            Arrival::Left => return Some(Incoming::Left),
            Arrival::Lost => return Some(Incoming::Lost),
            Arrival::Close(close) => return Some(Incoming::Close(close)),
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
        match self.send(refusal).await {
            Ok(()) => None,
            Err(close) => Some(Incoming::Close(close)),
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// [`Close::TooSlow`] when the client does not take it in time.
    pub(super) async fn send(&mut self, frame: Bytes) -> Result<(), Close> {
        let send = async {
            self.socket.feed(frame).await?;
            self.socket.flush().await
        };
        in_time(self.settings.timeout, send).await
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
            socket.feed(first).await?;
            for _ in 0..FLUSH_AFTER {
                let Some(frame) = next() else { break };
                socket.feed(frame).await?;
            }
            socket.flush().await
        };
        in_time(self.settings.timeout, send).await
    }

    /// What carries it.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn settings(&self) -> StreamSettings {
        self.settings
    }

    /// Ends the stream.
    pub(super) async fn close(mut self, close: Close) {
        let _ = timeout(CLOSE_TIME, self.socket.close(close)).await;
    }
}

async fn tick(ping: &mut Option<Interval>) {
    match ping {
        Some(ping) => drop(ping.tick().await),
        None => std::future::pending().await,
    }
}

async fn in_time(
    time: Duration,
    send: impl Future<Output = Result<(), Gone>>,
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
