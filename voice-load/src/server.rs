//! A server of our own: started as a process, on a core of its own if asked, with settings in a folder that goes with it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read},
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use gateway_api::{AccessKey, KeyPair, RANDOM_BYTES};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

/// Time for a server to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(15);

/// Lines of its log that are looked through for its addresses, and kept to say why it did not start.
const START_LINES_MAX: usize = 200;

/// How it is to be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// The program; what lies beside our own, or in the path, if not given.
    pub(crate) program: Option<PathBuf>,
    /// The core to run on, as `taskset -c` has it.
    pub(crate) core: Option<String>,
    /// Threads that forward voice.
    pub(crate) shards: Option<u8>,
    /// Microseconds that voice may wait for more of it.
    pub(crate) coalescing_us: Option<u32>,
    /// It is to take native clients too.
    pub(crate) has_quic: bool,
}

/// A running server; ends with its value.
#[derive(Debug)]
pub(crate) struct OwnServer {
    process: Process,
    pub(crate) http: SocketAddr,
    /// Where native clients connect, if it takes them.
    pub(crate) quic: SocketAddr,
    pub(crate) metrics: String,
    pub(crate) key: KeyPair,
    /// PEM.
    pub(crate) certificate: PathBuf,
    _folder: TempDir,
}

/// A running relay; ends with its value.
#[derive(Debug)]
pub(crate) struct OwnFloor {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl OwnServer {
    /// # Errors
    /// When there is no such program, or it does not start.
    pub(crate) fn start(wish: &Wish) -> Result<Self> {
        let mut random = [0; RANDOM_BYTES];
        if let Err(error) = getrandom::fill(&mut random) {
            bail!("the system's random generator failed: {error}");
        }
        let key = AccessKey::from_random(&random).key_pair();
        let folder = tempfile::tempdir()?;
        let certificate = folder.path().join("certificate.pem");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let private = folder.path().join("private-key.pem");
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&private, made.signing_key.serialize_pem())?;
        // A port that was free a moment ago: native clients' is not in the log of every server.
        let quic = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let config = folder.path().join("config.toml");
        fs::write(&config, settings(wish, &key, quic, &certificate, &private))?;
        let mut command = command(wish, "sfu")?;
        command.arg("--config").arg(&config);
        command
            .args(["--log-format", "json"])
            .env_remove("RUST_LOG");
        let mut process = Process::start(command, Stdio::null(), Stdio::piped())?;
        let log = process.0.stderr.take().context("its log")?;
        let listening = first_line(log, "\"listening\"")?;
        let line: Value = serde_json::from_str(&listening)?;
        let address = |name: &str| line["fields"][name].as_str().context("no address");
        Ok(Self {
            http: address("http")?.parse()?,
            quic,
            metrics: format!("http://{}/metrics", address("metrics")?),
            process,
            key,
            certificate,
            _folder: folder,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

impl OwnFloor {
    /// # Errors
    /// As [`OwnServer::start`].
    pub(crate) fn start(wish: &Wish) -> Result<Self> {
        let mut process = Process::start(
            command(wish, "voice-floor")?,
            Stdio::piped(),
            Stdio::inherit(),
        )?;
        let out = process.0.stdout.take().context("its output")?;
        let line = first_line(out, "listening on ")?;
        let address = line.strip_prefix("listening on ").context("no address")?;
        Ok(Self {
            address: address.parse()?,
            process,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// What does not limit anything here is limited to numbers that are never reached.
fn settings(
    wish: &Wish,
    key: &KeyPair,
    quic: SocketAddr,
    certificate: &Path,
    private: &Path,
) -> String {
    let jwk = key.public_jwk();
    let mut text = format!(
        "public_address = \"127.0.0.1:1\"\n\
         [http]\nbinding = \"127.0.0.1:0\"\nwebrtc_binding = \"127.0.0.1:0\"\nwebrtc_candidates = [\"127.0.0.1\"]\n\
         certificate_file = \"{}\"\nprivatekey_file = \"{}\"\ntimeout = 60_000\n",
        certificate.display(),
        private.display()
    );
    if let Some(shards) = wish.shards {
        text.push_str(&format!("shards = {shards}\n"));
    }
    text.push_str("[metrics]\nbinding = \"127.0.0.1:0\"\n");
    text.push_str(
        "[limit.network]\nincoming_media_packets = { rate = 100_000, capacity = 100_000 }\n",
    );
    text.push_str(
        "[limit.peer]\nincoming_messages = { rate = 100_000, capacity = 100_000, overflow = 100_000 }\n",
    );
    text.push_str(&format!(
        "[[authorization.keys]]\nkid = \"{}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\nx = \"{}\"\n",
        jwk.kid, jwk.x
    ));
    if let Some(us) = wish.coalescing_us {
        text.push_str(&format!("[internal]\nvoice_coalescing_us = {us}\n"));
    }
    if wish.has_quic {
        text.push_str(&format!(
            "[quic]\nbinding = \"{quic}\"\ncertificate_file = \"{}\"\nprivatekey_file = \"{}\"\nidle_timeout = 60_000\nconnect_timeout = 60_000\n",
            certificate.display(),
            private.display()
        ));
    }
    text
}

fn command(wish: &Wish, name: &str) -> Result<Command> {
    let program = match &wish.program {
        Some(program) => program.clone(),
        None => beside_ourselves(name).unwrap_or_else(|| name.into()),
    };
    Ok(match &wish.core {
        Some(core) => {
            ensure!(!core.starts_with('-'), "{core} is no core");
            let mut command = Command::new("taskset");
            command.args(["-c", core]).arg(program);
            command
        }
        None => Command::new(program),
    })
}

/// A program in the folder of ours.
fn beside_ourselves(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

/// The first line with this word in it. The rest is read and forgotten, so that it can be written.
fn first_line(pipe: impl Read + Send + 'static, word: &str) -> Result<String> {
    let mut lines = BufReader::new(pipe).lines().map_while(Result::ok);
    let mut before = Vec::new();
    for line in lines.by_ref().take(START_LINES_MAX) {
        if line.contains(word) {
            thread::spawn(move || lines.for_each(drop));
            return Ok(line);
        }
        before.push(line);
    }
    bail!("the server did not start: {}", before.join("\n"))
}

#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(mut command: Command, out: Stdio, error: Stdio) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(error)
            .spawn();
        let name = command.get_program().to_string_lossy().into_owned();
        let child = child.with_context(|| {
            format!("{name} does not start; is it in the path, or beside this program?")
        })?;
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // It may have ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
