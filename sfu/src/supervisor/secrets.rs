//! What of a server's settings a gateway has no business to see: taken out before they are sent, and put back into what
//! comes back.

use reqwest::Url;
use toml::{Table, Value};

/// Stands in for settings that consist of nothing but secrets: ODIN's gateway fails on an empty text.
const PLACEHOLDER: &str = "nothing_else";

/// The settings without `authorization.keys` (private halves), the credentials in `supervisor.url` and
/// `telemetry.address`, whose path may be a secret.
pub(super) fn take_out(own: &Table) -> Table {
    let mut sent = own.clone();
    if let Some(Value::Table(authorization)) = sent.get_mut("authorization") {
        authorization.remove("keys");
    }
    if let Some(Value::Table(telemetry)) = sent.get_mut("telemetry") {
        telemetry.remove("address");
    }
    if let Some(Value::Table(supervisor)) = sent.get_mut("supervisor") {
        let url = supervisor.get("url").and_then(Value::as_str);
        match url.and_then(without_credentials) {
            Some(url) => supervisor.insert("url".to_owned(), url.into()),
            None => supervisor.remove("url"),
        };
    }
    if is_empty(&sent) {
        sent.insert(PLACEHOLDER.to_owned(), true.into());
    }
    sent
}

/// What a gateway made of settings that [`take_out`] has gone over, with the secrets of the server's own.
pub(super) fn put_back(own: &Table, mut merged: Table) -> Table {
    merged.remove(PLACEHOLDER);
    for (section, key) in [("supervisor", "url"), ("telemetry", "address")] {
        if let Some(value) = own.get(section).and_then(|section| section.get(key)) {
            set(&mut merged, section, key, value.clone());
        }
    }
    let keys = |table: &Table| table.get("authorization")?.get("keys").cloned();
    match (keys(own), keys(&merged)) {
        (Some(Value::Array(mut keys)), Some(Value::Array(theirs))) => {
            keys.extend(theirs);
            set(&mut merged, "authorization", "keys", keys.into());
        }
        (Some(keys), _) => set(&mut merged, "authorization", "keys", keys),
        (None, _) => {}
    }
    merged
}

fn set(table: &mut Table, section: &str, key: &str, value: Value) {
    let section = table.entry(section).or_insert_with(|| Table::new().into());
    if let Value::Table(section) = section {
        section.insert(key.to_owned(), value);
    }
}

fn is_empty(table: &Table) -> bool {
    let is_nothing = |value: &Value| value.as_table().is_some_and(is_empty);
    table.values().all(is_nothing)
}

fn without_credentials(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    // What has no host is no URL of a gateway, and what is in it not to be told apart.
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use gateway_api::{KeyKind, KeyPair, Recommendation};

    use super::*;

    const OWN: &str = r#"
        public_address = "sfu.test:4433"
        [supervisor]
        url = "http://user:hunter2@127.0.0.1:7000/internal"
        [telemetry]
        address = "https://telemetry.test/hunter3"
        interval = 1000
        [[authorization.keys]]
        kid = "own"
        d = "hunter4"
    "#;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    /// What a gateway makes of a text.
    fn merge(sent: &Table) -> Table {
        let recommendation = Recommendation {
            report_interval_ms: 5000,
            metrics_server: "10.0.0.1/32".to_owned(),
        };
        let text = toml::to_string(sent).unwrap();
        let key = KeyPair::from_seed(&[1; 32], KeyKind::Server);
        table(&recommendation.apply(&text, &key).unwrap())
    }

    #[test]
    fn no_secret_is_in_what_is_sent() {
        let sent = toml::to_string(&take_out(&table(OWN))).unwrap();
        assert!(!sent.contains("hunter"), "{sent}");
        assert!(!sent.contains("user"), "{sent}");
        assert!(sent.contains("http://127.0.0.1:7000/internal"), "{sent}");
        assert!(sent.contains("sfu.test:4433"), "{sent}");
    }

    #[test]
    fn what_comes_back_has_the_own_secrets_and_the_gateways_key() {
        let own = table(OWN);
        let merged = put_back(&own, merge(&take_out(&own)));
        let keys = merged["authorization"]["keys"].as_array().unwrap();
        assert_eq!((keys.len(), keys[0]["d"].as_str()), (2, Some("hunter4")));
        assert_ne!(keys[1]["kid"].as_str(), Some("own"));
        for (section, key) in [("supervisor", "url"), ("telemetry", "address")] {
            assert_eq!(merged[section][key], own[section][key]);
        }
        assert_eq!(
            merged["supervisor"]["report_interval"].as_integer(),
            Some(5000)
        );
        assert_eq!(merged["quic"]["migration"].as_bool(), Some(true));
    }

    #[test]
    fn settings_of_nothing_but_secrets_are_not_sent_as_an_empty_text() {
        for own in ["", "[[authorization.keys]]\nd = \"hunter2\"\n"] {
            let own = table(own);
            let sent = take_out(&own);
            assert!(!is_empty(&sent), "{own:?}");
            let merged = put_back(&own, merge(&sent));
            assert!(!merged.contains_key(PLACEHOLDER), "{own:?}");
            let keys = merged["authorization"]["keys"].as_array().unwrap();
            assert!(keys.last().unwrap()["x"].is_str());
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_sent() {
        let own = table("[supervisor]\nurl = \"user:hunter2@gateway\"\n[quic]\nmigration = true\n");
        let sent = toml::to_string(&take_out(&own)).unwrap();
        assert!(!sent.contains("hunter2@"), "{sent}");
    }

    #[test]
    fn what_has_the_wrong_form_stays_for_the_parser_to_blame() {
        let own = table("supervisor = 1\ntelemetry = []\nauthorization = { keys = 7 }\n");
        let merged = put_back(&own, merge(&take_out(&own)));
        assert_eq!(merged["supervisor"].as_integer(), Some(1));
        assert_eq!(merged["authorization"]["keys"].as_integer(), Some(7));
    }
}
