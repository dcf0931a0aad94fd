//! Autoscaling (0.9.5): taking a ready instance, and what instances say about themselves.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::settings::setting;
use crate::fields::Fields;
use crate::filter::MetadataFilter;
use crate::limits;
use crate::state::State;
use crate::state::autoscaling::Signal;

pub(super) fn allocate(state: &mut State, call: &Call) -> Outcome {
    let setting = setting(state, call, 0)?.id;
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let filter = fields.optional_object("filter", |filter| {
        let text = filter.optional_text("metadata", limits::FILTER_BYTES)?;
        MetadataFilter::parse(&text)
            .map_err(|error| filter.problem("metadata", format!("The filter metadata {error}.")))
            .ok()
    });
    fields.finish()?;
    let service = state.allocate(setting, filter.flatten().as_ref(), true)?;
    call.show_service(state, service)
}

pub(super) fn ready(state: &mut State, call: &Call) -> Outcome {
    signal(state, call, Signal::Ready)
}

pub(super) fn allocated(state: &mut State, call: &Call) -> Outcome {
    signal(state, call, Signal::Allocate)
}

pub(super) fn health(state: &mut State, call: &Call) -> Outcome {
    signal(state, call, Signal::Health)
}

pub(super) fn shutdown(state: &mut State, call: &Call) -> Outcome {
    signal(state, call, Signal::Shutdown)
}

fn signal(state: &mut State, call: &Call, signal: Signal) -> Outcome {
    let service = call.service(state)?.id;
    state.signal(service, signal)?;
    Ok(Answer::Done)
}
