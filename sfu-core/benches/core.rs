//! What the core costs by itself: forwarding a packet to each receiver beside handing out a list of as many, a packet that
//! is refused beside one that is not, and a peer that moves beside comparing it with everybody. `cargo xtask bench sfu-core` runs it.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark has a clock and speaks to its caller"
)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::{
    Command, Join, MediaId, PeerId, PeerInfo, Position, Room, RoomInfo, RoomLimits, Slot,
    wire::{datagram::Datagram, notification::encode},
};

/// Each measures a thing and what it is compared with, one right after the other. The median of an odd number is one of
/// them.
const ROUNDS: usize = 9;

/// Receivers that a round of forwarding serves, in rooms of any size.
const RECEIVERS: usize = 2_000_000;

/// Peers that a round of moving looks at when everybody is compared with everybody.
const COMPARISONS: usize = 5_000_000;

/// Talkers in turn; more than a limited receiver hears.
const TALKERS: usize = 8;

/// Peers of the crowd that cannot all be heard.
const CROWD: usize = 2_000;

/// Packets that a round of refusing takes.
const PACKETS: usize = 20_000;

/// What clients wait between two packets.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// Bytes of a frame of Opus as browsers send it.
const FRAME_BYTES: u8 = 80;

/// Peers in sight of each when they are spread out.
const NEIGHBOURS: f64 = 10.0;

/// How far a peer moves in an update: at ten updates a second it crosses its own circle of hearing in two seconds.
const STEP: f64 = 0.05;

fn main() {
    println!(
        "medians of {ROUNDS} rounds; the floor hands the slots of a list to the same callback\n"
    );
    println!(
        "{:34}{:>12}{:>12}{:>8}",
        "forwarding", "ns", "floor ns", "ratio"
    );
    parsing();
    for streams in [0, 4] {
        for peers in [10, 100, 1_000] {
            forwarding(peers, streams);
        }
    }
    println!(
        "\n{:34}{:>12}{:>12}{:>8}",
        "refusing, 2,000 at one spot", "ns", "whole ns", "ratio"
    );
    for talkers in [8, 32, 500] {
        for streams in [0, 2] {
            refusing(talkers, streams);
        }
    }
    println!(
        "\n{:34}{:>12}{:>12}{:>8}",
        "signalling, per peer told of", "ns", "floor ns", "ratio"
    );
    for peers in [200, 2_000] {
        joining(peers);
        meeting(peers);
    }
    println!(
        "\n{:34}{:>12}{:>12}{:>8}",
        "moving, per update", "ns", "scan ns", "ratio"
    );
    for crowd in [false, true] {
        for peers in [100, 1_000, 5_000] {
            moving(peers, crowd);
        }
    }
}

