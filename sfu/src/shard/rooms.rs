//! The rooms of a shard: the pure room, and beside it the seats of its peers.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::{
    Command, Directed, DropReason, LeaveReason, MediaId, PeerId, Refused, Room, RoomInfo,
    RoomLimits, RoomNumber, Slot,
    wire::{
        datagram::Datagram,
        notification::encode,
        rpc::{Reply, answer},
    },
};

use super::{
    ClientId, ShardNumber,
    inbox::{DirectRequest, JoinRequest, LetGo, Place, ResumeRequest, Turn},
    seat::Seat,
};
use crate::metrics::CustomerCounters;

/// Where a receiver's voice goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) shard: ShardNumber,
    pub(super) client: ClientId,
}

#[derive(Debug)]
struct RoomState {
    room: Room,
    seats: Vec<Option<Seat>>,
    customer: Arc<CustomerCounters>,
    /// A game server has a say in it: it stays without peers until it is told to end.
    is_kept: bool,
    /// When its mutes are looked at next.
    look_due: Option<Instant>,
}

impl RoomState {
    fn new(info: RoomInfo, limits: RoomLimits, customer: Arc<CustomerCounters>) -> Self {
        Self {
            room: Room::new(info, limits),
            seats: Vec::new(),
            customer,
            is_kept: false,
            look_due: None,
        }
    }
}

/// A peer that left on the shard's account: the client's session has to forget it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departed {
    pub(super) link: Link,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct Rooms {
    shard: ShardNumber,
    limits: RoomLimits,
    bundle_time: Duration,
    rooms: HashMap<RoomNumber, RoomState>,
    /// Streams that have something gathered, by the time it is due. A stream that has sent it before is not minded.
    flushes: BinaryHeap<Reverse<(Instant, RoomNumber, Slot)>>,
    /// Rooms by the time when a mute of theirs ends.
    looks: BTreeSet<(Instant, RoomNumber)>,
    departed: Vec<Departed>,
    /// Peers that had to leave because they did not read.
    pub(super) too_slow: u64,
}

impl Rooms {
    pub(super) fn new(shard: ShardNumber, limits: RoomLimits, bundle_time: Duration) -> Self {
        Self {
            shard,
            limits,
            bundle_time,
            rooms: HashMap::new(),
            flushes: BinaryHeap::new(),
            looks: BTreeSet::new(),
            departed: Vec::new(),
            too_slow: 0,
        }
    }

    pub(super) fn join(&mut self, now: Instant, request: JoinRequest) {
        let limits = self.limits;
        let state = self.rooms.entry(request.room);
        let state = state.or_insert_with(|| RoomState::new(request.info, limits, request.customer));
        let peer = request.join.peer;
        let link = Link {
            shard: request.session_shard,
            client: request.client,
        };
        let seat = Seat::new(peer, Turn::default(), link, request.outlet);
        let slot = state.room.join(now, request.join);
        if state.seats.len() <= slot.index() {
            state.seats.resize_with(slot.index() + 1, || None);
        }
        state.seats[slot.index()] = Some(seat);
        self.tell(now, request.room);
    }

    /// The peer stays for now, without a stream.
    pub(super) fn lose(&mut self, now: Instant, place: Place, let_go: LetGo) {
        let seat = self.seat(place.room, place.peer);
        if let Some((_, seat)) = seat.filter(|(_, seat)| seat.turn < place.turn) {
            seat.lose(now, place.turn, let_go);
        }
    }

    /// Another stream serves the peer: it is told everything anew, and then what was said meanwhile. Nobody else notices.
    pub(super) fn resume(&mut self, now: Instant, request: ResumeRequest) {
        let Place {
            room, peer, turn, ..
        } = request.place;
        let link = Link {
            shard: request.session_shard,
            client: request.client,
        };
        let seat = self.seat(room, peer);
        let Some((slot, seat)) = seat.filter(|(_, seat)| seat.turn < turn) else {
            return;
        };
        let messages = seat.resume(turn, link, request.outlet);
        if let Some(state) = self.rooms.get_mut(&room) {
            state.room.introduce(slot);
        }
        self.tell(now, room);
        for message in messages {
            self.send(now, room, slot, message);
        }
    }

