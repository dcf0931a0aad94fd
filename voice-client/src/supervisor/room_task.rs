//! A room on its task: calls go in, answers and events come out. It knows nothing of how a stream is opened.

mod calls;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, error::TrySendError},
    },
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::calls::Calls;
use crate::{
    client,
    event::{Event, LeaveReason, MediaId, Snapshot},
    link::{Frames, StreamEnd, Verdict},
    media::Slot,
    room::{COMMANDS_MAX, Command, Events, Join, Request, Room, State},
    shared::Shared,
    wire::{
        notification::{Update, updates},
        rpc::{self, Incoming},
    },
};

/// A room, as it outlives its streams.
pub(super) struct RoomTask {
    state: Arc<State>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// The place of the last event, which is kept free for it.
    last_place: Option<mpsc::OwnedPermit<Event>>,
    /// What opens the way back into the same place.
    pub(super) resume_key: Option<String>,
    /// How to enter it anew.
    pub(super) join: Join,
    /// The medias that the server has given.
    media_ids: Vec<MediaId>,
    /// Those that the application has started.
    slots: Vec<Arc<Slot>>,
    is_away: bool,
    /// When it came back last.
    returned_at: Option<Instant>,
    /// Updates that came with the first frame.
    early: VecDeque<Update>,
    /// Medias whose end the server has not confirmed.
    stopping: Vec<MediaId>,
    /// The server knows nothing yet of what is started.
    is_new_peer: bool,
    is_leaving: bool,
}

/// How a stream's end leaves its room.
#[derive(Debug)]
pub(super) enum RoomEnd {
    /// The client is out.
    Left(LeaveReason),
    /// The client may come back.
    Return,
    /// The client may come back elsewhere.
    Move,
}

/// What the first frame of a room says.
pub(super) struct Arrival {
    media_ids: Vec<MediaId>,
    room: Snapshot,
    rest: VecDeque<Update>,
}

/// Waits for the first frame of a room's stream.
pub(super) async fn first_frame(frames: &mut Frames) -> Result<Arrival, StreamEnd> {
    let frame = frames.next().await?;
    let Ok(Some(Incoming::Notification { method, params })) = rpc::parse(&frame) else {
        return Err(StreamEnd::Garbage);
    };
    let (updates, _) = updates(&method, params);
    let mut updates = VecDeque::from(updates);
    match updates.pop_front() {
        Some(Update::Joined { media_ids, room }) => Ok(Arrival {
            media_ids,
            room,
            rest: updates,
        }),
        _ => Err(StreamEnd::Garbage),
    }
}

impl RoomTask {
    pub(super) fn new(
        name: &str,
        join: Join,
        arrival: Arrival,
        client: mpsc::Sender<client::Command>,
        shared: Arc<Shared>,
        events_max: usize,
    ) -> (Self, Room, Events) {
        let state = Arc::new(State::new(name, &arrival.room));
        shared.replace_room(&state.name, state.view().peers.values());
        let (sending, commands) = mpsc::channel(COMMANDS_MAX);
        // One place more, for the last.
        let places = events_max.clamp(1, Semaphore::MAX_PERMITS - 1) + 1;
        let (events, reading) = mpsc::channel(places);
        let last_place = events.clone().try_reserve_owned().ok();
        let room = Room {
            state: Arc::clone(&state),
            shared: Arc::clone(&shared),
            commands: sending,
            _client: client,
        };
        let task = Self {
            state,
            shared,
            commands,
            events,
            last_place,
            resume_key: None,
            join,
            media_ids: arrival.media_ids,
            slots: Vec::new(),
            is_away: false,
            returned_at: None,
            early: arrival.rest,
            stopping: Vec::new(),
            is_new_peer: false,
            is_leaving: false,
        };
        (task, room, Events { events: reading })
    }

    pub(super) fn name(&self) -> &str {
        &self.state.name
    }

    /// How long it was good, if it has ever been lost.
    pub(super) fn lasted(&self) -> Duration {
        self.returned_at.map_or(Duration::MAX, |at| at.elapsed())
    }

