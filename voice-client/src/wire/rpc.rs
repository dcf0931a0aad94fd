//! MessagePack-RPC as a client speaks it: requests `[0, id, method, params]` out; answers `[1, id, error, result]` and
//! notifications `[2, method, params]` in.

use rmp::encode;
use rmpv::Value;

/// How deep a frame may be nested: events need eight levels.
const DEPTH_MAX: usize = 32;

const INTO_MEMORY: &str = "writing to memory does not fail";

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    Answer {
        id: u64,
        result: Result<Value, String>,
    },
    Notification {
        method: String,
        params: Value,
    },
}

/// Not one MessagePack value of these forms: there is no telling what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbage;

/// Params of a request.
#[derive(Debug, Default)]
pub(crate) struct Params {
    bytes: Vec<u8>,
    count: u32,
}

impl Params {
    fn member(mut self, name: &str) -> Self {
        encode::write_str(&mut self.bytes, name).expect(INTO_MEMORY);
        self.count += 1;
        self
    }

    pub(crate) fn text(self, name: &str, text: &str) -> Self {
        let mut params = self.member(name);
        encode::write_str(&mut params.bytes, text).expect(INTO_MEMORY);
        params
    }

    pub(crate) fn binary(self, name: &str, bytes: &[u8]) -> Self {
        let mut params = self.member(name);
        encode::write_bin(&mut params.bytes, bytes).expect(INTO_MEMORY);
        params
    }

    pub(crate) fn boolean(self, name: &str, value: bool) -> Self {
        let mut params = self.member(name);
        encode::write_bool(&mut params.bytes, value).expect(INTO_MEMORY);
        params
    }

    pub(crate) fn number(self, name: &str, number: u32) -> Self {
        let mut params = self.member(name);
        encode::write_uint(&mut params.bytes, number.into()).expect(INTO_MEMORY);
        params
    }

    pub(crate) fn float(self, name: &str, number: f64) -> Self {
        let mut params = self.member(name);
        encode::write_f64(&mut params.bytes, number).expect(INTO_MEMORY);
        params
    }

    pub(crate) fn numbers(self, name: &str, numbers: &[u32]) -> Self {
        let mut params = self.member(name);
        write_list(&mut params.bytes, numbers.len());
        for number in numbers {
            encode::write_uint(&mut params.bytes, u64::from(*number)).expect(INTO_MEMORY);
        }
        params
    }

    pub(crate) fn floats(self, name: &str, numbers: &[f64]) -> Self {
        let mut params = self.member(name);
        write_list(&mut params.bytes, numbers.len());
        for number in numbers {
            encode::write_f64(&mut params.bytes, *number).expect(INTO_MEMORY);
        }
        params
    }

    /// A member that is encoded already.
    pub(crate) fn encoded(self, name: &str, value: &[u8]) -> Self {
        let mut params = self.member(name);
        params.bytes.extend(value);
        params
    }

    /// The map alone.
    pub(crate) fn into_map(self) -> Vec<u8> {
        let mut map = Vec::with_capacity(self.bytes.len() + 5);
        encode::write_map_len(&mut map, self.count).expect(INTO_MEMORY);
        map.extend(self.bytes);
        map
    }
}

fn write_list(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    encode::write_array_len(bytes, length).expect(INTO_MEMORY);
}

/// A request in bytes.
pub(crate) fn request(id: u64, method: &str, params: Params) -> Vec<u8> {
    let mut frame = vec![0x94, 0];
    encode::write_uint(&mut frame, id).expect(INTO_MEMORY);
    encode::write_str(&mut frame, method).expect(INTO_MEMORY);
    frame.extend(params.into_map());
    frame
}

