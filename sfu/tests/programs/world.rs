//! A voice server in a process of its own, on free ports, with its settings in a folder.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use gateway_api::{AccessKey, KeyPair, sign};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::trusting;

/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Settings and certificate of a server that may run.
pub(crate) struct Folder {
    folder: TempDir,
    /// Of the customer whose tokens are taken.
    pub(crate) key: KeyPair,
}

impl Folder {
    /// A server that stands alone, with more settings: sections of TOML, or keys of `[metrics]`, which is the last.
    pub(crate) fn new(more: &str) -> Self {
        let made = Self::empty();
        let jwk = made.key.public_jwk();
        made.write_settings(&format!(
            "public_address = \"127.0.0.1:1\"\n{}\n{}[metrics]\nbinding = \"127.0.0.1:0\"\n{more}",
            section_of_key(&jwk.kid.to_string(), &jwk.x),
            made.http(),
        ));
        made
    }

    /// A server below a gateway.
    pub(crate) fn below(gateway: &str, address: &str) -> Self {
        let made = Self::empty();
        made.write_settings(&format!(
            "public_address = {address:?}\n\
             [supervisor]\nurl = {gateway:?}\nreport_interval = 300\nno_warmup = true\n{}\
             webrtc_candidates = [\"127.0.0.1\"]\n[metrics]\nbinding = \"127.0.0.1:0\"\n",
            made.http(),
        ));
        made
    }

    fn empty() -> Self {
        let made = Self {
            folder: tempfile::tempdir().expect("a folder"),
            key: AccessKey::from_random(&[7; 31]).key_pair(),
        };
        made.write_certificate();
        made
    }

    fn http(&self) -> String {
        format!(
            "[http]\nbinding = \"127.0.0.1:0\"\nwebrtc_binding = \"127.0.0.1:0\"\nshards = 1\n\
             certificate_file = {:?}\nprivatekey_file = {:?}\n",
            self.path("cert.pem"),
            self.path("key.pem"),
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn settings(&self) -> String {
        fs::read_to_string(self.path("config.toml")).expect("settings")
    }

    pub(crate) fn write_settings(&self, text: &str) {
        fs::write(self.path("config.toml"), text).expect("a file");
    }

    /// A new certificate in the place of the one before.
    pub(crate) fn write_certificate(&self) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(self.path("cert.pem"), cert.pem()).expect("a file");
        fs::write(self.path("key.pem"), signing_key.serialize_pem()).expect("a file");
    }

    /// What trusts the certificate that is there now.
    pub(crate) fn trusting(&self) -> Arc<ClientConfig> {
        trusting(&self.path("cert.pem"))
    }

    /// The command that would start it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sfu"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("config.toml"))
            .arg("--license")
            .arg(self.path("license.toml"))
            .env_remove("RUST_LOG")
            .env_remove("ODIN_API_TOKEN")
            .env_remove("ODIN_APP_ID")
            .env_remove("ODIN_SERVICE_ID")
            .env_remove("PUBLIC_IP")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end: exit code, and what it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(self, arguments: &[&str]) -> World {
        let mut command = self.command(&[&["--log-format", "json"], arguments].concat());
        World::of(self, &mut command).await
    }
}

/// A section of the settings with a key.
pub(crate) fn section_of_key(kid: &str, x: &str) -> String {
    format!("[[authorization.keys]]\nkid = {kid:?}\nkty = \"OKP\"\ncrv = \"Ed25519\"\nx = {x:?}\n")
}

/// A running server; it is killed with the value.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) http: SocketAddr,
    pub(crate) webrtc: SocketAddr,
    metrics: Option<SocketAddr>,
    pub(crate) tls: Arc<ClientConfig>,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    operator: reqwest::Client,
}

impl World {
    pub(crate) async fn of(folder: Folder, command: &mut Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, log) = (
            BufReader::new(child.stderr.take().expect("a pipe")),
            Arc::clone(&said),
        );
        // Ends with the program.
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                log.lock().expect("no panic").push(line);
            }
        });
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut world = Self {
            tls: folder.trusting(),
            folder,
            http: any,
            webrtc: any,
            metrics: None,
            child,
            said,
            operator: reqwest::Client::new(),
        };
        let listening = world.says("\"listening\"").await;
        let line: Value = serde_json::from_str(&listening).expect("JSON");
        let address = |name: &str| line["fields"][name].as_str()?.parse().ok();
        world.http = address("http").expect("an address");
        world.webrtc = address("webrtc").expect("an address");
        world.metrics = address("metrics");
        world
    }

    /// A token of the customer for a room and a user.
    pub(crate) fn token_for(&self, room: &str, user: &str) -> String {
        sign(&json!({"rid": room, "uid": user}), &self.folder.key)
    }

    /// Waits for a line of the log with this in it.
    pub(crate) async fn says(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let found = {
                let said = self.said.lock().expect("no panic");
                said.iter().find(|line| line.contains(text)).cloned()
            };
            if let Some(line) = found {
                return line;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "it does not say {text}: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.said.lock().expect("no panic").join("\n")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for the end of the program.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it goes on: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Memory that the process has in use, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line
            .and_then(|line| line.split_whitespace().next())
            .expect("a number");
        number.parse().expect("a number")
    }

    /// The sum of all series of a metric whose labels contain `labels`.
    pub(crate) async fn count(&self, name: &str, labels: &str) -> f64 {
        let address = self.metrics.expect("metrics");
        let response = self
            .operator
            .get(format!("http://{address}/metrics"))
            .send()
            .await;
        let text = response.expect("metrics").text().await.expect("text");
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (shown, value) = rest.rsplit_once(' ')?;
            (rest.starts_with(['{', ' ']) && shown.contains(labels))
                .then(|| value.parse::<f64>().ok())?
        };
        text.lines().filter_map(value).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
