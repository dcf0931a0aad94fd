//! Every key there is, with an example and a sentence: what the sample file shows and what a mistyped key is held
//! against.

mod shape;

pub(super) use self::shape::{Key, Members, SectionTable, Shown};

const fn key(name: &'static str, shown: Shown, doc: &'static str) -> Key {
    Key {
        name,
        shown,
        members: Members::None,
        doc,
    }
}

const fn table(name: &'static str, shown: Shown, members: Members, doc: &'static str) -> Key {
    Key {
        name,
        shown,
        members,
        doc,
    }
}

const fn section(name: &'static str, doc: &'static str, keys: &'static [Key]) -> SectionTable {
    SectionTable {
        name,
        doc,
        is_list: false,
        keys,
    }
}

use Shown::{Default, Example, Hidden, Needed, Set, Told};

const CERTIFICATE: Key = key(
    "certificate_file",
    Set("\"fullchain.pem\""),
    "PEM file with the leaf certificate, then intermediate ones.",
);
const PRIVATE_KEY: Key = key(
    "privatekey_file",
    Set("\"privkey.pem\""),
    "PEM file with the certificate's private key.",
);
const OVERRIDE: Key = key(
    "public_address_override",
    Example("\"voice.example.com:4433\""),
    "Host and port that these clients are told instead of public_address.",
);
const NO_PEERS_TIMEOUT: Key = key(
    "no_peers_timeout",
    Default("1_000"),
    "Milliseconds that a client may stay after it has left its last room.",
);

