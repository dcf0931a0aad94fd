//! The steps of a match: find a server, claim it, have the match started, and give the server back. Each step is
//! committed before the next one, so that any bridge can go on where another one stopped.
//!
//! Who wants to take a step commits it against the version it has seen. Two bridges that work on the same match, or
//! want the same server, cannot both succeed; what they do outside the store is harmless twice (the same match under
//! the same fence) or fenced off (a lower fence).

mod checking;
mod keeping;
mod leaving;
mod seeking;
mod starting;

use std::time::Duration;

#[cfg(test)]
pub(super) use self::seeking::SCALE_PAUSE;
use super::{
    record::{Match, Next, Reason, ServerClaim, Stage, WORK_TIME, Worker},
    world::World,
};
use crate::store::{Commit, Committed, Key, Put, Timestamp, Unavailable, Version};

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

/// A document with the version under which it was read.
#[derive(Clone, Debug)]
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) version: Version,
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
}

/// An id for a match: those made later sort later.
pub(crate) fn new_id(now: Timestamp, random: u64) -> String {
    format!("m-{:011x}{random:016x}", now.0)
}

fn lease(record: &Match) -> Duration {
    Duration::from_secs(record.request.lease_seconds.unwrap_or_default())
}