    /// Whether nobody holds the room any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.commands.is_closed() && self.commands.is_empty()
    }

    /// The stream is gone, and another may come.
    pub(super) fn reconnecting(&mut self) -> Result<(), LeaveReason> {
        if self.is_away {
            return Ok(());
        }
        self.is_away = true;
        self.tell(Event::Reconnecting)
    }

    /// Another stream is there.
    pub(super) fn returned(
        &mut self,
        arrival: Arrival,
        is_resumed: bool,
    ) -> Result<(), LeaveReason> {
        self.is_away = false;
        self.returned_at = Some(Instant::now());
        self.media_ids = arrival.media_ids;
        self.early = arrival.rest;
        {
            let mut view = self.state.view();
            view.replace(&arrival.room);
            self.shared
                .replace_room(&self.state.name, view.peers.values());
        }
        if is_resumed {
            return self.tell(Event::Resumed(arrival.room));
        }
        self.stopping.clear();
        self.is_new_peer = true;
        self.tell(Event::Rejoined(arrival.room))
    }

    /// The room has ended; nothing comes after this.
    pub(super) fn left(&mut self, reason: LeaveReason) {
        for slot in self.slots.drain(..) {
            slot.set_id(None);
        }
        self.shared
            .replace_room(&self.state.name, std::iter::empty());
        self.state.view().left = Some(reason.clone());
        if let Some(place) = self.last_place.take() {
            place.send(Event::Left(reason));
        }
    }

    /// Runs on this stream until it ends, the connection is gone, or the application leaves.
    pub(super) async fn run(&mut self, mut frames: Frames, gone: &CancellationToken) -> RoomEnd {
        let closing = self.shared.closing.clone();
        // What has come is heard first: it may say why the connection ends.
        let end = tokio::select! {
            biased;
            end = self.serve(&mut frames) => end,
            () = closing.cancelled() => RoomEnd::Left(LeaveReason::Asked),
            () = gone.cancelled() => RoomEnd::Return,
        };
        if let RoomEnd::Left(LeaveReason::Asked | LeaveReason::EventsNotRead) = end {
            frames.leave().await;
        }
        end
    }

    async fn serve(&mut self, frames: &mut Frames) -> RoomEnd {
        let mut calls = Calls::default();
        while let Some(update) = self.early.pop_front() {
            if let Err(end) = self.take(update) {
                return end;
            }
        }
        for request in self.repeated() {
            let command = Command::unanswered(request);
            if let Err(end) = self.execute(frames, &mut calls, command).await {
                return end;
            }
        }
        loop {
            let deadline = calls.deadline();
            let step = tokio::select! {
                biased;
                frame = frames.next() => match frame {
                    Ok(frame) => self.hear(&frame, frames, &mut calls).await,
                    Err(end) => Err(end.into()),
                },
                command = self.commands.recv(), if !calls.are_full() => match command {
                    Some(command) => self.execute(frames, &mut calls, command).await,
                    None => Err(RoomEnd::Left(LeaveReason::Asked)),
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    tracing::debug!("the voice server does not answer a call");
                    Err(RoomEnd::Return)
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// What another stream has to be told that the last one may not have been.
    fn repeated(&mut self) -> Vec<Request> {
        let stopping = self.stopping.iter().copied().map(Request::StopMediaId);
        let mut requests: Vec<_> = stopping.collect();
        if std::mem::take(&mut self.is_new_peer) {
            let slots = std::mem::take(&mut self.slots);
            requests.extend(slots.into_iter().map(Request::StartMedia));
        }
        requests
    }

    async fn hear(
        &mut self,
        frame: &[u8],
        frames: &mut Frames,
        calls: &mut Calls,
    ) -> Result<(), RoomEnd> {
        match rpc::parse(frame) {
            Err(rpc::Garbage) => Err(StreamEnd::Garbage.into()),
            Ok(None) => Ok(()),
            Ok(Some(Incoming::Answer { id, result })) => {
                let Some(call) = calls.answered(id) else {
                    return Ok(());
                };
                let unwanted = self.settle(call, result.map(drop));
                match unwanted {
                    Some(request) => {
                        let command = Command::unanswered(request);
                        self.execute(frames, calls, command).await
                    }
                    None => Ok(()),
                }
            }
            Ok(Some(Incoming::Notification { method, params })) => {
                let (updates, unknown) = updates(&method, params);
                self.shared.tallies.unknown_events.add(unknown);
                updates.into_iter().try_for_each(|update| self.take(update))
            }
        }
    }

    fn take(&mut self, update: Update) -> Result<(), RoomEnd> {
        let event = match update {
            Update::Event(event) => event,
            Update::Left(LeaveReason::ServerClosing) => return Err(RoomEnd::Move),
            Update::Left(reason) => return Err(RoomEnd::Left(reason)),
            // Only the first frame of a stream says this.
            Update::Joined { .. } => {
                self.shared.tallies.unknown_events.add(1);
                return Ok(());
            }
        };
        if !self.state.view().apply(&event) {
            return Ok(());
        }
        let (shared, room) = (&self.shared, &self.state.name);
        match &event {
            Event::PeerJoined(peer) => {
                for media in &peer.medias {
                    shared.route(room, peer.id, media.id);
                }
            }
            Event::PeerLeft(peer) => shared.forget_peer(room, *peer),
            Event::MediaStarted { peer, media } => shared.route(room, *peer, media.id),
            Event::MediaStopped { media, .. } => shared.forget_media(room, *media),
            _ => {}
        }
        self.tell(event).map_err(RoomEnd::Left)
    }

    /// Whoever has dropped the events wants none.
    fn tell(&self, event: Event) -> Result<(), LeaveReason> {
        match self.events.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(LeaveReason::EventsNotRead),
        }
    }
}

impl From<StreamEnd> for RoomEnd {
    fn from(end: StreamEnd) -> Self {
        match end.verdict() {
            Verdict::Return => Self::Return,
            Verdict::Move => Self::Move,
            Verdict::Over(reason) => Self::Left(reason),
        }
    }
}
