//! The way into a room over streams, call by call, and what a peer does there. Pure: frames in, frames out.

use std::collections::HashMap;

use rmpv::Value;

use crate::{
    signalling::rpc::{self, Frame, map, request},
    target::peer_of,
};

/// Where a peer goes.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) token: String,
    pub(crate) room: String,
    pub(crate) place: [f64; 3],
    pub(crate) is_talker: bool,
    /// Who goes out of range matters.
    pub(crate) is_spread: bool,
}

/// What is to be done for a frame.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// A frame for the main stream.
    Main(Vec<u8>),
    /// A frame for the room's stream.
    Room(Vec<u8>),
    /// The room's stream is to be opened by this name.
    OpenRoom(String),
    /// These are out of range.
    Apart(Vec<u32>),
}

/// Which call is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Authenticate,
    Join,
    Joined,
    Start(u16),
    /// Nothing is: the peer is in, with this media.
    In(u16),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Entry {
    way: Way,
    waiting: Waiting,
    next_id: u64,
    known: HashMap<u64, u32>,
}

impl Entry {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
            waiting: Waiting::Authenticate,
            next_id: 0,
            known: HashMap::new(),
        }
    }

    /// The peer's media, once it is in.
    pub(super) fn media(&self) -> Option<u16> {
        match self.waiting {
            Waiting::In(media) => Some(media),
            _ => None,
        }
    }

    /// The first frame of the main stream.
    pub(super) fn begin(&mut self) -> Vec<u8> {
        let token = self.way.token.as_str().into();
        self.request("Authenticate", map([("token", token)]))
    }

    /// A frame for the room's stream; `None` before the peer is in.
    pub(super) fn move_to(&mut self, place: [f64; 3]) -> Option<Vec<u8>> {
        self.media()?;
        Some(self.request("SetPeerPosition", rpc::position(place)))
    }

    fn request(&mut self, method: &str, params: Value) -> Vec<u8> {
        self.next_id += 1;
        request(self.next_id, method, params)
    }

    /// Takes a frame of either stream.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Step, String> {
        if self.media().is_some() && !self.way.is_spread {
            return Ok(Step::Nothing);
        }
        match Frame::read(bytes).map_err(|error| error.to_string())? {
            Frame::Answer(id, answer) if id == self.next_id => self.answer(answer),
            Frame::Answer(..) => Ok(Step::Nothing),
            Frame::Updates(updates) => self.updates(&updates),
        }
    }

    fn answer(&mut self, answer: Result<Value, String>) -> Result<Step, String> {
        let waiting = self.waiting;
        let answer = answer.map_err(|why| format!("{waiting:?}: {why}"));
        match waiting {
            Waiting::Authenticate => {
                answer?;
                self.waiting = Waiting::Join;
                let params = map([
                    ("room_id", self.way.room.as_str().into()),
                    ("user_data", Value::Binary(Vec::new())),
                    (
                        "position",
                        self.way.place.iter().copied().map(Value::from).collect(),
                    ),
                ]);
                Ok(Step::Main(self.request("JoinRoom", params)))
            }
            Waiting::Join => {
                let joined = answer?;
                let name = joined["stream_id"].as_str().ok_or("no stream")?;
                self.waiting = Waiting::Joined;
                Ok(Step::OpenRoom(name.to_owned()))
            }
            Waiting::Start(media) => {
                answer?;
                self.waiting = Waiting::In(media);
                Ok(Step::Nothing)
            }
            // A move that was refused is none.
            Waiting::Joined | Waiting::In(_) => Ok(Step::Nothing),
        }
    }

    fn updates(&mut self, updates: &[Value]) -> Result<Step, String> {
        let mut apart = Vec::new();
        for update in updates {
            match update["kind"].as_str() {
                Some("Joined") if self.waiting == Waiting::Joined => return self.joined(update),
                Some("PeerJoined") => self.meet(&update["peer"]),
                Some("PeerLeft") => {
                    let id = update["peer_id"].as_u64().ok_or("nobody left")?;
                    apart.extend(self.known.remove(&id));
                }
                Some("Left") => return Err(format!("out of the room: {}", update["reason"])),
                _ => {}
            }
        }
        Ok(match apart.is_empty() {
            true => Step::Nothing,
            false => Step::Apart(apart),
        })
    }

    fn joined(&mut self, joined: &Value) -> Result<Step, String> {
        for other in joined["room"]["peers"].as_array().into_iter().flatten() {
            self.meet(other);
        }
        let media = joined["media_ids"][0].as_u64().ok_or("no media")?;
        let media = u16::try_from(media).map_err(|_| "a media beyond 16 bits")?;
        if !self.way.is_talker {
            self.waiting = Waiting::In(media);
            return Ok(Step::Nothing);
        }
        self.waiting = Waiting::Start(media);
        let params = map([("media_id", media.into()), ("properties", map([]))]);
        Ok(Step::Room(self.request("StartMedia", params)))
    }

    fn meet(&mut self, other: &Value) {
        let number = other["user_id"].as_str().and_then(peer_of);
        if let (Some(id), Some(number)) = (other["id"].as_u64(), number) {
            self.known.insert(id, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(is_spread: bool) -> Way {
        Way {
            token: "t".to_owned(),
            room: "r".to_owned(),
            place: [0.0; 3],
            is_talker: true,
            is_spread,
        }
    }

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    fn answer(id: u64, result: Value) -> Vec<u8> {
        bytes(&Value::Array(vec![1.into(), id.into(), Value::Nil, result]))
    }

    fn told(update: Value) -> Vec<u8> {
        let updates = map([("updates", Value::Array(vec![update]))]);
        bytes(&Value::Array(vec![2.into(), "RoomUpdated".into(), updates]))
    }

    fn method(frame: &[u8]) -> String {
        let value = rmpv::decode::read_value(&mut &frame[..]).unwrap();
        value[2].as_str().unwrap().to_owned()
    }

    fn peer(id: u64, user: &str) -> Value {
        map([("id", id.into()), ("user_id", user.into())])
    }

    #[test]
    fn a_talker_comes_in_call_by_call() {
        let mut entry = Entry::new(way(true));
        assert_eq!(method(&entry.begin()), "Authenticate");
        let Step::Main(join) = entry.take(&answer(1, map([]))).unwrap() else {
            panic!("JoinRoom")
        };
        assert_eq!(method(&join), "JoinRoom");
        let opened = entry
            .take(&answer(2, map([("stream_id", "abc".into())])))
            .unwrap();
        assert_eq!(opened, Step::OpenRoom("abc".to_owned()));
        let joined = map([
            ("kind", "Joined".into()),
            ("media_ids", Value::Array(vec![300.into()])),
            (
                "room",
                map([("peers", Value::Array(vec![peer(5, "load-17")]))]),
            ),
        ]);
        let Step::Room(start) = entry.take(&told(joined)).unwrap() else {
            panic!("StartMedia")
        };
        assert_eq!(
            (method(&start).as_str(), entry.media()),
            ("StartMedia", None)
        );
        assert!(entry.move_to([0.0; 3]).is_none());
        entry.take(&answer(3, Value::Nil)).unwrap();
        assert_eq!(entry.media(), Some(300));
        assert_eq!(method(&entry.move_to([1.0; 3]).unwrap()), "SetPeerPosition");

        let left = map([("kind", "PeerLeft".into()), ("peer_id", 5.into())]);
        assert_eq!(entry.take(&told(left)).unwrap(), Step::Apart(vec![17]));
        let out = map([("kind", "Left".into()), ("reason", "room_closed".into())]);
        assert!(entry.take(&told(out)).unwrap_err().contains("room_closed"));
    }

    #[test]
    fn a_refusal_says_which_call_it_was() {
        let mut entry = Entry::new(way(false));
        entry.begin();
        let refused = Value::Array(vec![1.into(), 1.into(), "bad token".into(), Value::Nil]);
        let why = entry.take(&bytes(&refused)).unwrap_err();
        assert!(
            why.contains("Authenticate") && why.contains("bad token"),
            "{why}"
        );
        assert!(entry.take(&[0xc1]).is_err());
    }
}
