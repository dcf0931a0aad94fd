//! Writes the metadata of this instance. The only file that names the Fleet API's types.

use std::time::{Duration, Instant};

use fleet_client::{BuildError, Builder, Client, Error, Metadata, RetryPolicy, types};
use serde_json::{Map, Value};

use crate::config::Config;

/// Tries harder than a request handler would: a game server that is not found is lost.
const RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 6,
    delay_first: Duration::from_millis(100),
    delay_max: Duration::from_secs(2),
};

/// One update, its retries included: a matchmaker waits for the answer.
const UPDATE_MAX: Duration = Duration::from_secs(8);

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
            .request_timeout(Duration::from_secs(3))
            .retry(RETRY)
            .build()?;
        Ok(Self {
            client,
            service_id: config.service_id,
        })
    }

    /// Merges these keys into the metadata.
    pub(crate) async fn update(&self, metadata: Map<String, Value>) -> Result<(), Error> {
        let client = self.client.with_deadline(Instant::now() + UPDATE_MAX);
        let body = types::PatchMetadataRequest {
            metadata: Some(Metadata(metadata)),
        };
        let call = client.docker_services_metadata_update();
        call.docker_service(self.service_id)
            .body(body)
            .send()
            .await?;
        Ok(())
    }
}
