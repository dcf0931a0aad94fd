//! What a gateway asks of a voice server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::room::RoomId;

/// A length of time as JSON `{secs, nanos}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Whole seconds.
    pub secs: u64,
    /// The rest in nanoseconds. A billion and more is carried over into the seconds.
    pub nanos: u32,
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self {
            secs: duration.as_secs(),
            nanos: duration.subsec_nanos(),
        }
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_secs(span.secs).saturating_add(Self::from_nanos(span.nanos.into()))
    }
}

/// A piece of moderation, in the words of the room's server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task")]
pub enum Task {
    /// Remove every peer, and let nobody join for a time.
    RoomClose {
        /// The room.
        id: RoomId,
        /// How long it stays shut.
        ban_time: Span,
    },
    /// Replace the room's user data.
    RoomUpdate {
        /// The room.
        id: RoomId,
        /// The data.
        user_data: Vec<u8>,
    },
    /// Remove the peers of a user, and do not let the user join for a time.
    RoomBanClient {
        /// The room.
        id: RoomId,
        /// The user, as tokens give it in `uid`.
        user_id: String,
        /// How long the user is kept out; 0 only removes the peers.
        ban_time: Span,
    },
    /// Send bytes to the peers of a user.
    RoomSendMessage {
        /// The room.
        id: RoomId,
        /// The user, as tokens give it in `uid`.
        user_id: String,
        /// The bytes.
        message: Vec<u8>,
    },
    /// An extension: let nobody hear a user, or one other user not. A later one about the same two counts instead.
    RoomMuteClient {
        /// The room.
        id: RoomId,
        /// Who is not heard, as tokens give it in `uid`.
        user_id: String,
        /// Who does not hear; everybody when it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener_id: Option<String>,
        /// How long.
        mute_time: Span,
        /// Why, for whoever looks at it later; may be empty.
        reason: String,
    },
    /// An extension: take a [`Self::RoomMuteClient`] about the same two back.
    RoomUnmuteClient {
        /// The room.
        id: RoomId,
        /// Who is heard again.
        user_id: String,
        /// Who hears again; left out, it takes back what was said of everybody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener_id: Option<String>,
    },
}

impl Task {
    /// The room it is about.
    pub fn room(&self) -> &RoomId {
        match self {
            Self::RoomClose { id, .. }
            | Self::RoomUpdate { id, .. }
            | Self::RoomBanClient { id, .. }
            | Self::RoomSendMessage { id, .. }
            | Self::RoomMuteClient { id, .. }
            | Self::RoomUnmuteClient { id, .. } => id,
        }
    }

    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RoomClose { .. } => "RoomClose",
            Self::RoomUpdate { .. } => "RoomUpdate",
            Self::RoomBanClient { .. } => "RoomBanClient",
            Self::RoomSendMessage { .. } => "RoomSendMessage",
            Self::RoomMuteClient { .. } => "RoomMuteClient",
            Self::RoomUnmuteClient { .. } => "RoomUnmuteClient",
        }
    }
}

/// A task on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedTask {
    /// What to do.
    #[serde(flatten)]
    pub task: Task,
    /// An extension, only there for servers that acknowledge: its number, larger than that of every task before it,
    /// also after a restart of the gateway. A server skips a task it has carried out before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room() -> RoomId {
        ("ns".to_owned(), "room".to_owned()).into()
    }

    #[test]
    fn a_task_has_the_form_that_servers_know() {
        let task = Task::RoomBanClient {
            id: room(),
            user_id: "bob".to_owned(),
            ban_time: Duration::from_millis(1500).into(),
        };
        let plain = QueuedTask {
            task,
            task_id: None,
        };
        let text = r#"{"task":"RoomBanClient","id":["ns","room"],"user_id":"bob","ban_time":{"secs":1,"nanos":500000000}}"#;
        assert_eq!(serde_json::to_string(&plain).unwrap(), text);
        assert_eq!(serde_json::from_str::<QueuedTask>(text).unwrap(), plain);
        let numbered = QueuedTask {
            task_id: Some(7),
            ..plain
        };
        let json = serde_json::to_value(&numbered).unwrap();
        assert_eq!(json["task_id"], 7);
        assert_eq!(
            serde_json::from_value::<QueuedTask>(json).unwrap(),
            numbered
        );
    }

    #[test]
    fn a_mute_is_about_everybody_unless_it_names_a_listener() {
        let mute = |listener_id: Option<&str>| Task::RoomMuteClient {
            id: room(),
            user_id: "bob".to_owned(),
            listener_id: listener_id.map(str::to_owned),
            mute_time: Duration::from_secs(60).into(),
            reason: "noise".to_owned(),
        };
        let unmute = |listener_id: Option<&str>| Task::RoomUnmuteClient {
            id: room(),
            user_id: "bob".to_owned(),
            listener_id: listener_id.map(str::to_owned),
        };
        for (task, text) in [
            (
                mute(None),
                r#"{"task":"RoomMuteClient","id":["ns","room"],"user_id":"bob","mute_time":{"secs":60,"nanos":0},"reason":"noise"}"#,
            ),
            (
                mute(Some("eve")),
                r#"{"task":"RoomMuteClient","id":["ns","room"],"user_id":"bob","listener_id":"eve","mute_time":{"secs":60,"nanos":0},"reason":"noise"}"#,
            ),
            (
                unmute(None),
                r#"{"task":"RoomUnmuteClient","id":["ns","room"],"user_id":"bob"}"#,
            ),
            (
                unmute(Some("eve")),
                r#"{"task":"RoomUnmuteClient","id":["ns","room"],"user_id":"bob","listener_id":"eve"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&task).unwrap(), text);
            assert_eq!(serde_json::from_str::<Task>(text).unwrap(), task);
        }
    }

    #[test]
    fn a_byte_that_is_none_is_refused() {
        for byte in ["256", "-1", "1.5", "\"a\""] {
            let text = format!(r#"{{"task":"RoomUpdate","id":["n","r"],"user_data":[{byte}]}}"#);
            assert!(serde_json::from_str::<QueuedTask>(&text).is_err(), "{byte}");
        }
    }

    #[test]
    fn a_span_of_any_size_is_a_duration() {
        let span = Span {
            secs: u64::MAX,
            nanos: u32::MAX,
        };
        assert_eq!(Duration::from(span), Duration::MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_task_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<QueuedTask>(&bytes);
        }

        #[test]
        fn any_members_are_a_task_or_an_error(
            name in "Room(Close|Update|BanClient|SendMessage|MuteClient|UnmuteClient|Other)",
            id in "(\\[\"a\",\"b\"\\]|\\[\\]|null|7)",
            rest in "(,\"(ban_time|mute_time|user_data|user_id|listener_id|reason|message|task_id)\":(null|7|-1|\\[1,2\\]|\"x\"|\\{\"secs\":1,\"nanos\":4294967295\\})){0,4}",
        ) {
            let text = format!(r#"{{"task":"{name}","id":{id}{rest}}}"#);
            if let Ok(task) = serde_json::from_str::<QueuedTask>(&text) {
                let again = serde_json::to_string(&task).unwrap();
                prop_assert_eq!(serde_json::from_str::<QueuedTask>(&again).unwrap(), task);
            }
        }
    }
}
