//! The `query` parameter: the JSON object of the guide, keys in any case as Go's encoding/json reads them.

use serde_json::{Map, Value};

use super::{Conditions, Filter, QUERY_BYTES_MAX, Request, Rules};
use crate::error::Error;

/// Reads `{"Metadata": {}, "Status": "", "Location": {"Continent", "City", "Country"}, "PerPage": 0, "Pages": 0}`.
/// Null counts as absent, and so does 0 for the two numbers.
pub(super) fn parse(text: &str, rules: Rules<'_>) -> Result<Request, Error> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(invalid(format!(
            "it is longer than {QUERY_BYTES_MAX} bytes"
        )));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| invalid(format!("it is not JSON: {error}")))?;
    let Value::Object(fields) = value else {
        return Err(invalid("it must be a JSON object"));
    };
    let mut request = Request::default();
    for (name, value) in unique(fields, "")? {
        match name.as_str() {
            "metadata" => request.filter.metadata = Conditions::new(&object("Metadata", value)?)?,
            "status" => request.filter.status = Some(text_of("Status", value)?),
            "location" => location(object("Location", value)?, &mut request.filter)?,
            "perpage" => request.per_page = number("PerPage", &value, rules.per_page_max)?,
            "pages" => request.page = number("Pages", &value, u32::MAX)?,
            _ => {
                let known = "Metadata, Status, Location, PerPage and Pages";
                return Err(invalid(format!("unknown key `{name}`: it knows {known}")));
            }
        }
    }
    Ok(request)
}

fn location(fields: Map<String, Value>, filter: &mut Filter) -> Result<(), Error> {
    for (name, value) in unique(fields, "Location.")? {
        let slot = match name.as_str() {
            "continent" => &mut filter.continent,
            "city" => &mut filter.city,
            "country" => &mut filter.country,
            _ => {
                let known = "Continent, City and Country";
                return Err(invalid(format!(
                    "unknown key `Location.{name}`: it knows {known}"
                )));
            }
        };
        *slot = Some(text_of(&format!("Location.{name}"), value)?);
    }
    Ok(())
}

/// The fields that are not null with their names in lower case, each only once.
fn unique(fields: Map<String, Value>, prefix: &str) -> Result<Vec<(String, Value)>, Error> {
    let mut seen: Vec<(String, Value)> = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let lower = name.to_lowercase();
        if seen.iter().any(|(other, _)| *other == lower) {
            return Err(invalid(format!(
                "`{prefix}{name}` is given more than once, in different case"
            )));
        }
        seen.push((lower, value));
    }
    // Null is dropped only after the names are known to be right.
    for (name, value) in &mut seen {
        let known = [
            "metadata",
            "status",
            "location",
            "perpage",
            "pages",
            "continent",
            "city",
            "country",
        ];
        if value.is_null() && !known.contains(&name.as_str()) {
            return Err(invalid(format!("unknown key `{prefix}{name}`")));
        }
    }
    seen.retain(|(_, value)| !value.is_null());
    Ok(seen)
}

fn object(name: &str, value: Value) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(invalid(format!("`{name}` must be an object"))),
    }
}

fn text_of(name: &str, value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        _ => Err(invalid(format!(
            "`{name}` must be a text that is not empty"
        ))),
    }
}

fn number<T: TryFrom<u64> + Into<u64> + Copy>(
    name: &str,
    value: &Value,
    max: T,
) -> Result<Option<T>, Error> {
    let number = value
        .as_u64()
        .filter(|number| *number <= max.into())
        .and_then(|number| T::try_from(number).ok());
    match number {
        Some(number) => Ok((number.into() != 0).then_some(number)),
        None => Err(invalid(format!(
            "`{name}` must be a whole number from 0 to {}",
            max.into()
        ))),
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::InvalidQuery(why.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;
    use crate::{error::Kind, query::tests::RULES};

    fn check(text: &str) -> Request {
        parse(text, RULES).unwrap()
    }

    #[test]
    fn the_example_of_the_guide() {
        let request = check(
            r#"{"Metadata": {"instance_state": "idle"}, "Status": "running",
                "Location": {"Continent": "europe", "City": "limburg", "Country": "de"}, "PerPage": 5, "Pages": 2}"#,
        );
        let idle = Map::from_iter([("instance_state".to_owned(), "idle".into())]);
        let text = |text: &str| Some(text.to_owned());
        let filter = Filter {
            status: text("running"),
            city: text("limburg"),
            country: text("de"),
            continent: text("europe"),
            metadata: Conditions::new(&idle).unwrap(),
        };
        assert_eq!(
            request,
            Request {
                filter,
                page: Some(2),
                per_page: Some(5)
            }
        );
    }

    #[test]
    fn keys_match_in_any_case_but_metadata_keys_do_not_change() {
        let request = check(r#"{"mEtAdata": {"Map": 1}, "perPage": 5, "LOCATION": {"city": "x"}}"#);
        assert_eq!(request.filter.metadata.unwrap().as_str(), "Map=1");
        assert_eq!(
            (request.per_page, request.filter.city.as_deref()),
            (Some(5), Some("x"))
        );
    }

    #[test]
    fn null_and_zero_are_absent() {
        let text = r#"{"Metadata": null, "Status": null, "Location": {"City": null}, "PerPage": 0, "Pages": null}"#;
        assert_eq!(check(text), Request::default());
        assert_eq!(
            check(r#"{"Location": null, "Metadata": {}}"#),
            Request::default()
        );
    }

    #[test]
    fn whatever_would_be_dropped_silently_is_refused() {
        let cases = [
            r#"{"Metadata":"#,
            "[]",
            "null",
            "7",
            r#"{"Metdata": {}}"#,
            r#"{"Metdata": null}"#,
            r#"{"City": "limburg"}"#,
            r#"{"Location": {"Town": "x"}}"#,
            r#"{"Location": "europe"}"#,
            r#"{"Metadata": [], "Status": "x"}"#,
            r#"{"Status": 1}"#,
            r#"{"Status": ""}"#,
            r#"{"Status": "a", "status": "b"}"#,
            r#"{"PerPage": -1}"#,
            r#"{"PerPage": 101}"#,
            r#"{"PerPage": "ten"}"#,
            r#"{"PerPage": 1.5}"#,
            r#"{"Pages": -1}"#,
            r#"{"Pages": 4294967296}"#,
            r#"{"Status": "a"} {"#,
        ];
        for text in cases {
            assert_eq!(
                parse(text, RULES).unwrap_err().kind(),
                Kind::InvalidQuery,
                "{text}"
            );
        }
        let long = format!(r#"{{"Status": "{}"}}"#, "x".repeat(QUERY_BYTES_MAX));
        assert_eq!(parse(&long, RULES).unwrap_err().kind(), Kind::InvalidQuery);
        let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        assert_eq!(parse(&deep, RULES).unwrap_err().kind(), Kind::InvalidQuery);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", value in ".*") {
            let _ = parse(&text, RULES);
            let _ = parse(&format!(r#"{{"Metadata": {{"{value}": "{value}"}}, "PerPage": {value}}}"#), RULES);
        }
    }
}
