//! `RoomClose`, `RoomUpdate`, `RoomBanClient`, `RoomSendMessage`, and ours, `RoomMuteClient` and `RoomUnmuteClient`: words
//! for a room's server.

use std::time::Duration;

use gateway_api::{Names, RoomId, Span, Task};
use serde_json::json;

use super::{
    Caller, Method,
    identity::{Identity, NAME_BYTES_MAX},
    schema::Fields,
};
use crate::{
    auth::Licensee,
    config::RoomMatch,
    error::RpcError,
    grid::{Action, Outcome},
    rpc::{CallResult, Params},
    state::Gateway,
};

/// Longest ban and longest mute, in seconds: ten years.
const SECONDS_MAX: f64 = 315_360_000.0;

/// Longest reason for a mute, in bytes: a sentence or two. It is kept in memory and handed to other gateways.
const REASON_BYTES_MAX: usize = 256;

pub(super) async fn moderate(
    gateway: &Gateway,
    caller: &Caller,
    licensee: &Licensee,
    method: Method,
    params: &Params,
) -> CallResult {
    let identity = Identity::read(&licensee.claims)?;
    let task = task(method, params, &licensee.namespace)?;
    let room = &task.room().name;
    if !opens(&identity.rooms, room, gateway.config.room_match) {
        let text = "room_id param does not match rid in authorization token";
        return Err(RpcError::refused(text));
    }
    let action = Action::Moderate {
        pool: caller.pool.clone(),
        task,
    };
    match gateway.store.submit(action).await {
        Outcome::Moderated(Ok(())) => Ok(json!({})),
        Outcome::Moderated(Err(refused)) => Err(refused.into()),
        Outcome::Connected(_) | Outcome::Tasks(_) | Outcome::Done => Err(RpcError::internal(None)),
    }
}

/// Of a list only the first room counts, as in the ODIN gateway.
fn opens(rid: &Names, room: &str, rule: RoomMatch) -> bool {
    let Some(first) = rid.as_slice().first() else {
        return false;
    };
    match rule {
        RoomMatch::Exact => room == first,
        RoomMatch::Prefix => room.starts_with(first),
    }
}

fn task(method: Method, params: &Params, namespace: &str) -> Result<Task, RpcError> {
    let mut fields = Fields::of(params);
    let id = RoomId {
        namespace: namespace.to_owned(),
        name: name(&mut fields, "room_id"),
    };
    let task = match method {
        Method::RoomUpdate => Task::RoomUpdate {
            id,
            user_data: fields.bytes("user_data"),
        },
        Method::RoomBanClient => Task::RoomBanClient {
            id,
            user_id: name(&mut fields, "user_id"),
            ban_time: ban_time(&mut fields),
        },
        Method::RoomSendMessage => Task::RoomSendMessage {
            id,
            user_id: name(&mut fields, "user_id"),
            message: fields.bytes("message"),
        },
        Method::RoomMuteClient => Task::RoomMuteClient {
            id,
            user_id: name(&mut fields, "user_id"),
            listener_id: optional_name(&mut fields, "listener_id"),
            mute_time: mute_time(&mut fields),
            reason: reason(&mut fields),
        },
        Method::RoomUnmuteClient => Task::RoomUnmuteClient {
            id,
            user_id: name(&mut fields, "user_id"),
            listener_id: optional_name(&mut fields, "listener_id"),
        },
        _ => Task::RoomClose {
            id,
            ban_time: ban_time(&mut fields),
        },
    };
    fields.finish()?;
    Ok(task)
}

fn name(fields: &mut Fields<'_>, field: &str) -> String {
    let name = fields.string(field);
    check_name(fields, field, &name);
    name
}

fn optional_name(fields: &mut Fields<'_>, field: &str) -> Option<String> {
    let name = fields.optional_string(field);
    check_name(fields, field, name.as_deref().unwrap_or_default());
    name
}

fn check_name(fields: &mut Fields<'_>, field: &str, name: &str) {
    if name.len() > NAME_BYTES_MAX {
        fields.custom(&[json!(field)], "Longer than 1024 bytes");
    }
}

fn reason(fields: &mut Fields<'_>) -> String {
    let reason = fields.optional_string("reason").unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        fields.custom(&[json!("reason")], "Longer than 256 bytes");
    }
    reason
}

fn ban_time(fields: &mut Fields<'_>) -> Span {
    let seconds = fields.optional_number("ban_time").unwrap_or_default();
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        let text = "Expected seconds from 0 to 315360000 (ten years)";
        fields.custom(&[json!("ban_time")], text);
        return Span::default();
    }
    Duration::from_secs_f64(seconds).into()
}

