//! The loop of a shard: take packets and requests, forward, poll, send, sleep.

mod forward;
mod pressure;
mod requests;
mod routing;
mod shedding;

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::{prctl, time::TimeSpec},
};
use sfu_core::{DropReason, RoomLimits, Shedding, wire::datagram::Datagram};
use tokio::sync::mpsc;

use self::{
    pressure::Pressure,
    routing::{Owner, hand, is_stale, owner},
    shedding::{CatchUp, is_session_data},
};
use super::{
    Arrival, QuicSettings, QuicTls, ShardNumber,
    inbox::{Handed, Inbox},
    quic::{self, QuicEndpoint},
    rooms::Rooms,
    session::Sent,
    sessions::{Arrived, Outbox, Sessions, Voice},
    socket::{Received, Wire},
};
use crate::metrics::{Metrics, Queue, ShardCounters};

/// How late the system may wake a shard: a hundredth of a tick.
const TIMER_SLACK: Duration = Duration::from_micros(1);

/// Longest sleep: how late the figures of an idle shard may be.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// After voice was sent over data channels, packets of these are taken again after this time: what comes at first are
/// acknowledgements, and to wake for each costs more than all the rest of it. Native clients are asked to acknowledge
/// seldom.
const PAUSE: Duration = Duration::from_micros(200);

/// Batches of packets in one round, so that requests and timers get their turn under any load.
const BATCHES_MAX: usize = 4;

/// Requests in one round, so that a burst of them does not hold up voice.
const REQUESTS_MAX: usize = 64;

/// Time after which no more requests are begun in a round: a peer that joins two thousand others, or moves into their
/// sight, takes as long as hundreds of packets. A third of what a shard may be late without shedding voice for it.
const REQUESTS_TIME_MAX: Duration = Duration::from_millis(10);

/// Packets of other threads in one round.
const HANDED_MAX: usize = 256;

/// Addresses of clients of other shards that are remembered; at the limit all are learned anew.
const FOREIGN_MAX: usize = 65_536;

/// What a shard is made from.
#[derive(Clone, Debug)]
pub(crate) struct ShardSettings {
    pub(crate) number: ShardNumber,
    pub(crate) limits: RoomLimits,
    /// How long updates for one peer are gathered.
    pub(crate) bundle_time: Duration,
    /// How long voice waits for more to go with while the shard is busy.
    pub(crate) voice_coalescing: Duration,
    /// Calls that take longer are told in the log.
    pub(crate) hanging_call: Option<Duration>,
    /// Refused calls are told in the log.
    pub(crate) log_rejected: bool,
}

/// The sockets of a shard; a transport without one is not served.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) webrtc: Option<UdpSocket>,
    pub(crate) quic: Option<QuicSocket>,
}

/// Where native clients connect.
#[derive(Debug)]
pub(crate) struct QuicSocket {
    pub(crate) socket: UdpSocket,
    pub(crate) settings: QuicSettings,
    pub(crate) tls: QuicTls,
    /// Takes the streams that clients open.
    pub(crate) arrivals: mpsc::Sender<Arrival>,
}

/// Sockets that may have packets.
#[derive(Clone, Copy, Debug)]
struct Ready {
    webrtc: bool,
    quic: bool,
}

/// A shard on its thread.
pub(crate) struct Shard {
    settings: ShardSettings,
    webrtc: Option<Wire>,
    quic: Option<Wire>,
    inboxes: Vec<Arc<Inbox>>,
    inbox: Arc<Inbox>,
    counters: Arc<ShardCounters>,
    metrics: Arc<Metrics>,
    sessions: Sessions,
    rooms: Rooms,
    /// Whose clients send from these addresses, where the kernel brings their packets here.
    foreign: HashMap<SocketAddr, ShardNumber>,
    outbox: Outbox,
    voice: Vec<Voice>,
    sent: Sent,
    pressure: Pressure,
    shedding: Shedding,
    catch_up: CatchUp,
    quic_catch_up: CatchUp,
    /// Until when no packets are taken.
    pauses_until: Instant,
    is_stopping: bool,
}

