//! Rooms whose game server says where users are and who does not hear whom.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::limits::PLACES_MAX;

fn positions(places: &[(&str, Option<f64>)]) -> Directive {
    let place = |(user, x): &(&str, Option<f64>)| (Arc::from(*user), x.map(at));
    Directive {
        positions: Some(places.iter().map(place).collect()),
        ..Directive::default()
    }
}

fn pair(talker: &str, listener: Option<&str>) -> Pair {
    Pair {
        talker: Arc::from(talker),
        listener: listener.map(Arc::from),
    }
}

fn mute(talker: &str, listener: Option<&str>, end: Instant) -> Directive {
    Directive {
        mutes: vec![(pair(talker, listener), end)],
        ..Directive::default()
    }
}

fn unmute(talker: &str, listener: Option<&str>) -> Directive {
    Directive {
        unmutes: vec![pair(talker, listener)],
        ..Directive::default()
    }
}

impl World {
    fn direct(&mut self, directive: Directive) -> Directed {
        let directed = self.room.direct(directive);
        self.poll();
        directed
    }
}

#[test]
fn only_the_game_server_says_where_peers_are() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    let bob = world.join("bob", 0.0);
    let cheat = world.join("cheat", 0.0);
    [alice, bob].into_iter().for_each(|peer| world.start(peer));
    assert_eq!(world.voice(alice, 1), Ok((vec![bob.1, cheat.1], 0)));
    world.told.clear();

    let directed = world.direct(positions(&[("alice", Some(5.0)), ("bob", Some(5.5))]));
    assert_eq!((directed.present, directed.forgotten), (2, 0));
    assert!(world.room.is_governed());
    assert_eq!(world.voice(alice, 2), Ok((vec![bob.1], 0)));
    assert_eq!(
        world.heard(cheat.1),
        [Event::PeerLeft(alice.1), Event::PeerLeft(bob.1)],
        "it is nowhere, and is told of nobody"
    );
    for (x, sequence) in [0.0, 5.0, 5.2, 5.5].into_iter().zip(3..) {
        world.go(cheat.0, x);
        assert_eq!(world.voice(alice, sequence), Ok((vec![bob.1], 0)));
    }
    assert_eq!(world.heard(cheat.1), []);
    let late = world.join("late", 5.0);
    let told = world.heard(late.1);
    assert!(matches!(&told[..], [Event::Joined { peers, .. }] if peers.is_empty()));
    assert_eq!(world.voice(alice, 10), Ok((vec![bob.1], 0)));

    world.direct(positions(&[("late", Some(5.0)), ("bob", None)]));
    assert_eq!(world.voice(alice, 11), Ok((vec![late.1], 0)));
    assert_eq!(world.voice(bob, 1), Ok((vec![], 0)));
}

#[test]
fn a_list_without_anybody_hides_everybody() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    let bob = world.join("bob", 0.0);
    world.start(alice);
    assert_eq!(world.direct(positions(&[])), Directed::default());
    assert_eq!(world.voice(alice, 1), Ok((vec![], 0)));
    assert_eq!(world.heard(bob.1).last(), Some(&Event::PeerLeft(alice.1)));
}

#[test]
fn whoever_comes_is_where_the_game_server_has_said() {
    let mut world = World::new(0);
    world.direct(positions(&[("alice", Some(3.0)), ("bob", Some(3.0))]));
    let alice = world.join("alice", 90.0);
    world.start(alice);
    let bob = world.join("bob", -90.0);
    let second = world.join("bob", 0.0);
    assert_eq!(world.voice(alice, 1), Ok((vec![bob.1, second.1], 0)));
    world.room.leave(bob.0, None);
    world.poll();
    let directed = world.direct(positions(&[("bob", Some(8.0))]));
    assert_eq!(directed.present, 1);
    assert_eq!(world.voice(alice, 2), Ok((vec![], 0)));
}

