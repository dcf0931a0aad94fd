//! The outside, as one piece of work on a match sees it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use super::Coordinator;
use crate::{
    error::Error,
    matches::{
        claim::{Judge, Offer, Verdict},
        policy,
        record::{Match, Place, VoicePlan},
        request::Selector,
        world::{Doing, Failed, Finished, Pace, Started, World},
    },
    model::{Keys, Server},
    store::{Commit, Committed, Document, Key, Timestamp, Unavailable},
    voice::GameServerVoice,
};

/// An index of this age is good enough to look for a server in: what is found is read again before it counts.
const LOOK_AGE_MAX: Duration = Duration::from_secs(10);

/// An index of this age must have been looked at before there is no free server.
const LOOK_AGE: Duration = Duration::from_millis(200);

/// What was found at the last look for a server, for whoever is told that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) matching: usize,
    pub(crate) busy: usize,
    pub(crate) claimed: usize,
    pub(crate) unwell: usize,
    pub(crate) stale: usize,
    pub(crate) unreachable: usize,
    pub(crate) tried: usize,
}

/// The last look, shared with whoever waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked(Arc<Mutex<Found>>);

impl Looked {
    fn set(&self, found: Found) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "of {} servers that the selectors match", found.matching)?;
        for (count, what) in [
            (found.busy, "busy"),
            (found.claimed, "claimed by others"),
            (found.unwell, "not working"),
            (found.stale, "not heard of lately"),
            (found.unreachable, "without an address for starting matches"),
            (found.tried, "unable to start this one a moment ago"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// One piece of work.
#[derive(Debug)]
pub(crate) struct Caller {
    shared: Arc<Coordinator>,
    owner: String,
    abandoned: Arc<AtomicBool>,
    looked: Looked,
}

impl Caller {
    /// Work that stops when `abandoned` is set.
    ///
    /// # Errors
    /// `unavailable`: the store is away.
    pub(super) async fn new(
        shared: &Arc<Coordinator>,
        abandoned: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        Ok(Self {
            owner: shared.store.id().await?,
            shared: Arc::clone(shared),
            abandoned,
            looked: Looked::default(),
        })
    }

    /// Work that nobody waits for.
    ///
    /// # Errors
    /// `unavailable`: the store is away.
    pub(super) async fn for_upkeep(shared: &Arc<Coordinator>) -> Result<Self, Error> {
        Self::new(shared, Arc::default()).await
    }

    /// What was found at the last look.
    pub(super) fn look(&self) -> Looked {
        self.looked.clone()
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            keys: &self.shared.keys,
            owner: &self.owner,
            heartbeat: self.heartbeat(),
            now: self.now(),
        }
    }

    fn call_ends(&self) -> Instant {
        Instant::now() + self.shared.call_time
    }

    /// The free servers of the first selector that has any, the best first.
    fn free(&self, record: &Match) -> Vec<i64> {
        let mut found = Found::default();
        let seed = self.random();
        for selector in &record.request.selectors {
            let free = self.free_by(selector, record, seed, &mut found);
            if !free.is_empty() {
                return free;
            }
        }
        self.looked.set(found);
        Vec::new()
    }

    fn free_by(
        &self,
        selector: &Selector,
        record: &Match,
        seed: u64,
        found: &mut Found,
    ) -> Vec<i64> {
        // It was read when the request was checked.
        let Ok(filter) = selector.filter(self.shared.rules()) else {
            return Vec::new();
        };
        let judge = self.judge();
        let is_tried = |id: i64| {
            record
                .tried
                .iter()
                .any(|it| it.server == id && judge.now < it.until)
        };
        self.shared.index.read(|servers| {
            let mut free = Vec::new();
            let matching = servers.values().filter(|seen| filter.matches(&seen.server));
            for seen in matching {
                found.matching += 1;
                let offer = seen.offer(|server| Offer {
                    facts: judge.facts(server),
                    takes_calls: self.shared.games.takes_calls(server),
                });
                // What the store says of our own claims is asked when the server is claimed.
                let count = match judge.verdict_of(&offer.facts, u64::MAX) {
                    Verdict::Free if is_tried(seen.server.id) => &mut found.tried,
                    Verdict::Free if !offer.takes_calls => &mut found.unreachable,
                    Verdict::Free => {
                        free.push(&*seen.server);
                        continue;
                    }
                    Verdict::Busy => &mut found.busy,
                    Verdict::Claimed(_) => &mut found.claimed,
                    Verdict::Unwell => &mut found.unwell,
                    Verdict::Stale => &mut found.stale,
                };
                *count += 1;
            }
            if free.is_empty() {
                return Vec::new();
            }
            let is_free =
                |server: &&Server| free.binary_search_by_key(&server.id, |it| it.id).is_ok();
            let all = servers.values().map(|seen| &*seen.server);
            let taken = all.filter(|server| !is_free(server));
            policy::order(&free, taken, selector.policy, &record.request.players, seed)
        })
    }

    /// A server that the Fleet allocated.
    async fn allocated(&self, record: &Match) -> Vec<i64> {
        for selector in &record.request.selectors {
            let Ok(filter) = selector.filter(self.shared.rules()) else {
                continue;
            };
            let metadata = filter
                .metadata
                .as_ref()
                .map(|conditions| conditions.as_str());
            for setting in &self.shared.settings.fleet_settings {
                match self
                    .shared
                    .fleet
                    .allocate(*setting, metadata, self.call_ends())
                    .await
                {
                    Ok(Some(server)) => return vec![server.id],
                    Ok(None) => {}
                    Err(error) => tracing::warn!(setting, "the Fleet allocates nothing: {error}"),
                }
            }
        }
        Vec::new()
    }
}

fn failed(error: &Error) -> Failed {
    match error {
        Error::Fleet(fleet_client::Error::NotFound(_)) => Failed::Gone,
        _ => Failed::Unclear,
    }
}

impl Caller {
    /// What the match's game server needs to say where its players are heard. The voice server is chosen as for them.
    fn game_server_voice(&self, record: &Match) -> Option<GameServerVoice> {
        let voice = self.shared.voice.as_ref()?;
        let server = record.hold()?.server;
        self.shared.index.read(|servers| {
            let own = servers.get(&server);
            let place = own.and_then(|seen| Place::of(&seen.server, &self.shared.keys));
            let nodes = servers.values().map(|seen| &*seen.server);
            voice.for_game_server(record, place.as_ref(), self.now(), nodes)
        })
    }
}

impl World for Caller {
    fn now(&self) -> Timestamp {
        self.shared.store.now()
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn pace(&self) -> &Pace {
        &self.shared.pace
    }

    fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    fn owner(&self) -> &str {
        &self.owner
    }

    fn heartbeat(&self) -> Option<(&str, Duration)> {
        let age_max = self.shared.settings.heartbeat_max_age?;
        Some((&self.shared.settings.heartbeat_key, age_max))
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Document>>, Unavailable> {
        self.shared.store.load(keys).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, Unavailable> {
        self.shared.store.commit(commit).await
    }

    async fn candidates(&self, record: &Match) -> Vec<i64> {
        if self.allocates() {
            return self.allocated(record).await;
        }
        for age_max in [LOOK_AGE_MAX, LOOK_AGE] {
            // The walk says so itself when it fails; what is known from before may still do.
            let _ = self.shared.index.fresh(age_max, self.call_ends()).await;
            let free = self.free(record);
            if !free.is_empty() {
                return free;
            }
        }
        Vec::new()
    }

    fn allocates(&self) -> bool {
        !self.shared.settings.fleet_settings.is_empty()
    }

    async fn scale_up(&self, record: &Match) {
        self.shared.scale_up(record).await;
    }

    async fn deallocate(&self, server: i64) -> Result<(), Failed> {
        let ready = self.shared.fleet.ready(server, self.call_ends()).await;
        ready.map_err(|error| failed(&error))
    }

    async fn read(&self, server: i64) -> Result<Server, Failed> {
        let read = self.shared.fleet.server(server, self.call_ends()).await;
        read.map_err(|error| failed(&error))
    }

    async fn write(&self, server: i64, metadata: Map<String, Value>) -> Result<Server, Failed> {
        let written = self
            .shared
            .fleet
            .update(server, metadata, self.call_ends())
            .await;
        written.map_err(|error| failed(&error))
    }

    fn match_api(&self, server: &Server) -> Option<String> {
        self.shared.games.api(server)
    }

    async fn start(&self, api: &str, fence: u64, record: &Match) -> Started {
        let voice = self.game_server_voice(record);
        let games = &self.shared.games;
        games.start(api, fence, record, voice.as_ref()).await
    }

    async fn finish(&self, api: &str, fence: u64, match_id: &str, outcome: &str) -> Finished {
        self.shared
            .games
            .finish(api, fence, match_id, outcome)
            .await
    }

    async fn doing(&self, api: &str) -> Doing {
        self.shared.games.doing(api).await
    }

    fn plan_voice(&self, record: &Match, server: &Server) -> Option<VoicePlan> {
        let voice = self
            .shared
            .voice
            .as_ref()
            .filter(|_| record.request.voice.is_any())?;
        let place = Place::of(server, &self.shared.keys)?;
        let now = self.now();
        Some(self.shared.index.read(|servers| {
            let servers = servers.values().map(|seen| &*seen.server);
            voice.plan(record, Some(&place), now, servers)
        }))
    }

    async fn close_voice(&self, record: &Match) {
        if let Some(voice) = &self.shared.voice {
            voice.close(record, self.now()).await;
        }
    }
}
