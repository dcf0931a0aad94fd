//! What the settings take and refuse.

use std::io::Write as _;

use super::*;

const SAMPLE: &str = include_str!("../../gateway.toml");

/// 32 bytes of zeros.
const MASTER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Everything that must be set.
const LEAST: &str = "unknown_customers = \"unlimited\"\n[internal]\nlisten = \"127.0.0.1:1\"\n";

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, SettingsError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(file.path()), variables.collect())
}

fn load(text: &str) -> Result<Config, SettingsError> {
    load_with(text, &[("BIFROST_GATEWAY_MASTER_KEY", MASTER)])
}

fn refusal(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

#[test]
fn the_sample_shows_the_defaults() {
    let sample = SAMPLE.replace("master_key_file", "# master_key_file");
    let config = load(&sample).unwrap();
    let CustomerSource::Static(customers) = &config.customers else {
        panic!("the sample lists customers");
    };
    assert_eq!(customers[0].access_keys.len(), 1);
    let default = Config::new(config.master_key.clone(), config.customers.clone());
    assert_eq!(config.listen, default.listen);
    assert_eq!(config.internal.listen, default.internal.listen);
    assert_eq!(config.limit, default.limit);

    // What is commented out as a default is the default.
    let mut limits = false;
    let uncommented = sample.lines().map(|line| {
        limits |= line == "# [limit]" || line == "# [sfu]";
        limits &= !line.is_empty();
        line.strip_prefix("# ").filter(|_| limits).unwrap_or(line)
    });
    let config = load(&uncommented.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(config.limit, default.limit);
    assert_eq!(config.timing, default.timing);
    assert_eq!(config.metrics_server, default.metrics_server);
}

#[test]
fn every_way_to_say_it_is_read() {
    let text = r#"
        listen = "127.0.0.1:7000"
        unknown_customers = { max_peers = 25, max_rooms = 5 }
        room_match = "prefix"
        token_lifetime = 5
        token_leeway = 0
        allow_unauthenticated_internal = true
        [customer_api]
        file = "customers.json"
        update_interval = 0.5
        [pools]
        available = ["main", "beta-2"]
        default = "main"
        [sfu]
        update_interval = 1
        disable_timeout = 1.5
        remove_timeout = 6
        [store]
        prefix = "test"
        [limit]
        address = { per_second = 0, burst = 0 }
        trusted_proxies = ["10.0.0.0/8", "::1/128"]
    "#;
    let url = ("BIFROST_GATEWAY_REDIS_URL", "redis://127.0.0.1:1/2");
    let config = load_with(text, &[("BIFROST_GATEWAY_MASTER_KEY", MASTER), url]).unwrap();
    let limits = UsageLimits {
        peers: Some(25),
        rooms: Some(5),
    };
    assert_eq!(config.unknown_customers, UnknownCustomers::Limited(limits));
    assert_eq!(config.timing.disable_timeout, Duration::from_millis(1500));
    assert_eq!(config.token_leeway, Duration::ZERO);
    assert!(matches!(config.customers, CustomerSource::File { .. }));
    assert_eq!(config.redis.unwrap().prefix, "test");
    assert_eq!(config.limit.trusted_proxies.len(), 2);
}

#[test]
fn a_mistake_is_told_by_line_and_key() {
    for (text, place) in [
        ("\nlisten = 7", ":2: listen: "),
        (
            "[limit]\nbody_bites = 7",
            ":2: limit.body_bites: unknown field",
        ),
        ("[limit]\nrequests = 0", ":2: limit.requests: "),
        (
            "[limit]\nrequests = 18446744073709551615",
            ":2: limit.requests: ",
        ),
        (
            "[limit]\nkey = { per_second = 1, burst = 0 }",
            ":2: limit.key: ",
        ),
        ("token_lifetime = -1", ":1: token_lifetime: "),
        ("token_lifetime = 0.5", ":1: token_lifetime: "),
        ("token_lifetime = nan", ":1: token_lifetime: "),
        ("[sfu]\nupdate_interval = 0", ":2: sfu.update_interval: "),
        ("[sfu]\nupdate_interval = 8", ": sfu.disable_timeout: "),
        ("[sfu]\nremove_timeout = 1", ":2: sfu.remove_timeout: "),
        ("[sfu]\nmetrics_server = \"x\"", ":2: sfu.metrics_server: "),
        (
            "[pools]\navailable = [\"internal\"]\ndefault = \"internal\"",
            ":2: pools.available: ",
        ),
        (
            "[pools]\navailable = [\"a\"]\ndefault = \"b\"",
            ":3: pools.default: ",
        ),
        ("[store]\nredis = \"http://x\"", ":2: store.redis: "),
        ("[store]\nprefix = \"{a}\"", ":2: store.prefix: "),
        (
            "[customer_api]\nurl = \"ftp://x\"",
            ":2: customer_api.url: ",
        ),
        ("[customer_api]", ":1: customer_api: "),
        (
            "unknown_customers = { max_peeers = 1 }",
            ":1: unknown_customers: ",
        ),
        ("room_match = \"any\"", ":1: room_match: "),
    ] {
        let error = refusal(&format!("{text}\n[internal]\nlisten = \"127.0.0.1:1\""));
        assert!(error.contains(place), "{text}: {error}");
    }
}

#[test]
fn the_master_key_must_be_secret_and_given_once() {
    let error = load_with(LEAST, &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("BIFROST_GATEWAY_MASTER_KEY is not set"),
        "{error}"
    );
    let sample = "VGhpcyBpcyBhIHN1cGVyIHNlY3JldCBtYXN0ZXIga2V5IQ==";
    let error = load_with(LEAST, &[("BIFROST_GATEWAY_MASTER_KEY", sample)]).unwrap_err();
    assert!(error.to_string().contains("sample master key"), "{error}");
    let in_file = format!("master_key = \"{sample}\"\n{LEAST}");
    let error = load_with(&in_file, &[]).unwrap_err().to_string();
    assert!(
        error.contains(":1: master_key: ") && error.contains("sample"),
        "{error}"
    );
    let twice = format!("master_key = \"{MASTER}\"\n{LEAST}");
    assert!(refusal(&twice).contains(":1: master_key: "));
}

#[test]
fn internal_is_closed_unless_said_in_so_many_words() {
    let root = "unknown_customers = \"unlimited\"\n";
    for open in ["", "[internal]\nlisten = \"0.0.0.0:1\""] {
        assert!(
            refusal(&format!("{root}{open}")).contains("private keys"),
            "{open}"
        );
    }
    for closed in [
        "[internal]\nlisten = \"[::1]:1\"",
        "allow_unauthenticated_internal = true",
        "[[internal.users]]\nname = \"a\"\npassword_env = \"P\"",
    ] {
        let variables = [("BIFROST_GATEWAY_MASTER_KEY", MASTER), ("P", "secret")];
        load_with(&format!("{root}{closed}"), &variables).expect(closed);
    }
    let no_password = format!("{root}[[internal.users]]\nname = \"a\"");
    assert!(refusal(&no_password).contains(":2: internal.users[0]: it needs a password"));
}

#[test]
fn a_gateway_that_would_take_no_token_does_not_start() {
    let error = refusal("[internal]\nlisten = \"127.0.0.1:1\"");
    assert!(error.contains("no tokens would be taken"), "{error}");
}

#[test]
fn a_key_that_everybody_knows_is_refused() {
    let customer = "[[customers]]\nid = \"a\"\n[[customers.access_keys]]\nkid = \"Afkwfu4BVHDh\"\nkty = \"OKP\"\n\
                    crv = \"Ed25519\"\nx = \"a5J2bhmU7vsY0LrW1zt56iUdmhRUNz7Pl9eBoCy29d8\"\n";
    let text = format!("{LEAST}{customer}");
    let error = refusal(&text);
    assert!(
        error.contains(":10: customers[0].access_keys[0].x: everybody knows"),
        "{error}"
    );
    load(&format!("allow_published_keys = true\n{text}")).unwrap();
    let other = customer.replace("a5J2", "a5J3");
    assert!(refusal(&format!("{LEAST}{other}")).contains("access_keys[0].x: x must be 32 bytes"));
}
