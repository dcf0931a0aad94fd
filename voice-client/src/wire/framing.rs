//! Frames in a stream of bytes: four bytes of length, big-endian, then so many bytes.

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest frame of a server: the first of a room tells of everybody in it.
pub(crate) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the length.
const LENGTH_BYTES: usize = 4;

/// A frame above [`FRAME_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Cuts frames out of bytes that come in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    bytes: BytesMut,
}

impl Deframer {
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole frame. To be asked until there is none, before more is pushed: then no more is kept than one frame
    /// and one piece.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let Some(length) = self.bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| TooLarge)?;
        if length > FRAME_BYTES_MAX {
            return Err(TooLarge);
        }
        if self.bytes.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.bytes.advance(LENGTH_BYTES);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }

    /// Whether bytes of an unfinished frame are left.
    pub(crate) fn is_within_frame(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// A frame with its length. What this client says is far below 4 GiB.
pub(crate) fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], frame].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_length() {
        let mut deframer = Deframer::default();
        deframer.push(&(16_u32 * 1024 * 1024).to_be_bytes());
        assert_eq!(deframer.next(), Ok(None));
        let mut deframer = Deframer::default();
        deframer.push(&(16_u32 * 1024 * 1024 + 1).to_be_bytes());
        assert_eq!(deframer.next(), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10), piece in 1_usize..50) {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(piece) {
                deframer.push(piece);
                while let Some(frame) = deframer.next().unwrap() {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert!(!deframer.is_within_frame());
        }

        #[test]
        fn any_bytes_are_frames_or_too_large(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut deframer = Deframer::default();
            deframer.push(&bytes);
            while let Ok(Some(_)) = deframer.next() {}
        }
    }
}
