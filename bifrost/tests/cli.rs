//! The program as a user runs it: flags, files, standard input, exit codes.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use gateway::Config;
use serde_json::Value;
use tempfile::TempDir;

/// Access keys and tokens of `@4players/odin-tokens`.
const VECTORS: &str = include_str!("../../gateway-api/tests/vectors/access-keys.json");

struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect("standard output is JSON")
    }

    /// One sentence on standard error, nothing on standard output.
    fn failed(&self, code: i32, words: &str) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        assert!(self.err.contains(words), "{words}: {}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
    }
}

fn bifrost(arguments: &[&str], stdin: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bifrost"))
        .args(arguments)
        .env_remove("BIFROST_LICENSE_PUBLIC_KEY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    // A program that does not read has closed the pipe.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run {
        code: output.status.code().expect("an exit code"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn vectors() -> Vec<Value> {
    serde_json::from_str(VECTORS).expect("the vectors are JSON")
}

fn new_key() -> String {
    bifrost(&["access-key", "new"], "").ok()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, permissions).expect("permissions");
        path
    }
}

#[test]
fn every_new_access_key_is_another_and_can_be_read() {
    let (one, other) = (new_key(), new_key());
    assert_ne!(one, other);
    for key in [&one, &other] {
        assert_eq!(key.trim_end().len(), 44);
        let shown = bifrost(&["access-key", "inspect", "--json"], key).json();
        assert_eq!(shown["version"], 1);
        assert_eq!(shown["published"], false);
    }
    let made = bifrost(&["access-key", "new", "--json"], "").json();
    let key = made["access_key"].as_str().expect("a key");
    let public = bifrost(&["access-key", "public", "--json"], key).json();
    assert_eq!(public["kid"], made["kid"]);
    assert_eq!(public["x"], made["x"]);
}

#[test]
fn keys_and_tokens_are_those_of_the_token_library() {
    for vector in vectors() {
        let text = |name: &str| vector[name].as_str().expect("a text").to_owned();
        let key = text("access_key");
        let jwk = bifrost(&["access-key", "public"], &key).json();
        assert_eq!((&jwk["kid"], &jwk["x"]), (&vector["kid"], &vector["x"]));
        assert!(jwk.get("d").is_none());

        let mut arguments = ["token", "sign", "--user"].map(str::to_owned).to_vec();
        arguments.extend([text("user_id"), "--not-before".to_owned()]);
        arguments.push(vector["time_unix"].to_string());
        let mut flag = |name: &str, value: &Value| {
            let values = match value {
                Value::Null => vec![],
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            };
            for value in values {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                arguments.extend([name.to_owned(), value]);
            }
        };
        flag("--room", &vector["room_id"]);
        for name in ["customer", "audience", "subject", "lifetime"] {
            flag(&format!("--{name}"), &vector["options"][name]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(bifrost(&arguments, &key).ok().trim_end(), text("token"));
    }
}

/// The words that sign a token for room r.
fn sign<'a>(key: &'a str, user: &'a str) -> [&'a str; 8] {
    [
        "token",
        "sign",
        "--key-file",
        key,
        "--room",
        "r",
        "--user",
        user,
    ]
}

#[test]
fn a_token_goes_from_sign_through_a_pipe_to_verify() {
    let folder = Folder::new();
    let key = folder.path("access.key");
    bifrost(&["access-key", "new", "--out", &key], "").ok();
    let sign = sign(&key, "");
    let token = bifrost(&[&sign[..], &["--audience", "sfu"]].concat(), "").ok();

    let verify = ["token", "verify", "--key-file", &key];
    let accepted = bifrost(&verify, &token);
    assert!(accepted.out.starts_with("accepted "), "{}", accepted.out);
    assert_eq!((accepted.code, accepted.err.as_str()), (0, ""));
    let in_json = bifrost(&[&verify[..], &["--json", token.trim_end()]].concat(), "").json();
    assert_eq!(in_json["accepted"], true);
    assert_eq!(in_json["claims"]["rid"], "r");

    let public = bifrost(&["access-key", "public", "--key-file", &key], "").ok();
    let set = format!("{{\"keys\": [{public}]}}");
    let list = format!("[{public}]");
    for (name, text) in [("jwk", &public), ("set", &set), ("list", &list)] {
        let jwk = folder.write(name, text, 0o644);
        let run = bifrost(&["token", "verify", "--jwk-file", &jwk], &token);
        assert_eq!((run.code, run.err.as_str()), (0, ""));
    }
}

#[test]
fn a_token_that_is_not_to_be_taken_is_refused_with_its_reason() {
    let folder = Folder::new();
    let key = folder.write("key", &new_key(), 0o600);
    let other = folder.write("other", &new_key(), 0o600);
    let sign = |flags: &[&str]| {
        let sign = sign(&key, "u");
        bifrost(&[&sign[..], flags].concat(), "").ok()
    };
    let verify = |token: &str, key: &str, flags: &[&str]| {
        bifrost(
            &[&["token", "verify", "--key-file", key][..], flags].concat(),
            token,
        )
    };
    let token = sign(&[]);
    let (signed, signature) = token.trim_end().rsplit_once('.').expect("a signature");
    let (header, _) = signed.split_once('.').expect("claims");
    verify(&token, &other, &[]).failed(1, "refused: it is signed with key");
    let tampered = format!("{header}.e30.{signature}");
    verify(&tampered, &key, &[]).failed(1, "refused: invalid signature in token");
    verify("", &key, &[]).failed(1, "refused: token must have three segments");
    let old = sign(&["--not-before", "1700000000"]);
    verify(&old, &key, &[]).failed(1, "refused: token has expired");
    let forever = ["--leeway-ms", "9999999999999"];
    assert_eq!(verify(&old, &key, &forever).code, 0);
    let sfu = sign(&["--audience", "sfu"]);
    let for_gateway = ["--audience", "gateway"];
    verify(&sfu, &key, &for_gateway).failed(1, "refused: token audience does not match");

    let in_json = verify(&old, &key, &["--json"]);
    assert_eq!(in_json.code, 1);
    assert_eq!(in_json.json()["accepted"], false);
    assert_eq!(in_json.json()["reason"], "token has expired");
}

#[test]
fn decode_shows_without_believing_and_says_so() {
    let vector = &vectors()[0];
    let token = vector["token"].as_str().expect("a token");
    let (signed, _) = token.rsplit_once('.').expect("a signature");
    let unsigned = format!("{signed}.nothing");
    let shown = bifrost(&["token", "decode"], &unsigned).ok();
    let claims = vector["claims_json"].as_str().expect("claims");
    assert!(shown.contains(&format!("\nclaims  {claims}\n")), "{shown}");
    assert!(shown.contains("\nnot checked: "), "{shown}");
    let in_json = bifrost(&["token", "decode", "--json", &unsigned], "").json();
    assert_eq!(in_json["checked"], false);
    assert_eq!(in_json["header"]["kid"], vector["kid"]);
    bifrost(&["token", "decode"], "nonsense").failed(64, "three segments");
}

#[test]
fn a_gateway_takes_the_settings_that_are_printed_for_it() {
    let folder = Folder::new();
    let key = new_key();
    let arguments = [
        "config",
        "gateway",
        "--customer",
        "studio",
        "--max-peers",
        "100",
    ];
    let more = ["--max-rooms", "10", "--namespace", "eu"];
    let printed = bifrost(&[&arguments[..], &more].concat(), &key).ok();
    let text = format!(
        "master_key = \"vTkAgcUvr4CqV1dGCVbTTpBfEkRDxG3x6SoQRg6u2rQ=\"\n\
         [internal]\nlisten = \"127.0.0.1:7001\"\n{printed}"
    );
    let path = folder.write("gateway.toml", &text, 0o600);
    let config = Config::load(Some(path.as_ref()), [].into()).expect("good settings");
    let config = format!("{:?}", config.customers);
    let kid = bifrost(&["access-key", "public"], &key).json()["kid"].to_string();
    for part in ["\"studio\"", "Some(100)", "Some(10)", "Some(\"eu\")", &kid] {
        assert!(config.contains(part), "{part}: {config}");
    }
    let list = bifrost(&[&arguments[..], &["--json"]].concat(), &key).json();
    assert_eq!(list[0]["maxPeers"], 100);
    assert_eq!(
        list[0]["accessKeys"][0]["publicKey"]["kid"].to_string(),
        kid
    );
}

#[test]
fn the_private_half_is_printed_only_when_asked_for() {
    let key = new_key();
    let public = bifrost(&["config", "sfu"], &key).ok();
    let private = bifrost(&["config", "sfu", "--with-private"], &key).ok();
    assert!(public.starts_with("[[authorization.keys]]\nkid = "));
    let d = private
        .strip_prefix(&public)
        .expect("the same lines, then d");
    assert!(d.starts_with("d = \""), "{d}");
}

#[test]
fn a_voice_server_takes_the_settings_that_are_printed_for_it() {
    let folder = Folder::new();
    let printed = bifrost(&["config", "sfu", "--with-private"], &new_key()).ok();
    let text = format!("public_address = \"localhost:4433\"\n{printed}");
    let path = folder.write("config.toml", &text, 0o600);
    let config = sfu::Config::load(path.as_ref(), [].into()).expect("good settings");
    assert!(config.authorization.keys[0].d.is_some());
}

#[test]
fn a_licence_goes_from_sign_to_verify() {
    let folder = Folder::new();
    let key = folder.write("key", &new_key(), 0o600);
    let sign = |flags: &[&str]| {
        let sign = ["license", "sign", "--key-file", &key];
        bifrost(&[&sign[..], flags].concat(), "")
    };
    let terms = ["--licensee", "studio", "--max-peers", "100"];
    let text = sign(&terms).ok();
    assert!(text.starts_with("[license]\nsignature = \""), "{text}");
    let file = folder.write("license.toml", &text, 0o644);

    let x = |key: &str| bifrost(&["access-key", "public"], key).json()["x"].clone();
    let public = bifrost(&["access-key", "public", "--key-file", &key], "").json()["x"].clone();
    let public = public.as_str().expect("a public key");
    let verify = |file: &str, public: &str, stdin: &str| {
        let public = format!("--public={public}");
        bifrost(&["license", "verify", file, &public], stdin)
    };
    let accepted = verify(&file, public, "").ok();
    assert!(accepted.contains("at most 100"), "{accepted}");
    assert_eq!(verify("-", public, &text).code, 0);
    let other = x(&new_key());
    let other = other.as_str().expect("a public key");
    verify(&file, other, "").failed(1, "the signature is not the authority's");
    let changed = text.replace("= 100", "= 101");
    verify("-", public, &changed).failed(1, "refused: standard input: the signature");
    let ended = sign(&["--valid-until", "1987-07-05T17:45:00Z"]).ok();
    verify("-", public, &ended).failed(1, "it was valid until 1987-07-05T17:45:00Z");
    verify("-", public, "[license]").failed(64, "standard input:1: license: missing field");
    verify("/nowhere", public, "").failed(64, "/nowhere cannot be read");
    let public = format!("--public={public}");
    let in_json = bifrost(&["license", "verify", "-", &public, "--json"], &ended);
    assert_eq!(
        (in_json.code, in_json.json()["accepted"].as_bool()),
        (1, Some(false))
    );

    sign(&["--max-rooms", "0"]).failed(64, "max_rooms: it must be from 1");
    for wrong in ["2027-01-01", "tomorrow"] {
        assert_eq!(sign(&["--valid-until", wrong]).code, 64);
    }
    assert_eq!(bifrost(&["license", "verify", &file], "").code, 64);
}

#[test]
fn a_secret_that_others_can_read_is_warned_of() {
    let folder = Folder::new();
    let open = folder.write("open", &new_key(), 0o644);
    let run = bifrost(&["access-key", "inspect", "--key-file", &open], "");
    assert_eq!(run.code, 0);
    assert!(
        run.err.starts_with("warning: ") && run.err.contains(&open),
        "{}",
        run.err
    );
    let closed = folder.write("closed", &new_key(), 0o600);
    assert_eq!(
        bifrost(&["access-key", "inspect", "--key-file", &closed], "").err,
        ""
    );

    let key = vectors()[0]["access_key"]
        .as_str()
        .expect("a key")
        .to_owned();
    let published = bifrost(&["config", "sfu"], &key);
    assert_eq!(published.code, 0);
    assert!(
        published.err.contains("everybody can sign"),
        "{}",
        published.err
    );
}

#[test]
fn wrong_use_ends_in_64_with_one_sentence_and_no_secret() {
    let folder = Folder::new();
    let key = new_key();
    let other = if &key[10..11] == "b" { "c" } else { "b" };
    let mut mistyped = key.trim_end().to_owned();
    mistyped.replace_range(10..11, other);
    let inspect = ["access-key", "inspect"];
    let run = bifrost(&inspect, &mistyped);
    run.failed(64, "error: standard input: the checksum is wrong");
    assert!(!run.err.contains(&mistyped));
    bifrost(&inspect, "").failed(64, "an access key holds 33 bytes, this one 0");
    bifrost(&["access-key", "inspect", "--key-file", "/nowhere"], "")
        .failed(64, "/nowhere cannot be read");
    let existing = folder.write("existing", "", 0o600);
    bifrost(&["access-key", "new", "--out", &existing], "").failed(64, "is not overwritten");
    let both = ["token", "verify", "--key-file", "-"];
    bifrost(&both, "").failed(64, "cannot both come from standard input");
    for arguments in [
        &["token", "sign", "--room", "r"][..],
        &["token", "verify", "x"],
        &[
            "token",
            "sign",
            "--room",
            "r",
            "--user",
            "u",
            "--audience",
            "gatway",
        ],
        &["config", "gateway"],
        &["config", "gateway", "--customer", ""],
        &["nonsense"],
    ] {
        let run = bifrost(arguments, &key);
        assert_eq!(
            (run.code, run.out.as_str()),
            (64, ""),
            "{arguments:?}: {}",
            run.err
        );
    }
    assert_eq!(bifrost(&["token", "sign", "--help"], "").code, 0);
}
