//! Tokens: JSON Web Tokens signed with Ed25519, as ODIN writes and checks them.
//!
//! Reading has stages, in the order in which mistakes are reported: [`Token::read`] takes the text apart,
//! [`Token::verify`] checks algorithm and signature, and only [`Verified`] gives the claims out, for [`Rules`] to judge.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    claims::Names,
    key::{KeyPair, PublicKey},
};

/// The claims of a token as they stand in it.
pub type ClaimsObject = Map<String, Value>;

/// Why a token is refused. The texts are those of the ODIN gateway: clients show them, back ends may compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// Not `header.claims.signature`.
    #[error("token must have three segments")]
    Segments,
    /// A part is not Base64url or not JSON.
    #[error("invalid json in token")]
    Json,
    /// A part is JSON, but no object.
    #[error("json, in token, must be a object")]
    Object,
    /// The header names no key.
    #[error("invalid or missing kid in token")]
    Kid,
    /// `alg: none`.
    #[error("token has not been signed")]
    Unsigned,
    /// Another algorithm than EdDSA.
    #[error("unsupported alg in token")]
    Algorithm,
    /// Another curve than Ed25519.
    #[error("unsupported crv in token")]
    Curve,
    /// The signature is not 64 bytes in Base64url.
    #[error("Expected 64 bytes")]
    SignatureLength,
    /// The signature is not the key's.
    #[error("invalid signature in token")]
    Signature,
    /// `sub` is neither a string nor a list of strings.
    #[error("invalid sub in token")]
    Sub,
    /// `aud` is neither a string nor a list of strings.
    #[error("invalid aud in token")]
    Aud,
    /// The token is for somebody else.
    #[error("token audience does not match")]
    Audience,
    /// `exp` is not a whole number.
    #[error("invalid exp in token")]
    Exp,
    /// `nbf` is not a whole number.
    #[error("invalid nbf in token")]
    Nbf,
    /// Its time is over.
    #[error("token has expired")]
    Expired,
    /// Its time has not come.
    #[error("token not yet valid")]
    NotYet,
}

