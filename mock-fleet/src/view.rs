//! What the wire shows of the state: one serialisable view per resource, borrowed from the state,
//! in the shape of the chosen version of the API.

mod environment;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::environment::Environment;
use crate::model::ApiVersion;
use crate::state::State;
use crate::state::catalog::{
    App, Binary, BinarySource, Busy, DockerRegistry, Location, ResourcePackage, ServerConfig,
};
use crate::state::service::{Backup, Service, ServicePort};
use crate::state::setting::Setting;

/// Turns things of the state into what the wire shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer<'a> {
    pub(crate) state: &'a State,
    pub(crate) api: ApiVersion,
}

/// A time as the interface writes it.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A service as the interface shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerView<'a> {
    id: i64,
    app_location_setting_id: i64,
    instance: i64,
    server_config_id: i64,
    server_config_name: &'a str,
    name: &'a str,
    status: &'static str,
    #[serde(rename = "status_message")]
    status_message: Option<&'static str>,
    is_backupable: bool,
    is_restorable: bool,
    is_pending: bool,
    is_not_found: bool,
    is_healthy: bool,
    is_stopped: bool,
    maintenance: bool,
    ports: Vec<PortView<'a>>,
    env: Environment<'a>,
    restart_policy: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeView<'a>>,
    location: LocationView<'a>,
    resources: PackageView<'a>,
    backups: Vec<BackupView<'a>>,
    metadata: &'a Map<String, Value>,
    created_at: String,
    updated_at: String,
    #[serde(flatten)]
    autoscaling: Option<ServerExtras>,
}

/// What 0.9.5 adds to a service.
#[derive(Debug, Serialize)]
struct ServerExtras {
    dns: Option<String>,
    autoscaling: AutoscalingView,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AutoscalingView {
    enabled: bool,
    health_enabled: Option<bool>,
    status: Option<&'static str>,
    last_ready_at: Option<String>,
    last_allocated_at: Option<String>,
    last_health_at: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortView<'a> {
    name: &'a str,
    protocol: &'static str,
    target_port: u16,
    published_port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct NodeView<'a> {
    architecture: &'static str,
    os: &'static str,
    address: &'a str,
}

/// A location as the interface shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LocationView<'a> {
    city: &'a str,
    city_display: &'a str,
    continent: &'a str,
    country: &'a str,
    is_protected: bool,
}

/// A backup as the interface shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupView<'a> {
    name: &'a str,
    archive_name: &'a str,
    created_at: String,
    restored_at: Option<String>,
}

/// A resource package; its limits changed from text to numbers after 0.9.0.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PackageView<'a> {
    id: i64,
    name: &'a str,
    slug: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    cpu_limit: Value,
    memory_limit_bytes: i64,
    #[serde(rename = "memoryLimitMiB")]
    memory_limit_mib: i64,
    memory_limit_file_size_string: String,
    #[serde(flatten)]
    reservation: Option<ReservationView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReservationView {
    cpu_reservation: String,
    memory_reservation_bytes: i64,
    #[serde(rename = "memoryReservationMiB")]
    memory_reservation_mib: i64,
    memory_reservation_file_size_string: String,
}

fn file_size(mib: i64) -> String {
    if mib >= 1024 && mib % 1024 == 0 {
        format!("{} GB", mib / 1024)
    } else {
        format!("{mib} MB")
    }
}

fn port(port: &ServicePort) -> PortView<'_> {
    PortView {
        name: &port.name,
        protocol: port.protocol.as_str(),
        target_port: port.target,
        published_port: port.published,
    }
}

/// A location as the interface shows it.
pub(crate) fn location(location: &Location) -> LocationView<'_> {
    LocationView {
        city: &location.city,
        city_display: &location.city_display,
        continent: &location.continent,
        country: &location.country,
        is_protected: location.password.is_some(),
    }
}

/// A backup as the interface shows it.
pub(crate) fn backup(backup: &Backup) -> BackupView<'_> {
    BackupView {
        name: &backup.name,
        archive_name: &backup.archive_name,
        created_at: time(backup.created_at),
        restored_at: backup.restored_at.map(time),
    }
}

