//! What the server counts, in Prometheus' text format.
//!
//! Names start with `sfu_`, except the two for bills, which the ODIN server has too. Nothing names a user or an address.

mod customers;
mod labels;
mod listener;
mod shard;
mod supervisor;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use crate::{
    config,
    load::{Usage, process_time},
    supervisor::SupervisorState,
};
pub(crate) use customers::CustomerCounters;
use customers::Customers;
use labels::{
    CallLabels, ConnectionLabels, OutcomeLabels, ReasonLabels, TransportLabels, global_labels,
};
pub(crate) use labels::{CallOutcome, Connection, Transport};
pub(crate) use listener::{Listener, bind};
use shard::Shards;
pub(crate) use shard::{Queue, ShardCounters};
use supervisor::Supervisor;

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a peer as lost until it is dropped.
#[derive(Debug)]
pub(crate) struct LostPeer(Gauge);

impl Drop for LostPeer {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The numbers of one server.
pub(crate) struct Metrics {
    /// Those whose names start with `sfu_`.
    registry: Registry,
    /// Those whose names do not.
    billing: Registry,
    shards: Vec<Arc<ShardCounters>>,
    customers: Arc<Customers>,
    supervisor: Option<Supervisor>,
    clients: Family<TransportLabels, Gauge>,
    peers: Family<TransportLabels, Gauge>,
    lost_peers: Gauge,
    resumed_peers: Counter,
    expired_peers: Counter,
    rooms: Gauge,
    calls: Family<CallLabels, Counter>,
    connections: Family<ConnectionLabels, Counter>,
    connections_open: Family<ConnectionLabels, Gauge>,
    closed: Family<ReasonLabels, Counter>,
    fleet_reports: Family<OutcomeLabels, Counter>,
    load: Gauge<f64, AtomicU64>,
    process_seconds: Counter<f64, AtomicU64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All at zero, with counters for so many shards. `drop_reasons` names why packets are dropped, in the order of
    /// their indices.
    pub(crate) fn new(
        config: &config::Metrics,
        shards: usize,
        drop_reasons: &'static [&'static str],
        supervisor: Option<Arc<SupervisorState>>,
    ) -> Self {
        let labels = global_labels(&config.global_labels);
        let shard = |_| Arc::new(ShardCounters::new(drop_reasons));
        let mut metrics = Self {
            registry: Registry::with_prefix_and_labels("sfu", labels.clone().into_iter()),
            billing: Registry::with_labels(labels.into_iter()),
            shards: (0..shards).map(shard).collect(),
            customers: Arc::new(Customers::new(config.idle_timeout)),
            supervisor: None,
            clients: Family::default(),
            peers: Family::default(),
            lost_peers: Gauge::default(),
            resumed_peers: Counter::default(),
            expired_peers: Counter::default(),
            rooms: Gauge::default(),
            calls: Family::default(),
            connections: Family::default(),
            connections_open: Family::default(),
            closed: Family::default(),
            fleet_reports: Family::default(),
            load: Gauge::default(),
            process_seconds: Counter::default(),
        };
        for transport in Transport::ALL {
            metrics.clients(transport).set(0);
            metrics.peers(transport).set(0);
        }
        metrics.register();
        metrics.supervisor =
            supervisor.map(|state| Supervisor::register(state, &mut metrics.registry));
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Which server this is", Info::new(version));
        let text = "Connected clients by transport";
        registry.register("clients", text, self.clients.clone());
        let text = "Peers in rooms by transport";
        registry.register("peers", text, self.peers.clone());
        let text =
            "Peers that lost their connection and whose place is kept; they count among the peers";
        registry.register("lost_peers", text, self.lost_peers.clone());
        let text = "Peers that came back after they had lost their connection";
        registry.register("resumed_peers", text, self.resumed_peers.clone());
        let text = "Peers that lost their connection and did not come back in time";
        registry.register("expired_peers", text, self.expired_peers.clone());
        registry.register("rooms", "Rooms", self.rooms.clone());
        let text = "Calls of clients by method and outcome";
        registry.register("calls", text, self.calls.clone());
        let text = "Connections of web clients that were taken, by kind";
        registry.register("connections", text, self.connections.clone());
        let text = "Connections of web clients that are open, by kind";
        registry.register("open_connections", text, self.connections_open.clone());
        let text = "Connections and streams that the server closed or refused, by reason";
        registry.register("closed", text, self.closed.clone());
        let text = "How busy the server is, 0 to 1, as its gateway is told";
        registry.register("load", text, self.load.clone());
        let text = "Processor time of the whole server, on all cores";
        registry.register("process_cpu_seconds", text, self.process_seconds.clone());
        registry.register_collector(Box::new(Shards(self.shards.clone())));
        self.billing
            .register_collector(Box::new(Arc::clone(&self.customers)));
    }

