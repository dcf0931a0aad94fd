//! The service on ODIN Fleet that this server is: found at the start, and told how the server does. The only file that
//! names types of the Fleet API.
//!
//! Without the Fleet a server does not start, because it does not know how it is reached. Once it runs, a Fleet that is
//! away is counted and logged, and nothing else.

mod place;
mod reports;

use std::{
    net::IpAddr,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use fleet_client::{BuildError, Builder, Client, Error, Protocol, RetryPolicy, types};
use futures::TryStreamExt as _;
use nix::ifaddrs::getifaddrs;
use serde_json::{Map, Value};

use crate::config;
pub use place::Place;
use place::{Found, Port, Service, Transport, Wanted};
pub(crate) use reports::{Reports, Status};

/// One attempt of one call: a Fleet that hangs is asked again.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// All pages of a list together. The last look may take longer than `start_timeout` by this: what is cut off says nothing.
const LIST_TIME_MAX: Duration = Duration::from_secs(30);

/// Most services of an app among which the own one is looked for.
const SERVICES_MAX: usize = 10_000;

/// Services on a page: the most that the API allows.
const PER_PAGE: NonZeroU64 = NonZeroU64::new(100).expect("100 is not 0");

/// Calls are tried again here, at a pace that knows what they are for.
const ONCE: RetryPolicy = RetryPolicy {
    attempts_max: 1,
    delay_first: Duration::ZERO,
    delay_max: Duration::ZERO,
};

/// First pause between two looks for the service; it doubles ...
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why a server does not know which service on the Fleet it is.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The address of the API is of no use, or TLS cannot be set up.
    #[error("calls of the Fleet cannot be prepared")]
    Client(#[from] BuildError),
    /// The Fleet will not change its mind.
    #[error("the Fleet does not tell of {looked_for}")]
    Call {
        /// The service, or all of the app.
        looked_for: String,
        /// What the Fleet says.
        #[source]
        source: Error,
    },
    /// More than one service could be this server.
    #[error(
        "services {ids:?} could all be this server, looked for by {wanted}: set fleet.service_id or ODIN_SERVICE_ID"
    )]
    Ambiguous {
        /// Their ids.
        ids: Vec<i64>,
        /// What was looked for.
        wanted: String,
    },
    /// Too many services to look through.
    #[error(
        "the app has more than {SERVICES_MAX} services: set fleet.service_id or ODIN_SERVICE_ID"
    )]
    TooMany,
    /// The node's address is not what the API's documents say.
    #[error("the node of service {service} has the address {address:?}, which is no IP address")]
    NodeAddress {
        /// The service's id.
        service: i64,
        /// As the Fleet has it.
        address: String,
    },
    /// The Fleet did not answer, or did not know the service or its ports.
    #[error("not found on the Fleet within {} s: {problem}", .waited.as_secs_f32())]
    NotFound {
        /// As long as the settings allow.
        waited: Duration,
        /// What was missing at last.
        problem: String,
    },
    /// Settings that did not go through [`settle`](crate::settle).
    #[error("the Fleet was not asked yet how this server is reached")]
    NotSettled,
}

/// The way to the Fleet.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    client: Client,
    config: config::Fleet,
}

impl Fleet {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// [`FleetError::Client`].
    pub(crate) fn new(config: config::Fleet) -> Result<Self, FleetError> {
        let client = Builder::new()
            .base_url(&config.api_url)
            .token(config.token.clone())
            .user_agent(concat!("bifrost-sfu/", env!("CARGO_PKG_VERSION")))
            .request_timeout(REQUEST_TIME_MAX)
            .retry(ONCE)
            .build()?;
        Ok(Self { client, config })
    }

