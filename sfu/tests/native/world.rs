//! A server of native clients on a free port of this machine, whose tokens the test signs.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use gateway_api::{AccessKey, KeyPair, sign};
use serde_json::json;
use sfu::{Config, Ended, SelfSigned, Server};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub(crate) quic: SocketAddr,
    metrics: SocketAddr,
    key: KeyPair,
    pub(crate) certificate: SelfSigned,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Ended>,
}

impl World {
    /// A server with these lines in its `[quic]`, and more sections behind.
    pub(crate) async fn start(quic: &str, more: &str) -> Self {
        let key = AccessKey::from_random(&[7; 31]).key_pair();
        let certificate = SelfSigned::new(&["127.0.0.1".parse().expect("an address")]);
        let certificate = certificate.expect("a certificate");
        let (jwk, files) = (key.public_jwk(), certificate.files());
        let text = format!(
            "public_address = \"127.0.0.1:1\"\n[[authorization.keys]]\nkid = \"{}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\n\
             x = \"{}\"\n[metrics]\nbinding = \"127.0.0.1:0\"\n[quic]\nbinding = \"127.0.0.1:0\"\n\
             certificate_file = {:?}\nprivatekey_file = {:?}\n{quic}\n{more}\n",
            jwk.kid, jwk.x, files.certificate_file, files.privatekey_file,
        );
        let config = Config::parse(Path::new("test"), &text, HashMap::new()).expect("settings");
        let server = Server::bind(config, None).await.expect("free ports");
        let quic = server.quic_addr().expect("it listens");
        let metrics = server.metrics_addr().expect("it listens");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(server.run(shutdown, std::future::pending(), Duration::ZERO));
        Self {
            quic,
            metrics,
            key,
            certificate,
            stop: Some(stop),
            ended,
        }
    }

    /// A token for a room and a user.
    pub(crate) fn token(&self, room: &str, user: &str) -> String {
        sign(&json!({"rid": room, "uid": user, "aud": "sfu"}), &self.key)
    }

    /// The sum of all series of a metric whose labels contain `labels`.
    pub(crate) async fn count(&self, name: &str, labels: &str) -> f64 {
        let url = format!("http://{}/metrics", self.metrics);
        let response = reqwest::get(url).await.expect("metrics");
        let text = response.text().await.expect("text");
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (shown, value) = rest.rsplit_once(' ')?;
            (rest.starts_with(['{', ' ']) && shown.contains(labels))
                .then(|| value.parse::<f64>().ok())?
        };
        text.lines().filter_map(value).sum()
    }

    /// Waits until the sum is this.
    pub(crate) async fn settles(&self, name: &str, labels: &str, wanted: f64) {
        let settled = async {
            while self.count(name, labels).await != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let settled = timeout(PATIENCE, settled).await;
        assert!(settled.is_ok(), "{name} {labels} is not {wanted}");
    }

    /// Tells the server to end.
    pub(crate) fn end(&mut self) {
        self.stop = None;
    }

    /// Ends the server and waits for that.
    pub(crate) async fn stop(mut self) {
        self.end();
        let ended = timeout(PATIENCE, &mut self.ended).await.expect("it ends");
        assert_eq!(ended.expect("no panic"), Ended::Asked);
    }
}

/// A client's endpoint that trusts this certificate.
pub(crate) fn endpoint(certificate: &SelfSigned) -> quinn::Endpoint {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    let file = certificate.files().certificate_file;
    let trusted = CertificateDer::from_pem_file(file).expect("a certificate");
    roots.add(trusted).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("QUIC");
    let any = "127.0.0.1:0".parse().expect("an address");
    let mut endpoint = quinn::Endpoint::client(any).expect("a socket");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    endpoint
}
