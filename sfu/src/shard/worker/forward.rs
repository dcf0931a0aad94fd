//! From a voice packet to its receivers.

use std::time::Instant;

use bytes::Bytes;
use sfu_core::{
    DropReason, MediaId,
    wire::datagram::{Datagram, DatagramError},
};

use super::{
    Shard,
    routing::{hand, is_stale},
};
use crate::shard::{
    inbox::{Handed, Place},
    rooms::Link,
    sessions::{SessionNumber, Voice},
    voice::VoicePacket,
};

impl Shard {
    /// A voice packet of a client: once for each of the medias it names.
    pub(super) fn voice(&mut self, now: Instant, packet: &Voice) -> Result<(), DropReason> {
        let arrived = packet.arrived;
        let datagram = Datagram::parse(&packet.bytes).map_err(|error| match error {
            DatagramError::TooLarge => DropReason::TooLarge,
            DatagramError::Malformed(_) => DropReason::Malformed,
        })?;
        if !self.sessions.is_in_a_room(packet.session) {
            return Err(DropReason::NoRoom);
        }
        if is_stale(now, arrived) {
            return Err(DropReason::Stale);
        }
        if let [media] = datagram.medias() {
            let (place, media) = self.place(packet.session, *media)?;
            return self.forward_at(now, place, media, &datagram, arrived);
        }
        for media in datagram.medias() {
            let cut = datagram.for_media(*media);
            let result = Datagram::parse(&cut)
                .map_err(|_| DropReason::Malformed)
                .and_then(|cut| {
                    let (place, media) = self.place(packet.session, *media)?;
                    self.forward_at(now, place, media, &cut, arrived)
                });
            if let Err(reason) = result {
                self.counters.dropped(reason.index());
            }
        }
        Ok(())
    }

    fn place(&self, session: SessionNumber, media: u16) -> Result<(Place, MediaId), DropReason> {
        let media = MediaId::new(media.into()).ok_or(DropReason::ForeignMedia)?;
        let place = self
            .sessions
            .place(session, media)
            .ok_or(DropReason::ForeignMedia)?;
        Ok((place, media))
    }

    /// Forwards here, or hands over to the shard of the room.
    fn forward_at(
        &mut self,
        now: Instant,
        place: Place,
        media: MediaId,
        datagram: &Datagram<'_>,
        arrived: Instant,
    ) -> Result<(), DropReason> {
        if place.shard == self.settings.number {
            return self.forward(now, place, media, datagram, arrived);
        }
        let packet = Handed::Voice {
            place,
            media,
            bytes: Bytes::copy_from_slice(datagram.bytes()),
            arrived,
        };
        hand(&self.inboxes, place.shard, packet)
    }

    pub(super) fn forward(
        &mut self,
        now: Instant,
        place: Place,
        media: MediaId,
        datagram: &Datagram<'_>,
        arrived: Instant,
    ) -> Result<(), DropReason> {
        let Self {
            rooms,
            sessions,
            inboxes,
            counters,
            settings,
            ..
        } = self;
        let voice = VoicePacket::new(datagram.bytes());
        let mut receivers = 0;
        let deliver = |link: Link| {
            let result = match link.shard == settings.number {
                true => sessions.deliver(arrived, now, link.client, &voice),
                false => {
                    let packet = Handed::Deliver {
                        client: link.client,
                        voice: voice.clone(),
                        arrived,
                    };
                    hand(inboxes, link.shard, packet)
                }
            };
            match result {
                Ok(()) => receivers += 1,
                Err(reason) => counters.dropped(reason.index()),
            }
        };
        let customer = rooms.forward(now, place, media, datagram, deliver, || {
            counters.dropped(DropReason::StreamLimit.index());
        })?;
        customer.incoming(voice.len());
        customer.outgoing(voice.len() * receivers);
        Ok(())
    }
}
