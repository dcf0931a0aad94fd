//! A voice server on free ports of this machine, and clients of it.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use gateway_api::{AccessKey, Claims, KeyPair, Names, sign};
use sfu::{Config, Ended, SelfSigned, Server};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use voice_client::{
    Client, Entry, Event, Events, Join, Media, Packet, Room, TokenSource, Transport, Trust, Voice,
};

/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A running voice server.
pub(crate) struct World {
    pub(crate) http: SocketAddr,
    pub(crate) quic: SocketAddr,
    pub(crate) key: Arc<KeyPair>,
    pub(crate) certificate: SelfSigned,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Ended>,
}

/// A client in a room, with a started media.
pub(crate) struct Player {
    pub(crate) client: Client,
    pub(crate) voice: Voice,
    pub(crate) room: Room,
    pub(crate) events: Events,
    pub(crate) media: Media,
}

/// The key that signs tokens.
pub(crate) fn key() -> KeyPair {
    AccessKey::from_random(&[7; 31]).key_pair()
}

/// A certificate for this machine.
pub(crate) fn certificate() -> SelfSigned {
    let loopback = "127.0.0.1".parse().expect("an address");
    SelfSigned::new(&[loopback]).expect("a certificate")
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A server with more settings: whole sections of TOML.
    pub(crate) async fn start_with(more: &str) -> Self {
        let (key, certificate) = (key(), certificate());
        let jwk = key.public_jwk();
        let files = certificate.files();
        // The server names its address to those who look for it, so it has to be known beforehand.
        let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let quic = free.local_addr().expect("an address");
        drop(free);
        let text = format!(
            "public_address = \"127.0.0.1:1\"\n[[authorization.keys]]\nkid = \"{}\"\nkty = \"OKP\"\n\
             crv = \"Ed25519\"\nx = \"{}\"\n[http]\nbinding = \"127.0.0.1:0\"\ncertificate_file = {:?}\n\
             privatekey_file = {:?}\nwebrtc_binding = \"127.0.0.1:0\"\nshards = 1\n[quic]\nbinding = \"{quic}\"\npublic_address_override = \"{quic}\"\ncertificate_file = {:?}\n\
             privatekey_file = {:?}\n{more}",
            jwk.kid,
            jwk.x,
            files.certificate_file,
            files.privatekey_file,
            files.certificate_file,
            files.privatekey_file,
        );
        let config = Config::parse(Path::new("test"), &text, Default::default());
        let server = Server::bind(config.expect("settings"), None);
        let server = server.await.expect("free ports");
        let (http, quic) = (server.http_addr(), server.quic_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let run = server.run(shutdown, std::future::pending(), Duration::ZERO);
        Self {
            http: http.expect("HTTPS"),
            quic: quic.expect("QUIC"),
            key: Arc::new(key),
            certificate,
            stop: Some(stop),
            ended: tokio::spawn(run),
        }
    }

    /// A token of this user for these rooms.
    pub(crate) fn token(&self, user: &str, rooms: &[&str]) -> String {
        token(&self.key, user, rooms)
    }

    pub(crate) fn config(&self) -> voice_client::Config {
        let trust = Trust::pem_file(self.certificate.files().certificate_file);
        let mut config = voice_client::Config::new(trust.expect("a certificate"));
        config.transport = Transport::WebSocket;
        config
    }

    /// A client that may enter these rooms, and is in none.
    pub(crate) async fn client(&self, user: &str, rooms: &[&str]) -> (Client, Voice) {
        self.client_by(Transport::WebSocket, user, rooms).await
    }

    async fn client_by(&self, by: Transport, user: &str, rooms: &[&str]) -> (Client, Voice) {
        let tokens = TokenSource::fixed(self.token(user, rooms));
        let address = match by {
            Transport::WebSocket => self.http,
            Transport::WebTransport => self.quic,
        };
        let mut config = self.config();
        config.transport = by;
        let entry = Entry::server(address.to_string(), tokens);
        Client::connect(entry, config).await.expect("let in")
    }

    /// A client that talks in a room.
    pub(crate) async fn player(&self, user: &str, room: &str) -> Player {
        self.player_by(Transport::WebSocket, user, room).await
    }

    /// As [`Self::player`], over some transport.
    pub(crate) async fn player_by(&self, by: Transport, user: &str, room: &str) -> Player {
        let (client, voice) = self.client_by(by, user, &[room]).await;
        Player::enter(client, voice, user, room).await
    }

    /// Tells the server to end, and waits for that.
    pub(crate) async fn stop(mut self) {
        self.stop = None;
        let ended = timeout(PATIENCE, &mut self.ended).await.expect("it ends");
        assert_eq!(ended.expect("no panic"), Ended::Asked);
    }
}

/// A token for a voice server.
pub(crate) fn token(key: &KeyPair, user: &str, rooms: &[&str]) -> String {
    let rooms = rooms.iter().map(|room| (*room).to_owned()).collect();
    let claims = Claims {
        uid: Some(user.to_owned()),
        rid: Some(Names::Many(rooms)),
        aud: Some(Names::One("sfu".to_owned())),
        ..Claims::default()
    };
    sign(&claims, key)
}

impl Player {
    pub(crate) async fn enter(client: Client, voice: Voice, user: &str, room: &str) -> Self {
        let join = Join {
            user_data: user.to_owned().into(),
            ..Join::default()
        };
        let (room, events) = client.join(room, join).await.expect("let in");
        let media = room.start_media().await.expect("a media");
        Self {
            client,
            voice,
            room,
            events,
            media,
        }
    }

    /// Waits until somebody else starts to talk.
    pub(crate) async fn expects_talker(&mut self) {
        self.event(|event| matches!(event, Event::MediaStarted { .. }))
            .await;
    }

    /// Waits for such an event; others before it are dropped.
    pub(crate) async fn event(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
        event(&mut self.events, is_it).await
    }

    pub(crate) async fn hears(&mut self) -> Packet {
        hears(&mut self.voice).await
    }
}

/// Waits for such an event; others before it are dropped.
pub(crate) async fn event(events: &mut Events, is_it: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.next().await.expect("an event, not the end");
            if is_it(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("an event in time")
}

pub(crate) async fn hears(voice: &mut Voice) -> Packet {
    let heard = timeout(PATIENCE, voice.recv()).await;
    heard.expect("a packet in time").expect("a client")
}
