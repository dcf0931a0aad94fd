//! `bifrost voice`: a gateway and a voice server on this machine, which real ODIN clients can talk through.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use gateway_api::{AccessKey, Claims, KeyPair, MasterKey, Names, RANDOM_BYTES, is_published};
use serde_json::{Value, json};
use sfu::SelfSigned;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::{
    failure::Failure,
    input::say,
    port::{Port, Protocol},
    program::Program,
};

/// The customer whose access key is taken.
const CUSTOMER: &str = "local";

/// Between two reports of the voice server: the gateway is next door.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// The gateway must know its server within this time.
const READY_MAX: Duration = Duration::from_secs(15);

/// Between two attempts to be let in.
const READY_PAUSE: Duration = Duration::from_millis(50);

/// One call of the gateway.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Where the parts listen, and what they take.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "voice")]
pub(crate) struct Options {
    /// Port of the gateway, HTTPS (7000; 0 takes a free one)
    #[arg(long)]
    gateway_port: Option<u16>,
    /// Port of the voice server, HTTPS (4433; 0 takes a free one)
    #[arg(long)]
    sfu_port: Option<u16>,
    /// Port of the voice itself, UDP (8844; 0 takes a free one)
    #[arg(long)]
    webrtc_port: Option<u16>,
    /// Port of the voice server's metrics (9000; 0 takes a free one)
    #[arg(long)]
    metrics_port: Option<u16>,
    /// Threads of the voice server that forward voice (one less than there are cores)
    #[arg(long)]
    shards: Option<u8>,
    /// Access key whose tokens are taken; without it a new one is made. Others on this machine can see it here
    #[arg(long, value_name = "KEY")]
    access_key: Option<AccessKey>,
    /// Master key of the gateway, Base64; without it a new one is made. Others on this machine can see it here
    #[arg(long, value_name = "KEY")]
    master_key: Option<MasterKey>,
}

impl Options {
    #[cfg(test)]
    pub(crate) fn on_free_ports() -> Self {
        Self {
            gateway_port: Some(0),
            sfu_port: Some(0),
            webrtc_port: Some(0),
            metrics_port: Some(0),
            ..Self::default()
        }
    }
}

/// `bifrost voice`.
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    options: Options,
    /// Print one line of JSON once everything is open, and nothing else
    #[arg(long)]
    json: bool,
}

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(command: Command) -> Result<String, Failure> {
    let failed = |error: anyhow::Error| Failure::System(format!("{error:#}"));
    let end = service::ended();
    tokio::pin!(end);
    let note = |text: &str| {
        if !command.json {
            say(text);
        }
    };
    let voice = tokio::select! {
        voice = Voice::start(&command.options, note) => voice.map_err(failed)?,
        () = &mut end => return Ok(String::new()),
    };
    voice.introduce(command.json);
    let result = tokio::select! {
        () = &mut end => Ok(()),
        error = voice.fails() => Err(error),
    };
    let ended = voice.end().await;
    result.and(ended).map(|()| String::new()).map_err(failed)
}

/// A running gateway with a running voice server.
#[derive(Debug)]
pub(crate) struct Voice {
    gateway: Program,
    sfu: Program,
    gateway_url: String,
    sfu_address: SocketAddr,
    webrtc_address: SocketAddr,
    quic_address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    access_key: AccessKey,
    /// Its files are read until the end.
    certificate: SelfSigned,
}

impl Voice {
    /// Starts both; when this returns, clients are let in.
    pub(crate) async fn start(options: &Options, note: impl Fn(&str)) -> Result<Self> {
        let access_key = match &options.access_key {
            Some(key) => key.clone(),
            None => {
                let random = random::<RANDOM_BYTES>()?;
                AccessKey::from_random(&random)
            }
        };
        let master_key = match &options.master_key {
            Some(key) => key.clone(),
            None => MasterKey::from_bytes(random::<32>()?.to_vec()),
        };
        let key = access_key.key_pair();
        if is_published(&key.public()) {
            note("everybody knows this access key: keep it on this machine");
        }
        let loopback = ["127.0.0.1", "::1"].map(|address| address.parse().expect("an address"));
        let certificate = SelfSigned::new(&loopback)?;

        let server = bind_gateway(options, master_key, &key, &certificate, &note).await?;
        let (gateway_url, internal_url) = (server.base_url(), server.internal_url());
        let gateway = Program::start("the gateway", |shutdown| async {
            server.run(shutdown).await;
            Ok(())
        });
        let server = bind_sfu(options, &internal_url, &key, &certificate, &note).await?;
        let addresses = (
            server.http_addr(),
            server.webrtc_addr(),
            server.quic_addr(),
            server.metrics_addr(),
        );
        let (Some(sfu_address), Some(webrtc_address), Some(quic_address), metrics_address) =
            addresses
        else {
            bail!("the voice server listens nowhere");
        };
        let sfu = Program::start("the voice server", async move |shutdown| {
            let never = std::future::pending();
            match server.run(shutdown, never, Duration::ZERO).await {
                sfu::Ended::Asked => Ok(()),
                ended => Err(anyhow!("{ended:?}")),
            }
        });
        let voice = Self {
            gateway,
            sfu,
            gateway_url,
            sfu_address,
            webrtc_address,
            quic_address,
            metrics_address,
            access_key,
            certificate,
        };
        voice.ready().await?;
        Ok(voice)
    }

