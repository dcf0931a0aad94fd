//! What is kept of what happened, and in which order it is told.

use std::collections::BTreeSet;

use gateway_api::{RoomId, Task};

use super::*;
use crate::grid::{Connect, Grid, Pick, Refused, TaskKey, Timing, WaitingTask};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn server() -> ServerRef {
    ServerRef {
        pool: String::new(),
        address: "a:1".to_owned(),
    }
}

fn room(name: &str) -> RoomId {
    RoomId::from(("n".to_owned(), name.to_owned()))
}

fn connect(id: u64, name: &str) -> Command {
    let action = Action::Connect(Connect {
        pool: String::new(),
        rooms: vec![room(name)],
        customer: "c".to_owned(),
        user: "u".to_owned(),
        forced: None,
        preferred: None,
        pick: Pick::Hash,
    });
    Command { id, action }
}

fn moderate(id: u64, name: &str) -> Command {
    let task = Task::RoomUpdate {
        id: room(name),
        user_data: vec![1],
    };
    let pool = String::new();
    let action = Action::Moderate { pool, task };
    Command { id, action }
}

fn report(id: u64, load: f64) -> Command {
    let action = Action::Report(ServerReport {
        server: server(),
        key_id: "key".to_owned().into(),
        version: "1".to_owned(),
        load,
        clients: 0,
        rooms: Vec::new(),
        acknowledged: Some(0),
        released: None,
        draining: false,
    });
    Command { id, action }
}

fn delivery(commands: &[u64]) -> Outcome {
    let task = |command: &u64| WaitingTask {
        id: command * 10,
        key: TaskKey {
            command: *command,
            index: 0,
        },
        queued: NOW,
        task: Task::RoomUpdate {
            id: room("r"),
            user_data: vec![1],
        },
    };
    Outcome::Tasks(Ok(Delivery {
        tasks: commands.iter().map(task).collect(),
        acknowledges: true,
        released: Vec::new(),
    }))
}

fn connected(address: &str) -> Outcome {
    Outcome::Connected(Ok(address.to_owned()))
}

fn actions(outbox: &mut Outbox) -> Vec<Action> {
    let tellings = outbox.take(usize::MAX, Part::All);
    let commands = tellings
        .iter()
        .filter_map(|it| it.command(NOW, Duration::from_secs(7), 0));
    commands.map(|it| it.action).collect()
}

#[test]
fn a_room_is_told_once_with_all_commands_whose_fate_is_unknown() {
    let mut outbox = Outbox::default();
    outbox.note(&connect(1, "r"), &connected("a:1"), NOW, Fate::Unknown);
    outbox.note(&connect(2, "r"), &connected("a:1"), NOW, Fate::Known);
    outbox.note(&connect(3, "r"), &connected("a:1"), NOW, Fate::Unknown);
    let refused = Outcome::Connected(Err(Refused::NoServer));
    outbox.note(&connect(4, "other"), &refused, NOW, Fate::Unknown);
    let bind = Action::Bind(Bind {
        pool: String::new(),
        room: room("r"),
        customer: "c".to_owned(),
        address: "a:1".to_owned(),
        instead_of: vec![1, 3],
    });
    assert_eq!(actions(&mut outbox), [bind]);
    assert_eq!(outbox.len(), 0);
}

#[test]
fn servers_are_told_before_rooms_and_rooms_before_tasks() {
    let mut outbox = Outbox::default();
    let done = Outcome::Moderated(Ok(()));
    outbox.note(&moderate(7, "r"), &done, NOW, Fate::Known);
    outbox.note(&connect(1, "r"), &connected("a:1"), NOW, Fate::Known);
    outbox.note(&report(2, 0.1), &delivery(&[7]), NOW, Fate::Known);
    outbox.note(&report(3, 0.2), &delivery(&[7, 8]), NOW, Fate::Known);
    let told = actions(&mut outbox);
    let [Action::Report(report), Action::Bind(_), moderated, release] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((report.load, &report.released), (0.2, &Some(Vec::new())));
    assert_eq!(*moderated, moderate(7, "r").action);
    let key = |command| TaskKey { command, index: 0 };
    let tasks = vec![key(7), key(8)];
    let server = server();
    assert_eq!(*release, Action::Release(Release { server, tasks }));
}

#[test]
fn what_could_not_be_told_keeps_its_place_and_what_was_said_since() {
    let mut outbox = Outbox::default();
    outbox.note(&connect(1, "old"), &connected("a:1"), NOW, Fate::Unknown);
    outbox.note(&connect(2, "older"), &connected("a:1"), NOW, Fate::Known);
    outbox.note(&report(3, 0.1), &delivery(&[7]), NOW, Fate::Known);
    let taken = outbox.take(usize::MAX, Part::All);
    outbox.note(&connect(4, "new"), &connected("a:1"), NOW, Fate::Known);
    outbox.note(&connect(5, "old"), &connected("b:1"), NOW, Fate::Unknown);
    outbox.note(&report(6, 0.2), &delivery(&[8]), NOW, Fate::Known);
    outbox.restore(taken);
    let told = actions(&mut outbox);
    let names: Vec<_> = told
        .iter()
        .filter_map(|it| match it {
            Action::Bind(Bind {
                room,
                address,
                instead_of,
                ..
            }) => Some((room.name.as_str(), address.as_str(), instead_of.as_slice())),
            _ => None,
        })
        .collect();
    let expected: [(_, _, &[u64]); 3] = [
        ("old", "b:1", &[1, 5]),
        ("older", "a:1", &[]),
        ("new", "a:1", &[]),
    ];
    assert_eq!(names, expected);
    assert!(matches!(&told[0], Action::Report(it) if it.load == 0.2));
    assert!(
        matches!(told.last(), Some(Action::Release(Release { tasks, .. })) if tasks.len() == 2)
    );
}

