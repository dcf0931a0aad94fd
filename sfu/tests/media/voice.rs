//! The voice connection of a web client, on a WebRTC stack that shares nothing with the server's.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::BytesMut;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
    },
};

use crate::{
    client::{Stream, map},
    packet::Packet,
    world::PATIENCE,
};

/// What the server is to do with the offer, and the client with the answer: which addresses they name.
pub(crate) enum Way {
    Direct,
    /// Over this address instead of the server's own.
    Over(SocketAddr),
    /// From this address of the client.
    From(SocketAddr),
}

/// A connection with the data channel that carries voice.
pub(crate) struct Voice {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
    ears: Arc<Ears>,
    is_open: watch::Receiver<bool>,
    /// The user fragment that the server gave the session.
    pub(crate) user_fragment: String,
}

/// What was heard and not yet taken.
#[derive(Default)]
struct Ears {
    heard: Mutex<Vec<BytesMut>>,
    more: Notify,
}

struct Unconcerned;

impl PeerConnectionEventHandler for Unconcerned {}

impl Voice {
    /// Sets up a connection over a client's main stream; the channel need not be open yet.
    pub(crate) async fn set_up(main: &mut Stream, way: Way) -> Self {
        let from = match way {
            Way::From(address) => address,
            _ => SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let connection = connection(from).await;
        let channel = connection.create_data_channel(
            "audio",
            Some(RTCDataChannelInit {
                ordered: false,
                max_retransmits: Some(0),
                negotiated: Some(2),
                ..Default::default()
            }),
        );
        let channel = channel.await.expect("a channel");
        let offer = connection.create_offer(None).await.expect("an offer");
        let sdp: String = offer
            .sdp
            .split_inclusive("\r\n")
            .filter(|line| !line.starts_with("a=candidate") && !line.contains("end-of-candidates"))
            .collect();
        connection
            .set_local_description(offer)
            .await
            .expect("an offer of its own");
        let answer = main
            .call("SetupWebRtc", map([("sdp", sdp.into())]))
            .await
            .expect("an answer");
        let mut answer = answer["sdp"].as_str().expect("a text").to_owned();
        if let Way::Over(relay) = way {
            answer = over(&answer, relay);
        }
        let user_fragment = answer
            .lines()
            .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
            .expect("a user fragment")
            .to_owned();
        let answer = RTCSessionDescription::answer(answer).expect("a description");
        connection
            .set_remote_description(answer)
            .await
            .expect("an answer that fits");
        let ears = Arc::new(Ears::default());
        let (opened, is_open) = watch::channel(false);
        tokio::spawn(listen(Arc::clone(&channel), Arc::clone(&ears), opened));
        Self {
            connection,
            channel,
            ears,
            is_open,
            user_fragment,
        }
    }

    /// Waits until the channel is open.
    pub(crate) async fn opened(&self) {
        let mut is_open = self.is_open.clone();
        let opened = is_open.wait_for(|is_open| *is_open);
        timeout(PATIENCE, opened)
            .await
            .expect("the channel opens")
            .expect("it is listened to");
    }

    /// Sends bytes as one message.
    pub(crate) async fn send(&self, bytes: &[u8]) {
        let sent = self.channel.send(BytesMut::from(bytes)).await;
        sent.expect("an open channel");
    }

    /// Messages that are there.
    pub(crate) fn heard(&self) -> usize {
        self.ears.lock().len()
    }

    /// Waits until so many messages are there, and takes them all.
    pub(crate) async fn hears(&self, count: usize) -> Vec<Packet> {
        self.hears_until(|heard| heard.len() >= count).await
    }

    /// Waits until this packet is there, and takes all that are.
    pub(crate) async fn hears_up_to(&self, packet: &[u8]) -> Vec<Packet> {
        self.hears_until(|heard| heard.iter().any(|it| &it[..] == packet))
            .await
    }

    async fn hears_until(&self, is_enough: impl Fn(&[BytesMut]) -> bool) -> Vec<Packet> {
        let began = Instant::now();
        loop {
            {
                let mut heard = self.ears.lock();
                if is_enough(&heard) {
                    let heard = std::mem::take(&mut *heard);
                    return heard.iter().map(|bytes| Packet::parse(bytes)).collect();
                }
            }
            let more = timeout(PATIENCE, self.ears.more.notified()).await;
            assert!(
                more.is_ok() && began.elapsed() < PATIENCE,
                "heard no more than {}",
                self.heard()
            );
        }
    }

    /// Ends the connection as a client does that leaves.
    pub(crate) async fn close(&self) {
        self.connection.close().await.expect("closed once");
    }
}

impl Ears {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BytesMut>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connection(from: SocketAddr) -> Arc<dyn PeerConnection> {
    let connection = PeerConnectionBuilder::new()
        .with_handler(Arc::new(Unconcerned))
        .with_udp_addrs(vec![from])
        .build();
    Arc::new(Box::pin(connection).await.expect("a connection"))
}

async fn listen(channel: Arc<dyn DataChannel>, ears: Arc<Ears>, opened: watch::Sender<bool>) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => drop(opened.send(true)),
            DataChannelEvent::OnMessage(message) => {
                assert!(!message.is_string, "voice is binary");
                ears.lock().push(message.data);
                ears.more.notify_one();
            }
            DataChannelEvent::OnClose => return,
            _ => {}
        }
    }
}

/// The answer with another address in place of the server's.
fn over(answer: &str, relay: SocketAddr) -> String {
    let line = |line: &str| match line.strip_prefix("a=candidate:") {
        Some(candidate) => {
            let mut words: Vec<_> = candidate.split(' ').map(str::to_owned).collect();
            words[4] = relay.ip().to_string();
            words[5] = relay.port().to_string();
            format!("a=candidate:{}\r\n", words.join(" "))
        }
        None => format!("{line}\r\n"),
    };
    answer.lines().map(line).collect()
}
