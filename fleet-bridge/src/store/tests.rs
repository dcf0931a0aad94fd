//! What every store does, whatever is behind it; each test runs against each kind.

mod events;
mod local;
mod redis;
mod redis_server;

use std::time::Duration;

use super::*;

/// A commit of nothing yet, with a random id.
pub(super) fn commit() -> Commit {
    Commit {
        id: fastrand::u64(..),
        expect: Vec::new(),
        put: Vec::new(),
        events: Vec::new(),
    }
}

/// Chained, a commit reads in one line.
impl Commit {
    pub(super) fn expect(mut self, key: Key, version: Option<Version>) -> Self {
        self.expect.push((key, version));
        self
    }

    pub(super) fn put(mut self, key: Key, text: &str) -> Self {
        self.put.push(Put {
            key,
            text: Some(text.to_owned()),
            due: None,
            keep: None,
        });
        self
    }

    pub(super) fn delete(mut self, key: Key) -> Self {
        self.put.push(Put {
            key,
            text: None,
            due: None,
            keep: None,
        });
        self
    }

    pub(super) fn due(mut self, due: Timestamp) -> Self {
        self.put.last_mut().unwrap().due = Some(due);
        self
    }

    pub(super) fn keep(mut self, keep: Duration) -> Self {
        self.put.last_mut().unwrap().keep = Some(keep);
        self
    }

    pub(super) fn event(mut self, subject: &str, kind: &str) -> Self {
        self.events.push(NewEvent {
            subject: subject.to_owned(),
            kind: kind.to_owned(),
            data: "{}".to_owned(),
        });
        self
    }

    pub(super) async fn done(self, store: &Store) -> Version {
        assert_eq!(store.commit(&self).await.unwrap(), Committed::Done);
        Version(self.id)
    }

    pub(super) async fn conflicts(self, store: &Store) {
        assert_eq!(store.commit(&self).await.unwrap(), Committed::Conflict);
    }
}

pub(super) fn m(id: &str) -> Key {
    Key::Match(id.to_owned())
}

pub(super) async fn load(store: &Store, key: Key) -> Option<Document> {
    store.load(&[key]).await.unwrap().remove(0)
}

pub(super) async fn text(store: &Store, key: Key) -> Option<String> {
    let document = load(store, key).await?;
    Some(document.text.to_string())
}

/// Runs each behaviour against each kind of store.
macro_rules! every_store {
    ($($behaviour:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::Arc::new(super::Store::memory())).await;
            })*
        }

        mod file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("journal");
                let store = $crate::store::tests::local::open(&path).await;
                super::$behaviour(super::Arc::new(store)).await;
            })*
        }

        mod shared {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let server = $crate::store::tests::redis_server::RedisServer::start().await;
                let store = $crate::store::tests::redis::open(&server).await;
                super::$behaviour(super::Arc::new(store)).await;
            })*
        }
    };
}
use every_store;

every_store![
    a_commit_that_expects_another_version_changes_nothing,
    the_same_commit_again_is_done_and_does_nothing,
    documents_are_loaded_in_the_order_of_the_keys,
    what_is_due_comes_earliest_first,
    a_document_is_forgotten_when_its_time_is_over,
    matches_come_in_pages_by_id,
    a_hundred_increments_at_once_make_a_hundred,
];

async fn a_commit_that_expects_another_version_changes_nothing(store: Arc<Store>) {
    let server = Key::Server(101);
    let first = commit()
        .expect(server.clone(), None)
        .put(server.clone(), "1");
    let first = first.done(&store).await;
    let both = |server_version, match_version| {
        let expect = commit()
            .expect(server.clone(), server_version)
            .expect(m("a"), match_version);
        expect
            .put(server.clone(), "2")
            .put(m("a"), "2")
            .event("match:a", "match.running")
    };
    let before = store.events(0, 10).await.unwrap();
    for (server_version, match_version) in [
        (None, None),
        (Some(Version(first.0 ^ 1)), None),
        (Some(first), Some(first)),
    ] {
        both(server_version, match_version).conflicts(&store).await;
        assert_eq!(text(&store, server.clone()).await.unwrap(), "1");
        assert!(load(&store, m("a")).await.is_none());
    }
    assert_eq!(store.events(0, 10).await.unwrap(), before);

    let second = both(Some(first), None).done(&store).await;
    for key in [server.clone(), m("a")] {
        let document = load(&store, key).await.unwrap();
        assert_eq!((&*document.text, document.version), ("2", second));
    }
    let delete = commit().expect(m("a"), Some(second)).delete(m("a"));
    delete.done(&store).await;
    assert!(load(&store, m("a")).await.is_none());
    commit()
        .expect(m("a"), None)
        .put(m("a"), "3")
        .done(&store)
        .await;
}

async fn the_same_commit_again_is_done_and_does_nothing(store: Arc<Store>) {
    let key = Key::Idempotency("k".to_owned());
    let create = commit()
        .expect(key.clone(), None)
        .put(key.clone(), "1")
        .event("a", "b");
    let created = create.clone().done(&store).await;
    let replace = commit()
        .expect(key.clone(), Some(created))
        .put(key.clone(), "2");
    replace.done(&store).await;
    // Also when somebody else has written since.
    create.done(&store).await;
    assert_eq!(text(&store, key.clone()).await.unwrap(), "2");
    assert_eq!(store.events(0, 10).await.unwrap().events.len(), 1);

    let version = load(&store, key.clone()).await.unwrap().version;
    let delete = commit()
        .expect(key.clone(), Some(version))
        .delete(key.clone());
    delete.clone().done(&store).await;
    commit()
        .expect(key.clone(), None)
        .put(key.clone(), "3")
        .done(&store)
        .await;
    delete.done(&store).await;
    assert_eq!(text(&store, key).await.unwrap(), "3");
}

