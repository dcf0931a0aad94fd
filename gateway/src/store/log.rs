//! The log of commands in Redis: keys, scripts and connections.
//!
//! Under one hash tag lie the head (a hash: epoch, position and id of the last entry), the log (a stream whose ids are
//! the positions) and a snapshot (a hash: a replica and its position). An epoch is a history: whoever finds Redis empty
//! or fallen behind begins a new one. Only scripts write, so that every step is done as a whole or not at all.

use std::{fmt, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Pipeline, RedisError, Script,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamRangeReply, StreamReadReply},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::replica::{Entry, Gap};
use crate::grid::{Command, Timestamp};

/// Most entries of the log. Snapshots keep it far shorter; this holds when none can be written.
pub(super) const LOG_MAX: u64 = 100_000;

/// Longest time for what may be large: snapshots, and reading the log from its start.
const BULK_TIME: Duration = Duration::from_secs(10);

/// Entries that are read at once.
const PAGE: usize = 256;

/// Pages that are read before the first of them is looked at.
const PAGES_AHEAD: usize = 4;

/// No deadline: the largest whole number that scripts can compare.
const NEVER: Timestamp = Timestamp(1 << 53);

/// Why the log cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Gap(#[from] Gap),
    #[error("the log was begun anew")]
    OtherEpoch,
    #[error("the log has lost entries that were read from it")]
    Behind,
    #[error("Redis took too long")]
    Late,
    #[error("a command did not come back through the log in time")]
    Unseen,
    #[error("what Redis holds cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("other gateways were faster to begin the log anew, {0} times")]
    Outrun(u32),
    #[error("the gateway has left the log")]
    Left,
}

#[derive(Debug)]
struct Keys {
    head: String,
    log: String,
    snapshot: String,
}

#[derive(Debug)]
struct Scripts {
    append: Script,
    install: Script,
    save: Script,
}

/// Where the log is.
#[derive(Clone)]
pub(super) struct Place {
    client: Client,
    keys: Arc<Keys>,
    scripts: Arc<Scripts>,
    response_timeout: Duration,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Place")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// Connects to nothing yet.
    pub(super) fn new(
        url: &str,
        prefix: &str,
        response_timeout: Duration,
    ) -> Result<Self, RedisError> {
        let keys = Keys {
            head: format!("{{{prefix}}}:head"),
            log: format!("{{{prefix}}}:log"),
            snapshot: format!("{{{prefix}}}:snapshot"),
        };
        let scripts = Scripts {
            append: Script::new(include_str!("lua/append.lua")),
            install: Script::new(include_str!("lua/install.lua")),
            save: Script::new(include_str!("lua/save.lua")),
        };
        Ok(Self {
            client: Client::open(url)?,
            keys: Arc::new(keys),
            scripts: Arc::new(scripts),
            response_timeout,
        })
    }

    async fn connect(&self, response_timeout: Duration) -> Result<MultiplexedConnection, LogError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.response_timeout))
            .set_response_timeout(Some(response_timeout));
        let client = &self.client;
        Ok(client
            .get_multiplexed_async_connection_with_config(&config)
            .await?)
    }

    /// A connection for what must be quick.
    pub(super) async fn log(&self) -> Result<Log, LogError> {
        let connection = self.connect(self.response_timeout).await?;
        let place = self.clone();
        Ok(Log { place, connection })
    }

    /// A connection for what may be large.
    pub(super) async fn archive(&self) -> Result<Archive, LogError> {
        let connection = self.connect(BULK_TIME).await?;
        let place = self.clone();
        Ok(Archive { place, connection })
    }

    /// A connection that waits for new entries.
    pub(super) async fn reader(&self) -> Result<Reader, LogError> {
        // Long enough for few calls, and short enough to notice soon that Redis stands still.
        let block = self.response_timeout / 2;
        let connection = self.connect(self.response_timeout + block).await?;
        Ok(Reader {
            keys: Arc::clone(&self.keys),
            connection,
            block,
        })
    }
}

/// What Redis holds.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) time: Timestamp,
    /// `None` when it holds nothing of ours.
    pub(super) head: Option<Head>,
}

/// The state of the log.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) epoch: u64,
    pub(super) position: u64,
    /// When the epoch was begun.
    pub(super) began: Timestamp,
    /// Whether the epoch was begun by a gateway that knew nothing.
    pub(super) is_blank: bool,
    /// Of the snapshot.
    pub(super) saved: Option<u64>,
    /// Of the last entry that is still there.
    pub(super) newest: Option<u64>,
    /// Id of the entry that was asked for, if it is still there.
    pub(super) asked: Option<u64>,
}

