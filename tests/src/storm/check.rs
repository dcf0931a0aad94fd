//! The proof: holds what matchmakers were told against what the game servers have written down. No IO, no clock.
//!
//! All times come from one machine's clock, in whole milliseconds: what shares one millisecond is never held against
//! anybody.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    journal::{Event, EventKind},
    record::Told,
};

/// Something that must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A server started a match while it had one.
    #[error("server {server} starts {match_id} while {live} is live on it, at {at_ms}")]
    StartWhileLive {
        /// The server.
        server: i64,
        /// The match that started.
        match_id: String,
        /// The match that ran.
        live: String,
        /// When.
        at_ms: u64,
    },
    /// A server finished what it had not started.
    #[error("server {server} finishes {match_id}, which is not live on it, at {at_ms}")]
    FinishOfNothing {
        /// The server.
        server: i64,
        /// The match.
        match_id: String,
        /// When.
        at_ms: u64,
    },
    /// A server forgot its match.
    #[error("server {server} has lost {live} at {at_ms}")]
    Lost {
        /// The server.
        server: i64,
        /// The match.
        live: String,
        /// When.
        at_ms: u64,
    },
    /// Somebody tried to start a match on a server that a matchmaker had been given.
    #[error("{match_id} was to be started on server {server}, which {live} owns, at {at_ms}")]
    StartRefused {
        /// The server.
        server: i64,
        /// The match that was refused.
        match_id: String,
        /// The owner.
        live: String,
        /// When.
        at_ms: u64,
    },
    /// A matchmaker was told of a match that its server knows nothing of.
    #[error("{} was said to run on server {} at {}, and does not", .0.match_id, .0.server, .0.from_ms)]
    NotRunning(Told),
    /// A match ended while it was its matchmaker's.
    #[error("{} on server {} was finished at {at_ms}, and is owned until {}", .told.match_id, .told.server, .told.owned_until_ms())]
    FinishedEarly {
        /// The match.
        told: Told,
        /// When it was finished.
        at_ms: u64,
    },
    /// Another match ran on a server while it was a matchmaker's.
    #[error("{other} was live on server {} while {} owned it", .told.server, .told.match_id)]
    Shared {
        /// The owner.
        told: Told,
        /// The other.
        other: String,
    },
    /// A match ran on two servers at once.
    #[error("{match_id} was live on servers {first} and {second} at once")]
    TwoServers {
        /// The match.
        match_id: String,
        /// One server.
        first: i64,
        /// The other.
        second: i64,
    },
    /// A matchmaker was told that its match has ended, and it had not.
    #[error("{} was said to have ended at {:?}, and was live on server {}", .0.match_id, .0.ended_ms, .0.server)]
    NotEnded(Told),
    /// Two matchmakers were told of one match.
    #[error("{match_id} was given to two matchmakers")]
    GivenTwice {
        /// The match.
        match_id: String,
    },
    /// The same key got another answer.
    #[error("the key {key} got two different answers")]
    UnequalReplay {
        /// The key.
        key: String,
    },
    /// A server is not free although nobody has a claim to it.
    #[error("server {server} is not free in the end: {why}")]
    NotFree {
        /// The server.
        server: i64,
        /// What it says of itself.
        why: String,
    },
    /// Too little has happened for the other checks to say much.
    #[error("{allocated} of {cycles} cycles got a match: too few to prove anything")]
    FewAllocations {
        /// Matches that matchmakers were told of.
        allocated: u64,
        /// Matches that were asked for.
        cycles: u64,
    },
    /// An answer that nobody should get.
    #[error("{0}")]
    Surprise(String),
}

/// The time that a match was live on a server.
struct Span<'a> {
    match_id: &'a str,
    from_ms: u64,
    /// `u64::MAX` while it is.
    until_ms: u64,
}

