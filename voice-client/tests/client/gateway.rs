//! Through a gateway, which the test plays, to real voice servers.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;
use sfu::SelfSigned;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use voice_client::{
    Client, Config, ConnectError, Entry, Event, LeaveReason, TokenSource, Transport, Trust,
};

use crate::{
    quic_server::hash,
    world::{Player, World, certificate},
};

/// Answers `Connect`.
struct Gateway {
    address: SocketAddr,
    certificate: SelfSigned,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Tokens that are taken.
    tokens: HashSet<String>,
    /// The voice server, and what to show there.
    server: String,
    session: String,
}

impl Gateway {
    async fn start(server: SocketAddr, session: String) -> Self {
        let certificate = certificate();
        let files = certificate.files();
        let chain = CertificateDer::from_pem_file(files.certificate_file).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(files.privatekey_file).expect("a key");
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a certificate");
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State {
            tokens: ["good".to_owned()].into(),
            server: server.to_string(),
            session,
        }));
        let answering = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(answer(tls.clone(), tcp, Arc::clone(&answering)));
            }
        });
        Self {
            address,
            certificate,
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, tokens: TokenSource) -> Entry {
        Entry::gateway(format!("https://{}/", self.address), tokens)
    }
}

/// One call on one connection.
async fn answer(tls: TlsAcceptor, tcp: TcpStream, state: Arc<Mutex<State>>) {
    // A client that does not trust the certificate goes.
    let Ok(mut stream) = tls.accept(tcp).await else {
        return;
    };
    let mut request = Vec::new();
    // The call is one JSON object, and nothing before it ends like one.
    while !request.ends_with(b"}") {
        let mut piece = [0; 1_024];
        match stream.read(&mut piece).await {
            Ok(length @ 1..) => request.extend(&piece[..length]),
            _ => return,
        }
    }
    let request = String::from_utf8(request).expect("text");
    assert!(request.contains("\"Connect\""), "{request}");
    let lines = request.lines();
    let token = lines
        .filter_map(|line| line.split_once(": Bearer "))
        .map(|(_, token)| token.trim().to_owned())
        .next();
    let body = {
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match token.is_some_and(|token| state.tokens.contains(&token)) {
            true => json!({"id": 1, "result": {"address": state.server, "token": state.session}}),
            false => json!({"id": 1, "error": {"code": -32603, "message": "token has expired"}}),
        }
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // The client may have gone.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn config(gateway: &Gateway, worlds: &[&World], transport: Transport) -> Config {
    let certificates = worlds.iter().map(|world| hash(&world.certificate));
    let all = certificates.chain([hash(&gateway.certificate)]);
    let mut config = Config::new(Trust::hashes(all));
    config.transport = transport;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_names_the_voice_server_for_either_transport() {
    let world = World::start().await;
    for transport in [Transport::WebSocket, Transport::WebTransport] {
        let gateway = Gateway::start(world.http, world.token("bob", &["hall"])).await;
        let entry = gateway.entry(TokenSource::fixed("good"));
        let config = config(&gateway, &[&world], transport);
        let (client, voice) = Client::connect(entry, config).await.expect("let in");
        assert_eq!(client.server(), world.http.to_string());
        let bob = Player::enter(client, voice, "bob", "hall").await;
        bob.room.send_message("here").await.unwrap();
        bob.client.close().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_is_left_for_another_with_a_new_token() {
    let (old, new) = (World::start().await, World::start().await);
    let gateway = Gateway::start(old.http, old.token("bob", &["hall"])).await;
    let fetched = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetched);
    let tokens = TokenSource::from_fn(move || {
        let token = ["good", "better"].get(counted.fetch_add(1, Ordering::SeqCst));
        async move { Ok((*token.expect("two are enough")).to_owned()) }
    });
    let config = config(&gateway, &[&old, &new], Transport::WebSocket);
    let (client, voice) = Client::connect(gateway.entry(tokens), config)
        .await
        .expect("let in");
    let mut bob = Player::enter(client, voice, "bob", "hall").await;
    *gateway.state() = State {
        tokens: ["better".to_owned()].into(),
        server: new.http.to_string(),
        session: new.token("bob", &["hall"]),
    };
    let mut eve = new.player("eve", "hall").await;
    old.stop().await;
    let back = bob
        .event(|event| !matches!(event, Event::Reconnecting))
        .await;
    assert!(matches!(back, Event::Rejoined(_)), "{back:?}");
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    assert_eq!(bob.client.server(), new.http.to_string());
    eve.expects_talker().await;
    bob.media.send(&[0x78, 6]).unwrap();
    assert_eq!(eve.hears().await.payload[..], [0x78, 6]);
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_refuses_is_told() {
    let world = World::start().await;
    let gateway = Gateway::start(world.http, String::new()).await;
    let connect = async |token, transport, config: Option<Config>| {
        let config = config.unwrap_or_else(|| self::config(&gateway, &[&world], transport));
        let entry = gateway.entry(TokenSource::fixed(token));
        Client::connect(entry, config).await.unwrap_err()
    };
    let error = connect("bad", Transport::WebSocket, None).await;
    assert!(matches!(&error, ConnectError::GatewayRefused(text) if text == "token has expired"));
    let error = connect("good", Transport::WebSocket, None).await;
    assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
    let foreign = Config::new(Trust::hashes([hash(&world.certificate)]));
    let error = connect("good", Transport::WebSocket, Some(foreign)).await;
    assert!(
        matches!(&error, ConnectError::Gateway(text) if text.contains("certificate")),
        "{error:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_server_is_the_end_for_who_does_not_want_to_come_back() {
    let world = World::start().await;
    let gateway = Gateway::start(world.http, world.token("bob", &["hall"])).await;
    let mut config = config(&gateway, &[&world], Transport::WebSocket);
    config.reconnect.time_max = std::time::Duration::ZERO;
    let entry = gateway.entry(TokenSource::fixed("good"));
    let (client, voice) = Client::connect(entry, config).await.expect("let in");
    let mut bob = Player::enter(client, voice, "bob", "hall").await;
    world.stop().await;
    let last = bob.event(|event| matches!(event, Event::Left(_))).await;
    assert_eq!(last, Event::Left(LeaveReason::ServerClosing));
}
