//! The voice connection: one WebRTC data channel, negotiated beforehand, on a UDP socket of its own. One task owns
//! both.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant as StdInstant,
};

use anyhow::{Context as _, Result, bail};
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpPendingOffer},
    channel::{ChannelConfig, ChannelId, Reliability},
    net::{Protocol, Receive},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// The SCTP stream that carries voice; it is never announced.
const VOICE_STREAM: u16 = 2;

/// Room for any datagram that comes over a usual network.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Packets on their way to the connection. Whoever talks waits for room.
const SENDING_MAX: usize = 16;

/// Packets that were heard and not yet taken: several seconds of voice. More are dropped, as late voice is.
const HEARD_MAX: usize = 256;

/// Outputs between two looks at what comes in. A session that has more to say goes on at once.
const OUTPUTS_MAX: usize = 512;

/// A connection that has been offered.
pub(super) struct Offer {
    rtc: Box<Rtc>,
    pending: SdpPendingOffer,
    channel: ChannelId,
    socket: UdpSocket,
    address: SocketAddr,
}

/// A connection that has been answered. It ends when this is dropped.
pub(super) struct Voice {
    sending: mpsc::Sender<Vec<u8>>,
    heard: mpsc::Receiver<Heard>,
    opened: oneshot::Receiver<()>,
}

/// A packet that has arrived.
pub(super) struct Heard {
    pub(super) packet: Vec<u8>,
    pub(super) at: Instant,
}

impl Offer {
    /// An offer, and the description of it.
    pub(super) async fn new() -> Result<(Self, String)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let mut rtc = RtcConfig::new()
            .clear_codecs()
            .clear_extension_map()
            .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
            .build(StdInstant::now());
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp)?);
        let mut changes = rtc.sdp_api();
        let channel = changes.add_channel_with_config(ChannelConfig {
            label: "audio".to_owned(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            negotiated: Some(VOICE_STREAM),
            protocol: String::new(),
        });
        let (offer, pending) = changes.apply().context("nothing to offer")?;
        let offered = Self {
            rtc: Box::new(rtc),
            pending,
            channel,
            socket,
            address,
        };
        Ok((offered, offer.to_sdp_string()))
    }

    /// Starts to connect to whoever answered with this description.
    pub(super) fn answered(mut self, sdp: &str) -> Result<Voice> {
        let answer = SdpAnswer::from_sdp_string(sdp)?;
        self.rtc.sdp_api().accept_answer(self.pending, answer)?;
        let (opening, opened) = oneshot::channel();
        let (hearing, heard) = mpsc::channel(HEARD_MAX);
        let (sending, to_send) = mpsc::channel(SENDING_MAX);
        let session = Session {
            rtc: self.rtc,
            channel: self.channel,
            socket: self.socket,
            address: self.address,
            opening: Some(opening),
            hearing,
        };
        tokio::spawn(async {
            if let Err(error) = session.run(to_send).await {
                tracing::warn!("a voice connection ended: {error:#}");
            }
        });
        Ok(Voice {
            sending,
            heard,
            opened,
        })
    }
}

impl Voice {
    /// Waits until the channel is open; to be called once.
    pub(super) async fn opened(&mut self) -> Result<()> {
        let opened = (&mut self.opened).await;
        opened.context("the voice connection ended before it was open")
    }

    pub(super) async fn send(&self, packet: Vec<u8>) -> Result<()> {
        let sent = self.sending.send(packet).await;
        sent.ok().context("the voice connection has ended")
    }

    /// The next packet; `None` once the connection has ended.
    pub(super) async fn heard(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }
}

/// A connection on its task.
struct Session {
    rtc: Box<Rtc>,
    channel: ChannelId,
    socket: UdpSocket,
    address: SocketAddr,
    opening: Option<oneshot::Sender<()>>,
    hearing: mpsc::Sender<Heard>,
}

impl Session {
    /// Runs until nobody can send any more.
    async fn run(mut self, mut to_send: mpsc::Receiver<Vec<u8>>) -> Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let wake = self.poll().await?;
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, source) = received?;
                    self.receive(source, buffer.get(..length).unwrap_or_default())?;
                }
                packet = to_send.recv() => match packet {
                    Some(packet) => self.write(&packet)?,
                    None => return Ok(()),
                },
                () = sleep_until(wake.into()) => {
                    self.rtc.handle_input(Input::Timeout(StdInstant::now()))?;
                }
            }
        }
    }

    /// Does what the connection wants done; gives when it wants to be polled again.
    async fn poll(&mut self) -> Result<StdInstant> {
        for _ in 0..OUTPUTS_MAX {
            if !self.rtc.is_alive() {
                bail!("the other side has closed it");
            }
            match self.rtc.poll_output()? {
                Output::Timeout(wake) => return Ok(wake),
                Output::Transmit(packet) => {
                    let sent = self.socket.send_to(&packet.contents, packet.destination);
                    sent.await?;
                }
                Output::Event(Event::ChannelOpen(channel, _)) if channel == self.channel => {
                    if let Some(opening) = self.opening.take() {
                        // Whoever waited may have given up; the end of its sender then ends this.
                        let _ = opening.send(());
                    }
                }
                Output::Event(Event::ChannelData(data)) if data.id == self.channel => {
                    let heard = Heard {
                        packet: data.data,
                        at: Instant::now(),
                    };
                    if self.hearing.try_send(heard).is_err() {
                        tracing::debug!("a packet that nobody takes is dropped");
                    }
                }
                Output::Event(_) => {}
            }
        }
        Ok(StdInstant::now())
    }

    fn receive(&mut self, source: SocketAddr, bytes: &[u8]) -> Result<()> {
        // What is not WebRTC at all came from somebody else.
        let Ok(contents) = bytes.try_into() else {
            return Ok(());
        };
        let receive = Receive {
            proto: Protocol::Udp,
            source,
            destination: self.address,
            contents,
        };
        let input = Input::Receive(StdInstant::now(), receive);
        Ok(self.rtc.handle_input(input)?)
    }

    fn write(&mut self, packet: &[u8]) -> Result<()> {
        let mut channel = self.rtc.channel(self.channel).context("no channel")?;
        if !channel.write(true, packet)? {
            tracing::debug!("a packet is dropped: the connection does not keep up");
        }
        Ok(())
    }
}
