//! A room as an application holds it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sfu_core::{
    PeerId,
    limits::{MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX, USER_DATA_BYTES_MAX},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    client,
    error::CallError,
    event::{Event, LeaveReason, MediaId, Peer, Properties, Property, Snapshot},
    media::{Media, Slot},
    shared::Shared,
    wire::rpc::Params,
};

/// Longest wait for the answer to a call, with what it waits for a lost connection. The server answers in milliseconds.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);

/// Longest wait until a room that is left has said goodbye.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// Calls of one room that wait for their turn. Who calls more waits.
pub(crate) const COMMANDS_MAX: usize = 64;

/// How a client enters a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Join {
    /// The peer's user data; 16 KiB at most.
    pub user_data: Bytes,
    /// Where the peer is. Peers hear each other within a distance of 1.
    pub position: [f64; 3],
}

/// A room that was joined. The client leaves it when this is dropped.
pub struct Room {
    pub(crate) state: Arc<State>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// The client lives as long as one of its rooms.
    pub(crate) _client: mpsc::Sender<client::Command>,
}

/// The events of one room, in order. To be read all the time: see [`Config::events_max`](crate::Config::events_max).
#[derive(Debug)]
pub struct Events {
    pub(crate) events: mpsc::Receiver<Event>,
}

/// A call on its way into the room.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) reply: Option<Reply>,
}

pub(crate) type Reply = oneshot::Sender<Result<(), CallError>>;

/// What an application asks a room for.
#[derive(Debug)]
pub(crate) enum Request {
    StartMedia(Arc<Slot>),
    StopMedia(Arc<Slot>),
    /// A media that no handle is for any more.
    StopMediaId(MediaId),
    PauseMedia(MediaId),
    ResumeMedia(MediaId),
    UpdatePeer(Bytes),
    UpdateRoom(Bytes),
    SetPosition([f64; 3]),
    SendMessage(Bytes, Option<Vec<PeerId>>),
    Leave,
}

/// What the client knows of a room, shared by the handle and the task.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: Arc<str>,
    view: Mutex<View>,
}

/// A room as the client sees it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) own_id: PeerId,
    pub(crate) user_data: Bytes,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    pub(crate) left: Option<LeaveReason>,
}

impl Room {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The client's own peer id. After [`Event::Rejoined`] it is another.
    pub fn own_id(&self) -> PeerId {
        self.state.view().own_id
    }

    /// The room's user data.
    pub fn user_data(&self) -> Bytes {
        self.state.view().user_data.clone()
    }

    /// Everybody else that the client can see, as of the newest event that came; some events may not be read yet.
    pub fn peers(&self) -> Vec<Peer> {
        self.state.view().peers.values().cloned().collect()
    }

    /// Why the client is out; `None` while it is in, or on its way back.
    pub fn left(&self) -> Option<LeaveReason> {
        self.state.view().left.clone()
    }

    /// Starts to talk, with the properties that other clients expect: `kind` is `audio`.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::NoMedia`] when all medias that the server has given are started.
    pub async fn start_media(&self) -> Result<Media, CallError> {
        let kind = Property::Text("audio".to_owned());
        self.start_media_with(&[("kind".to_owned(), kind)].into())
            .await
    }

    /// Starts to talk with these properties; 512 bytes at most.
    ///
    /// # Errors
    /// As [`Self::start_media`].
    pub async fn start_media_with(&self, properties: &Properties) -> Result<Media, CallError> {
        let properties = encoded(properties);
        if properties.len() > PROPERTIES_BYTES_MAX {
            return Err(CallError::Invalid("the properties are too large"));
        }
        let slot = Arc::new(Slot::new(properties));
        // Made before the call: when nobody waits for the answer any more, the media is stopped.
        let media = Media::new(
            Arc::clone(&slot),
            Arc::clone(&self.shared),
            self.commands.downgrade(),
        );
        self.call(Request::StartMedia(slot)).await?;
        Ok(media)
    }

