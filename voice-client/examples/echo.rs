//! Joins a room through a gateway, and says whatever it hears back to everybody, one talker at a time.
//!
//! `bifrost voice` starts a gateway and a voice server on this machine; `bifrost token sign --room lobby --user echo` signs
//! a token.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use voice_client::{Client, Config, Entry, Event, Join, MediaId, TokenSource, Transport, Trust};

/// A talker who is silent for so long makes room for another.
const TURN_MAX: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Arguments {
    /// URL of the gateway
    #[arg(long, default_value = "https://127.0.0.1:7000/")]
    gateway: String,
    /// Room token
    #[arg(long, env = "VOICE_TOKEN", hide_env_values = true)]
    token: String,
    /// Room to join
    #[arg(long, default_value = "lobby")]
    room: String,
    /// PEM file with the certificates to trust
    #[arg(long)]
    certificates: Option<PathBuf>,
    /// SHA-256 of a certificate to trust, in hexadecimal digits
    #[arg(long)]
    hash: Vec<String>,
    /// Use WebSockets and WebRTC, as web clients do
    #[arg(long)]
    web_socket: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut trust = match &arguments.certificates {
        Some(file) => Trust::pem_file(file)?,
        None => Trust::nobody(),
    };
    for hash in &arguments.hash {
        trust = trust.and_hash(hash)?;
    }
    let mut config = Config::new(trust);
    if arguments.web_socket {
        config.transport = Transport::WebSocket;
    }
    let entry = Entry::gateway(arguments.gateway, TokenSource::fixed(arguments.token));
    let (client, mut voice) = Client::connect(entry, config).await?;
    let (room, mut events) = client.join(&arguments.room, Join::default()).await?;
    let media = room.start_media().await?;
    say(&format!("in {} as peer {}", room.name(), room.own_id()));

    let mut turn: Option<(MediaId, Instant)> = None;
    loop {
        tokio::select! {
            packet = voice.recv() => {
                let packet = packet.context("the client has ended")?;
                let (talker, last) = turn.unwrap_or((packet.media, packet.arrived));
                if talker != packet.media && packet.arrived < last + TURN_MAX {
                    continue;
                }
                turn = Some((packet.media, packet.arrived));
                if let Err(error) = media.send(&packet.payload) {
                    say(&format!("not said back: {error}"));
                }
            }
            event = events.next() => match event {
                Some(Event::Left(reason)) => {
                    say(&format!("left: {reason}"));
                    break;
                }
                Some(event) => say(&format!("{event:?}")),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    let counters = client.counters();
    client.close().await;
    say(&format!("{counters:?}"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what a person reads")]
fn say(text: &str) {
    println!("{text}");
}
