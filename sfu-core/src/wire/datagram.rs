//! Voice datagrams, as ODIN clients send them (web client 0.16 to 0.19, native clients of protocol 1).
//!
//! A datagram is one MessagePack array: version, media ids, sequence, timestamp, flags, what the flags announce, and one
//! frame of Opus. Integers are as short as they can be, so nothing has a fixed place.

use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_MEDIAS_MAX};

/// The only version there is.
const VERSION: u64 = 1;
/// Flag: one more integer follows the flags.
const FLAG_INTEGER: u64 = 1 << 1;
/// Flag: one more array follows the flags, after the integer.
const FLAG_ARRAY: u64 = 1 << 2;
/// How deep that array may be nested; clients send a flat one.
const ARRAY_DEPTH_MAX: u8 = 4;

/// A voice datagram that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    bytes: &'a [u8],
    medias: [u16; DATAGRAM_MEDIAS_MAX],
    medias_len: u8,
    /// Where the sequence begins: everything from there on is the same for each media.
    rest_at: usize,
    /// Counts the packets of the stream; it begins anywhere and wraps.
    pub sequence: u32,
    /// 90,000 a second; it begins anywhere and wraps.
    pub timestamp: u32,
    /// Bytes of the Opus frame.
    pub payload_bytes: usize,
}

/// Why bytes are no voice datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Above [`DATAGRAM_BYTES_MAX`].
    #[error("larger than {DATAGRAM_BYTES_MAX} bytes")]
    TooLarge,
    /// It ends too early, goes on too long, or is something else.
    #[error("no voice datagram: {0}")]
    Malformed(&'static str),
}

