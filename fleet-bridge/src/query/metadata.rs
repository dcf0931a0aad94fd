//! Conditions on metadata in Fleet's filter language: `a="text",b=20,c.d=null`.
//!
//! Strings are quoted, numbers, booleans and null are bare, nesting is by dots, a comma separates. Fleet documents
//! no escape, so a value that would need one is refused instead of being sent as something else. The same conditions
//! are judged here for what the bridge knows without asking.

use serde_json::{Map, Value};

use crate::error::Error;

/// Most conditions in one filter. Far above any matchmaker's need, and keeps the request line to Fleet short.
const CONDITIONS_MAX: usize = 64;

/// Conditions on metadata, at least one: as Fleet reads them, and as the bridge applies them to what it knows itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conditions {
    text: String,
    list: Vec<Condition>,
}

/// A value that the metadata must have at a place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Condition {
    /// Dotted, as Fleet reads it: `a.b` is the key `b` of the object `a`.
    key: String,
    /// A scalar.
    value: Value,
    /// The value in Fleet's language.
    text: String,
}

impl Conditions {
    /// Conditions that metadata has these values, objects being walked into; `None` for no condition. Sorted by key,
    /// so that the same filter is always the same text.
    ///
    /// # Errors
    ///
    /// `unsupported_filter` for what the language cannot say.
    pub fn new(metadata: &Map<String, Value>) -> Result<Option<Self>, Error> {
        let mut list = Vec::new();
        flatten("", metadata, &mut list)?;
        list.sort_by(|a, b| (&a.key, &a.text).cmp(&(&b.key, &b.text)));
        let rendered: Vec<_> = list
            .iter()
            .map(|Condition { key, text, .. }| format!("{key}={text}"))
            .collect();
        let text = rendered.join(",");
        Ok((!list.is_empty()).then_some(Self { text, list }))
    }

    /// The conditions in Fleet's filter language.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether metadata meets every condition, as Fleet judges it: a key that is missing meets none, not even null; an
    /// array meets a condition that one of its items meets.
    pub fn matches(&self, metadata: &Map<String, Value>) -> bool {
        self.list.iter().all(|condition| {
            lookup(metadata, &condition.key).is_some_and(|found| match found {
                Value::Array(items) => items.iter().any(|item| same(item, &condition.value)),
                found => same(found, &condition.value),
            })
        })
    }
}

fn lookup<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let mut steps = key.split('.');
    let first = metadata.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

/// Equality of scalars: types count, but 20 and 20.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn flatten(
    prefix: &str,
    object: &Map<String, Value>,
    conditions: &mut Vec<Condition>,
) -> Result<(), Error> {
    for (name, value) in object {
        check_key(name)?;
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        let text = match value {
            Value::Object(inner) if inner.is_empty() => {
                return Err(unsupported(&key, "an empty object compares with nothing"));
            }
            Value::Object(inner) => {
                flatten(&key, inner, conditions)?;
                continue;
            }
            Value::Array(_) => return Err(unsupported(&key, "Fleet cannot compare with an array")),
            Value::String(text) => quote(&key, text)?,
            Value::Number(number) => {
                let text = number.to_string();
                if text.contains(['e', 'E']) {
                    return Err(unsupported(
                        &key,
                        "the number has too many digits to be compared exactly",
                    ));
                }
                text
            }
            Value::Null | Value::Bool(_) => value.to_string(),
        };
        if conditions.len() == CONDITIONS_MAX {
            return Err(Error::UnsupportedFilter(format!(
                "more than {CONDITIONS_MAX} metadata conditions"
            )));
        }
        let value = value.clone();
        conditions.push(Condition { key, value, text });
    }
    Ok(())
}

fn check_key(name: &str) -> Result<(), Error> {
    let breaks =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | ',' | '=' | '\\');
    if name.split('.').any(str::is_empty) || name.contains(breaks) {
        return Err(Error::UnsupportedFilter(format!(
            "the metadata key {name:?} cannot be written in a Fleet filter: it or a part of it between dots is empty, \
             or it has a space, a quote, a comma, a backslash or an equals sign"
        )));
    }
    Ok(())
}

fn quote(key: &str, text: &str) -> Result<String, Error> {
    if text.contains(|c: char| c.is_control() || matches!(c, '"' | ',' | '\\')) {
        return Err(unsupported(
            key,
            "a quote, comma, backslash or control character has no documented escape",
        ));
    }
    Ok(format!("\"{text}\""))
}

