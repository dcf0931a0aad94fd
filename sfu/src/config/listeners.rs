//! `[quic]`, `[http]` and `[metrics]`: where others connect.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use service::{Settings, SettingsError};

use super::{
    Http, Metrics, Quic, Tls, file,
    section::{DAY_MS, Section, YEAR_MS},
};

/// Where clients connect when a section names a certificate only.
const CLIENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4433);

/// Longest wait for room in a send buffer, in milliseconds: voice is stale long before.
const PRE_SEND_MS_MAX: u64 = 60_000;

/// Most addresses that clients are offered: they try all of them.
const CANDIDATES_MAX: usize = 16;

/// Most threads that forward voice.
const SHARDS_MAX: u64 = 1024;

/// Largest buffer of packets to send again that other servers know, as power of two.
const NACK_BUFFER_LOG2_MAX: u64 = 16;

/// Most labels of every series: each makes every series longer.
const LABELS_MAX: usize = 32;

/// Most subnets that may read metrics: every call is held against each.
const ALLOWED_MAX: usize = 1000;

/// Certificate and key, or `None` when the section is off: gateways recommend settings for sections that a server does
/// not have.
fn tls(
    section: &Section<'_>,
    is_bound: bool,
    certificate_file: Option<PathBuf>,
    privatekey_file: Option<PathBuf>,
) -> Result<Option<Tls>, SettingsError> {
    let missing = |key: &str| section.error(key, "it is missing: clients are served by TLS only");
    match (certificate_file, privatekey_file) {
        (None, None) if !is_bound => Ok(None),
        (None, _) => Err(missing("certificate_file")),
        (_, None) => Err(missing("privatekey_file")),
        (Some(certificate_file), Some(privatekey_file)) => Ok(Some(Tls {
            certificate_file,
            privatekey_file,
        })),
    }
}

/// Said of a section that is off although somebody wrote more than what gateways recommend into it.
fn off(section: &str) -> String {
    format!("[{section}] is off: it has neither a binding nor a certificate_file")
}

pub(super) fn quic(
    settings: &Settings,
    file: Option<file::Quic>,
    notes: &mut Vec<String>,
) -> Result<Option<Quic>, SettingsError> {
    let Some(file) = file else {
        return Ok(None);
    };
    let section = Section::new(settings, "quic");
    if file.max_parallel_connects.is_some() {
        notes.push("quic.max_parallel_connects has no effect: it can be removed".to_owned());
    }
    let (certificate, key) = (file.certificate_file, file.privatekey_file);
    let Some(tls) = tls(&section, file.binding.is_some(), certificate, key)? else {
        let own_times = file.connect_timeout.or(file.no_peers_timeout);
        if own_times.is_some() || file.public_address_override.is_some() {
            notes.push(off("quic"));
        }
        return Ok(None);
    };
    let binding = section.binding("binding", file.binding.as_deref(), CLIENTS)?;
    let mut quic = Quic::new(binding, tls);
    quic.public_address_override =
        section.public_address("public_address_override", file.public_address_override)?;
    quic.migration = file.migration.unwrap_or(quic.migration);
    for (key, value, time, range) in [
        (
            "keep_alive_interval",
            file.keep_alive_interval,
            &mut quic.keep_alive_interval,
            1..=DAY_MS,
        ),
        (
            "idle_timeout",
            file.idle_timeout,
            &mut quic.idle_timeout,
            1..=DAY_MS,
        ),
        (
            "pre_send_timeout",
            file.pre_send_timeout,
            &mut quic.pre_send_timeout,
            0..=PRE_SEND_MS_MAX,
        ),
        (
            "connect_timeout",
            file.connect_timeout,
            &mut quic.connect_timeout,
            1..=DAY_MS,
        ),
        (
            "no_peers_timeout",
            file.no_peers_timeout,
            &mut quic.no_peers_timeout,
            0..=DAY_MS,
        ),
    ] {
        *time = section.time(key, value, *time, range)?;
    }
    if quic.keep_alive_interval >= quic.idle_timeout {
        let problem = "it must be shorter than idle_timeout, or idle connections are dropped";
        return Err(section.error("keep_alive_interval", problem));
    }
    Ok(Some(quic))
}

