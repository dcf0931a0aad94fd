//! Ed25519 keys, their ids, and their JWK form.

use std::fmt;

use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

/// Whose key it is; the first byte of its id says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A customer's, from an access key.
    Customer,
    /// A voice server's, derived by its gateway.
    Server,
}

impl KeyKind {
    fn version(self) -> u8 {
        match self {
            Self::Customer => 0x01,
            Self::Server => 0x02,
        }
    }
}

/// A key id (`kid`): standard Base64 of a version byte and the SHA-512 of the public key, folded to 8 bytes.
///
/// Any text is a possible id: settings may name a key as they like, and an id is only ever compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The id of a public key.
    pub fn of(key: &PublicKey, kind: KeyKind) -> Self {
        let hash: [u8; 64] = Sha512::digest(key.0.as_bytes()).into();
        let mut id = [0; 9];
        id[0] = kind.version();
        for (at, byte) in hash.into_iter().enumerate() {
            id[1 + at % 8] ^= byte;
        }
        Self(STANDARD.encode(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for KeyId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The 32 bytes, unpadded Base64url: the `x` of a JWK.
    pub fn x(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }

    /// Reads the `x` of a JWK.
    ///
    /// # Errors
    /// [`JwkError::X`].
    pub fn from_x(x: &str) -> Result<Self, JwkError> {
        let bytes = URL_SAFE_NO_PAD.decode(x).map_err(|_| JwkError::X)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| JwkError::X)?;
        VerifyingKey::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| JwkError::X)
    }

    /// Whether the signature is right. Strict: keys and signatures that verify for more than one message are refused.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

/// Signs tokens. Its `Debug` form shows the id only.
#[derive(Clone)]
pub struct KeyPair {
    id: KeyId,
    signing: SigningKey,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl KeyPair {
    /// The key pair of an Ed25519 seed.
    pub fn from_seed(seed: &[u8; 32], kind: KeyKind) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let id = KeyId::of(&PublicKey(signing.verifying_key()), kind);
        Self { id, signing }
    }

    /// Its id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What checks its signatures.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key())
    }

    /// Signs bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// The public half as JWK.
    pub fn public_jwk(&self) -> Jwk {
        Jwk {
            kid: self.id.clone(),
            kty: KTY.to_owned(),
            crv: CRV.to_owned(),
            x: self.public().x(),
            d: None,
        }
    }

    /// Both halves as JWK, as a voice server's `[[authorization.keys]]` may hold them.
    pub fn private_jwk(&self) -> Jwk {
        let seed = Zeroizing::new(self.signing.to_bytes());
        Jwk {
            d: Some(URL_SAFE_NO_PAD.encode(seed.as_slice())),
            ..self.public_jwk()
        }
    }
}

const KTY: &str = "OKP";
const CRV: &str = "Ed25519";

/// A key as JSON Web Key (RFC 8037). Its `Debug` form leaves the private half out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Key id; in settings it may be any text.
    pub kid: KeyId,
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The public key, unpadded Base64url.
    pub x: String,
    /// The seed of the private key, unpadded Base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d: Option<String>,
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk")
            .field("kid", &self.kid)
            .field("x", &self.x)
            .finish_non_exhaustive()
    }
}

/// Why a JWK cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Another type of key.
    #[error("kty must be \"OKP\"")]
    Kty,
    /// Another curve.
    #[error("crv must be \"Ed25519\"")]
    Crv,
    /// Not a public key.
    #[error("x must be 32 bytes in unpadded Base64url, and a point of the curve")]
    X,
    /// Not a seed.
    #[error("d must be 32 bytes in unpadded Base64url")]
    D,
    /// Two halves of different keys.
    #[error("x does not belong to d")]
    Mismatch,
}

impl Jwk {
    /// The public key.
    ///
    /// # Errors
    /// [`JwkError`] when it is another kind of key.
    pub fn public(&self) -> Result<PublicKey, JwkError> {
        if self.kty != KTY {
            return Err(JwkError::Kty);
        }
        if self.crv != CRV {
            return Err(JwkError::Crv);
        }
        PublicKey::from_x(&self.x)
    }

    /// The key pair, with the id as it is given, or `None` when only the public half is there.
    ///
    /// # Errors
    /// [`JwkError`] when it is another kind of key or the halves do not belong together.
    pub fn key_pair(&self) -> Result<Option<KeyPair>, JwkError> {
        let public = self.public()?;
        let Some(d) = &self.d else {
            return Ok(None);
        };
        let seed = Zeroizing::new(URL_SAFE_NO_PAD.decode(d).map_err(|_| JwkError::D)?);
        let seed: Zeroizing<[u8; 32]> =
            Zeroizing::new(seed.as_slice().try_into().map_err(|_| JwkError::D)?);
        let signing = SigningKey::from_bytes(&seed);
        if signing.verifying_key() != public.0 {
            return Err(JwkError::Mismatch);
        }
        let id = self.kid.clone();
        Ok(Some(KeyPair { id, signing }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwk_is_read_back_and_its_halves_must_belong_together() {
        let key = KeyPair::from_seed(&[7; 32], KeyKind::Server);
        let jwk = key.private_jwk();
        let read = jwk.key_pair().unwrap().unwrap();
        assert_eq!(read.public(), key.public());
        assert!(key.public_jwk().key_pair().unwrap().is_none());

        let other = KeyPair::from_seed(&[8; 32], KeyKind::Server).private_jwk();
        let mixed = Jwk {
            d: other.d,
            ..jwk.clone()
        };
        assert_eq!(mixed.key_pair().err(), Some(JwkError::Mismatch));
        let rsa = Jwk {
            kty: "RSA".to_owned(),
            ..jwk.clone()
        };
        assert_eq!(rsa.public(), Err(JwkError::Kty));
        let x25519 = Jwk {
            crv: "X25519".to_owned(),
            ..jwk.clone()
        };
        assert_eq!(x25519.public(), Err(JwkError::Crv));
        let short = Jwk {
            x: "AAAA".to_owned(),
            ..jwk
        };
        assert_eq!(short.public(), Err(JwkError::X));
    }

    #[test]
    fn neither_debug_form_shows_the_seed() {
        let key = KeyPair::from_seed(&[7; 32], KeyKind::Customer);
        let jwk = key.private_jwk();
        let d = jwk.d.clone().unwrap();
        assert!(!format!("{key:?} {jwk:?}").contains(&d));
    }

    #[test]
    fn a_key_of_small_order_verifies_nothing() {
        // The neutral element as public key, and a signature that the lax equation accepts for every message.
        let mut point = [0_u8; 32];
        point[0] = 1;
        let key = PublicKey(VerifyingKey::from_bytes(&point).unwrap());
        let mut signature = [0_u8; 64];
        signature[0] = 1;
        assert!(!key.verifies(b"anything", &signature));
    }
}
