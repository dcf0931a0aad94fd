//! Settings: `gateway.toml`, and variables for secrets. What is not safe must be said in so many words.

mod file;
mod limits;
mod sources;

use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use gateway_api::MasterKey;
use ipnet::IpNet;
use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

pub use limits::{Limits, Rate};

use crate::{
    customers::Customer,
    grid::{Timing, UsageLimits},
};
use sources::customer_source;

/// Everything the gateway needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where customers and clients call.
    pub listen: SocketAddr,
    /// Serve HTTPS.
    pub tls: Option<Tls>,
    /// Who may call `/internal`, and where.
    pub internal: Internal,
    /// What servers' keys are derived from.
    pub master_key: MasterKey,
    /// Whose tokens are taken.
    pub customers: CustomerSource,
    /// Take customers' keys whose private halves are public.
    pub allow_published_keys: bool,
    /// What is done with tokens of unknown keys.
    pub unknown_customers: UnknownCustomers,
    /// Groups of servers, each with a path of its own.
    pub pools: Option<Pools>,
    /// Intervals and timeouts of servers and rooms.
    pub timing: Timing,
    /// The subnet from which voice servers are told to let metrics be read.
    pub metrics_server: String,
    /// How long before and after its time a token is taken.
    pub token_leeway: Duration,
    /// Which rooms a token may moderate.
    pub room_match: RoomMatch,
    /// What the gateway takes at most.
    pub limit: Limits,
    /// Where state is kept beside memory.
    pub redis: Option<RedisConfig>,
}

/// Certificate and key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The leaf certificate, then intermediate ones.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
}

/// Who may call `/internal`, and where. It hands out the private keys of voice servers.
#[derive(Clone, Debug, Default)]
pub struct Internal {
    /// A listener of its own; `/internal` is then on no other.
    pub listen: Option<SocketAddr>,
    /// Basic credentials; without any everybody who reaches it may call.
    pub users: Vec<InternalUser>,
    /// Be open to everybody who reaches it.
    pub allow_unauthenticated: bool,
}

impl Internal {
    /// Whether nobody is asked for credentials.
    pub fn is_open(&self) -> bool {
        self.users.is_empty()
    }
}

/// Basic credentials.
#[derive(Clone, Debug)]
pub struct InternalUser {
    /// The user.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// Where customers come from.
#[derive(Clone, Debug)]
pub enum CustomerSource {
    /// From the settings.
    Static(Vec<Customer>),
    /// From a JSON file that is read again and again.
    File {
        /// The file.
        path: PathBuf,
        /// Time between two reads.
        update_interval: Duration,
    },
    /// From an HTTP(S) address that is asked again and again.
    Http {
        /// The address.
        url: String,
        /// Sent as bearer token.
        token: Option<Secret>,
        /// Time between two calls.
        update_interval: Duration,
    },
}

/// What is done with tokens of unknown keys. Their signatures cannot be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCustomers {
    /// They are refused.
    Forbidden,
    /// Each key is a customer with these limits.
    Limited(UsageLimits),
    /// Each key is a customer without limits.
    Unlimited,
}

/// Groups of servers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {
    /// Their names; `/name/` and `/name/internal` are their paths.
    pub available: Vec<String>,
    /// The one of `/` and `/internal`.
    pub default: String,
}

/// Which rooms a token may moderate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomMatch {
    /// The one it names.
    #[default]
    Exact,
    /// All whose names start with the one it names, as in the ODIN gateway.
    Prefix,
}

/// A Redis that several gateways share.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Its address, which may hold a password.
    pub url: Secret,
    /// What its keys start with.
    pub prefix: String,
}

/// Longest time a setting may name, in seconds: ten years.
const SECONDS_MAX: f64 = 315_360_000.0;

