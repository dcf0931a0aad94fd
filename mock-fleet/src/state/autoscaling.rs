//! Allocation of the instances of an autoscaled location setting (0.9.5). Taking one is a single
//! step under the state's lock, so two callers never get the same instance.

use chrono::{DateTime, TimeDelta, Utc};

use super::State;
use super::collection::Id;
use super::service::{AfterStop, Phase, Service};
use crate::filter::MetadataFilter;
use crate::refusal::Refusal;
use crate::world::Heartbeat;

/// What is known about the allocation of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allocation {
    pub(crate) step: Step,
    pub(crate) last_ready_at: Option<DateTime<Utc>>,
    pub(crate) last_allocated_at: Option<DateTime<Utc>>,
    pub(crate) last_health_at: Option<DateTime<Utc>>,
}

/// Where an instance is between its start and its replacement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    #[default]
    Preparing,
    Ready,
    Allocated,
    Shutdown,
}

/// What an instance says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Ready,
    Allocate,
    Health,
    Shutdown,
}

/// The service has no autoscaling.
const NOT_ENABLED: &str = "Autoscaling is not enabled for this service.";
/// Nothing is ready, or nothing that is ready matches.
const NONE_ALLOCATABLE: &str = "Could not find an allocatable instance.";
/// The instance has asked to be replaced.
const SHUTTING_DOWN: &str = "The service is shutting down.";

impl Service {
    /// The allocation's status word.
    pub(crate) fn allocation_word(
        &self,
        heartbeat: Option<Heartbeat>,
        now: DateTime<Utc>,
    ) -> &'static str {
        match self.allocation.step {
            Step::Shutdown => "shutdown",
            _ if self.misses_heartbeats(heartbeat, now) => "unhealthy",
            Step::Preparing => "preparing",
            Step::Ready => "ready",
            Step::Allocated => "allocated",
        }
    }

    fn misses_heartbeats(&self, heartbeat: Option<Heartbeat>, now: DateTime<Utc>) -> bool {
        let Some(heartbeat) = heartbeat.filter(|_| self.phase == Phase::Running) else {
            return false;
        };
        let seconds = |count: u32| TimeDelta::seconds(i64::from(count));
        let patience = seconds(heartbeat.period_seconds)
            * i32::try_from(heartbeat.failure_threshold.max(1)).unwrap_or(i32::MAX);
        let last = self
            .allocation
            .last_health_at
            .unwrap_or(self.updated_at + seconds(heartbeat.initial_delay_seconds));
        now > last + patience
    }
}

impl State {
    /// Takes the ready instance with the lowest id that matches the filter.
    pub(crate) fn allocate(
        &mut self,
        setting: Id,
        filter: Option<&MetadataFilter>,
        arrays: bool,
    ) -> Result<Id, Refusal> {
        let now = self.now;
        let autoscaling = self.settings.find(setting)?.autoscaling.clone();
        let autoscaling = autoscaling.ok_or(Refusal::Conflict(NONE_ALLOCATABLE))?;
        let service = self
            .services
            .iter_mut()
            .filter(|service| service.setting_id == setting && service.is_healthy())
            .filter(|service| service.allocation_word(autoscaling.health, now) == "ready")
            .find(|service| filter.is_none_or(|f| f.matches(&service.metadata, arrays)))
            .ok_or(Refusal::Conflict(NONE_ALLOCATABLE))?;
        service.allocation.step = Step::Allocated;
        service.allocation.last_allocated_at = Some(now);
        service.updated_at = now;
        let id = service.id;
        self.rescale(setting);
        Ok(id)
    }

    /// An instance says something about itself.
    pub(crate) fn signal(&mut self, service: Id, signal: Signal) -> Result<(), Refusal> {
        let now = self.now;
        let delays = self.delays;
        let service = self.services.find_mut(service)?;
        let setting = service.setting_id;
        if self
            .settings
            .get(setting)
            .is_none_or(|setting| setting.autoscaling.is_none())
        {
            return Err(Refusal::Conflict(NOT_ENABLED));
        }
        if service.allocation.step == Step::Shutdown {
            return Err(Refusal::Conflict(SHUTTING_DOWN));
        }
        match signal {
            Signal::Ready => {
                service.allocation.step = Step::Ready;
                service.allocation.last_ready_at = Some(now);
            }
            Signal::Allocate => {
                service.allocation.step = Step::Allocated;
                service.allocation.last_allocated_at = Some(now);
            }
            Signal::Health => service.allocation.last_health_at = Some(now),
            Signal::Shutdown => {
                service.allocation.step = Step::Shutdown;
                service.stop(now, &delays, AfterStop::Remove);
            }
        }
        service.updated_at = now;
        self.rescale(setting);
        Ok(())
    }
}
