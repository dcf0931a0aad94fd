//! Reading a request body field by field: every problem is noted under its field, and `finish`
//! refuses the body if there was any. A reader that finds a problem returns a placeholder, which
//! `finish` keeps from ever being used.

use serde_json::{Map, Value};

use crate::limits;
use crate::refusal::{FieldErrors, Refusal};

/// A request body, or an object inside one.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    values: Option<&'a Map<String, Value>>,
    prefix: String,
    errors: FieldErrors,
}

/// A request body as JSON; no body is an empty object.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Refusal::field(
            "body",
            "The request body must be a JSON object.",
        )),
        Err(_) => Err(Refusal::field(
            "body",
            "The request body must be valid JSON.",
        )),
    }
}

impl<'a> Fields<'a> {
    /// The fields of a body.
    pub(crate) fn of(body: &'a Map<String, Value>) -> Self {
        Self {
            values: Some(body),
            prefix: String::new(),
            errors: FieldErrors::default(),
        }
    }

    /// Refuses the body if a field of it was not as it should be.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        if self.errors.0.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Invalid(self.errors))
        }
    }

    /// Notes a problem with a field.
    pub(crate) fn problem(&mut self, name: &str, message: impl Into<String>) {
        self.errors.add(format!("{}{name}", self.prefix), message);
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.values?.get(name).filter(|value| !value.is_null())
    }

    fn required(&mut self, name: &str) -> Option<&'a Value> {
        let value = self.value(name);
        if value.is_none() {
            self.problem(name, format!("The {name} field is required."));
        }
        value
    }

    /// A text that may be missing or null.
    pub(crate) fn optional_text(&mut self, name: &str, most: usize) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if text.chars().count() <= most => return Some(text.clone()),
            Value::String(_) => {
                let message =
                    format!("The {name} field must not be greater than {most} characters.");
                self.problem(name, message);
            }
            _ => self.problem(name, format!("The {name} field must be a string.")),
        }
        None
    }

    /// A text that has to be there. An empty one counts as missing.
    pub(crate) fn text(&mut self, name: &str, most: usize) -> String {
        if self.required(name).is_none() {
            return String::new();
        }
        let text = self.optional_text(name, most);
        if text.as_deref() == Some("") {
            self.problem(name, format!("The {name} field is required."));
        }
        text.unwrap_or_default()
    }

    /// A text that has to be there but may be null.
    pub(crate) fn nullable_text(&mut self, name: &str, most: usize) -> Option<String> {
        if self.values.is_none_or(|values| !values.contains_key(name)) {
            self.problem(name, format!("The {name} field must be present."));
        }
        self.optional_text(name, most)
    }

    /// An integer that has to be there, within bounds.
    pub(crate) fn integer(&mut self, name: &str, least: i64, most: i64) -> i64 {
        match self.required(name).map(Value::as_i64) {
            None => {}
            Some(Some(number)) if (least..=most).contains(&number) => return number,
            Some(Some(_)) => {
                let message = format!("The {name} field must be between {least} and {most}.");
                self.problem(name, message);
            }
            Some(None) => self.problem(name, format!("The {name} field must be an integer.")),
        }
        least
    }

    /// An id that has to be there.
    pub(crate) fn id(&mut self, name: &str) -> i64 {
        self.integer(name, 1, i64::MAX)
    }

    /// A flag that has to be there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        match self.required(name).map(Value::as_bool) {
            Some(Some(flag)) => return flag,
            Some(None) => self.problem(name, format!("The {name} field must be true or false.")),
            None => {}
        }
        false
    }

    /// A flag that may be missing.
    pub(crate) fn optional_flag(&mut self, name: &str) -> Option<bool> {
        self.value(name)?;
        Some(self.flag(name))
    }

    /// A word of a list that has to be there.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &str,
        parse: fn(&str) -> Option<T>,
        placeholder: T,
    ) -> T {
        let word = self
            .required(name)
            .map(|value| value.as_str().and_then(parse));
        match word {
            Some(Some(word)) => word,
            Some(None) => {
                self.problem(name, format!("The selected {name} is invalid."));
                placeholder
            }
            None => placeholder,
        }
    }

    /// An object that may be missing; without one, `None`.
    pub(crate) fn optional_object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        match self.value(name)? {
            Value::Object(values) => Some(self.nested(name, values, read)),
            _ => {
                self.problem(name, format!("The {name} field must be an object."));
                None
            }
        }
    }

    /// A list of objects that may be missing; without one, it is empty.
    pub(crate) fn list<T>(&mut self, name: &str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let items = match self.value(name) {
            None => return Vec::new(),
            Some(Value::Array(items)) if items.len() <= limits::LIST_ENTRIES => items,
            Some(Value::Array(_)) => {
                let most = limits::LIST_ENTRIES;
                let message = format!("The {name} field must not have more than {most} items.");
                self.problem(name, message);
                return Vec::new();
            }
            Some(_) => {
                self.problem(name, format!("The {name} field must be an array."));
                return Vec::new();
            }
        };
        let mut things = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let name = format!("{name}.{index}");
            match item {
                Value::Object(values) => things.push(self.nested(&name, values, &mut read)),
                _ => self.problem(&name, format!("The {name} field must be an object.")),
            }
        }
        things
    }

    /// A list of words that has to be there.
    pub(crate) fn words<T>(&mut self, name: &str, parse: fn(&str) -> Option<T>) -> Vec<T> {
        let words = match self.required(name) {
            Some(Value::Array(items)) if items.len() <= limits::LIST_ENTRIES => items
                .iter()
                .map(|item| item.as_str().and_then(parse))
                .collect::<Option<Vec<T>>>(),
            Some(_) => None,
            None => return Vec::new(),
        };
        words.unwrap_or_else(|| {
            self.problem(name, format!("The selected {name} is invalid."));
            Vec::new()
        })
    }

    fn nested<T>(
        &mut self,
        name: &str,
        values: &'a Map<String, Value>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut inner = Fields {
            values: Some(values),
            prefix: format!("{}{name}.", self.prefix),
            errors: std::mem::take(&mut self.errors),
        };
        let result = read(&mut inner);
        self.errors = inner.errors;
        result
    }

    /// The metadata object: `None` without one. An empty list is an empty object, because some
    /// languages have one type for both.
    pub(crate) fn metadata(&mut self) -> Option<Map<String, Value>> {
        match self.values?.get("metadata")? {
            Value::Object(map) => Some(map.clone()),
            Value::Array(items) if items.is_empty() => Some(Map::new()),
            _ => {
                self.problem("metadata", "The metadata field must be an object.");
                None
            }
        }
    }
}

/// Refuses metadata that is larger or deeper than the simulator keeps.
pub(crate) fn check_metadata(metadata: &Map<String, Value>) -> Result<(), Refusal> {
    let size = serde_json::to_vec(metadata).map_or(usize::MAX, |text| text.len());
    if size > limits::METADATA_BYTES {
        let most = limits::METADATA_BYTES;
        return Err(Refusal::field(
            "metadata",
            format!("The metadata exceeds {most} bytes."),
        ));
    }
    if metadata
        .values()
        .any(|value| !is_shallow(value, limits::METADATA_DEPTH))
    {
        return Err(Refusal::field(
            "metadata",
            "The metadata is nested too deeply.",
        ));
    }
    Ok(())
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    let inside = |value: &Value| levels > 0 && is_shallow(value, levels - 1);
    match value {
        Value::Array(items) => items.iter().all(inside),
        Value::Object(map) => map.values().all(inside),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
