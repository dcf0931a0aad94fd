//! Connects to a gateway as fast as it answers, and measures the signatures alone for comparison. Driven by
//! `cargo xtask bench gateway`, which gives each program a core of its own.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use gateway_api::{AccessKey, Claims, KeyPair, MasterKey, Token, sign};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// The address that a voice server reports.
const SERVER: &str = "sfu.test:4433";

/// Rooms and users are told apart, so that nothing can be answered from a cache.
const TOKENS: usize = 500;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write gateway.toml and a customer's key into a folder
    Prepare {
        folder: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        internal: SocketAddr,
    },
    /// Print how many Connects the gateway answers per second of its processor time, and per second
    Connect {
        folder: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        internal: SocketAddr,
        #[arg(long)]
        seconds: u64,
        #[arg(long)]
        connections: usize,
        /// The gateway's process
        #[arg(long)]
        pid: u32,
    },
    /// Print how many times per second of processor time a token's signature can be checked and another be made
    Signatures {
        folder: PathBuf,
        #[arg(long)]
        seconds: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Prepare {
            folder,
            listen,
            internal,
        } => prepare(&folder, listen, internal),
        What::Connect {
            folder,
            listen,
            internal,
            seconds,
            connections,
            pid,
        } => {
            report(internal).await?;
            let tokens = tokens(&read_key(&folder)?);
            let time = Duration::from_secs(seconds);
            let (started, used) = (Instant::now(), processor_time(pid)?);
            let answered = drive(listen, &tokens, time, connections).await? as f64;
            let used = processor_time(pid)? - used;
            let elapsed = started.elapsed();
            let rates = (
                answered / used.as_secs_f64(),
                answered / elapsed.as_secs_f64(),
            );
            Ok(writeln!(
                std::io::stdout(),
                "{:.1} {:.1}",
                rates.0,
                rates.1
            )?)
        }
        What::Signatures { folder, seconds } => {
            let rate = signatures(&read_key(&folder)?, Duration::from_secs(seconds))?;
            Ok(writeln!(std::io::stdout(), "{rate:.1}")?)
        }
    }
}

/// Processor time a process has used; other programs on the same core do not count.
fn processor_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let used = text
            .split_whitespace()
            .next()
            .context("an empty schedstat")?;
        nanos += used.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn key_file(folder: &std::path::Path) -> PathBuf {
    folder.join("access-key")
}

fn read_key(folder: &std::path::Path) -> Result<KeyPair> {
    let key: AccessKey = fs::read_to_string(key_file(folder))?.parse()?;
    Ok(key.key_pair())
}

fn prepare(folder: &std::path::Path, listen: SocketAddr, internal: SocketAddr) -> Result<()> {
    let mut random = [0; 31];
    fastrand::fill(&mut random);
    let key = AccessKey::from_random(&random);
    let jwk = key.key_pair().public_jwk();
    let no_limit = "{ per_second = 0, burst = 0 }";
    let settings = format!(
        "listen = \"{listen}\"\n[internal]\nlisten = \"{internal}\"\n[limit]\nkey = {no_limit}\naddress = {no_limit}\n\
         [[customers]]\nid = \"bench\"\n[[customers.access_keys]]\nkid = \"{}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\n\
         x = \"{}\"\n",
        jwk.kid, jwk.x
    );
    fs::write(folder.join("gateway.toml"), settings)?;
    fs::write(key_file(folder), key.expose())?;
    Ok(())
}

fn tokens(key: &KeyPair) -> Vec<String> {
    let token = |at: usize| {
        let claims = Claims {
            rid: Some(format!("room-{}", at / 10).as_str().into()),
            uid: Some(format!("user-{at}")),
            sub: Some("connect".into()),
            ..Claims::default()
        };
        sign(&claims, key)
    };
    (0..TOKENS).map(token).collect()
}

async fn report(internal: SocketAddr) -> Result<()> {
    let params =
        json!({"public_endpoint": SERVER, "version": "1", "load": 0, "clients": 0, "rooms": []});
    let call = json!({"jsonrpc": "2.0", "method": "sfu.Report", "params": params, "id": 1});
    let url = format!("http://{internal}/internal");
    let answer = reqwest::Client::new()
        .post(url)
        .body(call.to_string())
        .send()
        .await?;
    let answer: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(
        answer["result"].is_object(),
        "the gateway does not take a report: {answer}"
    );
    Ok(())
}

/// How many Connects were answered. The requests are bytes made beforehand and the answers are hardly looked at: on the other
/// core, this must cost less than answering.
async fn drive(
    listen: SocketAddr,
    tokens: &[String],
    time: Duration,
    connections: usize,
) -> Result<u64> {
    let mut clients = JoinSet::new();
    for at in 0..connections {
        let tokens = tokens.iter().skip(at).step_by(connections);
        let requests: Vec<Vec<u8>> = tokens.map(|token| request(token)).collect();
        clients.spawn(client(listen, requests, Instant::now() + time));
    }
    let mut answered = 0;
    while let Some(count) = clients.join_next().await {
        answered += count??;
    }
    Ok(answered)
}

fn request(token: &str) -> Vec<u8> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"Connect","params":{}}"#;
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nauthorization: Bearer {token}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn client(listen: SocketAddr, requests: Vec<Vec<u8>>, end: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(listen).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut answered = 0;
    for request in requests.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        stream.write_all(request).await?;
        let mut filled = 0;
        while !is_whole(&buffer[..filled])? {
            let read = stream.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "the gateway closed a connection");
            filled += read;
        }
        answered += 1;
    }
    Ok(answered)
}

/// Whether an answer is there to its end. Anything but a session token is an error.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let text = std::str::from_utf8(answer)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(false);
    };
    let length = head
        .split_once("content-length: ")
        .context("no content-length")?
        .1;
    let length: usize = length.split("\r\n").next().unwrap_or_default().parse()?;
    if body.len() < length {
        return Ok(false);
    }
    ensure!(
        body.contains("\"address\":\"sfu.test:4433\""),
        "not a session: {body}"
    );
    Ok(true)
}

/// How often a second the two signatures of a Connect can be done, and nothing else.
fn signatures(key: &KeyPair, time: Duration) -> Result<f64> {
    let server = MasterKey::from_bytes(vec![7; 32]).server_key(SERVER);
    let token = &tokens(key)[0];
    let (signed, signature) = token.rsplit_once('.').context("a signature")?;
    let signature = {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let bytes = URL_SAFE_NO_PAD.decode(signature)?;
        <[u8; 64]>::try_from(bytes.as_slice())?
    };
    Token::read(token)?.verify(&key.public())?;
    let public = key.public();
    let (started, used) = (Instant::now(), processor_time(std::process::id())?);
    let mut done = 0_u64;
    while started.elapsed() < time {
        for _ in 0..100 {
            ensure!(
                public.verifies(signed.as_bytes(), &signature),
                "a wrong signature"
            );
            std::hint::black_box(server.sign(signed.as_bytes()));
        }
        done += 100;
    }
    let used = processor_time(std::process::id())? - used;
    Ok(done as f64 / used.as_secs_f64())
}
