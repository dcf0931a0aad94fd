//! Gateways' stores, and the commands they are given.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gateway::{
    Action, Connect, Delivery, Grid, Outcome, Pick, RedisConfig, RedisTuning, Refused, ServerRef,
    ServerReport, Store, Timing,
};
use gateway_api::{ReportedRoom, RoomId, Task};
use tokio::task::JoinHandle;

use crate::redis_server::RedisServer;

/// Longest time until something comes true.
const PATIENCE: Duration = Duration::from_secs(15);

/// Quick ticks; a machine that is busy does not make servers silent.
pub(crate) fn timing() -> Timing {
    Timing {
        update_interval: Duration::from_millis(200),
        disable_timeout: Duration::from_secs(10),
        ..Timing::default()
    }
}

/// How stores reach a Redis, and how they work with it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    redis: RedisConfig,
    pub(crate) tuning: RedisTuning,
}

pub(crate) fn options(redis: &RedisServer) -> Options {
    options_for(&redis.url())
}

pub(crate) fn options_for(url: &str) -> Options {
    Options {
        redis: RedisConfig {
            url: url.to_owned().into(),
            prefix: "test".to_owned(),
        },
        tuning: RedisTuning::default(),
    }
}

/// A store that runs. Dropped, it is gone without a word, as a killed process is.
pub(crate) struct Gateway {
    pub(crate) store: Arc<Store>,
    driver: JoinHandle<()>,
}

impl Gateway {
    pub(crate) async fn start(options: &Options) -> Self {
        let store = Store::redis(&options.redis, options.tuning, timing()).await;
        let store = Arc::new(store.expect("an address"));
        let driver = tokio::spawn(Arc::clone(&store).run(std::future::pending()));
        Self { store, driver }
    }

    pub(crate) fn grid(&self) -> Grid {
        self.store.read(Grid::clone)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Waits until something is true.
pub(crate) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    eventually_async(what, async || is_true()).await;
}

/// Waits until something is true that is asked for.
pub(crate) async fn eventually_async(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    assert!(in_time.is_ok(), "not within {PATIENCE:?}: {what}");
}

pub(crate) fn room(name: &str) -> RoomId {
    RoomId::from(("customer".to_owned(), name.to_owned()))
}

pub(crate) fn server(address: &str) -> ServerRef {
    ServerRef {
        pool: String::new(),
        address: address.to_owned(),
    }
}

pub(crate) async fn connect(store: &Store, name: &str, user: &str) -> Result<String, Refused> {
    let connect = Connect {
        pool: String::new(),
        rooms: vec![room(name)],
        customer: "customer".to_owned(),
        user: user.to_owned(),
        forced: None,
        preferred: None,
        pick: Pick::Roll(fastrand::u64(..)),
    };
    match store.submit(Action::Connect(connect)).await {
        Outcome::Connected(result) => result,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn report(
    store: &Store,
    address: &str,
    rooms: &BTreeSet<String>,
    acknowledged: Option<u64>,
) -> Delivery {
    let reported = |name: &String| ReportedRoom {
        id: room(name),
        customer: "customer".to_owned(),
        age: Duration::from_secs(1).into(),
        peers: 1,
    };
    let key_id = serde_json::from_value(address.into()).expect("any text is an id");
    let report = ServerReport {
        server: server(address),
        key_id,
        version: "1.2.3".to_owned(),
        load: fastrand::f64() * 0.9,
        clients: 7,
        rooms: rooms.iter().map(reported).collect(),
        acknowledged,
        released: None,
        draining: false,
    };
    match store.submit(Action::Report(report)).await {
        Outcome::Tasks(Ok(delivery)) => delivery,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn moderate(store: &Store, task: Task) -> Result<(), Refused> {
    let pool = String::new();
    match store.submit(Action::Moderate { pool, task }).await {
        Outcome::Moderated(result) => result,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ban(name: &str, user: &str) -> Task {
    Task::RoomBanClient {
        id: room(name),
        user_id: user.to_owned(),
        ban_time: Duration::from_secs(600).into(),
    }
}

pub(crate) fn mute(name: &str, user: &str) -> Task {
    Task::RoomMuteClient {
        id: room(name),
        user_id: user.to_owned(),
        listener_id: None,
        mute_time: Duration::from_secs(600).into(),
        reason: "noise".to_owned(),
    }
}

pub(crate) fn message(name: &str, number: u32) -> Task {
    Task::RoomSendMessage {
        id: room(name),
        user_id: "user".to_owned(),
        message: number.to_be_bytes().to_vec(),
    }
}

/// Waits until two gateways agree on everything.
pub(crate) async fn equal(one: &Gateway, other: &Gateway) {
    eventually("both grids are equal", || {
        one.store.health().online && other.store.health().online && one.grid() == other.grid()
    })
    .await;
}
