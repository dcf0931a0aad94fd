//! The batches of game servers as JSON: where users are, and who does not hear whom.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sfu_core::{
    Position,
    limits::{NAME_BYTES_MAX, REASON_BYTES_MAX},
};

use crate::control::{Direction, MUTE_TIME_MAX, MuteOrder};

/// Users whose places, and mutes and unmutes, that one batch may name: all of a large match, each of them once.
const BATCH_MAX: usize = 4_096;

/// A batch, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    /// The room; needed when the token opens several.
    pub(super) room_id: Option<String>,
    /// What the answer is to repeat.
    pub(super) id: Option<Value>,
    pub(super) direction: Direction,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    room_id: Option<String>,
    id: Option<Value>,
    positions: Option<BTreeMap<String, Option<Vec<f64>>>>,
    #[serde(default)]
    mutes: Vec<MuteBody>,
    #[serde(default)]
    unmutes: Vec<UnmuteBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuteBody {
    user_id: String,
    listener_id: Option<String>,
    /// Seconds.
    mute_time: Option<f64>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnmuteBody {
    user_id: String,
    listener_id: Option<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Value>,
    /// Peers that are in, of the users in `positions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) present: Option<usize>,
    /// Users in `positions` that are not remembered until they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forgotten: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Answer {
    pub(super) fn refused(id: Option<Value>, error: impl Into<String>) -> Self {
        Self {
            id,
            present: None,
            forgotten: None,
            error: Some(error.into()),
        }
    }
}

impl Batch {
    /// Understands a batch.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let places = body.positions.as_ref().map_or(0, BTreeMap::len);
        let lists = [
            ("positions", places),
            ("mutes", body.mutes.len()),
            ("unmutes", body.unmutes.len()),
        ];
        if let Some((name, _)) = lists.into_iter().find(|(_, length)| *length > BATCH_MAX) {
            return Err(format!("{name} has more than {BATCH_MAX} entries"));
        }
        let positions = body.positions.map(|positions| {
            let place = |(user_id, coordinates)| place(user_id, coordinates);
            positions.into_iter().map(place).collect()
        });
        let mutes = body.mutes.into_iter().enumerate();
        let unmutes = body.unmutes.into_iter().enumerate();
        Ok(Self {
            room_id: body.room_id,
            id: body.id,
            direction: Direction {
                positions: positions.transpose()?,
                mutes: mutes
                    .map(|(at, it)| mute(at, it))
                    .collect::<Result<_, _>>()?,
                unmutes: unmutes
                    .map(|(at, it)| unmute(at, it))
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}

fn place(
    user_id: String,
    coordinates: Option<Vec<f64>>,
) -> Result<(Arc<str>, Option<Position>), String> {
    check_name("positions", &user_id)?;
    let Some(coordinates) = coordinates else {
        return Ok((Arc::from(user_id), None));
    };
    let place = match *coordinates {
        [x, y] => Position::new([x, y, 0.0]),
        [x, y, z] => Position::new([x, y, z]),
        _ => None,
    };
    match place {
        Some(place) => Ok((Arc::from(user_id), Some(place))),
        None => Err(format!(
            "positions: {user_id:?} must have two or three finite numbers, or null"
        )),
    }
}

fn mute(at: usize, body: MuteBody) -> Result<MuteOrder, String> {
    let list = format!("mutes[{at}]");
    check_name(&list, &body.user_id)?;
    if let Some(listener_id) = &body.listener_id {
        check_name(&list, listener_id)?;
    }
    if body.reason.len() > REASON_BYTES_MAX {
        return Err(format!(
            "{list}: reason has more than {REASON_BYTES_MAX} bytes"
        ));
    }
    let time = match body.mute_time {
        None => MUTE_TIME_MAX,
        Some(seconds) if seconds > 0.0 && seconds <= MUTE_TIME_MAX.as_secs_f64() => {
            Duration::from_secs_f64(seconds)
        }
        Some(_) => {
            return Err(format!(
                "{list}: mute_time must be more than 0 and at most 315360000 seconds (ten years); unmutes end a mute"
            ));
        }
    };
    Ok(MuteOrder {
        user_id: body.user_id,
        listener_id: body.listener_id,
        time,
        reason: body.reason,
    })
}

fn unmute(at: usize, body: UnmuteBody) -> Result<(String, Option<String>), String> {
    let list = format!("unmutes[{at}]");
    check_name(&list, &body.user_id)?;
    if let Some(listener_id) = &body.listener_id {
        check_name(&list, listener_id)?;
    }
    Ok((body.user_id, body.listener_id))
}

fn check_name(list: &str, name: &str) -> Result<(), String> {
    match name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(format!(
            "{list}: a user id has more than {NAME_BYTES_MAX} bytes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<Batch, String> {
        Batch::parse(body.to_string().as_bytes())
    }

    #[test]
    fn a_batch_says_where_users_are_and_who_does_not_hear_whom() {
        let batch = parse(&json!({
            "room_id": "a", "id": 7,
            "positions": {"alice": [1, 0.5], "bob": [0, 0, -2], "carol": null},
            "mutes": [
                {"user_id": "bob", "listener_id": "alice", "mute_time": 1.5, "reason": "dead"},
                {"user_id": "carol"},
            ],
            "unmutes": [{"user_id": "alice"}, {"user_id": "bob", "listener_id": "carol"}],
        }));
        let Batch {
            room_id,
            id,
            direction,
        } = batch.unwrap();
        assert_eq!((room_id.as_deref(), id), (Some("a"), Some(json!(7))));
        let place =
            |name: &str, at: Option<[f64; 3]>| (Arc::from(name), at.and_then(Position::new));
        let places = vec![
            place("alice", Some([1.0, 0.5, 0.0])),
            place("bob", Some([0.0, 0.0, -2.0])),
            place("carol", None),
        ];
        assert_eq!(direction.positions, Some(places));
        let [first, second] = &direction.mutes[..] else {
            panic!("two mutes");
        };
        assert_eq!(
            (first.listener_id.as_deref(), first.time, &*first.reason),
            (Some("alice"), Duration::from_millis(1500), "dead")
        );
        assert_eq!(
            (second.listener_id.as_deref(), second.time),
            (None, MUTE_TIME_MAX)
        );
        assert_eq!(direction.unmutes.len(), 2);
        let nothing = parse(&json!({})).unwrap().direction;
        assert_eq!(nothing, Direction::default());
        let hide = parse(&json!({"positions": {}})).unwrap().direction;
        assert_eq!(hide.positions, Some(vec![]), "an empty list is one");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let many: Vec<_> = (0..=BATCH_MAX)
            .map(|at| json!({"user_id": at.to_string()}))
            .collect();
        for (body, wanted) in [
            (
                json!({"positions": {"bob": [1]}}),
                "positions: \"bob\" must have two or three",
            ),
            (
                json!({"positions": {"bob": [1, "a"]}}),
                "invalid type: string \"a\"",
            ),
            (json!({"positions": {&long: null}}), "more than 1024 bytes"),
            (json!({"position": {}}), "unknown field `position`"),
            (
                json!({"mutes": [{"user_id": "a"}, {"user_id": "b", "mute_time": 0}]}),
                "mutes[1]: mute_time",
            ),
            (
                json!({"mutes": [{"user_id": "b", "mute_time": 1e300}]}),
                "mutes[0]: mute_time",
            ),
            (
                json!({"mutes": [{"user_id": "b", "reason": long}]}),
                "mutes[0]: reason",
            ),
            (
                json!({"mutes": [{"listener_id": "b"}]}),
                "missing field `user_id`",
            ),
            (
                json!({"unmutes": many}),
                "unmutes has more than 4096 entries",
            ),
            (json!([]), "line 1 column"),
        ] {
            let error = parse(&body).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
        let infinite = br#"{"positions": {"bob": [1e999, 0]}}"#;
        assert!(Batch::parse(infinite).unwrap_err().contains("out of range"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_batch_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Batch::parse(&bytes);
        }

        #[test]
        fn any_members_are_a_batch_or_an_error(
            positions in "(null|\\{\\}|\\{\"a\":(null|7|\\[(1|-2|1e308|\"x\")(,(3|null)){0,3}\\])\\}|[0-9])",
            mutes in "(\\[\\]|null|\\[\\{\"user_id\":(\"b\"|7)(,\"(mute_time|reason|listener_id)\":(1|-1|1e308|null|\"c\")){0,3}\\}\\])",
        ) {
            let _ = Batch::parse(format!(r#"{{"positions":{positions},"mutes":{mutes}}}"#).as_bytes());
        }
    }
}
