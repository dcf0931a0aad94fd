//! A WebRTC data channel, as a web client has it: id 2, negotiated beforehand, unordered, without retransmission.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError,
    change::{SdpAnswer, SdpPendingOffer},
    channel::{ChannelConfig, ChannelId, Reliability},
    config::DtlsCert,
    crypto::CryptoProvider,
    net::{Protocol, Receive},
};

use super::Said;

/// The SCTP stream that carries voice; it is never announced.
const VOICE_STREAM: u16 = 2;

/// Outputs of one poll; a session that has more to say is asked again at once.
const OUTPUTS_MAX: usize = 1_024;

/// What all offers have in common.
pub(crate) struct Offers {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offers").finish_non_exhaustive()
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("no certificate for WebRTC can be made")]
    NoCertificate,
    #[error("no offer can be made")]
    NoOffer,
    #[error("the answer cannot be understood: {0}")]
    Answer(String),
    #[error(transparent)]
    Rtc(#[from] RtcError),
}

/// An offer that waits for its answer.
pub(crate) struct Offer {
    rtc: Rtc,
    pending: SdpPendingOffer,
    channel: ChannelId,
}

impl Offers {
    /// # Errors
    /// When no certificate can be made.
    pub(crate) fn new() -> Result<Self, OfferError> {
        let crypto = str0m::crypto::from_feature_flags();
        let certificate = crypto.dtls_provider.generate_certificate();
        Ok(Self {
            certificate: certificate.ok_or(OfferError::NoCertificate)?,
            crypto: Arc::new(crypto),
        })
    }

    /// Makes an offer, as SDP without candidates: clients send none.
    ///
    /// # Errors
    /// When the library cannot make one.
    pub(crate) fn offer(&self, now: Instant) -> Result<(Offer, String), OfferError> {
        let mut rtc = RtcConfig::new()
            .clear_codecs()
            .clear_extension_map()
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_dtls_cert(self.certificate.clone())
            .build(now);
        let mut changes = rtc.sdp_api();
        let channel = changes.add_channel_with_config(ChannelConfig {
            label: "audio".to_owned(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            negotiated: Some(VOICE_STREAM),
            protocol: String::new(),
        });
        let (offer, pending) = changes.apply().ok_or(OfferError::NoOffer)?;
        let offer_text = offer.to_sdp_string();
        Ok((
            Offer {
                rtc,
                pending,
                channel,
            },
            offer_text,
        ))
    }
}

/// The address of the server's voice in an answer.
pub(crate) fn candidate(answer: &str) -> Option<SocketAddr> {
    answer.lines().find_map(|line| {
        let words: Vec<_> = line.strip_prefix("a=candidate:")?.split(' ').collect();
        let [_, _, protocol, _, ip, port, ..] = words[..] else {
            return None;
        };
        let ip = ip.parse().ok()?;
        let is_udp = protocol.eq_ignore_ascii_case("udp");
        is_udp.then_some(SocketAddr::new(ip, port.parse().ok()?))
    })
}

impl Offer {
    /// Goes on with the answer, from the address of a socket that is connected to [`candidate`].
    ///
    /// # Errors
    /// When the answer does not fit.
    pub(crate) fn answered(
        mut self,
        answer: &str,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<DataChannel, OfferError> {
        let answer = SdpAnswer::from_sdp_string(answer)
            .map_err(|error| OfferError::Answer(error.to_string()))?;
        let own = Candidate::host(local, Protocol::Udp)
            .map_err(|error| OfferError::Answer(error.to_string()))?;
        self.rtc.add_local_candidate(own);
        self.rtc.sdp_api().accept_answer(self.pending, answer)?;
        Ok(DataChannel {
            rtc: self.rtc,
            channel: self.channel,
            local,
            remote,
            is_open: false,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct DataChannel {
    rtc: Rtc,
    channel: ChannelId,
    local: SocketAddr,
    remote: SocketAddr,
    is_open: bool,
}

impl DataChannel {
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.rtc.is_alive()
    }

    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(contents) = bytes.try_into() else {
            return;
        };
        let receive = Receive {
            proto: Protocol::Udp,
            source: self.remote,
            destination: self.local,
            contents,
        };
        self.input(Input::Receive(now, receive));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.input(Input::Timeout(now));
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::debug!("a data channel ended: {error}");
            self.rtc.disconnect();
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        let Some(mut channel) = self.rtc.channel(self.channel) else {
            return false;
        };
        channel.write(true, bytes).unwrap_or(false)
    }

    pub(super) fn poll(&mut self, out: &mut impl FnMut(Said<'_>)) -> Option<Instant> {
        for _ in 0..OUTPUTS_MAX {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(timeout)) => {
                    return self.rtc.is_alive().then_some(timeout);
                }
                Ok(Output::Transmit(packet)) => out(Said::Packet(&packet.contents)),
                Ok(Output::Event(Event::ChannelOpen(channel, _))) => {
                    self.is_open |= channel == self.channel;
                }
                Ok(Output::Event(Event::ChannelClose(channel))) => {
                    self.is_open &= channel != self.channel;
                }
                Ok(Output::Event(Event::ChannelData(data))) if data.id == self.channel => {
                    out(Said::Voice(&data.data));
                }
                Ok(Output::Event(_)) => {}
                Err(error) => {
                    tracing::debug!("a data channel ended: {error}");
                    self.rtc.disconnect();
                    return None;
                }
            }
        }
        Some(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_address_is_found_in_its_answer() {
        let answer = "v=0\r\na=candidate:1 1 tcp 99 192.0.2.1 9 typ host\r\n\
            a=candidate:2 1 UDP 98 192.0.2.7 8844 typ host ufrag x\r\n";
        assert_eq!(candidate(answer), Some("192.0.2.7:8844".parse().unwrap()));
        for wrong in ["", "a=candidate:", "a=candidate:1 1 udp 1 host 9 typ host"] {
            assert_eq!(candidate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_offer_is_one_data_channel_without_candidates() {
        let (_, sdp) = Offers::new().unwrap().offer(Instant::now()).unwrap();
        assert_eq!(sdp.matches("m=").count(), 1, "{sdp}");
        assert!(
            sdp.contains("m=application") && !sdp.contains("a=candidate"),
            "{sdp}"
        );
    }
}
