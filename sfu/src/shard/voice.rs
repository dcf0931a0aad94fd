//! One voice packet on its way to its receivers.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Shared by all receivers. It is kept behind the byte that stands before it in a datagram of a connection's first
/// session, which is what nearly all receivers over QUIC have: they share the whole.
#[derive(Clone, Debug)]
pub(super) struct VoicePacket(Bytes);

impl VoicePacket {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut framed = BytesMut::with_capacity(1 + bytes.len());
        framed.put_u8(0);
        framed.extend_from_slice(bytes);
        Self(framed.freeze())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.get(1..).unwrap_or(&[])
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// As a datagram of this session (RFC 9297, section 2.1).
    pub(super) fn datagram(&self, prefix: &[u8]) -> Bytes {
        match prefix {
            [0] => self.0.clone(),
            _ => Bytes::from([prefix, self.bytes()].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_session_shares_the_packet_and_others_have_their_own() {
        let packet = VoicePacket::new(b"voice");
        assert_eq!((packet.bytes(), packet.len()), (&b"voice"[..], 5));
        let shared = packet.datagram(&[0]);
        assert_eq!(shared, b"\0voice"[..]);
        assert_eq!(shared.as_ptr(), packet.0.as_ptr());
        assert_eq!(packet.datagram(&[0x40, 0x41]), b"\x40\x41voice"[..]);
    }
}
