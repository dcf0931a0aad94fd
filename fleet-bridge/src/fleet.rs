//! Calls of the Fleet API. The only file that names its generated types.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use fleet_client::{
    Attempt, BuildError, Builder, Client, Metadata, ServiceAutoscalingStatus, types,
};
use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    config::Config, error::Error, index::Known, metrics::Metrics, model::Server, query::ListQuery,
};

/// One page of servers.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) servers: Vec<Server>,
    /// No page follows.
    pub(crate) is_last: bool,
    /// Servers on all pages, as the Fleet counted them for this one.
    pub(crate) total: i64,
}

/// The app of one studio in the Fleet. Copies share what answers have shown.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    client: Client,
    app_id: i64,
    known: Arc<Mutex<Known>>,
}

impl Fleet {
    pub(crate) fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self, BuildError> {
        let client = Builder::new()
            .base_url(&config.api_url)
            .token(config.api_token.clone())
            .user_agent(concat!("bifrost-fleet-bridge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .request_timeout(config.request_timeout)
            .retry(config.retry)
            .observer(move |attempt: Attempt| metrics.attempt(attempt))
            .build()?;
        Ok(Self {
            client,
            app_id: config.app_id,
            known: Arc::default(),
        })
    }

    /// One page, ordered by id so that a walk over pages is stable.
    pub(crate) async fn page(&self, query: &ListQuery, deadline: Instant) -> Result<Page, Error> {
        let client = self.client.with_deadline(deadline);
        let mut call = client.get_servers().app(self.app_id);
        call = call.sort(vec![types::GetServersSortItem::Id]);
        if let Some(page) = query.position.page {
            call = call.page(i64::from(page));
        }
        if let Some(per_page) = query
            .position
            .per_page
            .map(u64::from)
            .and_then(NonZeroU64::new)
        {
            call = call.per_page(per_page);
        }
        let filter = &query.filter;
        if let Some(status) = &filter.status {
            call = call.filter_status(status);
        }
        if let Some(city) = &filter.city {
            call = call.filter_location_city(city);
        }
        if let Some(country) = &filter.country {
            call = call.filter_location_country(country);
        }
        if let Some(continent) = &filter.continent {
            call = call.filter_location_continent(continent);
        }
        if let Some(metadata) = &filter.metadata {
            call = call.filter_metadata(metadata.as_str());
        }
        let answer = call.send().await.map_err(fleet_client::Error::from)?;
        let page = answer.into_inner();
        let is_last = page.links.next.is_none() || page.meta.current_page >= page.meta.last_page;
        Ok(Page {
            total: page.meta.total,
            servers: page.data.into_iter().map(Server::from).collect(),
            is_last,
        })
    }

    /// One server, as it is now.
    pub(crate) async fn server(&self, id: i64, deadline: Instant) -> Result<Server, Error> {
        let client = self.client.with_deadline(deadline);
        let asked = Instant::now();
        let call = client.get_server_by_id();
        let answer = call.app(self.app_id).docker_service(id).send().await;
        let answer = answer.map_err(fleet_client::Error::from)?;
        Ok(self.learned(asked, answer.into_inner()))
    }

    /// Merges keys into the metadata of a server. Fleet knows services without their app here.
    pub(crate) async fn update(
        &self,
        id: i64,
        metadata: Map<String, Value>,
        deadline: Instant,
    ) -> Result<Server, Error> {
        let client = self.client.with_deadline(deadline);
        let body = types::PatchMetadataRequest {
            metadata: Some(Metadata(metadata)),
        };
        let asked = Instant::now();
        let call = client.docker_services_metadata_update();
        let answer = call.docker_service(id).body(body).send().await;
        let answer = answer.map_err(fleet_client::Error::from)?;
        Ok(self.learned(asked, answer.into_inner()))
    }

    fn learned(&self, asked: Instant, server: types::Server) -> Server {
        let server = server.into();
        self.known().learn(asked, &server);
        server
    }

    /// What answers have shown of the servers, for the index.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the Fleet allocate a server of a location setting with autoscaling; `None` when it has none that is ready.
    pub(crate) async fn allocate(
        &self,
        setting: i64,
        metadata: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Server>, Error> {
        let client = self.client.with_deadline(deadline);
        let metadata = metadata.map(str::to_owned);
        let filter = types::AllocateRequestFilter { metadata };
        let body = types::AllocateRequest {
            filter: Some(filter),
        };
        let asked = Instant::now();
        let call = client.app_location_settings_autoscaling_allocate();
        let answer = call.app_location_setting(setting).body(body).send().await;
        match answer.map_err(fleet_client::Error::from) {
            Ok(answer) => Ok(Some(self.learned(asked, answer.into_inner()))),
            Err(fleet_client::Error::Refused(refusal))
                if refusal.status == StatusCode::CONFLICT =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the Fleet that a server can be allocated again.
    pub(crate) async fn ready(&self, id: i64, deadline: Instant) -> Result<(), Error> {
        let client = self.client.with_deadline(deadline);
        let call = client.docker_services_autoscaling_ready();
        let answer = call.docker_service(id).send().await;
        answer.map_err(fleet_client::Error::from)?;
        Ok(())
    }

    /// Name and number of instances of a location setting.
    pub(crate) async fn instances_of(
        &self,
        setting: i64,
        deadline: Instant,
    ) -> Result<(String, u64), Error> {
        let client = self.client.with_deadline(deadline);
        let call = client.get_app_location_setting_by_id();
        let answer = call.app_location_setting(setting).send().await;
        let setting = answer.map_err(fleet_client::Error::from)?.into_inner();
        let count = u64::try_from(setting.num_instances).unwrap_or(0);
        Ok((setting.name, count))
    }

    /// Asks for so many instances of a location setting.
    pub(crate) async fn scale(
        &self,
        setting: i64,
        name: &str,
        instances: NonZeroU64,
        deadline: Instant,
    ) -> Result<(), Error> {
        let client = self.client.with_deadline(deadline);
        let name = name.parse().map_err(|_| Error::Internal)?;
        let body = types::UpdateAppLocationSettingRequest {
            name,
            num_instances: instances,
        };
        let call = client.update_app_location_setting();
        let answer = call.app_location_setting(setting).body(body).send().await;
        answer.map_err(fleet_client::Error::from)?;
        Ok(())
    }

    /// Stops a server.
    pub(crate) async fn stop(&self, id: i64, deadline: Instant) -> Result<(), Error> {
        let client = self.client.with_deadline(deadline);
        let answer = client.stop_server().docker_service(id).send().await;
        answer.map_err(fleet_client::Error::from)?;
        Ok(())
    }

    /// Whether the Fleet can be reached and takes the token for this app.
    pub(crate) async fn check(&self, deadline: Instant) -> Result<(), Error> {
        let client = self.client.with_deadline(deadline);
        let answer = client.get_app_by_id().app(self.app_id).send().await;
        answer.map_err(fleet_client::Error::from)?;
        Ok(())
    }
}

impl From<types::Server> for Server {
    fn from(server: types::Server) -> Self {
        let published = |port: &types::Port| Some((port.name.clone(), port.published_port?));
        let target = |port: types::Port| (port.name, port.target_port);
        let autoscaling = server.autoscaling.as_ref();
        let allocated =
            autoscaling.filter(|it| it.status == Some(ServiceAutoscalingStatus::Allocated));
        Self {
            id: server.id,
            name: server.name,
            setting_id: server.app_location_setting_id,
            status: server.status,
            is_healthy: server.is_healthy,
            is_pending: server.is_pending,
            is_not_found: server.is_not_found,
            is_stopped: server.is_stopped,
            maintenance: server.maintenance,
            city: server.location.city,
            city_display: server.location.city_display,
            country: server.location.country,
            continent: server.location.continent,
            created_at: server.created_at,
            updated_at: server.updated_at,
            address: server.node.map(|node| node.address),
            ports: server.ports.iter().filter_map(published).collect(),
            allocated_at: allocated.and_then(|it| it.last_allocated_at),
            target_ports: server.ports.into_iter().map(target).collect(),
            metadata: server.metadata.0,
        }
    }
}
