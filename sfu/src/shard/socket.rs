//! The UDP socket of a shard: packets in batches, with the time they have waited in the kernel.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg,
            setsockopt, sockopt,
        },
        time::TimeSpec,
    },
};
use socket2::{Domain, Protocol, Socket, Type};

/// Packets of one system call.
const BATCH: usize = 64;

/// Packets of the first system call of a round, mostly enough: room for more has a price of its own.
const BATCH_FIRST: usize = 8;

/// Bytes of the largest packet: clients keep to what an Ethernet frame holds.
const PACKET_BYTES_MAX: usize = 2_048;

/// Bytes the kernel keeps for us in each direction: 100 ms at ten thousand packets a second, with their overhead. What
/// the system allows may be less.
const KERNEL_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A packet that has come.
pub(super) struct Received<'a> {
    pub(super) source: SocketAddr,
    /// How long it waited in the kernel.
    pub(super) waited: Duration,
    /// When it came.
    pub(super) arrived: Instant,
    pub(super) bytes: &'a [u8],
}

/// Packets that are to go, one behind the other in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    /// Where each goes, and where it ends.
    ends: Vec<(SocketAddr, usize)>,
}

impl Packets {
    pub(super) fn push(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((to, self.bytes.len()));
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The packets from this one on, as many as go at once.
    pub(super) fn batch(&self, from: usize) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut begin = match from.checked_sub(1) {
            Some(before) => self.ends.get(before).map_or(0, |(_, end)| *end),
            None => 0,
        };
        let ends = self.ends.get(from..).unwrap_or(&[]);
        ends.iter().take(BATCH).map(move |(to, end)| {
            let bytes = self.bytes.get(begin..*end).unwrap_or(&[]);
            begin = *end;
            (*to, bytes)
        })
    }
}

/// Opens one of the sockets that share an address. With port 0 the first gets a port, and the others must name it.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // The system's limit is what there is: less means that a long stall loses packets, which is counted nowhere else.
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER_BYTES);
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

pub(super) struct Wire {
    socket: UdpSocket,
    is_ipv6: bool,
    buffers: Vec<u8>,
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
}

