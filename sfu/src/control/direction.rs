//! What game servers say of the users in their rooms, and what gateways say of who is muted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::{
    Directed, Directive, Mute, Pair, Position, Refusal, RoomInfo, RoomKey, RoomNumber, TooManyMutes,
};
use tokio::sync::oneshot;

use super::Control;
use crate::shard::{DirectRequest, Overloaded, Request};

/// How long a room without peers stays what its game server has made of it, after the server's last word: longer than a game
/// server takes to start again, or players to come.
const KEPT_TIME: Duration = Duration::from_secs(600);

/// Between two looks at whether such a room is over.
const KEPT_LOOK: Duration = Duration::from_secs(5);

/// No mute ends later than this: ten years, as at the gateway.
pub(crate) const MUTE_TIME_MAX: Duration = Duration::from_secs(315_360_000);

/// A mute that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MuteOrder {
    pub(crate) user_id: String,
    /// The only user who does not hear; `None` is everybody.
    pub(crate) listener_id: Option<String>,
    pub(crate) time: Duration,
    pub(crate) reason: String,
}

impl MuteOrder {
    fn end(&self, now: Instant) -> Instant {
        now + self.time.min(MUTE_TIME_MAX)
    }
}

/// The room that a direction is about.
struct Concerned {
    room: RoomNumber,
    /// Whose it is, if it is kept without peers.
    kept_for: Option<Arc<str>>,
}

/// What is said of a room's users at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Direction {
    /// With a list the room is the game server's: clients do not say any more where they are.
    pub(crate) positions: Option<Vec<(Arc<str>, Option<Position>)>>,
    pub(crate) mutes: Vec<MuteOrder>,
    /// Who is heard again, and by whom only.
    pub(crate) unmutes: Vec<(String, Option<String>)>,
}

impl Direction {
    /// A user is not heard.
    pub(crate) fn mute(order: MuteOrder) -> Self {
        Self {
            mutes: vec![order],
            ..Self::default()
        }
    }

    /// A user is heard again, by this listener only or by those whom no other mute is about.
    pub(crate) fn unmute(user_id: String, listener_id: Option<String>) -> Self {
        Self {
            unmutes: vec![(user_id, listener_id)],
            ..Self::default()
        }
    }
}

/// Why nothing of it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DirectionError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    TooManyMutes(#[from] TooManyMutes),
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

impl Control {
    /// Does what is said, and waits until it is done.
    ///
    /// # Errors
    /// [`DirectionError`].
    pub(crate) async fn direct(
        &self,
        key: &RoomKey,
        customer: &str,
        direction: Direction,
    ) -> Result<Directed, DirectionError> {
        let now = Instant::now();
        let shard = self.shard_of(key);
        let order = self.directions[shard.index()].lock().await;
        let remembered = self.remember(now, key, customer, &direction)?;
        let Some(Concerned { room, kept_for }) = remembered else {
            // Nobody is there whom it concerns now.
            return Ok(Directed::default());
        };
        let info = kept_for.map(|customer| RoomInfo {
            name: Arc::from(key.name.as_str()),
            customer,
            user_data: Bytes::new(),
        });
        let (done, is_done) = oneshot::channel();
        let request = DirectRequest {
            room,
            kept: info.map(|info| (self.metrics.customer(&info.customer, now), info)),
            directive: directive(now, direction),
            done: Some(done),
        };
        let request = Request::Direct(Box::new(request));
        let submitted = self.shard(shard).submit(request).await;
        drop(order);
        submitted?;
        is_done
            .await
            .map_err(|_| DirectionError::Overloaded(Overloaded))
    }

    /// A user has come into a room: its shard is told what was said of the user before.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub(crate) async fn direct_newcomer(
        &self,
        key: &RoomKey,
        room: RoomNumber,
        user_id: &str,
    ) -> Result<(), Overloaded> {
        // What is said from now on finds the user in the room.
        if self.mutes_of(key, user_id).is_empty() {
            return Ok(());
        }
        let shard = self.shard_of(key);
        let _order = self.directions[shard.index()].lock().await;
        let mutes = self.mutes_of(key, user_id).into_iter();
        let directive = Directive {
            mutes: mutes
                .map(|it| (pair(it.user_id, it.listener_id), it.end))
                .collect(),
            ..Directive::default()
        };
        let request = DirectRequest {
            room,
            kept: None,
            directive,
            done: None,
        };
        let request = Request::Direct(Box::new(request));
        self.shard(shard).submit(request).await
    }

    fn mutes_of(&self, key: &RoomKey, user_id: &str) -> Vec<Mute> {
        let directory = self.directory();
        directory.mutes_concerning(Instant::now(), key, user_id)
    }

    /// What has to hold for whoever comes later. Gives the room, if there is one.
    fn remember(
        &self,
        now: Instant,
        key: &RoomKey,
        customer: &str,
        direction: &Direction,
    ) -> Result<Option<Concerned>, DirectionError> {
        let mutes = direction.mutes.iter().map(|order| Mute {
            user_id: order.user_id.clone(),
            listener_id: order.listener_id.clone(),
            end: order.end(now),
            reason: order.reason.clone(),
        });
        let mut directory = self.directory();
        let governed = match direction.positions {
            Some(_) => Some(directory.govern(now, key, customer, KEPT_TIME)?),
            None => None,
        };
        let known = directory.room(key);
        directory.mute(now, key, mutes.collect())?;
        for (user_id, listener_id) in &direction.unmutes {
            directory.unmute(now, key, user_id, listener_id.as_deref());
        }
        let kept_for = governed.map(|(_, customer)| customer);
        Ok(known.map(|room| Concerned { room, kept_for }))
    }

    /// Ends rooms that nobody is in and whose game server says nothing any more. Does not end by itself.
    pub(crate) async fn end_kept_rooms(&self) {
        loop {
            tokio::time::sleep(KEPT_LOOK).await;
            let ended = self.directory().end_kept(Instant::now());
            for (key, room) in ended {
                self.submit(&key, Request::End(room)).await;
            }
        }
    }
}

fn directive(now: Instant, direction: Direction) -> Directive {
    let mute = |order: MuteOrder| {
        let end = order.end(now);
        (pair(order.user_id, order.listener_id), end)
    };
    let unmutes = direction.unmutes.into_iter();
    Directive {
        positions: direction.positions,
        mutes: direction.mutes.into_iter().map(mute).collect(),
        unmutes: unmutes
            .map(|(user_id, listener_id)| pair(user_id, listener_id))
            .collect(),
    }
}

fn pair(talker: String, listener: Option<String>) -> Pair {
    Pair {
        talker: Arc::from(talker),
        listener: listener.map(Arc::from),
    }
}
