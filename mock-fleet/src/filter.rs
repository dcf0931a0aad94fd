//! The metadata filter: `state="idle",max=20,stats.score=null` — conditions joined by commas,
//! each a dotted path, `=`, and a JSON scalar. Equality only. A quoted text has no escape (none
//! is documented): it ends at the next quotation mark, and a comma inside it is part of it.

use serde_json::{Map, Number, Value};

use crate::limits;

/// A parsed filter: all conditions have to hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataFilter(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    path: Vec<String>,
    value: Value,
}

/// Why a filter is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("is longer than {} bytes", limits::FILTER_BYTES)]
    TooLong,
    #[error("has more than {} conditions", limits::FILTER_CONDITIONS)]
    TooMany,
    #[error("has a condition without `=`")]
    NoEquals,
    #[error("has a condition without a key, or with an empty part in its path")]
    EmptyKey,
    #[error("has a text without a closing quotation mark")]
    OpenQuote,
    #[error("has something between a closing quotation mark and the next comma")]
    AfterQuote,
    #[error("has a value that is neither a quoted text nor a number, true, false or null")]
    Value,
}

impl MetadataFilter {
    /// Reads a filter.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > limits::FILTER_BYTES {
            return Err(FilterError::TooLong);
        }
        let mut conditions = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            if conditions.len() == limits::FILTER_CONDITIONS {
                return Err(FilterError::TooMany);
            }
            let (key, value) = text.split_once('=').ok_or(FilterError::NoEquals)?;
            let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                return Err(FilterError::EmptyKey);
            }
            let (value, remaining) = read_value(value.trim_start())?;
            conditions.push(Condition { path, value });
            rest = remaining;
        }
        Ok(Self(conditions))
    }

    /// Whether `metadata` satisfies every condition. A missing key satisfies none, not even
    /// `null`. With `arrays`, an array that contains the value satisfies the condition too.
    pub(crate) fn matches(&self, metadata: &Map<String, Value>, arrays: bool) -> bool {
        self.0.iter().all(|condition| {
            lookup(metadata, &condition.path).is_some_and(|found| match found {
                Value::Array(items) => {
                    arrays && items.iter().any(|item| same(item, &condition.value))
                }
                other => same(other, &condition.value),
            })
        })
    }
}

/// Reads the value at the start of `text`; also returns what follows the comma after it.
fn read_value(text: &str) -> Result<(Value, Option<&str>), FilterError> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (inside, after) = quoted.split_once('"').ok_or(FilterError::OpenQuote)?;
        let after = after.trim_start();
        let rest = match after.strip_prefix(',') {
            Some(rest) => Some(rest),
            None if after.is_empty() => None,
            None => return Err(FilterError::AfterQuote),
        };
        return Ok((Value::String(inside.to_owned()), rest));
    }
    let (bare, rest) = match text.split_once(',') {
        Some((bare, rest)) => (bare, Some(rest)),
        None => (text, None),
    };
    let value = match bare.trim() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        number => Value::Number(number.parse::<Number>().map_err(|_| FilterError::Value)?),
    };
    Ok((value, rest))
}

fn lookup<'a>(metadata: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(metadata.get(first)?, |value, step| value.get(step))
}

/// Equality of scalars: types count, but 20 and 20.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn matches(filter: &str, metadata: Value, arrays: bool) -> bool {
        let Value::Object(metadata) = metadata else {
            panic!("metadata is an object")
        };
        MetadataFilter::parse(filter)
            .unwrap()
            .matches(&metadata, arrays)
    }

    #[test]
    fn conditions_compare_by_type() {
        let metadata = || {
            json!({"s": "idle", "b": false, "n": 20, "t": "20", "f": 1.5, "z": null,
                   "o": {"p": {"q": "deep"}, "z": null}, "l": ["a", 37, true, null], "c": "a,b"})
        };
        for (filter, expected) in [
            (r#"s="idle""#, true),
            (r#"s="id""#, false),
            (r#"absent="x""#, false),
            ("absent=null", false),
            ("b=false", true),
            ("b=true", false),
            ("n=20", true),
            ("n=20.0", true),
            (r#"n="20""#, false),
            (r#"t="20""#, true),
            ("t=20", false),
            ("f=1.5", true),
            ("z=null", true),
            ("o.z=null", true),
            (r#"o.p.q="deep""#, true),
            (r#"o.p="deep""#, false),
            (r#"s="idle",b=false,o.p.q="deep""#, true),
            (r#"s="idle", b=true"#, false),
            (r#"c="a,b""#, true),
        ] {
            assert_eq!(matches(filter, metadata(), false), expected, "{filter}");
        }
        for filter in [r#"l="a""#, "l=37", "l=true", "l=null"] {
            assert!(matches(filter, metadata(), true), "{filter}");
            assert!(
                !matches(filter, metadata(), false),
                "{filter} before arrays were filtered"
            );
        }
        assert!(!matches(r#"l="nope""#, metadata(), true));
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        for (filter, error) in [
            ("", FilterError::NoEquals),
            ("no-equals-sign", FilterError::NoEquals),
            ("a=1,", FilterError::NoEquals),
            ("=1", FilterError::EmptyKey),
            ("a..b=1", FilterError::EmptyKey),
            ("a=", FilterError::Value),
            ("a=idle", FilterError::Value),
            (r#"a="x"#, FilterError::OpenQuote),
            (r#"a="x"y"#, FilterError::AfterQuote),
            (r#"a="x"b="y""#, FilterError::AfterQuote),
        ] {
            assert_eq!(MetadataFilter::parse(filter), Err(error), "{filter}");
        }
        let many = vec!["a=1"; limits::FILTER_CONDITIONS + 1].join(",");
        assert_eq!(MetadataFilter::parse(&many), Err(FilterError::TooMany));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,200}") {
            drop(MetadataFilter::parse(&text));
        }

        #[test]
        fn any_plain_text_is_found_by_its_filter(key in "[a-z_]{1,10}", text in "[^\"]{0,40}") {
            let metadata = json!({ &key: &text });
            let filter = format!("{key}=\"{text}\"");
            prop_assert!(matches(&filter, metadata, false));
        }
    }
}
