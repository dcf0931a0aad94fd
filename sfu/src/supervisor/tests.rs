//! Against a gateway in this process, and against one that answers from a script.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    sync::Mutex,
    time::SystemTime,
};

use axum::{Json, Router, extract::State, routing::post};
use gateway::{Customer, CustomerSource, InternalUser};
use gateway_api::{KeyKind, KeyPair, MasterKey, sign};
use serde_json::{Value, json};
use service::Secret;
use tokio::task::JoinHandle;

use super::*;

const ENDPOINT: &str = "sfu-1.test:4433";
const PASSWORD: &str = "hunter2";

/// A gateway with one customer; `/internal` asks for credentials.
struct Gateway {
    base: String,
    internal: SocketAddr,
    http: reqwest::Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Gateway {
    async fn start(internal: SocketAddr) -> Self {
        let customer = Customer::with_key("studio", customer_key().public_jwk());
        let master = MasterKey::from_bytes(vec![9; 32]);
        let mut config = gateway::Config::new(master, CustomerSource::Static(vec![customer]));
        config.listen = ([127, 0, 0, 1], 0).into();
        config.internal.listen = Some(internal);
        config.internal.users = vec![InternalUser {
            name: "sfu".to_owned(),
            password: Secret::from(PASSWORD.to_owned()),
        }];
        // Reports that wait are not waited for when it ends.
        config.limit.request_deadline_ms = 10;
        let server = gateway::Server::bind(config).await.unwrap();
        let base = server.base_url();
        let url = server.internal_url();
        let authority = url.trim_start_matches("http://");
        let internal = authority.trim_end_matches("/internal").parse().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            base,
            internal,
            http: reqwest::Client::new(),
            stop,
            running,
        }
    }

    async fn end(self) {
        let _ = self.stop.send(());
        self.running.await.unwrap();
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.unwrap().as_secs();
        let claims =
            json!({"rid": "room", "uid": "bob", "sub": method, "exp": now + 300, "nbf": now});
        let token = sign(&claims, &customer_key());
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let request = self.http.post(&self.base).bearer_auth(token).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn kick(&self) {
        let params = json!({"room_id": "room", "user_id": "bob", "ban_time": 0});
        let answer = self.call("RoomBanClient", params).await;
        assert!(answer["error"].is_null(), "{answer}");
    }
}

fn customer_key() -> KeyPair {
    KeyPair::from_seed(&[1; 32], KeyKind::Customer)
}

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A port of this machine on which nobody listens.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind(any_port()).unwrap();
    listener.local_addr().unwrap()
}

fn config(gateway: SocketAddr) -> config::Supervisor {
    config::Supervisor {
        url: format!("http://{gateway}/internal"),
        credentials: Some(("sfu".to_owned(), Secret::from(PASSWORD.to_owned()))),
        report_interval: Duration::from_secs(5),
        no_warmup: true,
        version: None,
        shutdown_after: None,
    }
}

fn supervisor(config: config::Supervisor) -> Supervisor {
    Supervisor::new(config, Some(ENDPOINT.to_owned())).unwrap()
}

fn one_room() -> Status {
    Status {
        load: 0.25,
        clients: 1,
        rooms: vec![ReportedRoom {
            id: ("studio".to_owned(), "room".to_owned()).into(),
            customer: "studio".to_owned(),
            age: Duration::from_secs(1).into(),
            peers: 1,
        }],
        is_draining: false,
    }
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool, what: &str) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// A supervisor at work with a server that does whatever it is told.
struct Running {
    state: Arc<SupervisorState>,
    orders: mpsc::Receiver<Order>,
    running: JoinHandle<Ended>,
    stop: oneshot::Sender<()>,
}

impl Running {
    fn start(supervisor: Supervisor) -> Self {
        let state = supervisor.state();
        let (sender, orders) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(supervisor.run(one_room, sender, stopped));
        Self {
            state,
            orders,
            running,
            stop,
        }
    }

