//! `bifrost access-key`: makes access keys and shows what may be seen of them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use gateway_api::{AccessKey, RANDOM_BYTES, is_published};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    failure::Failure,
    input::{KeyFile, read_access_key},
};

/// The version of access keys. There is one: no other can be read.
const VERSION: u8 = 1;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new access key
    New(New),
    /// Show the key id and the public key of an access key, never the secret
    Inspect(Existing),
    /// Print the public key as JWK, which is what a gateway's list of customers needs
    Public(Existing),
}

#[derive(Args, Debug)]
pub(crate) struct New {
    /// Write it to a new file that only you can read, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Existing {
    #[command(flatten)]
    key: KeyFile,
    /// Print JSON on one line
    #[arg(long)]
    json: bool,
}

/// Gives what to print.
pub(crate) fn run(command: Command) -> Result<String, Failure> {
    match command {
        Command::New(options) => {
            let mut random = Zeroizing::new([0; RANDOM_BYTES]);
            getrandom::fill(random.as_mut_slice()).map_err(|error| {
                Failure::System(format!("the system's random generator failed: {error}"))
            })?;
            new(&options, &AccessKey::from_random(&random))
        }
        Command::Inspect(options) => {
            let key = read_access_key(options.key.key_file.as_deref())?;
            Ok(inspect(&key, options.json))
        }
        Command::Public(options) => Ok(public(&options.key.read()?, options.json)),
    }
}

fn new(options: &New, key: &AccessKey) -> Result<String, Failure> {
    let text = Zeroizing::new(key.expose());
    let jwk = key.key_pair().public_jwk();
    let Some(path) = &options.out else {
        let json = json!({"access_key": text.as_str(), "kid": jwk.kid, "x": jwk.x});
        return Ok(match options.json {
            true => format!("{json}\n"),
            false => format!("{}\n", text.as_str()),
        });
    };
    write_secret(path, &format!("{}\n", text.as_str())).map_err(|error| {
        let path = path.display();
        Failure::Input(match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{path} exists, and is not overwritten"),
            _ => format!("{path} cannot be written: {error}"),
        })
    })?;
    let path = path.display().to_string();
    let json = json!({"file": path, "kid": jwk.kid, "x": jwk.x});
    Ok(match options.json {
        true => format!("{json}\n"),
        false => format!("wrote {path}, key id {}\n", jwk.kid),
    })
}

/// A file that is new and that nobody else can read, from its first moment on.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key would only be in the way of the next attempt.
        let _ = fs::remove_file(path);
    }
    written
}

fn inspect(key: &AccessKey, json: bool) -> String {
    let public = key.key_pair().public();
    let kid = key.key_pair().id().clone();
    let (x, published) = (public.x(), is_published(&public));
    if json {
        let json = json!({"kid": kid, "x": x, "version": VERSION, "published": published});
        return format!("{json}\n");
    }
    let published = match published {
        true => "yes: it is printed in documents, everybody can sign with it",
        false => "no",
    };
    format!("key id      {kid}\npublic key  {x}\nversion     {VERSION}\npublished   {published}\n")
}

fn public(key: &AccessKey, json: bool) -> String {
    let jwk = key.key_pair().public_jwk();
    let text = match json {
        true => serde_json::to_string(&jwk),
        false => serde_json::to_string_pretty(&jwk),
    };
    let text = text.expect("a JWK is a struct of strings");
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::Value;

    use super::*;

    fn key() -> AccessKey {
        AccessKey::from_random(&[7; RANDOM_BYTES])
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_shown_of_a_key_is_not_the_secret() {
        let jwk = key().key_pair().private_jwk();
        let secrets = [key().expose(), jwk.d.unwrap()];
        for is_json in [false, true] {
            for text in [inspect(&key(), is_json), public(&key(), is_json)] {
                assert!(text.contains(&jwk.x) && text.contains(jwk.kid.as_str()));
                assert!(
                    !secrets.iter().any(|secret| text.contains(secret)),
                    "{text}"
                );
            }
        }
        assert_eq!(json(&inspect(&key(), true))["published"], false);
    }

    #[test]
    fn a_published_key_is_called_that() {
        let key = "AcIbjUrHA8EV62TAGYcwDtHhQ8wN3lXmcKtFtN/SvdMA"
            .parse()
            .unwrap();
        assert_eq!(json(&inspect(&key, true))["published"], true);
        assert!(inspect(&key, false).contains("published   yes"));
    }

    #[test]
    fn a_key_that_goes_to_a_file_is_private_and_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.key");
        let options = New {
            out: Some(path.clone()),
            json: false,
        };
        let printed = new(&options, &key()).unwrap();
        assert!(!printed.contains(&key().expose()));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", key().expose())
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let other = AccessKey::from_random(&[8; RANDOM_BYTES]);
        let again = new(&options, &other).unwrap_err();
        assert!(again.sentence().contains("is not overwritten"));
        assert_eq!(
            read_access_key(Some(&path)).unwrap().expose(),
            key().expose()
        );
    }
}
