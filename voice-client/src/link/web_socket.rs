//! Streams as WebSockets, each on a connection of its own.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{STEP_TIME_MAX, end::StreamEnd};
use crate::{error::ConnectError, wire::framing::FRAME_BYTES_MAX};

/// Between two pings of the client. The server pings as well, but says nobody how often.
const PING_INTERVAL: Duration = Duration::from_secs(3);

/// Without a word of the server for so long, the connection is lost: three pings without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A frame that cannot be written within this time finds no connection.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the server's answer to a goodbye.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(500);

/// Opens streams at one server.
pub(super) struct Dialer {
    tls: TlsConnector,
    address: String,
}

/// One WebSocket.
pub(crate) struct Stream {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    ping_at: Instant,
    silent_at: Instant,
}

impl Dialer {
    pub(super) fn new(tls: &Arc<rustls::ClientConfig>, address: &str) -> Self {
        Self {
            tls: TlsConnector::from(Arc::clone(tls)),
            address: address.to_owned(),
        }
    }

    pub(super) async fn open(&self, path: &str) -> Result<Stream, ConnectError> {
        let opened = timeout(STEP_TIME_MAX, Box::pin(self.dial(path))).await;
        opened.unwrap_or(Err(ConnectError::TimedOut("opening a WebSocket")))
    }

    async fn dial(&self, path: &str) -> Result<Stream, ConnectError> {
        let unreachable = |error: std::io::Error| ConnectError::Unreachable(error.to_string());
        let host = host(&self.address).unwrap_or_default();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        let tcp = TcpStream::connect(&self.address).await;
        let tcp = tcp.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let tls = self.tls.connect(name, tcp).await.map_err(unreachable)?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let url = format!("wss://{}{path}", self.address);
        let opened = client_async_with_config(url, tls, Some(limits)).await;
        let (socket, _) = opened.map_err(|error| ConnectError::Broken(error.to_string()))?;
        Ok(Stream {
            socket,
            ping_at: Instant::now() + PING_INTERVAL,
            silent_at: Instant::now() + SILENCE_MAX,
        })
    }
}

/// The host of a `host:port`, without the brackets of IPv6.
pub(super) fn host(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    Some(host.trim_matches(['[', ']']))
}

impl Stream {
    /// The address of this machine that the server is reached from.
    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        let address = self.socket.get_ref().get_ref().0.local_addr();
        address.ok().map(|address| address.ip())
    }

    pub(super) async fn send(&mut self, frame: Vec<u8>) -> Result<(), StreamEnd> {
        self.write(Message::Binary(frame.into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), StreamEnd> {
        match timeout(WRITE_TIME_MAX, self.socket.send(message)).await {
            Ok(sent) => sent.map_err(|error| lost(&error)),
            Err(_) => Err(StreamEnd::Lost("the server does not read".to_owned())),
        }
    }

    /// May be dropped at any time: what was read is kept in the socket, and so is what was not yet written.
    pub(super) async fn next(&mut self) -> Result<Bytes, StreamEnd> {
        loop {
            let message = tokio::select! {
                biased;
                message = self.socket.next() => message,
                () = sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + PING_INTERVAL;
                    self.write(Message::Ping(Bytes::new())).await?;
                    continue;
                }
                () = sleep_until(self.silent_at) => {
                    return Err(StreamEnd::Lost("the server is silent".to_owned()));
                }
            };
            self.silent_at = Instant::now() + SILENCE_MAX;
            match message {
                Some(Ok(Message::Binary(frame))) => return Ok(frame),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Err(StreamEnd::Closed {
                        code: u16::from(close.code).into(),
                        reason: close.reason.to_string(),
                    });
                }
                Some(Ok(Message::Close(None))) => {
                    let (code, reason) = (1005, String::new());
                    return Err(StreamEnd::Closed { code, reason });
                }
                Some(Ok(Message::Text(_))) => return Err(StreamEnd::Garbage),
                // Pings are answered by the socket.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(lost(&error)),
                None => return Err(StreamEnd::Lost("the connection was cut".to_owned())),
            }
        }
    }

    pub(super) async fn leave(mut self) {
        let close = CloseFrame {
            code: CloseCode::Normal,
            reason: Default::default(),
        };
        let goodbye = async {
            if self.socket.close(Some(close)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // A server that does not answer has been told all the same.
        let _ = timeout(GOODBYE_TIME_MAX, goodbye).await;
    }
}

fn lost(error: &Error) -> StreamEnd {
    StreamEnd::Lost(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (address, wanted) in [
            ("voice.example.com:4433", Some("voice.example.com")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            ("[::1]:4433", Some("::1")),
            ("voice.example.com", None),
            ("voice:70000", None),
        ] {
            assert_eq!(host(address), wanted);
        }
    }
}
