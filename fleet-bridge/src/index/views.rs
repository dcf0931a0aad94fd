//! What has been told of the servers, and what is to be told.
//!
//! Pure. Several bridges tell about the same servers, each from walks of its own, and a change must be told once and
//! in order. So a view is replaced only by what was asked for after it was read, and only while it is what was read:
//! whoever is late finds another version, reads it, and leaves the server to its next walk.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::known::Seen;
use crate::{
    model::{Keys, Server},
    store::{Commit, Document, Key, NewEvent, Put, Version},
};

/// The document that lists the servers that have a view. Fleet counts ids from 1.
pub(super) const ROSTER: Key = Key::View(0);

/// The metadata key of the match that a game server runs, as the guide's game servers write it.
const MATCH_ID: &str = "match_id";

/// A server as events and the overview show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerView<'a> {
    /// Fleet's id.
    id: String,
    /// Fleet's name of it.
    name: &'a str,
    /// What it says that it is doing: `idle`, `reserved`, `occupied` or something else.
    state: Option<&'a str>,
    /// Fleet's status text.
    status: &'a str,
    /// Up, and passing its checks.
    is_healthy: bool,
    /// Players on it, as it last said.
    player_count: u64,
    /// The match that it says it runs.
    match_id: Option<&'a str>,
    /// The city it is in.
    city: &'a str,
    /// The country.
    country: &'a str,
    /// The continent.
    continent: &'a str,
    /// Address of its machine.
    address: Option<&'a str>,
    /// Its public game port.
    port: Option<u16>,
}

impl<'a> ServerView<'a> {
    /// The server as it is known.
    pub(crate) fn of(server: &'a Server, keys: &Keys) -> Self {
        Self {
            id: server.id.to_string(),
            name: &server.name,
            state: server.state(keys),
            status: &server.status,
            is_healthy: server.is_healthy,
            player_count: server.player_count(keys),
            match_id: server.metadata.get(MATCH_ID).and_then(Value::as_str),
            city: &server.city,
            country: &server.country,
            continent: &server.continent,
            address: server.address.as_deref(),
            port: server.game_port(keys),
        }
    }

    /// Leaves out where it can be reached.
    pub(crate) fn hide_address(&mut self) {
        self.address = None;
        self.port = None;
    }
}

fn view(server: &Server, keys: &Keys) -> Arc<str> {
    let view = ServerView::of(server, keys);
    let text = serde_json::to_string(&view).expect("a view is plain data with texts as keys");
    text.into()
}

/// Something to tell.
#[derive(Clone, Debug)]
pub(super) struct Change {
    id: i64,
    /// The view to come; none of a server that is gone.
    view: Option<Arc<str>>,
    kind: &'static str,
    /// What the event shows: the view, of a server that is gone the last one.
    data: Arc<str>,
    /// When the answer was asked for that shows it.
    asked: Instant,
}

/// A view as the store had it.
#[derive(Debug)]
struct Told {
    version: Option<Version>,
    view: Option<Arc<str>>,
    /// What was asked for after this is newer than the view.
    read: Instant,
}

/// The views as this bridge last read or wrote them.
#[derive(Debug, Default)]
pub(super) struct Views {
    told: BTreeMap<i64, Told>,
    roster: BTreeSet<i64>,
    roster_version: Option<Version>,
}

