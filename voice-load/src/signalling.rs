//! A peer's way into its room and what it does there besides talking.

mod native;
pub(crate) mod rpc;
mod web;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::sync::mpsc;

use crate::{
    engine::Engine,
    plan::{Plan, Transport},
    relay::Relay,
    session::Offers,
    socket::PeerSocket,
    target::Doorman,
    trust::Trust,
};

/// What all peers of a run have in common.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) plan: Arc<Plan>,
    pub(crate) engine: Engine,
    pub(crate) doorman: Arc<Doorman>,
    pub(crate) trust: Trust,
    pub(crate) offers: Arc<Offers>,
    /// The bad network, if there is one.
    pub(crate) relay: Option<Arc<Relay>>,
}

impl Common {
    /// The socket of a peer that reaches this address of the server.
    fn connect(&self, peer: u32, server: SocketAddr) -> io::Result<PeerSocket> {
        match &self.relay {
            Some(relay) => PeerSocket::connect(relay.open(peer, server)?),
            None => PeerSocket::connect(server),
        }
    }
}

/// Between the last packet that is owed and the end of a peer that leaves: what is under way still comes.
const LEAVE_AFTER: Duration = Duration::from_millis(300);

/// What a peer is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Go there.
    Move([f64; 3]),
    /// Leave, and end.
    Leave,
}

/// One peer, from its coming to its leaving. Ends when it is ordered to, or with an error.
///
/// # Errors
/// When the server refuses it, or the connection ends.
pub(crate) async fn live(
    common: Arc<Common>,
    peer: u32,
    start: [f64; 3],
    orders: &mut mpsc::Receiver<Order>,
) -> Result<()> {
    match common.plan.transport(peer) {
        Transport::DataChannel => Box::pin(web::live(common, peer, start, orders)).await,
        Transport::WebTransport | Transport::Floor => {
            Box::pin(native::live(common, peer, start, orders)).await
        }
    }
}