#[test]
fn places_are_bounded_and_those_who_are_in_move_all_the_same() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    world.start(alice);
    let crowd: Vec<_> = (0..PLACES_MAX)
        .map(|user| (Arc::from(format!("user {user}")), Some(at(0.0))))
        .collect();
    let directed = world.direct(Directive {
        positions: Some(crowd),
        ..Directive::default()
    });
    assert_eq!(directed.forgotten, 0);
    let directed = world.direct(positions(&[("alice", Some(0.0)), ("user 0", Some(0.5))]));
    assert_eq!((directed.present, directed.forgotten), (1, 1));
    let known = world.join("user 1", 9.0);
    assert_eq!(world.voice(alice, 1), Ok((vec![known.1], 0)));
    world.direct(positions(&[("user 2", None), ("alice", Some(0.1))]));
    world.room.leave(alice.0, None);
    world.poll();
    let alice = world.join("alice", 9.0);
    world.start(alice);
    assert_eq!(world.voice(alice, 1), Ok((vec![known.1], 0)));
}

#[test]
fn mutes_hold_for_their_time_and_over_a_return() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    let bob = world.join("bob", 0.0);
    let carol = world.join("carol", 0.0);
    world.start(alice);
    let end = world.now + Duration::from_secs(10);
    world.direct(mute("alice", Some("bob"), end));
    assert_eq!(world.voice(alice, 1), Ok((vec![carol.1], 0)));

    world.room.leave(bob.0, None);
    world.poll();
    let other = world.join("dave", 0.0);
    assert_eq!(other.0, bob.0, "the slot of whoever left");
    assert_eq!(world.voice(alice, 2), Ok((vec![carol.1, other.1], 0)));
    let bob = world.join("bob", 0.0);
    assert_eq!(world.voice(alice, 3), Ok((vec![carol.1, other.1], 0)));

    world.direct(mute("alice", None, world.now + Duration::from_secs(5)));
    assert_eq!(world.voice(alice, 4), Err(DropReason::Muted));
    world.room.leave(alice.0, None);
    world.poll();
    let alice = world.join("alice", 0.0);
    world.start(alice);
    assert_eq!(world.voice(alice, 1), Err(DropReason::Muted));
    assert_eq!(
        world.room.next_timeout(),
        Some(world.now + Duration::from_secs(5))
    );
    world.now += Duration::from_secs(5);
    world.room.end_mutes(world.now);
    assert_eq!(world.voice(alice, 2), Ok((vec![carol.1, other.1], 0)));
    assert_eq!(world.room.next_timeout(), Some(end));
    world.direct(unmute("alice", Some("bob")));
    assert_eq!(
        world.voice(alice, 3),
        Ok((vec![carol.1, other.1, bob.1], 0))
    );
    world.now = end;
    world.room.end_mutes(world.now);
    assert_eq!(world.room.next_timeout(), None);
}

#[test]
fn a_mute_and_a_pause_are_taken_back_apart() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    let bob = world.join("bob", 0.0);
    world.start(alice);
    let media = World::media(alice.1);
    let end = world.now + Duration::from_secs(10);
    world.direct(mute("alice", Some("bob"), end));
    world.command(bob.0, Command::PauseMedia { media }).unwrap();
    world.direct(unmute("alice", Some("bob")));
    assert_eq!(world.voice(alice, 1), Ok((vec![], 0)));
    world.direct(mute("alice", Some("bob"), end));
    world
        .command(bob.0, Command::ResumeMedia { media })
        .unwrap();
    assert_eq!(world.voice(alice, 2), Ok((vec![], 0)));
    world
        .command(alice.0, Command::StopMedia { media })
        .unwrap();
    world.start(alice);
    assert_eq!(world.voice(alice, 3), Ok((vec![], 0)));
    world.direct(unmute("alice", Some("bob")));
    assert_eq!(world.voice(alice, 4), Ok((vec![bob.1], 0)));
}

#[test]
fn a_newer_mute_counts_also_when_it_is_shorter() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    let bob = world.join("bob", 0.0);
    world.start(alice);
    let start = world.now;
    world.direct(mute("alice", None, start + Duration::from_secs(60)));
    world.direct(mute("alice", None, start + Duration::from_secs(1)));
    world.now += Duration::from_secs(1);
    world.room.end_mutes(world.now);
    assert_eq!(world.voice(alice, 1), Ok((vec![bob.1], 0)));
    world.now += Duration::from_secs(60);
    world.room.end_mutes(world.now);
    assert_eq!(world.room.next_timeout(), None);
}

/// What happens in a governed room, for the model below.
#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Leave(usize),
    Cheat(usize, u8),
    Place(usize, Option<u8>),
    Mute(usize, Option<usize>, u8),
    Unmute(usize, Option<usize>),
    Pass(u8),
}

