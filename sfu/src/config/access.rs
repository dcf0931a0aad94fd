//! `[supervisor]`, `[authorization]` and `[telemetry]`: who is above this server, and whose tokens it takes.

use std::collections::BTreeMap;

use gateway_api::{Jwk, JwkError, KeyId, is_published};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use service::{Secret, Settings, SettingsError};

use super::{
    Authorization, Supervisor, Telemetry, TelemetryField, file,
    section::{DAY_MS, Section, YEAR_MS},
};

/// The supervisor's URL, so that its password need not stand in a file.
pub(super) const SUPERVISOR_VARIABLE: &str = "BIFROST_SFU_SUPERVISOR_URL";

/// Most keys: every token's key is looked for among them.
const KEYS_MAX: usize = 1000;

/// Most failures in a row that a telemetry server is forgiven, where there is a limit at all.
const FAILURES_MAX: u64 = 1_000_000;

/// Largest number that TOML has.
const VERSION_MAX: u64 = i64::MAX as u64;

pub(super) fn supervisor(
    settings: &Settings,
    file: Option<file::Supervisor>,
) -> Result<Option<Supervisor>, SettingsError> {
    let section = Section::new(settings, "supervisor");
    let variable = settings.variable(SUPERVISOR_VARIABLE);
    if file.is_none() && variable.is_none() {
        return Ok(None);
    }
    let file = file.unwrap_or_default();
    let mut supervisor = match (file.url.as_deref(), variable) {
        (Some(_), Some(_)) => {
            let problem = format!("{SUPERVISOR_VARIABLE} is set as well: keep one");
            return Err(section.error("url", problem));
        }
        (None, None) => {
            let problem = format!("it is missing, and so is the variable {SUPERVISOR_VARIABLE}");
            return Err(section.error("url", problem));
        }
        (Some(url), None) => split(url).map_err(|problem| section.error("url", problem))?,
        (None, Some(url)) => {
            split(url).map_err(|problem| SettingsError::variable(SUPERVISOR_VARIABLE, problem))?
        }
    };
    supervisor.report_interval = section.time(
        "report_interval",
        file.report_interval,
        supervisor.report_interval,
        1..=DAY_MS,
    )?;
    supervisor.no_warmup = file.no_warmup.unwrap_or(supervisor.no_warmup);
    supervisor.version = section.optional("version", file.version, 0..=VERSION_MAX)?;
    supervisor.shutdown_after =
        section.optional_time("shutdown_after", file.shutdown_after, 1..=YEAR_MS)?;
    let end = supervisor.shutdown_after;
    if end.is_some_and(|end| end <= supervisor.report_interval) {
        let problem =
            "it must be longer than report_interval, or the server ends before the first answer";
        return Err(section.error("shutdown_after", problem));
    }
    Ok(Some(supervisor))
}

/// Takes user and password out of a URL. No problem quotes the text.
fn split(text: &str) -> Result<Supervisor, &'static str> {
    const USER: &str = "user and password in it must be UTF-8, and the user without a colon";
    let mut url = http_url(text)?;
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| USER)
    };
    let user = decode(url.username())?;
    let password = url.password().map(decode).transpose()?;
    // Basic authentication ends the user at the first colon.
    if user.contains(':') {
        return Err(USER);
    }
    let credentials = match (user.is_empty(), password) {
        (true, None) => None,
        (_, password) => Some((user, Secret::from(password.unwrap_or_default()))),
    };
    let cleared = url
        .set_username("")
        .and_then(|()| url.set_password(None))
        .is_ok();
    if !cleared {
        return Err("user and password cannot be taken out of it");
    }
    Ok(Supervisor {
        credentials,
        ..Supervisor::new(url.into())
    })
}

pub(super) fn http_url(text: &str) -> Result<Url, &'static str> {
    const FORM: &str =
        "it must be an http:// or https:// address, like \"http://gateway:7000/internal\"";
    let url = Url::parse(text).map_err(|_| FORM)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(FORM);
    }
    // They could hold a secret that logs would then show.
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must not have a query or a fragment");
    }
    Ok(url)
}

pub(super) fn authorization(
    settings: &Settings,
    file: file::Authorization,
) -> Result<Authorization, SettingsError> {
    let section = Section::new(settings, "authorization");
    let mut authorization = Authorization {
        allow_unsigned: file.allow_unsigned,
        allow_published_keys: file.allow_published_keys,
        ..Authorization::default()
    };
    authorization.leeway = section.time("leeway", file.leeway, authorization.leeway, 0..=DAY_MS)?;
    if file.keys.len() > KEYS_MAX {
        return Err(section.error("keys", format!("at most {KEYS_MAX} keys")));
    }
    let mut places: BTreeMap<KeyId, usize> = BTreeMap::new();
    for (at, key) in file.keys.into_iter().enumerate() {
        let place = |field: &str| format!("keys[{at}].{field}");
        let jwk = Jwk {
            kid: key.kid.into(),
            kty: key.kty,
            crv: key.crv,
            x: key.x,
            d: key.d,
        };
        let public = jwk.public().and_then(|public| {
            // The private half may be left out, but must not be another key's.
            jwk.key_pair().map(|_| public)
        });
        let public =
            public.map_err(|error| section.error(&place(field_of(error)), error.to_string()))?;
        if is_published(&public) && !authorization.allow_published_keys {
            let problem = "everybody knows the private half of this key: `bifrost access-key new` makes a new one";
            return Err(section.error(&place("x"), problem));
        }
        let Some(&known) = places.get(&jwk.kid) else {
            places.insert(jwk.kid.clone(), authorization.keys.len());
            authorization.keys.push(jwk);
            continue;
        };
        // Settings that a gateway has already merged hold the key that it appends again.
        let known = &mut authorization.keys[known];
        if known.x != jwk.x {
            let problem = "another key has this key id";
            return Err(section.error(&place("kid"), problem));
        }
        if known.d.is_none() {
            known.d = jwk.d;
        }
    }
    Ok(authorization)
}

/// The field of a JWK that an error is about.
fn field_of(error: JwkError) -> &'static str {
    match error {
        JwkError::Kty => "kty",
        JwkError::Crv => "crv",
        JwkError::X => "x",
        JwkError::D | JwkError::Mismatch => "d",
    }
}

pub(super) fn telemetry(
    settings: &Settings,
    file: Option<file::Telemetry>,
) -> Result<Option<Telemetry>, SettingsError> {
    let Some(file) = file else {
        return Ok(None);
    };
    let section = Section::new(settings, "telemetry");
    let Some(address) = file.address else {
        return Err(section.error("address", "it is missing: where are reports posted?"));
    };
    let url = http_url(&address).map_err(|problem| section.error("address", problem))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(section.error("address", "it must not hold a user or a password"));
    }
    let mut telemetry = Telemetry::new(address);
    telemetry.interval = section.time("interval", file.interval, telemetry.interval, 1..=DAY_MS)?;
    telemetry.max_consecutive_failures = section.optional(
        "max_consecutive_failures",
        file.max_consecutive_failures,
        1..=FAILURES_MAX,
    )?;
    if let Some(names) = file.data {
        let of = |name: &String| TelemetryField::ALL.into_iter().find(|it| it.name() == name);
        let fields: Option<Vec<_>> = names.iter().map(of).collect();
        let Some(fields) = fields else {
            let known = TelemetryField::ALL.map(TelemetryField::name).join(", ");
            return Err(section.error("data", format!("it may hold {known}")));
        };
        telemetry.data = fields;
    }
    Ok(Some(telemetry))
}
