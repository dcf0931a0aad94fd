//! Any text is an offer that is answered, or refused. An answer is one data channel at our addresses.

#![no_main]

use std::{sync::LazyLock, time::Instant};

use libfuzzer_sys::fuzz_target;
use sfu::fuzzing::Answering;

static SERVER: LazyLock<Answering> = LazyLock::new(|| {
    let candidates = ["192.0.2.7:8844", "[2001:db8::7]:8844"];
    let candidates = candidates.map(|it| it.parse().expect("an address"));
    Answering::new(candidates.to_vec()).expect("a certificate can be made")
});

/// The first character of user fragments of the shard that answers.
const SHARD: u8 = 3;
const SHARD_CHARACTER: char = 'D';

fuzz_target!(|data: &[u8]| {
    let Ok(offer) = str::from_utf8(data) else {
        return;
    };
    let Some(answer) = SERVER.answer(Instant::now(), SHARD, offer) else {
        return;
    };
    let with = |prefix: &str| {
        answer
            .lines()
            .filter(|line| line.starts_with(prefix))
            .count()
    };
    assert_eq!(with("m=application "), 1, "{answer}");
    assert_eq!(with("m="), 1, "{answer}");
    assert_eq!(
        with(&format!("a=ice-ufrag:{SHARD_CHARACTER}")),
        1,
        "{answer}"
    );
    assert_eq!(with("a=fingerprint:sha-256 "), 1, "{answer}");
    assert!(answer.contains("192.0.2.7 8844 typ host"), "{answer}");
    assert!(answer.contains("2001:db8::7 8844 typ host"), "{answer}");
});
