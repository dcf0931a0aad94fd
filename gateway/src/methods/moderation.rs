//! `RoomClose`, `RoomUpdate`, `RoomBanClient` and `RoomSendMessage`: words for a room's server.

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

/// Longest ban, in seconds: ten years.
const BAN_SECONDS_MAX: f64 = 315_360_000.0;

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
    if name.len() > NAME_BYTES_MAX {
        fields.custom(&[json!(field)], "Longer than 1024 bytes");
    }
    name
}

fn ban_time(fields: &mut Fields<'_>) -> Span {
    let seconds = fields.optional_number("ban_time").unwrap_or_default();
    if !(0.0..=BAN_SECONDS_MAX).contains(&seconds) {
        let text = "Expected seconds from 0 to 315360000 (ten years)";
        fields.custom(&[json!("ban_time")], text);
        return Span::default();
    }
    Duration::from_secs_f64(seconds).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, params: &serde_json::Value) -> Result<Task, RpcError> {
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
        let close = |time: serde_json::Value| {
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
    }
}
