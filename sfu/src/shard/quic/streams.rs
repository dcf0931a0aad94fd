//! A stream of signalling on its shard: bytes from and to the connection, frames to and from a task.

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, ReadError, StreamId, VarInt, WriteError};
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

use super::{
    frames::{Deframer, head},
    pipe::{Came, Ending, Said, ShardEnd},
};

/// Bytes read at once; what a task has no room for stays with the library, which makes the client wait.
const READ_BYTES: usize = 16 * 1024;

/// What became of a stream after a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// It goes on.
    Open,
    /// The task has ended it in this way.
    Ended(Ending),
    /// The task has let go of it.
    Abandoned,
}

/// What reading came to.
pub(super) enum Read {
    /// Bytes, and there may be more.
    Bytes(Bytes),
    /// Nothing at present.
    Blocked,
    /// The client has finished it.
    Finished,
    /// The client has reset it, or it is no stream any more.
    Gone,
}

/// Reads what has come over a stream.
pub(super) fn read(connection: &mut Connection, id: StreamId, bytes: usize) -> Read {
    let mut stream = connection.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else {
        return Read::Gone;
    };
    let result = match chunks.next(bytes) {
        Ok(Some(chunk)) => Read::Bytes(chunk.bytes),
        Ok(None) => Read::Finished,
        Err(ReadError::Blocked) => Read::Blocked,
        Err(ReadError::Reset(_)) => Read::Gone,
    };
    // What has to be sent for it goes with the next poll, which always follows.
    let _ = chunks.finalize();
    result
}

/// A stream between a client and a task.
#[derive(Debug)]
pub(super) struct TaskStream {
    task: ShardEnd,
    deframer: Deframer,
    /// What the task has no room for; nothing is read before it is taken.
    held: Option<Came>,
    has_ended: bool,
    unsent: [Bytes; 2],
}

impl TaskStream {
    /// One on which these bytes have come already.
    pub(super) fn new(task: ShardEnd, first: &BytesMut) -> Self {
        let mut deframer = Deframer::default();
        deframer.push(first);
        Self {
            task,
            deframer,
            held: None,
            has_ended: false,
            unsent: Default::default(),
        }
    }

    /// Brings what has come to the task.
    pub(super) fn bring(&mut self, connection: &mut Connection, id: StreamId) {
        loop {
            if !self.give() {
                return;
            }
            match self.deframer.next() {
                Ok(Some(frame)) => {
                    self.held = Some(Came::Frame(frame));
                    continue;
                }
                Ok(None) => {}
                Err(_) => {
                    self.held = Some(Came::Broken);
                    continue;
                }
            }
            match read(connection, id, READ_BYTES) {
                Read::Bytes(bytes) => self.deframer.push(&bytes),
                Read::Blocked => return,
                Read::Finished if !self.deframer.is_between_frames() => {
                    self.held = Some(Came::Broken);
                }
                Read::Finished | Read::Gone => self.held = Some(Came::Left),
            }
        }
    }

    /// Whether the task has taken what it was to have, and may get more.
    fn give(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        let Some(came) = self.held.take() else {
            return true;
        };
        let is_last = !matches!(came, Came::Frame(_));
        // Said before the attempt: a task that makes room between the two rings.
        self.task.wait_for_room();
        match self.task.incoming.try_send(came) {
            Ok(()) => self.has_ended = is_last,
            Err(TrySendError::Full(came)) => {
                self.held = Some(came);
                return false;
            }
            Err(TrySendError::Closed(_)) => self.has_ended = true,
        }
        !self.has_ended
    }

    /// The client has closed all of it.
    pub(super) fn leave(&mut self) {
        if !self.has_ended {
            self.held = Some(Came::Left);
            self.give();
        }
    }

    /// Takes what the task has written.
    pub(super) fn send(&mut self, connection: &mut Connection, id: StreamId) -> Looked {
        self.task.look();
        loop {
            match connection.send_stream(id).write_chunks(&mut self.unsent) {
                Ok(_) if self.unsent.iter().any(|it| !it.is_empty()) => return Looked::Open,
                Ok(_) => {}
                Err(WriteError::Blocked) if self.unsent.iter().any(|it| !it.is_empty()) => {
                    return Looked::Open;
                }
                Err(WriteError::Blocked) => {}
                // The client wants no more of it; it says so on its own way as well.
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    self.unsent = Default::default();
                }
            }
            match self.task.outgoing.try_recv() {
                Ok(Said::Frame(frame)) => match head(&frame) {
                    Some(head) => self.unsent = [head, frame],
                    None => tracing::error!("a frame is too long for its stream"),
                },
                Ok(Said::End(ending)) => return Looked::Ended(ending),
                Err(TryRecvError::Empty) => return Looked::Open,
                Err(TryRecvError::Disconnected) => return Looked::Abandoned,
            }
        }
    }
}

/// Ends the server's half of a stream, and asks for nothing more on the other.
pub(super) fn end(connection: &mut Connection, id: StreamId, ending: Ending) {
    let code = stream_code(ending.code);
    // Errors mean that the client was faster.
    match ending.is_orderly {
        true => drop(connection.send_stream(id).finish()),
        false => drop(connection.send_stream(id).reset(code)),
    }
    let _ = connection.recv_stream(id).stop(code);
}

/// A code as streams of WebTransport have it.
pub(super) fn stream_code(code: u16) -> VarInt {
    let code = web_transport_proto::error_to_http3(code.into());
    VarInt::from_u64(code).unwrap_or_default()
}
