//! What holds where the settings say nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use fleet_client::{DEFAULT_BASE_URL, Token};
use ipnet::IpNet;
use service::LogFormat;

use super::{
    Authorization, Config, Fleet, Http, Internal, Limit, Log, MessageRate, Metrics, PacketRate,
    Quic, Supervisor, Telemetry, TelemetryField, Tls,
};

impl Config {
    /// Every default, and no section that must be asked for: it listens nowhere and takes no token.
    pub fn new() -> Self {
        Self {
            public_address: None,
            log: Log::default(),
            supervisor: None,
            authorization: Authorization::default(),
            quic: None,
            http: None,
            metrics: None,
            limit: Limit::default(),
            telemetry: None,
            fleet: None,
            internal: Internal::default(),
            notes: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            verbosity: 1,
            format: Some(LogFormat::Text),
            filters: Vec::new(),
        }
    }
}

impl Supervisor {
    /// With a URL that holds neither user nor password.
    pub fn new(url: String) -> Self {
        Self {
            url,
            credentials: None,
            report_interval: Duration::from_secs(5),
            no_warmup: false,
            version: None,
            shutdown_after: None,
        }
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            allow_unsigned: false,
            leeway: Duration::from_secs(5),
            keys: Vec::new(),
            allow_published_keys: false,
        }
    }
}

impl Quic {
    /// On this socket with this certificate.
    pub fn new(binding: SocketAddr, tls: Tls) -> Self {
        Self {
            binding,
            tls,
            public_address_override: None,
            migration: true,
            keep_alive_interval: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            pre_send_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            no_peers_timeout: Duration::from_secs(1),
        }
    }
}

impl Http {
    /// On this socket with this certificate.
    pub fn new(binding: SocketAddr, tls: Tls) -> Self {
        Self {
            binding,
            tls,
            public_address_override: None,
            webrtc_binding: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8844)),
            webrtc_candidates: Vec::new(),
            timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(5),
            no_peers_timeout: Duration::from_secs(1),
            shards: None,
        }
    }
}

impl Default for Metrics {
    /// For this machine only.
    fn default() -> Self {
        let subnet = |address: IpAddr, prefix| {
            let subnet = IpNet::new(address, prefix).expect("a prefix within the address");
            subnet.trunc()
        };
        Self {
            binding: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
            idle_timeout: Duration::from_secs(60 * 60),
            global_labels: BTreeMap::new(),
            allowed: vec![
                subnet(Ipv4Addr::LOCALHOST.into(), 8),
                subnet(Ipv6Addr::LOCALHOST.into(), 128),
            ],
            system_update_interval: Duration::from_secs(15),
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            max_clients: None,
            max_rooms: None,
            max_peers: None,
            incoming_messages: MessageRate {
                rate: 10,
                capacity: 50,
                overflow: 20,
            },
            medias: 5,
            concurrent_streams: 0,
            incoming_media_packets: PacketRate {
                rate: 50,
                capacity: 100,
            },
        }
    }
}

impl Telemetry {
    /// With an address that holds neither user nor password.
    pub fn new(address: String) -> Self {
        Self {
            address,
            interval: Duration::from_secs(5),
            max_consecutive_failures: None,
            data: vec![
                TelemetryField::LicenseValidUntil,
                TelemetryField::LicenseLicensee,
                TelemetryField::LicenseSerialNumber,
                TelemetryField::LicenseIssuer,
            ],
        }
    }
}

impl Fleet {
    /// For a service of this app, which is looked for.
    pub fn new(app_id: i64, token: Token) -> Self {
        Self {
            api_url: DEFAULT_BASE_URL.to_owned(),
            token,
            app_id,
            service_id: None,
            address: None,
            http_port_name: "voice_http".to_owned(),
            webrtc_port_name: "voice_webrtc".to_owned(),
            report_interval: Duration::from_secs(5),
            start_timeout: Duration::from_secs(60),
            place: None,
        }
    }
}

impl Default for Internal {
    fn default() -> Self {
        Self {
            log_hanging_api_calls: None,
            log_rejected_api_calls: false,
            bundle_events: Duration::from_millis(20),
            voice_coalescing: Duration::from_millis(1),
        }
    }
}
