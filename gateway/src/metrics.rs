//! What the gateway counts, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::state::Gateway;

/// Bounds of the histograms, in seconds: from a call in memory to a report that waits, or a task of a silent server.
const SECONDS_BOUNDS: [f64; 14] = [
    0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

/// Most customers that are told apart; the others are summed up.
const CUSTOMERS_MAX: usize = 100;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// It has a result.
    Success,
    /// It was refused on purpose.
    Rejected,
    /// Something went wrong here.
    Failure,
}

impl CallOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Rejected => "rejected",
            Self::Failure => "failure",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    pool: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CustomerLabels {
    customer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    outcome: &'static str,
}

/// The counters of one gateway.
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    answers: Family<StatusLabels, Counter>,
    denied: Family<ReasonLabels, Counter>,
    task_seconds: Histogram,
    refreshes: Family<RefreshLabels, Counter>,
    customer_keys: Gauge,
    customer_age: Gauge,
    servers: Family<ServerLabels, Gauge>,
    rooms: Family<PoolLabels, Gauge>,
    tasks: Family<PoolLabels, Gauge>,
    bans: Family<PoolLabels, Gauge>,
    mutes: Family<PoolLabels, Gauge>,
    peers: Family<CustomerLabels, Gauge<i64>>,
    store_online: Gauge,
    store_waiting: Gauge,
    store_events: Family<EventLabels, Counter>,
    load: Family<PoolLabels, Gauge<f64, AtomicU64>>,
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
            registry: Registry::with_prefix("bifrost_gateway"),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(seconds),
            answers: Family::default(),
            denied: Family::default(),
            task_seconds: seconds(),
            refreshes: Family::default(),
            customer_keys: Gauge::default(),
            customer_age: Gauge::default(),
            servers: Family::default(),
            rooms: Family::default(),
            tasks: Family::default(),
            bans: Family::default(),
            mutes: Family::default(),
            peers: Family::default(),
            store_online: Gauge::default(),
            store_waiting: Gauge::default(),
            store_events: Family::default(),
            load: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("calls", "Calls by method and outcome", self.calls.clone());
        let text = "Time from a call to its result; reports may wait on purpose";
        registry.register("call_seconds", text, self.call_seconds.clone());
        registry.register(
            "http_answers",
            "HTTP answers by status",
            self.answers.clone(),
        );
        let text = "Requests that got no further than the door, by reason";
        registry.register("denied", text, self.denied.clone());
        let text =
            "Time from a task to its delivery, or its acknowledgement where servers acknowledge";
        registry.register("task_seconds", text, self.task_seconds.clone());
        let text = "Refreshes of the customers' keys";
        registry.register("customer_refreshes", text, self.refreshes.clone());
        registry.register(
            "customer_keys",
            "Keys of customers",
            self.customer_keys.clone(),
        );
        let text = "Seconds since the last good list of customers";
        registry.register("customer_list_age_seconds", text, self.customer_age.clone());
        registry.register("servers", "Voice servers by state", self.servers.clone());
        registry.register(
            "rooms",
            "Rooms that are bound to servers",
            self.rooms.clone(),
        );
        registry.register(
            "tasks_waiting",
            "Tasks that wait for servers",
            self.tasks.clone(),
        );
        registry.register("bans", "Bans that are remembered", self.bans.clone());
        registry.register("mutes", "Mutes that are remembered", self.mutes.clone());
        let text = "Peers by customer, as of the last tick; the largest, the rest as \"other\"";
        registry.register("peers", text, self.peers.clone());
        let text = "Mean load of the servers that get rooms";
        registry.register("load", text, self.load.clone());
        let text = "Whether the shared store can be used (1 also when state is in memory only)";
        registry.register("store_online", text, self.store_online.clone());
        let text = "Commands the shared store has not been told yet";
        registry.register("store_waiting_commands", text, self.store_waiting.clone());
        let text = "What happened in the shared store: entries read, commands decided alone, outages and so on";
        registry.register("store_events", text, self.store_events.clone());
    }

    /// A call has ended.
    pub(crate) fn call(&self, method: &'static str, outcome: CallOutcome, elapsed: Duration) {
        let outcome = outcome.label();
        self.calls
            .get_or_create(&CallLabels { method, outcome })
            .inc();
        let seconds = self.call_seconds.get_or_create(&MethodLabels { method });
        seconds.observe(elapsed.as_secs_f64());
    }

    /// How often a call of this method ended so.
    pub(crate) fn calls(&self, method: &'static str, outcome: CallOutcome) -> u64 {
        let outcome = outcome.label();
        let counter = self.calls.get(&CallLabels { method, outcome });
        counter.map_or(0, |it| it.get())
    }

    /// A request was answered.
    pub(crate) fn http(&self, status: u16) {
        self.answers.get_or_create(&StatusLabels { status }).inc();
    }

    /// A request got no further than the door.
    pub(crate) fn denied(&self, reason: &'static str) {
        self.denied.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A task was delivered or acknowledged, this long after it was queued.
    pub(crate) fn task_delivered(&self, after: Duration) {
        self.task_seconds.observe(after.as_secs_f64());
    }

    /// The customers' keys were read, or could not be.
    pub(crate) fn customers_refreshed(&self, is_good: bool) {
        let outcome = if is_good { "success" } else { "failure" };
        self.refreshes
            .get_or_create(&RefreshLabels { outcome })
            .inc();
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn text(&self, gateway: &Gateway) -> String {
        self.gather(gateway);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts what is there now.
    fn gather(&self, gateway: &Gateway) {
        let customers = gateway.customers.health();
        self.customer_keys.set(whole(customers.keys()));
        self.customer_age
            .set(customers.age_seconds().map_or(0, |it| it.cast_signed()));
        let store = gateway.store.health();
        self.store_online.set(store.online.into());
        self.store_waiting.set(whole(store.waiting_commands));
        for (event, count) in gateway.store.stats().events() {
            let counter = self.store_events.get_or_create(&EventLabels { event });
            counter.inner().store(count, Ordering::Relaxed);
        }
        let mut peers: BTreeMap<String, u64> = BTreeMap::new();
        gateway.store.read(|grid| {
            for (name, pool) in grid.pools() {
                let label = PoolLabels {
                    pool: name.to_owned(),
                };
                let enabled = pool.servers().filter(|(_, it)| !it.disabled).count();
                let loads = pool.servers().filter(|(_, it)| !it.disabled);
                let load: f64 = loads.map(|(_, it)| it.report.load.clamp(0.0, 1.0)).sum();
                self.load
                    .get_or_create(&label)
                    .set(load / enabled.max(1) as f64);
                let disabled = pool.servers().count() - enabled;
                for (state, count) in [("enabled", enabled), ("disabled", disabled)] {
                    let pool = name.to_owned();
                    let labels = ServerLabels { pool, state };
                    self.servers.get_or_create(&labels).set(whole(count));
                }
                self.rooms
                    .get_or_create(&label)
                    .set(whole(pool.rooms().count()));
                let tasks = pool.servers().map(|(_, it)| it.tasks_waiting()).sum();
                self.tasks.get_or_create(&label).set(whole(tasks));
                self.bans.get_or_create(&label).set(whole(pool.bans()));
                self.mutes.get_or_create(&label).set(whole(pool.mutes()));
                for (customer, usage) in pool.usages() {
                    let sum = peers.entry(customer.to_owned()).or_default();
                    *sum = sum.saturating_add(usage.peers);
                }
            }
        });
        self.set_peers(peers);
    }

    fn set_peers(&self, peers: BTreeMap<String, u64>) {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let other = peers.split_off(peers.len().min(CUSTOMERS_MAX));
        let other = other.iter().fold(0_u64, |sum, it| sum.saturating_add(it.1));
        // Who has left must not stand there for ever.
        self.peers.clear();
        for (customer, count) in peers {
            let labels = CustomerLabels { customer };
            self.peers
                .get_or_create(&labels)
                .set(count.try_into().unwrap_or(i64::MAX));
        }
        let labels = CustomerLabels {
            customer: "other".to_owned(),
        };
        self.peers
            .get_or_create(&labels)
            .set(other.try_into().unwrap_or(i64::MAX));
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
