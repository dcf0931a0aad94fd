//! What the bridge counts, in Prometheus' text format.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use fleet_client::{Attempt, Outcome};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::model::SkipReason;

/// Bounds of the latency histograms, in seconds: from a call on the same machine to the default deadline.
const SECONDS_BOUNDS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    operation: &'static str,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SkipLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WalkLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// States that are counted by name. Game servers may invent states; they may not invent metric labels.
const STATES: [&str; 5] = ["starting", "idle", "reserved", "occupied", "voice"];

/// What a server says that says nothing or something else.
const OTHER_STATE: &str = "other";

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The counters of one bridge.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<RouteLabels>,
    in_flight: Gauge,
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Histograms<OperationLabels>,
    retries: Family<OperationLabels, Counter>,
    skipped: Family<SkipLabels, Counter>,
    matches: Family<OutcomeLabels, Counter>,
    match_seconds: Histogram,
    put_off: Counter,
    stale: Gauge,
    scaled_up: Counter,
    webhooks: Family<OutcomeLabels, Counter>,
    index_age: Gauge<f64, AtomicU64>,
    index_walks: Family<WalkLabels, Counter>,
    index_servers: Family<StateLabels, Gauge>,
    event_subscribers: Gauge,
    event_resets: Counter,
    events_published: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS_BOUNDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("bifrost_bridge"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(seconds),
            retries: Family::default(),
            skipped: Family::default(),
            matches: Family::default(),
            match_seconds: seconds(),
            put_off: Counter::default(),
            stale: Gauge::default(),
            scaled_up: Counter::default(),
            webhooks: Family::default(),
            index_age: Gauge::default(),
            index_walks: Family::default(),
            index_servers: Family::default(),
            event_subscribers: Gauge::default(),
            event_resets: Counter::default(),
            events_published: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let requests = self.requests.clone();
        registry.register("requests", "Calls of the bridge, by answer", requests);
        let text = "Time from the head of a call to the head of its answer";
        registry.register("request_seconds", text, self.request_seconds.clone());
        let text = "Calls under way";
        registry.register("requests_in_flight", text, self.in_flight.clone());
        let text = "Attempts of Fleet calls, by what became of them";
        registry.register("fleet_attempts", text, self.attempts.clone());
        let text = "Time of one attempt of a Fleet call";
        registry.register("fleet_attempt_seconds", text, self.attempt_seconds.clone());
        let text = "Attempts of Fleet calls that were followed by another";
        registry.register("fleet_retries", text, self.retries.clone());
        let text = "Servers left out of a list because players cannot be sent to them";
        registry.register("skipped_servers", text, self.skipped.clone());
        let text = "Calls for a match, by what became of them";
        registry.register("matches", text, self.matches.clone());
        let text = "Time from the call for a match to its answer";
        registry.register("match_seconds", text, self.match_seconds.clone());
        let text = "Attempts to give a server back that were put off";
        registry.register("server_returns_put_off", text, self.put_off.clone());
        let text = "Servers that have not been heard of lately";
        registry.register("stale_servers", text, self.stale.clone());
        let text = "Location settings that were raised by one for a Create";
        registry.register("settings_scaled_up", text, self.scaled_up.clone());
        let text =
            "Attempts to deliver webhooks, by what became of them, and webhooks that were given up";
        registry.register("webhooks", text, self.webhooks.clone());
        self.register_index();
    }

    fn register_index(&mut self) {
        let registry = &mut self.registry;
        let text = "Time since the newest whole walk over the servers began; -1 before the first";
        registry.register("index_age_seconds", text, self.index_age.clone());
        let text = "Walks over all servers, by how they ended";
        registry.register("index_walks", text, self.index_walks.clone());
        let text = "Servers, by what they say they are doing";
        registry.register("index_servers", text, self.index_servers.clone());
        let text = "Readers of the events";
        registry.register("event_subscribers", text, self.event_subscribers.clone());
        let text = "Readers that were told to read the lists again";
        registry.register("event_resets", text, self.event_resets.clone());
        let text = "Changes of servers that this bridge published";
        registry.register("events_published", text, self.events_published.clone());
    }

    /// A call begins; it ends when the guard is dropped, however it ends.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A call was answered. `route` is the pattern, never the path: callers do not make labels.
    pub(crate) fn request(
        &self,
        route: &'static str,
        method: &'static str,
        answer: (u16, &'static str),
        elapsed: Duration,
    ) {
        let labels = RequestLabels {
            route,
            method,
            status: answer.0,
            kind: answer.1,
        };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels { route };
        let histogram = self.request_seconds.get_or_create(&labels);
        histogram.observe(elapsed.as_secs_f64());
    }

    /// One attempt of a Fleet call ended.
    pub(crate) fn attempt(&self, attempt: Attempt) {
        let operation = attempt.operation;
        let outcome = match attempt.outcome {
            Outcome::Status(status) => status.as_str().to_owned(),
            Outcome::Connection => "connection".to_owned(),
            Outcome::Timeout => "timeout".to_owned(),
        };
        self.attempts
            .get_or_create(&AttemptLabels { operation, outcome })
            .inc();
        let labels = OperationLabels { operation };
        let histogram = self.attempt_seconds.get_or_create(&labels);
        histogram.observe(attempt.elapsed.as_secs_f64());
        if attempt.will_retry {
            self.retries.get_or_create(&labels).inc();
        }
    }

    /// A server was left out of a list.
    pub(crate) fn skipped(&self, reason: SkipReason) {
        let reason = reason.label();
        self.skipped.get_or_create(&SkipLabels { reason }).inc();
    }

    /// A walk over all servers ended.
    pub(crate) fn walk(&self, outcome: &'static str) {
        self.index_walks
            .get_or_create(&WalkLabels { outcome })
            .inc();
    }

    /// What all the servers say they are doing.
    pub(crate) fn servers<'a>(&self, states: impl Iterator<Item = Option<&'a str>>) {
        let mut counts = [0; STATES.len()];
        let mut others = 0;
        for state in states {
            let place = state.and_then(|state| STATES.iter().position(|known| *known == state));
            match place.and_then(|place| counts.get_mut(place)) {
                Some(count) => *count += 1,
                None => others += 1,
            }
        }
        let counts = STATES.into_iter().zip(counts);
        for (state, count) in counts.chain([(OTHER_STATE, others)]) {
            let labels = StateLabels { state };
            self.index_servers.get_or_create(&labels).set(count);
        }
    }

    /// How old the index is.
    pub(crate) fn index_age(&self, age: Option<Duration>) {
        self.index_age
            .set(age.map_or(-1.0, |age| age.as_secs_f64()));
    }

    /// Changes of servers were published.
    pub(crate) fn published(&self, events: usize) {
        self.events_published.inc_by(events as u64);
    }

    /// A reader of the events comes; it leaves when the guard is dropped.
    pub(crate) fn subscribe(&self) -> InFlight {
        self.event_subscribers.inc();
        InFlight(self.event_subscribers.clone())
    }

    /// A reader was told to read the lists again.
    pub(crate) fn reset(&self) {
        self.event_resets.inc();
    }

    /// A call for a match was answered.
    pub(crate) fn obtained(&self, outcome: &'static str, elapsed: Duration) {
        self.matches.get_or_create(&OutcomeLabels { outcome }).inc();
        self.match_seconds.observe(elapsed.as_secs_f64());
    }

    /// A server could not be given back yet.
    pub(crate) fn put_off(&self) {
        self.put_off.inc();
    }

    /// A location setting was raised by one.
    pub(crate) fn scaled_up(&self) {
        self.scaled_up.inc();
    }

    /// An attempt to deliver a webhook ended, or the webhook was given up.
    pub(crate) fn webhook(&self, outcome: &'static str) {
        self.webhooks
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// So many servers have not been heard of lately.
    pub(crate) fn stale_servers(&self, count: usize) {
        self.stale.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A call under way, or a reader of the events.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
