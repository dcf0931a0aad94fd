//! Client of the ODIN Fleet API, generated from `openapi/odin-fleet.json`.
//!
//! [`Builder`] makes a [`Client`] whose operations retry what may be retried, never outlive their deadline and
//! answer with a typed [`Error`]. A call that is dropped half-way leaves nothing behind.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fleet_client::{Builder, Error, Token};
//!
//! let client = Builder::new()
//!     .token(Token::from_env("ODIN_API_TOKEN")?)
//!     .build()?;
//! let idle = client
//!     .get_servers()
//!     .app(1)
//!     .filter_metadata(r#"instance_state="idle""#)
//!     .send()
//!     .await
//!     .map_err(Error::from)?;
//! for server in &idle.data {
//!     println!("{} in {}", server.name, server.location.city_display);
//! }
//! # Ok(())
//! # }
//! ```

mod builder;
mod error;
mod generated;
mod maps;
mod open_enum;
mod paging;
mod retry;
mod token;
mod transport;

pub use builder::{BuildError, Builder, DEFAULT_BASE_URL};
pub use error::{Error, Refusal};
pub use generated::{Client, ResponseValue, builder as operations, types};
pub use maps::{EnvironmentVariables, Metadata};
pub use open_enum::{
    AppBillingState, AppLocationSettingStatus, AppStatus, Architecture, BinaryStatus, BinaryType,
    DockerRegistryType, EnvironmentVariableType, OperatingSystem, Protocol, ResourcePackageType,
    RestartPolicyCondition, ServerConfigStatus, ServiceAutoscalingStatus, SteamRuntime,
};
pub use paging::{PAGES_MAX, Page, walk};
pub use retry::RetryPolicy;
pub use token::{Token, TokenError};
pub use transport::{Attempt, Outcome, RESPONSE_BYTES_MAX};