    /// Hears this media of another peer no more, until [`Self::resume_media`]. Nobody else is told.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn pause_media(&self, media: MediaId) -> Result<(), CallError> {
        self.call(Request::PauseMedia(media)).await
    }

    /// Hears a paused media again.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn resume_media(&self, media: MediaId) -> Result<(), CallError> {
        self.call(Request::ResumeMedia(media)).await
    }

    /// Replaces the peer's user data; 16 KiB at most.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_user_data(&self, user_data: impl Into<Bytes>) -> Result<(), CallError> {
        self.call(Request::UpdatePeer(bounded(user_data.into())?))
            .await
    }

    /// Replaces the room's user data; 16 KiB at most.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_room_user_data(&self, user_data: impl Into<Bytes>) -> Result<(), CallError> {
        self.call(Request::UpdateRoom(bounded(user_data.into())?))
            .await
    }

    /// Moves the peer. Peers within a distance of 1 hear and see each other.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_position(&self, position: [f64; 3]) -> Result<(), CallError> {
        if !position.iter().all(|it| it.is_finite()) {
            return Err(CallError::Invalid("a position must be finite"));
        }
        self.call(Request::SetPosition(position)).await
    }

    /// Sends bytes to everybody else in the room, near or far; 32 KiB at most.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn send_message(&self, message: impl Into<Bytes>) -> Result<(), CallError> {
        self.message(message.into(), None).await
    }

    /// Sends bytes to these peers; 32 KiB at most.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn send_message_to(
        &self,
        peers: &[PeerId],
        message: impl Into<Bytes>,
    ) -> Result<(), CallError> {
        self.message(message.into(), Some(peers.to_vec())).await
    }

    /// Leaves, and waits until that is said. Dropping the room does the same in the background.
    pub async fn leave(self) {
        let (reply, done) = oneshot::channel();
        let command = Command {
            request: Request::Leave,
            reply: Some(reply),
        };
        let leaving = async {
            // Whoever is out already needs no goodbye.
            if self.commands.send(command).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = timeout(LEAVE_TIME_MAX, leaving).await;
    }

    async fn message(&self, message: Bytes, to: Option<Vec<PeerId>>) -> Result<(), CallError> {
        // A frame has room for the message and some thousand ids.
        let ids_bytes = to.as_ref().map_or(0, |peers| 5 * peers.len());
        if message.len() > MESSAGE_BYTES_MAX || message.len() + ids_bytes > 60 * 1024 {
            return Err(CallError::Invalid("the message is too large"));
        }
        self.call(Request::SendMessage(message, to)).await
    }

    async fn call(&self, request: Request) -> Result<(), CallError> {
        let result = call(&self.commands, request).await;
        match (result, self.left()) {
            (Err(CallError::Interrupted), Some(reason)) => Err(CallError::Left(reason)),
            (result, _) => result,
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("name", &self.state.name)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// The next event; `None` after [`Event::Left`]. May be dropped at any time without loss.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

impl Command {
    pub(crate) fn unanswered(request: Request) -> Self {
        Self {
            request,
            reply: None,
        }
    }
}

impl State {
    pub(crate) fn new(name: &str, room: &Snapshot) -> Self {
        let view = View {
            own_id: room.own_id,
            user_data: Bytes::new(),
            peers: BTreeMap::new(),
            left: None,
        };
        let state = Self {
            name: Arc::from(name),
            view: Mutex::new(view),
        };
        state.view().replace(room);
        state
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// The room as a whole, as of now.
    pub(crate) fn replace(&mut self, room: &Snapshot) {
        self.own_id = room.own_id;
        self.user_data = room.user_data.clone();
        let others = room.peers.iter().filter(|peer| peer.id != room.own_id);
        self.peers = others.map(|peer| (peer.id, peer.clone())).collect();
    }

    /// Does what an event says; `false` for one about nobody that is known, which nobody needs to be told.
    pub(crate) fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::PeerJoined(peer) if peer.id == self.own_id => return false,
            Event::PeerJoined(peer) => drop(self.peers.insert(peer.id, peer.clone())),
            Event::PeerLeft(peer) => return self.peers.remove(peer).is_some(),
            Event::RoomUserDataChanged(user_data) => self.user_data = user_data.clone(),
            Event::PeerUserDataChanged { peer, user_data } => match self.peers.get_mut(peer) {
                Some(peer) => peer.user_data = user_data.clone(),
                None => return false,
            },
            Event::MediaStarted { peer, media } => match self.peers.get_mut(peer) {
                Some(peer) => {
                    peer.medias.retain(|it| it.id != media.id);
                    peer.medias.push(media.clone());
                }
                None => return false,
            },
            Event::MediaStopped { peer, media } => match self.peers.get_mut(peer) {
                Some(peer) => peer.medias.retain(|it| it.id != *media),
                None => return false,
            },
            _ => {}
        }
        true
    }
}

/// Makes a call and waits for what comes of it.
pub(crate) async fn call(
    commands: &mpsc::Sender<Command>,
    request: Request,
) -> Result<(), CallError> {
    let (reply, answer) = oneshot::channel();
    let command = Command {
        request,
        reply: Some(reply),
    };
    let answered = async {
        let sent = commands.send(command).await;
        sent.map_err(|_| CallError::Interrupted)?;
        answer.await.unwrap_or(Err(CallError::Interrupted))
    };
    let answered = timeout(CALL_TIME_MAX, answered).await;
    answered.unwrap_or(Err(CallError::TimedOut))
}

fn bounded(user_data: Bytes) -> Result<Bytes, CallError> {
    match user_data.len() <= USER_DATA_BYTES_MAX {
        true => Ok(user_data),
        false => Err(CallError::Invalid("the user data are too large")),
    }
}

fn encoded(properties: &Properties) -> Vec<u8> {
    let write = |params: Params, (name, value): (&String, &Property)| match value {
        Property::Nil => params.encoded(name, &[0xc0]),
        Property::Boolean(value) => params.boolean(name, *value),
        Property::Number(number) => params.float(name, *number),
        Property::Text(text) => params.text(name, text),
    };
    properties.iter().fold(Params::default(), write).into_map()
}
