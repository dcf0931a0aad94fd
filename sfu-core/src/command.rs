//! What a client may ask, on its main stream and in a room.

use bytes::Bytes;
use rmpv::ValueRef;

use crate::{
    id::{MediaId, PeerId},
    limits::{
        MESSAGE_BYTES_MAX, NAME_BYTES_MAX, PROPERTIES_BYTES_MAX, RESUME_KEY_BYTES_MAX,
        SDP_BYTES_MAX, TOKEN_BYTES_MAX, USER_DATA_BYTES_MAX,
    },
    room::Position,
    wire::rpc::{self, Request, whole},
};

/// A command on the main stream.
#[derive(Clone, Debug, PartialEq)]
pub enum MainCommand {
    /// Who the client is.
    Authenticate {
        /// Signed by a gateway or by a customer.
        token: String,
    },
    /// Begin the connection for voice.
    SetupWebRtc {
        /// The client's offer.
        sdp: String,
    },
    /// Prepare to enter a room; the room's own stream then does.
    JoinRoom {
        /// The room's name.
        room_id: String,
        /// The peer's user data.
        user_data: Bytes,
        /// Where the peer is.
        position: Position,
        /// Whether the peer's place is to be kept when its connection is lost.
        resumable: bool,
    },
    /// Prepare to go on as a peer whose connection was lost.
    ResumeRoom {
        /// The room's name.
        room_id: String,
        /// What the answer to `JoinRoom` or `ResumeRoom` gave; a secret.
        resume_key: String,
    },
}

/// A command of a peer in a room.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Begin to talk.
    StartMedia {
        /// One of the peer's own.
        media: MediaId,
        /// What others are told of it: an encoded map.
        properties: Bytes,
    },
    /// End talking.
    StopMedia {
        /// One of the peer's own.
        media: MediaId,
    },
    /// Do not send me this media.
    PauseMedia {
        /// One of another peer.
        media: MediaId,
    },
    /// Send me this media again.
    ResumeMedia {
        /// One of another peer.
        media: MediaId,
    },
    /// Replace the peer's user data.
    UpdatePeer {
        /// The data.
        user_data: Bytes,
    },
    /// Replace the room's user data.
    UpdateRoom {
        /// The data.
        user_data: Bytes,
    },
    /// The peer is somewhere else.
    SetPeerPosition {
        /// Where.
        position: Position,
    },
    /// Send bytes to other peers.
    SendMessage {
        /// The bytes.
        message: Bytes,
        /// To whom; `None` is everybody else in the room, near or far.
        targets: Option<Vec<PeerId>>,
    },
}

/// Why a command is refused. Clients show the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The client knows exactly this text.
    #[error("unknown method")]
    UnknownMethod,
    /// A parameter is missing or malformed.
    #[error("invalid params: {name} {problem}")]
    Params {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The media is not one that this peer may name here.
    #[error("media not found")]
    UnknownMedia,
    /// The peer has left the room.
    #[error("not in this room")]
    UnknownPeer,
}

const REQUIRED: &str = "is missing";
const NO_NUMBER: &str = "is no such number";

impl MainCommand {
    /// Its name on the wire.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Authenticate { .. } => "Authenticate",
            Self::SetupWebRtc { .. } => "SetupWebRtc",
            Self::JoinRoom { .. } => "JoinRoom",
            Self::ResumeRoom { .. } => "ResumeRoom",
        }
    }

    /// Understands a call.
    ///
    /// # Errors
    /// [`CommandError::UnknownMethod`] and [`CommandError::Params`].
    pub fn parse(request: &Request<'_>) -> Result<Self, CommandError> {
        let params = &request.params;
        let command = match request.method {
            "Authenticate" => Self::Authenticate {
                token: text(params, "token", TOKEN_BYTES_MAX)?,
            },
            "SetupWebRtc" => Self::SetupWebRtc {
                sdp: text(params, "sdp", SDP_BYTES_MAX)?,
            },
            "JoinRoom" => Self::JoinRoom {
                room_id: text(params, "room_id", NAME_BYTES_MAX)?,
                user_data: optional_bytes(params, "user_data", USER_DATA_BYTES_MAX)?
                    .unwrap_or_default(),
                position: optional_position(params)?.unwrap_or_default(),
                resumable: optional_flag(params, "resumable")?.unwrap_or_default(),
            },
            "ResumeRoom" => Self::ResumeRoom {
                room_id: text(params, "room_id", NAME_BYTES_MAX)?,
                resume_key: text(params, "resume_key", RESUME_KEY_BYTES_MAX)?,
            },
            _ => return Err(CommandError::UnknownMethod),
        };
        Ok(command)
    }
}

