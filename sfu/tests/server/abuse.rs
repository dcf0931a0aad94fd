//! Frames that no client sends. Each is answered with an error or ends its own stream; nothing stops, nothing leaks, and
//! others do not notice.

use futures::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{OFFER, Stream, map, packed},
    world::{ANY_RATE, PATIENCE, World},
};

/// Bytes of a frame that the server reads at all.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A close code of RFC 6455.
const PROTOCOL_ERROR: Option<u16> = Some(1002);

pub(crate) fn list(items: Vec<Value>) -> Vec<u8> {
    packed(&Value::Array(items))
}

/// Frames that are no call, and what they are.
fn garbage() -> Vec<(&'static str, Message)> {
    let binary = |name, bytes: Vec<u8>| (name, Message::Binary(bytes.into()));
    let bomb = |first: u8| vec![0x94, 0, 0, 0xa1, b'x', first, 0xff, 0xff, 0xff, 0xff];
    vec![
        ("text", Message::Text("hello".into())),
        binary("nothing", vec![]),
        binary("a number", vec![5]),
        binary("the byte that is never used", vec![0xc1]),
        binary("the half of a call", vec![0x94, 0, 0]),
        binary(
            "an answer",
            list(vec![1.into(), 0.into(), Value::Nil, map([])]),
        ),
        binary("a notification", list(vec![2.into(), "x".into(), map([])])),
        binary(
            "a call without params",
            list(vec![0.into(), 0.into(), "x".into()]),
        ),
        binary(
            "five items",
            list(vec![0.into(), 0.into(), "x".into(), map([]), Value::Nil]),
        ),
        binary(
            "an id that is no number",
            list(vec![0.into(), "a".into(), "x".into(), map([])]),
        ),
        binary(
            "bytes behind a call",
            [list(vec![0.into(), 0.into(), "x".into(), map([])]), vec![0]].concat(),
        ),
        binary("a deep nest of lists", vec![0x91; FRAME_BYTES_MAX]),
        binary(
            "a deep nest of maps",
            [0x81, 0xa0].repeat(FRAME_BYTES_MAX / 2),
        ),
        binary("four billion items", bomb(0xdd)),
        binary("four billion members", bomb(0xdf)),
        binary("four gigabytes of text", bomb(0xdb)),
        binary("four gigabytes of data", bomb(0xc6)),
        binary("four gigabytes of an extension", bomb(0xc9)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_no_call_ends_its_stream_and_nothing_else() {
    let world = World::start().await;
    for (name, frame) in garbage() {
        let mut main = world.open("/main").await.unwrap();
        main.socket.send(frame.clone()).await.unwrap();
        assert_eq!(
            main.closed().await,
            PROTOCOL_ERROR,
            "{name}, on a stranger's main stream"
        );

        let mut member = world.member("room", "eve").await;
        member.room.socket.send(frame.clone()).await.unwrap();
        assert_eq!(
            member.room.closed().await,
            PROTOCOL_ERROR,
            "{name}, in a room"
        );
        let known = member.main.call("Nothing", map([])).await;
        assert_eq!(
            known.unwrap_err(),
            "unknown method",
            "{name}: the main stream lives on"
        );
        member.main.socket.send(frame).await.unwrap();
        assert_eq!(
            member.main.closed().await,
            PROTOCOL_ERROR,
            "{name}, on a main stream"
        );
    }
    world.everybody_is_gone().await;
    world.others_are_unaffected().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_websocket_any_more_ends_the_connection() {
    let world = World::start().await;
    // A reserved opcode; a frame without a mask; a length of 2^63; a control frame of 200 bytes; the middle of a message.
    let raw: [&[u8]; 5] = [
        &[0x83, 0x80, 1, 2, 3, 4],
        &[0x82, 0x01, 0xc0],
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        &[&[0x89, 0xfe, 0, 200, 1, 2, 3, 4][..], &[0; 200]].concat(),
        &[0x80, 0x81, 1, 2, 3, 4, 5],
    ];
    for bytes in raw {
        let mut member = world.member("room", "eve").await;
        let socket = member.room.socket.get_mut();
        socket.write_all(bytes).await.unwrap();
        socket.flush().await.unwrap();
        member.room.closed().await;
        world.settles("sfu_peers", "", 0.0).await;
        member.goes().await;
    }
    // One byte above the limit, whole and in pieces.
    for pieces in [1, 3] {
        let mut member = world.member("room", "eve").await;
        let bytes = vec![0; (FRAME_BYTES_MAX + pieces) / pieces];
        send_in_pieces(&mut member.room, &bytes, pieces).await;
        member.room.closed().await;
        world.settles("sfu_peers", "", 0.0).await;
        member.goes().await;
    }
    world.everybody_is_gone().await;
    world.others_are_unaffected().await;
    world.stop().await;
}

/// The same bytes several times as one message.
async fn send_in_pieces(stream: &mut Stream, bytes: &[u8], pieces: usize) {
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    for piece in 0..pieces {
        let kind = if piece == 0 {
            Data::Binary
        } else {
            Data::Continue
        };
        let is_last = piece + 1 == pieces;
        let frame = Frame::message(bytes.to_vec(), OpCode::Data(kind), is_last);
        // The server may have had enough by now.
        let _ = stream.socket.send(Message::Frame(frame)).await;
    }
}

/// Whether the stream is still open: `Err` has the close code.
pub(crate) async fn is_open(stream: &mut Stream) -> Result<(), Option<u16>> {
    let _ = stream
        .socket
        .send(Message::Ping(b"there?".to_vec().into()))
        .await;
    loop {
        match timeout(PATIENCE, stream.socket.next())
            .await
            .expect("an answer or the end")
        {
            Some(Ok(Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            None | Some(Err(_)) => return Err(None),
        }
    }
}

/// Calls of every kind with good params.
fn good_calls() -> Vec<Vec<u8>> {
    let call = |method: &str, params| list(vec![0.into(), 1.into(), method.into(), params]);
    let position = Value::Array(vec![Value::F64(0.5), 0.into(), 1.into()]);
    let bytes = || Value::Binary(vec![1, 2, 3]);
    let properties = map([("kind", "audio".into())]);
    vec![
        call("Authenticate", map([("token", "a.b.c".into())])),
        call("SetupWebRtc", map([("sdp", OFFER.into())])),
        call(
            "JoinRoom",
            map([
                ("room_id", "room".into()),
                ("user_data", bytes()),
                ("position", position.clone()),
            ]),
        ),
        call(
            "StartMedia",
            map([("media_id", 128.into()), ("properties", properties)]),
        ),
        call("StopMedia", map([("media_id", 128.into())])),
        call("PauseMedia", map([("media_id", Value::F64(300.0))])),
        call("UpdatePeer", map([("user_data", bytes())])),
        call("UpdateRoom", map([("user_data", "text".into())])),
        call("SetPeerPosition", map([("position", position)])),
        call(
            "SendMessage",
            map([
                ("message", bytes()),
                ("target_peer_ids", Value::Array(vec![1.into(), 2.into()])),
            ]),
        ),
    ]
}

/// A good call with some of it changed, cut off or doubled; or noise.
fn changed(random: &mut fastrand::Rng) -> Vec<u8> {
    let calls = good_calls();
    let mut bytes = calls[random.usize(..calls.len())].clone();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at.max(1)),
            3 => bytes.insert(at, random.u8(..)),
            _ => bytes = (0..random.usize(1..100)).map(|_| random.u8(..)).collect(),
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn random_frames_are_answered_or_end_their_stream() {
    let world = World::start_with(ANY_RATE).await;
    let seed = 11;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut member = world.member("room", "eve").await;
    let (mut ended, mut lived) = (0, 0);
    for round in 0..300 {
        let frame = Message::Binary(changed(&mut random).into());
        let stream = if round % 2 == 0 {
            &mut member.main
        } else {
            &mut member.room
        };
        stream.socket.send(frame).await.unwrap();
        match is_open(stream).await {
            Ok(()) => lived += 1,
            Err(code) => {
                assert_eq!(code, PROTOCOL_ERROR, "seed {seed}, round {round}");
                ended += 1;
                member.goes().await;
                world.settles("sfu_clients", "", 0.0).await;
                member = world.member("room", "eve").await;
            }
        }
    }
    assert!(
        ended > 30 && lived > 30,
        "both were tried: {ended}, {lived}"
    );
    member.goes().await;
    world.everybody_is_gone().await;
    world.others_are_unaffected().await;
    world.stop().await;
}
