//! Keys, tokens and hashes that other implementations have computed, byte for byte. Sources: the npm package
//! `@4players/odin-tokens` 1.4.0 (access keys and tokens) and the ODIN gateway 0.18.0 (server keys and room hashes).

use std::time::Duration;

use gateway_api::{
    AccessKey, Claims, Internal, MasterKey, Names, RoomId, Rules, Token, is_published, sign,
};
use serde_json::Value;

const ACCESS_KEYS: &str = include_str!("vectors/access-keys.json");
const DERIVED: &str = include_str!("vectors/derived.json");

fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("the vectors are JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn names(value: &Value) -> Names {
    serde_json::from_value(value.clone()).expect("a name or a list of names")
}

/// What the token library makes of a vector's input.
fn claims(vector: &Value) -> Claims {
    let now = vector["time_unix"].as_i64().expect("a time");
    let options = &vector["options"];
    Claims {
        rid: Some(names(&vector["room_id"])),
        uid: Some(text(&vector["user_id"]).to_owned()),
        cid: options["customer"].as_str().map(str::to_owned),
        sub: Some(
            options
                .get("subject")
                .map_or_else(|| "connect".into(), names),
        ),
        aud: options["audience"].as_str().map(Names::from),
        exp: Some(now + options["lifetime"].as_i64().unwrap_or(300)),
        nbf: Some(now),
        ..Claims::default()
    }
}

#[test]
fn access_keys_and_their_tokens_are_those_of_the_token_library() {
    let vectors = read(ACCESS_KEYS);
    assert_eq!(list(&vectors).len(), 5);
    for vector in list(&vectors) {
        let key: AccessKey = text(&vector["access_key"]).parse().unwrap();
        assert_eq!(key.expose(), text(&vector["access_key"]));
        let pair = key.key_pair();
        let jwk = pair.private_jwk();
        assert_eq!(pair.id().as_str(), text(&vector["kid"]));
        assert_eq!(jwk.x, text(&vector["x"]));
        assert_eq!(jwk.d.as_deref(), vector["d"].as_str());
        assert!(is_published(&pair.public()));

        let claims = claims(vector);
        assert_eq!(
            serde_json::to_string(&claims).unwrap(),
            text(&vector["claims_json"])
        );
        let token = text(&vector["token"]);
        assert_eq!(sign(&claims, &pair), token);

        let read = Token::read(token).unwrap();
        assert_eq!(read.kid(), pair.id().as_str());
        let object = read.verify(&pair.public()).unwrap().claims().unwrap();
        assert_eq!(
            serde_json::from_value::<Claims>(object.into()).unwrap(),
            claims
        );
    }
}

#[test]
fn a_token_with_every_option_is_that_of_the_newer_token_library() {
    let vectors = read(ACCESS_KEYS);
    let key: AccessKey = text(&vectors[0]["access_key"]).parse().unwrap();
    let token = "eyJhbGciOiJFZERTQSIsImtpZCI6IkFRN2FWbUsrcEkxbCJ9.eyJyaWQiOiJmb28iLCJ1aWQiOiJiYXIiLCJhZHIiOiJzZnUuZXhhbXBsZTo0NDMzIiwidGdzIjpbImEiLCJiIl0sInVwcyI6InVwLmV4YW1wbGUiLCJjaWQiOiJjdXN0Iiwic3ViIjoiY29ubmVjdCIsImF1ZCI6InNmdSIsImV4cCI6MTcwMDAwMDAzMCwibmJmIjoxNzAwMDAwMDAwLCJpbnRlcm5hbCI6eyJzZXJ2ZXIiOiJzOjQ0MzMifX0.gqocT8zp9OzADc4zheFIRz3Q3TT7Wm1aHuc5P2wg8Svgnj4SuVLBfbT29ILkiAp8_WiAbNqRDjJ3rgfw_glcAA";
    let claims = Claims {
        rid: Some("foo".into()),
        uid: Some("bar".to_owned()),
        adr: Some("sfu.example:4433".to_owned()),
        tgs: Some(vec!["a".to_owned(), "b".to_owned()]),
        ups: Some("up.example".to_owned()),
        cid: Some("cust".to_owned()),
        sub: Some("connect".into()),
        aud: Some("sfu".into()),
        exp: Some(1_700_000_030),
        nbf: Some(1_700_000_000),
        internal: Some(Internal {
            server: Some("s:4433".to_owned()),
            ..Internal::default()
        }),
        ..Claims::default()
    };
    assert_eq!(sign(&claims, &key.key_pair()), token);
    assert_eq!(
        claims.rooms(),
        [("cust".to_owned(), "foo".to_owned()).into()]
    );
}

#[test]
fn server_keys_are_those_of_the_gateway() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let vectors = read(DERIVED);
    let master = STANDARD
        .decode(text(&vectors["master_key_base64"]))
        .unwrap();
    let master = MasterKey::from_bytes(master);
    assert_eq!(list(&vectors["servers"]).len(), 5);
    for server in list(&vectors["servers"]) {
        let key = master.server_key(text(&server["hostname"])).private_jwk();
        assert_eq!(key.kid.as_str(), text(&server["kid"]));
        assert_eq!(key.x, text(&server["x"]));
        assert_eq!(key.d.as_deref(), server["d"].as_str());
    }
}

#[test]
fn room_hashes_are_those_of_the_gateway() {
    let vectors = read(DERIVED);
    assert_eq!(list(&vectors["room_hashes"]).len(), 9);
    for vector in list(&vectors["room_hashes"]) {
        let id: RoomId = serde_json::from_value(vector["id"].clone()).unwrap();
        assert_eq!(id.hash().to_string(), text(&vector["hash"]), "{id:?}");
        let again = serde_json::from_value(vector["hash"].clone()).unwrap();
        assert_eq!(id.hash(), again);
    }
}

#[test]
fn a_token_is_judged_by_the_clock_that_is_given() {
    let vectors = read(ACCESS_KEYS);
    let vector = &vectors[0];
    let key: AccessKey = text(&vector["access_key"]).parse().unwrap();
    let token = Token::read(text(&vector["token"])).unwrap();
    let object = token.verify(&key.key_pair().public()).unwrap().claims();
    let object = object.unwrap();
    let at = |secs| Rules {
        audience: "gateway",
        leeway: Duration::ZERO,
        now: Duration::from_secs(secs),
    };
    assert!(at(1_700_000_300).check(&object).is_ok());
    assert!(at(1_700_000_301).check(&object).is_err());
    assert!(at(1_699_999_999).check(&object).is_err());
}
