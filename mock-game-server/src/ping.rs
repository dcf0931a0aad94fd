//! The game port: a UDP socket that answers a ping, so that a player (or a demo) can see that the address a
//! matchmaker handed out leads to the right server.
//!
//! One datagram each way, ASCII:
//!
//! ```text
//! ping <nonce>                                    nonce: 1 to 64 visible characters; spaces may follow
//! pong <nonce> <service id> idle
//! pong <nonce> <service id> occupied <match id>   the match id is the rest of the datagram
//! ```
//!
//! Anything else gets no answer. On the wire, headers included, an answer is never more than twice as long as its
//! ping, so that a forged sender address gains nothing: a match id that would not fit is left out, and whoever
//! wants a long one lengthens the ping with spaces.

use std::time::Duration;

use tokio::{net::UdpSocket, sync::watch};
use tokio_util::sync::CancellationToken;

/// Longest nonce in bytes: room for a 256-bit value in hexadecimal.
pub const NONCE_BYTES_MAX: usize = 64;

/// Longest ping in bytes: room for the spaces that the longest match id asks for, twice over.
pub const PING_BYTES_MAX: usize = 512;

/// Bytes of the IPv4 and UDP headers that every datagram carries.
const HEADER_BYTES: usize = 28;

/// Wait after a receive error, so that a broken socket does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What others are told about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The value of `instance_state`.
    pub(crate) state: &'static str,
    /// The match that runs.
    pub(crate) match_id: Option<std::sync::Arc<str>>,
    /// The claim that it was started under; without a match, the newest that was seen.
    pub(crate) fence: Option<u64>,
}

/// Answers pings until told to stop.
pub(crate) async fn run(
    socket: UdpSocket,
    service_id: i64,
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
) {
    // One byte more than allowed: a datagram that fills it was too long.
    let mut buffer = [0; PING_BYTES_MAX + 1];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((length, from)) => {
                let answer = buffer
                    .get(..length)
                    .and_then(|ping| answer(ping, service_id, &standing.borrow()));
                if let Some(answer) = answer {
                    // A full send buffer loses the answer, as the network might: the player asks again.
                    let _ = socket.try_send_to(&answer, from);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "receiving on the game port failed");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// The answer to one datagram; `None` when it is not a ping.
fn answer(datagram: &[u8], service_id: i64, standing: &Standing) -> Option<Vec<u8>> {
    if datagram.len() > PING_BYTES_MAX {
        return None;
    }
    let nonce = datagram.strip_prefix(b"ping ")?.trim_ascii_end();
    let is_nonce = !nonce.is_empty()
        && nonce.len() <= NONCE_BYTES_MAX
        && nonce.iter().all(u8::is_ascii_graphic);
    if !is_nonce {
        return None;
    }
    let mut answer = b"pong ".to_vec();
    answer.extend_from_slice(nonce);
    answer.extend_from_slice(format!(" {service_id} {}", standing.state).as_bytes());
    if let Some(match_id) = &standing.match_id {
        let room = 2 * (HEADER_BYTES + datagram.len()) - HEADER_BYTES;
        if answer.len() + 1 + match_id.len() <= room {
            answer.push(b' ');
            answer.extend_from_slice(match_id.as_bytes());
        }
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::MATCH_ID_BYTES_MAX;

    fn check(datagram: &[u8], expected: Option<&str>) {
        let standing = Standing {
            state: "occupied",
            match_id: Some("match-123".into()),
            fence: None,
        };
        let answer = answer(datagram, 1004, &standing);
        assert_eq!(
            answer.as_deref(),
            expected.map(str::as_bytes),
            "{datagram:?}"
        );
    }

    #[test]
    fn a_ping_is_answered_with_its_nonce() {
        check(b"ping n1", Some("pong n1 1004 occupied match-123"));
        check(b"ping n1\r\n", Some("pong n1 1004 occupied match-123"));
    }

    #[test]
    fn an_idle_server_names_no_match() {
        let standing = Standing {
            state: "idle",
            match_id: None,
            fence: None,
        };
        let answer = answer(b"ping n1", 7, &standing).unwrap();
        assert_eq!(answer, b"pong n1 7 idle");
    }

    #[test]
    fn anything_else_is_ignored() {
        for datagram in [
            &b""[..],
            b"ping",
            b"ping ",
            b"ping   ",
            b"PING n1",
            b"pong n1 1004 idle",
            b"ping a b",
            b"ping \xff\xfe",
            b"ping a\0b",
            b"\0\0\0\0",
            &[b'x'; PING_BYTES_MAX],
        ] {
            check(datagram, None);
        }
        check(
            format!("ping {}", "n".repeat(NONCE_BYTES_MAX + 1)).as_bytes(),
            None,
        );
        let oversize = format!("{:<width$}", "ping n1", width = PING_BYTES_MAX + 1);
        check(oversize.as_bytes(), None);
    }

    #[test]
    fn no_answer_is_more_than_twice_its_ping_on_the_wire() {
        let service_id = i64::MAX;
        for match_id_bytes in [0, 1, 20, MATCH_ID_BYTES_MAX] {
            let standing = Standing {
                state: "occupied",
                match_id: Some("m".repeat(match_id_bytes).into()),
                fence: None,
            };
            for nonce_bytes in 1..=NONCE_BYTES_MAX {
                for padding in [0, 1, 50, 200] {
                    let ping = format!("ping {}{}", "n".repeat(nonce_bytes), " ".repeat(padding));
                    let answer = answer(ping.as_bytes(), service_id, &standing).unwrap();
                    assert!(answer.len() + HEADER_BYTES <= 2 * (ping.len() + HEADER_BYTES));
                }
            }
        }
    }

    #[test]
    fn a_ping_with_room_gets_the_longest_match_id() {
        let match_id = "m".repeat(MATCH_ID_BYTES_MAX);
        let standing = Standing {
            state: "occupied",
            match_id: Some(match_id.as_str().into()),
            fence: None,
        };
        let service_id = 1004;
        let short = answer(b"ping n1", service_id, &standing).unwrap();
        assert_eq!(short, b"pong n1 1004 occupied");
        let ping = format!("{:<100}", "ping n1");
        let long = answer(ping.as_bytes(), service_id, &standing).unwrap();
        assert_eq!(long, format!("pong n1 1004 occupied {match_id}").as_bytes());
    }
}
