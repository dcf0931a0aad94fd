//! A bad network between peers and server: loses, delays, reorders and doubles UDP packets, in both directions, as a seed
//! says. Each peer has sockets of its own in it, so that the server sees as many addresses as there are peers.

mod carrier;
mod fate;
mod flight;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    socket::{setsockopt, sockopt},
};
use serde::Serialize;

/// Lanes that wait to be taken over. Peers come some hundreds in a second, and are taken over at once.
const LANES_WAIT_MAX: usize = 1_024;

/// Bytes the kernel keeps for one socket while the relay is busy: a second of a busy room.
const KERNEL_BUFFER_BYTES: usize = 1024 * 1024;

/// What becomes of packets, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Of a hundred packets, how many are lost.
    pub loss_percent: f64,
    /// How long a packet is under way, in the middle.
    pub delay_ms: f64,
    /// How much more or less than that it may be; all times between are as likely.
    pub jitter_ms: f64,
    /// Of a hundred packets that are not lost, how many come twice.
    pub duplicate_percent: f64,
    /// What chance follows from.
    pub seed: u64,
}

impl Link {
    /// Does nothing to packets: there need be no relay.
    pub(crate) fn is_perfect(&self) -> bool {
        let troubles = [self.loss_percent, self.delay_ms, self.duplicate_percent];
        troubles.iter().all(|it| *it == 0.0) && self.jitter_ms == 0.0
    }

    /// Why there can be no such network, if so.
    pub(crate) fn objection(&self) -> Option<&'static str> {
        let percent = 0.0..=100.0;
        if !percent.contains(&self.loss_percent) || !percent.contains(&self.duplicate_percent) {
            return Some("a share of packets beyond 0..=100 percent");
        }
        if !(0.0..=self.delay_ms).contains(&self.jitter_ms) {
            return Some("a jitter below zero, or above the delay");
        }
        (self.delay_ms > DELAY_MS_MAX).then_some("packets that are under way for too long")
    }
}

/// Longest delay in the middle, in milliseconds: further than to the moon and back nobody talks.
const DELAY_MS_MAX: f64 = 2_600.0;

/// What the relay did to the packets of both directions since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RelayFigures {
    /// Packets that came.
    pub packets: u64,
    /// Those of them that were lost, as the seed says.
    pub lost: u64,
    /// Those of them that were sent twice, as the seed says.
    pub doubled: u64,
    /// Packets that were lost because too many were under way. The seed says nothing of them.
    pub overflowed: u64,
    /// Packets that were sent to nobody: whoever they were for had left, or its side did not take them.
    pub unsent: u64,
    /// Longest time for which a packet went out after its time, in microseconds.
    pub late_us_max: u64,
}

/// What the carrier counts.
#[derive(Debug, Default)]
struct Counts {
    packets: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    overflowed: AtomicU64,
    unsent: AtomicU64,
    late_us_max: AtomicU64,
}

/// The way of one peer through the relay.
#[derive(Debug)]
struct Lane {
    peer: u32,
    /// Towards the peer. It is connected once the peer has said something.
    front: UdpSocket,
    /// Towards the server.
    back: UdpSocket,
    client: Option<SocketAddr>,
}

