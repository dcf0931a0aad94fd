//! Who says which packet when. Talkers outlive the connections of their peers: their packets are numbered through. Pure: the
//! time is an argument.

use std::time::{Duration, Instant};

use super::agenda::Agenda;
use crate::{pattern::Talk, plan::Plan};

/// One talker.
#[derive(Debug)]
struct Talker {
    peer: u32,
    talk: Talk,
    next: u32,
    is_active: bool,
    /// It stands in the agenda.
    is_noted: bool,
}

/// A packet that is to be said now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) peer: u32,
    pub(super) sequence: u32,
    /// How long after its time.
    pub(super) late: Duration,
    /// Packets of this talker that were left out, because their time has passed.
    pub(super) skipped: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Talkers {
    /// By room, then by place.
    all: Vec<Talker>,
    talkers_of_a_room: u32,
    interval: Duration,
    due: Agenda,
    /// All phases are counted from here.
    epoch: Instant,
    /// How many of a room may talk, the first ones.
    allowed: u32,
}

impl Talkers {
    pub(super) fn new(plan: &Plan, epoch: Instant) -> Self {
        let talkers = (0..plan.peer_count()).filter(|it| plan.talker_of(*it).is_some());
        let talker = |peer| Talker {
            peer,
            talk: Talk::new(plan.pattern, plan.seed, peer),
            next: 0,
            is_active: false,
            is_noted: false,
        };
        Self {
            all: talkers.map(talker).collect(),
            talkers_of_a_room: plan.talkers,
            interval: plan.interval(),
            due: Agenda::default(),
            epoch,
            allowed: match plan.is_ramp_silent {
                true => 0,
                false => plan.talkers,
            },
        }
    }

    /// When somebody is to say something.
    pub(super) fn first(&self) -> Option<Instant> {
        self.due.first()
    }

    fn index(&self, room: u32, place: u32) -> usize {
        (room * self.talkers_of_a_room + place) as usize
    }

    /// Number of the next packet of this talker.
    pub(super) fn next(&self, room: u32, place: u32) -> u32 {
        self.all
            .get(self.index(room, place))
            .map_or(0, |it| it.next)
    }

    /// Whether this one talks.
    pub(super) fn is_active(&self, room: u32, place: u32) -> bool {
        self.all
            .get(self.index(room, place))
            .is_some_and(|it| it.is_active)
    }

    /// This one talks from now on, at its phase of the plan.
    pub(super) fn start(&mut self, plan: &Plan, now: Instant, room: u32, place: u32) {
        let index = self.index(room, place);
        let Some(talker) = self.all.get_mut(index) else {
            return;
        };
        talker.is_active = true;
        if !talker.is_noted {
            talker.is_noted = true;
            let since = now.saturating_duration_since(self.epoch).as_nanos();
            let passed = u32::try_from(since / self.interval.as_nanos()).unwrap_or(u32::MAX);
            let round = self.epoch + self.interval * passed.saturating_add(1);
            let at = round + plan.phase(talker.peer);
            self.due.add(at, u32::try_from(index).unwrap_or(u32::MAX));
        }
    }

    /// This one talks no more, until it is started again.
    pub(super) fn stop(&mut self, room: u32, place: u32) {
        let index = self.index(room, place);
        if let Some(talker) = self.all.get_mut(index) {
            talker.is_active = false;
        }
    }

    /// Only so many of each room may talk, the first ones.
    pub(super) fn allow(&mut self, plan: &Plan, now: Instant, talkers: u32) {
        self.allowed = talkers;
        for room in 0..plan.rooms {
            for place in 0..talkers.min(plan.talkers) {
                if self.is_active(room, place) {
                    self.start(plan, now, room, place);
                }
            }
        }
    }

