//! Injected faults: a plan says what may go wrong, a seeded generator decides when. The same seed
//! and the same order of calls give the same faults.

mod inject;

pub(crate) use self::inject::inject;

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::api::OPERATIONS;
use crate::limits;

/// What may go wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    try_from = "Unchecked",
    into = "Unchecked"
)]
pub struct FaultPlan {
    stale_reads_ms: u32,
    rules: Vec<FaultRule>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Unchecked {
    stale_reads_ms: u32,
    rules: Vec<FaultRule>,
}

/// Latency and faults for some operations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultRule {
    /// Ids of the operations; none means all.
    pub operations: Vec<String>,
    /// How long answers take.
    pub latency: Option<Latency>,
    /// What goes wrong, and how often.
    pub faults: Vec<Chance>,
}

/// A distribution of delays, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// Always the same.
    Fixed {
        /// The delay.
        ms: u32,
    },
    /// Anything between two bounds.
    Uniform {
        /// The shortest.
        min_ms: u32,
        /// The longest.
        max_ms: u32,
    },
    /// The bell curve, cut at zero and at a cap.
    Normal {
        /// The middle.
        mean_ms: f64,
        /// The width.
        deviation_ms: f64,
        /// The longest.
        max_ms: u32,
    },
    /// A long tail, cut at a cap.
    LogNormal {
        /// Half of the delays are shorter.
        median_ms: f64,
        /// The width of the logarithm.
        sigma: f64,
        /// The longest.
        max_ms: u32,
    },
}

/// A fault and how often it happens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// What happens.
    pub kind: FaultKind,
    /// How often, from 0 to 1.
    pub rate: f64,
    /// What `Retry-After` says, in seconds, where the answer has one.
    #[serde(default)]
    pub retry_after_seconds: Option<u32>,
    /// How long a stall takes, in milliseconds; without it, two seconds.
    #[serde(default)]
    pub stall_ms: Option<u32>,
}

/// What can happen to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 429 with `Retry-After`.
    RateLimited,
    /// 500 with a message.
    Internal,
    /// 502 with an HTML page.
    BadGateway,
    /// 503 with a message.
    Unavailable,
    /// The connection ends without an answer.
    Drop,
    /// The call is performed, but the answer breaks off.
    Truncate,
    /// 200 with something that is not JSON.
    Garbage,
    /// No answer until the caller gives up.
    Hang,
    /// The call is performed and answered as it should be, but late. Chance decides whether it is performed at once or
    /// late, too; late, it is performed even if its caller has gone meanwhile.
    Stall,
}

/// Length of a stall that names none, in milliseconds: longer than a matchmaker likes to wait, shorter than it does.
const STALL_DEFAULT_MS: u32 = 2_000;

/// Why a plan was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultPlanError {
    /// More rules than the simulator keeps.
    #[error("has more than {} rules", limits::FAULT_RULES)]
    TooMany,
    /// An operation that the API does not have.
    #[error("names the operation {0:?}, which the API does not have")]
    Operation(String),
    /// Rates outside 0 to 1, alone or together.
    #[error("has rates that are not between 0 and 1, or add up to more than 1")]
    Rate,
    /// Numbers that are no distribution.
    #[error(
        "has a latency whose numbers are negative, not finite, or whose minimum is its maximum's superior"
    )]
    Latency,
    /// A text that is not a plan.
    #[error("{origin}{}, key `{key}`: {message}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Text {
        /// The file.
        origin: String,
        /// The line, from 1.
        line: Option<usize>,
        /// Path of the key.
        key: String,
        /// What is wrong.
        message: String,
    },
}

impl TryFrom<Unchecked> for FaultPlan {
    type Error = FaultPlanError;

    fn try_from(plan: Unchecked) -> Result<Self, FaultPlanError> {
        Self::new(plan.stale_reads_ms, plan.rules)
    }
}

impl From<FaultPlan> for Unchecked {
    fn from(plan: FaultPlan) -> Self {
        Self {
            stale_reads_ms: plan.stale_reads_ms,
            rules: plan.rules,
        }
    }
}

