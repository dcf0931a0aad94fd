//! The WebRTC session of one client: one data channel, negotiated beforehand, that carries all of its voice.

mod association;
mod chunk;
mod dtls;
mod ice;
mod incoming;
mod offer;
mod outgoing;

use std::{net::SocketAddr, time::Instant};

use sfu_core::DropReason;

pub(crate) use self::offer::{Offer, Offers};
use self::{
    association::{Association, PACKET_BYTES_MAX},
    dtls::{Dtls, Over, RECORD_BYTES_MAX},
    ice::Ice,
};
use super::{
    demux::Packet,
    session::{Sent, Waiting},
    socket::Packets,
};

/// Memory that all sessions of a shard work in, one after the other.
#[derive(Debug)]
pub(super) struct Scratch {
    packet: Vec<u8>,
    record: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            packet: Vec::with_capacity(PACKET_BYTES_MAX),
            record: vec![0; RECORD_BYTES_MAX],
        }
    }
}

/// A session on its shard.
#[derive(Debug)]
pub(super) struct WebRtcSession {
    pub(super) user_fragment: String,
    ice: Ice,
    dtls: Dtls,
    association: Association,
}

impl WebRtcSession {
    fn new(user_fragment: String, ice: Ice, dtls: Dtls, association: Association) -> Self {
        Self {
            user_fragment,
            ice,
            dtls,
            association,
        }
    }

    /// Whether it can take voice at all.
    pub(super) fn is_open(&self) -> bool {
        self.association.is_open() && self.dtls.is_open()
    }

