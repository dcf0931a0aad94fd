//! The first state of a world. Every name is looked up here, once; a name that nothing bears is a
//! [`Defect`] with the path of its key.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use super::State;
use super::access::{Access, Caller, Token, User};
use super::catalog::{
    App, Binary, BinarySource, BinarySpec, ConfigSpec, DockerRegistry, Location, RegistrySpec,
    ResourcePackage, ServerConfig, Steam,
};
use super::collection::{Collection, Id};
use super::placement::Node;
use super::service::{AfterStop, Phase, Service};
use super::setting::Setting;
use crate::fields::check_metadata;
use crate::limits;
use crate::model::BinaryType;
use crate::refusal::Refusal;
use crate::world::{self, Condition, Defect, Delays, PublishedPorts, Start, World};

/// How long before the start the services of a settled world were created.
const AGE: TimeDelta = TimeDelta::hours(1);
/// Delays while the past of a settled world is played through.
const INSTANT: Delays = Delays {
    pending_ms: 0,
    starting_ms: 0,
    stopping_ms: 0,
    backup_ms: 0,
    scale_step_ms: 0,
    build_ms: 0,
};

impl State {
    /// The state of `world` at `now`.
    pub(crate) fn new(world: &World, now: DateTime<Utc>, seed: u64) -> Result<Self, Defect> {
        let mut state = Self::empty(world, now, seed)?;
        for (index, app) in world.apps.iter().enumerate() {
            state.add_app(world, app, &format!("apps[{index}]"))?;
        }
        state.add_access(world)?;
        state.changed();
        if world.start == Start::Settled {
            state.settle(world, now);
        }
        Ok(state)
    }

    fn empty(world: &World, now: DateTime<Utc>, seed: u64) -> Result<Self, Defect> {
        if let PublishedPorts::Range { first, last } = world.published_ports
            && first > last
        {
            return Err(defect("published_ports.last", "is lower than `first`"));
        }
        let mut packages = Collection::new("ResourcePackage", 1);
        for (index, package) in world.resource_packages.iter().enumerate() {
            if !(package.cpu.is_finite() && package.cpu > 0.0) {
                let key = format!("resource_packages[{index}].cpu");
                return Err(defect(key, "is not a positive number"));
            }
            let result = packages.insert(|id| ResourcePackage {
                id,
                slug: package.slug.clone(),
                name: package.name.clone(),
                kind: package.kind,
                cpu: package.cpu,
                memory_mib: i64::from(package.memory_mib),
            });
            result.map_err(|refusal| full(&refusal, "resource_packages"))?;
        }
        let mut registries = Collection::new("DockerRegistry", 1);
        for registry in &world.docker_registries {
            let result = registries.insert(|id| DockerRegistry {
                id,
                spec: registry_spec(registry),
                images: registry.images.clone(),
                cached_at: None,
            });
            result.map_err(|refusal| full(&refusal, "docker_registries"))?;
        }
        Ok(Self {
            now: if world.start == Start::Settled {
                now - AGE
            } else {
                now
            },
            due: DateTime::<Utc>::MIN_UTC,
            random: fastrand::Rng::with_seed(seed),
            delays: world.delays,
            published_ports: world.published_ports.clone(),
            access: Access {
                tokens: Vec::new(),
                issued: VecDeque::new(),
                users: Vec::new(),
                refresh_ends_old_token: world.refresh_ends_old_token,
            },
            locations: world.locations.iter().map(location).collect(),
            nodes: nodes(world)?,
            packages,
            registries,
            steam_apps: world.steam_apps.clone(),
            apps: Collection::new("App", 1),
            binaries: Collection::new("Binary", 11),
            configs: Collection::new("ServerConfig", 21),
            settings: Collection::new("AppLocationSetting", 31),
            services: Collection::new("DockerService", 101),
            downloads: VecDeque::new(),
            archives: 0,
            initial_metadata: BTreeMap::new(),
        })
    }

    fn add_access(&mut self, world: &World) -> Result<(), Defect> {
        if world.tokens.is_empty() {
            return Err(defect("tokens", "is empty, so nobody could call the API"));
        }
        for (index, token) in world.tokens.iter().enumerate() {
            if token.secret.reveal().is_empty() {
                return Err(defect(format!("tokens[{index}].secret"), "is empty"));
            }
            let apps = self.app_ids(token.apps.as_deref(), &format!("tokens[{index}].apps"))?;
            let caller = Caller {
                apps,
                read_only: token.read_only,
            };
            self.access.tokens.push(Token {
                secret: token.secret.clone(),
                caller,
            });
        }
        for (index, user) in world.users.iter().enumerate() {
            let apps = self.app_ids(user.apps.as_deref(), &format!("users[{index}].apps"))?;
            let (email, password) = (user.email.clone(), user.password.clone());
            self.access.users.push(User {
                email,
                password,
                apps,
            });
        }
        Ok(())
    }

