//! What a gateway did while others could not hear it, in the words in which they are told later.
//!
//! What it keeps is smaller than what happened: of all who entered a room, where the room lives; of all reports of a
//! server, the last one. Whoever is told may know it already: each telling can come twice.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use gateway_api::RoomHash;

use crate::grid::{
    Action, Bind, Command, Delivery, Outcome, Release, ServerRef, ServerReport, Timestamp,
};

/// Most tellings that are kept: half an hour of ten new rooms a second and all else. The oldest bindings go first: the
/// server's report brings its rooms back.
pub(super) const OUTBOX_MAX: usize = 50_000;

/// Most handed-out tasks of one server that are kept; a grid lets no more wait for it.
const RELEASED_MAX: usize = 2 * crate::grid::TASKS_MAX;

/// Whether a gateway knows what the log made of a command of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The log was not asked, or what it made of the command is what was answered.
    Known,
    /// The command was sent, and nothing came back.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Bind(Bind),
    Moderate(Command),
    Report(ServerReport),
    Release(Release),
}

/// Of tellings with the same subject there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Room(String, RoomHash),
    Report(ServerRef),
    Release(ServerRef),
}

/// The rank from which tellings are about tasks.
const TASKS: u8 = 2;

impl Told {
    /// What comes later builds on what comes before: servers, rooms on servers, tasks for rooms, tasks that are gone.
    fn rank(&self) -> u8 {
        match self {
            Self::Report(_) => 0,
            Self::Bind(_) => 1,
            Self::Moderate(_) => TASKS,
            Self::Release(_) => TASKS + 1,
        }
    }

    fn subject(&self) -> Option<Subject> {
        Some(match self {
            Self::Bind(bind) => Subject::Room(bind.pool.clone(), bind.room.hash()),
            Self::Moderate(_) => return None,
            Self::Report(report) => Subject::Report(report.server.clone()),
            Self::Release(release) => Subject::Release(release.server.clone()),
        })
    }

    /// Takes over what was said about the same subject before.
    fn succeed(&mut self, earlier: Self) {
        match (self, earlier) {
            (Self::Bind(bind), Self::Bind(earlier)) => {
                bind.instead_of.splice(0..0, earlier.instead_of);
            }
            (Self::Release(release), Self::Release(earlier)) => {
                let tasks = &mut release.tasks;
                tasks.extend(earlier.tasks);
                tasks.sort_unstable();
                tasks.dedup();
                tasks.truncate(RELEASED_MAX);
            }
            _ => {}
        }
    }
}

/// Rank and number.
type Place = (u8, u64);

/// Which tellings are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Servers and rooms: they can be told again as things change.
    Places,
    /// Tasks too. One that was told as waiting may be handed out by others at once: nothing must happen here between
    /// that telling and the one that it is gone.
    All,
}

/// Something that is to be told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Telling {
    place: Place,
    at: Timestamp,
    told: Told,
}

impl Telling {
    /// As a command for the log. A report that is older than servers may be silent says nothing any more.
    pub(super) fn command(
        &self,
        now: Timestamp,
        disable_timeout: Duration,
        random: u64,
    ) -> Option<Command> {
        let action = match self.told.clone() {
            Told::Moderate(command) => return Some(command),
            Told::Bind(bind) => Action::Bind(bind),
            Told::Report(_) if now.since(self.at) >= disable_timeout => return None,
            Told::Report(report) => Action::Report(report),
            Told::Release(release) => Action::Release(release),
        };
        Some(Command { id: random, action })
    }
}

