//! Events as they come: `RoomUpdated`, `PeerUpdated`, `MessageReceived`. What is newer than this client, or lacks what it
//! must have, is nothing.

use bytes::Bytes;
use rmpv::Value;
use sfu_core::PeerId;

use super::rpc::whole;
use crate::event::{
    Event, LeaveReason, MediaId, Peer, Properties, Property, RemoteMedia, Snapshot,
};

/// Most members of a media's properties that are kept.
const PROPERTIES_MAX: usize = 64;

/// One thing that a room says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Update {
    /// The room as a whole, with the peer's own medias.
    Joined {
        media_ids: Vec<MediaId>,
        room: Snapshot,
    },
    /// The end.
    Left(LeaveReason),
    /// Anything in between.
    Event(Event),
}

/// What a notification says; and how many parts of it were not understood.
pub(crate) fn updates(method: &str, params: Value) -> (Vec<Update>, usize) {
    match method {
        "RoomUpdated" => {
            let Some(list) = member(params, "updates").and_then(list) else {
                return (Vec::new(), 1);
            };
            let count = list.len();
            let updates: Vec<_> = list.into_iter().filter_map(room_update).collect();
            let unknown = count - updates.len();
            (updates, unknown)
        }
        "PeerUpdated" => one(peer_update(params)),
        "MessageReceived" => one(message(params)),
        _ => (Vec::new(), 1),
    }
}

fn one(event: Option<Event>) -> (Vec<Update>, usize) {
    match event {
        Some(event) => (vec![Update::Event(event)], 0),
        None => (Vec::new(), 1),
    }
}

fn room_update(update: Value) -> Option<Update> {
    let event = match update["kind"].as_str()? {
        "Joined" => {
            let own_id = peer_id(&update["own_peer_id"])?;
            let ids = update["media_ids"].as_array()?;
            let media_ids = ids.iter().map(media_id).collect::<Option<_>>()?;
            let room = member(update, "room")?;
            let user_data = binary(&room["user_data"])?;
            let peers = member(room, "peers").and_then(list)?;
            let room = Snapshot {
                own_id,
                user_data,
                peers: peers.into_iter().filter_map(peer).collect(),
            };
            return Some(Update::Joined { media_ids, room });
        }
        "Left" => return Some(Update::Left(reason(update["reason"].as_str()?))),
        "PeerJoined" => Event::PeerJoined(peer(member(update, "peer")?)?),
        "PeerLeft" => Event::PeerLeft(peer_id(&update["peer_id"])?),
        "UserDataChanged" => Event::RoomUserDataChanged(binary(&update["user_data"])?),
        _ => return None,
    };
    Some(Update::Event(event))
}

fn reason(word: &str) -> LeaveReason {
    match word {
        "room_closing" => LeaveReason::RoomClosing,
        "server_closing" => LeaveReason::ServerClosing,
        "peer_kicked" => LeaveReason::PeerKicked,
        "resumed" => LeaveReason::Resumed,
        _ => LeaveReason::Other(word.to_owned()),
    }
}

fn peer_update(params: Value) -> Option<Event> {
    let peer = peer_id(&params["peer_id"])?;
    match params["kind"].as_str()? {
        "MediaStarted" => {
            let media = media(member(params, "media")?)?;
            Some(Event::MediaStarted { peer, media })
        }
        "MediaStopped" => {
            let media = media_id(&params["media_id"])?;
            Some(Event::MediaStopped { peer, media })
        }
        "UserDataChanged" => {
            let user_data = binary(&params["user_data"])?;
            Some(Event::PeerUserDataChanged { peer, user_data })
        }
        _ => None,
    }
}

fn message(params: Value) -> Option<Event> {
    let sender = peer_id(&params["sender_peer_id"])?;
    let message = into_bytes(member(params, "message")?)?;
    Some(Event::MessageReceived { sender, message })
}

fn peer(value: Value) -> Option<Peer> {
    let id = peer_id(&value["id"])?;
    let user_id = value["user_id"].as_str()?.to_owned();
    let user_data = binary(&value["user_data"])?;
    let medias = member(value, "medias").and_then(list)?;
    Some(Peer {
        id,
        user_id,
        user_data,
        medias: medias.into_iter().filter_map(media).collect(),
    })
}

fn media(value: Value) -> Option<RemoteMedia> {
    let id = media_id(&value["id"])?;
    let mut properties = Properties::new();
    if let Some(Value::Map(members)) = member(value, "properties") {
        for (name, value) in members.into_iter().take(PROPERTIES_MAX) {
            let Some(name) = name.as_str() else { continue };
            let value = match value {
                Value::Nil => Property::Nil,
                Value::Boolean(value) => Property::Boolean(value),
                Value::String(text) => match text.into_str() {
                    Some(text) => Property::Text(text),
                    None => continue,
                },
                number => match number.as_f64() {
                    Some(number) => Property::Number(number),
                    None => continue,
                },
            };
            properties.insert(name.to_owned(), value);
        }
    }
    Some(RemoteMedia { id, properties })
}

fn peer_id(value: &Value) -> Option<PeerId> {
    PeerId::new(u32::try_from(whole(value)?).ok()?)
}

fn media_id(value: &Value) -> Option<MediaId> {
    MediaId::new(u16::try_from(whole(value)?).ok()?)
}

fn binary(value: &Value) -> Option<Bytes> {
    into_bytes(value.clone())
}

/// Some clients send text where bytes are meant.
fn into_bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::Binary(bytes) => Some(bytes.into()),
        Value::String(text) => Some(text.into_bytes().into()),
        _ => None,
    }
}

