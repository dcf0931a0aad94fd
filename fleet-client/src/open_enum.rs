//! Enumerations of the Fleet API that keep a value they do not know. The API adds values between versions, and
//! one new value must not make a whole answer unreadable.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $wire:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(#[doc = concat!("`", $wire, "`")] $variant,)+
            /// A value that this version of the client does not know, as it came.
            Unknown(String),
        }

        impl $name {
            /// The value as it stands on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $wire,)+
                    Self::Unknown(value) => value,
                }
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                match value {
                    $($wire => Self::$variant,)+
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl FromStr for $name {
            type Err = Infallible;

            fn from_str(value: &str) -> Result<Self, Infallible> {
                Ok(Self::from(value))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Borrowed where the input allows: most values are known and need no allocation.
                let value = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Ok(Self::from(value.as_ref()))
            }
        }
    };
}

open_enum! { /// How an app is paid for. `indie` came with 0.9.2.
AppBillingState { Free = "free", Active = "active", Cancelled = "cancelled", Indie = "indie" } }
open_enum! { /// What a location setting is doing.
AppLocationSettingStatus {
    Pending = "pending", Creating = "creating", Updating = "updating", Deleting = "deleting",
    Upscaling = "upscaling", Downscaling = "downscaling", Error = "error", Ready = "ready",
    Waiting = "waiting", Moving = "moving", Cloning = "cloning",
} }
open_enum! { /// What an app is doing (0.9.2).
AppStatus { Ready = "ready", Updating = "updating", Deleting = "deleting", Error = "error", Waiting = "waiting" } }
open_enum! { /// Processor of a node.
Architecture { X86_64 = "x86_64" } }
open_enum! { /// What a binary is doing.
BinaryStatus {
    Pending = "pending", Building = "building", Deleting = "deleting", Updating = "updating",
    Waiting = "waiting", Error = "error", Ready = "ready",
} }
open_enum! { /// Where a binary comes from.
BinaryType { DockerImage = "dockerImage", Steam = "steam" } }
open_enum! { /// Kind of a container registry.
DockerRegistryType {
    Default = "default", Gitlab = "gitlab", Github = "github", Custom = "custom", Dockerhub = "dockerhub",
    Azure = "azure", Awsecr = "awsecr", Other = "other",
} }
open_enum! { /// What fills an environment variable.
EnvironmentVariableType { Static = "static", System = "system", Port = "port" } }
open_enum! { /// Operating system of a node or a binary.
OperatingSystem { Windows = "windows", Linux = "linux" } }
open_enum! { /// Transport protocol of a port.
Protocol { Tcp = "tcp", Udp = "udp" } }
open_enum! { /// Whether a resource package shares its cores.
ResourcePackageType { Shared = "shared", Dedicated = "dedicated" } }
open_enum! { /// When a service is restarted by itself.
RestartPolicyCondition { None = "none", Any = "any", OnFailure = "on-failure" } }
open_enum! { /// What a server config is doing.
ServerConfigStatus {
    Pending = "pending", Creating = "creating", Updating = "updating", Deleting = "deleting",
    Waiting = "waiting", Error = "error", Ready = "ready",
} }
open_enum! { /// Where a service stands in its allocation cycle (0.9.5).
ServiceAutoscalingStatus {
    Preparing = "preparing", Ready = "ready", Allocated = "allocated", Shutdown = "shutdown", Unhealthy = "unhealthy",
} }
open_enum! { /// Steam runtime a binary is built for.
SteamRuntime { Scout = "scout", Soldier = "soldier", Sniper = "sniper" } }

#[cfg(test)]
mod tests {
    use super::Protocol;

    #[test]
    fn an_unknown_value_survives_a_round_trip() {
        let read: Protocol = serde_json::from_str("\"sctp\"").unwrap();
        assert_eq!(read, Protocol::Unknown("sctp".to_owned()));
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"sctp\"");
    }

    #[test]
    fn a_known_value_is_its_variant_even_when_escaped() {
        let read: Protocol = serde_json::from_str("\"\\u0075dp\"").unwrap();
        assert_eq!(read, Protocol::Udp);
    }

    #[test]
    fn a_number_is_refused() {
        assert!(serde_json::from_str::<Protocol>("7").is_err());
    }
}