    fn app_ids(&self, names: Option<&[String]>, key: &str) -> Result<Option<Vec<Id>>, Defect> {
        let Some(names) = names else { return Ok(None) };
        let id = |(index, name): (usize, &String)| {
            let app = self.apps.iter().find(|app| app.name == *name);
            app.map(|app| app.id)
                .ok_or_else(|| unknown(format!("{key}[{index}]"), "app", name))
        };
        names
            .iter()
            .enumerate()
            .map(id)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn add_app(&mut self, world: &World, app: &world::App, key: &str) -> Result<(), Defect> {
        let full = |refusal: Refusal| full(&refusal, key);
        let app_id = self
            .apps
            .insert(|id| App {
                id,
                name: app.name.clone(),
            })
            .map_err(full)?;
        for (index, binary) in app.binaries.iter().enumerate() {
            let spec = self.binary_spec(binary, &format!("{key}.binaries[{index}]"))?;
            self.binaries
                .insert(|id| Binary {
                    id,
                    app_id,
                    spec,
                    busy: None,
                })
                .map_err(full)?;
        }
        for (index, config) in app.configs.iter().enumerate() {
            let spec = self.config_spec(app_id, config, &format!("{key}.configs[{index}]"))?;
            self.configs
                .insert(|id| ServerConfig {
                    id,
                    app_id,
                    spec,
                    busy: None,
                })
                .map_err(full)?;
        }
        for (index, setting) in app.location_settings.iter().enumerate() {
            let key = format!("{key}.location_settings[{index}]");
            self.add_setting(world, app_id, setting, &key)?;
        }
        Ok(())
    }

    fn binary_spec(&self, binary: &world::Binary, key: &str) -> Result<BinarySpec, Defect> {
        let missing = |name: &str| defect(format!("{key}.{name}"), "is missing for this type");
        let source = match binary.kind {
            BinaryType::DockerImage => {
                let name = binary
                    .registry
                    .as_ref()
                    .ok_or_else(|| missing("registry"))?;
                let registry = self
                    .registries
                    .iter()
                    .find(|known| known.spec.name == *name);
                let unknown = || unknown(format!("{key}.registry"), "docker registry", name);
                BinarySource::DockerImage {
                    image_name: binary.image.clone().ok_or_else(|| missing("image"))?,
                    registry_id: registry.ok_or_else(unknown)?.id,
                }
            }
            BinaryType::Steam => {
                let app = binary.steam_app_id.ok_or_else(|| missing("steam_app_id"))?;
                BinarySource::Steam(Box::new(Steam::public(app, "./start.sh")))
            }
        };
        let (name, version) = (binary.name.clone(), binary.version.clone());
        Ok(BinarySpec {
            name,
            version,
            os: binary.os,
            source,
        })
    }

    fn config_spec(
        &self,
        app: Id,
        config: &world::ServerConfig,
        key: &str,
    ) -> Result<ConfigSpec, Defect> {
        let mut binaries = self.binaries.iter().filter(|binary| binary.app_id == app);
        let binary = binaries.find(|binary| binary.spec.name == config.binary);
        let slug = &config.resource_package;
        let package = self.packages.iter().find(|package| package.slug == *slug);
        let no_binary = || unknown(format!("{key}.binary"), "binary", &config.binary);
        let no_package = || unknown(format!("{key}.resource_package"), "resource package", slug);
        Ok(ConfigSpec {
            name: config.name.clone(),
            binary_id: binary.ok_or_else(no_binary)?.id,
            package_id: package.ok_or_else(no_package)?.id,
            command: config.command.clone(),
            args: config.args.clone(),
            notes: config.notes.clone(),
            restart: config.restart,
            ports: config.ports.clone(),
            env: config.env.clone(),
            mounts: config.mounts.clone(),
            config_files: config.config_files.clone(),
            secret_files: config.secret_files.clone(),
        })
    }

    fn add_setting(
        &mut self,
        world: &World,
        app_id: Id,
        setting: &world::LocationSetting,
        key: &str,
    ) -> Result<(), Defect> {
        let config_id = self
            .configs
            .iter()
            .find(|config| config.app_id == app_id && config.spec.name == setting.config)
            .ok_or_else(|| unknown(format!("{key}.config"), "config", &setting.config))?
            .id;
        let location = world
            .locations
            .iter()
            .position(|known| known.city == setting.city);
        let location =
            location.ok_or_else(|| unknown(format!("{key}.city"), "location", &setting.city))?;
        let num_instances = i64::from(setting.num_instances);
        if !(1..=limits::INSTANCES).contains(&num_instances) {
            let message = format!("is not between 1 and {}", limits::INSTANCES);
            return Err(defect(format!("{key}.num_instances"), message));
        }
        let mut record = Setting {
            id: 0,
            app_id,
            config_id,
            name: setting.name.clone(),
            num_instances,
            location,
            autoscaling: setting.autoscaling.clone(),
            scaling: None,
        };
        let id = self
            .settings
            .insert(|id| {
                record.id = id;
                record.clone()
            })
            .map_err(|refusal| full(&refusal, key))?;
        let metadata = setting
            .services
            .iter()
            .filter_map(|exception| exception.metadata.as_ref());
        if metadata
            .chain([&setting.metadata])
            .any(|map| check_metadata(map).is_err())
        {
            return Err(defect(
                format!("{key}.metadata"),
                "is too large or nested too deeply",
            ));
        }
        self.initial_metadata.insert(id, setting.metadata.clone());
        let settled = world.start == Start::Settled;
        for instance in 1..=setting.num_instances {
            self.add_service(&record, setting, instance, settled, key)?;
        }
        let stray = setting
            .services
            .iter()
            .position(|exception| !(1..=setting.num_instances).contains(&exception.instance));
        match stray {
            Some(index) => Err(defect(
                format!("{key}.services[{index}].instance"),
                "has no such instance",
            )),
            None => Ok(()),
        }
    }

    fn add_service(
        &mut self,
        record: &Setting,
        setting: &world::LocationSetting,
        instance: u32,
        settled: bool,
        key: &str,
    ) -> Result<(), Defect> {
        let exception = setting
            .services
            .iter()
            .find(|known| known.instance == instance);
        let condition = exception
            .map(|exception| exception.condition)
            .unwrap_or_default();
        let pending = Phase::Pending { until: self.now };
        let (phase, condition) = match condition {
            Condition::Stopped if settled => (pending, Condition::Healthy),
            Condition::Stopped => (Phase::Stopped, Condition::Healthy),
            other => (pending, other),
        };
        let created = self.create_service(record, phase, condition);
        let id = created.map_err(|refusal| full(&refusal, key))?;
        let metadata = exception.and_then(|exception| exception.metadata.clone());
        if let (Some(metadata), Ok(service)) = (metadata, self.services.find_mut(id)) {
            service.metadata = metadata;
        }
        Ok(())
    }

    /// Lets the services of a fresh state start in the past, so that they run at `now`.
    fn settle(&mut self, world: &World, now: DateTime<Utc>) {
        let first = self.now;
        for (seconds, service) in (0_i64..).zip(self.services.iter_mut()) {
            service.created_at = first + TimeDelta::seconds(seconds);
        }
        // However slow the world is, its services had time enough.
        let delays = std::mem::replace(&mut self.delays, INSTANT);
        self.advance(first + AGE / 2);
        let settings = world.apps.iter().flat_map(|app| &app.location_settings);
        let ids: Vec<Id> = self.settings.iter().map(|setting| setting.id).collect();
        for (id, setting) in ids.into_iter().zip(settings) {
            let stopped = |service: &Service| {
                service.setting_id == id
                    && setting.services.iter().any(|exception| {
                        exception.condition == Condition::Stopped
                            && i64::from(exception.instance) == service.instance
                    })
            };
            self.stop_services(stopped, AfterStop::Stay);
        }
        self.changed();
        self.advance(now);
        self.delays = delays;
    }
}

fn registry_spec(registry: &world::DockerRegistry) -> RegistrySpec {
    RegistrySpec {
        kind: registry.kind,
        name: registry.name.clone(),
        url: registry.url.clone(),
        instance_url: None,
        username: None,
        password: None,
        access_token: None,
        organization: true,
        aws_access_key: None,
        aws_secret_access_key: None,
    }
}

fn location(location: &world::Location) -> Location {
    Location {
        city: location.city.clone(),
        city_display: location.city_display.clone(),
        continent: location.continent.clone(),
        country: location.country.clone(),
        password: location.password.clone(),
    }
}

fn nodes(world: &World) -> Result<Vec<Node>, Defect> {
    let node = |(index, node): (usize, &world::Node)| {
        if !world
            .locations
            .iter()
            .any(|location| location.city == node.city)
        {
            return Err(unknown(
                format!("nodes[{index}].city"),
                "location",
                &node.city,
            ));
        }
        Ok(Node {
            city: node.city.clone(),
            address: node.address.clone(),
            os: node.os,
            capacity: usize::try_from(node.capacity).unwrap_or(usize::MAX),
        })
    };
    world.nodes.iter().enumerate().map(node).collect()
}

fn defect(key: impl Into<String>, message: impl Into<String>) -> Defect {
    Defect {
        key: key.into(),
        message: message.into(),
    }
}

fn unknown(key: impl Into<String>, kind: &str, name: &str) -> Defect {
    defect(
        key,
        format!("names the {kind} {name:?}, which the world does not have"),
    )
}

fn full(_: &Refusal, key: &str) -> Defect {
    defect(
        key,
        format!("holds more than {} things of one kind", limits::THINGS),
    )
}
