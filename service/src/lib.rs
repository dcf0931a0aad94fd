//! What every program does alike: settings files, secrets, logs, and how it ends.

mod command;
mod secret;
mod settings;

pub use command::{EXIT_BAD_CONFIG, LogFormat, arguments, ended, start_log};
pub use secret::Secret;
pub use settings::{Settings, SettingsError, variables};
