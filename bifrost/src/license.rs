//! `bifrost license`: signs the licences of voice servers, and checks them.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use gateway_api::PublicKey;
use serde_json::json;
use sfu::{License, LicenseError, LicenseLimits, Terms, ValidUntil};

use crate::{
    failure::Failure,
    input::{Input, KeyFile, warn_if_published},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign a licence and print it as license.toml
    Sign(Sign),
    /// Check a licence: exit code 0 when a voice server would take it, 1 when it would not
    Verify(Verify),
}

#[derive(Args, Debug)]
pub(crate) struct Sign {
    #[command(flatten)]
    key: KeyFile,
    /// Who gives the licence
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Who gets it
    #[arg(long, value_name = "NAME")]
    licensee: Option<String>,
    /// Its number
    #[arg(long, value_name = "TEXT")]
    serial_number: Option<String>,
    /// Its last second, like 2027-01-01T00:00:00Z; it never ends if not given
    #[arg(long, value_name = "TIME")]
    valid_until: Option<ValidUntil>,
    /// Most clients at the same time; no limit if not given
    #[arg(long, value_name = "COUNT")]
    max_clients: Option<u64>,
    /// Most rooms at the same time; no limit if not given
    #[arg(long, value_name = "COUNT")]
    max_rooms: Option<u64>,
    /// Most peers at the same time; no limit if not given
    #[arg(long, value_name = "COUNT")]
    max_peers: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The licence; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Public key of whoever gives licences, in Base64: `x` of `bifrost access-key public`
    #[arg(long, value_name = "KEY", env = "BIFROST_LICENSE_PUBLIC_KEY", value_parser = sfu::license_authority)]
    public: PublicKey,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Gives what to print.
pub(crate) fn run(command: Command) -> Result<String, Failure> {
    match command {
        Command::Sign(options) => sign(options),
        Command::Verify(options) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now =
                now.map_err(|_| Failure::System("the clock is set before 1970".to_owned()))?;
            let input = Input::read(Some(&options.file), "the licence")?;
            warn_if_published(&options.public);
            verify(&input.name, input.text(), &options, now)
                .map_err(|failure| failure.in_json(options.json))
        }
    }
}

fn sign(options: Sign) -> Result<String, Failure> {
    let key = options.key.read()?.key_pair();
    let terms = Terms {
        issuer: options.issuer,
        licensee: options.licensee,
        serial_number: options.serial_number,
        valid_until: options.valid_until,
        limits: LicenseLimits {
            max_clients: options.max_clients,
            max_rooms: options.max_rooms,
            max_peers: options.max_peers,
        },
    };
    let license = License::sign(terms, &key).map_err(|error| Failure::Input(error.to_string()))?;
    Ok(license.to_toml())
}

fn verify(name: &str, text: &str, options: &Verify, now: Duration) -> Result<String, Failure> {
    let license = License::parse(name, text, &options.public).map_err(|error| match error {
        LicenseError::Malformed(error) => Failure::Input(error.to_string()),
        LicenseError::Signature { .. } => Failure::refused(error.to_string()),
    })?;
    let terms = license.terms();
    let end = terms.valid_until.map(|end| end.to_string());
    if !license.is_valid_at(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) {
        let end = end.unwrap_or_default();
        return Err(Failure::refused(format!(
            "{name}: it was valid until {end}"
        )));
    }
    Ok(match options.json {
        true => {
            let limits = terms.limits;
            let json = json!({
                "accepted": true,
                "issuer": terms.issuer,
                "licensee": terms.licensee,
                "serial_number": terms.serial_number,
                "valid_until": end,
                "max_clients": limits.max_clients,
                "max_rooms": limits.max_rooms,
                "max_peers": limits.max_peers,
            });
            format!("{json}\n")
        }
        false => shown(terms, end.as_deref()),
    })
}

/// One line for each thing; text of a licence cannot make another line.
fn shown(terms: &Terms, end: Option<&str>) -> String {
    let text = |text: &Option<String>| match text {
        Some(text) => text.escape_debug().to_string(),
        None => "not named".to_owned(),
    };
    let count = |count: Option<u64>| match count {
        Some(count) => format!("at most {count}"),
        None => "not limited".to_owned(),
    };
    let limits = terms.limits;
    let lines = [
        ("accepted", "signed by this key".to_owned()),
        ("issuer", text(&terms.issuer)),
        ("licensee", text(&terms.licensee)),
        ("serial number", text(&terms.serial_number)),
        ("valid until", end.unwrap_or("it never ends").to_owned()),
        ("clients", count(limits.max_clients)),
        ("rooms", count(limits.max_rooms)),
        ("peers", count(limits.max_peers)),
    ];
    lines
        .map(|(name, value)| format!("{name:<14} {value}\n"))
        .concat()
}

#[cfg(test)]
mod tests {
    use gateway_api::{KeyKind, KeyPair};

    use super::*;

    fn verdict(text: &str, seed: u8, now: u64, json: bool) -> Result<String, Failure> {
        let options = Verify {
            file: PathBuf::new(),
            public: KeyPair::from_seed(&[seed; 32], KeyKind::Customer).public(),
            json,
        };
        verify("f", text, &options, Duration::from_secs(now))
    }

    fn license(terms: Terms) -> String {
        let key = KeyPair::from_seed(&[7; 32], KeyKind::Customer);
        License::sign(terms, &key).unwrap().to_toml()
    }

    #[test]
    fn a_licence_is_taken_until_its_last_second() {
        let text = license(Terms {
            valid_until: Some("1970-01-01T00:01:40Z".parse().unwrap()),
            ..Terms::default()
        });
        assert!(verdict(&text, 7, 100, false).is_ok());
        let ended = verdict(&text, 7, 101, false).unwrap_err();
        assert_eq!(
            ended.sentence(),
            "refused: f: it was valid until 1970-01-01T00:01:40Z"
        );
        let other = verdict(&text, 8, 100, false).unwrap_err();
        assert!(matches!(other, Failure::Refused { .. }), "{other:?}");
        let broken = verdict("[license]", 7, 100, false).unwrap_err();
        assert!(matches!(broken, Failure::Input(_)), "{broken:?}");
    }

    #[test]
    fn a_licence_says_what_it_allows_on_lines_of_its_own() {
        let text = license(Terms {
            issuer: Some("a\nclients   at most 9".to_owned()),
            limits: LicenseLimits {
                max_rooms: Some(3),
                ..LicenseLimits::default()
            },
            ..Terms::default()
        });
        let shown = verdict(&text, 7, 100, false).unwrap();
        assert_eq!(shown.lines().count(), 8, "{shown}");
        assert!(shown.contains("\nclients        not limited\n"), "{shown}");
        assert!(shown.contains("\nrooms          at most 3\n"), "{shown}");
        let json: serde_json::Value =
            serde_json::from_str(&verdict(&text, 7, 100, true).unwrap()).unwrap();
        assert_eq!(json["max_rooms"], 3);
        assert!(json["valid_until"].is_null());
    }
}