async fn documents_are_loaded_in_the_order_of_the_keys(store: Arc<Store>) {
    let keys = [
        Key::View(1),
        Key::Server(1),
        m("1"),
        Key::Webhook("1".to_owned()),
    ];
    let put = keys.iter().fold(commit(), |commit, key| {
        commit.put(
            key.clone(),
            &format!("{{\"of\":\"{key}\",\"a\":\"\\n\u{fc}\"}}"),
        )
    });
    put.delete(keys[1].clone()).done(&store).await;
    let asked = [&keys[3], &keys[1], &keys[0], &keys[2], &keys[3]].map(Clone::clone);
    let found: Vec<_> = store.load(&asked).await.unwrap();
    let found = found.into_iter().map(|it| it.map(|it| it.text.to_string()));
    let expected = asked.map(|key| {
        let text = format!("{{\"of\":\"{key}\",\"a\":\"\\n\u{fc}\"}}");
        (key != keys[1]).then_some(text)
    });
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert!(store.load(&[]).await.unwrap().is_empty());
}

async fn what_is_due_comes_earliest_first(store: Arc<Store>) {
    assert!(store.due(10).await.unwrap().is_empty());
    let put = commit().put(m("late"), "1").due(Timestamp(3));
    let put = put.put(Key::Server(7), "1").due(Timestamp(1));
    let put = put.put(m("early"), "1").due(Timestamp(2));
    let hour = Duration::from_secs(3600);
    let put = put.put(m("future"), "1").due(store.now() + hour);
    put.put(m("never"), "1").done(&store).await;
    let due = [Key::Server(7), m("early"), m("late")];
    assert_eq!(store.due(10).await.unwrap(), due);
    assert_eq!(store.due(2).await.unwrap(), due[..2]);
    assert!(store.due(0).await.unwrap().is_empty());

    let again = commit().put(Key::Server(7), "2").due(Timestamp(4));
    let again = again.put(m("early"), "2").delete(m("late"));
    again.done(&store).await;
    assert_eq!(store.due(10).await.unwrap(), [Key::Server(7)]);

    let soon = store.now() + Duration::from_millis(100);
    commit().put(m("early"), "3").due(soon).done(&store).await;
    while !store.due(10).await.unwrap().contains(&m("early")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.now() + Duration::from_millis(50) >= soon);
}

async fn a_document_is_forgotten_when_its_time_is_over(store: Arc<Store>) {
    let short = Duration::from_millis(200);
    let put = commit().put(m("a"), "1").due(Timestamp(1)).keep(short);
    let put = put.put(m("b"), "1").due(Timestamp(2)).keep(short);
    let put = put.put(m("c"), "1").keep(Duration::from_secs(3600));
    let version = put.done(&store).await;
    // Written again without an end, it stays.
    let again = commit()
        .expect(m("b"), Some(version))
        .put(m("b"), "2")
        .due(Timestamp(2));
    again.done(&store).await;
    assert_eq!(store.matches("", 10).await.unwrap().len(), 3);
    assert!(load(&store, m("a")).await.is_some());
    tokio::time::sleep(short + short / 2).await;

    assert!(load(&store, m("a")).await.is_none());
    assert_eq!(store.due(1).await.unwrap(), [m("b")]);
    let ids = store.matches("", 2).await.unwrap();
    let ids: Vec<_> = ids.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["b", "c"]);
    commit()
        .expect(m("a"), Some(version))
        .put(m("a"), "2")
        .conflicts(&store)
        .await;
    commit()
        .expect(m("a"), None)
        .put(m("a"), "2")
        .done(&store)
        .await;
    assert_eq!(store.due(10).await.unwrap(), [m("b")]);
}

async fn matches_come_in_pages_by_id(store: Arc<Store>) {
    assert!(store.matches("", 10).await.unwrap().is_empty());
    let ids = ["m-1", "m-10", "m-2", "m-3", "\u{fc}"];
    let put = ids
        .iter()
        .rev()
        .fold(commit(), |commit, id| commit.put(m(id), id));
    let put = put
        .put(Key::Server(1), "1")
        .put(Key::Idempotency("m-4".to_owned()), "1");
    put.done(&store).await;
    let mut found = Vec::new();
    loop {
        let after = found.last().map_or_else(String::new, String::clone);
        let page = store.matches(&after, 2).await.unwrap();
        assert!(page.iter().all(|(id, document)| **id == *document.text));
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|(id, _)| id));
    }
    assert_eq!(found, ids);
    commit().delete(m("m-2")).done(&store).await;
    let rest = store.matches("m-10", 1).await.unwrap();
    assert_eq!(rest[0].0, "m-3");
    assert!(store.matches("", 0).await.unwrap().is_empty());
}

async fn a_hundred_increments_at_once_make_a_hundred(store: Arc<Store>) {
    const TASKS: usize = 100;
    let counter = Key::Server(1);
    commit().put(counter.clone(), "0").done(&store).await;
    let tasks = (0..TASKS).map(|_| {
        let (store, counter) = (Arc::clone(&store), counter.clone());
        tokio::spawn(async move {
            loop {
                let document = load(&store, counter.clone()).await.unwrap();
                let count: usize = document.text.parse().unwrap();
                // Others come between, also where nothing waits.
                tokio::task::yield_now().await;
                let increment = commit()
                    .expect(counter.clone(), Some(document.version))
                    .put(counter.clone(), &(count + 1).to_string())
                    .event("counter", "counted");
                if store.commit(&increment).await.unwrap() == Committed::Done {
                    return;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(text(&store, counter).await.unwrap(), TASKS.to_string());
    assert_eq!(store.events(0, PAGE_MAX).await.unwrap().events.len(), TASKS);
}
