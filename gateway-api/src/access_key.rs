//! Access keys: the secret a customer signs tokens with, as text.
//!
//! 44 characters of standard Base64: a version byte `0x01`, 31 random bytes, and the CRC-8 of these. The random bytes
//! and the checksum together are the seed of the Ed25519 key, so a standalone voice server's JWK and an access key are
//! two spellings of one thing.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::key::{KeyKind, KeyPair};

/// How many random bytes an access key is made of.
pub const RANDOM_BYTES: usize = 31;

const VERSION: u8 = 0x01;
const LENGTH: usize = 33;

/// CRC-8 as access keys use it: polynomial 0x31, no reflection, nothing added at the end.
const CRC_POLYNOMIAL: u8 = 0x31;
const CRC_INITIAL: u8 = 0xFF;

/// A customer's secret. Its `Debug` form shows the key id only.
#[derive(Clone)]
pub struct AccessKey(Zeroizing<[u8; LENGTH]>);

/// Why a text is not an access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessKeyError {
    /// Not standard Base64.
    #[error("an access key is 44 characters of standard Base64")]
    Base64,
    /// The wrong number of bytes.
    #[error("an access key holds 33 bytes, this one {0}")]
    Length(usize),
    /// A version that does not exist.
    #[error("an access key starts with version 1, this one with {0}")]
    Version(u8),
    /// A typing error.
    #[error("the checksum is wrong: a character was mistyped or left out")]
    Checksum,
}

impl AccessKey {
    /// The access key of these random bytes. They are the whole secret: take them from the system's generator.
    pub fn from_random(random: &[u8; RANDOM_BYTES]) -> Self {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        bytes[0] = VERSION;
        bytes[1..=RANDOM_BYTES].copy_from_slice(random);
        bytes[LENGTH - 1] = crc8(random);
        Self(bytes)
    }

    /// The key pair tokens are signed with.
    pub fn key_pair(&self) -> KeyPair {
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&self.0[1..]);
        KeyPair::from_seed(&seed, KeyKind::Customer)
    }

    /// The secret as text.
    pub fn expose(&self) -> String {
        STANDARD.encode(self.0.as_slice())
    }
}

impl FromStr for AccessKey {
    type Err = AccessKeyError;

    fn from_str(text: &str) -> Result<Self, AccessKeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| AccessKeyError::Base64)?);
        let bytes: [u8; LENGTH] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| AccessKeyError::Length(bytes.len()))?;
        let key = Self(Zeroizing::new(bytes));
        if key.0[0] != VERSION {
            return Err(AccessKeyError::Version(key.0[0]));
        }
        if crc8(&key.0[1..]) != 0 {
            return Err(AccessKeyError::Checksum);
        }
        Ok(key)
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessKey")
            .field(self.key_pair().id())
            .finish()
    }
}

fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(CRC_INITIAL, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| match crc & 0x80 {
            0 => crc << 1,
            _ => (crc << 1) ^ CRC_POLYNOMIAL,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of the published keys of our vectors.
    const TEXT: &str = "AcIbjUrHA8EV62TAGYcwDtHhQ8wN3lXmcKtFtN/SvdMA";

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc8(b"123456789"), 0xF7);
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_with_its_reason() {
        let flipped = TEXT.replace("AcIb", "AcIc");
        let long = STANDARD.encode([1; 34]);
        let mut old = [0; 33];
        old[0] = 2;
        let other_version = STANDARD.encode(old);
        for (text, error) in [
            ("", AccessKeyError::Length(0)),
            ("not a key", AccessKeyError::Base64),
            (TEXT.trim_end_matches('A'), AccessKeyError::Base64),
            (&long, AccessKeyError::Length(34)),
            (&flipped, AccessKeyError::Checksum),
            (&other_version, AccessKeyError::Version(2)),
        ] {
            assert_eq!(text.parse::<AccessKey>().err(), Some(error), "{text}");
        }
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let key: AccessKey = TEXT.parse().unwrap();
        assert_eq!(format!("{key:?}"), r#"AccessKey(KeyId("AQ7aVmK+pI1l"))"#);
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(random in any::<[u8; RANDOM_BYTES]>()) {
            let key = AccessKey::from_random(&random);
            let text = key.expose();
            prop_assert_eq!(text.len(), 44);
            let read: AccessKey = text.parse().unwrap();
            prop_assert_eq!(read.key_pair().public(), key.key_pair().public());
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text in "\\PC{0,60}") {
            let _ = text.parse::<AccessKey>();
        }

        #[test]
        fn one_changed_byte_is_noticed(random in any::<[u8; RANDOM_BYTES]>(), at in 1..LENGTH, flip in 1_u8..) {
            let mut bytes = *AccessKey::from_random(&random).0;
            bytes[at] ^= flip;
            let read = STANDARD.encode(bytes).parse::<AccessKey>();
            prop_assert_eq!(read.err(), Some(AccessKeyError::Checksum));
        }
    }
}
