//! A client as its streams share it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{auth::Identity, control::ClientSeat, shard::ClientId};

/// A client that has shown its token.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) seat: ClientSeat,
    pub(crate) identity: Identity,
    presence: watch::Sender<Presence>,
}

/// How a client parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// It said so, or the server made it.
    Left,
    /// Its connection was lost; it may come back.
    Lost,
}

/// What a client's streams tell each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Presence {
    /// Rooms it is in or on its way into; twice while another stream of its own takes a peer over.
    pub(super) rooms: Vec<String>,
    /// Whether it has been in any.
    pub(super) has_joined: bool,
    /// How its main stream has ended.
    pub(super) parting: Option<Parting>,
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

    /// `None` when it is in this room already: a room has one peer of a client. `again` is for whom takes over a peer of
    /// its own.
    pub(crate) fn enter(self: &Arc<Self>, room: &str, again: bool) -> Option<Membership> {
        let is_let_in = self.presence.send_if_modified(|presence| {
            let is_let_in = again || !presence.rooms.iter().any(|it| it == room);
            if is_let_in {
                presence.rooms.push(room.to_owned());
            }
            is_let_in
        });
        is_let_in.then(|| Membership {
            client: Arc::clone(self),
            room: room.to_owned(),
        })
    }

    pub(super) fn has_joined(&self) {
        self.presence
            .send_modify(|presence| presence.has_joined = true);
    }

    pub(super) fn part(&self, parting: Parting) {
        self.presence
            .send_modify(|presence| presence.parting = Some(parting));
    }

    /// Word of the client that it goes.
    pub(crate) fn farewell(&self) -> Farewell {
        Farewell(self.presence())
    }
}

/// Word of a client that it goes, which may come after streams of its rooms were lost.
#[derive(Debug)]
pub(crate) struct Farewell(watch::Receiver<Presence>);

impl Farewell {
    /// Waits until it is said, which may be never.
    pub(crate) async fn said(mut self) {
        let has_left = |presence: &Presence| presence.parting == Some(Parting::Left);
        if self.0.wait_for(has_left).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A client's place in one room, or on its way there. It ends when this is dropped, however that comes about: a stream
/// that was never opened must not keep the client from asking again.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(super) client: Arc<Client>,
    room: String,
}

impl Membership {
    pub(crate) fn client_id(&self) -> ClientId {
        self.client.seat.id
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.client.presence.send_modify(|presence| {
            if let Some(at) = presence.rooms.iter().position(|it| *it == self.room) {
                presence.rooms.swap_remove(at);
            }
        });
    }
}
