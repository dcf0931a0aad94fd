//! Who is muted in which room, until when and why. Like bans, mutes outlive the room they are about.

use std::{collections::HashMap, time::Instant};

use crate::{directory::RoomKey, limits::MUTES_MAX};

/// A user who is not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mute {
    /// Who.
    pub user_id: String,
    /// The only user who does not hear; `None` is everybody.
    pub listener_id: Option<String>,
    /// Until when.
    pub end: Instant,
    /// What whoever asked for it gave as reason.
    pub reason: String,
}

/// As many users are muted as are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server remembers as many mutes as it can")]
pub struct TooManyMutes;

/// The mutes of all rooms.
#[derive(Debug, Default)]
pub(crate) struct Mutes {
    rooms: HashMap<RoomKey, HashMap<Pair, (Instant, String)>>,
    count: usize,
}

/// Who is not heard, and by whom.
type Pair = (String, Option<String>);

impl Mutes {
    /// Remembers mutes, all or none; what was said before about the same two is forgotten.
    ///
    /// # Errors
    /// [`TooManyMutes`].
    pub(crate) fn put(
        &mut self,
        now: Instant,
        room: &RoomKey,
        mutes: Vec<Mute>,
    ) -> Result<(), TooManyMutes> {
        if self.count + mutes.len() > MUTES_MAX {
            self.forget_ended(now);
        }
        if self.count + mutes.len() > MUTES_MAX {
            return Err(TooManyMutes);
        }
        if mutes.is_empty() {
            return Ok(());
        }
        let of_room = self.rooms.entry(room.clone()).or_default();
        let before = of_room.len();
        for mute in mutes {
            of_room.insert((mute.user_id, mute.listener_id), (mute.end, mute.reason));
        }
        self.count += of_room.len() - before;
        Ok(())
    }

    /// Forgets a mute. `false` when there was none.
    pub(crate) fn take_back(
        &mut self,
        now: Instant,
        room: &RoomKey,
        user_id: &str,
        listener_id: Option<&str>,
    ) -> bool {
        let Some(of_room) = self.rooms.get_mut(room) else {
            return false;
        };
        let pair = (user_id.to_owned(), listener_id.map(str::to_owned));
        let Some((end, _)) = of_room.remove(&pair) else {
            return false;
        };
        self.count -= 1;
        if of_room.is_empty() {
            self.rooms.remove(room);
        }
        end > now
    }

    /// The mutes in a room that a user is one of the two of, and that have not ended.
    pub(crate) fn concerning(&self, now: Instant, room: &RoomKey, user_id: &str) -> Vec<Mute> {
        let of_room = self.rooms.get(room).into_iter().flatten();
        let concerning = of_room.filter(|((talker, listener), (end, _))| {
            *end > now && (talker == user_id || listener.as_deref() == Some(user_id))
        });
        concerning
            .map(|((talker, listener), (end, reason))| Mute {
                user_id: talker.clone(),
                listener_id: listener.clone(),
                end: *end,
                reason: reason.clone(),
            })
            .collect()
    }

    fn forget_ended(&mut self, now: Instant) {
        self.rooms.retain(|_, of_room| {
            of_room.retain(|_, (end, _)| *end > now);
            !of_room.is_empty()
        });
        self.count = self.rooms.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{directory::room, room::origin};

    fn mute(user_id: &str, listener_id: Option<&str>, end: Instant) -> Mute {
        Mute {
            user_id: user_id.to_owned(),
            listener_id: listener_id.map(str::to_owned),
            end,
            reason: format!("because of {user_id}"),
        }
    }

    #[test]
    fn a_mute_is_remembered_until_it_ends_or_is_taken_back() {
        let now = origin();
        let end = now + Duration::from_secs(10);
        let mut mutes = Mutes::default();
        let for_all = mute("bob", None, end);
        let for_one = mute("bob", Some("alice"), end + Duration::from_secs(1));
        let both = vec![for_all, for_one.clone()];
        mutes.put(now, &room("a"), both).unwrap();
        assert_eq!(mutes.concerning(now, &room("a"), "bob").len(), 2);
        assert_eq!(mutes.concerning(now, &room("b"), "bob"), []);
        assert_eq!(mutes.concerning(now, &room("a"), "carol"), []);
        assert_eq!(
            mutes.concerning(now, &room("a"), "alice"),
            std::slice::from_ref(&for_one)
        );
        assert_eq!(mutes.concerning(end, &room("a"), "bob"), [for_one]);
        let shorter = mute("bob", None, now + Duration::from_secs(1));
        mutes.put(now, &room("a"), vec![shorter.clone()]).unwrap();
        assert!(mutes.take_back(now, &room("a"), "bob", Some("alice")));
        assert!(!mutes.take_back(now, &room("a"), "bob", Some("alice")));
        assert!(!mutes.take_back(now, &room("b"), "bob", None));
        assert_eq!(mutes.concerning(now, &room("a"), "bob"), [shorter]);
        assert!(
            !mutes.take_back(end, &room("a"), "bob", None),
            "it had ended"
        );
        assert_eq!((mutes.count, mutes.rooms.len()), (0, 0));
    }

    #[test]
    fn only_so_many_are_remembered_and_ended_ones_make_room() {
        let now = origin();
        let end = now + Duration::from_secs(10);
        let mut mutes = Mutes::default();
        let all = (1..MUTES_MAX).map(|user| mute(&user.to_string(), None, end));
        mutes.put(now, &room("a"), all.collect()).unwrap();
        let later = |user| mute(user, None, end + Duration::from_secs(1));
        let two_more = vec![later("bob"), later("carol")];
        let refused = mutes.put(now, &room("b"), two_more);
        assert_eq!(refused, Err(TooManyMutes));
        assert_eq!(mutes.concerning(now, &room("b"), "bob"), [], "all or none");
        assert_eq!(mutes.put(now, &room("b"), vec![later("bob")]), Ok(()));
        assert_eq!(mutes.put(end, &room("b"), vec![later("carol")]), Ok(()));
        assert_eq!(
            (
                mutes.concerning(end, &room("b"), "carol").len(),
                mutes.count
            ),
            (1, 2)
        );
    }
}
