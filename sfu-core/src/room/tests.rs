//! A room by its calls: who is told what, and who hears whom.

mod governed;

use std::time::Duration;

use super::{streams::STREAM_HELD, *};
use crate::{drops::DropReason, event::Event, wire::datagram::Datagram};

/// A room in which a name stands for a user, and everything that was told is kept.
struct World {
    room: Room,
    now: Instant,
    told: Vec<(PeerId, Event)>,
    names: HashMap<Slot, PeerId>,
    next: u32,
    budget: Option<u32>,
}

impl World {
    fn new(concurrent_streams: u8) -> Self {
        let info = RoomInfo {
            name: Arc::from("lobby"),
            customer: Arc::from("acme"),
            user_data: Bytes::new(),
        };
        let limits = RoomLimits {
            concurrent_streams,
            ..RoomLimits::default()
        };
        Self {
            room: Room::new(info, limits),
            now: origin(),
            told: Vec::new(),
            names: HashMap::new(),
            next: 0,
            budget: None,
        }
    }

    /// The media id of a peer made here: each has one.
    fn media(peer: PeerId) -> MediaId {
        MediaId::new(1_000 + u64::from(peer.value())).expect("a small number")
    }

    fn join(&mut self, user_id: &str, x: f64) -> (Slot, PeerId) {
        self.next += 1;
        let peer = PeerId::new(self.next).expect("not 0");
        let join = Join {
            peer,
            user_id: Arc::from(user_id),
            user_data: Bytes::copy_from_slice(user_id.as_bytes()),
            position: at(x),
            media_ids: vec![Self::media(peer)],
        };
        let slot = self.room.join(self.now, join);
        self.names.insert(slot, peer);
        self.poll();
        (slot, peer)
    }

    fn poll(&mut self) {
        while let Some(notice) = self.room.poll_notice() {
            for to in notice.to {
                let peer = self.names.get(&to).expect("nobody else is told");
                self.told.push((*peer, notice.event.clone()));
            }
        }
    }

    fn command(&mut self, slot: Slot, command: Command) -> Result<(), CommandError> {
        let result = self.room.handle_command(slot, command);
        self.poll();
        result
    }

    fn start(&mut self, (slot, peer): (Slot, PeerId)) {
        let start = Command::StartMedia {
            media: Self::media(peer),
            properties: Bytes::from_static(&[0x80]),
        };
        self.command(slot, start).expect("its own media");
    }

    fn go(&mut self, slot: Slot, x: f64) {
        self.command(slot, Command::SetPeerPosition { position: at(x) })
            .expect("in the room");
    }

    /// What was told to a peer since the last call.
    fn heard(&mut self, peer: PeerId) -> Vec<Event> {
        let (its, others) = std::mem::take(&mut self.told)
            .into_iter()
            .partition(|(to, _)| *to == peer);
        self.told = others;
        its.into_iter().map(|(_, event)| event).collect()
    }

    /// Sends a packet; the peers that get it, and those at their limit of streams.
    fn voice(
        &mut self,
        (slot, peer): (Slot, PeerId),
        sequence: u32,
    ) -> Result<(Vec<PeerId>, usize), DropReason> {
        let mut bytes = vec![0x96, 1, 0x91, 0xcd];
        bytes.extend(Self::media(peer).value().to_be_bytes());
        bytes.push(0xce);
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0, 0, 0xc4, 1, 0]);
        let datagram = Datagram::parse(&bytes).expect("a datagram");
        let mut slots = Vec::new();
        let deliver = |to| slots.push(to);
        let media = Self::media(peer);
        let refused =
            self.room
                .handle_datagram(self.now, slot, media, &datagram, self.budget, deliver)?;
        let mut peers: Vec<_> = slots.iter().map(|slot| self.names[slot]).collect();
        peers.sort();
        Ok((peers, refused.receivers))
    }
}

fn at(x: f64) -> Position {
    Position::new([x, 0.0, 0.0]).expect("finite")
}

