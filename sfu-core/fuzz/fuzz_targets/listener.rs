//! A client as the room's notices make it: whatever it could not make sense of ends the target.

use std::collections::{BTreeMap, BTreeSet};

use rmpv::Value;
use sfu_core::{
    Event, MediaId, Notice, PeerId, PeerInfo,
    wire::notification::{Encoded, bundle, encode},
};

/// What one peer was told.
#[derive(Debug)]
pub struct Listener {
    own: PeerId,
    is_in: bool,
    /// Peers that it was told of and not told to be gone, with their running medias.
    pub knows: BTreeMap<PeerId, BTreeSet<MediaId>>,
    /// Medias that it was told it has paused.
    pub paused: BTreeSet<MediaId>,
    pub messages: usize,
}

impl Listener {
    pub fn new(own: PeerId) -> Self {
        Self {
            own,
            is_in: false,
            knows: BTreeMap::new(),
            paused: BTreeSet::new(),
            messages: 0,
        }
    }

    pub fn take_in(&mut self, event: &Event) {
        let is_first = matches!(event, Event::Joined { .. });
        assert_ne!(
            self.is_in, is_first,
            "joined comes first and once: {event:?}"
        );
        match event {
            Event::Joined { own, peers, .. } => {
                assert_eq!(*own, self.own);
                self.is_in = true;
                peers.iter().for_each(|peer| self.learn(peer));
            }
            Event::PeerJoined(peer) => self.learn(peer),
            Event::PeerLeft(peer) => {
                assert!(self.knows.remove(peer).is_some(), "an unknown peer left");
            }
            Event::MediaStarted { peer, media } => {
                assert!(self.medias_of(*peer).insert(media.id), "it ran already");
            }
            Event::MediaStopped { peer, media } => {
                assert!(self.medias_of(*peer).remove(media), "it did not run");
            }
            Event::PeerUserDataChanged { peer, .. } => {
                self.medias_of(*peer);
            }
            Event::MessageReceived { .. } => self.messages += 1,
            Event::Left(_) => self.is_in = false,
            Event::RoomUserDataChanged(_) => {}
        }
    }

    fn medias_of(&mut self, peer: PeerId) -> &mut BTreeSet<MediaId> {
        self.knows.get_mut(&peer).expect("a peer that it knows")
    }

    fn learn(&mut self, peer: &PeerInfo) {
        assert_ne!(peer.id, self.own, "a client that finds itself hangs");
        let medias = peer.medias.iter().map(|media| media.id).collect();
        let paused = peer.medias.iter().filter(|media| media.paused);
        self.paused.extend(paused.map(|media| media.id));
        let known = self.knows.insert(peer.id, medias);
        assert_eq!(known, None, "a peer came twice");
    }
}

/// A notice tells each once, and its event is a notification that a MessagePack decoder takes whole.
pub fn check(notice: &Notice) {
    let to: BTreeSet<_> = notice.to.iter().collect();
    assert!(!to.is_empty() && to.len() == notice.to.len());
    let (frame, method) = match encode(&notice.event) {
        Encoded::Update(update) => (bundle(&[update.clone(), update]), "RoomUpdated"),
        Encoded::Frame(frame) => match notice.event {
            Event::MessageReceived { .. } => (frame, "MessageReceived"),
            _ => (frame, "PeerUpdated"),
        },
    };
    let frame = decode(&frame);
    let [kind, name, Value::Map(params)] = frame.as_array().expect("a list").as_slice() else {
        panic!("no notification: {frame}");
    };
    assert_eq!((kind.as_u64(), name.as_str()), (Some(2), Some(method)));
    assert!(params.iter().all(|(key, _)| key.is_str()));
    for (key, value) in params {
        if key.as_str() == Some("updates") {
            assert_eq!(value.as_array().map(Vec::len), Some(2));
        }
    }
}

/// One whole value, without integers of 64 bits and extensions, which clients refuse.
pub fn decode(mut frame: &[u8]) -> Value {
    let value = rmpv::decode::read_value(&mut frame).expect("MessagePack");
    assert!(frame.is_empty(), "bytes after the value");
    check_forms(&value);
    value
}

fn check_forms(value: &Value) {
    match value {
        Value::Integer(number) => {
            let fits = number.as_i64().is_some_and(|number| {
                (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&number)
            });
            assert!(fits, "{number} takes 64 bits");
        }
        Value::Array(items) => items.iter().for_each(check_forms),
        Value::Map(members) => members.iter().for_each(|(key, value)| {
            check_forms(key);
            check_forms(value);
        }),
        Value::Ext(..) => panic!("an extension"),
        _ => {}
    }
}
