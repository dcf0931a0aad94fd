//! The claim as it stands in an instance's metadata: who has the server, for which match, under which fence, until
//! when. It tells those who do not share our store; among those who do, the store decides.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::{
    model::{Keys, Server},
    store::Timestamp,
};

/// The metadata key of the claim.
pub(crate) const CLAIM_KEY: &str = "claim";

/// What `instance_state` says of a server that is claimed and has not started its match.
pub(crate) const RESERVED: &str = "reserved";
/// What it says of a server that is free.
pub(crate) const IDLE: &str = "idle";
/// What it says of a server that runs a match.
pub(crate) const OCCUPIED: &str = "occupied";

/// Clocks of bridges that do not share a store may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(2);

/// A claim in the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Id of the store whose bridges claimed it.
    pub(crate) owner: String,
    /// The match it is claimed for.
    pub(crate) match_id: String,
    /// Grows with every claim of this server.
    pub(crate) fence: u64,
    /// Until when the server is kept for a match that has not started.
    pub(crate) expires_at: Timestamp,
    /// Until when the match may run unless its lease is renewed.
    pub(crate) lease_until: Timestamp,
}

impl Claim {
    /// What is written to make the claim, or to renew it.
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "owner": self.owner,
            "match": self.match_id,
            "fence": self.fence,
            "expires_at": self.expires_at.to_rfc3339(),
            "lease_until": self.lease_until.to_rfc3339(),
        })
    }

    /// What is written when the claim is over: all of its parts, so that it does not matter whether the Fleet merges
    /// nested objects or replaces them.
    pub(crate) fn released(owner: &str, fence: u64) -> Value {
        json!({ "owner": owner, "match": "", "fence": fence, "expires_at": null, "lease_until": null })
    }

    /// The claim that stands in the metadata; `None` where there is none, or one that has been released. What cannot
    /// be read is nobody's claim.
    pub(crate) fn read(metadata: &Map<String, Value>) -> Option<Self> {
        let claim = metadata.get(CLAIM_KEY)?;
        let text = |name: &str| claim.get(name).and_then(Value::as_str);
        let time = |name: &str| text(name).and_then(timestamp);
        Some(Self {
            owner: text("owner")?.to_owned(),
            match_id: text("match").filter(|id| !id.is_empty())?.to_owned(),
            fence: claim.get("fence")?.as_u64()?,
            expires_at: time("expires_at")?,
            lease_until: time("lease_until").or_else(|| time("expires_at"))?,
        })
    }
}

/// The highest fence that the metadata has seen, released claims included.
pub(crate) fn fence(metadata: &Map<String, Value>) -> u64 {
    let claim = metadata.get(CLAIM_KEY);
    let fence = claim.and_then(|claim| claim.get("fence"));
    fence.and_then(Value::as_u64).unwrap_or(0)
}

/// What a game server says it is doing.
pub(crate) fn state<'a>(server: &'a Server, keys: &Keys) -> &'a str {
    let state = server.metadata.get(&keys.instance_state);
    state.and_then(Value::as_str).unwrap_or_default()
}

/// The match that a game server says it runs; `None` where it does not say.
pub(crate) fn running_match(server: &Server) -> Option<&str> {
    server.metadata.get("match_id").and_then(Value::as_str)
}

/// Whether the metadata contradict themselves: a server is occupied, by no match. A game server writes both at once, so
/// one of them is of an update that arrived late.
pub(crate) fn is_empty(server: &Server, keys: &Keys) -> bool {
    state(server, keys) == OCCUPIED && running_match(server) == Some("")
}

/// Whether a server may be claimed, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may.
    Free,
    /// It is not idle.
    Busy,
    /// Bridges with another store, or ours before it was lost, have claimed it until then.
    Claimed(Timestamp),
    /// The Fleet says that it does not work.
    Unwell,
    /// It has not been heard of for too long.
    Stale,
}

/// What of a server decides whether it may be claimed: read from its metadata once, looked at often.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    is_up: bool,
    /// It says that it is idle, or reserved by a claim that may be over.
    is_offered: bool,
    heartbeat: Option<Timestamp>,
    claim: Option<Claim>,
}

/// A server as those who look for one see it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) facts: Facts,
    /// There is an address at which it takes calls about matches.
    pub(crate) takes_calls: bool,
}

/// What is asked of a server beyond being idle.
#[derive(Clone, Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) keys: &'a Keys,
    /// The id of our store.
    pub(crate) owner: &'a str,
    /// The metadata key of the heartbeat, and the oldest that counts.
    pub(crate) heartbeat: Option<(&'a str, Duration)>,
    pub(crate) now: Timestamp,
}

