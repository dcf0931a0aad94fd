//! Any bytes are calls or errors. What is a call of a peer happens in a room, and what the room says of it is a
//! notification; every call has an answer that a MessagePack decoder takes.

#![no_main]

mod listener;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Instant,
};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use listener::{Listener, check, decode};
use sfu_core::{
    Command, Join, MainCommand, MediaId, PeerId, Position, Room, RoomInfo, RoomLimits, Slot,
    wire::rpc::{FrameError, Reply, Request, answer},
};

/// Peers that take turns to send the frames.
const PEERS: u32 = 3;
/// Frames of one input; more of them find nothing that fewer do not.
const FRAMES_MAX: usize = 64;

/// Time plays no part in commands.
static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|data: &[u8]| {
    call(data, |_| Ok(()));

    let (mut room, mut listeners) = room();
    poll(&mut room, &mut listeners);
    let slots: Vec<Slot> = listeners.keys().copied().collect();
    for (frame, slot) in frames(data).zip(slots.iter().cycle()) {
        call(frame, |command| {
            let outcome = room.handle_command(*slot, command);
            poll(&mut room, &mut listeners);
            outcome.map_err(|error| error.to_string())
        });
    }
    for slot in slots {
        room.leave(slot, None);
        poll(&mut room, &mut listeners);
    }
    assert!(room.is_empty());
});

/// Understands a frame as the server does, and writes the answer.
fn call(frame: &[u8], mut handle: impl FnMut(Command) -> Result<(), String>) {
    let (id, outcome) = match Request::parse(frame) {
        Ok(request) => {
            let command = Command::parse(&request);
            let main_command = MainCommand::parse(&request);
            assert!(command.is_err() || main_command.is_err());
            if let Ok(command) = &main_command {
                assert_eq!(command.method(), request.method);
                answer_main(request.id, command);
            }
            let outcome = match command {
                Ok(command) => {
                    assert_eq!(command.method(), request.method);
                    handle(command)
                }
                Err(error) => Err(error.to_string()),
            };
            (request.id, outcome)
        }
        Err(FrameError::Request { id, problem }) => (id, Err(problem.to_owned())),
        Err(FrameError::Garbage | FrameError::NoRequest) => return,
    };
    let reply = match &outcome {
        Ok(()) => Reply::Done,
        Err(text) => Reply::Error(text),
    };
    let answer = decode(&answer(id, &reply));
    let items = answer.as_array().expect("a list");
    assert_eq!(items.len(), 4);
    assert_eq!(items[2].as_str(), outcome.err().as_deref());
}

/// Whatever a client calls a room, the answer that names it can be read.
fn answer_main(id: u64, command: &MainCommand) {
    let (MainCommand::JoinRoom { room_id, .. } | MainCommand::ResumeRoom { room_id, .. }) = command
    else {
        return;
    };
    let members = [("stream_id", room_id.as_str()), ("resume_key", "key")];
    let answer = decode(&answer(id, &Reply::Members(&members)));
    assert_eq!(answer[3]["stream_id"].as_str(), Some(room_id.as_str()));
    assert_eq!(answer[3]["resume_key"].as_str(), Some("key"));
}

/// MessagePack values one after another.
fn frames(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    let frames = std::iter::from_fn(move || {
        let before = rest;
        rmpv::decode::read_value_ref_with_max_depth(&mut rest, 32).ok()?;
        before.get(..before.len() - rest.len())
    });
    frames.take(FRAMES_MAX)
}

/// Peers 1 to 3 at one place with medias 128 to 133, two each.
fn room() -> (Room, BTreeMap<Slot, Listener>) {
    let info = RoomInfo {
        name: Arc::from("room"),
        customer: Arc::from("customer"),
        user_data: Bytes::new(),
    };
    let mut room = Room::new(info, RoomLimits::default());
    let listeners = (1..=PEERS).map(|id| {
        let first = u64::from(MediaId::MIN) + u64::from(id - 1) * 2;
        let peer = PeerId::new(id).expect("not 0");
        let join = Join {
            peer,
            user_id: Arc::from("user"),
            user_data: Bytes::new(),
            position: Position::default(),
            media_ids: [first, first + 1]
                .into_iter()
                .filter_map(MediaId::new)
                .collect(),
        };
        (room.join(*NOW, join), Listener::new(peer))
    });
    let listeners = listeners.collect();
    (room, listeners)
}

fn poll(room: &mut Room, listeners: &mut BTreeMap<Slot, Listener>) {
    while let Some(notice) = room.poll_notice() {
        check(&notice);
        for to in &notice.to {
            let listener = listeners.get_mut(to).expect("a peer of the room");
            listener.take_in(&notice.event);
        }
    }
}