#[test]
fn a_newcomer_is_told_of_the_room_and_the_room_of_the_newcomer() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    world.start(alice);
    assert!(
        matches!(&world.heard(alice.1)[..], [Event::Joined { own, peers, .. }] if *own == alice.1 && peers.is_empty())
    );
    let bob = world.join("bob", 0.0);
    let [
        Event::Joined {
            peers,
            media_ids,
            room,
            ..
        },
    ] = &world.heard(bob.1)[..]
    else {
        panic!("Joined comes first and alone");
    };
    assert_eq!((media_ids.len(), &*room.customer), (1, "acme"));
    assert_eq!(peers.len(), 1);
    assert_eq!((&*peers[0].user_id, peers[0].medias.len()), ("alice", 1));
    assert!(
        matches!(&world.heard(alice.1)[..], [Event::PeerJoined(peer)] if peer.id == bob.1 && peer.medias.is_empty())
    );
}

#[test]
fn voice_reaches_the_others_once_and_never_its_sender() {
    let mut world = World::new(0);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name, 0.0));
    assert_eq!(world.voice(alice, 1), Err(DropReason::MediaStopped));
    world.start(alice);
    assert_eq!(world.voice(alice, 1), Ok((vec![bob.1, carol.1], 0)));
    assert_eq!(world.voice(alice, 1), Err(DropReason::Replayed));
    assert_eq!(
        world.voice((bob.0, alice.1), 2),
        Err(DropReason::ForeignMedia)
    );
    let nobody = PeerId::new(99).unwrap();
    assert_eq!(
        world.voice((bob.0, nobody), 2),
        Err(DropReason::ForeignMedia)
    );
    let stop = Command::StopMedia {
        media: World::media(alice.1),
    };
    world.command(alice.0, stop).unwrap();
    assert_eq!(world.voice(alice, 2), Err(DropReason::MediaStopped));
    assert!(
        matches!(world.heard(bob.1).last(), Some(Event::MediaStopped { peer, .. }) if *peer == alice.1)
    );
}

#[test]
fn a_media_is_its_owners() {
    let mut world = World::new(0);
    let [alice, bob] = ["alice", "bob"].map(|name| world.join(name, 0.0));
    let media = World::media(alice.1);
    for command in [
        Command::StartMedia {
            media,
            properties: Bytes::new(),
        },
        Command::StopMedia { media },
    ] {
        assert_eq!(
            world.command(bob.0, command),
            Err(CommandError::UnknownMedia)
        );
    }
    world.start(alice);
    let told = world.heard(bob.1).len();
    world.start(alice);
    assert_eq!(
        world.heard(bob.1).len(),
        0,
        "told {told} before, and nothing changed"
    );
}

#[test]
fn far_peers_leave_and_near_ones_come_back_and_messages_pass_all_the_same() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    let bob = world.join("bob", 0.2);
    world.start(alice);
    world.heard(alice.1);
    world.heard(bob.1);
    world.go(alice.0, 50.0);
    assert_eq!(world.heard(bob.1), [Event::PeerLeft(alice.1)]);
    assert_eq!(world.heard(alice.1), [Event::PeerLeft(bob.1)]);
    assert_eq!(world.voice(alice, 1), Ok((vec![], 0)));
    let message = Bytes::from_static(b"hello");
    let send = Command::SendMessage {
        message,
        targets: None,
    };
    world.command(bob.0, send).unwrap();
    assert!(
        matches!(&world.heard(alice.1)[..], [Event::MessageReceived { sender, .. }] if *sender == bob.1)
    );
    let update = Command::UpdatePeer {
        user_data: Bytes::from_static(b"new"),
    };
    world.command(alice.0, update).unwrap();
    assert_eq!(
        world.heard(bob.1),
        [],
        "a far peer's data does not concern bob"
    );
    world.go(alice.0, 0.3);
    assert!(
        matches!(&world.heard(bob.1)[..], [Event::PeerJoined(peer)] if peer.medias.len() == 1 && peer.user_data == "new")
    );
    assert!(matches!(&world.heard(alice.1)[..], [Event::PeerJoined(peer)] if peer.id == bob.1));
    assert_eq!(world.voice(alice, 2), Ok((vec![bob.1], 0)));
    world.go(alice.0, 0.3);
    assert_eq!(world.heard(bob.1), [], "the same place again");
}