/// What the journals (by server) and the matchmakers together show to be wrong.
#[must_use]
pub fn check(journals: &BTreeMap<i64, Vec<Event>>, told: &[Told]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let spans: BTreeMap<i64, Vec<Span<'_>>> = journals
        .iter()
        .map(|(server, events)| (*server, spans(*server, events, &mut violations)))
        .collect();
    given_once(told, &mut violations);
    one_server_each(&spans, &mut violations);
    for told in told {
        let spans = spans.get(&told.server).map_or(&[][..], Vec::as_slice);
        is_alone(told, spans, &mut violations);
    }
    for (server, events) in journals {
        let told = told.iter().filter(|told| told.server == *server);
        no_start_refused(*server, events, &told.collect::<Vec<_>>(), &mut violations);
    }
    violations
}

/// Reads one journal: starts and finishes must alternate.
fn spans<'a>(server: i64, events: &'a [Event], violations: &mut Vec<Violation>) -> Vec<Span<'a>> {
    let mut spans: Vec<Span<'_>> = Vec::new();
    for event in events {
        let (at_ms, match_id) = (event.at_ms, event.match_id.clone());
        let live = spans.last_mut().filter(|span| span.until_ms == u64::MAX);
        match (&event.kind, live) {
            (EventKind::Refused(_), _) | (EventKind::Idle, None) => {}
            (EventKind::Start, live) => {
                if let Some(span) = live {
                    let live = span.match_id.to_owned();
                    violations.push(Violation::StartWhileLive {
                        server,
                        match_id,
                        live,
                        at_ms,
                    });
                }
                spans.push(Span {
                    match_id: &event.match_id,
                    from_ms: at_ms,
                    until_ms: u64::MAX,
                });
            }
            (EventKind::Finish, Some(span)) if span.match_id == match_id => span.until_ms = at_ms,
            (EventKind::Finish, _) => violations.push(Violation::FinishOfNothing {
                server,
                match_id,
                at_ms,
            }),
            (EventKind::Idle, Some(span)) => {
                span.until_ms = at_ms;
                let live = span.match_id.to_owned();
                violations.push(Violation::Lost {
                    server,
                    live,
                    at_ms,
                });
            }
        }
    }
    spans
}

fn given_once(told: &[Told], violations: &mut Vec<Violation>) {
    let mut given = HashSet::new();
    for told in told {
        if !given.insert(&told.match_id) {
            let match_id = told.match_id.clone();
            violations.push(Violation::GivenTwice { match_id });
        }
    }
}

