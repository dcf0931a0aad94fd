//! What each list can be filtered and sorted by, as the interface declares it.

use super::{Cell, Compare, Read, Table};
use crate::state::State;
use crate::state::catalog::{
    App, Binary, Busy, DockerRegistry, Location, ResourcePackage, ServerConfig,
};
use crate::state::service::{Backup, Service};
use crate::state::setting::Setting;

use Cell::{Flag, Integer, Nothing, Number, Object, Text, Time};

fn optional(text: Option<&str>) -> Cell<'_> {
    text.map_or(Nothing, Text)
}

fn location_of<'a>(state: &'a State, setting: Option<&Setting>) -> Option<&'a Location> {
    state.locations.get(setting?.location)
}

fn place<'a>(state: &'a State, service: &Service, read: fn(&Location) -> &str) -> Cell<'a> {
    location_of(state, state.settings.get(service.setting_id))
        .map_or(Nothing, |location| Text(read(location)))
}

fn setting_place<'a>(state: &'a State, setting: &Setting, read: fn(&Location) -> &str) -> Cell<'a> {
    location_of(state, Some(setting)).map_or(Nothing, |location| Text(read(location)))
}

fn config_of<'a>(
    state: &'a State,
    config: i64,
    read: for<'b> fn(&'b State, &'b ServerConfig) -> Cell<'b>,
) -> Cell<'a> {
    state
        .configs
        .get(config)
        .map_or(Nothing, |config| read(state, config))
}

fn binary_of<'a>(
    state: &'a State,
    config: &ServerConfig,
    read: for<'b> fn(&'b State, &'b Binary) -> Cell<'b>,
) -> Cell<'a> {
    state
        .binaries
        .get(config.spec.binary_id)
        .map_or(Nothing, |binary| read(state, binary))
}

const CONFIG_NAME: Read<ServerConfig> = |_, config| Text(&config.spec.name);
const CONFIG_COMMAND: Read<ServerConfig> = |_, config| optional(config.spec.command.as_deref());
const CONFIG_ARGS: Read<ServerConfig> = |_, config| optional(config.spec.args.as_deref());
const CONFIG_NOTES: Read<ServerConfig> = |_, config| optional(config.spec.notes.as_deref());
const CONFIG_STATUS: Read<ServerConfig> =
    |state, config| Text(Busy::word(config.busy.as_ref(), state.now));
const CONFIG_PACKAGE: Read<ServerConfig> = |state, config| {
    state
        .packages
        .get(config.spec.package_id)
        .map_or(Nothing, |package| Text(&package.slug))
};
const BINARY_NAME: Read<Binary> = |_, binary| Text(&binary.spec.name);
const BINARY_VERSION: Read<Binary> = |_, binary| Text(&binary.spec.version);
const BINARY_TYPE: Read<Binary> = |_, binary| Text(binary.spec.source.kind().as_str());
const BINARY_OS: Read<Binary> = |_, binary| Text(binary.spec.os.as_str());
const BINARY_STATUS: Read<Binary> =
    |state, binary| Text(Busy::word(binary.busy.as_ref(), state.now));

