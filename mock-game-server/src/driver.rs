//! The one task that owns the [`Lifecycle`]: commands come in one by one, each is written to Fleet before the next
//! is looked at, and whatever could not be written is tried again until it is. Two starts at the same moment
//! cannot both win, and a caller that hangs up half-way does not leave a half-done change.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ExitState},
    error::ServerError,
    fleet::Instance,
    journal::{Event, Journal},
    lifecycle::{Change, Command, Decision, Lifecycle, Metadata, OUTCOME_ABORTED, Reply, State},
    ping::Standing,
};

/// Commands that wait while an update is on its way, at most. One matchmaker sends one at a time; beyond this
/// something is wrong and callers are told to come back.
const COMMANDS_MAX: usize = 64;

/// Time for one update with all its retries: a matchmaker waits for the answer.
const UPDATE_TIME_MAX: Duration = Duration::from_secs(8);

/// Time for the last update. Container platforms kill a process 10 s after they have asked it to end.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(5);

/// Wait before a failed update is tried again in the background: doubles, with jitter, up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY_FIRST: Duration = Duration::from_secs(1);

/// Longest such wait. A server that is free again should not stay out of matchmaking much longer than an outage.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);

/// Written as `last_outcome` of a match that finished by itself.
const OUTCOME_TIME_LIMIT: &str = "time-limit";

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Fleet did not take the update; nothing has changed here.
    #[error(transparent)]
    Fleet(fleet_client::Error),
    /// Too many commands wait.
    #[error("too many requests are waiting")]
    Busy,
    /// The program is ending.
    #[error("this server is ending")]
    Ending,
}

/// Where commands are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Game(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    command: Command,
    answer: oneshot::Sender<Result<Reply, Failure>>,
}

impl Game {
    pub(crate) async fn ask(&self, command: Command) -> Result<Reply, Failure> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.try_send(Request { command, answer });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Busy,
            mpsc::error::TrySendError::Closed(_) => Failure::Ending,
        })?;
        answered.await.unwrap_or(Err(Failure::Ending))
    }
}

/// Owner of the lifecycle and its timers.
#[derive(Debug)]
pub(crate) struct Driver {
    lifecycle: Lifecycle,
    instance: Instance,
    journal: Journal,
    requests: mpsc::Receiver<Request>,
    standing: watch::Sender<Standing>,
    match_duration: Option<Duration>,
    exit_state: ExitState,
    /// When the running match is to be finished, or its finish tried again.
    match_ends: Option<Instant>,
    /// When to write the whole picture, because Fleet may have another one.
    announce_at: Option<Instant>,
    delays: ExponentialBackoff,
}

impl Driver {
    pub(crate) fn new(
        config: &Config,
        lifecycle: Lifecycle,
        instance: Instance,
        journal: Journal,
    ) -> (Self, Game, watch::Receiver<Standing>) {
        let (sender, requests) = mpsc::channel(COMMANDS_MAX);
        let (standing, seen) = watch::channel(standing_of(&lifecycle));
        let driver = Self {
            lifecycle,
            instance,
            journal,
            requests,
            standing,
            match_duration: config.match_duration,
            exit_state: config.exit_state,
            match_ends: None,
            announce_at: None,
            delays: delays(),
        };
        (driver, Game(sender), seen)
    }

    /// Marks the server idle. A Fleet that is away will hear of it later.
    ///
    /// # Errors
    /// When the Fleet refuses: it would refuse later, too.
    pub(crate) async fn announce(&mut self) -> Result<(), ServerError> {
        match self.write(self.lifecycle.announcement()).await {
            Err(error) if error.is_final() => return Err(ServerError::Announce(error)),
            Err(_) | Ok(()) => {}
        }
        // True even if the Fleet was away: nothing runs here.
        self.journal.write(Event::Idle {
            match_id: "",
            fence: None,
        });
        Ok(())
    }

