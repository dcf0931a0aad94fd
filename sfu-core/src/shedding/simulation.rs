//! A shard that is asked for more than it can do, in virtual time: packets wait in a kernel's queue, and a round takes a
//! batch of them and costs what it delivers.

use std::{collections::VecDeque, ops::Range};

use super::*;
use crate::room::origin;

/// Packets that wait at most: those beyond are lost.
const QUEUE_MAX: usize = 5_000;

/// Packets of one round.
const ROUND_MAX: usize = 256;

/// Voice older than this is not forwarded.
const VOICE_AGE_MAX: Duration = Duration::from_millis(100);

/// What a packet costs before it is known who hears it.
const PACKET_COST: Duration = Duration::from_micros(5);

/// What a round costs by itself.
const ROUND_COST: Duration = Duration::from_micros(50);

const STEP: Duration = Duration::from_millis(20);

/// A room in which everybody is near everybody.
#[derive(Clone, Copy)]
struct Crowd {
    peers: u32,
    talkers: u32,
}

impl Crowd {
    /// Receivers of a talker's packet, and those that are refused.
    fn receivers(self, talker: u32, budget: Option<u32>) -> (usize, usize) {
        let all = self.peers - 1;
        let heard = match budget {
            Some(budget) if budget < self.peers * self.peers => {
                let (each, more) = (budget / self.peers, budget % self.peers);
                match talker {
                    16.. => 0,
                    talker if talker < each => all,
                    talker if talker == each => more.min(all),
                    _ => 0,
                }
            }
            _ => all,
        };
        (heard as usize, (all - heard) as usize)
    }
}

/// What happened in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    delivered: usize,
    refused: usize,
    /// Packets that were too old, and those that the queue did not take.
    lost: usize,
    lag_max: Duration,
    changes: usize,
    budget: Option<u32>,
    /// What was refused in the smallest room.
    refused_in_smallest: usize,
}

struct Server {
    random: fastrand::Rng,
    began: Instant,
    now: Instant,
    /// When the voice of the next step comes.
    next: Instant,
    queue: VecDeque<(Instant, usize, u32)>,
    rooms: Vec<Crowd>,
    /// What one receiver costs.
    cost: Duration,
    sheds: bool,
    shedding: Shedding,
    seconds: Vec<Second>,
}

impl Server {
    fn new(rooms: &[Crowd]) -> Self {
        let now = origin();
        Self {
            random: fastrand::Rng::with_seed(7),
            began: now,
            now,
            next: now,
            queue: VecDeque::new(),
            rooms: rooms.to_vec(),
            cost: Duration::from_micros(8),
            sheds: true,
            shedding: Shedding::new(now),
            seconds: vec![Second::default()],
        }
    }

    /// Deliveries a second when it does nothing else.
    fn capacity(&self) -> usize {
        (Duration::from_secs(1).as_nanos() / self.cost.as_nanos()) as usize
    }

    fn budget(&self) -> Option<u32> {
        self.shedding.budget().filter(|_| self.sheds)
    }

    /// All who talk say something in each step, at any time in it.
    fn speak(&mut self) {
        while self.next <= self.now {
            let mut step = Vec::new();
            for (room, crowd) in self.rooms.iter().enumerate() {
                for talker in 0..crowd.talkers {
                    let offset = STEP.mul_f64(self.random.f64());
                    step.push((self.next + offset, room, talker));
                }
            }
            step.sort();
            self.queue.extend(step);
            self.next += STEP;
        }
    }

    fn second(&mut self) -> &mut Second {
        let at = (self.now - self.began).as_millis() / 1_000;
        let at = usize::try_from(at).expect("a short test");
        self.seconds.resize(at + 1, Second::default());
        &mut self.seconds[at]
    }

    fn lose(&mut self, packets: usize) {
        self.second().lost += packets;
    }

    fn round(&mut self) {
        self.speak();
        let arrived = self.queue.partition_point(|(at, ..)| *at <= self.now);
        let excess = arrived.saturating_sub(QUEUE_MAX);
        self.queue.drain(arrived - excess..arrived);
        self.lose(excess);
        let began = self.now;
        let arrived = arrived - excess;
        if arrived == 0 {
            // Until the next packet.
            let next = self.queue.front().map_or(self.next, |(at, ..)| *at);
            self.now = next.min(self.now + STEP);
        } else {
            self.now += ROUND_COST;
            for _ in 0..arrived.min(ROUND_MAX) {
                self.take();
            }
            self.shedding.worked(self.now - began);
        }
        let change = self.shedding.turn(self.now);
        let budget = self.budget();
        let second = self.second();
        second.changes += usize::from(change.is_some());
        second.budget = budget;
    }

    fn take(&mut self) {
        let (arrived, room, talker) = self.queue.pop_front().expect("it was counted");
        self.now += PACKET_COST;
        let lag = self.now.saturating_duration_since(arrived);
        self.shedding.waited(lag);
        if lag > VOICE_AGE_MAX {
            self.lose(1);
            return;
        }
        let budget = self.budget();
        let (heard, refused) = self.rooms[room].receivers(talker, budget);
        self.now += self.cost * u32::try_from(heard).expect("a small room");
        self.shedding.forwarded(heard, refused);
        let smallest = (0..self.rooms.len()).min_by_key(|room| self.rooms[*room].peers);
        let second = self.second();
        second.delivered += heard;
        second.refused += refused;
        if smallest == Some(room) {
            second.refused_in_smallest += refused;
        }
        second.lag_max = second.lag_max.max(lag);
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.round();
        }
    }

    fn of(&self, seconds: Range<usize>) -> &[Second] {
        &self.seconds[seconds]
    }
}

