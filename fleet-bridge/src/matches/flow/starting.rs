//! From a claimed server to a running match.

use std::time::Duration;

use serde_json::Map;

use super::{Halt, Step, Work, lease};
use crate::{
    matches::{
        claim::{self},
        record::{Hold, Next, Place, Reason, Stage},
        world::{Doing, Failed, Started, World},
    },
    model::Server,
};

/// Before a start without an answer is sent again.
const START_PAUSE: Duration = Duration::from_millis(100);

/// The longest of these.
const OCCUPIED_PAUSE_MAX: Duration = Duration::from_millis(200);

/// Between two looks whether the metadata says `occupied`; it doubles.
const OCCUPIED_PAUSE: Duration = Duration::from_millis(10);

impl<W: World> Work<'_, W> {
    /// Has the match started on the server that was claimed.
    pub(super) async fn start(&mut self, mut hold: Hold) -> Step {
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
    pub(super) async fn reserve(&self, hold: &Hold) -> bool {
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

    pub(super) async fn ask_to_start(&mut self, hold: &Hold) -> Result<Started, Halt> {
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
    pub(super) async fn confirm(&mut self, hold: &Hold) -> Result<Option<Server>, Halt> {
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

    pub(super) async fn run(&mut self, hold: Hold, server: &Server) -> Step {
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
}
