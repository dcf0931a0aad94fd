//! What a game server says of a room's users: where they are, and who does not hear whom.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Position, Room, Slot};
use crate::limits::PLACES_MAX;

/// Who does not hear whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The user who is not heard.
    pub talker: Arc<str>,
    /// The only user who does not hear; `None` is everybody.
    pub listener: Option<Arc<str>>,
}

/// What a game server says at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directive {
    /// Where users are from now on, `None` is nowhere: they see nobody, and nobody sees them. With a list, be it empty, only
    /// the game server says where anybody is.
    pub positions: Option<Vec<(Arc<str>, Option<Position>)>>,
    /// Who does not hear whom, and until when. A later one about the same two counts instead.
    pub mutes: Vec<(Pair, Instant)>,
    /// Who hears each other again.
    pub unmutes: Vec<Pair>,
}

/// What came of a [`Directive`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directed {
    /// How many of the peers of the users in `positions` are in.
    pub present: usize,
    /// How many of the users in `positions` are not remembered because [`PLACES_MAX`] others are: those who come later are
    /// nowhere.
    pub forgotten: usize,
}

/// Where users are. They need not be in.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Arc<str>, Position>);

impl Places {
    pub(super) fn of(&self, user_id: &str) -> Option<Position> {
        self.0.get(user_id).copied()
    }

    /// `false` when there is no place for one more.
    fn set(&mut self, user_id: &Arc<str>, position: Option<Position>) -> bool {
        let Some(position) = position else {
            self.0.remove(user_id);
            return true;
        };
        if let Some(place) = self.0.get_mut(user_id) {
            *place = position;
            return true;
        }
        let is_free = self.0.len() < PLACES_MAX;
        if is_free {
            self.0.insert(Arc::clone(user_id), position);
        }
        is_free
    }
}

/// Who does not hear whom, until when. Users need not be in.
#[derive(Debug, Default)]
pub(super) struct Mutes {
    of_talkers: HashMap<Arc<str>, OfTalker>,
    /// Nothing ends before this.
    next_end: Option<Instant>,
}

#[derive(Debug, Default)]
struct OfTalker {
    for_all: Option<Instant>,
    for_one: HashMap<Arc<str>, Instant>,
}

impl Mutes {
    fn set(&mut self, pair: Pair, end: Instant) {
        let of_talker = self.of_talkers.entry(pair.talker).or_default();
        match pair.listener {
            None => of_talker.for_all = Some(end),
            Some(listener) => drop(of_talker.for_one.insert(listener, end)),
        }
        self.next_end = Some(self.next_end.map_or(end, |next| next.min(end)));
    }

    fn remove(&mut self, pair: &Pair) {
        let Some(of_talker) = self.of_talkers.get_mut(&pair.talker) else {
            return;
        };
        match &pair.listener {
            None => of_talker.for_all = None,
            Some(listener) => drop(of_talker.for_one.remove(listener)),
        }
        if of_talker.for_all.is_none() && of_talker.for_one.is_empty() {
            self.of_talkers.remove(&pair.talker);
        }
    }

    pub(super) fn is_muted(&self, talker: &str) -> bool {
        self.of_talkers
            .get(talker)
            .is_some_and(|it| it.for_all.is_some())
    }

    /// The users who do not hear this one.
    fn listeners_without(&self, talker: &str) -> Vec<Arc<str>> {
        let of_talker = self.of_talkers.get(talker).into_iter();
        of_talker
            .flat_map(|it| it.for_one.keys().cloned())
            .collect()
    }

    /// The users whom this one does not hear.
    fn talkers_without(&self, listener: &str) -> Vec<Arc<str>> {
        let of_talkers = self.of_talkers.iter();
        of_talkers
            .filter(|(_, it)| it.for_one.contains_key(listener))
            .map(|(talker, _)| Arc::clone(talker))
            .collect()
    }

    fn ended(&self, now: Instant) -> Vec<Pair> {
        let mut ended = Vec::new();
        for (talker, it) in &self.of_talkers {
            let for_all = it.for_all.iter().map(|end| (None, end));
            let for_one = it
                .for_one
                .iter()
                .map(|(listener, end)| (Some(listener), end));
            let over = for_all.chain(for_one).filter(|(_, end)| **end <= now);
            ended.extend(over.map(|(listener, _)| Pair {
                talker: Arc::clone(talker),
                listener: listener.cloned(),
            }));
        }
        ended
    }

