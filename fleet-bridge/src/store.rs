//! Where bridges keep what must outlive a call: claims, matches, answers and events.
//!
//! A store holds *documents*, JSON texts that are found by a [`Key`], and a list of *events*. It changes by a
//! [`Commit`] alone, which names the versions it builds on: either all of it is done, or it is a conflict and nothing
//! is. A document may name a time at which somebody must look at it, and one at which it is forgotten.
//!
//! Events have numbers that grow by one. A store that is lost begins a new history, with another id, and its numbers
//! start at the milliseconds since 1970: whoever knows a number of the lost history finds that events are missing
//! ([`EventPage::has_gap`]), and never takes a new event for an old one.
//!
//! The store knows nothing of what the texts say.

mod clock;
mod journal;
mod local;
mod memory;
mod redis;
mod words;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::watch;

pub(crate) use self::{
    journal::JournalError,
    redis::AddressError,
    words::{
        Commit, Committed, Document, Event, EventPage, Key, NewEvent, Put, Timestamp, Unavailable,
        Version,
    },
};
use self::{local::Local, redis::Redis};
use crate::config::StoreConfig;

/// Events that are kept, the newest: at ten events a match, those of the last thousand matches.
pub(crate) const EVENTS_MAX: usize = 10_000;

/// What one call reads at most, in documents or events: a page of them is written in milliseconds.
pub(crate) const PAGE_MAX: usize = 1_000;

/// Time between two looks for what must be forgotten or written anew.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The file of a store.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The address of a Redis.
    #[error("store.redis: {0}")]
    Address(#[from] AddressError),
}

/// Documents and events, as many bridges as may share them.
#[derive(Debug)]
pub(crate) struct Store {
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Local(Arc<Local>),
    Redis(Box<Redis>),
}

impl Store {
    /// An empty store that ends with the value.
    pub(crate) fn memory() -> Self {
        Self {
            backend: Backend::Local(Arc::new(Local::memory())),
        }
    }

    /// Opens what the settings name. A Redis that cannot be reached now is no error.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) async fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        match config {
            StoreConfig::Memory => Ok(Self::memory()),
            StoreConfig::File(path) => {
                let path = path.clone();
                let opened = tokio::task::spawn_blocking(move || Local::open(&path));
                let local = opened.await.expect("reading a file does not panic")?;
                Ok(Self {
                    backend: Backend::Local(Arc::new(local)),
                })
            }
            StoreConfig::Redis { url, prefix } => {
                let redis = Box::new(Redis::new(url.expose(), prefix)?);
                redis.greet().await;
                Ok(Self {
                    backend: Backend::Redis(redis),
                })
            }
        }
    }

    /// Names this store's history: random, made once. A store that is lost has another.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn id(&self) -> Result<String, Unavailable> {
        match &self.backend {
            Backend::Local(local) => Ok(local.id().to_owned()),
            Backend::Redis(redis) => redis.id().await,
        }
    }

    /// The store's time. It never goes back.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.backend {
            Backend::Local(local) => local.now(),
            Backend::Redis(redis) => redis.now(),
        }
    }

    /// Documents of one moment, in the order of the keys.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Document>>, Unavailable> {
        match &self.backend {
            Backend::Local(local) => {
                Ok(local.read(|state, _| keys.iter().map(|key| state.load(key)).collect()))
            }
            Backend::Redis(redis) => redis.load(keys).await,
        }
    }

    /// All of the commit or nothing. The same commit again is done if it was applied.
    ///
    /// # Errors
    /// [`Unavailable`]: whether it is applied is not known.
    pub(crate) async fn commit(&self, commit: &Commit) -> Result<Committed, Unavailable> {
        match &self.backend {
            Backend::Local(local) => local.commit(commit),
            Backend::Redis(redis) => redis.commit(commit).await,
        }
    }

    /// Documents whose due time has come, earliest first; at most [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn due(&self, limit: usize) -> Result<Vec<Key>, Unavailable> {
        let limit = limit.min(PAGE_MAX);
        match &self.backend {
            Backend::Local(local) => Ok(local.read(|state, now| state.due(now, limit))),
            Backend::Redis(redis) => redis.due(limit).await,
        }
    }

    /// The documents of matches by id, those with ids greater than `after`; at most [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn matches(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Document)>, Unavailable> {
        let limit = limit.min(PAGE_MAX);
        match &self.backend {
            Backend::Local(local) => Ok(local.read(|state, _| state.matches(after, limit))),
            Backend::Redis(redis) => redis.matches(after, limit).await,
        }
    }

    /// Events after a sequence number, 0 for the oldest that is kept; at most [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn events(&self, after: u64, limit: usize) -> Result<EventPage, Unavailable> {
        let limit = limit.min(PAGE_MAX);
        match &self.backend {
            Backend::Local(local) => Ok(local.read(|state, _| state.events(after, limit))),
            Backend::Redis(redis) => redis.events(after, limit).await,
        }
    }

    /// Sequence number of the newest event that is known here.
    pub(crate) fn newest_event(&self) -> watch::Receiver<u64> {
        match &self.backend {
            Backend::Local(local) => local.newest(),
            Backend::Redis(redis) => redis.newest(),
        }
    }

    /// Follows events and forgets what is over, until `shutdown`.
    pub(crate) async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let upkeep = async {
            match &self.backend {
                Backend::Local(local) => keep_short(local).await,
                Backend::Redis(redis) => redis.run().await,
            }
        };
        tokio::select! {
            () = upkeep => {}
            () = shutdown => {}
        }
    }

    /// Whether calls can be expected to succeed.
    pub(crate) async fn healthy(&self) -> bool {
        match &self.backend {
            Backend::Local(local) => local.is_healthy(),
            Backend::Redis(redis) => redis.is_healthy().await,
        }
    }
}

/// Forgets what is over, and writes a file anew that has become long, for ever.
async fn keep_short(local: &Arc<Local>) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        let local = Arc::clone(local);
        let rewrite = tokio::task::spawn_blocking(move || local.rewrite_if_long());
        if let Ok(Err(error)) = rewrite.await {
            tracing::warn!("the store's journal could not be written anew: {error}");
        }
    }
}

/// A random name for a history.
fn new_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests;
