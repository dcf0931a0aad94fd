//! A program beside the storm: started, killed, and started again on the same address.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{net::TcpStream, time::sleep};

/// A program must listen within this time: a Redis reads its file first.
const START_MAX: Duration = Duration::from_secs(30);

/// Time for a program to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(15);

/// Pause between two looks at a program that starts or ends.
const PAUSE: Duration = Duration::from_millis(20);

/// How to start a program, and the program while it runs.
pub(crate) struct Process {
    command: Command,
    address: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts a program and waits until it listens on `address`. What it says is appended to `log`.
    pub(crate) async fn start(command: Command, address: SocketAddr, log: PathBuf) -> Result<Self> {
        let mut process = Self {
            command,
            address,
            log,
            child: None,
        };
        process.start_again().await?;
        Ok(process)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it again, after it has ended.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        let name = self.command.get_program().to_string_lossy().into_owned();
        let open = |path: &PathBuf| -> std::io::Result<File> {
            OpenOptions::new().create(true).append(true).open(path)
        };
        let command = self.command.stdin(Stdio::null());
        let command = command.stdout(open(&self.log)?).stderr(open(&self.log)?);
        let child = command
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        let child = self.child.insert(child);
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                let words = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{name} ended: {status}: {words}");
            }
            ensure!(
                began.elapsed() < START_MAX,
                "{name} does not listen on {}",
                self.address
            );
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let pid = child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status()?;
        ensure!(asked.success(), "kill: {asked}");
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            ensure!(began.elapsed() < STOP_MAX, "{pid} does not end on SIGTERM");
            sleep(PAUSE).await;
        }
        self.child = None;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of theirs is needed any more.
        let _ = self.kill();
    }
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
