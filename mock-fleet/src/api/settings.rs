//! Location settings, and the locations themselves.

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::fields::Fields;
use crate::limits;
use crate::listing;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::service::AfterStop;
use crate::state::setting::Setting;
use crate::view;

/// A location as a caller names it.
pub(super) struct Placement {
    city: String,
    country: String,
}

pub(super) fn list(state: &State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let settings = state
        .settings
        .iter()
        .filter(|setting| setting.app_id == app);
    call.page(state, &listing::SETTINGS, settings, |setting| {
        call.viewer(state).setting(setting)
    })
}

pub(super) fn show(state: &State, call: &Call) -> Outcome {
    answer(state, call, setting(state, call, 0)?.id)
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let name = fields.text("name", limits::NAME_CHARS);
    let config = fields.id("serverConfigId");
    let instances = fields.integer("numInstances", 1, limits::INSTANCES);
    let location = placement(state, &mut fields, true);
    if state
        .configs
        .get(config)
        .is_none_or(|config| config.app_id != app)
    {
        fields.problem("serverConfigId", "The selected serverConfigId is invalid.");
    }
    fields.finish()?;
    let id = state.create_setting(app, config, name, instances, location.unwrap_or_default())?;
    answer(state, call, id)
}

pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let id = setting(state, call, 0)?.id;
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let name = fields.text("name", limits::NAME_CHARS);
    let instances = fields.integer("numInstances", 1, limits::INSTANCES);
    fields.finish()?;
    state.settings.find_mut(id)?.name = name;
    state.scale(id, instances)?;
    answer(state, call, id)
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let id = setting(state, call, 0)?.id;
    state.remove_setting(id)?;
    Ok(Answer::Done)
}

pub(super) fn services(state: &State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let setting = setting(state, call, 1)?;
    if setting.app_id != app {
        return Err(Refusal::NotFound("AppLocationSetting"));
    }
    let services = state
        .services
        .iter()
        .filter(|service| service.setting_id == setting.id);
    let viewer = call.viewer(state);
    let views: Vec<_> = services
        .filter_map(|service| viewer.server(service))
        .collect();
    Ok(Answer::json(&views))
}

pub(super) fn start(state: &mut State, call: &Call) -> Outcome {
    let id = setting(state, call, 0)?.id;
    state.start_services(|service| service.setting_id == id);
    Ok(Answer::Accepted)
}

pub(super) fn stop(state: &mut State, call: &Call) -> Outcome {
    let id = setting(state, call, 0)?.id;
    state.stop_services(|service| service.setting_id == id, AfterStop::Stay);
    Ok(Answer::Accepted)
}

pub(super) fn locations(state: &State, call: &Call) -> Outcome {
    call.page(
        state,
        &listing::LOCATIONS,
        state.locations.iter(),
        view::location,
    )
}

/// A setting of the path, if the caller reaches its app.
pub(super) fn setting<'a>(
    state: &'a State,
    call: &Call,
    index: usize,
) -> Result<&'a Setting, Refusal> {
    let setting = state.settings.find(call.id(index))?;
    call.caller.require(setting.app_id)?;
    Ok(setting)
}

fn answer(state: &State, call: &Call, id: i64) -> Outcome {
    Ok(Answer::json(
        &call.viewer(state).setting(state.settings.find(id)?),
    ))
}

/// Reads `placement` and `password`; the index of the location they name. Without a placement it
/// is the first location, if `default` says so.
pub(super) fn placement(state: &State, fields: &mut Fields<'_>, default: bool) -> Option<usize> {
    let password = fields.optional_text("password", limits::NAME_CHARS);
    let named = fields.optional_object("placement", |placement| {
        let constraints = placement.optional_object("constraints", |location| {
            for name in ["cityDisplay", "continent"] {
                location.text(name, limits::NAME_CHARS);
            }
            location.flag("isProtected");
            Placement {
                city: location.text("city", limits::NAME_CHARS),
                country: location.text("country", limits::NAME_CHARS),
            }
        });
        if constraints.is_none() {
            placement.problem("constraints", "The constraints field is required.");
        }
        constraints
    });
    let Some(named) = named else {
        return default.then_some(0);
    };
    let wanted = named?;
    let index = state
        .locations
        .iter()
        .position(|location| location.city == wanted.city && location.country == wanted.country);
    let Some(index) = index else {
        fields.problem("placement.constraints", "There is no such location.");
        return None;
    };
    if let Some(secret) = state
        .locations
        .get(index)
        .and_then(|found| found.password.as_ref())
        && !secret.matches(password.as_deref().unwrap_or_default())
    {
        fields.problem("password", "The password of the location is not correct.");
    }
    Some(index)
}
