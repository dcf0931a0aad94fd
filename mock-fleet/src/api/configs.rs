//! Server configs and the resource packages they choose from.

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::fields::Fields;
use crate::limits::{NAME_CHARS, TEXT_CHARS};
use crate::listing;
use crate::model::{
    Mount, PortDefinition, Protocol, RestartCondition, TextFile, VariableDefinition, VariableType,
};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalog::{ConfigSpec, ServerConfig};
use crate::state::service::AfterStop;

/// Highest port number there is.
const PORT_MAX: i64 = 65_535;

pub(super) fn list(state: &State, call: &Call) -> Outcome {
    let app = call.app(state)?;
    let configs = state.configs.iter().filter(|config| config.app_id == app);
    call.page(state, &listing::CONFIGS, configs, |config| {
        call.viewer(state).config(config)
    })
}

pub(super) fn show(state: &State, call: &Call) -> Outcome {
    answer(state, call, config(state, call)?.id)
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let app_id = call.app(state)?;
    let spec = spec(state, call, app_id)?;
    let busy = Some(state.busy("creating"));
    let id = state.configs.insert(|id| ServerConfig {
        id,
        app_id,
        spec,
        busy,
    })?;
    answer(state, call, id)
}

/// Services of a changed config are restarted with what it says now.
pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let (id, app) = config(state, call).map(|config| (config.id, config.app_id))?;
    let spec = spec(state, call, app)?;
    let busy = Some(state.busy("updating"));
    let config = state.configs.find_mut(id)?;
    config.spec = spec;
    config.busy = busy;
    state.redeploy(id);
    answer(state, call, id)
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let id = config(state, call)?.id;
    if state.config_in_use(id) {
        return Err(Refusal::Forbidden("The server config is in use."));
    }
    state.configs.remove(id)?;
    Ok(Answer::Done)
}

pub(super) fn start(state: &mut State, call: &Call) -> Outcome {
    let id = config(state, call)?.id;
    state.start_services(|service| service.config_id == id);
    Ok(Answer::Accepted)
}

pub(super) fn stop(state: &mut State, call: &Call) -> Outcome {
    let id = config(state, call)?.id;
    state.stop_services(|service| service.config_id == id, AfterStop::Stay);
    Ok(Answer::Accepted)
}

pub(super) fn packages(state: &State, call: &Call) -> Outcome {
    let packages = state.packages.iter();
    call.page(state, &listing::PACKAGES, packages, |package| {
        call.viewer(state).package(package)
    })
}

pub(super) fn package(state: &State, call: &Call) -> Outcome {
    Ok(Answer::json(
        &call.viewer(state).package(state.packages.find(call.id(0))?),
    ))
}

fn config<'a>(state: &'a State, call: &Call) -> Result<&'a ServerConfig, Refusal> {
    let config = state.configs.find(call.id(0))?;
    call.caller.require(config.app_id)?;
    Ok(config)
}

fn answer(state: &State, call: &Call, id: i64) -> Outcome {
    Ok(Answer::json(
        &call.viewer(state).config(state.configs.find(id)?),
    ))
}

fn spec(state: &State, call: &Call, app: i64) -> Result<ConfigSpec, Refusal> {
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let name = fields.text("name", NAME_CHARS);
    let binary_id = fields.id("binaryId");
    let slug = fields.text("resourcePackageSlug", NAME_CHARS);
    let package = state.packages.iter().find(|package| package.slug == slug);
    if state
        .binaries
        .get(binary_id)
        .is_none_or(|binary| binary.app_id != app)
    {
        fields.problem("binaryId", "The selected binaryId is invalid.");
    }
    if package.is_none() {
        fields.problem(
            "resourcePackageSlug",
            "The selected resourcePackageSlug is invalid.",
        );
    }
    check_allocations(&mut fields);
    let restart = fields.optional_object("restartPolicy", |policy| {
        policy.word("condition", RestartCondition::parse, RestartCondition::Any)
    });
    let spec = ConfigSpec {
        name,
        binary_id,
        package_id: package.map_or(0, |package| package.id),
        command: fields.optional_text("command", NAME_CHARS),
        args: fields.optional_text("args", NAME_CHARS),
        notes: fields.optional_text("notes", NAME_CHARS),
        restart: restart.unwrap_or(RestartCondition::Any),
        ports: fields.list("ports", port),
        env: fields.list("env", variable),
        mounts: fields.list("mounts", |mount| Mount {
            target: mount.text("target", TEXT_CHARS),
            read_only: mount.flag("readOnly"),
        }),
        config_files: fields.list("configFiles", file),
        secret_files: fields.list("secretFiles", file),
    };
    fields.finish()?;
    Ok(spec)
}

/// `resources` is what packages replaced: it is checked and has no effect.
fn check_allocations(fields: &mut Fields<'_>) {
    fields.optional_object("resources", |resources| {
        for name in ["limits", "reservations"] {
            let read = resources.optional_object(name, |amounts| {
                amounts.integer("cpu", 0, i64::MAX);
                amounts.integer("memory", 0, i64::MAX);
            });
            if read.is_none() {
                resources.problem(name, format!("The {name} field is required."));
            }
        }
    });
}

fn port(fields: &mut Fields<'_>) -> PortDefinition {
    let target = fields.integer("targetPort", 1, PORT_MAX);
    PortDefinition {
        name: fields.text("name", NAME_CHARS),
        protocols: fields.words("protocols", Protocol::parse),
        target_port: u16::try_from(target).unwrap_or(u16::MAX),
    }
}

fn variable(fields: &mut Fields<'_>) -> VariableDefinition {
    VariableDefinition {
        kind: fields.word("type", VariableType::parse, VariableType::Static),
        key: fields.text("key", NAME_CHARS),
        value: fields.optional_text("value", TEXT_CHARS),
        variable: fields.optional_text("variable", NAME_CHARS),
    }
}

fn file(fields: &mut Fields<'_>) -> TextFile {
    TextFile {
        target: fields.text("target", TEXT_CHARS),
        content: fields
            .nullable_text("content", TEXT_CHARS)
            .unwrap_or_default(),
    }
}
