//! Voice datagrams as this client makes them, and the clock of a media. `sfu_core::wire::datagram` is the other side.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sfu_core::limits::DATAGRAM_BYTES_MAX;

use crate::error::SendError;

/// Ticks of the timestamp in a second.
const TICKS_PER_SECOND: u32 = 90_000;

/// Ticks of the shortest Opus frame, 2.5 ms.
const TICKS_2_5_MS: u32 = TICKS_PER_SECOND / 400;

/// Ticks of a packet whose head says nothing that can be: 20 ms, as clients send.
const TICKS_USUAL: u32 = TICKS_PER_SECOND / 50;

/// Longest packet of Opus, 120 ms (RFC 6716, section 3.2.5).
const TICKS_MAX: u32 = TICKS_PER_SECOND * 120 / 1_000;

/// How far behind the time a talker's timestamps may fall before it is taken for silence: applications encode in bursts
/// and are late, by some 20 ms.
const SILENCE_MIN: Duration = Duration::from_millis(80);

/// Bytes of the longest head: version, one media, sequence, timestamp, flags, length.
const HEAD_BYTES_MAX: usize = 1 + 1 + 4 + 5 + 5 + 1 + 3;

/// One datagram, in the form that web clients send.
///
/// # Errors
/// [`SendError::Empty`] and [`SendError::TooLarge`].
pub(crate) fn encode(
    media: u16,
    sequence: u32,
    timestamp: u32,
    payload: &[u8],
) -> Result<Bytes, SendError> {
    if payload.is_empty() {
        return Err(SendError::Empty);
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX + payload.len().min(DATAGRAM_BYTES_MAX));
    // Six items, version 1, a list of one media.
    bytes.extend([0x96, 1, 0x91]);
    for number in [media.into(), sequence, timestamp] {
        write_number(&mut bytes, number);
    }
    // No flags.
    bytes.push(0);
    let length = u16::try_from(payload.len()).map_err(|_| SendError::TooLarge)?;
    bytes.push(0xc5);
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    match bytes.len() <= DATAGRAM_BYTES_MAX {
        true => Ok(bytes.into()),
        false => Err(SendError::TooLarge),
    }
}

/// The shortest form of MessagePack.
fn write_number(bytes: &mut Vec<u8>, number: u32) {
    let [a, b, c, d] = number.to_be_bytes();
    match number {
        0..0x80 => bytes.push(d),
        0x80..0x100 => bytes.extend([0xcc, d]),
        0x100..0x1_0000 => bytes.extend([0xcd, c, d]),
        _ => bytes.extend([0xce, a, b, c, d]),
    }
}

/// Sequence and timestamp of a media's packets. Both begin anywhere and wrap.
#[derive(Debug)]
pub(crate) struct Clock {
    sequence: u32,
    /// Of the next packet.
    timestamp: u32,
    /// When the next packet should be sent, if there is no silence.
    due: Option<Instant>,
}

impl Clock {
    /// Begins anywhere: with chance.
    pub(crate) fn new(sequence: u32, timestamp: u32) -> Self {
        Self {
            sequence,
            timestamp,
            due: None,
        }
    }

    /// Sequence and timestamp of a packet that is sent now. Timestamps go on by what packets last, not by when an
    /// application happens to send them; only silence is left out, in whole packets.
    pub(crate) fn next(&mut self, now: Instant, payload: &[u8]) -> (u32, u32) {
        let ticks = ticks(payload);
        let lasts = duration(ticks);
        let due = self.due.unwrap_or(now);
        let late = now.saturating_duration_since(due);
        let mut start = due;
        if late >= SILENCE_MIN {
            let packets = late.as_nanos() / lasts.as_nanos().max(1);
            let packets = u32::try_from(packets).unwrap_or(u32::MAX);
            self.timestamp = self.timestamp.wrapping_add(packets.wrapping_mul(ticks));
            // What is left of a packet is not forgotten, or timestamps would fall behind a little with each silence.
            start += lasts * packets;
        }
        // Whoever sends ahead of the time is not followed for long: the clock would say silence never.
        self.due = Some((start + lasts).min(now + SILENCE_MIN));
        let named = (self.sequence, self.timestamp);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        named
    }
}

fn duration(ticks: u32) -> Duration {
    Duration::from_secs(1) * ticks / TICKS_PER_SECOND
}

