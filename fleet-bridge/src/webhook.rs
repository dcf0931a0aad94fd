//! Webhooks: where they may go, how they are signed, and one attempt to deliver one.

use std::{fmt::Write as _, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{StatusCode, header::CONTENT_TYPE};
use reqwest::{Client, Url, redirect::Policy};
use service::Secret;
use sha2::Sha256;

use crate::{config::InstanceSettings, error::Error, matches::delivery::ATTEMPT_TIME};

/// The header with the time and the signature.
const SIGNATURE: &str = "bifrost-signature";

/// Longest address, in bytes: it is kept with every match that names one.
const URL_BYTES_MAX: usize = 2_048;

/// Connections that are kept for each receiver.
const IDLE_PER_HOST: usize = 2;

/// Speaks to receivers.
#[derive(Clone, Debug)]
pub(crate) struct Webhooks {
    http: Client,
    key: Option<Secret>,
    urls: Vec<Url>,
}

/// Why word did not arrive. The texts name no address: one may hold a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDelivered {
    /// The settings allow the address no more.
    #[error("the settings do not allow its address any more")]
    NotAllowed,
    /// The receiver said no.
    #[error("the receiver answered {0}")]
    Refused(StatusCode),
    /// No answer in time.
    #[error("the receiver did not answer{}", if *.0 { " in time" } else { "" })]
    NoAnswer(bool),
}

impl Webhooks {
    /// # Errors
    /// The system's certificates or resolver are not usable.
    pub(crate) fn new(settings: &InstanceSettings) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .timeout(ATTEMPT_TIME)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            key: settings.webhook_key.clone(),
            urls: settings.webhook_urls.clone(),
        })
    }

    /// Whether word may be sent to this address: it begins with one of the settings', host and port being the same.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn check(&self, url: &str) -> Result<(), Error> {
        let refused = |why: &str| Err(Error::invalid_argument(format!("`webhook`: {why}")));
        if url.len() > URL_BYTES_MAX {
            return refused(&format!("more than {URL_BYTES_MAX} bytes"));
        }
        if self.key.is_none() || self.urls.is_empty() {
            return refused(
                "this bridge sends none: its settings lack webhook_urls in [instances]",
            );
        }
        if self.allowed(url).is_none() {
            return refused("it begins with none of the addresses in the settings of this bridge");
        }
        Ok(())
    }

    /// The address, if it is allowed. Whole addresses are compared and not their texts: `https://a.example` is not the
    /// beginning of `https://a.example.evil.test`.
    fn allowed(&self, url: &str) -> Option<Url> {
        let url = Url::parse(url).ok()?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_below = |allowed: &Url| {
            allowed.origin() == url.origin() && url.path().starts_with(allowed.path())
        };
        (is_plain && self.urls.iter().any(is_below)).then_some(url)
    }

    /// Sends word once. `since_epoch` is the time that the signature names.
    pub(crate) async fn send(
        &self,
        url: &str,
        body: String,
        since_epoch: Duration,
    ) -> Result<(), NotDelivered> {
        let (Some(key), Some(url)) = (&self.key, self.allowed(url)) else {
            return Err(NotDelivered::NotAllowed);
        };
        let signature = signature(key.expose(), since_epoch.as_secs(), &body);
        let request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, signature)
            .body(body);
        let answer = request.send().await;
        let answer = answer.map_err(|error| NotDelivered::NoAnswer(error.is_timeout()))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(NotDelivered::Refused(answer.status()))
    }
}

/// `t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`. The time is signed, too: a receiver that refuses old ones
/// cannot be sent a copy later.
fn signature(key: &str, seconds: u64, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{seconds}.{body}").as_bytes());
    let mut text = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_string, header, headers, method, path},
    };

    use super::*;

    fn webhooks(urls: &[&str]) -> Webhooks {
        Webhooks::new(&InstanceSettings {
            webhook_key: Some("key".to_owned().into()),
            webhook_urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
            ..InstanceSettings::default()
        })
        .unwrap()
    }

    #[test]
    fn the_signature_is_the_one_that_other_programs_compute() {
        // printf '1700000000.{"id":"m-1"}' | openssl dgst -sha256 -hmac key
        assert_eq!(
            signature("key", 1_700_000_000, r#"{"id":"m-1"}"#),
            "t=1700000000,v1=96a689d40e893671e8cb4bd3e86945fda008d5c43aaed112398b2a169ec33590"
        );
    }

    #[test]
    fn only_addresses_of_the_settings_are_allowed() {
        let webhooks = webhooks(&["https://hooks.example.com/fleet/", "http://10.0.0.7:8080"]);
        for url in [
            "https://hooks.example.com/fleet/done?game=1",
            "https://hooks.example.com:443/fleet/",
            "http://10.0.0.7:8080/anything",
        ] {
            assert!(webhooks.check(url).is_ok(), "{url}");
        }
        for url in [
            "https://hooks.example.com/",
            "https://hooks.example.com/fleet/../admin",
            "https://hooks.example.com/fleet/%2e%2e/admin",
            "http://hooks.example.com/fleet/",
            "https://hooks.example.com:444/fleet/",
            "https://hooks.example.com.evil.test/fleet/",
            "https://hooks.example.com@evil.test/fleet/",
            "https://user:word@hooks.example.com/fleet/",
            "http://10.0.0.7:80801/",
            "http://10.0.0.70:8080/",
            "/fleet/",
            "",
        ] {
            assert!(webhooks.check(url).is_err(), "{url}");
        }
        let long = format!("http://10.0.0.7:8080/{}", "x".repeat(URL_BYTES_MAX));
        assert!(webhooks.check(&long).is_err());
    }

    #[test]
    fn without_settings_no_address_is_allowed() {
        let webhooks = Webhooks::new(&InstanceSettings::default()).unwrap();
        let error = webhooks.check("https://hooks.example.com/").unwrap_err();
        assert!(error.to_string().contains("webhook_urls"), "{error}");
    }

    #[tokio::test]
    async fn only_a_success_counts_and_redirects_are_not_followed() {
        let receiver = MockServer::start().await;
        let webhooks = webhooks(&[&receiver.uri()]);
        let signature = signature("key", 7, "{}");
        Mock::given(method("POST"))
            .and(path("/ok"))
            .and(header("content-type", "application/json"))
            // The matcher takes the parts between commas one by one.
            .and(headers(SIGNATURE, signature.split(',').collect()))
            .and(body_string("{}"))
            .respond_with(ResponseTemplate::new(204))
            .expect(1)
            .mount(&receiver)
            .await;
        let elsewhere = ResponseTemplate::new(307).insert_header("location", "/ok");
        Mock::given(path("/moved"))
            .respond_with(elsewhere)
            .mount(&receiver)
            .await;
        let send = async |to: &str| {
            let url = format!("{}/{to}", receiver.uri());
            let time = Duration::from_millis(7_900);
            webhooks.send(&url, "{}".to_owned(), time).await
        };
        assert!(send("ok").await.is_ok());
        let moved = send("moved").await;
        assert!(
            matches!(moved, Err(NotDelivered::Refused(status)) if status == 307),
            "{moved:?}"
        );
        let elsewhere = webhooks.send("http://127.0.0.2/", "{}".to_owned(), Duration::ZERO);
        let elsewhere = elsewhere.await;
        assert!(
            matches!(elsewhere, Err(NotDelivered::NotAllowed)),
            "{elsewhere:?}"
        );
    }
}
