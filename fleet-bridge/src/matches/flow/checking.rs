//! What the metadata say of a match, and putting right what they say wrongly.

use serde_json::{Map, json};

use super::{Stop, Work, lease};
use crate::{
    matches::{
        claim::{self, Claim, Judge},
        record::{Hold, Reason, Stage},
        world::{Doing, Failed, World},
    },
    model::Server,
};

impl<W: World> Work<'_, W> {
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

    pub(super) fn says_it_runs(&self, server: &Server) -> bool {
        claim::state(server, self.world.keys()) == claim::OCCUPIED
            && claim::running_match(server).is_none_or(|id| id == self.record.id)
    }

    pub(super) async fn write_running(&self, hold: &Hold) -> Result<Server, Failed> {
        let state = (
            self.world.keys().instance_state.clone(),
            json!(claim::OCCUPIED),
        );
        let running = ("match_id".to_owned(), json!(self.record.id));
        let claim = (claim::CLAIM_KEY.to_owned(), self.claim_of(hold).to_value());
        let picture = Map::from_iter([state, running, claim]);
        self.world.write(hold.server, picture).await
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

    pub(super) fn claim_of(&self, hold: &Hold) -> Claim {
        let now = self.world.now();
        let expires_at = now + self.world.pace().claim;
        let latest = expires_at + lease(&self.record);
        let lease_until = self.record.expires_at.unwrap_or(latest);
        Claim {
            owner: self.world.owner().to_owned(),
            match_id: self.record.id.clone(),
            fence: hold.fence,
            expires_at,
            lease_until,
        }
    }

    pub(super) fn is_claimed(&self, server: &Server, hold: &Hold) -> bool {
        Claim::read(&server.metadata).is_some_and(|claim| {
            claim.owner == self.world.owner()
                && claim.fence == hold.fence
                && claim.match_id == self.record.id
        })
    }

    pub(super) fn is_foreign(&self, server: &Server, hold: &Hold) -> bool {
        let judge = self.judge();
        Claim::read(&server.metadata).is_some_and(|claim| {
            (claim.owner != self.world.owner() || claim.fence > hold.fence)
                && judge.is_ahead(claim.expires_at)
        })
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            keys: self.world.keys(),
            owner: self.world.owner(),
            heartbeat: self.world.heartbeat(),
            now: self.world.now(),
        }
    }
}