impl FaultPlan {
    /// A plan of rules; lists and gets are answered from a state up to `stale_reads_ms` old.
    ///
    /// # Errors
    /// When a rule names an unknown operation, or its numbers make no sense.
    pub fn new(stale_reads_ms: u32, rules: Vec<FaultRule>) -> Result<Self, FaultPlanError> {
        if rules.len() > limits::FAULT_RULES {
            return Err(FaultPlanError::TooMany);
        }
        for rule in &rules {
            let unknown = |name: &&String| !OPERATIONS.iter().any(|known| known.id == **name);
            if let Some(name) = rule.operations.iter().find(unknown) {
                return Err(FaultPlanError::Operation(name.clone()));
            }
            let rates = rule.faults.iter().map(|chance| chance.rate);
            let sum: f64 = rates.clone().sum();
            if !rates.clone().all(|rate| (0.0..=1.0).contains(&rate)) || sum > 1.0 + 1e-9 {
                return Err(FaultPlanError::Rate);
            }
            if !rule.latency.is_none_or(Latency::makes_sense) {
                return Err(FaultPlanError::Latency);
            }
        }
        Ok(Self {
            stale_reads_ms,
            rules,
        })
    }

    /// Reads a plan from TOML. `origin` is the name to put into errors.
    ///
    /// # Errors
    /// When the text is not a plan, with its file, line and key.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, FaultPlanError> {
        let refuse = |span: Option<std::ops::Range<usize>>, key: String, message: &str| {
            let line =
                span.map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let message = message.to_owned();
            FaultPlanError::Text {
                origin: origin.to_owned(),
                line,
                key,
                message,
            }
        };
        let parsed = toml::Deserializer::parse(text)
            .map_err(|error| refuse(error.span(), "(syntax)".to_owned(), error.message()))?;
        serde_path_to_error::deserialize(parsed).map_err(|error| {
            let inner = error.inner();
            refuse(inner.span(), error.path().to_string(), inner.message())
        })
    }
}

impl Chance {
    fn fault(self, random: &mut fastrand::Rng) -> Fault {
        let stall_ms = u64::from(self.stall_ms.unwrap_or(STALL_DEFAULT_MS));
        let stall = (self.kind == FaultKind::Stall).then(|| Stall {
            time: Duration::from_millis(stall_ms.min(limits::FAULT_DELAY_MS)),
            performs_first: random.bool(),
        });
        Fault {
            kind: self.kind,
            retry_after_seconds: self.retry_after_seconds,
            stall,
        }
    }
}

impl Latency {
    fn makes_sense(self) -> bool {
        let fine = |number: f64| number.is_finite() && number >= 0.0;
        match self {
            Self::Fixed { .. } => true,
            Self::Uniform { min_ms, max_ms } => min_ms <= max_ms,
            Self::Normal {
                mean_ms,
                deviation_ms,
                ..
            } => fine(mean_ms) && fine(deviation_ms),
            Self::LogNormal {
                median_ms, sigma, ..
            } => fine(median_ms) && fine(sigma),
        }
    }

    fn draw(self, random: &mut fastrand::Rng) -> Duration {
        let (ms, most) = match self {
            Self::Fixed { ms } => (f64::from(ms), ms),
            Self::Uniform { min_ms, max_ms } => (f64::from(random.u32(min_ms..=max_ms)), max_ms),
            Self::Normal {
                mean_ms,
                deviation_ms,
                max_ms,
            } => (mean_ms + deviation_ms * bell(random), max_ms),
            Self::LogNormal {
                median_ms,
                sigma,
                max_ms,
            } => (median_ms * (sigma * bell(random)).exp(), max_ms),
        };
        let most = Duration::from_millis(u64::from(most).min(limits::FAULT_DELAY_MS));
        Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).map_or(most, |delay| delay.min(most))
    }
}

/// A number from the standard bell curve (Box and Muller's transform).
fn bell(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// A plan with the generator that decides.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) plan: FaultPlan,
    random: fastrand::Rng,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    pub(crate) delay: Duration,
    pub(crate) fault: Option<Fault>,
    /// How old the state may be that a read is answered from.
    pub(crate) stale: Option<TimeDelta>,
}

/// A fault that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) retry_after_seconds: Option<u32>,
    pub(crate) stall: Option<Stall>,
}

/// A call that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) time: Duration,
    /// Whether the call is performed before that time or after it.
    pub(crate) performs_first: bool,
}