/// Services of an app.
pub(crate) const SERVICES: Table<Service> = Table {
    filters: &[
        ("status", Compare::Text, |_, service| Text(service.status())),
        ("appLocationSettingId", Compare::Integer, |_, service| {
            Integer(service.setting_id)
        }),
        ("serverConfigId", Compare::Integer, |_, service| {
            Integer(service.config_id)
        }),
        ("serverConfigName", Compare::Text, |state, s| {
            config_of(state, s.config_id, CONFIG_NAME)
        }),
        (
            "serverConfigNamePartial",
            Compare::Part,
            |state, service| config_of(state, service.config_id, CONFIG_NAME),
        ),
        ("locationCity", Compare::Text, |state, s| {
            place(state, s, |place| &place.city)
        }),
        ("locationCityDisplay", Compare::Text, |state, service| {
            place(state, service, |place| &place.city_display)
        }),
        ("locationContinent", Compare::Text, |state, s| {
            place(state, s, |place| &place.continent)
        }),
        ("locationCountry", Compare::Text, |state, s| {
            place(state, s, |place| &place.country)
        }),
        ("isBackupable", Compare::Flag, |state, service| {
            Flag(state.is_backupable(service))
        }),
        ("isRestorable", Compare::Flag, |_, service| {
            Flag(!service.backups.is_empty())
        }),
        ("isPending", Compare::Flag, |_, service| {
            Flag(service.is_pending())
        }),
        ("isNotFound", Compare::Flag, |_, service| {
            Flag(service.is_not_found())
        }),
        ("isHealthy", Compare::Flag, |_, service| {
            Flag(service.is_healthy())
        }),
        ("isStopped", Compare::Flag, |_, service| {
            Flag(service.is_stopped())
        }),
        ("binaryId", Compare::Integer, |state, service| {
            config_of(state, service.config_id, |_, config| {
                Integer(config.spec.binary_id)
            })
        }),
        ("autoscalingEnabled", Compare::Flag, |state, service| {
            let setting = state.settings.get(service.setting_id);
            Flag(setting.is_some_and(|setting| setting.autoscaling.is_some()))
        }),
        ("metadata", Compare::Metadata, |_, service| {
            Object(&service.metadata)
        }),
    ],
    sorts: &[
        ("id", |_, service| Integer(service.id)),
        ("instance", |_, service| Integer(service.instance)),
        ("status", |_, service| Text(service.status())),
        ("status_message", |_, service| {
            optional(service.status_message())
        }),
        ("serverConfigId", |_, service| Integer(service.config_id)),
        ("serverConfigName", |state, s| {
            config_of(state, s.config_id, CONFIG_NAME)
        }),
        ("appLocationSettingId", |_, service| {
            Integer(service.setting_id)
        }),
        ("name", |_, service| Text(&service.name)),
        ("locationCity", |state, service| {
            place(state, service, |place| &place.city)
        }),
        ("locationCityDisplay", |state, s| {
            place(state, s, |place| &place.city_display)
        }),
        ("locationContinent", |state, service| {
            place(state, service, |place| &place.continent)
        }),
        ("locationCountry", |state, service| {
            place(state, service, |place| &place.country)
        }),
        ("isBackupable", |state, service| {
            Flag(state.is_backupable(service))
        }),
        ("isRestorable", |_, service| {
            Flag(!service.backups.is_empty())
        }),
        ("isPending", |_, service| Flag(service.is_pending())),
        ("isNotFound", |_, service| Flag(service.is_not_found())),
        ("isHealthy", |_, service| Flag(service.is_healthy())),
        ("isStopped", |_, service| Flag(service.is_stopped())),
        ("createdAt", |_, service| Time(service.created_at)),
        ("updatedAt", |_, service| Time(service.updated_at)),
    ],
};

/// Location settings of an app.
pub(crate) const SETTINGS: Table<Setting> = Table {
    filters: &[
        ("id", Compare::Integer, |_, setting| Integer(setting.id)),
        ("name", Compare::Text, |_, setting| Text(&setting.name)),
        ("namePartial", Compare::Part, |_, setting| {
            Text(&setting.name)
        }),
        ("serverConfigId", Compare::Integer, |_, setting| {
            Integer(setting.config_id)
        }),
        ("numInstances", Compare::Integer, |_, setting| {
            Integer(setting.num_instances)
        }),
        ("status", Compare::Text, |_, setting| Text(setting.status())),
        ("maintenance", Compare::Flag, |_, _| Flag(false)),
        ("locationCity", Compare::Text, |state, s| {
            setting_place(state, s, |place| &place.city)
        }),
        ("locationCityDisplay", Compare::Text, |state, setting| {
            setting_place(state, setting, |place| &place.city_display)
        }),
        ("locationContinent", Compare::Text, |state, setting| {
            setting_place(state, setting, |place| &place.continent)
        }),
        ("locationCountry", Compare::Text, |state, setting| {
            setting_place(state, setting, |place| &place.country)
        }),
        ("serverConfigName", Compare::Text, |state, s| {
            config_of(state, s.config_id, CONFIG_NAME)
        }),
        ("serverConfigCommand", Compare::Text, |state, setting| {
            config_of(state, setting.config_id, CONFIG_COMMAND)
        }),
        ("serverConfigArgs", Compare::Text, |state, s| {
            config_of(state, s.config_id, CONFIG_ARGS)
        }),
        ("serverConfigNotes", Compare::Text, |state, setting| {
            config_of(state, setting.config_id, CONFIG_NOTES)
        }),
        ("serverConfigStatus", Compare::Text, |state, setting| {
            config_of(state, setting.config_id, CONFIG_STATUS)
        }),
        ("serverConfigMaintenance", Compare::Flag, |_, _| Flag(false)),
        (
            "serverConfigResourcePackageSlug",
            Compare::Text,
            |state, setting| config_of(state, setting.config_id, CONFIG_PACKAGE),
        ),
    ],
    sorts: &[
        ("id", |_, setting| Integer(setting.id)),
        ("name", |_, setting| Text(&setting.name)),
        ("serverConfigId", |_, setting| Integer(setting.config_id)),
        ("numInstances", |_, setting| Integer(setting.num_instances)),
        ("status", |_, setting| Text(setting.status())),
        ("statusMessage", |_, _| Nothing),
        ("maintenance", |_, _| Flag(false)),
        ("locationCity", |state, setting| {
            setting_place(state, setting, |place| &place.city)
        }),
        ("locationCityDisplay", |state, s| {
            setting_place(state, s, |place| &place.city_display)
        }),
        ("locationContinent", |state, s| {
            setting_place(state, s, |place| &place.continent)
        }),
        ("locationCountry", |state, s| {
            setting_place(state, s, |place| &place.country)
        }),
        ("serverConfigName", |state, s| {
            config_of(state, s.config_id, CONFIG_NAME)
        }),
        ("serverConfigCommand", |state, s| {
            config_of(state, s.config_id, CONFIG_COMMAND)
        }),
        ("serverConfigArgs", |state, s| {
            config_of(state, s.config_id, CONFIG_ARGS)
        }),
        ("serverConfigNotes", |state, s| {
            config_of(state, s.config_id, CONFIG_NOTES)
        }),
        ("serverConfigStatus", |state, s| {
            config_of(state, s.config_id, CONFIG_STATUS)
        }),
        ("serverConfigMaintenance", |_, _| Flag(false)),
        ("serverConfigResourcePackageSlug", |state, setting| {
            config_of(state, setting.config_id, CONFIG_PACKAGE)
        }),
    ],
};

