//! The small words of the interface that state, world file and wire share: enumerations and
//! definitions whose JSON form is the same in every version of the API.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// The word as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads a word; `None` for any other text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// Transport of a port.
    Protocol {
        /// A TCP port.
        Tcp = "tcp",
        /// A UDP port.
        Udp = "udp",
    }
}
words! {
    /// Operating system of a node or a binary.
    OperatingSystem {
        /// Windows.
        Windows = "windows",
        /// Linux.
        Linux = "linux",
    }
}
words! {
    /// How a binary is built.
    BinaryType {
        /// From an image in a docker registry.
        DockerImage = "dockerImage",
        /// From a Steam app.
        Steam = "steam",
    }
}
words! {
    /// The Steam runtime a server depends on.
    SteamRuntime {
        /// The first runtime.
        Scout = "scout",
        /// The second runtime.
        Soldier = "soldier",
        /// The third runtime.
        Sniper = "sniper",
    }
}
words! {
    /// When a container is started again by itself.
    RestartCondition {
        /// Never.
        Never = "none",
        /// Always.
        Any = "any",
        /// After a failure.
        OnFailure = "on-failure",
    }
}
words! {
    /// Whether the resources of a package are shared.
    PackageType {
        /// Shared with others.
        Shared = "shared",
        /// Reserved.
        Dedicated = "dedicated",
    }
}
words! {
    /// The kind of a docker registry.
    RegistryType {
        /// The platform's own.
        Default = "default",
        /// GitLab.
        Gitlab = "gitlab",
        /// GitHub.
        Github = "github",
        /// Any registry by its address.
        Custom = "custom",
        /// Docker Hub.
        Dockerhub = "dockerhub",
        /// Azure.
        Azure = "azure",
        /// AWS ECR.
        Awsecr = "awsecr",
        /// Anything else.
        Other = "other",
    }
}
words! {
    /// How an environment variable gets its value.
    VariableType {
        /// From the definition.
        Static = "static",
        /// From the platform.
        System = "system",
        /// From a published port.
        Port = "port",
    }
}

/// A port that a server config exposes; one published port per protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), deny_unknown_fields)]
pub struct PortDefinition {
    /// Name by which variables refer to it.
    pub name: String,
    /// Transports to publish.
    pub protocols: Vec<Protocol>,
    /// Port inside the container.
    pub target_port: u16,
}

/// An environment variable of a server config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableDefinition {
    /// Where the value comes from.
    #[serde(rename = "type")]
    pub kind: VariableType,
    /// Name in the container.
    pub key: String,
    /// Value of a static variable; a system variable may be named here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Name of the port or of the system variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
}

/// A directory that outlives the container; a service with one can be backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), deny_unknown_fields)]
pub struct Mount {
    /// Path in the container.
    pub target: String,
    /// Whether the container may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// A file placed into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFile {
    /// Path in the container.
    pub target: String,
    /// What the file holds.
    pub content: String,
}

/// Which versions of the API the simulator can speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiVersion {
    /// 0.9.0: limits as text, metadata filters by equality only.
    #[default]
    V0_9_0,
    /// 0.9.2: limits as numbers, array filters, `page` in page links.
    V0_9_2,
    /// 0.9.5: also autoscaling.
    V0_9_5,
}

impl std::str::FromStr for ApiVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0.9.0" => Ok(Self::V0_9_0),
            "0.9.2" => Ok(Self::V0_9_2),
            "0.9.5" => Ok(Self::V0_9_5),
            other => Err(format!("{other:?} is not one of 0.9.0, 0.9.2, 0.9.5")),
        }
    }
}
