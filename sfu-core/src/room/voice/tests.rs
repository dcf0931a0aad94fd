//! A room that may carry few of its streams: who is heard, for how long, and that the books agree.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{super::*, *};
use crate::room::streams::{REVIEW_TIME, STREAM_HELD};

const PACKET_TIME: Duration = Duration::from_millis(20);

struct Crowd {
    room: Room,
    now: Instant,
    random: fastrand::Rng,
    /// By their numbers; each has the media of its number.
    slots: BTreeMap<u32, Slot>,
    sequence: u32,
    budget: Option<u32>,
}

impl Crowd {
    fn new(peers: u32, concurrent_streams: u8) -> Self {
        let info = RoomInfo {
            name: Arc::from("crowd"),
            customer: Arc::from("acme"),
            user_data: Bytes::new(),
        };
        let limits = RoomLimits {
            concurrent_streams,
            ..RoomLimits::default()
        };
        let mut crowd = Self {
            room: Room::new(info, limits),
            now: origin(),
            random: fastrand::Rng::with_seed(7),
            slots: BTreeMap::new(),
            sequence: 0,
            budget: None,
        };
        for number in 0..peers {
            crowd.join(number, 0.0);
        }
        crowd
    }

    fn join(&mut self, number: u32, x: f64) {
        let join = Join {
            peer: PeerId::new(number + 1).expect("not 0"),
            user_id: Arc::from("somebody"),
            user_data: Bytes::new(),
            position: Position::new([x, 0.0, 0.0]).expect("finite"),
            media_ids: vec![media(number)],
        };
        let slot = self.room.join(self.now, join);
        self.slots.insert(number, slot);
        let start = Command::StartMedia {
            media: media(number),
            properties: Bytes::new(),
        };
        self.room.handle_command(slot, start).expect("its own");
        while self.room.poll_notice().is_some() {}
    }

    fn leave(&mut self, number: u32) {
        let slot = self.slots.remove(&number).expect("it is in");
        self.room.leave(slot, None);
        while self.room.poll_notice().is_some() {}
    }

    fn go(&mut self, number: u32, x: f64) {
        let position = Position::new([x, 0.0, 0.0]).expect("finite");
        let go = Command::SetPeerPosition { position };
        let slot = self.slots[&number];
        self.room.handle_command(slot, go).expect("it is in");
        while self.room.poll_notice().is_some() {}
    }

    /// Who hears a packet, and how many are refused.
    fn voice(&mut self, number: u32) -> (Vec<Slot>, Refused) {
        self.sequence += 1;
        let mut bytes = vec![0x96, 1, 0x91, 0xcd];
        bytes.extend(media(number).value().to_be_bytes());
        bytes.push(0xce);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend([0, 0, 0xc4, 1, 0]);
        let datagram = Datagram::parse(&bytes).expect("a datagram");
        let mut heard = Vec::new();
        let deliver = |slot| heard.push(slot);
        let (now, slot, budget) = (self.now, self.slots[&number], self.budget);
        let refused =
            self.room
                .handle_datagram(now, slot, media(number), &datagram, budget, deliver);
        (heard, refused.expect("its own media within its rate"))
    }

    /// All of them say something; by listener, whom it hears.
    fn talk(&mut self, talkers: impl IntoIterator<Item = u32>) -> BTreeMap<Slot, Vec<u32>> {
        self.now += PACKET_TIME;
        let mut hears: BTreeMap<Slot, Vec<u32>> = BTreeMap::new();
        for talker in talkers {
            for listener in self.voice(talker).0 {
                hears.entry(listener).or_default().push(talker);
            }
        }
        self.check_books();
        hears
    }

    /// A talker's audience is exactly those whose streams name it.
    fn check_books(&self) {
        let by_media = self.room.medias.iter().flat_map(|(id, media)| {
            let audience = media.audience().ones();
            audience.map(|slot| (slot, *id))
        });
        let by_listener = self.room.streams.iter().enumerate();
        let by_listener =
            by_listener.flat_map(|(slot, streams)| streams.medias().map(move |id| (slot, id)));
        let mut books = [
            by_media.collect::<Vec<_>>(),
            by_listener.collect::<Vec<_>>(),
        ];
        for book in &mut books {
            book.sort();
        }
        assert_eq!(books[0], books[1]);
    }
}

fn media(number: u32) -> MediaId {
    MediaId::new(1_000 + u64::from(number)).expect("a small number")
}

