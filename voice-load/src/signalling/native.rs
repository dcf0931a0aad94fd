//! Peers whose voice connection is their only one: those of WebTransport, and those of the relay.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, bail};
use tokio::{net::lookup_host, sync::mpsc};

use super::{Common, LEAVE_AFTER, Order};
use crate::{
    engine::Command,
    plan::{Place, Transport},
    session::{Floor, Session, Way, WebTransport},
    socket::PeerSocket,
};

/// As [`super::live`].
pub(super) async fn live(
    common: Arc<Common>,
    peer: u32,
    start: [f64; 3],
    orders: &mut mpsc::Receiver<Order>,
) -> Result<()> {
    let engine = &common.engine;
    match common.plan.transport(peer) {
        Transport::Floor => {
            let socket = common.connect(peer, common.doorman.floor()?)?;
            let session = Session::Floor(Floor::new(common.plan.room_of(peer)));
            engine
                .tell(Command::Enter {
                    peer,
                    session,
                    socket,
                })
                .await?;
            engine.tell(Command::InRoom { peer, media: 1 }).await?;
        }
        Transport::WebTransport => {
            let (session, socket) = connect(&common, peer, start).await?;
            engine
                .tell(Command::Enter {
                    peer,
                    session,
                    socket,
                })
                .await?;
        }
        Transport::DataChannel => bail!("web clients come in by WebSocket"),
    }
    while let Some(Order::Move(place)) = orders.recv().await {
        engine.tell(Command::Move { peer, place }).await?;
    }
    engine.tell(Command::Rest { peer }).await?;
    tokio::time::sleep(LEAVE_AFTER).await;
    Ok(engine.tell(Command::Leave { peer }).await?)
}

async fn connect(common: &Common, peer: u32, start: [f64; 3]) -> Result<(Session, PeerSocket)> {
    let admission = common.doorman.admit(&common.plan, peer).await?;
    let address = &admission.address;
    let remote = lookup_host(address)
        .await
        .context("the voice server's name")?
        .next();
    let remote = remote.with_context(|| format!("{address} has no address"))?;
    let socket = common.connect(peer, remote)?;
    let way = Way {
        token: admission.token,
        room: admission.room,
        place: start,
        is_talker: common.plan.talker_of(peer).is_some(),
        is_spread: common.plan.place == Place::Spread,
    };
    let config = common.trust.quic.clone();
    let session = WebTransport::connect(Instant::now(), config, remote, address, way)?;
    Ok((Session::WebTransport(Box::new(session)), socket))
}
