//! The WebRTC session of one client: one data channel, negotiated beforehand, that carries all of its voice.

use std::{
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::DropReason;
use str0m::{
    Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig,
    change::SdpOffer,
    channel::{ChannelConfig, ChannelId, Reliability},
    config::DtlsCert,
    crypto::CryptoProvider,
    net::{Protocol, Receive},
};

use super::{
    ClientId, ShardNumber,
    backlog::Backlog,
    demux::user_fragment,
    session::{Sent, Waiting},
    socket::Packets,
    voice::VoicePacket,
};

/// The SCTP stream that web clients use; it is never announced.
const VOICE_STREAM: u16 = 2;

/// Bytes SCTP may hold at all: more than a [`Backlog`] and a packet, and little for each client.
const SCTP_BYTES_MAX: usize = 16 * 1024;

/// Outputs of one poll. A session that has more to say is polled again in the next round, so that none holds the others
/// up.
const OUTPUTS_MAX: usize = 512;

/// How long the rest of what a session has to say may wait when its voice has gone out.
const REST_TIME: Duration = Duration::from_millis(5);

/// What all offers are answered with.
pub(crate) struct Offers {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    candidates: Vec<SocketAddr>,
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offers")
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

/// A negotiated session on its way to its shard.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(super) client: ClientId,
    user_fragment: String,
    rtc: Rtc,
    channel: ChannelId,
}

/// Why an offer is refused. Clients show the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("invalid sdp")]
    Malformed,
    #[error("the offer must be one data channel and nothing else")]
    NoDataChannel,
    #[error("the offer cannot be answered")]
    Refused,
}

impl Offers {
    /// # Errors
    /// When no certificate can be made.
    pub(crate) fn new(candidates: Vec<SocketAddr>) -> Result<Self, &'static str> {
        let crypto = str0m::crypto::from_feature_flags();
        let certificate = crypto.dtls_provider.generate_certificate();
        Ok(Self {
            certificate: certificate.ok_or("the certificate for WebRTC cannot be made")?,
            crypto: Arc::new(crypto),
            candidates,
        })
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// [`OfferError`].
    pub(crate) fn accept(
        &self,
        now: Instant,
        shard: ShardNumber,
        client: ClientId,
        sdp: &str,
    ) -> Result<(Box<Offer>, String), OfferError> {
        let mut sections = sdp.lines().filter(|line| line.starts_with("m="));
        let is_channel = sections
            .next()
            .is_some_and(|line| line.starts_with("m=application "));
        if !is_channel || sections.next().is_some() {
            return Err(OfferError::NoDataChannel);
        }
        let negotiate = || self.negotiate(now, shard, client, sdp);
        // The description is the network's; a library that trips over it must not take more with it.
        catch_unwind(AssertUnwindSafe(negotiate)).unwrap_or(Err(OfferError::Malformed))
    }

    fn negotiate(
        &self,
        now: Instant,
        shard: ShardNumber,
        client: ClientId,
        sdp: &str,
    ) -> Result<(Box<Offer>, String), OfferError> {
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|_| OfferError::Malformed)?;
        let credentials = credentials(shard).ok_or(OfferError::Refused)?;
        let user_fragment = credentials.ufrag.clone();
        let mut rtc = RtcConfig::new()
            .clear_codecs()
            .clear_extension_map()
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_dtls_cert(self.certificate.clone())
            .set_local_ice_credentials(credentials)
            .set_ice_lite(true)
            .set_sctp_max_buffered_amount(SCTP_BYTES_MAX)
            .build(now);
        for address in &self.candidates {
            let candidate = Candidate::host(*address, Protocol::Udp);
            rtc.add_local_candidate(candidate.map_err(|_| OfferError::Refused)?);
        }
        let answer = rtc
            .sdp_api()
            .accept_offer(offer)
            .map_err(|_| OfferError::Refused)?;
        let channel = rtc.direct_api().create_data_channel(ChannelConfig {
            label: "audio".to_owned(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            negotiated: Some(VOICE_STREAM),
            protocol: String::new(),
        });
        let offer = Offer {
            client,
            user_fragment,
            rtc,
            channel,
        };
        Ok((Box::new(offer), answer.to_sdp_string()))
    }
}

