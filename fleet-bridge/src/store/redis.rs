//! The store that several bridges share, in one Redis (not a cluster).
//!
//! Under the prefix lie `head` (a hash: the id of the history and the number of its newest event), `doc:<key>` (a hash
//! for each document: version and text), `due` and `over` (sorted sets: names by time), `matches` (a sorted set: ids by
//! name), `events` (a stream whose ids are the numbers) and `commit:<id>` (a commit that is applied, for a while). Only
//! scripts write, so that every step is done as a whole or not at all.
//!
//! A commit that got no answer is sent again with the same id, which does nothing when it was applied. Redis must keep
//! what it has answered (`appendonly yes`, `appendfsync always`), and must not evict keys.

mod connection;
mod entry;
mod follow;
mod recent;

use std::time::Duration;

use redis::{Client, RedisResult, Script, streams::StreamRangeReply};
use tokio::sync::watch;

use self::{
    connection::{Connection, RESPONSE_TIME},
    entry::{event, sequence},
    recent::Recent,
};
use super::{
    EVENTS_MAX,
    clock::Clock,
    words::{Commit, Committed, Document, EventPage, Key, Timestamp, Unavailable, Version, millis},
};

/// How long Redis knows that a commit is applied: far longer than it is sent again.
const APPLIED_TIME: Duration = Duration::from_secs(60);

/// Latest time and longest time to keep, in milliseconds: the largest whole number that scripts can add to.
const MILLIS_MAX: u64 = 1 << 52;

/// Names that one look for what is due goes through at least: some may be of documents that are gone.
const LOOK_MIN: usize = 100;

/// Looks for one page; each removes names of documents that are gone.
const LOOKS_MAX: usize = 100;

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("redis/lua/history.lua"),
            include_str!(concat!("redis/lua/", $name, ".lua"))
        ))
    };
}

/// The address is not one of a Redis. It may hold a password and is not shown.
#[derive(Debug, thiserror::Error)]
#[error("the address of Redis is not like redis://host:6379/0 or rediss://user:password@host")]
pub(crate) struct AddressError;

/// Documents and events in Redis.
#[derive(Debug)]
pub(super) struct Redis {
    connection: Connection,
    prefix: String,
    scripts: Scripts,
    clock: Clock,
    recent: Recent,
}

#[derive(Debug)]
struct Scripts {
    survey: Script,
    commit: Script,
    due: Script,
    matches: Script,
    forget: Script,
}

/// Which history Redis holds.
struct Survey {
    id: String,
    newest: u64,
}

impl Redis {
    /// Connects to nothing yet.
    pub(super) fn new(url: &str, prefix: &str) -> Result<Self, AddressError> {
        // The error could show the address.
        let client = Client::open(url).map_err(|_| AddressError)?;
        Ok(Self {
            connection: Connection::new(client),
            prefix: prefix.to_owned(),
            scripts: Scripts {
                survey: script!("survey"),
                commit: script!("commit"),
                due: script!("due"),
                matches: script!("matches"),
                forget: script!("forget"),
            },
            clock: Clock::default(),
            recent: Recent::new(),
        })
    }

    /// Learns the time of Redis, if it is there: else the store's time might begin ahead of it, and stand still.
    pub(super) async fn greet(&self) {
        let survey = |mut connection| async move { self.survey_over(&mut connection).await };
        if let Err(error) = self.connection.attempt(survey).await {
            tracing::warn!("the store's Redis cannot be reached yet: {error}");
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.recent.newest()
    }

    /// Asks Redis once, and waits for the answer as long as for any.
    pub(super) async fn is_healthy(&self) -> bool {
        let ping = redis::cmd("PING");
        let ping = &ping;
        let asked = self.connection.attempt(|mut connection| async move {
            let pong: String = ping.query_async(&mut connection).await?;
            Ok(pong)
        });
        let asked = tokio::time::timeout(RESPONSE_TIME, asked).await;
        matches!(asked, Ok(Ok(_)))
    }

    /// Asks every time: the history may have been lost just now.
    pub(super) async fn id(&self) -> Result<String, Unavailable> {
        Ok(self.survey().await?.id)
    }

    pub(super) async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Document>>, Unavailable> {
        let mut calls = redis::pipe();
        calls.atomic().cmd("TIME");
        for key in keys {
            let call = calls.cmd("HMGET").arg(self.document(key));
            call.arg("v").arg("d");
        }
        type Fields = (Option<u64>, Option<String>);
        let calls = &calls;
        let answer = self.connection.call(|mut connection| async move {
            let answer: Vec<redis::Value> = calls.query_async(&mut connection).await?;
            let mut values = answer.into_iter();
            let time = values.next().unwrap_or(redis::Value::Nil);
            let time: (u64, u64) = redis::from_redis_value(time)?;
            let fields = values.map(redis::from_redis_value::<Fields>);
            let fields = fields.collect::<Result<Vec<_>, _>>()?;
            Ok((time, fields))
        });
        let ((seconds, micros), fields) = answer.await?;
        self.clock.learn(Timestamp(seconds * 1000 + micros / 1000));
        let documents = fields.into_iter().map(|fields| match fields {
            (Some(version), Some(text)) => Some(document(version, text)),
            (None, _) | (_, None) => None,
        });
        Ok(documents.collect())
    }

    pub(super) async fn commit(&self, commit: &Commit) -> Result<Committed, Unavailable> {
        let mut call = self.scripts.commit.prepare_invoke();
        for name in ["head", "events", "due", "matches", "over"] {
            call.key(self.key(name));
        }
        call.key(self.key(&format!("commit:{}", commit.id)));
        call.arg(commit.id).arg(super::new_id());
        call.arg(millis(APPLIED_TIME)).arg(EVENTS_MAX);
        call.arg(commit.expect.len()).arg(commit.put.len());
        for (key, version) in &commit.expect {
            call.key(self.document(key));
            call.arg(optional(version.map(|it| it.0)));
        }
        for put in &commit.put {
            call.key(self.document(&put.key));
            let match_id = match &put.key {
                Key::Match(id) => id,
                Key::Server(_) | Key::Idempotency(_) | Key::View(_) | Key::Webhook(_) => "",
            };
            let action = put.text.as_ref().map_or("delete", |_| "put");
            call.arg(put.key.to_string()).arg(match_id).arg(action);
            call.arg(put.text.as_deref().unwrap_or_default());
            call.arg(optional(put.due.map(|due| due.0.min(MILLIS_MAX))));
            let keep = put.keep.map(|keep| millis(keep).min(MILLIS_MAX));
            call.arg(optional(keep));
        }
        for event in &commit.events {
            call.arg(&event.subject).arg(&event.kind).arg(&event.data);
        }
        let call = &call;
        let answer = self.connection.call(|mut connection| async move {
            let answer: (bool, u64) = call.invoke_async(&mut connection).await?;
            Ok(answer)
        });
        let (is_done, now) = answer.await?;
        self.clock.learn(Timestamp(now));
        Ok(match is_done {
            true => Committed::Done,
            false => Committed::Conflict,
        })
    }

    pub(super) async fn due(&self, limit: usize) -> Result<Vec<Key>, Unavailable> {
        let look = limit.max(LOOK_MIN);
        let mut call = self.scripts.due.key(self.key("due"));
        call.arg(self.key("doc:")).arg(limit).arg(look);
        let names: Vec<String> = self.page(&call, limit).await?;
        let key = |name: String| match name.parse() {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::warn!("the store holds what this bridge does not know: {error}");
                None
            }
        };
        Ok(names.into_iter().filter_map(key).collect())
    }

