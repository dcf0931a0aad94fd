//! Programs that a task runs: to their end, or beside it.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A program must listen within this time.
const START_MAX: Duration = Duration::from_secs(20);

/// Time for a program to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(15);

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A built release program.
pub(crate) fn release(program: &str) -> PathBuf {
    target_dir().join("release").join(program)
}

pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}").replace('"', "");
    say(&format!("$ {line}"));
    let status = command
        .status()
        .with_context(|| format!("{line} did not start"))?;
    ensure!(status.success(), "{line} failed: {status}");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a task speaks to its caller")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A program that runs beside the task and is ended with it.
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts a program and waits until it listens on `address`.
    pub(crate) fn start(command: &mut Command, address: SocketAddr) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        let mut running = Self { child, name };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = running.child.try_wait()? {
                let words = running.last_words();
                bail!("{} ended: {status}: {words}", running.name);
            }
            ensure!(
                began.elapsed() < START_MAX,
                "{} does not listen on {address}",
                running.name
            );
            thread::sleep(Duration::from_millis(20));
        }
        running.drain_stderr();
        Ok(running)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Largest resident memory so far, in KiB, as Linux counts it.
    pub(crate) fn peak_memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let figure = line.and_then(|line| line.split_whitespace().next());
        Ok(figure.context("no VmHWM in /proc")?.parse()?)
    }

    fn last_words(&mut self) -> String {
        let Some(stderr) = self.child.stderr.take() else {
            return String::new();
        };
        BufReader::new(stderr)
            .lines()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// A pipe that nobody reads would stop the program once it is full.
    fn drain_stderr(&mut self) {
        if let Some(stderr) = self.child.stderr.take() {
            thread::spawn(move || {
                BufReader::new(stderr)
                    .lines()
                    .map_while(Result::ok)
                    .for_each(drop);
            });
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has ended, its id may be another's.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        say(&format!("{} did not end after SIGTERM", self.name));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