/// Server configs of an app.
pub(crate) const CONFIGS: Table<ServerConfig> = Table {
    filters: &[
        ("id", Compare::Integer, |_, config| Integer(config.id)),
        ("binaryId", Compare::Integer, |_, config| {
            Integer(config.spec.binary_id)
        }),
        ("name", Compare::Text, CONFIG_NAME),
        ("namePartial", Compare::Part, CONFIG_NAME),
        ("command", Compare::Text, CONFIG_COMMAND),
        ("args", Compare::Text, CONFIG_ARGS),
        ("notes", Compare::Text, CONFIG_NOTES),
        ("status", Compare::Text, CONFIG_STATUS),
        ("maintenance", Compare::Flag, |_, _| Flag(false)),
        ("resourcePackageSlug", Compare::Text, CONFIG_PACKAGE),
        ("inUse", Compare::Flag, |state, config| {
            Flag(state.config_in_use(config.id))
        }),
        ("binaryName", Compare::Text, |state, config| {
            binary_of(state, config, BINARY_NAME)
        }),
        ("binaryVersion", Compare::Text, |state, c| {
            binary_of(state, c, BINARY_VERSION)
        }),
        ("binaryType", Compare::Text, |state, config| {
            binary_of(state, config, BINARY_TYPE)
        }),
        ("binaryOs", Compare::Text, |state, config| {
            binary_of(state, config, BINARY_OS)
        }),
    ],
    sorts: &[
        ("id", |_, config| Integer(config.id)),
        ("binaryId", |_, config| Integer(config.spec.binary_id)),
        ("name", CONFIG_NAME),
        ("command", CONFIG_COMMAND),
        ("args", CONFIG_ARGS),
        ("notes", CONFIG_NOTES),
        ("status", CONFIG_STATUS),
        ("statusMessage", |_, _| Nothing),
        ("maintenance", |_, _| Flag(false)),
        ("resourcePackageSlug", CONFIG_PACKAGE),
        ("inUse", |state, config| {
            Flag(state.config_in_use(config.id))
        }),
        ("binaryName", |state, config| {
            binary_of(state, config, BINARY_NAME)
        }),
        ("binaryVersion", |state, config| {
            binary_of(state, config, BINARY_VERSION)
        }),
        ("binaryType", |state, config| {
            binary_of(state, config, BINARY_TYPE)
        }),
        ("binaryOs", |state, config| {
            binary_of(state, config, BINARY_OS)
        }),
    ],
};

/// Binaries of an app.
pub(crate) const BINARIES: Table<Binary> = Table {
    filters: &[
        ("name", Compare::Text, BINARY_NAME),
        ("namePartial", Compare::Part, BINARY_NAME),
        ("version", Compare::Text, BINARY_VERSION),
        ("type", Compare::Text, BINARY_TYPE),
        ("os", Compare::Text, BINARY_OS),
        ("maintenance", Compare::Flag, |_, _| Flag(false)),
        ("status", Compare::Text, BINARY_STATUS),
        ("inUse", Compare::Flag, |state, binary| {
            Flag(state.binary_in_use(binary.id))
        }),
    ],
    sorts: &[
        ("id", |_, binary| Integer(binary.id)),
        ("name", BINARY_NAME),
        ("version", BINARY_VERSION),
        ("type", BINARY_TYPE),
        ("os", BINARY_OS),
        ("status", BINARY_STATUS),
        ("statusMessage", |_, _| Nothing),
        ("progress", |state, binary| {
            Integer(Busy::percent(binary.busy.as_ref(), state.now))
        }),
        ("progressMessage", |_, _| Nothing),
        ("inUse", |state, binary| {
            Flag(state.binary_in_use(binary.id))
        }),
    ],
};

