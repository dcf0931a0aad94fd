//! What is looked after in the background: matches that are due, and servers that are not as the store says.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::time::MissedTickBehavior;

use super::{Coordinator, caller::Caller};
use crate::{
    error::Error,
    matches::{
        claim::{self, Verdict},
        flow::Stop,
        record::ServerClaim,
        sweep,
    },
    model::{Keys, Server},
    store::{Document, Key, PAGE_MAX, Timestamp},
};

/// Between two looks for matches that are due.
const DUE_PAUSE: Duration = Duration::from_millis(500);

/// Most pieces of work in the background at once; the rest stays due.
const WORK_MAX: usize = 64;

/// A server that the Fleet has allocated and nobody has is given back after this: whoever allocated it would have
/// claimed it by then.
const ALLOCATED_UNCLAIMED_MAX: Duration = Duration::from_secs(30);

/// What is being worked on in the background here, so that nothing is begun twice.
#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<Mutex<BTreeSet<String>>>);

/// A place among the work; it is given back when it is dropped.
struct Place {
    under_way: UnderWay,
    name: String,
}

/// What the last look around found.
#[derive(Debug, Default)]
struct Before {
    listed: BTreeSet<i64>,
    stale: BTreeSet<i64>,
}

impl UnderWay {
    fn begin(&self, name: String) -> Option<Place> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= WORK_MAX || !names.insert(name.clone()) {
            return None;
        }
        drop(names);
        let under_way = self.clone();
        Some(Place { under_way, name })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let names = &self.under_way.0;
        names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.name);
    }
}

