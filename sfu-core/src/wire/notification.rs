//! Events as the web client takes them: notifications `[2, method, params]`. One that breaks the client's schema in any
//! member is dropped there without a word.

use bytes::Bytes;

use super::rpc::{write_bool, write_bytes, write_list, write_map, write_number, write_text};
use crate::{
    event::{Event, MediaInfo, PeerInfo, RoomInfo},
    id::{MediaId, PeerId},
};

/// An event in bytes. It is encoded once for all peers that are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// One of the updates that a `RoomUpdated` carries; [`bundle`] makes a frame of one or many.
    Update(Bytes),
    /// A frame of its own.
    Frame(Bytes),
}

/// Encodes an event.
pub fn encode(event: &Event) -> Encoded {
    let mut bytes = Vec::with_capacity(128);
    match event {
        Event::Joined {
            own,
            media_ids,
            room,
            peers,
        } => joined(&mut bytes, *own, media_ids, room, peers),
        Event::PeerJoined(peer) => {
            kind(&mut bytes, "PeerJoined", 1);
            write_text(&mut bytes, "peer");
            write_peer(&mut bytes, peer);
        }
        Event::PeerLeft(peer) => {
            kind(&mut bytes, "PeerLeft", 1);
            peer_id(&mut bytes, *peer);
        }
        Event::RoomUserDataChanged(user_data) => {
            kind(&mut bytes, "UserDataChanged", 1);
            member(&mut bytes, "user_data", user_data);
        }
        Event::Left(reason) => {
            kind(&mut bytes, "Left", 1);
            write_text(&mut bytes, "reason");
            write_text(&mut bytes, reason.word());
        }
        Event::MediaStarted { peer, media } => {
            peer_updated(&mut bytes, "MediaStarted", *peer, 2);
            write_text(&mut bytes, "media");
            write_media(&mut bytes, media);
            // Native clients up to 1.8 look for them here.
            write_text(&mut bytes, "properties");
            bytes.extend(&media.properties);
            return Encoded::Frame(bytes.into());
        }
        Event::MediaStopped { peer, media } => {
            peer_updated(&mut bytes, "MediaStopped", *peer, 1);
            write_text(&mut bytes, "media_id");
            write_number(&mut bytes, media.value().into());
            return Encoded::Frame(bytes.into());
        }
        Event::PeerUserDataChanged { peer, user_data } => {
            peer_updated(&mut bytes, "UserDataChanged", *peer, 1);
            member(&mut bytes, "user_data", user_data);
            return Encoded::Frame(bytes.into());
        }
        Event::MessageReceived { sender, message } => {
            notification(&mut bytes, "MessageReceived", 2);
            write_text(&mut bytes, "sender_peer_id");
            write_number(&mut bytes, sender.value().into());
            member(&mut bytes, "message", message);
            return Encoded::Frame(bytes.into());
        }
    }
    Encoded::Update(bytes.into())
}

/// One `RoomUpdated` of updates; the client takes them in this order.
pub fn bundle(updates: &[Bytes]) -> Bytes {
    let mut bytes = Vec::with_capacity(32 + updates.iter().map(Bytes::len).sum::<usize>());
    notification(&mut bytes, "RoomUpdated", 1);
    write_text(&mut bytes, "updates");
    write_list(&mut bytes, updates.len());
    for update in updates {
        bytes.extend(update);
    }
    bytes.into()
}

fn notification(bytes: &mut Vec<u8>, method: &str, members: u32) {
    bytes.push(0x93);
    write_number(bytes, 2);
    write_text(bytes, method);
    write_map(bytes, members);
}

/// The head of an update with so many members beside its kind.
fn kind(bytes: &mut Vec<u8>, kind: &str, members: u32) {
    write_map(bytes, members + 1);
    write_text(bytes, "kind");
    write_text(bytes, kind);
}

fn peer_updated(bytes: &mut Vec<u8>, kind: &str, peer: PeerId, members: u32) {
    notification(bytes, "PeerUpdated", members + 2);
    write_text(bytes, "kind");
    write_text(bytes, kind);
    peer_id(bytes, peer);
}

fn peer_id(bytes: &mut Vec<u8>, peer: PeerId) {
    write_text(bytes, "peer_id");
    write_number(bytes, peer.value().into());
}

fn member(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    write_text(bytes, name);
    write_bytes(bytes, value);
}

fn joined(
    bytes: &mut Vec<u8>,
    own: PeerId,
    media_ids: &[MediaId],
    room: &RoomInfo,
    peers: &[PeerInfo],
) {
    kind(bytes, "Joined", 3);
    write_text(bytes, "room");
    write_map(bytes, 4);
    write_text(bytes, "id");
    write_text(bytes, &room.name);
    write_text(bytes, "customer");
    write_text(bytes, &room.customer);
    member(bytes, "user_data", &room.user_data);
    write_text(bytes, "peers");
    write_list(bytes, peers.len());
    for peer in peers {
        write_peer(bytes, peer);
    }
    write_text(bytes, "media_ids");
    write_list(bytes, media_ids.len());
    for media in media_ids {
        write_number(bytes, media.value().into());
    }
    write_text(bytes, "own_peer_id");
    write_number(bytes, own.value().into());
}

