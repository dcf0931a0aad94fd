//! The task of a client: it holds the connection and the rooms, and brings them back after a loss.
//!
//! Each room runs in a task of its own, with its stream. When the connection is gone, those tasks end and give their rooms
//! back; on a new connection, each is resumed, or else joined anew.

mod dialer;
mod gateway;
mod pace;
mod room_task;

use std::{sync::Arc, time::Duration};

use rmpv::Value;
use tokio::{
    sync::mpsc,
    task::{JoinError as Panicked, JoinSet},
    time::{Instant, sleep_until, timeout, timeout_at},
};

pub(crate) use self::dialer::Dialer;
use self::{
    pace::Pace,
    room_task::{Arrival, RoomEnd, RoomTask, first_frame},
};
use crate::{
    client::Command,
    config::Config,
    error::{ConnectError, JoinError},
    event::LeaveReason,
    link::{Frames, Link, MainError, STEP_TIME_MAX, StreamEnd, Verdict},
    room::{Events, Join, Room},
    shared::Shared,
    wire::rpc::Params,
};

/// See the module.
pub(crate) struct Supervisor {
    dialer: Dialer,
    config: Config,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    link: Option<Link>,
    /// Rooms with a stream.
    running: JoinSet<(RoomTask, RoomEnd)>,
    /// Rooms without one, that want to be back.
    absent: Vec<RoomTask>,
    pace: Pace,
}

/// The end of a client, however it comes about.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.set_connected(false);
        self.0.heard.close();
        self.0.closed.cancel();
    }
}

/// What the main stream says of a room.
struct Ticket {
    stream: String,
    resume_key: Option<String>,
}

impl Supervisor {
    pub(crate) fn new(
        dialer: Dialer,
        link: Link,
        config: Config,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        shared.set_connected(true);
        Self {
            dialer,
            pace: Pace::new(config.reconnect),
            config,
            shared,
            commands,
            link: Some(link),
            running: JoinSet::new(),
            absent: Vec::new(),
        }
    }

    /// Runs until the application wants the end, or nobody holds the client any more.
    pub(crate) async fn run(mut self) {
        let _end = End(Arc::clone(&self.shared));
        let closing = self.shared.closing.clone();
        tokio::select! {
            () = closing.cancelled() => {}
            () = Box::pin(self.work()) => closing.cancel(),
        }
        self.shared.set_connected(false);
        // Rooms that run see the same word and say goodbye.
        while let Some(ended) = self.running.join_next().await {
            self.sort(ended);
        }
        for mut room in self.absent.drain(..) {
            room.left(LeaveReason::Asked);
        }
        if let Some(link) = self.link.take() {
            link.leave().await;
        }
    }