impl Head {
    /// Whether there are entries after the end, which no script of ours leaves: nothing could be appended any more.
    pub(super) fn is_overrun(&self) -> bool {
        self.newest.is_some_and(|newest| newest > self.position)
    }
}

/// A command as it stands in the log.
#[derive(Debug)]
pub(super) struct Written {
    id: u64,
    pub(super) text: String,
}

impl From<&Command> for Written {
    fn from(command: &Command) -> Self {
        Self {
            id: command.id,
            text: serde_json::to_string(command).expect("a command has string keys only"),
        }
    }
}

/// Appends commands.
#[derive(Clone)]
pub(super) struct Log {
    place: Place,
    connection: MultiplexedConnection,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.place).finish()
    }
}

impl Log {
    /// Appends commands to an epoch of which the caller has read so much, unless it is later than that. Gives the time
    /// they got.
    pub(super) async fn append(
        &self,
        (epoch, position): (u64, u64),
        not_after: Option<Timestamp>,
        commands: &[Written],
    ) -> Result<Timestamp, LogError> {
        let keys = &self.place.keys;
        let mut call = self.place.scripts.append.key(&keys.head);
        call.key(&keys.log).arg(epoch).arg(position);
        call.arg(not_after.unwrap_or(NEVER).0).arg(LOG_MAX);
        for command in commands {
            call.arg(command.id).arg(&command.text);
        }
        let mut connection = self.connection.clone();
        let (answer, at): (String, u64) = call.invoke_async(&mut connection).await?;
        match answer.as_str() {
            "ok" => Ok(Timestamp(at)),
            "epoch" => Err(LogError::OtherEpoch),
            "behind" => Err(LogError::Behind),
            "late" => Err(LogError::Late),
            _ => Err(LogError::Unreadable("answer of a script")),
        }
    }

    /// Looks at what Redis holds, and which entry it has at a position.
    pub(super) async fn survey(&self, position: u64) -> Result<Survey, LogError> {
        let keys = &self.place.keys;
        let mut calls = redis::pipe();
        calls.atomic();
        calls.cmd("TIME");
        let head = ["epoch", "position", "began", "blank"];
        calls.cmd("HMGET").arg(&keys.head).arg(&head);
        calls.cmd("HGET").arg(&keys.snapshot).arg("position");
        let newest = calls.cmd("XREVRANGE").arg(&keys.log).arg("+").arg("-");
        newest.arg("COUNT").arg(1);
        let id = format!("{position}-0");
        calls.cmd("XRANGE").arg(&keys.log).arg(&id).arg(&id);
        type Fields = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);
        type Range = StreamRangeReply;
        type Answer = ((u64, u64), Fields, Option<u64>, Range, Range);
        let mut connection = self.connection.clone();
        let (time, head, saved, newest, asked): Answer = calls.query_async(&mut connection).await?;
        let newest = newest.ids.first().map(position_of).transpose()?;
        let head = match head {
            (Some(epoch), Some(position), began, blank) => Some(Head {
                epoch,
                position,
                began: Timestamp(began.unwrap_or_default()),
                is_blank: blank == Some(1),
                saved,
                newest,
                asked: asked.ids.first().and_then(|entry| entry.get("id")),
            }),
            (None, ..) => None,
            (Some(_), None, ..) => return Err(LogError::Unreadable("head")),
        };
        let time = Timestamp(time.0 * 1000 + time.1 / 1000);
        Ok(Survey { time, head })
    }
}

/// Reads and writes what may be large.
pub(super) struct Archive {
    place: Place,
    connection: MultiplexedConnection,
}

impl Archive {
    /// The epoch, and its snapshot as JSON.
    pub(super) async fn snapshot(&mut self) -> Result<(Option<u64>, Option<String>), LogError> {
        let keys = &self.place.keys;
        let mut calls = Pipeline::new();
        calls.atomic();
        calls.cmd("HGET").arg(&keys.head).arg("epoch");
        calls.cmd("HGET").arg(&keys.snapshot).arg("replica");
        Ok(calls.query_async(&mut self.connection).await?)
    }

    /// Position of the snapshot.
    pub(super) async fn saved(&mut self) -> Result<Option<u64>, LogError> {
        let mut call = redis::cmd("HGET");
        call.arg(&self.place.keys.snapshot).arg("position");
        Ok(call.query_async(&mut self.connection).await?)
    }