/// See the module. Ends with its value.
#[derive(Debug)]
pub(crate) struct Relay {
    lanes: Option<SyncSender<Lane>>,
    wake: Arc<EventFd>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// The carrier's own end of it.
struct Inbox {
    lanes: Receiver<Lane>,
    wake: Arc<EventFd>,
    counts: Arc<Counts>,
}

impl Relay {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread or no event left.
    pub(crate) fn start(link: Link) -> io::Result<Self> {
        let (lanes, inbox) = sync_channel(LANES_WAIT_MAX);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?);
        let counts = Arc::new(Counts::default());
        let inbox = Inbox {
            lanes: inbox,
            wake: Arc::clone(&wake),
            counts: Arc::clone(&counts),
        };
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || carrier::run(link, &inbox))?;
        Ok(Self {
            lanes: Some(lanes),
            wake,
            counts,
            thread: Some(thread),
        })
    }

    /// Opens the way of a peer to this address of the server, and gives the address to which the peer is to send. An
    /// earlier way of the same peer ends.
    ///
    /// # Errors
    /// When there are no sockets left, or the relay has ended or is overloaded.
    pub(crate) fn open(&self, peer: u32, server: SocketAddr) -> io::Result<SocketAddr> {
        let (loopback, any): (SocketAddr, SocketAddr) = match server {
            SocketAddr::V4(_) => (
                (Ipv4Addr::LOCALHOST, 0).into(),
                (Ipv4Addr::UNSPECIFIED, 0).into(),
            ),
            SocketAddr::V6(_) => (
                (Ipv6Addr::LOCALHOST, 0).into(),
                (Ipv6Addr::UNSPECIFIED, 0).into(),
            ),
        };
        let (front, back) = (socket(loopback)?, socket(any)?);
        back.connect(server)?;
        let address = front.local_addr()?;
        let lane = Lane {
            peer,
            front,
            back,
            client: None,
        };
        let told = self.lanes.as_ref().map(|lanes| lanes.try_send(lane));
        match told {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(Err(TrySendError::Disconnected(_))) | None => {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        self.wake();
        Ok(address)
    }

    fn wake(&self) {
        // A counter that is full wakes as well.
        let _ = self.wake.write(1);
    }

    pub(crate) fn figures(&self) -> RelayFigures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RelayFigures {
            packets: of(&self.counts.packets),
            lost: of(&self.counts.lost),
            doubled: of(&self.counts.doubled),
            overflowed: of(&self.counts.overflowed),
            unsent: of(&self.counts.unsent),
            late_us_max: of(&self.counts.late_us_max),
        }
    }
}

fn socket(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    // The system's limit is what there is.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &KERNEL_BUFFER_BYTES);
    Ok(socket)
}

impl Counts {
    fn late(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.late_us_max.fetch_max(us, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.lanes = None;
        self.wake();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => tracing::warn!("the relay failed: {error}"),
            Some(Err(_)) => tracing::warn!("the relay panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn peer(relay: &Relay, number: u32, server: &UdpSocket) -> UdpSocket {
        let address = relay.open(number, server.local_addr().unwrap()).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    #[test]
    fn the_server_sees_each_peer_at_an_address_of_its_own_and_answers_reach_it() {
        let link = Link {
            loss_percent: 0.0,
            delay_ms: 2.0,
            jitter_ms: 1.0,
            duplicate_percent: 100.0,
            seed: 1,
        };
        let relay = Relay::start(link).unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let peers = [peer(&relay, 0, &server), peer(&relay, 1, &server)];
        let mut seen = Vec::new();
        let mut buffer = [0; 16];
        for (number, peer) in (0_u8..).zip(&peers) {
            peer.send(&[number]).unwrap();
            for _ in 0..2 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..length], [number]);
                seen.push(from);
            }
            server.send_to(&[number, 7], seen[seen.len() - 1]).unwrap();
            for _ in 0..2 {
                let length = peer.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], [number, 7]);
            }
        }
        assert_eq!((seen[0], seen[2]), (seen[1], seen[3]));
        assert_ne!(seen[0], seen[2]);
        let figures = relay.figures();
        assert_eq!(
            (figures.packets, figures.doubled, figures.lost),
            (4, 4, 0),
            "{figures:?}"
        );
    }

    #[test]
    fn a_network_that_cannot_be_is_refused() {
        let link = Link {
            loss_percent: 5.0,
            delay_ms: 40.0,
            jitter_ms: 30.0,
            duplicate_percent: 1.0,
            seed: 1,
        };
        assert_eq!(link.objection(), None);
        let wrong: [fn(&mut Link); 5] = [
            |it| it.loss_percent = 101.0,
            |it| it.duplicate_percent = -1.0,
            |it| it.jitter_ms = 41.0,
            |it| it.delay_ms = f64::NAN,
            |it| it.delay_ms = 10_000.0,
        ];
        for (at, change) in wrong.iter().enumerate() {
            let mut link = link;
            change(&mut link);
            assert!(link.objection().is_some(), "{at}");
        }
    }
}
