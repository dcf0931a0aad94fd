//! Runs the steps of [`crate::matches`] against the real store, Fleet, game servers and gateway.

mod caller;
mod operations;
mod scaling;
mod upkeep;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, Notify};

use self::caller::Caller;
use crate::{
    config::{Config, InstanceSettings, MatchSettings},
    error::Error,
    fleet::Fleet,
    game_servers::GameServers,
    index::Index,
    matches::{
        flow::{Stop, Work, read_match},
        obtain::{Obtained, Wish, obtain},
        record::{Match, Reason, Stage},
        request::Bounds,
        world::{Finished, Pace, World as _},
    },
    metrics::Metrics,
    model::Keys,
    query::{Rules, Source},
    server::ServerError,
    store::{Store, Timestamp},
    voice::Voice,
    webhook::Webhooks,
};

/// Between two looks whether a match is over that somebody else works on.
const END_PAUSE: Duration = Duration::from_millis(50);

/// What an answer may still take after the time for looking has ended.
const ANSWER_SLACK: Duration = Duration::from_millis(500);

/// Makes and ends matches, and looks after them.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) store: Arc<Store>,
    pub(crate) voice: Option<Voice>,
    pub(crate) settings: MatchSettings,
    fleet: Fleet,
    index: Arc<Index>,
    games: GameServers,
    pace: Pace,
    keys: Keys,
    app_id: i64,
    /// For one call of the Fleet, its retries included.
    call_time: Duration,
    metrics: Arc<Metrics>,
    instances: InstanceSettings,
    pub(crate) webhooks: Webhooks,
    /// One location setting is scaled at a time.
    scaling: Mutex<()>,
    /// Something has become due.
    nudge: Notify,
}

