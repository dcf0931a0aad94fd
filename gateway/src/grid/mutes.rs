//! Who is not heard in a room, by whom, and until when. Voice servers carry it out; the gateway makes it hold for a room
//! that moves to another server, and for a server that was started anew.

use std::collections::HashMap;

use gateway_api::{RoomHash, RoomId, Task};
use serde::{Deserialize, Serialize};

use super::{Refused, Timestamp};

/// Most mutes a pool remembers, for everybody and for single listeners together: as many as bans.
pub const MUTES_MAX: usize = 100_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mute {
    room: RoomId,
    user: String,
    /// `None` is everybody.
    listener: Option<String>,
    until: Timestamp,
    reason: String,
    /// The server that was told last; `None` when it has forgotten.
    server: Option<String>,
}

impl Mute {
    fn is_about(&self, room: &RoomId, user: &str, listener: Option<&str>) -> bool {
        self.room == *room && self.user == user && self.listener.as_deref() == listener
    }

    fn hand_over(&mut self, server: &str, now: Timestamp) -> Handover {
        let task = Task::RoomMuteClient {
            id: self.room.clone(),
            user_id: self.user.clone(),
            listener_id: self.listener.clone(),
            mute_time: self.until.since(now).into(),
            reason: self.reason.clone(),
        };
        let lifted = Task::RoomUnmuteClient {
            id: self.room.clone(),
            user_id: self.user.clone(),
            listener_id: self.listener.clone(),
        };
        let from = self.server.replace(server.to_owned());
        Handover {
            task,
            from: from.map(|server| (server, lifted)),
        }
    }
}

/// A mute that goes along with its room.
#[derive(Debug)]
pub(super) struct Handover {
    /// For the server that has the room now.
    pub(super) task: Task,
    /// The server that was told before, and what it is told now: it would go by an old word if the room came back.
    pub(super) from: Option<(String, Task)>,
}

/// The mutes of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mutes {
    rooms: HashMap<RoomHash, Vec<Mute>>,
    /// Of all rooms.
    count: usize,
}

impl Mutes {
    /// Remembers what a task for this server mutes, in place of what was said of the same two before, or forgets what it
    /// takes back.
    pub(super) fn remember(
        &mut self,
        task: &Task,
        server: &str,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let Task::RoomMuteClient {
            id,
            user_id,
            listener_id,
            mute_time,
            reason,
        } = task
        else {
            self.take_back(task);
            return Ok(());
        };
        let is_full = self.count >= MUTES_MAX;
        let mute = Mute {
            room: id.clone(),
            user: user_id.clone(),
            listener: listener_id.clone(),
            until: now.after((*mute_time).into()),
            reason: reason.clone(),
            server: Some(server.to_owned()),
        };
        let mutes = self.rooms.entry(id.hash()).or_default();
        let listener = listener_id.as_deref();
        match mutes
            .iter_mut()
            .find(|it| it.is_about(id, user_id, listener))
        {
            Some(earlier) => *earlier = mute,
            None if is_full => return Err(Refused::Full("mutes")),
            None => {
                self.count += 1;
                mutes.push(mute);
            }
        }
        Ok(())
    }

    /// Forgets what a task takes back, if it does and there is such a mute.
    pub(super) fn take_back(&mut self, task: &Task) {
        let Some((hash, at)) = self.find(task) else {
            return;
        };
        let Some(mutes) = self.rooms.get_mut(&hash) else {
            return;
        };
        mutes.remove(at);
        if mutes.is_empty() {
            self.rooms.remove(&hash);
        }
        self.count -= 1;
    }

    /// The server that was told of the mute that a task takes back, if it does and there is such a mute.
    pub(super) fn told(&self, task: &Task) -> Option<Option<&str>> {
        let (hash, at) = self.find(task)?;
        Some(self.rooms.get(&hash)?.get(at)?.server.as_deref())
    }

    /// Where the mute is that a task takes back.
    fn find(&self, task: &Task) -> Option<(RoomHash, usize)> {
        let Task::RoomUnmuteClient {
            id,
            user_id,
            listener_id,
        } = task
        else {
            return None;
        };
        let hash = id.hash();
        let listener = listener_id.as_deref();
        let mut mutes = self.rooms.get(&hash)?.iter();
        let at = mutes.position(|it| it.is_about(id, user_id, listener))?;
        Some((hash, at))
    }

    /// What a server must be told that has the rooms of this hash. What is not taken is still to be told.
    pub(super) fn follow(
        &mut self,
        hash: RoomHash,
        server: &str,
        now: Timestamp,
    ) -> impl Iterator<Item = Handover> {
        let mutes = self.rooms.get_mut(&hash);
        let mutes = mutes.map_or(&mut [][..], Vec::as_mut_slice).iter_mut();
        mutes
            .filter(move |it| it.until > now && it.server.as_deref() != Some(server))
            .map(move |it| it.hand_over(server, now))
    }

    /// This server was started anew, and knows of no mutes.
    pub(super) fn forgotten_by(&mut self, server: &str) {
        for mute in self.rooms.values_mut().flatten() {
            if mute.server.as_deref() == Some(server) {
                mute.server = None;
            }
        }
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.rooms.retain(|_, mutes| {
            mutes.retain(|mute| mute.until > now);
            !mutes.is_empty()
        });
        self.count = self.rooms.values().map(Vec::len).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn room() -> RoomId {
        ("ns".to_owned(), "room".to_owned()).into()
    }

    fn mute(user: &str, secs: u64) -> Task {
        Task::RoomMuteClient {
            id: room(),
            user_id: user.to_owned(),
            listener_id: None,
            mute_time: Duration::from_secs(secs).into(),
            reason: String::new(),
        }
    }

    #[test]
    fn no_more_mutes_are_taken_than_can_be_remembered() {
        let mut mutes = Mutes {
            count: MUTES_MAX - 1,
            ..Mutes::default()
        };
        let mut remember = |task: &Task| mutes.remember(task, "a:1", NOW);
        assert_eq!(remember(&mute("bob", 60)), Ok(()));
        assert_eq!(remember(&mute("eve", 60)), Err(Refused::Full("mutes")));
        assert_eq!(remember(&mute("bob", 90)), Ok(()), "it is there already");
        let unmute = Task::RoomUnmuteClient {
            id: room(),
            user_id: "bob".to_owned(),
            listener_id: None,
        };
        assert_eq!(remember(&unmute), Ok(()));
        assert_eq!(remember(&mute("eve", 60)), Ok(()), "there is room again");
    }

    #[test]
    fn the_count_is_that_of_the_mutes_that_are_there() {
        let mut mutes = Mutes::default();
        for (user, secs) in [("a", 10), ("b", 20), ("c", 30), ("a", 40)] {
            mutes.remember(&mute(user, secs), "a:1", NOW).unwrap();
        }
        assert_eq!(mutes.len(), 3);
        mutes.expire(NOW.after(Duration::from_secs(20)));
        assert_eq!(mutes.len(), 2);
        for user in ["a", "c", "c"] {
            let task = Task::RoomUnmuteClient {
                id: room(),
                user_id: user.to_owned(),
                listener_id: None,
            };
            mutes.take_back(&task);
        }
        assert_eq!(mutes, Mutes::default());
    }
}