fn unsupported(key: &str, why: &str) -> Error {
    Error::UnsupportedFilter(format!("metadata `{key}`: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;
    use serde_json::json;

    use super::*;
    use crate::error::Kind;

    fn check(metadata: Value) -> Result<Option<String>, Error> {
        match metadata {
            Value::Object(metadata) => {
                Ok(Conditions::new(&metadata)?.map(|conditions| conditions.as_str().to_owned()))
            }
            other => panic!("{other} is no metadata"),
        }
    }

    #[test]
    fn every_scalar_is_rendered_by_its_type() {
        let cases = [
            (json!({"a": "idle"}), r#"a="idle""#),
            (json!({"a": 20}), "a=20"),
            (json!({"a": "20"}), r#"a="20""#),
            (json!({"a": -5}), "a=-5"),
            (json!({"a": 1.5}), "a=1.5"),
            (json!({"a": false}), "a=false"),
            (json!({"a": null}), "a=null"),
            (json!({"a": ""}), r#"a="""#),
            (json!({"a": "a = b & c"}), r#"a="a = b & c""#),
            (json!({"a": "Grüße ✓"}), r#"a="Grüße ✓""#),
            (json!({"a": u64::MAX}), "a=18446744073709551615"),
        ];
        for (metadata, rendered) in cases {
            assert_eq!(check(metadata).unwrap().as_deref(), Some(rendered));
        }
        assert_eq!(check(json!({})).unwrap(), None);
    }

    #[test]
    fn nesting_becomes_dots_and_keys_are_sorted() {
        let metadata = json!({"z": 1, "g": {"b": 1, "a": {"c": "x"}}, "k.l": null});
        assert_eq!(
            check(metadata).unwrap().unwrap(),
            r#"g.a.c="x",g.b=1,k.l=null,z=1"#
        );
    }

    #[test]
    fn what_has_no_escape_or_no_meaning_is_refused() {
        let cases = [
            json!({"a": "say \"hi\""}),
            json!({"a": "Arena, Night"}),
            json!({"a": "a\\b"}),
            json!({"a": "a\nb"}),
            json!({"a": ["u1"]}),
            json!({"a": {}}),
            json!({"a": {"b": [1]}}),
            json!({"a": 1e300}),
            json!({"": 1}),
            json!({"a b": 1}),
            json!({"a=b": 1}),
            json!({"a\"": 1}),
            json!({"a,b": 1}),
            json!({"a..b": 1}),
            json!({".a": 1}),
            json!({"a.": 1}),
        ];
        for metadata in cases {
            assert_eq!(
                check(metadata.clone()).unwrap_err().kind(),
                Kind::UnsupportedFilter,
                "{metadata}"
            );
        }
        let many: Map<_, _> = (0..=CONDITIONS_MAX)
            .map(|n| (format!("k{n}"), json!(n)))
            .collect();
        assert_eq!(
            Conditions::new(&many).unwrap_err().kind(),
            Kind::UnsupportedFilter
        );
    }

    fn matches(wanted: Value, metadata: Value) -> bool {
        let (Value::Object(wanted), Value::Object(metadata)) = (wanted, metadata) else {
            panic!("metadata is an object")
        };
        let conditions = Conditions::new(&wanted).unwrap().unwrap();
        conditions.matches(&metadata)
    }

    #[test]
    fn what_is_known_is_filtered_as_fleet_filters_it() {
        let metadata = json!({"s": "idle", "n": 20, "t": "20", "z": null, "o": {"p": {"q": "deep"}},
            "l": ["a", 37, null], "k.l": 1});
        for (wanted, is_met) in [
            (json!({"s": "idle"}), true),
            (json!({"s": "id"}), false),
            (json!({"absent": null}), false),
            (json!({"n": 20.0}), true),
            (json!({"n": "20"}), false),
            (json!({"t": 20}), false),
            (json!({"z": null}), true),
            (json!({"o": {"p": {"q": "deep"}}}), true),
            (json!({"o.p.q": "deep"}), true),
            (json!({"o.p": "deep"}), false),
            (json!({"l": "a"}), true),
            (json!({"l": 37}), true),
            (json!({"l": null}), true),
            (json!({"l.0": "a"}), false),
            (json!({"k.l": 1}), false),
            (json!({"s": "idle", "n": 21}), false),
        ] {
            assert_eq!(
                matches(wanted.clone(), metadata.clone()),
                is_met,
                "{wanted}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_rendered_text_has_exactly_the_quotes_and_commas_of_the_language(key in ".*", text in ".*") {
            if let Ok(Some(rendered)) = check(json!({key: text, "other": 1})) {
                assert_eq!(rendered.matches('"').count(), 2);
                assert_eq!(rendered.matches(',').count(), 1);
            }
        }
    }
}
