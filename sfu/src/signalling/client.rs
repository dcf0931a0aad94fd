//! A client as its streams share it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{auth::Identity, control::ClientSeat};

/// A client that has shown its token.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) seat: ClientSeat,
    pub(crate) identity: Identity,
    presence: watch::Sender<Presence>,
}

/// What a client's streams tell each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Presence {
    /// Rooms it is in or on its way into.
    pub(super) rooms: Vec<String>,
    /// Whether it has been in any.
    pub(super) has_joined: bool,
    /// Whether its main stream has ended.
    pub(super) is_over: bool,
}

impl Client {
    pub(super) fn new(seat: ClientSeat, identity: Identity) -> Self {
        Self {
            seat,
            identity,
            presence: watch::Sender::default(),
        }
    }

    pub(super) fn presence(&self) -> watch::Receiver<Presence> {
        self.presence.subscribe()
    }

    /// `None` when it is in this room already: a room has one peer of a client.
    pub(super) fn enter(self: &Arc<Self>, room: &str) -> Option<Membership> {
        let is_new = self.presence.send_if_modified(|presence| {
            let is_new = !presence.rooms.iter().any(|it| it == room);
            if is_new {
                presence.rooms.push(room.to_owned());
            }
            is_new
        });
        is_new.then(|| Membership {
            client: Arc::clone(self),
            room: room.to_owned(),
        })
    }

    pub(super) fn has_joined(&self) {
        self.presence
            .send_modify(|presence| presence.has_joined = true);
    }

    pub(super) fn end(&self) {
        self.presence
            .send_modify(|presence| presence.is_over = true);
    }
}

/// A client's place in one room, or on its way there. It ends when this is dropped, however that comes about: a stream
/// that was never opened must not keep the client from asking again.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(super) client: Arc<Client>,
    room: String,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let room = &self.room;
        self.client
            .presence
            .send_modify(|presence| presence.rooms.retain(|it| it != room));
    }
}
