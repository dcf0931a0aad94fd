//! Players who use the voice that they were given.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use tokio::time::{Instant, interval, timeout, timeout_at};
use voice_client::{Client, Config, Entry, Events, Join, Media, Room, TokenSource, Trust, Voice};

/// One step of the way in. On this machine it takes milliseconds.
const STEP_MAX: Duration = Duration::from_secs(10);

/// Between two packets of voice.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// Bytes of a packet's Opus frame.
const FRAME: [u8; 62] = [0x78; 62];

struct Player {
    client: Client,
    voice: Voice,
    media: Media,
    /// Whoever drops them leaves.
    _room: (Room, Events),
}

impl Player {
    /// Joins the first of the rooms, through the gateway.
    async fn join(access: &Value, certificate: &Path) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let gateway = text(&access["gateway"]).context("no gateway")?;
        let token = text(&access["token"]).context("no token")?;
        let name = text(&access["rooms"][0]["name"]).context("no room")?;
        let entry = Entry::gateway(gateway, TokenSource::fixed(token));
        let config = Config::new(Trust::pem_file(certificate)?);
        let connecting = Client::connect(entry, config);
        let (client, voice) = timeout(STEP_MAX, connecting)
            .await
            .context("connecting")??;
        let joining = client.join(&name, Join::default());
        let (room, events) = timeout(STEP_MAX, joining).await.context("joining")??;
        let media = timeout(STEP_MAX, room.start_media())
            .await
            .context("starting a media")??;
        Ok(Self {
            client,
            voice,
            media,
            _room: (room, events),
        })
    }
}

/// Both players talk until each has heard the other.
pub(crate) async fn hear_each_other(one: &Value, other: &Value, certificate: &Path) -> Result<()> {
    let mut one = Player::join(one, certificate).await?;
    let mut other = Player::join(other, certificate).await?;
    let end = Instant::now() + STEP_MAX;
    let mut ticks = interval(PACKET_TIME);
    let (mut heard_by_one, mut heard_by_other) = (false, false);
    while !(heard_by_one && heard_by_other) {
        tokio::select! {
            tick = timeout_at(end, ticks.tick()) => {
                tick.context("they do not hear each other")?;
                one.media.send(&FRAME)?;
                other.media.send(&FRAME)?;
            }
            packet = one.voice.recv() => {
                let packet = packet.context("the client ended by itself")?;
                heard_by_one |= Some(packet.media) == other.media.id();
            }
            packet = other.voice.recv() => {
                let packet = packet.context("the client ended by itself")?;
                heard_by_other |= Some(packet.media) == one.media.id();
            }
        }
        ensure!(Instant::now() < end, "they do not hear each other");
    }
    one.client.close().await;
    other.client.close().await;
    Ok(())
}

/// Whose token it is, as it says itself.
pub(crate) fn owner(access: &Value) -> Result<String> {
    let token = access["token"].as_str().context("no token")?;
    let claims = token.split('.').nth(1).context("three parts")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok(claims["uid"].as_str().context("no uid")?.to_owned())
}

/// The same token with another signature opens nothing: voice that takes anything would pass all else.
pub(crate) async fn refuse_forgery(access: &Value, certificate: &Path) -> Result<()> {
    let token = access["token"].as_str().context("no token")?;
    let (rest, signature) = token.rsplit_once('.').context("three parts")?;
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let others = signature.get(1..).context("a signature")?;
    let forged = format!("{first}{others}");
    let mut access = access.clone();
    access["token"] = format!("{rest}.{forged}").into();
    if Player::join(&access, certificate).await.is_ok() {
        bail!("a forged token is taken");
    }
    Ok(())
}