/// A token that was taken apart and not believed yet.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    kid: String,
    header: Map<String, Value>,
    signed: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenError`] for the segments, the header and the key id.
    pub fn read(text: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Segments)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Segments)?;
        if claims.contains('.') {
            return Err(TokenError::Segments);
        }
        let header = object(header)?;
        let kid = match header.get("kid") {
            Some(Value::String(kid)) => kid.clone(),
            Some(Value::Number(kid)) => kid.to_string(),
            _ => return Err(TokenError::Kid),
        };
        Ok(Self {
            kid,
            header,
            signed,
            claims,
            signature,
        })
    }

    /// Which key is said to have signed it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks algorithm and signature.
    ///
    /// # Errors
    /// [`TokenError`] for these.
    pub fn verify(self, key: &PublicKey) -> Result<Verified<'a>, TokenError> {
        let signature = self.checked_signature()?;
        if !key.verifies(self.signed.as_bytes(), &signature) {
            return Err(TokenError::Signature);
        }
        Ok(Verified(self.claims))
    }

    /// Checks what can be checked without a key: the algorithm and the form of the signature. Whoever calls this
    /// believes claims that anybody may have written.
    ///
    /// # Errors
    /// [`TokenError`] for these.
    pub fn believe_without_key(self) -> Result<Verified<'a>, TokenError> {
        self.checked_signature()?;
        Ok(Verified(self.claims))
    }

    /// Takes apart a token that says itself that nobody signed it: `alg` is `none`, and the signature is empty. Whoever
    /// calls this believes claims that anybody may have written.
    ///
    /// # Errors
    /// [`TokenError`] for the segments and the header, and [`TokenError::Algorithm`] when somebody did sign it.
    pub fn read_unsigned(text: &'a str) -> Result<Verified<'a>, TokenError> {
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Segments)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Segments)?;
        if claims.contains('.') {
            return Err(TokenError::Segments);
        }
        let is_unsigned = object(header)?.get("alg").and_then(Value::as_str) == Some("none");
        match is_unsigned && signature.is_empty() {
            true => Ok(Verified(claims)),
            false => Err(TokenError::Algorithm),
        }
    }

    fn checked_signature(&self) -> Result<[u8; 64], TokenError> {
        match self.header.get("alg").and_then(Value::as_str) {
            Some("EdDSA") => {}
            Some("none") => return Err(TokenError::Unsigned),
            _ => return Err(TokenError::Algorithm),
        }
        match self.header.get("crv") {
            None => {}
            Some(Value::String(crv)) if crv == "Ed25519" => {}
            Some(_) => return Err(TokenError::Curve),
        }
        let signature = URL_SAFE_NO_PAD.decode(self.signature).ok();
        let signature = signature.and_then(|bytes| bytes.try_into().ok());
        signature.ok_or(TokenError::SignatureLength)
    }
}

/// A token whose signature was checked.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a>(&'a str);

impl Verified<'_> {
    /// Its claims.
    ///
    /// # Errors
    /// [`TokenError::Json`] and [`TokenError::Object`].
    pub fn claims(&self) -> Result<ClaimsObject, TokenError> {
        object(self.0)
    }
}

fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Json)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(TokenError::Object),
        Err(_) => Err(TokenError::Json),
    }
}

/// Whom a token must be for, and when.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// A token with an `aud` must name this.
    pub audience: &'a str,
    /// How long before and after its time a token is taken.
    pub leeway: Duration,
    /// Time since 1970.
    pub now: Duration,
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restrictions(Option<Names>);

impl Restrictions {
    /// No restrictions.
    pub const NONE: Self = Self(None);

    /// Whether this method may be called. Case does not matter, and no `sub` at all allows everything.
    pub fn allows(&self, method: &str) -> bool {
        let Self(Some(names)) = self else {
            return true;
        };
        let mut names = names.as_slice().iter();
        names.any(|name| name.eq_ignore_ascii_case(method))
    }

    /// Whether this scope is named, whatever its case. No `sub` at all names none.
    pub fn names(&self, scope: &str) -> bool {
        self.0.is_some() && self.allows(scope)
    }
}

impl Rules<'_> {
    /// Judges claims: `sub`, then `aud`, `exp` and `nbf`.
    ///
    /// # Errors
    /// [`TokenError`] for the first of them that is malformed or does not fit.
    pub fn check(&self, claims: &ClaimsObject) -> Result<Restrictions, TokenError> {
        let sub = names(claims, "sub").ok_or(TokenError::Sub)?;
        let aud = names(claims, "aud").ok_or(TokenError::Aud)?;
        if aud.is_some_and(|aud| !aud.contains(self.audience)) {
            return Err(TokenError::Audience);
        }
        let exp = seconds(claims, "exp").ok_or(TokenError::Exp)?;
        let nbf = seconds(claims, "nbf").ok_or(TokenError::Nbf)?;
        let now = millis(self.now);
        let leeway = millis(self.leeway);
        // 128 bits hold every sum of these.
        if exp.is_some_and(|exp| now > i128::from(exp) * 1000 + leeway) {
            return Err(TokenError::Expired);
        }
        if nbf.is_some_and(|nbf| now + leeway < i128::from(nbf) * 1000) {
            return Err(TokenError::NotYet);
        }
        Ok(Restrictions(sub))
    }
}

fn millis(time: Duration) -> i128 {
    i128::try_from(time.as_millis()).expect("a Duration holds less than 2^95 milliseconds")
}

/// `None` when the claim is there and neither a string nor a list of strings.
fn names(claims: &ClaimsObject, name: &str) -> Option<Option<Names>> {
    let names = match claims.get(name) {
        None => return Some(None),
        Some(Value::String(name)) => Names::One(name.clone()),
        Some(Value::Array(list)) => {
            let text = |it: &Value| it.as_str().map(str::to_owned);
            Names::Many(list.iter().map(text).collect::<Option<_>>()?)
        }
        Some(_) => return None,
    };
    Some(Some(names))
}

/// `None` when the claim is there and not a whole number.
fn seconds(claims: &ClaimsObject, name: &str) -> Option<Option<i64>> {
    /// Whole numbers up to here are exact in what JavaScript writes.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let Some(value) = claims.get(name) else {
        return Some(None);
    };
    let whole = value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
    });
    whole.map(Some)
}

/// Signs claims.
///
/// # Panics
/// When the claims are not an object that JSON can hold, which is a mistake in the program.
pub fn sign(claims: &impl Serialize, key: &KeyPair) -> String {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'static str,
        kid: &'a str,
    }
    let header = Header {
        alg: "EdDSA",
        kid: key.id().as_str(),
    };
    let header = serde_json::to_vec(&header).expect("two strings are JSON");
    let claims = serde_json::to_vec(claims).expect("claims are structs of strings and numbers");
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::key::KeyKind;

    const NOW: i64 = 1_700_000_000;

    fn key() -> KeyPair {
        KeyPair::from_seed(&[7; 32], KeyKind::Customer)
    }

    fn raw(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(key().sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn accept(token: &str) -> Result<ClaimsObject, TokenError> {
        Token::read(token)?.verify(&key().public())?.claims()
    }

    fn check(claims: &Value, leeway_ms: u64) -> Result<Restrictions, TokenError> {
        let rules = Rules {
            audience: "gateway",
            leeway: Duration::from_millis(leeway_ms),
            now: Duration::from_secs(NOW as u64),
        };
        rules.check(claims.as_object().unwrap())
    }

    #[test]
    fn what_is_signed_is_accepted_and_a_changed_byte_is_not() {
        let token = sign(&json!({"uid": "jürgen"}), &key());
        assert_eq!(accept(&token).unwrap()["uid"], "jürgen");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(accept(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_malformed_token_is_refused_with_its_reason() {
        let good = raw(&json!({"alg": "EdDSA", "kid": "k"}), &json!({}));
        let (signed, _) = good.rsplit_once('.').unwrap();
        let header = |header: Value| raw(&header, &json!({}));
        for (token, error) in [
            ("a".to_owned(), TokenError::Segments),
            (signed.to_owned(), TokenError::Segments),
            (format!("{good}.x"), TokenError::Segments),
            ("%.e30.x".to_owned(), TokenError::Json),
            ("bm9wZQ.e30.x".to_owned(), TokenError::Json),
            ("WzFd.e30.x".to_owned(), TokenError::Object),
            (header(json!({"alg": "EdDSA"})), TokenError::Kid),
            (header(json!({"alg": "EdDSA", "kid": {}})), TokenError::Kid),
            (header(json!({"kid": "k"})), TokenError::Algorithm),
            (
                header(json!({"kid": "k", "alg": "HS256"})),
                TokenError::Algorithm,
            ),
            (
                header(json!({"kid": "k", "alg": "none"})),
                TokenError::Unsigned,
            ),
            (
                header(json!({"kid": 7, "alg": "EdDSA", "crv": "X25519"})),
                TokenError::Curve,
            ),
            (format!("{signed}."), TokenError::SignatureLength),
            (format!("{signed}.AAAA"), TokenError::SignatureLength),
            (
                format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
                TokenError::Signature,
            ),
            (
                raw(&json!({"alg": "EdDSA", "kid": "k"}), &json!([1])),
                TokenError::Object,
            ),
        ] {
            assert_eq!(accept(&token).err(), Some(error), "{token}");
        }
    }

    #[test]
    fn only_what_says_so_is_unsigned() {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = part(json!({"uid": "a"}));
        let none = part(json!({"alg": "none"}));
        let read = |text: String| Token::read_unsigned(&text)?.claims();
        assert_eq!(read(format!("{none}.{claims}.")).unwrap()["uid"], "a");
        let signed = raw(&json!({"alg": "EdDSA", "kid": "k"}), &json!({}));
        for (token, error) in [
            (signed, TokenError::Algorithm),
            (format!("{none}.{claims}.AAAA"), TokenError::Algorithm),
            (format!("{none}.{claims}"), TokenError::Segments),
            (format!("{none}.{claims}.x."), TokenError::Segments),
            (format!("%.{claims}."), TokenError::Json),
        ] {
            assert_eq!(read(token).err(), Some(error));
        }
    }

    #[test]
    fn claims_are_judged_in_order() {
        for (claims, error) in [
            (json!({"sub": 5, "aud": 5, "exp": "x"}), TokenError::Sub),
            (json!({"sub": ["a", 5]}), TokenError::Sub),
            (json!({"aud": null}), TokenError::Aud),
            (json!({"aud": "Gateway"}), TokenError::Audience),
            (json!({"aud": [], "exp": "x"}), TokenError::Audience),
            (json!({"exp": null}), TokenError::Exp),
            (json!({"exp": 1.5}), TokenError::Exp),
            (json!({"exp": 1e300}), TokenError::Exp),
            (json!({"exp": 1, "nbf": "x"}), TokenError::Nbf),
            (json!({"exp": 1}), TokenError::Expired),
            (json!({"nbf": NOW + 9}), TokenError::NotYet),
        ] {
            assert_eq!(check(&claims, 0).err(), Some(error), "{claims}");
        }
        for claims in [
            json!({}),
            json!({"aud": ["sfu", "gateway"], "exp": NOW, "nbf": NOW}),
            json!({"exp": i64::MAX, "nbf": i64::MIN}),
            json!({"exp": 1.7e9}),
        ] {
            assert!(check(&claims, 0).is_ok(), "{claims}");
        }
    }

    #[test]
    fn the_leeway_counts_in_milliseconds() {
        for (claims, leeway_ms, is_taken) in [
            (json!({"exp": NOW - 5}), 5_000, true),
            (json!({"exp": NOW - 5}), 4_999, false),
            (json!({"nbf": NOW + 5}), 5_000, true),
            (json!({"nbf": NOW + 5}), 4_999, false),
        ] {
            let result = check(&claims, leeway_ms);
            assert_eq!(result.is_ok(), is_taken, "{claims} {leeway_ms}");
        }
    }

    #[test]
    fn sub_restricts_the_methods_whatever_their_case() {
        let sub = check(&json!({"sub": ["x", "ROOMclose"]}), 0).unwrap();
        assert!(sub.allows("RoomClose") && !sub.allows("Connect"));
        assert!(check(&json!({}), 0).unwrap().allows("Connect"));
        assert!(!check(&json!({"sub": []}), 0).unwrap().allows("Connect"));
    }

    #[test]
    fn a_scope_has_to_be_named() {
        for (claims, is_named) in [
            (json!({"sub": ["connect", "POSitions"]}), true),
            (json!({"sub": "positions"}), true),
            (json!({"sub": ["connect", "position"]}), false),
            (json!({"sub": []}), false),
            (json!({}), false),
        ] {
            let restrictions = check(&claims, 0).unwrap();
            assert_eq!(restrictions.names(crate::POSITIONS), is_named, "{claims}");
        }
        assert!(!Restrictions::NONE.names(crate::POSITIONS));
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_an_error(text in "\\PC{0,80}", parts in "[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,90}") {
            let _ = accept(&text);
            let _ = accept(&parts);
        }

        #[test]
        fn any_claims_are_judged(
            exp in any::<i64>(), nbf in any::<i64>(), secs in any::<u64>(), leeway in any::<u64>(),
        ) {
            let claims = json!({"exp": exp, "nbf": nbf});
            let rules = Rules {
                audience: "sfu",
                leeway: Duration::from_millis(leeway),
                now: Duration::from_secs(secs),
            };
            let _ = rules.check(claims.as_object().unwrap());
        }
    }
}
