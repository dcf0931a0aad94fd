//! A player's voice, as a game has it: let in by the gateway, in its rooms, talking and hearing. It knows nothing of the
//! world but a token and whom to trust.

use std::{
    collections::HashMap,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::time::{MissedTickBehavior, interval, timeout};
use voice_client::{
    Client, Config, Entry, Event, Events, Join, LeaveReason, Media, Room, TokenSource, Transport,
    Trust, Voice,
};

/// One step of the way into a room, and one answer. On this machine all of them take milliseconds.
const STEP_MAX: Duration = Duration::from_secs(10);

/// Between two packets of voice.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// Bytes of a packet, as of 20 ms of speech.
const PACKET_BYTES: usize = 62;

/// First byte of an Opus packet: hybrid, fullband, 20 ms, mono, one frame.
const OPUS_HEAD: u8 = 0x78;

/// What a player has been given to get in with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket<'a> {
    pub(crate) user_id: &'a str,
    /// The gateway's address.
    pub(crate) gateway: &'a str,
    pub(crate) token: &'a str,
    /// Names of rooms. The player talks in the first.
    pub(crate) rooms: &'a [String],
    /// How the player gets there.
    pub(crate) transport: Transport,
}

/// A player in all of its rooms, with a started media in the first.
pub(crate) struct Player {
    pub(crate) user_id: String,
    /// The voice server that the gateway chose.
    pub(crate) server: String,
    rooms: Vec<(Room, Events)>,
    media: Media,
    voice: Voice,
}

/// Packets as they were sent, and when.
pub(crate) type Sent = HashMap<[u8; PACKET_BYTES], Instant>;

impl Player {
    /// Takes the whole way in; when this returns, the voice connection is up.
    pub(crate) async fn join(trust: &Trust, ticket: Ticket<'_>) -> Result<Self> {
        let joined = within("joining", Self::enter(trust, ticket)).await;
        joined.with_context(|| format!("{} is not in its voice rooms", ticket.user_id))
    }

    async fn enter(trust: &Trust, ticket: Ticket<'_>) -> Result<Self> {
        let entry = Entry::gateway(ticket.gateway, TokenSource::fixed(ticket.token));
        let mut config = Config::new(trust.clone());
        config.transport = ticket.transport;
        // A loss is to be seen, not mended.
        config.reconnect.time_max = Duration::ZERO;
        let (client, voice) = Client::connect(entry, config).await?;
        let mut rooms = Vec::new();
        for room in ticket.rooms {
            rooms.push(client.join(room, Join::default()).await?);
        }
        let (first, _) = rooms.first().context("no room to talk in")?;
        Ok(Self {
            user_id: ticket.user_id.to_owned(),
            server: client.server(),
            media: first.start_media().await?,
            rooms,
            voice,
        })
    }

    /// Waits until somebody who came later is ready to talk in the first room.
    pub(crate) async fn expect_talker(&mut self) -> Result<()> {
        let (_, events) = self.rooms.first_mut().context("no room")?;
        let started = async {
            loop {
                match events.next().await {
                    Some(Event::MediaStarted { .. }) => return Ok(()),
                    Some(_) => {}
                    None => return Err(anyhow!("the room has ended")),
                }
            }
        };
        within("hearing that the other starts", started).await
    }

