//! What lies behind the store's lock: the replica, and how a command is dealt with now.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    log::{Head, Log},
    outbox::{Fate, Outbox},
    replica::{Entry, Gap, Replica},
};
use crate::grid::{Action, Applied, Command, Outcome, Pick, ServerRef, Timestamp, Timing};

/// How long after its return a gateway still decides as if it were alone: others may be on their way back, and have
/// reports that it has not heard of. Twice the longest pause between two attempts, and the attempt.
const SETTLE: Duration = Duration::from_secs(5);

/// How long a gateway remembers what it did through the log: who begins a new epoch may not have read all of it.
pub(super) const JOURNAL_AGE: Duration = Duration::from_secs(60);

/// How long an epoch that was begun by a gateway that knew nothing gives way to one that knows more. Shorter than the
/// journal, so that nothing of it is lost.
const BLANK_AGE: Duration = Duration::from_secs(30);

/// How commands are dealt with.
#[derive(Debug)]
pub(super) enum Phase {
    /// Through the log.
    Online(Arc<Online>),
    /// They wait for a moment: the gateway is about to be online again.
    Returning,
    /// At once, and others are told later if there are any.
    Offline,
}

/// A gateway that follows the log.
#[derive(Debug)]
pub(super) struct Online {
    pub(super) log: Log,
    pub(super) epoch: u64,
    /// Which time it is that the gateway is online.
    pub(super) session: u64,
    since: Instant,
}

/// A command on its way through the log.
#[derive(Debug)]
struct Pending {
    order: u64,
    command: Command,
    answer: oneshot::Sender<Outcome>,
    /// Whether it is in the log for sure.
    is_appended: bool,
}

/// What to do with a command.
#[derive(Debug)]
pub(super) enum Begun {
    Applied(Applied),
    /// Append it at this position, and wait.
    Append(Arc<Online>, u64, Command, oneshot::Receiver<Outcome>),
    /// Ask again when the phase has changed.
    Wait(Command),
}

/// What to make of Redis' state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It knows more: follow it.
    Join,
    /// It knows less: begin anew with what is known here.
    Found,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) replica: Replica,
    pub(super) phase: Phase,
    /// Since when it is not online; never without Redis.
    pub(super) offline_since: Option<Instant>,
    pub(super) outbox: Outbox,
    pub(super) journal: Outbox,
    /// The epoch the replica comes from.
    pub(super) epoch: Option<u64>,
    pending: HashMap<u64, Pending>,
    orders: u64,
    sessions: u64,
}

/// What taking in entries led to.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) woken: Vec<ServerRef>,
    /// How many were this gateway's.
    pub(super) own: u64,
    pub(super) unreadable: u64,
}

