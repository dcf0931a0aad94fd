//! The settings a server runs with: its own, and below a gateway what that recommends.

use std::{collections::HashMap, path::Path};

use crate::{config::Config, server::ServerError, supervisor::Supervisor};

/// The settings of `text`; with a `[supervisor]`, together with what the gateway recommends and its key. Waits for the
/// gateway until it answers.
///
/// # Errors
/// [`ServerError`] when the settings are wrong, or the gateway refuses this server.
pub async fn settle(
    name: &Path,
    text: &str,
    variables: HashMap<String, String>,
) -> Result<Config, ServerError> {
    let own = Config::parse(name, text, variables.clone())?;
    let Some(supervisor) = own.supervisor else {
        return Ok(own);
    };
    let supervisor = Supervisor::new(supervisor, own.public_address)?;
    let merged = supervisor.settings(text).await?;
    let name = format!("{} with the gateway's recommendation", name.display());
    Ok(Config::parse(Path::new(&name), &merged, variables)?)
}
