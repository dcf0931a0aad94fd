//! A player's voice client, as small as it gets: let in by the gateway, signalling over WebSockets, voice over a
//! WebRTC data channel. It speaks the protocol of ODIN's web client and knows nothing of the world but a token.

mod packet;
mod stream;
mod voice;

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Future, pending},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use futures::future::try_join_all;
use rmpv::Value;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};

use self::{
    packet::Packets,
    stream::{Stream, map},
    voice::{Offer, Voice},
};
use crate::voice::trusting_client;

/// One step of the way into a room, and one answer. On this machine all of them take milliseconds.
const STEP_MAX: Duration = Duration::from_secs(10);

/// Between two packets of voice.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// Whose certificates a player accepts: those of one file.
pub(crate) struct Trust {
    http: reqwest::Client,
    tls: TlsConnector,
}

/// What a player has been given to get in with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket<'a> {
    pub(crate) user_id: &'a str,
    /// The gateway's address.
    pub(crate) gateway: &'a str,
    pub(crate) token: &'a str,
    /// Names of rooms. The player talks in the first.
    pub(crate) rooms: &'a [String],
}

/// A player in all of its rooms, with a started media in the first.
pub(crate) struct Player {
    pub(crate) user_id: String,
    /// The voice server that the gateway chose.
    pub(crate) server: String,
    /// The server takes whoever closes it for gone.
    main: Stream,
    rooms: Vec<Stream>,
    voice: Voice,
    packets: Packets,
}

/// Packets as they were sent, and when.
pub(crate) type Sent = HashMap<Vec<u8>, Instant>;

impl Trust {
    /// Trusts the certificate in this file alone.
    pub(crate) fn read(certificate_file: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate_file)?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            http: trusting_client(certificate_file)?,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }
}

impl Player {
    /// Takes the whole way in; when this returns, the voice connection is up.
    pub(crate) async fn join(trust: &Trust, ticket: Ticket<'_>) -> Result<Self> {
        let joined = within("joining", Box::pin(Self::enter(trust, ticket))).await;
        joined.with_context(|| format!("{} is not in its voice rooms", ticket.user_id))
    }

    async fn enter(trust: &Trust, ticket: Ticket<'_>) -> Result<Self> {
        let Admission { server, token } = Admission::ask(trust, ticket).await?;
        let mut main = Stream::open(&trust.tls, &server, "/main").await?;
        main.call("Authenticate", map([("token", token.into())]))
            .await?;
        let (offer, sdp) = Offer::new().await?;
        let answer = main.call("SetupWebRtc", map([("sdp", sdp.into())])).await?;
        let answer = answer["sdp"].as_str().context("no description")?;
        let mut voice = offer.answered(answer)?;
        let mut rooms = Vec::new();
        let mut media = None;
        for room in ticket.rooms {
            let params = map([
                ("room_id", room.as_str().into()),
                ("user_data", Value::Binary(Vec::new())),
                ("position", Value::Array(vec![0.into(); 3])),
            ]);
            let joined = main.call("JoinRoom", params).await?;
            let name = joined["stream_id"].as_str().context("no stream")?;
            let path = format!("/room?{name}");
            let mut stream = Stream::open(&trust.tls, &server, &path).await?;
            let joined = stream.update("Joined").await?;
            if media.is_none() {
                media = Some(start_media(&mut stream, &joined).await?);
            }
            rooms.push(stream);
        }
        voice.opened().await?;
        Ok(Self {
            user_id: ticket.user_id.to_owned(),
            server,
            main,
            rooms,
            voice,
            packets: Packets::new(media.context("no room to talk in")?)?,
        })
    }

    /// Waits until somebody who came later is ready to talk in the first room.
    pub(crate) async fn expect_talker(&mut self) -> Result<()> {
        let room = self.rooms.first_mut().context("no room")?;
        within("hearing that the other starts", room.update("MediaStarted")).await?;
        Ok(())
    }

