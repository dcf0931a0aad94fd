//! Keeps a gateway in step with the log: finds Redis again, follows what is appended, writes snapshots.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::time;

use super::{
    Shared, Store,
    log::{Archive, Head, LOG_MAX, Log, LogError, Place, Reading, Written},
    outbox::{Part, Telling},
    replica::Replica,
    state::{Phase, Verdict},
};
use crate::grid::{Action, Command};

/// Pauses between attempts to reach Redis.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A session that lasted this long was a success: the next attempt comes soon.
const SESSION_MIN: Duration = Duration::from_secs(5);

/// Attempts to agree with other gateways on an epoch, within one attempt to come back.
const ATTEMPTS_MAX: u32 = 5;

/// Tellings that are appended at once. All that moderates should be in one batch: else another gateway can hand out a
/// task before it reads that the task is gone.
const BATCH: usize = 1000;

/// Bytes that are appended at once, so that Redis answers in time.
const BATCH_BYTES: usize = 1024 * 1024;

/// Batches while commands are still decided here. What comes after is told while commands wait.
const BATCHES_MAX: usize = 1_000;

/// A batch of fewer tellings is the last one before commands begin to wait.
const RETURN_WITH: usize = 100;

/// Longest time that commands wait while the gateway goes online.
const RETURN_TIME: Duration = Duration::from_secs(1);

/// A snapshot is also due after this many bytes of log: reports of large servers are long.
const SNAPSHOT_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of snapshots that are written for each byte of log: a large grid is not written again for every few
/// commands.
const SNAPSHOT_SHARE: usize = 4;

/// A snapshot is due after this many entries whatever it costs: the log must not lose what no snapshot holds.
const ENTRIES_MAX: u64 = LOG_MAX / 2;

/// A gateway that is online.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    epoch: u64,
    reading: Reading,
    due: SnapshotDue,
}

/// What was appended since the last snapshot.
#[derive(Debug, Default)]
struct SnapshotDue {
    entries: u64,
    size_bytes: usize,
}

/// Tellings on their way. They go back when that fails or is given up.
struct Batch<'a> {
    tellings: Vec<Telling>,
    store: &'a Store,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let tellings = std::mem::take(&mut self.tellings);
        self.store.lock().outbox.restore(tellings);
    }
}

/// Growing pauses.
struct Backoff(Duration);

impl Backoff {
    async fn pause(&mut self) {
        let jitter = 0.5 + fastrand::f64() / 2.0;
        time::sleep(self.0.mul_f64(jitter)).await;
        self.0 = (self.0 * 2).min(RETRY_MAX);
    }
}

impl Store {
    /// Follows the log, and finds it again, for ever.
    pub(super) async fn drive(&self, shared: &Shared) {
        let mut opened = shared.take_opened();
        let mut backoff = Backoff(RETRY_MIN);
        loop {
            let session = match opened.take() {
                Some(session) => Ok(session),
                None => self.come_back(shared).await,
            };
            match session {
                Ok(session) => {
                    let since = Instant::now();
                    let id = session.id;
                    let why = self.follow(shared, session).await;
                    self.leave(shared, id, &why);
                    if since.elapsed() >= SESSION_MIN {
                        backoff = Backoff(RETRY_MIN);
                    }
                }
                Err(error) => tracing::debug!("the store is still alone: {error}"),
            }
            backoff.pause().await;
        }
    }

    /// One attempt to go online.
    pub(super) async fn come_back(&self, shared: &Shared) -> Result<Session, LogError> {
        let log = shared.place.log().await?;
        // A Redis that stands still is noticed here, before anything is waited for long.
        log.survey(0).await?;
        let mut archive = shared.place.archive().await?;
        for _ in 0..ATTEMPTS_MAX {
            let position = self.lock().replica.position;
            let survey = log.survey(position).await?;
            self.clock.learn(survey.time);
            let Some(head) = survey.head else {
                self.found(&mut archive, None, None).await?;
                continue;
            };
            let verdict = self.lock().judge(&head, survey.time);
            if verdict == Verdict::Found {
                self.found(&mut archive, Some(head.epoch), None).await?;
                continue;
            }
            match load(self, shared, &mut archive, &head).await? {
                Loaded::Whole(replica) => {
                    return self.join(shared, log, archive, head, replica).await;
                }
                Loaded::Torn(replica) => {
                    // A newer snapshot may just have taken the place of what was to be read.
                    let now = log.survey(position).await?.head;
                    if now.is_some_and(|it| it.epoch == head.epoch && it.saved == head.saved) {
                        self.stats.torn_logs.increase();
                        self.found(&mut archive, Some(head.epoch), Some(replica))
                            .await?;
                    }
                }
            }
        }
        Err(LogError::Outrun(ATTEMPTS_MAX))
    }