/// Tellings in their order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    next: u64,
    tellings: BTreeMap<Place, Telling>,
    subjects: HashMap<Subject, Place>,
    dropped: u64,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.tellings.len()
    }

    /// How many tellings did not fit, since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Keeps what others must know of a command and what was answered to it.
    pub(super) fn note(&mut self, command: &Command, outcome: &Outcome, at: Timestamp, fate: Fate) {
        match (&command.action, outcome) {
            (Action::Connect(connect), Outcome::Connected(Ok(address))) => {
                let Some(room) = connect.rooms.last() else {
                    return;
                };
                let bind = Bind {
                    pool: connect.pool.clone(),
                    room: room.clone(),
                    customer: connect.customer.clone(),
                    address: address.clone(),
                    instead_of: match fate {
                        Fate::Known => Vec::new(),
                        Fate::Unknown => vec![command.id],
                    },
                };
                self.put(Told::Bind(bind), at);
            }
            (Action::Moderate { .. }, Outcome::Moderated(Ok(()))) => {
                self.put(Told::Moderate(command.clone()), at);
            }
            (Action::Report(report), Outcome::Tasks(Ok(delivery))) => {
                let mut last = report.clone();
                // Whoever is told the report hands out nothing for it.
                last.released = Some(Vec::new());
                self.put(Told::Report(last), at);
                self.release(&report.server, delivery, at);
            }
            (Action::Take { server }, Outcome::Tasks(Ok(delivery))) => {
                self.release(server, delivery, at);
            }
            _ => {}
        }
    }

    fn release(&mut self, server: &ServerRef, delivery: &Delivery, at: Timestamp) {
        let gone = delivery.tasks.iter().chain(&delivery.released);
        let mut tasks: Vec<_> = gone.map(|task| task.key).collect();
        tasks.sort_unstable();
        tasks.dedup();
        if !tasks.is_empty() {
            let server = server.clone();
            self.put(Told::Release(Release { server, tasks }), at);
        }
    }

    fn put(&mut self, mut told: Told, at: Timestamp) {
        let mut place = (told.rank(), self.next);
        if let Some(earlier) = self.remove_subject(&told) {
            told.succeed(earlier.told);
            place = earlier.place;
        }
        self.next += 1;
        self.insert(Telling { place, at, told });
    }

    fn insert(&mut self, telling: Telling) {
        if self.tellings.len() >= OUTBOX_MAX {
            self.drop_oldest();
        }
        if let Some(subject) = telling.told.subject() {
            self.subjects.insert(subject, telling.place);
        }
        self.tellings.insert(telling.place, telling);
    }

    fn drop_oldest(&mut self) {
        let is_binding = |it: &&Telling| matches!(it.told, Told::Bind(_));
        let oldest = self.tellings.values().find(is_binding);
        let oldest = oldest.or_else(|| self.tellings.values().next());
        if let Some(place) = oldest.map(|it| it.place) {
            self.remove(place);
            self.dropped += 1;
        }
    }

    fn remove(&mut self, place: Place) -> Option<Telling> {
        let telling = self.tellings.remove(&place)?;
        if let Some(subject) = telling.told.subject() {
            self.subjects.remove(&subject);
        }
        Some(telling)
    }

    fn remove_subject(&mut self, told: &Told) -> Option<Telling> {
        let place = *self.subjects.get(&told.subject()?)?;
        self.remove(place)
    }

    /// Takes the first ones out.
    pub(super) fn take(&mut self, count: usize, part: Part) -> Vec<Telling> {
        let end = match part {
            Part::Places => (TASKS, 0),
            Part::All => (u8::MAX, 0),
        };
        let places: Vec<_> = self
            .tellings
            .range(..end)
            .take(count)
            .map(|it| *it.0)
            .collect();
        let taken = places.into_iter().filter_map(|place| self.remove(place));
        taken.collect()
    }

    /// Puts back what could not be told. What has been said since about the same subject counts.
    pub(super) fn restore(&mut self, tellings: Vec<Telling>) {
        for mut telling in tellings {
            if let Some(mut later) = self.remove_subject(&telling.told) {
                later.told.succeed(telling.told);
                telling = Telling {
                    place: telling.place,
                    ..later
                };
            }
            self.insert(telling);
        }
    }

    /// Puts what another outbox holds before all of this one.
    pub(super) fn precede(&mut self, earlier: &mut Self) {
        let later = self.take(usize::MAX, Part::All);
        earlier.dropped += self.dropped;
        *self = std::mem::take(earlier);
        for telling in later {
            self.put(telling.told, telling.at);
        }
    }

    /// Forgets what is older.
    pub(super) fn expire(&mut self, before: Timestamp) {
        let is_old = |it: &&Telling| it.at < before;
        let old = self.tellings.values().filter(is_old);
        let places: Vec<_> = old.map(|it| it.place).collect();
        for place in places {
            self.remove(place);
        }
    }
}

#[cfg(test)]
mod tests;
