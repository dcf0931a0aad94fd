//! The thread that has everybody's voice: it sends at the time of the plan, hears, and keeps account. One thread, one
//! socket for each peer, no lock and no async where voice passes.

mod agenda;
mod crowd;
mod run;
mod talkers;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

pub(crate) use self::agenda::Alarm;
use crate::{account::Tally, listener::Times, plan::Plan, session::Session, socket::PeerSocket};

/// Commands that wait. Whoever has more of them waits for the engine.
const COMMANDS_MAX: usize = 1_024;

/// Reasons that are kept for people: mostly all of them are the same.
const FAILURES_MAX: usize = 5;

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A peer's voice connection goes on here.
    Enter {
        peer: u32,
        session: Session,
        socket: PeerSocket,
    },
    /// The peer is in its room; it talks with this media if it is a talker.
    InRoom { peer: u32, media: u16 },
    /// Two are out of each other's range, as the listener was told.
    Apart { listener: u32, talker: u32 },
    /// The peer goes there.
    Move { peer: u32, place: [f64; 3] },
    /// The peer is about to leave: it talks no more, and nothing more is owed to it.
    Rest { peer: u32 },
    /// The peer's voice connection ends.
    Leave { peer: u32 },
    /// What counts begins now.
    Begin { begun: oneshot::Sender<()> },
    /// Of each room only so many may talk from now on, the first ones.
    Allow { talkers: u32 },
    /// Nobody talks any more, and what counts is over.
    Hush { hushed: oneshot::Sender<()> },
    /// What counted.
    Report { report: oneshot::Sender<Measured> },
    /// The end.
    Stop,
}

/// What one listener got.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) peer: u32,
    pub(crate) tally: Tally,
    pub(crate) latency: Times,
    pub(crate) misdelivered: u64,
}

/// What counted.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) heard: Vec<Heard>,
    /// Packets that talkers said.
    pub(crate) sent: u64,
    /// Packets that a talker's own session or socket did not take.
    pub(crate) unsent: u64,
    /// Packets whose time had passed before we came to them, by more than an interval.
    pub(crate) skipped: u64,
    /// How long packets lay in our sockets before we came to them.
    pub(crate) lag: Times,
    /// How long after their time packets were sent.
    pub(crate) lateness: Times,
    /// Processor time of the engine, and the time on the wall, from `Begin` to `Hush`.
    pub(crate) busy: Duration,
    pub(crate) elapsed: Duration,
}

/// What others can see of the engine at any time.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Peers that are in their rooms with an open voice connection.
    pub(crate) present: AtomicU32,
    /// Voice connections that ended by themselves.
    pub(crate) ended: AtomicU32,
    /// Why, of the first few that could say.
    pub(crate) failures: Mutex<Vec<String>>,
    /// Packets of voice that were sent.
    pub(crate) sent: AtomicU64,
    /// Packets of voice that were heard.
    pub(crate) heard: AtomicU64,
}

impl Progress {
    pub(crate) fn present(&self) -> u32 {
        self.present.load(Ordering::Relaxed)
    }

    pub(crate) fn ended(&self) -> u32 {
        self.ended.load(Ordering::Relaxed)
    }

    /// One more has ended.
    fn note_end(&self, peer: u32, why: Option<&str>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(why), true) = (why, failures.len() < FAILURES_MAX) {
            failures.push(format!("peer {peer}: {why}"));
        }
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        let failures = self.failures.lock();
        failures.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The way to the engine. It ends with [`Command::Stop`].
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    commands: SyncSender<Command>,
    wake: Arc<EventFd>,
    progress: Arc<Progress>,
}

/// The engine's own end of it.
struct Inbox {
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    progress: Arc<Progress>,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread, no event or no timer left.
    pub(crate) fn start(plan: &Plan) -> io::Result<(Self, JoinHandle<io::Result<()>>)> {
        let (commands, inbox) = sync_channel(COMMANDS_MAX);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?);
        let progress = Arc::new(Progress::default());
        let inbox = Inbox {
            commands: inbox,
            wake: Arc::clone(&wake),
            progress: Arc::clone(&progress),
        };
        let plan = plan.clone();
        let thread = std::thread::Builder::new()
            .name("voice".to_owned())
            .spawn(move || run::run(plan, &inbox))?;
        let engine = Self {
            commands,
            wake,
            progress,
        };
        Ok((engine, thread))
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Tells the engine something; waits when it is behind with what it was told.
    ///
    /// # Errors
    /// When the engine has ended.
    pub(crate) async fn tell(&self, mut command: Command) -> Result<(), EngineEnded> {
        loop {
            match self.commands.try_send(command) {
                Ok(()) => {
                    // A counter that is full wakes as well.
                    let _ = self.wake.write(1);
                    return Ok(());
                }
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Err(EngineEnded),
                Err(std::sync::mpsc::TrySendError::Full(back)) => command = back,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Tells the engine something, and waits for its answer.
    ///
    /// # Errors
    /// When the engine has ended.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, EngineEnded> {
        let (sender, answer) = oneshot::channel();
        self.tell(command(sender)).await?;
        answer.await.map_err(|_| EngineEnded)
    }
}

/// The engine's thread is gone.
#[derive(Debug, thiserror::Error)]
#[error("the thread that carries voice has ended")]
pub(crate) struct EngineEnded;
