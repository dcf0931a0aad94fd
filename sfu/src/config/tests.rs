//! What the settings take; the modules below have what they refuse, and what they do not show.

mod any;
mod fleet;
mod refused;
mod secrets;

use std::net::Ipv4Addr;

use gateway_api::{KeyKind, KeyPair, Recommendation};

use super::*;

/// The documents' minimal file for a server below a gateway.
const SUPERVISED: &str = "[supervisor]\nurl = \"http://localhost:7000/internal\"\n";

/// Everything that a server without a gateway must have.
const LEAST: &str = "public_address = \"localhost:4433\"\n[authorization]\nallow_unsigned = true\n";

const CERTIFICATE: &str = "certificate_file = \"a.pem\"\nprivatekey_file = \"b.pem\"\n";

/// The key that the documents print.
const PUBLISHED: &str = "[[authorization.keys]]\nkid = \"Afkwfu4BVHDh\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\n\
                         x = \"a5J2bhmU7vsY0LrW1zt56iUdmhRUNz7Pl9eBoCy29d8\"\n\
                         d = \"5FYw1qdABjE0qEKEe821L7UPl_DZfO-PavpaiLsGDR0\"\n";

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, SettingsError> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(Path::new("test.toml"), text, variables.collect())
}

fn parse(text: &str) -> Result<Config, SettingsError> {
    parse_with(text, &[])
}

fn accepted(text: &str) -> Config {
    parse(text).expect(text)
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// Below a gateway, so that nothing else must be set.
fn supervised(text: &str) -> Config {
    accepted(&format!("{text}\n{SUPERVISED}"))
}

fn jwk(seed: u8, private: bool) -> String {
    let pair = KeyPair::from_seed(&[seed; 32], KeyKind::Customer);
    let jwk = match private {
        true => pair.private_jwk(),
        false => pair.public_jwk(),
    };
    format!(
        "[[authorization.keys]]\n{}",
        toml::to_string(&jwk).expect("a JWK is TOML")
    )
}

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

#[test]
fn the_documents_own_minimal_files_are_taken() {
    let config = accepted(SUPERVISED);
    let supervisor = config.supervisor.unwrap();
    assert_eq!(supervisor.url, "http://localhost:7000/internal");
    assert!(config.quic.is_none() && config.public_address.is_none());

    let listeners = format!(
        "[quic]\nbinding = \"0.0.0.0:4433\"\n{CERTIFICATE}[http]\nbinding = \"0.0.0.0:4433\"\n{CERTIFICATE}"
    );
    let standalone = format!("public_address = \"localhost:4433\"\n{PUBLISHED}{listeners}");
    assert!(refusal(&standalone).contains(": authorization.keys[0].x: everybody knows"));
    let allowed = format!("{standalone}[authorization]\nallow_published_keys = true\n");
    let config = accepted(&allowed);
    assert!(config.quic.is_some() && config.http.is_some());
    assert!(config.warnings().concat().contains("everybody knows"));
    let own = standalone.replace(PUBLISHED, &jwk(1, true));
    assert_eq!(accepted(&own).warnings(), [""; 0]);
}

/// Every key, with another value than its default.
const EVERY_KEY: &str = r#"
public_address = "[2001:db8::1]:1"
[log.terminal]
verbosity = 3
format = "json"
filters = ["dimpl", "sfu::room"]
[supervisor]
url = "https://gateway/internal"
report_interval = 1
no_warmup = true
version = 7
shutdown_after = 2
[authorization]
allow_unsigned = true
allow_published_keys = true
leeway = 0
[quic]
binding = "127.0.0.1:2"
certificate_file = "a.pem"
privatekey_file = "b.pem"
public_address_override = "a:1"
migration = false
keep_alive_interval = 3
idle_timeout = 4
pre_send_timeout = 5
connect_timeout = 6
no_peers_timeout = 7
[http]
binding = "[::1]:3"
certificate_file = "a.pem"
privatekey_file = "b.pem"
public_address_override = "b:1"
webrtc_binding = "127.0.0.1:4"
webrtc_candidates = ["127.0.0.1", "::1"]
timeout = 8
ping_interval = 7
no_peers_timeout = 9
shards = 2
[metrics]
binding = "127.0.0.1:5"
idle_timeout = 10
global_labels = { deployment = "foo" }
allowed = ["127.0.0.1/8", "10.0.0.7"]
system_update_interval = 11
[limit]
max_clients = 12
max_rooms = 13
max_peers = 14
[limit.network]
incoming_media_packets = { rate = 15, capacity = 16 }
[limit.peer]
incoming_messages = { rate = 17, capacity = 18, overflow = 0 }
medias = 19
concurrent_streams = 8
resume_grace = 7_000
[telemetry]
address = "http://localhost/"
interval = 20
max_consecutive_failures = 21
data = ["LicenseRoomUsage"]
[fleet]
app_id = 23
api_url = "https://fleet.test/api"
token_file = "TOKEN_FILE"
service_id = 24
address = "2001:db8::1"
http_port_name = "h"
webrtc_port_name = "w"
report_interval = 100
start_timeout = 25
[internal]
log_hanging_api_calls = 22
log_rejected_api_calls = true
bundle_events = 0
voice_coalescing_us = 23
"#;

fn set_listeners(wanted: &mut Config) {
    let tls = Tls {
        certificate_file: "a.pem".into(),
        privatekey_file: "b.pem".into(),
    };
    wanted.quic = Some(Quic {
        binding: (Ipv4Addr::LOCALHOST, 2).into(),
        tls: tls.clone(),
        public_address_override: Some("a:1".to_owned()),
        migration: false,
        keep_alive_interval: ms(3),
        idle_timeout: ms(4),
        pre_send_timeout: ms(5),
        connect_timeout: ms(6),
        no_peers_timeout: ms(7),
    });
    wanted.http = Some(Http {
        binding: "[::1]:3".parse().unwrap(),
        tls,
        public_address_override: Some("b:1".to_owned()),
        webrtc_binding: (Ipv4Addr::LOCALHOST, 4).into(),
        webrtc_candidates: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        timeout: ms(8),
        ping_interval: ms(7),
        no_peers_timeout: ms(9),
        shards: Some(2),
    });
    wanted.metrics = Some(Metrics {
        binding: (Ipv4Addr::LOCALHOST, 5).into(),
        idle_timeout: ms(10),
        global_labels: [("deployment".to_owned(), "foo".to_owned())].into(),
        allowed: vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.7/32".parse().unwrap(),
        ],
        system_update_interval: ms(11),
    });
}