    /// Begins a new epoch over another one, unless somebody else does: with this gateway's replica, or with what is
    /// left of the log if that is more.
    async fn found(
        &self,
        archive: &mut Archive,
        over: Option<u64>,
        left: Option<Replica>,
    ) -> Result<(), LogError> {
        let (mut replica, is_blank) = {
            let state = self.lock();
            let knows_more = left
                .as_ref()
                .is_none_or(|left| state.epoch == over && left.position <= state.replica.position);
            match left {
                Some(left) if !knows_more => (left, false),
                _ => (state.replica.clone(), state.epoch.is_none()),
            }
        };
        let epoch = fastrand::u64(..);
        replica.last = epoch;
        let position = replica.position;
        let text = written(replica).await?;
        if archive
            .install(over, (epoch, position), &text, is_blank)
            .await?
        {
            self.stats.epochs.increase();
            tracing::info!(position, "the store began its log in Redis anew");
        }
        Ok(())
    }

    /// Tells what is to be told, and goes over to what the log says.
    async fn join(
        &self,
        shared: &Shared,
        log: Log,
        mut archive: Archive,
        head: Head,
        mut replica: Replica,
    ) -> Result<Session, LogError> {
        let epoch = head.epoch;
        let saved = head.saved.unwrap_or_default();
        let reader = shared.place.reader().await?;
        self.lock().prepare(&head, self.clock.now());
        for _ in 0..BATCHES_MAX {
            let at = (epoch, replica.position);
            if self.tell(&log, at, Part::Places).await? < RETURN_WITH {
                break;
            }
        }
        catch_up(self, &mut archive, &mut replica).await?;

        let mut reading = reader.read_on(replica.position);
        self.set_phase(shared, Phase::Returning);
        let last = async {
            let at = (epoch, replica.position);
            while self.tell(&log, at, Part::All).await? > 0 {}
            self.probe(&log, &mut reading, epoch, &mut replica).await
        };
        let result = match time::timeout(RETURN_TIME, last).await {
            Ok(result) => result,
            Err(_) => Err(LogError::Late),
        };
        if let Err(error) = result {
            self.set_phase(shared, Phase::Offline);
            return Err(error);
        }
        let entries = replica.position.saturating_sub(saved);
        let id = self.enter(shared, replica, epoch, log);
        Ok(Session {
            id,
            epoch,
            reading,
            due: SnapshotDue {
                entries,
                size_bytes: 0,
            },
        })
    }

    /// Appends one batch of what is to be told. Gives its size.
    async fn tell(&self, log: &Log, at: (u64, u64), part: Part) -> Result<usize, LogError> {
        let mut batch = Batch {
            tellings: self.lock().outbox.take(BATCH, part),
            store: self,
        };
        let now = self.clock.now();
        let (mut commands, mut told, mut size_bytes) = (Vec::new(), 0, 0);
        for telling in &batch.tellings {
            if size_bytes >= BATCH_BYTES {
                break;
            }
            told += 1;
            let timeout = self.timing.disable_timeout;
            if let Some(command) = telling.command(now, timeout, fastrand::u64(..)) {
                let written = Written::from(&command);
                size_bytes += written.text.len();
                commands.push(written);
            }
        }
        if !commands.is_empty() {
            log.append(at, None, &commands).await?;
        }
        batch.tellings.drain(..told);
        Ok(told)
    }

    /// Sends a command through the log to itself: Redis may be read-only, or full.
    async fn probe(
        &self,
        log: &Log,
        reading: &mut Reading,
        epoch: u64,
        replica: &mut Replica,
    ) -> Result<(), LogError> {
        let command = Command {
            id: fastrand::u64(..),
            action: Action::Tick {
                silence_counts: false,
            },
        };
        let id = command.id;
        let commands = [Written::from(&command)];
        log.append((epoch, replica.position), None, &commands)
            .await?;
        let mut has_come = false;
        while !has_come {
            for entry in reading.next().await? {
                replica.follow(&entry, &self.timing)?;
                has_come |= entry.id == id;
            }
        }
        Ok(())
    }