impl Wire {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let control = nix::cmsg_space!(TimeSpec);
        Ok(Self {
            socket,
            is_ipv6,
            buffers: vec![0; BATCH * PACKET_BYTES_MAX],
            incoming: MultiHeaders::preallocate(BATCH, Some(control)),
            outgoing: MultiHeaders::preallocate(BATCH, None),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes the packets that have come, in no more than so many batches.
    pub(super) fn receive(&mut self, batches_max: usize, mut take: impl FnMut(Received<'_>)) {
        let mut batch = BATCH_FIRST;
        for _ in 0..batches_max {
            if self.receive_batch(batch, &mut take) < batch {
                return;
            }
            batch = BATCH;
        }
    }

    fn receive_batch(&mut self, batch: usize, take: &mut impl FnMut(Received<'_>)) -> usize {
        let fd = self.socket.as_raw_fd();
        let mut buffers: Vec<[IoSliceMut<'_>; 1]> = self
            .buffers
            .chunks_mut(PACKET_BYTES_MAX)
            .take(batch)
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let results = recvmmsg(
            fd,
            &mut self.incoming,
            buffers.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        // Errors of a socket without a peer are of packets sent before: there is nothing to receive, and that is all.
        let Ok(results) = results else { return 0 };
        let now = Instant::now();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let wall = wall.unwrap_or_default();
        let mut count = 0;
        for message in results {
            count += 1;
            let source = message.address.as_ref().and_then(address);
            let stamp = message.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|message| match message {
                    ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                    _ => None,
                })
            });
            let waited = stamp.map_or(Duration::ZERO, |stamp| wall.saturating_sub(stamp));
            if let (Some(source), Some(bytes)) = (source, message.iovs().next()) {
                take(Received {
                    source,
                    waited,
                    arrived: now.checked_sub(waited).unwrap_or(now),
                    bytes,
                });
            }
        }
        count
    }

    /// Sends packets, and says how many the socket did not take. They are lost, as packets are.
    pub(super) fn send(&mut self, packets: &Packets) -> usize {
        let mut lost = 0;
        let mut at = 0;
        while at < packets.len() {
            match self.send_batch(packets, at) {
                Ok(sent) => at += sent.max(1),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    let batch = BATCH.min(packets.len() - at);
                    lost += batch;
                    at += batch;
                }
                // The first packet's own trouble: nobody at that address, a broken route.
                Err(_) => {
                    lost += 1;
                    at += 1;
                }
            }
        }
        lost
    }

    fn send_batch(&mut self, packets: &Packets, from: usize) -> nix::Result<usize> {
        let mut slices: Vec<[IoSlice<'_>; 1]> = Vec::with_capacity(BATCH);
        let mut addresses: Vec<Option<SockaddrStorage>> = Vec::with_capacity(BATCH);
        for (to, bytes) in packets.batch(from) {
            slices.push([IoSlice::new(bytes)]);
            addresses.push(Some(SockaddrStorage::from(self.destination(to))));
        }
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.outgoing,
            slices.iter(),
            &addresses,
            [],
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(sent.count())
    }

    /// A socket for both families writes IPv4 addresses as IPv6 ones.
    fn destination(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        }
    }
}

/// The address as the client has it: an IPv4 one is an IPv4 one on every socket.
fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = SocketAddrV6::from(*storage.as_sockaddr_in6()?);
    Some(SocketAddr::new(v6.ip().to_canonical(), v6.port()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn wire(address: &str) -> (Wire, SocketAddr) {
        let socket = bind(address.parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        (
            Wire::new(socket).unwrap(),
            (Ipv4Addr::LOCALHOST, port).into(),
        )
    }

    fn receive(wire: &mut Wire, count: usize) -> Vec<(SocketAddr, Vec<u8>, Duration)> {
        let mut packets = Vec::new();
        while packets.len() < count {
            wire.receive(1, |it| {
                packets.push((it.source, it.bytes.to_vec(), it.waited));
            });
        }
        packets
    }

    #[test]
    fn packets_go_and_come_in_batches_over_sockets_of_either_kind() {
        for binding in ["127.0.0.1:0", "[::]:0"] {
            let (mut wire, address) = wire(binding);
            let peers: Vec<_> = (0..3)
                .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
                .collect();
            for round in 0..50_u8 {
                for peer in &peers {
                    peer.send_to(&[round, 1, 2], address).unwrap();
                }
            }
            let received = receive(&mut wire, 150);
            assert!(
                received.iter().all(|(source, ..)| source.is_ipv4()),
                "{binding}"
            );
            assert_eq!(received[0].1, [0, 1, 2]);
            let mut answers = Packets::default();
            for (to, bytes, _) in received {
                answers.push(to, &bytes);
            }
            assert_eq!(wire.send(&answers), 0);
            for peer in &peers {
                for round in 0..50_u8 {
                    let mut bytes = [0; 10];
                    let (length, from) = peer.recv_from(&mut bytes).unwrap();
                    assert_eq!((&bytes[..length], from), (&[round, 1, 2][..], address));
                }
            }
        }
    }

    #[test]
    fn a_packet_knows_how_long_it_waited() {
        let (mut wire, address) = wire("127.0.0.1:0");
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let pause = Duration::from_millis(30);
        // The system begins to stamp packets a little after the first socket on it asks, and then never takes one for
        // younger than it is.
        let mut waits = (0..50).map(|_| {
            peer.send_to(b"x", address).unwrap();
            std::thread::sleep(pause);
            let (_, _, waited) = receive(&mut wire, 1).remove(0);
            waited
        });
        let waited = waits.find(|waited| *waited >= pause);
        assert!(
            waited.is_some_and(|waited| waited < Duration::from_secs(5)),
            "{waited:?}"
        );
    }

    #[test]
    fn one_bad_destination_does_not_stop_the_others() {
        let (mut wire, _) = wire("127.0.0.1:0");
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let good = peer.local_addr().unwrap();
        let bad = "[::1]:9".parse().unwrap();
        let mut packets = Packets::default();
        for to in [bad, good, bad, good] {
            packets.push(to, &[1]);
        }
        assert_eq!(wire.send(&packets), 2);
        for _ in 0..2 {
            peer.recv_from(&mut [0; 4]).unwrap();
        }
    }

    #[test]
    fn several_sockets_share_a_port() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(bind(address).unwrap().local_addr().unwrap(), address);
    }
}
