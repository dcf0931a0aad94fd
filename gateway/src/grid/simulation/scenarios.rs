//! Single turns of events, one after the other.

use super::*;

#[test]
fn a_ban_follows_its_room_to_another_server() {
    let mut world = World::new(300);
    for at in 0..2 {
        world.report(at);
    }
    let connect = |user: &str, forced: Option<String>| {
        Action::Connect(Connect {
            pool: String::new(),
            rooms: vec![room(1)],
            customer: "c".to_owned(),
            user: user.to_owned(),
            forced,
            preferred: None,
            pick: Pick::Roll(0),
        })
    };
    let there = Outcome::Connected(Ok(address(0)));
    assert_eq!(world.apply(connect("bob", Some(address(0)))), there);
    let ban = Task::RoomBanClient {
        id: room(1),
        user_id: "bob".to_owned(),
        ban_time: Duration::from_secs(60).into(),
    };
    let action = Action::Moderate {
        pool: String::new(),
        task: ban,
    };
    assert_eq!(world.apply(action), Outcome::Moderated(Ok(())));

    world.now += 10_000;
    world.loses_answers = false;
    world.report(1);
    world.apply(Action::Tick {
        silence_counts: true,
    });
    let moved = Outcome::Connected(Ok(address(1)));
    assert_eq!(
        world.apply(connect("eve", None)),
        moved,
        "server 0 is silent"
    );
    world.report(1);
    let [
        Task::RoomBanClient {
            user_id, ban_time, ..
        },
    ] = world.sfus[1].done.as_slice()
    else {
        panic!("{:?}", world.sfus[1].done);
    };
    assert_eq!((user_id.as_str(), ban_time.secs), ("bob", 50));
    let Outcome::Connected(Err(refused)) = world.apply(connect("bob", None)) else {
        panic!("bob is let in");
    };
    let text = "user is banned from room \"room1\" for another 50 s";
    assert_eq!(refused.to_string(), text);
    world.now += 50_000;
    assert_eq!(world.apply(connect("bob", None)), moved, "the ban is over");
}

#[test]
fn decisions_made_alone_are_kept_and_do_not_undo_others() {
    let mut world = World::new(400);
    for at in 0..2 {
        world.report(at);
    }
    let bind = |at: usize, address: String| {
        Action::Bind(Bind {
            pool: String::new(),
            room: room(at),
            customer: "c".to_owned(),
            address,
            instead_of: Vec::new(),
        })
    };
    world.apply(bind(1, address(0)));
    world.apply(bind(1, address(1)));
    world.apply(bind(2, "nobody:1".to_owned()));
    let server = |world: &World, at: usize| {
        world
            .grid
            .server_of_room("", room(at).hash())
            .map(str::to_owned)
    };
    assert_eq!(server(&world, 1), Some(address(0)));
    assert_eq!(server(&world, 2), None);
}

#[test]
fn a_decision_made_alone_replaces_that_of_a_command_nobody_was_told_the_answer_of() {
    let mut world = World::new(600);
    for at in 0..2 {
        world.report(at);
    }
    let connect = |id: u64, forced: Option<String>| Command {
        id,
        action: Action::Connect(Connect {
            pool: String::new(),
            rooms: vec![room(1)],
            customer: "c".to_owned(),
            user: "bob".to_owned(),
            forced,
            preferred: None,
            pick: Pick::Hash,
        }),
    };
    let bind = |instead_of: &[u64]| {
        Action::Bind(Bind {
            pool: String::new(),
            room: room(1),
            customer: "c".to_owned(),
            address: address(1),
            instead_of: instead_of.to_vec(),
        })
    };
    let (now, timing) = (Timestamp(world.now), world.timing);
    let mut server_after = |command: u64, instead_of: &[u64]| {
        let mut grid = world.grid.clone();
        grid.apply(&connect(70, Some(address(0))), now, &timing);
        grid.apply(&connect(command, None), now, &timing);
        let id = world.random.u64(..);
        let action = bind(instead_of);
        grid.apply(&Command { id, action }, now, &timing);
        let server = grid.server_of_room("", room(1).hash());
        server.map(str::to_owned)
    };
    assert_eq!(server_after(71, &[70, 71]), Some(address(1)));
    // Somebody else was sent to the first server since.
    assert_eq!(server_after(72, &[70, 71]), Some(address(0)));
}