#[test]
fn a_pause_is_the_callers_alone_and_ends_with_the_media() {
    let mut world = World::new(0);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name, 0.0));
    let far = world.join("dave", 50.0);
    world.start(alice);
    let media = World::media(alice.1);
    world.command(bob.0, Command::PauseMedia { media }).unwrap();
    assert_eq!(world.voice(alice, 1), Ok((vec![carol.1], 0)));
    world
        .command(bob.0, Command::ResumeMedia { media })
        .unwrap();
    assert_eq!(world.voice(alice, 2), Ok((vec![bob.1, carol.1], 0)));
    let unknown = Err(CommandError::UnknownMedia);
    assert_eq!(
        world.command(far.0, Command::PauseMedia { media }),
        unknown,
        "out of sight"
    );
    assert_eq!(
        world.command(alice.0, Command::PauseMedia { media }),
        unknown,
        "one's own"
    );

    for leave_and_return in [
        |world: &mut World, (slot, _): (Slot, PeerId)| {
            world.go(slot, 50.0);
            world.go(slot, 0.0);
        },
        |world: &mut World, alice: (Slot, PeerId)| {
            world
                .command(
                    alice.0,
                    Command::StopMedia {
                        media: World::media(alice.1),
                    },
                )
                .unwrap();
            world.start(alice);
        },
    ] {
        world.command(bob.0, Command::PauseMedia { media }).unwrap();
        leave_and_return(&mut world, alice);
        world.now += Duration::from_secs(1);
        let sequence = 3 + u32::try_from(world.told.len()).unwrap();
        assert_eq!(
            world.voice(alice, sequence),
            Ok((vec![bob.1, carol.1], 0)),
            "announced anew, so not paused"
        );
    }
}

#[test]
fn a_new_peer_in_an_old_slot_inherits_nothing() {
    let mut world = World::new(0);
    let [alice, bob] = ["alice", "bob"].map(|name| world.join(name, 0.0));
    world.start(alice);
    let media = World::media(alice.1);
    world.command(bob.0, Command::PauseMedia { media }).unwrap();
    let freed = world.room.leave(bob.0, None);
    assert_eq!(freed, [World::media(bob.1)]);
    assert_eq!(world.room.leave(bob.0, None), [], "once is enough");
    world.poll();
    let carol = world.join("carol", 0.0);
    assert_eq!(carol.0, bob.0);
    assert_eq!(
        world.voice(alice, 1),
        Ok((vec![carol.1], 0)),
        "carol paused nothing"
    );
    assert_eq!(
        world.voice((carol.0, bob.1), 1),
        Err(DropReason::ForeignMedia),
        "bob's media is gone"
    );
    assert_eq!(world.room.peers_of("carol"), [carol.0]);
    assert_eq!(world.room.peers_of("bob"), []);
}

#[test]
fn whoever_is_made_to_leave_is_told_why_and_last() {
    let mut world = World::new(0);
    let [alice, bob] = ["alice", "bob"].map(|name| world.join(name, 0.0));
    world.heard(bob.1);
    world.room.leave(bob.0, Some(LeaveReason::PeerKicked));
    world.poll();
    assert_eq!(world.heard(bob.1), [Event::Left(LeaveReason::PeerKicked)]);
    assert_eq!(world.heard(alice.1).last(), Some(&Event::PeerLeft(bob.1)));
    let update = Command::UpdateRoom {
        user_data: Bytes::new(),
    };
    assert_eq!(world.command(bob.0, update), Err(CommandError::UnknownPeer));
    assert_eq!(world.room.len(), 1);
}

#[test]
fn messages_reach_their_targets_once() {
    let mut world = World::new(0);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name, 0.0));
    for peer in [alice, bob, carol] {
        world.heard(peer.1);
    }
    let nobody = PeerId::new(4_000).unwrap();
    let send = Command::SendMessage {
        message: Bytes::from_static(b"x"),
        targets: Some(vec![carol.1, nobody, carol.1]),
    };
    world.command(alice.0, send).unwrap();
    assert_eq!(world.heard(carol.1).len(), 1);
    assert!(world.heard(bob.1).is_empty() && world.heard(alice.1).is_empty());
    world
        .room
        .send_message(vec![bob.0], Bytes::from_static(b"y"));
    world.poll();
    assert!(matches!(
        &world.heard(bob.1)[..],
        [Event::MessageReceived {
            sender: PeerId::SERVER,
            ..
        }]
    ));
}

