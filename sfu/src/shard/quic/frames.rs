//! Frames of a stream: four bytes of length, big-endian, then so many bytes.

use bytes::{Buf as _, Bytes, BytesMut};
use sfu_core::limits::FRAME_BYTES_MAX;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// A frame is longer than [`FRAME_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Makes frames of what a stream brings.
#[derive(Debug, Default)]
pub(super) struct Deframer {
    bytes: BytesMut,
}

impl Deframer {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if it is complete.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| TooLarge)?;
        if length > FRAME_BYTES_MAX {
            return Err(TooLarge);
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.bytes.advance(LENGTH_BYTES);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }

    /// Whether the stream may end here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The bytes that stand before a frame; `None` when a length cannot say it.
pub(super) fn head(frame: &[u8]) -> Option<Bytes> {
    let length = u32::try_from(frame.len()).ok()?;
    Some(Bytes::copy_from_slice(&length.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        [&head(bytes).unwrap()[..], bytes].concat()
    }

    #[test]
    fn the_largest_frame_is_taken_and_the_next_is_not() {
        let mut deframer = Deframer::default();
        deframer.push(&frame(&vec![7; FRAME_BYTES_MAX]));
        assert_eq!(deframer.next().unwrap().unwrap().len(), FRAME_BYTES_MAX);
        deframer.push(&frame(&vec![7; FRAME_BYTES_MAX + 1])[..LENGTH_BYTES]);
        assert_eq!(deframer.next(), Err(TooLarge), "before any of it comes");
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10), size in 1_usize..50) {
            let wire: Vec<u8> = frames.iter().flat_map(|it| frame(it)).collect();
            let mut deframer = Deframer::default();
            let mut got = Vec::new();
            for chunk in wire.chunks(size) {
                deframer.push(chunk);
                while let Some(frame) = deframer.next().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert!(deframer.is_between_frames());
            prop_assert_eq!(got, frames);
        }
    }
}