    /// The next entries after a position; none at the end of the log.
    pub(super) async fn page(&mut self, position: u64) -> Result<Vec<Entry>, LogError> {
        let mut call = redis::cmd("XRANGE");
        call.arg(&self.place.keys.log);
        call.arg(format!("({position}-0")).arg("+");
        call.arg("COUNT").arg(PAGE);
        let reply: StreamRangeReply = call.query_async(&mut self.connection).await?;
        reply.ids.iter().map(entry).collect()
    }

    /// Begins an epoch over another one. False when another gateway was faster.
    pub(super) async fn install(
        &mut self,
        over: Option<u64>,
        (epoch, position): (u64, u64),
        replica: &str,
        is_blank: bool,
    ) -> Result<bool, LogError> {
        let keys = &self.place.keys;
        let mut call = self.place.scripts.install.key(&keys.head);
        call.key(&keys.log).key(&keys.snapshot);
        call.arg(over.map(|it| it.to_string()).unwrap_or_default());
        call.arg(epoch).arg(position).arg(replica);
        call.arg(u8::from(is_blank));
        Ok(call.invoke_async(&mut self.connection).await?)
    }

    /// Replaces an older snapshot, and forgets the entries before `keep`. False when there is a newer one.
    pub(super) async fn save(
        &mut self,
        (epoch, position): (u64, u64),
        replica: &str,
        keep: u64,
    ) -> Result<bool, LogError> {
        let keys = &self.place.keys;
        let mut call = self.place.scripts.save.key(&keys.head);
        call.key(&keys.log).key(&keys.snapshot);
        call.arg(epoch).arg(position).arg(replica).arg(keep);
        Ok(call.invoke_async(&mut self.connection).await?)
    }
}

/// Reads new entries.
pub(super) struct Reader {
    keys: Arc<Keys>,
    connection: MultiplexedConnection,
    block: Duration,
}

impl Reader {
    /// Reads what follows a position, for ever or until that fails; the next call is on its way before anybody looks at
    /// what the last one brought. When Redis dies, gateways should have read equally far.
    pub(super) fn read_on(self, position: u64) -> Reading {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let task = tokio::spawn(self.run(position, sender));
        Reading {
            pages,
            task: task.abort_handle(),
        }
    }

    async fn run(mut self, mut position: u64, pages: mpsc::Sender<Result<Page, LogError>>) {
        loop {
            let page = self.next(position).await;
            if let Some(last) = page.as_ref().ok().and_then(|page| page.0.last()) {
                match position_of(last) {
                    Ok(last) => position = last,
                    Err(error) => {
                        let _ = pages.send(Err(error)).await;
                        return;
                    }
                }
            }
            let is_over = page.is_err();
            if pages.send(page).await.is_err() || is_over {
                return;
            }
        }
    }

    /// The next entries after a position; waits a while for the first.
    async fn next(&mut self, position: u64) -> Result<Page, LogError> {
        let mut call = redis::cmd("XREAD");
        call.arg("COUNT").arg(PAGE);
        let block_ms = u64::try_from(self.block.as_millis()).unwrap_or(u64::MAX);
        // 0 would be for ever.
        call.arg("BLOCK").arg(block_ms.max(1));
        call.arg("STREAMS").arg(&self.keys.log);
        call.arg(format!("{position}-0"));
        let reply: Option<StreamReadReply> = call.query_async(&mut self.connection).await?;
        let keys = reply.into_iter().flat_map(|reply| reply.keys);
        Ok(Page(keys.flat_map(|key| key.ids).collect()))
    }
}

/// Entries as Redis sends them.
struct Page(Vec<StreamId>);

/// New entries as they come.
pub(super) struct Reading {
    pages: mpsc::Receiver<Result<Page, LogError>>,
    task: AbortHandle,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reading").field(&self.task).finish()
    }
}

impl Reading {
    /// The next entries, none at times. Can be cancelled.
    pub(super) async fn next(&mut self) -> Result<Vec<Entry>, LogError> {
        let page = self.pages.recv().await.ok_or(LogError::Left)??;
        page.0.iter().map(entry).collect()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn position_of(id: &StreamId) -> Result<u64, LogError> {
    let position = id.id.strip_suffix("-0").and_then(|it| it.parse().ok());
    position.ok_or(LogError::Unreadable("id of an entry"))
}

fn entry(from: &StreamId) -> Result<Entry, LogError> {
    let number = |field| {
        let number: Option<u64> = from.get(field);
        number.ok_or(LogError::Unreadable("field of an entry"))
    };
    let text: String = from.get("command").unwrap_or_default();
    Ok(Entry {
        position: position_of(from)?,
        after: number("after")?,
        id: number("id")?,
        at: Timestamp(number("at")?),
        command: serde_json::from_str(&text).ok(),
        size_bytes: text.len(),
    })
}
