//! Services: lists, lifecycle, metadata, logs, backups.

use serde_json::json;

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::fields::{self, Fields};
use crate::limits;
use crate::listing;
use crate::refusal::{FieldErrors, Refusal};
use crate::state::State;
use crate::state::backup::latest;
use crate::state::service::{AfterStop, LogSource, Service};
use crate::view;

/// Lines of a log when the caller names no number, as the interface declares.
const LOG_DEFAULT: usize = 100;

pub(super) fn list(state: &State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let services = state
        .services
        .iter()
        .filter(|service| service.app_id == app);
    call.page(state, &listing::SERVICES, services, |service| {
        call.viewer(state).server(service)
    })
}

pub(super) fn show(state: &State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let service = state.services.find(call.id(1))?;
    if service.app_id != app {
        return Err(Refusal::NotFound("DockerService"));
    }
    call.show_service(state, service.id)
}

pub(super) fn start(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    state.start_services(|service| service.id == id);
    Ok(Answer::Accepted)
}

pub(super) fn stop(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    state.stop_services(|service| service.id == id, AfterStop::Stay);
    Ok(Answer::Accepted)
}

pub(super) fn restart(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    state.stop_services(|service| service.id == id, AfterStop::StartAgain);
    Ok(Answer::Accepted)
}

pub(super) fn set_metadata(state: &mut State, call: &Call) -> Outcome {
    change_metadata(state, call, |service, new| service.metadata = new)
}

/// Keys of the request replace keys of the service, one level deep; null is a value.
pub(super) fn update_metadata(state: &mut State, call: &Call) -> Outcome {
    change_metadata(state, call, |service, new| service.metadata.extend(new))
}

type Metadata = serde_json::Map<String, serde_json::Value>;

fn change_metadata(
    state: &mut State,
    call: &Call,
    change: impl FnOnce(&mut Service, Metadata),
) -> Outcome {
    let id = call.service(state)?.id;
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let new = fields.metadata();
    fields.finish()?;
    let now = state.now;
    let service = state.services.find_mut(id)?;
    let before = service.metadata.clone();
    change(service, new.unwrap_or_default());
    if let Err(refusal) = fields::check_metadata(&service.metadata) {
        service.metadata = before;
        return Err(refusal);
    }
    service.updated_at = now;
    call.show_service(state, id)
}

pub(super) fn delete_metadata(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    let now = state.now;
    let service = state.services.find_mut(id)?;
    service.metadata.clear();
    service.updated_at = now;
    call.show_service(state, id)
}

pub(super) fn delete_metadata_keys(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    let keys: Vec<&str> = call.query.list("metadata").collect();
    if keys.is_empty() {
        return Err(Refusal::field(
            "metadata",
            "The metadata field is required.",
        ));
    }
    let now = state.now;
    let service = state.services.find_mut(id)?;
    service
        .metadata
        .retain(|key, _| !keys.contains(&key.as_str()));
    service.updated_at = now;
    call.show_service(state, id)
}

pub(super) fn logs(state: &State, call: &Call) -> Outcome {
    let service = call.service(state)?;
    let mut errors = FieldErrors::default();
    let limit = match call.query.last("limit") {
        None => LOG_DEFAULT,
        Some(text) => match text.parse::<i64>() {
            Ok(limit) if limit >= 1 => usize::try_from(limit).unwrap_or(usize::MAX),
            _ => {
                errors.add("limit", "The limit field must be a positive integer.");
                LOG_DEFAULT
            }
        },
    };
    let backward = match call.query.last("direction") {
        None | Some("forward") => false,
        Some("backward") => true,
        Some(_) => {
            errors.add(
                "direction",
                "The direction field must be forward or backward.",
            );
            false
        }
    };
    let source = stream_source(call, &mut errors);
    if !errors.0.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    let lines = lines(service, source);
    let lines: Vec<&str> = if backward {
        lines.rev().take(limit).collect()
    } else {
        lines.take(limit).collect()
    };
    Ok(Answer::json(&json!({ "logs": lines })))
}

pub(super) fn download_logs(state: &State, call: &Call) -> Outcome {
    let service = call.service(state)?;
    let mut errors = FieldErrors::default();
    let source = stream_source(call, &mut errors);
    if !errors.0.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    let lines: Vec<&str> = lines(service, source).collect();
    Ok(Answer::json(&json!({ "logs": lines })))
}

fn stream_source(call: &Call, errors: &mut FieldErrors) -> Option<LogSource> {
    match call.query.last("streamSource")? {
        "stdout" => Some(LogSource::Stdout),
        "stderr" => Some(LogSource::Stderr),
        _ => {
            errors.add("streamSource", "The selected streamSource is invalid.");
            None
        }
    }
}

fn lines(service: &Service, source: Option<LogSource>) -> impl DoubleEndedIterator<Item = &str> {
    let lines = service.log.iter();
    lines
        .filter(move |line| source.is_none_or(|source| line.source == source))
        .map(|line| line.text.as_str())
}

pub(super) fn create_backup(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let name = fields.text("name", limits::NAME_CHARS);
    fields.finish()?;
    state.begin_backup(id, name)?;
    Ok(Answer::Accepted)
}

pub(super) fn latest_backup(state: &State, call: &Call) -> Outcome {
    Ok(Answer::json(&view::backup(latest(call.service(state)?)?)))
}

pub(super) fn backups(state: &State, call: &Call) -> Outcome {
    let service = call.service(state)?;
    call.page(
        state,
        &listing::BACKUPS,
        service.backups.iter(),
        view::backup,
    )
}

pub(super) fn restore(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    state.begin_restore(id)?;
    Ok(Answer::Accepted)
}

pub(super) fn backup_link(state: &mut State, call: &Call) -> Outcome {
    let id = call.service(state)?.id;
    let link = state.download_link(id)?;
    Ok(Answer::json(&json!({
        "url": format!("{}/downloads/{}/{}", call.base_url, link.key, link.archive_name),
        "validUntil": view::time(link.valid_until),
    })))
}
