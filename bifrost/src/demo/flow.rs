//! A match with voice, as a matchmaker and its players go through it. Every step says what it expected when it fails.

mod events;
mod matchmaker;
mod talk;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

use self::matchmaker::Made;
pub(crate) use self::matchmaker::Matchmaker;
use super::{timeline::Timeline, world::World};

/// A pong must be there by then.
const PONG_MAX: Duration = Duration::from_secs(5);

/// Longest answer of a game port: twice the ping, and some room to notice a longer one.
const PONG_BYTES_MAX: usize = 256;

const NONCE: &str = "bifrost000000001";

/// One match, from an idle server back to an idle server.
pub(crate) async fn play(world: &World, timeline: &Timeline) -> Result<()> {
    let matchmaker = Matchmaker::new(world, timeline)?;
    matchmaker.list(world.game_servers()).await?;
    let made = matchmaker.make().await?;
    matchmaker.make_again(&made).await?;
    matchmaker.expect_occupied(&made).await?;
    ping(&made, timeline).await?;
    let mut players = talk::join(&made, &world.certificate_file(), timeline).await?;
    talk::talk(&mut players, timeline).await?;
    matchmaker.end(&made, &mut players).await?;
    matchmaker.expect_idle(&made, world.game_servers()).await?;
    matchmaker.expect_events(&made).await
}

async fn ping(made: &Made, timeline: &Timeline) -> Result<()> {
    timeline.step("Connect to the game server, as a player would");
    let (address, ping) = (made.address, format!("ping {NONCE}"));
    let (ip, port) = (address.ip(), address.port());
    timeline.command(&format!("printf '{ping}' | nc -u -w1 {ip} {port}"));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(address).await?;
    let sent = Instant::now();
    socket.send(ping.as_bytes()).await?;
    let mut buffer = [0; PONG_BYTES_MAX];
    let received = timeout(PONG_MAX, socket.recv(&mut buffer)).await;
    let length = received.with_context(|| format!("no pong from {address}"))??;
    let pong = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let micros = sent.elapsed().as_micros();
    let expected = format!("pong {NONCE} {} occupied {}", made.instance, made.id);
    ensure!(
        pong == expected,
        "the game port answers {pong:?}, not {expected:?}"
    );
    timeline.held(&format!("{pong} (after {micros} µs)"));
    Ok(())
}