fn credentials(shard: ShardNumber) -> Option<IceCreds> {
    let mut random = [0; 15];
    let mut secret = [0; 24];
    getrandom::fill(&mut random).ok()?;
    getrandom::fill(&mut secret).ok()?;
    let pass = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(IceCreds {
        ufrag: user_fragment(shard, &random),
        pass,
    })
}

/// A session on its shard.
#[derive(Debug)]
pub(super) struct WebRtcSession {
    pub(super) user_fragment: String,
    rtc: Rtc,
    channel: ChannelId,
    is_open: bool,
    backlog: Backlog,
}

impl WebRtcSession {
    pub(super) fn new(offer: Offer) -> Self {
        Self {
            user_fragment: offer.user_fragment,
            rtc: offer.rtc,
            channel: offer.channel,
            is_open: false,
            backlog: Backlog::default(),
        }
    }

    /// Takes a packet in.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let contents = bytes.try_into().map_err(|_| DropReason::UnknownPacket)?;
        let receive = Receive {
            proto: Protocol::Udp,
            source,
            destination,
            contents,
        };
        self.guarded(|rtc| rtc.handle_input(Input::Receive(now, receive)))
            .ok_or(DropReason::Rejected)
    }

    /// Its time has come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.guarded(|rtc| rtc.handle_input(Input::Timeout(now)));
    }

    /// Whether it can take voice at all.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Puts what waits into the channel, to be sent by the next poll. Says how many bytes that were.
    pub(super) fn write_all(
        &mut self,
        now: Instant,
        waiting: &mut Waiting,
        sent: &mut Sent,
    ) -> usize {
        let before = sent.bytes;
        while let Some((_, voice)) = waiting.pop() {
            match self.write(now, &voice) {
                Ok(()) => sent.count(voice.len()),
                Err(reason) => sent.dropped.push(reason),
            }
        }
        sent.bytes - before
    }

    fn write(&mut self, now: Instant, voice: &VoicePacket) -> Result<(), DropReason> {
        if !self.is_open {
            return Err(DropReason::NoChannel);
        }
        let bytes = voice.bytes();
        let channel = self.channel;
        let mut backlog = std::mem::take(&mut self.backlog);
        let written = self.guarded(|rtc| {
            let Some(mut channel) = rtc.channel(channel) else {
                return Ok(Err(DropReason::NoChannel));
            };
            if backlog.is_too_long(now, channel.buffered_amount()) {
                return Ok(Err(DropReason::SlowReceiver));
            }
            if !channel.write(true, bytes)? {
                return Ok(Err(DropReason::SlowReceiver));
            }
            backlog.wrote(now, bytes.len());
            Ok(Ok(()))
        });
        self.backlog = backlog;
        written.unwrap_or(Err(DropReason::NoChannel))
    }

    /// Takes what it has to say: packets, and voice that came. Says when it wants to be polled again at the latest; `None`
    /// when it is over.
    ///
    /// With `enough`, a packet of at least so many bytes ends it: that is the voice that was just written, and nothing else
    /// is waited for. Every further question costs the library a look at all it has.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        enough: Option<usize>,
        packets: &mut Packets,
        mut voice: impl FnMut(Bytes),
    ) -> Option<Instant> {
        for _ in 0..OUTPUTS_MAX {
            match self.guarded(Rtc::poll_output) {
                None => break,
                Some(Output::Timeout(timeout)) => {
                    return self.rtc.is_alive().then_some(timeout);
                }
                Some(Output::Transmit(packet)) => {
                    packets.push(packet.destination, &packet.contents);
                    if enough.is_some_and(|bytes| packet.contents.len() >= bytes) {
                        return Some(now + REST_TIME);
                    }
                }
                Some(Output::Event(Event::ChannelOpen(channel, _))) => {
                    self.is_open |= channel == self.channel;
                }
                Some(Output::Event(Event::ChannelClose(channel))) => {
                    self.is_open &= channel != self.channel;
                }
                Some(Output::Event(Event::ChannelData(data))) if data.id == self.channel => {
                    voice(data.data.into());
                }
                Some(Output::Event(_)) => {}
            }
        }
        self.rtc.is_alive().then_some(now)
    }

    /// Calls the library. When it fails or trips, the session is over and the others go on.
    fn guarded<T>(
        &mut self,
        call: impl FnOnce(&mut Rtc) -> Result<T, str0m::RtcError>,
    ) -> Option<T> {
        let rtc = &mut self.rtc;
        match catch_unwind(AssertUnwindSafe(|| call(rtc))) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                tracing::debug!("a WebRTC session ended: {error}");
                self.rtc.disconnect();
                None
            }
            Err(_) => {
                tracing::error!("a WebRTC session ended by a panic");
                self.rtc.disconnect();
                None
            }
        }
    }
}