    async fn next(&mut self) -> Task {
        let order = self.orders.recv().await.unwrap();
        order.done.send(()).unwrap();
        order.task
    }

    async fn end(self) -> Ended {
        let _ = self.stop.send(());
        self.running.await.unwrap()
    }
}

#[tokio::test]
async fn the_settings_come_with_the_gateways_key_behind_the_own_ones() {
    let gateway = Gateway::start(any_port()).await;
    let own = format!(
        "public_address = \"{ENDPOINT}\"\n[supervisor]\nurl = \"http://sfu:{PASSWORD}@{}/internal\"\n\
         [[authorization.keys]]\nkid = \"own\"\n",
        gateway.internal
    );
    let supervisor = supervisor(config(gateway.internal));
    let merged: Table = toml::from_str(&supervisor.settings(&own).await.unwrap()).unwrap();
    let keys = merged["authorization"]["keys"].as_array().unwrap();
    assert_eq!((keys.len(), keys[0]["kid"].as_str()), (2, Some("own")));
    let url = merged["supervisor"]["url"].as_str().unwrap();
    assert!(url.contains(PASSWORD), "the own URL stays whole");
    assert_eq!(
        merged["supervisor"]["report_interval"].as_integer(),
        Some(5000)
    );
}

#[tokio::test]
async fn the_settings_wait_for_a_gateway_that_is_not_there_yet() {
    let port = free_port();
    let supervisor = supervisor(config(port));
    let settings = tokio::spawn(async move { supervisor.settings("").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!settings.is_finished());
    let _gateway = Gateway::start(port).await;
    let merged = settings.await.unwrap().unwrap();
    assert!(merged.contains("kid"), "{merged}");
}

#[tokio::test]
async fn a_gateway_that_forbids_is_asked_once_and_no_error_tells_the_password() {
    let forbidden = async || (http::StatusCode::UNAUTHORIZED, "who are you");
    let address = serve(Router::new().route("/internal", post(forbidden))).await;
    let supervisor = supervisor(config(address));
    let error = supervisor.settings("").await.unwrap_err();
    let text = format!("{error} {error:?} {supervisor:?}");
    assert!(text.contains("401"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

#[tokio::test]
async fn an_unreachable_gateways_error_tells_neither_password_nor_url() {
    let supervisor = supervisor(config(free_port()));
    let report = supervisor.report(Status::default(), None, FAREWELL_TIMEOUT);
    let error = anyhow::Error::from(report.await.unwrap_err());
    let text = format!("{error:?} {error:#}");
    assert!(!text.contains(PASSWORD), "{text}");
    assert!(!text.contains("/internal"), "{text}");
}

#[tokio::test]
async fn settings_that_are_not_toml_are_not_sent() {
    let supervisor = supervisor(config(free_port()));
    let error = supervisor.settings("key = ").await.unwrap_err();
    assert!(matches!(error, SupervisorError::OwnSettings), "{error}");
}

#[tokio::test]
async fn a_kick_arrives_at_once_through_the_report_that_waits() {
    let gateway = Gateway::start(any_port()).await;
    let mut server = Running::start(supervisor(config(gateway.internal)));
    // The gateway knows the room once the first report is there; nothing answers it for five seconds.
    eventually(
        async || gateway.call("Connect", json!({})).await["result"]["address"] == ENDPOINT,
        "the room is on the server",
    )
    .await;
    for _ in 0..3 {
        let asked = Instant::now();
        gateway.kick().await;
        let task = server.next().await;
        let took = asked.elapsed();
        assert!(matches!(task, Task::RoomBanClient { user_id, .. } if user_id == "bob"));
        assert!(took < Duration::from_millis(250), "{took:?}");
    }
    assert!(server.state.is_connected());
    assert!(server.state.answer_age(Instant::now()).is_some());
    assert_eq!(server.end().await, Ended::Stopped);
}

#[tokio::test]
async fn a_gateway_that_went_away_and_is_back_goes_on_where_it_was() {
    let gateway = Gateway::start(any_port()).await;
    let port = gateway.internal;
    let quick = config::Supervisor {
        report_interval: Duration::from_millis(200),
        ..config(port)
    };
    let mut server = Running::start(supervisor(quick));
    eventually(async || server.state.is_connected(), "connected").await;
    gateway.kick().await;
    server.next().await;
    gateway.end().await;
    eventually(async || !server.state.is_connected(), "the loss is noticed").await;
    assert!(!server.running.is_finished(), "the server goes on");

    let gateway = Gateway::start(port).await;
    eventually(async || server.state.is_connected(), "back").await;
    gateway.kick().await;
    server.next().await;
    // Reports that acknowledge it.
    let answers = server.state.answers();
    eventually(async || server.state.answers() > answers + 2, "reports").await;
    assert!(server.orders.try_recv().is_err(), "carried out once");
    let kicks: Vec<_> = server
        .state
        .tasks()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(kicks, [("RoomBanClient", 2)]);
    assert!(server.state.failures() > 0);
    server.end().await;
}

#[tokio::test]
async fn a_server_that_may_not_run_alone_ends_when_its_gateway_is_lost() {
    let alone = config::Supervisor {
        report_interval: Duration::from_millis(20),
        shutdown_after: Some(Duration::from_millis(100)),
        ..config(free_port())
    };
    let server = Running::start(supervisor(alone));
    let ended = server.running.await.unwrap();
    let Ended::Lost { silent } = ended else {
        panic!("{ended:?}");
    };
    assert!(silent >= Duration::from_millis(100), "{silent:?}");
}

#[tokio::test]
async fn a_farewell_keeps_everybody_away() {
    let gateway = Gateway::start(any_port()).await;
    let supervisor = supervisor(config(gateway.internal));
    let server = Running::start(supervisor.clone());
    let address = async || gateway.call("Connect", json!({})).await["result"]["address"].clone();
    eventually(async || address().await == ENDPOINT, "the room is there").await;
    supervisor.farewell(&Status::default()).await;
    assert_eq!(address().await, Value::Null, "there is no other server");
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_farewell_waits_a_second_and_no_longer() {
    // Connections stand, and nobody reads.
    let listener = TcpListener::bind(any_port()).unwrap();
    let supervisor = supervisor(config(listener.local_addr().unwrap()));
    let started = now();
    supervisor.farewell(&Status::default()).await;
    assert!(now() - started <= FAREWELL_TIMEOUT + Duration::from_millis(10));
}

#[test]
fn servers_that_start_together_do_not_call_together() {
    assert_eq!(pause(0, 1.0), PAUSE_MIN);
    assert_eq!(pause(1, 1.0), PAUSE_MIN * 2);
    assert_eq!(pause(u32::MAX, 1.0), PAUSE_MAX);
    assert_eq!(pause(u32::MAX, 0.0), PAUSE_MAX / 2);
}

/// What a scripted gateway answers, and what it was told.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Value>>,
    reports: Mutex<Vec<Value>>,
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

impl Script {
    async fn serve(answers: impl IntoIterator<Item = Value>) -> (SocketAddr, Arc<Self>) {
        let script = Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            reports: Mutex::default(),
        });
        let router = Router::new()
            .route("/internal", post(Self::answer))
            .with_state(Arc::clone(&script));
        (serve(router).await, script)
    }

    async fn answer(State(script): State<Arc<Self>>, Json(call): Json<Value>) -> Json<Value> {
        assert_eq!(call["method"], "sfu.Report");
        script.reports.lock().unwrap().push(call["params"].clone());
        let next = script.answers.lock().unwrap().pop_front();
        match next {
            Some(answer) => Json(json!({"jsonrpc": "2.0", "id": 1, "result": answer})),
            // Held back until the test is over.
            None => std::future::pending().await,
        }
    }

    fn acknowledged(&self) -> Vec<u64> {
        let reports = self.reports.lock().unwrap();
        let acknowledged = reports.iter().map(|it| it["acknowledged"].as_u64());
        acknowledged.map(Option::unwrap).collect()
    }
}

fn update(task_id: u64) -> Value {
    json!({"task": "RoomUpdate", "id": ["n", "r"], "user_data": [task_id], "task_id": task_id})
}

fn bytes(task: &Task) -> &[u8] {
    match task {
        Task::RoomUpdate { user_data, .. } => user_data,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tasks_are_carried_out_once_in_order_and_acknowledged() {
    let unknown = json!({"task": "RoomPaint", "task_id": 6});
    let (address, script) = Script::serve([
        json!({"tasks": [update(5), unknown, update(7)]}),
        // As if the acknowledgement had not been heard, and with one of a gateway whose clock is behind.
        json!({"tasks": [update(7), update(3)]}),
        // Nothing new: what is acknowledged last is what came last.
        json!({"tasks": [update(5)]}),
        // Not an answer; and the first pause after it.
        json!({"tasks": "none"}),
        json!({"tasks": [update(8)]}),
    ])
    .await;
    let mut server = Running::start(supervisor(config(address)));
    for expected in [5, 7, 3, 8] {
        assert_eq!(bytes(&server.next().await), [expected]);
    }
    eventually(async || script.acknowledged().len() == 6, "six reports").await;
    assert_eq!(script.acknowledged(), [0, 7, 3, 5, 5, 8]);
    assert_eq!((server.state.answers(), server.state.failures()), (4, 1));
    let tasks: Vec<_> = server
        .state
        .tasks()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(tasks, [("RoomUpdate", 4), ("unknown", 1)]);
    server.end().await;
}

#[tokio::test]
async fn a_gateway_that_holds_nothing_back_is_not_called_more_often_than_every_interval() {
    let interval = Duration::from_millis(100);
    let (address, script) = Script::serve(vec![json!({"tasks": []}); 1_000]).await;
    let plain = config::Supervisor {
        report_interval: interval,
        ..config(address)
    };
    let started = Instant::now();
    let server = Running::start(supervisor(plain));
    eventually(async || script.acknowledged().len() >= 4, "four reports").await;
    let reports = script.acknowledged().len() as u32;
    let most = started.elapsed().div_duration_f64(interval) + 1.0;
    assert!(f64::from(reports) <= most, "{reports} are more than {most}");
    server.end().await;
}

#[tokio::test]
async fn the_next_task_waits_until_the_one_before_is_done() {
    let (address, script) = Script::serve([json!({"tasks": [update(1), update(2)]})]).await;
    let mut server = Running::start(supervisor(config(address)));
    let first = server.orders.recv().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), server.orders.recv()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(script.acknowledged(), [0]);
    // A server that lost it is not asked again.
    drop(first.done);
    assert_eq!(bytes(&server.next().await), [2]);
    eventually(async || script.acknowledged() == [0, 2], "acknowledged").await;
    server.end().await;
}

#[tokio::test]
async fn a_report_says_what_the_plain_protocol_asks_for_and_no_more_than_is_known() {
    let (address, script) = Script::serve([]).await;
    let number = config::Supervisor {
        version: Some(123_456),
        ..config(address)
    };
    let server = Running::start(Supervisor::new(number, None).unwrap());
    eventually(async || !script.acknowledged().is_empty(), "a report").await;
    let report = script.reports.lock().unwrap()[0].clone();
    let version = format!("{}+123456", env!("CARGO_PKG_VERSION"));
    let age = json!({"secs": 1, "nanos": 0});
    let room = json!({"id": ["studio", "room"], "customer": "studio", "age": age, "peers": 1});
    let expected = json!({
        "version": version, "load": 0.25, "clients": 1, "rooms": [room], "acknowledged": 0, "wait_ms": 5000,
    });
    assert_eq!(report, expected);
    server.end().await;
}

#[tokio::test]
async fn nobody_takes_orders_any_more_ends_the_reports() {
    let (address, _script) = Script::serve([json!({"tasks": [update(1)]})]).await;
    let server = Running::start(supervisor(config(address)));
    drop(server.orders);
    assert_eq!(server.running.await.unwrap(), Ended::Stopped);
}