/// Every section, in the order of the sample.
pub(super) const SECTIONS: &[SectionTable] = &[
    section(
        "",
        "",
        &[
            key(
                "public_address",
                Set("\"localhost:4433\""),
                "Host and port at which clients reach this server; an IPv6 address stands in brackets. Its identity \
                 towards the gateway. Needed unless there is a [supervisor], which otherwise takes the address that \
                 reports come from.",
            ),
            key(
                "verbosity",
                Hidden,
                "The same as log.terminal.verbosity: one of the two may be set.",
            ),
        ],
    ),
    section(
        "log.terminal",
        "The log, on standard error.",
        &[
            key(
                "verbosity",
                Default("1"),
                "0 errors and warnings, 1 information, 2 debugging, 3 everything. `verbosity` at the top of the file \
                 is the same.",
            ),
            key(
                "format",
                Default("\"text\""),
                "How lines look: \"text\", \"json\", or \"none\" for no log.",
            ),
            key(
                "filters",
                Default("[]"),
                "Targets, with all below them, of which only errors are written, e.g. \"dimpl\".",
            ),
        ],
    ),
    section(
        "supervisor",
        "The gateway above this server. It places rooms here, and recommends settings for what is not set here.",
        &[
            key(
                "url",
                Needed("\"http://localhost:7000/internal\""),
                "Address of the gateway, which may hold a user and a password. The variable \
                 BIFROST_SFU_SUPERVISOR_URL can hold it instead.",
            ),
            key(
                "report_interval",
                Default("5_000"),
                "Milliseconds between two reports.",
            ),
            key(
                "no_warmup",
                Default("false"),
                "Report at once after the start instead of after one interval.",
            ),
            key(
                "version",
                Example("123_456"),
                "A number of your choice, sent with reports.",
            ),
            key(
                "shutdown_after",
                Example("300_000"),
                "Milliseconds without an answer after which the server ends. If it is not set, the server goes on.",
            ),
        ],
    ),
    section(
        "authorization",
        "Whose tokens are taken. Below a gateway nothing is needed here: it gives the server a key.",
        &[
            key(
                "allow_unsigned",
                Default("false"),
                "Take tokens that nobody signed: anybody can be anybody. Never in production.",
            ),
            key(
                "leeway",
                Default("5_000"),
                "Milliseconds before and after its time that a token is taken.",
            ),
            key(
                "allow_published_keys",
                Default("false"),
                "Take keys whose private halves are printed in documents. Never in production.",
            ),
        ],
    ),
    SectionTable {
        name: "authorization.keys",
        doc: "A key that may sign tokens, as JWK; the section may be there several times. `bifrost config sfu` prints \
              it for an access key. Replace this one, or remove it below a gateway.",
        is_list: true,
        keys: &[
            key("kid", Set("\"AVkPxE9H+Uy6\""), "The key's id."),
            key(
                "kty",
                Set("\"OKP\""),
                "The type of the key: it must be \"OKP\".",
            ),
            key(
                "crv",
                Set("\"Ed25519\""),
                "The curve: it must be \"Ed25519\".",
            ),
            key(
                "x",
                Set("\"kGmKO4HNEkHLzMp_xKuo-9-xFx-Iblg5DnO3wP-tNYI\""),
                "The public half.",
            ),
            key(
                "d",
                Told,
                "The private half. A server without a gateway needs it to sign the tokens with which clients come back \
                 after an interruption; to check tokens x is enough.",
            ),
        ],
    },
    section(
        "quic",
        "Native clients. The section is on when it has a binding or a certificate_file.",
        &[
            key(
                "binding",
                Default("\"0.0.0.0:4433\""),
                "Where they connect, over UDP.",
            ),
            CERTIFICATE,
            PRIVATE_KEY,
            OVERRIDE,
            key(
                "migration",
                Default("true"),
                "Let clients change their address.",
            ),
            key(
                "keep_alive_interval",
                Default("5_000"),
                "Milliseconds between two packets that only keep a connection alive; less than idle_timeout.",
            ),
            key(
                "idle_timeout",
                Default("30_000"),
                "Milliseconds of silence after which a connection is dropped.",
            ),
            key(
                "pre_send_timeout",
                Default("500"),
                "Milliseconds that a packet waits for room in the send buffer.",
            ),
            key(
                "connect_timeout",
                Default("1_000"),
                "Milliseconds until a connection must have become a client.",
            ),
            NO_PEERS_TIMEOUT,
            key("max_parallel_connects", Hidden, "It has no effect."),
        ],
    ),
    section(
        "http",
        "Web clients. The section is on when it has a binding or a certificate_file.",
        &[
            key(
                "binding",
                Default("\"0.0.0.0:4433\""),
                "Where they connect, over TCP.",
            ),
            CERTIFICATE,
            PRIVATE_KEY,
            OVERRIDE,
            key(
                "webrtc_binding",
                Default("\"0.0.0.0:8844\""),
                "The one UDP socket of all web clients' voice.",
            ),
            key(
                "webrtc_candidates",
                Default("[]"),
                "IP addresses offered to clients, e.g. [\"127.0.0.1\", \"::1\"]. If it is empty, those of the public \
                 address.",
            ),
            key(
                "timeout",
                Default("10_000"),
                "Milliseconds of silence after which a connection is dropped.",
            ),
            key(
                "ping_interval",
                Default("5_000"),
                "Milliseconds between two pings; less than timeout.",
            ),
            NO_PEERS_TIMEOUT,
            key(
                "shards",
                Example("2"),
                "Threads that forward voice. If it is not set, one less than the machine has cores, at least one.",
            ),
            key("webrtc_enforce_tcp", Hidden, "It must be false."),
            key("webrtc_nack_buffer_log2", Hidden, "It has no effect."),
        ],
    ),
    section(
        "metrics",
        "A listener for Prometheus. The section is on when it is there.",
        &[
            key(
                "binding",
                Default("\"127.0.0.1:9000\""),
                "Where Prometheus calls, over TCP.",
            ),
            key(
                "idle_timeout",
                Default("3_600_000"),
                "Milliseconds after its last change that a series is left out.",
            ),
            table(
                "global_labels",
                Example("{ deployment = \"foo\" }"),
                Members::Any,
                "Labels that are added to every series.",
            ),
            key(
                "allowed",
                Default("[\"127.0.0.0/8\", \"::1/128\"]"),
                "Subnets that may read the metrics.",
            ),
            key(
                "system_update_interval",
                Default("15_000"),
                "Milliseconds between two looks at the machine.",
            ),
        ],
    ),
    section(
        "limit",
        "What the server takes at most, all rooms together. What is not set is not limited here; a licence may limit it.",
        &[
            key("max_clients", Example("25"), "Clients at the same time."),
            key("max_rooms", Example("25"), "Rooms at the same time."),
            key("max_peers", Example("25"), "Peers at the same time."),
        ],
    ),
    section(
        "limit.network",
        "Voice on its way in.",
        &[table(
            "incoming_media_packets",
            Default("{ rate = 50, capacity = 100 }"),
            Members::Of(&["rate", "capacity"]),
            "Packets of one media: `rate` each second, `capacity` at once after a pause. More are dropped.",
        )],
    ),
    section(
        "limit.peer",
        "Each peer.",
        &[
            table(
                "incoming_messages",
                Default("{ rate = 10, capacity = 50, overflow = 20 }"),
                Members::Of(&["rate", "capacity", "overflow"]),
                "Commands of one peer: `rate` each second, `capacity` at once after a pause. `overflow` more wait their \
                 turn, and what comes then is refused.",
            ),
            key("medias", Default("5"), "Medias that a peer may create."),
            key(
                "concurrent_streams",
                Default("0"),
                "Streams that a peer hears at the same time, the nearest first; at most 8, and 0 is no limit.",
            ),
            key(
                "resume_grace",
                Default("5_000"),
                "Milliseconds that the place of a peer which lost its connection is kept, if it asked for that when it \
                 joined. At most 300_000, and 0 is not at all.",
            ),
        ],
    ),
    section(
        "telemetry",
        "Reports about the licence. The section is on when it is there.",
        &[
            key(
                "address",
                Needed("\"http://localhost/\""),
                "Where reports are posted.",
            ),
            key(
                "interval",
                Default("5_000"),
                "Milliseconds between two reports.",
            ),
            key(
                "max_consecutive_failures",
                Example("4"),
                "The server ends after this many failures in a row. If it is not set, it goes on.",
            ),
            key(
                "data",
                Default(
                    "[\"LicenseValidUntil\", \"LicenseLicensee\", \"LicenseSerialNumber\", \"LicenseIssuer\"]",
                ),
                "What is in a report; also LicenseClientLimit, LicenseClientUsage, LicensePeerLimit, LicensePeerUsage, \
                 LicenseRoomLimit and LicenseRoomUsage.",
            ),
        ],
    ),
    section(
        "fleet",
        "Where this server runs as a service on ODIN Fleet: it learns from there how it is reached, and tells there how it \
         does. The section is on when it is there. The variable ODIN_API_TOKEN, or token_file, holds a token of the \
         account.",
        &[
            key(
                "app_id",
                Needed("7"),
                "The app of the service; or the variable ODIN_APP_ID.",
            ),
            key(
                "api_url",
                Default("\"https://fleet.4players.io/api\""),
                "Address of the Fleet API.",
            ),
            key(
                "token_file",
                Told,
                "A file with the token, when ODIN_API_TOKEN is not set.",
            ),
            key(
                "service_id",
                Example("1234"),
                "The service; or the variable ODIN_SERVICE_ID. If it is not set, the server looks for the service that \
                 runs at its address with its ports.",
            ),
            key(
                "address",
                Example("\"203.0.113.7\""),
                "IP address of the node, to find the service by; or the variable PUBLIC_IP. If it is not set, those of \
                 this machine.",
            ),
            key(
                "http_port_name",
                Default("\"voice_http\""),
                "The service's TCP port that leads to http.binding.",
            ),
            key(
                "webrtc_port_name",
                Default("\"voice_webrtc\""),
                "The service's UDP port that leads to http.webrtc_binding.",
            ),
            key(
                "report_interval",
                Default("5_000"),
                "Milliseconds between two reports in the service's metadata.",
            ),
            key(
                "start_timeout",
                Default("60_000"),
                "Milliseconds until the service and its ports must have been found.",
            ),
        ],
    ),
    section(
        "internal",
        "For debugging.",
        &[
            key(
                "log_hanging_api_calls",
                Example("1_000"),
                "Milliseconds that a call may take until there is a warning. If it is not set, there is none.",
            ),
            key(
                "log_rejected_api_calls",
                Default("false"),
                "Log every call that is refused.",
            ),
            key(
                "bundle_events",
                Default("20"),
                "Milliseconds that events for one peer are gathered into one frame; at most 1000.",
            ),
            key(
                "voice_coalescing_us",
                Default("1_000"),
                "Microseconds that a busy shard holds a receiver's voice, so that several packets go as one; at most \
                 10000. With 0 every packet goes at once, as it does on a shard that is not busy.",
            ),
        ],
    ),
];
