//! What is known of every server, and which of two answers about one is kept.
//!
//! Pure: the instants are arguments. An answer is as old as the instant before its call was sent: what the Fleet did
//! in between may or may not be in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Instant,
};

use crate::{matches::claim::Offer, model::Server};

/// A server as an answer showed it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Before the call was sent.
    pub(crate) asked: Instant,
    pub(crate) server: Arc<Server>,
    offer: OnceLock<Offer>,
}

impl Seen {
    pub(crate) fn new(asked: Instant, server: Arc<Server>) -> Self {
        Self {
            asked,
            server,
            offer: OnceLock::new(),
        }
    }

    /// The server as those who look for one see it, made at the first look.
    pub(crate) fn offer(&self, make: impl FnOnce(&Server) -> Offer) -> &Offer {
        self.offer.get_or_init(|| make(&self.server))
    }
}

/// The newest answers about the servers of the app.
#[derive(Debug, Default)]
pub(crate) struct Known {
    servers: BTreeMap<i64, Seen>,
    /// A walk has begun: from then on what is gone is forgotten, so that everything may be kept.
    is_walked: bool,
    /// When the newest walk that came to its end began.
    walked: Option<Instant>,
    /// When the newest one began whose list did not move.
    whole: Option<Instant>,
}

impl Known {
    pub(crate) fn servers(&self) -> &BTreeMap<i64, Seen> {
        &self.servers
    }

    /// When the newest walk began that came to its end.
    pub(crate) fn walked(&self) -> Option<Instant> {
        self.walked
    }

    /// When the newest walk began that may say what is gone.
    pub(super) fn whole(&self) -> Option<Instant> {
        self.whole
    }

    /// A walk over all pages begins.
    pub(crate) fn begin(&mut self) {
        self.is_walked = true;
    }

    /// An answer about one server. Without walks nothing is kept: nothing would ever be forgotten.
    pub(crate) fn learn(&mut self, asked: Instant, server: &Server) {
        if self.is_walked && self.is_news(asked, server.id) {
            self.keep(asked, Arc::new(server.clone()));
        }
    }

    /// A page of a walk.
    pub(crate) fn learn_page(&mut self, asked: Instant, servers: Vec<Server>) {
        for server in servers {
            if self.is_news(asked, server.id) {
                self.keep(asked, Arc::new(server));
            }
        }
    }

    fn is_news(&self, asked: Instant, id: i64) -> bool {
        self.servers.get(&id).is_none_or(|seen| seen.asked <= asked)
    }

    fn keep(&mut self, asked: Instant, server: Arc<Server>) {
        self.servers.insert(server.id, Seen::new(asked, server));
    }

    /// A walk that began at `begun` has come to its end, with its pages learned before. Servers that it did not list
    /// are gone, unless they were seen after it began or the list moved while it was read.
    pub(super) fn end(&mut self, begun: Instant, listed: &Listed) {
        if !listed.has_moved {
            self.servers
                .retain(|id, seen| seen.asked >= begun || listed.ids.contains(id));
            self.whole = self.whole.max(Some(begun));
        }
        self.walked = self.walked.max(Some(begun));
    }
}

/// What a walk has listed so far.
#[derive(Debug, Default)]
pub(super) struct Listed {
    ids: BTreeSet<i64>,
    total: Option<i64>,
    /// The number of servers changed between two pages. The pages behind a server that goes move up, and the one that
    /// moves onto a page already read is in no page of this walk, though it is there.
    has_moved: bool,
}