#[test]
fn everybody_hears_the_same_few_and_all_of_their_packets() {
    let mut crowd = Crowd::new(40, 0);
    crowd.budget = Some(80);
    let listener = crowd.slots[&39];
    for round in 0..200 {
        // In any order after the first word, and everybody wanders about.
        let mut talkers: Vec<u32> = (0..10).collect();
        if round > 0 {
            crowd.random.shuffle(&mut talkers);
        }
        let who = crowd.random.u32(..40);
        let x = crowd.random.f64() * 0.1;
        crowd.go(who, x);
        let hears = crowd.talk(talkers);
        let mut heard = hears[&listener].clone();
        heard.sort_unstable();
        assert_eq!(heard, [0, 1], "round {round}");
        assert!(hears.values().all(|talkers| talkers.len() == 2));
    }
}

#[test]
fn a_budget_names_its_reason_and_counts_everybody() {
    let mut crowd = Crowd::new(40, 0);
    crowd.budget = Some(40);
    crowd.talk([0]);
    let (heard, refused) = crowd.voice(1);
    // The one who talks hears the other.
    assert_eq!((heard.len(), refused.receivers), (1, 38));
    assert_eq!(refused.reason, DropReason::Shed);
    crowd.budget = None;
    let (heard, refused) = crowd.voice(1);
    assert_eq!((heard.len(), refused.receivers), (39, 0));
    let mut crowd = Crowd::new(40, 1);
    crowd.budget = Some(120);
    crowd.talk([0]);
    let (heard, refused) = crowd.voice(1);
    assert_eq!((heard.len(), refused.receivers), (1, 38));
    assert_eq!(refused.reason, DropReason::StreamLimit);
}

#[test]
fn less_than_one_stream_each_is_one_for_those_who_came_first() {
    let mut crowd = Crowd::new(40, 0);
    crowd.budget = Some(10);
    for _ in 0..20 {
        let hears = crowd.talk(30..34);
        let first: Vec<Slot> = (0..10).map(|number| crowd.slots[&number]).collect();
        assert!(hears.keys().eq(&first), "{hears:?}");
        assert!(hears.values().all(|talkers| *talkers == [30]));
    }
}

#[test]
fn a_smaller_budget_is_kept_within_a_review_and_a_larger_one_is_used() {
    let mut crowd = Crowd::new(40, 0);
    let reviews = REVIEW_TIME.as_millis() / PACKET_TIME.as_millis() + 1;
    let listener = crowd.slots[&39];
    for (budget, wanted) in [
        (Some(160), 4),
        (Some(80), 2),
        (None, 8),
        (Some(40), 1),
        (Some(240), 6),
    ] {
        crowd.budget = budget;
        for _ in 0..reviews {
            crowd.talk(0..8);
        }
        let hears = crowd.talk(0..8);
        assert_eq!(hears[&listener].len(), wanted, "{budget:?}");
        let streams: usize = hears.values().map(Vec::len).sum();
        assert!(budget.is_none_or(|budget| streams <= budget as usize));
    }
}

#[test]
fn whoever_falls_silent_or_leaves_makes_room() {
    let mut crowd = Crowd::new(40, 0);
    crowd.budget = Some(40);
    let listener = crowd.slots[&39];
    assert_eq!(crowd.talk(0..3)[&listener], [0]);
    // At once when it leaves.
    crowd.leave(0);
    crowd.now += REVIEW_TIME;
    assert_eq!(crowd.talk(1..3)[&listener], [1]);
    // After its pause when it is silent.
    let packets = (STREAM_HELD + REVIEW_TIME * 2).as_millis() / PACKET_TIME.as_millis();
    for _ in 0..packets {
        crowd.talk(2..3);
    }
    assert_eq!(crowd.talk(1..3)[&listener], [2]);
}

#[test]
fn the_books_agree_whatever_happens() {
    let mut crowd = Crowd::new(30, 0);
    let mut next = 30;
    for _ in 0..4_000 {
        let numbers: Vec<u32> = crowd.slots.keys().copied().collect();
        let who = numbers[crowd.random.usize(..numbers.len())];
        match crowd.random.u32(..20) {
            0 if numbers.len() > 10 => crowd.leave(who),
            1 if numbers.len() < 60 => {
                let x = crowd.random.f64() * 3.0;
                crowd.join(next, x);
                next += 1;
            }
            2 => {
                let budgets = [None, Some(1), Some(10), Some(50), Some(150), Some(400)];
                crowd.budget = budgets[crowd.random.usize(..budgets.len())];
            }
            3..7 => {
                let x = crowd.random.f64() * 3.0;
                crowd.go(who, x);
            }
            7 => {
                let whose = numbers[crowd.random.usize(..numbers.len())];
                let pause = Command::PauseMedia {
                    media: media(whose),
                };
                // Out of sight it is refused.
                let _ = crowd.room.handle_command(crowd.slots[&who], pause);
            }
            _ => {
                let talkers: Vec<u32> = numbers.into_iter().filter(|it| it % 3 == 0).collect();
                crowd.talk(talkers);
            }
        }
        crowd.check_books();
    }
}
