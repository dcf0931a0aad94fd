//! The things that change only when somebody changes them: apps, binaries, configs, registries,
//! resource packages, locations. A change keeps a thing busy for a while; then it is ready.

use chrono::{DateTime, Utc};

use super::collection::Id;
use crate::model::{
    BinaryType, Mount, OperatingSystem, PackageType, PortDefinition, RegistryType,
    RestartCondition, SteamRuntime, TextFile, VariableDefinition,
};
use crate::secret::Secret;

/// A change that is going on: what to call it, and from when until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    pub(crate) word: &'static str,
    pub(crate) since: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

impl Busy {
    /// The status word at `now`.
    pub(crate) fn word(busy: Option<&Self>, now: DateTime<Utc>) -> &'static str {
        busy.filter(|busy| now < busy.until)
            .map_or("ready", |busy| busy.word)
    }

    /// How much of it is done at `now`, in percent.
    pub(crate) fn percent(busy: Option<&Self>, now: DateTime<Utc>) -> i64 {
        let Some(busy) = busy.filter(|busy| now < busy.until) else {
            return 100;
        };
        let whole = (busy.until - busy.since).num_milliseconds().max(1);
        ((now - busy.since).num_milliseconds() * 100 / whole).clamp(0, 99)
    }
}

/// An app.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) id: Id,
    pub(crate) name: String,
}

/// A binary.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) id: Id,
    pub(crate) app_id: Id,
    pub(crate) spec: BinarySpec,
    pub(crate) busy: Option<Busy>,
}

/// What a caller says about a binary.
#[derive(Clone, Debug)]
pub(crate) struct BinarySpec {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) os: OperatingSystem,
    pub(crate) source: BinarySource,
}

/// Where a binary comes from.
#[derive(Clone, Debug)]
pub(crate) enum BinarySource {
    DockerImage { image_name: String, registry_id: Id },
    Steam(Box<Steam>),
}

impl BinarySource {
    /// The word for the kind.
    pub(crate) fn kind(&self) -> BinaryType {
        match self {
            Self::DockerImage { .. } => BinaryType::DockerImage,
            Self::Steam(_) => BinaryType::Steam,
        }
    }
}

/// How a Steam app is fetched and started.
#[derive(Clone, Debug)]
pub(crate) struct Steam {
    pub(crate) steam_app_id: i64,
    pub(crate) branch: String,
    pub(crate) password: Option<String>,
    pub(crate) command: String,
    pub(crate) username: Option<String>,
    pub(crate) steamcmd_password: Option<String>,
    pub(crate) headful: bool,
    pub(crate) request_license: bool,
    pub(crate) runtime: SteamRuntime,
    pub(crate) additional_packages: Option<String>,
    pub(crate) unpublished: bool,
}

impl Steam {
    /// The public branch of a Steam app, started by `command`.
    pub(crate) fn public(steam_app_id: i64, command: &str) -> Self {
        Self {
            steam_app_id,
            branch: "public".to_owned(),
            password: None,
            command: command.to_owned(),
            username: None,
            steamcmd_password: None,
            headful: false,
            request_license: false,
            runtime: SteamRuntime::Sniper,
            additional_packages: None,
            unpublished: false,
        }
    }
}

/// A server config.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) id: Id,
    pub(crate) app_id: Id,
    pub(crate) spec: ConfigSpec,
    pub(crate) busy: Option<Busy>,
}

/// What a caller says about a server config.
#[derive(Clone, Debug)]
pub(crate) struct ConfigSpec {
    pub(crate) name: String,
    pub(crate) binary_id: Id,
    pub(crate) package_id: Id,
    pub(crate) command: Option<String>,
    pub(crate) args: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) restart: RestartCondition,
    pub(crate) ports: Vec<PortDefinition>,
    pub(crate) env: Vec<VariableDefinition>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) config_files: Vec<TextFile>,
    pub(crate) secret_files: Vec<TextFile>,
}

/// A docker registry.
#[derive(Clone, Debug)]
pub(crate) struct DockerRegistry {
    pub(crate) id: Id,
    pub(crate) spec: RegistrySpec,
    pub(crate) images: Vec<String>,
    pub(crate) cached_at: Option<DateTime<Utc>>,
}

/// What a caller says about a docker registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistrySpec {
    pub(crate) kind: RegistryType,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) instance_url: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) access_token: Option<String>,
    pub(crate) organization: bool,
    pub(crate) aws_access_key: Option<String>,
    pub(crate) aws_secret_access_key: Option<String>,
}

/// A size that configs can choose.
#[derive(Clone, Debug)]
pub(crate) struct ResourcePackage {
    pub(crate) id: Id,
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) kind: PackageType,
    pub(crate) cpu: f64,
    pub(crate) memory_mib: i64,
}

/// A place.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) city: String,
    pub(crate) city_display: String,
    pub(crate) continent: String,
    pub(crate) country: String,
    pub(crate) password: Option<Secret>,
}
