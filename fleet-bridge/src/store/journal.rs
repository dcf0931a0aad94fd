//! The file of a store: every commit is a line of JSON, written before it is applied and answered.
//!
//! A line is written by one call and not synchronised: what was answered survives the end of the process however it
//! comes, but not a power cut. The write goes to the page cache and is as short as a lock around it may be, so it is
//! done where it is asked for and not on another thread.
//!
//! The file is written anew at the start and when it has grown, into `<file>.new`, which then takes its place; the
//! folder must be writable. `<file>.lock` keeps a second bridge out.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    memory::{Change, Kept, State},
    words::{Document, Event, Key, NewEvent, Timestamp, Version},
};

/// What a file holds; another number is another form.
const FORM: u32 = 1;

/// Bytes below which a file is not written anew while the bridge runs: reading them at the start takes a second.
const REWRITE_MIN: u64 = 16 * 1024 * 1024;

/// Growth since it was last written at which a file is written anew: three quarters of it are then past.
const REWRITE_GROWTH: u64 = 4;

/// Bytes of commits that may come while the file is written anew; with more of them that is tried again later.
const TAIL_MAX: usize = 64 * 1024 * 1024;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The system refuses it.
    #[error("{} cannot be used", path.display())]
    File {
        /// The journal, or a file beside it.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is used by another bridge", path.display())]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// Something in it was not written by a bridge. The text does not say what: it may be about players.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line<'a> {
    /// The first one.
    Journal {
        form: u32,
        id: Cow<'a, str>,
        newest: u64,
    },
    Document {
        version: Version,
        record: Record<'a>,
    },
    Event {
        sequence: u64,
        at: Timestamp,
        event: Cow<'a, NewEvent>,
    },
    Commit {
        id: u64,
        at: Timestamp,
        put: Vec<Record<'a>>,
        events: Cow<'a, [NewEvent]>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    key: String,
    text: Option<Cow<'a, str>>,
    due: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> Record<'a> {
    fn new(key: &Key, kept: Option<&'a Kept>) -> Self {
        Self {
            key: key.to_string(),
            text: kept.map(|kept| Cow::Borrowed(&*kept.document.text)),
            due: kept.and_then(|kept| kept.due),
            until: kept.and_then(|kept| kept.until),
        }
    }

    fn read(self, version: Version) -> Result<(Key, Option<Kept>), &'static str> {
        let key = self.key.parse().map_err(|_| "it names no document")?;
        let kept = self.text.map(|text| Kept {
            document: Document {
                version,
                text: text.into(),
            },
            due: self.due,
            until: self.until,
        });
        Ok((key, kept))
    }
}

/// A file that is open and ours.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Held as long as it is open.
    _lock: File,
    /// Bytes of the file that are known to be good.
    length: u64,
    /// There may be more of the file than that.
    is_torn: bool,
    rewrite_at: u64,
    /// What was appended since the file began to be written anew.
    tail: Option<Vec<u8>>,
}

/// What a file held.
#[derive(Debug)]
pub(super) struct History {
    pub(super) id: String,
    pub(super) state: State,
}

impl Journal {
    /// Reads a file, or begins one with `new`. A last line that has no end is dropped: it was never answered.
    pub(super) fn open(path: &Path, new: History) -> Result<(Self, History), JournalError> {
        let lock = lock(path)?;
        let history = match File::open(path) {
            Ok(file) => read(path, file, new)?,
            Err(error) if error.kind() == ErrorKind::NotFound => new,
            Err(source) => return Err(failed(path, source)),
        };
        let beside = beside(path, "new");
        let written = write(&beside, &history.id, &history.state);
        let (file, length) = written.map_err(|source| failed(&beside, source))?;
        fs::rename(&beside, path).map_err(|source| failed(path, source))?;
        let journal = Self {
            path: path.to_owned(),
            file,
            _lock: lock,
            length,
            is_torn: false,
            rewrite_at: rewrite_at(length),
            tail: None,
        };
        Ok((journal, history))
    }

    /// Writes a commit down, or leaves the file as it was.
    pub(super) fn append(&mut self, change: &Change) -> io::Result<()> {
        let records = change.put.iter();
        let line = Line::Commit {
            id: change.id,
            at: change.at,
            put: records
                .map(|(key, kept)| Record::new(key, kept.as_ref()))
                .collect(),
            events: Cow::Borrowed(&change.events),
        };
        let line = text(&line)?;
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.is_torn = false;
        }
        if let Err(error) = write_once(&mut self.file, &line) {
            self.is_torn = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += line.len() as u64;
        if let Some(tail) = &mut self.tail
            && tail.len() <= TAIL_MAX
        {
            tail.extend_from_slice(&line);
        }
        Ok(())
    }

