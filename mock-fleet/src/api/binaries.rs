//! Binaries, and what is known about Steam apps.

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, to_json};
use super::call::Call;
use crate::fields::Fields;
use crate::limits::{NAME_CHARS, TEXT_CHARS};
use crate::listing;
use crate::model::{BinaryType, OperatingSystem, SteamRuntime};
use crate::refusal::{FieldErrors, Refusal};
use crate::state::State;
use crate::state::catalog::{Binary, BinarySource, BinarySpec, Steam};
use crate::state::service::{AfterStop, Service};
use crate::world::SteamApp;

pub(super) fn list(state: &State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let binaries = state.binaries.iter().filter(|binary| binary.app_id == app);
    call.page(state, &listing::BINARIES, binaries, |binary| {
        call.viewer(state).binary(binary)
    })
}

pub(super) fn show(state: &State, call: &Call) -> Outcome {
    let view = call.viewer(state).binary(binary(state, call)?);
    Ok(Answer::json(&view))
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let app_id = call.app(state)?;
    let spec = spec(state, call)?;
    let busy = Some(state.busy("building"));
    let id = state.binaries.insert(|id| Binary {
        id,
        app_id,
        spec,
        busy,
    })?;
    Ok(Answer::json(
        &call.viewer(state).binary(state.binaries.find(id)?),
    ))
}

pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let id = binary(state, call)?.id;
    let spec = spec(state, call)?;
    let busy = Some(state.busy("updating"));
    let binary = state.binaries.find_mut(id)?;
    binary.spec = spec;
    binary.busy = busy;
    Ok(Answer::json(
        &call.viewer(state).binary(state.binaries.find(id)?),
    ))
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let id = binary(state, call)?.id;
    if state.binary_in_use(id) {
        return Err(Refusal::Forbidden("The binary is in use."));
    }
    state.binaries.remove(id)?;
    Ok(Answer::Done)
}

pub(super) fn refresh(state: &mut State, call: &Call) -> Outcome {
    let id = binary(state, call)?.id;
    let busy = Some(state.busy("building"));
    state.binaries.find_mut(id)?.busy = busy;
    Ok(Answer::AcceptedJson(to_json(
        &call.viewer(state).binary(state.binaries.find(id)?),
    )))
}

pub(super) fn start(state: &mut State, call: &Call) -> Outcome {
    let configs = configs_of(state, binary(state, call)?.id);
    state.start_services(|service: &Service| configs.contains(&service.config_id));
    Ok(Answer::Accepted)
}

pub(super) fn stop(state: &mut State, call: &Call) -> Outcome {
    let configs = configs_of(state, binary(state, call)?.id);
    state.stop_services(
        |service| configs.contains(&service.config_id),
        AfterStop::Stay,
    );
    Ok(Answer::Accepted)
}

fn configs_of(state: &State, binary: i64) -> Vec<i64> {
    let configs = state
        .configs
        .iter()
        .filter(|config| config.spec.binary_id == binary);
    configs.map(|config| config.id).collect()
}

fn binary<'a>(state: &'a State, call: &Call) -> Result<&'a Binary, Refusal> {
    let binary = state.binaries.find(call.id(0))?;
    call.caller.require(binary.app_id)?;
    Ok(binary)
}

fn spec(state: &State, call: &Call) -> Result<BinarySpec, Refusal> {
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let name = fields.text("name", NAME_CHARS);
    let version = fields.text("version", NAME_CHARS);
    let kind = fields.word("type", BinaryType::parse, BinaryType::DockerImage);
    let os = fields.word("os", OperatingSystem::parse, OperatingSystem::Linux);
    let image = fields.optional_object("dockerImage", |image| {
        let registry_id = image.id("registryId");
        if state.registries.get(registry_id).is_none() {
            image.problem("registryId", "The selected registryId is invalid.");
        }
        BinarySource::DockerImage {
            image_name: image.text("imageName", NAME_CHARS),
            registry_id,
        }
    });
    let steam = fields.optional_object("steam", |fields| {
        BinarySource::Steam(Box::new(steam(fields)))
    });
    let (field, source) = match kind {
        BinaryType::DockerImage => ("dockerImage", image),
        BinaryType::Steam => ("steam", steam),
    };
    let source = source.unwrap_or_else(|| {
        fields.problem(
            field,
            format!("The {field} field is required for this type."),
        );
        BinarySource::DockerImage {
            image_name: String::new(),
            registry_id: 0,
        }
    });
    fields.finish()?;
    Ok(BinarySpec {
        name,
        version,
        os,
        source,
    })
}

fn steam(fields: &mut Fields<'_>) -> Steam {
    Steam {
        steam_app_id: fields.id("steamAppId"),
        branch: fields.text("branch", NAME_CHARS),
        password: fields.nullable_text("password", NAME_CHARS),
        command: fields.text("command", TEXT_CHARS),
        username: fields.nullable_text("steamcmdUsername", NAME_CHARS),
        steamcmd_password: fields.nullable_text("steamcmdPassword", NAME_CHARS),
        headful: fields.flag("headful"),
        request_license: fields.flag("requestLicense"),
        runtime: fields.word("runtime", SteamRuntime::parse, SteamRuntime::Sniper),
        additional_packages: fields.nullable_text("additionalPackages", TEXT_CHARS),
        unpublished: fields.flag("unpublished"),
    }
}

pub(super) fn launchers(state: &State, call: &Call) -> Outcome {
    let mut errors = FieldErrors::default();
    let os = call.query.last("os").map(OperatingSystem::parse);
    if os == Some(None) {
        errors.add("os", "The selected os is invalid.");
    }
    let app = steam_app(state, call, errors)?;
    let launchers = app.into_iter().flat_map(|app| &app.launchers);
    let views: Vec<Value> = launchers
        .filter(|launcher| launcher.os.is_none() || os.is_none() || os == Some(launcher.os))
        .map(|launcher| {
            json!({
                "executable": launcher.executable,
                "arguments": launcher.arguments,
                "osarch": launcher.os.map(|_| "64"),
                "oslist": launcher.os,
                "realm": null,
                "betakey": null,
                "description": launcher.description,
            })
        })
        .collect();
    Ok(Answer::json(&views))
}

pub(super) fn branches(state: &State, call: &Call) -> Outcome {
    let app = steam_app(state, call, FieldErrors::default())?;
    let branches = app.into_iter().flat_map(|app| &app.branches);
    let views: Vec<Value> = branches
        .map(|branch| {
            json!({
                "name": branch.name,
                "buildid": branch.build_id,
                "pwdrequired": branch.password_required,
                "description": null,
                "timeupdated": null,
            })
        })
        .collect();
    Ok(Answer::json(&views))
}

/// The Steam app that the query names; one that the world does not know has nothing to show.
fn steam_app<'a>(
    state: &'a State,
    call: &Call,
    mut errors: FieldErrors,
) -> Result<Option<&'a SteamApp>, Refusal> {
    let id = call.query.last("appId").map(str::parse::<i64>);
    match &id {
        None => errors.add("appId", "The appId field is required."),
        Some(Err(_)) => errors.add("appId", "The appId field must be an integer."),
        Some(Ok(_)) => {}
    }
    if !errors.0.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    Ok(state
        .steam_apps
        .iter()
        .find(|app| id == Some(Ok(app.app_id))))
}
