//! The licence file: what it allows holds, and one that is not the authority's ends the server.

use std::{fs, time::SystemTime};

use gateway_api::{KeyKind, KeyPair};
use sfu::{License, LicenseLimits, Terms, ValidUntil};

use crate::{
    client::map,
    world::{Folder, World},
};

const KEY_VARIABLE: &str = "BIFROST_LICENSE_PUBLIC_KEY";

fn authority() -> KeyPair {
    KeyPair::from_seed(&[42; 32], KeyKind::Customer)
}

fn limits(most: u64) -> LicenseLimits {
    LicenseLimits {
        max_clients: Some(most),
        ..LicenseLimits::default()
    }
}

fn licensed(terms: Terms, signer: &KeyPair) -> Folder {
    let folder = Folder::new("[limit]\nmax_clients = 5\n");
    let license = License::sign(terms, signer).expect("terms");
    fs::write(folder.path("license.toml"), license.to_toml()).expect("a file");
    folder
}

/// Runs to the end with the authority's key.
fn run(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = folder.command(arguments);
    let output = command
        .env(KEY_VARIABLE, authority().public_jwk().x)
        .output();
    let output = output.expect("it runs");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_licence_allows_bounds_what_is_set() {
    let folder = licensed(
        Terms {
            limits: limits(1),
            ..Terms::default()
        },
        &authority(),
    );
    let mut command = folder.command(&["--log-format", "json"]);
    command.env(KEY_VARIABLE, authority().public_jwk().x);
    let world = World::of(folder, &mut command).await;
    let _first = world.authenticated(&world.token_for("room", "1")).await;
    let mut second = world.open("/main").await.expect("a main stream");
    let token = world.token_for("room", "2");
    let refused = second
        .call("Authenticate", map([("token", token.into())]))
        .await;
    assert_eq!(refused.unwrap_err(), "client limit exceeded");
}

#[test]
fn a_licence_that_has_ended_lets_no_server_start() {
    let ended: ValidUntil = "2020-01-01T00:00:00Z".parse().unwrap();
    assert!(
        SystemTime::now() > SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_577_836_800)
    );
    let terms = Terms {
        valid_until: Some(ended),
        ..Terms::default()
    };
    let folder = licensed(terms, &authority());
    for arguments in [&["--check-config"][..], &[]] {
        let (code, said) = run(&folder, arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("the licence ended at 2020-01-01T00:00:00Z"),
            "{said}"
        );
    }
}

#[test]
fn a_licence_that_is_not_the_authoritys_ends_in_64() {
    let terms = || Terms {
        limits: limits(5),
        ..Terms::default()
    };
    let forged = licensed(terms(), &KeyPair::from_seed(&[1; 32], KeyKind::Customer));
    let (code, said) = run(&forged, &[]);
    assert_eq!(code, Some(64));
    assert!(
        said.contains("the signature is not the authority's"),
        "{said}"
    );

    let changed = licensed(terms(), &authority());
    assert_eq!(run(&changed, &["--check-config"]).0, Some(0));
    let text = fs::read_to_string(changed.path("license.toml")).unwrap();
    fs::write(
        changed.path("license.toml"),
        text.replace("max_clients = 5", "max_clients = 500"),
    )
    .unwrap();
    assert_eq!(run(&changed, &["--check-config"]).0, Some(64));

    let unknown = licensed(terms(), &authority());
    let output = unknown
        .command(&[])
        .env_remove(KEY_VARIABLE)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "nobody knows whose it is");
}
