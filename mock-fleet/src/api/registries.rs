//! Docker registries and the images in them.

use serde_json::{Value, json};

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::fields::Fields;
use crate::limits::{NAME_CHARS, TEXT_CHARS};
use crate::listing;
use crate::model::RegistryType;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalog::{DockerRegistry, RegistrySpec};
use crate::view;

/// Where images come from when a registry is created without an address.
const DEFAULT_URL: &str = "https://registry.example.com";

pub(super) fn list(state: &State, call: &Call) -> Outcome {
    call.page(
        state,
        &listing::REGISTRIES,
        state.registries.iter(),
        view::registry,
    )
}

pub(super) fn show(state: &State, call: &Call) -> Outcome {
    Ok(Answer::json(&view::registry(
        state.registries.find(call.id(0))?,
    )))
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let spec = spec(call)?;
    let id = state.registries.insert(|id| DockerRegistry {
        id,
        spec,
        images: Vec::new(),
        cached_at: None,
    })?;
    Ok(Answer::json(&view::registry(state.registries.find(id)?)))
}

pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    state.registries.find(call.id(0))?;
    let spec = spec(call)?;
    let registry = state.registries.find_mut(call.id(0))?;
    registry.spec = spec;
    Ok(Answer::json(&view::registry(registry)))
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    state.registries.find(call.id(0))?;
    if state.registry_in_use(call.id(0)) {
        return Err(Refusal::Forbidden("The docker registry is in use."));
    }
    state.registries.remove(call.id(0))?;
    Ok(Answer::Done)
}

/// The first look fills the cache; later ones are answered from it.
pub(super) fn images(state: &mut State, call: &Call) -> Outcome {
    let now = state.now;
    let registry = state.registries.find_mut(call.id(0))?;
    let cached = registry.cached_at.is_some();
    registry.cached_at.get_or_insert(now);
    Ok(Answer::json(&image_list(registry, cached)))
}

pub(super) fn refresh_images(state: &mut State, call: &Call) -> Outcome {
    let now = state.now;
    let registry = state.registries.find_mut(call.id(0))?;
    registry.cached_at = Some(now);
    Ok(Answer::json(&image_list(registry, false)))
}

fn image_list(registry: &DockerRegistry, cached: bool) -> Value {
    let host = registry.spec.url.split("://").last().unwrap_or_default();
    let images = registry.images.iter().map(|name| {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let location = format!("{host}/{name}");
        json!({ "name": name, "tag": tag, "repository": repository, "location": location })
    });
    json!({
        "data": images.collect::<Vec<Value>>(),
        "meta": { "cached": cached, "cached_at": registry.cached_at.map(view::time) },
    })
}

fn spec(call: &Call) -> Result<RegistrySpec, Refusal> {
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let url = address(&mut fields, "url");
    let spec = RegistrySpec {
        kind: fields.word("type", RegistryType::parse, RegistryType::Other),
        name: fields.text("name", NAME_CHARS),
        url: url.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        instance_url: address(&mut fields, "instanceUrl"),
        username: fields.optional_text("username", NAME_CHARS),
        password: fields.optional_text("password", TEXT_CHARS),
        access_token: fields.optional_text("accessToken", TEXT_CHARS),
        organization: fields.optional_flag("organization").unwrap_or(false),
        aws_access_key: fields.optional_text("awsAccessKey", NAME_CHARS),
        aws_secret_access_key: fields.optional_text("awsSecretAccessKey", NAME_CHARS),
    };
    fields.finish()?;
    Ok(spec)
}

/// An address that may be missing.
fn address(fields: &mut Fields<'_>, name: &str) -> Option<String> {
    let text = fields.optional_text(name, NAME_CHARS)?;
    let is_address = text
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.host().is_some())
        && (text.starts_with("http://") || text.starts_with("https://"));
    if !is_address {
        fields.problem(name, format!("The {name} field must be a valid URL."));
    }
    Some(text)
}