    /// Shows the reports to the Fleet as well.
    pub(crate) fn register_fleet(&mut self) {
        for is_success in [true, false] {
            let labels = OutcomeLabels::of(is_success);
            // It is shown from now on, at zero.
            let _ = self.fleet_reports.get_or_create_owned(&labels);
        }
        let text = "Reports to the Fleet, as metadata of this server's service, by outcome";
        self.registry
            .register("fleet_reports", text, self.fleet_reports.clone());
    }

    /// The counters of all shards.
    pub(crate) fn shards(&self) -> &[Arc<ShardCounters>] {
        &self.shards
    }

    /// The counters of a customer, for a room of theirs. Of many customers the last ones share counters.
    pub(crate) fn customer(&self, customer: &str, now: Instant) -> Arc<CustomerCounters> {
        self.customers.counters(customer, now)
    }

    /// Connected clients.
    pub(crate) fn clients(&self, transport: Transport) -> Gauge {
        self.clients.get_or_create_owned(&transport.labels())
    }

    /// Peers in rooms.
    pub(crate) fn peers(&self, transport: Transport) -> Gauge {
        self.peers.get_or_create_owned(&transport.labels())
    }

    /// A peer is lost as long as what is given.
    pub(crate) fn lost_peer(&self) -> LostPeer {
        self.lost_peers.inc();
        LostPeer(self.lost_peers.clone())
    }

    /// A lost peer has come back.
    pub(crate) fn peer_resumed(&self) {
        self.resumed_peers.inc();
    }

    /// A lost peer has not come back in time.
    pub(crate) fn peer_expired(&self) {
        self.expired_peers.inc();
    }

    /// Rooms.
    pub(crate) fn rooms(&self) -> &Gauge {
        &self.rooms
    }

    /// Clients, peers and rooms as they are counted.
    pub(crate) fn usage(&self) -> Usage {
        let sum = |count: fn(&Self, Transport) -> Gauge| {
            let counts = Transport::ALL.map(|transport| whole(count(self, transport).get()));
            counts.into_iter().sum()
        };
        Usage {
            clients: sum(Self::clients),
            peers: sum(Self::peers),
            rooms: whole(self.rooms.get()),
        }
    }

    /// A client's call has ended.
    pub(crate) fn call(&self, method: &'static str, outcome: CallOutcome) {
        let outcome = outcome.label();
        self.calls
            .get_or_create(&CallLabels { method, outcome })
            .inc();
    }

    /// A connection was taken; it is open as long as what is given.
    pub(crate) fn connection(&self, connection: Connection) -> OpenConnection {
        let labels = connection.labels();
        self.connections.get_or_create(&labels).inc();
        let open = self.connections_open.get_or_create_owned(&labels);
        open.inc();
        OpenConnection(open)
    }

    /// The server has closed or refused a connection or a stream.
    pub(crate) fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// The Fleet has taken a report, or has not.
    pub(crate) fn fleet_report(&self, is_success: bool) {
        let labels = OutcomeLabels::of(is_success);
        self.fleet_reports.get_or_create(&labels).inc();
    }

    /// Reports that the Fleet has taken, and those that it has not.
    #[cfg(test)]
    pub(crate) fn fleet_reports(&self) -> (u64, u64) {
        let [success, failure] = [true, false].map(|is_success| {
            let labels = OutcomeLabels::of(is_success);
            self.fleet_reports.get_or_create_owned(&labels).get()
        });
        (success, failure)
    }

    /// How busy the server is, 0 to 1.
    pub(crate) fn set_load(&self, load: f64) {
        self.load.set(load);
    }

