//! What a store in Redis does that others cannot.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::{redis_server::RedisServer, *};

const PREFIX: &str = "bifrost:bridge:7:";

/// Long enough on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time of one call, and some for a machine that is busy.
const CALL_TIME: Duration = Duration::from_millis(3_000);

/// A store in this Redis.
pub(in crate::store) async fn open(server: &RedisServer) -> Store {
    open_at(&server.url()).await
}

async fn open_at(url: &str) -> Store {
    let config = StoreConfig::Redis {
        url: url.to_owned().into(),
        prefix: PREFIX.to_owned(),
    };
    Store::open(&config).await.unwrap()
}

/// A store that follows events until it is dropped.
struct Running {
    store: Arc<Store>,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<()>,
}

async fn run(server: &RedisServer) -> Running {
    let store = Arc::new(open(server).await);
    let (stop, stopped) = oneshot::channel();
    let running = Arc::clone(&store);
    let task = tokio::spawn(async move {
        running.run(async { drop(stopped.await) }).await;
    });
    Running {
        store,
        _stop: stop,
        _task: task,
    }
}

/// Waits until so many events are known, from the start of the history.
async fn wait_for(store: &Store, newest: u64) {
    let mut known = store.newest_event();
    let waited = timeout(PATIENCE, known.wait_for(|known| *known >= newest)).await;
    waited.unwrap().unwrap();
}

/// Waits until events are followed.
async fn followed(store: &Store) -> u64 {
    wait_for(store, 1).await;
    *store.newest_event().borrow()
}