#[test]
fn the_id_of_another_gateways_task_acknowledges_nothing() {
    let mut world = World::new(700);
    world.report(0);
    let bind = Action::Bind(Bind {
        pool: String::new(),
        room: room(1),
        customer: "c".to_owned(),
        address: address(0),
        instead_of: Vec::new(),
    });
    world.apply(bind);
    let update = |text: u8| Action::Moderate {
        pool: String::new(),
        task: Task::RoomUpdate {
            id: room(1),
            user_data: vec![text],
        },
    };
    for text in 1..=3 {
        assert_eq!(world.apply(update(text)), Outcome::Moderated(Ok(())));
    }
    let ids = |grid: &Grid| -> Vec<u64> {
        let mut grid = grid.clone();
        let server = ServerRef {
            pool: String::new(),
            address: address(0),
        };
        let action = Action::Take { server };
        let (now, timing) = (Timestamp(world.now), Timing::default());
        match grid.apply(&Command { id: 1, action }, now, &timing).outcome {
            Outcome::Tasks(Ok(delivery)) => delivery.tasks.iter().map(|it| it.id).collect(),
            other => panic!("{other:?}"),
        }
    };
    let waiting = ids(&world.grid);
    assert_eq!(waiting.len(), 3);
    let after = |acknowledged: u64| {
        let mut grid = world.grid.clone();
        let action = Action::Report(ServerReport {
            server: ServerRef {
                pool: String::new(),
                address: address(0),
            },
            key_id: KeyId::from("key".to_owned()),
            version: String::new(),
            load: 0.0,
            clients: 0,
            rooms: Vec::new(),
            acknowledged: Some(acknowledged),
            released: None,
            draining: false,
        });
        let now = Timestamp(world.now);
        grid.apply(&Command { id: 2, action }, now, &Timing::default());
        ids(&grid)
    };
    assert_eq!(after(waiting[2] + 1), waiting);
    assert_eq!(after(waiting[1]), waiting[2..]);
}

#[test]
fn a_draining_server_gets_nobody_until_it_says_otherwise() {
    let mut world = World::new(800);
    world.loses_answers = false;
    for at in 0..2 {
        world.report(at);
    }
    let server_of = |world: &mut World, at: usize, forced: Option<String>| {
        let connect = Action::Connect(Connect {
            pool: String::new(),
            rooms: vec![room(at)],
            customer: "c".to_owned(),
            user: "bob".to_owned(),
            forced,
            preferred: None,
            pick: Pick::Roll(0),
        });
        match world.apply(connect) {
            Outcome::Connected(server) => server,
            other => panic!("{other:?}"),
        }
    };
    let first = address(0);
    assert_eq!(
        server_of(&mut world, 1, Some(first.clone())),
        Ok(first.clone())
    );
    let peers = BTreeSet::from(["bob".to_owned()]);
    world.sfus[0].rooms.insert(room(1), peers);
    world.sfus[0].is_draining = true;
    world.report(0);
    // Its own room, and a new one.
    for at in 1..3 {
        assert_eq!(server_of(&mut world, at, None), Ok(address(1)));
    }
    assert_eq!(
        server_of(&mut world, 3, Some(first.clone())),
        Err(Refused::NoServer)
    );
    world.report(0);
    assert!(
        world.sfus[0].rooms.is_empty(),
        "who is still there is sent after the room"
    );
    world.sfus[0].is_draining = false;
    world.report(0);
    assert_eq!(server_of(&mut world, 3, Some(first.clone())), Ok(first));
}