    /// How busy the server is, 0 to 1, as it was set last.
    pub(crate) fn load(&self) -> f64 {
        self.load.get()
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn text(&self, now: Instant) -> String {
        self.customers.look(now);
        let cpu = process_time().as_secs_f64();
        let inner = self.process_seconds.inner();
        inner.store(cpu.to_bits(), Ordering::Relaxed);
        if let Some(supervisor) = &self.supervisor {
            supervisor.look(now);
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &self.billing);
        let _ = encode_eof(&mut text);
        text
    }
}

fn whole(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{labels::OWN_LABELS, *};

    pub(super) fn config(labels: &[(&str, &str)]) -> config::Metrics {
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        config::Metrics {
            binding: ([127, 0, 0, 1], 0).into(),
            idle_timeout: Duration::from_secs(3600),
            global_labels: labels.iter().map(text).collect(),
            allowed: vec!["127.0.0.1/8".parse().unwrap()],
            system_update_interval: Duration::from_secs(15),
        }
    }

    fn check(text: &str, lines: &[&str]) {
        for line in lines {
            let is_there = text.lines().any(|it| it == *line);
            assert!(is_there, "{line} is not in\n{text}");
        }
    }

    /// `D` stands for the global label, `V` for the version.
    const SHOWN: [&str; 39] = [
        r#"sfu_build_info{D,version="V"} 1"#,
        r#"sfu_clients{D,transport="web"} 3"#,
        r#"sfu_clients{D,transport="quic"} 0"#,
        r#"sfu_peers{D,transport="quic"} 1"#,
        r#"sfu_lost_peers{D} 0"#,
        r#"sfu_resumed_peers_total{D} 1"#,
        r#"sfu_expired_peers_total{D} 1"#,
        r#"sfu_rooms{D} 2"#,
        r#"sfu_calls_total{D,method="JoinRoom",outcome="rejected"} 1"#,
        r#"sfu_connections_total{D,kind="websocket"} 2"#,
        r#"sfu_open_connections{D,kind="websocket"} 1"#,
        r#"sfu_load{D} 0.5"#,
        r#"sfu_packets_in_total{D,shard="0"} 0"#,
        r#"sfu_packets_in_total{D,shard="1"} 1"#,
        r#"sfu_bytes_in_total{D,shard="1"} 100"#,
        r#"sfu_packets_out_total{D,shard="1"} 3"#,
        r#"sfu_bytes_out_total{D,shard="1"} 300"#,
        r#"sfu_drops_total{D,shard="1",reason="late"} 1"#,
        r#"sfu_drops_total{D,shard="1",reason="full"} 0"#,
        r#"sfu_forward_seconds_bucket{D,le="0.00005",shard="1"} 0"#,
        r#"sfu_forward_seconds_bucket{D,le="0.0001",shard="1"} 1"#,
        r#"sfu_forward_seconds_bucket{D,le="0.25",shard="1"} 1"#,
        r#"sfu_forward_seconds_bucket{D,le="+Inf",shard="1"} 2"#,
        r#"sfu_forward_seconds_count{D,shard="1"} 2"#,
        r#"sfu_forward_seconds_sum{D,shard="1"} 1.00007"#,
        r#"sfu_shard_busy_seconds_total{D,shard="1"} 1.5"#,
        r#"sfu_shard_stream_budget{D,shard="0"} 0"#,
        r#"sfu_shard_stream_budget{D,shard="1"} 64"#,
        r#"sfu_shard_queue{D,shard="1",queue="commands"} 0"#,
        r#"sfu_shard_queue{D,shard="1",queue="outgoing"} 9"#,
        r#"sfu_fleet_reports_total{D,outcome="success"} 1"#,
        r#"sfu_fleet_reports_total{D,outcome="failure"} 0"#,
        r#"sfu_supervisor_connected{D} 0"#,
        r#"sfu_supervisor_answer_age_seconds{D} -1.0"#,
        r#"sfu_supervisor_reports_total{D,outcome="failure"} 0"#,
        r#"sfu_supervisor_tasks_total{D,task="RoomClose"} 0"#,
        r#"billing_voice_incoming_bytes{D,customer="studio"} 100"#,
        r#"billing_voice_outgoing_bytes{D,customer="studio"} 300"#,
        "# EOF",
    ];

    /// Where something of everything has happened.
    fn busy(now: Instant) -> Metrics {
        let supervisor = Arc::new(SupervisorState::default());
        let config = config(&[("deployment", "a \"b\"")]);
        let mut metrics = Metrics::new(&config, 2, &["late", "full"], Some(supervisor));
        metrics.register_fleet();
        metrics.fleet_report(true);
        metrics.clients(Transport::Web).set(3);
        metrics.peers(Transport::Quic).inc();
        metrics.rooms().set(2);
        drop(metrics.lost_peer());
        metrics.peer_resumed();
        metrics.peer_expired();
        metrics.call("JoinRoom", CallOutcome::Rejected);
        metrics.set_load(0.5);
        drop(metrics.connection(Connection::WebSocket));
        let shard = &metrics.shards()[1];
        shard.packet_in(100);
        shard.packets_out(3, 300);
        shard.dropped(0);
        shard.forwarded(Duration::from_micros(70));
        shard.forwarded(Duration::from_secs(1));
        shard.busy(Duration::from_millis(1_500));
        shard.queue_depth(Queue::Outgoing, 9);
        shard.stream_budget(Some(64));
        let customer = metrics.customer("studio", now);
        customer.incoming(100);
        customer.outgoing(300);
        metrics
    }

    #[test]
    fn every_number_is_shown_with_the_global_labels() {
        let now = Instant::now();
        let metrics = busy(now);
        let _open = metrics.connection(Connection::WebSocket);
        let labels = r#"deployment="a \"b\"""#;
        let version = env!("CARGO_PKG_VERSION");
        let expected = SHOWN.map(|it| it.replace("{D", &format!("{{{labels}")));
        let expected = expected.map(|it| it.replace("\"V\"", &format!("\"{version}\"")));
        let text = metrics.text(now);
        check(&text, &expected.each_ref().map(String::as_str));
        let cpu = text.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            name.starts_with("sfu_process_cpu_seconds_total")
                .then_some(value)
        });
        let cpu: f64 = cpu.unwrap().parse().unwrap();
        assert!(cpu > 0.0 && cpu <= process_time().as_secs_f64(), "{cpu}");
        let usage = Usage {
            clients: 3,
            peers: 1,
            rooms: 2,
        };
        assert_eq!(metrics.usage(), usage);
    }

    #[test]
    fn every_series_says_what_it_is() {
        let metrics = Metrics::new(&config(&[]), 1, &["late"], Some(Arc::default()));
        metrics.customer("studio", Instant::now());
        metrics.call("JoinRoom", CallOutcome::Success);
        drop(metrics.connection(Connection::Http));
        let text = metrics.text(Instant::now());
        let mut described = "";
        let mut names = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(help.len() > 4, "{line}");
                assert!(!names.contains(&name), "{name} twice");
                names.push(name);
                described = name;
            } else if !line.starts_with('#') {
                assert!(line.starts_with(described), "{line} after {described}");
            }
        }
        assert!(names.len() > 20, "{names:?}");
    }

    #[test]
    fn a_server_without_a_gateway_and_a_fleet_shows_none() {
        let text = Metrics::new(&config(&[]), 1, &[], None).text(Instant::now());
        for word in ["supervisor", "fleet"] {
            assert!(!text.contains(word), "{text}");
        }
    }

    #[test]
    fn every_label_is_known_as_taken() {
        let metrics = Metrics::new(&config(&[]), 1, &["late"], Some(Arc::default()));
        metrics.customer("studio", Instant::now());
        metrics.call("JoinRoom", CallOutcome::Success);
        drop(metrics.connection(Connection::Http));
        let text = metrics.text(Instant::now());
        let names = text.lines().filter(|line| !line.starts_with('#'));
        let names = names.filter_map(|line| line.split_once('{')?.1.split_once('}'));
        for label in names.flat_map(|(labels, _)| labels.split(',')) {
            let (name, _) = label.split_once('=').unwrap();
            assert!(OWN_LABELS.contains(&name), "{name}");
        }
    }
}