/// Apps.
pub(crate) const APPS: Table<App> = Table {
    filters: &[
        ("id", Compare::Integer, |_, app| Integer(app.id)),
        ("name", Compare::Text, |_, app| Text(&app.name)),
        ("namePartial", Compare::Part, |_, app| Text(&app.name)),
        ("inUse", Compare::Flag, |state, app| {
            Flag(state.app_in_use(app.id))
        }),
    ],
    sorts: &[
        ("id", |_, app| Integer(app.id)),
        ("name", |_, app| Text(&app.name)),
        ("inUse", |state, app| Flag(state.app_in_use(app.id))),
    ],
};

/// Docker registries.
pub(crate) const REGISTRIES: Table<DockerRegistry> = Table {
    filters: &[
        ("id", Compare::Integer, |_, registry| Integer(registry.id)),
        ("type", Compare::Text, |_, registry| {
            Text(registry.spec.kind.as_str())
        }),
        ("name", Compare::Text, |_, registry| {
            Text(&registry.spec.name)
        }),
        ("namePartial", Compare::Part, |_, registry| {
            Text(&registry.spec.name)
        }),
        ("url", Compare::Text, |_, registry| Text(&registry.spec.url)),
        ("organization", Compare::Text, |_, registry| {
            Text(if registry.spec.organization {
                "true"
            } else {
                "false"
            })
        }),
    ],
    sorts: &[
        ("id", |_, registry| Integer(registry.id)),
        ("type", |_, registry| Text(registry.spec.kind.as_str())),
        ("name", |_, registry| Text(&registry.spec.name)),
        ("url", |_, registry| Text(&registry.spec.url)),
        ("organization", |_, registry| {
            Flag(registry.spec.organization)
        }),
    ],
};

/// Resource packages. What is reserved is what is allowed.
pub(crate) const PACKAGES: Table<ResourcePackage> = Table {
    filters: &[
        ("id", Compare::Integer, |_, package| Integer(package.id)),
        ("name", Compare::Text, |_, package| Text(&package.name)),
        ("namePartial", Compare::Part, |_, package| {
            Text(&package.name)
        }),
        ("slug", Compare::Text, |_, package| Text(&package.slug)),
        ("type", Compare::Text, |_, package| {
            Text(package.kind.as_str())
        }),
        ("cpuLimit", Compare::Integer, |_, package| {
            Number(package.cpu)
        }),
        ("cpuReservation", Compare::Integer, |_, package| {
            Number(package.cpu)
        }),
        ("memoryLimitMiB", Compare::Integer, |_, package| {
            Integer(package.memory_mib)
        }),
        ("memoryReservationMiB", Compare::Integer, |_, package| {
            Integer(package.memory_mib)
        }),
    ],
    sorts: &[
        ("id", |_, package| Integer(package.id)),
        ("name", |_, package| Text(&package.name)),
        ("slug", |_, package| Text(&package.slug)),
        ("type", |_, package| Text(package.kind.as_str())),
        ("cpuLimit", |_, package| Number(package.cpu)),
        ("cpuReservation", |_, package| Number(package.cpu)),
        ("memoryLimitMiB", |_, package| Integer(package.memory_mib)),
        ("memoryReservationMiB", |_, package| {
            Integer(package.memory_mib)
        }),
    ],
};

/// Locations: the list can only be paged.
pub(crate) const LOCATIONS: Table<Location> = Table {
    filters: &[],
    sorts: &[],
};

/// Backups of a service.
pub(crate) const BACKUPS: Table<Backup> = Table {
    filters: &[
        ("name", Compare::Text, |_, backup| Text(&backup.name)),
        ("archiveName", Compare::Text, |_, backup| {
            Text(&backup.archive_name)
        }),
    ],
    sorts: &[
        ("name", |_, backup| Text(&backup.name)),
        ("archiveName", |_, backup| Text(&backup.archive_name)),
        ("createdAt", |_, backup| Time(backup.created_at)),
        ("restoredAt", |_, backup| {
            backup.restored_at.map_or(Nothing, Time)
        }),
    ],
};
