//! The newest known state of every server of the app, by walking over the Fleet's list and by every answer about a
//! single server, which the calls of [`Fleet`] note themselves. Which of two answers is kept is decided in [`known`].

mod known;
mod publisher;
mod views;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::MissedTickBehavior};

use self::known::Listed;
pub(crate) use self::{
    known::{Known, Seen},
    publisher::Publisher,
    views::ServerView,
};
use crate::{
    config::{Config, IndexSettings},
    error::Error,
    fleet::{Fleet, Page},
    metrics::Metrics,
    model::Keys,
    query::ListQuery,
};

/// Pages of one walk, at most: 20,000 servers. A list that never ends is reported instead of followed.
const PAGES_MAX: u32 = 200;

/// Servers on a page of a walk: the most that the Fleet sends.
const PER_PAGE: u8 = 100;

/// How a walk ended; nothing while it is under way.
type Outcome = Option<Result<(), Error>>;

/// The servers of the app, as the bridge last saw them.
#[derive(Debug)]
pub(crate) struct Index {
    walker: Walker,
    settings: IndexSettings,
    /// The newest walk, under way or over.
    walk: Mutex<Option<Walk>>,
}

#[derive(Clone, Debug)]
struct Walk {
    begun: Instant,
    outcome: watch::Receiver<Outcome>,
}

/// What a walk needs: it is a task of its own, so that a caller that goes away does not end it.
#[derive(Clone, Debug)]
struct Walker {
    fleet: Fleet,
    metrics: Arc<Metrics>,
    keys: Keys,
    /// For one page, its retries included.
    page_time: Duration,
    /// The last walk failed, and the log says so.
    is_out: Arc<AtomicBool>,
}

impl Index {
    /// An index of the servers that `fleet` lists, and of its answers about single servers. It asks for nothing before
    /// it [runs](Self::run) or is asked to be [fresh](Self::fresh).
    pub(crate) fn new(fleet: Fleet, metrics: Arc<Metrics>, config: &Config) -> Self {
        Self {
            walker: Walker {
                fleet,
                metrics,
                keys: config.keys.clone(),
                page_time: Duration::from_millis(config.limit.request_deadline_ms),
                is_out: Arc::default(),
            },
            settings: config.index,
            walk: Mutex::default(),
        }
    }

    /// Waits until a walk over all servers is in that began no longer than `max_age` ago; nothing is waited for when
    /// there is one. Callers that wait at once share a walk.
    ///
    /// # Errors
    /// The walk's, or the deadline.
    pub(crate) async fn fresh(&self, max_age: Duration, deadline: Instant) -> Result<(), Error> {
        let called = Instant::now();
        let in_time = tokio::time::timeout_at(deadline.into(), self.walked_since(called, max_age));
        let allowed = deadline.saturating_duration_since(called);
        in_time.await.unwrap_or(Err(Error::Deadline(allowed)))
    }

    async fn walked_since(&self, called: Instant, max_age: Duration) -> Result<(), Error> {
        let is_enough = |begun: Instant| called.saturating_duration_since(begun) <= max_age;
        loop {
            if self.lock().walked().is_some_and(is_enough) {
                return Ok(());
            }
            let mut walk = self.join();
            let ended = walk.outcome.wait_for(Option::is_some).await;
            let outcome = match ended {
                Ok(outcome) => outcome.clone().unwrap_or(Err(Error::Internal)),
                Err(_) => Err(Error::Internal),
            };
            // One that began too early says nothing; the next one begins after the call.
            if is_enough(walk.begun) {
                return outcome;
            }
        }
    }

    /// The walk under way, or a new one.
    fn join(&self) -> Walk {
        let mut newest = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = newest
            .as_ref()
            .filter(|walk| walk.outcome.borrow().is_none() && walk.outcome.has_changed().is_ok());
        if let Some(walk) = under_way {
            return walk.clone();
        }
        let (end, outcome) = watch::channel(None);
        let begun = Instant::now();
        let walker = self.walker.clone();
        tokio::spawn(async move { end.send_replace(Some(walker.walk(begun).await)) });
        newest.insert(Walk { begun, outcome }).clone()
    }

    /// Looks at the servers by id. Calls and walks wait meanwhile: take what is needed, and decide outside.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&BTreeMap<i64, Seen>) -> R) -> R {
        look(self.lock().servers())
    }

    /// How long ago the newest whole walk began; `None` before the first is in.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.lock().walked().map(|begun| begun.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.walker.fleet.known()
    }

    /// The servers as they are now, and when the newest walk began that may say what is gone.
    fn snapshot(&self) -> (BTreeMap<i64, Seen>, Option<Instant>) {
        let known = self.lock();
        (known.servers().clone(), known.whole())
    }

    /// Walks again and again until `shutdown`, and tells through the publisher what has changed.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut publisher: Publisher,
        shutdown: impl Future<Output = ()>,
    ) {
        let work = async {
            let mut ticks = tokio::time::interval(self.settings.refresh);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // One that a caller waited for a moment ago will do. What fails is counted and logged by the walk.
                let max_age = self.settings.refresh / 2;
                publisher.prepare().await;
                if self.walked_since(Instant::now(), max_age).await.is_ok() {
                    publisher.publish(&self).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = shutdown => {}
        }
    }
}

impl Walker {
    async fn walk(self, begun: Instant) -> Result<(), Error> {
        let outcome = self.pages(begun).await;
        let kind = outcome
            .as_ref()
            .map_or_else(|error| error.kind().label(), |()| "ok");
        self.metrics.walk(kind);
        match &outcome {
            Ok(()) => {
                self.count_states();
                if self.is_out.swap(false, Ordering::Relaxed) {
                    tracing::info!("the Fleet lists its servers again");
                }
            }
            Err(error) => {
                if !self.is_out.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        kind,
                        "the Fleet does not list its servers, and the index ages: {error}"
                    );
                }
            }
        }
        outcome
    }

    async fn pages(&self, begun: Instant) -> Result<(), Error> {
        self.fleet.known().begin();
        let mut listed = Listed::default();
        for number in 1..=PAGES_MAX {
            let query = ListQuery::of_page(number, PER_PAGE);
            let asked = Instant::now();
            let page = self.fleet.page(&query, asked + self.page_time).await?;
            let Page {
                servers,
                is_last,
                total,
            } = page;
            listed.page(servers.iter().map(|server| server.id), total);
            self.fleet.known().learn_page(asked, servers);
            if is_last {
                self.fleet.known().end(begun, &listed);
                return Ok(());
            }
        }
        let problem = format!("a list of more than {PAGES_MAX} pages");
        let excerpt = "not read".to_owned();
        Err(fleet_client::Error::BadResponse {
            status: None,
            problem,
            excerpt,
        }
        .into())
    }

    fn count_states(&self) {
        let known = self.fleet.known();
        let servers = known.servers().values();
        let states = servers.map(|seen| seen.server.state(&self.keys));
        self.metrics.servers(states);
    }
}
