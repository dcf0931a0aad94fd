//! The steps of a match: find a server, claim it, have the match started, and give the server back. Each step is
//! committed before the next one, so that any bridge can go on where another one stopped.
//!
//! Who wants to take a step commits it against the version it has seen. Two bridges that work on the same match, or
//! want the same server, cannot both succeed; what they do outside the store is harmless twice (the same match under
//! the same fence) or fenced off (a lower fence).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    claim::{self, Claim, Judge, Verdict},
    record::{
        Hold, Match, Next, Place, Read, Reason, ServerClaim, Stage, Tried, WORK_TIME, Worker,
    },
    world::{Doing, Failed, Finished, Started, World},
};
use crate::{
    model::Server,
    store::{Commit, Committed, Key, NewEvent, Put, Timestamp, Unavailable, Version},
};

/// Most servers that are tried at one look: the list grows old while they are.
const CLAIMS_MAX: usize = 16;

/// Between two looks for a free server.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks whether the metadata says `occupied`; it doubles.
const OCCUPIED_PAUSE: Duration = Duration::from_millis(10);

/// The longest of these.
const OCCUPIED_PAUSE_MAX: Duration = Duration::from_millis(200);

/// Between two looks for a server for a match that nobody waits for: one that is being started takes a minute and more.
const BACKGROUND_PAUSE: Duration = Duration::from_secs(1);

/// Between two times that a location setting is scaled up for one match: a server that was asked for should be up by
/// then, or somebody else has got it.
pub(super) const SCALE_PAUSE: Duration = Duration::from_secs(60);

/// Before a start without an answer is sent again.
const START_PAUSE: Duration = Duration::from_millis(100);

/// Why work on a match stopped before it was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The store is away. Whoever finds it back goes on.
    #[error(transparent)]
    Away(#[from] Unavailable),
    /// Somebody else works on it.
    #[error("somebody else works on the match")]
    Superseded,
    /// The server cannot be given back now; that is tried again later.
    #[error("the server cannot be given back yet")]
    PutOff,
    /// No server is free for a match that nobody waits for; that is looked for again later.
    #[error("no server is free yet")]
    Waits,
}

/// Why a step was not taken.
#[derive(Debug)]
enum Halt {
    Stop(Stop),
    /// The record has changed and been read again: what to do must be decided anew.
    Changed,
}

impl From<Unavailable> for Halt {
    fn from(error: Unavailable) -> Self {
        Self::Stop(Stop::Away(error))
    }
}

type Step = Result<(), Halt>;

/// Work on one match.
#[derive(Debug)]
pub(crate) struct Work<'w, W> {
    world: &'w W,
    me: u64,
    pub(crate) record: Match,
    version: Version,
}

/// Reads a match.
///
/// # Errors
/// The store is away.
pub(crate) async fn read_match<W: World>(
    world: &W,
    id: &str,
) -> Result<Option<Read<Match>>, Unavailable> {
    let document = world
        .load(&[Key::Match(id.to_owned())])
        .await?
        .pop()
        .flatten();
    document.map(|document| parse(&document)).transpose()
}

