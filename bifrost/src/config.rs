//! `bifrost config`: the settings with which a voice server or a gateway takes an access key's tokens.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use gateway_api::{Jwk, KeyPair};
use serde::Serialize;
use serde_json::json;

use crate::{failure::Failure, input::KeyFile};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// For the settings of a standalone voice server: [[authorization.keys]]
    Sfu(Sfu),
    /// For the settings of a gateway: [[customers]]
    Gateway(Gateway),
}

#[derive(Args, Debug)]
pub(crate) struct Sfu {
    #[command(flatten)]
    key: KeyFile,
    /// Print the private half (d) too. A server without a gateway needs it to sign the tokens with which clients come
    /// back after an interruption; to check tokens the public half is enough
    #[arg(long)]
    with_private: bool,
    /// Print JSON: the key as JWK
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Gateway {
    #[command(flatten)]
    key: KeyFile,
    /// The customer's id
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    customer: String,
    /// Most peers in all rooms of the customer
    #[arg(long, value_name = "COUNT")]
    max_peers: Option<u32>,
    /// Most rooms of the customer
    #[arg(long, value_name = "COUNT")]
    max_rooms: Option<u32>,
    /// Namespace of the rooms that this key opens; the customer's id if not given
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Print JSON: the list that a gateway's [customer_api] reads
    #[arg(long)]
    json: bool,
}

/// Gives what to print.
pub(crate) fn run(command: Command) -> Result<String, Failure> {
    match command {
        Command::Sfu(options) => {
            let key = options.key.read()?.key_pair();
            Ok(sfu(&key, options.with_private, options.json))
        }
        Command::Gateway(options) => {
            let key = options.key.read()?.key_pair();
            Ok(gateway(&options, key.public_jwk()))
        }
    }
}

fn sfu(key: &KeyPair, with_private: bool, is_json: bool) -> String {
    #[derive(Serialize)]
    struct File {
        authorization: Authorization,
    }
    #[derive(Serialize)]
    struct Authorization {
        keys: [Jwk; 1],
    }
    let jwk = match with_private {
        true => key.private_jwk(),
        false => key.public_jwk(),
    };
    if is_json {
        return format!("{}\n", json!(jwk));
    }
    toml(&File {
        authorization: Authorization { keys: [jwk] },
    })
}

/// As it stands in a gateway's settings.
#[derive(Serialize)]
struct Customer<'a> {
    id: &'a str,
    max_peers: Option<u32>,
    max_rooms: Option<u32>,
    access_keys: [AccessKey<'a>; 1],
}

#[derive(Serialize)]
struct AccessKey<'a> {
    namespace: Option<&'a str>,
    #[serde(flatten)]
    key: Jwk,
}

/// As a customer API gives it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedCustomer<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rooms: Option<u32>,
    access_keys: [ListedKey<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedKey<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    public_key: Jwk,
}

fn gateway(options: &Gateway, key: Jwk) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        customers: [Customer<'a>; 1],
    }
    let id = options.customer.as_str();
    let (max_peers, max_rooms) = (options.max_peers, options.max_rooms);
    let namespace = options.namespace.as_deref();
    if options.json {
        let access_keys = [ListedKey {
            namespace,
            public_key: key,
        }];
        let customer = ListedCustomer {
            id,
            max_peers,
            max_rooms,
            access_keys,
        };
        return format!("{}\n", json!([customer]));
    }
    let access_keys = [AccessKey { namespace, key }];
    toml(&File {
        customers: [Customer {
            id,
            max_peers,
            max_rooms,
            access_keys,
        }],
    })
}

fn toml(file: &impl Serialize) -> String {
    toml::to_string(file).expect("structs of text and numbers below 2^63 are TOML")
}

#[cfg(test)]
mod tests {
    use gateway_api::KeyKind;

    use super::*;

    fn key() -> KeyPair {
        KeyPair::from_seed(&[7; 32], KeyKind::Customer)
    }

    fn options() -> Gateway {
        Gateway {
            key: KeyFile { key_file: None },
            customer: "my \"studio\"".to_owned(),
            max_peers: Some(100),
            max_rooms: None,
            namespace: None,
            json: false,
        }
    }

    #[test]
    fn a_voice_server_gets_the_private_half_only_when_asked_for() {
        let jwk = key().private_jwk();
        let (kid, x, d) = (&jwk.kid, &jwk.x, jwk.d.as_deref().unwrap());
        let public = format!(
            "[[authorization.keys]]\nkid = \"{kid}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\nx = \"{x}\"\n"
        );
        assert_eq!(sfu(&key(), false, false), public);
        assert_eq!(sfu(&key(), true, false), format!("{public}d = \"{d}\"\n"));
        assert!(!sfu(&key(), false, true).contains(d));
        let read: Jwk = serde_json::from_str(&sfu(&key(), true, true)).unwrap();
        assert_eq!(read, jwk);
    }

    #[test]
    fn a_gateway_gets_a_customer_with_the_public_half() {
        let jwk = key().public_jwk();
        let (kid, x) = (&jwk.kid, &jwk.x);
        let key_lines = format!("kid = \"{kid}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\nx = \"{x}\"\n");
        assert_eq!(
            gateway(&options(), key().public_jwk()),
            format!(
                "[[customers]]\nid = 'my \"studio\"'\nmax_peers = 100\n\n[[customers.access_keys]]\n{key_lines}"
            )
        );
        let named = Gateway {
            max_peers: None,
            max_rooms: Some(10),
            namespace: Some("eu".to_owned()),
            ..options()
        };
        assert_eq!(
            gateway(&named, key().public_jwk()),
            format!(
                "[[customers]]\nid = 'my \"studio\"'\nmax_rooms = 10\n\n[[customers.access_keys]]\nnamespace = \"eu\"\n{key_lines}"
            )
        );
    }

    #[test]
    fn a_customer_api_gets_a_list() {
        let options = Gateway {
            json: true,
            ..options()
        };
        let wanted = json!([{
            "id": "my \"studio\"",
            "maxPeers": 100,
            "accessKeys": [{"publicKey": key().public_jwk()}],
        }]);
        let text = gateway(&options, key().public_jwk());
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            wanted
        );
    }
}