fn set_limits(wanted: &mut Config) {
    wanted.limit = Limit {
        max_clients: Some(12),
        max_rooms: Some(13),
        max_peers: Some(14),
        incoming_messages: MessageRate {
            rate: 17,
            capacity: 18,
            overflow: 0,
        },
        medias: 19,
        concurrent_streams: 8,
        resume_grace: Duration::from_secs(7),
        incoming_media_packets: PacketRate {
            rate: 15,
            capacity: 16,
        },
    };
    wanted.telemetry = Some(Telemetry {
        address: "http://localhost/".to_owned(),
        interval: ms(20),
        max_consecutive_failures: Some(21),
        data: vec![TelemetryField::LicenseRoomUsage],
    });
    wanted.internal = Internal {
        log_hanging_api_calls: Some(ms(22)),
        log_rejected_api_calls: true,
        bundle_events: Duration::ZERO,
        voice_coalescing: Duration::from_micros(23),
    };
}

#[test]
fn every_key_is_read() {
    let mut wanted = Config::new();
    wanted.public_address = Some("[2001:db8::1]:1".to_owned());
    wanted.log = Log {
        verbosity: 3,
        format: Some(LogFormat::Json),
        filters: vec!["dimpl".to_owned(), "sfu::room".to_owned()],
    };
    wanted.supervisor = Some(Supervisor {
        url: "https://gateway/internal".to_owned(),
        credentials: None,
        report_interval: ms(1),
        no_warmup: true,
        version: Some(7),
        shutdown_after: Some(ms(2)),
    });
    wanted.authorization = Authorization {
        allow_unsigned: true,
        allow_published_keys: true,
        leeway: Duration::ZERO,
        keys: Vec::new(),
    };
    set_listeners(&mut wanted);
    set_limits(&mut wanted);
    wanted.fleet = Some(Fleet {
        api_url: "https://fleet.test/api".to_owned(),
        token: Token::new("t").unwrap(),
        app_id: 23,
        service_id: Some(24),
        address: Some("2001:db8::1".parse().unwrap()),
        http_port_name: "h".to_owned(),
        webrtc_port_name: "w".to_owned(),
        report_interval: ms(100),
        start_timeout: ms(25),
        place: None,
    });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), " t\n").unwrap();
    let token = token.path().display().to_string();
    let config = accepted(&EVERY_KEY.replace("TOKEN_FILE", &token));
    assert_eq!(format!("{config:#?}"), format!("{wanted:#?}"));
    let warnings = config.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("allow_unsigned"),
        "{warnings:?}"
    );
}

