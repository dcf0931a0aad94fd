//! Mutes: they go where their room goes, and are nowhere when they are over or taken back.

use super::*;

/// How much later than it was asked for a task may be carried out here, in milliseconds: silence and lost answers.
const LATE_MS: u64 = 120_000;

#[test]
fn servers_of_rooms_know_their_mutes_and_no_others() {
    let (mut known, mut held_still) = (0, 0);
    for seed in 700..706 {
        let mut world = run(seed);
        world.calm_down();
        for _ in 0..600 {
            world.step(false);
        }
        let now = world.now;
        let is_close = |a: u64, b: u64| a.abs_diff(b) <= LATE_MS;
        let acknowledging = world.sfus.iter().enumerate();
        for (at, sfu) in acknowledging.filter(|(_, sfu)| sfu.acknowledges) {
            for (muted, until) in sfu.mutes.iter().filter(|it| *it.1 > now + LATE_MS) {
                let wanted = world.mutes.get(muted);
                let is_right = wanted.is_some_and(|it| is_close(*it, *until));
                assert!(is_right, "seed {seed}, server {at}: {muted:?} {wanted:?}");
                held_still += 1;
            }
            for (muted, until) in world.mutes.iter().filter(|it| *it.1 > now) {
                if !sfu.rooms.contains_key(&muted.0) {
                    continue;
                }
                let held = sfu.mutes.get(muted);
                let is_right = held.is_some_and(|it| is_close(*it, *until));
                assert!(is_right, "seed {seed}, server {at}: {muted:?} {held:?}");
                known += 1;
            }
        }
        let waiting = world.mutes.values().filter(|it| **it > now).count();
        let remembered = world.grid.pool("").map(Pool::mutes);
        assert!(remembered.is_some_and(|it| it >= waiting), "seed {seed}");
    }
    assert!(
        known > 10 && held_still > 10,
        "{known} known, {held_still} held"
    );
}

/// Two servers that lose nothing, and the room on the first of them.
fn two_servers(seed: u64) -> World {
    let mut world = World::new(seed);
    world.loses_answers = false;
    for at in 0..2 {
        world.report(at);
    }
    assert_eq!(connect(&mut world, Some(address(0))), Ok(address(0)));
    world
}

