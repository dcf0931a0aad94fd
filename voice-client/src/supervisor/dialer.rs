//! The way in, from a token to a connection with voice.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::time::timeout;

use super::gateway::{Admission, Gateway};
use crate::{
    config::{Config, Transport},
    entry::Entry,
    error::ConnectError,
    link::{Endpoint, Link, MainError},
    shared::Shared,
    wire::rpc::Params,
};

/// The whole way in. Its steps have limits of their own, but there are many.
const DIAL_TIME_MAX: Duration = Duration::from_secs(20);

/// Longest wait for a token of the application.
const TOKEN_TIME_MAX: Duration = Duration::from_secs(10);

/// See the module. Remembers what worked.
pub(crate) struct Dialer {
    entry: Entry,
    transport: Transport,
    tls: Arc<ClientConfig>,
    gateway: Gateway,
    endpoint: Endpoint,
    /// The token that was taken last.
    token: Option<String>,
    /// What the gateway said last.
    admission: Option<Admission>,
    /// A voice server, and where it takes QUIC.
    quic: Option<(String, String)>,
}

impl Dialer {
    pub(crate) fn new(entry: Entry, config: &Config) -> Result<Self, ConnectError> {
        let tls = config.trust.tls()?;
        let endpoint = Endpoint::new(tls.clone())?;
        let tls = Arc::new(tls);
        Ok(Self {
            entry,
            transport: config.transport,
            gateway: Gateway::new(&tls)?,
            tls,
            endpoint,
            token: None,
            admission: None,
            quic: None,
        })
    }

    /// Whether another voice server can be named.
    pub(super) fn has_gateway(&self) -> bool {
        matches!(self.entry, Entry::Gateway { .. })
    }

    pub(super) fn rebind(&self) -> std::io::Result<()> {
        self.endpoint.rebind()
    }

    /// Connects, shows the token, and makes voice flow.
    pub(crate) async fn dial(&mut self, shared: &Arc<Shared>) -> Result<Link, ConnectError> {
        let dialled = timeout(DIAL_TIME_MAX, self.take_steps(shared)).await;
        dialled.unwrap_or(Err(ConnectError::TimedOut("the way to the voice server")))
    }

    async fn take_steps(&mut self, shared: &Arc<Shared>) -> Result<Link, ConnectError> {
        let admission = self.admission().await?;
        let mut link = self.link(&admission.address).await?;
        match authenticate(&mut link, &admission.token).await {
            Ok(()) => {}
            Err(MainError::Refused(_)) if !self.has_gateway() => {
                self.token = None;
                let token = self.token().await?;
                authenticate(&mut link, &token)
                    .await
                    .map_err(MainError::into_connect_error)?;
            }
            Err(error) => {
                // The next is a new one.
                self.admission = None;
                return Err(error.into_connect_error());
            }
        }
        link.carry_voice(shared).await?;
        shared.set_server(&admission.address);
        Ok(link)
    }

    async fn link(&mut self, address: &str) -> Result<Link, ConnectError> {
        match self.transport {
            Transport::WebSocket => Link::web_socket(&self.tls, address).await,
            Transport::WebTransport => {
                let address = self.quic_address(address).await;
                Link::web_transport(&mut self.endpoint, &address).await
            }
        }
    }

    /// A gateway names the address of web clients; that of QUIC is asked for there, or else the same.
    async fn quic_address(&mut self, address: &str) -> String {
        if !self.has_gateway() {
            return address.to_owned();
        }
        if let Some((_, quic)) = self.quic.as_ref().filter(|(known, _)| known == address) {
            return quic.clone();
        }
        let Some(quic) = self.gateway.quic_address(address).await else {
            return address.to_owned();
        };
        self.quic = Some((address.to_owned(), quic.clone()));
        quic
    }

    /// Where to go, and what to show there.
    async fn admission(&mut self) -> Result<Admission, ConnectError> {
        let url = match &self.entry {
            Entry::Gateway { url, .. } => url.clone(),
            Entry::Server { address, .. } => {
                let address = address.clone();
                let token = self.token().await?;
                return Ok(Admission { address, token });
            }
        };
        let is_old = self.token.is_some();
        let token = self.token().await?;
        let asked = match self.gateway.connect(&url, &token).await {
            Err(ConnectError::GatewayRefused(_)) if is_old => {
                self.token = None;
                let token = self.token().await?;
                self.gateway.connect(&url, &token).await
            }
            asked => asked,
        };
        match (asked, &self.admission) {
            (Ok(admission), _) => {
                self.admission = Some(admission.clone());
                Ok(admission)
            }
            // A gateway that is away need not keep a client from the server it was on.
            (Err(ConnectError::Gateway(_)), Some(last)) => Ok(last.clone()),
            (Err(error), _) => {
                if matches!(error, ConnectError::GatewayRefused(_)) {
                    self.token = None;
                }
                Err(error)
            }
        }
    }

    /// The token that was taken last, or a new one.
    async fn token(&mut self) -> Result<String, ConnectError> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let fetched = timeout(TOKEN_TIME_MAX, self.entry.tokens().fetch()).await;
        let fetched = fetched.map_err(|_| ConnectError::TimedOut("making a token"))?;
        let token = fetched.map_err(ConnectError::Token)?;
        self.token = Some(token.clone());
        Ok(token)
    }
}

async fn authenticate(link: &mut Link, token: &str) -> Result<(), MainError> {
    let params = Params::default().text("token", token);
    link.call("Authenticate", params).await.map(drop)
}
