//! What is asked over HTTPS: a gateway for the voice server of a token, and a voice server for its address of QUIC.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::{error::ConnectError, trust::TrustError};

/// One call, with everything that belongs to it.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of an answer: a token has some hundred.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Who asks. Proxies are not used: voice and signalling could not take them.
pub(super) struct Gateway {
    http: reqwest::Client,
}

/// What a gateway says.
#[derive(Clone)]
pub(super) struct Admission {
    /// `host:port` of the voice server.
    pub(super) address: String,
    /// The session's token.
    pub(super) token: String,
}

impl Gateway {
    pub(super) fn new(tls: &Arc<ClientConfig>) -> Result<Self, ConnectError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(tls))
            .timeout(CALL_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build();
        let failed = |error: reqwest::Error| rustls::Error::General(told(error));
        Ok(Self {
            http: http.map_err(failed).map_err(TrustError::Tls)?,
        })
    }

    /// Asks for the voice server of a token.
    pub(super) async fn connect(&self, url: &str, token: &str) -> Result<Admission, ConnectError> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "Connect", "params": {}});
        let failed = |error: reqwest::Error| ConnectError::Gateway(told(error));
        let request = self.http.post(url).bearer_auth(token).json(&call);
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            body.extend(piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(ConnectError::Gateway("its answer is too long".to_owned()));
            }
        }
        understood(&body)
    }

    /// Where a voice server takes QUIC, by its own word; `None` when it says nothing.
    pub(super) async fn quic_address(&self, address: &str) -> Option<String> {
        let response = self.http.get(format!("https://{address}/")).send().await;
        let response = response.ok()?;
        let services = response.headers().get_all("alt-svc");
        let mut texts = services.iter().filter_map(|value| value.to_str().ok());
        texts.find_map(|text| h3_authority(text, address))
    }
}

fn understood(body: &[u8]) -> Result<Admission, ConnectError> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|_| ConnectError::Gateway("its answer is no JSON".to_owned()))?;
    let text = |path: &str| answer.pointer(path)?.as_str().map(str::to_owned);
    match (text("/result/address"), text("/result/token")) {
        (Some(address), Some(token)) => Ok(Admission { address, token }),
        _ => match text("/error/message") {
            Some(message) => Err(ConnectError::GatewayRefused(message)),
            None => Err(ConnectError::Gateway(
                "its answer is none of JSON-RPC".to_owned(),
            )),
        },
    }
}

/// The authority of HTTP/3 in an `Alt-Svc` (RFC 7838, section 3); without a host it is that of `address`.
fn h3_authority(services: &str, address: &str) -> Option<String> {
    let h3 = services
        .split(',')
        .find_map(|service| service.trim().strip_prefix("h3=\""))?;
    let (authority, _) = h3.split_once('"')?;
    let (host, port) = authority.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    match host.is_empty() {
        false => Some(authority.to_owned()),
        true => {
            let (host, _) = address.rsplit_once(':')?;
            Some(format!("{host}:{port}"))
        }
    }
}

/// An error with its causes, and without the URL, which may have secrets.
fn told(error: reqwest::Error) -> String {
    use std::error::Error as _;
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_admission_or_says_why_not() {
        let admission =
            understood(br#"{"jsonrpc":"2.0","id":1,"result":{"address":"a:1","token":"t"}}"#);
        let admission = admission.unwrap();
        assert_eq!((&*admission.address, &*admission.token), ("a:1", "t"));
        let refused = br#"{"error":{"code":-32603,"message":"token has expired"}}"#;
        assert!(matches!(
            understood(refused),
            Err(ConnectError::GatewayRefused(text)) if text == "token has expired"
        ));
        for body in [&b""[..], b"<html>", b"[]", br#"{"result":{"address":5}}"#] {
            assert!(matches!(understood(body), Err(ConnectError::Gateway(_))));
        }
    }

    #[test]
    fn the_address_of_quic_is_found_among_services() {
        for (services, wanted) in [
            (
                r#"h3="voice.example.com:4433""#,
                Some("voice.example.com:4433"),
            ),
            (r#"h2=":1"; ma=5, h3=":8443"; ma=86400"#, Some("host:8443")),
            (r#"h3-29=":1""#, None),
            (r#"h3=":""#, None),
            (r#"h3=":99999""#, None),
            ("clear", None),
        ] {
            assert_eq!(h3_authority(services, "host:4433").as_deref(), wanted);
        }
        let v6 = h3_authority(r#"h3=":5""#, "[::1]:4433");
        assert_eq!(v6.as_deref(), Some("[::1]:5"));
    }
}
