//! A web client written by hand from the protocol's description: MessagePack-RPC over WebSockets, with the forms of
//! integers and maps that the real one sends.

use std::{collections::VecDeque, path::Path, sync::Arc};

use futures::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

use crate::world::{PATIENCE, World};

/// What Chromium offers for one data channel.
pub(crate) const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE 0\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlDp\r\na=ice-options:trickle\r\n\
    a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

/// One WebSocket.
pub(crate) struct Stream {
    pub(crate) socket: WebSocketStream<TlsStream<TcpStream>>,
    next_id: u64,
    notifications: VecDeque<(String, Value)>,
}

/// A stream's name, and the key to come back with when it was lost.
pub(crate) type Way = (String, String);

/// A client in a room.
pub(crate) struct Member {
    pub(crate) main: Stream,
    pub(crate) room: Stream,
    pub(crate) peer: u64,
    pub(crate) media_ids: Vec<u64>,
    /// The `Joined` update.
    pub(crate) joined: Value,
}

impl World {
    /// A TLS connection.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.http).await.expect("a connection");
        // As browsers do.
        tcp.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(self.tls.clone());
        tls.connect(name, tcp).await.expect("TLS")
    }

    /// Opens a WebSocket.
    ///
    /// # Errors
    /// The HTTP status when there is none.
    pub(crate) async fn open(&self, path: &str) -> Result<Stream, u16> {
        let url = format!("wss://localhost{path}");
        match client_async(url, self.connect().await).await {
            Ok((socket, _)) => Ok(Stream {
                socket,
                next_id: 0,
                notifications: VecDeque::new(),
            }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// A main stream whose client is let in.
    pub(crate) async fn authenticated(&self, token: &str) -> Stream {
        let mut main = self.open("/main").await.expect("a main stream");
        main.call("Authenticate", map([("token", token.into())]))
            .await
            .expect("a good token");
        main
    }

    /// A client in a room, at the origin.
    pub(crate) async fn member(&self, room: &str, user: &str) -> Member {
        let mut main = self.authenticated(&self.token_for(room, user)).await;
        let stream = main
            .join(room, user.as_bytes(), [0.0, 0.0, 0.0])
            .await
            .expect("let in");
        self.enter(main, &stream).await
    }

    /// Opens the stream of a room that was joined.
    pub(crate) async fn enter(&self, main: Stream, stream: &str) -> Member {
        let mut room = self
            .open(&format!("/room?{stream}"))
            .await
            .expect("a room's stream");
        let joined = room.update("Joined").await;
        let number = |value: &Value| value.as_u64().expect("a number");
        let media_ids = joined["media_ids"]
            .as_array()
            .expect("a list")
            .iter()
            .map(number)
            .collect();
        Member {
            main,
            room,
            peer: number(&joined["own_peer_id"]),
            media_ids,
            joined,
        }
    }
}

impl Stream {
    /// Calls, and waits for the answer; what else comes is kept.
    ///
    /// # Errors
    /// The error of the answer.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = self.send(method, params).await;
        self.answer(id).await
    }

    /// Sends a call without waiting, and gives its id.
    pub(crate) async fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let request = Value::Array(vec![0.into(), id.into(), method.into(), params]);
        self.send_bytes(packed(&request)).await;
        id
    }

    /// Sends a frame.
    pub(crate) async fn send_bytes(&mut self, frame: Vec<u8>) {
        let sent = self.socket.send(Message::Binary(frame.into())).await;
        sent.expect("an open stream");
    }

    /// Waits for the answer to a call.
    ///
    /// # Errors
    /// The error of the answer.
    pub(crate) async fn answer(&mut self, id: u64) -> Result<Value, String> {
        loop {
            let frame = self.frame().await.expect("an answer");
            let items = frame.as_array().expect("a list");
            match items[0].as_u64() {
                Some(1) => {
                    assert_eq!(items.len(), 4, "{frame}");
                    assert_eq!(items[1].as_u64(), Some(id), "answers come in order");
                    return match &items[2] {
                        Value::Nil => {
                            assert!(items[3].is_map() || items[3].is_nil(), "{frame}");
                            Ok(items[3].clone())
                        }
                        error => Err(error.as_str().expect("errors are strings").to_owned()),
                    };
                }
                _ => self.keep(items),
            }
        }
    }

    /// The next notification: its method and params.
    pub(crate) async fn notification(&mut self) -> Option<(String, Value)> {
        while self.notifications.is_empty() {
            let frame = self.frame().await?;
            self.keep(frame.as_array().expect("a list"));
        }
        self.notifications.pop_front()
    }

    /// The next update or notification with this `kind`, or of this method; what comes before it is dropped.
    pub(crate) async fn update(&mut self, kind: &str) -> Value {
        loop {
            let (method, params) = self
                .notification()
                .await
                .unwrap_or_else(|| panic!("no {kind}, but the end"));
            if method == kind || params["kind"].as_str() == Some(kind) {
                return params;
            }
        }
    }

    /// Whether something with this `kind` or method has come by now.
    pub(crate) async fn has_heard(&mut self, kind: &str) -> bool {
        // Whatever was sent before the answer to this is there with it.
        let _ = self.call("Nothing", map([])).await;
        let is_it = |(method, params): &(String, Value)| {
            method == kind || params["kind"].as_str() == Some(kind)
        };
        self.notifications.iter().any(is_it)
    }

    /// Waits for the end of the stream, and gives the close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            let message = timeout(PATIENCE, self.socket.next())
                .await
                .expect("the stream ends");
            match message {
                None | Some(Err(_)) => return None,
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Asks to enter a room, and gives the name of its stream.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn join(
        &mut self,
        room: &str,
        user_data: &[u8],
        position: [f64; 3],
    ) -> Result<String, String> {
        let params = map([
            ("room_id", room.into()),
            ("user_data", Value::Binary(user_data.to_vec())),
            ("position", place(&position)),
        ]);
        let result = self.call("JoinRoom", params).await?;
        Ok(result["stream_id"]
            .as_str()
            .expect("a stream's name")
            .to_owned())
    }

    /// Asks to enter a room and to keep the place there.
    pub(crate) async fn join_resumable(&mut self, room: &str, user: &str) -> Way {
        let params = map([
            ("room_id", room.into()),
            ("user_data", Value::Binary(user.as_bytes().to_vec())),
            ("resumable", true.into()),
        ]);
        let answer = self.call("JoinRoom", params).await.expect("let in");
        way(&answer)
    }

    /// Asks to go on as the peer of this key.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn resume(&mut self, room: &str, key: &str) -> Result<Way, String> {
        let params = map([("room_id", room.into()), ("resume_key", key.into())]);
        Ok(way(&self.call("ResumeRoom", params).await?))
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<Value> {
        loop {
            let message = timeout(PATIENCE, self.socket.next())
                .await
                .expect("a frame in time")?;
            match message.ok()? {
                Message::Binary(frame) => {
                    let mut rest = &frame[..];
                    let value = rmpv::decode::read_value(&mut rest).expect("MessagePack");
                    assert!(
                        rest.is_empty(),
                        "the client refuses frames with bytes behind the value"
                    );
                    return Some(value);
                }
                Message::Close(_) => return None,
                Message::Text(_) => panic!("the client refuses text"),
                _ => {}
            }
        }
    }

    fn keep(&mut self, items: &[Value]) {
        let [Value::Integer(kind), method, params] = items else {
            panic!("neither an answer nor a notification: {items:?}");
        };
        assert_eq!(kind.as_u64(), Some(2));
        let method = method.as_str().expect("a name").to_owned();
        assert!(params.is_map(), "{params}");
        match params["updates"].as_array() {
            Some(updates) if method == "RoomUpdated" => {
                let updates = updates
                    .iter()
                    .map(|update| (method.clone(), update.clone()));
                self.notifications.extend(updates);
            }
            _ => self.notifications.push_back((method, params.clone())),
        }
    }
}

fn way(answer: &Value) -> Way {
    let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
    (text("stream_id"), text("resume_key"))
}

/// Params.
pub(crate) fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    let member = |(name, value): (&str, Value)| (Value::from(name), value);
    Value::Map(members.into_iter().map(member).collect())
}