pub(super) fn http(
    settings: &Settings,
    file: Option<file::Http>,
    notes: &mut Vec<String>,
) -> Result<Option<Http>, SettingsError> {
    let Some(file) = file else {
        return Ok(None);
    };
    let section = Section::new(settings, "http");
    if file.webrtc_enforce_tcp == Some(true) {
        let problem = "it is not supported: voice of web clients goes over UDP";
        return Err(section.error("webrtc_enforce_tcp", problem));
    }
    let (key, value) = ("webrtc_nack_buffer_log2", file.webrtc_nack_buffer_log2);
    if section
        .optional::<u8>(key, value, 0..=NACK_BUFFER_LOG2_MAX)?
        .is_some()
    {
        notes.push("http.webrtc_nack_buffer_log2 has no effect: it can be removed".to_owned());
    }
    let (certificate, key) = (file.certificate_file, file.privatekey_file);
    let Some(tls) = tls(&section, file.binding.is_some(), certificate, key)? else {
        let own_texts = file.public_address_override.or(file.webrtc_binding);
        let own_numbers = file.no_peers_timeout.or(file.shards);
        if own_texts.is_some() || own_numbers.is_some() || file.webrtc_candidates.is_some() {
            notes.push(off("http"));
        }
        return Ok(None);
    };
    let binding = section.binding("binding", file.binding.as_deref(), CLIENTS)?;
    let mut http = Http::new(binding, tls);
    http.public_address_override =
        section.public_address("public_address_override", file.public_address_override)?;
    http.webrtc_binding = section.binding(
        "webrtc_binding",
        file.webrtc_binding.as_deref(),
        http.webrtc_binding,
    )?;
    http.webrtc_candidates = candidates(&section, file.webrtc_candidates.unwrap_or_default())?;
    http.timeout = section.time("timeout", file.timeout, http.timeout, 1..=DAY_MS)?;
    let (key, value) = ("ping_interval", file.ping_interval);
    http.ping_interval = section.time(key, value, http.ping_interval, 1..=DAY_MS)?;
    let (key, value) = ("no_peers_timeout", file.no_peers_timeout);
    http.no_peers_timeout = section.time(key, value, http.no_peers_timeout, 0..=DAY_MS)?;
    http.shards = section.optional("shards", file.shards, 1..=SHARDS_MAX)?;
    if http.ping_interval >= http.timeout {
        let problem = "it must be shorter than timeout, or silent clients are dropped";
        return Err(section.error("ping_interval", problem));
    }
    Ok(Some(http))
}

fn candidates(section: &Section<'_>, texts: Vec<String>) -> Result<Vec<IpAddr>, SettingsError> {
    const KEY: &str = "webrtc_candidates";
    if texts.len() > CANDIDATES_MAX {
        return Err(section.error(KEY, format!("at most {CANDIDATES_MAX} addresses")));
    }
    let read = |text: String| {
        let address: Option<IpAddr> = text.parse().ok();
        address
            .filter(|address| !address.is_unspecified())
            .ok_or_else(|| {
                let problem = "each must be an IP address that clients can reach, without a port";
                section.error(KEY, problem)
            })
    };
    texts.into_iter().map(read).collect()
}

pub(super) fn metrics(
    settings: &Settings,
    file: Option<file::Metrics>,
) -> Result<Option<Metrics>, SettingsError> {
    let Some(file) = file else {
        return Ok(None);
    };
    let section = Section::new(settings, "metrics");
    let mut metrics = Metrics::default();
    metrics.binding = section.binding("binding", file.binding.as_deref(), metrics.binding)?;
    let (key, value) = ("idle_timeout", file.idle_timeout);
    metrics.idle_timeout = section.time(key, value, metrics.idle_timeout, 1..=YEAR_MS)?;
    let (key, value) = ("system_update_interval", file.system_update_interval);
    let interval = metrics.system_update_interval;
    metrics.system_update_interval = section.time(key, value, interval, 1..=DAY_MS)?;
    let labels = file.global_labels;
    if labels.len() > LABELS_MAX || !labels.keys().all(|name| is_label(name)) {
        let problem = format!(
            "at most {LABELS_MAX} labels, named by letters, digits and _, not beginning with a digit or __"
        );
        return Err(section.error("global_labels", problem));
    }
    metrics.global_labels = labels;
    if let Some(texts) = file.allowed {
        metrics.allowed = subnets(&section, &texts)?;
    }
    Ok(Some(metrics))
}

/// As Prometheus has it; it keeps names that begin with two underscores for itself.
fn is_label(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins_well = !name.starts_with("__") && !name.starts_with(|it: char| it.is_ascii_digit());
    !name.is_empty() && name.bytes().all(is_plain) && begins_well
}

/// A gateway recommends `127.0.0.1/8`: what is beyond the prefix is left out.
fn subnets(section: &Section<'_>, texts: &[String]) -> Result<Vec<IpNet>, SettingsError> {
    if texts.len() > ALLOWED_MAX {
        return Err(section.error("allowed", format!("at most {ALLOWED_MAX} subnets")));
    }
    let read = |(at, text): (usize, &String)| {
        let subnet = text.parse::<IpNet>().ok();
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let problem = "it must be a subnet, like \"10.0.0.0/8\"";
        subnet
            .or_else(address)
            .map(|subnet| subnet.trunc())
            .ok_or_else(|| section.error(&format!("allowed[{at}]"), problem))
    };
    texts.iter().enumerate().map(read).collect()
}