impl Shard {
    /// # Errors
    /// When the socket cannot be used.
    pub(crate) fn new(
        settings: ShardSettings,
        sockets: Sockets,
        inboxes: Vec<Arc<Inbox>>,
        counters: Arc<ShardCounters>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let inbox = Arc::clone(&inboxes[settings.number.index()]);
        let endpoint = sockets.quic.as_ref().map(|quic| {
            QuicEndpoint::new(
                quic.settings.clone(),
                &quic.tls,
                settings.number,
                Arc::clone(&inbox),
                quic.arrivals.clone(),
            )
        });
        let quic = sockets.quic.map(|quic| Wire::new(quic.socket));
        Ok(Self {
            webrtc: sockets.webrtc.map(Wire::new).transpose()?,
            quic: quic.transpose()?,
            inbox,
            inboxes,
            counters,
            metrics,
            sessions: Sessions::new(endpoint),
            rooms: Rooms::new(settings.number, settings.limits, settings.bundle_time),
            foreign: HashMap::new(),
            outbox: Outbox::default(),
            voice: Vec::new(),
            sent: Sent::default(),
            pressure: Pressure::default(),
            shedding: Shedding::new(Instant::now()),
            catch_up: CatchUp::default(),
            quic_catch_up: CatchUp::default(),
            pauses_until: Instant::now(),
            is_stopping: false,
            settings,
        })
    }

    /// Runs on the calling thread until it is asked to stop.
    pub(crate) fn run(mut self) {
        // Ticks are late otherwise, by what the system takes for precise; it does not refuse.
        let _ = prctl::set_timerslack(TIMER_SLACK.as_nanos() as u64);
        while !self.is_stopping {
            let ready = self.sleep();
            let began = Instant::now();
            self.round(began, ready);
            self.rest(began);
        }
    }

    /// Until there is a packet, a request or a timer.
    fn sleep(&self) -> Ready {
        let now = Instant::now();
        let timers = [self.sessions.next_timeout(), self.rooms.next_timeout()];
        let next = timers.into_iter().flatten().min();
        let wait = next
            .map_or(SLEEP_MAX, |next| next.saturating_duration_since(now))
            .min(SLEEP_MAX);
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let wake = readable(self.inbox.wake_fd());
        // While voice is held anyway, packets are taken by the clock, several at a time.
        let tick = self.sessions.tick();
        let pause = self.pauses_until.saturating_duration_since(now);
        let pause = Some(pause).filter(|pause| !pause.is_zero());
        let pause = tick.or(pause);
        let wait = pause.map_or(wait, |pause| wait.min(pause));
        let webrtc = self.webrtc.as_ref().filter(|_| pause.is_none());
        let quic = self.quic.as_ref().filter(|_| tick.is_none());
        let wires = [webrtc, quic].into_iter().flatten();
        let mut sources: Vec<_> = [wake]
            .into_iter()
            .chain(wires.map(|wire| readable(wire.fd())))
            .collect();
        // An interrupted sleep is a short one.
        let _ = ppoll(&mut sources, Some(TimeSpec::from(wait)), None);
        let mut ready = sources.iter().skip(1).map(|it| it.any().unwrap_or(true));
        Ready {
            webrtc: webrtc.is_none() || ready.next().unwrap_or(false),
            quic: quic.is_none() || ready.next().unwrap_or(false),
        }
    }

