//! The settings of a voice server, checked: whatever is in a [`Config`] can be used.
//!
//! The keys are those of the ODIN server's `config.toml`; times are whole milliseconds there.

mod access;
mod defaults;
mod file;
mod fleet;
mod keys;
mod limit;
mod listeners;
mod sample;
mod section;
mod unknown;
mod warnings;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use fleet_client::Token;
use gateway_api::Jwk;
use ipnet::IpNet;
use service::{LogFormat, Secret, Settings, SettingsError};

pub use sample::sample;

use crate::fleet::Place;
use section::Section;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` at which clients reach the server; its identity towards the gateway. `None` only below a gateway,
    /// which then takes the address the reports come from, and on the Fleet until [`settle`](crate::settle) has asked there.
    pub public_address: Option<String>,
    /// The log.
    pub log: Log,
    /// The gateway above this server.
    pub supervisor: Option<Supervisor>,
    /// Whose tokens are taken.
    pub authorization: Authorization,
    /// Native clients over QUIC.
    pub quic: Option<Quic>,
    /// Web clients.
    pub http: Option<Http>,
    /// Prometheus.
    pub metrics: Option<Metrics>,
    /// Limits.
    pub limit: Limit,
    /// Reports for licensing.
    pub telemetry: Option<Telemetry>,
    /// Ours: the ODIN Fleet that this server runs on.
    pub fleet: Option<Fleet>,
    /// Debugging.
    pub internal: Internal,
    /// What was noticed while reading that no other field shows; part of [`Config::warnings`].
    pub notes: Vec<String>,
}

/// `[log.terminal]`, or `verbosity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// 0 errors and warnings, 1 information, 2 debugging, 3 everything.
    pub verbosity: u8,
    /// How lines look; `None` writes no log.
    pub format: Option<LogFormat>,
    /// Targets below which only errors are written.
    pub filters: Vec<String>,
}

/// `[supervisor]`
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// Without user and password.
    pub url: String,
    /// User and password of the URL.
    pub credentials: Option<(String, Secret)>,
    /// Between two reports.
    pub report_interval: Duration,
    /// Report at once after the start instead of after one interval.
    pub no_warmup: bool,
    /// A number of the operator's choice, sent with reports.
    pub version: Option<u64>,
    /// Ours: end after this long without an answer; `None` keeps serving.
    pub shutdown_after: Option<Duration>,
}

/// `[authorization]`
#[derive(Clone, Debug)]
pub struct Authorization {
    /// Take tokens that nobody signed.
    pub allow_unsigned: bool,
    /// How long before and after its time a token is taken.
    pub leeway: Duration,
    /// Who may sign tokens.
    pub keys: Vec<Jwk>,
    /// Ours: take keys whose private half is printed in documents.
    pub allow_published_keys: bool,
}

/// Certificate and key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Leaf first, then intermediates.
    pub certificate_file: PathBuf,
    /// The private key.
    pub privatekey_file: PathBuf,
}

/// `[quic]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quic {
    /// Where native clients connect, UDP.
    pub binding: SocketAddr,
    /// What clients check.
    pub tls: Tls,
    /// Instead of `public_address` for these clients.
    pub public_address_override: Option<String>,
    /// Let clients change their address.
    pub migration: bool,
    /// Between two packets that only keep a connection alive.
    pub keep_alive_interval: Duration,
    /// Longest silence of a connection.
    pub idle_timeout: Duration,
    /// Longest wait for room in the send buffer.
    pub pre_send_timeout: Duration,
    /// Longest time until a connection is a client.
    pub connect_timeout: Duration,
    /// How long a client may stay after it has left its last room.
    pub no_peers_timeout: Duration,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where web clients connect, TCP.
    pub binding: SocketAddr,
    /// What clients check.
    pub tls: Tls,
    /// Instead of `public_address` for these clients.
    pub public_address_override: Option<String>,
    /// The one UDP socket of all web clients' voice.
    pub webrtc_binding: SocketAddr,
    /// Addresses offered to clients; empty takes those of the public address.
    pub webrtc_candidates: Vec<IpAddr>,
    /// Longest silence of a connection.
    pub timeout: Duration,
    /// Between two pings.
    pub ping_interval: Duration,
    /// How long a client may stay after it has left its last room.
    pub no_peers_timeout: Duration,
    /// Ours: threads that forward voice; `None` is one less than the machine has cores, at least one.
    pub shards: Option<usize>,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Where Prometheus calls.
    pub binding: SocketAddr,
    /// A series is left out this long after its last change.
    pub idle_timeout: Duration,
    /// Added to every series.
    pub global_labels: BTreeMap<String, String>,
    /// Who may call.
    pub allowed: Vec<IpNet>,
    /// Between two looks at the machine.
    pub system_update_interval: Duration,
}

