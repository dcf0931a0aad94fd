//! Peers that keep their place when their connection is lost: who serves them, and with which key another connection may.
//! A key is the right to decide about a peer. There is one at a time, and whoever takes it out of the table decides:
//! coming back, leaving, and the end of the grace cannot get into each other's way.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sfu_core::{MediaId, RoomKey};

use super::{PeerSeat, tickets::secret_name};
use crate::{
    metrics::{LostPeer, Metrics},
    shard::{ClientId, Place, Turn},
};

/// A secret of a peer's client, of which nobody guesses the 128 bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ResumeKey(String);

impl ResumeKey {
    /// As a client sent it.
    pub(crate) fn new(name: String) -> Self {
        Self(name)
    }

    /// `None` when the system has no randomness.
    pub(super) fn random() -> Option<Self> {
        secret_name().map(Self)
    }

    /// For the client alone.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeKey")
    }
}

/// What a peer has, whoever serves it. It is given back when the last one who serves it, or waits for that, lets go.
#[derive(Debug)]
pub(crate) struct Stay {
    pub(crate) seat: PeerSeat,
    /// With the first turn.
    pub(crate) place: Place,
    pub(crate) room: RoomKey,
    pub(crate) user_id: String,
    pub(crate) medias: Vec<MediaId>,
}

impl Stay {
    /// Where the peer is in a later turn.
    pub(crate) fn place_in(&self, turn: Turn) -> Place {
        Place { turn, ..self.place }
    }
}

/// Who decides about a peer now.
#[derive(Debug)]
struct Entry {
    stay: Arc<Stay>,
    turn: Turn,
    state: State,
}

#[derive(Debug)]
enum State {
    Served(ClientId),
    Lost { _count: LostPeer },
}

impl State {
    fn lost(metrics: &Metrics) -> Self {
        let _count = metrics.lost_peer();
        Self::Lost { _count }
    }
}

/// What a key was good for.
#[derive(Debug)]
pub(crate) struct Exchanged<T> {
    pub(crate) stay: Arc<Stay>,
    pub(crate) turn: Turn,
    /// What was said to it.
    pub(crate) allowed: T,
}

/// All peers that may come back. There are as many as peers are let in, at most.
#[derive(Debug, Default)]
pub(crate) struct Stays {
    by_key: Mutex<HashMap<ResumeKey, Entry>>,
}

impl Stays {
    /// A peer has come in that may come back with this key.
    pub(crate) fn begin(&self, key: ResumeKey, stay: Arc<Stay>, client: ClientId) {
        let entry = Entry {
            turn: stay.place.turn,
            stay,
            state: State::Served(client),
        };
        self.entries().insert(key, entry);
    }

    /// Nobody serves the peer from now on. Gives nothing when it is somebody else's by now.
    pub(crate) fn lose(&self, key: &ResumeKey, metrics: &Metrics) -> Option<(Arc<Stay>, Turn)> {
        let mut entries = self.entries();
        let entry = entries.get_mut(key)?;
        entry.turn = entry.turn.next();
        entry.state = State::lost(metrics);
        Some((Arc::clone(&entry.stay), entry.turn))
    }

    /// Exchanges a key for the next one, if `allow` has nothing against it; who served the peer does no more. `allow` is
    /// told of the peer and who serves it.
    ///
    /// # Errors
    /// What `allow` says; the key can then still be used. `None` for a key that is not known.
    pub(crate) fn exchange<T, E>(
        &self,
        key: &ResumeKey,
        next: ResumeKey,
        metrics: &Metrics,
        allow: impl FnOnce(&Stay, Option<ClientId>) -> Result<T, E>,
    ) -> Option<Result<Exchanged<T>, E>> {
        let mut entries = self.entries();
        let entry = entries.get(key)?;
        let served_by = match entry.state {
            State::Served(client) => Some(client),
            State::Lost { .. } => None,
        };
        let allowed = match allow(&entry.stay, served_by) {
            Ok(allowed) => allowed,
            Err(refusal) => return Some(Err(refusal)),
        };
        let mut entry = entries.remove(key)?;
        entry.turn = entry.turn.next();
        entry.state = State::lost(metrics);
        let exchanged = Exchanged {
            stay: Arc::clone(&entry.stay),
            turn: entry.turn,
            allowed,
        };
        entries.insert(next, entry);
        Some(Ok(exchanged))
    }

    /// A client serves the peer from now on. Gives nothing when it is too late for that.
    pub(crate) fn serve(&self, key: &ResumeKey, client: ClientId) -> Option<(Arc<Stay>, Turn)> {
        let mut entries = self.entries();
        let entry = entries.get_mut(key)?;
        entry.turn = entry.turn.next();
        entry.state = State::Served(client);
        Some((Arc::clone(&entry.stay), entry.turn))
    }

    /// The peer is to leave: nobody comes back with the key. Gives nothing when it is somebody else's by now.
    pub(crate) fn end(&self, key: &ResumeKey) -> Option<Arc<Stay>> {
        self.entries().remove(key).map(|entry| entry.stay)
    }

    /// As [`Self::end`], unless something has happened since that turn.
    pub(crate) fn end_turn(&self, key: &ResumeKey, turn: Turn) -> Option<Arc<Stay>> {
        let mut entries = self.entries();
        entries.get(key).filter(|entry| entry.turn == turn)?;
        entries.remove(key).map(|entry| entry.stay)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ResumeKey, Entry>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