impl Coordinator {
    /// What the settings ask for; `None` where they ask for no matches.
    ///
    /// # Errors
    /// [`ServerError`].
    pub(crate) fn new(
        config: &Config,
        store: Arc<Store>,
        fleet: Fleet,
        index: Arc<Index>,
        metrics: Arc<Metrics>,
    ) -> Result<Option<Arc<Self>>, ServerError> {
        let Some(settings) = config.matches.clone() else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            store,
            voice: config.voice.clone().map(Voice::new).transpose()?,
            fleet,
            index,
            games: GameServers::new(&settings)?,
            pace: settings.pace(),
            keys: config.keys.clone(),
            app_id: config.app_id,
            call_time: Duration::from_millis(config.limit.request_deadline_ms),
            settings,
            metrics,
            webhooks: Webhooks::new(&config.instances).map_err(ServerError::Webhooks)?,
            instances: config.instances.clone(),
            scaling: Mutex::default(),
            nudge: Notify::new(),
        })))
    }

    /// What a request may ask for.
    pub(crate) fn bounds(&self) -> Bounds {
        self.settings.bounds(self.voice.is_some())
    }

    /// Whether a location setting may be scaled up for a match.
    pub(crate) fn may_scale(&self) -> bool {
        !self.instances.scale.is_empty()
    }

    /// How long a match in the background may take to be made.
    pub(crate) fn create_time(&self) -> Duration {
        self.instances.create_time
    }

    /// How filters of selectors are read.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules {
            state_key: &self.keys.instance_state,
            per_page_max: 100,
            app_id: self.app_id,
            source: Source::Index,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// How long a match may still take to be made or given up, when its time for looking ends.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.call_time(ANSWER_SLACK)
    }

    /// Has a match made. When the future is dropped, whoever asked has gone away: the work stops, and what it had is
    /// given back.
    ///
    /// # Errors
    /// `exhausted`, `start_rejected`, `idempotency_key_reused`, or `unavailable`.
    pub(crate) async fn obtain(self: &Arc<Self>, wish: Wish) -> Result<Match, Error> {
        let started = Instant::now();
        let abandoned = Arc::new(AtomicBool::new(false));
        let guard = Abandon(Arc::clone(&abandoned));
        let caller = Caller::new(self, abandoned).await?;
        let patience = self.patience();
        let looked = caller.look();
        // A task of its own: a call of the Fleet that has been sent is waited for, whoever goes away.
        let work = tokio::spawn(async move { obtain(&caller, &wish, patience).await });
        let obtained = work.await.map_err(|_| Error::Internal)?;
        drop(guard);
        let result = match obtained? {
            Obtained::KeyReused => Err(Error::KeyReused),
            Obtained::Match(record) => Self::answer(*record, &looked),
        };
        let kind = result
            .as_ref()
            .map_or_else(|error| error.kind().label(), |_| "ok");
        self.metrics.obtained(kind, started.elapsed());
        result
    }

    /// The match, or why there is none.
    fn answer(record: Match, looked: &caller::Looked) -> Result<Match, Error> {
        match (&record.stage, record.reason()) {
            (Stage::Running(_), _) => Ok(record),
            (_, Some(_)) if record.started_at.is_some() => Ok(record),
            (_, Some(Reason::Failed)) => {
                Err(Error::StartRejected(record.failure.unwrap_or_default()))
            }
            _ => Err(Error::Exhausted(looked.to_string())),
        }
    }

    /// Reads a match.
    ///
    /// # Errors
    /// `not_found` or `unavailable`.
    pub(crate) async fn read(self: &Arc<Self>, id: &str) -> Result<Match, Error> {
        let caller = Caller::for_upkeep(self).await?;
        let read = read_match(&caller, id)
            .await?
            .filter(|read| !read.value.is_repair());
        Ok(read.ok_or_else(|| Error::NoMatch(id.to_owned()))?.value)
    }

    /// Ends a match, and waits until its server is free; the match is given as it is when there is no more time.
    ///
    /// # Errors
    /// `not_found` or `unavailable`.
    pub(crate) async fn end(
        self: &Arc<Self>,
        id: &str,
        reason: Reason,
        until: Instant,
    ) -> Result<Match, Error> {
        loop {
            let caller = Caller::for_upkeep(self).await?;
            let read = read_match(&caller, id)
                .await?
                .filter(|read| !read.value.is_repair());
            let read = read.ok_or_else(|| Error::NoMatch(id.to_owned()))?;
            if matches!(read.value.stage, Stage::Ended(_)) {
                return Ok(read.value);
            }
            // A task of its own: whoever asked may go away, and the match ends all the same.
            let work = tokio::spawn(async move {
                let mut work = Work::on(&caller, read);
                let stopped = work.stop(reason).await;
                (work.record, stopped)
            });
            let (record, stopped) = work.await.map_err(|_| Error::Internal)?;
            match stopped {
                Ok(()) | Err(Stop::PutOff) => return Ok(record),
                Err(Stop::Away(error)) => return Err(error.into()),
                Err(Stop::Superseded | Stop::Waits) if Instant::now() >= until => {
                    return Ok(record);
                }
                Err(Stop::Superseded | Stop::Waits) => tokio::time::sleep(END_PAUSE).await,
            }
        }
    }

    /// Has the game server finish a running match. What follows is what follows when it does so by itself: a sweep
    /// finds the match over.
    ///
    /// # Errors
    /// `not_found`, `not_running` or `unavailable`.
    pub(crate) async fn finish(self: &Arc<Self>, id: &str) -> Result<Match, Error> {
        let caller = Caller::for_upkeep(self).await?;
        let record = self.read(id).await?;
        let Stage::Running(hold) = &record.stage else {
            return Err(Error::NotRunning(record.state()));
        };
        let outcome = Reason::Finished.label();
        let said = caller.finish(&hold.api, hold.fence, id, outcome).await;
        match said {
            Finished::Yes | Finished::Another => Ok(record),
            Finished::Unclear => Err(Error::Away("the game server gives no usable answer".into())),
        }
    }

    /// Writes the claim of a match into the metadata again, after its lease was renewed. A failure is left to the
    /// sweep.
    pub(crate) async fn rewrite_claim(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let caller = Caller::for_upkeep(self).await?;
        if let Some(read) = read_match(&caller, id).await? {
            let _ = Work::on(&caller, read).write_claim().await;
        }
        Ok(())
    }

    /// Changes the record of a match by a rule, as often as it takes to be the only one.
    ///
    /// # Errors
    /// The rule's, `not_found` or `unavailable`.
    pub(crate) async fn change<R>(
        self: &Arc<Self>,
        id: &str,
        kind: &str,
        rule: impl Fn(&mut Match, Timestamp) -> Result<R, Error>,
    ) -> Result<(Match, R), Error> {
        let caller = Caller::for_upkeep(self).await?;
        loop {
            let read = read_match(&caller, id)
                .await?
                .filter(|read| !read.value.is_repair());
            let read = read.ok_or_else(|| Error::NoMatch(id.to_owned()))?;
            let mut next = read.value.clone();
            let outcome = rule(&mut next, caller.now())?;
            if Work::on(&caller, read).replace(&next, kind).await? {
                return Ok((next, outcome));
            }
        }
    }
}

/// Tells the work that nobody waits for it, when it is dropped.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
