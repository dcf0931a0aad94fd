//! The way in: through a gateway, or straight to a voice server; and where the tokens for it come from.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc};

/// Whatever went wrong where tokens are made.
pub type TokenError = Box<dyn Error + Send + Sync>;

type Fetched = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

/// Where room tokens come from. It is asked at the first connect, and again when the token it gave is refused: tokens end,
/// usually within minutes.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> Fetched + Send + Sync>);

/// Where a client connects to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Entry {
    /// A gateway names the voice server, at the first connect and at each return.
    Gateway {
        /// Its whole URL, for example `https://gateway.example.com/`.
        url: String,
        /// Tokens that the gateway takes.
        tokens: TokenSource,
    },
    /// A voice server that takes its customers' tokens itself.
    Server {
        /// `host:port`; for [`Transport::WebTransport`](crate::Transport::WebTransport) the UDP port of QUIC, for
        /// [`Transport::WebSocket`](crate::Transport::WebSocket) the TCP port of HTTPS.
        address: String,
        /// Tokens of audience `sfu`.
        tokens: TokenSource,
    },
}

impl Entry {
    /// Through a gateway.
    pub fn gateway(url: impl Into<String>, tokens: TokenSource) -> Self {
        Self::Gateway {
            url: url.into(),
            tokens,
        }
    }

    /// Straight to a voice server.
    pub fn server(address: impl Into<String>, tokens: TokenSource) -> Self {
        Self::Server {
            address: address.into(),
            tokens,
        }
    }

    pub(crate) fn tokens(&self) -> &TokenSource {
        match self {
            Self::Gateway { tokens, .. } | Self::Server { tokens, .. } => tokens,
        }
    }
}

impl TokenSource {
    /// One token. A client with it cannot come back once it has ended.
    pub fn fixed(token: impl Into<String>) -> Self {
        let token = token.into();
        Self::from_fn(move || {
            let token = token.clone();
            async move { Ok(token) }
        })
    }

    /// Calls this for each token, for example to ask the game's back end.
    pub fn from_fn<F, T>(fetch: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(fetch())))
    }

    pub(crate) async fn fetch(&self) -> Result<String, TokenError> {
        (self.0)().await
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}
