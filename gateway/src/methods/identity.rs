//! Who a token is for, once its claims have the right form.

use gateway_api::{ClaimsObject, Names, RoomId};
use serde_json::{Map, Value, json};

use super::schema::Fields;
use crate::error::RpcError;

/// Most rooms of one token.
const ROOMS_MAX: usize = 256;

/// Longest name of a room and longest user id, in bytes: they are kept in memory and handed to other gateways.
pub(super) const NAME_BYTES_MAX: usize = 1024;

/// What `rid`, `uid`, `internal.server` and `internal.prefer` say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    pub(super) user: String,
    pub(super) rooms: Names,
    pub(super) server: Option<String>,
    pub(super) preferred: Option<String>,
}

impl Identity {
    pub(super) fn read(claims: &ClaimsObject) -> Result<Self, RpcError> {
        let mut fields = Fields::of(claims);
        let mut identity = Self {
            user: fields.string("uid"),
            rooms: fields.names("rid"),
            server: None,
            preferred: None,
        };
        if let Some(internal) = internal(claims, &mut fields) {
            identity.server = address(internal, "server", &mut fields);
            identity.preferred = address(internal, "prefer", &mut fields);
        }
        if identity.user.len() > NAME_BYTES_MAX {
            fields.custom(&[json!("uid")], "The user id is longer than 1024 bytes");
        }
        let rooms = identity.rooms.as_slice();
        if rooms.len() > ROOMS_MAX || rooms.iter().any(|room| room.len() > NAME_BYTES_MAX) {
            let text = "At most 256 rooms with names of at most 1024 bytes";
            fields.custom(&[json!("rid")], text);
        }
        fields.finish()?;
        Ok(identity)
    }

    /// The rooms within a namespace; they must live together.
    pub(super) fn room_ids(&self, namespace: &str) -> Result<Vec<RoomId>, RpcError> {
        let names = self.rooms.as_slice().iter();
        let room = |name: &String| RoomId {
            namespace: namespace.to_owned(),
            name: name.clone(),
        };
        let rooms: Vec<RoomId> = names.map(room).collect();
        let Some(last) = rooms.last() else {
            let text = "rid in authorization token must not be empty";
            return Err(RpcError::bad_rid(text));
        };
        let hash = last.hash();
        if rooms.iter().any(|room| room.hash() != hash) {
            let text = "all values in rid must have the same base";
            return Err(RpcError::bad_rid(text));
        }
        Ok(rooms)
    }
}

fn internal<'a>(
    claims: &'a Map<String, Value>,
    fields: &mut Fields<'_>,
) -> Option<&'a Map<String, Value>> {
    let internal = claims.get("internal")?;
    if !internal.is_object() {
        fields.custom(&[json!("internal")], "Expected object");
    }
    internal.as_object()
}

/// The address of a server among the wishes of whoever signed the token.
fn address(
    internal: &Map<String, Value>,
    name: &'static str,
    fields: &mut Fields<'_>,
) -> Option<String> {
    let address = internal.get(name)?;
    if !address.is_string() {
        fields.custom(&[json!("internal"), json!(name)], "Expected string");
    }
    address.as_str().map(str::to_owned)
}
