//! Voice packets as web clients write them.

use rmpv::Value;

/// Bytes of Opus in a packet, if a test does not care: clients refuse packets below 40 bytes.
pub(crate) const FRAME_BYTES: usize = 62;

/// The ticks of the timestamp in 20 ms.
const TICKS: u32 = 1_800;

/// A voice packet that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) media: u64,
    pub(crate) sequence: u32,
    pub(crate) frame: Vec<u8>,
}

impl Packet {
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let value = rmpv::decode::read_value(&mut bytes).expect("MessagePack");
        assert!(bytes.is_empty(), "nothing follows the value");
        let items = value.as_array().expect("an array");
        let [version, medias, sequence, _, flags, frame] = &items[..] else {
            panic!("not six items: {value}");
        };
        assert_eq!((version.as_u64(), flags.as_u64()), (Some(1), Some(0)));
        let medias = medias.as_array().expect("a list");
        assert_eq!(medias.len(), 1, "receivers know one id");
        let sequence = sequence.as_u64().expect("a number");
        Self {
            media: medias[0].as_u64().expect("a number"),
            sequence: u32::try_from(sequence).expect("32 bits"),
            frame: match frame {
                Value::Binary(frame) => frame.clone(),
                _ => panic!("not bytes: {frame}"),
            },
        }
    }
}

/// A packet with a frame that says whose it is.
pub(crate) fn packet(media: u64, sequence: u32) -> Vec<u8> {
    packet_of(&[media], sequence, &frame(media, sequence, FRAME_BYTES))
}

/// A frame whose bytes follow from whose it is.
pub(crate) fn frame(media: u64, sequence: u32, length: usize) -> Vec<u8> {
    let seed = media
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(sequence.into());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut frame = vec![0x78];
    frame.extend(std::iter::repeat_with(|| random.u8(..)).take(length - 1));
    frame
}

/// Any packet.
pub(crate) fn packet_of(medias: &[u64], sequence: u32, frame: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = (|| {
        rmp::encode::write_array_len(&mut bytes, 6)?;
        rmp::encode::write_uint(&mut bytes, 1)?;
        rmp::encode::write_array_len(&mut bytes, u32::try_from(medias.len()).unwrap_or(u32::MAX))?;
        for media in medias {
            rmp::encode::write_uint(&mut bytes, *media)?;
        }
        rmp::encode::write_uint(&mut bytes, sequence.into())?;
        rmp::encode::write_uint(&mut bytes, sequence.wrapping_mul(TICKS).into())?;
        rmp::encode::write_uint(&mut bytes, 0)
    })();
    written.expect("writing to memory");
    bytes.push(0xc5);
    bytes.extend(u16::try_from(frame.len()).expect("16 bits").to_be_bytes());
    bytes.extend(frame);
    bytes
}
