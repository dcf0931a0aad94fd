//! A native client written by hand from `docs/webtransport.md`, on another library than the server's.

use std::collections::VecDeque;

use bytes::Bytes;
use rmpv::Value;
use tokio::time::timeout;
use web_transport_quinn::{RecvStream, SendStream, Session, proto::ConnectRequest};

use crate::world::{PATIENCE, World, endpoint};

/// A stream of frames.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    next_id: u64,
    notifications: VecDeque<(String, Value)>,
}

/// A client in a room.
pub(crate) struct Member {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) session: Session,
    pub(crate) main: Stream,
    pub(crate) room: Stream,
    pub(crate) peer: u64,
    pub(crate) media: u64,
}

impl World {
    /// A session that has said nothing yet.
    pub(crate) async fn session(&self) -> (quinn::Endpoint, Session) {
        let endpoint = endpoint(&self.certificate);
        let connection = endpoint.connect(self.quic, "localhost").expect("a name");
        let connection = timeout(PATIENCE, connection).await.expect("an answer");
        let connection = connection.expect("a connection");
        let url = url::Url::parse("https://localhost/main").expect("a URL");
        let session = Session::connect(connection, ConnectRequest::new(url)).await;
        (endpoint, session.expect("a session"))
    }

    /// A client in a room, with its media started.
    pub(crate) async fn member(&self, room: &str, user: &str) -> Member {
        let (endpoint, session) = self.session().await;
        let mut main = Stream::open(&session).await;
        let token = map([("token", self.token(room, user).into())]);
        main.call("Authenticate", token).await.expect("let in");
        let params = map([
            ("room_id", room.into()),
            ("user_data", Value::Binary(vec![])),
        ]);
        let joined = main.call("JoinRoom", params).await.expect("let in");
        let mut stream = Stream::open(&session).await;
        let name = joined["stream_id"].as_str().expect("a name");
        stream.send_frame(name.as_bytes()).await;
        let joined = stream.update("Joined").await;
        let media = joined["media_ids"][0].as_u64().expect("a media");
        let params = map([("media_id", media.into()), ("properties", map([]))]);
        stream.call("StartMedia", params).await.expect("started");
        Member {
            endpoint,
            session,
            main,
            room: stream,
            peer: joined["own_peer_id"].as_u64().expect("an id"),
            media,
        }
    }
}

impl Member {
    /// The next voice packet.
    pub(crate) async fn heard(&self) -> Bytes {
        let datagram = timeout(PATIENCE, self.session.read_datagram()).await;
        datagram.expect("voice").expect("a session")
    }
}

impl Stream {
    pub(crate) async fn open(session: &Session) -> Self {
        let (send, recv) = session.open_bi().await.expect("a stream");
        Self {
            send,
            recv,
            next_id: 0,
            notifications: VecDeque::new(),
        }
    }

    pub(crate) async fn send_frame(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).expect("short");
        let bytes = [&length.to_be_bytes(), frame].concat();
        self.send.write_all(&bytes).await.expect("an open stream");
    }

    /// The next frame; `None` when there are no more.
    pub(crate) async fn frame(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let mut length = [0; 4];
            self.recv.read_exact(&mut length).await.ok()?;
            let length = u32::from_be_bytes(length);
            let mut frame = vec![0; usize::try_from(length).expect("small")];
            self.recv.read_exact(&mut frame).await.ok()?;
            Some(frame)
        };
        timeout(PATIENCE, read).await.expect("a frame or the end")
    }

    /// Calls, and waits for the answer; what else comes is kept.
    ///
    /// # Errors
    /// The error of the answer.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next_id;
        self.next_id += 1;
        let request = Value::Array(vec![0.into(), id.into(), method.into(), params]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &request).expect("memory");
        self.send_frame(&bytes).await;
        loop {
            let frame = self.value().await.expect("an answer");
            if frame[0].as_u64() != Some(1) {
                self.keep(&frame);
                continue;
            }
            assert_eq!(frame[1].as_u64(), Some(id), "answers come in order");
            return match &frame[2] {
                Value::Nil => Ok(frame[3].clone()),
                error => Err(error.as_str().expect("a text").to_owned()),
            };
        }
    }

    async fn value(&mut self) -> Option<Value> {
        let frame = self.frame().await?;
        Some(rmpv::decode::read_value(&mut &frame[..]).expect("MessagePack"))
    }

    fn keep(&mut self, frame: &Value) {
        let method = frame[1].as_str().expect("a method").to_owned();
        match frame[2]["updates"].as_array() {
            Some(updates) => {
                let updates = updates.iter().map(|it| (method.clone(), it.clone()));
                self.notifications.extend(updates);
            }
            None => self.notifications.push_back((method, frame[2].clone())),
        }
    }

    /// The next update or notification of this kind, or `None` at the end; what comes before it is dropped.
    pub(crate) async fn next_update(&mut self, kind: &str) -> Option<Value> {
        loop {
            while let Some((method, params)) = self.notifications.pop_front() {
                if method == kind || params["kind"].as_str() == Some(kind) {
                    return Some(params);
                }
            }
            let frame = self.value().await?;
            self.keep(&frame);
        }
    }

    pub(crate) async fn update(&mut self, kind: &str) -> Value {
        let update = self.next_update(kind).await;
        update.unwrap_or_else(|| panic!("no {kind}, but the end"))
    }

    /// Whether something of this kind has come by now.
    pub(crate) async fn has_heard(&mut self, kind: &str) -> bool {
        // Whatever was sent before the answer to this is there with it.
        let _ = self.call("Nothing", map([])).await;
        let is_it = |(method, params): &(String, Value)| {
            method == kind || params["kind"].as_str() == Some(kind)
        };
        self.notifications.iter().any(is_it)
    }
}

pub(crate) fn map<const N: usize>(items: [(&str, Value); N]) -> Value {
    Value::Map(
        items
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}
