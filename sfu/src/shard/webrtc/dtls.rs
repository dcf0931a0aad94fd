//! DTLS under a session's data channel: dimpl, with the client's certificate checked.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use dimpl::{Config, DtlsCertificate, Output, crypto::Dtls12CipherSuite};
use sha2::{Digest as _, Sha256};

/// Bytes of a packet: what any path carries, less UDP and IPv6.
const MTU: usize = 1_200;

/// Cipher suites in the order we like them: processors have AES built in.
const SUITES: [Dtls12CipherSuite; 3] = [
    Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256,
    Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384,
    Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256,
];

/// When our part of a handshake is sent again: a round trip around the world. It doubles each time.
const RETRY_TIME: Duration = Duration::from_millis(300);

/// So often.
const RETRIES: usize = 6;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(30);

/// Bytes for one record, in either direction.
pub(super) const RECORD_BYTES_MAX: usize = 2_048;

/// Outputs of one call, so that none goes on for ever.
const OUTPUTS_MAX: usize = 512;

/// What all sessions use: the certificate, and how handshakes go.
pub(super) struct Identity {
    config: Arc<Config>,
    certificate: DtlsCertificate,
}

impl Identity {
    /// # Errors
    /// When no certificate can be made.
    pub(super) fn new() -> Result<Self, &'static str> {
        let config = Config::builder()
            .mtu(MTU)
            .dtls12_cipher_suites(&SUITES)
            .flight_start_rto(RETRY_TIME)
            .flight_retries(RETRIES)
            .handshake_timeout(HANDSHAKE_TIME)
            // ICE has shown that the client is where it says.
            .use_server_cookie(false)
            .build()
            .map_err(|_| "the cryptography for WebRTC is not there")?;
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|_| "the certificate for WebRTC cannot be made")?;
        Ok(Self {
            config: Arc::new(config),
            certificate,
        })
    }

    /// Of our certificate (RFC 8122): its SHA-256.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate.certificate).into()
    }
}

/// The session's DTLS failed or was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over;

/// Why.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Failed(#[from] dimpl::Error),
    #[error("the client closed it")]
    Closed,
    #[error("the client's certificate is not the one its offer named")]
    AnotherCertificate,
    #[error("a record is larger than a packet")]
    TooLarge,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Dtls {
    dtls: dimpl::Dtls,
    /// The SHA-256 of the certificate that the client's offer promised.
    fingerprint: [u8; 32],
    is_verified: bool,
    is_connected: bool,
    is_over: bool,
    due: Instant,
}

impl Dtls {
    pub(super) fn new(now: Instant, identity: &Identity, fingerprint: [u8; 32]) -> Self {
        let certificate = identity.certificate.clone();
        Self {
            dtls: dimpl::Dtls::new_12(Arc::clone(&identity.config), certificate, now),
            fingerprint,
            is_verified: false,
            is_connected: false,
            is_over: false,
            due: now,
        }
    }

    /// Whether the client is who the offer was from, and everything is encrypted.
    pub(super) fn is_open(&self) -> bool {
        self.is_connected && self.is_verified && !self.is_over
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes a packet in: `sent` gets the packets that answer it, `received` what was in it.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        packet: &[u8],
        buffer: &mut [u8],
        sent: impl FnMut(&[u8]),
        received: impl FnMut(&[u8]),
    ) -> Result<(), Over> {
        self.guarded(|dtls| {
            dtls.dtls.handle_timeout(now)?;
            dtls.dtls.handle_packet(packet)?;
            dtls.drain(buffer, sent, received)
        })
    }

    /// Encrypts a packet; `sent` gets it.
    pub(super) fn send(
        &mut self,
        packet: &[u8],
        buffer: &mut [u8],
        sent: impl FnMut(&[u8]),
    ) -> Result<(), Over> {
        self.guarded(|dtls| {
            dtls.dtls.send_application_data(packet)?;
            dtls.drain(buffer, sent, |_| {})
        })
    }

    /// When to call [`Self::handle_timeout`].
    pub(super) fn timeout(&self) -> Instant {
        self.due
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        sent: impl FnMut(&[u8]),
    ) -> Result<(), Over> {
        if now < self.due {
            return Ok(());
        }
        self.guarded(|dtls| {
            dtls.dtls.handle_timeout(now)?;
            dtls.drain(buffer, sent, |_| {})
        })
    }

    fn drain(
        &mut self,
        buffer: &mut [u8],
        mut sent: impl FnMut(&[u8]),
        mut received: impl FnMut(&[u8]),
    ) -> Result<(), End> {
        for _ in 0..OUTPUTS_MAX {
            match self.dtls.poll_output(buffer) {
                Output::Timeout(due) => {
                    self.due = due;
                    return Ok(());
                }
                Output::Packet(packet) => sent(packet),
                Output::PeerCert(certificate) => {
                    if self.fingerprint != <[u8; 32]>::from(Sha256::digest(certificate)) {
                        return Err(End::AnotherCertificate);
                    }
                    self.is_verified = true;
                }
                Output::Connected => self.is_connected = true,
                Output::ApplicationData(bytes) if self.is_verified => received(bytes),
                Output::CloseNotify => return Err(End::Closed),
                Output::BufferTooSmall { .. } => return Err(End::TooLarge),
                _ => {}
            }
        }
        Ok(())
    }

    /// Calls the library. When it fails or trips, the session is over and the others go on.
    fn guarded(&mut self, call: impl FnOnce(&mut Self) -> Result<(), End>) -> Result<(), Over> {
        if self.is_over {
            return Err(Over);
        }
        match catch_unwind(AssertUnwindSafe(|| call(self))) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(end)) => tracing::debug!("a WebRTC session ended: {end}"),
            Err(_) => tracing::error!("a WebRTC session ended by a panic"),
        }
        self.is_over = true;
        Err(Over)
    }
}