/// Understands a frame; `None` for what may be left unanswered and means nothing to a client.
pub(crate) fn parse(frame: &[u8]) -> Result<Option<Incoming>, Garbage> {
    let mut rest = frame;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH_MAX);
    let value = value.map_err(|_| Garbage)?;
    let Value::Array(items) = value else {
        return Err(Garbage);
    };
    if !rest.is_empty() {
        return Err(Garbage);
    }
    let mut items = items.into_iter();
    let kind = items.next().and_then(|kind| kind.as_u64());
    let rest: Vec<Value> = items.collect();
    match kind {
        Some(1) => match <[Value; 3]>::try_from(rest) {
            Ok([id, error, result]) => {
                let result = match error {
                    Value::Nil => Ok(result),
                    Value::String(text) => Err(text.into_str().unwrap_or_default()),
                    _ => Err("an error without words".to_owned()),
                };
                let id = whole(&id).ok_or(Garbage)?;
                Ok(Some(Incoming::Answer { id, result }))
            }
            Err(_) => Err(Garbage),
        },
        Some(2) => match <[Value; 2]>::try_from(rest) {
            Ok([method, params]) => {
                let method = method.as_str().ok_or(Garbage)?.to_owned();
                Ok(Some(Incoming::Notification { method, params }))
            }
            Err(_) => Err(Garbage),
        },
        Some(0) => Ok(None),
        _ => Err(Garbage),
    }
}

/// A whole number from 0, also where it comes as a float.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    /// Whole numbers up to here are exact in a float.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    let is_whole = number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in this range fits"
    )]
    let whole = number as u64;
    is_whole.then_some(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sfu_core::{
        Command, MainCommand,
        wire::rpc::{Reply, Request, answer},
    };

    use super::*;

    #[test]
    fn the_server_understands_what_is_asked() {
        let params = Params::default()
            .text("room_id", "lobby")
            .binary("user_data", b"me")
            .floats("position", &[0.5, 1.0, -2.0])
            .boolean("resumable", true);
        let frame = request(7, "JoinRoom", params);
        let parsed = Request::parse(&frame).unwrap();
        assert_eq!(parsed.id, 7);
        let MainCommand::JoinRoom { room_id, .. } = MainCommand::parse(&parsed).unwrap() else {
            panic!("JoinRoom");
        };
        assert_eq!(room_id, "lobby");

        let params = Params::default().number("media_id", 40_000).encoded(
            "properties",
            &Params::default().text("kind", "audio").into_map(),
        );
        let frame = request(u64::MAX, "StartMedia", params);
        let parsed = Request::parse(&frame).unwrap();
        assert_eq!(Command::parse(&parsed).unwrap().method(), "StartMedia");

        let params = Params::default()
            .binary("message", b"hi")
            .numbers("target_peer_ids", &[1, 70_000]);
        let frame = request(0, "SendMessage", params);
        let parsed = Command::parse(&Request::parse(&frame).unwrap()).unwrap();
        let Command::SendMessage { targets, .. } = parsed else {
            panic!("SendMessage");
        };
        assert_eq!(targets.unwrap().len(), 2);
    }

    #[test]
    fn answers_of_the_server_are_understood() {
        let refused = answer(3, &Reply::Error("no"));
        let wanted = Incoming::Answer {
            id: 3,
            result: Err("no".to_owned()),
        };
        assert_eq!(parse(&refused), Ok(Some(wanted)));
        let done = answer(4, &Reply::Text("stream_id", "abc"));
        let Ok(Some(Incoming::Answer { id, result })) = parse(&done) else {
            panic!("an answer");
        };
        assert_eq!(id, 4);
        assert_eq!(result.unwrap()["stream_id"].as_str(), Some("abc"));
    }

    #[test]
    fn what_is_no_rpc_is_garbage() {
        for frame in [
            &[][..],
            &[0xc0],
            &[0x90],
            &[0x93, 2, 0xa1, b'a'],
            &[0x93, 2, 5, 0x80],
            &[0x94, 1, 0xa0, 0xc0, 0xc0],
            &[0x92, 1, 1],
            &[0x91, 9],
            &[0x93, 2, 0xa1, b'a', 0x80, 0],
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(parse(frame), Err(Garbage), "{frame:?}");
        }
        assert_eq!(parse(&[0x94, 0, 1, 0xa1, b'a', 0x80]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_understood_or_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
