//! SCTP packets and their chunks, as far as data channels need them (RFC 9260, section 3; RFC 3758; RFC 9653).

use bytes::BufMut;
use crc32c::{crc32c, crc32c_append};

/// Bytes of the header that all packets have.
pub(super) const HEADER_BYTES: usize = 12;

/// Bytes before a chunk's value.
const CHUNK_HEADER_BYTES: usize = 4;

/// Bytes of a chunk of data before what it carries.
pub(super) const DATA_HEADER_BYTES: usize = 16;

/// The receive window that we announce, in bytes: nothing is ever held back here.
const WINDOW: u32 = 128 * 1024;

/// Streams in each direction: as many as there can be, because clients choose the number of theirs.
const STREAMS: u16 = u16::MAX;

/// Where the checksum stands.
const CHECKSUM_AT: std::ops::Range<usize> = 8..12;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const FORWARD_TSN: u8 = 192;

const PARAMETER_COOKIE: u16 = 7;
const PARAMETER_EXTENSIONS: u16 = 0x8008;
const PARAMETER_ZERO_CHECKSUM: u16 = 0x8001;
const PARAMETER_FORWARD_TSN: u16 = 0xc000;

/// Errors are detected by DTLS (RFC 9653, section 3).
const DETECTED_BY_DTLS: u32 = 1;

/// Of a chunk of data: it ends a message, begins one, belongs to no order, and is to be acknowledged at once.
pub(super) const FLAG_END: u8 = 1;
pub(super) const FLAG_BEGIN: u8 = 2;
const FLAG_UNORDERED: u8 = 4;
const FLAG_IMMEDIATE: u8 = 8;

/// What is no SCTP packet, or not for this association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no packet of this association")]
pub(super) struct Malformed;

/// The head of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    /// Proves that the sender takes part in the association.
    pub(super) tag: u32,
}

impl Header {
    /// Checks a packet, and gives what it says about itself and its chunks.
    ///
    /// A checksum of zero is taken as well: what came through DTLS was not damaged on its way.
    pub(super) fn parse(packet: &[u8]) -> Result<(Self, Chunks<'_>), Malformed> {
        let (header, chunks) = packet.split_at_checked(HEADER_BYTES).ok_or(Malformed)?;
        let mut fields = Fields(header);
        let header = Self {
            source_port: fields.u16()?,
            destination_port: fields.u16()?,
            tag: fields.u32()?,
        };
        let stated = fields.u32()?.swap_bytes();
        if stated != 0 && stated != checksum(packet) {
            return Err(Malformed);
        }
        Ok((header, Chunks(chunks)))
    }

    /// Writes it, with a checksum of zero.
    pub(super) fn write(&self, packet: &mut Vec<u8>) {
        packet.put_u16(self.source_port);
        packet.put_u16(self.destination_port);
        packet.put_u32(self.tag);
        packet.put_u32(0);
    }
}

/// Puts the checksum into a packet that has a header.
pub(super) fn seal(packet: &mut [u8]) {
    let checksum = checksum(packet);
    if let Some(place) = packet.get_mut(CHECKSUM_AT) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// As if the place of the checksum held zeros.
fn checksum(packet: &[u8]) -> u32 {
    let before = crc32c(packet.get(..CHECKSUM_AT.start).unwrap_or(&[]));
    let place = crc32c_append(before, &[0; 4]);
    crc32c_append(place, packet.get(CHECKSUM_AT.end..).unwrap_or(&[]))
}

/// Reads numbers in network order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// What the other side says of itself when an association begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Init {
    pub(super) tag: u32,
    pub(super) window: u32,
    pub(super) tsn: u32,
    /// It can be told to skip what was lost.
    pub(super) can_skip: bool,
    /// It does without checksums.
    pub(super) needs_no_checksum: bool,
}

/// A chunk of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Data<'a> {
    pub(super) tsn: u32,
    pub(super) stream: u16,
    pub(super) protocol: u32,
    pub(super) flags: u8,
    pub(super) bytes: &'a [u8],
}

impl Data<'_> {
    pub(super) fn is_whole(&self) -> bool {
        self.flags & (FLAG_BEGIN | FLAG_END) == FLAG_BEGIN | FLAG_END
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.flags & FLAG_IMMEDIATE != 0
    }
}

/// What the other side has of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sack<'a> {
    /// All up to here.
    pub(super) tsn: u32,
    pub(super) window: u32,
    gaps: &'a [u8],
}

impl Sack<'_> {
    /// What it has beyond [`Self::tsn`]: distances from there, first and last.
    pub(super) fn gaps(&self) -> impl Iterator<Item = (u16, u16)> {
        self.gaps.as_chunks::<4>().0.iter().map(|[a, b, c, d]| {
            let first = u16::from_be_bytes([*a, *b]);
            (first, u16::from_be_bytes([*c, *d]))
        })
    }
}

