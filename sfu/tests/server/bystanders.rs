//! What an attack must leave alone: other clients, and the seats of those who are gone.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{Member, Stream, map, packed},
    world::{PATIENCE, World},
};

/// Longest time for everything that two clients do here, on a machine with much to do.
const UNAFFECTED: Duration = Duration::from_secs(3);

impl World {
    /// Two clients come, talk and go, and nothing of it takes long.
    pub(crate) async fn others_are_unaffected(&self) {
        let began = Instant::now();
        let two = async {
            let mut alice = self.member("elsewhere", "alice").await;
            let mut bob = self.member("elsewhere", "bob").await;
            bob.says(b"hello").await;
            let heard = alice.room.update("MessageReceived").await;
            assert_eq!(heard["message"], Value::Binary(b"hello".to_vec()));
            bob.goes().await;
            alice.room.update("PeerLeft").await;
            alice.goes().await;
        };
        timeout(UNAFFECTED, Box::pin(two))
            .await
            .unwrap_or_else(|_| panic!("others wait for {:?}", began.elapsed()));
    }

    /// Nobody is in, and no seat is lost.
    pub(crate) async fn everybody_is_gone(&self) {
        for seats in ["sfu_peers", "sfu_rooms", "sfu_clients"] {
            self.settles(seats, "", 0.0).await;
        }
        self.settles("sfu_open_connections", "websocket", 0.0).await;
    }
}

impl Member {
    /// Sends a message to everybody else.
    pub(crate) async fn says(&mut self, message: &[u8]) {
        let message = map([("message", Value::Binary(message.to_vec()))]);
        let said = self.room.call("SendMessage", message).await;
        said.expect("a message that may be sent");
    }

    /// Leaves, as web clients do: the room first.
    pub(crate) async fn goes(&mut self) {
        // A stream that the server has closed cannot be closed again.
        let _ = self.room.socket.close(None).await;
        let _ = self.main.socket.close(None).await;
    }
}

/// An answer to a call among many.
pub(crate) struct Answered {
    pub(crate) id: u64,
    pub(crate) error: Option<String>,
    /// How long after the first call.
    pub(crate) after: Duration,
}

impl Stream {
    /// Sends several calls at once and collects the answers in the order in which they come. Ends early, with the close
    /// code, when the stream is closed.
    pub(crate) async fn flood(&mut self, calls: u64) -> (Vec<Answered>, Option<u16>) {
        let began = Instant::now();
        for id in 0..calls {
            let call = vec![0.into(), id.into(), "Nothing".into(), map([])];
            let frame = packed(&Value::Array(call));
            // The server may have had enough by now.
            if self
                .socket
                .feed(Message::Binary(frame.into()))
                .await
                .is_err()
            {
                break;
            }
        }
        let _ = self.socket.flush().await;
        let mut answers = Vec::new();
        while (answers.len() as u64) < calls {
            let message = timeout(PATIENCE, self.socket.next()).await;
            match message.expect("answers or the end") {
                Some(Ok(Message::Binary(frame))) => {
                    let frame = rmpv::decode::read_value(&mut &frame[..]).expect("MessagePack");
                    let id = frame[1].as_u64().expect("an id");
                    let error = frame[2].as_str().map(str::to_owned);
                    let after = began.elapsed();
                    answers.push(Answered { id, error, after });
                }
                Some(Ok(Message::Close(frame))) => {
                    return (answers, frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => break,
            }
        }
        (answers, None)
    }
}
