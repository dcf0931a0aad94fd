//! A Redis of one test, on a port of its own.

use std::{
    io::ErrorKind,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use ::redis::aio::MultiplexedConnection;
use tempfile::TempDir;

/// A Redis that ends with the value.
pub(super) struct RedisServer {
    port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts an empty one.
    pub(in crate::store) async fn start() -> Self {
        let mut server = Self::absent();
        server.restart().await;
        server
    }

    /// Only an address, at which nothing listens.
    pub(super) fn absent() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            port: free.local_addr().unwrap().port(),
            folder: tempfile::tempdir().unwrap(),
            process: None,
        }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Starts it, with what it has in its files. Returns when it answers.
    pub(super) async fn restart(&mut self) {
        self.kill();
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1"]);
        command.args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]);
        command.arg("--dir").arg(self.folder.path());
        let process = match command.stdout(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("install redis-server (Debian: apt-get install redis-server)")
            }
            Err(error) => panic!("redis-server does not start: {error}"),
        };
        self.process = Some(process);
        for _ in 0..1_000 {
            if let Ok(mut connection) = self.try_connect().await {
                let pong: ::redis::RedisResult<String> =
                    ::redis::cmd("PING").query_async(&mut connection).await;
                if pong.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server does not answer on port {port}");
    }

    async fn try_connect(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        let client = ::redis::Client::open(self.url())?;
        client.get_multiplexed_async_connection().await
    }

    /// What it answers to a command of the test itself.
    pub(super) async fn ask<T: ::redis::FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut call = ::redis::cmd(words.next().unwrap());
        call.arg(words.collect::<Vec<_>>());
        let mut connection = self.try_connect().await.unwrap();
        call.query_async(&mut connection).await.unwrap()
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(super) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(super) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