/// The address of ours that a client at `source` must have sent to: the candidate of its family.
pub(super) fn destination(candidates: &[SocketAddr], source: SocketAddr) -> Option<SocketAddr> {
    let same = |ip: IpAddr| ip.is_ipv4() == source.is_ipv4();
    candidates.iter().copied().find(|it| same(it.ip()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Chromium sends, with other numbers.
    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=msid-semantic: WMS\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\na=fingerprint:sha-256 \
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

    fn offers() -> Offers {
        let candidates = ["192.0.2.7:8844", "[2001:db8::7]:8844"];
        Offers::new(candidates.map(|it| it.parse().unwrap()).to_vec()).unwrap()
    }

    fn accept(sdp: &str) -> Result<(Box<Offer>, String), OfferError> {
        offers().accept(Instant::now(), ShardNumber(3), ClientId(1), sdp)
    }

    #[test]
    fn an_offer_is_answered_with_our_candidates_and_the_shards_name() {
        let (offer, answer) = accept(OFFER).unwrap();
        for wanted in [
            "a=ice-lite",
            "a=sctp-port:5000",
            "a=mid:0",
            "192.0.2.7 8844 typ host",
            "2001:db8::7 8844 typ host",
            "a=fingerprint:sha-256 ",
        ] {
            assert!(answer.contains(wanted), "{wanted}: {answer}");
        }
        assert!(offer.user_fragment.starts_with('D'));
        assert!(answer.contains(&format!("a=ice-ufrag:{}", offer.user_fragment)));
    }

    #[test]
    fn what_is_not_one_data_channel_is_refused() {
        let audio = OFFER.replace(
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        );
        let two = format!("{OFFER}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n");
        for sdp in [
            audio,
            two,
            String::new(),
            "garbage".to_owned(),
            "v=0\r\n".to_owned(),
        ] {
            assert!(
                matches!(accept(&sdp), Err(OfferError::NoDataChannel)),
                "{sdp}"
            );
        }
        assert!(matches!(
            accept("m=application 9 x y\r\n"),
            Err(OfferError::Malformed)
        ));
        let no_fingerprint: Vec<_> = OFFER
            .lines()
            .filter(|line| !line.contains("fingerprint"))
            .collect();
        assert!(accept(&no_fingerprint.join("\r\n")).is_err());
    }

    #[test]
    fn clients_are_met_at_the_candidate_of_their_family() {
        let candidates = ["192.0.2.7:1", "[2001:db8::7]:2"].map(|it| it.parse().unwrap());
        let port =
            |source: &str| destination(&candidates, source.parse().unwrap()).map(|it| it.port());
        assert_eq!(port("10.0.0.1:5"), Some(1));
        assert_eq!(port("[::1]:5"), Some(2));
        assert_eq!(destination(&[], candidates[0]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_changed_offer_is_answered_or_refused(at in 0..OFFER.len(), byte in 1_u8..127, cut in 0..OFFER.len()) {
            let mut sdp = OFFER.as_bytes().to_vec();
            sdp[at] = byte;
            sdp.truncate(cut.max(OFFER.len() / 2));
            let offers = offers();
            let _ = offers.accept(Instant::now(), ShardNumber(0), ClientId(1), &String::from_utf8(sdp).unwrap());
        }
    }
}
