//! Whose call it is: tokens of customers and servers, and Basic credentials of those who run voice servers.
//!
//! The order of checks is the ODIN gateway's, so that a wrong token is refused for the same reason.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway_api::{ClaimsObject, KeyId, Restrictions, Rules, Token};
use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::{
    config::{InternalUser, UnknownCustomers},
    customers::KnownKey,
    error::Denied,
    grid::UsageLimits,
    state::Gateway,
};

/// Whose token it is, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Licensee {
    /// The customer's id.
    pub(crate) customer: String,
    /// Where the customer's rooms are.
    pub(crate) namespace: String,
    /// What the customer may use.
    pub(crate) limits: UsageLimits,
    /// What the token says.
    pub(crate) claims: ClaimsObject,
    /// Which methods it opens.
    pub(crate) restrictions: Restrictions,
    /// The key that signed it.
    pub(crate) kid: String,
}

/// Credentials as they stand in the header.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Credentials<'a> {
    Bearer(&'a str),
    Basic(&'a str),
}

fn credentials(headers: &HeaderMap) -> Result<Credentials<'_>, Denied> {
    let value = headers.get(AUTHORIZATION).ok_or(Denied::Unauthenticated)?;
    let value = value.to_str().map_err(|_| Denied::Scheme)?;
    let mut words = value.split(' ');
    let scheme = words.next().unwrap_or_default();
    let secret = words
        .next()
        .filter(|it| !it.is_empty())
        .ok_or(Denied::Missing)?;
    match scheme {
        "Bearer" => Ok(Credentials::Bearer(secret)),
        "Basic" => Ok(Credentials::Basic(secret)),
        _ => Err(Denied::Scheme),
    }
}

/// Who calls on the external route. Basic credentials are good for nothing there.
pub(crate) fn external(gateway: &Gateway, headers: &HeaderMap) -> Result<Licensee, Denied> {
    match credentials(headers)? {
        Credentials::Bearer(token) => {
            let licensee = licensee(gateway, token)?;
            let has = |claim: &str| licensee.claims.contains_key(claim);
            if !has("rid") || !has("uid") {
                return Err(Denied::Claims);
            }
            Ok(licensee)
        }
        Credentials::Basic(secret) => {
            STANDARD.decode(secret).map_err(|_| Denied::Base64)?;
            Err(Denied::Credentials)
        }
    }
}

/// Whether a call on the internal route may be made. A customer's token is good for nothing there: it would open the
/// private keys of the servers.
pub(crate) fn internal(gateway: &Gateway, headers: &HeaderMap) -> Result<(), Denied> {
    if gateway.config.internal.is_open() {
        return Ok(());
    }
    match credentials(headers)? {
        Credentials::Bearer(token) => {
            licensee(gateway, token)?;
            Err(Denied::Restricted)
        }
        Credentials::Basic(secret) => {
            let secret = STANDARD.decode(secret).map_err(|_| Denied::Base64)?;
            match is_user(&gateway.config.internal.users, &secret) {
                true => Ok(()),
                false => Err(Denied::Credentials),
            }
        }
    }
}

/// Compares with every user, in the same time whoever matches and however long the words are.
fn is_user(users: &[InternalUser], secret: &[u8]) -> bool {
    let colon = secret.iter().position(|byte| *byte == b':');
    let (name, password) = match colon {
        Some(at) => (&secret[..at], &secret[at + 1..]),
        None => return false,
    };
    let same = |a: &[u8], b: &[u8]| Sha256::digest(a).ct_eq(&Sha256::digest(b));
    let mut found = Choice::from(0);
    for user in users {
        let name = same(user.name.as_bytes(), name);
        found |= name & same(user.password.expose().as_bytes(), password);
    }
    found.into()
}

/// Whose key it is.
enum Signer {
    Customer(std::sync::Arc<KnownKey>),
    Server(String),
    Unknown,
}

fn licensee(gateway: &Gateway, token: &str) -> Result<Licensee, Denied> {
    let token = Token::read(token)?;
    let kid = token.kid().to_owned();
    let signer = signer(gateway, &kid);
    let claims = match &signer {
        Signer::Customer(known) => token.verify(&known.key)?.claims()?,
        Signer::Server(address) => {
            let key = gateway.server_keys.of(address);
            token.verify(&key.public())?.claims()?
        }
        Signer::Unknown => token.believe_without_key()?.claims()?,
    };
    let (customer, namespace, limits) = match signer {
        Signer::Customer(known) => (
            known.customer.clone(),
            known.namespace.clone(),
            known.limits,
        ),
        Signer::Server(_) => {
            let text = |name| match claims.get(name) {
                Some(Value::String(text)) => Ok(text.clone()),
                _ => Err(Denied::ServerClaim(name)),
            };
            (text("cid")?, text("nsp")?, UsageLimits::default())
        }
        Signer::Unknown => {
            let limits = match gateway.config.unknown_customers {
                UnknownCustomers::Forbidden => return Err(Denied::UnknownKey),
                UnknownCustomers::Limited(limits) => limits,
                UnknownCustomers::Unlimited => UsageLimits::default(),
            };
            let demo = format!("demo_{kid}");
            (demo.clone(), demo, limits)
        }
    };
    let restrictions = judge(&claims, gateway.now(), gateway.config.token_leeway)?;
    Ok(Licensee {
        customer,
        namespace,
        limits,
        claims,
        restrictions,
        kid,
    })
}

fn signer(gateway: &Gateway, kid: &str) -> Signer {
    if let Some(known) = gateway.customers.find(kid) {
        return Signer::Customer(known);
    }
    let key = KeyId::from(kid.to_owned());
    let server = |grid: &crate::grid::Grid| grid.server_of_key(&key).map(str::to_owned);
    match gateway.store.read(server) {
        Some(address) => Signer::Server(address),
        None => Signer::Unknown,
    }
}

fn judge(claims: &ClaimsObject, now: Duration, leeway: Duration) -> Result<Restrictions, Denied> {
    let rules = Rules {
        audience: "gateway",
        leeway,
        now,
    };
    Ok(rules.check(claims)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Result<Credentials<'static>, Denied> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        credentials(Box::leak(Box::new(headers)))
    }

    #[test]
    fn a_header_is_scheme_and_secret() {
        assert_eq!(read("Bearer a"), Ok(Credentials::Bearer("a")));
        assert_eq!(read("Bearer a b"), Ok(Credentials::Bearer("a")));
        assert_eq!(read("Basic a"), Ok(Credentials::Basic("a")));
        for (header, denied) in [
            ("Bearer", Denied::Missing),
            ("Bearer ", Denied::Missing),
            ("bearer a", Denied::Scheme),
            ("Digest a", Denied::Scheme),
        ] {
            assert_eq!(read(header), Err(denied), "{header}");
        }
        let none = HeaderMap::new();
        assert_eq!(credentials(&none), Err(Denied::Unauthenticated));
    }

    #[test]
    fn a_user_is_let_in_by_the_whole_password() {
        let user = |name: &str, password: &str| InternalUser {
            name: name.to_owned(),
            password: password.to_owned().into(),
        };
        let users = [user("a", "x:y"), user("b", "")];
        for (secret, is_right) in [
            ("a:x:y", true),
            ("a:x", false),
            ("a:", false),
            ("a", false),
            ("A:x:y", false),
            ("b:", true),
            ("c:x:y", false),
            (":", false),
            ("", false),
        ] {
            assert_eq!(is_user(&users, secret.as_bytes()), is_right, "{secret}");
        }
    }
}
