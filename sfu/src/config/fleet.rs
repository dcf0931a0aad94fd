//! `[fleet]`: the service on ODIN Fleet that this server is.

use std::net::IpAddr;

use fleet_client::Token;
use service::{Settings, SettingsError};

use super::{
    Config, Fleet,
    access::http_url,
    file::{self, Whole},
    section::{DAY_MS, Section},
};

/// Variables of which the Fleet sets those that a config of it names.
const TOKEN_VARIABLE: &str = "ODIN_API_TOKEN";
const APP_VARIABLE: &str = "ODIN_APP_ID";
const SERVICE_VARIABLE: &str = "ODIN_SERVICE_ID";
const ADDRESS_VARIABLE: &str = "PUBLIC_IP";

/// Largest id: the API's numbers are signed.
const ID_MAX: u64 = i64::MAX as u64;

/// Shortest time between two reports, in milliseconds: each is a write of the Fleet's database.
const REPORT_MS_MIN: u64 = 100;

/// Longest time between two reports, in milliseconds: what is in the metadata is to say how a server does now.
const REPORT_MS_MAX: u64 = 60 * 60 * 1000;

/// Longest name of a port, in bytes.
const PORT_NAME_BYTES_MAX: usize = 255;

pub(super) fn fleet(
    settings: &Settings,
    file: Option<file::Fleet>,
) -> Result<Option<Fleet>, SettingsError> {
    let Some(file) = file else {
        return Ok(None);
    };
    let section = Section::new(settings, "fleet");
    let ids = Ids { settings, section };
    let Some(app_id) = ids.read("app_id", file.app_id, APP_VARIABLE)? else {
        return Err(section.error("app_id", missing(APP_VARIABLE)));
    };
    let mut fleet = Fleet::new(app_id, token(settings, &section, &file)?);
    fleet.service_id = ids.read("service_id", file.service_id, SERVICE_VARIABLE)?;
    fleet.address = address(settings, &section, file.address.as_deref())?;
    if let Some(url) = file.api_url {
        let parsed = http_url(&url).map_err(|problem| section.error("api_url", problem))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(section.error("api_url", "it must not hold a user or a password"));
        }
        fleet.api_url = url;
    }
    for (key, value, name) in [
        (
            "http_port_name",
            file.http_port_name,
            &mut fleet.http_port_name,
        ),
        (
            "webrtc_port_name",
            file.webrtc_port_name,
            &mut fleet.webrtc_port_name,
        ),
    ] {
        *name = value.unwrap_or_else(|| name.clone());
        if name.is_empty() || name.len() > PORT_NAME_BYTES_MAX {
            let problem = format!("it must have from 1 to {PORT_NAME_BYTES_MAX} bytes");
            return Err(section.error(key, problem));
        }
    }
    fleet.report_interval = section.time(
        "report_interval",
        file.report_interval,
        fleet.report_interval,
        REPORT_MS_MIN..=REPORT_MS_MAX,
    )?;
    let (key, value) = ("start_timeout", file.start_timeout);
    fleet.start_timeout = section.time(key, value, fleet.start_timeout, 1..=DAY_MS)?;
    Ok(Some(fleet))
}

/// What the section needs of others: a service is found by the ports that this server listens on.
///
/// # Errors
/// [`SettingsError::Key`].
pub(super) fn check(settings: &Settings, config: &Config) -> Result<(), SettingsError> {
    let Some(fleet) = &config.fleet else {
        return Ok(());
    };
    let Some(http) = &config.http else {
        let problem = "[http] is missing: on the Fleet this server serves web clients";
        return Err(settings.error("fleet", problem));
    };
    for (key, binding) in [
        ("binding", http.binding),
        ("webrtc_binding", http.webrtc_binding),
    ] {
        if fleet.service_id.is_none() && binding.port() == 0 {
            let problem = "it needs a fixed port, by which the service on the Fleet is found; or set fleet.service_id";
            return Err(Section::new(settings, "http").error(key, problem));
        }
    }
    Ok(())
}

fn missing(variable: &str) -> String {
    format!("it is missing, and so is the variable {variable}")
}

fn twice(variable: &str) -> String {
    format!("{variable} is set as well: keep one")
}

/// Ids that stand in the file or in a variable.
struct Ids<'a> {
    settings: &'a Settings,
    section: Section<'a>,
}

impl Ids<'_> {
    fn read(
        &self,
        key: &str,
        value: Option<Whole>,
        variable: &str,
    ) -> Result<Option<i64>, SettingsError> {
        match (value, self.settings.variable(variable)) {
            (Some(_), Some(_)) => Err(self.section.error(key, twice(variable))),
            (value, None) => self.section.optional(key, value, 1..=ID_MAX),
            (None, Some(text)) => {
                let id = text.parse().ok().filter(|id: &i64| *id > 0);
                let problem = "must be an id of the Fleet: a whole number, 1 or more";
                let id = id.ok_or_else(|| SettingsError::variable(variable, problem));
                id.map(Some)
            }
        }
    }
}

fn token(
    settings: &Settings,
    section: &Section<'_>,
    file: &file::Fleet,
) -> Result<Token, SettingsError> {
    let named = ("fleet.token_file", file.token_file.as_deref());
    let Some(secret) = settings.secret(TOKEN_VARIABLE, named, ("fleet", None))? else {
        return Err(section.error("token_file", missing(TOKEN_VARIABLE)));
    };
    Token::new(secret.expose().trim()).map_err(|_| {
        let problem = "must hold a token of the Fleet: one line of visible ASCII characters";
        match file.token_file {
            Some(_) => section.error("token_file", format!("it {problem}")),
            None => SettingsError::variable(TOKEN_VARIABLE, problem),
        }
    })
}

fn address(
    settings: &Settings,
    section: &Section<'_>,
    text: Option<&str>,
) -> Result<Option<IpAddr>, SettingsError> {
    const PROBLEM: &str = "must be the IP address of the node, without a port";
    let read = |text: &str| {
        let address = text.trim().parse::<IpAddr>().ok();
        address.filter(|address| !address.is_unspecified())
    };
    match (text, settings.variable(ADDRESS_VARIABLE)) {
        (Some(_), Some(_)) => Err(section.error("address", twice(ADDRESS_VARIABLE))),
        (None, None) => Ok(None),
        (Some(text), None) => match read(text) {
            Some(address) => Ok(Some(address)),
            None => Err(section.error("address", format!("it {PROBLEM}"))),
        },
        (None, Some(text)) => match read(text) {
            Some(address) => Ok(Some(address)),
            None => Err(SettingsError::variable(ADDRESS_VARIABLE, PROBLEM)),
        },
    }
}
