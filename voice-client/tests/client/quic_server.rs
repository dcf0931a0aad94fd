//! A small server of the WebTransport binding, for what a real one does only at times of its own: it ends connections when
//! it is told to, takes the tokens that it is told, and sends every voice packet back as if another peer had said it.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::Deref as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sfu::SelfSigned;
use sfu_core::{
    Command, Event, LeaveReason, MainCommand, MediaId, MediaInfo, PeerId, PeerInfo, RoomInfo,
    wire::{
        datagram::Datagram,
        notification::{Encoded, bundle, encode},
        rpc::{Reply, Request, answer},
    },
};
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};
use web_transport_quinn::{RecvStream, SendStream, ServerBuilder, Session};

use crate::world::PATIENCE;

/// The media whose voice a client hears.
pub(crate) const OTHER_MEDIA: u16 = 999;

/// The peer who has it.
pub(crate) const OTHER_PEER: u32 = 77;

/// A running server.
pub(crate) struct QuicServer {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: SelfSigned,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Tokens that are taken.
    pub(crate) tokens: HashSet<String>,
    /// Tokens that were shown, and names of calls, in order.
    pub(crate) log: Vec<String>,
    /// Peers by the keys that bring them back.
    pub(crate) keys: HashMap<String, u32>,
    /// Peers by the names of the streams that they may open.
    tickets: HashMap<String, u32>,
    /// Peers that have been let in.
    count: u32,
    sessions: Vec<Session>,
    rooms: Vec<SendStream>,
}

/// The SHA-256 hash of a certificate.
pub(crate) fn hash(certificate: &SelfSigned) -> [u8; 32] {
    let file = certificate.files().certificate_file;
    let der = CertificateDer::from_pem_file(file).expect("a certificate");
    Sha256::digest(&der).into()
}

impl QuicServer {
    /// A server that takes this token.
    pub(crate) fn start(token: &str) -> Self {
        let certificate = crate::world::certificate();
        let files = certificate.files();
        let chain = CertificateDer::from_pem_file(files.certificate_file).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(files.privatekey_file).expect("a key");
        let builder = ServerBuilder::new().with_addr("127.0.0.1:0".parse().expect("an address"));
        let mut server = builder
            .with_certificate(vec![chain], key)
            .expect("a server");
        let state = Arc::new(Mutex::new(State::default()));
        state_of(&state).tokens.insert(token.to_owned());
        let address = server.local_addr().expect("an address");
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Some(request) = server.accept().await {
                assert_eq!(request.url.path(), "/main");
                let session = request.ok().await.expect("a session");
                state_of(&accepting).sessions.push(session.clone());
                tokio::spawn(serve(session, Arc::clone(&accepting)));
            }
        });
        Self {
            address,
            certificate,
            state,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        state_of(&self.state)
    }

    /// Ends all connections in a way that says nothing of why.
    pub(crate) fn cut(&self) {
        let mut state = self.state();
        for session in state.sessions.drain(..) {
            session.deref().close(0_u32.into(), b"");
        }
        // Not before: a stream that is dropped is finished, which would say that the room is left.
        state.rooms.clear();
    }

    /// Where the newest session comes from.
    pub(crate) fn client_address(&self) -> SocketAddr {
        let state = self.state();
        let session = state.sessions.last().expect("a session");
        session.remote_address()
    }

    /// Says this in the newest room.
    pub(crate) async fn say(&self, frame: &[u8]) {
        let mut room = self.room().await;
        write(&mut room, frame).await;
        self.state().rooms.push(room);
    }

    /// The stream of the newest room, once nobody else writes to it.
    async fn room(&self) -> SendStream {
        let found = async {
            loop {
                let room = self.state().rooms.pop();
                match room {
                    Some(room) => return room,
                    None => sleep(Duration::from_millis(1)).await,
                }
            }
        };
        timeout(PATIENCE, found).await.expect("a room")
    }

    /// Resets the stream of the newest room.
    pub(crate) async fn reset(&self, code: u32) {
        let mut room = self.room().await;
        room.reset(code).expect("an open stream");
    }
}

