//! The secret that opens the Fleet API.

use std::{env, fmt, fs, path::Path};

use http::HeaderValue;

/// A bearer token. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct Token(HeaderValue);

/// Why there is no token. The text names the source and never the secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The environment variable is not set, or empty.
    #[error("{0} is not set: it must hold the Fleet API token")]
    VariableMissing(String),
    /// The token file cannot be read.
    #[error("the token file {path} cannot be read: {source}")]
    FileUnreadable {
        /// The file as it was named.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Empty, or with characters that no HTTP header may carry.
    #[error("the token from {0} is not a token: it must be one line of visible ASCII characters")]
    Malformed(String),
}

impl Token {
    /// A token from a value in hand.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] when it is empty or has spaces, line ends or non-ASCII characters.
    pub fn new(token: &str) -> Result<Self, TokenError> {
        Self::parse(token, "the given value")
    }

    /// A token from an environment variable.
    ///
    /// # Errors
    /// [`TokenError::VariableMissing`] and [`TokenError::Malformed`], naming the variable.
    pub fn from_env(variable: &str) -> Result<Self, TokenError> {
        match env::var(variable) {
            Ok(token) if !token.is_empty() => Self::parse(&token, variable),
            Ok(_) | Err(env::VarError::NotPresent) => {
                Err(TokenError::VariableMissing(variable.to_owned()))
            }
            Err(env::VarError::NotUnicode(_)) => Err(TokenError::Malformed(variable.to_owned())),
        }
    }

    /// A token from a file; white space around it is left out.
    ///
    /// # Errors
    /// [`TokenError::FileUnreadable`] and [`TokenError::Malformed`], naming the file.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| TokenError::FileUnreadable {
            path: name.clone(),
            source,
        })?;
        Self::parse(text.trim(), &name)
    }

    fn parse(token: &str, origin: &str) -> Result<Self, TokenError> {
        let malformed = || TokenError::Malformed(origin.to_owned());
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed());
        }
        let mut header =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| malformed())?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    pub(crate) fn into_header(self) -> HeaderValue {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_may_end_with_a_line_feed() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "s3cret").unwrap();
        let token = Token::from_file(file.path()).unwrap();
        assert_eq!(token.into_header(), "Bearer s3cret");
    }

    #[test]
    fn a_missing_variable_or_file_is_named() {
        let error = Token::from_env("FLEET_CLIENT_NO_SUCH_VARIABLE").unwrap_err();
        assert!(error.to_string().contains("FLEET_CLIENT_NO_SUCH_VARIABLE"));
        let error = Token::from_file(Path::new("/no/such/file")).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"));
    }

    #[test]
    fn no_text_ever_shows_the_secret() {
        assert!(!format!("{:?}", Token::new("s3cret").unwrap()).contains("s3cret"));
        let error = Token::new("s3cret\nother").unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
    }
}
