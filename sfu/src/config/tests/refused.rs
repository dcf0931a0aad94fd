//! A mistake is told by file, line and key, with what to do instead.

use super::{CERTIFICATE, SUPERVISED, jwk, refusal};

#[track_caller]
fn check_refused(cases: &[(&str, &str)]) {
    for (text, place) in cases {
        let error = refusal(&format!("{text}\n{SUPERVISED}"));
        assert!(
            error.starts_with(&format!("test.toml{place}")),
            "{text}: {error}"
        );
    }
}

/// Settings, and the place and the beginning of what is said of them.
const MISTAKES: &[(&str, &str)] = &[
    ("\npublic_address = 1", ":2: public_address: invalid type"),
    ("public_address = \"localhost\"", ":1: public_address: "),
    (
        "public_address = \"::1:4433\"",
        ":1: public_address: an IPv6",
    ),
    ("verbosity = 4", ":1: verbosity: it must be from 0 to 3"),
    (
        "[log.terminal]\nverbosity = 4",
        ":2: log.terminal.verbosity: ",
    ),
    (
        "[log.terminal]\nformat = \"xml\"",
        ":2: log.terminal.format: ",
    ),
    (
        "[log.terminal]\nfilters = [\"a=b\"]",
        ":2: log.terminal.filters: ",
    ),
    (
        "[authorization]\nleeway = -1",
        ":2: authorization.leeway: invalid value",
    ),
    (
        "[authorization]\nleeway = 1.5",
        ":2: authorization.leeway: invalid value",
    ),
    (
        "[authorization]\nleeway = nan",
        ":2: authorization.leeway: ",
    ),
    (
        "[authorization]\nleeway = 86400001",
        ":2: authorization.leeway: ",
    ),
    (
        "[[authorization.keys]]\nkid = \"a\"",
        ":1: authorization.keys[0]: missing field",
    ),
    (
        "[quic]\nbinding = \"0.0.0.0:1\"",
        ":1: quic.certificate_file: it is missing",
    ),
    (
        "[http]\nprivatekey_file = \"a\"",
        ":1: http.certificate_file: it is missing",
    ),
    (
        "[http]\n\ncertificate_file = \"a\"",
        ":1: http.privatekey_file: it is missing",
    ),
    (
        "[metrics]\nbinding = \":9000\"",
        ":2: metrics.binding: it needs an address before the port: \"0.0.0.0:9000\"",
    ),
    (
        "[metrics]\nbinding = \"9000\"",
        ":2: metrics.binding: it needs an address",
    ),
    (
        "[metrics]\nbinding = \"localhost:9000\"",
        ":2: metrics.binding: it must be an IP address",
    ),
    (
        "[metrics]\nbinding = 9000",
        ":2: metrics.binding: invalid type",
    ),
    (
        "[metrics]\nidle_timeout = 0",
        ":2: metrics.idle_timeout: it must be from 1 to 31536000000 (milliseconds)",
    ),
    (
        "[metrics]\nsystem_update_interval = 0",
        ":2: metrics.system_update_interval: ",
    ),
    (
        "[metrics]\nallowed = [\"::1\",\n\"x\"]",
        ":3: metrics.allowed[1]: ",
    ),
    (
        "[metrics]\nglobal_labels = { \"a-b\" = \"\" }",
        ":2: metrics.global_labels: ",
    ),
    (
        "[metrics]\nglobal_labels = { __a = \"\" }",
        ":2: metrics.global_labels: ",
    ),
    ("[limit]\nmax_clients = 0", ":2: limit.max_clients: "),
    ("[limit]\nmax_rooms = 0", ":2: limit.max_rooms: "),
    (
        "[limit]\nmax_peers = \"25\"",
        ":2: limit.max_peers: invalid type",
    ),
    ("[limit.peer]\nmedias = 256", ":2: limit.peer.medias: "),
    (
        "[limit.peer]\nconcurrent_streams = 9",
        ":2: limit.peer.concurrent_streams: it must be from 0 to 8",
    ),
    (
        "[limit.peer]\nincoming_messages = { rate = 0, capacity = 1, overflow = 1 }",
        ":2: limit.peer.incoming_messages.rate: ",
    ),
    (
        "[limit.network]\nincoming_media_packets = { rate = 1, capacity = 0 }",
        ":2: limit.network.incoming_media_packets.capacity: ",
    ),
    ("[telemetry]", ":1: telemetry.address: it is missing"),
    (
        "[telemetry]\naddress = \"ftp://a\"",
        ":2: telemetry.address: it must be",
    ),
    (
        "[telemetry]\naddress = \"http://a/?b\"",
        ":2: telemetry.address: it must not",
    ),
    (
        "[telemetry]\naddress = \"http://u@a/\"",
        ":2: telemetry.address: it must not",
    ),
    (
        "[telemetry]\naddress = \"http://a\"\ninterval = 0",
        ":3: telemetry.interval: ",
    ),
    (
        "[telemetry]\naddress = \"http://a\"\nmax_consecutive_failures = 0",
        ":3: telemetry.max_consecutive_failures: ",
    ),
    (
        "[telemetry]\naddress = \"http://a\"\ndata = [\"Licence\"]",
        ":3: telemetry.data: it may hold LicenseValidUntil, ",
    ),
    (
        "[internal]\nbundle_events = 1001",
        ":2: internal.bundle_events: ",
    ),
    (
        "[internal]\nvoice_coalescing_us = 10001",
        ":2: internal.voice_coalescing_us: ",
    ),
    (
        "[internal]\nlog_hanging_api_calls = 0",
        ":2: internal.log_hanging_api_calls: ",
    ),
    ("quic = 5", ":1: quic: invalid type"),
    ("[[quic]]", ":1: quic"),
    ("a b", ":1: the file: "),
];