impl Coordinator {
    /// Goes on with what is due and looks at all servers, again and again until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let under_way = UnderWay::default();
        tokio::select! {
            () = shutdown => {}
            () = self.resume_due(&under_way) => {}
            () = self.look_around(&under_way) => {}
        }
    }

    async fn resume_due(self: &Arc<Self>, under_way: &UnderWay) {
        loop {
            // Whoever writes down work that nobody waits for says so; what others write is found by looking.
            let _ = tokio::time::timeout(DUE_PAUSE, self.nudge.notified()).await;
            // A store that is away says so itself.
            let due = self.store.due(WORK_MAX).await.unwrap_or_default();
            for key in due {
                if let Some(place) = under_way.begin(key.to_string()) {
                    let shared = Arc::clone(self);
                    tokio::spawn(async move {
                        let _place = place;
                        match key {
                            Key::Match(id) => shared.resume(&id).await,
                            Key::Webhook(id) => shared.deliver(&id).await,
                            Key::Server(_) | Key::Idempotency(_) | Key::View(_) => {}
                        }
                    });
                }
            }
        }
    }

    async fn resume(self: &Arc<Self>, id: &str) {
        let Ok(caller) = Caller::for_upkeep(self).await else {
            return;
        };
        match sweep::resume(&caller, id).await {
            Ok(()) | Err(Stop::Superseded | Stop::Waits) => {}
            Err(Stop::PutOff) => {
                self.metrics.put_off();
                tracing::warn!(match_id = id, "a server cannot be given back yet");
            }
            Err(Stop::Away(error)) => tracing::warn!(match_id = id, "not gone on with: {error}"),
        }
    }

    async fn look_around(self: &Arc<Self>, under_way: &UnderWay) {
        let mut ticks = tokio::time::interval(self.settings.sweep);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Before::default();
        loop {
            ticks.tick().await;
            let ends = Instant::now() + self.call_time;
            if self
                .index
                .fresh(self.settings.sweep / 2, ends)
                .await
                .is_err()
            {
                continue;
            }
            if let Err(error) = self.look(under_way, &mut before).await {
                tracing::debug!("servers are not looked at: {error}");
            }
        }
    }

    /// Looks at every server that the Fleet lists.
    async fn look(
        self: &Arc<Self>,
        under_way: &UnderWay,
        before: &mut Before,
    ) -> Result<(), Error> {
        let caller = Caller::for_upkeep(self).await?;
        let servers: Vec<Arc<Server>> = self.index.read(|servers| {
            let all = servers.values().map(|seen| Arc::clone(&seen.server));
            all.collect()
        });
        self.report_stale(&caller, &servers, &mut before.stale);
        let listed: BTreeSet<i64> = servers.iter().map(|server| server.id).collect();
        let gone: Vec<i64> = before.listed.difference(&listed).copied().collect();
        for server in gone {
            // Its match, if it had one, is lost.
            self.check(server, under_way);
        }
        before.listed = listed;
        for some in servers.chunks(PAGE_MAX) {
            let keys: Vec<Key> = some.iter().map(|server| Key::Server(server.id)).collect();
            let documents = self.store.load(&keys).await?;
            for (server, document) in some.iter().zip(documents) {
                let known = known(document);
                if known.match_id.is_none() {
                    self.give_back_unclaimed(server).await;
                }
                if sweep::is_suspicious(server, &known, &caller.judge()) {
                    self.check(server.id, under_way);
                }
            }
        }
        Ok(())
    }

    fn check(self: &Arc<Self>, id: i64, under_way: &UnderWay) {
        let Some(place) = under_way.begin(format!("server {id}")) else {
            return;
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let _place = place;
            let Ok(caller) = Caller::for_upkeep(&shared).await else {
                return;
            };
            if let Err(Stop::Away(error)) = sweep::check(&caller, id).await {
                tracing::debug!(server = id, "not looked at: {error}");
            }
        });
    }

    /// Says which servers have not been heard of lately, once for each.
    fn report_stale(&self, caller: &Caller, servers: &[Arc<Server>], known: &mut BTreeSet<i64>) {
        let judge = caller.judge();
        let is_stale = |server: &&Arc<Server>| judge.verdict(server, u64::MAX) == Verdict::Stale;
        let stale: BTreeSet<i64> = servers
            .iter()
            .filter(is_stale)
            .map(|server| server.id)
            .collect();
        for server in stale.difference(known) {
            tracing::warn!(server, "not heard of lately: it gets no matches");
        }
        for server in known.difference(&stale) {
            tracing::info!(server, "heard of again");
        }
        self.metrics.stale_servers(stale.len());
        *known = stale;
    }

    /// A bridge may have ended between the Fleet's allocation and its own claim.
    async fn give_back_unclaimed(&self, server: &Server) {
        let is_ours = self.settings.fleet_settings.contains(&server.setting_id);
        if is_ours && is_unclaimed(server, &self.keys, self.now()) {
            tracing::info!(
                server = server.id,
                "allocated, and nobody has it: it is given back"
            );
            // Tried again at the next look.
            let _ = self
                .fleet
                .ready(server.id, Instant::now() + self.call_time)
                .await;
        }
    }
}

/// Whether the Fleet allocated a free server so long ago that whoever asked for it is gone.
fn is_unclaimed(server: &Server, keys: &Keys, now: Timestamp) -> bool {
    let is_old = |at: DateTime<Utc>| now.since(at.into()) > ALLOCATED_UNCLAIMED_MAX;
    server.allocated_at.is_some_and(is_old) && claim::state(server, keys) == claim::IDLE
}

fn known(document: Option<Document>) -> ServerClaim {
    let known = document.and_then(|document| serde_json::from_str(&document.text).ok());
    known.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocated_server_that_nobody_claims_in_time_is_given_back() {
        let now = Timestamp(1_800_000_000_000);
        let check = |state: &str, allocated_ago: Option<u64>| {
            let mut server = Server::sample(101);
            server
                .metadata
                .insert("instance_state".to_owned(), state.into());
            let at = allocated_ago.map(|seconds| Timestamp(now.0 - seconds * 1000));
            server.allocated_at = at.map(Into::into);
            is_unclaimed(&server, &Keys::default(), now)
        };
        let bound = ALLOCATED_UNCLAIMED_MAX.as_secs();
        assert!(check("idle", Some(bound + 1)));
        assert!(!check("idle", Some(bound)), "it may still be claimed");
        assert!(!check("idle", None), "it is not allocated");
        assert!(!check("occupied", Some(bound + 1)), "it runs a match");
        assert!(!check("reserved", Some(bound + 1)), "it is claimed");
    }
}
