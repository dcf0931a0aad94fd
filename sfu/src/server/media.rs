//! The threads that forward, with their sockets, and what connections share.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::Duration,
};

use service::SettingsError;
use sfu_core::{Directory, DirectoryLimits, RoomLimits};
use tokio::sync::{mpsc, oneshot};

use super::{ServerError, Thread, candidates};
use crate::{
    auth::Authenticator,
    certificate,
    config::{Config, Tls},
    control::{Control, StreamSettings},
    metrics::{Metrics, ShardCounters},
    shard::{
        Arrival, Inbox, Offers, QuicSettings, QuicSocket, QuicTls, SHARDS_MAX, Shard, ShardNumber,
        ShardSettings, Sockets, bind,
    },
};

/// Streams of native clients that wait for their task.
const ARRIVALS_MAX: usize = 4_096;

/// What [`start`] gives.
pub(super) struct Media {
    pub(super) control: Arc<Control>,
    pub(super) threads: Vec<Thread>,
    /// Where the voice of web clients goes.
    pub(super) webrtc: Option<SocketAddr>,
    pub(super) quic: Option<QuicListener>,
}

/// The listener of native clients, whose socket is the shards'.
#[derive(Debug)]
pub(super) struct QuicListener {
    pub(super) address: SocketAddr,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
}

/// The sockets of one transport, one for each shard.
struct Bound {
    address: SocketAddr,
    sockets: Vec<UdpSocket>,
}

impl Bound {
    fn new(address: SocketAddr, shards: usize, key: &'static str) -> Result<Self, ServerError> {
        let error = |source| ServerError::Bind {
            address,
            key,
            source,
        };
        let first = bind(address).map_err(error)?;
        let address = first.local_addr().map_err(error)?;
        let mut sockets = vec![first];
        for _ in 1..shards {
            sockets.push(bind(address).map_err(error)?);
        }
        Ok(Self { address, sockets })
    }
}

/// Opens the sockets and starts the threads.
///
/// # Errors
/// [`ServerError`].
pub(super) async fn start(
    config: &Config,
    shards: usize,
    metrics: &Arc<Metrics>,
) -> Result<Media, ServerError> {
    let system = |error: io::Error| ServerError::System(error.to_string());
    let inboxes = (0..shards).map(|_| Inbox::new().map(Arc::new));
    let inboxes = inboxes.collect::<Result<Vec<_>, _>>().map_err(system)?;
    let (mut webrtc, mut offered) = (None, Vec::new());
    if let Some(http) = &config.http {
        let bound = Bound::new(http.webrtc_binding, shards, "http.webrtc_binding")?;
        offered = candidates::candidates(config, http, bound.address).await?;
        webrtc = Some(bound);
    }
    let (arrivals_in, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let mut quic = match &config.quic {
        Some(quic) => {
            let tls = quic_tls(&quic.tls)?;
            Some((Bound::new(quic.binding, shards, "quic.binding")?, quic, tls))
        }
        None => None,
    };
    let mut threads = Vec::with_capacity(shards);
    for number in 0..shards {
        let number = u8::try_from(number).expect("there are fewer shards than a byte counts");
        let sockets = Sockets {
            webrtc: webrtc.as_mut().and_then(|bound| bound.sockets.pop()),
            quic: quic.as_mut().and_then(|(bound, quic, tls)| {
                Some(QuicSocket {
                    socket: bound.sockets.pop()?,
                    settings: QuicSettings::new(quic),
                    tls: tls.clone(),
                    arrivals: arrivals_in.clone(),
                })
            }),
        };
        let settings = shard_settings(config, ShardNumber(number));
        let counters = Arc::clone(&metrics.shards()[usize::from(number)]);
        let metrics = Arc::clone(metrics);
        let thread = start_thread(settings, sockets, inboxes.clone(), counters, metrics);
        threads.push(thread.map_err(system)?);
    }
    let offers = Offers::new(offered).map_err(|error| ServerError::System(error.to_owned()))?;
    let control = Control::new(
        Directory::new(directory_limits(config)),
        Authenticator::new(&config.authorization),
        offers,
        Arc::clone(metrics),
        stream_settings(config),
        inboxes,
    );
    Ok(Media {
        control: Arc::new(control),
        threads,
        webrtc: webrtc.map(|bound| bound.address),
        quic: quic.map(|(bound, ..)| QuicListener {
            address: bound.address,
            arrivals,
        }),
    })
}

/// The TLS of native clients.
///
/// # Errors
/// [`SettingsError`] when the files cannot be used.
pub(super) fn quic_tls(files: &Tls) -> Result<QuicTls, SettingsError> {
    let tls = certificate::read(files)?;
    QuicTls::new(&tls).map_err(|error| SettingsError::Whole(error.to_string()))
}

fn shard_settings(config: &Config, number: ShardNumber) -> ShardSettings {
    let limit = &config.limit;
    ShardSettings {
        number,
        limits: RoomLimits {
            media_packets_rate: limit.incoming_media_packets.rate,
            media_packets_capacity: limit.incoming_media_packets.capacity,
            concurrent_streams: limit.concurrent_streams,
        },
        bundle_time: config.internal.bundle_events,
        voice_coalescing: config.internal.voice_coalescing,
        hanging_call: config.internal.log_hanging_api_calls,
        log_rejected: config.internal.log_rejected_api_calls,
    }
}

fn directory_limits(config: &Config) -> DirectoryLimits {
    DirectoryLimits {
        clients: config.limit.max_clients,
        rooms: config.limit.max_rooms,
        peers: config.limit.max_peers,
        medias: config.limit.medias,
    }
}

/// Those of web clients and those of native ones. A transport that is off has no streams, whatever its settings.
fn stream_settings(config: &Config) -> [StreamSettings; 2] {
    let streams = |timeout, ping_interval, no_peers_timeout| StreamSettings {
        timeout,
        ping_interval,
        no_peers_timeout,
        messages: config.limit.incoming_messages,
        resume_grace: config.limit.resume_grace,
        hanging_call: config.internal.log_hanging_api_calls,
        log_rejected: config.internal.log_rejected_api_calls,
    };
    let off = streams(Duration::ZERO, None, Duration::ZERO);
    let web = config.http.as_ref().map(|http| {
        streams(
            http.timeout,
            Some(http.ping_interval),
            http.no_peers_timeout,
        )
    });
    let quic = config
        .quic
        .as_ref()
        .map(|quic| streams(quic.idle_timeout, None, quic.no_peers_timeout));
    [web.unwrap_or(off), quic.unwrap_or(off)]
}

fn start_thread(
    settings: ShardSettings,
    sockets: Sockets,
    inboxes: Vec<Arc<Inbox>>,
    counters: Arc<ShardCounters>,
    metrics: Arc<Metrics>,
) -> io::Result<Thread> {
    let (word, ended) = oneshot::channel::<()>();
    let name = format!("shard-{}", settings.number.0);
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let handle = thread::Builder::new().name(name).spawn(move || {
        // Dropped when the thread ends, also by a panic.
        let _word = word;
        match Shard::new(settings, sockets, inboxes, counters, metrics) {
            Ok(shard) => {
                let _ = ready.send(Ok(()));
                shard.run();
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    is_ready
        .recv()
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
    Ok(Thread { handle, ended })
}

/// As many as the settings say, or one less than the machine has cores.
pub(super) fn shard_count(config: &Config) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let set = config.http.as_ref().and_then(|http| http.shards);
    set.unwrap_or_else(|| cores.saturating_sub(1))
        .clamp(1, SHARDS_MAX)
}