/// Coordinates as JavaScript sends them: whole numbers as integers, others as floats.
pub(crate) fn place(coordinates: &[f64]) -> Value {
    let number = |number: &f64| match number.fract() == 0.0 {
        true => Value::from(*number as i64),
        false => Value::F64(*number),
    };
    Value::Array(coordinates.iter().map(number).collect())
}

pub(crate) fn packed(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("writing to memory");
    bytes
}

/// A STUN binding request (RFC 8489) for the session with this user fragment, with all that a request of ICE has; the
/// signature in it is nobody's.
pub(crate) fn binding_request(user_fragment: &str) -> Vec<u8> {
    let mut username = format!("{user_fragment}:them").into_bytes();
    let length = u16::try_from(username.len()).expect("a short name");
    username.resize(username.len().next_multiple_of(4), 0);
    let priority = [0, 0x24, 0, 4, 1, 2, 3, 4];
    let integrity = [&[0, 8, 0, 20][..], &[0; 20]].concat();
    let attributes = [
        &[0, 6],
        &length.to_be_bytes()[..],
        &username,
        &priority,
        &integrity,
    ]
    .concat();
    let length = u16::try_from(attributes.len()).expect("short attributes");
    let cookie = [0x21, 0x12, 0xa4, 0x42];
    [
        &[0, 1],
        &length.to_be_bytes()[..],
        &cookie,
        &[7; 12],
        &attributes,
    ]
    .concat()
}

/// Trusts the certificate in this file alone.
pub(crate) fn trusting(certificate_file: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let leaf = CertificateDer::from_pem_file(certificate_file).expect("a certificate");
    roots.add(leaf).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