/// No match was live on two servers at once.
fn one_server_each(spans: &BTreeMap<i64, Vec<Span<'_>>>, violations: &mut Vec<Violation>) {
    let mut by_match: HashMap<&str, Vec<(i64, &Span<'_>)>> = HashMap::new();
    for (server, spans) in spans {
        for span in spans {
            let seen = by_match.entry(span.match_id).or_default();
            let twin = seen.iter().find(|(other, earlier)| {
                other != server
                    && earlier.from_ms < span.until_ms
                    && span.from_ms < earlier.until_ms
            });
            if let Some((first, _)) = twin {
                violations.push(Violation::TwoServers {
                    match_id: span.match_id.to_owned(),
                    first: *first,
                    second: *server,
                });
            }
            seen.push((*server, span));
        }
    }
}

/// The match ran when its matchmaker was told so, for as long as the matchmaker had it, and nothing else did.
fn is_alone(told: &Told, spans: &[Span<'_>], violations: &mut Vec<Violation>) {
    let until_ms = told.owned_until_ms();
    let own = |span: &&Span<'_>| span.match_id == told.match_id && span.from_ms <= told.from_ms;
    let Some(own) = spans.iter().rev().find(own) else {
        violations.push(Violation::NotRunning(told.clone()));
        return;
    };
    if own.until_ms < until_ms {
        let (told, at_ms) = (told.clone(), own.until_ms);
        violations.push(Violation::FinishedEarly { told, at_ms });
    }
    if told.ended_ms.is_some_and(|ended| own.until_ms > ended) {
        violations.push(Violation::NotEnded(told.clone()));
    }
    let others = spans.iter().filter(|span| span.match_id != told.match_id);
    for other in others.filter(|it| it.from_ms < until_ms && told.from_ms < it.until_ms) {
        let (told, other) = (told.clone(), other.match_id.to_owned());
        violations.push(Violation::Shared { told, other });
    }
}

/// Nobody even tried to start a match on a server that was somebody's: that the server refused it is luck, which a
/// server that knows no fences, or has just been restarted, does not bring.
fn no_start_refused(
    server: i64,
    events: &[Event],
    told: &[&Told],
    violations: &mut Vec<Violation>,
) {
    for event in events {
        let EventKind::Refused(refusal) = &event.kind else {
            continue;
        };
        if refusal.call != "start" || refusal.reason != "occupied" {
            continue;
        }
        let owner = told.iter().find(|told| {
            Some(&told.match_id) == refusal.running.as_ref()
                && told.match_id != event.match_id
                && told.from_ms < event.at_ms
                && event.at_ms < told.owned_until_ms()
        });
        if let Some(owner) = owner {
            violations.push(Violation::StartRefused {
                server,
                match_id: event.match_id.clone(),
                live: owner.match_id.clone(),
                at_ms: event.at_ms,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::journal::Refusal;

    const SERVER: i64 = 101;

    fn event(at_ms: u64, match_id: &str, kind: EventKind) -> Event {
        Event {
            at_ms,
            match_id: match_id.to_owned(),
            fence: None,
            kind,
        }
    }

    fn start(at_ms: u64, match_id: &str) -> Event {
        event(at_ms, match_id, EventKind::Start)
    }

    fn finish(at_ms: u64, match_id: &str) -> Event {
        event(at_ms, match_id, EventKind::Finish)
    }

    fn refused(at_ms: u64, match_id: &str, call: &str, reason: &str, running: &str) -> Event {
        let refusal = Refusal {
            call: call.to_owned(),
            reason: reason.to_owned(),
            running: Some(running.to_owned()),
        };
        event(at_ms, match_id, EventKind::Refused(refusal))
    }

    /// Told at 20, finished from 30 on, leased until 1000.
    fn told(match_id: &str) -> Told {
        Told {
            match_id: match_id.to_owned(),
            server: SERVER,
            from_ms: 20,
            until_ms: Some(30),
            expires_ms: 1000,
            ended_ms: None,
        }
    }

    #[track_caller]
    fn found(events: &[Event], told: &[Told], expected: &[Violation]) {
        let journals = BTreeMap::from([(SERVER, events.to_vec())]);
        assert_eq!(check(&journals, told), expected);
    }

    #[test]
    fn matches_one_after_the_other_are_fine() {
        let events = [
            event(1, "", EventKind::Idle),
            start(10, "m1"),
            finish(30, "m1"),
            event(31, "", EventKind::Idle),
            start(30, "m2"),
            finish(60, "m2"),
        ];
        let second = Told {
            from_ms: 30,
            until_ms: None,
            expires_ms: 60,
            ended_ms: Some(60),
            ..told("m2")
        };
        found(&events, &[told("m1"), second], &[]);
    }

    #[test]
    fn a_start_beside_a_live_match_is_found() {
        let events = [start(10, "m1"), start(40, "m2"), finish(50, "m2")];
        let expected = Violation::StartWhileLive {
            server: SERVER,
            match_id: "m2".to_owned(),
            live: "m1".to_owned(),
            at_ms: 40,
        };
        found(&events, &[], &[expected]);
    }

    #[test]
    fn a_finish_of_what_was_not_started_is_found() {
        let unknown = |match_id: &str, at_ms| Violation::FinishOfNothing {
            server: SERVER,
            match_id: match_id.to_owned(),
            at_ms,
        };
        found(&[finish(5, "m0")], &[], &[unknown("m0", 5)]);
        let events = [start(10, "m1"), finish(40, "m2")];
        found(&events, &[], &[unknown("m2", 40)]);
    }

    #[test]
    fn a_match_that_a_server_lost_is_found() {
        let events = [start(10, "m1"), event(40, "", EventKind::Idle)];
        let live = "m1".to_owned();
        let expected = Violation::Lost {
            server: SERVER,
            live,
            at_ms: 40,
        };
        found(&events, &[], &[expected]);
    }

    #[test]
    fn a_start_on_an_owned_server_is_found_although_it_was_refused() {
        let check = |refused: Event, expected: &[Violation]| {
            let events = [start(10, "m1"), refused, finish(40, "m1")];
            found(&events, &[told("m1")], expected);
        };
        let expected = Violation::StartRefused {
            server: SERVER,
            match_id: "m2".to_owned(),
            live: "m1".to_owned(),
            at_ms: 25,
        };
        check(refused(25, "m2", "start", "occupied", "m1"), &[expected]);
        check(refused(25, "m2", "start", "stale_fence", "m1"), &[]);
        check(refused(25, "m2", "finish", "occupied", "m1"), &[]);
        // Nobody had been told yet, or it was being finished already.
        check(refused(15, "m2", "start", "occupied", "m1"), &[]);
        check(refused(35, "m2", "start", "occupied", "m1"), &[]);
    }

    #[test]
    fn a_match_that_does_not_run_is_found() {
        found(&[], &[told("m1")], &[Violation::NotRunning(told("m1"))]);
        let late = [start(21, "m1")];
        found(&late, &[told("m1")], &[Violation::NotRunning(told("m1"))]);
        let elsewhere = Told {
            server: 102,
            ..told("m1")
        };
        let expected = [Violation::NotRunning(elsewhere.clone())];
        found(&[start(10, "m1")], &[elsewhere], &expected);
    }

    #[test]
    fn a_match_that_ends_before_its_time_is_found() {
        let events = [start(10, "m1"), finish(25, "m1")];
        let early = |told: Told| Violation::FinishedEarly { told, at_ms: 25 };
        found(&events, &[told("m1")], &[early(told("m1"))]);
        let abandoned = Told {
            until_ms: None,
            ..told("m1")
        };
        let expected = [early(abandoned.clone())];
        found(&events, std::slice::from_ref(&abandoned), &expected);
        let expired = Told {
            expires_ms: 25,
            ..abandoned
        };
        found(&events, &[expired], &[]);
    }

    #[test]
    fn a_server_that_two_matches_share_is_found() {
        let events = [start(10, "m1"), start(25, "m2")];
        let (second, other) = (told("m1"), "m2".to_owned());
        let beside = Violation::StartWhileLive {
            server: SERVER,
            match_id: "m2".to_owned(),
            live: "m1".to_owned(),
            at_ms: 25,
        };
        let shared = Violation::Shared {
            told: second,
            other,
        };
        found(&events, &[told("m1")], &[beside, shared]);
    }

    #[test]
    fn a_match_on_two_servers_at_once_is_found() {
        let journals = |second: u64| {
            BTreeMap::from([
                (101, vec![start(10, "m1"), finish(20, "m1")]),
                (102, vec![start(second, "m1"), finish(40, "m1")]),
            ])
        };
        let expected = Violation::TwoServers {
            match_id: "m1".to_owned(),
            first: 101,
            second: 102,
        };
        assert_eq!(check(&journals(19), &[]), [expected]);
        assert_eq!(check(&journals(20), &[]), []);
    }

    #[test]
    fn an_end_that_has_not_come_is_found() {
        let ended = Told {
            ended_ms: Some(35),
            ..told("m1")
        };
        let expected = [Violation::NotEnded(ended.clone())];
        found(&[start(10, "m1")], std::slice::from_ref(&ended), &expected);
        let events = [start(10, "m1"), finish(36, "m1")];
        found(&events, std::slice::from_ref(&ended), &expected);
        found(&[start(10, "m1"), finish(35, "m1")], &[ended], &[]);
    }

    #[test]
    fn a_match_that_is_given_twice_is_found() {
        let events = [start(10, "m1"), finish(40, "m1")];
        let match_id = "m1".to_owned();
        let expected = [Violation::GivenTwice { match_id }];
        found(&events, &[told("m1"), told("m1")], &expected);
    }
}