    /// The next packet whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        while let Some((at, index)) = self.due.due(now) {
            let Some(talker) = self.all.get_mut(index as usize) else {
                continue;
            };
            let is_allowed = index % self.talkers_of_a_room < self.allowed;
            if !talker.is_active || !is_allowed {
                talker.is_noted = false;
                continue;
            }
            let late = now.saturating_duration_since(at);
            let skipped = late.as_nanos() / self.interval.as_nanos();
            let skipped = u32::try_from(skipped).unwrap_or(u32::MAX - 1);
            self.due.add(at + self.interval * (skipped + 1), index);
            if talker.talk.next(self.interval) {
                let sequence = talker.next;
                talker.next += 1;
                return Some(Due {
                    peer: talker.peer,
                    sequence,
                    late,
                    skipped,
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    const MS: Duration = Duration::from_millis(1);

    fn said(talkers: &mut Talkers, now: Instant) -> Vec<(u32, u32, u32)> {
        let due = std::iter::from_fn(|| talkers.due(now));
        due.map(|it| (it.peer, it.sequence, it.skipped)).collect()
    }

    #[test]
    fn each_says_a_packet_in_each_interval_at_its_phase() {
        let (plan, epoch) = (plan(), Instant::now());
        let mut talkers = Talkers::new(&plan, epoch);
        // The phases of peers 0 and 11 are 0 and 12 ms.
        talkers.start(&plan, epoch, 0, 0);
        talkers.start(&plan, epoch + MS, 1, 1);
        assert_eq!(said(&mut talkers, epoch + 19 * MS), []);
        assert_eq!(said(&mut talkers, epoch + 20 * MS), [(0, 0, 0)]);
        assert_eq!(talkers.first(), Some(epoch + 32 * MS));
        assert_eq!(said(&mut talkers, epoch + 32 * MS), [(11, 0, 0)]);
        assert_eq!(said(&mut talkers, epoch + 52 * MS), [(0, 1, 0), (11, 1, 0)]);
        assert_eq!((talkers.next(0, 0), talkers.next(1, 1)), (2, 2));
    }

    #[test]
    fn packets_whose_time_has_passed_are_left_out_and_counted() {
        let (plan, epoch) = (plan(), Instant::now());
        let mut talkers = Talkers::new(&plan, epoch);
        talkers.start(&plan, epoch, 0, 0);
        assert_eq!(said(&mut talkers, epoch + 65 * MS), [(0, 0, 2)]);
        assert_eq!(said(&mut talkers, epoch + 80 * MS), [(0, 1, 0)]);
    }

    #[test]
    fn who_stops_says_nothing_and_goes_on_with_the_next_number() {
        let (plan, epoch) = (plan(), Instant::now());
        let mut talkers = Talkers::new(&plan, epoch);
        talkers.start(&plan, epoch, 0, 0);
        assert_eq!(said(&mut talkers, epoch + 20 * MS), [(0, 0, 0)]);
        talkers.stop(0, 0);
        assert!(!talkers.is_active(0, 0));
        assert_eq!(said(&mut talkers, epoch + 200 * MS), []);
        talkers.start(&plan, epoch + 201 * MS, 0, 0);
        assert_eq!(said(&mut talkers, epoch + 225 * MS), [(0, 1, 0)]);
        talkers.allow(&plan, epoch + 226 * MS, 0);
        assert_eq!(said(&mut talkers, epoch + 300 * MS), []);
        assert_eq!(talkers.first(), None);
    }

    #[test]
    fn only_those_who_may_talk_do_and_others_again_when_they_may() {
        let (plan, epoch) = (plan(), Instant::now());
        let plan = Plan {
            is_ramp_silent: true,
            ..plan
        };
        let mut talkers = Talkers::new(&plan, epoch);
        for place in 0..2 {
            talkers.start(&plan, epoch, 0, place);
        }
        assert_eq!(said(&mut talkers, epoch + 59 * MS), []);
        talkers.allow(&plan, epoch + 59 * MS, 1);
        assert_eq!(said(&mut talkers, epoch + 79 * MS), [(0, 0, 0)]);
        talkers.allow(&plan, epoch + 79 * MS, 2);
        assert_eq!(said(&mut talkers, epoch + 99 * MS), [(0, 1, 0), (1, 0, 0)]);
    }
}
