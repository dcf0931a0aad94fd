//! The little of HTTP/3 (RFC 9114) and WebTransport that a server of one kind of session needs. No IO: bytes in, words out.

use bytes::{Buf as _, Bytes, BytesMut};
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Setting, Settings, StreamUni,
    VarInt, http::StatusCode,
};

/// The path of the one kind of session there is.
const PATH: &str = "/main";

/// Bytes in which the head of a stream must have ended: the request with its headers is the longest.
const HEAD_BYTES_MAX: usize = 20 * 1024;

/// Bytes of capsules that may wait for their end; the longest that means anything has a reason of 1,024 bytes.
const CAPSULE_BYTES_MAX: usize = 4 * 1024;

/// `SETTINGS_WT_MAX_SESSIONS` of later drafts, which Safari looks for.
const MAX_SESSIONS_LATER: Setting = Setting(VarInt::from_u32(0x14e9_cd29));

/// Errors of HTTP/3 as they are sent.
pub(super) mod code {
    /// `H3_NO_ERROR`
    pub(in super::super) const NONE: u32 = 0x100;
    /// `H3_STREAM_CREATION_ERROR`
    pub(in super::super) const STREAM_CREATION: u32 = 0x103;
    /// `H3_EXCESSIVE_LOAD`
    pub(in super::super) const EXCESSIVE_LOAD: u32 = 0x107;
    /// `H3_MESSAGE_ERROR`
    pub(in super::super) const MESSAGE: u32 = 0x10e;
}

/// What a server's control stream begins with.
pub(super) fn control_stream() -> Bytes {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    settings.insert(MAX_SESSIONS_LATER, VarInt::from_u32(1));
    let mut bytes = BytesMut::new();
    settings.encode(&mut bytes);
    bytes.freeze()
}

/// What a bidirectional stream of a client turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// More has to come.
    Unfinished,
    /// It asks for a session.
    Connect,
    /// It asks for something else, which is answered with this status.
    Refused(StatusCode),
    /// It belongs to this session.
    Session(u64),
    /// It is nothing that is known.
    Garbage,
}

/// Takes the head of a stream off what came of it.
pub(super) fn head(bytes: &mut BytesMut) -> Head {
    let mut rest = &bytes[..];
    let read = match Frame::decode(&mut rest) {
        Err(_) => Head::Unfinished,
        Ok(Frame::WEBTRANSPORT) => match VarInt::decode(&mut rest) {
            Ok(session) => Head::Session(session.into_inner()),
            Err(_) => Head::Unfinished,
        },
        Ok(_) => {
            rest = &bytes[..];
            request(&mut rest)
        }
    };
    match read {
        Head::Unfinished if bytes.len() > HEAD_BYTES_MAX => Head::Garbage,
        Head::Unfinished => Head::Unfinished,
        read => {
            let taken = bytes.len() - rest.len();
            bytes.advance(taken);
            read
        }
    }
}

fn request(bytes: &mut &[u8]) -> Head {
    match ConnectRequest::decode(bytes) {
        Ok(request) if request.url.path() == PATH => Head::Connect,
        Ok(_) => Head::Refused(StatusCode::NOT_FOUND),
        Err(ConnectError::UnexpectedEnd) => Head::Unfinished,
        Err(ConnectError::WrongMethod(_) | ConnectError::WrongProtocol(_)) => {
            Head::Refused(StatusCode::METHOD_NOT_ALLOWED)
        }
        Err(_) => Head::Garbage,
    }
}

/// The answer to a request.
pub(super) fn response(status: StatusCode) -> Bytes {
    let mut bytes = BytesMut::new();
    // It is short and says nothing that cannot be said.
    let _ = ConnectResponse::new(status).encode(&mut bytes);
    bytes.freeze()
}

/// Whether a unidirectional stream has to be there for a connection to go on: control and header compression. `None`
/// when more has to come.
pub(super) fn is_needed(mut bytes: &[u8]) -> Option<bool> {
    let kind = StreamUni::decode(&mut bytes).ok()?;
    Some(
        [
            StreamUni::CONTROL,
            StreamUni::QPACK_ENCODER,
            StreamUni::QPACK_DECODER,
        ]
        .contains(&kind),
    )
}

/// What comes over a session's own stream: frames of data, which carry capsules (RFC 9297, section 3).
#[derive(Debug, Default)]
pub(super) struct Capsules {
    frames: BytesMut,
    /// Bytes of the present frame that have not come yet.
    frame_rest: u64,
    is_data: bool,
    capsules: BytesMut,
}

/// What a client has said about its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionWord {
    /// Nothing that matters.
    Nothing,
    /// It closes it.
    Closed,
    /// What came cannot be understood.
    Garbage,
}