impl Views {
    /// What is to be told after walks have shown these servers, `most` at most. `whole` is when the newest walk began
    /// that may say what is gone.
    pub(super) fn changes(
        &self,
        servers: &BTreeMap<i64, Seen>,
        whole: Option<Instant>,
        keys: &Keys,
        most: usize,
    ) -> Vec<Change> {
        let shown = servers.iter().filter_map(|(id, seen)| {
            let told = self.told.get(id);
            if told.is_some_and(|told| seen.asked <= told.read) {
                return None;
            }
            let before = told.and_then(|told| told.view.as_ref());
            let view = view(&seen.server, keys);
            (before != Some(&view)).then(|| Change {
                id: *id,
                kind: before.map_or("instance.added", |_| "instance.changed"),
                data: Arc::clone(&view),
                view: Some(view),
                asked: seen.asked,
            })
        });
        let gone = self.told.iter().filter_map(|(id, told)| {
            let asked = whole.filter(|begun| *begun > told.read)?;
            let data = Arc::clone(told.view.as_ref()?);
            (!servers.contains_key(id)).then_some(Change {
                id: *id,
                view: None,
                kind: "instance.removed",
                data,
                asked,
            })
        });
        shown.chain(gone).take(most).collect()
    }

    /// The commit that tells these changes, if the views are what was read.
    pub(super) fn commit(&self, changes: &[Change], commit: u64) -> Commit {
        let put = |key, text| Put {
            key,
            text,
            due: None,
            keep: None,
        };
        let version = |id| self.told.get(id).and_then(|told| told.version);
        let mut expect: Vec<_> = changes
            .iter()
            .map(|change| (Key::View(change.id), version(&change.id)))
            .collect();
        let mut puts: Vec<_> = changes
            .iter()
            .map(|change| {
                put(
                    Key::View(change.id),
                    change.view.as_deref().map(str::to_owned),
                )
            })
            .collect();
        let roster = self.roster_with(changes);
        if roster != self.roster {
            let text = serde_json::to_string(&roster).expect("a list of numbers");
            expect.push((ROSTER, self.roster_version));
            puts.push(put(ROSTER, Some(text)));
        }
        let events = changes.iter().map(|change| NewEvent {
            subject: format!("instance:{}", change.id),
            kind: change.kind.to_owned(),
            data: change.data.to_string(),
        });
        Commit {
            id: commit,
            expect,
            put: puts,
            events: events.collect(),
        }
    }

    fn roster_with(&self, changes: &[Change]) -> BTreeSet<i64> {
        let mut roster = self.roster.clone();
        for change in changes {
            if change.view.is_some() {
                roster.insert(change.id);
            } else {
                roster.remove(&change.id);
            }
        }
        roster
    }

    /// The commit was done.
    pub(super) fn told(&mut self, changes: &[Change], commit: u64) {
        let roster = self.roster_with(changes);
        if roster != self.roster {
            self.roster = roster;
            self.roster_version = Some(Version(commit));
        }
        for change in changes {
            let told = Told {
                version: change.view.as_ref().map(|_| Version(commit)),
                view: change.view.clone(),
                read: change.asked,
            };
            self.told.insert(change.id, told);
        }
    }

    /// The roster was read. Returns the servers whose views are not known yet.
    pub(super) fn read_roster(&mut self, document: Option<&Document>) -> Vec<i64> {
        // A text that is no roster counts as an empty one: the next change replaces it.
        let ids = document.and_then(|document| serde_json::from_str(&document.text).ok());
        self.roster = ids.unwrap_or_default();
        self.roster_version = document.map(|document| document.version);
        let unknown = self.roster.iter().filter(|id| !self.told.contains_key(id));
        unknown.copied().collect()
    }

    /// A view was read, not later than `now`. Returns whether it is another than the one known.
    pub(super) fn read(&mut self, id: i64, document: Option<&Document>, now: Instant) -> bool {
        let version = document.map(|document| document.version);
        if self.told.get(&id).and_then(|told| told.version) == version {
            return false;
        }
        let told = Told {
            version,
            view: document.map(|document| Arc::clone(&document.text)),
            read: now,
        };
        self.told.insert(id, told);
        true
    }

    /// Forgets servers that have neither a view nor a place in the index.
    pub(super) fn tidy(&mut self, servers: &BTreeMap<i64, Seen>) {
        self.told
            .retain(|id, told| told.view.is_some() || servers.contains_key(id));
    }
}

impl Change {
    pub(super) fn id(&self) -> i64 {
        self.id
    }
}