/// Median figures of a thing and of its baseline, in nanoseconds, and the median of their ratios.
fn rounds(mut round: impl FnMut() -> (f64, f64)) -> (f64, f64, f64) {
    // The first one warms up.
    round();
    let (mut things, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (thing, floor) = round();
        things.push(thing);
        floors.push(floor);
        ratios.push(thing / floor);
    }
    (median(things), median(floors), median(ratios))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Nanoseconds of each of so many things.
fn time(count: usize, things: impl FnOnce()) -> f64 {
    let began = Instant::now();
    things();
    began.elapsed().as_nanos() as f64 / count as f64
}

fn print(what: &str, (thing, floor, ratio): (f64, f64, f64)) {
    println!("{what:34}{thing:>12.1}{floor:>12.1}{ratio:>8.2}");
}

fn parsing() {
    let mut packet = Packet::new();
    let count = RECEIVERS;
    let figures = rounds(|| {
        let parse = time(count, || {
            for sequence in 0..count {
                let bytes = packet.bytes(MediaId::MIN, sequence as u32);
                black_box(Datagram::parse(bytes).expect("a datagram"));
            }
        });
        let floor = time(count, || {
            for sequence in 0..count {
                black_box(packet.bytes(MediaId::MIN, sequence as u32));
            }
        });
        (parse, floor)
    });
    print("parse, per packet", figures);
}

fn forwarding(peers: usize, streams: u8) {
    let mut now = Instant::now();
    let limits = RoomLimits {
        concurrent_streams: streams,
        ..RoomLimits::default()
    };
    let mut room = Room::new(info(), limits);
    let slots: Vec<Slot> = (0..peers)
        .map(|number| join(&mut room, now, number, Position::default()))
        .collect();
    for (number, slot) in slots.iter().enumerate().take(TALKERS) {
        start(&mut room, *slot, number);
    }
    let receivers = peers - 1;
    let turns = RECEIVERS / receivers / TALKERS;
    let count = turns * TALKERS * receivers;
    let mut packet = Packet::new();
    let mut sequence = 0;
    let figures = rounds(|| {
        let (mut heard, mut refused) = (0_usize, 0_usize);
        let forward = time(count, || {
            for _ in 0..turns {
                now += PACKET_TIME;
                sequence += 1;
                for (number, sender) in slots.iter().enumerate().take(TALKERS) {
                    let bytes = packet.bytes(media(number).value(), sequence);
                    let datagram = Datagram::parse(bytes).expect("a datagram");
                    let deliver = |slot| {
                        black_box(slot);
                        heard += 1;
                    };
                    let media = media(number);
                    let result =
                        room.handle_datagram(now, *sender, media, &datagram, None, deliver);
                    refused += result.expect("its own media within its rate").receivers;
                }
            }
        });
        assert_eq!(heard + refused, count);
        assert_eq!(streams > 0, refused > 0);
        let mut heard = 0;
        let floor = time(count, || {
            for _ in 0..turns * TALKERS {
                for slot in black_box(&slots[1..]) {
                    black_box(*slot);
                    heard += 1;
                }
            }
        });
        assert_eq!(heard, count);
        (forward, floor)
    });
    let limit = if streams > 0 { ", 4 streams" } else { "" };
    print(&format!("per receiver, {peers} peers{limit}"), figures);
}

/// A packet of a crowd whose budget is so many streams for every listener, or half of them, beside one that reaches all.
fn refusing(talkers: usize, streams: u32) {
    let mut now = Instant::now();
    let mut room = Room::new(info(), RoomLimits::default());
    let slots: Vec<Slot> = (0..CROWD)
        .map(|number| join(&mut room, now, number, Position::default()))
        .collect();
    for (number, slot) in slots.iter().enumerate().take(talkers) {
        start(&mut room, *slot, number);
    }
    let each = CROWD as u32;
    let budget = if streams == 0 {
        each / 2
    } else {
        each * streams
    };
    let mut packet = Packet::new();
    let mut sequence = 0;
    let turns = PACKETS / talkers;
    let mut packets = |room: &mut Room, budget: Option<u32>, turns: usize| {
        time(turns * talkers, || {
            for _ in 0..turns {
                now += PACKET_TIME;
                sequence += 1;
                for (number, sender) in slots.iter().enumerate().take(talkers) {
                    let bytes = packet.bytes(media(number).value(), sequence);
                    let datagram = Datagram::parse(bytes).expect("a datagram");
                    let deliver = |slot| {
                        black_box(slot);
                    };
                    let media = media(number);
                    let result =
                        room.handle_datagram(now, *sender, media, &datagram, budget, deliver);
                    black_box(result.expect("its own media within its rate"));
                }
            }
        })
    };
    let figures = rounds(|| {
        (
            packets(&mut room, Some(budget), turns),
            packets(&mut room, None, turns / 8 + 1),
        )
    });
    let heard = match streams {
        0 => "1 by half".to_owned(),
        _ => format!("{streams} by all"),
    };
    print(&format!("per packet, {talkers} talk, {heard}"), figures);
}

/// A peer that comes to so many others, up to the bytes: it is told of each of them, and each of it. The floor copies the
/// descriptions.
fn joining(peers: usize) {
    let now = Instant::now();
    let mut room = Room::new(info(), RoomLimits::default());
    for number in 0..peers {
        join(&mut room, now, number, Position::default());
    }
    let described = describe(peers);
    let turns = COMPARISONS / 10 / peers;
    let figures = rounds(|| {
        let joins = time(turns * peers, || {
            for _ in 0..turns {
                let slot = join_quietly(&mut room, now, peers, Position::default());
                encode_all(&mut room);
                room.leave(slot, None);
                drain(&mut room);
            }
        });
        let floor = time(turns * peers, || {
            for _ in 0..turns {
                black_box(black_box(&described).clone());
            }
        });
        (joins, floor)
    });
    print(&format!("join {peers} peers"), figures);
}

/// A peer that steps into and out of the sight of so many others at the rim of their hearing.
fn meeting(peers: usize) {
    let now = Instant::now();
    let mut room = Room::new(info(), RoomLimits::default());
    for number in 0..peers {
        join(&mut room, now, number, Position::default());
    }
    let wanderer = join(&mut room, now, peers, position([1.01, 0.0]));
    let described = describe(peers);
    let turns = COMPARISONS / 10 / peers;
    let figures = rounds(|| {
        let meets = time(turns * peers, || {
            for turn in 0..turns {
                let x = if turn % 2 == 0 { 0.99 } else { 1.01 };
                let position = position([x, 0.0]);
                room.handle_command(wanderer, Command::SetPeerPosition { position })
                    .expect("in the room");
                encode_all(&mut room);
            }
        });
        let floor = time(turns * peers, || {
            for _ in 0..turns {
                black_box(black_box(&described).clone());
            }
        });
        (meets, floor)
    });
    print(&format!("meet or leave {peers} peers"), figures);
}

fn describe(peers: usize) -> Vec<PeerInfo> {
    let describe = |number: usize| PeerInfo {
        id: PeerId::new(number as u32 + 1).expect("not 0"),
        user_id: Arc::from("user"),
        user_data: Bytes::from_static(b"{}"),
        medias: Vec::new(),
    };
    (0..peers).map(describe).collect()
}

fn encode_all(room: &mut Room) {
    while let Some(notice) = room.poll_notice() {
        black_box(encode(&notice.event));
        black_box(notice.to);
    }
}

fn start(room: &mut Room, slot: Slot, number: usize) {
    let start = Command::StartMedia {
        media: media(number),
        properties: Bytes::from_static(&[0x80]),
    };
    room.handle_command(slot, start).expect("its own media");
    drain(room);
}

fn moving(peers: usize, crowd: bool) {
    let now = Instant::now();
    let mut random = fastrand::Rng::with_seed(7);
    let side = match crowd {
        true => STEP,
        false => (peers as f64 * std::f64::consts::PI / NEIGHBOURS).sqrt(),
    };
    let mut places: Vec<[f64; 2]> = (0..peers)
        .map(|_| [random.f64() * side, random.f64() * side])
        .collect();
    let mut room = Room::new(info(), RoomLimits::default());
    let slots: Vec<Slot> = places
        .iter()
        .enumerate()
        .map(|(number, place)| join(&mut room, now, number, position(*place)))
        .collect();
    drain(&mut room);
    let count = COMPARISONS / peers;
    let figures = rounds(|| {
        let moves: Vec<(usize, [f64; 2])> = (0..count)
            .map(|_| {
                let who = random.usize(..peers);
                let place = places[who].map(|at| {
                    let step = (random.f64() - 0.5) * 2.0 * STEP;
                    (at + step).clamp(0.0, side)
                });
                places[who] = place;
                (who, place)
            })
            .collect();
        let by_room = time(count, || {
            for (who, place) in &moves {
                let position = position(*place);
                room.handle_command(slots[*who], Command::SetPeerPosition { position })
                    .expect("in the room");
                drain(&mut room);
            }
        });
        // The places are those of the end by now; how many are near is the same.
        let by_scan = time(count, || {
            for (who, place) in &moves {
                black_box(scan(&places, *who, *place));
            }
        });
        (by_room, by_scan)
    });
    let how = if crowd { "one spot" } else { "spread" };
    print(&format!("{peers} peers, {how}"), figures);
}

/// Who is near, without any order in places.
fn scan(places: &[[f64; 2]], who: usize, [x, y]: [f64; 2]) -> Vec<usize> {
    let is_near = |(other, [a, b]): &(usize, &[f64; 2])| {
        *other != who && (x - a).powi(2) + (y - b).powi(2) < 1.0
    };
    let near = places.iter().enumerate().filter(is_near);
    near.map(|(other, _)| other).collect()
}

/// A packet as browsers send it, for any media and sequence.
struct Packet(Vec<u8>);

impl Packet {
    fn new() -> Self {
        let mut bytes = vec![0x96, 1, 0x91, 0xcd, 0, 0, 0xce, 0, 0, 0, 0];
        bytes.extend([0xce, 0x6c, 0xa9, 0xcf, 0x27, 0, 0xc5, 0, FRAME_BYTES]);
        bytes.extend(0..FRAME_BYTES);
        Self(bytes)
    }

    fn bytes(&mut self, media: u16, sequence: u32) -> &[u8] {
        self.0[4..6].copy_from_slice(&media.to_be_bytes());
        self.0[7..11].copy_from_slice(&sequence.to_be_bytes());
        &self.0
    }
}

fn info() -> RoomInfo {
    RoomInfo {
        name: Arc::from("room"),
        customer: Arc::from("customer"),
        user_data: Bytes::new(),
    }
}

fn join(room: &mut Room, now: Instant, number: usize, position: Position) -> Slot {
    let slot = join_quietly(room, now, number, position);
    drain(room);
    slot
}

fn join_quietly(room: &mut Room, now: Instant, number: usize, position: Position) -> Slot {
    let peer = u32::try_from(number + 1).expect("a small number");
    let join = Join {
        peer: PeerId::new(peer).expect("not 0"),
        user_id: Arc::from("user"),
        user_data: Bytes::from_static(b"{}"),
        position,
        media_ids: vec![media(number)],
    };
    room.join(now, join)
}

fn media(number: usize) -> MediaId {
    MediaId::new(u64::from(MediaId::MIN) + number as u64).expect("a small number")
}

fn position([x, y]: [f64; 2]) -> Position {
    Position::new([x, y, 0.0]).expect("finite")
}

fn drain(room: &mut Room) {
    while let Some(notice) = room.poll_notice() {
        black_box(notice);
    }
}