    /// Sends so many packets at the pace of speech.
    pub(crate) async fn talk(&mut self, count: usize) -> Result<Sent> {
        let mut sent = Sent::new();
        let mut ticks = interval(PACKET_TIME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..count {
            ticks.tick().await;
            let packet = self.packets.next()?;
            sent.insert(packet.clone(), Instant::now());
            self.voice.send(packet).await?;
        }
        Ok(sent)
    }

    /// How long each of these packets was under way; those that do not come within `patience` are left out.
    pub(crate) async fn hear(&mut self, mut expected: Sent, patience: Duration) -> Vec<Duration> {
        let mut latencies = Vec::new();
        let deadline = Instant::now() + patience;
        while !expected.is_empty() {
            let Ok(Some(heard)) = timeout_at(deadline, self.voice.heard()).await else {
                break;
            };
            if let Some(sent_at) = expected.remove(&heard.packet) {
                latencies.push(heard.at.duration_since(sent_at));
            }
        }
        latencies
    }

    /// Waits until every room has said why the player had to leave it, and has closed. Gives the reasons.
    pub(crate) async fn dismissed(&mut self, patience: Duration) -> Result<Vec<String>> {
        let rooms = try_join_all(self.rooms.iter_mut().map(leave));
        // Read for its pings alone, which want answers: the rooms say what it is about.
        let main = async {
            let _ = self.main.closed().await;
            pending::<Infallible>().await
        };
        let told = async {
            tokio::select! {
                reasons = rooms => reasons,
                never = main => match never {},
            }
        };
        let dismissed = timeout(patience, told).await;
        dismissed
            .map_err(|_| anyhow!("no word of it after {} s", patience.as_secs()))
            .flatten()
            .with_context(|| format!("{} should be told that its rooms are closed", self.user_id))
    }
}

/// What the gateway says.
struct Admission {
    server: String,
    token: String,
}

impl Admission {
    async fn ask(trust: &Trust, ticket: Ticket<'_>) -> Result<Self> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "Connect", "params": {}});
        let request = trust.http.post(ticket.gateway).bearer_auth(ticket.token);
        let response = request.json(&call).send().await;
        let response = response.context("the gateway does not answer")?;
        let answer: serde_json::Value = response.json().await?;
        let text = |name: &str| answer["result"][name].as_str().map(str::to_owned);
        let admission = text("address").zip(text("token"));
        let (server, token) =
            admission.with_context(|| format!("the gateway says {}", answer["error"]))?;
        Ok(Self { server, token })
    }
}

/// Starts the media that web clients use: the last of their own.
async fn start_media(room: &mut Stream, joined: &Value) -> Result<u64> {
    let medias = joined["media_ids"].as_array();
    let media = medias.and_then(|ids| ids.last()?.as_u64());
    let media = media.context("no media of its own")?;
    let params = map([("media_id", media.into()), ("properties", map([]))]);
    room.call("StartMedia", params).await?;
    Ok(media)
}

/// Waits until the room has said why one has to leave, and has closed; gives the reason.
async fn leave(room: &mut Stream) -> Result<String> {
    let left = room.update("Left").await?;
    let reason = left["reason"].as_str().context("no reason")?.to_owned();
    room.closed().await?;
    Ok(reason)
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

    async fn join(voice: &Voice, trust: &Trust, user_id: &str) -> Result<Player> {
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
        };
        Player::join(trust, ticket).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_one_player_sends_the_other_hears_and_nothing_else() {
        let voice = world().await;
        let trust = Trust::read(&voice.certificate_file()).unwrap();
        let mut early = join(&voice, &trust, "early").await.unwrap();
        let mut late = join(&voice, &trust, "late").await.unwrap();
        early.expect_talker().await.unwrap();
        let mut sent = early.talk(3).await.unwrap();
        let own = sent.clone();
        sent.insert(b"never sent".to_vec(), Instant::now());
        let heard = late.hear(sent, Duration::from_secs(1)).await;
        assert_eq!(heard.len(), 3);
        let heard = early.hear(own, Duration::from_millis(100)).await;
        assert!(heard.is_empty(), "nobody hears itself");

        let (ended, reasons) = tokio::join!(voice.end(), late.dismissed(LONG));
        ended.unwrap();
        assert_eq!(reasons.unwrap(), ["server_closing"; 2]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_certificate_is_not_trusted() {
        let voice = world().await;
        let other = SelfSigned::new(&["127.0.0.1".parse().unwrap()]).unwrap();
        let trust = Trust::read(&other.files().certificate_file).unwrap();
        let error = join(&voice, &trust, "user").await.err().unwrap();
        assert!(
            format!("{error:#}").contains("does not answer"),
            "{error:#}"
        );
        let half = Trust {
            http: trusting_client(&voice.certificate_file()).unwrap(),
            tls: trust.tls,
        };
        let error = join(&voice, &half, "user").await.err().unwrap();
        assert!(format!("{error:#}").contains("certificate"), "{error:#}");
        voice.end().await.unwrap();
    }
}
