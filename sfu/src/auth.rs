//! Who a client is: tokens of a gateway, and of customers for direct use.

use std::{collections::HashMap, time::Duration};

use arc_swap::ArcSwap;
use gateway_api::{
    Claims, ClaimsObject, POSITIONS, PublicKey, Restrictions, Rules, Token, TokenError,
};
use http::StatusCode;
use sfu_core::limits::NAME_BYTES_MAX;

use crate::config::Authorization;

/// Who tokens for this server must be for, if they say.
const AUDIENCE: &str = "sfu";

/// What tokens must allow, if they restrict anything.
const METHOD: &str = "connect";

/// Rooms that one token may open: as many as at the gateway.
const ROOMS_MAX: usize = 256;

/// What a token says of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user.
    pub(crate) user_id: String,
    /// Whose rooms count; empty when the token names nobody.
    pub(crate) customer: String,
    /// The namespace of the rooms.
    pub(crate) namespace: String,
    /// The rooms it may join.
    pub(crate) rooms: Vec<String>,
}

/// Why a token is refused. Clients show the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody knows the key.
    #[error("not authorized")]
    UnknownKey,
    #[error("access denied by token restrictions")]
    Restricted,
    #[error("missing required claims in token")]
    Claims,
    #[error("too many rooms in token")]
    Rooms,
    #[error("too long a name in token")]
    Name,
}

impl AuthError {
    /// Whether another token would do, or nobody's who is asked for this.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Restricted => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

/// The keys that may sign, and how tokens are judged.
#[derive(Debug)]
pub(crate) struct Authenticator {
    keys: ArcSwap<HashMap<String, PublicKey>>,
    leeway: Duration,
    allow_unsigned: bool,
}

impl Authenticator {
    pub(crate) fn new(config: &Authorization) -> Self {
        let authenticator = Self {
            keys: ArcSwap::default(),
            leeway: config.leeway,
            allow_unsigned: config.allow_unsigned,
        };
        authenticator.set_keys(config);
        authenticator
    }

    /// Replaces the keys; tokens that were taken before stay taken.
    pub(crate) fn set_keys(&self, config: &Authorization) {
        let key = |jwk: &gateway_api::Jwk| Some((jwk.kid.as_str().to_owned(), jwk.public().ok()?));
        let keys = config.keys.iter().filter_map(key).collect();
        self.keys.store(std::sync::Arc::new(keys));
    }

    /// Whether any token at all could be taken.
    pub(crate) fn is_usable(&self) -> bool {
        self.allow_unsigned || !self.keys.load().is_empty()
    }

    /// Judges a token at `now`, the time since 1970.
    ///
    /// # Errors
    /// [`AuthError`].
    pub(crate) fn identify(&self, now: Duration, token: &str) -> Result<Identity, AuthError> {
        self.judge(now, token, |it| it.allows(METHOD))
    }

    /// Judges the token of a game server. Unlike a client's it has to name what it opens: one that is made for anything is
    /// in the hands of clients.
    ///
    /// # Errors
    /// [`AuthError`].
    pub(crate) fn identify_game_server(
        &self,
        now: Duration,
        token: &str,
    ) -> Result<Identity, AuthError> {
        self.judge(now, token, |it| it.names(POSITIONS))
    }

    fn judge(
        &self,
        now: Duration,
        token: &str,
        is_enough: impl FnOnce(&Restrictions) -> bool,
    ) -> Result<Identity, AuthError> {
        let claims = self.claims(token)?;
        let rules = Rules {
            audience: AUDIENCE,
            leeway: self.leeway,
            now,
        };
        match is_enough(&rules.check(&claims)?) {
            true => identity(claims),
            false => Err(AuthError::Restricted),
        }
    }

