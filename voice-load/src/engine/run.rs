//! The engine's loop: waits for packets, for time and for commands, and hands them to the crowd.

use std::{
    io,
    os::fd::AsFd as _,
    sync::mpsc::TryRecvError,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    time::{ClockId, clock_gettime},
};

use super::{Command, Inbox, agenda::Alarm, crowd::Crowd};
use crate::plan::Plan;

/// Sockets that are told of in one wait.
const EVENTS_MAX: usize = 256;

/// Rounds of sockets between two looks at the clock: talkers must not wait for listeners.
const SOCKETS_AT_ONCE: usize = 16;

const ALARM: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// Processor time and clock at one moment.
#[derive(Clone, Copy)]
struct Spent {
    busy: Duration,
    at: Instant,
}

impl Spent {
    fn now() -> io::Result<Self> {
        Ok(Self {
            busy: clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into(),
            at: Instant::now(),
        })
    }
}

/// Runs until nobody can tell us anything any more.
pub(super) fn run(plan: Plan, inbox: &Inbox) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut alarm = Alarm::new()?;
    epoll.add(alarm.fd(), EpollEvent::new(EpollFlags::EPOLLIN, ALARM))?;
    epoll.add(
        inbox.wake.as_fd(),
        EpollEvent::new(EpollFlags::EPOLLIN, WAKE),
    )?;
    let mut desk = Desk {
        epoll,
        crowd: Crowd::new(plan, &inbox.progress),
        began: Spent::now()?,
        ended: Spent::now()?,
    };
    let mut events = vec![EpollEvent::empty(); EVENTS_MAX];
    loop {
        let now = Instant::now();
        alarm.set(now, desk.crowd.next_time())?;
        let count = match desk.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let is_told = events.iter().take(count).any(|it| it.data() == WAKE);
        if is_told && !desk.read(inbox)? {
            return Ok(());
        }
        desk.crowd.advance();
        for some in events.get(..count).unwrap_or(&[]).chunks(SOCKETS_AT_ONCE) {
            for event in some {
                if let Ok(peer) = u32::try_from(event.data()) {
                    desk.crowd.receive(peer);
                }
            }
            desk.crowd.advance();
        }
    }
}

struct Desk<'a> {
    epoll: Epoll,
    crowd: Crowd<'a>,
    began: Spent,
    ended: Spent,
}

impl Desk<'_> {
    /// Reads all commands that are there; says whether there can be more.
    fn read(&mut self, inbox: &Inbox) -> io::Result<bool> {
        // It only wakes: how often does not matter, nor that it may be empty.
        let _ = inbox.wake.read();
        loop {
            match inbox.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(false),
                Ok(command) => self.carry_out(command)?,
                Err(TryRecvError::Empty) => return Ok(true),
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Enter {
                peer,
                session,
                socket,
            } => {
                self.crowd.enter(peer, session, socket);
                if let Some(socket) = self.crowd.socket(peer) {
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, peer.into());
                    self.epoll.add(socket.fd(), event)?;
                }
            }
            Command::InRoom { peer, media } => self.crowd.in_room(peer, media),
            Command::Apart { listener, talker } => self.crowd.apart(listener, talker),
            Command::Move { peer, place } => self.crowd.move_to(peer, place),
            Command::Rest { peer } => self.crowd.rest(peer),
            Command::Leave { peer } => self.crowd.leave(peer),
            Command::Begin { begun } => {
                self.crowd.begin();
                self.began = Spent::now()?;
                // Whoever asked may have gone; the same below.
                let _ = begun.send(());
            }
            Command::Allow { talkers } => self.crowd.allow(talkers),
            Command::Hush { hushed } => {
                self.crowd.allow(0);
                self.ended = Spent::now()?;
                let _ = hushed.send(());
            }
            Command::Report { report } => {
                let mut measured = self.crowd.report();
                measured.busy = self.ended.busy.saturating_sub(self.began.busy);
                measured.elapsed = self.ended.at.saturating_duration_since(self.began.at);
                let _ = report.send(measured);
            }
            // Whoever reads the commands has seen to it.
            Command::Stop => {}
        }
        Ok(())
    }
}
