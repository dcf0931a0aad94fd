//! Tells through the store what has changed about the servers. What is to be told is decided in
//! [`views`](super::views).

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    Index, Seen,
    views::{Change, ROSTER, Views},
};
use crate::{
    metrics::Metrics,
    model::Keys,
    store::{Committed, Key, Store, Unavailable},
};

/// Changes that one commit tells: few enough that others lose little when it does not fit, and many enough that a fleet
/// that starts is told in a second.
const BATCH: usize = 128;

/// Changes that are told after one walk; the rest is told after the next.
const CHANGES_MAX: usize = 4096;

/// Commits of one batch: each that does not fit loses what others have told.
const TRIES: usize = 4;

/// Tells what changes.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    keys: Keys,
    /// The history of the store that the views are of.
    history: Option<String>,
    views: Views,
    /// The store did not answer last time, and the log says so.
    is_out: bool,
}

impl Publisher {
    pub(crate) fn new(store: Arc<Store>, metrics: Arc<Metrics>, keys: Keys) -> Self {
        Self {
            store,
            metrics,
            keys,
            history: None,
            views: Views::default(),
            is_out: false,
        }
    }

    /// Reads what has been told already. Called before a walk, so that the walk is newer.
    pub(super) async fn prepare(&mut self) {
        let outcome = self.recover().await;
        self.note(outcome);
    }

    /// Tells what the index shows.
    pub(super) async fn publish(&mut self, index: &Index) {
        if self.is_out {
            return;
        }
        let (servers, whole) = index.snapshot();
        let outcome = self.tell(&servers, whole).await;
        self.note(outcome);
        self.views.tidy(&servers);
    }