impl Config {
    /// Settings with a master key and customers, everything optional at its default: `/internal` is on a loopback
    /// listener of its own.
    pub fn new(master_key: MasterKey, customers: CustomerSource) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7000)),
            tls: None,
            internal: Internal {
                listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7001))),
                ..Internal::default()
            },
            master_key,
            customers,
            allow_published_keys: false,
            unknown_customers: UnknownCustomers::Forbidden,
            pools: None,
            timing: Timing::default(),
            metrics_server: "127.0.0.1/32".to_owned(),
            token_leeway: Duration::from_secs(300),
            room_match: RoomMatch::Exact,
            limit: Limits::default(),
            redis: None,
        }
    }

    /// Reads the file, and the variables `BIFROST_GATEWAY_MASTER_KEY` and `BIFROST_GATEWAY_REDIS_URL`.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that is missing, malformed or given twice.
    pub fn load(
        path: Option<&Path>,
        variables: HashMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let settings = Settings::read(path, variables)?;
        let file: file::File = settings.parse()?;
        let master_key = master_key(&settings, &file)?;
        let unknown = unknown_customers(&settings, file.unknown_customers.as_ref())?;
        let customers = customer_source(&settings, &file)?;

        let mut config = Self::new(master_key, customers);
        config.listen = file.listen.unwrap_or(config.listen);
        config.allow_published_keys = file.allow_published_keys;
        config.unknown_customers = unknown;
        config.room_match = file.room_match;
        let time = |key: &str, value: Option<f64>, default: Duration| match value {
            None => Ok(default),
            Some(value) => seconds(&settings, key, value),
        };
        config.token_leeway = match file.token_leeway {
            Some(0.0) => Duration::ZERO,
            value => time("token_leeway", value, config.token_leeway)?,
        };
        config.timing = timing(&settings, &file)?;
        if let Some(subnet) = &file.sfu.metrics_server {
            let is_subnet = subnet.parse::<IpNet>().is_ok();
            let problem = "it must be a subnet, like 10.0.0.0/8";
            config.metrics_server = is_subnet
                .then(|| subnet.clone())
                .ok_or_else(|| settings.error("sfu.metrics_server", problem))?;
        }
        config.pools = file.pools.map(|it| pools(&settings, it)).transpose()?;
        config.internal = internal(
            &settings,
            file.internal,
            file.allow_unauthenticated_internal,
        )?;
        config.tls = file.tls;
        file.limit.check(&settings)?;
        config.limit = file.limit;
        config.redis = redis(&settings, file.store)?;
        config.check_customers()?;
        Ok(config)
    }

    fn check_customers(&self) -> Result<(), SettingsError> {
        if let CustomerSource::Static(customers) = &self.customers
            && customers.iter().all(|it| it.access_keys.is_empty())
            && self.unknown_customers == UnknownCustomers::Forbidden
        {
            let text = "no tokens would be taken: set [[customers]] with access_keys, [customer_api], or unknown_customers";
            return Err(SettingsError::Whole(text.to_owned()));
        }
        Ok(())
    }
}

fn master_key(settings: &Settings, file: &file::File) -> Result<MasterKey, SettingsError> {
    const VARIABLE: &str = "BIFROST_GATEWAY_MASTER_KEY";
    let secret = settings.secret(
        VARIABLE,
        ("master_key_file", file.master_key_file.as_deref()),
        ("master_key", file.master_key.clone()),
    )?;
    let Some(secret) = secret else {
        let problem = "is not set, nor master_key_file in the settings: servers' keys are derived from it; \
                       `openssl rand -base64 32` makes one";
        return Err(SettingsError::variable(VARIABLE, problem));
    };
    secret
        .expose()
        .parse()
        .map_err(|error: gateway_api::MasterKeyError| {
            let key = match (&file.master_key_file, &file.master_key) {
                (Some(_), _) => "master_key_file",
                (None, Some(_)) => "master_key",
                (None, None) => {
                    return SettingsError::variable(VARIABLE, format!("is refused: {error}"));
                }
            };
            settings.error(key, error.to_string())
        })
}

fn seconds(settings: &Settings, key: &str, value: f64) -> Result<Duration, SettingsError> {
    // Below a millisecond nothing here can be told apart.
    if (0.001..=SECONDS_MAX).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    let problem = "it must be seconds, more than 0 and at most 315360000 (ten years)";
    Err(settings.error(key, problem))
}

fn timing(settings: &Settings, file: &file::File) -> Result<Timing, SettingsError> {
    let default = Timing::default();
    let time = |key: &str, value: Option<f64>, default| match value {
        None => Ok(default),
        Some(value) => seconds(settings, key, value),
    };
    let sfu = &file.sfu;
    let timing = Timing {
        update_interval: time(
            "sfu.update_interval",
            sfu.update_interval,
            default.update_interval,
        )?,
        disable_timeout: time(
            "sfu.disable_timeout",
            sfu.disable_timeout,
            default.disable_timeout,
        )?,
        remove_timeout: time(
            "sfu.remove_timeout",
            sfu.remove_timeout,
            default.remove_timeout,
        )?,
        token_lifetime: time(
            "token_lifetime",
            file.token_lifetime,
            default.token_lifetime,
        )?,
    };
    if timing.disable_timeout <= timing.update_interval {
        let problem = "it must be longer than sfu.update_interval, or every server is put aside";
        return Err(settings.error("sfu.disable_timeout", problem));
    }
    if timing.remove_timeout < timing.disable_timeout {
        let problem = "it must not be shorter than sfu.disable_timeout";
        return Err(settings.error("sfu.remove_timeout", problem));
    }
    if timing.token_lifetime.subsec_nanos() != 0 {
        return Err(settings.error("token_lifetime", "it must be whole seconds"));
    }
    Ok(timing)
}

