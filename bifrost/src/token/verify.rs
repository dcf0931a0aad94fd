//! Checking a token as a gateway or a voice server does.

use std::time::Duration;

use clap::{Args, builder::PossibleValuesParser};
use gateway_api::{ClaimsObject, Rules, Token};
use serde_json::{Value, json};

use super::{
    TokenSource,
    keys::{KeySource, Keys},
    parts::Parts,
    seconds,
    sign::AUDIENCES,
};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    keys: KeySource,
    #[command(flatten)]
    token: TokenSource,
    /// Who takes the token; if not given, every audience will do
    #[arg(long, value_name = "AUDIENCE", value_parser = PossibleValuesParser::new(AUDIENCES))]
    audience: Option<String>,
    /// Milliseconds before and after its time that the token is accepted
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    leeway_ms: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Gives what the token says, or why it is refused.
pub(super) fn run(options: &Options, now: Duration) -> Result<String, Failure> {
    if options.keys.is_stdin() && options.token.is_stdin() {
        let problem = "the key and the token cannot both come from standard input";
        return Err(Failure::Input(problem.to_owned()));
    }
    let keys = options.keys.read()?;
    let token = options.token.read()?;
    let leeway = Duration::from_millis(options.leeway_ms);
    let audience = options.audience.as_deref();
    let kid = check(&token, &keys, audience, leeway, now)
        .map_err(|failure| failure.in_json(options.json))?;
    let parts = Parts::of(&token)?;
    if options.json {
        let json = json!({"accepted": true, "kid": kid, "claims": parts.claims.object});
        return Ok(format!("{json}\n"));
    }
    let claims = &parts.claims.text;
    let validity = parts.validity(seconds(now));
    Ok(format!(
        "accepted  signed with key {kid}\nclaims    {claims}\ntime      {validity}\n"
    ))
}

/// In the order of a gateway: form, key, signature, then the claims. Gives the id of the key.
fn check(
    token: &str,
    keys: &Keys,
    audience: Option<&str>,
    leeway: Duration,
    now: Duration,
) -> Result<String, Failure> {
    let token = Token::read(token)?;
    let kid = token.kid().to_owned();
    let key = keys.find(&kid)?;
    let claims = token.verify(&key)?.claims()?;
    let rules = Rules {
        audience: audience.unwrap_or_else(|| first_audience(&claims)),
        leeway,
        now,
    };
    rules.check(&claims)?;
    Ok(kid)
}

/// With an audience of its own a token is judged by everything else; one for nobody stays refused.
fn first_audience(claims: &ClaimsObject) -> &str {
    let first = match claims.get("aud") {
        Some(Value::Array(names)) => names.first(),
        name => name,
    };
    first.and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use gateway_api::{KeyKind, KeyPair, sign};

    use super::*;

    fn verdict(claims: &Value, audience: Option<&str>, leeway_ms: u64) -> String {
        let pair = KeyPair::from_seed(&[7; 32], KeyKind::Customer);
        let keys = Keys::of(&pair.public_jwk());
        let leeway = Duration::from_millis(leeway_ms);
        let token = sign(claims, &pair);
        match check(&token, &keys, audience, leeway, Duration::from_secs(100)) {
            Ok(kid) => {
                assert_eq!(kid, pair.id().as_str());
                "accepted".to_owned()
            }
            Err(failure) => failure.sentence(),
        }
    }

    #[test]
    fn claims_are_judged_by_clock_leeway_and_audience() {
        const AUDIENCE: &str = "refused: token audience does not match";
        for (claims, audience, leeway_ms, wanted) in [
            (json!({}), Some("gateway"), 0, "accepted"),
            (json!({"aud": "sfu"}), None, 0, "accepted"),
            (json!({"aud": ["x", "sfu"]}), None, 0, "accepted"),
            (json!({"aud": ["x", "sfu"]}), Some("sfu"), 0, "accepted"),
            (json!({"aud": "sfu"}), Some("gateway"), 0, AUDIENCE),
            (json!({"aud": []}), None, 0, AUDIENCE),
            (
                json!({"aud": ["x", 1]}),
                None,
                0,
                "refused: invalid aud in token",
            ),
            (json!({"exp": 99}), None, 999, "refused: token has expired"),
            (json!({"exp": 99}), None, 1000, "accepted"),
            (
                json!({"nbf": 101}),
                None,
                999,
                "refused: token not yet valid",
            ),
            (json!({"nbf": 101}), None, 1000, "accepted"),
        ] {
            assert_eq!(verdict(&claims, audience, leeway_ms), wanted, "{claims}");
        }
    }

    #[test]
    fn a_token_of_another_key_is_refused_before_its_signature_is_looked_at() {
        let signer = KeyPair::from_seed(&[7; 32], KeyKind::Customer);
        let other = KeyPair::from_seed(&[8; 32], KeyKind::Customer).public_jwk();
        let token = sign(&json!({}), &signer);
        let check = |keys: &Keys| check(&token, keys, None, Duration::ZERO, Duration::ZERO);
        let unknown = check(&Keys::of(&other)).unwrap_err().sentence();
        assert!(unknown.contains(signer.id().as_str()), "{unknown}");

        let mut renamed = other;
        renamed.kid = signer.id().clone();
        let wrong = check(&Keys::of(&renamed)).unwrap_err().sentence();
        assert_eq!(wrong, "refused: invalid signature in token");
    }
}