    fn claims(&self, token: &str) -> Result<ClaimsObject, AuthError> {
        if self.allow_unsigned
            && let Ok(token) = Token::read_unsigned(token)
        {
            return Ok(token.claims()?);
        }
        let token = Token::read(token)?;
        let keys = self.keys.load();
        let key = keys.get(token.kid()).ok_or(AuthError::UnknownKey)?;
        Ok(token.verify(key)?.claims()?)
    }
}

fn identity(claims: ClaimsObject) -> Result<Identity, AuthError> {
    let claims: Claims = serde_json::from_value(claims.into()).map_err(|_| AuthError::Claims)?;
    let rooms: Vec<_> = claims
        .rooms()
        .into_iter()
        .map(|room| (room.namespace, room.name))
        .collect();
    let user_id = claims.uid.ok_or(AuthError::Claims)?;
    if rooms.len() > ROOMS_MAX {
        return Err(AuthError::Rooms);
    }
    let customer = claims.cid.unwrap_or_default();
    // Everybody in a room is told of both.
    if user_id.len().max(customer.len()) > NAME_BYTES_MAX {
        return Err(AuthError::Name);
    }
    let namespace = rooms
        .first()
        .map(|(namespace, _)| namespace.clone())
        .ok_or(AuthError::Claims)?;
    Ok(Identity {
        user_id,
        customer,
        namespace,
        rooms: rooms.into_iter().map(|(_, name)| name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use gateway_api::{KeyKind, KeyPair, sign};
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32], KeyKind::Server)
    }

    fn authenticator(allow_unsigned: bool) -> Authenticator {
        Authenticator::new(&Authorization {
            allow_unsigned,
            leeway: Duration::from_millis(1_500),
            keys: vec![key(1).public_jwk()],
            allow_published_keys: false,
        })
    }

    fn identify(claims: &Value) -> Result<Identity, AuthError> {
        authenticator(false).identify(Duration::from_secs(NOW), &sign(claims, &key(1)))
    }

    #[test]
    fn tokens_of_gateways_and_of_customers_are_taken() {
        let minted = json!({
            "uid": "bob", "cid": "acme", "rid": ["a", "b"], "nsp": "studio", "adr": "sfu:4433",
            "sub": "connect", "aud": "sfu", "exp": NOW + 300, "nbf": NOW,
        });
        let identity = identify(&minted).unwrap();
        assert_eq!(
            (
                &*identity.user_id,
                &*identity.customer,
                &*identity.namespace
            ),
            ("bob", "acme", "studio")
        );
        assert_eq!(identity.rooms, ["a", "b"]);
        let direct =
            identify(&json!({"uid": "", "rid": "lobby", "aud": ["sfu", "gateway"]})).unwrap();
        assert_eq!((&*direct.customer, &*direct.namespace), ("", ""));
        let customers = identify(&json!({"uid": "a", "rid": "lobby", "cid": "acme"})).unwrap();
        assert_eq!(customers.namespace, "acme");
    }

    #[test]
    fn a_token_is_refused_with_its_reason() {
        let good = json!({"uid": "bob", "rid": "a"});
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            identify(&claims).unwrap_err()
        };
        assert_eq!(with("aud", json!("gateway")), TokenError::Audience.into());
        assert_eq!(with("sub", json!("RoomClose")), AuthError::Restricted);
        assert_eq!(with("exp", json!(NOW - 2)), TokenError::Expired.into());
        assert_eq!(with("nbf", json!(NOW + 2)), TokenError::NotYet.into());
        assert_eq!(with("uid", Value::Null), AuthError::Claims);
        assert_eq!(with("uid", json!(5)), AuthError::Claims);
        assert_eq!(with("rid", json!([])), AuthError::Claims);
        assert_eq!(
            with("rid", json!(vec!["a"; ROOMS_MAX + 1])),
            AuthError::Rooms
        );
        let foreign =
            authenticator(false).identify(Duration::from_secs(NOW), &sign(&good, &key(2)));
        assert_eq!(foreign, Err(AuthError::UnknownKey));
        let leeway = identify(&json!({"uid": "bob", "rid": "a", "exp": NOW - 1}));
        assert!(leeway.is_ok(), "1.5 s of leeway");
    }

    #[test]
    fn only_a_token_that_names_positions_is_a_game_servers() {
        let judge = |claims: &Value| {
            let token = sign(claims, &key(1));
            let now = Duration::from_secs(NOW);
            let authenticator = authenticator(false);
            let is_game_server = authenticator.identify_game_server(now, &token).is_ok();
            (is_game_server, authenticator.identify(now, &token).is_ok())
        };
        let with = |sub: Value| judge(&json!({"uid": "server", "rid": "a", "sub": sub}));
        assert_eq!(with(json!("positions")), (true, false));
        assert_eq!(with(json!(["connect", "Positions"])), (true, true));
        assert_eq!(with(json!("connect")), (false, true));
        assert_eq!(with(json!([])), (false, false));
        assert_eq!(judge(&json!({"uid": "bob", "rid": "a"})), (false, true));
    }

    #[test]
    fn unsigned_tokens_are_taken_only_where_allowed() {
        // {"alg":"none"} and {"uid":"bob","rid":"a"}
        let token = "eyJhbGciOiJub25lIn0.eyJ1aWQiOiJib2IiLCJyaWQiOiJhIn0.";
        let now = Duration::from_secs(NOW);
        assert_eq!(
            authenticator(true).identify(now, token).unwrap().user_id,
            "bob"
        );
        assert!(authenticator(false).identify(now, token).is_err());
    }
}
