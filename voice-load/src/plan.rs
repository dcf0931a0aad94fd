//! What a run is to do: who is in which room, who talks when, over which transport. Pure: the same plan and seed make the
//! same run.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::relay::Link;

/// Shortest voice datagram, in bytes: the longest head and what a packet says about itself. Clients refuse less than 40.
pub const PACKET_BYTES_MIN: usize = 41;

/// Longest voice datagram that a voice server takes, in bytes.
pub const PACKET_BYTES_MAX: usize = 1_200;

/// Most peers of a run: each has a socket and two streams, and the system knows about 28,000 ephemeral ports.
pub const PEERS_MAX: u32 = 8_000;

/// Most packets of a talker in a second.
pub(crate) const RATE_MAX: u32 = 1_000;

/// Most looks at a run: an hour of one each second.
const LOOKS_MAX: u32 = 3_600;

/// When talkers talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// All the time
    Constant,
    /// In spurts with pauses, as people in a conversation
    Speech,
}

/// Where peers are and move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// All within hearing of each other
    Spot,
    /// Over a field in which each hears some
    Spread,
}

/// What carries a peer's voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A WebRTC data channel, as of web clients.
    DataChannel,
    /// Datagrams over QUIC, as of native clients.
    WebTransport,
    /// Plain UDP, to and from the floor relay.
    Floor,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Rooms.
    pub rooms: u32,
    /// Peers of each room.
    pub peers: u32,
    /// Those of them who talk.
    pub talkers: u32,
    /// Packets of a talker in a second.
    pub rate: u32,
    /// Bytes of a voice datagram, head and all.
    pub packet_bytes: usize,
    /// When they talk.
    pub pattern: Pattern,
    /// Peers that come in a second.
    pub ramp: f64,
    /// Talking before anything counts, in seconds.
    pub warm_up_s: f64,
    /// Talking that counts, in seconds.
    pub duration_s: f64,
    /// Nobody talks before everybody is in.
    pub is_ramp_silent: bool,
    /// After what counts, with fewer who talk, in seconds.
    pub then_s: f64,
    /// Those of each room who talk then.
    pub then_talkers: u32,
    /// Peers in a second that leave, and come again.
    pub churn: f64,
    /// Of a hundred peers, how many use a data channel; the others use WebTransport.
    pub data_channel_percent: u32,
    /// All of them use plain UDP instead.
    pub is_floor: bool,
    /// Position changes of each peer in a second.
    pub moves: f64,
    /// Where they are.
    pub place: Place,
    /// What chance follows from.
    pub seed: u64,
    /// The network between peers and server, where it is not the machine's own.
    pub link: Option<Link>,
    /// Seconds between two looks at the run while it counts; 0 is none.
    pub look_s: f64,
}

impl Plan {
    /// Everybody.
    pub fn peer_count(&self) -> u32 {
        self.rooms * self.peers
    }

    /// Everybody who talks.
    pub fn talker_count(&self) -> u32 {
        self.rooms * self.talkers
    }

    /// The room of a peer.
    pub fn room_of(&self, peer: u32) -> u32 {
        peer / self.peers
    }

    /// Its place among the talkers of its room, if it is one.
    pub fn talker_of(&self, peer: u32) -> Option<u32> {
        let place = peer % self.peers;
        (place < self.talkers).then_some(place)
    }

