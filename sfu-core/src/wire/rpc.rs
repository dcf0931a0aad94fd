//! Frames of the web client: MessagePack-RPC, one value a frame.
//!
//! A request is `[0, id, method, params]`, an answer `[1, id, error, result]`. The client refuses answers whose error is
//! not nil or a string, or whose result is not nil, a map or a list, and treats them as none.

use bytes::Bytes;
use rmp::encode;
use rmpv::ValueRef;

use crate::limits::{FRAME_BYTES_MAX, FRAME_DEPTH_MAX};

/// What a method is given: a map with string keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<'a>(Vec<(ValueRef<'a>, ValueRef<'a>)>);

/// A call of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Names the call in its answer.
    pub id: u64,
    /// What to do.
    pub method: &'a str,
    /// With what.
    pub params: Params<'a>,
}

/// Why a frame is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not one whole MessagePack value, too deep or too large: there is no telling what it means.
    #[error("the frame is not one MessagePack value within the limits")]
    Garbage,
    /// A MessagePack value that is no request.
    #[error("the frame is no MessagePack-RPC request")]
    NoRequest,
    /// A request that can be answered, and only with an error.
    #[error("{problem}")]
    Request {
        /// Names the call in its answer.
        id: u64,
        /// What is wrong.
        problem: &'static str,
    },
}

impl<'a> Request<'a> {
    /// Understands a frame.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(FrameError::Garbage);
        }
        let mut rest = frame;
        let value = rmpv::decode::read_value_ref_with_max_depth(&mut rest, FRAME_DEPTH_MAX);
        let value = value.map_err(|_| FrameError::Garbage)?;
        if !rest.is_empty() {
            return Err(FrameError::Garbage);
        }
        let items = value
            .into_array()
            .and_then(|items| <[_; 4]>::try_from(items).ok());
        let Some([kind, id, method, params]) = items else {
            return Err(FrameError::NoRequest);
        };
        let (Some(0), Some(id)) = (kind.as_u64(), whole(&id)) else {
            return Err(FrameError::NoRequest);
        };
        let problem = |problem| FrameError::Request { id, problem };
        let ValueRef::String(method) = method else {
            return Err(problem("the method must be a string"));
        };
        let method = method
            .into_str()
            .ok_or_else(|| problem("the method must be UTF-8"))?;
        let params = match params {
            ValueRef::Map(params) => Params(params),
            ValueRef::Nil => Params(Vec::new()),
            _ => return Err(problem("params must be a map")),
        };
        Ok(Self { id, method, params })
    }
}

impl<'a> Params<'a> {
    /// A parameter; nil counts as absent.
    pub fn find(&self, name: &str) -> Option<&ValueRef<'a>> {
        let is_it =
            |key: &ValueRef<'a>| matches!(key, ValueRef::String(key) if key.as_str() == Some(name));
        let (_, value) = self.0.iter().find(|(key, _)| is_it(key))?;
        (*value != ValueRef::Nil).then_some(value)
    }
}