impl<'a> Datagram<'a> {
    /// Understands a datagram.
    ///
    /// # Errors
    /// [`DatagramError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DatagramError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(DatagramError::TooLarge);
        }
        let mut reader = Reader { bytes, at: 0 };
        // The number of items is not looked at: clients do not check it either, the flags say what follows.
        reader.fixarray("the head")?;
        if reader.integer("the version")? != VERSION {
            return Err(DatagramError::Malformed("an unknown version"));
        }
        let mut medias = [0; DATAGRAM_MEDIAS_MAX];
        let medias_len = reader.fixarray("the media ids")?;
        let named = medias
            .get_mut(..usize::from(medias_len))
            .filter(|named| !named.is_empty())
            .ok_or(DatagramError::Malformed("no media id or too many"))?;
        for media in named {
            let id = reader.integer("a media id")?;
            *media = u16::try_from(id)
                .map_err(|_| DatagramError::Malformed("a media id above 65535"))?;
        }
        let rest_at = reader.at;
        let sequence = reader.integer32("the sequence")?;
        let timestamp = reader.integer32("the timestamp")?;
        let flags = reader.integer("the flags")?;
        if flags & FLAG_INTEGER != 0 {
            reader.integer("the integer of the flags")?;
        }
        if flags & FLAG_ARRAY != 0 {
            reader.skip(ARRAY_DEPTH_MAX)?;
        }
        let payload_bytes = reader.binary()?;
        if reader.at != bytes.len() {
            return Err(DatagramError::Malformed("bytes after the payload"));
        }
        Ok(Self {
            bytes,
            medias,
            medias_len,
            rest_at,
            sequence,
            timestamp,
            payload_bytes,
        })
    }

    /// The medias it names, one to four.
    pub fn medias(&self) -> &[u16] {
        self.medias
            .get(..usize::from(self.medias_len))
            .unwrap_or(&[])
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The same datagram for one media: a receiver stops reading at the first id that it does not know.
    pub fn for_media(&self, media: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        bytes.extend(self.bytes.first());
        bytes.extend([1, 0x91]);
        match media {
            0..0x80 => bytes.extend(media.to_be_bytes().into_iter().skip(1)),
            0x80..0x100 => bytes.extend(
                [0xcc]
                    .into_iter()
                    .chain(media.to_be_bytes().into_iter().skip(1)),
            ),
            _ => bytes.extend([0xcd].into_iter().chain(media.to_be_bytes())),
        }
        bytes.extend(self.bytes.get(self.rest_at..).unwrap_or(&[]));
        bytes
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self, what: &'static str) -> Result<u8, DatagramError> {
        let byte = self.bytes.get(self.at);
        self.at += 1;
        byte.copied().ok_or(DatagramError::Malformed(what))
    }

    fn big_endian(&mut self, count: usize, what: &'static str) -> Result<u64, DatagramError> {
        let bytes = self.bytes.get(self.at..self.at + count);
        let bytes = bytes.ok_or(DatagramError::Malformed(what))?;
        self.at += count;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn fixarray(&mut self, what: &'static str) -> Result<u8, DatagramError> {
        match self.byte(what)? {
            marker @ 0x90..=0x9f => Ok(marker & 0x0f),
            _ => Err(DatagramError::Malformed(what)),
        }
    }

    fn integer(&mut self, what: &'static str) -> Result<u64, DatagramError> {
        match self.byte(what)? {
            fixint @ 0..=0x7f => Ok(fixint.into()),
            0xcc => self.big_endian(1, what),
            0xcd => self.big_endian(2, what),
            0xce => self.big_endian(4, what),
            0xcf => self.big_endian(8, what),
            _ => Err(DatagramError::Malformed(what)),
        }
    }

    fn integer32(&mut self, what: &'static str) -> Result<u32, DatagramError> {
        u32::try_from(self.integer(what)?).map_err(|_| DatagramError::Malformed(what))
    }

    /// The length of the payload, which is stepped over.
    fn binary(&mut self) -> Result<usize, DatagramError> {
        let what = "the payload";
        let length = match self.byte(what)? {
            0xc4 => self.big_endian(1, what)?,
            0xc5 => self.big_endian(2, what)?,
            _ => return Err(DatagramError::Malformed(what)),
        };
        self.step_over(length, what)
    }

    fn step_over(&mut self, length: u64, what: &'static str) -> Result<usize, DatagramError> {
        let left = self.bytes.len().saturating_sub(self.at);
        let length = usize::try_from(length).ok().filter(|it| *it <= left);
        let length = length.ok_or(DatagramError::Malformed(what))?;
        self.at += length;
        Ok(length)
    }

    /// Steps over any value.
    fn skip(&mut self, depth: u8) -> Result<(), DatagramError> {
        let what = "the array of the flags";
        let marker = self.byte(what)?;
        let (scalar, items) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
            0xc4 | 0xd9 => (self.big_endian(1, what)?, 0),
            0xc5 | 0xda => (self.big_endian(2, what)?, 0),
            0x90..=0x9f => (0, u64::from(marker & 0x0f)),
            0xdc => (0, self.big_endian(2, what)?),
            0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
            _ => return Err(DatagramError::Malformed(what)),
        };
        self.step_over(scalar, what)?;
        if items > 0 && depth == 0 {
            return Err(DatagramError::Malformed("too deep"));
        }
        // Every item takes a byte at least: the loop ends with the datagram.
        for _ in 0..items {
            self.skip(depth - 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The head of a datagram of the web client; the Opus frame is made up.
    const CAPTURED: [u8; 19] = [
        0x96, 0x01, 0x91, 0x0a, 0xce, 0xae, 0x5b, 0x8c, 0xb8, 0xce, 0x6c, 0xa9, 0xcf, 0x27, 0x00,
        0xc5, 0x00, 0x02, 0x78,
    ];

    fn captured() -> Vec<u8> {
        [&CAPTURED[..], &[0x80]].concat()
    }

    #[test]
    fn a_captured_datagram_is_understood() {
        let bytes = captured();
        let datagram = Datagram::parse(&bytes).unwrap();
        assert_eq!(datagram.medias(), [10]);
        assert_eq!(datagram.sequence, 2_925_235_384);
        assert_eq!(datagram.timestamp, 1_823_067_943);
        assert_eq!(datagram.payload_bytes, 2);
        assert_eq!(datagram.for_media(10), bytes);
    }

    #[test]
    fn extras_are_stepped_over() {
        let flagged = |flags: u8, extras: &[u8]| {
            let mut bytes = vec![0x98, 1, 0x92, 0xcc, 0x80, 0xcd, 1, 2, 5, 6, flags];
            bytes.extend(extras);
            bytes.extend([0xc4, 1, 7]);
            bytes
        };
        for (flags, extras) in [
            (0, &[][..]),
            (1, &[]),
            (2, &[0xcd, 1, 2]),
            (4, &[0x93, 1, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xa1, b'x']),
            (6, &[9, 0x92, 0x81, 1, 2, 0xc0]),
        ] {
            let bytes = flagged(flags, extras);
            let datagram = Datagram::parse(&bytes).expect("flags");
            assert_eq!(datagram.medias(), [128, 258]);
            assert_eq!((datagram.sequence, datagram.timestamp), (5, 6));
        }
        for (flags, extras) in [
            (2, &[0xa0][..]),
            (4, &[]),
            (4, &[0xdc, 0xff, 0xff]),
            (4, &[0x91, 0x91, 0x91, 0x91, 0x91, 0x91]),
        ] {
            assert!(Datagram::parse(&flagged(flags, extras)).is_err(), "{flags}");
        }
    }

    #[test]
    fn a_datagram_is_cut_down_to_one_media() {
        let bytes = [
            0x96, 1, 0x93, 5, 0xcc, 0x80, 0xcd, 1, 2, 5, 6, 0, 0xc4, 1, 7,
        ];
        let datagram = Datagram::parse(&bytes).unwrap();
        for media in [5, 128, 258] {
            let cut = datagram.for_media(media);
            let again = Datagram::parse(&cut).unwrap();
            assert_eq!(again.medias(), [media]);
            assert_eq!((again.sequence, again.payload_bytes), (5, 1));
        }
    }

    #[test]
    fn every_truncation_and_every_extension_is_refused() {
        let bytes = captured();
        for length in 0..bytes.len() {
            assert!(Datagram::parse(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Datagram::parse(&[&bytes[..], &[0]].concat()).is_err());
        let large = vec![0x96; DATAGRAM_BYTES_MAX + 1];
        assert_eq!(Datagram::parse(&large), Err(DatagramError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_datagram_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let _ = Datagram::parse(&bytes);
        }

        #[test]
        fn changed_bytes_are_a_datagram_or_an_error(at in 0..20_usize, byte: u8) {
            let mut bytes = captured();
            bytes[at] = byte;
            if let Ok(datagram) = Datagram::parse(&bytes) {
                let media = datagram.medias()[0];
                let cut = datagram.for_media(media);
                let again = Datagram::parse(&cut).unwrap();
                prop_assert_eq!(again.medias(), [media]);
            }
        }

        #[test]
        fn what_is_written_is_read(media: u16, sequence: u32, timestamp: u32, flags in 0_u8..2, payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![0x96, 1, 0x91];
            rmp::encode::write_uint(&mut bytes, media.into()).unwrap();
            rmp::encode::write_uint(&mut bytes, sequence.into()).unwrap();
            rmp::encode::write_uint(&mut bytes, timestamp.into()).unwrap();
            bytes.push(flags);
            rmp::encode::write_bin(&mut bytes, &payload).unwrap();
            let datagram = Datagram::parse(&bytes).unwrap();
            prop_assert_eq!(datagram.medias(), [media]);
            prop_assert_eq!((datagram.sequence, datagram.timestamp), (sequence, timestamp));
            prop_assert_eq!(datagram.payload_bytes, payload.len());
            prop_assert_eq!(datagram.for_media(media), bytes);
        }
    }
}
