//! What stands in a token, believed or not.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway_api::{ClaimsObject, TokenError};

/// Header and claims, as JSON objects that may be shown on a terminal.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) header: Part,
    pub(super) claims: Part,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) object: ClaimsObject,
    /// One line, in the order of the token.
    pub(super) text: String,
}

impl Parts {
    pub(super) fn of(token: &str) -> Result<Self, TokenError> {
        let mut segments = token.split('.');
        let (Some(header), Some(claims), Some(_), None) = (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        ) else {
            return Err(TokenError::Segments);
        };
        Ok(Self {
            header: Part::of(header)?,
            claims: Part::of(claims)?,
        })
    }

    /// When the token is of use, in words.
    pub(super) fn validity(&self, now: i64) -> String {
        let time = |name: &str| self.claims.object.get(name)?.as_i64();
        let begins = time("nbf").map(|nbf| nbf.saturating_sub(now));
        let ends = time("exp").map(|exp| exp.saturating_sub(now));
        match (begins, ends) {
            (_, Some(ends)) if ends < 0 => format!("expired {} s ago", ends.unsigned_abs()),
            (Some(begins), _) if begins > 0 => format!("valid in {begins} s"),
            (_, Some(ends)) => format!("expires in {ends} s"),
            (_, None) if self.claims.object.contains_key("exp") => "ends at an odd time".to_owned(),
            (_, None) => "never expires".to_owned(),
        }
    }
}

impl Part {
    fn of(segment: &str) -> Result<Self, TokenError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(segment)
            .map_err(|_| TokenError::Json)?;
        let value = serde_json::from_slice(&bytes).map_err(|_| TokenError::Json)?;
        let serde_json::Value::Object(object) = value else {
            return Err(TokenError::Object);
        };
        let text = str::from_utf8(&bytes).map_err(|_| TokenError::Json)?;
        Ok(Self {
            object,
            text: printable(text),
        })
    }
}

/// JSON that does the same and does nothing to a terminal: JSON allows some control characters as they are.
fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.trim().chars() {
        match char {
            // Between the tokens of JSON; inside strings it cannot stand.
            '\n' | '\r' | '\t' => text.push(' '),
            _ if char.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(claims: &str) -> Result<Parts, TokenError> {
        let claims = URL_SAFE_NO_PAD.encode(claims);
        Parts::of(&format!("e30.{claims}.x"))
    }

    #[test]
    fn claims_are_shown_in_their_order_and_harmless() {
        let parts = parts("{\"b\": \"\u{9b}31m\u{7f}ü\",\n \"a\": 1.50}").unwrap();
        let text = r#"{"b": "\u009b31m\u007fü",  "a": 1.50}"#;
        assert_eq!(parts.claims.text, text);
        let shown: ClaimsObject = serde_json::from_str(text).unwrap();
        assert_eq!(shown, parts.claims.object);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for token in ["", "e30", "e30.e30", "e30.e30.x.y"] {
            assert_eq!(Parts::of(token).unwrap_err(), TokenError::Segments);
        }
        assert_eq!(parts("[]").unwrap_err(), TokenError::Object);
        assert_eq!(parts("{").unwrap_err(), TokenError::Json);
        assert_eq!(Parts::of("*.e30.x").unwrap_err(), TokenError::Json);
    }

    #[test]
    fn a_token_says_when_it_is_of_use() {
        for (claims, words) in [
            (r#"{"exp":130,"nbf":100}"#, "expires in 30 s"),
            (r#"{"exp":90}"#, "expired 10 s ago"),
            (r#"{"exp":130,"nbf":120}"#, "valid in 20 s"),
            (
                r#"{"exp":-9223372036854775808}"#,
                "expired 9223372036854775808 s ago",
            ),
            (r#"{"exp":"x"}"#, "ends at an odd time"),
            ("{}", "never expires"),
        ] {
            assert_eq!(parts(claims).unwrap().validity(100), words, "{claims}");
        }
    }
}
