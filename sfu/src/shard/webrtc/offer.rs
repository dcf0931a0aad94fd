//! Offers of clients and our answers to them: SDP for one data channel (RFC 8841, RFC 8839).

use std::{fmt::Write as _, net::SocketAddr, time::Instant};

use super::{
    WebRtcSession,
    association::{Association, Seed},
    dtls::{Dtls, Identity},
    ice::Ice,
};
use crate::shard::{ClientId, ShardNumber, demux::user_fragment};

/// What an answer says is the longest message: voice is shorter, and longer ones are not put together.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Of a candidate for hosts with one address; the first of ours counts more (RFC 8445, section 5.1.2).
const PRIORITY_HOST: u32 = 126 << 24;

/// What all offers are answered with.
pub(crate) struct Offers {
    identity: Identity,
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
    pub(in crate::shard) client: ClientId,
    pub(in crate::shard) session: WebRtcSession,
}

/// Why an offer is refused. Clients show the text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("invalid sdp: {0}")]
    Malformed(&'static str),
    #[error("the offer must be one data channel and nothing else")]
    NoDataChannel,
    #[error("the offer cannot be answered: {0}")]
    Refused(&'static str),
}

impl Offers {
    /// # Errors
    /// When no certificate can be made.
    pub(crate) fn new(candidates: Vec<SocketAddr>) -> Result<Self, &'static str> {
        Ok(Self {
            identity: Identity::new()?,
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
        let description = Description::parse(sdp)?;
        let no_random = |_| OfferError::Refused("no random numbers");
        let mut random = [0; 15 + 24 + 4 + 4 + 16];
        getrandom::fill(&mut random).map_err(no_random)?;
        let mut random = random.as_slice();
        let user_fragment = user_fragment(shard, take(&mut random));
        let password: String = take::<24>(&mut random)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let seed = Seed {
            // Zero stands for packets that begin an association.
            tag: u32::from_ne_bytes(*take(&mut random)).max(1),
            tsn: u32::from_ne_bytes(*take(&mut random)),
            cookie: *take(&mut random),
        };
        let answer = self.answer(&description, &user_fragment, &password);
        let session = WebRtcSession::new(
            user_fragment,
            Ice::new(password),
            Dtls::new(now, &self.identity, description.fingerprint),
            Association::new(seed),
        );
        Ok((Box::new(Offer { client, session }), answer))
    }

    fn answer(&self, offer: &Description<'_>, user_fragment: &str, password: &str) -> String {
        let mid = offer.mid;
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mid}\r\na=ice-lite\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n\
             a=sendrecv\r\na=ice-ufrag:{user_fragment}\r\na=ice-pwd:{password}\r\na=setup:passive\r\n\
             a=sctp-port:{SCTP_PORT}\r\na=max-message-size:{MESSAGE_BYTES_MAX}\r\na=fingerprint:sha-256 "
        );
        let hex: Vec<_> = self
            .identity
            .fingerprint()
            .map(|it| format!("{it:02X}"))
            .into();
        sdp.push_str(&hex.join(":"));
        sdp.push_str("\r\n");
        for (at, address) in (0..).zip(&self.candidates) {
            // RFC 8445, section 5.1.2.1: the first address is preferred, and there is one component.
            let priority = PRIORITY_HOST + ((0xffff - at) << 8) + 255;
            let (ip, port) = (address.ip(), address.port());
            // Writing into a string does not fail.
            let _ = write!(
                sdp,
                "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n",
                at + 1
            );
        }
        sdp.push_str("a=end-of-candidates\r\n");
        sdp
    }
}

/// The port of SCTP inside DTLS; it means nothing, and is this everywhere (RFC 8841, section 5).
const SCTP_PORT: u16 = 5_000;

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> &'a [u8; N] {
    let (first, rest) = bytes
        .split_first_chunk()
        .expect("there are as many random bytes as are taken");
    *bytes = rest;
    first
}

/// What matters of an offer.
#[derive(Debug)]
struct Description<'a> {
    mid: &'a str,
    fingerprint: [u8; 32],
}