impl Command {
    /// Its name on the wire.
    pub fn method(&self) -> &'static str {
        match self {
            Self::StartMedia { .. } => "StartMedia",
            Self::StopMedia { .. } => "StopMedia",
            Self::PauseMedia { .. } => "PauseMedia",
            Self::ResumeMedia { .. } => "ResumeMedia",
            Self::UpdatePeer { .. } => "UpdatePeer",
            Self::UpdateRoom { .. } => "UpdateRoom",
            Self::SetPeerPosition { .. } => "SetPeerPosition",
            Self::SendMessage { .. } => "SendMessage",
        }
    }

    /// Understands a call.
    ///
    /// # Errors
    /// [`CommandError::UnknownMethod`] and [`CommandError::Params`].
    pub fn parse(request: &Request<'_>) -> Result<Self, CommandError> {
        let params = &request.params;
        let command = match request.method {
            "StartMedia" => Self::StartMedia {
                media: media(params)?,
                properties: properties(params)?,
            },
            "StopMedia" => Self::StopMedia {
                media: media(params)?,
            },
            "PauseMedia" => Self::PauseMedia {
                media: media(params)?,
            },
            "ResumeMedia" => Self::ResumeMedia {
                media: media(params)?,
            },
            "UpdatePeer" => Self::UpdatePeer {
                user_data: bytes(params, "user_data", USER_DATA_BYTES_MAX)?,
            },
            "UpdateRoom" => Self::UpdateRoom {
                user_data: bytes(params, "user_data", USER_DATA_BYTES_MAX)?,
            },
            "SetPeerPosition" => Self::SetPeerPosition {
                position: optional_position(params)?
                    .ok_or_else(|| problem("position", REQUIRED))?,
            },
            "SendMessage" => Self::SendMessage {
                message: bytes(params, "message", MESSAGE_BYTES_MAX)?,
                targets: targets(params)?,
            },
            _ => return Err(CommandError::UnknownMethod),
        };
        Ok(command)
    }
}

fn problem(name: &'static str, problem: &'static str) -> CommandError {
    CommandError::Params { name, problem }
}

fn text(
    params: &rpc::Params<'_>,
    name: &'static str,
    bytes_max: usize,
) -> Result<String, CommandError> {
    match params.find(name) {
        Some(ValueRef::String(text)) => {
            let text = text
                .as_str()
                .ok_or_else(|| problem(name, "must be UTF-8"))?;
            match text.len() <= bytes_max {
                true => Ok(text.to_owned()),
                false => Err(problem(name, "is too long")),
            }
        }
        Some(_) => Err(problem(name, "must be a string")),
        None => Err(problem(name, REQUIRED)),
    }
}

fn optional_flag(
    params: &rpc::Params<'_>,
    name: &'static str,
) -> Result<Option<bool>, CommandError> {
    match params.find(name) {
        None => Ok(None),
        Some(ValueRef::Boolean(flag)) => Ok(Some(*flag)),
        Some(_) => Err(problem(name, "must be true or false")),
    }
}

fn optional_bytes(
    params: &rpc::Params<'_>,
    name: &'static str,
    bytes_max: usize,
) -> Result<Option<Bytes>, CommandError> {
    let bytes = match params.find(name) {
        None => return Ok(None),
        Some(ValueRef::Binary(bytes)) => *bytes,
        // Some clients of the original send text here; the bytes are the same.
        Some(ValueRef::String(text)) => text.as_bytes(),
        Some(_) => return Err(problem(name, "must be binary")),
    };
    match bytes.len() <= bytes_max {
        true => Ok(Some(Bytes::copy_from_slice(bytes))),
        false => Err(problem(name, "is too large")),
    }
}

fn bytes(
    params: &rpc::Params<'_>,
    name: &'static str,
    bytes_max: usize,
) -> Result<Bytes, CommandError> {
    optional_bytes(params, name, bytes_max)?.ok_or_else(|| problem(name, REQUIRED))
}

/// Ids that no media can have are as unknown as those that none has.
fn media(params: &rpc::Params<'_>) -> Result<MediaId, CommandError> {
    let id = params
        .find("media_id")
        .ok_or_else(|| problem("media_id", REQUIRED))?;
    let id = whole(id).ok_or_else(|| problem("media_id", NO_NUMBER))?;
    MediaId::new(id).ok_or(CommandError::UnknownMedia)
}

/// Two numbers (web clients before 0.18) or three.
fn optional_position(params: &rpc::Params<'_>) -> Result<Option<Position>, CommandError> {
    let name = "position";
    let coordinates = match params.find(name) {
        None => return Ok(None),
        Some(ValueRef::Array(coordinates)) => coordinates,
        Some(_) => return Err(problem(name, "must be a list of numbers")),
    };
    let mut position = [0.0; 3];
    if !matches!(coordinates.len(), 2 | 3) {
        return Err(problem(name, "must have two or three numbers"));
    }
    for (to, from) in position.iter_mut().zip(coordinates) {
        let number = from.clone().to_owned().as_f64();
        *to = number.ok_or_else(|| problem(name, NO_NUMBER))?;
    }
    let position = Position::new(position);
    position
        .map(Some)
        .ok_or_else(|| problem(name, "must be finite"))
}

