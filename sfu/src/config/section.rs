//! A section of the settings: numbers and addresses in it are checked, and a mistake is told with its place.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use service::{Settings, SettingsError};

use super::file::Whole;

/// A day in milliseconds: the longest of most times, beyond which a digit too many is more likely than a wish.
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A year in milliseconds: the longest of times that are about operation.
pub(super) const YEAR_MS: u64 = 365 * DAY_MS;

/// Longest name in DNS, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// A section, to check what is in it.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    settings: &'a Settings,
    /// With the sections around it; empty is the top of the file.
    name: &'static str,
}

impl<'a> Section<'a> {
    pub(super) fn new(settings: &'a Settings, name: &'static str) -> Self {
        Self { settings, name }
    }

    /// A mistake at a key of the section.
    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        match self.name {
            "" => self.settings.error(key, problem),
            name => self.settings.error(&format!("{name}.{key}"), problem),
        }
    }

    /// A number within a range, or else what was there before.
    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        key: &str,
        value: Option<Whole>,
        default: T,
        range: RangeInclusive<u64>,
    ) -> Result<T, SettingsError> {
        Ok(self.optional(key, value, range)?.unwrap_or(default))
    }

    /// A number within a range, or none.
    pub(super) fn optional<T: TryFrom<u64>>(
        &self,
        key: &str,
        value: Option<Whole>,
        range: RangeInclusive<u64>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(Whole(value)) = value else {
            return Ok(None);
        };
        let fitting = T::try_from(value).ok();
        match fitting.filter(|_| range.contains(&value)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (min, max) = range.into_inner();
                Err(self.error(key, format!("it must be from {min} to {max}")))
            }
        }
    }

    /// Milliseconds within a range, or else what was there before.
    pub(super) fn time(
        &self,
        key: &str,
        value: Option<Whole>,
        default: Duration,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, SettingsError> {
        Ok(self.optional_time(key, value, range)?.unwrap_or(default))
    }

    /// Milliseconds within a range, or none.
    pub(super) fn optional_time(
        &self,
        key: &str,
        value: Option<Whole>,
        range: RangeInclusive<u64>,
    ) -> Result<Option<Duration>, SettingsError> {
        let Some(Whole(value)) = value else {
            return Ok(None);
        };
        if range.contains(&value) {
            return Ok(Some(Duration::from_millis(value)));
        }
        let (min, max) = range.into_inner();
        Err(self.error(
            key,
            format!("it must be from {min} to {max} (milliseconds)"),
        ))
    }

    /// A socket to listen on, or else what was there before.
    pub(super) fn binding(
        &self,
        key: &str,
        value: Option<&str>,
        default: SocketAddr,
    ) -> Result<SocketAddr, SettingsError> {
        let Some(text) = value else {
            return Ok(default);
        };
        text.parse().map_err(|_| {
            let problem = match text.trim_start_matches(':').parse::<u16>() {
                Ok(port) => format!("it needs an address before the port: \"0.0.0.0:{port}\""),
                Err(_) => {
                    "it must be an IP address and a port, like \"0.0.0.0:4433\" or \"[::]:4433\""
                        .to_owned()
                }
            };
            self.error(key, problem)
        })
    }

    /// An address that clients are told: `host:port`.
    pub(super) fn public_address(
        &self,
        key: &str,
        value: Option<String>,
    ) -> Result<Option<String>, SettingsError> {
        let Some(address) = value else {
            return Ok(None);
        };
        match public_address_problem(&address) {
            None => Ok(Some(address)),
            Some(problem) => Err(self.error(key, problem)),
        }
    }
}

fn public_address_problem(address: &str) -> Option<&'static str> {
    const FORM: &str = "it must be a host and a port, like \"voice.example.com:4433\"";
    const BRACKETS: &str = "an IPv6 address stands in brackets before its port: \"[::1]:4433\"";
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if is_ipv6(address) {
        return Some(BRACKETS);
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return Some(FORM);
    };
    if is_ipv6(host) {
        return Some(BRACKETS);
    }
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0) && !port.starts_with('+');
    let in_brackets = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_host = in_brackets.map_or_else(|| is_name(host), is_ipv6);
    if !is_port || !is_host {
        return Some(FORM);
    }
    let ip = in_brackets.unwrap_or(host).parse::<IpAddr>();
    ip.is_ok_and(|ip| ip.is_unspecified())
        .then_some("clients cannot reach this address: it stands for all of this machine")
}

/// Whether it can be a name in DNS or an IPv4 address.
fn is_name(host: &str) -> bool {
    let is_part = |part: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !part.is_empty() && part.bytes().all(is_plain)
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_a_host_and_a_port() {
        for address in [
            "localhost:4433",
            "voice-1.example.com:1",
            "203.0.113.7:65535",
            "[2001:db8::1]:4433",
            "sfu_1:4433",
        ] {
            assert_eq!(public_address_problem(address), None, "{address}");
        }
        for address in [
            "",
            ":",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:+1",
            "localhost:65536",
            ":4433",
            "a..b:1",
            "https://localhost:4433",
            "localhost:4433/main",
            "[localhost]:4433",
            "[::1]",
            "[]:1",
            "::1",
            "::1:4433",
            "2001:db8::1:4433",
            "0.0.0.0:4433",
            "[::]:4433",
        ] {
            assert!(public_address_problem(address).is_some(), "{address}");
        }
    }
}