    /// Whether so much of it is past that it should be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.length >= self.rewrite_at
    }

    /// From here on commits are also kept for [`Journal::replace`]. None while that is still to come.
    pub(super) fn begin_rewrite(&mut self) -> Option<Rewrite> {
        if self.tail.is_some() {
            return None;
        }
        self.tail = Some(Vec::new());
        let path = beside(&self.path, "new");
        Some(Rewrite { path })
    }

    /// Puts what was written in the place of the file, with the commits that came since.
    pub(super) fn replace(&mut self, written: io::Result<Rewritten>) -> io::Result<()> {
        let tail = self.tail.take().unwrap_or_default();
        let Rewritten { mut file, length } = written?;
        if tail.len() > TAIL_MAX {
            return Err(io::Error::other("too many commits came meanwhile"));
        }
        file.write_all(&tail)?;
        fs::rename(beside(&self.path, "new"), &self.path)?;
        self.file = file;
        self.length = length + tail.len() as u64;
        self.is_torn = false;
        self.rewrite_at = rewrite_at(self.length);
        Ok(())
    }
}

/// A file that is about to be written anew.
#[derive(Debug)]
pub(super) struct Rewrite {
    path: PathBuf,
}

/// A file that was written anew and is not in its place yet.
#[derive(Debug)]
pub(super) struct Rewritten {
    file: File,
    length: u64,
}

impl Rewrite {
    /// Writes what is left of the commits up to now. Takes a while.
    pub(super) fn write(&self, id: &str, state: &State) -> io::Result<Rewritten> {
        let (file, length) = write(&self.path, id, state)?;
        Ok(Rewritten { file, length })
    }
}

fn rewrite_at(length: u64) -> u64 {
    REWRITE_MIN.max(length.saturating_mul(REWRITE_GROWTH))
}

fn failed(path: &Path, source: io::Error) -> JournalError {
    JournalError::File {
        path: path.to_owned(),
        source,
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The lock is a file of its own, which is never replaced. The system opens it when the process ends.
fn lock(path: &Path) -> Result<File, JournalError> {
    let beside = beside(path, "lock");
    let mut options = OpenOptions::new();
    let options = options.create(true).append(true).mode(0o600);
    let file = options
        .open(&beside)
        .map_err(|source| failed(&beside, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(&beside, source)),
    }
}

fn text(line: &Line<'_>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// All of it or an error; there is no second call that could be cut off.
fn write_once(file: &mut File, line: &[u8]) -> io::Result<()> {
    match file.write(line)? {
        written if written == line.len() => Ok(()),
        _ => Err(ErrorKind::WriteZero.into()),
    }
}

/// Writes a file as short as it can be. It is synchronised: it will stand for one that was.
fn write(path: &Path, id: &str, state: &State) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path)?;
    // It may be left from a bridge that was killed.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    let mut out = BufWriter::new(file);
    let mut length = 0;
    let mut put = |line: &Line<'_>| {
        let text = text(line)?;
        length += text.len() as u64;
        out.write_all(&text)
    };
    put(&Line::Journal {
        form: FORM,
        id: Cow::Borrowed(id),
        newest: state.newest(),
    })?;
    for (key, kept) in state.documents() {
        put(&Line::Document {
            version: kept.document.version,
            record: Record::new(key, Some(kept)),
        })?;
    }
    for event in state.kept_events() {
        put(&Line::Event {
            sequence: event.sequence,
            at: event.at,
            event: Cow::Owned(NewEvent {
                subject: event.subject.to_string(),
                kind: event.kind.to_string(),
                data: event.data.to_string(),
            }),
        })?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_data()?;
    Ok((file, length))
}

/// What a file holds; an empty one is as good as none.
fn read(path: &Path, file: File, new: History) -> Result<History, JournalError> {
    let mut file = BufReader::new(file);
    let mut history = None;
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        file.read_until(b'\n', &mut text)
            .map_err(|source| failed(path, source))?;
        // Another file than a journal must not be taken for one that was cut off, and lost.
        let is_cut = !text.ends_with(b"\n") && history.is_some();
        if text.is_empty() || is_cut {
            if is_cut && !text.is_empty() {
                tracing::warn!("{}: the last commit was cut off", path.display());
            }
            break;
        }
        let wrong = |problem| JournalError::Line {
            path: path.to_owned(),
            line,
            problem,
        };
        let read = serde_json::from_slice(&text);
        let read = read.map_err(|_| wrong("it is not a line of a journal"))?;
        match &mut history {
            None => history = Some(begin(read).map_err(wrong)?),
            Some(history) => replay(&mut history.state, read).map_err(wrong)?,
        }
    }
    Ok(history.unwrap_or(new))
}