impl Judge<'_> {
    /// Judges a server whose claims our store knows up to `known_fence`, and which it says is free.
    pub(crate) fn verdict(&self, server: &Server, known_fence: u64) -> Verdict {
        self.verdict_of(&self.facts(server), known_fence)
    }

    /// Reads what decides.
    pub(crate) fn facts(&self, server: &Server) -> Facts {
        let heartbeat = self.heartbeat.and_then(|(key, _)| server.metadata.get(key));
        Facts {
            is_up: server.is_up(),
            is_offered: matches!(state(server, self.keys), IDLE | RESERVED),
            heartbeat: heartbeat.and_then(Value::as_str).and_then(timestamp),
            claim: Claim::read(&server.metadata),
        }
    }

    /// Judges by what was read before.
    pub(crate) fn verdict_of(&self, facts: &Facts, known_fence: u64) -> Verdict {
        if !facts.is_up {
            return Verdict::Unwell;
        }
        if let Some((_, age_max)) = self.heartbeat
            && facts
                .heartbeat
                .is_none_or(|heard| heard + age_max < self.now)
        {
            return Verdict::Stale;
        }
        if !facts.is_offered {
            return Verdict::Busy;
        }
        let is_known = |claim: &&Claim| claim.owner == self.owner && claim.fence <= known_fence;
        match facts.claim.as_ref().filter(|claim| !is_known(claim)) {
            Some(claim) if self.is_ahead(claim.expires_at) => Verdict::Claimed(claim.expires_at),
            _ => Verdict::Free,
        }
    }

    /// Whether a time has not certainly passed.
    pub(crate) fn is_ahead(&self, time: Timestamp) -> bool {
        self.now <= time + CLOCK_SKEW
    }
}

/// Reads a time in RFC 3339.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    let millis = u64::try_from(time.with_timezone(&Utc).timestamp_millis()).ok()?;
    Some(Timestamp(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn server(metadata: Value) -> Server {
        let Value::Object(metadata) = metadata else {
            panic!("metadata is an object")
        };
        Server {
            metadata,
            ..Server::sample(101)
        }
    }

    fn claim(owner: &str, fence: u64, expires_in: i64) -> Value {
        let expires_at = Timestamp(NOW.0.saturating_add_signed(expires_in * 1000));
        Claim {
            owner: owner.to_owned(),
            match_id: "m-1".to_owned(),
            fence,
            expires_at,
            lease_until: expires_at,
        }
        .to_value()
    }

    fn verdict(metadata: Value) -> Verdict {
        let judge = Judge {
            keys: &Keys::default(),
            owner: "ours",
            heartbeat: None,
            now: NOW,
        };
        judge.verdict(&server(metadata), 5)
    }

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let metadata = server(json!({ "claim": claim("ours", 7, 10) })).metadata;
        let read = Claim::read(&metadata).unwrap();
        assert_eq!(read.to_value(), metadata["claim"]);
        assert_eq!(fence(&metadata), 7);
    }

    #[test]
    fn a_released_or_broken_claim_is_nobodys() {
        for value in [
            Claim::released("ours", 7),
            json!(null),
            json!("m-1"),
            json!({"owner": "a", "match": "m", "fence": "7", "expires_at": "2026-01-01T00:00:00Z"}),
            json!({"owner": "a", "match": "m", "fence": 7, "expires_at": "soon"}),
        ] {
            let metadata = server(json!({ "claim": value })).metadata;
            assert_eq!(Claim::read(&metadata), None, "{value}");
        }
        let metadata = server(json!({ "claim": Claim::released("ours", 7) })).metadata;
        assert_eq!(fence(&metadata), 7, "the fence outlives the claim");
    }

    #[test]
    fn a_foreign_claim_is_respected_until_it_has_certainly_expired() {
        let of = |owner, fence, expires_in| {
            verdict(json!({"instance_state": "reserved", "claim": claim(owner, fence, expires_in)}))
        };
        let until = |seconds: u64| Verdict::Claimed(Timestamp(NOW.0 + seconds * 1000));
        assert_eq!(of("theirs", 1, 10), until(10));
        assert_eq!(
            of("theirs", 1, -1),
            Verdict::Claimed(Timestamp(NOW.0 - 1000)),
            "clocks differ"
        );
        assert_eq!(of("theirs", 1, -3), Verdict::Free);
        assert_eq!(
            of("ours", 5, 10),
            Verdict::Free,
            "our store knows that it is over"
        );
        assert_eq!(
            of("ours", 6, 10),
            until(10),
            "our store has never heard of it"
        );
    }

    #[test]
    fn only_a_server_that_is_idle_and_well_is_free() {
        assert_eq!(verdict(json!({"instance_state": "idle"})), Verdict::Free);
        for state in ["occupied", "stopped", "voice", "Idle", ""] {
            assert_eq!(
                verdict(json!({"instance_state": state})),
                Verdict::Busy,
                "{state}"
            );
        }
        assert_eq!(verdict(json!({})), Verdict::Busy);
        let judge = Judge {
            keys: &Keys::default(),
            owner: "ours",
            heartbeat: None,
            now: NOW,
        };
        let mut unwell = server(json!({"instance_state": "idle"}));
        unwell.is_stopped = true;
        assert_eq!(judge.verdict(&unwell, 0), Verdict::Unwell);
    }

    #[test]
    fn a_server_that_was_not_heard_of_lately_is_stale() {
        let judge = Judge {
            keys: &Keys::default(),
            owner: "ours",
            heartbeat: Some(("heartbeat_at", Duration::from_secs(30))),
            now: NOW,
        };
        let at = |seconds: i64| Timestamp(NOW.0.saturating_add_signed(seconds * 1000)).to_rfc3339();
        let of = |heartbeat: Value| {
            judge.verdict(
                &server(json!({"instance_state": "idle", "heartbeat_at": heartbeat})),
                0,
            )
        };
        assert_eq!(of(at(-30).into()), Verdict::Free);
        assert_eq!(of(at(-31).into()), Verdict::Stale);
        assert_eq!(of(json!(null)), Verdict::Stale);
        assert_eq!(of(json!(7)), Verdict::Stale);
    }
}
