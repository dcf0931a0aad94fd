//! Session descriptions that no browser makes: refused in words, or answered.

use futures::SinkExt as _;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    abuse::list,
    client::{OFFER, Stream, map},
    world::{ANY_RATE, PATIENCE, World},
};

async fn set_up(main: &mut Stream, sdp: &str) -> Result<String, String> {
    let result = main.call("SetupWebRtc", map([("sdp", sdp.into())])).await?;
    Ok(result["sdp"].as_str().expect("an answer").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_that_are_none_are_refused() {
    let world = World::start_with(ANY_RATE).await;
    let mut main = world.authenticated(&world.token_for("room", "eve")).await;
    let answer = set_up(&mut main, OFFER).await.unwrap();
    assert!(answer.contains("m=application "), "{answer}");
    let section = &OFFER[OFFER.find("m=").unwrap()..];
    let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let only_channel = "the offer must be one data channel and nothing else";
    for (sdp, error) in [
        (String::new(), only_channel),
        (
            "m=application ".to_owned(),
            "invalid sdp: no data channel over UDP",
        ),
        (OFFER.replace("m=application", "m=audio"), only_channel),
        (format!("{OFFER}{section}"), only_channel),
        (
            format!("{OFFER}{}", "m=application 9 x y\r\n".repeat(1_400)),
            only_channel,
        ),
        (
            format!("{OFFER}{}", "a".repeat(33_000)),
            "invalid params: sdp is too long",
        ),
        (
            OFFER.replace("a=fingerprint", "a=finger"),
            "invalid sdp: no fingerprint",
        ),
        (
            OFFER.replace("a=ice-pwd", "a=ice"),
            "invalid sdp: no ICE credentials",
        ),
    ] {
        let start: String = sdp.chars().take(60).collect();
        assert_eq!(
            set_up(&mut main, &sdp).await.unwrap_err(),
            error,
            "{start}…"
        );
    }
    // As many candidates as fit cost nothing: the client is found by its own checks.
    let many = format!("{OFFER}{}", candidate.repeat(650));
    timeout(PATIENCE, set_up(&mut main, &many))
        .await
        .unwrap()
        .unwrap();
    // 64 KiB are more than a frame holds.
    let frame = list(vec![
        0.into(),
        9.into(),
        "SetupWebRtc".into(),
        map([("sdp", "x".repeat(64 * 1024).into())]),
    ]);
    let _ = main.socket.send(Message::Binary(frame.into())).await;
    main.closed().await;
    world.everybody_is_gone().await;
    world.others_are_unaffected().await;
    world.stop().await;
}

/// Lines and characters of the offer changed.
fn changed_offer(random: &mut fastrand::Rng) -> String {
    let mut lines: Vec<String> = OFFER.lines().map(str::to_owned).collect();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..lines.len());
        match random.u8(..5) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[random.usize(..lines.len())].clone()),
            2 => {
                let other = |it| match random.u8(..8) {
                    0 => random.char(' '..='~'),
                    _ => it,
                };
                lines[at] = lines[at].chars().map(other).collect();
            }
            3 => {
                let end = random.usize(..=lines[at].len());
                lines[at].truncate(end);
            }
            _ => lines[at].push_str(&"9".repeat(random.usize(1..2_000))),
        }
    }
    lines.join("\r\n") + "\r\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_offers_are_answered_or_refused() {
    let world = World::start_with(ANY_RATE).await;
    let mut main = world.authenticated(&world.token_for("room", "eve")).await;
    let seed = 5;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut accepted = 0;
    const TRIES: u32 = 400;
    for round in 0..TRIES {
        let offer = changed_offer(&mut random);
        match set_up(&mut main, &offer).await {
            Ok(_) => accepted += 1,
            Err(error) => assert!(
                [
                    "invalid sdp: ",
                    "the offer must be one data channel and nothing else",
                    "the offer cannot be answered: ",
                ]
                .iter()
                .any(|known| error.starts_with(known)),
                "seed {seed}, round {round}: {error}"
            ),
        }
    }
    assert!(
        (20..TRIES - 20).contains(&accepted),
        "both were tried: {accepted}"
    );
    main.socket.close(None).await.unwrap();
    world.everybody_is_gone().await;
    world.others_are_unaffected().await;
    world.stop().await;
}