/// Without a time a mute lasts until it is taken back, which is for the longest time.
fn mute_time(fields: &mut Fields<'_>) -> Span {
    let seconds = fields.nullable_number("mute_time").unwrap_or(SECONDS_MAX);
    let time = match (0.0..=SECONDS_MAX).contains(&seconds) {
        true => Duration::from_secs_f64(seconds),
        false => Duration::ZERO,
    };
    if time.is_zero() {
        let text = "Expected more than 0 and at most 315360000 seconds (ten years); RoomUnmuteClient takes a mute back";
        fields.custom(&[json!("mute_time")], text);
    }
    time.into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(method: Method, params: &Value) -> Result<Task, RpcError> {
        task(method, params.as_object().unwrap(), "ns")
    }

    #[test]
    fn a_room_opens_for_its_own_token_only() {
        let one: Names = "room".into();
        assert!(opens(&one, "room", RoomMatch::Exact));
        assert!(!opens(&one, "room-2", RoomMatch::Exact));
        assert!(opens(&one, "room-2", RoomMatch::Prefix));
        assert!(!opens(&one, "a-room", RoomMatch::Prefix));
        let list = Names::Many(vec!["a".to_owned(), "b".to_owned()]);
        assert!(opens(&list, "a", RoomMatch::Exact));
        assert!(!opens(&list, "b", RoomMatch::Exact));
        let none = Names::Many(Vec::new());
        assert!(!opens(&none, "undefined", RoomMatch::Prefix));
    }

    #[test]
    fn a_ban_lasts_from_nothing_to_ten_years() {
        let close = |time: Value| {
            read(
                Method::RoomClose,
                &json!({"room_id": "r", "ban_time": time}),
            )
        };
        let Ok(Task::RoomClose { ban_time, .. }) = close(json!(1.5)) else {
            panic!("not a RoomClose");
        };
        assert_eq!((ban_time.secs, ban_time.nanos), (1, 500_000_000));
        for time in [json!(-2), json!(315_360_001), json!(1e300), json!("5")] {
            assert!(close(time.clone()).is_err(), "{time}");
        }
        assert!(close(json!(0)).is_ok());
    }

    #[test]
    fn names_have_a_longest_length() {
        let long = "x".repeat(1025);
        let params = json!({"room_id": "r", "user_id": long, "message": []});
        assert!(read(Method::RoomSendMessage, &params).is_err());
        for (user, listener) in [(&*long, "b"), ("a", &*long)] {
            let params = json!({"room_id": "r", "user_id": user, "listener_id": listener});
            for method in [Method::RoomMuteClient, Method::RoomUnmuteClient] {
                assert!(read(method, &params).is_err(), "{method:?}");
            }
        }
    }

    /// A mute with this member.
    fn mute(name: &str, value: Value) -> Result<Task, RpcError> {
        let mut params = json!({"room_id": "r", "user_id": "bob"});
        params[name] = value;
        read(Method::RoomMuteClient, &params)
    }

    #[test]
    fn a_mute_lasts_for_its_time_or_until_it_is_taken_back() {
        let time = |value: Value| match mute("mute_time", value) {
            Ok(Task::RoomMuteClient { mute_time, .. }) => Duration::from(mute_time),
            other => panic!("{other:?}"),
        };
        assert_eq!(time(json!(1.5)), Duration::from_millis(1500));
        assert_eq!(time(json!(null)), Duration::from_secs(315_360_000));
        for value in [
            json!(0),
            json!(1e-12),
            json!(-2),
            json!(315_360_001),
            json!(1e300),
        ] {
            let error = mute("mute_time", value.clone()).unwrap_err();
            assert!(error.message.contains("RoomUnmuteClient"), "{value}");
        }
        assert!(mute("mute_time", json!("5")).is_err());
    }

    #[test]
    fn what_a_mute_may_leave_out_has_a_default() {
        let params = json!({"room_id": "r", "user_id": "bob"});
        let wanted = Task::RoomMuteClient {
            id: ("ns".to_owned(), "r".to_owned()).into(),
            user_id: "bob".to_owned(),
            listener_id: None,
            mute_time: Duration::from_secs(315_360_000).into(),
            reason: String::new(),
        };
        assert_eq!(read(Method::RoomMuteClient, &params).unwrap(), wanted);
    }

    #[test]
    fn a_reason_has_a_longest_length() {
        assert!(mute("reason", json!("x".repeat(256))).is_ok());
        assert!(mute("reason", json!("x".repeat(257))).is_err());
    }

    #[test]
    fn a_listener_that_is_no_text_does_not_stand_for_everybody() {
        for method in [Method::RoomMuteClient, Method::RoomUnmuteClient] {
            for listener in [json!(null), json!(7)] {
                let params = json!({"room_id": "r", "user_id": "bob", "listener_id": listener});
                assert!(read(method, &params).is_err(), "{method:?} {listener}");
            }
        }
    }
}
