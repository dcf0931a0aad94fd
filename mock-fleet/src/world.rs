//! The world file: what exists in the simulated fleet when it starts. Fields are public so that
//! a program can change a world before it starts a server; names refer to other parts, and
//! every reference is resolved (or refused, with its key) when the state is built from it.

mod load;

pub(crate) use self::load::Defect;
pub use self::load::WorldError;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::{
    BinaryType, Mount, OperatingSystem, PackageType, PortDefinition, RegistryType,
    RestartCondition, TextFile, VariableDefinition,
};
use crate::secret::Secret;

/// Everything that exists at the start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Whether services run already or have yet to start.
    #[serde(default)]
    pub start: Start,
    /// How long changes take.
    #[serde(default)]
    pub delays: Delays,
    /// Which ports nodes publish.
    #[serde(default)]
    pub published_ports: PublishedPorts,
    /// Whether refreshing a token ends the old one. The real behaviour is not documented.
    #[serde(default)]
    pub refresh_ends_old_token: bool,
    /// Tokens that work from the start.
    pub tokens: Vec<Token>,
    /// Users who may ask for a token.
    #[serde(default)]
    pub users: Vec<User>,
    /// Places where services can run.
    pub locations: Vec<Location>,
    /// Machines.
    pub nodes: Vec<Node>,
    /// Sizes that a config can choose.
    pub resource_packages: Vec<ResourcePackage>,
    /// Where images come from.
    #[serde(default)]
    pub docker_registries: Vec<DockerRegistry>,
    /// Steam apps the simulator knows.
    #[serde(default)]
    pub steam_apps: Vec<SteamApp>,
    /// The apps with everything in them.
    pub apps: Vec<App>,
}

/// How the services of the world file begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// They have been running for a while.
    #[default]
    Settled,
    /// They are pending and go through the whole start.
    Cold,
}

/// How long changes take, in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delays {
    /// From creation until a node is looked for.
    pub pending_ms: u32,
    /// From the node being assigned until the service runs.
    pub starting_ms: u32,
    /// From a stop being asked until the service has stopped.
    pub stopping_ms: u32,
    /// How long a backup or a restore takes.
    pub backup_ms: u32,
    /// Between two instances created or removed by scaling.
    pub scale_step_ms: u32,
    /// Until a new or changed binary or config is ready.
    pub build_ms: u32,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            pending_ms: 200,
            starting_ms: 600,
            stopping_ms: 300,
            backup_ms: 400,
            scale_step_ms: 200,
            build_ms: 500,
        }
    }
}

/// Which ports nodes publish: a range, or an explicit list that is handed out in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum PublishedPorts {
    /// All ports from `first` to `last`.
    Range {
        /// Lowest port.
        first: u16,
        /// Highest port.
        last: u16,
    },
    /// Exactly these ports.
    List(Vec<u16>),
}

impl Default for PublishedPorts {
    fn default() -> Self {
        Self::Range {
            first: 20_000,
            last: 29_999,
        }
    }
}

/// A bearer token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The token itself.
    pub secret: Secret,
    /// Names of the apps it may use; without it, all of them.
    #[serde(default)]
    pub apps: Option<Vec<String>>,
    /// Whether it may only read.
    #[serde(default)]
    pub read_only: bool,
}

/// A user who may ask for a token by e-mail and password.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The address.
    pub email: String,
    /// The password.
    pub password: Secret,
    /// Names of the apps the user's tokens may use; without it, all of them.
    #[serde(default)]
    pub apps: Option<Vec<String>>,
}

/// A place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Key of the city.
    pub city: String,
    /// Name for people.
    pub city_display: String,
    /// Key of the continent.
    pub continent: String,
    /// Key of the country.
    pub country: String,
    /// Password of a protected location.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// A machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// City it stands in.
    pub city: String,
    /// Address players connect to.
    pub address: String,
    /// Operating system.
    #[serde(default = "linux")]
    pub os: OperatingSystem,
    /// How many services fit.
    pub capacity: u32,
}

fn linux() -> OperatingSystem {
    OperatingSystem::Linux
}

/// A size.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcePackage {
    /// Key by which configs name it.
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// Shared or dedicated.
    #[serde(rename = "type")]
    pub kind: PackageType,
    /// Processor limit in cores.
    pub cpu: f64,
    /// Memory limit in MiB.
    pub memory_mib: u32,
}

/// A docker registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerRegistry {
    /// Name by which binaries refer to it.
    pub name: String,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: RegistryType,
    /// Address.
    pub url: String,
    /// Images it holds, as `repository:tag`.
    #[serde(default)]
    pub images: Vec<String>,
}

