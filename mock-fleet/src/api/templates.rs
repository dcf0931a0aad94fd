//! Templates: an app with a binary, a config and, if a placement is named, one service.

use super::answer::Outcome;
use super::apps;
use super::call::Call;
use super::settings::placement;
use crate::fields::Fields;
use crate::limits::{NAME_CHARS, TEXT_CHARS};
use crate::model::{Mount, OperatingSystem, PortDefinition, Protocol, RestartCondition};
use crate::state::State;
use crate::state::catalog::{
    App, Binary, BinarySource, BinarySpec, ConfigSpec, ServerConfig, Steam,
};

/// What a template brings along.
struct Template {
    name: &'static str,
    steam_app: Option<i64>,
    image: &'static str,
    port: u16,
    protocol: Protocol,
    directory: &'static str,
}

const PALWORLD: Template = Template {
    name: "Palworld",
    steam_app: Some(2_394_010),
    image: "",
    port: 8211,
    protocol: Protocol::Udp,
    directory: "/palworld/Saved",
};

const MINECRAFT: Template = Template {
    name: "Minecraft",
    steam_app: None,
    image: "studio/minecraft:latest",
    port: 25_565,
    protocol: Protocol::Tcp,
    directory: "/data",
};

pub(super) fn palworld(state: &mut State, call: &Call) -> Outcome {
    create(state, call, &PALWORLD)
}

pub(super) fn minecraft(state: &mut State, call: &Call) -> Outcome {
    create(state, call, &MINECRAFT)
}

fn create(state: &mut State, call: &Call, template: &Template) -> Outcome {
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let name = fields.optional_text("appName", TEXT_CHARS);
    let slug = fields.optional_text("resourcePackageSlug", NAME_CHARS);
    let location = placement(state, &mut fields, false);
    let mut packages = state.packages.iter();
    let package = packages.find(|package| slug.as_ref().is_none_or(|slug| package.slug == *slug));
    let package_id = package.map(|package| package.id);
    drop(packages);
    if package_id.is_none() {
        fields.problem(
            "resourcePackageSlug",
            "The selected resourcePackageSlug is invalid.",
        );
    }
    fields.finish()?;
    let name = name.unwrap_or_else(|| template.name.to_owned());
    let app_id = state.apps.insert(|id| App { id, name })?;
    state.grant(&call.bearer, app_id);
    let busy = Some(state.busy("building"));
    let spec = binary(
        template,
        state
            .registries
            .iter()
            .next()
            .map_or(0, |registry| registry.id),
    );
    let binary_id = state.binaries.insert(|id| Binary {
        id,
        app_id,
        spec,
        busy,
    })?;
    let spec = config(template, binary_id, package_id.unwrap_or_default());
    let busy = Some(state.busy("creating"));
    let config = state.configs.insert(|id| ServerConfig {
        id,
        app_id,
        spec,
        busy,
    })?;
    if let Some(location) = location {
        state.create_setting(app_id, config, template.name.to_owned(), 1, location)?;
    }
    apps::answer(state, call, app_id)
}

fn binary(template: &Template, registry_id: i64) -> BinarySpec {
    let source = match template.steam_app {
        Some(app) => BinarySource::Steam(Box::new(Steam::public(app, "./start.sh"))),
        None => BinarySource::DockerImage {
            image_name: template.image.to_owned(),
            registry_id,
        },
    };
    BinarySpec {
        name: template.name.to_owned(),
        version: "latest".to_owned(),
        os: OperatingSystem::Linux,
        source,
    }
}

fn config(template: &Template, binary_id: i64, package_id: i64) -> ConfigSpec {
    ConfigSpec {
        name: template.name.to_owned(),
        binary_id,
        package_id,
        command: None,
        args: None,
        notes: None,
        restart: RestartCondition::Any,
        ports: vec![PortDefinition {
            name: "game_port".to_owned(),
            protocols: vec![template.protocol],
            target_port: template.port,
        }],
        env: Vec::new(),
        mounts: vec![Mount {
            target: template.directory.to_owned(),
            read_only: false,
        }],
        config_files: Vec::new(),
        secret_files: Vec::new(),
    }
}