/// `[limit]`; `None` is no limit of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Clients at the same time.
    pub max_clients: Option<u64>,
    /// Rooms at the same time.
    pub max_rooms: Option<u64>,
    /// Peers at the same time.
    pub max_peers: Option<u64>,
    /// Commands of one peer.
    pub incoming_messages: MessageRate,
    /// Medias of one peer.
    pub medias: u8,
    /// Streams that one peer hears at the same time, the nearest first; 0 is no limit, at most 8.
    pub concurrent_streams: u8,
    /// Voice packets of one media.
    pub incoming_media_packets: PacketRate,
}

/// How many commands a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRate {
    /// A second.
    pub rate: u32,
    /// At once after a pause.
    pub capacity: u32,
    /// How many beyond may wait their turn; what comes then is refused.
    pub overflow: u32,
}

/// How many voice packets a media may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketRate {
    /// A second.
    pub rate: u32,
    /// At once after a pause.
    pub capacity: u32,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Where reports are posted.
    pub address: String,
    /// Between two reports.
    pub interval: Duration,
    /// The server ends after this many failures in a row; `None` never.
    pub max_consecutive_failures: Option<u32>,
    /// What is in a report.
    pub data: Vec<TelemetryField>,
}

/// What a telemetry report can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TelemetryField {
    /// `LicenseValidUntil`
    LicenseValidUntil,
    /// `LicenseLicensee`
    LicenseLicensee,
    /// `LicenseSerialNumber`
    LicenseSerialNumber,
    /// `LicenseIssuer`
    LicenseIssuer,
    /// `LicenseClientLimit`
    LicenseClientLimit,
    /// `LicenseClientUsage`
    LicenseClientUsage,
    /// `LicensePeerLimit`
    LicensePeerLimit,
    /// `LicensePeerUsage`
    LicensePeerUsage,
    /// `LicenseRoomLimit`
    LicenseRoomLimit,
    /// `LicenseRoomUsage`
    LicenseRoomUsage,
}

impl TelemetryField {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::LicenseValidUntil,
        Self::LicenseLicensee,
        Self::LicenseSerialNumber,
        Self::LicenseIssuer,
        Self::LicenseClientLimit,
        Self::LicenseClientUsage,
        Self::LicensePeerLimit,
        Self::LicensePeerUsage,
        Self::LicenseRoomLimit,
        Self::LicenseRoomUsage,
    ];

    /// The name it has in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::LicenseValidUntil => "LicenseValidUntil",
            Self::LicenseLicensee => "LicenseLicensee",
            Self::LicenseSerialNumber => "LicenseSerialNumber",
            Self::LicenseIssuer => "LicenseIssuer",
            Self::LicenseClientLimit => "LicenseClientLimit",
            Self::LicenseClientUsage => "LicenseClientUsage",
            Self::LicensePeerLimit => "LicensePeerLimit",
            Self::LicensePeerUsage => "LicensePeerUsage",
            Self::LicenseRoomLimit => "LicenseRoomLimit",
            Self::LicenseRoomUsage => "LicenseRoomUsage",
        }
    }
}

