//! The key of a voice server, derived from its gateway's master key and the server's address.
//!
//! HKDF-SHA-512 of the master key, salted with the address as the server spells it, 512 bytes long; SHA-256 of these is
//! the Ed25519 seed. Nothing has to be stored: every gateway with the same master key knows the key of every server.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::key::{KeyKind, KeyPair};

const INFO: &[u8] = b"grid-connection-key";
const DERIVED_BYTES: usize = 512;

/// Shortest master key that is taken, in bytes: below it, it can be guessed.
pub const MASTER_KEY_BYTES_MIN: usize = 16;

/// The master key of the documentation: who uses it lets everybody sign for every server.
const SAMPLE: &[u8] = b"This is a super secret master key!";

/// A gateway's secret. Its `Debug` form shows nothing of it.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<Vec<u8>>);

/// Why a text is not a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// Not standard Base64.
    #[error("the master key must be standard Base64")]
    Base64,
    /// Too easy to guess.
    #[error(
        "the master key holds {0} bytes, at least {MASTER_KEY_BYTES_MIN} are needed: `openssl rand -base64 32` makes one"
    )]
    Short(usize),
    /// Everybody knows it.
    #[error(
        "this is the sample master key of the documentation, which everybody knows: `openssl rand -base64 32` makes one"
    )]
    Sample,
}

impl MasterKey {
    /// The key pair of the server at this address, exactly as the server spells it, with its port.
    pub fn server_key(&self, address: &str) -> KeyPair {
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        Hkdf::<Sha512>::new(Some(address.as_bytes()), &self.0)
            .expand(INFO, derived.as_mut_slice())
            .expect("HKDF-SHA-512 gives up to 255 blocks of 64 bytes");
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(Sha256::digest(derived.as_slice()).into());
        KeyPair::from_seed(&seed, KeyKind::Server)
    }

    /// A key from bytes, whatever they are. [`FromStr`] is for what comes from settings.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl FromStr for MasterKey {
    type Err = MasterKeyError;

    fn from_str(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| MasterKeyError::Base64)?;
        let key = Self::from_bytes(bytes);
        if key.0.as_slice() == SAMPLE {
            return Err(MasterKeyError::Sample);
        }
        if key.0.len() < MASTER_KEY_BYTES_MIN {
            return Err(MasterKeyError::Short(key.0.len()));
        }
        Ok(key)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_that_protects_nothing_is_refused() {
        for (text, error) in [
            (STANDARD.encode(SAMPLE), MasterKeyError::Sample),
            (STANDARD.encode([1; 15]), MasterKeyError::Short(15)),
            ("*".to_owned(), MasterKeyError::Base64),
        ] {
            assert_eq!(text.parse::<MasterKey>().err(), Some(error), "{text}");
        }
        assert!(STANDARD.encode([1; 16]).parse::<MasterKey>().is_ok());
    }
}