    /// The service that this server is, which listens on these ports, and how clients reach it. Looks again until the
    /// service is there and its ports are published.
    ///
    /// # Errors
    /// [`FleetError`] when another look would end alike, or when the time for it is over.
    pub(crate) async fn find(&self, http: u16, webrtc: u16) -> Result<Place, FleetError> {
        let config = &self.config;
        let wanted = Wanted {
            app_id: config.app_id,
            service_id: config.service_id,
            addresses: config.address.map_or_else(own_addresses, |it| vec![it]),
            http: (Transport::Tcp, &config.http_port_name, http),
            webrtc: (Transport::Udp, &config.webrtc_port_name, webrtc),
        };
        let end = Instant::now() + config.start_timeout;
        let mut told = String::new();
        let mut tries = 0;
        loop {
            let problem = match self.services().await {
                Ok(services) => match place::find(&services, &wanted)? {
                    Found::Here { place, notes } => {
                        for note in notes {
                            tracing::warn!("{note}");
                        }
                        return Ok(place);
                    }
                    Found::NotYet(problem) => problem,
                },
                Err(FleetError::Call { source, .. }) if !source.is_final() => source.to_string(),
                Err(error) => return Err(error),
            };
            let pause = pause(tries, fastrand::f64());
            if Instant::now() + pause >= end {
                let waited = config.start_timeout;
                return Err(FleetError::NotFound { waited, problem });
            }
            if problem != told {
                tracing::warn!("looking again on the Fleet: {problem}");
                told = problem;
            }
            tokio::time::sleep(pause).await;
            tries += 1;
        }
    }

    /// The one service of the settings, or all of the app.
    async fn services(&self) -> Result<Vec<Service>, FleetError> {
        let app_id = self.config.app_id;
        let client = self.client.with_deadline(Instant::now() + LIST_TIME_MAX);
        let refused = |source| FleetError::Call {
            looked_for: match self.config.service_id {
                Some(id) => format!("service {id} of app {app_id}"),
                None => format!("the services of app {app_id}"),
            },
            source,
        };
        if let Some(id) = self.config.service_id {
            let call = client.get_server_by_id().app(app_id).docker_service(id);
            let answer = call.send().await.map_err(Error::from).map_err(refused)?;
            return Ok(vec![answer.into_inner().into()]);
        }
        let fetch = async |page| {
            let call = client.get_servers().app(app_id).page(page);
            let call = call
                .per_page(PER_PAGE)
                .sort(vec![types::GetServersSortItem::Id]);
            let answer = call.send().await;
            answer.map(|it| it.into_inner()).map_err(Error::from)
        };
        let mut services = Vec::new();
        let mut walk = std::pin::pin!(fleet_client::walk(fetch));
        while let Some(server) = walk.try_next().await.map_err(refused)? {
            if services.len() >= SERVICES_MAX {
                return Err(FleetError::TooMany);
            }
            services.push(server.into());
        }
        Ok(services)
    }

    /// Merges keys into the metadata of a service.
    async fn merge(
        &self,
        service_id: i64,
        metadata: Map<String, Value>,
        time_max: Duration,
    ) -> Result<(), Error> {
        let body = types::PatchMetadataRequest {
            metadata: Some(metadata.into()),
        };
        let client = self.client.with_deadline(Instant::now() + time_max);
        let call = client.docker_services_metadata_update();
        call.docker_service(service_id).body(body).send().await?;
        Ok(())
    }
}

/// Between two looks. `random` (0 to 1) keeps servers that start together from calling together.
fn pause(tries: u32, random: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(tries));
    doubled.min(PAUSE_MAX).mul_f64(0.5 + random / 2.0)
}

/// The addresses of this machine. A container seldom has its node's: then the settings must name it.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = getifaddrs().inspect_err(|error| {
        tracing::warn!("the addresses of this machine are not known: {error}");
    });
    let mut addresses: Vec<IpAddr> = interfaces
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|it| it.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

impl From<types::Server> for Service {
    fn from(server: types::Server) -> Self {
        let port = |port: types::Port| {
            let number = |number: i64| u16::try_from(number).ok().filter(|it| *it != 0);
            Some(Port {
                transport: match port.protocol {
                    Protocol::Tcp => Transport::Tcp,
                    Protocol::Udp => Transport::Udp,
                    Protocol::Unknown(_) => return None,
                },
                name: port.name,
                target: number(port.target_port)?,
                published: port.published_port.and_then(number),
            })
        };
        Self {
            id: server.id,
            is_gone: server.is_stopped || server.is_not_found,
            address: server.node.map(|node| node.address),
            ports: server.ports.into_iter().filter_map(port).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