fn write_peer(bytes: &mut Vec<u8>, peer: &PeerInfo) {
    write_map(bytes, 5);
    write_text(bytes, "id");
    write_number(bytes, peer.id.value().into());
    write_text(bytes, "user_id");
    write_text(bytes, &peer.user_id);
    member(bytes, "user_data", &peer.user_data);
    write_text(bytes, "medias");
    write_list(bytes, peer.medias.len());
    for media in &peer.medias {
        write_media(bytes, media);
    }
    // Native clients of 1.8 require it.
    write_text(bytes, "tags");
    write_list(bytes, 0);
}

fn write_media(bytes: &mut Vec<u8>, media: &MediaInfo) {
    write_map(bytes, 3);
    write_text(bytes, "id");
    write_number(bytes, media.id.value().into());
    write_text(bytes, "properties");
    bytes.extend(&media.properties);
    write_text(bytes, "paused");
    write_bool(bytes, media.paused);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rmpv::Value;

    use super::*;
    use crate::event::LeaveReason;

    fn json(value: &Value) -> String {
        match value {
            Value::Binary(bytes) => format!("{bytes:?}"),
            Value::Array(items) => {
                format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
            }
            Value::Map(members) => {
                let member = |(name, value): &(Value, Value)| {
                    format!("{}:{}", name.as_str().unwrap(), json(value))
                };
                format!(
                    "{{{}}}",
                    members.iter().map(member).collect::<Vec<_>>().join(",")
                )
            }
            other => other.to_string(),
        }
    }

    fn shown(event: &Event) -> String {
        let bytes = match encode(event) {
            Encoded::Frame(bytes) => bytes,
            Encoded::Update(bytes) => bundle(&[bytes]),
        };
        let mut rest = &bytes[..];
        let value = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(
            rest.is_empty(),
            "trailing bytes make the client drop the frame"
        );
        json(&value)
    }

    fn peer() -> PeerInfo {
        PeerInfo {
            id: PeerId::new(70_000).unwrap(),
            user_id: Arc::from("bob"),
            user_data: Bytes::from_static(&[1]),
            medias: vec![media()],
        }
    }

    fn media() -> MediaInfo {
        MediaInfo {
            id: MediaId::new(300).unwrap(),
            properties: Bytes::from_static(&[0x80]),
            paused: false,
        }
    }

    #[test]
    fn events_have_the_form_that_the_client_takes() {
        let own = PeerId::new(1).unwrap();
        let room = RoomInfo {
            name: Arc::from("lobby"),
            customer: Arc::from(""),
            user_data: Bytes::new(),
        };
        let media_ids = vec![MediaId::new(128).unwrap()];
        let mut carol = peer();
        carol.medias[0].paused = true;
        let peers = vec![peer(), carol];
        let bob = "{id:70000,user_id:\"bob\",user_data:[1],medias:[{id:300,properties:{},paused:false}],tags:[]}";
        let carol = bob.replace("false", "true");
        for (event, wanted) in [
            (
                Event::Joined { own, media_ids, room, peers },
                format!(
                    "[2,\"RoomUpdated\",{{updates:[{{kind:\"Joined\",room:{{id:\"lobby\",customer:\"\",user_data:[],peers:[{bob},{carol}]}},\
                     media_ids:[128],own_peer_id:1}}]}}]"
                ),
            ),
            (
                Event::PeerJoined(peer()),
                format!("[2,\"RoomUpdated\",{{updates:[{{kind:\"PeerJoined\",peer:{bob}}}]}}]"),
            ),
            (
                Event::PeerLeft(own),
                "[2,\"RoomUpdated\",{updates:[{kind:\"PeerLeft\",peer_id:1}]}]".to_owned(),
            ),
            (
                Event::RoomUserDataChanged(Bytes::new()),
                "[2,\"RoomUpdated\",{updates:[{kind:\"UserDataChanged\",user_data:[]}]}]".to_owned(),
            ),
            (
                Event::Left(LeaveReason::PeerKicked),
                "[2,\"RoomUpdated\",{updates:[{kind:\"Left\",reason:\"peer_kicked\"}]}]".to_owned(),
            ),
            (
                Event::MediaStarted { peer: own, media: media() },
                "[2,\"PeerUpdated\",{kind:\"MediaStarted\",peer_id:1,media:{id:300,properties:{},paused:false},properties:{}}]"
                    .to_owned(),
            ),
            (
                Event::MediaStopped { peer: own, media: media().id },
                "[2,\"PeerUpdated\",{kind:\"MediaStopped\",peer_id:1,media_id:300}]".to_owned(),
            ),
            (
                Event::PeerUserDataChanged { peer: own, user_data: Bytes::from_static(&[7]) },
                "[2,\"PeerUpdated\",{kind:\"UserDataChanged\",peer_id:1,user_data:[7]}]".to_owned(),
            ),
            (
                Event::MessageReceived { sender: PeerId::SERVER, message: Bytes::from_static(&[8]) },
                "[2,\"MessageReceived\",{sender_peer_id:4294967295,message:[8]}]".to_owned(),
            ),
        ] {
            assert_eq!(shown(&event), wanted);
        }
    }

    #[test]
    fn many_updates_are_one_frame() {
        let update = |id| match encode(&Event::PeerLeft(PeerId::new(id).unwrap())) {
            Encoded::Update(bytes) => bytes,
            Encoded::Frame(_) => panic!("an update"),
        };
        let updates: Vec<_> = (1..=20).map(update).collect();
        let value = rmpv::decode::read_value(&mut &bundle(&updates)[..]).unwrap();
        assert_eq!(value[2]["updates"].as_array().unwrap().len(), 20);
        assert_eq!(value[2]["updates"][19]["peer_id"].as_u64(), Some(20));
    }
}