/// A docker registry as the interface shows it.
pub(crate) fn registry(registry: &DockerRegistry) -> Value {
    let spec = &registry.spec;
    json!({
        "id": registry.id,
        "type": spec.kind,
        "name": spec.name,
        "username": spec.username,
        "password": spec.password,
        "url": spec.url,
        "accessToken": spec.access_token,
        "instanceUrl": spec.instance_url,
        "organization": spec.organization,
        "awsAccessKey": spec.aws_access_key,
        "awsSecretAccessKey": spec.aws_secret_access_key,
    })
}

impl<'a> Viewer<'a> {
    /// A service. Its setting and config exist as long as it does.
    pub(crate) fn server(self, service: &'a Service) -> Option<ServerView<'a>> {
        let state = self.state;
        let setting = state.settings.get(service.setting_id)?;
        let config = state.configs.get(service.config_id)?;
        let node = service.node.and_then(|node| state.nodes.get(node));
        let environment = Environment {
            definitions: &config.spec.env,
            service,
            address: node.map(|node| node.address.as_str()),
        };
        Some(ServerView {
            id: service.id,
            app_location_setting_id: service.setting_id,
            instance: service.instance,
            server_config_id: service.config_id,
            server_config_name: &config.spec.name,
            name: &service.name,
            status: service.status(),
            status_message: service.status_message(),
            is_backupable: !config.spec.mounts.is_empty(),
            is_restorable: !service.backups.is_empty(),
            is_pending: service.is_pending(),
            is_not_found: service.is_not_found(),
            is_healthy: service.is_healthy(),
            is_stopped: service.is_stopped(),
            maintenance: service.job.is_some(),
            ports: service.ports.iter().map(port).collect(),
            env: environment,
            restart_policy: json!({ "condition": config.spec.restart }),
            node: node.map(|node| NodeView {
                architecture: "x86_64",
                os: node.os.as_str(),
                address: &node.address,
            }),
            location: location(state.locations.get(setting.location)?),
            resources: self.package(state.packages.get(config.spec.package_id)?),
            backups: service.backups.iter().map(backup).collect(),
            metadata: &service.metadata,
            created_at: time(service.created_at),
            updated_at: time(service.updated_at),
            autoscaling: (self.api >= ApiVersion::V0_9_5).then(|| self.extras(service, setting)),
        })
    }

    fn extras(self, service: &Service, setting: &Setting) -> ServerExtras {
        let settings = setting.autoscaling.as_ref();
        let heartbeat = settings.and_then(|settings| settings.health);
        let allocation = &service.allocation;
        let word = service.allocation_word(heartbeat, self.state.now);
        ServerExtras {
            dns: None,
            autoscaling: AutoscalingView {
                enabled: settings.is_some(),
                health_enabled: settings.map(|settings| settings.health.is_some()),
                status: settings.map(|_| word),
                last_ready_at: allocation.last_ready_at.map(time),
                last_allocated_at: allocation.last_allocated_at.map(time),
                last_health_at: allocation.last_health_at.map(time),
            },
        }
    }

    /// A resource package.
    pub(crate) fn package(self, package: &'a ResourcePackage) -> PackageView<'a> {
        let mib = package.memory_mib;
        let bytes = mib * 1024 * 1024;
        let first = self.api == ApiVersion::V0_9_0;
        PackageView {
            id: package.id,
            name: &package.name,
            slug: &package.slug,
            kind: package.kind.as_str(),
            cpu_limit: if first {
                json!(package.cpu.to_string())
            } else {
                json!(package.cpu)
            },
            memory_limit_bytes: bytes,
            memory_limit_mib: mib,
            memory_limit_file_size_string: file_size(mib),
            reservation: first.then(|| ReservationView {
                cpu_reservation: package.cpu.to_string(),
                memory_reservation_bytes: bytes,
                memory_reservation_mib: mib,
                memory_reservation_file_size_string: file_size(mib),
            }),
        }
    }

    /// An app.
    pub(crate) fn app(self, app: &App) -> Value {
        let mut view = json!({
            "id": app.id,
            "name": app.name,
            "inUse": self.state.app_in_use(app.id),
            "billingState": "active",
        });
        if self.api > ApiVersion::V0_9_0 {
            view["maintenance"] = json!(false);
            view["status"] = json!("ready");
            view["statusMessage"] = Value::Null;
        }
        view
    }

    /// A binary.
    pub(crate) fn binary(self, binary: &Binary) -> Value {
        let (state, spec) = (self.state, &binary.spec);
        let in_use = state.binary_in_use(binary.id);
        let busy = binary.busy.as_ref();
        let mut view = json!({
            "id": binary.id,
            "appId": binary.app_id,
            "name": spec.name,
            "version": spec.version,
            "type": spec.source.kind(),
            "os": spec.os,
            "maintenance": false,
            "status": Busy::word(busy, state.now),
            "statusMessage": null,
            "inUse": in_use,
        });
        match &spec.source {
            BinarySource::DockerImage {
                image_name,
                registry_id,
            } => {
                view["dockerImage"] =
                    json!({ "imageName": image_name, "registryId": registry_id, "inUse": in_use });
            }
            BinarySource::Steam(steam) => {
                view["progress"] = json!(Busy::percent(busy, state.now));
                view["progressMessage"] = Value::Null;
                view["steam"] = json!({
                    "steamAppId": steam.steam_app_id,
                    "branch": steam.branch,
                    "password": steam.password,
                    "command": steam.command,
                    "steamcmdUsername": steam.username,
                    "steamcmdPassword": steam.steamcmd_password,
                    "headful": steam.headful,
                    "requestLicense": steam.request_license,
                    "runtime": steam.runtime,
                    "additionalPackages": steam.additional_packages,
                    "unpublished": steam.unpublished,
                    "inUse": in_use,
                });
            }
        }
        view
    }

    /// A server config, with its binary.
    pub(crate) fn config(self, config: &ServerConfig) -> Value {
        let (state, spec) = (self.state, &config.spec);
        let package = state.packages.get(spec.package_id);
        let mut view = json!({
            "id": config.id,
            "binaryId": spec.binary_id,
            "appId": config.app_id,
            "name": spec.name,
            "command": spec.command,
            "args": spec.args,
            "notes": spec.notes,
            "status": Busy::word(config.busy.as_ref(), state.now),
            "statusMessage": null,
            "maintenance": false,
            "resourcePackageSlug": package.map(|package| &package.slug),
            "inUse": state.config_in_use(config.id),
            "restartPolicy": { "condition": spec.restart },
            "env": spec.env,
            "mounts": spec.mounts,
            "ports": spec.ports,
            "configFiles": spec.config_files,
            "secretFiles": spec.secret_files,
        });
        if let Some(binary) = state.binaries.get(spec.binary_id) {
            view["binary"] = self.binary(binary);
        }
        view
    }

    /// A location setting, with its config.
    pub(crate) fn setting(self, setting: &Setting) -> Value {
        let state = self.state;
        let autoscaling = setting.autoscaling.as_ref();
        let mut view = json!({
            "id": setting.id,
            "name": setting.name,
            "appId": setting.app_id,
            "serverConfigId": setting.config_id,
            "numInstances": setting.num_instances,
            "autoScalerEnabled": autoscaling.is_some(),
            "status": setting.status(),
            "statusMessage": null,
            "maintenance": false,
            "inUse": true,
            "placement": { "constraints": state.locations.get(setting.location).map(location) },
        });
        if let Some(autoscaling) = autoscaling {
            view["autoScalerMin"] = json!(autoscaling.min_instances);
            view["autoScalerMax"] = json!(autoscaling.max_instances);
        }
        if let Some(config) = state.configs.get(setting.config_id) {
            view["serverConfig"] = self.config(config);
        }
        view
    }
}

impl State {
    /// Whether an app has location settings.
    pub(crate) fn app_in_use(&self, app: i64) -> bool {
        self.settings.iter().any(|setting| setting.app_id == app)
    }

    /// Whether a location setting uses a config.
    pub(crate) fn config_in_use(&self, config: i64) -> bool {
        self.settings
            .iter()
            .any(|setting| setting.config_id == config)
    }

    /// Whether a config uses a binary.
    pub(crate) fn binary_in_use(&self, binary: i64) -> bool {
        self.configs
            .iter()
            .any(|config| config.spec.binary_id == binary)
    }

    /// Whether a binary comes from a registry.
    pub(crate) fn registry_in_use(&self, registry: i64) -> bool {
        self.binaries.iter().any(|binary| {
            matches!(&binary.spec.source,
                BinarySource::DockerImage { registry_id, .. } if *registry_id == registry)
        })
    }
}