impl Capsules {
    pub(super) fn push(&mut self, bytes: &[u8]) -> SessionWord {
        self.frames.extend_from_slice(bytes);
        loop {
            if self.frame_rest > 0 {
                let here = usize::try_from(self.frame_rest).unwrap_or(usize::MAX);
                let taken = self.frames.split_to(here.min(self.frames.len()));
                self.frame_rest -= taken.len() as u64;
                if self.is_data {
                    self.capsules.extend_from_slice(&taken);
                }
                match self.capsule() {
                    SessionWord::Nothing => {}
                    word => return word,
                }
                if self.frame_rest > 0 {
                    return SessionWord::Nothing;
                }
            }
            let mut rest = &self.frames[..];
            let head = Frame::decode(&mut rest)
                .and_then(|kind| VarInt::decode(&mut rest).map(|length| (kind, length)));
            let Ok((kind, length)) = head else {
                return SessionWord::Nothing;
            };
            let taken = self.frames.len() - rest.len();
            self.frames.advance(taken);
            self.is_data = kind == Frame::DATA;
            self.frame_rest = length.into_inner();
            if self.frame_rest == 0 && self.frames.is_empty() {
                return SessionWord::Nothing;
            }
        }
    }

    fn capsule(&mut self) -> SessionWord {
        loop {
            let mut rest = &self.capsules[..];
            match Capsule::decode(&mut rest) {
                Ok(Capsule::CloseWebTransportSession { .. }) => return SessionWord::Closed,
                Ok(_) => {
                    let taken = self.capsules.len() - rest.len();
                    self.capsules.advance(taken);
                }
                Err(_) if self.capsules.len() > CAPSULE_BYTES_MAX => return SessionWord::Garbage,
                Err(_) => return SessionWord::Nothing,
            }
        }
    }
}

/// What a server says when it closes a session, on the session's own stream.
pub(super) fn closing(code: u16, reason: &str) -> Bytes {
    let capsule = Capsule::CloseWebTransportSession {
        code: code.into(),
        reason: reason.to_owned(),
    };
    let mut inner = BytesMut::new();
    capsule.encode(&mut inner);
    let mut bytes = BytesMut::new();
    Frame::DATA.encode(&mut bytes);
    VarInt::try_from(inner.len() as u64)
        .unwrap_or_default()
        .encode(&mut bytes);
    bytes.extend_from_slice(&inner);
    bytes.freeze()
}

/// What stands before each datagram of a session.
pub(super) fn datagram_prefix(session: u64) -> Bytes {
    let mut bytes = BytesMut::new();
    // A quarter of a stream id is one, too.
    VarInt::try_from(session / 4)
        .unwrap_or_default()
        .encode(&mut bytes);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connect(url: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        ConnectRequest::new(reqwest::Url::parse(url).unwrap())
            .encode(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn a_request_is_taken_whole_and_only_that() {
        let whole = connect("https://voice.example.com:4433/main");
        for length in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..length]);
            assert_eq!(head(&mut part), Head::Unfinished, "{length}");
            assert_eq!(part.len(), length, "nothing is lost");
        }
        let mut bytes = BytesMut::from(&[&whole[..], b"rest"].concat()[..]);
        assert_eq!(head(&mut bytes), Head::Connect);
        assert_eq!(&bytes[..], b"rest");
        let mut elsewhere = BytesMut::from(&connect("https://voice.example.com/other")[..]);
        assert_eq!(head(&mut elsewhere), Head::Refused(StatusCode::NOT_FOUND));
    }

    #[test]
    fn a_stream_of_a_session_names_it() {
        let mut bytes = BytesMut::from(&[0x40, 0x41, 0x40][..]);
        assert_eq!(head(&mut bytes), Head::Unfinished);
        bytes.extend_from_slice(&[0x44, 1, 2]);
        assert_eq!(head(&mut bytes), Head::Session(0x44));
        assert_eq!(&bytes[..], [1, 2]);
        let mut garbage = BytesMut::from(&[0, 4, 1, 2, 3, 4][..]);
        assert_eq!(head(&mut garbage), Head::Garbage);
    }

    #[test]
    fn a_session_is_closed_however_its_word_is_cut() {
        let other = [&[0x21, 3, 9, 9, 9][..], &[0, 3, 0x17, 1, 5]].concat();
        let wire = [&other[..], &closing(1_000, "left")].concat();
        for size in 1..wire.len() {
            let mut capsules = Capsules::default();
            let words: Vec<_> = wire.chunks(size).map(|it| capsules.push(it)).collect();
            assert_eq!(words.last(), Some(&SessionWord::Closed), "{size}");
            assert!(
                words[..words.len() - 1]
                    .iter()
                    .all(|it| *it == SessionWord::Nothing)
            );
        }
    }

    #[test]
    fn streams_that_are_needed_are_told_apart() {
        assert_eq!(is_needed(&[]), None);
        assert_eq!(is_needed(&control_stream()), Some(true));
        assert_eq!(is_needed(&[0x40, 0x54]), Some(false));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_something_and_nothing_piles_up(bytes in proptest::collection::vec(any::<u8>(), 0..60_000), size in 1_usize..5_000) {
            let mut capsules = Capsules::default();
            for chunk in bytes.chunks(size) {
                if capsules.push(chunk) != SessionWord::Nothing {
                    break;
                }
                prop_assert!(capsules.capsules.len() <= CAPSULE_BYTES_MAX + size);
                prop_assert!(capsules.frames.len() <= 16);
            }
            let mut stream = BytesMut::from(&bytes[..]);
            let _ = head(&mut stream);
            let _ = is_needed(&bytes);
        }
    }
}