fn begin(line: Line<'_>) -> Result<History, &'static str> {
    match line {
        Line::Journal {
            form: FORM,
            id,
            newest,
        } => Ok(History {
            id: id.into_owned(),
            state: State::new(newest),
        }),
        Line::Journal { .. } => Err("the journal has a form that this bridge does not know"),
        Line::Document { .. } | Line::Event { .. } | Line::Commit { .. } => {
            Err("it is not the first line of a journal")
        }
    }
}

fn replay(state: &mut State, line: Line<'_>) -> Result<(), &'static str> {
    match line {
        Line::Journal { .. } => return Err("a journal has one first line"),
        Line::Document { version, record } => {
            let (key, kept) = record.read(version)?;
            state.put(key, kept);
        }
        Line::Event {
            sequence,
            at,
            event,
        } => state.push(Event::new(sequence, at, event.into_owned())),
        Line::Commit {
            id,
            at,
            put,
            events,
        } => {
            let put = put.into_iter().map(|record| record.read(Version(id)));
            state.apply(Change {
                id,
                at,
                put: put.collect::<Result<_, _>>()?,
                events: events.into_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{
        clock::Clock,
        local::Local,
        words::{Commit, Put},
    };

    fn new() -> History {
        History {
            id: "new".to_owned(),
            state: State::new(0),
        }
    }

    /// Commits to both, as the store does.
    fn commit(journal: &mut Journal, state: &mut State, id: u64, text: &str) -> io::Result<()> {
        let put = Put {
            key: Key::Match(id.to_string()),
            text: Some(text.to_owned()),
            due: None,
            keep: Some(Duration::from_secs(1)),
        };
        let change = Change::new(
            &Commit {
                id,
                expect: Vec::new(),
                put: vec![put],
                events: Vec::new(),
            },
            Timestamp(0),
        );
        journal.append(&change)?;
        state.apply(change);
        Ok(())
    }

    fn kept(path: &Path) -> Vec<String> {
        let (_, history) = Journal::open(path, new()).unwrap();
        history
            .state
            .documents()
            .map(|(key, _)| key.to_string())
            .collect()
    }

    #[test]
    fn a_commit_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, History { mut state, .. }) = Journal::open(&path, new()).unwrap();
        commit(&mut journal, &mut state, 1, "1").unwrap();
        let good = fs::read(&path).unwrap();

        let writable = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        assert!(commit(&mut journal, &mut state, 2, "1").is_err());
        // A file that takes nothing could not be cut off either: half a line may stand there.
        assert!(journal.is_torn);
        let mut torn = writable;
        torn.write_all(b"{\"commit\":{").unwrap();
        journal.file = torn;
        commit(&mut journal, &mut state, 3, "1").unwrap();
        assert!(fs::read(&path).unwrap().starts_with(&good));
        drop(journal);
        assert_eq!(kept(&path), ["match:1", "match:3"]);
    }

    #[test]
    fn what_cannot_be_written_is_not_applied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, History { id, state }) = Journal::open(&path, new()).unwrap();
        journal.file = File::open(&path).unwrap();
        let store = Local::new(Clock::default(), id, state, Some(journal));
        assert!(store.is_healthy());
        let commit = Commit {
            id: 1,
            expect: Vec::new(),
            put: vec![Put {
                key: Key::Server(1),
                text: Some("1".to_owned()),
                due: None,
                keep: None,
            }],
            events: Vec::new(),
        };
        for _ in 0..2 {
            let error = store.commit(&commit).unwrap_err().to_string();
            assert!(error.contains("the journal"), "{error}");
            assert!(!store.is_healthy());
        }
        assert!(store.read(|state, _| state.load(&Key::Server(1))).is_none());
    }

    #[test]
    fn a_long_file_is_written_anew_while_commits_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, History { mut state, .. }) = Journal::open(&path, new()).unwrap();
        let text = "x".repeat(1024 * 1024);
        let mut commits = 0;
        while !journal.is_long() {
            commits += 1;
            commit(&mut journal, &mut state, 1, &text).unwrap();
        }
        assert_eq!(commits, REWRITE_MIN / (1024 * 1024));

        let rewrite = journal.begin_rewrite().unwrap();
        assert!(journal.begin_rewrite().is_none());
        commit(&mut journal, &mut state, 2, "before").unwrap();
        let written = rewrite.write("new", &state);
        commit(&mut journal, &mut state, 3, "between").unwrap();
        journal.replace(written).unwrap();
        commit(&mut journal, &mut state, 4, "after").unwrap();
        let length = fs::metadata(&path).unwrap().len();
        assert_eq!(length, journal.length);
        assert!(length < REWRITE_MIN / 8 && !journal.is_long(), "{length}");
        drop(journal);
        assert_eq!(kept(&path), ["match:1", "match:2", "match:3", "match:4"]);
    }

    #[test]
    fn a_file_that_could_not_be_written_anew_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, History { mut state, .. }) = Journal::open(&path, new()).unwrap();
        let _ = journal.begin_rewrite().unwrap();
        commit(&mut journal, &mut state, 1, "1").unwrap();
        assert!(journal.replace(Err(io::Error::other("full"))).is_err());
        commit(&mut journal, &mut state, 2, "1").unwrap();
        drop(journal);
        assert_eq!(kept(&path), ["match:1", "match:2"]);
    }
}