    fn seat(&mut self, room: RoomNumber, peer: PeerId) -> Option<(Slot, &mut Seat)> {
        let state = self.rooms.get_mut(&room)?;
        let slot = state.room.slot(peer)?;
        Some((slot, state.seats.get_mut(slot.index())?.as_mut()?))
    }

    pub(super) fn leave(
        &mut self,
        now: Instant,
        room: RoomNumber,
        peer: PeerId,
        reason: Option<LeaveReason>,
    ) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        let Some(slot) = state.room.slot(peer) else {
            return;
        };
        state.room.leave(slot, reason);
        // Its last event first, then the end of its stream.
        self.tell(now, room);
        self.give_up_seat(now, room, slot);
    }

    fn give_up_seat(&mut self, now: Instant, room: RoomNumber, slot: Slot) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        if let Some(mut seat) = state.seats.get_mut(slot.index()).and_then(Option::take) {
            let _ = seat.flush(now);
            let place = Place {
                shard: self.shard,
                room,
                peer: seat.peer,
                turn: seat.turn,
            };
            let link = seat.link();
            self.departed
                .extend(link.map(|link| Departed { link, place }));
        }
        if !state.is_kept {
            self.end(room);
        }
    }

    /// Ends a room that nobody is in.
    pub(super) fn end(&mut self, room: RoomNumber) {
        let is_empty = |state: &RoomState| state.room.is_empty();
        if self.rooms.get(&room).is_some_and(is_empty) {
            let ended = self.rooms.remove(&room);
            if let Some(due) = ended.and_then(|state| state.look_due) {
                self.looks.remove(&(due, room));
            }
        }
    }

    /// Users are somewhere else, or do not hear each other.
    pub(super) fn direct(&mut self, now: Instant, request: DirectRequest) {
        let DirectRequest {
            room,
            kept,
            directive,
            done,
        } = request;
        let limits = self.limits;
        if let Some((customer, info)) = kept {
            let state = self.rooms.entry(room);
            let state = state.or_insert_with(|| RoomState::new(info, limits, customer));
            state.is_kept = true;
        }
        let directed = match self.rooms.get_mut(&room) {
            Some(state) => state.room.direct(directive),
            None => Directed::default(),
        };
        self.tell(now, room);
        self.schedule_look(room);
        if let Some(done) = done {
            // Whoever asked may have stopped waiting.
            let _ = done.send(directed);
        }
    }

    fn schedule_look(&mut self, room: RoomNumber) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        let due = state.room.next_timeout();
        if due == state.look_due {
            return;
        }
        if let Some(before) = std::mem::replace(&mut state.look_due, due) {
            self.looks.remove(&(before, room));
        }
        self.looks.extend(due.map(|due| (due, room)));
    }

    /// Ends the mutes whose time is over.
    fn end_mutes(&mut self, now: Instant) {
        while let Some((_, room)) = self.looks.first().copied().filter(|(due, _)| *due <= now) {
            self.looks.pop_first();
            if let Some(state) = self.rooms.get_mut(&room) {
                state.look_due = None;
                state.room.end_mutes(now);
            }
            self.schedule_look(room);
        }
    }

    pub(super) fn departed(&mut self) -> Vec<Departed> {
        std::mem::take(&mut self.departed)
    }

    /// Does what a peer asks for and answers it. What went wrong is given back as well, to be counted.
    pub(super) fn command(
        &mut self,
        now: Instant,
        place: Place,
        call: u64,
        command: Command,
    ) -> Result<(), sfu_core::CommandError> {
        let room = place.room;
        let seat = self.seat(room, place.peer);
        // Whoever served the peer before is not answered: its stream ends.
        let seat = seat.filter(|(_, seat)| seat.turn == place.turn);
        let unknown = sfu_core::CommandError::UnknownPeer;
        let (slot, _) = seat.ok_or_else(|| unknown.clone())?;
        let state = self.rooms.get_mut(&room).ok_or(unknown)?;
        let result = state.room.handle_command(slot, command);
        self.tell(now, room);
        let frame = match &result {
            Ok(()) => answer(call, &Reply::Done),
            Err(error) => answer(call, &Reply::Error(&error.to_string())),
        };
        self.send(now, room, slot, frame);
        result
    }

    /// Sends a frame to one peer, behind everything that it was told before.
    fn send(&mut self, now: Instant, room: RoomNumber, slot: Slot, frame: Bytes) {
        let state = self.rooms.get_mut(&room);
        let seat = state.and_then(|state| state.seats.get_mut(slot.index())?.as_mut());
        if seat.is_some_and(|seat| seat.answer(now, frame).is_err()) {
            self.expel(now, room, slot);
            self.tell(now, room);
        }
    }

    pub(super) fn update_room(&mut self, now: Instant, room: RoomNumber, user_data: Bytes) {
        if let Some(state) = self.rooms.get_mut(&room) {
            state.room.set_user_data(None, user_data);
            self.tell(now, room);
        }
    }

    pub(super) fn send_message(
        &mut self,
        now: Instant,
        room: RoomNumber,
        peers: &[PeerId],
        message: Bytes,
    ) {
        if let Some(state) = self.rooms.get_mut(&room) {
            let to = peers
                .iter()
                .filter_map(|peer| state.room.slot(*peer))
                .collect();
            state.room.send_message(to, message);
            self.tell(now, room);
        }
    }

    /// Names the receivers of a peer's voice, of which each room may carry so many streams.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        place: Place,
        media: MediaId,
        datagram: &Datagram<'_>,
        budget: Option<u32>,
        mut deliver: impl FnMut(Link),
    ) -> Result<(Arc<CustomerCounters>, Refused), DropReason> {
        let state = self.rooms.get_mut(&place.room).ok_or(DropReason::NoRoom)?;
        let slot = state.room.slot(place.peer).ok_or(DropReason::NoRoom)?;
        let seats = &state.seats;
        let seat = |slot: Slot| seats.get(slot.index()).and_then(Option::as_ref);
        // A peer that was lost, or is somebody else's now, has one voice: not that of who served it before.
        if seat(slot).is_none_or(|seat| seat.turn != place.turn) {
            return Err(DropReason::ForeignMedia);
        }
        let deliver = |slot: Slot| {
            if let Some(link) = seat(slot).and_then(Seat::link) {
                deliver(link);
            }
        };
        let refused = state
            .room
            .handle_datagram(now, slot, media, datagram, budget, deliver)?;
        Ok((Arc::clone(&state.customer), refused))
    }

    /// Carries out what the room has to tell; an event is encoded once for all who are told. Whoever does not read what
    /// it is told leaves, which there is more to tell about.
    fn tell(&mut self, now: Instant, room: RoomNumber) {
        loop {
            let Some(state) = self.rooms.get_mut(&room) else {
                return;
            };
            let mut slow = Vec::new();
            while let Some(notice) = state.room.poll_notice() {
                let encoded = encode(&notice.event);
                for slot in notice.to {
                    let Some(seat) = state.seats.get_mut(slot.index()).and_then(Option::as_mut)
                    else {
                        continue;
                    };
                    match seat.tell(now, &notice.event, &encoded, self.bundle_time) {
                        Ok(Some(due)) => self.flushes.push(Reverse((due, room, slot))),
                        Ok(None) => {}
                        Err(_) => slow.push(slot),
                    }
                }
            }
            if slow.is_empty() {
                return;
            }
            for slot in slow {
                self.expel(now, room, slot);
            }
        }
    }

    /// Makes a peer leave that does not read what it is sent. Nobody can tell it so; the others are to be told.
    fn expel(&mut self, now: Instant, room: RoomNumber, slot: Slot) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        if state.seats.get(slot.index()).is_some_and(Option::is_some) {
            self.too_slow += 1;
            state.room.leave(slot, None);
            self.give_up_seat(now, room, slot);
        }
    }

    /// Sends what was gathered long enough, and ends what was for a time.
    pub(super) fn flush(&mut self, now: Instant) {
        self.end_mutes(now);
        while let Some(Reverse((due, room, slot))) = self.flushes.peek().copied() {
            if due > now {
                return;
            }
            self.flushes.pop();
            let state = self.rooms.get_mut(&room);
            let seat = state.and_then(|state| state.seats.get_mut(slot.index())?.as_mut());
            if seat.is_some_and(|seat| seat.flush(now).is_err()) {
                self.expel(now, room, slot);
                self.tell(now, room);
            }
        }
    }

    /// When [`Self::flush`] has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let flush = self.flushes.peek().map(|Reverse((due, ..))| *due);
        let look = self.looks.first().map(|(due, _)| *due);
        flush.into_iter().chain(look).min()
    }
}
