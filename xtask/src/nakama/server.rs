//! A Nakama of our own for as long as a task needs it: on loopback, with a database that goes with it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::postgres::Postgres;
use crate::process::{Running, run, say, target_dir};

/// What calls of RPCs must show.
pub(super) const HTTP_KEY: &str = "nakama-test-http-key";

/// What clients must show.
pub(super) const SERVER_KEY: &str = "nakama-test-server-key";

/// How often free ports near each other are looked for.
const PORT_ATTEMPTS: usize = 50;

/// How many of its last lines show why a Nakama has ended.
const LOG_LINES_MAX: usize = 20;

/// From listening to serving. What Nakama needs for that is tried again every second.
const READY_MAX: Duration = Duration::from_secs(20);

/// It serves; it ends when this is dropped.
pub(super) struct Server {
    /// Where players and callers of RPCs go.
    pub(super) api: SocketAddr,
    // Dropped before its database.
    _nakama: Running,
    _postgres: Postgres,
}

impl Server {
    /// Starts a Nakama that loads these modules and hands them these settings.
    pub(super) fn start(program: &Path, modules: &[&PathBuf], env: &[String]) -> Result<Self> {
        let postgres = Postgres::start()?;
        let folder = target_dir().join("nakama-data");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("modules"))?;
        let folder = folder.canonicalize()?;
        for file in modules {
            let name = file.file_name().context("a file")?;
            fs::copy(file, folder.join("modules").join(name))?;
        }
        let (api, console) = free_addresses()?;
        let file = folder.join("nakama.yml");
        let database = postgres.database();
        fs::write(&file, configuration(&folder, &database, api, console, env))?;
        let mut migrate = quiet(program);
        migrate.args(["migrate", "up", "--database.address", &database]);
        run(migrate.stdout(Stdio::null()))?;
        let log = log_file(&folder);
        say(&format!("$ nakama; it writes {}", log.display()));
        let nakama = Running::start(quiet(program).arg("--config").arg(file), api)
            .with_context(|| last_lines(&log))?;
        wait_until_ready(api).with_context(|| last_lines(&log))?;
        Ok(Self {
            api,
            _nakama: nakama,
            _postgres: postgres,
        })
    }
}

/// Nakama answers HTTP before it has reached itself by gRPC, on which all but RPCs depends.
fn wait_until_ready(api: SocketAddr) -> Result<()> {
    let request = format!("GET /healthcheck HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
    let began = Instant::now();
    loop {
        let mut answer = Vec::new();
        let mut stream = TcpStream::connect(api)?;
        stream.set_read_timeout(Some(READY_MAX))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut answer)?;
        if answer.starts_with(b"HTTP/1.1 200 ") {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&answer);
        ensure!(began.elapsed() < READY_MAX, "Nakama answers {answer}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Nothing of a test goes to those who make Nakama.
fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("NAKAMA_TELEMETRY", "0");
    command
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("nakama.log")
}

fn last_lines(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
}

fn configuration(
    folder: &Path,
    database: &str,
    api: SocketAddr,
    console: SocketAddr,
    env: &[String],
) -> String {
    let (data, modules) = (folder.display(), folder.join("modules"));
    let (modules, log) = (modules.display(), log_file(folder));
    let log = log.display();
    let env: String = env.iter().map(|pair| format!("    - {pair:?}\n")).collect();
    let (ip, api, console) = (api.ip(), api.port(), console.port());
    format!(
        "name: bifrost-test\ndata_dir: \"{data}\"\nlogger:\n  stdout: false\n  file: \"{log}\"\n\
         database:\n  address: [\"{database}\"]\n\
         runtime:\n  path: \"{modules}\"\n  js_entrypoint: bifrost.js\n  http_key: {HTTP_KEY}\n  env:\n{env}\
         socket:\n  address: {ip}\n  port: {api}\n  server_key: {SERVER_KEY}\n\
         console:\n  address: {ip}\n  port: {console}\nmatchmaker:\n  interval_sec: 1\n"
    )
}

/// Loopback addresses for players and for the console that were free a moment ago. Nakama takes more ports than it is
/// told, for gRPC: the one below that for players, and the third below that for the console.
fn free_addresses() -> Result<(SocketAddr, SocketAddr)> {
    for _ in 0..PORT_ATTEMPTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let api = listener.local_addr()?;
        let [api_grpc, console, console_grpc] = [1, 2, 5].map(|below| api.port() - below);
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if let (Ok(_), Ok(console), Ok(_)) = (bind(api_grpc), bind(console), bind(console_grpc)) {
            return Ok((api, console.local_addr()?));
        }
    }
    bail!("no free ports near each other");
}