#[test]
fn tasks_are_told_only_when_everything_is() {
    let mut outbox = Outbox::default();
    let done = Outcome::Moderated(Ok(()));
    outbox.note(&moderate(7, "r"), &done, NOW, Fate::Known);
    outbox.note(&report(2, 0.1), &delivery(&[7]), NOW, Fate::Known);
    assert_eq!(outbox.take(usize::MAX, Part::Places).len(), 1);
    assert_eq!(outbox.take(usize::MAX, Part::All).len(), 2);
}

#[test]
fn an_old_report_is_not_told_but_what_it_released_is() {
    let mut outbox = Outbox::default();
    let earlier = Timestamp(NOW.0 - 8_000);
    outbox.note(&report(2, 0.1), &delivery(&[7]), earlier, Fate::Known);
    let told = actions(&mut outbox);
    assert!(matches!(told[..], [Action::Release(_)]), "{told:?}");
}

#[test]
fn a_full_outbox_drops_its_oldest_rooms_and_counts_them() {
    let mut outbox = Outbox::default();
    outbox.note(&report(1, 0.1), &delivery(&[7]), NOW, Fate::Known);
    let rooms = OUTBOX_MAX as u64;
    for at in 0..rooms {
        let name = format!("r{at}");
        outbox.note(&connect(at, &name), &connected("a:1"), NOW, Fate::Known);
    }
    assert_eq!((outbox.len(), outbox.take_dropped()), (OUTBOX_MAX, 2));
    let told = actions(&mut outbox);
    assert!(matches!(told[0], Action::Report(_)));
    let first = told.iter().find_map(|it| match it {
        Action::Bind(Bind { room, .. }) => Some(room.name.as_str()),
        _ => None,
    });
    assert_eq!(first, Some("r2"));
}

#[test]
fn an_earlier_outbox_comes_first_and_old_tellings_expire() {
    let (mut outbox, mut journal) = (Outbox::default(), Outbox::default());
    let ancient = Timestamp(NOW.0 - 61_000);
    let done = Outcome::Moderated(Ok(()));
    journal.note(&moderate(1, "r"), &done, ancient, Fate::Known);
    journal.note(&moderate(2, "r"), &done, NOW, Fate::Known);
    outbox.note(&moderate(3, "r"), &done, NOW, Fate::Known);
    journal.expire(Timestamp(NOW.0 - 60_000));
    outbox.precede(&mut journal);
    let tellings = outbox.take(usize::MAX, Part::All);
    let ids: Vec<_> = tellings
        .iter()
        .filter_map(|it| it.command(NOW, Duration::ZERO, 0))
        .map(|it| it.id)
        .collect();
    assert_eq!(ids, [2, 3]);
    assert_eq!(journal.len(), 0);
}

#[test]
fn whoever_is_told_ends_with_the_same_rooms_and_no_task_twice() {
    let timing = Timing::default();
    let (mut alone, mut others, mut outbox) = (Grid::default(), Grid::default(), Outbox::default());
    let commands = [
        report(1, 0.1),
        connect(2, "r"),
        moderate(3, "r"),
        report(4, 0.1),
        connect(5, "later"),
        moderate(6, "later"),
    ];
    for command in &commands {
        let applied = alone.apply(command, NOW, &timing);
        outbox.note(command, &applied.outcome, NOW, Fate::Known);
    }
    others.apply(&report(1, 0.1), NOW, &timing);
    for action in actions(&mut outbox) {
        let id = match &action {
            Action::Moderate { task, .. } if *task.room() == room("r") => 3,
            Action::Moderate { .. } => 6,
            _ => 99,
        };
        others.apply(&Command { id, action }, NOW, &timing);
    }
    let rooms = |grid: &Grid| -> BTreeSet<(String, String)> {
        let pool = grid.pool("").unwrap();
        let rooms = pool.rooms();
        rooms
            .map(|(_, it)| (it.id.name.clone(), it.server.clone()))
            .collect()
    };
    assert_eq!(rooms(&alone), rooms(&others));
    let Outcome::Tasks(Ok(delivery)) = others.apply(&report(7, 0.1), NOW, &timing).outcome else {
        panic!("not a delivery");
    };
    let keys: Vec<_> = delivery.tasks.iter().map(|it| it.key.command).collect();
    assert_eq!(keys, [6]);
}
