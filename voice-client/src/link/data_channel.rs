//! Voice over WebRTC: one data channel, negotiated beforehand, as web clients have it.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState,
        RTCSessionDescription,
    },
};

use crate::{error::ConnectError, shared::Shared};

/// The SCTP stream that carries voice; it is never announced.
const VOICE_STREAM: u16 = 2;

/// Bytes of voice that the server has not acknowledged: as many as the server allows itself. What comes then is dropped.
const SENDING_BYTES_MAX: usize = 12 * 1024;

/// Longest wait until voice flows: checks of addresses, DTLS, SCTP.
const OPEN_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest wait until a connection is closed; it then ends by itself.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// A connection that has been offered.
pub(super) struct Offer {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
    sdp: String,
}

/// Sees the end of a connection.
struct Watch {
    gone: CancellationToken,
}

impl PeerConnectionEventHandler for Watch {
    fn on_connection_state_change<'this, 'future>(
        &'this self,
        state: RTCPeerConnectionState,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'this: 'future,
        Self: 'future,
    {
        use RTCPeerConnectionState::{Closed, Failed};
        if matches!(state, Failed | Closed) {
            self.gone.cancel();
        }
        Box::pin(std::future::ready(()))
    }
}

impl Offer {
    /// An offer from this address of this machine.
    pub(super) async fn new(local: IpAddr, gone: CancellationToken) -> Result<Self, ConnectError> {
        let failed = |error: webrtc::error::Error| ConnectError::Voice(error.to_string());
        let building = PeerConnectionBuilder::new()
            .with_handler(Arc::new(Watch { gone }))
            .with_udp_addrs(vec![SocketAddr::new(local, 0)])
            .with_data_channel_send_buffer_limit(SENDING_BYTES_MAX)
            .build();
        let connection: Arc<dyn PeerConnection> =
            Arc::new(Box::pin(building).await.map_err(failed)?);
        let init = RTCDataChannelInit {
            ordered: false,
            max_retransmits: Some(0),
            negotiated: Some(VOICE_STREAM),
            ..Default::default()
        };
        let described = async {
            let channel = connection.create_data_channel("audio", Some(init)).await?;
            let offer = connection.create_offer(None).await?;
            let sdp = without_candidates(&offer.sdp);
            connection.set_local_description(offer).await?;
            Ok((channel, sdp))
        };
        match described.await {
            Ok((channel, sdp)) => Ok(Self {
                connection,
                channel,
                sdp,
            }),
            Err(error) => {
                close(&*connection).await;
                Err(failed(error))
            }
        }
    }

    pub(super) fn sdp(&self) -> &str {
        &self.sdp
    }

    /// There will be no answer.
    pub(super) async fn withdraw(self) {
        close(&*self.connection).await;
    }

    /// Connects to whoever answered with this description, and carries voice until the connection is gone. Returns when
    /// voice flows.
    pub(super) async fn answered(
        self,
        sdp: &str,
        shared: Arc<Shared>,
        gone: CancellationToken,
    ) -> Result<(), ConnectError> {
        let (opening, opened) = oneshot::channel();
        let set = async {
            let answer = RTCSessionDescription::answer(sdp.to_owned())?;
            self.connection.set_remote_description(answer).await
        };
        if let Err(error) = set.await {
            self.withdraw().await;
            return Err(ConnectError::Voice(error.to_string()));
        }
        let hearing = hear(
            Arc::clone(&self.channel),
            Arc::clone(&shared),
            opening,
            gone.clone(),
        );
        tokio::spawn(hearing);
        let waiting = async {
            tokio::select! {
                opened = opened => opened.is_ok(),
                () = gone.cancelled() => false,
            }
        };
        let failure = match timeout(OPEN_TIME_MAX, waiting).await {
            Ok(true) => {
                tokio::spawn(self.say(shared, gone));
                return Ok(());
            }
            Ok(false) => ConnectError::Voice("the data channel was closed".to_owned()),
            Err(_) => ConnectError::Voice("no packet comes through, by UDP".to_owned()),
        };
        gone.cancel();
        self.withdraw().await;
        Err(failure)
    }

    async fn say(self, shared: Arc<Shared>, gone: CancellationToken) {
        loop {
            let datagram = tokio::select! {
                () = gone.cancelled() => break,
                datagram = shared.outgoing.pop() => datagram,
            };
            let Some(datagram) = datagram else { break };
            match self.channel.try_send(BytesMut::from(&datagram[..])).await {
                Ok(()) => shared.tallies.packets_sent.add(1),
                Err(_) => shared.tallies.dropped_sending.add(1),
            }
        }
        self.withdraw().await;
    }
}

async fn hear(
    channel: Arc<dyn DataChannel>,
    shared: Arc<Shared>,
    opening: oneshot::Sender<()>,
    gone: CancellationToken,
) {
    let mut opening = Some(opening);
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => {
                if let Some(opening) = opening.take() {
                    // Whoever waited may have given up.
                    let _ = opening.send(());
                }
            }
            DataChannelEvent::OnMessage(message) => {
                shared.receive(&message.data.freeze(), Instant::now());
            }
            DataChannelEvent::OnClose => break,
            _ => {}
        }
    }
    gone.cancel();
}

async fn close(connection: &dyn PeerConnection) {
    match timeout(CLOSE_TIME_MAX, connection.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a voice connection cannot be closed: {error}"),
        Err(_) => tracing::debug!("a voice connection does not close"),
    }
}

/// Web clients name no addresses: the server learns where they are from their checks.
fn without_candidates(sdp: &str) -> String {
    let is_candidate =
        |line: &str| line.starts_with("a=candidate") || line.starts_with("a=end-of-candidates");
    let lines = sdp.split_inclusive("\r\n");
    lines.filter(|line| !is_candidate(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_names_no_addresses() {
        let sdp = "v=0\r\na=candidate:1 1 udp 1 10.0.0.1 5 typ host\r\na=mid:0\r\na=end-of-candidates\r\n";
        assert_eq!(without_candidates(sdp), "v=0\r\na=mid:0\r\n");
    }
}
