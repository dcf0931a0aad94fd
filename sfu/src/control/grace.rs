//! The time in which a lost peer may come back: it stays in its room, and nobody notices.

use std::{sync::Arc, time::Duration};

use sfu_core::{Refusal, RoomKey};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{Control, Entry, Phase, ResumeKey, Stay, Ticket, stays::Exchanged, tickets::LIFETIME};
use crate::{
    shard::{Request, Turn},
    signalling::{Client, Farewell},
};

/// How long a shard may take to let go of a peer; one that takes longer has stopped.
pub(crate) const LET_GO_TIME: Duration = Duration::from_secs(30);

/// Why nobody comes back. Clients show the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResumeError {
    /// Also where telling more would tell whose a key is.
    #[error("nothing to resume")]
    Nothing,
    /// The client has another peer in the room.
    #[error("already in this room")]
    AlreadyIn,
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Nobody is to blame but the server.
    #[error("the server has no randomness")]
    NoRandomness,
}

/// What a client needs to go on as a peer.
pub(crate) struct Resumed {
    /// The stream to open.
    pub(crate) stream: String,
    /// For the next time.
    pub(crate) key: ResumeKey,
}

impl Control {
    /// One for both bindings: a peer may come back on the other one.
    fn resume_grace(&self) -> Duration {
        self.web.resume_grace
    }

    /// A key for a peer that comes in, if peers may come back. `None` when the system has no randomness.
    pub(crate) fn resume_key(&self, is_wanted: bool) -> Option<Option<ResumeKey>> {
        if !is_wanted || self.resume_grace().is_zero() {
            return Some(None);
        }
        ResumeKey::random().map(Some)
    }

    /// A stream of a client has ended, and nobody said that the peer leaves: it stays for the grace.
    pub(crate) async fn lose(self: &Arc<Self>, key: &ResumeKey, client: &Client) {
        // Another connection may have taken the peer over.
        if let Some((stay, turn)) = self.stays.lose(key, &self.metrics) {
            tracing::debug!(peer = %stay.place.peer, "a peer is lost");
            let grace = self.resume_grace();
            self.keep(key.clone(), &stay, turn, grace, client.farewell())
                .await;
        }
    }

    /// Lets a client go on as the peer that the key is of. Whoever served it until now does no more.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub(crate) async fn resume(
        self: &Arc<Self>,
        client: &Arc<Client>,
        room: &RoomKey,
        key: &ResumeKey,
    ) -> Result<Resumed, ResumeError> {
        if *self.phase().borrow() != Phase::Serving {
            return Err(Refusal::Closing.into());
        }
        let next = ResumeKey::random().ok_or(ResumeError::NoRandomness)?;
        let exchanged = self
            .stays
            .exchange(key, next.clone(), &self.metrics, |stay, served_by| {
                let is_its = stay.room == *room && stay.user_id == client.identity.user_id;
                if !is_its || self.directory().must_leave(stay.place.peer) {
                    return Err(ResumeError::Nothing);
                }
                // Its own stream may not have ended yet.
                let is_in = served_by == Some(client.seat.id);
                client
                    .enter(&room.name, is_in)
                    .ok_or(ResumeError::AlreadyIn)
            });
        let Exchanged {
            stay,
            turn,
            allowed: membership,
        } = exchanged.ok_or(ResumeError::Nothing)??;
        tracing::debug!(client = client.seat.id.0, peer = %stay.place.peer, "a peer comes back");
        // The stream may be opened for as long as that of a newcomer.
        let time = self.resume_grace().max(LIFETIME);
        self.keep(next.clone(), &stay, turn, time, client.farewell())
            .await;
        let entry = Entry::Resume(next.clone());
        let ticket = Ticket { membership, entry };
        let stream = self.tickets.issue(ticket);
        Ok(Resumed {
            stream: stream.ok_or(ResumeError::NoRandomness)?,
            key: next,
        })
    }

    /// Takes the peer's stream from it, and the peer out of its room when the time is over.
    async fn keep(
        self: &Arc<Self>,
        key: ResumeKey,
        stay: &Stay,
        turn: Turn,
        time: Duration,
        farewell: Farewell,
    ) {
        let place = stay.place_in(turn);
        let (let_go, is_let_go) = oneshot::channel();
        let lose = Request::Lose { place, let_go };
        if self.shard(place.shard).submit(lose).await.is_err() {
            // It leaves, as what waits for it is told by the end of `let_go`.
            tracing::error!("a shard takes no requests; a peer cannot be kept");
        }
        let control = Arc::clone(self);
        tokio::spawn(async move {
            control
                .wait_for_return(key, turn, time, farewell, is_let_go)
                .await;
        });
    }

    /// Until the peer has come back, or has to leave: because it is too late, because its client said so, because the
    /// server ends, or because it was made to.
    async fn wait_for_return(
        &self,
        key: ResumeKey,
        turn: Turn,
        time: Duration,
        farewell: Farewell,
        mut is_let_go: oneshot::Receiver<()>,
    ) {
        let mut phase = self.phase();
        let mut is_out = false;
        let mut is_expired = false;
        tokio::select! {
            _ = &mut is_let_go => is_out = true,
            () = sleep(time) => is_expired = true,
            () = farewell.said() => {}
            // Nobody comes in any more, so nobody comes back.
            _ = phase.wait_for(|phase| *phase > Phase::Serving) => {}
        }
        let Some(stay) = self.stays.end_turn(&key, turn) else {
            return;
        };
        tracing::debug!(peer = %stay.place.peer, is_expired, "a lost peer leaves");
        if is_expired {
            self.metrics.peer_expired();
        }
        self.let_leave(&stay).await;
        if !is_out && timeout(LET_GO_TIME, is_let_go).await.is_err() {
            tracing::error!("a shard does not let go of a peer");
        }
        // Only now: until the shard let go of the peer, its medias were in use.
        drop(stay);
    }

    /// Takes a peer out of its room.
    pub(crate) async fn let_leave(&self, stay: &Stay) {
        let leave = || Request::Leave {
            room: stay.place.room,
            peer: stay.place.peer,
        };
        while self.shard(stay.place.shard).submit(leave()).await.is_err() {
            tracing::error!("a shard takes no requests; a peer cannot leave");
        }
    }
}
