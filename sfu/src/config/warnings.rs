//! What is allowed but worth a thought.

use gateway_api::is_published;
use reqwest::Url;
use service::Settings;

use super::{Config, Metrics, Supervisor, access::SUPERVISOR_VARIABLE};

impl Config {
    /// A sentence for each thing that is allowed but worth a thought. None holds a secret.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.notes.clone();
        let mut warn = |text: &str| warnings.push(text.to_owned());
        if self.quic.is_none() && self.http.is_none() {
            warn("no client can connect: neither [quic] nor [http] is set");
        }
        if self.authorization.allow_unsigned {
            warn("authorization.allow_unsigned lets anybody be anybody: never in production");
        }
        let publics = self.authorization.keys.iter().map(|key| key.public());
        if publics.flatten().any(|key| is_published(&key)) {
            warn(
                "authorization.keys has a key whose private half everybody knows: never in production",
            );
        }
        if self.supervisor.as_ref().is_some_and(is_in_the_clear) {
            warn("supervisor.url sends its password over http:// in the clear");
        }
        let has_host = |own: &Option<String>| own.is_some() || self.public_address.is_some();
        if let Some(fleet) = &self.fleet
            && is_far_and_open(&fleet.api_url)
        {
            warn("fleet.api_url sends the token over http:// in the clear");
        }
        if let Some(http) = &self.http
            && self.fleet.is_none()
            && http.webrtc_candidates.is_empty()
            && !has_host(&http.public_address_override)
        {
            warn(
                "web clients cannot be offered an address: set public_address or http.webrtc_candidates",
            );
        }
        if let Some(metrics) = &self.metrics {
            warnings.extend(of_metrics(metrics).map(str::to_owned));
        }
        warnings
    }
}

/// Whether a password leaves this machine unencrypted.
fn is_in_the_clear(supervisor: &Supervisor) -> bool {
    supervisor.credentials.is_some() && is_far_and_open(&supervisor.url)
}

/// Whether it is another machine that is called without TLS.
fn is_far_and_open(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "http" && !is_here
}

fn of_metrics(metrics: &Metrics) -> Option<&'static str> {
    if metrics.allowed.is_empty() {
        return Some("nobody may read the metrics: metrics.allowed is empty");
    }
    let is_everybody = metrics.allowed.iter().any(|it| it.prefix_len() == 0);
    (is_everybody && !metrics.binding.ip().is_loopback())
        .then_some("everybody may read the metrics: metrics.allowed holds all addresses")
}

/// Said of a file that everybody on the machine can read.
pub(super) fn readable_secret(settings: &Settings, config: &Config) -> Option<String> {
    let in_file = settings.variable(SUPERVISOR_VARIABLE).is_none();
    let supervisor = config.supervisor.as_ref().filter(|_| in_file);
    let has_password = supervisor.is_some_and(|it| it.credentials.is_some());
    let has_key = config.authorization.keys.iter().any(|it| it.d.is_some());
    let text = "every user of this machine can read the settings, which hold a secret: chmod 600";
    (settings.is_open() && (has_password || has_key)).then(|| text.to_owned())
}