async fn unavailable(store: &Store) -> String {
    let since = Instant::now();
    let error = store.commit(&commit().put(m("never"), "1")).await;
    assert!(since.elapsed() < CALL_TIME, "{:?}", since.elapsed());
    error.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bridges_see_the_commits_and_events_of_each_other() {
    let server = RedisServer::start().await;
    let (one, two) = (run(&server).await, run(&server).await);
    assert_eq!(one.store.id().await.unwrap(), two.store.id().await.unwrap());
    let before = followed(&two.store).await;
    followed(&one.store).await;
    let put = commit().put(Key::Server(1), "1").due(Timestamp(1));
    let version = put.event("instance:1", "claimed").done(&one.store).await;
    wait_for(&two.store, before + 1).await;
    let page = two.store.events(before, 10).await.unwrap();
    assert_eq!(&*page.events[0].kind, "claimed");
    assert_eq!(two.store.due(10).await.unwrap(), [Key::Server(1)]);
    let again = |version| {
        commit()
            .expect(Key::Server(1), version)
            .put(Key::Server(1), "2")
    };
    again(None).conflicts(&two.store).await;
    again(Some(version)).done(&two.store).await;
    again(Some(version)).conflicts(&one.store).await;
    let keys: Vec<String> = server.ask("KEYS *").await;
    assert!(keys.iter().all(|key| key.starts_with(PREFIX)), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bridges_that_count_together_lose_nothing() {
    const EACH: usize = 50;
    let server = RedisServer::start().await;
    let count = |store: Store| async move {
        for _ in 0..EACH {
            loop {
                let document = load(&store, Key::Server(1)).await;
                let count: usize = document.as_ref().map_or(0, |it| it.text.parse().unwrap());
                let version = document.map(|it| it.version);
                let next = commit().expect(Key::Server(1), version);
                let next = next.put(Key::Server(1), &(count + 1).to_string());
                if store.commit(&next).await.unwrap() == Committed::Done {
                    break;
                }
            }
        }
    };
    let (one, two) = (open(&server).await, open(&server).await);
    let one = tokio::spawn(count(one));
    count(two).await;
    one.await.unwrap();
    let store = open(&server).await;
    assert_eq!(text(&store, Key::Server(1)).await.unwrap(), "100");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_comes_back_with_everything() {
    let mut server = RedisServer::start().await;
    let running = run(&server).await;
    let store = &running.store;
    let before = followed(store).await;
    let put = commit().put(m("a"), "1").due(Timestamp(1));
    let version = put.event("match:a", "1").done(store).await;
    wait_for(store, before + 1).await;
    let id = store.id().await.unwrap();

    server.kill();
    let error = unavailable(store).await;
    assert!(
        error.starts_with("the store cannot be reached: Redis: "),
        "{error}"
    );
    assert!(!store.healthy().await);
    assert!(store.load(&[m("a")]).await.is_err());

    server.restart().await;
    assert_eq!(store.id().await.unwrap(), id);
    assert!(store.healthy().await);
    assert_eq!(load(store, m("a")).await.unwrap().version, version);
    assert_eq!(store.due(10).await.unwrap(), [m("a")]);
    commit().event("match:a", "2").done(store).await;
    wait_for(store, before + 2).await;
    let page = store.events(before, 10).await.unwrap();
    assert_eq!(page.events.len(), 2);
    assert!(!page.has_gap(before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_restart_goes_unnoticed() {
    let mut server = RedisServer::start().await;
    let store = Arc::new(open(&server).await);
    commit().put(m("a"), "1").done(&store).await;
    server.kill();
    let committing = Arc::clone(&store);
    let commit = commit().put(m("b"), "1").event("match:b", "1");
    let committed = tokio::spawn(async move { committing.commit(&commit).await });
    server.restart().await;
    assert_eq!(committed.await.unwrap().unwrap(), Committed::Done);
    assert_eq!(store.events(0, 10).await.unwrap().events.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_is_not_waited_for() {
    let server = RedisServer::start().await;
    let running = run(&server).await;
    let store = &running.store;
    let before = followed(store).await;
    server.pause();
    unavailable(store).await;
    assert!(!store.healthy().await);
    server.resume();
    // What was sent before may have been carried out since; this is another commit.
    commit().event("a", "b").done(store).await;
    wait_for(store, before + 1).await;
    assert!(store.healthy().await);
}

/// Stands between a store and its Redis. Once told to, it breaks the connection instead of bringing the next answer.
async fn forgetful_proxy(server: String) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let forgets = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&forgets);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&server).await.unwrap();
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let answers = async {
                    let mut bytes = [0; 4096];
                    loop {
                        let count = from_server.read(&mut bytes).await.unwrap_or(0);
                        if count == 0 || told.swap(false, Ordering::SeqCst) {
                            return;
                        }
                        if to_client.write_all(&bytes[..count]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    () = answers => {}
                }
            });
        }
    });
    (format!("redis://{address}/"), forgets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_applied_once() {
    let server = RedisServer::start().await;
    let (url, forgets) = forgetful_proxy(server.address()).await;
    let store = open_at(&url).await;
    let first = commit().put(Key::Server(1), "1").done(&store).await;
    forgets.store(true, Ordering::SeqCst);
    let again = commit().expect(Key::Server(1), Some(first));
    let again = again.put(Key::Server(1), "2").event("a", "b");
    again.done(&store).await;
    assert!(!forgets.load(Ordering::SeqCst));
    assert_eq!(text(&store, Key::Server(1)).await.unwrap(), "2");
    assert_eq!(store.events(0, 10).await.unwrap().events.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_everything_has_another_history() {
    let server = RedisServer::start().await;
    let running = run(&server).await;
    let store = &running.store;
    followed(store).await;
    let put = commit()
        .put(m("a"), "1")
        .event("match:a", "1")
        .event("match:a", "2");
    let version = put.done(store).await;
    let newest = store.events(0, 10).await.unwrap().newest;
    wait_for(store, newest).await;
    let id = store.id().await.unwrap();

    let () = server.ask("FLUSHALL").await;
    commit()
        .expect(m("a"), Some(version))
        .put(m("a"), "2")
        .conflicts(store)
        .await;
    commit()
        .expect(m("a"), None)
        .put(m("a"), "2")
        .event("match:a", "3")
        .done(store)
        .await;
    assert_ne!(store.id().await.unwrap(), id);
    // Whoever follows is woken, and finds that events are missing.
    wait_for(store, newest + 1).await;
    let page = store.events(newest, 10).await.unwrap();
    assert!(page.has_gap(newest), "{newest} {page:?}");
    let kinds: Vec<_> = page.events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_history_is_noticed_without_a_commit() {
    let server = RedisServer::start().await;
    let running = run(&server).await;
    let store = &running.store;
    let before = followed(store).await;
    let () = server.ask("FLUSHALL").await;
    wait_for(store, before + 1).await;
    let page = store.events(before, 10).await.unwrap();
    assert!(page.events.is_empty() && page.has_gap(before), "{page:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_follow_events_are_one_reader_of_redis() {
    let server = RedisServer::start().await;
    let running = run(&server).await;
    let store = &running.store;
    let before = followed(store).await;
    commit().event("a", "1").event("a", "2").done(store).await;
    wait_for(store, before + 2).await;
    let asked = || async {
        let stats: String = server.ask("INFO commandstats").await;
        let line = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_xrange:"));
        line.map(|line| line.split([':', ',']).nth(1).unwrap().to_owned())
    };
    let asked_before = asked().await;
    assert!(asked_before.is_some());
    for _ in 0..500 {
        assert_eq!(store.events(before, 10).await.unwrap().events.len(), 2);
        assert!(
            store
                .events(before + 2, 10)
                .await
                .unwrap()
                .events
                .is_empty()
        );
    }
    assert_eq!(asked().await, asked_before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_forgotten_documents_are_passed_over_and_removed() {
    const MANY: usize = 250;
    let server = RedisServer::start().await;
    let store = open(&server).await;
    let short = Duration::from_millis(50);
    let many = (0..MANY).fold(commit(), |commit, at| {
        let commit = commit.put(m(&format!("a-{at}")), "1");
        commit.due(Timestamp(1)).keep(short)
    });
    let many = many.put(m("b"), "1").due(Timestamp(2));
    many.put(Key::Server(1), "1")
        .due(Timestamp(3))
        .keep(short)
        .done(&store)
        .await;
    tokio::time::sleep(short * 2).await;
    assert_eq!(store.due(1).await.unwrap(), [m("b")]);
    let count = |name| {
        let command = format!("ZCARD {PREFIX}{name}");
        let server = &server;
        async move { server.ask::<usize>(&command).await }
    };
    assert_eq!(count("due").await, 2);
    assert_eq!(store.matches("", 1).await.unwrap()[0].0, "b");
    assert_eq!(count("matches").await, 1);

    assert_eq!(count("over").await, MANY + 1);
    let Backend::Redis(redis) = &store.backend else {
        panic!("it is in Redis");
    };
    redis.forget_now().await.unwrap();
    assert_eq!((count("over").await, count("due").await), (0, 1));
    assert_eq!(store.due(10).await.unwrap(), [m("b")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_at_the_start_is_found_later() {
    let mut server = RedisServer::absent();
    let running = run(&server).await;
    unavailable(&running.store).await;
    assert!(running.store.id().await.is_err());
    server.restart().await;
    followed(&running.store).await;
    commit().put(m("a"), "1").done(&running.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_is_that_of_redis() {
    let server = RedisServer::start().await;
    let store = open(&server).await;
    commit().put(m("a"), "1").done(&store).await;
    let (seconds, micros): (u64, u64) = server.ask("TIME").await;
    let redis = Timestamp(seconds * 1000 + micros / 1000);
    assert!(redis.since(store.now()) < Duration::from_secs(1));
    assert!(store.now().since(redis) < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_shows_the_password() {
    let server = RedisServer::start().await;
    for scheme in ["rediss", "redis"] {
        let url = format!("{scheme}://user:hunter2@{}", server.address());
        let store = open_at(&url).await;
        let error = unavailable(&store).await;
        assert!(!error.contains("hunter2"), "{error}");
        assert!(!format!("{store:?}").contains("hunter2"));
    }
    let config = StoreConfig::Redis {
        url: "hunter2".to_owned().into(),
        prefix: PREFIX.to_owned(),
    };
    let error = Store::open(&config).await.unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}
