//! Every operation of the interface in one table: method, path, id, and the function behind it.

use http::Method;

use super::answer::Outcome;
use super::call::Call;
use super::{
    apps, auth, autoscaling, binaries, configs, registries, services, settings, templates,
};
use crate::model::ApiVersion;
use crate::state::State;

/// The function behind an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Only looks; may be answered from an old state when stale reads are injected.
    Read(fn(&State, &Call) -> Outcome),
    /// Changes something; refused to read-only tokens.
    Write(fn(&mut State, &Call) -> Outcome),
    /// About tokens themselves: needs no right to write.
    Sign(fn(&mut State, &Call) -> Outcome),
    /// Works without a token.
    Open(fn(&mut State, &Call) -> Outcome),
}

/// An operation of the interface.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) since: ApiVersion,
    pub(crate) action: Action,
}

const fn op(method: Method, path: &'static str, id: &'static str, action: Action) -> Operation {
    Operation {
        method,
        path,
        id,
        since: ApiVersion::V0_9_0,
        action,
    }
}

const fn newer(path: &'static str, id: &'static str, action: Action) -> Operation {
    Operation {
        method: POST,
        path,
        id,
        since: ApiVersion::V0_9_5,
        action,
    }
}

use Action::{Open, Read, Sign, Write};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// The operations, grouped as in the interface's document.
#[rustfmt::skip]
pub(crate) const OPERATIONS: &[Operation] = &[
    op(POST, "/v1/auth/token", "getAuthToken", Open(auth::sign_in)),
    op(PUT, "/v1/auth/token", "refreshAuthToken", Sign(auth::refresh)),

    op(GET, "/v1/apps", "getApps", Read(apps::list)),
    op(POST, "/v1/apps", "createApp", Write(apps::create)),
    op(GET, "/v1/apps/{app}", "getAppById", Read(apps::show)),
    op(PUT, "/v1/apps/{app}", "updateAppById", Write(apps::update)),
    op(DELETE, "/v1/apps/{app}", "deleteApp", Write(apps::delete)),
    op(POST, "/v1/apps/{app}/services/start", "startServersForApp", Write(apps::start)),
    op(POST, "/v1/apps/{app}/services/stop", "stopServersForApp", Write(apps::stop)),
    op(POST, "/v1/templates/apps/palworld", "template.app.palworld.store", Write(templates::palworld)),
    op(POST, "/v1/templates/apps/minecraft", "template.app.minecraft.store", Write(templates::minecraft)),

    op(GET, "/v1/apps/{app}/services", "getServers", Read(services::list)),
    op(GET, "/v1/apps/{app}/services/{dockerService}", "getServerById", Read(services::show)),
    op(POST, "/v1/services/{dockerService}/start", "startServer", Write(services::start)),
    op(POST, "/v1/services/{dockerService}/stop", "stopServer", Write(services::stop)),
    op(POST, "/v1/services/{dockerService}/restart", "restartServer", Write(services::restart)),
    op(PUT, "/v1/services/{dockerService}/metadata", "docker-services.metadata.set", Write(services::set_metadata)),
    op(PATCH, "/v1/services/{dockerService}/metadata", "docker-services.metadata.update", Write(services::update_metadata)),
    op(DELETE, "/v1/services/{dockerService}/metadata", "docker-services.metadata.delete.all", Write(services::delete_metadata)),
    op(DELETE, "/v1/services/{dockerService}/metadata/keys", "docker-services.metadata.delete.keys", Write(services::delete_metadata_keys)),
    op(GET, "/v1/services/{dockerService}/logs", "getServerLogs", Read(services::logs)),
    op(GET, "/v1/services/{dockerService}/logs/download", "downloadServerLogs", Read(services::download_logs)),
    op(POST, "/v1/services/{dockerService}/backup", "createBackup", Write(services::create_backup)),
    op(GET, "/v1/services/{dockerService}/backup", "getLatestBackup", Read(services::latest_backup)),
    op(GET, "/v1/services/{dockerService}/backups", "getBackups", Read(services::backups)),
    op(POST, "/v1/services/{dockerService}/restore", "restoreBackup", Write(services::restore)),
    op(GET, "/v1/services/{dockerService}/backup/download", "getServerBackupDownloadUrl", Sign(services::backup_link)),

    op(GET, "/v1/apps/{app}/location-settings", "getAppLocationSettings", Read(settings::list)),
    op(POST, "/v1/apps/{app}/location-settings", "createAppLocationSetting", Write(settings::create)),
    op(GET, "/v1/apps/{app}/location-settings/{appLocationSetting}/services", "listServicesForAppLocationSetting", Read(settings::services)),
    op(GET, "/v1/app-location-settings/{appLocationSetting}", "getAppLocationSettingById", Read(settings::show)),
    op(PUT, "/v1/app-location-settings/{appLocationSetting}", "updateAppLocationSetting", Write(settings::update)),
    op(DELETE, "/v1/app-location-settings/{appLocationSetting}", "deleteAppLocationSetting", Write(settings::delete)),
    op(POST, "/v1/app-location-settings/{appLocationSetting}/services/start", "startServersForAppLocationSetting", Write(settings::start)),
    op(POST, "/v1/app-location-settings/{appLocationSetting}/services/stop", "stopServersForAppLocationSetting", Write(settings::stop)),
    op(GET, "/v1/nodes/locations", "getLocations", Read(settings::locations)),

    op(GET, "/v1/apps/{app}/configs", "getServerConfigs", Read(configs::list)),
    op(POST, "/v1/apps/{app}/configs", "createServerConfig", Write(configs::create)),
    op(GET, "/v1/server-configs/{serverConfig}", "getServerConfigById", Read(configs::show)),
    op(PUT, "/v1/server-configs/{serverConfig}", "updateServerConfig", Write(configs::update)),
    op(DELETE, "/v1/server-configs/{serverConfig}", "deleteServerConfig", Write(configs::delete)),
    op(POST, "/v1/server-configs/{serverConfig}/services/start", "startServersForServerConfig", Write(configs::start)),
    op(POST, "/v1/server-configs/{serverConfig}/services/stop", "stopServersForServerConfig", Write(configs::stop)),
    op(GET, "/v1/resource-packages", "getResourcePackages", Read(configs::packages)),
    op(GET, "/v1/resource-packages/{resourcePackage}", "getResourcePackageById", Read(configs::package)),

    op(GET, "/v1/apps/{app}/binaries", "getBinaries", Read(binaries::list)),
    op(POST, "/v1/apps/{app}/binaries", "createBinary", Write(binaries::create)),
    op(GET, "/v1/binaries/{binary}", "getBinaryById", Read(binaries::show)),
    op(PUT, "/v1/binaries/{binary}", "updateBinary", Write(binaries::update)),
    op(DELETE, "/v1/binaries/{binary}", "deleteBinary", Write(binaries::delete)),
    op(PUT, "/v1/binaries/{binary}/refresh", "refreshBinary", Write(binaries::refresh)),
    op(POST, "/v1/binaries/{binary}/services/start", "startServersForBinary", Write(binaries::start)),
    op(POST, "/v1/binaries/{binary}/services/stop", "stopServersForBinary", Write(binaries::stop)),
    op(GET, "/v1/binaries/steam/launchers", "steamGetLauncher", Read(binaries::launchers)),
    op(GET, "/v1/binaries/steam/branches", "steamGetBranches", Read(binaries::branches)),

    op(GET, "/v1/docker-registries", "getDockerRegistries", Read(registries::list)),
    op(POST, "/v1/docker-registries", "createDockerRegistry", Write(registries::create)),
    op(GET, "/v1/docker-registries/{dockerRegistry}", "getDockerRegistryById", Read(registries::show)),
    op(PUT, "/v1/docker-registries/{dockerRegistry}", "updateDockerRegistry", Write(registries::update)),
    op(DELETE, "/v1/docker-registries/{dockerRegistry}", "deleteDockerRegistry", Write(registries::delete)),
    op(GET, "/v1/docker-registries/{dockerRegistry}/tagged-images", "getTaggedImages", Sign(registries::images)),
    op(GET, "/v1/docker-registries/{dockerRegistry}/tagged-images/refresh", "refreshTaggedImages", Sign(registries::refresh_images)),

    newer("/v1/app-location-settings/{appLocationSetting}/autoscaling/allocate", "app-location-settings.autoscaling.allocate", Write(autoscaling::allocate)),
    newer("/v1/services/{dockerService}/autoscaling/ready", "docker-services.autoscaling.ready", Write(autoscaling::ready)),
    newer("/v1/services/{dockerService}/autoscaling/allocate", "docker-services.autoscaling.allocate", Write(autoscaling::allocated)),
    newer("/v1/services/{dockerService}/autoscaling/health", "docker-services.autoscaling.health", Write(autoscaling::health)),
    newer("/v1/services/{dockerService}/autoscaling/shutdown", "docker-services.autoscaling.shutdown", Write(autoscaling::shutdown)),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_table_has_exactly_the_operations_of_the_document() {
        let document: Value =
            serde_json::from_str(include_str!("../../../openapi/odin-fleet.json")).unwrap();
        let mut declared = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                declared.insert((path.clone(), method.to_uppercase(), id.to_owned()));
            }
        }
        let row = |row: &Operation| {
            (
                row.path.to_owned(),
                row.method.to_string(),
                row.id.to_owned(),
            )
        };
        let table: BTreeSet<_> = OPERATIONS.iter().map(row).collect();
        assert_eq!(table, declared);
        assert_eq!(OPERATIONS.len(), 67);
    }
}
