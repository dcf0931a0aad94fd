//! The simulated fleet. It has no clock, no IO and no lock: whoever drives it passes the time to
//! [`State::advance`] before each call, and the seed decides what is random.

pub(crate) mod access;
pub(crate) mod autoscaling;
pub(crate) mod backup;
pub(crate) mod catalog;
pub(crate) mod collection;
pub(crate) mod placement;
mod seed;
pub(crate) mod service;
pub(crate) mod setting;

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use self::access::Access;
use self::backup::Download;
use self::catalog::{App, Binary, DockerRegistry, Location, ResourcePackage, ServerConfig};
use self::collection::{Collection, Id};
use self::placement::Node;
use self::service::{AfterStop, Phase, Service};
use self::setting::Setting;
use crate::refusal::Refusal;
use crate::world::{Condition, Delays, PublishedPorts, SteamApp};

/// Everything that exists, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) now: DateTime<Utc>,
    /// Before this moment nothing changes by itself.
    due: DateTime<Utc>,
    random: fastrand::Rng,
    pub(crate) delays: Delays,
    published_ports: PublishedPorts,
    pub(crate) access: Access,
    pub(crate) locations: Vec<Location>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) packages: Collection<ResourcePackage>,
    pub(crate) registries: Collection<DockerRegistry>,
    pub(crate) steam_apps: Vec<SteamApp>,
    pub(crate) apps: Collection<App>,
    pub(crate) binaries: Collection<Binary>,
    pub(crate) configs: Collection<ServerConfig>,
    pub(crate) settings: Collection<Setting>,
    pub(crate) services: Collection<Service>,
    pub(crate) downloads: VecDeque<Download>,
    archives: u64,
    /// What the world file wants new services of a setting to start with.
    initial_metadata: BTreeMap<Id, Map<String, Value>>,
}

impl State {
    /// Brings everything up to `now`. Time does not go back: an earlier `now` changes nothing.
    pub(crate) fn advance(&mut self, now: DateTime<Utc>) {
        let now = now.max(self.now);
        while self.due <= now {
            match self.earliest_change() {
                Some(due) if due <= now => {
                    self.now = due.max(self.now);
                    self.step();
                }
                Some(due) => self.due = due,
                None => self.due = DateTime::<Utc>::MAX_UTC,
            }
        }
        self.now = now;
    }

    /// To be called after a change from outside: something may be due earlier than before.
    pub(crate) fn changed(&mut self) {
        self.due = DateTime::<Utc>::MIN_UTC;
    }

    fn earliest_change(&self) -> Option<DateTime<Utc>> {
        let services = self.services.iter().filter_map(Service::next_change);
        let settings = self.settings.iter().filter_map(|setting| setting.scaling);
        services
            .chain(settings.map(|scaling| scaling.next_step))
            .min()
    }

    /// Does everything that is due at `self.now`. All delays are at least a millisecond, so
    /// nothing that happens here is due again at the same moment.
    fn step(&mut self) {
        let (now, delays) = (self.now, self.delays);
        let mut to_place = Vec::new();
        let mut jobs_done = Vec::new();
        for service in self.services.iter_mut() {
            if service.job.as_ref().is_some_and(|job| job.until <= now) {
                jobs_done.push(service.id);
            }
            match service.phase {
                Phase::Pending { until } if until <= now => to_place.push(service.id),
                _ => service.step(now, &delays),
            }
        }
        for id in jobs_done {
            self.finish_job(id);
        }
        self.services.retain(|service| service.phase != Phase::Gone);
        for id in to_place {
            self.place(id);
        }
        let scaling: Vec<Id> = self
            .settings
            .iter()
            .filter(|setting| {
                setting
                    .scaling
                    .is_some_and(|scaling| scaling.next_step <= now)
            })
            .map(|setting| setting.id)
            .collect();
        for id in scaling {
            self.scale_step(id);
        }
    }

    /// Starts every service that `which` approves of.
    pub(crate) fn start_services(&mut self, which: impl Fn(&Service) -> bool) {
        let (now, delays) = (self.now, self.delays);
        for service in self.services.iter_mut().filter(|service| which(service)) {
            service.start(now, &delays);
        }
    }

    /// Stops every service that `which` approves of.
    pub(crate) fn stop_services(&mut self, which: impl Fn(&Service) -> bool, then: AfterStop) {
        let (now, delays) = (self.now, self.delays);
        for service in self.services.iter_mut().filter(|service| which(service)) {
            service.stop(now, &delays, then);
        }
    }

    /// Restarts the services of a changed config, with the ports it has now.
    pub(crate) fn redeploy(&mut self, config: Id) {
        let ports = self.unpublished_ports(config);
        for service in self
            .services
            .iter_mut()
            .filter(|service| service.config_id == config)
        {
            let mut ports = ports.clone();
            for port in &mut ports {
                let old = service.ports.iter().find(|old| {
                    old.name == port.name
                        && old.target == port.target
                        && old.protocol == port.protocol
                });
                port.published = old.and_then(|old| old.published);
            }
            service.ports = ports;
        }
        let of_config = |service: &Service| service.config_id == config && !service.is_stopped();
        self.stop_services(of_config, AfterStop::StartAgain);
    }

    /// Removes a setting and its services at once.
    pub(crate) fn remove_setting(&mut self, id: Id) -> Result<(), Refusal> {
        self.settings.remove(id)?;
        self.services.retain(|service| service.setting_id != id);
        self.initial_metadata.remove(&id);
        Ok(())
    }

    /// Puts a service into a condition, as something outside the API would.
    pub(crate) fn set_condition(&mut self, id: Id, condition: Condition) -> Result<(), Refusal> {
        let (now, delays) = (self.now, self.delays);
        let service = self.services.find_mut(id)?;
        let was_overloaded = service.condition == Condition::Overload;
        service.condition = match condition {
            Condition::Stopped => Condition::Healthy,
            other => other,
        };
        service.updated_at = now;
        match condition {
            Condition::Overload => {
                service.node = None;
                for port in &mut service.ports {
                    port.published = None;
                }
                service.phase = Phase::Pending { until: now };
            }
            Condition::Stopped => service.stop(now, &delays, AfterStop::Stay),
            _ if was_overloaded && service.is_pending() => {
                service.phase = Phase::Pending {
                    until: now + service::span(delays.pending_ms),
                };
            }
            Condition::Healthy | Condition::Unhealthy | Condition::NotFound => {}
        }
        Ok(())
    }

    fn random_hex(&mut self) -> String {
        format!("{:032x}{:032x}", self.random.u128(..), self.random.u128(..))
    }
}
