//! Conditions on metadata in Fleet's filter language: `a="text",b=20,c.d=null`.
//!
//! Strings are quoted, numbers, booleans and null are bare, nesting is by dots, a comma separates. Fleet documents
//! no escape, so a value that would need one is refused instead of being sent as something else.

use serde_json::{Map, Value};

use crate::error::Error;

/// Most conditions in one filter. Far above any matchmaker's need, and keeps the request line to Fleet short.
const CONDITIONS_MAX: usize = 64;

/// Renders the conditions sorted by key, so that the same filter is always the same text; `None` for no condition.
///
/// # Errors
///
/// `unsupported_filter` for what the language cannot say.
pub(super) fn render(metadata: &Map<String, Value>) -> Result<Option<String>, Error> {
    let mut conditions = Vec::new();
    flatten("", metadata, &mut conditions)?;
    conditions.sort();
    let rendered: Vec<_> = conditions
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    Ok((!rendered.is_empty()).then(|| rendered.join(",")))
}

fn flatten(
    prefix: &str,
    object: &Map<String, Value>,
    conditions: &mut Vec<(String, String)>,
) -> Result<(), Error> {
    for (name, value) in object {
        check_key(name)?;
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        let rendered = match value {
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
        conditions.push((key, rendered));
    }
    Ok(())
}

fn check_key(name: &str) -> Result<(), Error> {
    let breaks =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | ',' | '=' | '\\');
    if name.is_empty() || name.contains(breaks) {
        return Err(Error::UnsupportedFilter(format!(
            "the metadata key {name:?} cannot be written in a Fleet filter: it is empty or has a space, \
             a quote, a comma, a backslash or an equals sign"
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
            Value::Object(metadata) => render(&metadata),
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
        assert_eq!(render(&many).unwrap_err().kind(), Kind::UnsupportedFilter);
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
