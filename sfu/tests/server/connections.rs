//! Connections that stop half way, that are not read from, and that vanish.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use rmpv::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{binding_request, map},
    world::World,
};

/// How long the server lets a connection stand still on its way to a client.
const WAY_IN: Duration = Duration::from_secs(10);

/// And how much later it may be about it here.
const GRACE: Duration = Duration::from_secs(4);

/// Reads until the server ends the connection, and says when that was.
async fn end_of(mut connection: impl AsyncRead + Unpin, name: &str, began: Instant) -> Duration {
    let mut bytes = Vec::new();
    let ends = connection.read_to_end(&mut bytes);
    // A reset is an end as well.
    let _ = timeout(WAY_IN + GRACE, ends)
        .await
        .unwrap_or_else(|_| panic!("{name} is held"));
    began.elapsed()
}

/// Sends these bytes again and again, slowly, and reads nothing, until the server ends the connection.
async fn trickle(mut connection: impl AsyncWrite + Unpin, bytes: &[u8], name: &str) {
    let began = Instant::now();
    while connection.write_all(bytes).await.is_ok() && connection.flush().await.is_ok() {
        assert!(began.elapsed() < WAY_IN + GRACE, "{name} is held");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Asks for more and more and reads no answer, until the server ends the connection.
async fn asks_and_does_not_read(world: &World) {
    let mut connection = world.connect().await;
    let requests = "GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
    let floods = async { while connection.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(WAY_IN + GRACE, floods)
        .await
        .expect("who does not read is disconnected");
}

async fn stops_half_way(world: &World) {
    let tcp = async || TcpStream::connect(world.http).await.expect("a connection");
    let began = Instant::now();
    let silent = tcp().await;
    // The first bytes of a client's hello that announce 512 more.
    let mut half = tcp().await;
    half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
        .await
        .expect("it is open");
    let asks_nothing = world.connect().await;
    let mut half_head = world.connect().await;
    half_head
        .write_all(b"GET /main HTTP/1.1\r\nhost: a\r\n")
        .await
        .expect("it is open");
    let no_websocket = "POST /main HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    let mut endless_body = world.connect().await;
    endless_body
        .write_all(no_websocket.as_bytes())
        .await
        .expect("it is open");
    let ends = async {
        for took in [
            end_of(silent, "a connection without TLS", began),
            end_of(half, "half a hello", began),
        ]
        .map(Box::pin)
        {
            assert!(took.await >= WAY_IN, "a slow client is given its time");
        }
    };
    tokio::join!(
        ends,
        end_of(asks_nothing, "a connection without a request", began),
        end_of(half_head, "half a head", began),
        trickle(world.connect().await, b"x", "a head byte by byte"),
        trickle(endless_body, b"x", "a body byte by byte"),
        asks_and_does_not_read(world),
    );
}

async fn never_authenticate(world: &World) {
    const STRANGERS: usize = 1_000;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS / 50 {
        let opened = (0..50).map(|_| world.open("/main"));
        strangers.extend(
            join_all(opened)
                .await
                .into_iter()
                .map(|it| it.expect("let in")),
        );
    }
    world
        .counts("sfu_open_connections", "websocket", STRANGERS as f64)
        .await;
    world.others_are_unaffected().await;
    let ends = strangers.iter_mut().map(async |stranger| {
        assert_eq!(stranger.closed().await, Some(1008));
    });
    join_all(ends).await;
}

async fn a_stream_is_not_opened(world: &World) {
    let mut main = world.authenticated(&world.token_for("late", "late")).await;
    let name = main.join("late", b"", [0.0; 3]).await.expect("let in");
    world.settles("sfu_rooms", "", 1.0).await;
    sleep(WAY_IN + Duration::from_millis(500)).await;
    assert_eq!(
        world.open(&format!("/room?{name}")).await.err(),
        Some(404),
        "too late"
    );
    let again = main.join("late", b"", [0.0; 3]).await;
    let stream = again.expect("whoever was too late may ask again");
    world.enter(main, &stream).await;
}

/// One test for all that takes the ten seconds of the way in.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_on_the_way_in_is_disconnected() {
    let world = World::start_with("[http]\ntimeout = 60000\n").await;
    let (half_way, strangers) = (stops_half_way(&world), never_authenticate(&world));
    tokio::join!(half_way, strangers, a_stream_is_not_opened(&world));
    world.everybody_is_gone().await;
    world.settles("sfu_open_connections", "http", 0.0).await;
    world.others_are_unaffected().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_instead_of_tls_or_http_is_disconnected_at_once() {
    let world = World::start().await;
    let mut random = fastrand::Rng::with_seed(23);
    let noise = |random: &mut fastrand::Rng| -> Vec<u8> {
        let length = random.usize(1..2_000);
        // Not the first byte of a hello, which would be worth waiting for.
        let rest = (1..length).map(|_| random.u8(..));
        std::iter::once(0xff)
            .chain(rest.collect::<Vec<_>>())
            .collect()
    };
    for _ in 0..50 {
        let mut tcp = TcpStream::connect(world.http).await.unwrap();
        tcp.write_all(&noise(&mut random)).await.unwrap();
        assert!(end_of(tcp, "noise", Instant::now()).await < WAY_IN / 2);
        let mut tls = world.connect().await;
        let bytes = [noise(&mut random), b"\r\n\r\n".to_vec()].concat();
        tls.write_all(&bytes).await.unwrap();
        assert!(end_of(tls, "noise", Instant::now()).await < WAY_IN / 2);
    }
    let mut heads = world.connect().await;
    let head = format!("GET /main HTTP/1.1\r\n{}", "a: b\r\n".repeat(100_000));
    // The server may have had enough before the end of it.
    let _ = heads.write_all(head.as_bytes()).await;
    assert!(end_of(heads, "a head without an end", Instant::now()).await < WAY_IN / 2);
    let sockets = world.count("sfu_connections_total", "http").await;
    assert!(sockets >= 101.0, "{sockets} were counted");
    world.settles("sfu_open_connections", "http", 0.0).await;
    world.others_are_unaffected().await;
    world.stop().await;
}

/// A way to a server that can be cut: then nothing goes through in any direction, and no side is told.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Wire {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpSocket::new_v4().expect("a socket");
                // What the system keeps for a reader that does not read should not be much.
                upstream.set_recv_buffer_size(16 * 1024).expect("a size");
                let upstream = upstream.connect(server).await.expect("the server");
                tokio::spawn(forward(client, upstream, is_cut.clone()));
            }
        });
        Self { address, cut }
    }

    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, mut is_cut: watch::Receiver<bool>) {
    for end in [&client, &server] {
        end.set_nodelay(true).expect("a socket");
    }
    let is_over = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => true,
        _ = is_cut.wait_for(|cut| *cut) => false,
    };
    // Once it is cut, both ends stay open for as long as the wire is there.
    while !is_over && is_cut.changed().await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_is_gone_soon() {
    let mut world = World::start_with("[http]\ntimeout = 1000\nping_interval = 300\n").await;
    let direct = world.http;
    let wire = Wire::to(direct).await;
    let mut alice = world.member("room", "alice").await;
    world.http = wire.address;
    let bob = world.member("room", "bob").await;
    world.http = direct;
    alice.room.update("PeerJoined").await;
    wire.cut();
    let began = Instant::now();
    let alice_reads = async {
        let left = alice.room.update("PeerLeft").await;
        assert_eq!(left["peer_id"].as_u64(), Some(bob.peer));
    };
    let main_reads = async {
        loop {
            sleep(Duration::from_millis(200)).await;
            alice.main.call("Nothing", map([])).await.unwrap_err();
        }
    };
    tokio::select! {
        () = alice_reads => {}
        () = main_reads => {}
    }
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    world.settles("sfu_clients", "", 1.0).await;
    alice.goes().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_has_to_leave() {
    const MESSAGES: u32 = 900;
    let mut world = World::start_with(
        "[http]\ntimeout = 60000\nping_interval = 30000\n\
         [limit.peer]\nincoming_messages = { rate = 100000, capacity = 100000, overflow = 10 }\n",
    )
    .await;
    let direct = world.http;
    let wire = Wire::to(direct).await;
    let mut alice = world.member("room", "alice").await;
    let mut bob = world.member("room", "bob").await;
    world.http = wire.address;
    let slow = world.member("room", "slow").await;
    world.http = direct;
    wire.cut();
    let mut has_left = false;
    for number in 0..MESSAGES {
        let mut message = vec![0; 32 * 1024];
        message[..4].copy_from_slice(&number.to_be_bytes());
        bob.says(&message).await;
        loop {
            let (method, params) = alice.room.notification().await.expect("alice stays");
            match method.as_str() {
                "MessageReceived" => {
                    assert_eq!(params["message"], Value::Binary(message));
                    break;
                }
                _ => {
                    has_left |= params["peer_id"].as_u64() == Some(slow.peer)
                        && params["kind"].as_str() == Some("PeerLeft");
                }
            }
        }
        if has_left {
            break;
        }
    }
    assert!(has_left, "the slow one left");
    world.settles("sfu_slow_peers_total", "", 1.0).await;
    world.others_are_unaffected().await;
    drop((slow, wire));
    alice.goes().await;
    bob.goes().await;
    world.everybody_is_gone().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_for_no_session_are_counted_on_whichever_shard_they_come() {
    let world = World::start_with("[http]\nshards = 2\n").await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // For a session of the first shard, of the second, and of one that is not there.
    for shard in ["A", "B", "Z"] {
        let request = binding_request(&format!("{shard}AAAAAAAAAAAAAAA"));
        socket.send_to(&request, world.webrtc).await.unwrap();
    }
    socket.send_to(&[22, 254, 253], world.webrtc).await.unwrap();
    world
        .settles("sfu_drops_total", "\"unknown_address\"", 4.0)
        .await;
    socket.send_to(&[200; 100], world.webrtc).await.unwrap();
    world
        .settles("sfu_drops_total", "\"unknown_packet\"", 1.0)
        .await;
    world.others_are_unaffected().await;
    world.stop().await;
}
