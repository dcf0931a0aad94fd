//! Who may not come in, and which rooms are closed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{directory::RoomKey, limits::BANS_MAX};

/// Bans of users in rooms, and closed rooms. They outlive the room they are about.
#[derive(Debug, Default)]
pub struct Bans {
    users: HashMap<(RoomKey, String), Instant>,
    rooms: HashMap<RoomKey, Instant>,
}

impl Bans {
    /// Keeps a user out of a room for a time; a longer ban stays.
    pub fn ban(&mut self, now: Instant, room: &RoomKey, user_id: &str, time: Duration) {
        put(
            &mut self.users,
            now,
            (room.clone(), user_id.to_owned()),
            time,
        );
    }

    /// Keeps everybody out of a room for a time; a longer one stays.
    pub fn close(&mut self, now: Instant, room: &RoomKey, time: Duration) {
        put(&mut self.rooms, now, room.clone(), time);
    }

    /// Whether the user may not come in.
    pub fn is_banned(&self, now: Instant, room: &RoomKey, user_id: &str) -> bool {
        let key = (room.clone(), user_id.to_owned());
        self.users.get(&key).is_some_and(|end| *end > now)
    }

    /// Whether nobody may come in.
    pub fn is_closed(&self, now: Instant, room: &RoomKey) -> bool {
        self.rooms.get(room).is_some_and(|end| *end > now)
    }
}

/// No ban ends later than this, however long it was said to be: beyond it, clocks cannot count.
const BAN_TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn put<K: Clone + Eq + std::hash::Hash>(
    ends: &mut HashMap<K, Instant>,
    now: Instant,
    key: K,
    time: Duration,
) {
    if time.is_zero() {
        return;
    }
    if ends.len() >= BANS_MAX && !ends.contains_key(&key) {
        ends.retain(|_, end| *end > now);
        if ends.len() >= BANS_MAX {
            let first = ends.iter().min_by_key(|(_, end)| **end);
            let first = first.map(|(key, _)| key.clone());
            first.and_then(|key| ends.remove(&key));
        }
    }
    let end = now + time.min(BAN_TIME_MAX);
    let known = ends.entry(key).or_insert(end);
    *known = end.max(*known);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{directory::room, room::origin};

    #[test]
    fn a_ban_holds_for_its_time_its_room_and_its_user() {
        let now = origin();
        let mut bans = Bans::default();
        bans.ban(now, &room("a"), "bob", Duration::from_secs(10));
        bans.ban(now, &room("a"), "bob", Duration::from_secs(5));
        bans.close(now, &room("b"), Duration::from_secs(10));
        bans.ban(now, &room("c"), "bob", Duration::ZERO);
        let almost = now + Duration::from_millis(9_999);
        assert!(
            bans.is_banned(almost, &room("a"), "bob"),
            "the shorter ban ends nothing"
        );
        assert!(!bans.is_banned(almost, &room("a"), "alice"));
        assert!(!bans.is_banned(almost, &room("b"), "bob"));
        assert!(
            !bans.is_banned(now, &room("c"), "bob"),
            "no time is only a kick"
        );
        assert!(bans.is_closed(almost, &room("b")) && !bans.is_closed(almost, &room("a")));
        let after = now + Duration::from_secs(10);
        assert!(!bans.is_banned(after, &room("a"), "bob") && !bans.is_closed(after, &room("b")));
    }

    #[test]
    fn a_ban_for_ever_is_a_long_one() {
        let now = origin();
        let mut bans = Bans::default();
        bans.ban(now, &room("a"), "bob", Duration::MAX);
        assert!(bans.is_banned(now + BAN_TIME_MAX / 2, &room("a"), "bob"));
    }

    #[test]
    fn too_many_bans_forget_the_one_that_ends_first() {
        let now = origin();
        let mut bans = Bans::default();
        for user in 0..BANS_MAX {
            bans.ban(
                now,
                &room("a"),
                &user.to_string(),
                Duration::from_secs(1_000 + user as u64),
            );
        }
        bans.ban(now, &room("a"), "bob", Duration::from_secs(10));
        assert!(!bans.is_banned(now, &room("a"), "0"));
        assert!(bans.is_banned(now, &room("a"), "1") && bans.is_banned(now, &room("a"), "bob"));
        assert_eq!(bans.users.len(), BANS_MAX);
    }
}
