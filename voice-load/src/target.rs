//! What is put under load, and how a peer gets in.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use gateway_api::{Claims, KeyPair, Names, sign};
use serde_json::{Value, json};

use crate::plan::{Plan, Transport};

/// Begins the names of users.
const USER: &str = "load-";

/// Where peers are let in.
#[derive(Debug)]
pub(crate) enum Doorman {
    /// A voice server takes our own tokens.
    Server {
        address: String,
        /// Where native clients connect.
        quic: String,
        key: KeyPair,
        rooms: String,
    },
    /// A gateway says where to go.
    Gateway {
        url: String,
        http: reqwest::Client,
        key: KeyPair,
        rooms: String,
    },
    /// The relay takes everybody.
    Floor(SocketAddr),
}

/// A peer may come in.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// `host:port` of the voice server for the peer's transport.
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) room: String,
}

/// The peer that a user of ours is.
pub(crate) fn peer_of(user: &str) -> Option<u32> {
    user.strip_prefix(USER)?.parse().ok()
}

impl Doorman {
    pub(crate) fn floor(&self) -> Result<SocketAddr> {
        match self {
            Self::Floor(address) => Ok(*address),
            Self::Server { .. } | Self::Gateway { .. } => anyhow::bail!("no floor relay"),
        }
    }

    /// # Errors
    /// When the gateway refuses.
    pub(crate) async fn admit(&self, plan: &Plan, peer: u32) -> Result<Admission> {
        let (key, rooms) = match self {
            Self::Server { key, rooms, .. } | Self::Gateway { key, rooms, .. } => (key, rooms),
            Self::Floor(_) => anyhow::bail!("the floor relay has no signalling"),
        };
        let room = format!("{rooms}-{}", plan.room_of(peer));
        let mut claims = Claims {
            uid: Some(format!("{USER}{peer}")),
            rid: Some(Names::One(room.clone())),
            ..Claims::default()
        };
        match self {
            Self::Server { address, quic, .. } => {
                claims.aud = Some("sfu".into());
                let address = match plan.transport(peer) {
                    Transport::WebTransport => quic,
                    Transport::DataChannel | Transport::Floor => address,
                };
                Ok(Admission {
                    address: address.clone(),
                    token: sign(&claims, key),
                    room,
                })
            }
            Self::Gateway { url, http, .. } => {
                let call = json!({"jsonrpc": "2.0", "id": 1, "method": "Connect", "params": {}});
                let token = sign(&claims, key);
                let response = http.post(url).bearer_auth(token).json(&call).send().await;
                let answer: Value = response
                    .context("the gateway does not answer")?
                    .json()
                    .await?;
                let result = &answer["result"];
                let (Some(address), Some(token)) =
                    (result["address"].as_str(), result["token"].as_str())
                else {
                    ensure!(false, "the gateway refused: {}", answer["error"]);
                    unreachable!("ensured");
                };
                Ok(Admission {
                    address: address.to_owned(),
                    token: token.to_owned(),
                    room,
                })
            }
            Self::Floor(_) => anyhow::bail!("the floor relay has no signalling"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[tokio::test]
    async fn a_server_is_shown_a_token_for_the_peers_room() {
        let key = KeyPair::from_seed(&[1; 32], gateway_api::KeyKind::Customer);
        let doorman = Doorman::Server {
            address: "voice.test:4433".to_owned(),
            quic: "voice.test:4434".to_owned(),
            key: KeyPair::from_seed(&[1; 32], gateway_api::KeyKind::Customer),
            rooms: "r".to_owned(),
        };
        let admission = doorman.admit(&plan(), 23).await.unwrap();
        assert_eq!(
            (admission.room.as_str(), admission.address.as_str()),
            ("r-2", "voice.test:4433")
        );
        let token = gateway_api::Token::read(&admission.token).unwrap();
        let claims = token.verify(&key.public()).unwrap().claims().unwrap();
        let claims = serde_json::to_value(claims).unwrap();
        assert_eq!(
            (&claims["uid"], &claims["rid"]),
            (&json!("load-23"), &json!("r-2"))
        );
        assert_eq!(peer_of("load-23"), Some(23));
        assert_eq!(peer_of("someone"), None);
    }
}
