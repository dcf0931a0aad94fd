//! A WebSocket that speaks MessagePack-RPC: calls, their answers, and what the server tells meanwhile.
//!
//! Has no clock: whoever calls limits the time.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// Longest message of the server: many times what a room of two says.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Most updates that are kept for later. A room of two has no use for more.
const UPDATES_MAX: usize = 64;

/// See the module.
pub(super) struct Stream {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    next_id: u64,
    updates: VecDeque<Value>,
}

impl Stream {
    /// Opens `path` at a `host:port`.
    pub(super) async fn open(tls: &TlsConnector, address: &str, path: &str) -> Result<Self> {
        let (host, _) = address
            .rsplit_once(':')
            .context("an address without port")?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let tcp = TcpStream::connect(address).await;
        let tcp =
            tcp.with_context(|| format!("the voice server at {address} cannot be reached"))?;
        tcp.set_nodelay(true)?;
        let tls = tls.connect(name, tcp).await?;
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX));
        let url = format!("wss://{address}{path}");
        let (socket, _) = client_async_with_config(url, tls, Some(config)).await?;
        Ok(Self {
            socket,
            next_id: 0,
            updates: VecDeque::new(),
        })
    }

    /// Calls, and waits for the answer. Updates that come before it are kept.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        let request = Value::Array(vec![0.into(), id.into(), method.into(), params]);
        let mut frame = Vec::new();
        rmpv::encode::write_value(&mut frame, &request)?;
        self.socket.send(Message::Binary(frame.into())).await?;
        loop {
            let frame = self.frame().await?;
            let frame = frame.with_context(|| format!("closed instead of answering {method}"))?;
            match frame.as_array().map(Vec::as_slice) {
                Some([kind, answered, error, result]) if *kind == Value::from(1) => {
                    ensure!(*answered == Value::from(id), "an answer to another call");
                    ensure!(error.is_nil(), "{method}: {error}");
                    return Ok(result.clone());
                }
                _ => self.keep(&frame)?,
            }
        }
    }

    /// The next update of this kind; others before it are dropped.
    pub(super) async fn update(&mut self, kind: &str) -> Result<Value> {
        loop {
            while let Some(update) = self.updates.pop_front() {
                if update["kind"].as_str() == Some(kind) {
                    return Ok(update);
                }
            }
            let frame = self.frame().await?;
            self.keep(&frame.with_context(|| format!("closed before {kind}"))?)?;
        }
    }

    /// Waits until the server closes it.
    pub(super) async fn closed(&mut self) -> Result<()> {
        while self.frame().await?.is_some() {}
        Ok(())
    }

    /// The next message; `None` once the server has closed.
    async fn frame(&mut self) -> Result<Option<Value>> {
        while let Some(message) = self.socket.next().await {
            match message? {
                Message::Binary(frame) => {
                    let mut rest = &frame[..];
                    let value = rmpv::decode::read_value(&mut rest)?;
                    ensure!(rest.is_empty(), "bytes after the message");
                    return Ok(Some(value));
                }
                Message::Close(_) => return Ok(None),
                Message::Text(_) => bail!("text instead of MessagePack"),
                // Pings are answered by the next read.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(None)
    }

    fn keep(&mut self, frame: &Value) -> Result<()> {
        let Some([kind, _, params]) = frame.as_array().map(Vec::as_slice) else {
            bail!("neither an answer nor a notification: {frame}");
        };
        ensure!(*kind == Value::from(2), "not a notification: {frame}");
        match params["updates"].as_array() {
            Some(updates) => self.updates.extend(updates.iter().cloned()),
            None => self.updates.push_back(params.clone()),
        }
        ensure!(self.updates.len() <= UPDATES_MAX, "too many updates");
        Ok(())
    }
}

/// Params.
pub(super) fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    let member = |(name, value): (&str, Value)| (Value::from(name), value);
    Value::Map(members.into_iter().map(member).collect())
}