#[test]
fn a_mistake_is_told_by_line_and_key() {
    check_refused(MISTAKES);
}

#[test]
fn a_mistake_of_a_listener_is_told_by_line_and_key() {
    for (section, line, place) in [
        ("quic", "keep_alive_interval = 0", "keep_alive_interval"),
        ("quic", "idle_timeout = 0", "idle_timeout"),
        ("quic", "idle_timeout = 5_000", "keep_alive_interval"),
        ("quic", "connect_timeout = 0", "connect_timeout"),
        ("quic", "pre_send_timeout = 60_001", "pre_send_timeout"),
        (
            "quic",
            "public_address_override = \"a\"",
            "public_address_override",
        ),
        ("http", "timeout = 5_000", "ping_interval"),
        ("http", "ping_interval = 10_000", "ping_interval"),
        ("http", "shards = 0", "shards"),
        ("http", "webrtc_binding = \"8844\"", "webrtc_binding"),
        ("http", "webrtc_candidates = [\"\"]", "webrtc_candidates"),
        (
            "http",
            "webrtc_candidates = [\"0.0.0.0\"]",
            "webrtc_candidates",
        ),
        (
            "http",
            "webrtc_nack_buffer_log2 = 17",
            "webrtc_nack_buffer_log2",
        ),
    ] {
        let error = refusal(&format!("{SUPERVISED}[{section}]\n{CERTIFICATE}{line}"));
        // A key that is not set is told at its section.
        let number = if line.starts_with(place) { 6 } else { 3 };
        let wanted = format!("test.toml:{number}: {section}.{place}: ");
        assert!(error.starts_with(&wanted), "{line}: {error}");
    }
}

#[test]
fn a_supervisor_without_sense_is_refused() {
    for (lines, place) in [
        ("report_interval = 1", ":1: supervisor.url: it is missing"),
        ("url = \"gateway:7000\"", ":2: supervisor.url: it must be"),
        ("url = \"http://\"", ":2: supervisor.url: it must be"),
        ("url = \"http://a/?b\"", ":2: supervisor.url: it must not"),
        (
            "url = \"http://a\"\nreport_interval = 0",
            ":3: supervisor.report_interval: ",
        ),
        (
            "url = \"http://a\"\nversion = -1",
            ":3: supervisor.version: ",
        ),
        (
            "url = \"http://a\"\nshutdown_after = 5_000",
            ":3: supervisor.shutdown_after: it must be longer",
        ),
    ] {
        let error = refusal(&format!("[supervisor]\n{lines}"));
        assert!(error.starts_with(&format!("test.toml{place}")), "{error}");
    }
}