/// A Steam app with its launchers and branches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteamApp {
    /// Steam's id.
    pub app_id: i64,
    /// What can be launched.
    #[serde(default)]
    pub launchers: Vec<SteamLauncher>,
    /// Which branches there are.
    #[serde(default)]
    pub branches: Vec<SteamBranch>,
}

/// One way to launch a Steam app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteamLauncher {
    /// Path of the program.
    pub executable: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Option<String>,
    /// System it is for; without it, any.
    #[serde(default)]
    pub os: Option<OperatingSystem>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
}

/// A branch of a Steam app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteamBranch {
    /// Name.
    pub name: String,
    /// Steam's build number.
    #[serde(default)]
    pub build_id: Option<i64>,
    /// Whether a password is needed.
    #[serde(default)]
    pub password_required: bool,
}

/// An app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Name.
    pub name: String,
    /// What can be run.
    #[serde(default)]
    pub binaries: Vec<Binary>,
    /// How it is run.
    #[serde(default)]
    pub configs: Vec<ServerConfig>,
    /// Where and how often.
    #[serde(default)]
    pub location_settings: Vec<LocationSetting>,
}

/// A binary of an app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// Name by which configs refer to it.
    pub name: String,
    /// Version text.
    pub version: String,
    /// How it is built; a Steam binary needs `steam_app_id`, a docker one `image` and `registry`.
    #[serde(rename = "type")]
    pub kind: BinaryType,
    /// Operating system.
    #[serde(default = "linux")]
    pub os: OperatingSystem,
    /// Image name with tag.
    #[serde(default)]
    pub image: Option<String>,
    /// Name of the registry.
    #[serde(default)]
    pub registry: Option<String>,
    /// Steam's id.
    #[serde(default)]
    pub steam_app_id: Option<i64>,
}

/// A server config of an app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Name by which location settings refer to it.
    pub name: String,
    /// Name of the binary.
    pub binary: String,
    /// Slug of the resource package.
    pub resource_package: String,
    /// Command instead of the image's own.
    #[serde(default)]
    pub command: Option<String>,
    /// Arguments instead of the image's own.
    #[serde(default)]
    pub args: Option<String>,
    /// Notes for people.
    #[serde(default)]
    pub notes: Option<String>,
    /// When the container starts again by itself.
    #[serde(default = "on_failure")]
    pub restart: RestartCondition,
    /// Ports.
    #[serde(default)]
    pub ports: Vec<PortDefinition>,
    /// Environment.
    #[serde(default)]
    pub env: Vec<VariableDefinition>,
    /// Directories that outlive the container.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Files.
    #[serde(default)]
    pub config_files: Vec<TextFile>,
    /// Files with secrets.
    #[serde(default)]
    pub secret_files: Vec<TextFile>,
}

fn on_failure() -> RestartCondition {
    RestartCondition::OnFailure
}

/// A location setting of an app: so many instances of a config in a city.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocationSetting {
    /// Name.
    pub name: String,
    /// Name of the config.
    pub config: String,
    /// City.
    pub city: String,
    /// How many instances.
    pub num_instances: u32,
    /// Metadata that every one of them starts with.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Autoscaling; without it, the number of instances is fixed.
    #[serde(default)]
    pub autoscaling: Option<Autoscaling>,
    /// Exceptions for single instances.
    #[serde(default)]
    pub services: Vec<ServiceException>,
}

/// Autoscaling of a location setting (0.9.5).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoscaling {
    /// Never fewer instances than this.
    pub min_instances: u32,
    /// Never more instances than this.
    pub max_instances: u32,
    /// How many instances to keep beyond the allocated ones.
    pub buffer_size: u32,
    /// Heartbeats, if the instances send them.
    #[serde(default)]
    pub health: Option<Heartbeat>,
}

/// When an instance without heartbeats counts as unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Seconds after the start before the first one is due.
    pub initial_delay_seconds: u32,
    /// Seconds between two.
    pub period_seconds: u32,
    /// How many may be missed.
    pub failure_threshold: u32,
}

/// What is different about one instance of a location setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceException {
    /// Which instance, from 1.
    pub instance: u32,
    /// Metadata instead of the setting's.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// The condition it is in.
    #[serde(default)]
    pub condition: Condition,
}

/// The condition of a service that somebody outside the API brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nothing is wrong.
    #[default]
    Healthy,
    /// It runs, but its checks fail.
    Unhealthy,
    /// No node has room for it: it is pending and has no node.
    Overload,
    /// The cluster has lost it.
    NotFound,
    /// It has been stopped.
    Stopped,
}
