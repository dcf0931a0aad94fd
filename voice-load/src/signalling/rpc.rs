//! MessagePack-RPC as voice servers speak it: requests, answers and what the server tells.

use anyhow::{Result, bail, ensure};
use rmpv::Value;

/// A frame of the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// The answer to a request: what it gave, or the server's reason.
    Answer(u64, Result<Value, String>),
    /// Updates, in their order.
    Updates(Vec<Value>),
}

impl Frame {
    /// # Errors
    /// When it is no frame of a voice server.
    pub(crate) fn read(mut bytes: &[u8]) -> Result<Self> {
        let value = rmpv::decode::read_value(&mut bytes)?;
        ensure!(bytes.is_empty(), "bytes behind a frame");
        match value.as_array().map(Vec::as_slice) {
            Some([kind, id, error, result]) if kind.as_u64() == Some(1) => {
                let Some(id) = id.as_u64() else {
                    bail!("an answer without a number");
                };
                let answer = match error.is_nil() {
                    true => Ok(result.clone()),
                    false => Err(error.to_string()),
                };
                Ok(Self::Answer(id, answer))
            }
            Some([kind, _, params]) if kind.as_u64() == Some(2) => {
                let updates = match params["updates"].as_array() {
                    Some(updates) => updates.clone(),
                    None => vec![params.clone()],
                };
                Ok(Self::Updates(updates))
            }
            _ => bail!("neither an answer nor a notification"),
        }
    }
}

/// A request.
pub(crate) fn request(id: u64, method: &str, params: Value) -> Vec<u8> {
    let request = Value::Array(vec![0.into(), id.into(), method.into(), params]);
    let mut frame = Vec::new();
    rmpv::encode::write_value(&mut frame, &request).expect("memory takes everything");
    frame
}

/// Params.
pub(crate) fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    let member = |(name, value): (&str, Value)| (Value::from(name), value);
    Value::Map(members.into_iter().map(member).collect())
}

/// Params of `SetPeerPosition`.
pub(crate) fn position(place: [f64; 3]) -> Value {
    map([("position", place.iter().copied().map(Value::from).collect())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(value: &Value) -> Result<Frame> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        Frame::read(&bytes)
    }

    #[test]
    fn frames_are_answers_or_updates() {
        let answer = Value::Array(vec![1.into(), 7.into(), Value::Nil, 3.into()]);
        assert_eq!(frame(&answer).unwrap(), Frame::Answer(7, Ok(3.into())));
        let refused = Value::Array(vec![1.into(), 7.into(), "no".into(), Value::Nil]);
        let Frame::Answer(7, Err(why)) = frame(&refused).unwrap() else {
            panic!("an answer")
        };
        assert!(why.contains("no"));
        let updates = map([("updates", Value::Array(vec![1.into(), 2.into()]))]);
        let told = Value::Array(vec![2.into(), "RoomUpdated".into(), updates]);
        assert_eq!(
            frame(&told).unwrap(),
            Frame::Updates(vec![1.into(), 2.into()])
        );
        let single = map([("kind", "x".into())]);
        let told = Value::Array(vec![2.into(), "PeerUpdated".into(), single.clone()]);
        assert_eq!(frame(&told).unwrap(), Frame::Updates(vec![single]));
        for wrong in [
            Value::Nil,
            Value::Array(vec![1.into()]),
            Value::Array(vec![]),
        ] {
            assert!(frame(&wrong).is_err(), "{wrong}");
        }
        assert!(Frame::read(&[0xc0, 0xc0]).is_err());
    }
}
