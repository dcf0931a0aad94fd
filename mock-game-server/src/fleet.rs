//! Writes the metadata of this instance. The only file that names types of the Fleet API.

use std::time::{Duration, Instant};

use fleet_client::{BuildError, Builder, Client, Error, RetryPolicy, types::PatchMetadataRequest};

use crate::{config::Config, lifecycle::Metadata};

/// How an update is tried again before its caller hears of a failure. This rides out a restart of the API, and not
/// more: the matchmaker that waits has other servers to choose from.
const RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 6,
    delay_first: Duration::from_millis(100),
    delay_max: Duration::from_secs(2),
};

/// One attempt. Shorter than what an update has in all, so that a request that hangs is not the only one.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(3);

/// The instance in the Fleet that is this server.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    client: Client,
    service_id: i64,
}

impl Instance {
    pub(crate) fn new(config: &Config) -> Result<Self, BuildError> {
        let client = Builder::new()
            .base_url(&config.api_url)
            .token(config.token.clone())
            .user_agent(concat!(
                "bifrost-mock-game-server/",
                env!("CARGO_PKG_VERSION")
            ))
            .request_timeout(REQUEST_TIME_MAX)
            .retry(RETRY)
            .build()?;
        Ok(Self {
            client,
            service_id: config.service_id,
        })
    }

    /// Merges `update` into the metadata, with retries, in no more than `time_max`.
    pub(crate) async fn merge(&self, update: Metadata, time_max: Duration) -> Result<(), Error> {
        let body = PatchMetadataRequest {
            metadata: Some(update.into()),
        };
        self.client
            .with_deadline(Instant::now() + time_max)
            .docker_services_metadata_update()
            .docker_service(self.service_id)
            .body(body)
            .send()
            .await?;
        Ok(())
    }
}
