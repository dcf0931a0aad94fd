//! Frames, calls and descriptions that no client sends. Each is answered with an error or ends its own stream; nothing
//! stops, nothing leaks, and others do not notice.

use futures::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{OFFER, Stream, map, packed},
    world::{PATIENCE, World},
};

/// Calls are not what is limited here.
const ANY_RATE: &str =
    "[limit.peer]\nincoming_messages = { rate = 1000000, capacity = 1000000, overflow = 10 }\n";

/// Bytes of a frame that the server reads at all.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Close codes of RFC 6455.
const PROTOCOL_ERROR: Option<u16> = Some(1002);
const POLICY: Option<u16> = Some(1008);

fn list(items: Vec<Value>) -> Vec<u8> {
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
        &[0x89, 0xfe, 0, 200, 1, 2, 3, 4],
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
async fn is_open(stream: &mut Stream) -> Result<(), Option<u16>> {
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

async fn set_up(main: &mut Stream, sdp: &str) -> Result<String, String> {
    let result = main.call("SetupWebRtc", map([("sdp", sdp.into())])).await?;
    Ok(result["sdp"].as_str().expect("an answer").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_that_are_none_are_refused() {
    let world = World::start_with(ANY_RATE).await;
    let mut main = world.authenticated(&world.token_for("room", "eve")).await;
    let answer = set_up(&mut main, OFFER).await.unwrap();
    assert!(answer.contains("m=application "), "{answer}");
    let section = &OFFER[OFFER.find("m=").unwrap()..];
    let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let only_channel = "the offer must be one data channel and nothing else";
    for (sdp, error) in [
        (String::new(), only_channel),
        ("m=application ".to_owned(), "invalid sdp"),
        (OFFER.replace("m=application", "m=audio"), only_channel),
        (format!("{OFFER}{section}"), only_channel),
        (
            format!("{OFFER}{}", "m=application 9 x y\r\n".repeat(1_400)),
            only_channel,
        ),
        (
            format!("{OFFER}{}", "a".repeat(33_000)),
            "invalid params: sdp is too long",
        ),
        (
            OFFER.replace("a=fingerprint", "a=finger"),
            "the offer cannot be answered",
        ),
        (
            OFFER.replace("a=ice-pwd", "a=ice"),
            "the offer cannot be answered",
        ),
    ] {
        let start: String = sdp.chars().take(60).collect();
        assert_eq!(
            set_up(&mut main, &sdp).await.unwrap_err(),
            error,
            "{start}…"
        );
    }
    // As many candidates as fit cost nothing: the client is found by its own checks.
    let many = format!("{OFFER}{}", candidate.repeat(650));
    timeout(PATIENCE, set_up(&mut main, &many))
        .await
        .unwrap()
        .unwrap();
    // 64 KiB are more than a frame holds.
    let frame = list(vec![
        0.into(),
        9.into(),
        "SetupWebRtc".into(),
        map([("sdp", "x".repeat(64 * 1024).into())]),
    ]);
    let _ = main.socket.send(Message::Binary(frame.into())).await;
    main.closed().await;
    world.everybody_is_gone().await;
    world.others_are_unaffected().await;
    world.stop().await;
}

/// Lines and characters of the offer changed.
fn changed_offer(random: &mut fastrand::Rng) -> String {
    let mut lines: Vec<String> = OFFER.lines().map(str::to_owned).collect();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..lines.len());
        match random.u8(..5) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[random.usize(..lines.len())].clone()),
            2 => {
                lines[at] = lines[at]
                    .chars()
                    .map(|it| {
                        if random.u8(..8) == 0 {
                            random.char(' '..='~')
                        } else {
                            it
                        }
                    })
                    .collect()
            }
            3 => {
                let end = random.usize(..=lines[at].len());
                lines[at].truncate(end);
            }
            _ => lines[at].push_str(&"9".repeat(random.usize(1..2_000))),
        }
    }
    lines.join("\r\n") + "\r\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_offers_are_answered_or_refused() {
    let world = World::start_with(ANY_RATE).await;
    let mut main = world.authenticated(&world.token_for("room", "eve")).await;
    let seed = 5;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut accepted = 0;
    const TRIES: u32 = 400;
    for round in 0..TRIES {
        let offer = changed_offer(&mut random);
        match set_up(&mut main, &offer).await {
            Ok(_) => accepted += 1,
            Err(error) => assert!(
                [
                    "invalid sdp",
                    "the offer must be one data channel and nothing else",
                    "the offer cannot be answered",
                ]
                .contains(&error.as_str()),
                "seed {seed}, round {round}: {error}"
            ),
        }
    }
    assert!(
        (20..TRIES - 20).contains(&accepted),
        "both were tried: {accepted}"
    );
    main.socket.close(None).await.unwrap();
    world.everybody_is_gone().await;
    world.others_are_unaffected().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_calls_too_often_waits_then_is_refused_then_has_to_go() {
    let world = World::start_with(
        "[limit.peer]\nincoming_messages = { rate = 20, capacity = 8, overflow = 5 }\n",
    )
    .await;
    for is_room in [false, true] {
        let mut member = world.member("room", "eve").await;
        // What it took to get here is forgotten.
        tokio::time::sleep(std::time::Duration::from_millis(450)).await;
        let stream = if is_room {
            &mut member.room
        } else {
            &mut member.main
        };
        let (answers, code) = stream.flood(20).await;
        assert_eq!((answers.len(), code), (20, None));
        let refused = |(_, error, _): &&(u64, Option<String>, std::time::Duration)| {
            error.as_deref() == Some("too many calls")
        };
        let count = answers.iter().filter(refused).count();
        assert!(
            (5..=7).contains(&count),
            "8 at once, 5 late, and a few got in meanwhile: {count}"
        );
        let passed: Vec<_> = answers.iter().filter(|answer| !refused(answer)).collect();
        let last = passed.last().unwrap().2.as_millis();
        assert!((150..2_000).contains(&last), "delayed by {last} ms");
        assert!(passed.is_sorted_by_key(|(id, ..)| *id), "in their order");

        let (_, code) = stream.flood(100_000).await;
        assert_eq!(code.or(POLICY), POLICY);
        assert!(is_open(stream).await.is_err(), "the end of it");
        world.others_are_unaffected().await;
        member.goes().await;
        world.everybody_is_gone().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_calls_does_not_slow_others_down() {
    let world = World::start().await;
    let mut alice = world.member("room", "alice").await;
    let mut bob = world.member("room", "bob").await;
    let floods = async {
        for _ in 0..10 {
            let mut main = world.open("/main").await.unwrap();
            main.flood(5_000).await;
        }
    };
    let talk = async {
        for _ in 0..20 {
            let call = bob.room.call("Nothing", map([]));
            let answer = timeout(std::time::Duration::from_secs(1), call).await;
            assert!(answer.expect("answered soon").is_err());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        bob.says(b"still here").await;
        alice.room.update("MessageReceived").await;
    };
    tokio::join!(floods, talk);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_are_asked_for_and_not_entered_cost_what_the_limits_allow() {
    let world = World::start_with("[limit]\nmax_peers = 20\n").await;
    let rooms: Vec<String> = (0..100).map(|room| format!("room-{room}")).collect();
    let token = world.token(&json!({"rid": rooms, "uid": "eve"}));
    let mut main = world.authenticated(&token).await;
    let mut names = Vec::new();
    for (at, room) in rooms.iter().take(30).enumerate() {
        match main.join(room, b"", [0.0; 3]).await {
            Ok(name) => names.push(name),
            Err(error) => {
                assert_eq!(error, "peer limit exceeded");
                assert!(at >= 20);
            }
        }
    }
    assert_eq!(names.len(), 20);
    for guess in [
        "",
        "?",
        "AAAAAAAAAAAAAAAAAAAAAA",
        &names[0][1..],
        &names[0].to_lowercase(),
        &"A".repeat(10_000),
    ] {
        let path = format!("/room?{guess}");
        let refused = world.open(&path).await.err();
        assert!(
            refused == Some(404) || guess.len() > 1_000,
            "{guess}: {refused:?}"
        );
    }
    assert!(world.open(&format!("/room?{}", names[0])).await.is_ok());
    assert_eq!(
        world.open(&format!("/room?{}", names[0])).await.err(),
        Some(404),
        "used"
    );
    // Whoever goes takes along what nobody can use any more.
    main.socket.close(None).await.unwrap();
    world.everybody_is_gone().await;
    assert_eq!(
        world.open(&format!("/room?{}", names[1])).await.err(),
        Some(404),
        "its client is gone"
    );
    world.others_are_unaffected().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_none_let_nobody_in() {
    let world = World::start_with(ANY_RATE).await;
    let good = world.token_for("room", "eve");
    let seed = 3;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut main = world.open("/main").await.unwrap();
    for round in 0..500 {
        let mut token = good.clone().into_bytes();
        let at = random.usize(..token.len());
        match random.u8(..4) {
            // The last character of a part holds bits that mean nothing: any other place counts.
            0 => token[at] = if token[at] == b'.' { b'-' } else { b'.' },
            1 => token.truncate(at),
            2 => token.insert(at, b'.'),
            _ => {
                token = (0..random.usize(..20_000))
                    .map(|_| random.u8(b' '..b'~'))
                    .collect()
            }
        }
        let token = String::from_utf8(token).unwrap();
        let answer = main
            .call("Authenticate", map([("token", token.as_str().into())]))
            .await;
        assert!(answer.is_err(), "seed {seed}, round {round}: {token}");
    }
    assert_eq!(world.count("sfu_clients", "").await, 0.0);
    let answer = main
        .call("Authenticate", map([("token", good.into())]))
        .await;
    assert!(answer.is_ok(), "and the right one still does");
    world.stop().await;
}
