//! Whose certificates peers accept: those of one file, on all transports.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use crate::session::quic_config;

/// See the module.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) tls: TlsConnector,
    pub(crate) quic: quinn_proto::ClientConfig,
}

impl Trust {
    /// Trusts the certificates in a PEM file, and no others.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn read(certificates: &Path) -> Result<Self> {
        let name = || certificates.display().to_string();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(certificates).with_context(name)? {
            roots.add(certificate.with_context(name)?)?;
        }
        ensure!(!roots.is_empty(), "{} holds no certificate", name());
        Self::of(roots)
    }

    /// For a run in which nobody is asked.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn nobody() -> Result<Self> {
        Self::of(RootCertStore::empty())
    }

    fn of(roots: RootCertStore) -> Result<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            quic: quic_config(roots)?,
        })
    }
}
