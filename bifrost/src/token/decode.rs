//! Showing what a token says.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{TokenSource, parts::Parts, seconds};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    token: TokenSource,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Gives header and claims.
pub(super) fn run(options: &Options, now: Duration) -> Result<String, Failure> {
    let token = options.token.read()?;
    let parts = Parts::of(&token).map_err(|error| Failure::Input(error.to_string()))?;
    if options.json {
        let json = json!({
            "checked": false,
            "header": parts.header.object,
            "claims": parts.claims.object,
        });
        return Ok(format!("{json}\n"));
    }
    let (header, claims) = (&parts.header.text, &parts.claims.text);
    let validity = parts.validity(seconds(now));
    Ok(format!(
        "header  {header}\nclaims  {claims}\ntime    {validity}\n\
         not checked: anybody can write this; `bifrost token verify` checks it\n"
    ))
}
