//! Ports of what runs on this machine. A default port is replaced by a free one when it is taken; a port that was asked
//! for is not.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

/// What speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// A port of a listener on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) flag: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) default: u16,
    pub(crate) asked: Option<u16>,
}

impl Port {
    /// Where to listen; port 0 is a free one.
    pub(crate) fn address(self, note: impl FnOnce(&str)) -> SocketAddr {
        let Self { flag, default, .. } = self;
        let wanted = local(self.asked.unwrap_or(default));
        if self.asked.is_some() || self.bind(wanted).is_ok() {
            return wanted;
        }
        note(&format!(
            "port {default} is taken, a free one is used ({flag} chooses another)"
        ));
        local(0)
    }

    /// As [`Self::address`], where the number must be known before the listener is there. Somebody else may take the
    /// port in between; the listener then says so.
    pub(crate) fn numbered_address(self, note: impl FnOnce(&str)) -> io::Result<SocketAddr> {
        let address = self.address(note);
        match address.port() {
            0 => self.bind(address),
            _ => Ok(address),
        }
    }

    pub(crate) fn failure(self, what: &str) -> String {
        format!("{what} does not start; see {}", self.flag)
    }

    fn bind(self, address: SocketAddr) -> io::Result<SocketAddr> {
        match self.protocol {
            Protocol::Tcp => TcpListener::bind(address)?.local_addr(),
            Protocol::Udp => UdpSocket::bind(address)?.local_addr(),
        }
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
