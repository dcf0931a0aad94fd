//! A server on free ports of this machine, whose tokens the test signs.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use gateway_api::{AccessKey, KeyPair, sign};
use rustls::ClientConfig;
use serde_json::{Value, json};
use sfu::{Config, Ended, SelfSigned, Server};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::client::trusting;

/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Calls are not what is limited here.
pub(crate) const ANY_RATE: &str =
    "[limit.peer]\nincoming_messages = { rate = 1000000, capacity = 1000000, overflow = 10 }\n";

/// A running server.
pub(crate) struct World {
    pub(crate) http: SocketAddr,
    pub(crate) webrtc: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) key: KeyPair,
    /// For metrics; making one takes long.
    pub(crate) operator: reqwest::Client,
    /// Dropped or sent, it means the same.
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) hurry: Option<oneshot::Sender<()>>,
    pub(crate) ended: JoinHandle<Ended>,
    pub(crate) _certificate: SelfSigned,
}

impl World {
    /// A server with default limits.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A server with more settings: sections of TOML.
    pub(crate) async fn start_with(more: &str) -> Self {
        Self::start_draining(more, Duration::ZERO).await
    }

    /// As [`Self::start_with`]; at its end, those who are in may stay for so long.
    pub(crate) async fn start_draining(more: &str, drain: Duration) -> Self {
        let (key, certificate) = credentials();
        let text = settings(&key, &certificate, more);
        let config = Config::parse(Path::new("test"), &text, Default::default()).expect("settings");
        Self::of(config, key, certificate, drain).await
    }

    /// A server below the gateway whose internal address this is; tokens of customers reach it only through that.
    pub(crate) async fn below(gateway: &str) -> Self {
        let certificate =
            SelfSigned::new(&["127.0.0.1".parse().expect("an address")]).expect("a certificate");
        let files = certificate.files();
        let text = format!(
            "public_address = \"127.0.0.1:1\"\n\
             [supervisor]\nurl = {:?}\nreport_interval = 300\nno_warmup = true\n\
             [http]\nbinding = \"127.0.0.1:0\"\ncertificate_file = {:?}\nprivatekey_file = {:?}\n\
             webrtc_binding = \"127.0.0.1:0\"\nshards = 1\n[metrics]\nbinding = \"127.0.0.1:0\"\n",
            gateway, files.certificate_file, files.privatekey_file,
        );
        let settings = sfu::settle(Path::new("test"), &text, Default::default()).await;
        let unused = AccessKey::from_random(&[1; 31]).key_pair();
        Self::of(
            settings.expect("settings"),
            unused,
            certificate,
            Duration::ZERO,
        )
        .await
    }

    /// A server with these settings and this certificate, which takes tokens of this key.
    pub(crate) async fn of(
        config: Config,
        key: KeyPair,
        certificate: SelfSigned,
        drain: Duration,
    ) -> Self {
        let server = Server::bind(config, None).await.expect("free ports");
        let address = |address: Option<SocketAddr>| address.expect("it listens");
        let (http, webrtc, metrics) = (
            server.http_addr(),
            server.webrtc_addr(),
            server.metrics_addr(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let (hurry, hurried) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let hurried = async {
            if hurried.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::spawn(server.run(shutdown, hurried, drain));
        Self {
            http: address(http),
            webrtc: address(webrtc),
            metrics: address(metrics),
            tls: trusting(&certificate.files().certificate_file),
            key,
            operator: reqwest::Client::new(),
            stop: Some(stop),
            hurry: Some(hurry),
            ended,
            _certificate: certificate,
        }
    }

    /// A token of the customer that the server knows.
    pub(crate) fn token(&self, claims: &Value) -> String {
        sign(claims, &self.key)
    }

    /// A token for a room and a user.
    pub(crate) fn token_for(&self, room: &str, user: &str) -> String {
        self.token(&json!({"rid": room, "uid": user, "aud": "sfu"}))
    }

    /// The metrics' text.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.metrics);
        let response = self.operator.get(url).send().await;
        response.expect("metrics").text().await.expect("text")
    }

    /// The status of `/readyz`.
    pub(crate) async fn readiness(&self) -> u16 {
        let url = format!("http://{}/readyz", self.metrics);
        let response = self.operator.get(url).send().await;
        response.expect("an answer").status().as_u16()
    }

    /// The sum of all series of a metric whose labels contain `labels`.
    pub(crate) async fn count(&self, name: &str, labels: &str) -> f64 {
        let text = self.metrics().await;
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (shown, value) = rest.rsplit_once(' ')?;
            (rest.starts_with(['{', ' ']) && shown.contains(labels))
                .then(|| value.parse::<f64>().ok())?
        };
        text.lines().filter_map(value).sum()
    }

    /// Waits until the sum is at least this.
    pub(crate) async fn counts(&self, name: &str, labels: &str, least: f64) {
        let began = Instant::now();
        loop {
            let count = self.count(name, labels).await;
            if count >= least {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{name} {labels} is {count}, not {least}\n{}",
                self.metrics().await
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the sum is exactly this.
    pub(crate) async fn settles(&self, name: &str, labels: &str, wanted: f64) {
        let began = Instant::now();
        while self.count(name, labels).await != wanted {
            assert!(
                began.elapsed() < PATIENCE,
                "{name} {labels} is not {wanted}\n{}",
                self.metrics().await
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells the server to end.
    pub(crate) fn end(&mut self) {
        self.stop = None;
    }

    /// Tells a server that ends not to wait.
    pub(crate) fn hurry(&mut self) {
        let hurry = self.hurry.take().expect("once");
        // A server that has ended needs no word.
        let _ = hurry.send(());
    }

    /// Ends the server and waits for that.
    pub(crate) async fn stop(mut self) {
        self.end();
        let ended = timeout(PATIENCE, &mut self.ended).await.expect("it ends");
        assert_eq!(ended.expect("no panic"), Ended::Asked);
    }
}

/// The key that signs tokens, and a certificate for this machine.
pub(crate) fn credentials() -> (KeyPair, SelfSigned) {
    let key = AccessKey::from_random(&[7; 31]).key_pair();
    let certificate = SelfSigned::new(&["127.0.0.1".parse().expect("an address")]);
    (key, certificate.expect("a certificate"))
}

/// The text of a server's settings, with more settings.
pub(crate) fn settings(key: &KeyPair, certificate: &SelfSigned, more: &str) -> String {
    let jwk = key.public_jwk();
    let files = certificate.files();
    let text = format!(
        "public_address = \"127.0.0.1:1\"\n[[authorization.keys]]\nkid = \"{}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\n\
         x = \"{}\"\n[http]\nbinding = \"127.0.0.1:0\"\ncertificate_file = {:?}\nprivatekey_file = {:?}\n\
         webrtc_binding = \"127.0.0.1:0\"\nshards = 1\n[metrics]\nbinding = \"127.0.0.1:0\"\n",
        jwk.kid, jwk.x, files.certificate_file, files.privatekey_file,
    );
    with(&text, more)
}

/// Settings with more settings, also in sections that are there.
pub(crate) fn with(text: &str, more: &str) -> String {
    let mut settings: toml::Table = toml::from_str(text).expect("TOML");
    let more: toml::Table = toml::from_str(more).expect("TOML");
    for (key, value) in more {
        match (settings.get_mut(&key), value) {
            (Some(toml::Value::Table(section)), toml::Value::Table(more)) => section.extend(more),
            (_, value) => drop(settings.insert(key, value)),
        }
    }
    toml::to_string(&settings).expect("TOML")
}