/// A chunk that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk<'a> {
    Data(Data<'a>),
    Init(Init),
    Sack(Sack<'a>),
    Heartbeat(&'a [u8]),
    Abort,
    Shutdown,
    ShutdownComplete,
    CookieEcho(&'a [u8]),
    /// Nothing up to this number will come any more.
    ForwardTsn(u32),
    Other,
}

/// The chunks of a packet.
#[derive(Clone, Debug)]
pub(super) struct Chunks<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    /// The next one; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Chunk<'a>>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut fields = Fields(self.0);
        let [kind, flags] = fields.take()?;
        let length = usize::from(fields.u16()?);
        let value = self.0.get(CHUNK_HEADER_BYTES..length).ok_or(Malformed)?;
        // The last chunk's padding may be missing.
        let end = length.next_multiple_of(4).min(self.0.len());
        self.0 = self.0.get(end..).unwrap_or(&[]);
        Chunk::parse(kind, flags, value).map(Some)
    }
}

impl<'a> Chunk<'a> {
    fn parse(kind: u8, flags: u8, value: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(value);
        Ok(match kind {
            DATA => {
                let tsn = fields.u32()?;
                let stream = fields.u16()?;
                let _number_in_stream = fields.u16()?;
                let protocol = fields.u32()?;
                Self::Data(Data {
                    tsn,
                    stream,
                    protocol,
                    flags,
                    bytes: fields.rest(),
                })
            }
            SACK => {
                let (tsn, window) = (fields.u32()?, fields.u32()?);
                let gaps = usize::from(fields.u16()?) * 4;
                let _duplicates = fields.u16()?;
                let gaps = fields.rest().get(..gaps).ok_or(Malformed)?;
                Self::Sack(Sack { tsn, window, gaps })
            }
            INIT => Self::Init(Init::parse(fields)?),
            HEARTBEAT => Self::Heartbeat(value),
            ABORT => Self::Abort,
            SHUTDOWN => Self::Shutdown,
            SHUTDOWN_COMPLETE => Self::ShutdownComplete,
            COOKIE_ECHO => Self::CookieEcho(value),
            FORWARD_TSN => Self::ForwardTsn(fields.u32()?),
            _ => Self::Other,
        })
    }
}

impl Init {
    fn parse(mut fields: Fields<'_>) -> Result<Self, Malformed> {
        let tag = fields.u32()?;
        let window = fields.u32()?;
        let _streams = fields.u32()?;
        let mut init = Self {
            tag,
            window,
            tsn: fields.u32()?,
            ..Self::default()
        };
        // Zero stands for packets that begin an association.
        if tag == 0 {
            return Err(Malformed);
        }
        let mut rest = fields.rest();
        while !rest.is_empty() {
            let mut fields = Fields(rest);
            let kind = fields.u16()?;
            let length = usize::from(fields.u16()?);
            let value = rest.get(CHUNK_HEADER_BYTES..length).ok_or(Malformed)?;
            match kind {
                PARAMETER_FORWARD_TSN => init.can_skip = true,
                PARAMETER_EXTENSIONS => init.can_skip |= value.contains(&FORWARD_TSN),
                PARAMETER_ZERO_CHECKSUM => {
                    init.needs_no_checksum = value == DETECTED_BY_DTLS.to_be_bytes();
                }
                _ => {}
            }
            rest = rest
                .get(length.next_multiple_of(4).min(rest.len())..)
                .unwrap_or(&[]);
        }
        Ok(init)
    }
}

/// Writes a chunk; `value` appends what is in it.
fn write(packet: &mut Vec<u8>, kind: u8, flags: u8, value: impl FnOnce(&mut Vec<u8>)) {
    let begin = packet.len();
    packet.extend([kind, flags, 0, 0]);
    value(packet);
    let length = u16::try_from(packet.len() - begin).unwrap_or(u16::MAX);
    packet[begin + 2..begin + CHUNK_HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    packet.resize(begin + (packet.len() - begin).next_multiple_of(4), 0);
}

fn write_parameter(packet: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = CHUNK_HEADER_BYTES + value.len();
    packet.put_u16(kind);
    packet.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    packet.extend_from_slice(value);
    packet.resize(packet.len() + (length.next_multiple_of(4) - length), 0);
}

/// Answers an [`Init`].
pub(super) fn write_init_ack(packet: &mut Vec<u8>, tag: u32, tsn: u32, cookie: &[u8]) {
    write(packet, INIT_ACK, 0, |packet| {
        packet.put_u32(tag);
        packet.put_u32(WINDOW);
        packet.put_u16(STREAMS);
        packet.put_u16(STREAMS);
        packet.put_u32(tsn);
        write_parameter(packet, PARAMETER_COOKIE, cookie);
        write_parameter(packet, PARAMETER_FORWARD_TSN, &[]);
        write_parameter(packet, PARAMETER_EXTENSIONS, &[FORWARD_TSN]);
        write_parameter(
            packet,
            PARAMETER_ZERO_CHECKSUM,
            &DETECTED_BY_DTLS.to_be_bytes(),
        );
    });
}

/// Acknowledges all up to `tsn`, and the ranges behind it, as distances from there.
pub(super) fn write_sack(
    packet: &mut Vec<u8>,
    tsn: u32,
    gaps: impl ExactSizeIterator<Item = (u16, u16)>,
) {
    write(packet, SACK, 0, |packet| {
        packet.put_u32(tsn);
        packet.put_u32(WINDOW);
        packet.put_u16(u16::try_from(gaps.len()).unwrap_or(u16::MAX));
        packet.put_u16(0);
        for (first, last) in gaps {
            packet.put_u16(first);
            packet.put_u16(last);
        }
    });
}

/// A part of a message, without an order.
pub(super) fn write_data(packet: &mut Vec<u8>, data: &Data<'_>) {
    write(packet, DATA, data.flags | FLAG_UNORDERED, |packet| {
        packet.put_u32(data.tsn);
        packet.put_u16(data.stream);
        packet.put_u16(0);
        packet.put_u32(data.protocol);
        packet.extend_from_slice(data.bytes);
    });
}

/// Nothing up to `tsn` will come any more.
pub(super) fn write_forward_tsn(packet: &mut Vec<u8>, tsn: u32) {
    write(packet, FORWARD_TSN, 0, |packet| packet.put_u32(tsn));
}

/// Answers a heartbeat with what was in it.
pub(super) fn write_heartbeat_ack(packet: &mut Vec<u8>, value: &[u8]) {
    write(packet, HEARTBEAT_ACK, 0, |packet| {
        packet.extend_from_slice(value);
    });
}

pub(super) fn write_cookie_ack(packet: &mut Vec<u8>) {
    write(packet, COOKIE_ACK, 0, |_| {});
}

pub(super) fn write_shutdown_ack(packet: &mut Vec<u8>) {
    write(packet, SHUTDOWN_ACK, 0, |_| {});
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header {
        source_port: 5000,
        destination_port: 5001,
        tag: 0x0102_0304,
    };

    fn chunks(packet: &[u8]) -> Vec<Chunk<'_>> {
        let (_, mut chunks) = Header::parse(packet).unwrap();
        std::iter::from_fn(|| chunks.next().unwrap()).collect()
    }

    #[test]
    fn packets_carry_what_was_written() {
        let mut packet = Vec::new();
        HEADER.write(&mut packet);
        write_sack(&mut packet, 7, [(2, 3), (5, 5)].into_iter());
        let data = Data {
            tsn: u32::MAX,
            stream: 2,
            protocol: 53,
            flags: FLAG_BEGIN | FLAG_END | FLAG_UNORDERED,
            bytes: b"voice",
        };
        write_data(&mut packet, &data);
        write_forward_tsn(&mut packet, 9);
        let (header, _) = Header::parse(&packet).unwrap();
        assert_eq!(header, HEADER);
        let read = chunks(&packet);
        assert!(
            matches!(read[0], Chunk::Sack(sack) if sack.tsn == 7 && sack.gaps().eq([(2, 3), (5, 5)]))
        );
        assert_eq!(read[1..], [Chunk::Data(data), Chunk::ForwardTsn(9)]);
    }

    #[test]
    fn checksums_are_those_of_crc32c_and_wrong_ones_are_refused() {
        // RFC 9260, appendix A, has the polynomial; this is its check value.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut packet = Vec::new();
        HEADER.write(&mut packet);
        write_cookie_ack(&mut packet);
        seal(&mut packet);
        assert!(Header::parse(&packet).is_ok());
        packet[13] ^= 1;
        assert_eq!(Header::parse(&packet).unwrap_err(), Malformed);
        packet[CHECKSUM_AT].fill(0);
        assert!(
            Header::parse(&packet).is_ok(),
            "none is as good: DTLS has looked"
        );
    }

    #[test]
    fn what_the_other_side_can_do_is_read() {
        let mut value = Vec::new();
        for number in [5_u32, 1_000, 0, 77] {
            value.put_u32(number);
        }
        write_parameter(&mut value, PARAMETER_EXTENSIONS, &[130, FORWARD_TSN]);
        write_parameter(&mut value, 0x8002, &[1; 5]);
        write_parameter(
            &mut value,
            PARAMETER_ZERO_CHECKSUM,
            &DETECTED_BY_DTLS.to_be_bytes(),
        );
        let init = Chunk::parse(INIT, 0, &value).unwrap();
        assert_eq!(
            init,
            Chunk::Init(Init {
                tag: 5,
                window: 1_000,
                tsn: 77,
                can_skip: true,
                needs_no_checksum: true
            })
        );
        value[..4].fill(0);
        assert_eq!(Chunk::parse(INIT, 0, &value), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_packet_is_read_to_its_end(mut bytes in proptest::collection::vec(any::<u8>(), 12..100)) {
            bytes[CHECKSUM_AT].fill(0);
            let (_, mut chunks) = Header::parse(&bytes).unwrap();
            let mut count = 0;
            while let Ok(Some(_)) = chunks.next() {
                count += 1;
            }
            prop_assert!(count <= bytes.len() / 4);
        }
    }
}
