//! The UDP game port: shows that the address a matchmaker hands out reaches this server.
//!
//! A datagram `ping <nonce>` is answered with `pong <nonce> <service id> <state>`. The nonce is 16 to 64 ASCII
//! letters and digits, so an answer is never twice as long as its question: useless to whoever forges senders.
//! Everything else is dropped without an answer.

use std::{ops::RangeInclusive, sync::Arc};

use tokio::{net::UdpSocket, sync::watch};

use crate::lifecycle::State;

/// Length of a nonce, in bytes.
pub const NONCE_BYTES: RangeInclusive<usize> = 16..=64;

/// Longest datagram that can be a ping; one byte more is read, to tell a longer one.
const PING_BYTES_MAX: usize = "ping ".len() + *NONCE_BYTES.end();

/// The nonce of a ping, if this is one.
pub fn parse_ping(datagram: &[u8]) -> Option<&str> {
    let nonce = datagram.strip_prefix(b"ping ")?;
    let is_nonce =
        NONCE_BYTES.contains(&nonce.len()) && nonce.iter().all(u8::is_ascii_alphanumeric);
    is_nonce.then_some(())?;
    std::str::from_utf8(nonce).ok()
}

/// Answers pings until it is dropped.
pub(crate) async fn answer(socket: Arc<UdpSocket>, service_id: i64, state: watch::Receiver<State>) {
    let mut buffer = [0; PING_BYTES_MAX + 1];
    loop {
        // An error belongs to an earlier answer (an ICMP from its receiver), not to the socket.
        let Ok((length, sender)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some(nonce) = parse_ping(&buffer[..length]) else {
            continue;
        };
        let label = state.borrow().label();
        let pong = format!("pong {nonce} {service_id} {label}");
        // Never wait for a full send queue: a ping may be lost, as any datagram.
        let _ = socket.try_send_to(pong.as_bytes(), sender);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pings_are_pings() {
        assert_eq!(
            parse_ping(b"ping 0123456789abcdef"),
            Some("0123456789abcdef")
        );
        let long = [b"ping ".as_slice(), &[b'a'; 65]].concat();
        for datagram in [
            b"".as_slice(),
            b"ping",
            b"ping 0123456789abcde",
            b"ping 0123456789abcde ",
            b"pong 0123456789abcdef",
            b"ping \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            &long,
        ] {
            assert_eq!(parse_ping(datagram), None, "{datagram:?}");
        }
    }

    #[test]
    fn an_answer_is_never_twice_its_question() {
        let question = "ping ".len() + NONCE_BYTES.start();
        let answer = format!(
            "pong {} {} occupied",
            "a".repeat(*NONCE_BYTES.start()),
            9_999_999_999_i64
        );
        assert!(
            answer.len() < 2 * question + 1,
            "{} {question}",
            answer.len()
        );
    }
}
