//! One connection of a native client: the library's, its WebTransport session, and the streams and datagrams of that.

mod voice;

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    Connection, ConnectionError, ConnectionEvent, ConnectionHandle, Dir, EndpointEvent, Event,
    StreamEvent, StreamId, VarInt,
};
use tokio::sync::mpsc;
use web_transport_proto::http::StatusCode;

use super::{
    ConnectionId,
    http3::{self, Capsules, Head, SessionWord},
    pipe::{Arrival, Bell, Ending, pipe},
    streams::{Looked, Read, TaskStream, end, read},
};
use crate::shard::{
    Inbox, ShardNumber,
    session::{Sent, Waiting},
    socket::Packets,
};

/// Bytes read at once of streams that are no task's.
const READ_BYTES: usize = 4 * 1024;

/// How long a client may take to take the word that its session is closed, before its connection is.
const CLOSING_TIME: Duration = Duration::from_millis(500);

/// Where streams are brought to.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    pub(super) arrivals: mpsc::Sender<Arrival>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) shard: ShardNumber,
}

#[derive(Debug)]
enum Role {
    /// It has not said what it is.
    Unknown(BytesMut),
    /// It is read and not minded.
    Ignored,
    /// It is the session's own.
    Session(Capsules),
    Task(Box<TaskStream>),
}

#[derive(Debug)]
struct Session {
    stream: StreamId,
    datagram_prefix: Bytes,
    main: Option<StreamId>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It must have a session by then.
    Beginning(Instant),
    Open,
    /// The client was told that its session is closed; its connection is then.
    Closing(Instant),
    /// There is nothing left but to let the library end it.
    Over,
}