#[test]
fn a_preferred_server_gets_the_room_while_it_takes_rooms_and_else_another_does() {
    let mut world = World::new(900);
    world.loses_answers = false;
    for at in 0..2 {
        world.report(at);
    }
    let server_of = |world: &mut World, at: usize, preferred: &str, pick: Pick| {
        let connect = Action::Connect(Connect {
            pool: String::new(),
            rooms: vec![room(at)],
            customer: "c".to_owned(),
            user: "bob".to_owned(),
            forced: None,
            preferred: Some(preferred.to_owned()),
            pick,
        });
        match world.apply(connect) {
            Outcome::Connected(server) => server.expect("somebody is there"),
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (address(0), address(1));
    for (at, preferred) in [(1, &first), (2, &second), (3, &first), (4, &second)] {
        for pick in [Pick::Roll(0), Pick::Roll(u64::MAX), Pick::Hash] {
            assert_eq!(&server_of(&mut world, at, preferred, pick), preferred);
        }
    }
    assert_eq!(
        server_of(&mut world, 1, &second, Pick::Hash),
        first,
        "a room stays where it is"
    );
    server_of(&mut world, 5, "nobody.test:1", Pick::Hash);

    world.sfus[0].is_draining = true;
    world.report(0);
    for at in [1, 6] {
        let server = server_of(&mut world, at, &first, Pick::Roll(0));
        assert_eq!(server, second, "the first one drains");
    }
    world.sfus[0].is_draining = false;
    world.report(0);
    assert_eq!(server_of(&mut world, 7, &first, Pick::Hash), first);

    world.now += 10_000;
    world.report(1);
    world.apply(Action::Tick {
        silence_counts: true,
    });
    for at in [7, 8] {
        let server = server_of(&mut world, at, &first, Pick::Roll(0));
        assert_eq!(server, second, "the first one is silent");
    }
}

#[test]
fn a_connect_of_a_gateway_that_knows_of_no_wishes_is_read() {
    let text =
        r#"{"pool":"","rooms":[["n","r"]],"customer":"c","user":"u","forced":null,"pick":"Hash"}"#;
    let connect: Connect = serde_json::from_str(text).unwrap();
    assert_eq!(connect.preferred, None);
    assert_eq!(
        serde_json::to_string(&connect).unwrap(),
        text,
        "and written"
    );
}

#[test]
fn a_report_of_a_gateway_that_knows_of_no_draining_is_read() {
    let text = r#"{"server":{"pool":"","address":"a:1"},"key_id":"k","version":"1","load":0.5,"clients":1,"rooms":[],"acknowledged":null,"released":null}"#;
    let report: ServerReport = serde_json::from_str(text).unwrap();
    assert!(!report.draining);
    assert_eq!(serde_json::to_string(&report).unwrap(), text, "and written");
}

#[test]
fn silence_does_not_count_while_gateways_cannot_hear_each_other() {
    let mut world = World::new(500);
    world.report(0);
    let is_disabled = |world: &World| {
        let server = world
            .grid
            .pool("")
            .and_then(|pool| pool.server(&address(0)));
        server.map(|it| it.disabled)
    };
    for (silence_counts, expected) in [(false, Some(false)), (true, Some(true))] {
        world.now += 10_000;
        world.apply(Action::Tick { silence_counts });
        assert_eq!(is_disabled(&world), expected);
    }
    world.now += 60_000;
    world.apply(Action::Tick {
        silence_counts: false,
    });
    assert_eq!(is_disabled(&world), None, "removed all the same");
}

#[test]
fn a_room_that_somebody_was_sent_to_is_not_forgotten_by_a_report_under_way() {
    let mut world = World::new(600);
    world.loses_answers = false;
    world.report(0);
    world.report(1);
    world.sfus[0]
        .rooms
        .insert(room(1), BTreeSet::from(["a".to_owned()]));
    world.now += 1;
    world.report(0);
    world.now += 1;
    world.sfus[0].rooms.clear();
    let connect = Connect {
        pool: String::new(),
        rooms: vec![room(1)],
        customer: "c".to_owned(),
        user: "b".to_owned(),
        forced: None,
        preferred: None,
        pick: Pick::Roll(0),
    };
    world.apply(Action::Connect(connect));
    world.report(0);
    let bound = world.grid.server_of_room("", room(1).hash());
    assert_eq!(bound, Some(address(0).as_str()));
}