/// `[fleet]`; ours.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Where the Fleet API answers.
    pub api_url: String,
    /// Opens it.
    pub token: Token,
    /// The app of the service.
    pub app_id: i64,
    /// The service that this server is; `None` looks for it by address and ports.
    pub service_id: Option<i64>,
    /// The node's address, to find the service by; `None` takes those of this machine.
    pub address: Option<IpAddr>,
    /// Name of the service's TCP port that leads to `http.binding`.
    pub http_port_name: String,
    /// Name of the service's UDP port that leads to `http.webrtc_binding`.
    pub webrtc_port_name: String,
    /// Between two reports in the service's metadata.
    pub report_interval: Duration,
    /// Until the service and its ports must have been found.
    pub start_timeout: Duration,
    /// How the service is reached; `None` until [`settle`](crate::settle) has asked the Fleet.
    pub place: Option<Place>,
}

/// `[internal]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internal {
    /// Warn about calls that take longer; `None` never.
    pub log_hanging_api_calls: Option<Duration>,
    /// Log every call that is refused.
    pub log_rejected_api_calls: bool,
    /// How long events for one peer are gathered into one frame.
    pub bundle_events: Duration,
    /// How long a busy shard holds a receiver's voice, so that several packets go together; zero sends all at once.
    pub voice_coalescing: Duration,
}

impl Config {
    /// Reads the file, and the variable `BIFROST_SFU_SUPERVISOR_URL`.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that is missing, malformed or not known.
    pub fn load(path: &Path, variables: HashMap<String, String>) -> Result<Self, SettingsError> {
        Self::of(&Settings::read(Some(path), variables)?)
    }

    /// Reads TOML that came from elsewhere, e.g. the settings a gateway has merged; `name` stands for a file's in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        name: &Path,
        text: &str,
        variables: HashMap<String, String>,
    ) -> Result<Self, SettingsError> {
        Self::of(&Settings::of_text(name, text.to_owned(), variables))
    }

    fn of(settings: &Settings) -> Result<Self, SettingsError> {
        unknown::check(settings)?;
        let file: file::File = settings.parse()?;
        let root = Section::new(settings, "");
        let mut notes = Vec::new();
        let config = Self {
            public_address: root.public_address("public_address", file.public_address)?,
            log: limit::log(settings, file.verbosity, file.log.terminal)?,
            supervisor: access::supervisor(settings, file.supervisor)?,
            authorization: access::authorization(settings, file.authorization)?,
            quic: listeners::quic(settings, file.quic, &mut notes)?,
            http: listeners::http(settings, file.http, &mut notes)?,
            metrics: listeners::metrics(settings, file.metrics)?,
            limit: limit::limit(settings, file.limit)?,
            telemetry: access::telemetry(settings, file.telemetry)?,
            fleet: fleet::fleet(settings, file.fleet)?,
            internal: limit::internal(settings, &file.internal)?,
            notes: Vec::new(),
        };
        fleet::check(settings, &config)?;
        let is_known_elsewhere = config.supervisor.is_some() || config.fleet.is_some();
        if !is_known_elsewhere && config.public_address.is_none() {
            let problem = "it is missing: the host and port at which clients reach this server; only below a gateway, \
                           set by [supervisor], and on ODIN Fleet, set by [fleet], it can be left out";
            return Err(root.error("public_address", problem));
        }
        let authorization = &config.authorization;
        if config.supervisor.is_none()
            && authorization.keys.is_empty()
            && !authorization.allow_unsigned
        {
            let text = "no tokens would be taken: set [[authorization.keys]], or [supervisor], whose gateway gives a key";
            return Err(SettingsError::Whole(text.to_owned()));
        }
        notes.extend(warnings::readable_secret(settings, &config));
        Ok(Self { notes, ..config })
    }
}

#[cfg(test)]
mod tests;
