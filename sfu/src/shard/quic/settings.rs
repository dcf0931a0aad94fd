//! What connections are made with.

use std::{sync::Arc, time::Duration};

use quinn_proto::{
    AckFrequencyConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use sfu_core::limits::FRAME_BYTES_MAX;

use super::{STREAMS_MAX, congestion::VoiceWindows};
use crate::config::Quic;

/// The protocol that connections speak (RFC 9114, section 3.1).
pub(crate) const ALPN: &[u8] = b"h3";

/// Unidirectional streams of a client: its control stream, two for header compression, and one that we do not know.
const UNIDIRECTIONAL_MAX: u32 = 8;

/// Bytes a client may send ahead on one stream: a frame, and the next one on its way.
const STREAM_WINDOW: u32 = 2 * FRAME_BYTES_MAX as u32;

/// Bytes a client may send ahead on all streams.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// Bytes of streams that are kept until they are acknowledged: the first frame of a large room, in parts.
const SEND_WINDOW: u64 = 512 * 1024;

/// Bytes of datagrams that wait inside the library; more wait outside, where they can be dropped when they are old.
pub(super) const DATAGRAM_BYTES: usize = 2_048;

/// Bytes of datagrams that have come and were not taken: a round takes all of them.
const DATAGRAMS_IN_BYTES: usize = 64 * 1024;

/// Packets that clients may take before they acknowledge (draft-ietf-quic-ack-frequency). Each acknowledgement costs
/// a system call and a decryption; voice needs none but to know that somebody is there and how full the link is.
const ACK_PACKETS: u32 = 30;

/// The round trip that is assumed before one was measured: what a handshake lost is sent again after three of these, which
/// has to happen within `connect_timeout`. RFC 9002 proposes 333 ms for those who know nothing of their clients.
const ROUND_TRIP_FIRST: Duration = Duration::from_millis(100);

/// Longest wait of clients with an acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(50);

/// Settings of one shard's endpoint.
#[derive(Clone, Debug)]
pub(crate) struct QuicSettings {
    pub(super) migration: bool,
    pub(super) keep_alive_interval: Duration,
    pub(super) idle_timeout: Duration,
    /// How long voice waits for the congestion controller.
    pub(super) voice_wait: Duration,
    pub(super) connect_timeout: Duration,
}

/// Longest wait of voice for the congestion controller, whatever the settings say: beyond it nobody wants it.
const VOICE_WAIT_MAX: Duration = Duration::from_millis(100);

impl QuicSettings {
    pub(crate) fn new(quic: &Quic) -> Self {
        Self {
            migration: quic.migration,
            keep_alive_interval: quic.keep_alive_interval,
            idle_timeout: quic.idle_timeout,
            voice_wait: quic.pre_send_timeout.min(VOICE_WAIT_MAX),
            connect_timeout: quic.connect_timeout,
        }
    }

    /// With this certificate.
    pub(super) fn server(&self, tls: &QuicTls) -> ServerConfig {
        let mut transport = TransportConfig::default();
        let mut acknowledgements = AckFrequencyConfig::default();
        acknowledgements
            .ack_eliciting_threshold(VarInt::from_u32(ACK_PACKETS))
            .max_ack_delay(Some(ACK_DELAY));
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
            .max_concurrent_uni_streams(VarInt::from_u32(UNIDIRECTIONAL_MAX))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
            .send_window(SEND_WINDOW)
            .datagram_receive_buffer_size(Some(DATAGRAMS_IN_BYTES))
            .datagram_send_buffer_size(DATAGRAM_BYTES)
            .initial_rtt(ROUND_TRIP_FIRST)
            .keep_alive_interval(Some(self.keep_alive_interval))
            // Settings allow a day at most, which is far from what a timeout can say.
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            .congestion_controller_factory(Arc::new(VoiceWindows))
            .ack_frequency_config(Some(acknowledgements))
            .enable_segmentation_offload(false)
            .mtu_discovery_config(None);
        let mut server = ServerConfig::with_crypto(Arc::clone(&tls.0) as _);
        server
            .transport_config(Arc::new(transport))
            .migration(self.migration);
        server
    }
}

/// The TLS of new connections.
#[derive(Clone)]
pub(crate) struct QuicTls(Arc<QuicServerConfig>);

impl std::fmt::Debug for QuicTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicTls").finish_non_exhaustive()
    }
}

impl QuicTls {
    /// # Errors
    /// When the library of TLS cannot do what QUIC needs.
    pub(crate) fn new(tls: &rustls::ServerConfig) -> Result<Self, NoInitialCipherSuite> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        // Early data can be repeated by anybody who sees it.
        tls.max_early_data_size = 0;
        Ok(Self(Arc::new(QuicServerConfig::try_from(tls)?)))
    }
}
