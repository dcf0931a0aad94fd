//! The list of customers, its mistakes and its refreshes.

use std::{fs, path::PathBuf};

use gateway_api::{KeyKind, KeyPair, MasterKey};
use serde_json::{Value, json};

use super::*;

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32], KeyKind::Customer)
}

fn listed(id: &str, jwk: &Jwk) -> Value {
    json!({"id": id, "accessKeys": [{"publicKey": jwk}]})
}

fn customers(source: CustomerSource) -> Customers {
    let config = Config::new(MasterKey::from_bytes(vec![1; 32]), source);
    Customers::new(&config, Arc::new(Metrics::default()))
}

fn of_file(path: PathBuf) -> Customers {
    customers(CustomerSource::File {
        path,
        update_interval: Duration::from_secs(1),
    })
}

#[tokio::test]
async fn an_empty_or_broken_list_keeps_the_last_good_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let customers = of_file(file.path().to_owned());
    let write = |text: &str| fs::write(file.path(), text).unwrap();
    let kid = key(1).id().as_str().to_owned();

    write(&json!([listed("a", &key(1).public_jwk())]).to_string());
    customers.refresh().await;
    assert_eq!(customers.find(&kid).unwrap().namespace, "a");
    for broken in ["[]", "not json", "{}", "[{\"id\": 5}]", ""] {
        write(broken);
        customers.refresh().await;
        assert!(customers.find(&kid).is_some(), "{broken}");
        assert!(customers.health().error.is_some(), "{broken}");
    }
    fs::remove_file(file.path()).unwrap();
    customers.refresh().await;
    assert!(customers.find(&kid).is_some());
    write(&json!([listed("b", &key(2).public_jwk())]).to_string());
    customers.refresh().await;
    assert!(customers.find(&kid).is_none());
    assert!(customers.health().error.is_none());
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_left_out_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let customers = of_file(file.path().to_owned());
    let short = Jwk {
        x: "AAAA".to_owned(),
        ..key(3).public_jwk()
    };
    // The sample key of the ODIN server's documentation.
    let published = Jwk {
        x: "a5J2bhmU7vsY0LrW1zt56iUdmhRUNz7Pl9eBoCy29d8".to_owned(),
        ..key(4).public_jwk()
    };
    let twice = Jwk {
        kid: key(1).id().clone(),
        ..key(5).public_jwk()
    };
    let list = json!([
        {"id": "a", "maxPeers": 2, "maxRooms": 3, "accessKeys": [
            {"namespace": "n", "publicKey": key(1).public_jwk()}, {"publicKey": short},
        ]},
        listed("b", &published),
        listed("c", &twice),
    ]);
    fs::write(file.path(), list.to_string()).unwrap();
    customers.refresh().await;
    assert_eq!(customers.health().keys, 1);
    let known = customers.find(key(1).id().as_str()).unwrap();
    let limits = UsageLimits {
        peers: Some(2),
        rooms: Some(3),
    };
    assert_eq!(
        (known.customer.as_str(), known.namespace.as_str()),
        ("a", "n")
    );
    assert_eq!((known.limits, known.key), (limits, key(1).public()));
}

#[tokio::test]
async fn a_list_comes_over_http_with_a_bearer_token() {
    use axum::{Router, extract::Request, http::StatusCode, routing::get};

    let list = json!([listed("a", &key(1).public_jwk())]).to_string();
    let answer = move |request: Request| {
        let is_right = request
            .headers()
            .get("authorization")
            .is_some_and(|it| it == "Bearer secret");
        let answer = match is_right {
            true => (StatusCode::OK, list.clone()),
            false => (StatusCode::UNAUTHORIZED, String::new()),
        };
        async { answer }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let _ = axum::serve(listener, Router::new().route("/keys", get(answer))).await;
    });
    let source = |token: &str| CustomerSource::Http {
        url: url.clone(),
        token: Some(token.to_owned().into()),
        update_interval: Duration::from_secs(1),
    };
    let customers_right = customers(source("secret"));
    customers_right.refresh().await;
    assert_eq!(customers_right.health().keys, 1);
    let customers_wrong = customers(source("wrong"));
    customers_wrong.refresh().await;
    let health = customers_wrong.health();
    assert_eq!(
        health.error.as_deref(),
        Some("the customer API answers 401 Unauthorized")
    );
    assert!(!health.is_usable(&Config::new(
        MasterKey::from_bytes(vec![1; 32]),
        CustomerSource::Static(Vec::new()),
    )));
}
