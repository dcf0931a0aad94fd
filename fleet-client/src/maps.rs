//! Maps of the Fleet API that may arrive as `[]` or `null` when they are empty: a PHP back end knows one kind of
//! array, and an empty one is written as a list.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::generated::types::EnvironmentVariable;

/// Key/value data of the customer: any JSON value by key, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Metadata(pub Map<String, Value>);

/// The resolved environment of a container, by variable name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct EnvironmentVariables(pub std::collections::BTreeMap<String, EnvironmentVariable>);

impl From<Map<String, Value>> for Metadata {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(MapOrEmpty(PhantomData))
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for EnvironmentVariables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(MapOrEmpty(PhantomData))
            .map(Self)
    }
}

/// Reads a map, or nothing where the back end meant an empty one.
struct MapOrEmpty<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned + Default> Visitor<'de> for MapOrEmpty<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, an empty array or null")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(serde::de::value::MapAccessDeserializer::new(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        match items.next_element::<Value>()? {
            None => Ok(T::default()),
            Some(_) => Err(A::Error::custom("an array with items where a map belongs")),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::Metadata;

    #[test]
    fn an_empty_array_and_null_are_empty_maps() {
        for text in ["[]", "null", "{}"] {
            let read: Metadata = serde_json::from_str(text).unwrap();
            assert!(read.0.is_empty(), "{text}");
        }
    }

    #[test]
    fn an_array_with_items_is_refused() {
        assert!(serde_json::from_str::<Metadata>("[1]").is_err());
    }

    #[test]
    fn every_json_type_survives() {
        let text = r#"{"a":1,"b":1.5,"c":true,"d":null,"e":[1,"x"],"f":{"g":"h"}}"#;
        let read: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
