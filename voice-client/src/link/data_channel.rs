//! Voice over WebRTC: one data channel, negotiated beforehand as web clients have it, on a UDP socket of its own. One task
//! owns both.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig, RtcError,
    change::{SdpAnswer, SdpPendingOffer},
    channel::{ChannelConfig, ChannelId, Reliability},
    net::{Protocol, Receive},
};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{error::ConnectError, shared::Shared};

/// The SCTP stream that carries voice; it is never announced.
const VOICE_STREAM: u16 = 2;

/// Bytes of voice that wait for the network: as many as the server allows itself. What comes then is dropped.
const SENDING_BYTES_MAX: usize = 12 * 1024;

/// Room for any datagram that comes over a usual network.
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// Outputs between two looks at what comes in. A session that has more to say goes on at once.
const OUTPUTS_MAX: usize = 512;

/// Longest wait until voice flows: checks of addresses, DTLS, SCTP.
const OPEN_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection that has been offered.
pub(super) struct Offer {
    session: Session,
    pending: SdpPendingOffer,
    sdp: String,
}

/// A connection on its task.
struct Session {
    rtc: Box<Rtc>,
    channel: ChannelId,
    socket: UdpSocket,
    address: SocketAddr,
    opening: Option<oneshot::Sender<()>>,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the other side has closed it")]
    Closed,
    #[error("nothing comes through any more")]
    Disconnected,
    #[error(transparent)]
    Rtc(#[from] RtcError),
    #[error(transparent)]
    Socket(#[from] std::io::Error),
}

impl Offer {
    /// An offer from this address of this machine.
    pub(super) async fn new(local: IpAddr) -> Result<Self, ConnectError> {
        let failed = |error: &dyn std::error::Error| ConnectError::Voice(error.to_string());
        let socket = UdpSocket::bind((local, 0)).await;
        let socket = socket.map_err(|error| failed(&error))?;
        let address = socket.local_addr().map_err(|error| failed(&error))?;
        let mut rtc = RtcConfig::new()
            .clear_codecs()
            .clear_extension_map()
            .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
            .build(Instant::now());
        let candidate = Candidate::host(address, Protocol::Udp);
        rtc.add_local_candidate(candidate.map_err(|error| failed(&error))?);
        let mut changes = rtc.sdp_api();
        let channel = changes.add_channel_with_config(ChannelConfig {
            label: "audio".to_owned(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            negotiated: Some(VOICE_STREAM),
            protocol: String::new(),
        });
        let nothing = || ConnectError::Voice("nothing to offer".to_owned());
        let (offer, pending) = changes.apply().ok_or_else(nothing)?;
        Ok(Self {
            session: Session {
                rtc: Box::new(rtc),
                channel,
                socket,
                address,
                opening: None,
            },
            pending,
            sdp: without_candidates(&offer.to_sdp_string()),
        })
    }

    pub(super) fn sdp(&self) -> &str {
        &self.sdp
    }

    /// Connects to whoever answered with this description, and carries voice until the connection is gone. Returns when
    /// voice flows.
    pub(super) async fn answered(
        mut self,
        sdp: &str,
        shared: Arc<Shared>,
        gone: CancellationToken,
    ) -> Result<(), ConnectError> {
        let failed = |error: &dyn std::error::Error| ConnectError::Voice(error.to_string());
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| failed(&error))?;
        let accepted = self
            .session
            .rtc
            .sdp_api()
            .accept_answer(self.pending, answer);
        accepted.map_err(|error| failed(&error))?;
        let (opening, opened) = oneshot::channel();
        self.session.opening = Some(opening);
        let session = self.session;
        tokio::spawn(async move {
            tokio::select! {
                ended = session.run(&shared) => if let Err(error) = ended {
                    tracing::debug!("a voice connection has ended: {error}");
                },
                () = gone.cancelled() => {}
            }
            gone.cancel();
        });
        match timeout(OPEN_TIME_MAX, opened).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ConnectError::Voice(
                "the data channel was closed".to_owned(),
            )),
            Err(_) => Err(ConnectError::Voice(
                "no packet comes through, by UDP".to_owned(),
            )),
        }
    }
}

impl Session {
    /// Runs until the connection has ended, or nobody can talk any more.
    async fn run(mut self, shared: &Shared) -> Result<(), SessionError> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let wake = self.poll(shared).await?;
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    // An error is of a packet sent before: ICE sees whether anything comes through.
                    if let Ok((length, source)) = received {
                        self.receive(source, buffer.get(..length).unwrap_or_default())?;
                    }
                }
                datagram = shared.outgoing.pop() => match datagram {
                    Some(datagram) => self.send(shared, &datagram)?,
                    None => return Ok(()),
                },
                () = sleep_until(wake.into()) => {
                    self.rtc.handle_input(Input::Timeout(Instant::now()))?;
                }
            }
        }
    }

    /// Does what the connection wants done; gives when it wants to be polled again.
    async fn poll(&mut self, shared: &Shared) -> Result<Instant, SessionError> {
        for _ in 0..OUTPUTS_MAX {
            if !self.rtc.is_alive() {
                return Err(SessionError::Closed);
            }
            match self.rtc.poll_output()? {
                Output::Timeout(wake) => return Ok(wake),
                Output::Transmit(packet) => {
                    // What does not go out is lost, as in any network.
                    let sent = self.socket.send_to(&packet.contents, packet.destination);
                    let _ = sent.await;
                }
                Output::Event(Event::ChannelOpen(channel, _)) if channel == self.channel => {
                    if let Some(opening) = self.opening.take() {
                        // Whoever waited may have given up; the connection then is gone.
                        let _ = opening.send(());
                    }
                }
                Output::Event(Event::ChannelData(data)) if data.id == self.channel => {
                    shared.receive(&Bytes::from(data.data), Instant::now());
                }
                Output::Event(Event::ChannelClose(channel)) if channel == self.channel => {
                    return Err(SessionError::Closed);
                }
                Output::Event(Event::IceConnectionStateChange(
                    IceConnectionState::Disconnected,
                )) => return Err(SessionError::Disconnected),
                Output::Event(_) => {}
            }
        }
        Ok(Instant::now())
    }

    fn receive(&mut self, source: SocketAddr, bytes: &[u8]) -> Result<(), SessionError> {
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
        let input = Input::Receive(Instant::now(), receive);
        Ok(self.rtc.handle_input(input)?)
    }

    fn send(&mut self, shared: &Shared, datagram: &[u8]) -> Result<(), SessionError> {
        let is_sent = match self.rtc.channel(self.channel) {
            Some(mut channel) => {
                channel.buffered_amount() < SENDING_BYTES_MAX && channel.write(true, datagram)?
            }
            None => false,
        };
        match is_sent {
            true => shared.tallies.packets_sent.add(1),
            false => shared.tallies.dropped_sending.add(1),
        }
        Ok(())
    }
}

/// Web clients name no addresses: the server learns where they are from their checks.
fn without_candidates(sdp: &str) -> String {
    let is_candidate =
        |line: &&str| line.starts_with("a=candidate") || line.starts_with("a=end-of-candidates");
    let lines = sdp.split_inclusive("\r\n");
    lines.filter(|line| !is_candidate(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_names_no_addresses() {
        let sdp = "v=0\r\na=candidate:1 1 udp 1 10.0.0.1 5 typ host\r\na=mid:0\r\na=end-of-candidates\r\n";
        assert_eq!(without_candidates(sdp), "v=0\r\na=mid:0\r\n");
    }
}