    fn note(&mut self, outcome: Result<(), Unavailable>) {
        match outcome {
            Err(error) if !self.is_out => {
                tracing::warn!("changes of servers are not published: {error}");
                self.is_out = true;
            }
            Ok(()) if self.is_out => {
                tracing::info!("changes of servers are published again");
                self.is_out = false;
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn recover(&mut self) -> Result<(), Unavailable> {
        let history = self.store.id().await?;
        if self.history.as_ref() == Some(&history) {
            return Ok(());
        }
        self.views = Views::default();
        self.history = None;
        self.read(&[]).await?;
        self.history = Some(history);
        Ok(())
    }

    async fn tell(
        &mut self,
        servers: &BTreeMap<i64, Seen>,
        whole: Option<Instant>,
    ) -> Result<(), Unavailable> {
        let changes = self.views.changes(servers, whole, &self.keys, CHANGES_MAX);
        for batch in changes.chunks(BATCH) {
            self.tell_batch(batch.to_vec()).await?;
        }
        Ok(())
    }

    async fn tell_batch(&mut self, mut batch: Vec<Change>) -> Result<(), Unavailable> {
        for _ in 0..TRIES {
            if batch.is_empty() {
                return Ok(());
            }
            let id = fastrand::u64(..);
            match self.store.commit(&self.views.commit(&batch, id)).await? {
                Committed::Done => {
                    self.views.told(&batch, id);
                    self.metrics.published(batch.len());
                    return Ok(());
                }
                Committed::Conflict => {
                    let ids: Vec<_> = batch.iter().map(Change::id).collect();
                    let others = self.read(&ids).await?;
                    batch.retain(|change| !others.contains(&change.id()));
                }
            }
        }
        // Others tell about the same servers all the time; what they leave out is told after the next walk.
        Ok(())
    }

    /// Reads the roster, these views, and the views in the roster that are not known. Returns whose views are others
    /// than were known.
    async fn read(&mut self, ids: &[i64]) -> Result<Vec<i64>, Unavailable> {
        let roster = self.store.load(&[ROSTER]).await?;
        let mut ids = ids.to_vec();
        ids.extend(
            self.views
                .read_roster(roster.first().and_then(Option::as_ref)),
        );
        let mut others = Vec::new();
        for ids in ids.chunks(BATCH) {
            let keys: Vec<_> = ids.iter().copied().map(Key::View).collect();
            let documents = self.store.load(&keys).await?;
            let now = Instant::now();
            for (id, document) in ids.iter().zip(&documents) {
                if self.views.read(*id, document.as_ref(), now) {
                    others.push(*id);
                }
            }
        }
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::Server;

    fn publisher(store: &Arc<Store>) -> Publisher {
        Publisher::new(Arc::clone(store), Arc::default(), Keys::default())
    }

    fn server(id: i64, player_count: u64) -> Server {
        let metadata = json!({"player_count": player_count, "noise": player_count * 7});
        Server {
            id,
            metadata: metadata.as_object().cloned().unwrap_or_default(),
            ..Server::default()
        }
    }

    type Snapshot = (BTreeMap<i64, Seen>, Option<Instant>);

    /// A walk that shows these servers.
    fn walk(servers: &[(i64, u64)]) -> Snapshot {
        let asked = Instant::now();
        let seen = servers.iter().map(|(id, count)| {
            let server = Arc::new(server(*id, *count));
            (*id, Seen::new(asked, server))
        });
        (seen.collect(), Some(asked))
    }

    impl Publisher {
        async fn show(&mut self, (servers, whole): &Snapshot) {
            self.tell(servers, *whole).await.unwrap();
            self.views.tidy(servers);
        }
    }

    /// Kind, id and player count of every event.
    async fn events(store: &Store) -> Vec<(String, i64, u64)> {
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let page = store.events(after, 1_000).await.unwrap();
            let Some(last) = page.events.last() else {
                return events;
            };
            after = last.sequence;
            events.extend(page.events.iter().map(|event| {
                let data: Value = serde_json::from_str(&event.data).unwrap();
                let id = data["id"].as_str().unwrap().parse().unwrap();
                assert_eq!(*event.subject, format!("instance:{id}"));
                let count = data["player_count"].as_u64().unwrap();
                (event.kind.to_string(), id, count)
            }));
        }
    }

    fn event(kind: &str, id: i64, count: u64) -> (String, i64, u64) {
        (format!("instance.{kind}"), id, count)
    }

    #[tokio::test]
    async fn what_comes_changes_and_goes_is_told_once() {
        let store = Arc::new(Store::memory());
        let mut publisher = publisher(&store);
        for servers in [
            &[(1, 0), (2, 0)][..],
            &[(1, 0), (2, 0)],
            &[(1, 3), (2, 0)],
            &[(1, 3)],
            &[(1, 3)],
        ] {
            publisher.prepare().await;
            publisher.show(&walk(servers)).await;
        }
        let expected = [
            event("added", 1, 0),
            event("added", 2, 0),
            event("changed", 1, 3),
            event("removed", 2, 0),
        ];
        assert_eq!(events(&store).await, expected);
    }

    #[tokio::test]
    async fn a_bridge_that_starts_tells_only_what_is_new() {
        let store = Arc::new(Store::memory());
        let mut first = publisher(&store);
        first.prepare().await;
        first.show(&walk(&[(1, 0), (2, 0), (3, 0)])).await;
        let mut second = publisher(&store);
        second.prepare().await;
        second.show(&walk(&[(1, 0), (2, 5)])).await;
        let expected = [event("changed", 2, 5), event("removed", 3, 0)];
        assert_eq!(events(&store).await[3..], expected);
    }

    #[tokio::test]
    async fn an_older_walk_takes_nothing_back() {
        let store = Arc::new(Store::memory());
        let (mut slow, mut fast) = (publisher(&store), publisher(&store));
        slow.prepare().await;
        fast.prepare().await;
        fast.show(&walk(&[(1, 0), (2, 0)])).await;
        slow.show(&walk(&[(1, 0), (2, 0)])).await;
        let old = walk(&[(1, 1), (2, 0)]);
        fast.show(&walk(&[(1, 2), (2, 0), (3, 0)])).await;
        slow.show(&old).await;
        slow.show(&old).await;
        slow.show(&walk(&[(1, 2), (2, 0), (3, 0)])).await;
        let expected = [event("changed", 1, 2), event("added", 3, 0)];
        assert_eq!(events(&store).await[2..], expected);
    }

    #[tokio::test]
    async fn a_walk_that_may_not_say_what_is_gone_removes_nothing() {
        let store = Arc::new(Store::memory());
        let mut publisher = publisher(&store);
        publisher.prepare().await;
        publisher.show(&walk(&[(1, 0), (2, 0)])).await;
        let (servers, _) = walk(&[(1, 0)]);
        publisher.show(&(servers, None)).await;
        assert_eq!(events(&store).await.len(), 2);
    }

    /// Bridges walk and tell in any order; every server counts up, then goes.
    #[tokio::test]
    async fn bridges_together_tell_everything_once_and_in_order() {
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let store = Arc::new(Store::memory());
            let mut bridges: Vec<(Publisher, Option<Snapshot>)> =
                (0..3).map(|_| (publisher(&store), None)).collect();
            let mut truth: BTreeMap<i64, u64> = (1..=4).map(|id| (id, 0)).collect();
            for step in 0..300 {
                let (bridge, walked) = &mut bridges[random.usize(..3)];
                match walked.take() {
                    Some(snapshot) => {
                        bridge.show(&snapshot).await;
                        // The same once more: what others made old must not be told at a second try.
                        *walked = random.bool().then_some(snapshot);
                    }
                    None => {
                        bridge.prepare().await;
                        let servers: Vec<_> = truth.iter().map(|(id, n)| (*id, *n)).collect();
                        *walked = Some(walk(&servers));
                    }
                }
                if random.u8(..3) == 0 {
                    let id = random.i64(1..=4);
                    if step > 250 {
                        truth.remove(&id);
                    } else {
                        *truth.entry(id).or_default() += 1;
                    }
                }
            }
            for _ in 0..3 {
                for (bridge, _) in &mut bridges {
                    let servers: Vec<_> = truth.iter().map(|(id, n)| (*id, *n)).collect();
                    bridge.prepare().await;
                    bridge.show(&walk(&servers)).await;
                }
            }
            check_history(&events(&store).await, &truth, seed);
        }
    }

    fn check_history(events: &[(String, i64, u64)], truth: &BTreeMap<i64, u64>, seed: u64) {
        let mut told: BTreeMap<i64, u64> = BTreeMap::new();
        for (kind, id, count) in events {
            let before = told.get(id).copied();
            match kind.as_str() {
                "instance.added" => {
                    assert_eq!(before, None, "seed {seed}: {id} came twice");
                    told.insert(*id, *count);
                }
                "instance.changed" => {
                    assert!(before.is_some_and(|it| it < *count), "seed {seed}: {id}");
                    told.insert(*id, *count);
                }
                _ => {
                    assert_eq!(before, Some(*count), "seed {seed}: {id} went as another");
                    told.remove(id);
                }
            }
        }
        assert_eq!(told, *truth, "seed {seed}");
    }
}
