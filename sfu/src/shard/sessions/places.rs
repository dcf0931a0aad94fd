//! Which room the voice of a client's medias belongs to.

use std::collections::HashMap;

use sfu_core::MediaId;

use super::{SessionNumber, Sessions};
use crate::shard::{ClientId, inbox::Place};

impl Sessions {
    /// Where voice of a client's medias belongs.
    pub(in crate::shard) fn attach(
        &mut self,
        client: ClientId,
        medias: Vec<MediaId>,
        place: Place,
    ) {
        let known = self.medias_of(client);
        for media in medias {
            let at = known.entry(media).or_insert(place);
            // Of two streams that served one peer the later one counts, in whatever order they say so.
            if at.peer != place.peer || at.turn <= place.turn {
                *at = place;
            }
        }
    }

    pub(in crate::shard) fn detach(&mut self, client: ClientId, place: Place) {
        self.medias_of(client).retain(|_, at| *at != place);
        if self.unconnected.get(&client).is_some_and(HashMap::is_empty) {
            self.unconnected.remove(&client);
        }
    }

    fn medias_of(&mut self, client: ClientId) -> &mut HashMap<MediaId, Place> {
        let entry = self
            .by_client
            .get(&client)
            .and_then(|number| self.entries[number.0].as_mut());
        match entry {
            Some(entry) => &mut entry.medias,
            None => self.unconnected.entry(client).or_default(),
        }
    }

    /// The place of a media, if it is one of this session's.
    pub(in crate::shard) fn place(&self, number: SessionNumber, media: MediaId) -> Option<Place> {
        self.entries
            .get(number.0)?
            .as_ref()?
            .medias
            .get(&media)
            .copied()
    }

    /// Whether the client is in any room.
    pub(in crate::shard) fn is_in_a_room(&self, number: SessionNumber) -> bool {
        let entry = self.entries.get(number.0).and_then(Option::as_ref);
        entry.is_some_and(|entry| !entry.medias.is_empty())
    }
}
