//! Apps.

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::fields::Fields;
use crate::limits;
use crate::listing;
use crate::model::ApiVersion;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalog::App;
use crate::state::service::AfterStop;

pub(super) fn list(state: &State, call: &Call) -> Outcome {
    let apps = state.apps.iter().filter(|app| call.caller.reaches(app.id));
    call.page(state, &listing::APPS, apps, |app| {
        call.viewer(state).app(app)
    })
}

pub(super) fn show(state: &State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    answer(state, call, app)
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let name = name(call)?;
    let app = state.apps.insert(|id| App { id, name })?;
    state.grant(&call.bearer, app);
    answer(state, call, app)
}

pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let name = name(call)?;
    state.apps.find_mut(app)?.name = name;
    answer(state, call, app)
}

/// An app that is in use has to be emptied first.
pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    if state.app_in_use(app) {
        return Err(Refusal::Forbidden("The app has location settings."));
    }
    state.configs.retain(|config| config.app_id != app);
    state.binaries.retain(|binary| binary.app_id != app);
    state.apps.remove(app)?;
    Ok(if call.api > ApiVersion::V0_9_0 {
        Answer::Accepted
    } else {
        Answer::Done
    })
}

pub(super) fn start(state: &mut State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    state.start_services(|service| service.app_id == app);
    Ok(Answer::Accepted)
}

pub(super) fn stop(state: &mut State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    state.stop_services(|service| service.app_id == app, AfterStop::Stay);
    Ok(Answer::Accepted)
}

/// Answers with an app.
pub(super) fn answer(state: &State, call: &Call, app: i64) -> Outcome {
    Ok(Answer::json(&call.viewer(state).app(state.apps.find(app)?)))
}

fn name(call: &Call) -> Result<String, Refusal> {
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let name = fields.text("name", limits::NAME_CHARS);
    fields.finish()?;
    Ok(name)
}
