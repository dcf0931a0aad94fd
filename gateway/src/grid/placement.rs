//! Which server a room without one goes to.

use gateway_api::RoomHash;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Servers and how much room they have, as counted at a tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Weights(Vec<(String, f64)>);

impl Weights {
    /// A server's weight is what it has left: 1 when idle, 0 when full.
    pub(super) fn of<'a>(loads: impl Iterator<Item = (&'a str, f64)>) -> Self {
        let weight = |(address, load): (&str, f64)| (address.to_owned(), 1.0 - clamp(load));
        Self(loads.map(weight).collect())
    }

    /// A random one by weight. When none has anything left, the last: a full fleet still takes rooms.
    pub(super) fn roll(&self, random: u64) -> Option<&str> {
        let sum: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        // The upper 53 bits make a number from 0 to below 1 with every bit random.
        let mut point = (random >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        for (address, weight) in &self.0 {
            if point < *weight {
                return Some(address);
            }
            point -= weight;
        }
        self.0.last().map(|(address, _)| address.as_str())
    }
}

/// The server whose hash with the room's is highest. The load does not count: who decides alone does not know it well,
/// and all who decide alone must decide alike.
pub(super) fn by_hash<'a>(
    room: RoomHash,
    servers: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let score = |address: &&str| -> [u8; 32] {
        Sha256::new()
            .chain_update(room.as_bytes())
            .chain_update(address.as_bytes())
            .finalize()
            .into()
    };
    servers.max_by_key(score)
}

/// Loads come from outside: what is no number counts as full.
fn clamp(load: f64) -> f64 {
    if load.is_nan() {
        return 1.0;
    }
    load.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gateway_api::RoomId;

    use super::*;

    fn count<'a>(picks: impl Iterator<Item = Option<&'a str>>) -> BTreeMap<&'a str, u32> {
        let mut counts = BTreeMap::new();
        for pick in picks {
            *counts.entry(pick.unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn an_idle_server_gets_more_rooms_than_a_busy_one_and_a_full_one_none() {
        let loads = [
            ("busy", 0.75),
            ("full", 7.0),
            ("idle", -3.0),
            ("odd", f64::NAN),
        ];
        let weights = Weights::of(loads.into_iter());
        let mut random = fastrand::Rng::with_seed(1);
        let counts = count((0..10_000).map(|_| weights.roll(random.u64(..))));
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["busy", "idle"]);
        assert!((7_800..8_200).contains(&counts["idle"]), "{counts:?}");
    }

    #[test]
    fn a_full_fleet_still_takes_rooms() {
        let weights = Weights::of([("a", 1.0), ("b", 1.0)].into_iter());
        assert_eq!(weights.roll(u64::MAX), Some("b"));
        assert_eq!(Weights::default().roll(0), None);
    }

    #[test]
    fn the_hash_spreads_rooms_and_moves_only_those_of_a_lost_server() {
        let servers = ["a", "b", "c", "d"];
        let rooms: Vec<_> = (0..4_000)
            .map(|at| RoomId::from(("n".to_owned(), format!("r{at}"))).hash())
            .collect();
        let pick = |room: &RoomHash| by_hash(*room, servers.into_iter());
        let counts = count(rooms.iter().map(pick));
        assert!(
            counts.values().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
        for room in &rooms {
            let without = by_hash(*room, servers.into_iter().filter(|it| *it != "c"));
            if pick(room) != Some("c") {
                assert_eq!(without, pick(room));
            }
        }
    }
}
