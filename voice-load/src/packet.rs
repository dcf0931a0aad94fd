//! A voice datagram that says when it was sent, by whom, and which of its sender's it is: the form of the web client's
//! (docs: `sfu_core::wire::Datagram`), with a frame of ours in the place of Opus.

/// First byte of an Opus frame: hybrid, fullband, 20 ms, mono, one frame.
const OPUS_HEAD: u8 = 0x78;

/// Begins what a frame says about itself, so that nobody else's voice is taken for ours.
const MARK: [u8; 4] = *b"load";

/// Bytes of what a frame says.
const STAMP_BYTES: usize = 1 + MARK.len() + 4 + 4 + 8;

/// What is added to a sequence and a timestamp on the wire: all of them then have the same length.
const WIRE_START: u32 = 0x1000_0000;

/// Ticks of the timestamp's 90 kHz clock between two packets at the usual rate.
const TICKS: u32 = 1_800;

/// What a packet says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The peer.
    pub(crate) sender: u32,
    /// Which packet of this sender, from 0.
    pub(crate) sequence: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub(crate) sent_ns: u64,
}

/// Writes a datagram of exactly `length` bytes, which are at least [`crate::plan::PACKET_BYTES_MIN`].
pub(crate) fn write(bytes: &mut Vec<u8>, media: u16, stamp: Stamp, length: usize) {
    bytes.clear();
    bytes.extend([0x96, 1, 0x91]);
    match u8::try_from(media) {
        Ok(media @ ..0x80) => bytes.push(media),
        Ok(media) => bytes.extend([0xcc, media]),
        Err(_) => {
            bytes.push(0xcd);
            bytes.extend(media.to_be_bytes());
        }
    }
    bytes.push(0xce);
    bytes.extend(WIRE_START.wrapping_add(stamp.sequence).to_be_bytes());
    bytes.push(0xce);
    let timestamp = stamp.sequence.wrapping_mul(TICKS) | WIRE_START;
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend([0, 0xc5]);
    let frame = length.saturating_sub(bytes.len() + 2).max(STAMP_BYTES);
    bytes.extend(u16::try_from(frame).unwrap_or(u16::MAX).to_be_bytes());
    let filler = frame - STAMP_BYTES;
    bytes.push(OPUS_HEAD);
    bytes.extend(MARK);
    bytes.extend(stamp.sender.to_be_bytes());
    bytes.extend(stamp.sequence.to_be_bytes());
    bytes.extend(stamp.sent_ns.to_be_bytes());
    bytes.resize(bytes.len() + filler, 0x5a);
}

/// What a datagram says about itself; `None` if it is not one of ours.
pub(crate) fn read(bytes: &[u8]) -> Option<Stamp> {
    let media = match bytes.get(3)? {
        0xcd => 3,
        0xcc => 2,
        _ => 1,
    };
    // Behind the media: sequence, timestamp, flags, the frame's head.
    let frame = bytes.get(3 + media + 5 + 5 + 1 + 3..)?;
    let (_, rest) = frame.split_first()?;
    let (mark, rest) = rest.split_first_chunk()?;
    let (sender, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let sent_ns = rest.first_chunk()?;
    (*mark == MARK).then_some(Stamp {
        sender: u32::from_be_bytes(*sender),
        sequence: u32::from_be_bytes(*sequence),
        sent_ns: u64::from_be_bytes(*sent_ns),
    })
}

#[cfg(test)]
mod tests {
    use sfu_core::wire::datagram::Datagram;

    use super::*;
    use crate::plan::{PACKET_BYTES_MAX, PACKET_BYTES_MIN};

    #[test]
    fn a_packet_has_the_length_that_was_asked_for_and_is_voice_to_the_server() {
        for length in [PACKET_BYTES_MIN, 100, PACKET_BYTES_MAX] {
            for media in [1, 127, 128, 255, 256, u16::MAX] {
                let stamp = Stamp {
                    sender: 7,
                    sequence: 300_000,
                    sent_ns: u64::MAX - 1,
                };
                let mut bytes = vec![1, 2, 3];
                write(&mut bytes, media, stamp, length);
                assert_eq!(bytes.len(), length, "media {media}");
                assert_eq!(Datagram::parse(&bytes).unwrap().medias(), [media]);
                assert_eq!(read(&bytes), Some(stamp));
            }
        }
    }

    #[test]
    fn what_others_say_is_not_ours() {
        let mut bytes = Vec::new();
        write(
            &mut bytes,
            1,
            Stamp {
                sender: 1,
                sequence: 2,
                sent_ns: 3,
            },
            100,
        );
        for length in 0..PACKET_BYTES_MIN - 2 {
            assert_eq!(read(&bytes[..length]), None, "{length}");
        }
        bytes[20] ^= 1;
        assert_eq!(read(&bytes), None);
    }
}