    /// Between two packets of a talker.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.rate
    }

    /// When in the interval a talker's packets go: all talkers of all rooms are spread evenly over it, neighbours in the
    /// order of time in different rooms.
    pub fn phase(&self, peer: u32) -> Duration {
        let slot = (peer % self.peers) * self.rooms + self.room_of(peer);
        self.interval() * slot / self.talker_count().max(1)
    }

    /// What carries this peer's voice. The shares are kept in every stretch of neighbours, so that talkers and
    /// listeners have them alike.
    pub fn transport(&self, peer: u32) -> Transport {
        let before = u64::from(peer) * u64::from(self.data_channel_percent) / 100;
        let after = (u64::from(peer) + 1) * u64::from(self.data_channel_percent) / 100;
        match (self.is_floor, after > before) {
            (true, _) => Transport::Floor,
            (false, true) => Transport::DataChannel,
            (false, false) => Transport::WebTransport,
        }
    }

    /// Packets in a second that reach a listener, all of them together, while all talkers talk and all hear each other.
    pub fn forwards_per_second(&self) -> u64 {
        let heard = u64::from(self.talkers) * u64::from(self.peers.saturating_sub(1));
        u64::from(self.rooms) * heard * u64::from(self.rate)
    }

    /// How often somebody looks; `None` when that is too often.
    pub(crate) fn looks(&self) -> Option<u32> {
        if self.look_s == 0.0 {
            return Some(0);
        }
        let looks = self.duration_s / self.look_s;
        let is_possible = self.look_s > 0.0 && looks <= f64::from(LOOKS_MAX);
        is_possible.then_some(looks as u32)
    }

    /// Why it cannot be run, if so.
    pub fn objection(&self) -> Option<String> {
        let percent = self.data_channel_percent;
        let wrong = [
            (
                self.rooms == 0 || self.peers < 2,
                "a room needs two peers, and a run a room".to_owned(),
            ),
            (
                u64::from(self.rooms) * u64::from(self.peers) > u64::from(PEERS_MAX),
                format!("more than {PEERS_MAX} peers"),
            ),
            (
                self.talkers > self.peers || self.then_talkers > self.talkers,
                "more talkers than peers, or then more than before".to_owned(),
            ),
            (
                !(1..=RATE_MAX).contains(&self.rate),
                format!("a rate beyond 1..={RATE_MAX}"),
            ),
            (
                !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&self.packet_bytes),
                format!("packets beyond {PACKET_BYTES_MIN}..={PACKET_BYTES_MAX} bytes"),
            ),
            (percent > 100, "more than 100 percent".to_owned()),
            (
                !(self.ramp > 0.0
                    && self.duration_s > 0.0
                    && self.warm_up_s >= 0.0
                    && self.then_s >= 0.0),
                "a time that is not positive".to_owned(),
            ),
            (
                self.is_floor && (self.churn > 0.0 || self.moves > 0.0),
                "the floor relay knows of nobody who moves or leaves".to_owned(),
            ),
            (
                !(self.churn >= 0.0 && self.moves >= 0.0),
                "a rate below zero".to_owned(),
            ),
            (
                self.looks().is_none(),
                format!("more than {LOOKS_MAX} looks"),
            ),
            (
                self.link.is_some_and(|it| it.objection().is_some()),
                (self.link.and_then(|it| it.objection()))
                    .unwrap_or_default()
                    .to_owned(),
            ),
        ];
        wrong
            .into_iter()
            .find_map(|(is_wrong, why)| is_wrong.then_some(why))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> Plan {
        Plan {
            rooms: 5,
            peers: 10,
            talkers: 2,
            rate: 50,
            packet_bytes: 100,
            pattern: Pattern::Constant,
            ramp: 100.0,
            warm_up_s: 0.0,
            duration_s: 1.0,
            is_ramp_silent: false,
            then_s: 0.0,
            then_talkers: 0,
            churn: 0.0,
            data_channel_percent: 100,
            is_floor: false,
            moves: 0.0,
            place: Place::Spot,
            seed: 1,
            link: None,
            look_s: 0.0,
        }
    }

    #[test]
    fn forwards_are_talkers_times_the_others() {
        assert_eq!(plan().forwards_per_second(), 5 * 2 * 9 * 50);
        let hall = Plan {
            rooms: 1,
            peers: 50,
            talkers: 32,
            ..plan()
        };
        assert_eq!(hall.forwards_per_second(), 78_400);
    }

    #[test]
    fn talkers_are_spread_evenly_and_over_rooms() {
        let plan = plan();
        let talkers = (0..plan.peer_count()).filter(|peer| plan.talker_of(*peer).is_some());
        let mut phases: Vec<_> = talkers
            .map(|it| (plan.phase(it), plan.room_of(it)))
            .collect();
        assert_eq!(phases.len(), 10);
        phases.sort();
        for (at, window) in phases.windows(2).enumerate() {
            assert_eq!(window[1].0 - window[0].0, Duration::from_millis(2), "{at}");
            assert_ne!(window[1].1, window[0].1, "{at}");
        }
        assert!(phases[9].0 < plan.interval());
    }

    #[test]
    fn transports_have_their_share_among_talkers_and_listeners() {
        let plan = Plan {
            data_channel_percent: 70,
            ..plan()
        };
        for room in 0..plan.rooms {
            let peers = room * plan.peers..(room + 1) * plan.peers;
            let web = peers.filter(|it| plan.transport(*it) == Transport::DataChannel);
            assert_eq!(web.count(), 7, "{room}");
        }
        for (percent, wanted) in [(0, Transport::WebTransport), (100, Transport::DataChannel)] {
            let plan = Plan {
                data_channel_percent: percent,
                ..plan.clone()
            };
            assert!((0..50).all(|it| plan.transport(it) == wanted));
        }
        let floor = Plan {
            is_floor: true,
            ..plan
        };
        assert_eq!(floor.transport(3), Transport::Floor);
    }

    #[test]
    fn a_plan_that_cannot_be_run_is_refused() {
        assert_eq!(plan().objection(), None);
        let wrong: [fn(&mut Plan); 12] = [
            |it| it.rooms = 0,
            |it| it.peers = 1,
            |it| it.talkers = 11,
            |it| it.rate = 0,
            |it| it.packet_bytes = 40,
            |it| it.rooms = 1_000,
            |it| it.duration_s = 0.0,
            |it| it.churn = f64::NAN,
            |it| it.look_s = 0.000_1,
            |it| it.look_s = f64::NAN,
            |it| it.then_s = -1.0,
            |it| it.then_talkers = 3,
        ];
        for (at, change) in wrong.iter().enumerate() {
            let mut plan = plan();
            change(&mut plan);
            assert!(plan.objection().is_some(), "{at}");
        }
    }
}