    fn first_end(&self) -> Option<Instant> {
        let all = self.of_talkers.values();
        all.flat_map(|it| it.for_all.iter().chain(it.for_one.values()))
            .min()
            .copied()
    }
}

/// Mutes that would all end at different times are ended in steps of this.
const MUTE_GRAIN: Duration = Duration::from_millis(50);

impl Room {
    /// Whether only a game server says where peers are.
    pub fn is_governed(&self) -> bool {
        self.places.is_some()
    }

    /// Does what a game server asks for. Tell the [notices](Self::poll_notice) that come of it.
    pub fn direct(&mut self, directive: Directive) -> Directed {
        let mut directed = Directed::default();
        for (pair, end) in directive.mutes {
            self.apply_mute(&pair, true);
            self.mutes.set(pair, end);
        }
        for pair in directive.unmutes {
            self.mutes.remove(&pair);
            self.apply_mute(&pair, false);
        }
        let Some(positions) = directive.positions else {
            return directed;
        };
        let is_first = self.places.is_none();
        let places = self.places.get_or_insert_default();
        for (user_id, position) in &positions {
            let is_set = places.set(user_id, *position);
            directed.forgotten += usize::from(!is_set);
        }
        if is_first {
            self.hide_all_but(&positions);
        }
        for (user_id, position) in positions {
            let peers = self.peers_of(&user_id);
            directed.present += peers.len();
            for slot in peers {
                self.move_peer(slot, position);
            }
        }
        directed
    }

    /// Nobody stays where a client has put itself.
    fn hide_all_but(&mut self, positions: &[(Arc<str>, Option<Position>)]) {
        let named: HashSet<&str> = positions.iter().map(|(user_id, _)| &**user_id).collect();
        let users = self.by_user.iter();
        let others = users.filter(|(user_id, _)| !named.contains(&***user_id));
        let slots: Vec<Slot> = others.flat_map(|(_, slots)| slots).copied().collect();
        for slot in slots {
            self.move_peer(slot, None);
        }
    }

    /// When [`Self::end_mutes`] is to be called at the latest, if at all.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.mutes.next_end
    }

    /// Ends the mutes whose time is over.
    pub fn end_mutes(&mut self, now: Instant) {
        if self.mutes.next_end.is_none_or(|next| next > now) {
            return;
        }
        for pair in self.mutes.ended(now) {
            self.mutes.remove(&pair);
            self.apply_mute(&pair, false);
        }
        let first = self.mutes.first_end();
        self.mutes.next_end = first.map(|end| end.max(now + MUTE_GRAIN));
    }

    fn apply_mute(&mut self, pair: &Pair, is_muted: bool) {
        for talker in self.peers_of(&pair.talker) {
            match &pair.listener {
                None => {
                    if let Some(peer) = self.peer_mut(talker) {
                        peer.is_muted = is_muted;
                    }
                }
                Some(listener) => {
                    let listeners = self.peers_of(listener);
                    self.withhold(talker, &listeners, is_muted);
                }
            }
        }
    }

    fn withhold(&mut self, talker: Slot, listeners: &[Slot], is_muted: bool) {
        let Self { peers, medias, .. } = self;
        let talker = peers.get(talker.index()).and_then(Option::as_ref);
        for id in talker.map_or(&[][..], |talker| &talker.media_ids) {
            let Some(media) = medias.get_mut(id) else {
                continue;
            };
            for listener in listeners {
                match is_muted {
                    true => media.mute_for(*listener),
                    false => media.unmute_for(*listener),
                }
            }
        }
    }

    /// A user's peer has come in: what was said of its user is true for it.
    pub(super) fn apply_mutes_of(&mut self, slot: Slot, user_id: &str) {
        let is_muted = self.mutes.is_muted(user_id);
        if let Some(peer) = self.peer_mut(slot) {
            peer.is_muted = is_muted;
        }
        for listener in self.mutes.listeners_without(user_id) {
            let listeners = self.peers_of(&listener);
            self.withhold(slot, &listeners, true);
        }
        self.withhold_from(slot, user_id, true);
    }

    /// What this listener is not to hear, or, when it goes, somebody else in its slot is.
    pub(super) fn withhold_from(&mut self, slot: Slot, user_id: &str, is_muted: bool) {
        for talker in self.mutes.talkers_without(user_id) {
            for talker in self.peers_of(&talker) {
                self.withhold(talker, &[slot], is_muted);
            }
        }
    }
}