fn targets(params: &rpc::Params<'_>) -> Result<Option<Vec<PeerId>>, CommandError> {
    let name = "target_peer_ids";
    let Some(targets) = params.find(name) else {
        return Ok(None);
    };
    let ValueRef::Array(targets) = targets else {
        return Err(problem(name, "must be a list of numbers"));
    };
    let id = |target| whole(target).ok_or_else(|| problem(name, NO_NUMBER));
    let ids = targets.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    // An id that no peer can have is that of nobody, as one that no peer has.
    let peers = ids
        .into_iter()
        .filter_map(|id| PeerId::new(u32::try_from(id).ok()?));
    Ok(Some(peers.collect()))
}

/// The properties of a media, written anew in forms that every client reads: members with a string key and a plain value.
fn properties(params: &rpc::Params<'_>) -> Result<Bytes, CommandError> {
    let name = "properties";
    let members = match params.find(name) {
        None => &[][..],
        Some(ValueRef::Map(members)) => members,
        Some(_) => return Err(problem(name, "must be a map")),
    };
    let mut body = Vec::new();
    let mut count = 0;
    for (key, value) in members {
        let ValueRef::String(key) = key else { continue };
        let Some(key) = key.as_str() else { continue };
        let before = body.len();
        rpc::write_text(&mut body, key);
        match write_plain(&mut body, value) {
            true => count += 1,
            false => body.truncate(before),
        }
    }
    if body.len() > PROPERTIES_BYTES_MAX {
        return Err(problem(name, "are too large"));
    }
    let mut map = Vec::with_capacity(body.len() + 3);
    rpc::write_map(&mut map, count);
    map.extend(body);
    Ok(map.into())
}

