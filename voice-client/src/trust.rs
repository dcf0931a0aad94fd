//! Whose certificates are accepted: those that lead to given roots, and those with given hashes. There is no way to accept
//! just any.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};

/// Most roots of one PEM text. A list of everybody's authorities has some hundred.
const ANCHORS_MAX: usize = 4_096;

/// Whom a client trusts; see the module.
#[derive(Clone)]
pub struct Trust {
    roots: RootCertStore,
    hashes: Vec<[u8; 32]>,
}

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file or text is not PEM, or cannot be read.
    #[error("no certificates can be read")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// One of them is no certificate.
    #[error("not a certificate")]
    Certificate(#[source] rustls::Error),
    /// There is nothing in it.
    #[error("no certificate in it")]
    Nothing,
    /// A hash is not 64 hexadecimal digits.
    #[error("a hash must have 64 hexadecimal digits")]
    Hash,
    /// Too many in one text.
    #[error("more than {ANCHORS_MAX} certificates")]
    TooMany,
    /// The settings cannot be made into a TLS configuration.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

impl Trust {
    /// Trusts whom these roots have signed, for the name or address that is connected to.
    pub fn roots(roots: RootCertStore) -> Self {
        Self {
            roots,
            hashes: Vec::new(),
        }
    }

    /// Trusts whom the certificates in this PEM file have signed, and these certificates themselves.
    ///
    /// # Errors
    /// [`TrustError`] when there is no certificate in it.
    pub fn pem_file(path: impl AsRef<Path>) -> Result<Self, TrustError> {
        Self::from_certificates(CertificateDer::pem_file_iter(path).map_err(TrustError::Pem)?)
    }

    /// As [`Self::pem_file`], of a text.
    ///
    /// # Errors
    /// [`TrustError`] when there is no certificate in it.
    pub fn pem(text: &[u8]) -> Result<Self, TrustError> {
        Self::from_certificates(CertificateDer::pem_slice_iter(text))
    }

    /// Trusts the certificates with these SHA-256 hashes (of the DER form), whatever name they are for and whoever has
    /// signed them; as `serverCertificateHashes` of browsers does, but also beyond the day on which they end.
    pub fn hashes(hashes: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self {
            roots: RootCertStore::empty(),
            hashes: hashes.into_iter().collect(),
        }
    }

    /// Trusts nobody; to be added to.
    pub fn nobody() -> Self {
        Self::roots(RootCertStore::empty())
    }

    /// Trusts one hash more, as 64 hexadecimal digits with or without colons.
    ///
    /// # Errors
    /// [`TrustError::Hash`] when it is something else.
    pub fn and_hash(mut self, text: &str) -> Result<Self, TrustError> {
        let digits: Vec<u32> = text
            .chars()
            .filter(|it| *it != ':')
            .map(|it| it.to_digit(16))
            .collect::<Option<_>>()
            .ok_or(TrustError::Hash)?;
        let bytes = digits.chunks(2).filter_map(|pair| match pair {
            [high, low] => u8::try_from(high << 4 | low).ok(),
            _ => None,
        });
        let bytes: Vec<u8> = bytes.collect();
        let hash = <[u8; 32]>::try_from(bytes).ok();
        let hash = hash.filter(|_| digits.len() == 64);
        self.hashes.push(hash.ok_or(TrustError::Hash)?);
        Ok(self)
    }

    fn from_certificates(
        certificates: impl Iterator<
            Item = Result<CertificateDer<'static>, rustls::pki_types::pem::Error>,
        >,
    ) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            if roots.len() == ANCHORS_MAX {
                return Err(TrustError::TooMany);
            }
            let certificate = certificate.map_err(TrustError::Pem)?;
            roots.add(certificate).map_err(TrustError::Certificate)?;
        }
        match roots.is_empty() {
            true => Err(TrustError::Nothing),
            false => Ok(Self::roots(roots)),
        }
    }

    /// The configuration of TLS, 1.2 and 1.3, without protocols.
    pub(crate) fn tls(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Tls)?;
        if self.hashes.is_empty() {
            return Ok(builder
                .with_root_certificates(self.roots.clone())
                .with_no_client_auth());
        }
        let verifier = Verifier::new(self, &provider)?;
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("roots", &self.roots.len())
            .field("hashes", &self.hashes.len())
            .finish()
    }
}

/// Accepts by hash, and else by the roots. Signatures of the handshake are always verified.
#[derive(Debug)]
struct Verifier {
    hashes: Vec<[u8; 32]>,
    by_roots: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let by_roots = match trust.roots.is_empty() {
            true => None,
            false => {
                let roots = Arc::new(trust.roots.clone());
                let builder =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
                let failed = |error: rustls::client::VerifierBuilderError| {
                    rustls::Error::General(error.to_string())
                };
                Some(builder.build().map_err(failed).map_err(TrustError::Tls)?)
            }
        };
        Ok(Self {
            hashes: trust.hashes.clone(),
            by_roots,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash: [u8; 32] = Sha256::digest(leaf.as_ref()).into();
        if self.hashes.contains(&hash) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.by_roots {
            Some(roots) => roots.verify_server_cert(leaf, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_64_digits() {
        let hash = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in [&hash, &colons] {
            let trust = Trust::nobody().and_hash(text).unwrap();
            assert_eq!(trust.hashes, [[0xab; 32]]);
        }
        for text in [
            "",
            "ab",
            &"ag".repeat(32),
            &"a".repeat(65),
            &"ab".repeat(33),
        ] {
            assert!(Trust::nobody().and_hash(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_to_trust_is_an_error_where_something_was_named() {
        assert!(matches!(Trust::pem(b""), Err(TrustError::Nothing)));
        assert!(matches!(
            Trust::pem_file("/nowhere.pem"),
            Err(TrustError::Pem(_))
        ));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Trust::pem(broken),
            Err(TrustError::Certificate(_))
        ));
    }

    #[test]
    fn a_certificate_is_known_by_its_hash_or_its_issuer() {
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (known, foreign, rooted) = (made("a"), made("b"), made("localhost"));
        let mut trust = Trust::pem(rooted.cert.pem().as_bytes()).unwrap();
        trust.hashes = vec![Sha256::digest(known.cert.der()).into()];
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new(&trust, &provider).unwrap();
        let verify = |certificate: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            let name = ServerName::try_from("localhost").unwrap();
            let now = UnixTime::now();
            verifier.verify_server_cert(certificate.cert.der(), &[], &name, &[], now)
        };
        assert!(verify(&known).is_ok());
        assert!(verify(&rooted).is_ok());
        assert!(verify(&foreign).is_err());
    }
}