/// Reads what the store knows of a server, and under which version; `None` where it knows nothing.
///
/// # Errors
/// The store is away.
pub(crate) async fn read_server<W: World>(
    world: &W,
    id: i64,
) -> Result<(ServerClaim, Option<Version>), Unavailable> {
    match world.load(&[Key::Server(id)]).await?.pop().flatten() {
        None => Ok((ServerClaim::default(), None)),
        Some(document) => {
            let read = parse(&document)?;
            Ok((read.value, Some(read.version)))
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    document: &crate::store::Document,
) -> Result<Read<T>, Unavailable> {
    let value = serde_json::from_str(&document.text);
    let value = value.map_err(|error| Unavailable::unreadable(&error))?;
    let version = document.version;
    Ok(Read { value, version })
}

impl<'w, W: World> Work<'w, W> {
    /// Work on a match that has been read. Nothing is claimed by that.
    pub(crate) fn on(world: &'w W, read: Read<Match>) -> Self {
        Self {
            world,
            me: world.random(),
            record: read.value,
            version: read.version,
        }
    }

    /// Work on a match that the store does not know yet.
    ///
    /// # Errors
    /// The store is away. `Ok(None)`: a document is not as expected.
    pub(crate) async fn create(
        world: &'w W,
        mut record: Match,
        expect: Vec<(Key, Option<Version>)>,
        server: Option<(Put, Option<Version>)>,
    ) -> Result<Option<Self>, Unavailable> {
        let me = world.random();
        let until = world.now() + WORK_TIME;
        // Work in the background belongs to whoever finds it due.
        record.worker = (record.background.is_none()).then_some(Worker { id: me, until });
        let keep = world.pace().keep;
        let mut commit = Commit {
            id: world.random(),
            expect,
            put: vec![record.put(keep)],
            events: Vec::new(),
        };
        commit.put.extend(record.put_key(keep));
        if !record.is_repair() {
            commit.events.push(record.event("match.created"));
        }
        if let Some((put, expected)) = server {
            commit.expect.push((put.key.clone(), expected));
            commit.put.push(put);
        }
        Ok(match world.commit(&commit).await? {
            Committed::Conflict => None,
            Committed::Done => Some(Self {
                world,
                me,
                record,
                version: Version(commit.id),
            }),
        })
    }

    /// Works until the match runs or is over. Whoever else worked on it is superseded.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) async fn drive(&mut self) -> Result<(), Stop> {
        loop {
            let step = match &self.record.stage {
                Stage::Seeking => self.seek().await,
                Stage::Claimed(hold) => {
                    let hold = hold.clone();
                    self.start(hold).await
                }
                Stage::Running(_) => match self.record.must_end(self.world.now()) {
                    Some(reason) => self.leave_for(Next::End(reason)).await,
                    None => return Ok(()),
                },
                Stage::Leaving { hold, next } => {
                    let (hold, next) = (hold.clone(), *next);
                    self.give_back(hold, next).await
                }
                Stage::Ended(_) => return Ok(()),
            };
            match step {
                Ok(()) | Err(Halt::Changed) => {}
                Err(Halt::Stop(stop)) => return Err(stop),
            }
        }
    }

    /// Works until the match runs or is over; one that came to nothing is begun anew.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) async fn obtain(&mut self, give_up_at: Timestamp) -> Result<(), Stop> {
        if self.record.came_to_nothing() {
            let mut next = self.record.clone();
            next.reopen(give_up_at);
            match self.save(next, None, Some("match.created")).await {
                Ok(()) => {}
                Err(Halt::Changed) => return Err(Stop::Superseded),
                Err(Halt::Stop(stop)) => return Err(stop),
            }
        }
        self.drive().await
    }

    /// Ends a running match for this reason, if it still is what has been read.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) async fn end(&mut self, reason: Reason) -> Result<(), Stop> {
        if let Stage::Running(hold) = &mut self.record.stage
            && matches!(reason, Reason::Finished | Reason::Lost)
        {
            hold.finish = None;
        }
        match self.leave_for(Next::End(reason)).await {
            Ok(()) => self.drive().await,
            Err(Halt::Changed) => Err(Stop::Superseded),
            Err(Halt::Stop(stop)) => Err(stop),
        }
    }

    /// Writes the record as it should be; `false` when it is not any more what has been read.
    ///
    /// # Errors
    /// The store is away.
    pub(crate) async fn replace(&self, next: &Match, kind: &str) -> Result<bool, Unavailable> {
        let commit = Commit {
            id: self.world.random(),
            expect: vec![(Key::Match(next.id.clone()), Some(self.version))],
            put: vec![next.put(self.world.pace().keep)],
            events: self.event(next, Some(kind)),
        };
        Ok(self.world.commit(&commit).await? == Committed::Done)
    }

    /// Ends the match for this reason, whatever it is doing. Where somebody else works on it, that work is told.
    ///
    /// # Errors
    /// [`Stop`]; after [`Stop::Superseded`] the record should be read again.
    pub(crate) async fn stop(&mut self, reason: Reason) -> Result<(), Stop> {
        let now = self.world.now();
        let is_worked_on = self.record.worker.is_some_and(|worker| now < worker.until);
        match &self.record.stage {
            Stage::Ended(_) => Ok(()),
            Stage::Running(_) => self.end(reason).await,
            _ if !is_worked_on => {
                self.record.ending.get_or_insert(reason);
                self.drive().await
            }
            _ => {
                if self.record.ending.is_none() {
                    let mut next = self.record.clone();
                    next.ending = Some(reason);
                    match self.commit(next, Vec::new(), None).await {
                        Ok(()) | Err(Halt::Changed) => {}
                        Err(Halt::Stop(stop)) => return Err(stop),
                    }
                }
                Err(Stop::Superseded)
            }
        }
    }

    /// Why the work has to end now.
    fn must_end(&self) -> Option<Reason> {
        if self.world.is_abandoned() && self.record.background.is_none() {
            return Some(Reason::Cancelled);
        }
        self.record.must_end(self.world.now())
    }

    async fn seek(&mut self) -> Step {
        self.refresh().await?;
        if let Some(reason) = self.must_end() {
            let mut next = self.record.clone();
            next.stage = Stage::Ended(reason);
            return self.save(next, None, Some("match.ended")).await;
        }
        let candidates = self.world.candidates(&self.record).await;
        for server in candidates.into_iter().take(CLAIMS_MAX) {
            if self.claim(server).await? {
                return Ok(());
            }
            if self.must_end().is_some() {
                return Ok(());
            }
        }
        if self.record.background.is_some() {
            return self.wait().await;
        }
        self.keep().await?;
        let jitter = LOOK_PAUSE.mul_f64((self.world.random() % 1000) as f64 / 1000.0);
        self.world.sleep(LOOK_PAUSE + jitter).await;
        Ok(())
    }

    /// Leaves a match that nobody waits for to the next look, after having one more server started for it where that is
    /// due. That is written down first: whoever goes on does not do it again at once.
    async fn wait(&mut self) -> Step {
        let now = self.world.now();
        let mut next = self.record.clone();
        if let Some(background) = &mut next.background
            && background.may_scale
            && background
                .scaled_at
                .is_none_or(|before| before + SCALE_PAUSE <= now)
        {
            background.scaled_at = Some(now);
            self.save(next, None, None).await?;
            self.world.scale_up(&self.record).await;
            next = self.record.clone();
        }
        next.worker = None;
        next.retry_at = Some(self.world.now() + BACKGROUND_PAUSE);
        self.commit(next, Vec::new(), None).await?;
        Err(Halt::Stop(Stop::Waits))
    }

    /// Claims a server in the store, if it is free there and in its metadata.
    async fn claim(&mut self, id: i64) -> Result<bool, Halt> {
        let (known, version) = read_server(self.world, id).await?;
        if known.match_id.is_some() {
            return Ok(false);
        }
        let is_ours = self.claim_free(id, known, version).await;
        let is_left = matches!(is_ours, Ok(false) | Err(Halt::Changed));
        if self.world.allocates() && is_left {
            // What fails here is found by the sweep, as is a server whose claim nobody knows the end of: one that is
            // allocated and that nobody has.
            let _ = self.world.deallocate(id).await;
        }
        is_ours
    }

    async fn claim_free(
        &mut self,
        id: i64,
        known: ServerClaim,
        version: Option<Version>,
    ) -> Result<bool, Halt> {
        // Read after the document: whoever changes the server from here on changes the document first, and then the
        // commit below fails.
        let Ok(server) = self.world.read(id).await else {
            return Ok(false);
        };
        if self.judge().verdict(&server, known.fence) != Verdict::Free {
            return Ok(false);
        }
        let Some(api) = self.world.match_api(&server) else {
            return Ok(false);
        };
        let fence = known
            .fence
            .max(claim::fence(&server.metadata))
            .saturating_add(1);
        let mut next = self.record.clone();
        next.stage = Stage::Claimed(Hold {
            server: id,
            fence,
            api,
            is_allocated: self.world.allocates(),
            finish: None,
        });
        let claimed = ServerClaim {
            fence,
            match_id: Some(next.id.clone()),
        };
        let before = self.version;
        match self
            .save(next, Some((claimed.put(id), version)), None)
            .await
        {
            Ok(()) => Ok(true),
            // Somebody else got the server; this match is as it was.
            Err(Halt::Changed) if self.version == before => Ok(false),
            Err(halt) => Err(halt),
        }
    }

    /// Has the match started on the server that was claimed.
    async fn start(&mut self, mut hold: Hold) -> Step {
        if let Some(reason) = self.must_end() {
            return self.leave_for(Next::End(reason)).await;
        }
        if hold.finish.is_none() {
            if !hold.is_allocated && !self.reserve(&hold).await {
                return self.leave_for(Next::Seek).await;
            }
            hold.finish = Some(self.record.id.clone());
            let mut next = self.record.clone();
            next.stage = Stage::Claimed(hold.clone());
            self.save(next, None, None).await?;
        }
        match self.ask_to_start(&hold).await? {
            Started::Yes => {}
            Started::Refused | Started::Unclear => return self.leave_for(Next::Seek).await,
            Started::Rejected(why) => {
                self.record.failure = Some(why);
                return self.leave_for(Next::End(Reason::Failed)).await;
            }
        }
        match self.confirm(&hold).await? {
            Some(server) => self.run(hold, &server).await,
            None => self.leave_for(Next::Seek).await,
        }
    }

    /// Writes the claim into the metadata and reads it back. `false`: somebody else has the server.
    async fn reserve(&self, hold: &Hold) -> bool {
        let state = (
            self.world.keys().instance_state.clone(),
            claim::RESERVED.into(),
        );
        let claim = (claim::CLAIM_KEY.to_owned(), self.claim_of(hold).to_value());
        let written = self
            .world
            .write(hold.server, Map::from_iter([state, claim]))
            .await;
        if written.is_err() {
            return false;
        }
        let Ok(server) = self.world.read(hold.server).await else {
            return false;
        };
        let is_taken = claim::state(&server, self.world.keys()) == claim::OCCUPIED
            && claim::running_match(&server) != Some(&self.record.id);
        self.is_claimed(&server, hold) && !is_taken
    }

    async fn ask_to_start(&mut self, hold: &Hold) -> Result<Started, Halt> {
        for attempt in 0..self.world.pace().start_attempts {
            if attempt > 0 {
                self.world.sleep(START_PAUSE).await;
            }
            self.keep().await?;
            let started = self.world.start(&hold.api, hold.fence, &self.record).await;
            if started != Started::Unclear {
                return Ok(started);
            }
        }
        Ok(Started::Unclear)
    }

    /// Waits until the metadata says that the match runs. What was written late can say otherwise for ever; then the
    /// game server's own word counts, and the metadata is put right.
    async fn confirm(&mut self, hold: &Hold) -> Result<Option<Server>, Halt> {
        let give_up_at = self.world.now() + self.world.pace().occupied;
        let mut pause = OCCUPIED_PAUSE;
        loop {
            match self.world.read(hold.server).await {
                Ok(server)
                    if self.says_it_runs(&server)
                        && (hold.is_allocated || self.is_claimed(&server, hold)) =>
                {
                    return Ok(Some(server));
                }
                Ok(_) if pause > OCCUPIED_PAUSE => {
                    if self.world.doing(&hold.api).await == Doing::Runs(self.record.id.clone())
                        && let Ok(server) = self.write_running(hold).await
                    {
                        return Ok(Some(server));
                    }
                }
                Err(Failed::Gone) => return Ok(None),
                Ok(_) | Err(Failed::Unclear) => {}
            }
            if self.world.now() >= give_up_at {
                return Ok(None);
            }
            self.keep().await?;
            self.world.sleep(pause).await;
            pause = (pause * 2).min(OCCUPIED_PAUSE_MAX);
        }
    }

    async fn run(&mut self, hold: Hold, server: &Server) -> Step {
        let now = self.world.now();
        let mut next = self.record.clone();
        next.stage = Stage::Running(hold);
        next.started_at = Some(now);
        next.expires_at = Some(now + lease(&self.record));
        next.place = Place::of(server, self.world.keys());
        if next.place.is_none() {
            return self.leave_for(Next::Seek).await;
        }
        next.voice = self.world.plan_voice(&next, server);
        next.worker = None;
        self.save(next, None, Some("match.running")).await
    }

    async fn leave_for(&mut self, next_step: Next) -> Step {
        let mut next = self.record.clone();
        if let (Some(hold), Next::Seek) = (next.hold(), next_step) {
            let now = self.world.now();
            let until = now + self.world.pace().avoid;
            let server = hold.server;
            next.tried
                .retain(|tried| tried.until > now && tried.server != server);
            next.tried.push(Tried { server, until });
        }
        next.leave(next_step);
        let kind = matches!(next_step, Next::End(_)).then_some("match.ending");
        self.save(next, None, kind).await
    }

    /// Gives the server back: the match is finished there, its metadata say that it is free, and then it is free in
    /// the store.
    async fn give_back(&mut self, hold: Hold, next_step: Next) -> Step {
        if let (Next::Seek, Some(reason)) = (next_step, self.must_end()) {
            let mut next = self.record.clone();
            next.leave(Next::End(reason));
            return self.save(next, None, Some("match.ending")).await;
        }
        self.keep().await?;
        if !self.finish(&hold, next_step).await || !self.clear(&hold).await {
            return self.put_off(hold, next_step).await;
        }
        let mut next = self.record.clone();
        let mut kind = None;
        next.stage = match next_step {
            Next::Seek => Stage::Seeking,
            Next::End(reason) => {
                if self.record.voice.is_some() {
                    self.world.close_voice(&self.record).await;
                }
                kind = Some("match.ended");
                Stage::Ended(reason)
            }
        };
        let (known, version) = read_server(self.world, hold.server).await?;
        if known.match_id.as_deref() != Some(&self.record.id) {
            // Only a store that was changed by hand, or lost, says so.
            return self.save(next, None, kind).await;
        }
        let free = ServerClaim {
            fence: known.fence.max(hold.fence),
            match_id: None,
        };
        self.save(next, Some((free.put(hold.server), version)), kind)
            .await
    }

    /// The server cannot be given back now. A match that looks for another one goes on without it: what is left to do
    /// becomes a piece of work of its own.
    async fn put_off(&mut self, hold: Hold, next_step: Next) -> Step {
        let now = self.world.now();
        let mut next = self.record.clone();
        if next_step != Next::Seek {
            next.put_off(now);
            next.worker = None;
            self.commit(next, Vec::new(), None).await?;
            return Err(Halt::Stop(Stop::PutOff));
        }
        let server = hold.server;
        let (known, version) = read_server(self.world, server).await?;
        let mut repair = Match::repair(new_id(now, self.world.random()), hold, now);
        repair.put_off(now);
        let handed_over = ServerClaim {
            fence: known.fence,
            match_id: Some(repair.id.clone()),
        };
        next.stage = Stage::Seeking;
        let repair = (repair.put(self.world.pace().keep), None);
        self.commit(next, vec![repair, (handed_over.put(server), version)], None)
            .await
    }

    /// Whether the match certainly does not run there any more.
    async fn finish(&self, hold: &Hold, next_step: Next) -> bool {
        let Some(match_id) = &hold.finish else {
            return true;
        };
        let outcome = match next_step {
            Next::Seek => "abandoned",
            Next::End(reason) => reason.label(),
        };
        match self
            .world
            .finish(&hold.api, hold.fence, match_id, outcome)
            .await
        {
            Finished::Yes | Finished::Another => true,
            Finished::Unclear => match self.world.read(hold.server).await {
                Err(Failed::Gone) => true,
                Err(Failed::Unclear) => false,
                // Nobody answers there: what the Fleet says must do.
                Ok(server) => {
                    let state = claim::state(&server, self.world.keys());
                    let is_idle =
                        state == claim::IDLE && claim::running_match(&server) != Some(match_id);
                    !server.is_up() || is_idle
                }
            },
        }
    }

    /// Whether the metadata certainly do not hold our claim any more.
    async fn clear(&self, hold: &Hold) -> bool {
        self.clear_metadata(hold).await
            && (!hold.is_allocated
                || self.world.deallocate(hold.server).await != Err(Failed::Unclear))
    }

    async fn clear_metadata(&self, hold: &Hold) -> bool {
        let released = Claim::released(self.world.owner(), hold.fence);
        let mut claim = Map::from_iter([(claim::CLAIM_KEY.to_owned(), released)]);
        if hold.finish.is_none() {
            match self.world.read(hold.server).await {
                Err(Failed::Gone) => return true,
                Err(Failed::Unclear) => return false,
                // Somebody who does not know our store has claimed it since: hands off.
                Ok(server) if self.is_foreign(&server, hold) => return true,
                Ok(server) if claim::state(&server, self.world.keys()) == claim::RESERVED => {
                    claim.insert(self.world.keys().instance_state.clone(), claim::IDLE.into());
                }
                Ok(_) => {}
            }
        }
        let server = match self.world.write(hold.server, claim).await {
            Err(Failed::Gone) => return true,
            Err(Failed::Unclear) => return false,
            Ok(server) => server,
        };
        let is_left = match claim::state(&server, self.world.keys()) {
            claim::RESERVED => true,
            claim::OCCUPIED => {
                let running = claim::running_match(&server);
                hold.finish.is_some() && running.is_none_or(|id| Some(id) == hold.finish.as_deref())
            }
            _ => false,
        };
        if !is_left {
            return true;
        }
        let state = (
            self.world.keys().instance_state.clone(),
            Value::from(claim::IDLE),
        );
        let written = self.world.write(hold.server, Map::from_iter([state])).await;
        !matches!(written, Err(Failed::Unclear))
    }

    /// Looks whether a running match still runs, and puts right what its metadata say wrongly.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) async fn check(&mut self) -> Result<(), Stop> {
        let Stage::Running(hold) = self.record.stage.clone() else {
            return Ok(());
        };
        let server = match self.world.read(hold.server).await {
            Err(Failed::Gone) => return self.end(Reason::Lost).await,
            Err(Failed::Unclear) => return Ok(()),
            Ok(server) => server,
        };
        if self.says_it_runs(&server) {
            let is_claimed = hold.is_allocated || self.is_claimed(&server, &hold);
            if !is_claimed && !self.is_foreign(&server, &hold) {
                // Tried again at the next look.
                let _ = self.write_running(&hold).await;
            }
            return Ok(());
        }
        let state = claim::state(&server, self.world.keys());
        let is_finished =
            state == claim::IDLE && claim::running_match(&server) != Some(&self.record.id);
        let is_known = matches!(state, claim::IDLE | claim::OCCUPIED | claim::RESERVED);
        match self.world.doing(&hold.api).await {
            Doing::Runs(id) if id == self.record.id => {
                let _ = self.write_running(&hold).await;
                Ok(())
            }
            Doing::Runs(_) | Doing::Nothing => self.end(Reason::Finished).await,
            Doing::Unknown | Doing::Unclear if is_finished => self.end(Reason::Finished).await,
            Doing::Unknown | Doing::Unclear if !is_known || !server.is_up() => {
                self.end(Reason::Lost).await
            }
            Doing::Unknown | Doing::Unclear => Ok(()),
        }
    }

    fn says_it_runs(&self, server: &Server) -> bool {
        claim::state(server, self.world.keys()) == claim::OCCUPIED
            && claim::running_match(server).is_none_or(|id| id == self.record.id)
    }

    async fn write_running(&self, hold: &Hold) -> Result<Server, Failed> {
        let state = (
            self.world.keys().instance_state.clone(),
            json!(claim::OCCUPIED),
        );
        let claim = (claim::CLAIM_KEY.to_owned(), self.claim_of(hold).to_value());
        self.world
            .write(hold.server, Map::from_iter([state, claim]))
            .await
    }

    /// Writes the claim anew: its lease has been renewed.
    pub(crate) async fn write_claim(&self) -> Result<(), Failed> {
        let Some(hold) = self.record.hold() else {
            return Ok(());
        };
        let claim = (claim::CLAIM_KEY.to_owned(), self.claim_of(hold).to_value());
        self.world
            .write(hold.server, Map::from_iter([claim]))
            .await?;
        Ok(())
    }

    fn claim_of(&self, hold: &Hold) -> Claim {
        let now = self.world.now();
        let expires_at = now + self.world.pace().claim;
        let lease_until = self
            .record
            .expires_at
            .unwrap_or(expires_at + lease(&self.record));
        Claim {
            owner: self.world.owner().to_owned(),
            match_id: self.record.id.clone(),
            fence: hold.fence,
            expires_at,
            lease_until,
        }
    }

    fn is_claimed(&self, server: &Server, hold: &Hold) -> bool {
        Claim::read(&server.metadata).is_some_and(|claim| {
            claim.owner == self.world.owner()
                && claim.fence == hold.fence
                && claim.match_id == self.record.id
        })
    }

    fn is_foreign(&self, server: &Server, hold: &Hold) -> bool {
        let judge = self.judge();
        Claim::read(&server.metadata).is_some_and(|claim| {
            (claim.owner != self.world.owner() || claim.fence > hold.fence)
                && judge.is_ahead(claim.expires_at)
        })
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            keys: self.world.keys(),
            owner: self.world.owner(),
            heartbeat: self.world.heartbeat(),
            now: self.world.now(),
        }
    }

    /// Stays the one who works on it, when that is about to end.
    async fn keep(&mut self) -> Step {
        let half_later = self.world.now() + WORK_TIME / 2;
        let is_mine = self
            .record
            .worker
            .is_some_and(|it| it.id == self.me && it.until > half_later);
        if is_mine {
            return Ok(());
        }
        let next = self.record.clone();
        self.save(next, None, None).await
    }

    /// Commits what the match is from now on, together with the document of a server.
    async fn save(
        &mut self,
        mut next: Match,
        server: Option<(Put, Option<Version>)>,
        kind: Option<&str>,
    ) -> Step {
        let until = self.world.now() + WORK_TIME;
        let is_resting = matches!(next.stage, Stage::Running(_) | Stage::Ended(_));
        next.worker = (!is_resting).then_some(Worker { id: self.me, until });
        next.retry_at = None;
        self.commit(next, server.into_iter().collect(), kind).await
    }

    /// Commits the record as it is, together with documents of which each must have the version that is named.
    async fn commit(
        &mut self,
        mut next: Match,
        others: Vec<(Put, Option<Version>)>,
        kind: Option<&str>,
    ) -> Step {
        let now = self.world.now();
        if matches!(next.stage, Stage::Ended(_)) {
            next.ended_at.get_or_insert(now);
        }
        let keep = self.world.pace().keep;
        let mut commit = Commit {
            id: self.world.random(),
            expect: vec![(Key::Match(next.id.clone()), Some(self.version))],
            put: vec![next.put(keep)],
            events: self.event(&next, kind),
        };
        let was_over = matches!(self.record.stage, Stage::Ended(_));
        if was_over != matches!(next.stage, Stage::Ended(_)) {
            commit.put.extend(next.put_key(keep));
        }
        if next.is_made() && !self.record.is_made() {
            commit.put.extend(next.put_delivery(now));
        }
        for (put, expected) in others {
            commit.expect.push((put.key.clone(), expected));
            commit.put.push(put);
        }
        match self.world.commit(&commit).await? {
            Committed::Done => {
                self.record = next;
                self.version = Version(commit.id);
                Ok(())
            }
            Committed::Conflict => {
                self.refresh().await?;
                Err(Halt::Changed)
            }
        }
    }

    fn event(&self, next: &Match, kind: Option<&str>) -> Vec<NewEvent> {
        let kind = kind.filter(|_| !next.is_repair());
        kind.map(|kind| next.event(kind)).into_iter().collect()
    }

    /// Reads the record again. Whoever else has begun to work on it meanwhile has it.
    async fn refresh(&mut self) -> Step {
        let read = read_match(self.world, &self.record.id).await?;
        let read = read.ok_or(Halt::Stop(Stop::Superseded))?;
        if read.version == self.version {
            return Ok(());
        }
        let worker = read.value.worker;
        let is_others = worker.is_some_and(|it| it.id != self.me && it.until > self.world.now());
        if is_others || self.record.worker.is_some_and(|it| it.id == self.me) && worker.is_none() {
            return Err(Halt::Stop(Stop::Superseded));
        }
        self.record = read.value;
        self.version = read.version;
        Ok(())
    }
}

/// An id for a match: those made later sort later.
pub(crate) fn new_id(now: Timestamp, random: u64) -> String {
    format!("m-{:011x}{random:016x}", now.0)
}

fn lease(record: &Match) -> Duration {
    Duration::from_secs(record.request.lease_seconds.unwrap_or_default())
}
