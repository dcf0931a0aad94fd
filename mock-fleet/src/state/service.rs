//! One service: its phase, what others see of it, and its log. Which phase follows when is
//! decided here; where it runs and which ports it gets is `placement`'s business.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::autoscaling::Allocation;
use super::collection::Id;
use crate::limits;
use crate::model::Protocol;
use crate::world::{Condition, Delays};

/// A service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) id: Id,
    pub(crate) app_id: Id,
    pub(crate) setting_id: Id,
    pub(crate) config_id: Id,
    pub(crate) instance: i64,
    pub(crate) name: String,
    pub(crate) phase: Phase,
    pub(crate) condition: Condition,
    /// Index of the node it was put on.
    pub(crate) node: Option<usize>,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) log: VecDeque<LogLine>,
    pub(crate) backups: Vec<Backup>,
    pub(crate) job: Option<Job>,
    pub(crate) allocation: Allocation,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// Where a service is in its life. `until` is when the phase ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending {
        until: DateTime<Utc>,
    },
    Starting {
        until: DateTime<Utc>,
    },
    Running,
    Stopping {
        until: DateTime<Utc>,
        then: AfterStop,
    },
    Stopped,
    /// Stopped for good; the state removes it.
    Gone,
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterStop {
    Stay,
    StartAgain,
    Remove,
}

/// A port of a service; not published until a node has it.
#[derive(Clone, Debug)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) target: u16,
    pub(crate) published: Option<u16>,
}

/// A line of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogLine {
    pub(crate) source: LogSource,
    pub(crate) text: String,
}

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogSource {
    Stdout,
    Stderr,
}

/// A finished backup.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    pub(crate) name: String,
    pub(crate) archive_name: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) restored_at: Option<DateTime<Utc>>,
}

/// A backup or restore that is going on.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) kind: JobKind,
    pub(crate) until: DateTime<Utc>,
}

/// What a job does when it ends.
#[derive(Clone, Debug)]
pub(crate) enum JobKind {
    Backup { name: String },
    Restore,
}

/// A delay of the world file as a time span; at least a millisecond, so that time moves on.
pub(crate) fn span(milliseconds: u32) -> TimeDelta {
    TimeDelta::milliseconds(i64::from(milliseconds.max(1)))
}

impl Service {
    /// The status word. No list of words is published; `running` is the one that is certain.
    pub(crate) fn status(&self) -> &'static str {
        match (self.condition, self.phase) {
            (Condition::NotFound, _) => "not_found",
            (_, Phase::Pending { .. }) => "pending",
            (_, Phase::Starting { .. }) => "starting",
            (Condition::Unhealthy, Phase::Running) => "unhealthy",
            (_, Phase::Running) => "running",
            (_, Phase::Stopping { .. }) => "stopping",
            (_, Phase::Stopped | Phase::Gone) => "stopped",
        }
    }

    /// A sentence about the status, where there is something to say.
    pub(crate) fn status_message(&self) -> Option<&'static str> {
        match (self.condition, self.phase) {
            (Condition::NotFound, _) => Some("the cluster does not know this service"),
            (_, Phase::Pending { .. }) if self.node.is_none() => {
                Some("no node with free resources")
            }
            (Condition::Unhealthy, Phase::Running) => Some("health checks fail"),
            _ => None,
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.phase, Phase::Pending { .. })
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.condition == Condition::NotFound
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.phase == Phase::Running && self.condition == Condition::Healthy
    }

    /// Whether it is on its way out.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(
            self.phase,
            Phase::Gone
                | Phase::Stopping {
                    then: AfterStop::Remove,
                    ..
                }
        )
    }

    /// When it next changes by itself. An overloaded service waits for somebody.
    pub(crate) fn next_change(&self) -> Option<DateTime<Utc>> {
        let phase = match self.phase {
            Phase::Pending { .. } if self.condition == Condition::Overload => None,
            Phase::Pending { until }
            | Phase::Starting { until }
            | Phase::Stopping { until, .. } => Some(until),
            Phase::Running | Phase::Stopped | Phase::Gone => None,
        };
        let job = self.job.as_ref().map(|job| job.until);
        phase.into_iter().chain(job).min()
    }

    /// Somebody asks it to start.
    pub(crate) fn start(&mut self, now: DateTime<Utc>, delays: &Delays) {
        match self.phase {
            Phase::Stopped => self.begin(now, delays),
            Phase::Stopping {
                until,
                then: AfterStop::Stay,
            } => {
                self.phase = Phase::Stopping {
                    until,
                    then: AfterStop::StartAgain,
                };
            }
            _ => {}
        }
    }

    /// Somebody asks it to stop; `then` says what follows. A removal is not taken back.
    pub(crate) fn stop(&mut self, now: DateTime<Utc>, delays: &Delays, then: AfterStop) {
        match self.phase {
            Phase::Gone
            | Phase::Stopping {
                then: AfterStop::Remove,
                ..
            } => {}
            Phase::Stopping { until, .. } => self.phase = Phase::Stopping { until, then },
            Phase::Stopped if then == AfterStop::Remove => self.phase = Phase::Gone,
            Phase::Stopped if then == AfterStop::StartAgain => self.begin(now, delays),
            Phase::Stopped => {}
            Phase::Pending { .. } | Phase::Starting { .. } | Phase::Running => {
                self.say(now, LogSource::Stdout, "received SIGTERM, shutting down");
                self.phase = Phase::Stopping {
                    until: now + span(delays.stopping_ms),
                    then,
                };
                self.updated_at = now;
            }
        }
    }

    fn begin(&mut self, now: DateTime<Utc>, delays: &Delays) {
        if self.condition == Condition::Stopped {
            self.condition = Condition::Healthy;
        }
        self.phase = Phase::Pending {
            until: now + span(delays.pending_ms),
        };
        self.updated_at = now;
    }

    /// Ends the phase that ends at `now`, except a pending one, which needs a node.
    pub(crate) fn step(&mut self, now: DateTime<Utc>, delays: &Delays) {
        match self.phase {
            Phase::Starting { until } if until <= now => {
                self.phase = Phase::Running;
                self.updated_at = now;
                self.say(now, LogSource::Stdout, "server is ready for connections");
                if self.condition == Condition::Unhealthy {
                    self.say(now, LogSource::Stderr, "health check failed");
                }
            }
            Phase::Stopping { until, then } if until <= now => {
                self.say(now, LogSource::Stdout, "process exited with code 0");
                self.updated_at = now;
                match then {
                    AfterStop::Stay => self.phase = Phase::Stopped,
                    AfterStop::StartAgain => self.begin(now, delays),
                    AfterStop::Remove => self.phase = Phase::Gone,
                }
            }
            _ => {}
        }
    }

    /// The service has been put on a node.
    pub(crate) fn placed(&mut self, node: usize, now: DateTime<Utc>, delays: &Delays) {
        self.node = Some(node);
        self.phase = Phase::Starting {
            until: now + span(delays.starting_ms),
        };
        self.updated_at = now;
        self.say(now, LogSource::Stdout, "container created");
        let text = format!("starting {} (instance {})", self.name, self.instance);
        self.say(now, LogSource::Stdout, &text);
        self.say(
            now,
            LogSource::Stderr,
            "warning: no profile given, using the default one",
        );
    }

    /// Writes a line into the log; the oldest line goes when it is full.
    pub(crate) fn say(&mut self, now: DateTime<Utc>, source: LogSource, text: &str) {
        if self.log.len() == limits::LOG_LINES {
            self.log.pop_front();
        }
        let time = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        self.log.push_back(LogLine {
            source,
            text: format!("{time} {text}"),
        });
    }
}
