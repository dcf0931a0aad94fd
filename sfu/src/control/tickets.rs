//! Peers between `JoinRoom` and their room's stream: the stream is opened by a name that nobody can guess, and soon.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sfu_core::{Join, RoomInfo};

use super::{ResumeKey, Stay};
use crate::{shard::ClientId, signalling::Membership};

/// How long a stream may take to be opened: a client does it at once.
pub(super) const LIFETIME: Duration = Duration::from_secs(10);

/// Bytes of a secret name: nobody guesses 128 bits.
const NAME_BYTES: usize = 16;

/// A name that nobody guesses. `None` when the system has no randomness.
pub(super) fn secret_name() -> Option<String> {
    let mut random = [0; NAME_BYTES];
    getrandom::fill(&mut random).ok()?;
    Some(URL_SAFE_NO_PAD.encode(random))
}

/// A peer on its way in.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) membership: Membership,
    pub(crate) entry: Entry,
}

/// What its stream does.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Lets a new peer in.
    Join(Box<Newcomer>),
    /// Serves a peer that is in.
    Resume(ResumeKey),
}

/// A new peer.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) stay: Arc<Stay>,
    pub(crate) info: RoomInfo,
    pub(crate) join: Join,
    /// With which it may come back.
    pub(crate) resume_key: Option<ResumeKey>,
}

/// All who are on their way in. There are as many as peers are let in, at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets {
    waiting: Arc<Mutex<HashMap<String, Ticket>>>,
}

impl Tickets {
    /// Keeps a ticket for [`LIFETIME`], and names the stream that it opens. `None` when the system has no randomness.
    pub(crate) fn issue(&self, ticket: Ticket) -> Option<String> {
        let name = secret_name()?;
        self.waiting().insert(name.clone(), ticket);
        let (tickets, expired) = (self.clone(), name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LIFETIME).await;
            tickets.redeem(&expired);
        });
        Some(name)
    }

    /// Takes a ticket; it opens one stream.
    pub(crate) fn redeem(&self, name: &str) -> Option<Ticket> {
        self.waiting().remove(name)
    }

    /// The client is gone: nobody opens the streams that were named to it.
    pub(crate) fn forget(&self, client: ClientId) {
        let forgotten: Vec<_> = self
            .waiting()
            .extract_if(|_, ticket| ticket.membership.client_id() == client)
            .collect();
        // Outside the lock: seats take other locks when they are given back.
        drop(forgotten);
    }

    /// From now on no stream opens that was named before.
    pub(crate) fn forget_all(&self) {
        let forgotten = std::mem::take(&mut *self.waiting());
        drop(forgotten);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Ticket>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
