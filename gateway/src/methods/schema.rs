//! Checks the form of params and claims. What is wrong is told as the ODIN gateway tells it: a list of issues as text,
//! and the same by field.

use gateway_api::Names;
use serde_json::{Map, Value, json};

use crate::error::RpcError;

/// Reads members of an object and collects what is wrong with them. A member that is wrong reads as its type's default;
/// [`finish`](Self::finish) then refuses the whole.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    issues: Vec<Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(object: &'a Map<String, Value>) -> Self {
        Self {
            object,
            issues: Vec::new(),
        }
    }

    /// Refuses when anything was wrong.
    pub(super) fn finish(self) -> Result<(), RpcError> {
        if self.issues.is_empty() {
            return Ok(());
        }
        let mut fields: Map<String, Value> = Map::new();
        for issue in &self.issues {
            let field = issue["path"][0].as_str().unwrap_or_default();
            let texts = fields.entry(field).or_insert_with(|| json!([]));
            if let Value::Array(texts) = texts {
                texts.push(issue["message"].clone());
            }
        }
        let text = serde_json::to_string_pretty(&self.issues).expect("JSON values are JSON");
        let data = json!({"formErrors": [], "fieldErrors": fields});
        Err(RpcError::schema(text, data))
    }

    pub(super) fn string(&mut self, name: &str) -> String {
        match self.object.get(name) {
            Some(Value::String(text)) => text.clone(),
            other => {
                self.wrong_type(&[json!(name)], "string", other);
                String::new()
            }
        }
    }

    pub(super) fn optional_string(&mut self, name: &str) -> Option<String> {
        self.object.contains_key(name).then(|| self.string(name))
    }

    pub(super) fn number(&mut self, name: &str) -> f64 {
        match self.object.get(name) {
            Some(Value::Number(number)) => number.as_f64().unwrap_or_default(),
            other => {
                self.wrong_type(&[json!(name)], "number", other);
                0.0
            }
        }
    }

    pub(super) fn optional_number(&mut self, name: &str) -> Option<f64> {
        self.object.contains_key(name).then(|| self.number(name))
    }

    /// As if it were left out when it is `null`.
    pub(super) fn nullable_number(&mut self, name: &str) -> Option<f64> {
        match self.object.get(name) {
            Some(Value::Null) => None,
            _ => self.optional_number(name),
        }
    }

    /// A whole number from 0.
    pub(super) fn count(&mut self, name: &str) -> u64 {
        let number = self.number(name);
        if number < 0.0 || number.fract() != 0.0 {
            self.custom(&[json!(name)], "Expected a whole number from 0");
        }
        number as u64
    }

    pub(super) fn optional_count(&mut self, name: &str) -> Option<u64> {
        self.object.contains_key(name).then(|| self.count(name))
    }

    pub(super) fn optional_flag(&mut self, name: &str) -> Option<bool> {
        match self.object.get(name)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                self.wrong_type(&[json!(name)], "boolean", Some(other));
                None
            }
        }
    }

    pub(super) fn array(&mut self, name: &str) -> &'a [Value] {
        match self.object.get(name) {
            Some(Value::Array(items)) => items,
            other => {
                self.wrong_type(&[json!(name)], "array", other);
                &[]
            }
        }
    }

    /// An array of numbers from 0 to 255.
    pub(super) fn bytes(&mut self, name: &str) -> Vec<u8> {
        let items = self.array(name);
        let mut bytes = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let path = [json!(name), json!(at)];
            match item.as_u64().map(u8::try_from) {
                Some(Ok(byte)) => bytes.push(byte),
                _ if item.is_number() => {
                    self.custom(&path, "Expected a whole number from 0 to 255");
                }
                _ => self.wrong_type(&path, "number", Some(item)),
            }
            // One is enough to find the mistake, and thousands would be a large answer to a small call.
            if !self.issues.is_empty() {
                break;
            }
        }
        bytes
    }

    /// A string or an array of strings.
    pub(super) fn names(&mut self, name: &str) -> Names {
        let value = self.object.get(name).cloned().unwrap_or_default();
        serde_json::from_value(value).unwrap_or_else(|_| {
            let path = json!([name]);
            let issue = json!({"code": "invalid_union", "path": path, "message": "Invalid input"});
            self.issues.push(issue);
            Names::Many(Vec::new())
        })
    }

    /// One of these words.
    pub(super) fn word(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let quoted = words.iter().map(|word| format!("'{word}'"));
        let expected = quoted.collect::<Vec<_>>().join(" | ");
        match self.object.get(name) {
            Some(Value::String(text)) => {
                if let Some(word) = words.iter().find(|word| *word == text) {
                    return word;
                }
                let message = format!("Invalid enum value. Expected {expected}, received '{text}'");
                self.issues.push(json!({
                    "received": text, "code": "invalid_enum_value", "options": words, "path": [name],
                    "message": message,
                }));
            }
            other => self.wrong_type(&[json!(name)], &expected, other),
        }
        ""
    }

    pub(super) fn optional_word(
        &mut self,
        name: &str,
        words: &[&'static str],
    ) -> Option<&'static str> {
        self.object
            .contains_key(name)
            .then(|| self.word(name, words))
    }

    /// Something is wrong that only the method knows of.
    pub(super) fn custom(&mut self, path: &[Value], message: &str) {
        let issue = json!({"code": "custom", "path": path, "message": message});
        self.issues.push(issue);
    }

    fn wrong_type(&mut self, path: &[Value], expected: &str, received: Option<&Value>) {
        let received = match received {
            None => "undefined",
            Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "boolean",
            Some(Value::Number(_)) => "number",
            Some(Value::String(_)) => "string",
            Some(Value::Array(_)) => "array",
            Some(Value::Object(_)) => "object",
        };
        let message = match received {
            "undefined" => "Required".to_owned(),
            _ => format!("Expected {expected}, received {received}"),
        };
        self.issues.push(json!({
            "code": "invalid_type", "expected": expected, "received": received, "path": path,
            "message": message,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named() {
        let params = json!({"b": 5, "c": null, "d": [1, 300], "e": -1});
        let params = params.as_object().unwrap();
        let mut fields = Fields::of(params);
        fields.string("a");
        fields.string("b");
        fields.optional_number("c");
        fields.optional_count("e");
        assert_eq!(fields.optional_string("x"), None);
        let error = fields.finish().unwrap_err();
        let data = error.data.unwrap();
        assert_eq!(data["fieldErrors"]["a"], json!(["Required"]));
        assert_eq!(
            data["fieldErrors"]["b"],
            json!(["Expected string, received number"])
        );
        assert_eq!(
            data["fieldErrors"]["c"],
            json!(["Expected number, received null"])
        );
        assert!(data["fieldErrors"]["e"].is_array());
        let issues: Value = serde_json::from_str(&error.message).unwrap();
        assert_eq!(issues[1]["received"], "number");
    }

    #[test]
    fn a_byte_is_from_0_to_255() {
        for (bytes, is_right) in [
            (json!([0, 255]), true),
            (json!([256]), false),
            (json!([-1]), false),
            (json!([1.5]), false),
            (json!(["a"]), false),
            (json!("AAEC"), false),
        ] {
            let params = json!({"d": bytes});
            let mut fields = Fields::of(params.as_object().unwrap());
            fields.bytes("d");
            assert_eq!(fields.finish().is_ok(), is_right, "{bytes}");
        }
    }
}