    /// Takes a packet in; `voice` gets what the client says. Says whether it has to be polled.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: &[u8],
        scratch: &mut Scratch,
        packets: &mut Packets,
        mut voice: impl FnMut(&[u8]),
    ) -> Result<bool, DropReason> {
        if let Packet::Stun(_) = Packet::of(bytes) {
            let answer = self.ice.check(now, source, bytes);
            packets.push(source, &answer.ok_or(DropReason::Rejected)?);
            return Ok(false);
        }
        let Self {
            ice,
            dtls,
            association,
            ..
        } = self;
        let timeout = association.timeout();
        let mut is_heard = false;
        let sent = |packet: &[u8]| packets.push(source, packet);
        let received = |packet: &[u8]| {
            is_heard = true;
            // A packet that is none harms nobody but its sender.
            let _ = association.receive(now, packet, &mut voice);
        };
        let result = dtls.receive(now, bytes, &mut scratch.record, sent, received);
        if is_heard {
            ice.heard(now, source);
        }
        match result {
            Ok(()) => {
                let is_sooner = match (association.timeout(), timeout) {
                    (Some(after), Some(before)) => after < before,
                    (after, _) => after.is_some(),
                };
                Ok(!dtls.is_open() || is_sooner || association.is_due(now))
            }
            Err(Over) => Err(DropReason::Rejected),
        }
    }

    /// Its time has come; what it then has to say goes with the next poll.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
    }

    /// Sends what waits, and what else there is to say. Says when it wants to be polled again at the latest; `None` when it
    /// is over.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        waiting: &mut Waiting,
        scratch: &mut Scratch,
        packets: &mut Packets,
        sent: &mut Sent,
    ) -> Option<Instant> {
        let remote = self.ice.remote(now);
        while let Some((_, voice)) = waiting.pop() {
            let bytes = voice.bytes();
            if !self.is_open() || remote.is_none() {
                sent.dropped.push(DropReason::NoChannel);
            } else if self.association.can_write(now, bytes.len()) {
                self.association.write(now, bytes);
                sent.count(bytes.len());
            } else {
                sent.dropped.push(DropReason::SlowReceiver);
            }
        }
        let Some(remote) = remote else {
            return self.is_alive().then(|| now + ice::CONSENT);
        };
        let mut push = |packet: &[u8]| packets.push(remote, packet);
        let Scratch { packet, record } = scratch;
        // What fails here shows in the end.
        let _ = self.dtls.handle_timeout(now, record, &mut push);
        while self.dtls.is_open() && self.association.poll(now, packet) {
            let _ = self.dtls.send(packet, record, &mut push);
        }
        let timeouts = [self.association.timeout(), Some(self.dtls.timeout())];
        let due = timeouts.into_iter().flatten().min();
        due.filter(|_| self.is_alive())
    }

    fn is_alive(&self) -> bool {
        !self.dtls.is_over() && !self.association.is_over()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sha2::{Digest as _, Sha256};

    use super::{association::Seed, chunk::Chunk, *};
    use crate::shard::{
        voice::VoicePacket,
        webrtc::{
            chunk::{Data, FLAG_BEGIN, FLAG_END, Header, write_data},
            dtls::Identity,
            ice::tests::check,
        },
    };

    const SEED: Seed = Seed {
        tag: 9,
        tsn: 50,
        cookie: [7; 16],
    };

    /// What a client's INIT is (RFC 9260, section 3.3.2): tag 5, numbers from 100, and that it can skip.
    const INIT: [u8; 24] = [
        1, 0, 0, 24, 0, 0, 0, 5, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 100, 0xc0, 0, 0, 4,
    ];

    /// A client in this process: its own DTLS, and SCTP by hand.
    struct Client {
        session: WebRtcSession,
        dtls: dimpl::Dtls,
        scratch: Scratch,
        /// What the server said, decrypted.
        heard: Vec<Vec<u8>>,
        /// What the server took for voice.
        voice: Vec<Vec<u8>>,
        /// When the session wants to be polled.
        due: Option<Instant>,
    }

    fn address() -> SocketAddr {
        ([192, 0, 2, 1], 7).into()
    }

    impl Client {
        /// Has checked its way, and offered the certificate with this fingerprint, or its own.
        fn new(now: Instant, fingerprint: Option<[u8; 32]>) -> Self {
            let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
            let own = Sha256::digest(&certificate.certificate).into();
            let config = dimpl::Config::builder().build().unwrap();
            let mut dtls = dimpl::Dtls::new_12(config.into(), certificate, now);
            dtls.set_active(true);
            let identity = Identity::new().unwrap();
            let session = WebRtcSession::new(
                "ours".to_owned(),
                Ice::new("secret".to_owned()),
                Dtls::new(now, &identity, fingerprint.unwrap_or(own)),
                Association::new(SEED),
            );
            let mut client = Self {
                session,
                dtls,
                scratch: Scratch::default(),
                heard: Vec::new(),
                voice: Vec::new(),
                due: None,
            };
            client.give(now, &check("secret", true));
            client
        }

        fn open(now: Instant) -> Self {
            let mut client = Self::new(now, None);
            client.exchange(now);
            client.send(now, 0, |packet| packet.extend(INIT));
            client.send(now, SEED.tag, |packet| {
                packet.extend([10, 0, 0, 20]);
                packet.extend(SEED.cookie);
            });
            assert!(client.session.is_open());
            client
        }

        /// A packet to the server, and all that follows from it.
        fn give(&mut self, now: Instant, bytes: &[u8]) {
            let mut packets = Packets::default();
            let voice = &mut self.voice;
            let heard = |bytes: &[u8]| voice.push(bytes.to_vec());
            let scratch = &mut self.scratch;
            let session = &mut self.session;
            let received = session.receive(now, address(), bytes, scratch, &mut packets, heard);
            self.take(now, &packets);
            if received == Ok(true) {
                self.poll(now, &mut Waiting::default());
            }
        }

        fn poll(&mut self, now: Instant, waiting: &mut Waiting) -> Sent {
            let mut packets = Packets::default();
            let mut sent = Sent::default();
            let scratch = &mut self.scratch;
            self.due = self
                .session
                .poll(now, waiting, scratch, &mut packets, &mut sent);
            self.take(now, &packets);
            sent
        }

        fn take(&mut self, now: Instant, packets: &Packets) {
            for (to, bytes) in packets.batch(0) {
                assert_eq!(to, address());
                self.dtls.handle_timeout(now).unwrap();
                // Answers to checks are not for it.
                let _ = self.dtls.handle_packet(bytes);
            }
        }

        /// Until neither side has more to say.
        fn exchange(&mut self, now: Instant) {
            self.dtls.handle_timeout(now).unwrap();
            let mut buffer = vec![0; 2_048];
            loop {
                match self.dtls.poll_output(&mut buffer) {
                    dimpl::Output::Packet(packet) => {
                        let packet = packet.to_vec();
                        self.give(now, &packet);
                    }
                    dimpl::Output::ApplicationData(bytes) => self.heard.push(bytes.to_vec()),
                    dimpl::Output::Timeout(_) => return,
                    _ => {}
                }
            }
        }

        fn send(&mut self, now: Instant, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
            let mut packet = Vec::new();
            let header = Header {
                source_port: 1,
                destination_port: 2,
                tag,
            };
            header.write(&mut packet);
            write(&mut packet);
            self.dtls.send_application_data(&packet).unwrap();
            self.exchange(now);
        }

        /// What the server said since the last look.
        fn heard(&mut self) -> Vec<Vec<u8>> {
            std::mem::take(&mut self.heard)
        }
    }

    fn voice(now: Instant) -> Waiting {
        let mut waiting = Waiting::default();
        waiting.push(now, &VoicePacket::new(b"voice")).unwrap();
        waiting
    }

    #[test]
    fn voice_goes_both_ways_and_is_acknowledged_in_time() {
        let now = Instant::now();
        let mut client = Client::open(now);
        let data = Data {
            tsn: 100,
            stream: 2,
            protocol: 53,
            flags: FLAG_BEGIN | FLAG_END,
            bytes: b"hello",
        };
        client.heard();
        client.send(now, SEED.tag, |packet| write_data(packet, &data));
        assert_eq!(client.voice, [b"hello"]);
        assert!(
            client.heard().is_empty(),
            "one packet is not acknowledged at once"
        );
        let due = client.due.unwrap();
        assert!(due <= now + Duration::from_millis(200), "but soon");
        client.session.handle_timeout(due);
        client.poll(due, &mut Waiting::default());
        client.exchange(due);
        let heard = client.heard();
        let (_, mut chunks) = Header::parse(&heard[0]).unwrap();
        assert!(matches!(chunks.next(), Ok(Some(Chunk::Sack(sack))) if sack.tsn == 100));

        let sent = client.poll(due, &mut voice(due));
        assert_eq!((sent.packets, sent.dropped.len()), (1, 0));
        client.exchange(due);
        let heard = client.heard();
        let (_, mut chunks) = Header::parse(&heard[0]).unwrap();
        assert!(matches!(chunks.next(), Ok(Some(Chunk::Data(data))) if data.bytes == b"voice"));
    }

    #[test]
    fn who_has_another_certificate_than_offered_gets_no_further() {
        let now = Instant::now();
        let mut client = Client::new(now, Some([1; 32]));
        client.exchange(now);
        assert!(!client.session.is_alive());
        let sent = client.poll(now, &mut voice(now));
        assert_eq!(sent.dropped, [DropReason::NoChannel]);
        assert_eq!(client.due, None);
    }

    #[test]
    fn who_does_not_check_any_more_hears_nothing() {
        let now = Instant::now();
        let mut client = Client::open(now);
        let later = now + ice::CONSENT;
        let sent = client.poll(later, &mut voice(later));
        assert_eq!(sent.dropped, [DropReason::NoChannel]);
        client.give(later, &check("secret", true));
        let sent = client.poll(later, &mut voice(later));
        assert_eq!(sent.packets, 1);
    }
}