fn changes(seconds: &[Second]) -> usize {
    seconds.iter().map(|second| second.changes).sum()
}

/// Nothing is lost, nothing waits long, and the shard does at least this share of what it can.
fn check_steady(server: &Server, seconds: Range<usize>, share: f64) {
    let capacity = server.capacity() as f64;
    for (at, second) in seconds.clone().zip(server.of(seconds)) {
        assert_eq!(second.lost, 0, "{at}: {second:?}");
        assert!(second.lag_max < VOICE_AGE_MAX, "{at}: {second:?}");
        let delivered = second.delivered as f64 / capacity;
        assert!(delivered > share, "{at}: {delivered} {second:?}");
    }
}

const HUGE: Crowd = Crowd {
    peers: 2_000,
    talkers: 32,
};

#[test]
fn a_huge_crowd_is_served_at_capacity_without_loss_and_whole_again_afterwards() {
    let mut server = Server::new(&[HUGE]);
    server.run(120);
    check_steady(&server, 3..120, 0.65);
    let delivered: usize = server.of(3..120).iter().map(|it| it.delivered).sum();
    let mean = delivered as f64 / 117.0 / server.capacity() as f64;
    assert!(mean > 0.85, "{mean}");
    let wanted = HUGE.talkers as usize * (HUGE.peers as usize - 1) * 50;
    let capacity = server.capacity();
    assert!(wanted > 20 * capacity, "{wanted} is many times {capacity}");
    assert!(changes(server.of(0..20)) < 15, "{:?}", server.of(0..20));
    assert!(changes(server.of(60..120)) < 12, "{:?}", server.of(60..120));
    server.rooms[0].talkers = 1;
    server.cost /= 2;
    server.run(12);
    assert_eq!(server.of(131..132)[0].budget, None);
    assert_eq!(changes(server.of(121..132)), 1, "{:?}", server.of(121..132));
}

#[test]
fn without_shedding_the_same_crowd_loses_most_of_what_it_says() {
    let mut server = Server::new(&[HUGE]);
    server.sheds = false;
    server.run(20);
    for second in server.of(5..20) {
        let packets = HUGE.talkers as usize * 50;
        assert!(second.lost > packets * 9 / 10, "{second:?}");
    }
}

#[test]
fn a_small_room_beside_a_huge_one_keeps_all_of_its_voice() {
    let small = Crowd {
        peers: 8,
        talkers: 4,
    };
    let mut server = Server::new(&[HUGE, small]);
    server.run(30);
    check_steady(&server, 3..30, 0.65);
    for second in server.of(0..30) {
        assert_eq!(second.refused_in_smallest, 0, "{second:?}");
    }
}

#[test]
fn many_rooms_of_one_size_are_cut_alike_and_soon() {
    let room = Crowd {
        peers: 50,
        talkers: 10,
    };
    let mut server = Server::new(&[room; 30]);
    server.run(40);
    check_steady(&server, 3..10, 0.4);
    check_steady(&server, 10..40, 0.5);
    assert!(changes(server.of(10..40)) < 10, "{:?}", server.of(10..40));
}

#[test]
fn a_shard_that_keeps_up_never_sheds() {
    let crowd = Crowd {
        peers: 100,
        talkers: 15,
    };
    let mut server = Server::new(&[crowd]);
    server.run(30);
    // It is kept from its work for a moment, again and again.
    for _ in 0..10 {
        server.now += Duration::from_millis(150);
        server.run(3);
    }
    assert_eq!(changes(&server.seconds), 0);
    assert!(server.seconds.iter().all(|second| second.refused == 0));
    check_steady(&server, 1..30, 0.55);
}

#[test]
fn a_shard_that_slows_down_sheds_more_and_takes_it_back() {
    let mut server = Server::new(&[HUGE]);
    server.run(20);
    let before = server.of(18..19)[0].delivered;
    server.cost *= 3;
    server.run(20);
    check_steady(&server, 23..40, 0.65);
    server.cost /= 3;
    server.run(20);
    check_steady(&server, 50..60, 0.65);
    let after = server.of(58..59)[0].delivered;
    assert!(after * 10 >= before * 9, "{before} before, {after} after");
}

#[test]
fn talk_that_comes_and_goes_does_not_make_the_budget_come_and_go() {
    let mut server = Server::new(&[HUGE]);
    server.run(10);
    for _ in 0..10 {
        server.rooms[0].talkers = 0;
        server.run(4);
        server.rooms[0].talkers = 32;
        server.run(4);
    }
    let seconds = server.of(10..90);
    assert!(
        seconds.iter().all(|second| second.budget.is_some()),
        "{seconds:?}"
    );
    let lost: usize = seconds.iter().map(|second| second.lost).sum();
    assert_eq!(lost, 0, "{seconds:?}");
}

#[test]
fn a_window_without_voice_is_no_reason_to_shed() {
    let now = origin();
    let mut shedding = Shedding::new(now);
    for tick in 1..100 {
        shedding.worked(WINDOW);
        assert_eq!(shedding.turn(now + WINDOW * tick), None);
    }
}

#[test]
fn what_does_not_help_is_not_done() {
    let now = origin();
    let mut shedding = Shedding::new(now);
    let mut ticks = (1..200).map(|tick| {
        shedding.waited(Duration::from_secs(1));
        shedding.turn(now + WINDOW * tick);
        shedding.budget()
    });
    let late = (LATE_TIME.as_millis() / WINDOW.as_millis()) as usize;
    assert_eq!(
        ticks.nth(late - 2),
        Some(None),
        "not yet for the named time"
    );
    assert_eq!(ticks.last(), Some(Some(STREAMS_MIN)));
}
