//! The environment variables of a service, as its config defines them.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::model::{VariableDefinition, VariableType};
use crate::state::service::Service;

/// The environment of a service, resolved while it is written.
#[derive(Debug)]
pub(super) struct Environment<'a> {
    pub(super) definitions: &'a [VariableDefinition],
    pub(super) service: &'a Service,
    pub(super) address: Option<&'a str>,
}

impl Environment<'_> {
    fn value(&self, definition: &VariableDefinition) -> Option<String> {
        let named = definition
            .variable
            .as_deref()
            .or(definition.value.as_deref());
        match definition.kind {
            VariableType::Static => definition.value.clone(),
            VariableType::Port => {
                let port = self
                    .service
                    .ports
                    .iter()
                    .find(|port| Some(&*port.name) == named)?;
                port.published.map(|number| number.to_string())
            }
            VariableType::System => match named? {
                "_ip-address" => self.address.map(str::to_owned),
                "_instance-id" => Some(self.service.id.to_string()),
                _ => None,
            },
        }
    }
}

impl Serialize for Environment<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Variable<'a> {
            key: &'a str,
            value: Option<String>,
        }
        let mut map = serializer.serialize_map(Some(self.definitions.len()))?;
        for (index, definition) in self.definitions.iter().enumerate() {
            let later = &self.definitions[index + 1..];
            if later.iter().any(|other| other.key == definition.key) {
                continue;
            }
            let value = self.value(definition);
            map.serialize_entry(
                &definition.key,
                &Variable {
                    key: &definition.key,
                    value,
                },
            )?;
        }
        map.end()
    }
}