impl Faults {
    /// A plan, decided upon with a seed.
    pub(crate) fn new(plan: FaultPlan, seed: u64) -> Self {
        Self {
            plan,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// What happens to the next call of an operation: the delays of all rules for it add up, and
    /// the first rule that draws a fault decides.
    pub(crate) fn decide(&mut self, operation: &str) -> Decision {
        let mut decision = Decision::default();
        if self.plan.stale_reads_ms > 0 {
            decision.stale = Some(TimeDelta::milliseconds(i64::from(self.plan.stale_reads_ms)));
        }
        for rule in &self.plan.rules {
            if !rule.operations.is_empty() && !rule.operations.iter().any(|id| id == operation) {
                continue;
            }
            if let Some(latency) = rule.latency {
                decision.delay += latency.draw(&mut self.random);
            }
            let mut left = self.random.f64();
            let drawn = rule.faults.iter().find(|chance| {
                left -= chance.rate;
                left < 0.0
            });
            if let (None, Some(chance)) = (decision.fault, drawn) {
                decision.fault = Some(chance.fault(&mut self.random));
            }
        }
        decision.delay = decision
            .delay
            .min(Duration::from_millis(limits::FAULT_DELAY_MS));
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
        stale_reads_ms = 250
        [[rules]]
        operations = ["getServers"]
        latency = { log_normal = { median_ms = 20.0, sigma = 0.5, max_ms = 200 } }
        faults = [
            { kind = "rate_limited", rate = 0.2, retry_after_seconds = 1 },
            { kind = "truncate", rate = 0.1 },
        ]
    "#;

    fn decisions(seed: u64) -> Vec<Decision> {
        let mut faults = Faults::new(FaultPlan::from_toml(PLAN, "f.toml").unwrap(), seed);
        (0..1000).map(|_| faults.decide("getServers")).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        assert_eq!(decisions(7), decisions(7));
        assert_ne!(decisions(7), decisions(8));
    }

    #[test]
    fn rates_and_caps_are_kept() {
        let decisions = decisions(1);
        let count = |kind| {
            decisions
                .iter()
                .filter(|d| d.fault.is_some_and(|fault| fault.kind == kind))
                .count()
        };
        assert!((150..250).contains(&count(FaultKind::RateLimited)));
        assert!((60..140).contains(&count(FaultKind::Truncate)));
        assert!(
            decisions
                .iter()
                .all(|decision| decision.delay <= Duration::from_millis(200))
        );
    }

    #[test]
    fn a_stall_is_performed_early_or_late() {
        let plan = |stall: &str| {
            let text = format!("[[rules]]\nfaults = [{{ kind = \"stall\", rate = 1.0{stall} }}]");
            let mut faults = Faults::new(FaultPlan::from_toml(&text, "f.toml").unwrap(), 1);
            let mut next = || faults.decide("getApps").fault.and_then(|fault| fault.stall);
            (0..100).map(|_| next().unwrap()).collect::<Vec<_>>()
        };
        let stalls = plan("");
        assert!(stalls.iter().all(|it| it.time == Duration::from_secs(2)));
        let early = stalls.iter().filter(|it| it.performs_first).count();
        assert!((20..80).contains(&early), "{early}");
        let stalls = plan(", stall_ms = 7");
        assert!(stalls.iter().all(|it| it.time == Duration::from_millis(7)));
        let longest = Duration::from_millis(limits::FAULT_DELAY_MS);
        let stalls = plan(&format!(", stall_ms = {}", u32::MAX));
        assert!(stalls.iter().all(|it| it.time == longest));
    }

    #[test]
    fn other_operations_are_left_alone() {
        let mut faults = Faults::new(FaultPlan::from_toml(PLAN, "f.toml").unwrap(), 7);
        let decision = faults.decide("getApps");
        assert_eq!((decision.delay, decision.fault), (Duration::ZERO, None));
        assert_eq!(decision.stale, Some(TimeDelta::milliseconds(250)));
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        let rule = |text: &str| FaultPlan::from_toml(&format!("[[rules]]\n{text}"), "f.toml");
        for (text, part) in [
            ("operations = [\"getNothing\"]", "getNothing"),
            ("faults = [{ kind = \"drop\", rate = 1.5 }]", "rates"),
            (
                "latency = { uniform = { min_ms = 9, max_ms = 1 } }",
                "latency",
            ),
            ("speed = 3", "speed"),
        ] {
            let error = rule(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("f.toml"), "{error}");
        }
    }
}