impl Listed {
    /// A page: the ids on it, and how many servers the Fleet counts in all.
    pub(super) fn page(&mut self, ids: impl Iterator<Item = i64>, total: i64) {
        self.ids.extend(ids);
        self.has_moved |= self
            .total
            .replace(total)
            .is_some_and(|before| before != total);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn server(id: i64, name: &str) -> Server {
        Server {
            id,
            name: name.to_owned(),
            ..Server::default()
        }
    }

    fn names(known: &Known) -> Vec<(i64, &str)> {
        let servers = known.servers().iter();
        servers
            .map(|(id, seen)| (*id, seen.server.name.as_str()))
            .collect()
    }

    fn walk(
        known: &mut Known,
        begun: Instant,
        pages: &[(Instant, &[(i64, &str)])],
        totals: &[i64],
    ) {
        known.begin();
        let mut listed = Listed::default();
        for ((asked, page), total) in pages.iter().zip(totals) {
            let servers: Vec<_> = page.iter().map(|(id, name)| server(*id, name)).collect();
            listed.page(servers.iter().map(|server| server.id), *total);
            known.learn_page(*asked, servers);
        }
        known.end(begun, &listed);
    }

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_answer_that_was_asked_for_earlier_never_replaces_a_newer_one() {
        let start = Instant::now();
        let mut known = Known::default();
        known.begin();
        known.learn(at(start, 10), &server(1, "patched"));
        walk(&mut known, start, &[(at(start, 5), &[(1, "page")])], &[1]);
        assert_eq!(names(&known), [(1, "patched")]);
        known.learn(at(start, 9), &server(1, "older"));
        assert_eq!(names(&known), [(1, "patched")]);
        known.learn(at(start, 11), &server(1, "newer"));
        assert_eq!(names(&known), [(1, "newer")]);
    }

    #[test]
    fn a_server_that_a_later_walk_does_not_list_is_forgotten() {
        let start = Instant::now();
        let mut known = Known::default();
        walk(&mut known, start, &[(start, &[(1, "a"), (2, "b")])], &[2]);
        known.learn(at(start, 15), &server(3, "new"));
        let begun = at(start, 10);
        walk(&mut known, begun, &[(begun, &[(2, "b")])], &[1]);
        assert_eq!(
            names(&known),
            [(2, "b"), (3, "new")],
            "3 was seen after the walk began"
        );
        assert_eq!(known.walked(), Some(begun));
    }

    #[test]
    fn a_walk_over_a_list_that_moves_forgets_nothing() {
        let start = Instant::now();
        let mut known = Known::default();
        walk(
            &mut known,
            start,
            &[(start, &[(1, "a"), (2, "b"), (3, "c")])],
            &[3],
        );
        // 1 goes after the first page: 3 moves onto it.
        let begun = at(start, 10);
        let pages: [(Instant, &[(i64, &str)]); 2] =
            [(begun, &[(1, "a"), (2, "b")]), (at(start, 11), &[])];
        walk(&mut known, begun, &pages, &[3, 2]);
        assert_eq!(names(&known), [(1, "a"), (2, "b"), (3, "c")]);
        let begun = at(start, 20);
        walk(&mut known, begun, &[(begun, &[(2, "b"), (3, "c")])], &[2]);
        assert_eq!(names(&known), [(2, "b"), (3, "c")]);
    }

    #[test]
    fn a_walk_that_ends_late_does_not_make_the_snapshot_older() {
        let start = Instant::now();
        let mut known = Known::default();
        walk(&mut known, at(start, 10), &[], &[]);
        walk(&mut known, start, &[], &[]);
        assert_eq!(known.walked(), Some(at(start, 10)));
    }

    #[test]
    fn without_walks_nothing_is_kept() {
        let mut known = Known::default();
        known.learn(Instant::now(), &server(1, "a"));
        assert!(known.servers().is_empty());
    }

    proptest! {
        #[test]
        fn the_order_in_which_answers_come_in_does_not_matter(
            asked in prop::collection::vec((1_i64..4, 0_u64..100), 1..20), swap in any::<prop::sample::Index>(),
        ) {
            let start = Instant::now();
            // One answer for each server and instant: two that were asked for at once are equally old.
            let mut answers: Vec<_> = asked.iter().collect::<BTreeSet<_>>().into_iter().collect();
            let learned = |answers: &[&(i64, u64)]| {
                let mut known = Known::default();
                known.begin();
                for (id, asked) in answers {
                    known.learn(at(start, *asked), &server(*id, &asked.to_string()));
                }
                names(&known).into_iter().map(|(id, name)| (id, name.to_owned())).collect::<Vec<_>>()
            };
            let in_order = learned(&answers);
            let middle = swap.index(answers.len());
            answers.rotate_left(middle);
            assert_eq!(learned(&answers), in_order);
            answers.reverse();
            assert_eq!(learned(&answers), in_order);
        }
    }
}