impl<'a> Description<'a> {
    fn parse(sdp: &'a str) -> Result<Self, OfferError> {
        let mut sections = sdp.lines().filter_map(|line| line.strip_prefix("m="));
        let section = sections.next().unwrap_or_default();
        if !section.starts_with("application ") || sections.next().is_some() {
            return Err(OfferError::NoDataChannel);
        }
        let mut words = section.split_ascii_whitespace().skip(2);
        if (words.next(), words.next()) != (Some("UDP/DTLS/SCTP"), Some("webrtc-datachannel")) {
            return Err(OfferError::Malformed("no data channel over UDP"));
        }
        if !sdp.starts_with("v=0") {
            return Err(OfferError::Malformed("another version than 0"));
        }
        let attribute = |name: &str| {
            sdp.lines()
                .filter_map(|line| line.strip_prefix("a=")?.strip_prefix(name))
                .map(str::trim_end)
                .next()
        };
        let mid = attribute("mid:").ok_or(OfferError::Malformed("no mid"))?;
        if mid.is_empty() || !mid.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OfferError::Malformed("mid"));
        }
        for name in ["ice-ufrag:", "ice-pwd:"] {
            if attribute(name).is_none_or(str::is_empty) {
                return Err(OfferError::Malformed("no ICE credentials"));
            }
        }
        // Who offers leaves the choice to us (RFC 8842, section 5.2), or begins itself.
        match attribute("setup:") {
            Some("actpass" | "active") => {}
            _ => return Err(OfferError::Refused("setup must be actpass or active")),
        }
        let fingerprint = attribute("fingerprint:")
            .ok_or(OfferError::Malformed("no fingerprint"))?
            .split_once(' ')
            .filter(|(hash, _)| hash.eq_ignore_ascii_case("sha-256"))
            .ok_or(OfferError::Refused("the fingerprint must be of SHA-256"))
            .and_then(|(_, hex)| fingerprint(hex).ok_or(OfferError::Malformed("fingerprint")))?;
        Ok(Self { mid, fingerprint })
    }
}

/// Bytes in hexadecimal digits, with colons between them.
fn fingerprint(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = hex.trim().split(':').map(|byte| {
        let is_one = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_one.then(|| u8::from_str_radix(byte, 16).ok()).flatten()
    });
    let mut fingerprint = [0; 32];
    for place in &mut fingerprint {
        *place = bytes.next()??;
    }
    bytes.next().is_none().then_some(fingerprint)
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
            "a=setup:passive",
        ] {
            assert!(answer.contains(wanted), "{wanted}: {answer}");
        }
        let user_fragment = &offer.session.user_fragment;
        assert!(user_fragment.starts_with('D'));
        assert!(answer.contains(&format!("a=ice-ufrag:{user_fragment}")));
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
            assert_eq!(
                accept(&sdp).unwrap_err(),
                OfferError::NoDataChannel,
                "{sdp}"
            );
        }
        let malformed = accept("m=application 9 x y\r\n").unwrap_err();
        assert_eq!(
            malformed.to_string(),
            "invalid sdp: no data channel over UDP"
        );
    }

    #[test]
    fn an_offer_must_have_what_its_answer_needs() {
        for (from, to, problem) in [
            ("a=mid:0\r\n", "", "invalid sdp: no mid"),
            ("a=ice-pwd:", "a=x:", "invalid sdp: no ICE credentials"),
            ("a=fingerprint:", "a=x:", "invalid sdp: no fingerprint"),
            ("99:AA:", "99:", "invalid sdp: fingerprint"),
            ("99:AA:", "99:+A:", "invalid sdp: fingerprint"),
            (
                "sha-256",
                "sha-1",
                "the offer cannot be answered: the fingerprint must be of SHA-256",
            ),
            (
                "actpass",
                "passive",
                "the offer cannot be answered: setup must be actpass or active",
            ),
        ] {
            let refused = accept(&OFFER.replace(from, to)).unwrap_err();
            assert_eq!(refused.to_string(), problem);
        }
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
