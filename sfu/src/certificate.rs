//! Certificates: those of files, read again when they change, and self-signed ones for development.

use std::{fs, io, net::IpAddr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use chrono::{Datelike as _, Days, NaiveDate, Utc};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use service::SettingsError;
use tempfile::TempDir;

use crate::config::Tls;

/// The TLS of a listener; it can be replaced while it is in use.
#[derive(Clone, Debug)]
pub(crate) struct Certificate(Arc<ArcSwap<ServerConfig>>);

impl Certificate {
    /// # Errors
    /// [`SettingsError`] when the files cannot be used.
    pub(crate) fn read(files: &Tls) -> Result<Self, SettingsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(read(files)?))))
    }

    /// Reads the files again; connections from now on use what is in them.
    ///
    /// # Errors
    /// As [`Self::read`]; the old certificate then stays.
    pub(crate) fn reload(&self, files: &Tls) -> Result<(), SettingsError> {
        self.0.store(Arc::new(read(files)?));
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// The TLS that files give.
///
/// # Errors
/// [`SettingsError`] when the files cannot be used.
pub(crate) fn read(files: &Tls) -> Result<ServerConfig, SettingsError> {
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        SettingsError::Whole(format!("{} cannot be used: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(&files.certificate_file, &error))?;
    if chain.is_empty() {
        return Err(unusable(
            &files.certificate_file,
            &"it holds no certificate",
        ));
    }
    let key = PrivateKeyDer::from_pem_file(&files.privatekey_file)
        .map_err(|error| unusable(&files.privatekey_file, &error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| unusable(&files.certificate_file, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A self-signed certificate in files that go with it.
#[derive(Debug)]
pub struct SelfSigned {
    folder: TempDir,
}

/// Why there is no self-signed certificate.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// It cannot be made.
    #[error("a self-signed certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// It cannot be written.
    #[error("a self-signed certificate cannot be written")]
    Write(#[from] io::Error),
}

impl SelfSigned {
    /// A certificate for `localhost` and these addresses. It is valid for 13 days: browsers trust one that no authority
    /// has signed by its hash if it is valid for no more than 14 (`serverCertificateHashes` of WebTransport).
    ///
    /// # Errors
    /// [`SelfSignedError`].
    pub fn new(addresses: &[IpAddr]) -> Result<Self, SelfSignedError> {
        let names = std::iter::once("localhost".to_owned());
        let names = names.chain(addresses.iter().map(IpAddr::to_string));
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        let today = Utc::now().date_naive();
        let day = |date: NaiveDate| {
            let part = |part: u32| u8::try_from(part).unwrap_or(1);
            date_time_ymd(date.year(), part(date.month()), part(date.day()))
        };
        params.not_before = day(today - Days::new(1));
        params.not_after = day(today + Days::new(12));
        let certificate = params.self_signed(&key)?;
        let made = Self {
            folder: tempfile::Builder::new().prefix("bifrost-").tempdir()?,
        };
        let files = made.files();
        fs::write(&files.certificate_file, certificate.pem())?;
        // The folder is the user's alone.
        fs::write(&files.privatekey_file, key.serialize_pem())?;
        Ok(made)
    }

    /// The files, which go when this is dropped.
    pub fn files(&self) -> Tls {
        Tls {
            certificate_file: self.folder.path().join("fullchain.pem"),
            privatekey_file: self.folder.path().join("privkey.pem"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_can_be_used_and_replaced() {
        let made = SelfSigned::new(&["127.0.0.1".parse().unwrap()]).unwrap();
        let certificate = Certificate::read(&made.files()).unwrap();
        let before = certificate.current();
        certificate.reload(&made.files()).unwrap();
        assert!(!Arc::ptr_eq(&before, &certificate.current()));
        fs::write(made.files().privatekey_file, "no key").unwrap();
        let kept = certificate.current();
        let error = certificate.reload(&made.files()).unwrap_err().to_string();
        assert!(error.contains("privkey.pem cannot be used"), "{error}");
        assert!(Arc::ptr_eq(&kept, &certificate.current()));
        fs::write(made.files().certificate_file, "").unwrap();
        let error = Certificate::read(&made.files()).unwrap_err().to_string();
        assert!(
            error.contains("fullchain.pem cannot be used: it holds no certificate"),
            "{error}"
        );
    }
}
