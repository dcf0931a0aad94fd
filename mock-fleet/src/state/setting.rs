//! Location settings and scaling: one instance comes or goes per step, the newest goes first.

use chrono::{DateTime, Utc};

use super::State;
use super::autoscaling::{Allocation, Step};
use super::catalog::Busy;
use super::collection::Id;
use super::service::{AfterStop, Phase, Service, span};
use crate::refusal::Refusal;
use crate::world::{Autoscaling, Condition};

/// So many instances of a config at a location.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) id: Id,
    pub(crate) app_id: Id,
    pub(crate) config_id: Id,
    pub(crate) name: String,
    pub(crate) num_instances: i64,
    /// Index of the location.
    pub(crate) location: usize,
    pub(crate) autoscaling: Option<Autoscaling>,
    pub(crate) scaling: Option<Scaling>,
}

/// A change of the number of instances that is going on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaling {
    pub(crate) word: &'static str,
    pub(crate) next_step: DateTime<Utc>,
}

impl Setting {
    /// The status word.
    pub(crate) fn status(&self) -> &'static str {
        self.scaling.map_or("ready", |scaling| scaling.word)
    }
}

impl State {
    /// Adds a setting; its instances follow one by one.
    pub(crate) fn create_setting(
        &mut self,
        app_id: Id,
        config_id: Id,
        name: String,
        num_instances: i64,
        location: usize,
    ) -> Result<Id, Refusal> {
        let scaling = Some(Scaling {
            word: "creating",
            next_step: self.now,
        });
        self.settings.insert(|id| Setting {
            id,
            app_id,
            config_id,
            name,
            num_instances,
            location,
            autoscaling: None,
            scaling,
        })
    }

    /// Sets how many instances a setting should have.
    pub(crate) fn scale(&mut self, setting: Id, num_instances: i64) -> Result<(), Refusal> {
        self.settings.find_mut(setting)?.num_instances = num_instances;
        self.rescale(setting);
        Ok(())
    }

    /// Compares a setting with its instances and begins to scale if they differ.
    pub(crate) fn rescale(&mut self, id: Id) {
        let (present, leaving, allocated) = self.census(id);
        let first_step = self.now + span(self.delays.scale_step_ms);
        let Ok(setting) = self.settings.find_mut(id) else {
            return;
        };
        if let Some(autoscaling) = &setting.autoscaling {
            let wanted = allocated + i64::from(autoscaling.buffer_size);
            let least = i64::from(autoscaling.min_instances);
            setting.num_instances =
                wanted.clamp(least, least.max(i64::from(autoscaling.max_instances)));
        }
        let word = if present < setting.num_instances {
            "upscaling"
        } else {
            "downscaling"
        };
        if present == setting.num_instances && leaving == 0 {
            setting.scaling = None;
        } else if let Some(scaling) = &mut setting.scaling {
            if scaling.word != "creating" {
                scaling.word = word;
            }
        } else {
            setting.scaling = Some(Scaling {
                word,
                next_step: first_step,
            });
        }
    }

    /// How many instances of a setting stay, leave, and (of those that stay) are allocated.
    fn census(&self, setting: Id) -> (i64, i64, i64) {
        self.services
            .iter()
            .filter(|service| service.setting_id == setting)
            .fold((0, 0, 0), |(present, leaving, allocated), service| {
                if service.is_leaving() {
                    return (present, leaving + 1, allocated);
                }
                let taken = i64::from(service.allocation.step == Step::Allocated);
                (present + 1, leaving, allocated + taken)
            })
    }

    /// One step of scaling: at most one instance comes or goes.
    pub(super) fn scale_step(&mut self, id: Id) {
        let (present, _, _) = self.census(id);
        let Some(setting) = self.settings.get(id).cloned() else {
            return;
        };
        if present < setting.num_instances {
            let (now, delays) = (self.now, self.delays);
            let phase = Phase::Pending {
                until: now + span(delays.pending_ms),
            };
            // Only the limit on services can refuse; the next step tries again.
            drop(self.create_service(&setting, phase, Condition::Healthy));
        } else if present > setting.num_instances {
            let (now, delays) = (self.now, self.delays);
            let newest = self
                .services
                .iter_mut()
                .filter(|service| service.setting_id == id && !service.is_leaving())
                .filter(|service| service.allocation.step != Step::Allocated)
                .max_by_key(|service| service.instance);
            if let Some(newest) = newest {
                newest.stop(now, &delays, AfterStop::Remove);
            }
        }
        let next_step = self.now + span(self.delays.scale_step_ms);
        if let Ok(setting) = self.settings.find_mut(id)
            && let Some(scaling) = &mut setting.scaling
        {
            scaling.next_step = next_step;
        }
        self.rescale(id);
    }

