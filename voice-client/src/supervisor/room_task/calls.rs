//! Calls in a room: how they are written, and what their answers change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{RoomEnd, RoomTask};
use crate::{
    error::CallError,
    event::{LeaveReason, MediaId},
    link::Frames,
    media::Slot,
    room::{Command, Reply, Request},
    wire::rpc::{self, Params},
};

/// Calls without an answer. Further ones wait for their turn.
const PENDING_MAX: usize = 32;

/// A call that is not answered within this time finds a broken connection: the server answers at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Calls of one stream that wait for answers.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    effect: Effect,
    reply: Option<Reply>,
    deadline: Instant,
}

/// What an answer changes here.
#[derive(Debug)]
enum Effect {
    Nothing,
    Started(Arc<Slot>),
    Stopped(MediaId),
    UserData(Bytes),
    Position([f64; 3]),
}

/// A call in words.
struct Call {
    method: &'static str,
    params: Params,
    effect: Effect,
}

impl Calls {
    pub(super) fn are_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// When the oldest call must have its answer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, oldest) = self.pending.first_key_value()?;
        Some(oldest.deadline)
    }

    pub(super) fn answered(&mut self, id: u64) -> Option<Pending> {
        self.pending.remove(&id)
    }

    fn note(&mut self, effect: Effect, reply: Option<Reply>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let pending = Pending {
            effect,
            reply,
            deadline: Instant::now() + ANSWER_TIME_MAX,
        };
        self.pending.insert(id, pending);
        id
    }
}

impl RoomTask {
    /// Makes a call for the application.
    pub(super) async fn execute(
        &mut self,
        frames: &mut Frames,
        calls: &mut Calls,
        command: Command,
    ) -> Result<(), RoomEnd> {
        let Command { request, reply } = command;
        if reply.as_ref().is_some_and(Reply::is_closed) {
            return Ok(());
        }
        match self.call(request) {
            Ok(Some(call)) => {
                let id = calls.note(call.effect, reply);
                let frame = rpc::request(id, call.method, call.params);
                frames.send(frame).await.map_err(RoomEnd::from)
            }
            Ok(None) => {
                answer(reply, Ok(()));
                Ok(())
            }
            Err(error) => {
                answer(reply, Err(error));
                Ok(())
            }
        }
        .and_then(|()| match std::mem::take(&mut self.is_leaving) {
            true => Err(RoomEnd::Left(LeaveReason::Asked)),
            false => Ok(()),
        })
    }

    /// The words of a request; `None` where there is nothing to say.
    fn call(&mut self, request: Request) -> Result<Option<Call>, CallError> {
        let media = |id: MediaId| Params::default().number("media_id", id.value().into());
        let user_data = |data: &Bytes| Params::default().binary("user_data", data);
        let (method, params, effect) = match request {
            Request::StartMedia(slot) => {
                let id = self.free_media().ok_or(CallError::NoMedia);
                slot.set_id(id.as_ref().ok().copied());
                let params = media(id?).encoded("properties", &slot.properties);
                self.slots.push(Arc::clone(&slot));
                ("StartMedia", params, Effect::Started(slot))
            }
            Request::StopMedia(slot) => {
                self.slots.retain(|it| !Arc::ptr_eq(it, &slot));
                let Some(id) = slot.id() else {
                    return Ok(None);
                };
                slot.set_id(None);
                self.stopping.push(id);
                ("StopMedia", stop(id), Effect::Stopped(id))
            }
            Request::StopMediaId(id) => ("StopMedia", stop(id), Effect::Stopped(id)),
            Request::PauseMedia(id) => ("PauseMedia", media(id), Effect::Nothing),
            Request::ResumeMedia(id) => ("ResumeMedia", media(id), Effect::Nothing),
            Request::UpdatePeer(data) => ("UpdatePeer", user_data(&data), Effect::UserData(data)),
            Request::UpdateRoom(data) => ("UpdateRoom", user_data(&data), Effect::Nothing),
            Request::SetPosition(position) => {
                let params = Params::default().floats("position", &position);
                ("SetPeerPosition", params, Effect::Position(position))
            }
            Request::SendMessage(message, targets) => {
                let mut params = Params::default().binary("message", &message);
                if let Some(targets) = targets {
                    let ids: Vec<_> = targets.into_iter().map(|peer| peer.value()).collect();
                    params = params.numbers("target_peer_ids", &ids);
                }
                ("SendMessage", params, Effect::Nothing)
            }
            Request::Leave => {
                self.is_leaving = true;
                return Ok(None);
            }
        };
        Ok(Some(Call {
            method,
            params,
            effect,
        }))
    }

    /// The last of the medias that are not in use, as web clients take them.
    fn free_media(&self) -> Option<MediaId> {
        let is_free = |id: &&MediaId| {
            !self.stopping.contains(id) && !self.slots.iter().any(|slot| slot.id() == Some(**id))
        };
        self.media_ids.iter().rev().find(is_free).copied()
    }

    /// Does what an answer means; gives what has to be undone because nobody waits for it any more.
    pub(super) fn settle(&mut self, call: Pending, result: Result<(), String>) -> Option<Request> {
        let is_done = result.is_ok();
        let mut undo = None;
        match call.effect {
            Effect::Started(slot) if !is_done => {
                slot.set_id(None);
                self.slots.retain(|it| !Arc::ptr_eq(it, &slot));
            }
            Effect::Started(slot) => {
                if call.reply.as_ref().is_some_and(Reply::is_closed) {
                    undo = Some(Request::StopMedia(slot));
                }
            }
            // Refused, it was not started in the first place.
            Effect::Stopped(id) => self.stopping.retain(|it| *it != id),
            Effect::UserData(user_data) if is_done => self.join.user_data = user_data,
            Effect::Position(position) if is_done => self.join.position = position,
            Effect::UserData(_) | Effect::Position(_) | Effect::Nothing => {}
        }
        answer(call.reply, result.map_err(CallError::Refused));
        undo
    }
}

fn stop(id: MediaId) -> Params {
    let properties = Params::default().into_map();
    Params::default()
        .number("media_id", id.value().into())
        .encoded("properties", &properties)
}

/// Whoever asked may have gone.
fn answer(reply: Option<Reply>, result: Result<(), CallError>) {
    if let Some(reply) = reply {
        let _ = reply.send(result);
    }
}
