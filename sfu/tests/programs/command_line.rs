//! Flags and settings in, exit codes and errors out.

use gateway_api::AccessKey;

use crate::world::{Folder, section_of_key};

/// `EX_USAGE` of sysexits.h.
const BAD_CONFIG: Option<i32> = Some(64);

/// An access key that is printed in this repository's tests.
const PUBLISHED: &str = "AcIbjUrHA8EV62TAGYcwDtHhQ8wN3lXmcKtFtN/SvdMA";

#[test]
fn settings_that_are_right_pass_the_check() {
    let folder = Folder::new("");
    assert_eq!(folder.run(&["--check-config"]).0, Some(0));
}

#[test]
fn settings_that_are_wrong_end_in_64_and_are_named() {
    let folder = Folder::new("");
    let good = folder.settings();
    let lines = good.lines().count();
    let next = lines + 1;
    for (more, error) in [
        (
            "bindin = \"127.0.0.1:0\"".to_owned(),
            format!("config.toml:{next}: metrics.bindin"),
        ),
        (
            "idle_timeout = 0".to_owned(),
            format!("config.toml:{next}: metrics.idle_timeout: it must be from 1"),
        ),
        (
            "[limit]\nmax_peers = \"x\"".to_owned(),
            format!("config.toml:{}: limit.max_peers", next + 1),
        ),
        ("= 5".to_owned(), format!("config.toml:{next}: ")),
        (
            "[limit]\n[limit]".to_owned(),
            format!("config.toml:{}: ", next + 1),
        ),
    ] {
        folder.write_settings(&format!("{good}{more}\n"));
        for arguments in [&["--check-config"][..], &[]] {
            let (code, said) = folder.run(arguments);
            assert_eq!(code, BAD_CONFIG, "{more}: {said}");
            assert!(said.contains(&error), "{more}: {said}");
        }
    }
    folder.write_settings(&good.replace("cert.pem", "no.pem"));
    let (code, said) = folder.run(&["--check-config"]);
    assert_eq!(code, BAD_CONFIG);
    assert!(said.contains("no.pem cannot be used"), "{said}");
    std::fs::remove_file(folder.path("config.toml")).unwrap();
    let (code, said) = folder.run(&[]);
    assert_eq!(code, BAD_CONFIG);
    assert!(said.contains("config.toml cannot be read"), "{said}");
}

#[test]
fn flags_that_are_wrong_end_in_64() {
    let folder = Folder::new("");
    for arguments in [
        &["--nonsense"][..],
        &["--drain", "soon"],
        &["--log-format", "xml"],
        &["extra"],
        &["--dev"],
    ] {
        assert_eq!(folder.run(arguments).0, BAD_CONFIG, "{arguments:?}");
    }
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(folder.run(&arguments).0, Some(0), "{arguments:?}");
    }
}

#[test]
fn a_key_that_everybody_knows_is_refused() {
    let published: AccessKey = PUBLISHED.parse().unwrap();
    let jwk = published.key_pair().public_jwk();
    let folder = Folder::new("");
    let text = folder.settings();
    let section = section_of_key(&jwk.kid.to_string(), &jwk.x);
    folder.write_settings(&format!("{text}{section}"));
    let (code, said) = folder.run(&[]);
    assert_eq!(code, BAD_CONFIG);
    assert!(said.contains("authorization.keys"), "{said}");
    assert!(!said.contains(PUBLISHED), "no key is quoted: {said}");
}

#[test]
fn a_server_that_the_fleet_does_not_know_does_not_start() {
    let folder = Folder::new("");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let fleet = format!(
        "[fleet]\napp_id = 1\nservice_id = 2\napi_url = \"http://{address}/api\"\nstart_timeout = 300\n"
    );
    let settings = folder.settings();
    folder.write_settings(&format!("{settings}{fleet}"));
    let (code, said) = folder.run(&[]);
    assert_eq!(code, BAD_CONFIG, "{said}");
    assert!(said.contains("fleet.token_file: it is missing"), "{said}");
    let token = folder.path("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    folder.write_settings(&format!("{settings}{fleet}token_file = {token:?}\n"));
    let (code, said) = folder.run(&["--check-config"]);
    assert_eq!(code, Some(0), "the Fleet is not asked: {said}");
    let (code, said) = folder.run(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("looking again on the Fleet: the Fleet API is not available"),
        "{said}"
    );
    assert!(said.contains("not found on the Fleet within 0.3 s: "));
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = Folder::new("");
    let text = folder.settings().replacen(
        "binding = \"127.0.0.1:0\"",
        &format!("binding = \"{address}\""),
        1,
    );
    folder.write_settings(&text);
    let (code, said) = folder.run(&[]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&format!("cannot listen on {address} (http.binding)")),
        "{said}"
    );
}