    pub(super) async fn matches(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Document)>, Unavailable> {
        let look = limit.max(LOOK_MIN);
        let mut call = self.scripts.matches.key(self.key("matches"));
        call.arg(self.key("doc:match:")).arg(limit).arg(look);
        call.arg(after);
        let found: Vec<(String, u64, String)> = self.page(&call, limit).await?;
        let found = found.into_iter();
        Ok(found
            .map(|(id, version, text)| (id, document(version, text)))
            .collect())
    }

    /// Calls until there is a page, or no more. Each call removes the names of documents that are gone, so that the next
    /// one gets further.
    async fn page<T: redis::FromRedisValue>(
        &self,
        call: &redis::ScriptInvocation<'_>,
        limit: usize,
    ) -> Result<Vec<T>, Unavailable> {
        let mut found = Vec::new();
        for _ in 0..LOOKS_MAX {
            let answer = self.connection.call(|mut connection| async move {
                let answer: (Vec<T>, bool, u64) = call.invoke_async(&mut connection).await?;
                Ok(answer)
            });
            let (page, may_be_more, now) = answer.await?;
            self.clock.learn(Timestamp(now));
            found = page;
            if found.len() >= limit || !may_be_more {
                break;
            }
        }
        Ok(found)
    }

    pub(super) async fn events(&self, after: u64, limit: usize) -> Result<EventPage, Unavailable> {
        if let Some(page) = self.recent.page(after, limit) {
            return Ok(page);
        }
        self.survey().await?;
        let mut calls = redis::pipe();
        calls.atomic();
        calls.cmd("HGET").arg(self.key("head")).arg("newest");
        let events = self.key("events");
        let oldest = calls.cmd("XRANGE").arg(&events).arg("-").arg("+");
        oldest.arg("COUNT").arg(1);
        let page = calls.cmd("XRANGE").arg(&events);
        page.arg(format!("({after}-0")).arg("+");
        page.arg("COUNT").arg(limit.max(1));
        let calls = &calls;
        let answer = self.connection.call(|mut connection| async move {
            type Answer = (Option<u64>, StreamRangeReply, StreamRangeReply);
            let (newest, oldest, page): Answer = calls.query_async(&mut connection).await?;
            let page = page.ids.iter().take(limit).map(event);
            Ok(EventPage {
                events: page.collect::<RedisResult<_>>()?,
                oldest: oldest.ids.first().map_or(Ok(0), sequence)?,
                newest: newest.unwrap_or_default(),
            })
        });
        answer.await
    }

    async fn survey(&self) -> Result<Survey, Unavailable> {
        let survey = |mut connection| async move { self.survey_over(&mut connection).await };
        self.connection.call(survey).await
    }

    async fn survey_over(
        &self,
        connection: &mut redis::aio::MultiplexedConnection,
    ) -> RedisResult<Survey> {
        let mut call = self.scripts.survey.key(self.key("head"));
        call.arg(super::new_id());
        let (id, newest, now) = call.invoke_async(connection).await?;
        self.clock.learn(Timestamp(now));
        Ok(Survey { id, newest })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn document(&self, key: &Key) -> String {
        format!("{}doc:{key}", self.prefix)
    }
}

fn document(version: u64, text: String) -> Document {
    Document {
        version: Version(version),
        text: text.into(),
    }
}

fn optional(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}
