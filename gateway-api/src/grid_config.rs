//! The settings a gateway recommends to its voice servers, and how they are merged into a server's own.

use toml::{Table, Value};

use crate::key::KeyPair;

/// What differs between gateways; everything else that is recommended is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// Milliseconds between two reports.
    pub report_interval_ms: i64,
    /// The subnet from which metrics may be read, beside the server's own machine.
    pub metrics_server: String,
}

impl Recommendation {
    /// A server's settings with the recommendation merged in and its key appended to `authorization.keys`, as TOML.
    ///
    /// # Errors
    /// When `config` is not TOML. The error quotes the text, which may hold secrets: do not log it.
    pub fn apply(&self, config: &str, key: &KeyPair) -> Result<String, toml::de::Error> {
        let mut config: Table = toml::from_str(config)?;
        merge(&mut config, self.table());
        merge(&mut config, key_table(key));
        Ok(toml::to_string(&config).expect("a table that was read can be written"))
    }

    fn table(&self) -> Table {
        let text = |text: &str| Value::String(text.to_owned());
        let allowed = [&self.metrics_server, "127.0.0.1/8", "::1/128"].map(text);
        let mut table: Table = toml::from_str(FIXED).expect("the fixed part is TOML");
        let mut section = |name: &str, key: &str, value: Value| {
            let section = table.entry(name).or_insert_with(|| Table::new().into());
            if let Value::Table(section) = section {
                section.insert(key.to_owned(), value);
            }
        };
        section(
            "supervisor",
            "report_interval",
            self.report_interval_ms.into(),
        );
        section("metrics", "allowed", allowed.to_vec().into());
        table
    }
}

/// Recommended whatever the gateway. Times are in milliseconds.
const FIXED: &str = r#"
[quic]
keep_alive_interval = 5000
idle_timeout = 30000
pre_send_timeout = 500
migration = true
[http]
timeout = 10000
ping_interval = 5000
[metrics]
binding = "0.0.0.0:9000"
idle_timeout = 3600000
global_labels = { deployment = "public" }
[limit.peer]
incoming_messages = { rate = 10, capacity = 50, overflow = 20 }
"#;

fn key_table(key: &KeyPair) -> Table {
    let jwk = Table::try_from(key.private_jwk()).expect("a JWK is a table of strings");
    let keys = Value::Array(vec![jwk.into()]);
    let authorization = Table::from_iter([("keys".to_owned(), keys)]);
    Table::from_iter([("authorization".to_owned(), authorization.into())])
}

/// Adds what `own` lacks: tables are merged, lists are joined (own items first), and else what is there stays.
pub fn merge(own: &mut Table, recommended: Table) {
    for (key, recommended) in recommended {
        match (own.get_mut(&key), recommended) {
            (None, recommended) => {
                own.insert(key, recommended);
            }
            (Some(Value::Table(own)), Value::Table(recommended)) => merge(own, recommended),
            (Some(Value::Array(own)), Value::Array(recommended)) => own.extend(recommended),
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyKind;

    fn apply(config: &str) -> Table {
        let recommendation = Recommendation {
            report_interval_ms: 5000,
            metrics_server: "10.0.0.1/32".to_owned(),
        };
        let key = KeyPair::from_seed(&[1; 32], KeyKind::Server);
        toml::from_str(&recommendation.apply(config, &key).unwrap()).unwrap()
    }

    #[test]
    fn empty_settings_get_everything() {
        let config = apply("");
        assert_eq!(
            config["supervisor"]["report_interval"].as_integer(),
            Some(5000)
        );
        assert_eq!(config["quic"]["migration"].as_bool(), Some(true));
        assert_eq!(
            config["limit"]["peer"]["incoming_messages"]["overflow"].as_integer(),
            Some(20)
        );
        let allowed = config["metrics"]["allowed"].as_array().unwrap();
        assert_eq!(allowed[0].as_str(), Some("10.0.0.1/32"));
        assert_eq!(allowed.len(), 3);
        let keys = config["authorization"]["keys"].as_array().unwrap();
        assert!(keys[0]["d"].is_str());
    }

    #[test]
    fn what_is_set_stays() {
        let config = apply(
            "valid_until = 1987-07-05T17:45:00Z\nquic = 5\n[supervisor]\nreport_interval = 1\n[metrics]\n\
             allowed = [\"1.1.1.1/32\"]\nglobal_labels = {server = \"a\"}\n[[authorization.keys]]\nkid = \"own\"\n",
        );
        assert_eq!(config["quic"].as_integer(), Some(5));
        assert_eq!(
            config["supervisor"]["report_interval"].as_integer(),
            Some(1)
        );
        assert_eq!(
            config["metrics"]["allowed"].as_array().unwrap()[0].as_str(),
            Some("1.1.1.1/32")
        );
        assert_eq!(
            config["metrics"]["global_labels"].as_table().unwrap().len(),
            2
        );
        let keys = config["authorization"]["keys"].as_array().unwrap();
        assert_eq!((keys.len(), keys[0]["kid"].as_str()), (2, Some("own")));
        assert_eq!(
            config["valid_until"].to_string(),
            "1987-07-05T17:45:00Z",
            "an offset is kept"
        );
    }

    #[test]
    fn an_answer_leaves_no_trace_in_the_next() {
        assert_eq!(
            apply("[metrics]\nallowed = []"),
            apply("[metrics]\nallowed = []")
        );
    }
}