fn connect(world: &mut World, forced: Option<String>) -> Result<String, Refused> {
    let connect = Action::Connect(Connect {
        pool: String::new(),
        rooms: vec![room(1)],
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
}

fn moderate(world: &mut World, task: &Task) -> Result<(), Refused> {
    let action = Action::Moderate {
        pool: String::new(),
        task: task.clone(),
    };
    match world.apply(action) {
        Outcome::Moderated(result) => result,
        other => panic!("{other:?}"),
    }
}

/// Lets the room move to the second server, which reports then.
fn move_room(world: &mut World) {
    world.sfus[0].is_draining = true;
    world.report(0);
    assert_eq!(connect(world, None), Ok(address(1)));
    world.report(1);
}

fn tick(world: &mut World) {
    world.apply(Action::Tick {
        silence_counts: false,
    });
}

fn mute(secs: u64, listener: Option<&str>) -> Task {
    Task::RoomMuteClient {
        id: room(1),
        user_id: "bob".to_owned(),
        listener_id: listener.map(str::to_owned),
        mute_time: Duration::from_secs(secs).into(),
        reason: "noise".to_owned(),
    }
}

fn unmute(listener: Option<&str>) -> Task {
    Task::RoomUnmuteClient {
        id: room(1),
        user_id: "bob".to_owned(),
        listener_id: listener.map(str::to_owned),
    }
}

fn remembered(world: &World) -> usize {
    world.grid.pool("").map(Pool::mutes).unwrap()
}

#[test]
fn a_mute_follows_its_room_with_the_time_that_is_left_and_leaves_the_first_server() {
    let mut world = two_servers(1);
    for task in [mute(60, None), mute(90, Some("eve"))] {
        assert_eq!(moderate(&mut world, &task), Ok(()));
    }
    world.now += 10_000;
    move_room(&mut world);
    let left = [mute(50, None), mute(80, Some("eve"))];
    assert_eq!(world.sfus[1].done, left);
    world.report(0);
    let lifted = [unmute(None), unmute(Some("eve"))];
    assert_eq!(world.sfus[0].done[2..], lifted);
    assert_eq!(remembered(&world), 2);
    // And back.
    world.sfus[0].is_draining = false;
    world.report(0);
    world.sfus[1].is_draining = true;
    world.report(1);
    assert_eq!(connect(&mut world, None), Ok(address(0)));
    world.report(0);
    assert_eq!(world.sfus[0].done[4..], left);
}

#[test]
fn a_mute_that_is_over_does_not_follow_and_is_forgotten() {
    let mut world = two_servers(2);
    moderate(&mut world, &mute(60, None)).unwrap();
    world.now += 60_000;
    move_room(&mut world);
    assert_eq!(world.sfus[1].done, []);
    assert_eq!(remembered(&world), 1);
    tick(&mut world);
    assert_eq!(remembered(&world), 0);
}

#[test]
fn a_later_mute_counts_instead_of_the_earlier_one_also_when_it_is_shorter() {
    let mut world = two_servers(3);
    moderate(&mut world, &mute(LONG_SECS, None)).unwrap();
    moderate(&mut world, &mute(30, None)).unwrap();
    assert_eq!(remembered(&world), 1);
    world.now += 10_000;
    move_room(&mut world);
    assert_eq!(world.sfus[1].done, [mute(20, None)]);
}

#[test]
fn what_is_taken_back_does_not_follow_and_the_other_mutes_do() {
    let mut world = two_servers(4);
    for task in [
        mute(60, None),
        mute(60, Some("eve")),
        unmute(None),
        unmute(Some("nobody")),
    ] {
        assert_eq!(moderate(&mut world, &task), Ok(()));
    }
    move_room(&mut world);
    assert_eq!(world.sfus[1].done, [mute(60, Some("eve"))]);
    moderate(&mut world, &unmute(Some("eve"))).unwrap();
    world.report(1);
    assert_eq!(world.sfus[1].done[1..], [unmute(Some("eve"))]);
    assert_eq!(remembered(&world), 0);
}

#[test]
fn a_server_that_was_started_anew_is_told_again() {
    let mut world = two_servers(6);
    moderate(&mut world, &mute(60, None)).unwrap();
    world.report(0);
    // Its acknowledgement, and one more report: nothing is said twice.
    world.report(0);
    world.report(0);
    assert_eq!(world.sfus[0].done.len(), 1);
    world.now += 10_000;
    world.sfus[0].restart();
    world.report(0);
    assert_eq!(world.sfus[0].done.len(), 1, "the room is not there yet");
    let peers = BTreeSet::from(["bob".to_owned()]);
    world.sfus[0].rooms.insert(room(1), peers);
    world.report(0);
    assert_eq!(world.sfus[0].done[1..], [mute(50, None)]);
}

#[test]
fn whoever_connects_to_a_server_that_was_started_anew_comes_after_the_mutes() {
    let mut world = two_servers(7);
    moderate(&mut world, &mute(60, None)).unwrap();
    for _ in 0..2 {
        world.report(0);
    }
    world.sfus[0].restart();
    world.report(0);
    assert_eq!(connect(&mut world, None), Ok(address(0)));
    world.report(0);
    assert_eq!(world.sfus[0].mutes.len(), 1);
}

#[test]
fn a_server_that_was_removed_is_told_again_when_it_is_back() {
    let mut world = two_servers(9);
    moderate(&mut world, &mute(LONG_SECS, None)).unwrap();
    world.report(0);
    world.now += 60_000;
    tick(&mut world);
    assert_eq!(world.grid.pool("").unwrap().servers().count(), 0);
    world.sfus[0].restart();
    world.report(0);
    assert_eq!(connect(&mut world, None), Ok(address(0)));
    world.report(0);
    assert_eq!(world.sfus[0].mutes.len(), 1);
}

#[test]
fn a_mute_outlives_its_room_and_can_be_taken_back_without_it() {
    let mut world = two_servers(8);
    moderate(&mut world, &mute(LONG_SECS, None)).unwrap();
    world.report(0);
    world.now += 1;
    let peers = BTreeSet::from(["bob".to_owned()]);
    world.sfus[0].rooms.insert(room(1), peers);
    world.report(0);
    world.sfus[0].rooms.clear();
    world.now += 1;
    world.report(0);
    assert_eq!(world.grid.server_of_room("", room(1).hash()), None);
    assert_eq!(moderate(&mut world, &mute(60, None)), Err(Refused::NoRoom));
    assert_eq!(remembered(&world), 1);

    assert_eq!(moderate(&mut world, &unmute(None)), Ok(()));
    assert_eq!(moderate(&mut world, &unmute(None)), Err(Refused::NoRoom));
    assert_eq!(remembered(&world), 0);
    world.report(0);
    assert_eq!(world.sfus[0].mutes, BTreeMap::new());
}

#[test]
fn mutes_wait_for_a_server_whose_queue_is_full() {
    let mut world = two_servers(10);
    let other = Connect {
        pool: String::new(),
        rooms: vec![room(2)],
        customer: "c".to_owned(),
        user: "bob".to_owned(),
        forced: Some(address(1)),
        preferred: None,
        pick: Pick::Roll(0),
    };
    world.apply(Action::Connect(other));
    moderate(&mut world, &mute(60, None)).unwrap();
    let message = Task::RoomSendMessage {
        id: room(2),
        user_id: "bob".to_owned(),
        message: Vec::new(),
    };
    for _ in 0..TASKS_MAX {
        moderate(&mut world, &message).unwrap();
    }
    move_room(&mut world);
    let is_mute = |task: &&Task| matches!(task, Task::RoomMuteClient { .. });
    let told = |world: &World| world.sfus[1].done.iter().filter(is_mute).count();
    assert_eq!((world.sfus[1].done.len(), told(&world)), (TASKS_MAX, 0));
    let peers = BTreeSet::from(["bob".to_owned()]);
    world.sfus[1].rooms.insert(room(1), peers);
    for _ in 0..3 {
        world.report(1);
    }
    assert_eq!(told(&world), 1);
}

#[test]
fn a_grid_of_a_gateway_that_knows_of_no_mutes_is_read() {
    let world = two_servers(14);
    let mut json = serde_json::to_value(&world.grid).unwrap();
    let pool = &mut json["pools"][""];
    assert!(pool.as_object_mut().unwrap().remove("mutes").is_some());
    for server in pool["servers"].as_object_mut().unwrap().values_mut() {
        let server = server.as_object_mut().unwrap();
        assert!(server.remove("acknowledged").is_some());
    }
    let grid: Grid = serde_json::from_value(json).unwrap();
    assert_eq!(grid, world.grid);
}