/// A whole number from 0, also when JavaScript sent it as a float.
pub(crate) fn whole(value: &ValueRef<'_>) -> Option<u64> {
    /// Whole numbers up to here are exact in a float.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        ValueRef::F32(_) | ValueRef::F64(_) => {
            let number = value.clone().to_owned().as_f64()?;
            let is_whole = number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number in this range fits"
            )]
            let whole = number as u64;
            is_whole.then_some(whole)
        }
        _ => value.as_u64(),
    }
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Done, and there is nothing to say.
    Done,
    /// Done; one member with its strings.
    Text(&'static str, &'a str),
    /// Done; members with a string each.
    Members(&'a [(&'static str, &'a str)]),
    /// Done; one member with a list of strings.
    Texts(&'static str, &'a [String]),
    /// Not done.
    Error(&'a str),
}

/// The answer to a call.
pub fn answer(id: u64, reply: &Reply<'_>) -> Bytes {
    let mut frame = Vec::with_capacity(64);
    frame.push(0x94);
    write_number(&mut frame, 1);
    write_number(&mut frame, id);
    match reply {
        Reply::Error(text) => {
            write_text(&mut frame, text);
            write_nil(&mut frame);
        }
        Reply::Done => {
            write_nil(&mut frame);
            write_map(&mut frame, 0);
        }
        Reply::Text(name, text) => write_members(&mut frame, &[(name, text)]),
        Reply::Members(members) => write_members(&mut frame, members),
        Reply::Texts(name, texts) => {
            write_nil(&mut frame);
            write_map(&mut frame, 1);
            write_text(&mut frame, name);
            write_list(&mut frame, texts.len());
            for text in *texts {
                write_text(&mut frame, text);
            }
        }
    }
    frame.into()
}

fn write_members(frame: &mut Vec<u8>, members: &[(&'static str, &str)]) {
    write_nil(frame);
    write_map(
        frame,
        u32::try_from(members.len()).expect("an answer has a few members"),
    );
    for (name, text) in members {
        write_text(frame, name);
        write_text(frame, text);
    }
}

const INTO_MEMORY: &str = "writing to memory does not fail";

/// The shortest form, up to 32 bits; above, a float: the client reads 64-bit integers as `BigInt` and refuses them.
pub(crate) fn write_number(frame: &mut Vec<u8>, number: u64) {
    if number <= u32::MAX.into() {
        encode::write_uint(frame, number).expect(INTO_MEMORY);
    } else {
        write_float(frame, number as f64);
    }
}

pub(crate) fn write_float(frame: &mut Vec<u8>, number: f64) {
    encode::write_f64(frame, number).expect(INTO_MEMORY);
}

pub(crate) fn write_signed(frame: &mut Vec<u8>, number: i32) {
    encode::write_sint(frame, number.into()).expect(INTO_MEMORY);
}

pub(crate) fn write_bool(frame: &mut Vec<u8>, value: bool) {
    encode::write_bool(frame, value).expect(INTO_MEMORY);
}

pub(crate) fn write_nil(frame: &mut Vec<u8>) {
    encode::write_nil(frame).expect(INTO_MEMORY);
}

pub(crate) fn write_text(frame: &mut Vec<u8>, text: &str) {
    encode::write_str(frame, text).expect(INTO_MEMORY);
}

pub(crate) fn write_bytes(frame: &mut Vec<u8>, bytes: &[u8]) {
    encode::write_bin(frame, bytes).expect(INTO_MEMORY);
}

pub(crate) fn write_map(frame: &mut Vec<u8>, members: u32) {
    encode::write_map_len(frame, members).expect(INTO_MEMORY);
}

pub(crate) fn write_list(frame: &mut Vec<u8>, items: usize) {
    let items =
        u32::try_from(items).expect("a list that is held in memory has less than 2^32 items");
    encode::write_array_len(frame, items).expect(INTO_MEMORY);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;

    fn packed(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    fn value(frame: &[u8]) -> Value {
        rmpv::decode::read_value(&mut &frame[..]).unwrap()
    }

    #[test]
    fn a_frame_of_the_web_client_is_understood() {
        // `[0, 0, "StopMedia", {"media_id": 200}]` with the map16 head that the client writes.
        let mut frame = vec![0x94, 0, 0, 0xa9];
        frame.extend(b"StopMedia");
        frame.extend([0xde, 0, 1, 0xa8]);
        frame.extend(b"media_id");
        frame.extend([0xcc, 200]);
        let request = Request::parse(&frame).unwrap();
        assert_eq!((request.id, request.method), (0, "StopMedia"));
        assert_eq!(request.params.find("media_id").and_then(whole), Some(200));
        assert_eq!(request.params.find("other"), None);
    }

    #[test]
    fn what_is_no_request_is_told_apart_from_garbage() {
        let request = |items: Vec<Value>| packed(&Value::Array(items));
        let [zero, name, map] = [Value::from(0), Value::from("x"), Value::Map(Vec::new())];
        for (frame, error) in [
            (vec![], FrameError::Garbage),
            (vec![0xc1], FrameError::NoRequest),
            (vec![0x94, 0, 0], FrameError::Garbage),
            (vec![0x91; 500], FrameError::Garbage),
            (vec![0xdd, 0xff, 0xff, 0xff, 0xff], FrameError::Garbage),
            (vec![0; FRAME_BYTES_MAX + 1], FrameError::Garbage),
            (vec![0x05], FrameError::NoRequest),
            (request(vec![zero.clone()]), FrameError::NoRequest),
            (
                request(vec![2.into(), zero.clone(), name.clone(), map.clone()]),
                FrameError::NoRequest,
            ),
            (
                request(vec![zero.clone(), (-1).into(), name.clone(), map.clone()]),
                FrameError::NoRequest,
            ),
        ] {
            assert_eq!(Request::parse(&frame), Err(error));
        }
        for (method, params) in [(Value::from(1), map), (name, Value::from(1))] {
            let frame = request(vec![zero.clone(), 7.into(), method, params]);
            let error = Request::parse(&frame).unwrap_err();
            assert!(
                matches!(error, FrameError::Request { id: 7, .. }),
                "{error:?}"
            );
        }
        let trailing = [request(vec![zero]), vec![0]].concat();
        assert_eq!(Request::parse(&trailing), Err(FrameError::Garbage));
    }

    #[test]
    fn answers_have_the_form_that_the_client_takes() {
        let rooms = ["a".to_owned(), "b".to_owned()];
        for (reply, error, result) in [
            (Reply::Done, Value::Nil, Value::Map(Vec::new())),
            (Reply::Error("no"), "no".into(), Value::Nil),
            (
                Reply::Text("sdp", "v=0"),
                Value::Nil,
                Value::Map(vec![("sdp".into(), "v=0".into())]),
            ),
            (
                Reply::Members(&[("stream_id", "a"), ("resume_key", "b")]),
                Value::Nil,
                Value::Map(vec![
                    ("stream_id".into(), "a".into()),
                    ("resume_key".into(), "b".into()),
                ]),
            ),
            (
                Reply::Texts("room_ids", &rooms),
                Value::Nil,
                Value::Map(vec![(
                    "room_ids".into(),
                    Value::Array(vec!["a".into(), "b".into()]),
                )]),
            ),
        ] {
            let frame = answer(300, &reply);
            let wanted = Value::Array(vec![1.into(), 300.into(), error, result]);
            assert_eq!(value(&frame), wanted);
        }
        let large = answer(1 << 40, &Reply::Done);
        assert!(
            value(&large)[1].is_f64(),
            "the client refuses 64-bit integers"
        );
    }

    #[test]
    fn numbers_may_be_floats_when_they_are_whole() {
        for (number, wanted) in [
            (ValueRef::F64(5.0), Some(5)),
            (ValueRef::F64(4_294_967_296.0), Some(1 << 32)),
            (ValueRef::F64(5.5), None),
            (ValueRef::F64(-1.0), None),
            (ValueRef::F64(f64::NAN), None),
            (ValueRef::F64(1e300), None),
            (ValueRef::Nil, None),
        ] {
            assert_eq!(whole(&number), wanted, "{number:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn a_truncated_request_is_garbage(cut in 1..20_usize) {
            let frame = packed(&Value::Array(vec![0.into(), 1.into(), "Method".into(), Value::Map(vec![("a".into(), "bcd".into())])]));
            let frame = &frame[..frame.len() - cut.min(frame.len())];
            prop_assert_eq!(Request::parse(frame), Err(FrameError::Garbage));
        }
    }
}
