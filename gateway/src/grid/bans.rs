//! Who is shut out of a room, and until when. Voice servers keep bans of their own; the gateway's make them hold for a
//! room that moves to another server.

use std::{collections::HashMap, fmt, time::Duration};

use gateway_api::{RoomHash, RoomId, Task};
use serde::{Deserialize, Serialize};

use super::{Refused, Timestamp};

/// Most bans a pool remembers, users and rooms together.
pub const BANS_MAX: usize = 100_000;

/// Who is shut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// Everybody.
    Room {
        /// The room's name.
        room: String,
        /// How long still, in whole seconds, rounded up.
        seconds: u64,
    },
    /// This user.
    User {
        /// The room's name.
        room: String,
        /// How long still, in whole seconds, rounded up.
        seconds: u64,
    },
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room { room, seconds } => {
                write!(f, "room {room:?} is closed for another {seconds} s")
            }
            Self::User { room, seconds } => {
                write!(
                    f,
                    "user is banned from room {room:?} for another {seconds} s"
                )
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ban {
    room: RoomId,
    /// `None` is everybody.
    user: Option<String>,
    until: Timestamp,
    /// The server that was told last.
    server: String,
}

/// The bans of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bans {
    rooms: HashMap<RoomHash, Vec<Ban>>,
    /// Of all rooms.
    count: usize,
}

impl Bans {
    /// Remembers what a task for this server shuts out. A ban is never shortened: who kicks a user without a time does
    /// not mean to lift the user's ban.
    pub(super) fn remember(
        &mut self,
        task: &Task,
        server: &str,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let (user, time) = match task {
            Task::RoomClose { ban_time, .. } => (None, ban_time),
            Task::RoomBanClient {
                user_id, ban_time, ..
            } => (Some(user_id.clone()), ban_time),
            Task::RoomUpdate { .. }
            | Task::RoomSendMessage { .. }
            | Task::RoomMuteClient { .. }
            | Task::RoomUnmuteClient { .. } => return Ok(()),
        };
        let time = Duration::from(*time);
        if time.is_zero() {
            return Ok(());
        }
        let until = now.after(time);
        let room = task.room();
        let is_full = self.count >= BANS_MAX;
        let bans = self.rooms.entry(room.hash()).or_default();
        match bans
            .iter_mut()
            .find(|ban| ban.room == *room && ban.user == user)
        {
            Some(ban) => {
                ban.until = ban.until.max(until);
                server.clone_into(&mut ban.server);
            }
            None if is_full => return Err(Refused::Full("bans")),
            None => {
                self.count += 1;
                bans.push(Ban {
                    room: room.clone(),
                    user,
                    until,
                    server: server.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Why a user may not enter a room now.
    pub(super) fn barred(&self, room: &RoomId, user: &str, now: Timestamp) -> Option<Barred> {
        let bans = self.rooms.get(&room.hash())?;
        let holds = |ban: &&Ban| {
            ban.room == *room
                && ban.until > now
                && ban.user.as_ref().is_none_or(|banned| banned == user)
        };
        let ban = bans.iter().filter(holds).max_by_key(|ban| ban.until)?;
        let name = room.name.clone();
        let seconds = ban.until.0.saturating_sub(now.0).div_ceil(1000);
        Some(match ban.user {
            None => Barred::Room {
                room: name,
                seconds,
            },
            Some(_) => Barred::User {
                room: name,
                seconds,
            },
        })
    }

    /// What a server must be told that has just got the rooms of this hash.
    pub(super) fn follow(&mut self, hash: RoomHash, server: &str, now: Timestamp) -> Vec<Task> {
        let bans = self
            .rooms
            .get_mut(&hash)
            .map_or(&mut [][..], Vec::as_mut_slice);
        let mut tasks = Vec::new();
        for ban in bans.iter_mut() {
            if ban.until <= now || ban.server == server {
                continue;
            }
            server.clone_into(&mut ban.server);
            let id = ban.room.clone();
            let ban_time = ban.until.since(now).into();
            tasks.push(match &ban.user {
                None => Task::RoomClose { id, ban_time },
                Some(user) => Task::RoomBanClient {
                    id,
                    user_id: user.clone(),
                    ban_time,
                },
            });
        }
        tasks
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.rooms.retain(|_, bans| {
            bans.retain(|ban| ban.until > now);
            !bans.is_empty()
        });
        self.count = self.rooms.values().map(Vec::len).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}