/// See the module.
pub(in crate::shard) struct QuicSession {
    pub(in crate::shard) id: ConnectionId,
    handle: ConnectionHandle,
    connection: Connection,
    tasks: Tasks,
    roles: HashMap<StreamId, Role>,
    session: Option<Session>,
    state: State,
    voice_wait: Duration,
    /// Bytes of each voice packet that the library holds, oldest first.
    held: VecDeque<usize>,
    held_bytes: usize,
    /// Since when the library holds voice back.
    blocked_since: Option<Instant>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for QuicSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicSession")
            .field("id", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl QuicSession {
    pub(super) fn new(
        id: ConnectionId,
        (handle, connection): (ConnectionHandle, Connection),
        tasks: Tasks,
        session_until: Instant,
        voice_wait: Duration,
    ) -> Self {
        Self {
            id,
            handle,
            connection,
            tasks,
            roles: HashMap::new(),
            session: None,
            state: State::Beginning(session_until),
            voice_wait,
            held: VecDeque::new(),
            held_bytes: 0,
            blocked_since: None,
            buffer: Vec::new(),
        }
    }

    /// Calls the library. When it trips, the connection is over and the others go on.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| call(self)));
        if result.is_err() {
            tracing::error!("a QUIC connection ended by a panic");
            self.give_up();
        }
        result.ok()
    }

    /// The tasks of its streams find them ended without a word.
    fn give_up(&mut self) {
        self.state = State::Over;
        self.roles.clear();
    }

    pub(in crate::shard) fn take(&mut self, event: ConnectionEvent) {
        self.guarded(|it| it.connection.handle_event(event));
    }

    /// Its time has come.
    pub(in crate::shard) fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Beginning(until) if until <= now => self.close_connection(now),
            State::Closing(until) if until <= now => self.close_connection(now),
            _ => {}
        }
        self.guarded(|it| it.connection.handle_timeout(now));
    }

    fn close_connection(&mut self, now: Instant) {
        self.give_up();
        self.guarded(|it| {
            let code = VarInt::from_u32(http3::code::NONE);
            it.connection.close(now, code, Bytes::new());
        });
    }

    /// The client is no longer one. Its main task may say why before it lets go of its stream.
    pub(in crate::shard) fn disconnect(&mut self, now: Instant) {
        if self.state == State::Open {
            self.state = State::Closing(now + CLOSING_TIME);
        }
    }

    pub(in crate::shard) fn handle(&self) -> ConnectionHandle {
        self.handle
    }

    /// Whether it has a session that voice can be sent on.
    pub(in crate::shard) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether it has no session yet.
    pub(in crate::shard) fn is_beginning(&self) -> bool {
        matches!(self.state, State::Beginning(_))
    }

    /// A task has something for a stream, or room for more of it.
    pub(in crate::shard) fn look_at(&mut self, now: Instant, stream: u64) {
        let Ok(stream) = VarInt::from_u64(stream).map(StreamId::from) else {
            return;
        };
        self.guarded(|it| {
            it.bring(stream);
            it.send(now, stream);
        });
    }

    /// Takes what has come: voice, and what concerns the endpoint, which `exchange` tells it.
    pub(in crate::shard) fn take_events(
        &mut self,
        now: Instant,
        mut exchange: impl FnMut(ConnectionHandle, EndpointEvent) -> Option<ConnectionEvent>,
        mut voice: impl FnMut(Bytes),
    ) {
        self.guarded(|it| {
            loop {
                while let Some(event) = it.connection.poll() {
                    it.handle_event(now, event, &mut voice);
                }
                let Some(event) = it.connection.poll_endpoint_events() else {
                    return;
                };
                if let Some(event) = exchange(it.handle, event) {
                    it.connection.handle_event(event);
                }
            }
        });
    }

    /// Sends what there is to send, with the voice that waits. Says when it wants to be polled again; `None` when it is
    /// over and done with.
    pub(in crate::shard) fn send_packets(
        &mut self,
        now: Instant,
        waiting: &mut Waiting,
        packets: &mut Packets,
        sent: &mut Sent,
    ) -> Option<Instant> {
        self.guarded(|it| {
            if it.state != State::Open {
                waiting.clear();
            }
            let is_all = it.fill_and_send(now, waiting, packets, sent);
            if it.connection.is_drained() {
                return None;
            }
            let own = match it.state {
                State::Beginning(until) | State::Closing(until) => Some(until),
                State::Open | State::Over => None,
            };
            let more = (!is_all).then_some(now);
            let timeout = [it.connection.poll_timeout(), own, more]
                .into_iter()
                .flatten();
            Some(timeout.min().unwrap_or(now + CLOSING_TIME))
        })?
    }

    fn handle_event(&mut self, now: Instant, event: Event, voice: &mut impl FnMut(Bytes)) {
        match event {
            Event::Connected => self.open_control_stream(),
            Event::Stream(StreamEvent::Opened { dir }) => {
                while let Some(stream) = self.connection.streams().accept(dir) {
                    self.roles.insert(stream, Role::Unknown(BytesMut::new()));
                    self.read(now, stream);
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
            Event::Stream(StreamEvent::Writable { id }) => self.send(now, id),
            Event::Stream(
                StreamEvent::Finished { .. }
                | StreamEvent::Stopped { .. }
                | StreamEvent::Available { .. },
            )
            | Event::HandshakeDataReady
            | Event::DatagramsUnblocked => {}
            Event::DatagramReceived => {
                while let Some(datagram) = self.connection.datagrams().recv() {
                    let prefix = self.session.as_ref().map(|it| &it.datagram_prefix);
                    // Another session's, or of one that is not there yet: RFC 9297 lets it be dropped.
                    if prefix.is_some_and(|prefix| datagram.starts_with(prefix)) {
                        voice(datagram.slice(prefix.map_or(0, Bytes::len)..));
                    }
                }
            }
            Event::ConnectionLost { reason } => self.lost(&reason),
        }
    }

    /// The other end closes what it does not want any more; everything else is an accident.
    fn lost(&mut self, reason: &ConnectionError) {
        tracing::debug!("a QUIC connection has ended: {reason}");
        if matches!(reason, ConnectionError::ApplicationClosed(_)) {
            self.leave();
        }
        self.give_up();
    }

    fn leave(&mut self) {
        for role in self.roles.values_mut() {
            if let Role::Task(task) = role {
                task.leave();
            }
        }
    }

    fn open_control_stream(&mut self) {
        let Some(stream) = self.connection.streams().open(Dir::Uni) else {
            // A client that takes no control stream speaks another protocol; it will not get a session in time.
            return;
        };
        // A new stream has room for it, or the client could not take anything.
        let _ = self
            .connection
            .send_stream(stream)
            .write(&http3::control_stream());
    }

    fn read(&mut self, now: Instant, stream: StreamId) {
        match self.roles.get_mut(&stream) {
            Some(Role::Task(_)) => return self.bring(stream),
            Some(_) => {}
            None => return,
        }
        loop {
            let bytes = match read(&mut self.connection, stream, READ_BYTES) {
                Read::Bytes(bytes) => bytes,
                Read::Blocked => return,
                Read::Finished | Read::Gone => {
                    let role = self.roles.remove(&stream);
                    if matches!(role, Some(Role::Session(_))) {
                        self.leave();
                        self.close_connection(now);
                    }
                    return;
                }
            };
            match self.roles.get_mut(&stream) {
                Some(Role::Unknown(head)) => {
                    head.extend_from_slice(&bytes);
                    self.identify(now, stream);
                }
                Some(Role::Session(capsules)) => match capsules.push(&bytes) {
                    SessionWord::Nothing => {}
                    SessionWord::Closed => {
                        self.leave();
                        return self.close_connection(now);
                    }
                    SessionWord::Garbage => return self.close_connection(now),
                },
                Some(Role::Ignored) => {}
                // It is a task's now, which got what was read.
                Some(Role::Task(_)) => return self.bring(stream),
                None => return,
            }
        }
    }

    /// Finds out what a stream is.
    fn identify(&mut self, now: Instant, stream: StreamId) {
        let Some(Role::Unknown(bytes)) = self.roles.get_mut(&stream) else {
            return;
        };
        if stream.dir() == Dir::Uni {
            match http3::is_needed(bytes) {
                None => {}
                Some(true) => drop(self.roles.insert(stream, Role::Ignored)),
                Some(false) => {
                    self.roles.remove(&stream);
                    let code = VarInt::from_u32(http3::code::STREAM_CREATION);
                    let _ = self.connection.recv_stream(stream).stop(code);
                }
            }
            return;
        }
        // A stream may be faster than the request for its session; it is looked at again when that has come.
        if self.session.is_none() && bytes.starts_with(&[0x40, 0x41]) {
            return;
        }
        match http3::head(bytes) {
            Head::Unfinished => {}
            Head::Connect if self.session.is_none() => self.begin_session(now, stream),
            Head::Connect => self.refuse(stream, StatusCode::TOO_MANY_REQUESTS),
            Head::Refused(status) => self.refuse(stream, status),
            Head::Session(session) => self.begin_stream(stream, session),
            Head::Garbage => self.reset(stream, http3::code::MESSAGE),
        }
    }

    fn begin_session(&mut self, now: Instant, stream: StreamId) {
        let rest = match self.roles.remove(&stream) {
            Some(Role::Unknown(rest)) => rest,
            _ => BytesMut::new(),
        };
        let response = http3::response(StatusCode::OK);
        let _ = self.connection.send_stream(stream).write(&response);
        self.session = Some(Session {
            stream,
            datagram_prefix: http3::datagram_prefix(VarInt::from(stream).into_inner()),
            main: None,
        });
        self.state = State::Open;
        let mut capsules = Capsules::default();
        if capsules.push(&rest) != SessionWord::Nothing {
            return self.close_connection(now);
        }
        self.roles.insert(stream, Role::Session(capsules));
        let mut early: Vec<StreamId> = self.roles.keys().copied().collect();
        early.sort_by_key(|stream| VarInt::from(*stream));
        for stream in early {
            self.identify(now, stream);
        }
    }

    fn begin_stream(&mut self, stream: StreamId, session: u64) {
        let Some(own) = &mut self.session else { return };
        if VarInt::from(own.stream).into_inner() != session {
            return self.reset(stream, http3::code::MESSAGE);
        }
        let is_main = own.main.is_none();
        let tasks = &self.tasks;
        let number = VarInt::from(stream).into_inner();
        let bell = Bell::new(Arc::clone(&tasks.inbox), tasks.shard, self.id, number);
        let (shard_end, pipe) = pipe(bell);
        let arrival = match is_main {
            true => Arrival::Main(pipe),
            false => Arrival::Room(pipe),
        };
        if let Err(refused) = tasks.arrivals.try_send(arrival) {
            // Too many at once: the client tries again, or its session ends without a main stream.
            drop(refused);
            return self.reset(stream, http3::code::EXCESSIVE_LOAD);
        }
        if is_main {
            own.main = Some(stream);
        }
        if let Some(Role::Unknown(first)) = self.roles.remove(&stream) {
            let task = Box::new(TaskStream::new(shard_end, &first));
            self.roles.insert(stream, Role::Task(task));
            self.bring(stream);
        }
    }

    fn refuse(&mut self, stream: StreamId, status: StatusCode) {
        let response = http3::response(status);
        let mut answer = self.connection.send_stream(stream);
        let _ = answer.write(&response);
        let _ = answer.finish();
        self.roles.remove(&stream);
        let code = VarInt::from_u32(http3::code::NONE);
        let _ = self.connection.recv_stream(stream).stop(code);
    }

    fn reset(&mut self, stream: StreamId, code: u32) {
        self.roles.remove(&stream);
        let code = VarInt::from_u32(code);
        let _ = self.connection.send_stream(stream).reset(code);
        let _ = self.connection.recv_stream(stream).stop(code);
    }

    fn bring(&mut self, stream: StreamId) {
        if let Some(Role::Task(task)) = self.roles.get_mut(&stream) {
            task.bring(&mut self.connection, stream);
        }
    }

    fn send(&mut self, now: Instant, stream: StreamId) {
        let Some(Role::Task(task)) = self.roles.get_mut(&stream) else {
            return;
        };
        let looked = task.send(&mut self.connection, stream);
        if looked == Looked::Open {
            return;
        }
        self.roles.remove(&stream);
        let main = self.session.as_ref().and_then(|session| session.main);
        match looked {
            Looked::Open => {}
            Looked::Ended(ending) if main == Some(stream) => self.close_session(now, ending),
            Looked::Ended(ending) => end(&mut self.connection, stream, ending),
            Looked::Abandoned if main == Some(stream) => self.close_connection(now),
            Looked::Abandoned => {
                let ending = Ending {
                    code: 0,
                    reason: "",
                    is_orderly: true,
                };
                end(&mut self.connection, stream, ending);
            }
        }
    }

    /// Says why, and closes the connection when the client has had time to hear it.
    fn close_session(&mut self, now: Instant, ending: Ending) {
        if let Some(session) = &self.session {
            let word = http3::closing(ending.code, ending.reason);
            let mut stream = self.connection.send_stream(session.stream);
            let _ = stream.write(&word);
            let _ = stream.finish();
        }
        self.state = State::Closing(now + CLOSING_TIME);
    }
}
