//! Packets with the form of voice: a head as web clients write it, and a frame of random bytes. Nothing here can be
//! listened to.

use anyhow::{Result, anyhow};
use rmpv::Value;

/// Bytes of a frame, as of 20 ms of speech.
const FRAME_BYTES: usize = 62;

/// Ticks of the timestamp's 90 kHz clock in 20 ms.
const TICKS: u32 = 1_800;

/// First byte of an Opus frame: hybrid, fullband, 20 ms, mono, one frame.
const OPUS_HEAD: u8 = 0x78;

/// The packets of one media.
#[derive(Debug)]
pub(super) struct Packets {
    media: u64,
    sequence: u32,
    timestamp: u32,
}

impl Packets {
    /// Begins anywhere, as clients do.
    pub(super) fn new(media: u64) -> Result<Self> {
        let mut start = [0; 8];
        fill(&mut start)?;
        let [a, b, c, d, e, f, g, h] = start;
        Ok(Self {
            media,
            sequence: u32::from_be_bytes([a, b, c, d]),
            timestamp: u32::from_be_bytes([e, f, g, h]),
        })
    }

    pub(super) fn next(&mut self) -> Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(TICKS);
        let mut frame = vec![0; FRAME_BYTES];
        fill(&mut frame)?;
        if let Some(first) = frame.first_mut() {
            *first = OPUS_HEAD;
        }
        let (version, flags) = (1, 0);
        let packet = Value::Array(vec![
            version.into(),
            Value::Array(vec![self.media.into()]),
            self.sequence.into(),
            self.timestamp.into(),
            flags.into(),
            Value::Binary(frame),
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &packet)?;
        Ok(bytes)
    }
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| anyhow!("the system's random generator failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_followed_by_the_next_20_ms() {
        let mut packets = Packets {
            media: 300,
            sequence: u32::MAX - 1,
            timestamp: u32::MAX,
        };
        let first = packets.next().unwrap();
        let head = [
            0x96, 1, 0x91, 0xcd, 1, 44, 0xce, 255, 255, 255, 255, 0xcd, 7, 7, 0, 0xc4, 62, 0x78,
        ];
        assert_eq!(first[..18], head);
        assert_eq!(first.len(), 17 + FRAME_BYTES);
        let second = packets.next().unwrap();
        assert_eq!(second[6..11], [0, 0xcd, 14, 15, 0], "both wrap");
        assert_ne!(first[18..], second[13..], "frames differ");
    }
}