impl State {
    pub(super) fn new(is_shared: bool) -> Self {
        Self {
            replica: Replica::default(),
            phase: Phase::Offline,
            offline_since: is_shared.then(Instant::now),
            outbox: Outbox::default(),
            journal: Outbox::default(),
            epoch: None,
            pending: HashMap::new(),
            orders: 0,
            sessions: 0,
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether the gateway is online for this very time.
    pub(super) fn is_online(&self, session: u64) -> bool {
        matches!(&self.phase, Phase::Online(online) if online.session == session)
    }

    /// Takes a command.
    pub(super) fn begin(&mut self, command: Command, now: Timestamp, timing: &Timing) -> Begun {
        let online = match &self.phase {
            Phase::Offline => {
                let command = careful(command);
                return Begun::Applied(self.apply_alone(&command, now, timing, Fate::Known));
            }
            Phase::Returning => return Begun::Wait(command),
            Phase::Online(online) => Arc::clone(online),
        };
        let command = match online.since.elapsed() < SETTLE {
            true => careful(command),
            false => command,
        };
        let (answer, answered) = oneshot::channel();
        self.orders += 1;
        let pending = Pending {
            order: self.orders,
            command: command.clone(),
            answer,
            is_appended: false,
        };
        self.pending.insert(command.id, pending);
        Begun::Append(online, self.replica.position, command, answered)
    }

    /// The log has taken this command.
    pub(super) fn appended(&mut self, command: u64) {
        if let Some(pending) = self.pending.get_mut(&command) {
            pending.is_appended = true;
        }
    }

    /// Nobody waits for this command any more.
    pub(super) fn forget(&mut self, command: u64) {
        self.pending.remove(&command);
    }

    fn apply_alone(
        &mut self,
        command: &Command,
        now: Timestamp,
        timing: &Timing,
        fate: Fate,
    ) -> Applied {
        let applied = self.replica.apply(command, now, timing);
        self.outbox.note(command, &applied.outcome, now, fate);
        applied
    }

    /// Leaves the log: what is on its way is decided here. Nothing when that has happened already.
    pub(super) fn leave(
        &mut self,
        session: u64,
        now: Timestamp,
        timing: &Timing,
    ) -> Option<Vec<ServerRef>> {
        if !self.is_online(session) {
            return None;
        }
        self.phase = Phase::Offline;
        self.offline_since = Some(Instant::now());
        let mut pending: Vec<_> = self.pending.drain().map(|(_, it)| it).collect();
        pending.sort_unstable_by_key(|it| it.order);
        let mut woken = Vec::new();
        for Pending {
            command,
            answer,
            is_appended,
            ..
        } in pending
        {
            // What is in the log others have read, or will: this gateway decides as they do.
            let command = match is_appended {
                true => command,
                false => careful(command),
            };
            let mut applied = self.apply_alone(&command, now, timing, Fate::Unknown);
            woken.append(&mut applied.woken);
            // Whoever waited may have gone.
            let _ = answer.send(applied.outcome);
        }
        Some(woken)
    }

    /// What the gateway makes of what Redis holds.
    pub(super) fn judge(&self, head: &Head, now: Timestamp) -> Verdict {
        let knows_less = match self.epoch {
            None => false,
            Some(epoch) if epoch == head.epoch => head.position < self.replica.position,
            Some(_) => head.is_blank && now.since(head.began) < BLANK_AGE,
        };
        match knows_less {
            true => Verdict::Found,
            false => Verdict::Join,
        }
    }

    /// Before following an epoch: what its founder may not have heard of must be told too.
    /// The same holds when Redis has lost entries and other gateways have appended others since.
    pub(super) fn prepare(&mut self, head: &Head, now: Timestamp) {
        let is_other_entry = head.asked.is_some_and(|id| id != self.replica.last);
        if self.epoch == Some(head.epoch) && !is_other_entry {
            return;
        }
        self.expire_journal(now);
        let Self {
            outbox, journal, ..
        } = self;
        outbox.precede(journal);
    }

    /// Forgets what every gateway must have read by now.
    pub(super) fn expire_journal(&mut self, now: Timestamp) {
        let age = u64::try_from(JOURNAL_AGE.as_millis()).unwrap_or(u64::MAX);
        self.journal.expire(Timestamp(now.0.saturating_sub(age)));
    }

    /// Goes over to a replica that contains all that was to be told.
    pub(super) fn enter(&mut self, replica: Replica, epoch: u64, log: Log) -> u64 {
        self.sessions += 1;
        self.replica = replica;
        self.epoch = Some(epoch);
        self.offline_since = None;
        self.phase = Phase::Online(Arc::new(Online {
            log,
            epoch,
            session: self.sessions,
            since: Instant::now(),
        }));
        self.sessions
    }

    /// Takes in new entries of the log, and answers those who wait for theirs.
    pub(super) fn take_in(
        &mut self,
        entries: &[Entry],
        timing: &Timing,
    ) -> (Taken, Result<(), Gap>) {
        let mut taken = Taken::default();
        for entry in entries {
            let mut applied = match self.replica.follow(entry, timing) {
                Ok(applied) => applied,
                Err(gap) => return (taken, Err(gap)),
            };
            taken.woken.append(&mut applied.woken);
            taken.unreadable += u64::from(entry.command.is_none());
            if let Some(Pending {
                command, answer, ..
            }) = self.pending.remove(&entry.id)
            {
                taken.own += 1;
                let outcome = applied.outcome;
                self.journal.note(&command, &outcome, entry.at, Fate::Known);
                let _ = answer.send(outcome);
            }
        }
        (taken, Ok(()))
    }
}

/// As a gateway decides that cannot hear the others, so that they decide alike.
fn careful(mut command: Command) -> Command {
    match &mut command.action {
        Action::Connect(connect) => connect.pick = Pick::Hash,
        Action::Tick { silence_counts } => *silence_counts = false,
        Action::Report(_)
        | Action::Take { .. }
        | Action::Moderate { .. }
        | Action::Bind(_)
        | Action::Release(_) => {}
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(epoch: u64, position: u64) -> Head {
        Head {
            epoch,
            position,
            began: Timestamp(1_000_000),
            is_blank: false,
            saved: Some(0),
            newest: Some(position),
            asked: None,
        }
    }

    fn knows(epoch: Option<u64>, position: u64) -> State {
        let mut state = State::new(true);
        state.epoch = epoch;
        state.replica.position = position;
        state
    }

    #[test]
    fn a_log_is_followed_unless_less_is_in_it_than_was_read() {
        let now = Timestamp(1_010_000);
        let judge = |state: State, head: &Head| state.judge(head, now);
        assert_eq!(judge(knows(None, 0), &head(1, 7)), Verdict::Join);
        assert_eq!(judge(knows(Some(1), 7), &head(1, 7)), Verdict::Join);
        assert_eq!(judge(knows(Some(1), 8), &head(1, 7)), Verdict::Found);
        // Others began anew.
        assert_eq!(judge(knows(Some(2), 8), &head(1, 7)), Verdict::Join);
    }

    #[test]
    fn a_log_that_was_begun_by_somebody_who_knew_nothing_gives_way_while_it_is_young() {
        let mut blank = head(1, 7);
        blank.is_blank = true;
        let young = blank.began.after(Duration::from_secs(29));
        let old = blank.began.after(Duration::from_secs(31));
        assert_eq!(knows(Some(2), 3).judge(&blank, young), Verdict::Found);
        assert_eq!(knows(Some(2), 3).judge(&blank, old), Verdict::Join);
        assert_eq!(knows(None, 0).judge(&blank, young), Verdict::Join);
    }

    #[test]
    fn what_was_done_through_a_log_that_has_changed_since_is_told_again() {
        let now = Timestamp(1_000_000);
        let command = Command {
            id: 1,
            action: Action::Moderate {
                pool: String::new(),
                task: gateway_api::Task::RoomUpdate {
                    id: ("n".to_owned(), "r".to_owned()).into(),
                    user_data: Vec::new(),
                },
            },
        };
        let told_again = |head: &Head| {
            let mut state = knows(Some(1), 7);
            state.replica.last = 77;
            let done = Outcome::Moderated(Ok(()));
            state.journal.note(&command, &done, now, Fate::Known);
            state.prepare(head, now);
            state.outbox.len()
        };
        let with = |asked: Option<u64>| Head {
            asked,
            ..head(1, 9)
        };
        assert_eq!(told_again(&with(None)), 0);
        assert_eq!(told_again(&with(Some(77))), 0);
        assert_eq!(told_again(&with(Some(78))), 1);
        assert_eq!(told_again(&head(2, 9)), 1);
    }

    #[test]
    fn commands_wait_while_the_gateway_returns() {
        let timing = Timing::default();
        let command = || Command {
            id: 1,
            action: Action::Tick {
                silence_counts: true,
            },
        };
        let now = Timestamp(1_000_000);
        let mut state = State::new(true);
        state.phase = Phase::Returning;
        let begun = state.begin(command(), now, &timing);
        assert!(matches!(begun, Begun::Wait(_)), "{begun:?}");
        state.phase = Phase::Offline;
        let begun = state.begin(command(), now, &timing);
        assert!(matches!(begun, Begun::Applied(_)), "{begun:?}");
    }
}
