//! `[log.terminal]`, `[limit]` and `[internal]`: what is written down, and how much is taken.

use std::time::Duration;

use service::{LogFormat, Settings, SettingsError};

use super::{
    Internal, Limit, Log, MessageRate, PacketRate, file,
    file::Whole,
    section::{DAY_MS, Section},
};

/// The most talkative log.
const VERBOSITY_MAX: u64 = 3;

/// Most targets that a log leaves out.
const FILTERS_MAX: usize = 100;

/// Largest number that TOML has.
const COUNT_MAX: u64 = i64::MAX as u64;

/// Largest rate, capacity or overflow: beyond it a limit is none.
const RATE_MAX: u64 = 1_000_000;

/// Most streams that a limit can be set to; without limit there may be more.
const STREAMS_MAX: u64 = 8;

/// Longest time that a place is kept, in milliseconds: the others take a lost peer for one that is there.
const RESUME_GRACE_MS_MAX: u64 = 5 * 60 * 1000;

/// Longest time that events are gathered, in milliseconds: people wait for them.
const BUNDLE_MS_MAX: u64 = 1_000;

/// Longest time that voice is held, in microseconds: half of what lies between two packets of a talker.
const COALESCING_US_MAX: u64 = 10_000;

pub(super) fn log(
    settings: &Settings,
    verbosity: Option<Whole>,
    file: file::Terminal,
) -> Result<Log, SettingsError> {
    let root = Section::new(settings, "");
    let section = Section::new(settings, "log.terminal");
    let mut log = Log::default();
    log.verbosity = match (verbosity, file.verbosity) {
        (Some(_), Some(_)) => {
            let problem = "log.terminal.verbosity is set as well: keep one";
            return Err(root.error("verbosity", problem));
        }
        (root_value, None) => {
            root.number("verbosity", root_value, log.verbosity, 0..=VERBOSITY_MAX)?
        }
        (None, value) => section.number("verbosity", value, log.verbosity, 0..=VERBOSITY_MAX)?,
    };
    log.format = match file.format.as_deref() {
        None => log.format,
        Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        Some("none") => None,
        Some(_) => {
            let problem = "it must be \"text\", \"json\" or \"none\"";
            return Err(section.error("format", problem));
        }
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte);
    let is_target = |text: &String| !text.is_empty() && text.bytes().all(is_plain);
    if file.filters.len() > FILTERS_MAX || !file.filters.iter().all(is_target) {
        let problem = format!("at most {FILTERS_MAX} targets, like \"dimpl\" or \"sfu::room\"");
        return Err(section.error("filters", problem));
    }
    log.filters = file.filters;
    Ok(log)
}

pub(super) fn limit(settings: &Settings, file: file::Limit) -> Result<Limit, SettingsError> {
    let mut limit = Limit::default();
    let section = Section::new(settings, "limit");
    for (key, value, limit) in [
        ("max_clients", file.max_clients, &mut limit.max_clients),
        ("max_rooms", file.max_rooms, &mut limit.max_rooms),
        ("max_peers", file.max_peers, &mut limit.max_peers),
    ] {
        *limit = section.optional(key, value, 1..=COUNT_MAX)?;
    }
    let network = Section::new(settings, "limit.network");
    let rate = |section: Section<'_>, key: &str, value: Whole, min: u64| {
        section.number(key, Some(value), 0, min..=RATE_MAX)
    };
    if let Some(file) = file.network.incoming_media_packets {
        limit.incoming_media_packets = PacketRate {
            rate: rate(network, "incoming_media_packets.rate", file.rate, 1)?,
            capacity: rate(network, "incoming_media_packets.capacity", file.capacity, 1)?,
        };
    }
    let peer = Section::new(settings, "limit.peer");
    if let Some(file) = file.peer.incoming_messages {
        limit.incoming_messages = MessageRate {
            rate: rate(peer, "incoming_messages.rate", file.rate, 1)?,
            capacity: rate(peer, "incoming_messages.capacity", file.capacity, 1)?,
            overflow: rate(peer, "incoming_messages.overflow", file.overflow, 0)?,
        };
    }
    limit.medias = peer.number("medias", file.peer.medias, limit.medias, 0..=u8::MAX.into())?;
    let (key, value) = ("concurrent_streams", file.peer.concurrent_streams);
    limit.concurrent_streams =
        peer.number(key, value, limit.concurrent_streams, 0..=STREAMS_MAX)?;
    let (key, value) = ("resume_grace", file.peer.resume_grace);
    limit.resume_grace = peer.time(key, value, limit.resume_grace, 0..=RESUME_GRACE_MS_MAX)?;
    Ok(limit)
}

pub(super) fn internal(
    settings: &Settings,
    file: &file::Internal,
) -> Result<Internal, SettingsError> {
    let section = Section::new(settings, "internal");
    let default = Internal::default();
    let bundle =
        |value, default: Duration| section.time("bundle_events", value, default, 0..=BUNDLE_MS_MAX);
    Ok(Internal {
        log_hanging_api_calls: section.optional_time(
            "log_hanging_api_calls",
            file.log_hanging_api_calls,
            1..=DAY_MS,
        )?,
        log_rejected_api_calls: file
            .log_rejected_api_calls
            .unwrap_or(default.log_rejected_api_calls),
        bundle_events: bundle(file.bundle_events, default.bundle_events)?,
        voice_coalescing: section
            .optional(
                "voice_coalescing_us",
                file.voice_coalescing_us,
                0..=COALESCING_US_MAX,
            )?
            .map_or(default.voice_coalescing, Duration::from_micros),
    })
}
