//! The WebSockets of a peer: into the room, the voice connection handed to the engine, and then whatever is ordered.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::{
    Common, LEAVE_AFTER, Order,
    rpc::{Frame, map, position, request},
};
use crate::{
    engine::Command,
    plan::Place,
    session::{Session, candidate},
    target::Admission,
};

/// Longest message of the server: the first of a room tells of everybody in it.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The way into a room. A server under load takes its time.
const ENTER_MAX: Duration = Duration::from_secs(60);

/// As [`super::live`].
pub(super) async fn live(
    common: Arc<Common>,
    peer: u32,
    start: [f64; 3],
    orders: &mut mpsc::Receiver<Order>,
) -> Result<()> {
    let entering = Box::pin(enter(&common, peer, start));
    let entered = timeout(ENTER_MAX, entering).await;
    let mut room = entered.map_err(|_| anyhow!("not in its room after {ENTER_MAX:?}"))??;
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Move(place)) => {
                    room.stream.send("SetPeerPosition", position(place)).await?;
                }
                Some(Order::Leave) | None => break,
            },
            message = room.stream.message() => {
                let bytes = message?.context("the server closed the room's stream")?;
                if common.plan.place == Place::Spread {
                    room.follow(&common, peer, &bytes).await?;
                }
            }
            message = room.main.message() => {
                message?.context("the server closed the main stream")?;
            }
        }
    }
    common.engine.tell(Command::Rest { peer }).await?;
    let until = tokio::time::sleep(LEAVE_AFTER);
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => break,
            message = room.stream.message() => drop(message?),
        }
    }
    // Whatever becomes of the closing, the peer is gone.
    let _ = timeout(LEAVE_AFTER, room.stream.socket.close(None)).await;
    let _ = timeout(LEAVE_AFTER, room.main.socket.close(None)).await;
    Ok(common.engine.tell(Command::Leave { peer }).await?)
}

/// A peer that is in its room.
struct InRoom {
    main: Stream,
    stream: Stream,
    /// Who is who, by the ids of the room.
    known: HashMap<u64, u32>,
}

async fn enter(common: &Common, peer: u32, start: [f64; 3]) -> Result<InRoom> {
    let Admission {
        address,
        token,
        room,
    } = common.doorman.admit(&common.plan, peer).await?;
    let mut main = Stream::open(&common.trust.tls, &address, "/main").await?;
    main.call("Authenticate", map([("token", token.into())]))
        .await?;
    let (offer, sdp) = common.offers.offer(Instant::now())?;
    let answer = main.call("SetupWebRtc", map([("sdp", sdp.into())])).await?;
    let answer = answer["sdp"].as_str().context("no description")?;
    let remote = candidate(answer).context("the answer names no address for voice")?;
    let socket = common.connect(peer, remote)?;
    let session = offer.answered(answer, socket.local(), remote)?;
    let session = Session::DataChannel(Box::new(session));
    common
        .engine
        .tell(Command::Enter {
            peer,
            session,
            socket,
        })
        .await?;

    let params = map([
        ("room_id", room.into()),
        ("user_data", Value::Binary(Vec::new())),
        ("position", start.iter().copied().map(Value::from).collect()),
    ]);
    let joined = main.call("JoinRoom", params).await?;
    let name = joined["stream_id"].as_str().context("no stream")?;
    let mut stream = Stream::open(&common.trust.tls, &address, &format!("/room?{name}")).await?;
    let joined = stream.joined().await?;
    let media = joined["media_ids"][0].as_u64().context("no media")?;
    let media = u16::try_from(media)?;
    if common.plan.talker_of(peer).is_some() {
        let params = map([("media_id", media.into()), ("properties", map([]))]);
        stream.call("StartMedia", params).await?;
    }
    let mut in_room = InRoom {
        main,
        stream,
        known: HashMap::new(),
    };
    for other in joined["room"]["peers"].as_array().into_iter().flatten() {
        in_room.meet(other);
    }
    common.engine.tell(Command::InRoom { peer, media }).await?;
    Ok(in_room)
}

impl InRoom {
    fn meet(&mut self, other: &Value) {
        let number = other["user_id"].as_str().and_then(crate::target::peer_of);
        if let (Some(id), Some(number)) = (other["id"].as_u64(), number) {
            self.known.insert(id, number);
        }
    }

    /// Takes note of who comes into range and goes out of it.
    async fn follow(&mut self, common: &Common, peer: u32, bytes: &[u8]) -> Result<()> {
        let Frame::Updates(updates) = Frame::read(bytes)? else {
            return Ok(());
        };
        for update in updates {
            match update["kind"].as_str() {
                Some("PeerJoined") => self.meet(&update["peer"]),
                Some("PeerLeft") => {
                    let id = update["peer_id"].as_u64().context("nobody left")?;
                    if let Some(talker) = self.known.remove(&id) {
                        let apart = Command::Apart {
                            listener: peer,
                            talker,
                        };
                        common.engine.tell(apart).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A WebSocket.
struct Stream {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    next_id: u64,
}

impl Stream {
    async fn open(tls: &TlsConnector, address: &str, path: &str) -> Result<Self> {
        let (host, _) = address
            .rsplit_once(':')
            .context("an address without port")?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let tcp = TcpStream::connect(address).await;
        let tcp =
            tcp.with_context(|| format!("the voice server at {address} cannot be reached"))?;
        tcp.set_nodelay(true)?;
        let tls = tls.connect(name, tcp).await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let url = format!("wss://{address}{path}");
        let (socket, _) = client_async_with_config(url, tls, Some(config)).await?;
        Ok(Self { socket, next_id: 0 })
    }

    /// Calls, and does not wait for the answer.
    async fn send(&mut self, method: &str, params: Value) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = request(id, method, params);
        self.socket.send(Message::Binary(frame.into())).await?;
        Ok(id)
    }

    /// Calls, and waits for the answer; what is told meanwhile is dropped.
    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.send(method, params).await?;
        loop {
            let bytes = self.message().await?;
            let bytes = bytes.with_context(|| format!("closed instead of answering {method}"))?;
            if let Frame::Answer(answered, answer) = Frame::read(&bytes)?
                && answered == id
            {
                return answer.map_err(|why| anyhow!("{method}: {why}"));
            }
        }
    }

    /// The first thing that a room tells.
    async fn joined(&mut self) -> Result<Value> {
        let bytes = self.message().await?.context("closed before Joined")?;
        match Frame::read(&bytes)? {
            Frame::Updates(updates) => {
                let joined = updates
                    .into_iter()
                    .find(|it| it["kind"].as_str() == Some("Joined"));
                joined.context("the room did not begin with Joined")
            }
            Frame::Answer(..) => bail!("an answer to nothing"),
        }
    }

    /// The next message; `None` once the server has closed. Can be dropped while it waits.
    async fn message(&mut self) -> Result<Option<Vec<u8>>> {
        while let Some(message) = self.socket.next().await {
            match message? {
                Message::Binary(frame) => return Ok(Some(frame.into())),
                Message::Close(_) => return Ok(None),
                Message::Text(_) => bail!("text instead of MessagePack"),
                // Pings are answered by the next read.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(None)
    }
}