    fn round(&mut self, now: Instant, ready: Ready) {
        self.inbox.look();
        for _ in 0..REQUESTS_MAX {
            let Some(request) = self.inbox.request() else {
                break;
            };
            self.handle_request(now, request);
            if now.elapsed() > REQUESTS_TIME_MAX {
                break;
            }
        }
        for _ in 0..HANDED_MAX {
            let Some(packet) = self.inbox.packet() else {
                break;
            };
            self.handle_handed(now, packet);
        }
        if ready.webrtc {
            self.receive(now);
        }
        if ready.quic {
            self.receive_quic(now);
        }
        self.sessions.handle_timeouts(now);
        self.poll(now);
        // What was forwarded touched its receivers: they have packets to send now. What waited goes with it.
        self.sessions.release(now);
        self.poll(now);
        self.send();
        self.rooms.flush(now);
        self.forget_departed();
        self.counters
            .queue_depth(Queue::Commands, self.inbox.depth());
        if self.inbox.depth() > 0 {
            // The rest has its turn in the next round, which must not wait for a new wake.
            self.inbox.look_again();
        }
    }

    /// Takes what came on the socket of WebRTC.
    fn receive(&mut self, now: Instant) {
        let Self {
            webrtc: Some(wire),
            sessions,
            foreign,
            outbox,
            voice,
            inboxes,
            counters,
            settings,
            shedding,
            catch_up,
            ..
        } = self
        else {
            return;
        };
        wire.receive(BATCHES_MAX, |packet: Received<'_>| {
            if catch_up.skips(packet.waited, is_session_data(packet.bytes)) {
                shedding.waited(packet.waited);
                counters.dropped(DropReason::Stale.index());
                return;
            }
            let arrived = packet.arrived;
            let owner = owner(
                now,
                sessions,
                foreign,
                settings.number,
                packet.source,
                packet.bytes,
            );
            let result = match owner {
                Ok(Owner::Here(number)) => {
                    let packet = Arrived {
                        source: packet.source,
                        bytes: packet.bytes,
                        arrived,
                    };
                    sessions.receive(now, number, packet, &mut outbox.webrtc, voice)
                }
                Ok(Owner::There(shard)) => {
                    let packet = Handed::Raw {
                        from: settings.number,
                        source: packet.source,
                        bytes: Bytes::copy_from_slice(packet.bytes),
                        arrived,
                    };
                    hand(inboxes, shard, packet)
                }
                Err(reason) => Err(reason),
            };
            if let Err(reason) = result {
                counters.dropped(reason.index());
            }
        });
    }

    /// As [`Self::receive`], of the other socket.
    fn receive_quic(&mut self, now: Instant) {
        let Self {
            quic: Some(wire),
            sessions,
            outbox,
            inboxes,
            counters,
            settings,
            shedding,
            quic_catch_up,
            ..
        } = self
        else {
            return;
        };
        wire.receive(BATCHES_MAX, |packet: Received<'_>| {
            let Received { source, bytes, .. } = packet;
            if quic_catch_up.skips(packet.waited, quic::is_session_data(bytes)) {
                shedding.waited(packet.waited);
                counters.dropped(DropReason::Stale.index());
                return;
            }
            let arrived = packet.arrived;
            let other = quic::shard_of(bytes).filter(|shard| *shard != settings.number);
            let result = match other {
                None => sessions.receive_quic(now, source, bytes, arrived, &mut outbox.quic),
                Some(shard) => {
                    let bytes = Bytes::copy_from_slice(bytes);
                    let packet = Handed::RawQuic {
                        source,
                        bytes,
                        arrived,
                    };
                    hand(inboxes, shard, packet)
                }
            };
            if let Err(reason) = result {
                counters.dropped(reason.index());
            }
        });
    }

    fn handle_handed(&mut self, now: Instant, packet: Handed) {
        let result = match packet {
            Handed::Owned { source, shard } => {
                if self.foreign.len() >= FOREIGN_MAX {
                    self.foreign.clear();
                }
                self.foreign.insert(source, shard);
                Ok(())
            }
            Handed::Raw {
                from,
                source,
                bytes,
                arrived,
            } => {
                let packet = Arrived {
                    source,
                    bytes: &bytes,
                    arrived,
                };
                self.receive_handed(now, from, packet)
            }
            Handed::RawQuic {
                source,
                bytes,
                arrived,
            } => {
                let packets = &mut self.outbox.quic;
                self.sessions
                    .receive_quic(now, source, &bytes, arrived, packets)
            }
            Handed::Voice {
                place,
                media,
                bytes,
                arrived,
            } => match Datagram::parse(&bytes) {
                Ok(datagram) => self.forward(now, place, media, &datagram, arrived),
                Err(_) => Err(DropReason::Malformed),
            },
            Handed::Deliver {
                client,
                voice,
                arrived,
            } => match is_stale(now, arrived) {
                true => Err(DropReason::Stale),
                false => self.sessions.deliver(arrived, client, &voice),
            },
        };
        if let Err(reason) = result {
            self.counters.dropped(reason.index());
        }
    }

    /// A packet that the kernel gave to another shard.
    fn receive_handed(
        &mut self,
        now: Instant,
        from: ShardNumber,
        packet: Arrived<'_>,
    ) -> Result<(), DropReason> {
        let Arrived { source, bytes, .. } = packet;
        let shard = self.settings.number;
        let is_known = self.sessions.by_address(source).is_some();
        match owner(now, &mut self.sessions, &self.foreign, shard, source, bytes)? {
            Owner::Here(number) => {
                if !is_known {
                    // What does not fit is learned with the client's next check.
                    let _ = hand(&self.inboxes, from, Handed::Owned { source, shard });
                }
                let packets = &mut self.outbox.webrtc;
                self.sessions
                    .receive(now, number, packet, packets, &mut self.voice)
            }
            // It has crossed once; the other shard was wrong about whose it is.
            Owner::There(_) => Err(DropReason::UnknownAddress),
        }
    }

    /// Polls what was touched, and forwards the voice that comes out of it.
    fn poll(&mut self, now: Instant) {
        let mut voice = std::mem::take(&mut self.voice);
        let Self {
            sessions,
            outbox,
            sent,
            counters,
            ..
        } = self;
        sessions.poll(now, outbox, &mut voice, sent);
        counters.packets_out(sent.packets, sent.bytes);
        for reason in sent.dropped.drain(..) {
            counters.dropped(reason.index());
        }
        (sent.packets, sent.bytes) = (0, 0);
        for packet in voice.drain(..) {
            self.counters.packet_in(packet.bytes.len());
            if let Err(reason) = self.voice(now, &packet) {
                self.counters.dropped(reason.index());
            }
        }
        self.voice = voice;
    }

    fn send(&mut self) {
        let Outbox { webrtc, quic } = &mut self.outbox;
        let is_over_data_channels = webrtc.len() > 0;
        self.counters
            .queue_depth(Queue::Outgoing, webrtc.len() + quic.len());
        let sent = [(&mut self.webrtc, webrtc), (&mut self.quic, quic)];
        for (wire, packets) in sent {
            let lost = wire.as_mut().map_or(0, |wire| wire.send(packets));
            for _ in 0..lost {
                self.counters.dropped(DropReason::SocketFull.index());
            }
            packets.clear();
        }
        let now = Instant::now();
        if is_over_data_channels && !self.sent.forwarded.is_empty() {
            self.pauses_until = now + PAUSE;
        }
        for arrived in self.sent.forwarded.drain(..) {
            self.counters
                .forwarded(now.saturating_duration_since(arrived));
        }
    }

    /// The sessions of peers that left on the shard's account must not send for them any more.
    fn forget_departed(&mut self) {
        for departed in self.rooms.departed() {
            // A session of another shard keeps a place of a room that knows the peer no more; its client's stream ends
            // now, and with it goes the place.
            if departed.link.shard == self.settings.number {
                self.sessions.detach(departed.link.client, departed.place);
            }
        }
        self.counters
            .too_slow(std::mem::take(&mut self.rooms.too_slow));
    }
}
