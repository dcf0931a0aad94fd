//! Makes a client from its settings.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION},
};
use reqwest::Url;

use crate::{
    generated::Client,
    retry::RetryPolicy,
    token::Token,
    transport::{Attempt, Transport},
};

/// Where production answers. Source: `servers[0].url` of the API's own document.
pub const DEFAULT_BASE_URL: &str = "https://fleet.4players.io/api";

/// Idle connections are closed after this: shorter than what usual load balancers keep, so that a call does not
/// meet a connection that was closed under it.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(30);

/// Idle connections kept, at most.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Settings of a [`Client`].
#[derive(Clone)]
pub struct Builder {
    base_url: String,
    token: Option<Token>,
    connect_timeout: Duration,
    request_timeout: Duration,
    user_agent: String,
    retry: RetryPolicy,
    observer: Option<Arc<dyn Fn(Attempt) + Send + Sync>>,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not an absolute http or https address.
    #[error("the base URL {url:?} is not usable: {problem}")]
    BaseUrl {
        /// The address as it was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client cannot start, for example because a header value is not allowed.
    #[error("the HTTP client cannot start")]
    Http(#[from] reqwest::Error),
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            base_url: DEFAULT_BASE_URL.to_owned(),
            token: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(10),
            user_agent: concat!("bifrost-fleet-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: RetryPolicy::default(),
            observer: None,
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("base_url", &self.base_url)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Settings for production: [`DEFAULT_BASE_URL`], 3 s to connect, 10 s a request, the default retries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The address below which the paths start with `/v1`; a slash at its end does not matter.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Sent as `Authorization: Bearer …` with every call.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Time to make a connection.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Time for one attempt, from sending to the last byte of the body.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// The `User-Agent` of every call.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// When failed calls are tried again.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Called after each attempt of each call, on the task that makes it: it must be quick.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(Attempt) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Makes the client. It opens no connection before its first call.
    ///
    /// # Errors
    /// [`BuildError::BaseUrl`] for an address that is not absolute http(s); [`BuildError::Http`] when the TLS
    /// roots cannot be loaded or the user agent is not a header value.
    pub fn build(self) -> Result<Client, BuildError> {
        let base_url = checked_url(&self.base_url)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = self.token {
            headers.insert(AUTHORIZATION, token.into_header());
        }
        let mut client = reqwest::Client::builder();
        if is_loopback(&base_url) {
            // A proxy of the environment cannot reach a simulator on this machine.
            client = client.no_proxy();
        }
        let client = client
            .default_headers(headers)
            .user_agent(self.user_agent)
            .connect_timeout(self.connect_timeout)
            .timeout(self.request_timeout)
            .pool_idle_timeout(IDLE_CONNECTION_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_nodelay(true)
            // A redirect would carry the token to an address that nobody chose.
            .redirect(reqwest::redirect::Policy::none())
            // Tried again here, with a limit; a second layer of retries would multiply it.
            .retry(reqwest::retry::never())
            .build()?;
        let transport = Transport {
            retry: self.retry,
            deadline: None,
            observer: self.observer,
        };
        Ok(Client::new_with_client(&base_url, client, transport))
    }
}

fn checked_url(text: &str) -> Result<String, BuildError> {
    let refuse = |problem: &str| BuildError::BaseUrl {
        url: text.to_owned(),
        problem: problem.to_owned(),
    };
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it must start with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it must end with the path"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{checked_url, is_loopback};

    #[test]
    fn only_this_machine_is_reached_without_a_proxy() {
        for url in [
            "http://127.0.0.1:8085/api",
            "http://[::1]:8085",
            "http://localhost/api",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://fleet.4players.io/api",
            "http://10.0.0.1",
            "http://localhost.example.com",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn only_plain_http_addresses_are_taken() {
        assert_eq!(
            checked_url("http://[::1]:8085/api/").unwrap(),
            "http://[::1]:8085/api"
        );
        for text in [
            "",
            "fleet.4players.io",
            "ftp://x/",
            "https://x/?a=b",
            "https://x/#a",
        ] {
            assert!(checked_url(text).is_err(), "{text}");
        }
    }
}
