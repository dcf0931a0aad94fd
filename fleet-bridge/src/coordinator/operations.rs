//! Work that goes on without whoever asked for it: begun, looked at, cancelled, and the word of its end; and servers
//! that are stopped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Coordinator, caller::Caller};
use crate::{
    error::Error,
    matches::{
        delivery::Delivery,
        flow::read_server,
        obtain::{Obtained, Wish, begin},
        operation::{Operation, OperationState},
        record::{Match, Reason, Stage},
        sweep::{self, Kept},
    },
    model::Server,
    store::{Commit, Committed, Key, Put, Unavailable, Version},
};

impl Coordinator {
    /// Begins to make a match in the background, or finds the one that was begun under this key.
    ///
    /// # Errors
    /// `idempotency_key_reused` or `unavailable`.
    pub(crate) async fn begin(self: &Arc<Self>, wish: &Wish) -> Result<Match, Error> {
        let caller = Caller::for_upkeep(self).await?;
        match begin(&caller, wish).await? {
            Obtained::KeyReused => Err(Error::KeyReused),
            Obtained::Match(record) => {
                self.nudge.notify_one();
                Ok(*record)
            }
        }
    }

    /// Reads the record of an operation.
    ///
    /// # Errors
    /// `not_found` or `unavailable`.
    pub(crate) async fn operation(self: &Arc<Self>, id: &str) -> Result<Match, Error> {
        let unknown = || Error::NoOperation(id.to_owned());
        match self.read(id).await {
            Ok(record) => Some(record)
                .filter(|record| record.background.is_some())
                .ok_or_else(unknown),
            Err(Error::NoMatch(_)) => Err(unknown()),
            Err(error) => Err(error),
        }
    }

    /// Cancels an operation that is pending, and waits until what it had is given back; the record is given as it is
    /// when there is no more time.
    ///
    /// # Errors
    /// `not_found`, `not_pending` or `unavailable`.
    pub(crate) async fn cancel(self: &Arc<Self>, id: &str, until: Instant) -> Result<Match, Error> {
        self.operation(id).await?;
        // Written down first: from then on it never runs, whoever works on it.
        let cancelled = self.change(id, "match.ending", |record, _| {
            match OperationState::of(record) {
                OperationState::Pending => {
                    record.ending.get_or_insert(Reason::Cancelled);
                    Ok(())
                }
                over => Err(Error::OperationOver(over.label())),
            }
        });
        cancelled.await?;
        self.end(id, Reason::Cancelled, until).await
    }

    /// The match that has this server.
    ///
    /// # Errors
    /// `unavailable`.
    pub(crate) async fn match_on(self: &Arc<Self>, server: i64) -> Result<Option<String>, Error> {
        let caller = Caller::for_upkeep(self).await?;
        Ok(read_server(&caller, server).await?.0.match_id)
    }

    /// Ends the match that runs on a server, and has the Fleet stop the server before anybody can claim it again.
    ///
    /// # Errors
    /// `unavailable`, or the Fleet's.
    pub(crate) async fn stop(
        self: &Arc<Self>,
        server: &Server,
        until: Instant,
    ) -> Result<(), Error> {
        let began = Instant::now();
        while Instant::now() < until {
            let caller = Caller::for_upkeep(self).await?;
            match sweep::keep(&caller, server).await? {
                Kept::Changed => {}
                Kept::Ours(mut work) => {
                    let stopped = self.fleet.stop(server.id, until).await;
                    // Whatever stops this, it is gone on with when it is due.
                    let _ = work.drive().await;
                    return stopped.map_err(Error::of_update);
                }
                Kept::By(id) => match self.end(&id, Reason::Released, until).await {
                    Ok(record) if matches!(record.stage, Stage::Ended(_)) => {}
                    // It keeps the server as long as it cannot be given back; work on the server itself does, too.
                    Ok(_) | Err(Error::NoMatch(_)) => {
                        let stopped = self.fleet.stop(server.id, until).await;
                        return stopped.map_err(Error::of_update);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        Err(Error::Deadline(began.elapsed()))
    }

    /// Sends the word of an operation's end that is due, once.
    pub(super) async fn deliver(self: &Arc<Self>, id: &str) {
        if let Err(error) = self.attempt(id).await {
            tracing::warn!(operation = id, "its webhook was not looked at: {error}");
        }
    }

    async fn attempt(&self, id: &str) -> Result<(), Unavailable> {
        let key = Key::Webhook(id.to_owned());
        let keys = [key.clone(), Key::Match(id.to_owned())];
        let mut documents = self.store.load(&keys).await?.into_iter();
        let (document, record) = (documents.next().flatten(), documents.next().flatten());
        let Some(document) = document else {
            return Ok(());
        };
        let version = document.version;
        let delivery: Delivery = serde_json::from_str(&document.text)
            .map_err(|error| Unavailable::unreadable(&error))?;
        let Some(record) = record.filter(|_| !delivery.is_given_up()) else {
            return self.give_up(key, version, id).await;
        };
        let record: Match =
            serde_json::from_str(&record.text).map_err(|error| Unavailable::unreadable(&error))?;
        // Whoever writes this down sends it; the others find that they are late.
        let (delivery, lost_at) = delivery.attempt(self.now());
        let put = delivery.put(id, lost_at);
        let Some(version) = self.replace(put, version).await? else {
            return Ok(());
        };
        let now = self.now();
        let operation = Operation::of(&record, self.voice.as_ref(), now);
        let body = serde_json::to_string(&operation).expect("it is plain data with texts as keys");
        let since_epoch = Duration::from_millis(now.0);
        match self.webhooks.send(&delivery.url, body, since_epoch).await {
            Ok(()) => {
                self.metrics.webhook("delivered");
                self.replace(deletion(key), version).await?;
            }
            Err(error) => {
                self.metrics.webhook("failed");
                let attempts = delivery.attempts;
                tracing::info!(operation = id, attempts, "its webhook fails: {error}");
                if delivery.is_given_up() {
                    return self.give_up(key, version, id).await;
                }
                let put = delivery.put(id, delivery.retry_at(self.now()));
                self.replace(put, version).await?;
            }
        }
        Ok(())
    }

    async fn give_up(&self, key: Key, version: Version, id: &str) -> Result<(), Unavailable> {
        if self.replace(deletion(key), version).await?.is_some() {
            self.metrics.webhook("dropped");
            tracing::warn!(operation = id, "its webhook is given up");
        }
        Ok(())
    }

    /// Writes a document in the place of this version; `None` when it is another one by now.
    async fn replace(&self, put: Put, version: Version) -> Result<Option<Version>, Unavailable> {
        let commit = Commit {
            id: fastrand::u64(..),
            expect: vec![(put.key.clone(), Some(version))],
            put: vec![put],
            events: Vec::new(),
        };
        let committed = self.store.commit(&commit).await?;
        Ok((committed == Committed::Done).then_some(Version(commit.id)))
    }
}

fn deletion(key: Key) -> Put {
    Put {
        key,
        text: None,
        due: None,
        keep: None,
    }
}
