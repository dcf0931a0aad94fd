//! Who may call the bridge: bearer tokens with a scope.

use std::fmt;

use http::{HeaderMap, header::AUTHORIZATION};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use crate::error::Error;

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// List and Get.
    Read,
    /// Everything.
    Write,
}

/// A token that callers may use. Its `Debug` form does not show the secret.
#[derive(Clone)]
pub struct AccessToken {
    /// Names it in the log.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// The secret.
    pub secret: String,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("name", &self.name)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Decides whether a call may be made. Without any token in the settings everyone may: the server then only listens
/// on loopback, unless it was told otherwise.
pub(crate) fn authorize(
    tokens: &[AccessToken],
    headers: &HeaderMap,
    needed: Scope,
) -> Result<(), Error> {
    if tokens.is_empty() {
        return Ok(());
    }
    let presented = bearer(headers).ok_or(Error::CallerUnauthenticated)?;
    // Every token is compared, whichever matches: the time tells nothing about which one is near.
    let mut scope = None;
    for token in tokens {
        if bool::from(token.secret.as_bytes().ct_eq(presented)) {
            scope = scope.max(Some(token.scope));
        }
    }
    match scope {
        None => Err(Error::CallerUnauthenticated),
        Some(scope) if scope < needed => Err(Error::CallerForbidden),
        Some(_) => Ok(()),
    }
}

/// What a caller may do at most; `None`: nothing. Fails for nobody, so that a page can ask.
pub(crate) fn allowed(tokens: &[AccessToken], headers: &HeaderMap) -> Option<Scope> {
    let may = |scope: &Scope| authorize(tokens, headers, *scope).is_ok();
    [Scope::Write, Scope::Read].into_iter().find(may)
}

/// Whether the call shows no token at all.
pub(crate) fn is_nobody(headers: &HeaderMap) -> bool {
    !headers.contains_key(AUTHORIZATION)
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn check(header: Option<&str>, needed: Scope) -> Result<(), Kind> {
        let token = |name: &str, scope| AccessToken {
            name: name.to_owned(),
            scope,
            secret: format!("{name}-secret"),
        };
        let tokens = [token("r", Scope::Read), token("w", Scope::Write)];
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        authorize(&tokens, &headers, needed).map_err(|error| error.kind())
    }

    #[test]
    fn a_scope_opens_what_it_says() {
        assert_eq!(check(Some("Bearer r-secret"), Scope::Read), Ok(()));
        assert_eq!(check(Some("bearer w-secret"), Scope::Read), Ok(()));
        assert_eq!(check(Some("Bearer w-secret"), Scope::Write), Ok(()));
        assert_eq!(
            check(Some("Bearer r-secret"), Scope::Write),
            Err(Kind::PermissionDenied)
        );
    }

    #[test]
    fn anything_else_opens_nothing() {
        for header in [
            None,
            Some(""),
            Some("Bearer "),
            Some("Bearer nope"),
            Some("Basic r-secret"),
            Some("r-secret"),
        ] {
            assert_eq!(
                check(header, Scope::Read),
                Err(Kind::Unauthenticated),
                "{header:?}"
            );
        }
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let token = AccessToken {
            name: "ci".to_owned(),
            scope: Scope::Read,
            secret: "hunter2".to_owned(),
        };
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