    /// Follows the log until that fails.
    async fn follow(&self, shared: &Shared, mut session: Session) -> LogError {
        let mut changes = shared.changes.subscribe();
        loop {
            if !self.lock().is_online(session.id) {
                return LogError::Left;
            }
            let entries = tokio::select! {
                biased;
                _ = changes.changed() => continue,
                entries = session.reading.next() => entries,
            };
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => return error,
            };
            let (taken, result) = {
                let mut state = self.lock();
                if !state.is_online(session.id) {
                    return LogError::Left;
                }
                state.take_in(&entries, &self.timing)
            };
            self.waiters.wake(&taken.woken);
            self.stats.entries.add(entries.len() as u64);
            self.stats.unreadable.add(taken.unreadable);
            if let Err(gap) = result {
                return gap.into();
            }
            let lengths = entries.iter().map(|entry| entry.size_bytes);
            session.due.entries += entries.len() as u64;
            session.due.size_bytes += lengths.sum::<usize>();
            if session.due.is_due(shared, taken.own > 0) {
                session.due = SnapshotDue::default();
                self.save(shared, &session);
            }
        }
    }

    /// Writes a snapshot beside everything else.
    fn save(&self, shared: &Shared, session: &Session) {
        let replica = {
            let state = self.lock();
            // What was decided alone is not of the log.
            if !state.is_online(session.id) {
                return;
            }
            state.replica.clone()
        };
        let epoch = session.epoch;
        let place = shared.place.clone();
        let stats = Arc::clone(&self.stats);
        let margin = shared.snapshot_entries;
        let snapshot_bytes = Arc::clone(&shared.snapshot_bytes);
        tokio::spawn(async move {
            match save(&place, epoch, replica, margin).await {
                Ok(Some(size_bytes)) => {
                    snapshot_bytes.store(size_bytes, Ordering::Relaxed);
                    stats.snapshots.increase();
                }
                Ok(None) => {}
                // The log is kept as long as there is none, and the next one comes.
                Err(error) => tracing::warn!("no snapshot of the store was written: {error}"),
            }
        });
    }
}

impl SnapshotDue {
    /// Whoever appended the entry that made it due writes it, so that not all do; when nobody has, anybody.
    fn is_due(&self, shared: &Shared, is_own: bool) -> bool {
        let snapshot_bytes = shared.snapshot_bytes.load(Ordering::Relaxed);
        let is_due = |entries: u64, size_bytes: usize| {
            let is_long = entries >= shared.snapshot_entries || size_bytes >= SNAPSHOT_BYTES;
            let is_worth_it = size_bytes.saturating_mul(SNAPSHOT_SHARE) >= snapshot_bytes;
            is_long && is_worth_it || entries >= ENTRIES_MAX
        };
        is_own && is_due(self.entries, self.size_bytes)
            || is_due(self.entries / 2, self.size_bytes / 2)
    }
}

/// What Redis holds, read up to its end.
enum Loaded {
    Whole(Replica),
    /// Entries are missing: this is what was before them.
    Torn(Replica),
}

async fn load(
    store: &Store,
    shared: &Shared,
    archive: &mut Archive,
    head: &Head,
) -> Result<Loaded, LogError> {
    let (epoch, text) = archive.snapshot().await?;
    if epoch != Some(head.epoch) {
        return Err(LogError::OtherEpoch);
    }
    let Some(text) = text else {
        return Ok(Loaded::Torn(Replica::default()));
    };
    shared.snapshot_bytes.store(text.len(), Ordering::Relaxed);
    let mut replica = read(text).await?;
    match catch_up(store, archive, &mut replica).await {
        Ok(()) if replica.position >= head.position && !head.is_overrun() => {
            Ok(Loaded::Whole(replica))
        }
        Ok(()) | Err(LogError::Gap(_)) => Ok(Loaded::Torn(replica)),
        Err(error) => Err(error),
    }
}

/// Reads to the end of the log.
async fn catch_up(
    store: &Store,
    archive: &mut Archive,
    replica: &mut Replica,
) -> Result<(), LogError> {
    loop {
        let page = archive.page(replica.position).await?;
        if page.is_empty() {
            return Ok(());
        }
        for entry in &page {
            replica.follow(entry, &store.timing)?;
        }
    }
}

/// Gives the snapshot's size, unless another gateway has written one lately.
async fn save(
    place: &Place,
    epoch: u64,
    replica: Replica,
    margin: u64,
) -> Result<Option<usize>, LogError> {
    let mut archive = place.archive().await?;
    let position = replica.position;
    let half = position.saturating_sub(margin / 2);
    if archive.saved().await?.is_some_and(|saved| saved > half) {
        return Ok(None);
    }
    let text = written(replica).await?;
    // Gateways that are a little behind read on.
    let keep = position.saturating_sub(margin);
    let is_saved = archive.save((epoch, position), &text, keep).await?;
    Ok(is_saved.then_some(text.len()))
}

/// Large grids take their time: not on a thread that serves calls.
async fn written(replica: Replica) -> Result<String, LogError> {
    let text = tokio::task::spawn_blocking(move || serde_json::to_string(&replica)).await;
    text.ok()
        .and_then(Result::ok)
        .ok_or(LogError::Unreadable("own replica"))
}

async fn read(text: String) -> Result<Replica, LogError> {
    let replica = tokio::task::spawn_blocking(move || serde_json::from_str(&text)).await;
    replica
        .ok()
        .and_then(Result::ok)
        .ok_or(LogError::Unreadable("snapshot"))
}
