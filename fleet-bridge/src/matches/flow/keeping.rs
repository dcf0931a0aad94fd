//! The record: committed with every step, and read again when somebody else has changed it.

use super::{Halt, Step, Stop, Work, read_match};
use crate::{
    matches::{
        record::{Match, Stage, WORK_TIME, Worker},
        world::World,
    },
    store::{Commit, Committed, Key, NewEvent, Put, Version},
};

impl<W: World> Work<'_, W> {
    /// Stays the one who works on it, when that is about to end.
    pub(super) async fn keep(&mut self) -> Step {
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
    pub(super) async fn save(
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
    pub(super) async fn commit(
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

    pub(super) fn event(&self, next: &Match, kind: Option<&str>) -> Vec<NewEvent> {
        let kind = kind.filter(|_| !next.is_repair());
        kind.map(|kind| next.event(kind)).into_iter().collect()
    }

    /// Reads the record again, and says whether it has changed: then what to do must be decided anew. Whoever else has begun to work on it meanwhile has it.
    pub(super) async fn refresh(&mut self) -> Result<bool, Halt> {
        let read = read_match(self.world, &self.record.id).await?;
        let read = read.ok_or(Halt::Stop(Stop::Superseded))?;
        if read.version == self.version {
            return Ok(false);
        }
        let worker = read.value.worker;
        let is_others = worker.is_some_and(|it| it.id != self.me && it.until > self.world.now());
        if is_others || self.record.worker.is_some_and(|it| it.id == self.me) && worker.is_none() {
            return Err(Halt::Stop(Stop::Superseded));
        }
        self.record = read.value;
        self.version = read.version;
        Ok(true)
    }
}