/// `false` for what a client might not read.
fn write_plain(body: &mut Vec<u8>, value: &ValueRef<'_>) -> bool {
    match value {
        ValueRef::Nil => rpc::write_nil(body),
        ValueRef::Boolean(value) => rpc::write_bool(body, *value),
        ValueRef::String(text) => match text.as_str() {
            Some(text) => rpc::write_text(body, text),
            None => return false,
        },
        ValueRef::Integer(_) | ValueRef::F32(_) | ValueRef::F64(_) => {
            let number = value.clone().to_owned();
            match number.as_i64().map(i32::try_from) {
                Some(Ok(number)) => rpc::write_signed(body, number),
                _ => rpc::write_float(body, number.as_f64().unwrap_or_default()),
            }
        }
        ValueRef::Binary(_) | ValueRef::Array(_) | ValueRef::Map(_) | ValueRef::Ext(..) => {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;

    fn frame(method: &str, params: Vec<(&str, Value)>) -> Vec<u8> {
        let params = params
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect();
        let request = Value::Array(vec![0.into(), 1.into(), method.into(), Value::Map(params)]);
        let mut frame = Vec::new();
        rmpv::encode::write_value(&mut frame, &request).unwrap();
        frame
    }

    fn command(method: &str, params: Vec<(&str, Value)>) -> Result<Command, CommandError> {
        Command::parse(&Request::parse(&frame(method, params)).unwrap())
    }

    fn main_command(method: &str, params: Vec<(&str, Value)>) -> Result<MainCommand, CommandError> {
        MainCommand::parse(&Request::parse(&frame(method, params)).unwrap())
    }

    fn media(id: u64) -> MediaId {
        MediaId::new(id).unwrap()
    }

    #[test]
    fn commands_of_both_generations_are_understood() {
        let flat = Value::Array(vec![1.into(), Value::F64(0.5)]);
        let solid = Value::Array(vec![0.into(), 0.into(), 2.into()]);
        let position = |position| Position::new(position).unwrap();
        assert_eq!(
            command("SetPeerPosition", vec![("position", flat.clone())]),
            Ok(Command::SetPeerPosition {
                position: position([1.0, 0.5, 0.0])
            })
        );
        assert_eq!(
            command("SetPeerPosition", vec![("position", solid)]),
            Ok(Command::SetPeerPosition {
                position: position([0.0, 0.0, 2.0])
            })
        );
        assert_eq!(
            command("PauseMedia", vec![("media_id", 200.into())]),
            Ok(Command::PauseMedia { media: media(200) })
        );
        assert_eq!(
            command("UpdateRoom", vec![("user_data", Value::Binary(vec![1]))]),
            Ok(Command::UpdateRoom {
                user_data: Bytes::from_static(&[1])
            })
        );
        let join = main_command(
            "JoinRoom",
            vec![
                ("room_id", "a".into()),
                ("user_data", Value::Binary(vec![])),
                ("position", flat),
            ],
        );
        let wanted = MainCommand::JoinRoom {
            room_id: "a".to_owned(),
            user_data: Bytes::new(),
            position: position([1.0, 0.5, 0.0]),
            resumable: false,
        };
        assert_eq!(join, Ok(wanted));
    }

    #[test]
    fn coming_back_is_asked_for_and_done_by_name() {
        let join = |resumable| {
            let params = vec![("room_id", "a".into()), ("resumable", resumable)];
            main_command("JoinRoom", params).map(|command| match command {
                MainCommand::JoinRoom { resumable, .. } => resumable,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(join(true.into()), Ok(true));
        assert_eq!(join(false.into()), Ok(false));
        assert_eq!(join(Value::Nil), Ok(false));
        let error = join(1.into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid params: resumable must be true or false"
        );
        let resume = |key: &str| {
            let params = vec![("room_id", "a".into()), ("resume_key", key.into())];
            main_command("ResumeRoom", params)
        };
        let command = resume("secret").unwrap();
        assert_eq!(command.method(), "ResumeRoom");
        let wanted = MainCommand::ResumeRoom {
            room_id: "a".to_owned(),
            resume_key: "secret".to_owned(),
        };
        assert_eq!(command, wanted);
        assert!(resume(&"x".repeat(RESUME_KEY_BYTES_MAX + 1)).is_err());
        assert!(main_command("ResumeRoom", vec![("room_id", "a".into())]).is_err());
    }

    #[test]
    fn targets_are_peers_or_nobody() {
        let send = |targets| {
            let params = vec![
                ("message", Value::Binary(vec![7])),
                ("target_peer_ids", targets),
            ];
            command("SendMessage", params).map(|command| match command {
                Command::SendMessage { targets, .. } => targets,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(send(Value::Nil), Ok(None));
        let two = Value::Array(vec![5.into(), Value::F64(4_294_967_296.0), 0.into()]);
        assert_eq!(send(two), Ok(Some(vec![PeerId::new(5).unwrap()])));
        assert!(send(Value::Array(vec!["a".into()])).is_err());
        assert!(send(5.into()).is_err());
    }

    #[test]
    fn properties_keep_what_every_client_reads() {
        let map = Value::Map(vec![
            ("kind".into(), "audio".into()),
            ("large".into(), Value::from(1_u64 << 40)),
            ("minus".into(), (-3).into()),
            ("ext".into(), Value::Ext(1, vec![0])),
            ("list".into(), Value::Array(Vec::new())),
            (5.into(), 5.into()),
        ]);
        let Ok(Command::StartMedia { properties, .. }) = command(
            "StartMedia",
            vec![("media_id", 128.into()), ("properties", map)],
        ) else {
            panic!("StartMedia");
        };
        let wanted = Value::Map(vec![
            ("kind".into(), "audio".into()),
            ("large".into(), Value::F64((1_u64 << 40) as f64)),
            ("minus".into(), (-3).into()),
        ]);
        assert_eq!(
            rmpv::decode::read_value(&mut &properties[..]).unwrap(),
            wanted
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = || Value::Binary(vec![0; USER_DATA_BYTES_MAX + 1]);
        let position = |items: Vec<Value>| vec![("position", Value::Array(items))];
        for (result, text) in [
            (command("Fly", vec![]), "unknown method"),
            (command("JoinRoom", vec![]), "unknown method"),
            (
                command("StopMedia", vec![]),
                "invalid params: media_id is missing",
            ),
            (
                command("StopMedia", vec![("media_id", "a".into())]),
                "invalid params: media_id is no such number",
            ),
            (
                command("StopMedia", vec![("media_id", 5.into())]),
                "media not found",
            ),
            (
                command("UpdatePeer", vec![("user_data", long())]),
                "invalid params: user_data is too large",
            ),
            (
                command("UpdatePeer", vec![("user_data", 1.into())]),
                "invalid params: user_data must be binary",
            ),
            (
                command("SetPeerPosition", vec![]),
                "invalid params: position is missing",
            ),
            (
                command("SetPeerPosition", position(vec![1.into()])),
                "invalid params: position must have two or three numbers",
            ),
            (
                command("SetPeerPosition", position(vec![f64::NAN.into(), 1.into()])),
                "invalid params: position must be finite",
            ),
            (
                command(
                    "StartMedia",
                    vec![("media_id", 128.into()), ("properties", 1.into())],
                ),
                "invalid params: properties must be a map",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
        let error = main_command("Authenticate", vec![("token", 5.into())]).unwrap_err();
        assert_eq!(error.to_string(), "invalid params: token must be a string");
        let error = main_command(
            "SetupWebRtc",
            vec![("sdp", "x".repeat(SDP_BYTES_MAX + 1).into())],
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "invalid params: sdp is too long");
    }
}