    /// Carries out commands until told to stop, and then takes the server out of matchmaking.
    ///
    /// # Errors
    /// When the Fleet does not take the last update: the instance then looks as it did before.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), fleet_client::Error> {
        // An update that is on its way is not waited for: the last one says everything that it would have said.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        // Nothing may change after the farewell: whoever still waits is told that the server is ending.
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            // The caller may have gone.
            let _ = request.answer.send(Err(Failure::Ending));
        }
        let farewell = self.lifecycle.farewell(self.exit_state);
        self.instance.merge(farewell, FAREWELL_TIME_MAX).await?;
        if let State::Occupied(aborted) = self.lifecycle.state() {
            self.journal.write(Event::Finish {
                match_id: &aborted.id,
                fence: aborted.fence,
                reason: OUTCOME_ABORTED,
            });
        }
        Ok(())
    }

    async fn serve(&mut self) {
        loop {
            let timer = [self.match_ends, self.announce_at]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                biased;
                () = reached(timer) => self.on_timer().await,
                request = self.requests.recv() => {
                    let Some(Request { command, answer }) = request else { return };
                    let result = self.carry_out(command).await;
                    // The caller may have gone; the change stands, and the same command again is harmless.
                    let _ = answer.send(result);
                }
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<Reply, Failure> {
        let asked = Asked::of(&command);
        let decision = self.lifecycle.decide(command);
        // A refusal, too, may have brought a newer fence.
        self.standing.send_replace(standing_of(&self.lifecycle));
        match decision {
            Decision::Answer(reply) => {
                self.note_refusal(&asked, &reply);
                Ok(reply)
            }
            Decision::Publish(mut change) => {
                let update = std::mem::take(&mut change.update);
                self.write(update).await.map_err(Failure::Fleet)?;
                Ok(self.commit(change, &asked))
            }
        }
    }

    async fn on_timer(&mut self) {
        if self.match_ends.is_none_or(|ends| ends > Instant::now()) {
            // Its failure has been logged and has set the next time.
            let _ = self.write(self.lifecycle.announcement()).await;
            return;
        }
        let finish = Command::Finish {
            match_id: String::new(),
            outcome: OUTCOME_TIME_LIMIT.to_owned(),
            fence: None,
        };
        if self.carry_out(finish).await.is_err() {
            // Tried again in place of the announcement that the failure has put off.
            self.match_ends = self.announce_at;
        }
    }

    /// Writes to the Fleet. After a failure it may have the old picture or the new one, so the one that holds here
    /// is written again later.
    async fn write(&mut self, update: Metadata) -> Result<(), fleet_client::Error> {
        let result = self.instance.merge(update, UPDATE_TIME_MAX).await;
        match &result {
            Ok(()) => {
                self.announce_at = None;
                self.delays = delays();
            }
            Err(error) => {
                let delay = self
                    .delays
                    .next()
                    .unwrap_or(RETRY_DELAY_MAX)
                    .min(RETRY_DELAY_MAX);
                let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(%error, retry_in_ms, "the metadata could not be written");
                self.announce_at = Some(Instant::now() + delay);
            }
        }
        result
    }

    fn commit(&mut self, change: Change, asked: &Asked) -> Reply {
        let before = self.lifecycle.state().running();
        let ended = before.map(|it| (it.id.clone(), it.fence));
        let reply = self.lifecycle.commit(change);
        match reply {
            Reply::Started => self.match_ends = self.match_duration.map(|it| Instant::now() + it),
            Reply::Finished => self.match_ends = None,
            Reply::PlayersUpdated | Reply::Occupied { .. } | Reply::StaleFence | Reply::NoMatch => {
            }
        }
        let state = self.lifecycle.state();
        tracing::info!(
            state = state.label(),
            match_id = state.running().map(|it| &*it.id),
            players = state.running().map(|it| it.player_count),
            "metadata written"
        );
        self.note_change(&reply, asked, ended);
        self.standing.send_replace(standing_of(&self.lifecycle));
        reply
    }

    fn note_change(
        &mut self,
        reply: &Reply,
        asked: &Asked,
        ended: Option<(Arc<str>, Option<u64>)>,
    ) {
        let Asked {
            match_id, fence, ..
        } = asked;
        match (reply, ended) {
            (Reply::Started, _) => self.journal.write(Event::Start {
                match_id,
                fence: *fence,
            }),
            (Reply::Finished, Some((match_id, fence))) => self.journal.write(Event::Finish {
                match_id: &match_id,
                fence,
                reason: &asked.outcome,
            }),
            (Reply::Finished, None) => self.journal.write(Event::Idle {
                match_id,
                fence: *fence,
            }),
            _ => {}
        }
    }

    fn note_refusal(&mut self, asked: &Asked, reply: &Reply) {
        let Some(reason) = reply.refusal() else {
            return;
        };
        let running = self.lifecycle.state().running();
        self.journal.write(Event::Refused {
            match_id: &asked.match_id,
            fence: asked.fence,
            call: asked.call,
            reason,
            running: running.map(|it| &*it.id),
        });
    }
}

/// What the journal says about a command.
struct Asked {
    call: &'static str,
    match_id: Arc<str>,
    fence: Option<u64>,
    outcome: String,
}

impl Asked {
    fn of(command: &Command) -> Self {
        let (call, match_id, fence, outcome) = match command {
            Command::Start(wanted) => ("start", wanted.id.clone(), wanted.fence, ""),
            Command::Finish {
                match_id,
                outcome,
                fence,
            } => ("finish", match_id.as_str().into(), *fence, outcome.as_str()),
            Command::Players(_) => ("players", "".into(), None, ""),
        };
        Self {
            call,
            match_id,
            fence,
            outcome: outcome.to_owned(),
        }
    }
}

fn standing_of(lifecycle: &Lifecycle) -> Standing {
    let state = lifecycle.state();
    Standing {
        state: state.label(),
        match_id: state.running().map(|it| it.id.clone()),
        fence: lifecycle.fence(),
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(RETRY_DELAY_FIRST)
        .with_max_delay(RETRY_DELAY_MAX)
        .without_max_times()
        .with_jitter()
        .build()
}

async fn reached(timer: Option<Instant>) {
    match timer {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