    /// Waits until the gateway lets a client in.
    async fn ready(&self) -> Result<()> {
        let http = trusting_client(&self.certificate_file())?;
        let claims = Claims {
            uid: Some("bifrost".to_owned()),
            rid: Some(Names::One("bifrost".to_owned())),
            ..Claims::default()
        };
        let token = gateway_api::sign(&claims, &self.access_key.key_pair());
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "Connect", "params": {}});
        let began = Instant::now();
        loop {
            let response = http
                .post(&self.gateway_url)
                .bearer_auth(&token)
                .json(&call)
                .send()
                .await;
            let answer: Value = response
                .context("the gateway does not answer")?
                .json()
                .await?;
            if answer.get("result").is_some() {
                return Ok(());
            }
            ensure!(
                began.elapsed() < READY_MAX,
                "the gateway does not know its voice server: {answer}"
            );
            sleep(READY_PAUSE).await;
        }
    }

    pub(crate) fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    pub(crate) fn sfu_address(&self) -> SocketAddr {
        self.sfu_address
    }

    /// The certificate of both, for clients to trust.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.certificate.files().certificate_file
    }

    /// The SHA-256 of the certificate, for browsers to trust.
    pub(crate) fn certificate_sha256(&self) -> &str {
        self.certificate.sha256()
    }

    /// Where the voice server publishes its metrics.
    pub(crate) fn metrics_url(&self) -> Option<String> {
        let address = self.metrics_address?;
        Some(format!("http://{address}/metrics"))
    }

    /// Signs the tokens that both take.
    pub(crate) fn key(&self) -> KeyPair {
        self.access_key.key_pair()
    }

    /// What a person may want to use.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, String)> {
        let metrics = self.metrics_url().map(|url| ("metrics", url));
        let first = [
            ("gateway", self.gateway_url.clone()),
            ("voice server", self.sfu_address.to_string()),
            ("voice (UDP)", self.webrtc_address.to_string()),
            ("native (QUIC)", self.quic_address.to_string()),
        ];
        let key = ("access key", self.access_key.expose());
        first.into_iter().chain(metrics).chain([key]).collect()
    }

    /// The parts that must not end by themselves.
    pub(crate) fn programs(&self) -> [&Program; 2] {
        [&self.gateway, &self.sfu]
    }

    /// Returns when a part has ended by itself.
    async fn fails(&self) -> anyhow::Error {
        loop {
            for program in self.programs() {
                if program.has_ended() {
                    return anyhow!("{} has ended by itself", program.name());
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    #[expect(clippy::print_stdout, reason = "this is what the command is for")]
    fn introduce(&self, as_json: bool) {
        if as_json {
            let line = json!({
                "gateway": self.gateway_url,
                "sfu": self.sfu_address.to_string(),
                "webrtc": self.webrtc_address.to_string(),
                "quic": self.quic_address.to_string(),
                "certificate_sha256": self.certificate.sha256(),
                "certificate_file": self.certificate_file(),
                "metrics": self.metrics_url(),
                "access_key": self.access_key.expose(),
            });
            return println!("{line}");
        }
        for (name, address) in self.addresses() {
            println!("{name:<14}{address}");
        }
        println!();
        println!("Sign a token for a room and a user:");
        let key = self.access_key.expose();
        println!("  echo {key} | bifrost token sign --room lobby --user me");
        println!(
            "and give it to a client with the gateway's address. A browser must first accept the self-signed"
        );
        println!(
            "certificate: open {} and https://{}/ once.",
            self.gateway_url, self.sfu_address
        );
    }

    /// Ends both: clients are told before the gateway goes.
    pub(crate) async fn end(self) -> Result<()> {
        let sfu = self.sfu.end().await;
        let gateway = self.gateway.end().await;
        sfu.and(gateway)
    }
}

/// An HTTP client that trusts the certificate in this file alone.
fn trusting_client(certificate_file: &Path) -> Result<reqwest::Client> {
    let certificate = reqwest::Certificate::from_pem(&fs::read(certificate_file)?)?;
    // What it calls is on this machine: a proxy could not reach it.
    let client = reqwest::Client::builder()
        .tls_certs_only([certificate])
        .timeout(CALL_MAX)
        .no_proxy();
    Ok(client.build()?)
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| anyhow!("the system's random generator failed: {error}"))?;
    Ok(bytes)
}

async fn bind_gateway(
    options: &Options,
    master_key: MasterKey,
    key: &KeyPair,
    certificate: &SelfSigned,
    note: &impl Fn(&str),
) -> Result<gateway::Server> {
    let port = Port {
        flag: "--gateway-port",
        protocol: Protocol::Tcp,
        default: 7000,
        asked: options.gateway_port,
    };
    let customer = gateway::Customer::with_key(CUSTOMER, key.public_jwk());
    let mut config =
        gateway::Config::new(master_key, gateway::CustomerSource::Static(vec![customer]));
    let files = certificate.files();
    config.listen = port.address(note);
    config.internal.listen = Some(([127, 0, 0, 1], 0).into());
    config.allow_published_keys = true;
    config.timing.update_interval = REPORT_INTERVAL;
    config.tls = Some(gateway::Tls {
        certificate: files.certificate_file,
        private_key: files.privatekey_file,
    });
    let server = gateway::Server::bind(config).await;
    server.with_context(|| port.failure("the gateway"))
}

async fn bind_sfu(
    options: &Options,
    internal_url: &str,
    key: &KeyPair,
    certificate: &SelfSigned,
    note: &impl Fn(&str),
) -> Result<sfu::Server> {
    let port = |flag, protocol, default, asked| Port {
        flag,
        protocol,
        default,
        asked,
    };
    let http = port("--sfu-port", Protocol::Tcp, 4433, options.sfu_port);
    let webrtc = port("--webrtc-port", Protocol::Udp, 8844, options.webrtc_port);
    let metrics = port("--metrics-port", Protocol::Tcp, 9000, options.metrics_port);
    // The gateway knows the server by this address.
    let address = http
        .numbered_address(note)
        .with_context(|| http.failure("the voice server"))?;
    let jwk = key.public_jwk();
    let files = certificate.files();
    let text = json!({
        "public_address": address.to_string(),
        "supervisor": {
            "url": internal_url,
            "report_interval": REPORT_INTERVAL.as_millis() as u64,
            "no_warmup": true,
        },
        "authorization": {
            "keys": [{"kid": jwk.kid, "kty": jwk.kty, "crv": jwk.crv, "x": jwk.x}],
            "allow_published_keys": true,
        },
        "http": {
            "binding": address.to_string(),
            "certificate_file": files.certificate_file,
            "privatekey_file": files.privatekey_file,
            "webrtc_binding": webrtc.address(note).to_string(),
            "webrtc_candidates": ["127.0.0.1"],
        },
        // Native clients find it where web clients do, over UDP.
        "quic": {
            "binding": address.to_string(),
            "certificate_file": files.certificate_file,
            "privatekey_file": files.privatekey_file,
        },
        "metrics": { "binding": metrics.address(note).to_string() },
    });
    let mut text = toml::Table::try_from(text)?;
    if let (Some(shards), Some(toml::Value::Table(http))) = (options.shards, text.get_mut("http")) {
        http.insert("shards".to_owned(), toml::Value::Integer(shards.into()));
    }
    let text = toml::to_string(&text)?;
    let config = sfu::settle(Path::new("bifrost voice"), &text, Default::default()).await?;
    let server = sfu::Server::bind(config, None).await;
    server.with_context(|| {
        let flags = [http.flag, webrtc.flag, metrics.flag].join(", ");
        format!("the voice server does not start; see {flags}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn both_parts_run_and_end() {
        let voice = Voice::start(&Options::on_free_ports(), |_| {})
            .await
            .unwrap();
        assert!(voice.programs().iter().all(|program| !program.has_ended()));
        let metrics = voice.metrics_address.unwrap();
        let ready = reqwest::get(format!("http://{metrics}/readyz"))
            .await
            .unwrap();
        assert_eq!(ready.status(), 200);
        voice.end().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_port_that_was_asked_for_is_never_replaced() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let options = Options {
            sfu_port: Some(taken.local_addr().unwrap().port()),
            ..Options::on_free_ports()
        };
        let error = Voice::start(&options, |_| {}).await.unwrap_err();
        assert!(format!("{error:#}").contains("--sfu-port"), "{error:#}");
    }
}