/// How long an Opus packet lasts, by its first bytes (RFC 6716, sections 3.1 and 3.2).
fn ticks(payload: &[u8]) -> u32 {
    let Some(head) = payload.first() else {
        return TICKS_USUAL;
    };
    let config = head >> 3;
    let frame = match config {
        // SILK: 10, 20, 40 or 60 ms.
        0..12 => [4, 8, 16, 24]
            .get(usize::from(config & 3))
            .copied()
            .unwrap_or(8),
        // Hybrid: 10 or 20 ms.
        12..16 => 4 << (config & 1),
        // CELT: 2.5, 5, 10 or 20 ms.
        _ => 1 << (config & 3),
    };
    let frames = match head & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(payload.get(1).map_or(1, |count| count & 0x3f)),
    };
    let ticks = frame * frames * TICKS_2_5_MS;
    match (1..=TICKS_MAX).contains(&ticks) {
        true => ticks,
        false => TICKS_USUAL,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sfu_core::wire::datagram::Datagram;

    use super::*;

    /// Fullband, 20 ms, mono.
    const FRAME: [u8; 2] = [0x78, 0x80];

    #[test]
    fn a_datagram_has_the_form_of_the_web_client() {
        let bytes = encode(10, 2_925_235_384, 1_823_067_943, &FRAME).unwrap();
        let captured = [
            0x96, 0x01, 0x91, 0x0a, 0xce, 0xae, 0x5b, 0x8c, 0xb8, 0xce, 0x6c, 0xa9, 0xcf, 0x27,
            0x00, 0xc5, 0x00, 0x02, 0x78, 0x80,
        ];
        assert_eq!(bytes[..], captured);
    }

    #[test]
    fn what_no_datagram_can_hold_is_refused() {
        assert_eq!(encode(128, 1, 1, &[]), Err(SendError::Empty));
        for length in [DATAGRAM_BYTES_MAX - 10, 70_000] {
            assert_eq!(
                encode(200, 1, 1, &vec![0; length]),
                Err(SendError::TooLarge)
            );
        }
        let head = encode(200, 1, 1, &[0]).unwrap().len() - 1;
        assert!(encode(200, 1, 1, &vec![0; DATAGRAM_BYTES_MAX - head]).is_ok());
    }

    #[test]
    fn packets_last_what_their_heads_say() {
        for (payload, ms_tenths) in [
            (&[0x78][..], 200),
            (&[0x70], 100),
            (&[0x00], 100),
            (&[0x08], 200),
            (&[0x18], 600),
            (&[0x19], 1_200),
            (&[0x80], 25),
            (&[0x9a], 400),
            (&[0xfb, 0x83], 600),
            (&[0x1b, 63], 200),
            (&[0xfb, 0], 200),
            (&[], 200),
        ] {
            assert_eq!(ticks(payload), ms_tenths * 9, "{payload:?}");
        }
    }

    #[test]
    fn silence_is_left_out_and_lateness_is_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut clock = Clock::new(u32::MAX, 0);
        let mut stamp = |ms| clock.next(at(ms), &FRAME);
        assert_eq!(stamp(0), (u32::MAX, 0));
        assert_eq!(stamp(35), (0, 1_800), "late by 15 ms");
        assert_eq!(stamp(38), (1, 3_600), "and a burst");
        assert_eq!(stamp(60), (2, 5_400));
        assert_eq!(stamp(1_080), (3, 7_200 + 50 * 1_800), "a second of silence");
        assert_eq!(stamp(1_100), (4, 9_000 + 50 * 1_800));
    }

    proptest! {
        #[test]
        fn the_server_reads_what_is_written(media: u16, sequence: u32, timestamp: u32, payload in proptest::collection::vec(any::<u8>(), 1..1_380)) {
            let bytes = encode(media, sequence, timestamp, &payload).unwrap();
            let datagram = Datagram::parse(&bytes).unwrap();
            prop_assert_eq!(datagram.medias(), [media]);
            prop_assert_eq!((datagram.sequence, datagram.timestamp), (sequence, timestamp));
            prop_assert_eq!(datagram.payload_bytes, payload.len());
            prop_assert!(bytes.ends_with(&payload));
            prop_assert_eq!(datagram.for_media(media), bytes);
        }

        #[test]
        fn any_payload_lasts_some_time(payload in proptest::collection::vec(any::<u8>(), 0..3)) {
            prop_assert!((TICKS_2_5_MS..=TICKS_MAX).contains(&ticks(&payload)));
        }

        #[test]
        fn timestamps_never_fall_behind_the_time_by_more_than_silence(gaps in proptest::collection::vec(0_u64..500, 1..50)) {
            let start = Instant::now();
            let mut now = start;
            let mut clock = Clock::new(0, 0);
            clock.next(now, &FRAME);
            for gap in gaps {
                now += Duration::from_millis(gap);
                let (_, timestamp) = clock.next(now, &FRAME);
                let spoken = duration(timestamp) + SILENCE_MIN + Duration::from_millis(20);
                prop_assert!(spoken >= now - start, "{:?} at {:?}", spoken, now - start);
            }
        }
    }
}
