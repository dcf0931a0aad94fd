//! What tokens say. Names and meanings: `@4players/odin-tokens`, and the gateway that mints session tokens.

use serde::{Deserialize, Serialize};

use crate::room::RoomId;

/// A scope of `sub`, beside the methods: such a token lets a game server say where the users of its rooms are. It counts
/// only where it is named; a token without `sub` does not have it.
pub const POSITIONS: &str = "positions";

/// The method that session tokens are for, as `sub` says it.
const CONNECT: &str = "connect";

/// One name or a list of them, as `rid`, `sub` and `aud` are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// A plain string.
    One(String),
    /// An array, which may be empty.
    Many(Vec<String>),
}

impl Names {
    /// The names in their order.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }

    /// Whether this name is among them, in exactly this spelling.
    pub fn contains(&self, name: &str) -> bool {
        self.as_slice().iter().any(|it| it == name)
    }
}

impl From<&str> for Names {
    fn from(name: &str) -> Self {
        Self::One(name.to_owned())
    }
}

/// The claims of a token, in the order the token library writes them. What is `None` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The rooms it opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<Names>,
    /// The user it is for; may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Address of the voice server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adr: Option<String>,
    /// Tags of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tgs: Option<Vec<String>>,
    /// An upstream address; its meaning beyond the name is not documented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ups: Option<String>,
    /// The customer's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
    /// Namespace of the rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nsp: Option<String>,
    /// The methods it opens, compared without case; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<Names>,
    /// Who may take it: `gateway`, `sfu`, or everybody when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<Names>,
    /// Not after this time, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// Not before this time, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Wishes of the one who signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal: Option<Internal>,
}

/// Wishes that are no part of the public interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Internal {
    /// Address of the voice server that new rooms of this token go to, or nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Ours: address of the voice server that new rooms of this token go to while it takes rooms, and else to any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer: Option<String>,
}

/// The claims of the token a gateway hands out, in the order it writes them. The voice server at `adr` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionClaims<'a> {
    /// The user.
    pub uid: &'a str,
    /// The customer's id.
    pub cid: &'a str,
    /// The rooms, written as in the token that was shown.
    pub rid: &'a Names,
    /// Namespace of the rooms.
    pub nsp: &'a str,
    /// Address of the voice server.
    pub adr: &'a str,
    /// `connect`, and [`POSITIONS`] where the token that was shown names it.
    pub sub: Names,
    /// `sfu`.
    pub aud: &'static str,
    /// Not after this time, in seconds since 1970.
    pub exp: i64,
    /// Not before this time, in seconds since 1970.
    pub nbf: i64,
}

impl<'a> SessionClaims<'a> {
    /// A session on the server at `address` from `now` on, both times in seconds.
    pub fn new(
        (uid, rid): (&'a str, &'a Names),
        (cid, nsp): (&'a str, &'a str),
        address: &'a str,
        now: i64,
        lifetime: i64,
    ) -> Self {
        Self {
            uid,
            cid,
            rid,
            nsp,
            adr: address,
            sub: CONNECT.into(),
            aud: "sfu",
            exp: now.saturating_add(lifetime),
            nbf: now,
        }
    }

    /// The same with the scope [`POSITIONS`].
    pub fn with_positions(self) -> Self {
        Self {
            sub: Names::Many([CONNECT, POSITIONS].map(str::to_owned).to_vec()),
            ..self
        }
    }
}

impl Claims {
    /// The rooms of the token in their namespace; without `nsp` in the customer's own, without `cid` in none.
    pub fn rooms(&self) -> Vec<RoomId> {
        let namespace = self.nsp.as_ref().or(self.cid.as_ref());
        let names = self.rid.as_ref().map_or(&[][..], Names::as_slice);
        let room = |name: &String| RoomId {
            namespace: namespace.cloned().unwrap_or_default(),
            name: name.clone(),
        };
        names.iter().map(room).collect()
    }
}