    /// Sends so many packets at the pace of speech.
    pub(crate) async fn talk(&mut self, count: usize) -> Result<Sent> {
        let mut sent = Sent::new();
        let mut ticks = interval(PACKET_TIME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..count {
            ticks.tick().await;
            let packet = packet()?;
            sent.insert(packet, Instant::now());
            self.media.send(&packet)?;
        }
        Ok(sent)
    }

    /// How long each of these packets was under way; those that do not come within `patience` are left out.
    pub(crate) async fn hear(&mut self, mut expected: Sent, patience: Duration) -> Vec<Duration> {
        let mut latencies = Vec::new();
        let hearing = async {
            while !expected.is_empty() {
                let Some(heard) = self.voice.recv().await else {
                    return;
                };
                if let Some(sent_at) = expected.remove(&heard.payload[..]) {
                    latencies.push(heard.arrived.duration_since(sent_at));
                }
            }
        };
        // Whatever has come by then counts.
        let _ = timeout(patience, hearing).await;
        latencies
    }

    /// Waits until every room has said why the player had to leave it. Gives the reasons.
    pub(crate) async fn dismissed(&mut self, patience: Duration) -> Result<Vec<LeaveReason>> {
        let told = async {
            let mut reasons = Vec::new();
            for (_, events) in &mut self.rooms {
                reasons.push(left(events).await?);
            }
            Ok(reasons)
        };
        let dismissed = timeout(patience, told).await;
        dismissed
            .map_err(|_| anyhow!("no word of it after {} s", patience.as_secs()))
            .flatten()
            .with_context(|| format!("{} should be told that its rooms are closed", self.user_id))
    }
}

/// Why the room had to be left, once it had to.
async fn left(events: &mut Events) -> Result<LeaveReason> {
    loop {
        match events.next().await {
            Some(Event::Left(reason)) => return Ok(reason),
            Some(_) => {}
            None => return Err(anyhow!("no reason")),
        }
    }
}

/// Random bytes with the head of an Opus packet: nothing that can be listened to.
fn packet() -> Result<[u8; PACKET_BYTES]> {
    let mut packet = [OPUS_HEAD; PACKET_BYTES];
    let [_, rest @ ..] = &mut packet;
    getrandom::fill(rest)
        .map_err(|error| anyhow!("the system's random generator failed: {error}"))?;
    Ok(packet)
}

async fn within<T>(what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
    let ended = timeout(STEP_MAX, step).await;
    ended.with_context(|| format!("{what} takes longer than {} s", STEP_MAX.as_secs()))?
}

#[cfg(test)]
mod tests {
    use gateway_api::{Claims, Names};
    use sfu::SelfSigned;

    use super::*;
    use crate::voice::{self, Voice};

    const LONG: Duration = Duration::from_secs(10);

    async fn world() -> Voice {
        let options = voice::Options::on_free_ports();
        Voice::start(&options, |_| {}).await.unwrap()
    }

    async fn join(
        voice: &Voice,
        trust: &Trust,
        user_id: &str,
        transport: Transport,
    ) -> Result<Player> {
        // Rooms with one base live on one server.
        let rooms = ["{game}hall".to_owned(), "{game}corner".to_owned()];
        let claims = Claims {
            uid: Some(user_id.to_owned()),
            rid: Some(Names::Many(rooms.to_vec())),
            ..Claims::default()
        };
        let ticket = Ticket {
            user_id,
            gateway: voice.gateway_url(),
            token: &gateway_api::sign(&claims, &voice.key()),
            rooms: &rooms,
            transport,
        };
        Player::join(trust, ticket).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_one_player_sends_the_other_hears_and_nothing_else() {
        let voice = world().await;
        let trust = Trust::pem_file(voice.certificate_file()).unwrap();
        let early = join(&voice, &trust, "early", Transport::WebSocket);
        let mut early = early.await.unwrap();
        let late = join(&voice, &trust, "late", Transport::WebTransport);
        let mut late = late.await.unwrap();
        early.expect_talker().await.unwrap();
        let mut sent = early.talk(3).await.unwrap();
        let own = sent.clone();
        sent.insert([0; PACKET_BYTES], Instant::now());
        let heard = late.hear(sent, Duration::from_secs(1)).await;
        assert_eq!(heard.len(), 3);
        let heard = early.hear(own, Duration::from_millis(100)).await;
        assert!(heard.is_empty(), "nobody hears itself");

        let (ended, reasons) = tokio::join!(voice.end(), late.dismissed(LONG));
        ended.unwrap();
        assert_eq!(reasons.unwrap(), [const { LeaveReason::ServerClosing }; 2]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_certificate_is_not_trusted() {
        let voice = world().await;
        let other = SelfSigned::new(&["127.0.0.1".parse().unwrap()]).unwrap();
        let trust = Trust::pem_file(other.files().certificate_file).unwrap();
        for transport in [Transport::WebSocket, Transport::WebTransport] {
            let refused = join(&voice, &trust, "user", transport).await;
            let error = format!("{:#}", refused.err().unwrap());
            assert!(error.contains("certificate"), "{error}");
        }
        voice.end().await.unwrap();
    }
}