#[test]
fn every_key_has_a_test_that_reads_it() {
    let settings = Settings::of_text(Path::new(""), EVERY_KEY.to_owned(), HashMap::new());
    let tested: Vec<_> = settings.keys().into_iter().map(|(key, _)| key).collect();
    let is_apart = |name: &str| name == "authorization.keys";
    for section in keys::SECTIONS.iter().filter(|it| !is_apart(it.name)) {
        let shown = |key: &&keys::Key| !matches!(key.shown, keys::Shown::Hidden);
        for key in section.keys.iter().filter(shown) {
            let path = match section.name {
                "" => key.name.to_owned(),
                section => format!("{section}.{}", key.name),
            };
            assert!(tested.contains(&path), "{path}");
        }
    }
}

#[test]
fn what_must_be_set_is_asked_for() {
    let error = refusal("");
    assert!(
        error.starts_with("test.toml:1: public_address: it is missing"),
        "{error}"
    );
    let error = refusal("public_address = \"a:1\"");
    assert!(error.contains("no tokens would be taken"), "{error}");
    accepted(LEAST);
    accepted(&format!("public_address = \"a:1\"\n{}", jwk(1, false)));
    let variable = [("BIFROST_SFU_SUPERVISOR_URL", "http://gateway/")];
    let config = parse_with("", &variable).unwrap();
    assert_eq!(config.supervisor.unwrap().url, "http://gateway/");
}

#[test]
fn keys_of_other_versions_are_taken() {
    assert_eq!(supervised("verbosity = 2").log.verbosity, 2);
    assert_eq!(
        supervised("[log.terminal]\nverbosity = 2\nformat = \"none\"").log,
        Log {
            verbosity: 2,
            format: None,
            filters: Vec::new()
        }
    );
    let text = format!(
        "[quic]\n{CERTIFICATE}max_parallel_connects = 50\n[http]\n{CERTIFICATE}webrtc_enforce_tcp = false\n\
         webrtc_nack_buffer_log2 = 9\nwebrtc_candidates = [\"::1\"]"
    );
    let warnings = supervised(&text).warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("quic.max_parallel_connects has no effect"));
    assert!(warnings[1].starts_with("http.webrtc_nack_buffer_log2 has no effect"));
}

#[test]
fn numbers_that_a_gateway_has_rewritten_are_taken() {
    let text = "[authorization]\nleeway = 7000.0\n[limit]\nmax_clients = 25.0";
    let config = supervised(text);
    assert_eq!(config.authorization.leeway, ms(7000));
    assert_eq!(config.limit.max_clients, Some(25));
}

