//! Keys that a token is checked against.

use std::path::PathBuf;

use clap::Args;
use gateway_api::{Jwk, PublicKey};
use serde_json::Value;

use crate::{
    failure::Failure,
    input::{Input, is_stdin, read_access_key, warn_if_published},
};

/// Where the keys come from: one of the two.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct KeySource {
    /// File with an access key; `-` is standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File with a public JWK, a JSON list of JWKs, or a JWK set; `-` is standard input
    #[arg(long, value_name = "FILE")]
    jwk_file: Option<PathBuf>,
}

impl KeySource {
    pub(super) fn is_stdin(&self) -> bool {
        let path = self.key_file.as_ref().or(self.jwk_file.as_ref());
        path.is_some_and(|path| is_stdin(path))
    }

    pub(super) fn read(&self) -> Result<Keys, Failure> {
        let Some(path) = &self.jwk_file else {
            let jwk = read_access_key(self.key_file.as_deref())?
                .key_pair()
                .public_jwk();
            return Ok(Keys::of(&jwk));
        };
        let input = Input::read(Some(path), "the JWK")?;
        let keys = Keys::parse(&input.name, input.text())?;
        if keys.keys.iter().any(|key| key.get("d").is_some()) {
            input.warn_if_open("a private key");
        }
        Ok(keys)
    }
}

/// Keys by their ids. A set may hold keys of other kinds, so that only the one that is asked for is read.
#[derive(Debug)]
pub(super) struct Keys {
    name: String,
    keys: Vec<Value>,
}

impl Keys {
    /// The key of an access key.
    pub(super) fn of(jwk: &Jwk) -> Self {
        Self {
            name: "the access key".to_owned(),
            keys: vec![serde_json::to_value(jwk).expect("a JWK is a struct of strings")],
        }
    }

    fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let malformed = |problem: &str| Failure::Input(format!("{name}: {problem}"));
        let value: Value = serde_json::from_str(text).map_err(|_| malformed("this is not JSON"))?;
        let keys = match value {
            Value::Array(keys) => keys,
            Value::Object(mut object) => match object.remove("keys") {
                Some(Value::Array(keys)) => keys,
                Some(_) => return Err(malformed("keys must be a list of JWKs")),
                None => vec![Value::Object(object)],
            },
            _ => {
                return Err(malformed(
                    "it must be a JWK, a list of JWKs or {\"keys\": [JWKs]}",
                ));
            }
        };
        let has_id = |key: &Value| key.get("kid").is_some_and(Value::is_string);
        if !keys.iter().all(has_id) {
            return Err(malformed("every JWK needs a kid"));
        }
        let name = name.to_owned();
        Ok(Self { name, keys })
    }

    /// The key with this id.
    pub(super) fn find(&self, kid: &str) -> Result<PublicKey, Failure> {
        let Self { name, keys } = self;
        let Some(key) = keys.iter().find(|key| key["kid"] == kid) else {
            let reason = match keys.as_slice() {
                [only] => format!(
                    "it is signed with key {kid:?}, {name} has the id {}",
                    only["kid"]
                ),
                _ => format!("it is signed with key {kid:?}, which is not in {name}"),
            };
            return Err(Failure::refused(reason));
        };
        let malformed = |problem: &str| Failure::Input(format!("{name}: key {kid:?}: {problem}"));
        let jwk = serde_json::from_value::<Jwk>(key.clone())
            .map_err(|_| malformed("a JWK has kty, crv and x, all of them text"))?;
        let public = jwk
            .public()
            .map_err(|error| malformed(&error.to_string()))?;
        warn_if_published(&public);
        Ok(public)
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::{KeyKind, KeyPair};
    use serde_json::json;

    use super::*;

    fn jwk(seed: u8) -> (Value, PublicKey) {
        let pair = KeyPair::from_seed(&[seed; 32], KeyKind::Customer);
        (json!(pair.public_jwk()), pair.public())
    }

    fn keys(value: &Value) -> Result<Keys, Failure> {
        Keys::parse("f", &value.to_string())
    }

    #[test]
    fn a_key_is_found_by_its_id_in_every_form_of_a_set() {
        let rsa = json!({"kid": "rsa", "kty": "RSA", "n": "x"});
        let ((one, public), (other, _)) = (jwk(1), jwk(2));
        let kid = one["kid"].as_str().unwrap();
        for set in [
            one.clone(),
            json!([rsa, other, one]),
            json!({"keys": [rsa, one]}),
        ] {
            assert_eq!(keys(&set).unwrap().find(kid), Ok(public), "{set}");
        }
        for set in [json!([]), json!([other, rsa]), other] {
            let found = keys(&set).unwrap().find(kid);
            assert!(matches!(found, Err(Failure::Refused { .. })), "{found:?}");
        }
        let broken = keys(&json!([rsa])).unwrap().find("rsa");
        assert!(matches!(broken, Err(Failure::Input(_))), "{broken:?}");
    }

    #[test]
    fn what_is_no_key_is_not_quoted() {
        for text in [
            "AcIbjUrHA8EV62TAGYcwDtHhQ8wN3lXmcKtFtN/SvdMA",
            "\"AcIbjUrHA8EV62TAGYcwDtHhQ8wN3lXmcKtFtN/SvdMA\"",
            r#"{"keys":"AcIbjUrHA8EV62TAGYcwDtHhQ8wN3lXmcKtFtN/SvdMA"}"#,
            r#"[{"d":"AcIbjUrHA8EV62TAGYcwDtHhQ8wN3lXmcKtFtN/SvdMA"}]"#,
        ] {
            let Err(Failure::Input(sentence)) = Keys::parse("f", text) else {
                panic!("{text}");
            };
            assert!(!sentence.contains("AcIb"), "{sentence}");
        }
    }
}
