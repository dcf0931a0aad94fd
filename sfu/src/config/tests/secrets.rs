//! Where the supervisor's password comes from, and that nothing shows it.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

use super::{super::Config, SUPERVISED, accepted, jwk, parse_with, refusal};

#[test]
fn a_readable_file_with_a_secret_is_told() {
    let warnings = |text: &str, mode: u32, variables: &[(&str, &str)]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(file.path(), permissions).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::load(file.path(), variables.collect()).expect(text);
        config.warnings().concat()
    };
    const WORDS: &str = "every user of this machine can read";
    let secret = "[supervisor]\nurl = \"http://u:p@localhost/\"";
    assert!(warnings(secret, 0o644, &[]).contains(WORDS));
    assert!(!warnings(secret, 0o600, &[]).contains(WORDS));
    assert!(!warnings(SUPERVISED, 0o644, &[]).contains(WORDS));
    let key = format!("{SUPERVISED}{}", jwk(1, true));
    assert!(warnings(&key, 0o644, &[]).contains(WORDS));
    let variable = ("BIFROST_SFU_SUPERVISOR_URL", "http://u:p@localhost/");
    assert!(!warnings("", 0o644, &[variable]).contains(WORDS));
}

#[test]
fn user_and_password_leave_the_url() {
    let url = "https://a%40b:p%3A%25%C3%A4@gateway:7000/internal";
    let text = format!("[supervisor]\nurl = \"{url}\"");
    let supervisor = accepted(&text).supervisor.unwrap();
    assert_eq!(supervisor.url, "https://gateway:7000/internal");
    let (user, password) = supervisor.credentials.unwrap();
    assert_eq!((user.as_str(), password.expose()), ("a@b", "p:%ä"));

    let user_only = "[supervisor]\nurl = \"http://only@gateway/\"";
    let (user, password) = accepted(user_only).supervisor.unwrap().credentials.unwrap();
    assert_eq!((user.as_str(), password.expose()), ("only", ""));
    for (credentials, words) in [("a%3Ab:c", "without a colon"), ("%FF:c", "UTF-8")] {
        let error = refusal(&format!("[supervisor]\nurl = \"http://{credentials}@g/\""));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_supervisor_has_one_source() {
    let variable = [("BIFROST_SFU_SUPERVISOR_URL", "http://gateway/")];
    let error = parse_with(SUPERVISED, &variable).unwrap_err().to_string();
    assert_eq!(
        error,
        "test.toml:2: supervisor.url: BIFROST_SFU_SUPERVISOR_URL is set as well: keep one"
    );
    let broken = [("BIFROST_SFU_SUPERVISOR_URL", "hunter2")];
    let error = parse_with("", &broken).unwrap_err().to_string();
    assert!(
        error.starts_with("BIFROST_SFU_SUPERVISOR_URL it must be"),
        "{error}"
    );
}

#[test]
fn no_error_and_no_debug_form_shows_a_secret() {
    const SECRET: &str = "hunter2";
    for text in [
        "[supervisor]\nurl = \"hunter2\"",
        "[supervisor]\nurl = \"http://u:hunter2@\"",
        "[supervisor]\nurl = \"ftp://u:hunter2@a\"",
        "[supervisor]\nurl = \"http://u:hunter2@a/?b\"",
        "[supervisor]\nurl = \"http://u%3A:hunter2@a/\"",
        "[supervisor]\nurl = [\"hunter2\"]",
        "supervisor = \"http://u:hunter2@a\"",
        "[supervisor]\nurl = \"http://u:hunter2@a",
        "[supervisor]\nreport_interval = \"hunter2\"",
        "[supervisor]\nno_warmup = \"hunter2\"",
        "[log.terminal]\nformat = \"hunter2\"",
        "[log.terminal]\nfilters = \"hunter2\"",
        "[telemetry]\naddress = \"http://u:hunter2@a/\"",
        "[telemetry]\naddress = \"http://a/\"\ndata = [\"hunter2\"]",
        "[metrics]\nbinding = \"hunter2\"",
        "[metrics]\nallowed = [\"hunter2\"]",
        "public_address = \"http://u:hunter2@a\"",
        "[[authorization.keys]]\nkid = \"a\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\nx = \"hunter2\"",
        "[[authorization.keys]]\nkid = \"a\"\nkty = \"hunter2\"\ncrv = \"Ed25519\"\nx = \"\"",
    ] {
        let error = refusal(text);
        assert!(!error.contains(SECRET), "{error}");
    }
    let bad_half = jwk(1, false) + "d = \"hunter2\"\n";
    let error = refusal(&bad_half);
    assert!(error.contains(": authorization.keys[0].d: ") && !error.contains(SECRET));

    let private = jwk(1, true);
    let (_, d) = private.rsplit_once("d = \"").unwrap();
    let url = "[supervisor]\nurl = \"http://u:hunter2@a/\"";
    let config = accepted(&format!("{private}{url}"));
    let shown = format!("{config:?} {:?}", config.warnings());
    assert!(!shown.contains(SECRET) && !shown.contains(d.trim_end_matches("\"\n")));
}
