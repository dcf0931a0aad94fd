//! The same filters as plain parameters, for people with curl: `?state=idle&city=limburg&metadata=max_players=20`.

use serde_json::{Map, Value};

use super::{Conditions, Request, Rules};
use crate::error::Error;

/// Every parameter of List besides `query`, `limit`, `cursor` and `max_age_ms`.
const NAMES: [&str; 8] = [
    "status",
    "city",
    "country",
    "continent",
    "state",
    "metadata",
    "per_page",
    "page",
];

/// Reads the plain parameters. All may be given once, `metadata` once per key.
pub(super) fn parse(parameters: &[(&str, &str)], rules: Rules<'_>) -> Result<Request, Error> {
    refuse_unknown(parameters)?;
    let mut request = Request::default();
    let mut conditions = Map::new();
    for (name, text) in parameters {
        let repeated = match *name {
            "status" => request.filter.status.replace(filled(name, text)?).is_some(),
            "city" => request.filter.city.replace(filled(name, text)?).is_some(),
            "country" => request
                .filter
                .country
                .replace(filled(name, text)?)
                .is_some(),
            "continent" => request
                .filter
                .continent
                .replace(filled(name, text)?)
                .is_some(),
            "per_page" => request
                .per_page
                .replace(count(name, text, rules.per_page_max)?)
                .is_some(),
            "page" => request.page.replace(count(name, text, u32::MAX)?).is_some(),
            "state" => conditions
                .insert(rules.state_key.to_owned(), filled(name, text)?.into())
                .is_some(),
            _ => {
                let (key, value) = condition(text)?;
                conditions.insert(key.to_owned(), value).is_some()
            }
        };
        if repeated {
            return Err(Error::invalid_argument(format!(
                "`{name}={text}` names what is already given"
            )));
        }
    }
    request.filter.metadata = Conditions::new(&conditions)?;
    Ok(request)
}

/// A misspelt filter must not widen the list.
pub(super) fn refuse_unknown(parameters: &[(&str, &str)]) -> Result<(), Error> {
    match parameters.iter().find(|(name, _)| !NAMES.contains(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let known = NAMES.join("`, `");
            Err(Error::invalid_argument(format!(
                "unknown parameter `{name}`: List knows `query`, `limit`, `cursor`, `max_age_ms`, `{known}`"
            )))
        }
    }
}

/// `KEY=VALUE`; a value that reads as a JSON number, boolean, null or quoted text is one, any other is text.
fn condition(text: &str) -> Result<(&str, Value), Error> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        Error::invalid_argument(format!("`metadata={text}` must read `metadata=KEY=VALUE`"))
    })?;
    let scalar = serde_json::from_str(value)
        .ok()
        .filter(|value: &Value| !value.is_object() && !value.is_array());
    Ok((key, scalar.unwrap_or_else(|| value.into())))
}

fn filled(name: &str, text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::invalid_argument(format!(
            "`{name}` must not be empty"
        )));
    }
    Ok(text.to_owned())
}

fn count<T: TryFrom<u64> + Into<u64> + Copy>(name: &str, text: &str, max: T) -> Result<T, Error> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<u64>().ok()).flatten();
    number
        .filter(|number| (1..=max.into()).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            Error::invalid_argument(format!(
                "`{name}` must be a whole number from 1 to {}",
                max.into()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Kind,
        query::{Filter, tests::RULES},
    };

    fn metadata(parameters: &[(&str, &str)]) -> Option<String> {
        let metadata = parse(parameters, RULES).unwrap().filter.metadata;
        metadata.map(|conditions| conditions.as_str().to_owned())
    }

    #[test]
    fn every_filter_has_a_parameter() {
        let request = parse(
            &[
                ("status", "running"),
                ("city", "limburg"),
                ("country", "de"),
                ("continent", "europe"),
                ("state", "idle"),
                ("per_page", "25"),
                ("page", "2"),
            ],
            RULES,
        );
        let text = |text: &str| Some(text.to_owned());
        let idle = Map::from_iter([("instance_state".to_owned(), "idle".into())]);
        let filter = Filter {
            status: text("running"),
            city: text("limburg"),
            country: text("de"),
            continent: text("europe"),
            metadata: Conditions::new(&idle).unwrap(),
        };
        assert_eq!(
            request.unwrap(),
            Request {
                filter,
                page: Some(2),
                per_page: Some(25)
            }
        );
    }

    #[test]
    fn a_metadata_value_is_typed_as_json_would_type_it() {
        let cases = [
            ("a=idle", r#"a="idle""#),
            ("a=20", "a=20"),
            ("a=\"20\"", r#"a="20""#),
            ("a=true", "a=true"),
            ("a=null", "a=null"),
            ("a=x=y", r#"a="x=y""#),
            ("a=", r#"a="""#),
            ("a.b=1", "a.b=1"),
        ];
        for (text, rendered) in cases {
            assert_eq!(
                metadata(&[("metadata", text)]).as_deref(),
                Some(rendered),
                "{text}"
            );
        }
        let two = metadata(&[("metadata", "z=1"), ("metadata", "a=2")]);
        assert_eq!(two.as_deref(), Some("a=2,z=1"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let cases: [&[(&str, &str)]; 12] = [
            &[("stauts", "running")],
            &[("Status", "running")],
            &[("status", "")],
            &[("status", "a"), ("status", "b")],
            &[("state", "idle"), ("metadata", "instance_state=idle")],
            &[("metadata", "a=1"), ("metadata", "a=2")],
            &[("metadata", "idle")],
            &[("per_page", "0")],
            &[("per_page", "101")],
            &[("page", "-1")],
            &[("page", "")],
            &[("page", "99999999999999999999")],
        ];
        for parameters in cases {
            assert_eq!(
                parse(parameters, RULES).unwrap_err().kind(),
                Kind::InvalidArgument,
                "{parameters:?}"
            );
        }
        let unsupported = parse(&[("metadata", "a=x,y")], RULES).unwrap_err();
        assert_eq!(unsupported.kind(), Kind::UnsupportedFilter);
        assert_eq!(
            parse(&[("metadata", "=1")], RULES).unwrap_err().kind(),
            Kind::UnsupportedFilter
        );
    }
}
