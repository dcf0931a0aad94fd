//! What is taken must be given back, however a connection ends: a seat does it when it is dropped.

use std::sync::Arc;

use sfu_core::PeerId;

use super::Control;
use crate::{
    metrics::Transport,
    shard::{ClientId, ShardNumber},
};

/// A client that was let in.
#[derive(Debug)]
pub(crate) struct ClientSeat {
    control: Arc<Control>,
    pub(crate) id: ClientId,
    /// Where its session is.
    pub(crate) shard: ShardNumber,
    pub(crate) transport: Transport,
}

impl ClientSeat {
    pub(super) fn new(
        control: Arc<Control>,
        id: ClientId,
        shard: ShardNumber,
        transport: Transport,
    ) -> Self {
        control.metrics.clients(transport).inc();
        Self {
            control,
            id,
            shard,
            transport,
        }
    }
}

impl Drop for ClientSeat {
    fn drop(&mut self) {
        self.control.directory().release_client();
        self.control.metrics.clients(self.transport).dec();
    }
}

/// A peer that was let in, with its medias.
#[derive(Debug)]
pub(crate) struct PeerSeat {
    control: Arc<Control>,
    pub(crate) peer: PeerId,
    transport: Transport,
}

impl PeerSeat {
    pub(crate) fn new(control: Arc<Control>, peer: PeerId, transport: Transport) -> Self {
        control.metrics.peers(transport).inc();
        let seat = Self {
            control,
            peer,
            transport,
        };
        seat.count_rooms();
        seat
    }

    fn count_rooms(&self) {
        let rooms = self.control.directory().rooms();
        self.control
            .metrics
            .rooms()
            .set(i64::try_from(rooms).unwrap_or(i64::MAX));
    }
}

impl Drop for PeerSeat {
    fn drop(&mut self) {
        self.control.directory().release_peer(self.peer);
        self.control.metrics.peers(self.transport).dec();
        self.count_rooms();
    }
}
