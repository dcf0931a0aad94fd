//! Which room is meant, and which rooms live together.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A room: its name within a namespace. As JSON `[namespace, name]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(String, String)", into = "(String, String)")]
pub struct RoomId {
    /// Whose rooms these are: a customer's id, or what the customer's key says.
    pub namespace: String,
    /// The name, as tokens give it in `rid`.
    pub name: String,
}

impl From<(String, String)> for RoomId {
    fn from((namespace, name): (String, String)) -> Self {
        Self { namespace, name }
    }
}

impl From<RoomId> for (String, String) {
    fn from(id: RoomId) -> Self {
        (id.namespace, id.name)
    }
}

impl RoomId {
    /// What places the room: all rooms with the same hash live on one server.
    pub fn hash(&self) -> RoomHash {
        let mut hash = Sha256::new();
        for part in [self.namespace.as_bytes(), base(&self.name).as_bytes()] {
            // One byte of length, modulo 256, is the format.
            hash.update([(part.len() % 256) as u8]);
            hash.update(part);
        }
        RoomHash(hash.finalize().into())
    }
}

/// The part of a name that decides the place: the text from the first `{` (included) to the next `}` (excluded), or
/// else the whole name.
fn base(name: &str) -> &str {
    let tag = name.find('{').and_then(|start| {
        let rest = &name[start..];
        Some(&rest[..rest.find('}')?])
    });
    tag.unwrap_or(name)
}

/// SHA-256 of a room's namespace and base. Displayed in standard Base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomHash([u8; 32]);

impl RoomHash {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RoomHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for RoomHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomHash({self})")
    }
}

impl From<RoomHash> for String {
    fn from(hash: RoomHash) -> Self {
        hash.to_string()
    }
}

impl Serialize for RoomHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoomHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a room hash is 32 bytes in standard Base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_in_braces_decides_where_rooms_live() {
        for (name, wanted) in [
            ("lobby", "lobby"),
            ("{team}a", "{team"),
            ("x{team}y{z}", "{team"),
            ("{team", "{team"),
            ("a}b{c}", "{c"),
            ("{}", "{"),
            ("a}b", "a}b"),
            ("", ""),
        ] {
            assert_eq!(base(name), wanted, "{name}");
        }
    }
}
