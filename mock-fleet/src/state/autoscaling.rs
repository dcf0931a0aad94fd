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
            .unwrap_or_else(|| self.updated_at + seconds(heartbeat.initial_delay_seconds));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{pass, settled};
    use super::*;

    /// The autoscaled setting of the built-in world and its services.
    const SETTING: Id = 35;

    fn services(state: &State) -> Vec<Id> {
        let services = state
            .services
            .iter()
            .filter(|service| service.setting_id == SETTING);
        services.map(|service| service.id).collect()
    }

    #[test]
    fn an_instance_is_allocated_once_and_the_buffer_is_filled_again() {
        let mut state = settled();
        let ids = services(&state);
        assert_eq!(ids.len(), 2);
        let none = Err(Refusal::Conflict(NONE_ALLOCATABLE));
        assert_eq!(state.allocate(SETTING, None, true), none);
        for &id in &ids {
            state.signal(id, Signal::Ready).unwrap();
        }
        assert_eq!(state.allocate(SETTING, None, true), Ok(ids[0]));
        assert_eq!(state.allocate(SETTING, None, true), Ok(ids[1]));
        assert_eq!(state.allocate(SETTING, None, true), none);
        pass(&mut state, 10_000);
        assert_eq!(services(&state).len(), 4);
    }

    #[test]
    fn the_filter_chooses_among_ready_instances() {
        let mut state = settled();
        let ids = services(&state);
        for &id in &ids {
            state.signal(id, Signal::Ready).unwrap();
        }
        state
            .services
            .find_mut(ids[1])
            .unwrap()
            .metadata
            .insert("map".to_owned(), json!("moon"));
        let filter = MetadataFilter::parse("map=\"moon\"").unwrap();
        assert_eq!(state.allocate(SETTING, Some(&filter), true), Ok(ids[1]));
        let none = Err(Refusal::Conflict(NONE_ALLOCATABLE));
        assert_eq!(state.allocate(SETTING, Some(&filter), true), none);
    }

    #[test]
    fn shutdown_replaces_the_instance_with_a_fresh_one() {
        let mut state = settled();
        let ids = services(&state);
        state.signal(ids[0], Signal::Shutdown).unwrap();
        let again = state.signal(ids[0], Signal::Ready);
        assert_eq!(again, Err(Refusal::Conflict(SHUTTING_DOWN)));
        pass(&mut state, 10_000);
        let now = services(&state);
        assert_eq!(now.len(), 2);
        assert!(!now.contains(&ids[0]) && now.contains(&ids[1]));
    }

    #[test]
    fn without_autoscaling_signals_are_refused() {
        let mut state = settled();
        assert_eq!(
            state.signal(101, Signal::Ready),
            Err(Refusal::Conflict(NOT_ENABLED))
        );
        assert_eq!(
            state.allocate(31, None, true),
            Err(Refusal::Conflict(NONE_ALLOCATABLE))
        );
    }

    #[test]
    fn missed_heartbeats_make_an_instance_unallocatable_until_the_next_one() {
        let mut state = settled();
        let heartbeat = Heartbeat {
            initial_delay_seconds: 1,
            period_seconds: 2,
            failure_threshold: 2,
        };
        let setting = state.settings.find_mut(SETTING).unwrap();
        setting.autoscaling.as_mut().unwrap().health = Some(heartbeat);
        let id = services(&state)[0];
        state.signal(id, Signal::Ready).unwrap();
        state.signal(id, Signal::Health).unwrap();
        pass(&mut state, 4_001);
        assert!(state.allocate(SETTING, None, true).is_err());
        state.signal(id, Signal::Health).unwrap();
        assert_eq!(state.allocate(SETTING, None, true), Ok(id));
    }
}
