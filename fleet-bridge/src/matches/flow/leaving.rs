//! Giving a server back.

use serde_json::{Map, Value};

use super::{Halt, Step, Stop, Work, new_id, read_server};
use crate::matches::{
    claim::{self, Claim},
    record::{Hold, Match, Next, ServerClaim, Stage, Tried},
    world::{Doing, Failed, Finished, World},
};
use crate::model::Server;

impl<W: World> Work<'_, W> {
    pub(super) async fn leave_for(&mut self, next_step: Next) -> Step {
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
    pub(super) async fn give_back(&mut self, hold: Hold, next_step: Next) -> Step {
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
    pub(super) async fn put_off(&mut self, hold: Hold, next_step: Next) -> Step {
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
    pub(super) async fn finish(&self, hold: &Hold, next_step: Next) -> bool {
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
    pub(super) async fn clear(&self, hold: &Hold) -> bool {
        self.clear_metadata(hold).await
            && (!hold.is_allocated
                || self.world.deallocate(hold.server).await != Err(Failed::Unclear))
    }

    pub(super) async fn clear_metadata(&self, hold: &Hold) -> bool {
        let released = Claim::released(self.world.owner(), hold.fence);
        let mut claim = Map::from_iter([(claim::CLAIM_KEY.to_owned(), released)]);
        if hold.finish.is_none() {
            match self.world.read(hold.server).await {
                Err(Failed::Gone) => return true,
                Err(Failed::Unclear) => return false,
                // Somebody who does not know our store has claimed it since: hands off.
                Ok(server) if self.is_foreign(&server, hold) => return true,
                Ok(server) => match self.is_left_by_nobody(&server, hold).await {
                    Some(true) => {
                        let state = self.world.keys().instance_state.clone();
                        claim.insert(state, claim::IDLE.into());
                    }
                    Some(false) => {}
                    None => return false,
                },
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
                let running = claim::running_match(&server).filter(|id| !id.is_empty());
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

    /// Whether the metadata say that the server is taken, and nobody has it; `None` while the game server, whose word
    /// counts, cannot be asked.
    async fn is_left_by_nobody(&self, server: &Server, hold: &Hold) -> Option<bool> {
        let keys = self.world.keys();
        if !claim::is_empty(server, keys) {
            return Some(claim::state(server, keys) == claim::RESERVED);
        }
        if hold.api.is_empty() {
            return Some(true);
        }
        match self.world.doing(&hold.api).await {
            Doing::Nothing | Doing::Unknown => Some(true),
            Doing::Runs(_) => Some(false),
            Doing::Unclear => None,
        }
    }
}