    async fn work(&mut self) {
        loop {
            if !self.absent.is_empty() {
                self.come_back().await;
            }
            let lost = ended(&mut self.link);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.execute(command).await,
                    None => return,
                },
                Some(ended) = self.running.join_next() => self.sort(ended),
                end = lost => self.lost(end).await,
            }
        }
    }

    async fn execute(&mut self, command: Command) {
        match command {
            Command::Rebind(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.dialer.rebind());
            }
            Command::Join {
                room,
                join,
                client,
                reply,
            } => {
                let joined = self.join(&room, join, client).await;
                // Dropping what nobody waits for leaves the room.
                let _ = reply.send(joined);
            }
        }
    }

    async fn join(
        &mut self,
        name: &str,
        join: Join,
        client: mpsc::Sender<Command>,
    ) -> Result<(Room, Events), JoinError> {
        if self.link.is_none() {
            // Lost while no room was there, which nobody was told.
            self.connect().await?;
        }
        let ticket = match self.ask("JoinRoom", join_params(name, &join)).await {
            Ok(ticket) => ticket,
            Err(MainError::Refused(text)) => return Err(JoinError::Refused(text)),
            Err(MainError::Broken(end)) => return Err(self.broken(end).await),
        };
        let (frames, arrival) = match self.enter(&ticket.stream).await {
            Ok(entered) => entered,
            Err(end) => match end.verdict() {
                Verdict::Over(reason) => return Err(JoinError::Refused(reason.to_string())),
                Verdict::Return | Verdict::Move => {
                    let end = StreamEnd::Lost("the room's stream broke".to_owned());
                    return Err(self.broken(end).await);
                }
            },
        };
        let (mut task, room, events) = RoomTask::new(
            name,
            join,
            arrival,
            client,
            Arc::clone(&self.shared),
            self.config.events_max,
        );
        task.resume_key = ticket.resume_key;
        self.start(task, frames);
        Ok((room, events))
    }

    /// The connection broke on the way into a room; those who are in others are brought back.
    async fn broken(&mut self, end: StreamEnd) -> JoinError {
        let error = ConnectError::Broken(end.to_string());
        self.lost(end).await;
        error.into()
    }

    fn start(&mut self, mut task: RoomTask, frames: Frames) {
        let Some(link) = &self.link else { return };
        let gone = link.gone.clone();
        self.running.spawn(async move {
            let end = task.run(frames, &gone).await;
            (task, end)
        });
    }

    /// What becomes of a room whose stream has ended.
    fn sort(&mut self, ended: Result<(RoomTask, RoomEnd), Panicked>) {
        let (mut room, end) = match ended {
            Ok(ended) => ended,
            // Its handles see that it has ended.
            Err(error) => return tracing::error!("the task of a room failed: {error}"),
        };
        let may_return = !self.config.reconnect.time_max.is_zero();
        let returns = match end {
            RoomEnd::Left(reason) => Err(reason),
            RoomEnd::Return if may_return => Ok(()),
            RoomEnd::Return => Err(LeaveReason::ConnectionLost),
            RoomEnd::Move if may_return && self.dialer.has_gateway() => {
                room.resume_key = None;
                Ok(())
            }
            RoomEnd::Move => Err(LeaveReason::ServerClosing),
        };
        match returns.and_then(|()| room.reconnecting()) {
            Ok(()) => {
                self.pace.lost(Instant::now(), room.lasted());
                self.absent.push(room);
            }
            Err(reason) => room.left(reason),
        }
    }

    /// The connection has ended.
    async fn lost(&mut self, end: StreamEnd) {
        tracing::debug!("the connection to the voice server has ended: {end}");
        self.drop_link().await;
        match end.verdict() {
            Verdict::Return => {}
            Verdict::Move if self.dialer.has_gateway() => {
                for room in &mut self.absent {
                    room.resume_key = None;
                }
            }
            Verdict::Move => self.leave_all(&LeaveReason::ServerClosing),
            Verdict::Over(reason) => self.leave_all(&reason),
        }
    }

    fn leave_all(&mut self, reason: &LeaveReason) {
        for mut room in self.absent.drain(..) {
            room.left(reason.clone());
        }
    }

    /// Takes the connection down, without a goodbye; rooms that it had become absent.
    async fn drop_link(&mut self) {
        self.shared.set_connected(false);
        if self.link.take().is_some() {
            self.shared.tallies.losses.add(1);
        }
        while let Some(ended) = self.running.join_next().await {
            self.sort(ended);
        }
    }

    /// Brings the absent rooms back, or gives them up.
    async fn come_back(&mut self) {
        loop {
            for mut room in self.absent.extract_if(.., |room| room.is_abandoned()) {
                room.left(LeaveReason::Asked);
            }
            if self.absent.is_empty() {
                return;
            }
            let delay = self.pace.delay(Instant::now(), fastrand::f64());
            let Some(delay) = delay else {
                return self.leave_all(&LeaveReason::ConnectionLost);
            };
            self.pause(delay).await;
            if self.absent.is_empty() {
                return;
            }
            match self.return_all().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!("the client is not back yet: {error}");
                    self.drop_link().await;
                }
            }
        }
    }

    /// Waits, and looks after the connection meanwhile, if there is one.
    async fn pause(&mut self, delay: Duration) {
        let until = Instant::now() + delay;
        if let Ok(end) = timeout_at(until, ended(&mut self.link)).await {
            self.lost(end).await;
            sleep_until(until).await;
        }
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        let link = Box::pin(self.dialer.dial(&self.shared)).await?;
        self.shared.set_connected(true);
        self.link = Some(link);
        Ok(())
    }

    /// Over the connection that is there, if only a room was lost, or else over a new one.
    async fn return_all(&mut self) -> Result<(), ConnectError> {
        let is_there = |link: &Link| !link.gone.is_cancelled();
        let is_new = !self.link.as_ref().is_some_and(is_there);
        if is_new {
            self.drop_link().await;
            self.connect().await?;
        }
        while let Some(mut room) = self.absent.pop() {
            match self.bring_back(&mut room).await {
                Ok(frames) => self.start(room, frames),
                // A server that still takes the lost stream for alive refuses a second one of the same client.
                Err(Verdict::Over(reason))
                    if is_new || !matches!(reason, LeaveReason::Refused(_)) =>
                {
                    room.left(reason);
                }
                Err(verdict) => {
                    if verdict == Verdict::Move {
                        room.resume_key = None;
                    }
                    self.absent.push(room);
                    let text = "a room's stream broke".to_owned();
                    return Err(ConnectError::Broken(text));
                }
            }
        }
        Ok(())
    }

    async fn bring_back(&mut self, room: &mut RoomTask) -> Result<Frames, Verdict> {
        let refused = |error| match error {
            MainError::Refused(text) => Verdict::Over(LeaveReason::Refused(text)),
            MainError::Broken(end) => end.verdict(),
        };
        let mut resumed = None;
        if let Some(key) = room.resume_key.take() {
            let params = Params::default()
                .text("room_id", room.name())
                .text("resume_key", &key);
            match self.ask("ResumeRoom", params).await {
                Ok(ticket) => resumed = Some(ticket),
                Err(MainError::Refused(text)) => {
                    tracing::debug!("a room cannot be resumed: {text}");
                }
                Err(broken) => {
                    // It may not have been used.
                    room.resume_key = Some(key);
                    return Err(refused(broken));
                }
            }
        }
        let is_resumed = resumed.is_some();
        let ticket = match resumed {
            Some(ticket) => ticket,
            None => {
                let params = join_params(room.name(), &room.join);
                self.ask("JoinRoom", params).await.map_err(refused)?
            }
        };
        room.resume_key = ticket.resume_key;
        let (frames, arrival) = self
            .enter(&ticket.stream)
            .await
            .map_err(StreamEnd::verdict)?;
        // Counted before it is told: who is told may look.
        let tallies = &self.shared.tallies;
        match is_resumed {
            true => tallies.resumed.add(1),
            false => tallies.rejoined.add(1),
        }
        room.returned(arrival, is_resumed).map_err(Verdict::Over)?;
        Ok(frames)
    }

    async fn ask(&mut self, method: &str, params: Params) -> Result<Ticket, MainError> {
        let Some(link) = &mut self.link else {
            let end = StreamEnd::Lost("not connected".to_owned());
            return Err(MainError::Broken(end));
        };
        let answer = link.call(method, params).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match text(&answer["stream_id"]) {
            Some(stream) => Ok(Ticket {
                stream,
                resume_key: text(&answer["resume_key"]),
            }),
            None => Err(MainError::Broken(StreamEnd::Garbage)),
        }
    }

    /// Opens a room's stream and waits for its first frame.
    async fn enter(&self, stream: &str) -> Result<(Frames, Arrival), StreamEnd> {
        let Some(link) = &self.link else {
            return Err(StreamEnd::Lost("not connected".to_owned()));
        };
        let mut frames = link.open_room(stream).await?;
        let arrived = timeout(STEP_TIME_MAX, first_frame(&mut frames)).await;
        let silent = || Err(StreamEnd::Lost("the room says nothing".to_owned()));
        let arrival = arrived.unwrap_or_else(|_| silent())?;
        Ok((frames, arrival))
    }
}

/// The end of a connection, if there is one.
async fn ended(link: &mut Option<Link>) -> StreamEnd {
    match link {
        Some(link) => link.ended().await,
        None => std::future::pending().await,
    }
}

fn join_params(name: &str, join: &Join) -> Params {
    Params::default()
        .text("room_id", name)
        .binary("user_data", &join.user_data)
        .floats("position", &join.position)
        .boolean("resumable", true)
}