const USERS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    let listener = proptest::option::of(0..USERS);
    prop_oneof![
        3 => user.clone().prop_map(Step::Join),
        1 => any::<prop::sample::Index>().prop_map(|at| Step::Leave(at.index(64))),
        2 => (any::<prop::sample::Index>(), 0..6_u8).prop_map(|(at, x)| Step::Cheat(at.index(64), x)),
        4 => (user.clone(), proptest::option::weighted(0.8, 0..6_u8)).prop_map(|(user, x)| Step::Place(user, x)),
        3 => (user.clone(), listener.clone(), 1..9_u8).prop_map(|(user, listener, time)| Step::Mute(user, listener, time)),
        1 => (user, listener).prop_map(|(user, listener)| Step::Unmute(user, listener)),
        2 => (1..5_u8).prop_map(Step::Pass),
    ]
}

/// Half the hearing distance, so that some places are near each other and others are not.
fn spot(x: u8) -> f64 {
    f64::from(x) * 0.55
}

#[derive(Default)]
struct Model {
    peers: Vec<(usize, (Slot, PeerId))>,
    places: HashMap<usize, f64>,
    mutes: HashMap<(usize, Option<usize>), Instant>,
}

impl Model {
    fn hears(&self, talker: usize, listener: usize, now: Instant) -> bool {
        let is_muted = |listener| {
            let end = self.mutes.get(&(talker, listener));
            end.is_some_and(|end| *end > now)
        };
        let is_near = match (self.places.get(&talker), self.places.get(&listener)) {
            (Some(one), Some(other)) => (one - other).abs() < 1.0,
            _ => false,
        };
        is_near && !is_muted(None) && !is_muted(Some(listener))
    }
}

proptest! {
    #[test]
    fn everybody_hears_exactly_whom_the_game_server_allows(
        streams in prop_oneof![Just(0), Just(8)],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(streams);
        let mut model = Model::default();
        world.direct(positions(&[]));
        let name = |user: usize| format!("user {user}");
        let mut sequence = 0;
        for step in steps {
            match step {
                Step::Join(user) if model.peers.len() < 8 => {
                    let peer = world.join(&name(user), 0.0);
                    world.start(peer);
                    model.peers.push((user, peer));
                }
                Step::Leave(at) if !model.peers.is_empty() => {
                    let (_, (slot, _)) = model.peers.swap_remove(at % model.peers.len());
                    world.room.leave(slot, None);
                    world.poll();
                }
                Step::Cheat(at, x) if !model.peers.is_empty() => {
                    let (_, (slot, _)) = model.peers[at % model.peers.len()];
                    world.go(slot, spot(x));
                }
                Step::Place(user, x) => {
                    world.direct(positions(&[(&name(user), x.map(spot))]));
                    match x {
                        Some(x) => model.places.insert(user, spot(x)),
                        None => model.places.remove(&user),
                    };
                }
                Step::Mute(user, listener, seconds) => {
                    let end = world.now + Duration::from_secs(seconds.into());
                    world.direct(mute(&name(user), listener.map(name).as_deref(), end));
                    model.mutes.insert((user, listener), end);
                }
                Step::Unmute(user, listener) => {
                    world.direct(unmute(&name(user), listener.map(name).as_deref()));
                    model.mutes.remove(&(user, listener));
                }
                Step::Pass(seconds) => world.now += Duration::from_secs(seconds.into()),
                Step::Join(_) | Step::Leave(_) | Step::Cheat(..) => {}
            }
            // Longer than any choice of streams is kept.
            world.now += STREAM_HELD * 4;
            while world.room.next_timeout().is_some_and(|due| due <= world.now) {
                world.room.end_mutes(world.now);
            }
            for (talker, peer) in &model.peers {
                sequence += 1;
                let got: BTreeSet<_> = world.voice(*peer, sequence).map_or_else(|_| BTreeSet::new(), |(to, _)| to.into_iter().collect());
                let wanted: BTreeSet<_> = model.peers.iter()
                    .filter(|(listener, other)| other != peer && model.hears(*talker, *listener, world.now))
                    .map(|(_, (_, peer))| *peer)
                    .collect();
                prop_assert_eq!(got, wanted);
            }
        }
    }
}
