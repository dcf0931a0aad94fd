//! A native client for tests of several transports: joins a room over WebTransport, talks, and counts what it hears.
//!
//! Prints two lines of JSON: the media it talks with, once it does, and at its end the packets it has heard of each media.

#![expect(clippy::print_stdout, reason = "its output is read by the test")]

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use voice_client::{Client, Config, Entry, Join, TokenSource, Trust};

/// Between two packets of voice.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// Bytes of a packet's Opus frame: clients of the web refuse packets below 40 bytes.
const FRAME: [u8; 62] = [0x78; 62];

#[derive(Parser)]
struct Options {
    /// The voice server
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// Of its certificate, which nobody has signed
    #[arg(long, value_name = "HEX")]
    certificate_sha256: String,
    #[arg(long)]
    room: String,
    #[arg(long)]
    seconds: u64,
    /// What opens the room
    #[arg(long, env = "VOICE_TOKEN", hide_env_values = true)]
    token: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let trust = Trust::nobody().and_hash(&options.certificate_sha256)?;
    let entry = Entry::server(options.server, TokenSource::fixed(options.token));
    let (client, mut voice) = Client::connect(entry, Config::new(trust)).await?;
    let (room, _events) = client.join(&options.room, Join::default()).await?;
    let media = room.start_media().await?;
    let id = media.id().context("a started media has an id")?;
    println!("{}", json!({"media": id.value()}));

    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut ticks = interval(PACKET_TIME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = BTreeMap::<String, u64>::new();
    while Instant::now() < end {
        tokio::select! {
            _ = ticks.tick() => media.send(&FRAME)?,
            packet = timeout_at(end, voice.recv()) => {
                let Ok(packet) = packet else { break };
                let packet = packet.context("the client ended by itself")?;
                *heard.entry(packet.media.value().to_string()).or_default() += 1;
            }
        }
    }
    println!("{}", json!({"heard": heard}));
    client.close().await;
    Ok(())
}