    /// Adds a service of a setting in the given phase.
    pub(super) fn create_service(
        &mut self,
        setting: &Setting,
        phase: Phase,
        condition: Condition,
    ) -> Result<Id, Refusal> {
        let instance = self
            .services
            .iter()
            .filter(|service| service.setting_id == setting.id)
            .map(|service| service.instance)
            .max()
            .unwrap_or(0)
            + 1;
        let now = self.now;
        let metadata = self
            .initial_metadata
            .get(&setting.id)
            .cloned()
            .unwrap_or_default();
        let ports = self.unpublished_ports(setting.config_id);
        self.services.insert(|id| Service {
            id,
            app_id: setting.app_id,
            setting_id: setting.id,
            config_id: setting.config_id,
            instance,
            name: format!("{}-{instance}", setting.name),
            phase,
            condition,
            node: None,
            ports,
            metadata,
            log: std::collections::VecDeque::new(),
            backups: Vec::new(),
            job: None,
            allocation: Allocation::default(),
            created_at: now,
            updated_at: now,
        })
    }

    /// Begins a change of the given kind that takes as long as a build.
    pub(crate) fn busy(&self, word: &'static str) -> Busy {
        Busy {
            word,
            since: self.now,
            until: self.now + span(self.delays.build_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pass, settled};
    use super::*;

    fn instances(state: &State, setting: Id) -> Vec<i64> {
        let services = state
            .services
            .iter()
            .filter(|service| service.setting_id == setting);
        services.map(|service| service.instance).collect()
    }

    fn status(state: &State, setting: Id) -> &'static str {
        state.settings.find(setting).unwrap().status()
    }

    #[test]
    fn instances_come_one_by_one_and_the_newest_go_first() {
        let mut state = settled();
        assert_eq!(
            (instances(&state, 31), status(&state, 31)),
            (vec![1, 2, 3, 4], "ready")
        );
        state.scale(31, 6).unwrap();
        assert_eq!(status(&state, 31), "upscaling");
        pass(&mut state, 200);
        assert_eq!(instances(&state, 31), [1, 2, 3, 4, 5]);
        pass(&mut state, 200);
        assert_eq!(
            (instances(&state, 31), status(&state, 31)),
            (vec![1, 2, 3, 4, 5, 6], "ready")
        );
        state.scale(31, 3).unwrap();
        assert_eq!(status(&state, 31), "downscaling");
        pass(&mut state, 5_000);
        assert_eq!(
            (instances(&state, 31), status(&state, 31)),
            (vec![1, 2, 3], "ready")
        );
    }

    #[test]
    fn a_change_of_mind_is_followed() {
        let mut state = settled();
        state.scale(31, 50).unwrap();
        pass(&mut state, 1_000);
        state.scale(31, 4).unwrap();
        pass(&mut state, 60_000);
        assert_eq!(
            (instances(&state, 31), status(&state, 31)),
            (vec![1, 2, 3, 4], "ready")
        );
    }

    #[test]
    fn a_new_setting_creates_its_instances_with_no_metadata() {
        let mut state = settled();
        let id = state.create_setting(1, 21, "new".to_owned(), 2, 0).unwrap();
        assert_eq!(status(&state, id), "creating");
        pass(&mut state, 5_000);
        assert_eq!(
            (instances(&state, id), status(&state, id)),
            (vec![1, 2], "ready")
        );
        assert!(
            state
                .services
                .iter()
                .filter(|s| s.setting_id == id)
                .all(|s| s.metadata.is_empty())
        );
        state.remove_setting(id).unwrap();
        assert!(instances(&state, id).is_empty());
    }
}