#[test]
fn the_rooms_data_reaches_everybody_but_its_author() {
    let mut world = World::new(0);
    let [alice, bob] = ["alice", "bob"].map(|name| world.join(name, 0.0));
    let update = Command::UpdateRoom {
        user_data: Bytes::from_static(b"map 1"),
    };
    world.command(alice.0, update).unwrap();
    assert!(
        matches!(world.heard(bob.1).last(), Some(Event::RoomUserDataChanged(data)) if data == "map 1")
    );
    assert!(!matches!(
        world.heard(alice.1).last(),
        Some(Event::RoomUserDataChanged(_))
    ));
    world.room.set_user_data(None, Bytes::from_static(b"map 2"));
    world.poll();
    assert!(matches!(
        &world.heard(alice.1)[..],
        [Event::RoomUserDataChanged(_)]
    ));
    let carol = world.join("carol", 0.0);
    assert!(
        matches!(&world.heard(carol.1)[..], [Event::Joined { room, .. }] if room.user_data == "map 2")
    );
}

#[test]
fn with_a_limit_only_the_nearest_streams_are_heard() {
    let mut world = World::new(2);
    let hearer = world.join("hearer", 0.0);
    let talkers = [0.9, 0.8, 0.1].map(|x| world.join("talker", x));
    for talker in talkers {
        world.start(talker);
    }
    let hears = |world: &mut World, talker, sequence| {
        let (peers, _) = world.voice(talker, sequence).unwrap();
        peers.contains(&hearer.1)
    };
    assert!(hears(&mut world, talkers[0], 1));
    assert!(hears(&mut world, talkers[1], 1));
    assert!(
        hears(&mut world, talkers[2], 1),
        "the nearest pushes the farthest out"
    );
    assert!(!hears(&mut world, talkers[0], 2));
    let (_, refused) = world.voice(talkers[0], 3).unwrap();
    assert!(refused > 0);
    world.now += STREAM_HELD;
    assert!(
        hears(&mut world, talkers[0], 4),
        "the others are silent now"
    );
}

#[test]
fn whoever_is_told_anew_learns_what_is_so_now_and_nobody_notices() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    let bob = world.join("bob", 0.0);
    let carol = world.join("carol", 0.5);
    let gone = world.join("gone", 0.0);
    for talker in [alice, bob, carol] {
        world.start(talker);
    }
    let media = World::media(bob.1);
    world
        .command(alice.0, Command::PauseMedia { media })
        .unwrap();
    let user_data = Bytes::from_static(b"new");
    let update = Command::UpdatePeer {
        user_data: user_data.clone(),
    };
    world.command(carol.0, update).unwrap();
    world.room.leave(gone.0, None);
    world.poll();
    world.told.clear();

    world.room.introduce(alice.0);
    world.poll();
    let told = world.heard(alice.1);
    let [
        Event::Joined {
            own,
            media_ids,
            peers,
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(
        (*own, &media_ids[..]),
        (alice.1, &[World::media(alice.1)][..])
    );
    let seen: Vec<_> = peers
        .iter()
        .map(|peer| (peer.id, peer.medias[0].paused))
        .collect();
    assert_eq!(seen, [(bob.1, true), (carol.1, false)]);
    assert_eq!(peers[1].user_data, user_data);
    assert_eq!(world.told, [], "the others were told nothing");
    // Its own media runs on, and what it paused stays paused.
    assert_eq!(world.voice(alice, 1), Ok((vec![bob.1, carol.1], 0)));
    assert_eq!(world.voice(bob, 1), Ok((vec![carol.1], 0)));
}

#[test]
fn nobody_is_told_anew_who_is_not_in() {
    let mut world = World::new(0);
    let alice = world.join("alice", 0.0);
    world.room.leave(alice.0, None);
    world.poll();
    world.room.introduce(alice.0);
    assert_eq!(world.room.poll_notice(), None);
}