fn member(value: Value, name: &str) -> Option<Value> {
    let Value::Map(members) = value else {
        return None;
    };
    let mut members = members.into_iter();
    members
        .find(|(key, _)| key.as_str() == Some(name))
        .map(|(_, value)| value)
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use sfu_core::wire::notification::{Encoded, bundle, encode};

    use super::*;
    use crate::wire::rpc::{Incoming, parse};

    /// What the server's own encoding of an event means here.
    fn understood(event: &sfu_core::Event) -> Vec<Update> {
        let frame = match encode(event) {
            Encoded::Update(update) => bundle(&[update]),
            Encoded::Frame(frame) => frame,
        };
        let Ok(Some(Incoming::Notification { method, params })) = parse(&frame) else {
            panic!("a notification");
        };
        let (updates, unknown) = updates(&method, params);
        assert_eq!(unknown, 0, "{event:?}");
        updates
    }

    fn id(id: u32) -> PeerId {
        PeerId::new(id).unwrap()
    }

    fn media() -> (sfu_core::MediaInfo, RemoteMedia) {
        let properties = vec![0x81, 0xa1, b'k', 0xa1, b'v'];
        let theirs = sfu_core::MediaInfo {
            id: sfu_core::MediaId::new(300).unwrap(),
            properties: properties.into(),
            paused: false,
        };
        let ours = RemoteMedia {
            id: MediaId::new(300).unwrap(),
            properties: [("k".to_owned(), Property::Text("v".to_owned()))].into(),
        };
        (theirs, ours)
    }

    fn peer() -> (sfu_core::PeerInfo, Peer) {
        let (theirs, media) = media();
        let their_peer = sfu_core::PeerInfo {
            id: id(5),
            user_id: Arc::from("bob"),
            user_data: Bytes::from_static(&[1]),
            medias: vec![theirs],
        };
        let peer = Peer {
            id: id(5),
            user_id: "bob".to_owned(),
            user_data: Bytes::from_static(&[1]),
            medias: vec![media],
        };
        (their_peer, peer)
    }

    #[test]
    fn the_first_and_the_last_word_of_a_room_are_understood() {
        let ((theirs, media), (their_peer, peer)) = (media(), peer());
        let data = Bytes::from_static(&[9]);
        let joined = sfu_core::Event::Joined {
            own: id(1),
            media_ids: vec![theirs.id],
            room: sfu_core::RoomInfo {
                name: Arc::from("lobby"),
                customer: Arc::from(""),
                user_data: data.clone(),
            },
            peers: vec![their_peer],
        };
        let room = Snapshot {
            own_id: id(1),
            user_data: data,
            peers: vec![peer],
        };
        let media_ids = vec![media.id];
        assert_eq!(understood(&joined), [Update::Joined { media_ids, room }]);
        let left = sfu_core::Event::Left(sfu_core::LeaveReason::PeerKicked);
        assert_eq!(understood(&left), [Update::Left(LeaveReason::PeerKicked)]);
    }

    #[test]
    fn every_event_in_between_is_understood() {
        let ((theirs, media), (their_peer, peer)) = (media(), peer());
        let data = Bytes::from_static(&[9]);
        for (theirs, ours) in [
            (
                sfu_core::Event::PeerJoined(their_peer),
                Event::PeerJoined(peer),
            ),
            (sfu_core::Event::PeerLeft(id(5)), Event::PeerLeft(id(5))),
            (
                sfu_core::Event::RoomUserDataChanged(data.clone()),
                Event::RoomUserDataChanged(data.clone()),
            ),
            (
                sfu_core::Event::MediaStopped {
                    peer: id(5),
                    media: theirs.id,
                },
                Event::MediaStopped {
                    peer: id(5),
                    media: media.id,
                },
            ),
            (
                sfu_core::Event::MediaStarted {
                    peer: id(5),
                    media: theirs,
                },
                Event::MediaStarted { peer: id(5), media },
            ),
            (
                sfu_core::Event::PeerUserDataChanged {
                    peer: id(5),
                    user_data: data.clone(),
                },
                Event::PeerUserDataChanged {
                    peer: id(5),
                    user_data: data.clone(),
                },
            ),
            (
                sfu_core::Event::MessageReceived {
                    sender: PeerId::SERVER,
                    message: data.clone(),
                },
                Event::MessageReceived {
                    sender: PeerId::SERVER,
                    message: data,
                },
            ),
        ] {
            assert_eq!(understood(&theirs), [Update::Event(ours)]);
        }
    }

    #[test]
    fn what_is_not_understood_is_counted_and_does_no_harm() {
        let map = |members: Vec<(&str, Value)>| {
            Value::Map(
                members
                    .into_iter()
                    .map(|(name, value)| (name.into(), value))
                    .collect(),
            )
        };
        let left = map(vec![("kind", "PeerLeft".into()), ("peer_id", 3.into())]);
        let none = map(vec![("kind", "PeerLeft".into()), ("peer_id", 0.into())]);
        let new = map(vec![("kind", "Exploded".into())]);
        let params = map(vec![(
            "updates",
            Value::Array(vec![new, left, none, 5.into()]),
        )]);
        let (known, unknown) = updates("RoomUpdated", params);
        assert_eq!(known, [Update::Event(Event::PeerLeft(id(3)))]);
        assert_eq!(unknown, 3);
        assert_eq!(updates("RoomUpdated", Value::Nil).1, 1);
        assert_eq!(updates("Whatever", Value::Nil).1, 1);
    }

    proptest! {
        #[test]
        fn any_params_are_understood_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(params) = rmpv::decode::read_value_with_max_depth(&mut &bytes[..], 8) {
                for method in ["RoomUpdated", "PeerUpdated", "MessageReceived"] {
                    let _ = updates(method, params.clone());
                }
            }
        }
    }
}
