//! The UDP socket of one peer, connected to the server, whose packets come with the time at which the kernel had them: how
//! busy we are is then no part of their latency.

use std::{
    array::from_fn,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, MultiHeaders, recvmmsg, setsockopt, sockopt},
        time::TimeSpec,
    },
};

/// Packets of one system call. More come rarely: a peer hears some tens of packets in 20 ms.
const BATCH: usize = 8;

/// Bytes of the largest packet.
const PACKET_BYTES_MAX: usize = 2_048;

/// Bytes the kernel keeps for one peer while we are busy: a second of a busy room.
const KERNEL_BUFFER_BYTES: usize = 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct PeerSocket {
    socket: UdpSocket,
    local: SocketAddr,
}

impl PeerSocket {
    /// A socket that reaches `remote`, with an address of the machine's choice.
    pub(crate) fn connect(remote: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // The system's limit is what there is; what it loses is counted as lost.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &KERNEL_BUFFER_BYTES);
        socket.connect(remote)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket,
        })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends one packet; says whether the kernel took it. What it reports of packets before is no matter.
    pub(crate) fn send(&self, bytes: &[u8]) -> bool {
        match self.socket.send(bytes) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.socket.send(bytes).is_ok()
            }
            Err(_) => false,
        }
    }
}

/// What packets are received into, for all sockets in turn.
#[derive(Debug)]
pub(crate) struct Reception {
    buffers: Vec<u8>,
    headers: MultiHeaders<()>,
}

impl Reception {
    pub(crate) fn new() -> Self {
        Self {
            buffers: vec![0; BATCH * PACKET_BYTES_MAX],
            headers: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(TimeSpec))),
        }
    }

    /// Takes what has come, up to one batch: what is left over is told again. Each packet comes with its stamp of
    /// `CLOCK_REALTIME`, if it has one.
    pub(crate) fn receive(
        &mut self,
        socket: &PeerSocket,
        mut take: impl FnMut(&mut [u8], Option<Duration>),
    ) {
        let mut stamps = [None; BATCH];
        let mut lengths = [0; BATCH];
        let mut count = 0;
        {
            let mut buffers = self.buffers.chunks_mut(PACKET_BYTES_MAX);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
                from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
            let fd = socket.socket.as_raw_fd();
            let received = recvmmsg(
                fd,
                &mut self.headers,
                slices.iter_mut(),
                MsgFlags::MSG_DONTWAIT,
                None,
            );
            let received = match received {
                Ok(received) => received,
                Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => return,
                Err(error) => {
                    tracing::debug!("a socket fails: {error}");
                    return;
                }
            };
            for (message, (stamp, length)) in
                received.zip(stamps.iter_mut().zip(lengths.iter_mut()))
            {
                count += 1;
                *length = message.bytes;
                *stamp = message.cmsgs().ok().and_then(|mut messages| {
                    messages.find_map(|message| match message {
                        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                        _ => None,
                    })
                });
            }
        }
        let packets = self.buffers.chunks_mut(PACKET_BYTES_MAX);
        for ((packet, stamp), length) in packets.zip(stamps).zip(lengths).take(count) {
            if let Some(packet) = packet.get_mut(..length) {
                take(packet, stamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;

    #[test]
    fn packets_come_with_the_time_at_which_the_kernel_had_them() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = PeerSocket::connect(server.local_addr().unwrap()).unwrap();
        let to = ("127.0.0.1", peer.local().port());
        let mut reception = Reception::new();
        let pause = Duration::from_millis(20);
        // The system begins to stamp a little after the first socket on it asks.
        let waited = (0..50).find_map(|round: u8| {
            server.send_to(&[round, 1], to).unwrap();
            server.send_to(&[round, 2, 3], to).unwrap();
            std::thread::sleep(pause);
            let mut got = Vec::new();
            reception.receive(&peer, |bytes, stamp| got.push((bytes.to_vec(), stamp)));
            let [(one, stamp), (two, _)] = &got[..] else {
                panic!("{got:?}")
            };
            assert_eq!((&one[..], &two[..]), (&[round, 1][..], &[round, 2, 3][..]));
            stamp
                .map(|stamp| Moment::now().since(stamp))
                .filter(|it| *it >= pause)
        });
        assert!(
            waited.is_some_and(|it| it < Duration::from_secs(5)),
            "{waited:?}"
        );
        reception.receive(&peer, |_, _| panic!("nothing is left"));
        assert!(peer.send(b"x"));
    }
}