#[test]
fn what_a_gateway_recommends_is_taken_and_turns_nothing_on_but_metrics() {
    let recommendation = Recommendation {
        report_interval_ms: 2500,
        metrics_server: "10.1.2.3/16".to_owned(),
    };
    let key = KeyPair::from_seed(&[1; 32], KeyKind::Server);
    let merged = recommendation.apply(SUPERVISED, &key).unwrap();
    let config = accepted(&merged);
    assert!(config.quic.is_none() && config.http.is_none());
    let metrics = config.metrics.as_ref().unwrap();
    let allowed: Vec<_> = metrics.allowed.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.1.0.0/16", "127.0.0.0/8", "::1/128"]);
    assert_eq!(
        config.supervisor.as_ref().unwrap().report_interval,
        ms(2500)
    );
    assert_eq!(&config.authorization.keys[0].kid, key.id());
    assert!(config.authorization.keys[0].d.is_some());
    let off = |warning: &String| warning.contains("is off");
    assert!(!config.warnings().iter().any(off));

    let again = accepted(&recommendation.apply(&merged, &key).unwrap());
    assert_eq!(again.authorization.keys.len(), 1, "a key may come twice");

    let variable = [("BIFROST_SFU_SUPERVISOR_URL", "http://gateway/")];
    let merged = recommendation.apply("", &key).unwrap();
    assert!(parse_with(&merged, &variable).unwrap().supervisor.is_some());
    assert!(refusal(&merged).contains("supervisor.url: it is missing"));
}

#[test]
fn a_section_with_a_certificate_but_no_binding_has_the_usual_one() {
    let config = supervised(&format!(
        "[quic]\n{CERTIFICATE}[http]\n{CERTIFICATE}[metrics]"
    ));
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4433));
    assert_eq!(config.quic.unwrap().binding, everywhere);
    assert_eq!(config.http.unwrap().binding, everywhere);
    assert_eq!(config.metrics, Some(Metrics::default()));
}

#[test]
fn what_is_worth_a_thought_is_said() {
    let listener = format!("[quic]\n{CERTIFICATE}");
    for (text, words) in [
        ("", "no client can connect"),
        ("[quic]\nconnect_timeout = 7", "[quic] is off"),
        ("[http]\nwebrtc_candidates = []", "[http] is off"),
        ("[http]\nshards = 1", "[http] is off"),
        ("[authorization]\nallow_unsigned = true", "allow_unsigned"),
        ("[metrics]\nallowed = []", "nobody may read the metrics"),
        (
            "[metrics]\nbinding = \"0.0.0.0:9000\"\nallowed = [\"::/0\"]",
            "everybody may read the metrics",
        ),
    ] {
        let warnings = supervised(text).warnings().concat();
        assert!(warnings.contains(words), "{text}: {warnings}");
    }
    let quiet = "[metrics]\nbinding = \"127.0.0.1:9000\"\nallowed = [\"::/0\"]\n";
    assert_eq!(
        supervised(&format!("{listener}{quiet}")).warnings(),
        [""; 0]
    );
    let web = format!("[http]\n{CERTIFICATE}");
    assert!(supervised(&web).warnings().concat().contains("web clients"));
    let addressed = format!("public_address = \"a:1\"\n{web}");
    assert_eq!(supervised(&addressed).warnings(), [""; 0]);

    for (url, is_told) in [
        ("http://u:p@gateway/", true),
        ("https://u:p@gateway/", false),
        ("http://gateway/", false),
        ("http://u:p@localhost/", false),
        ("http://u:p@[::1]/", false),
    ] {
        let config = accepted(&format!("{listener}[supervisor]\nurl = \"{url}\""));
        let warnings = config.warnings().concat();
        assert_eq!(warnings.contains("in the clear"), is_told, "{url}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/no/such"), HashMap::new()).unwrap_err();
    assert!(error.to_string().starts_with("/no/such cannot be read"));
}

#[test]
fn keys_are_told_apart_by_their_ids() {
    let one = jwk(1, false);
    let both = format!("{one}{}", jwk(1, true));
    let keys = supervised(&both).authorization.keys;
    assert_eq!(keys.len(), 1);
    assert!(keys[0].d.is_some(), "the half that signs is kept");

    let kid = |seed| {
        KeyPair::from_seed(&[seed; 32], KeyKind::Customer)
            .id()
            .clone()
    };
    let other = jwk(2, false).replace(kid(2).as_str(), kid(1).as_str());
    let error = refusal(&format!("{one}{other}{SUPERVISED}"));
    assert!(
        error.starts_with("test.toml:7: authorization.keys[1].kid: another key"),
        "{error}"
    );
}