fn state_of(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An event in a frame.
pub(crate) fn frame(event: &Event) -> Bytes {
    match encode(event) {
        Encoded::Update(update) => bundle(&[update]),
        Encoded::Frame(frame) => frame,
    }
}

/// The last word of a room.
pub(crate) fn left(reason: LeaveReason) -> Bytes {
    frame(&Event::Left(reason))
}

async fn serve(session: Session, state: Arc<Mutex<State>>) {
    let (send, receive) = session.accept_bi().await.expect("a main stream");
    tokio::spawn(serve_main(send, receive, Arc::clone(&state)));
    loop {
        tokio::select! {
            stream = session.accept_bi() => match stream {
                Ok((send, receive)) => drop(tokio::spawn(serve_room(send, receive, Arc::clone(&state)))),
                Err(_) => return,
            },
            datagram = session.read_datagram() => match datagram {
                Ok(datagram) => {
                    let datagram = Datagram::parse(&datagram).expect("a voice packet");
                    let echo = datagram.for_media(OTHER_MEDIA);
                    // The session may be over.
                    let _ = session.send_datagram(echo.into());
                }
                Err(_) => return,
            },
        }
    }
}

async fn serve_main(mut send: SendStream, mut receive: RecvStream, state: Arc<Mutex<State>>) {
    while let Some(call) = read(&mut receive).await {
        let request = Request::parse(&call).expect("a call");
        let reply = state_of(&state).answer(&request);
        let frame = match reply {
            Ok(("", room)) => answer(request.id, &Reply::Texts("room_ids", &[room])).to_vec(),
            Ok((name, text)) => answer_with_key(request.id, name, &text),
            Err(text) => answer(request.id, &Reply::Error(text)).to_vec(),
        };
        write(&mut send, &frame).await;
    }
}

/// `stream_id` and `resume_key`, with the same value: the writer of `sfu_core` knows one member only.
fn answer_with_key(id: u64, name: &str, text: &str) -> Vec<u8> {
    let mut frame = vec![0x94, 1];
    rmp::encode::write_uint(&mut frame, id).expect("memory");
    frame.extend([0xc0, 0x82]);
    for name in [name, "resume_key"] {
        rmp::encode::write_str(&mut frame, name).expect("memory");
        rmp::encode::write_str(&mut frame, text).expect("memory");
    }
    frame
}

impl State {
    fn answer(&mut self, request: &Request<'_>) -> Result<(&'static str, String), &'static str> {
        let text = |name| match request.params.find(name) {
            Some(rmpv::ValueRef::String(text)) => text.as_str().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        self.log.push(request.method.to_owned());
        match request.method {
            "Authenticate" => {
                let token = text("token");
                let is_taken = self.tokens.contains(&token);
                self.log.push(token);
                match is_taken {
                    true => Ok(("", "hall".to_owned())),
                    false => Err("token has expired"),
                }
            }
            "JoinRoom" => {
                assert!(MainCommand::parse(request).is_ok());
                let resumable = request.params.find("resumable");
                assert_eq!(resumable, Some(&rmpv::ValueRef::Boolean(true)));
                self.count += 1;
                Ok(("stream_id", self.ticket(self.count)))
            }
            "ResumeRoom" => {
                assert_eq!(text("room_id"), "hall");
                let peer = self.keys.remove(&text("resume_key"));
                let peer = peer.ok_or("nothing to resume")?;
                Ok(("stream_id", self.ticket(peer)))
            }
            _ => Err("unknown method"),
        }
    }

    fn ticket(&mut self, peer: u32) -> String {
        let name = format!("ticket-{}", self.log.len());
        self.tickets.insert(name.clone(), peer);
        self.keys.insert(name.clone(), peer);
        name
    }
}

async fn serve_room(mut send: SendStream, mut receive: RecvStream, state: Arc<Mutex<State>>) {
    let name = read(&mut receive).await.expect("the stream's name");
    let name = String::from_utf8(name).expect("UTF-8");
    let peer = state_of(&state).tickets.remove(&name).expect("a ticket");
    write(&mut send, &frame(&joined(peer))).await;
    let mut answers = Some(send);
    // Answers and what the test says go over one stream: whoever writes has it.
    loop {
        if let Some(send) = answers.take() {
            state_of(&state).rooms.push(send);
        }
        let Some(call) = read(&mut receive).await else {
            state_of(&state).log.push("left".to_owned());
            return;
        };
        let request = Request::parse(&call).expect("a call");
        Command::parse(&request).expect("a command");
        let send = {
            let mut state = state_of(&state);
            state.log.push(request.method.to_owned());
            state.rooms.pop()
        };
        let Some(mut send) = send else { return };
        write(&mut send, &answer(request.id, &Reply::Done)).await;
        answers = Some(send);
    }
}

/// A room with somebody else who talks.
fn joined(peer: u32) -> Event {
    let media = |id: u32| MediaId::new(id.into()).expect("an id");
    let media_info = MediaInfo {
        id: media(OTHER_MEDIA.into()),
        properties: Bytes::from_static(&[0x80]),
        paused: false,
    };
    let other = PeerInfo {
        id: PeerId::new(OTHER_PEER).expect("an id"),
        user_id: Arc::from("other"),
        user_data: Bytes::new(),
        medias: vec![media_info],
    };
    Event::Joined {
        own: PeerId::new(peer).expect("an id"),
        media_ids: vec![media(200 + 2 * peer), media(201 + 2 * peer)],
        room: RoomInfo {
            name: Arc::from("hall"),
            customer: Arc::from(""),
            user_data: Bytes::new(),
        },
        peers: vec![other],
    }
}

async fn read(receive: &mut RecvStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    receive.read_exact(&mut length).await.ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    receive.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write(send: &mut SendStream, frame: &[u8]) {
    let length = u32::try_from(frame.len()).expect("a frame");
    let bytes = [&length.to_be_bytes()[..], frame].concat();
    // The client may be gone.
    let _ = send.write_all(&bytes).await;
}