fn unknown_customers(
    settings: &Settings,
    value: Option<&toml::Value>,
) -> Result<UnknownCustomers, SettingsError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Allowed {
        max_peers: Option<u64>,
        max_rooms: Option<u64>,
    }
    let problem =
        "it must be \"forbidden\", \"unlimited\", or a table with max_peers and max_rooms";
    match value {
        None => Ok(UnknownCustomers::Forbidden),
        Some(toml::Value::String(word)) if word == "forbidden" => Ok(UnknownCustomers::Forbidden),
        Some(toml::Value::String(word)) if word == "unlimited" => Ok(UnknownCustomers::Unlimited),
        Some(toml::Value::Table(table)) => {
            let allowed = Allowed::deserialize(table.clone())
                .map_err(|_| settings.error("unknown_customers", problem))?;
            Ok(UnknownCustomers::Limited(UsageLimits {
                peers: allowed.max_peers,
                rooms: allowed.max_rooms,
            }))
        }
        Some(_) => Err(settings.error("unknown_customers", problem)),
    }
}

fn internal(
    settings: &Settings,
    file: file::Internal,
    allow_unauthenticated: bool,
) -> Result<Internal, SettingsError> {
    let mut users = Vec::with_capacity(file.users.len());
    for (at, user) in file.users.into_iter().enumerate() {
        let section = format!("internal.users[{at}]");
        let password = settings.named_secret(
            &section,
            user.password_env.as_deref(),
            ("password_file", user.password_file.as_deref()),
        )?;
        let password = password
            .filter(|it| !it.expose().is_empty())
            .ok_or_else(|| {
                settings.error(
                    &section,
                    "it needs a password, by password_env or password_file",
                )
            })?;
        if user.name.is_empty() || user.name.contains(':') {
            let key = format!("{section}.name");
            return Err(settings.error(&key, "it must not be empty nor hold a colon"));
        }
        users.push(InternalUser {
            name: user.name,
            password,
        });
    }
    let is_private = file.listen.is_some_and(|listen| listen.ip().is_loopback());
    if users.is_empty() && !is_private && !allow_unauthenticated {
        let problem = "/internal hands out the private keys of voice servers: give it [[internal.users]], or a \
                       loopback listener of its own by internal.listen, or set allow_unauthenticated_internal = true";
        return Err(settings.error("internal", problem));
    }
    Ok(Internal {
        listen: file.listen,
        users,
        allow_unauthenticated,
    })
}

fn pools(settings: &Settings, pools: Pools) -> Result<Pools, SettingsError> {
    /// Most pools: each is a set of paths and of metrics.
    const POOLS_MAX: usize = 100;
    let is_name = |name: &String| {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=32).contains(&name.len()) && name.bytes().all(is_plain) && name != "internal"
    };
    if pools.available.len() > POOLS_MAX || !pools.available.iter().all(is_name) {
        let problem = "at most 100 names of 1 to 32 of a-z, 0-9 and -, not \"internal\"";
        return Err(settings.error("pools.available", problem));
    }
    let names: BTreeSet<_> = pools.available.iter().collect();
    if names.len() < pools.available.len() {
        return Err(settings.error("pools.available", "a name is given twice"));
    }
    if !names.contains(&pools.default) {
        return Err(settings.error("pools.default", "it must be one of pools.available"));
    }
    Ok(pools)
}

fn redis(settings: &Settings, file: file::Store) -> Result<Option<RedisConfig>, SettingsError> {
    let prefix = file.prefix.unwrap_or_else(|| "bifrost-gateway".to_owned());
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"{}".contains(&byte);
    if prefix.is_empty() || !prefix.bytes().all(is_plain) {
        let problem = "it must be visible ASCII characters without braces";
        return Err(settings.error("store.prefix", problem));
    }
    let url = settings.secret(
        "BIFROST_GATEWAY_REDIS_URL",
        ("store.redis_file", file.redis_file.as_deref()),
        ("store.redis", file.redis),
    )?;
    let Some(url) = url else {
        return Ok(None);
    };
    if redis::Client::open(url.expose()).is_err() {
        let problem =
            "it must be an address like redis://host:6379/0 or rediss://user:password@host";
        return Err(settings.error("store.redis", problem));
    }
    Ok(Some(RedisConfig { url, prefix }))
}

#[cfg(test)]
mod tests;
