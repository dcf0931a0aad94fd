//! The floor: what forwarding costs when nothing is done but receiving and sending. A relay without crypto, checks and
//! limits, whose sockets and system calls are those of the voice server; it measures what a real server is held against.

use std::{
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut, Write as _},
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt},
        time::TimeSpec,
    },
};

use crate::session::{hello_room, is_hello};

/// Packets of one system call, as in the voice server.
const BATCH: usize = 64;

/// Bytes of the largest packet.
const PACKET_BYTES_MAX: usize = 2_048;

/// Bytes the kernel keeps in each direction, as for the voice server.
const KERNEL_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Most peers.
const PEERS_MAX: usize = 10_000;

/// Relays until the process is ended: says where it listens, then sends each packet to everybody else in its sender's room.
///
/// # Errors
/// When the socket cannot be had or fails.
pub fn relay() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // The system's limit is what there is.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &KERNEL_BUFFER_BYTES);
    let _ = setsockopt(&socket, sockopt::SndBuf, &KERNEL_BUFFER_BYTES);
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {}", socket.local_addr()?)?;
    out.flush()?;
    Relay::default().run(&socket)
}

#[derive(Default)]
struct Relay {
    rooms: HashMap<u32, Vec<SockaddrIn>>,
    room_of: HashMap<SocketAddrV4, u32>,
}

impl Relay {
    fn run(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        let mut buffers = vec![0; BATCH * PACKET_BYTES_MAX];
        let mut incoming = MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec)));
        let mut outgoing = MultiHeaders::preallocate(BATCH, None);
        let mut batch: Vec<(SockaddrIn, usize)> = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers
                .chunks_mut(PACKET_BYTES_MAX)
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            // Waits for the first packet alone.
            let flags = MsgFlags::MSG_WAITFORONE;
            match recvmmsg::<_, SockaddrIn, _>(fd, &mut incoming, slices.iter_mut(), flags, None) {
                Ok(messages) => batch
                    .extend(messages.filter_map(|message| Some((message.address?, message.bytes)))),
                Err(Errno::EINTR | Errno::ECONNREFUSED) => continue,
                Err(error) => return Err(error.into()),
            }
            for (packet, (source, length)) in buffers.chunks(PACKET_BYTES_MAX).zip(&batch) {
                if let Some(packet) = packet.get(..*length) {
                    self.take(socket, &mut outgoing, *source, packet)?;
                }
            }
        }
    }

    fn take(
        &mut self,
        socket: &UdpSocket,
        outgoing: &mut MultiHeaders<SockaddrIn>,
        source: SockaddrIn,
        packet: &[u8],
    ) -> io::Result<()> {
        let address = SocketAddrV4::from(source);
        if is_hello(packet) {
            if let (Some(room), true) = (hello_room(packet), self.room_of.len() < PEERS_MAX) {
                if self.room_of.insert(address, room).is_none() {
                    self.rooms.entry(room).or_default().push(source);
                }
                socket.send_to(packet, address)?;
            }
            return Ok(());
        }
        let members = self
            .room_of
            .get(&address)
            .and_then(|room| self.rooms.get(room));
        let others = members.into_iter().flatten().filter(|it| **it != source);
        let others: Vec<Option<SockaddrIn>> = others.copied().map(Some).collect();
        for to in others.chunks(BATCH) {
            let slices: Vec<[IoSlice<'_>; 1]> = to.iter().map(|_| [IoSlice::new(packet)]).collect();
            let fd = socket.as_raw_fd();
            let mut rest = 0;
            while rest < to.len() {
                let (Some(slices), Some(to)) = (slices.get(rest..), to.get(rest..)) else {
                    break;
                };
                match sendmmsg(fd, outgoing, slices.iter(), to, [], MsgFlags::empty()) {
                    Ok(sent) => rest += sent.count().max(1),
                    Err(Errno::EINTR) => {}
                    // The first one's own trouble.
                    Err(_) => rest += 1,
                }
            }
        }
        Ok(())
    }
}
