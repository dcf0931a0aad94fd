//! The storm against stand-ins: a right one passes, and each wrong one is caught.

use std::time::Duration;

use tokio::sync::watch;

use super::{
    Disturbances, Ground, Options, Outcome, Shares, Violation, run,
    stand_in::{self, Flaw},
};

const SERVERS: u16 = 6;

/// Many matchmakers for few servers.
fn options() -> Options {
    Options {
        cycles: 150,
        matchmakers: 12,
        seed: 1,
        lease: Duration::from_secs(1),
        deadline: Duration::from_secs(5),
        patience: Duration::from_secs(5),
        shares: Shares {
            replay: 0.2,
            go_away: 0.1,
            self_finish: 0.2,
            abandon: 0.05,
        },
        has_faults: false,
        settle_max: Duration::from_secs(5),
        ..Options::default()
    }
}

async fn storm(flaw: Flaw, options: Options) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let ground = Ground::start(SERVERS, 1, folder.path()).await.unwrap();
    let bridges = stand_in::start(&ground, 2, flaw).await;
    let outcome = run(&options, &ground, &bridges, undisturbed).await;
    outcome.unwrap()
}

async fn undisturbed(_: watch::Receiver<bool>) -> anyhow::Result<Disturbances> {
    Ok(Disturbances::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_bridge_passes_although_the_fleet_fails() {
    let options = Options {
        has_faults: true,
        stall: Duration::from_millis(300),
        ..options()
    };
    let outcome = storm(Flaw::None, options).await;
    assert_eq!(outcome.violations, [], "{outcome}");
    for what in [
        "matches released",
        "matches abandoned",
        "matches finished by their server",
        "replays with the same answer",
        "matchmakers gone in the middle of a call",
        "allocation retries: timeout",
    ] {
        assert!(
            outcome.record.counts.contains_key(what),
            "{what}: {outcome}"
        );
    }
}

/// Matches for which there is a server each, even if none ever becomes free.
const FEW: usize = 3;

/// A storm of so few, each of which does the same out of the ordinary.
async fn few(flaw: Flaw, shares: fn(&mut Shares)) -> Outcome {
    let mut options = Options {
        cycles: FEW as u64,
        settle_max: Duration::ZERO,
        ..options()
    };
    // Going away takes another server when the key is forgotten.
    options.shares.go_away = 0.0;
    shares(&mut options.shares);
    storm(flaw, options).await
}

async fn is_caught(flaw: Flaw, is_expected: fn(&Violation) -> bool) {
    // Servers that a wrong bridge has lost are missing afterwards: few matches show as much as many.
    let options = Options {
        cycles: 60,
        settle_max: Duration::ZERO,
        ..options()
    };
    let outcome = storm(flaw, options).await;
    assert!(outcome.violations.iter().any(is_expected), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_gives_a_server_twice_is_caught() {
    is_caught(Flaw::Blind, |it| matches!(it, Violation::NotRunning(_))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_leaves_it_to_the_servers_is_caught() {
    let is_expected = |it: &Violation| matches!(it, Violation::StartRefused { .. });
    is_caught(Flaw::Groping, is_expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_forgets_keys_is_caught() {
    let outcome = few(Flaw::Forgetful, |shares| shares.replay = 1.0).await;
    assert_eq!(outcome.record.unequal_replays.len(), FEW, "{outcome}");
    let is_expected = |it: &Violation| matches!(it, Violation::UnequalReplay { .. });
    assert!(outcome.violations.iter().any(is_expected), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_keeps_servers_beyond_their_lease_is_caught() {
    let outcome = few(Flaw::Careless, |shares| shares.abandon = 1.0).await;
    let not_free = |it: &&Violation| matches!(it, Violation::NotFree { .. });
    let not_free = outcome.violations.iter().filter(not_free).count();
    assert_eq!(not_free, FEW, "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_calls_a_running_match_ended_is_caught() {
    is_caught(Flaw::Hasty, |it| matches!(it, Violation::NotEnded(_))).await;
}