#[test]
fn a_key_that_nothing_reads_is_refused_with_the_one_that_was_meant() {
    check_refused(&[
        (
            "[quic]\nbindng = 1",
            ":2: quic.bindng: unknown key `bindng`: did you mean `binding`?",
        ),
        (
            "[qiuc]",
            ":1: qiuc: unknown key `qiuc`: did you mean `quic`?",
        ),
        (
            "[limit.per]",
            ":1: limit.per: unknown key `per`: did you mean `peer`?",
        ),
        (
            "[log]\nterminl = 1",
            ":2: log.terminl: unknown key `terminl`: did you mean `terminal`?",
        ),
        (
            "[limit]\nmedias = 5",
            ":2: limit.medias: unknown key `medias`: it belongs to [limit.peer]",
        ),
        (
            "binding = \"\"",
            ":1: binding: unknown key `binding`: it belongs to [quic], [http] or [metrics]",
        ),
        (
            "[quic]\npublic_address = \"\"",
            ":2: quic.public_address: unknown key `public_address`: it belongs to the top of the file",
        ),
        (
            "[limit.peer]\nincoming_messages = { rate = 1, capacity = 1, overflw = 1 }",
            ":2: limit.peer.incoming_messages.overflw: unknown key `overflw`: did you mean `overflow`?",
        ),
        (
            "[[authorization.keys]]\nkid = \"\"\nkyt = \"\"",
            ":3: authorization.keys[0].kyt: unknown key `kyt`: did you mean `kty`?",
        ),
        (
            "\nsomething.else = 1",
            ":2: something: unknown key `something`",
        ),
    ]);
    let long = format!("{} = 1", "a".repeat(100_000));
    assert!(refusal(&long).ends_with(": unknown key"));
}

#[test]
fn what_other_servers_have_is_refused_with_what_to_do_instead() {
    check_refused(&[
        (
            "[log.loki]\nurl = \"a\"",
            ":1: log.loki: this server does not send its log",
        ),
        (
            "[database]\nurl = \"a\"",
            ":1: database: this server has no database",
        ),
        (
            "[database.export]",
            ":1: database: this server has no database",
        ),
        (
            "[provisioning]\nurl = \"a\"",
            ":1: provisioning: this server has no provisioning",
        ),
        (
            "[http_client]",
            ":1: http_client: this server has no settings",
        ),
        (
            "[license]\nsignature = \"\"",
            ":1: license: it belongs into a file of its own",
        ),
        (
            "[http]\nwebrtc_ports = { begin = 1, end = 2 }",
            ":2: http.webrtc_ports: it is now one port for all clients: http.webrtc_binding",
        ),
        (
            "[http]\nwebrtc_enforce_tcp = true",
            ":2: http.webrtc_enforce_tcp: it is not supported",
        ),
        (
            "verbosity = 1\n[log.terminal]\nverbosity = 1",
            ":1: verbosity: log.terminal.verbosity is set as well: keep one",
        ),
    ]);
}

#[test]
fn a_key_is_blamed_for_the_half_that_is_wrong() {
    let good = jwk(1, true);
    let other = jwk(2, true);
    let d = |text: &str| text.lines().last().expect("d is the last line").to_owned();
    for (text, place) in [
        (
            good.replace("OKP", "RSA"),
            ":3: authorization.keys[0].kty: ",
        ),
        (
            good.replace("Ed25519", "X25519"),
            ":4: authorization.keys[0].crv: ",
        ),
        (
            good.replace("x = \"", "x = \"A"),
            ":5: authorization.keys[0].x: ",
        ),
        (
            good.replace(&d(&good), &d(&other)),
            ":6: authorization.keys[0].d: x does not belong to d",
        ),
    ] {
        check_refused(&[(&text, place)]);
    }
}
