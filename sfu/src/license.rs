//! `license.toml`: what a server may serve, for whom and until when, signed by whoever gives licences.
//!
//! ```toml
//! [license]
//! signature = "…"                    # standard Base64 of the 64 bytes of an Ed25519 signature (RFC 8032)
//! issuer = "4Players"                # text, as are licensee and serial_number
//! licensee = "622012345"
//! serial_number = "b0FBTWZ2Rj3O"
//! valid_until = 2027-01-01T00:00:00Z # a date, a time of whole seconds and an offset
//! max_clients = 25                   # whole numbers from 1 on, as are max_rooms and max_peers
//! max_rooms = 25
//! max_peers = 25
//! ```
//!
//! Everything but the signature may be left out. What is signed is not the text but these bytes, so that order, space
//! and comments are free: `bifrost license 1` and a zero byte, and then for each field, in the order above, one byte
//! that is 0 if the field is left out, or 1, followed by
//!
//! - for a text: its length in bytes, as 4 bytes with the highest first, and its UTF-8 bytes;
//! - for `valid_until`: seconds since 1970-01-01T00:00:00Z, as 8 bytes (two's complement) with the highest first;
//! - for a number: 8 bytes with the highest first.
//!
//! The beginning keeps these bytes apart from everything else that a key may sign: a token's begin with Base64.

use std::{collections::HashMap, fmt, ops::RangeInclusive, path::Path, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat};
use gateway_api::{JwkError, KeyPair, PublicKey};
use serde::{Deserialize, Serialize};
use service::{Settings, SettingsError};
use toml::value::Datetime;

/// What signed bytes begin with. The number counts the versions of this format.
const DOMAIN: &[u8] = b"bifrost license 1\0";

/// Longest text of a licence in bytes: names and numbers, not documents.
const TEXT_BYTES_MAX: usize = 1024;

/// Largest number that TOML has.
const COUNT_MAX: u64 = i64::MAX as u64;

/// From the begin of the year 1 to the end of 9999 in seconds since 1970, which every date format can say.
const YEARS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// What a licence says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Who gave it.
    pub issuer: Option<String>,
    /// Who has it.
    pub licensee: Option<String>,
    /// Its number.
    pub serial_number: Option<String>,
    /// The end of it; `None` never ends.
    pub valid_until: Option<ValidUntil>,
    /// How much it allows.
    pub limits: LicenseLimits,
}

/// How much a licence allows; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LicenseLimits {
    /// Clients at the same time.
    pub max_clients: Option<u64>,
    /// Rooms at the same time.
    pub max_rooms: Option<u64>,
    /// Peers at the same time.
    pub max_peers: Option<u64>,
}

/// The last second of a licence: a date, a time and an offset (RFC 3339), like `2027-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValidUntil(i64);

/// A text that is not the end of a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be a date, a time of whole seconds and an offset, like 2027-01-01T00:00:00Z")]
pub struct ValidUntilError;

impl ValidUntil {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix_seconds(self) -> i64 {
        self.0
    }
}

impl FromStr for ValidUntil {
    type Err = ValidUntilError;

    fn from_str(text: &str) -> Result<Self, ValidUntilError> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| ValidUntilError)?;
        let seconds = time.timestamp();
        match YEARS.contains(&seconds) && time.timestamp_subsec_nanos() == 0 {
            true => Ok(Self(seconds)),
            false => Err(ValidUntilError),
        }
    }
}

impl fmt::Display for ValidUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::from_timestamp(self.0, 0).expect("it was made of a date");
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// Why a licence is not taken.
#[derive(Debug, thiserror::Error)]
pub enum LicenseError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] SettingsError),
    /// Somebody else signed it, or it was changed.
    #[error("{name}: the signature is not the authority's, or the licence was changed")]
    Signature {
        /// The file.
        name: String,
    },
}

/// A licence whose signature is right. Whether it has ended is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct License {
    terms: Terms,
    signature: [u8; 64],
}

impl License {
    /// Reads a file and checks its signature.
    ///
    /// # Errors
    /// [`SettingsError`] when it cannot be read or the authority did not sign it.
    pub fn read(path: &Path, authority: &PublicKey) -> Result<Self, SettingsError> {
        let settings = Settings::read(Some(path), HashMap::new())?;
        let name = path.display().to_string();
        Self::of(&settings, &name, authority).map_err(|error| match error {
            LicenseError::Malformed(error) => error,
            LicenseError::Signature { .. } => SettingsError::Whole(error.to_string()),
        })
    }

    /// Checks the text of a licence; `name` stands for a file's in errors.
    ///
    /// # Errors
    /// [`LicenseError`].
    pub fn parse(name: &str, text: &str, authority: &PublicKey) -> Result<Self, LicenseError> {
        let settings = Settings::of_text(Path::new(name), text.to_owned(), HashMap::new());
        Self::of(&settings, name, authority)
    }

    /// Signs terms.
    ///
    /// # Errors
    /// [`SettingsError::Whole`] when they cannot be written into a licence.
    pub fn sign(terms: Terms, key: &KeyPair) -> Result<Self, SettingsError> {
        if let Some((field, problem)) = problem(&terms) {
            return Err(SettingsError::Whole(format!("{field}: {problem}")));
        }
        let signature = key.sign(&signed_bytes(&terms));
        Ok(Self { terms, signature })
    }

    /// Whether it has not ended.
    pub fn is_valid_at(&self, unix_seconds: i64) -> bool {
        let end = self.terms.valid_until;
        end.is_none_or(|end| unix_seconds <= end.unix_seconds())
    }

    /// What it says.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// How much it allows.
    pub fn limits(&self) -> LicenseLimits {
        self.terms.limits
    }

    /// The text of its file.
    pub fn to_toml(&self) -> String {
        let terms = &self.terms;
        let time = |end: ValidUntil| end.to_string().parse().expect("RFC 3339 is TOML");
        let license = Fields {
            signature: STANDARD.encode(self.signature),
            issuer: terms.issuer.clone(),
            licensee: terms.licensee.clone(),
            serial_number: terms.serial_number.clone(),
            valid_until: terms.valid_until.map(time),
            max_clients: terms.limits.max_clients,
            max_rooms: terms.limits.max_rooms,
            max_peers: terms.limits.max_peers,
        };
        toml::to_string(&File { license }).expect("texts, a date and numbers that TOML has")
    }

    fn of(settings: &Settings, name: &str, authority: &PublicKey) -> Result<Self, LicenseError> {
        let File { license } = settings.parse()?;
        let error = |field: &str, problem: &str| {
            LicenseError::Malformed(settings.error(&format!("license.{field}"), problem))
        };
        let signature = STANDARD
            .decode(license.signature.trim())
            .ok()
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or_else(|| error("signature", "it must be 64 bytes in standard Base64"))?;
        let time = |time: Datetime| {
            let end: Result<ValidUntil, _> = time.to_string().parse();
            end.map_err(|problem| error("valid_until", &problem.to_string()))
        };
        let terms = Terms {
            issuer: license.issuer,
            licensee: license.licensee,
            serial_number: license.serial_number,
            valid_until: license.valid_until.map(time).transpose()?,
            limits: LicenseLimits {
                max_clients: license.max_clients,
                max_rooms: license.max_rooms,
                max_peers: license.max_peers,
            },
        };
        if let Some((field, problem)) = problem(&terms) {
            return Err(error(field, &problem));
        }
        match authority.verifies(&signed_bytes(&terms), &signature) {
            true => Ok(Self { terms, signature }),
            false => Err(LicenseError::Signature {
                name: name.to_owned(),
            }),
        }
    }
}

/// The key of whoever gives licences: 32 bytes in Base64, standard or for URLs, as `x` of `bifrost access-key public`.
///
/// # Errors
/// [`JwkError::X`].
pub fn license_authority(text: &str) -> Result<PublicKey, JwkError> {
    let text = text.trim().trim_end_matches('=');
    PublicKey::from_x(&text.replace('+', "-").replace('/', "_"))
}

/// The file as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    license: Fields,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    signature: String,
    issuer: Option<String>,
    licensee: Option<String>,
    serial_number: Option<String>,
    valid_until: Option<Datetime>,
    max_clients: Option<u64>,
    max_rooms: Option<u64>,
    max_peers: Option<u64>,
}

type Texts<'a> = [(&'static str, Option<&'a String>); 3];

fn texts(terms: &Terms) -> Texts<'_> {
    [
        ("issuer", terms.issuer.as_ref()),
        ("licensee", terms.licensee.as_ref()),
        ("serial_number", terms.serial_number.as_ref()),
    ]
}

fn counts(limits: LicenseLimits) -> [(&'static str, Option<u64>); 3] {
    [
        ("max_clients", limits.max_clients),
        ("max_rooms", limits.max_rooms),
        ("max_peers", limits.max_peers),
    ]
}

/// The first field that a licence cannot hold.
fn problem(terms: &Terms) -> Option<(&'static str, String)> {
    for (field, text) in texts(terms) {
        if text.is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
            return Some((field, format!("at most {TEXT_BYTES_MAX} bytes")));
        }
    }
    for (field, count) in counts(terms.limits) {
        if count.is_some_and(|count| !(1..=COUNT_MAX).contains(&count)) {
            return Some((field, format!("it must be from 1 to {COUNT_MAX}")));
        }
    }
    None
}

fn signed_bytes(terms: &Terms) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    let mut field = |parts: Option<[&[u8]; 2]>| match parts {
        None => bytes.push(0),
        Some(parts) => {
            bytes.push(1);
            bytes.extend(parts.concat());
        }
    };
    for (_, text) in texts(terms) {
        let length = text.map(|text| u32::try_from(text.len()).expect("terms are checked"));
        let length = length.unwrap_or_default().to_be_bytes();
        field(text.map(|text| [&length[..], text.as_bytes()]));
    }
    let end = terms
        .valid_until
        .map(|end| end.unix_seconds().to_be_bytes());
    field(end.as_ref().map(|end| [&end[..], &[]]));
    for (_, count) in counts(terms.limits) {
        let count = count.map(u64::to_be_bytes);
        field(count.as_ref().map(|count| [&count[..], &[]]));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use gateway_api::KeyKind;
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32], KeyKind::Customer)
    }

    fn terms() -> Terms {
        Terms {
            issuer: Some("4Players".to_owned()),
            licensee: Some("622012345".to_owned()),
            serial_number: None,
            valid_until: Some("1987-07-05T17:45:00Z".parse().unwrap()),
            limits: LicenseLimits {
                max_clients: Some(25),
                max_rooms: None,
                max_peers: Some(7),
            },
        }
    }

    fn parse(text: &str) -> Result<License, LicenseError> {
        License::parse("license.toml", text, &key(1).public())
    }

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn what_is_signed_are_the_documented_bytes() {
        let mut bytes = b"bifrost license 1\0".to_vec();
        bytes.extend(b"\x01\0\0\0\x084Players");
        bytes.extend(b"\x01\0\0\0\x09622012345");
        bytes.extend(b"\0");
        bytes.push(1);
        bytes.extend(552_505_500_i64.to_be_bytes());
        bytes.extend(b"\x01\0\0\0\0\0\0\0\x19");
        bytes.extend(b"\0");
        bytes.extend(b"\x01\0\0\0\0\0\0\0\x07");
        assert_eq!(signed_bytes(&terms()), bytes);
        assert_eq!(
            signed_bytes(&Terms::default()),
            [b"bifrost license 1\0".as_slice(), &[0; 7]].concat()
        );
    }

    #[test]
    fn a_licence_ends_with_its_last_second() {
        let license = License::sign(terms(), &key(1)).unwrap();
        for (at, is_valid) in [
            (i64::MIN, true),
            (552_505_500, true),
            (552_505_501, false),
            (i64::MAX, false),
        ] {
            assert_eq!(license.is_valid_at(at), is_valid, "{at}");
        }
        let endless = License::sign(Terms::default(), &key(1)).unwrap();
        assert!(endless.is_valid_at(i64::MAX));
        assert_eq!(license.limits(), terms().limits);
    }

    #[test]
    fn a_licence_is_read_back_however_it_is_laid_out() {
        let license = License::sign(terms(), &key(1)).unwrap();
        let text = license.to_toml();
        assert_eq!(parse(&text).unwrap(), license);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let turned: Vec<&str> = lines.iter().rev().copied().collect();
        let turned = format!("# a comment\n[license]\n{}", turned.join("\n"));
        assert_eq!(parse(&turned).unwrap(), license);
        let elsewhere = text.replace("1987-07-05T17:45:00Z", "1987-07-05T19:45:00+02:00");
        assert_ne!(elsewhere, text);
        assert_eq!(parse(&elsewhere).unwrap(), license);
    }

    #[test]
    fn a_change_and_another_key_are_noticed() {
        let text = License::sign(terms(), &key(1)).unwrap().to_toml();
        for (old, new) in [
            ("4Players", "5Players"),
            ("licensee", "serial_number"),
            ("1987-07-05T17:45:00Z", "1987-07-05T17:45:01Z"),
            ("1987-07-05T17:45:00Z", "1987-07-05T17:45:00+01:00"),
            ("max_clients = 25", "max_clients = 26"),
            ("max_clients = 25", ""),
            ("max_clients", "max_rooms"),
            ("max_peers = 7", "max_peers = 7\nmax_rooms = 7"),
        ] {
            let changed = text.replace(old, new);
            assert_ne!(changed, text);
            let error = parse(&changed).expect_err(new);
            assert!(matches!(error, LicenseError::Signature { .. }), "{error}");
        }
        let other = License::parse("license.toml", &text, &key(2).public()).unwrap_err();
        assert!(other.to_string().starts_with("license.toml: the signature"));
    }

    #[test]
    fn no_token_is_signed_as_a_licence_is() {
        let token = gateway_api::sign(&serde_json::json!({"rid": "\0"}), &key(1));
        let (signed, _) = token.rsplit_once('.').unwrap();
        assert!(!signed.contains('\0') && DOMAIN.ends_with(b"\0"));
    }

    #[test]
    fn an_end_is_within_the_years_that_a_date_can_say() {
        for text in [
            "0001-01-01T00:00:00Z",
            "1987-07-05T17:45:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            let end: ValidUntil = text.parse().unwrap();
            assert_eq!(end.to_string(), text);
        }
        for text in [
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2016-12-31T23:59:60Z",
            "2027-01-01",
            "",
        ] {
            assert_eq!(text.parse::<ValidUntil>(), Err(ValidUntilError), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_told_by_line_and_key() {
        let signature = STANDARD.encode([0; 64]);
        for (lines, place) in [
            ("", ":1: the file: missing field `license`"),
            ("[licence]", ":1: licence: unknown field"),
            ("[license]", ":1: license: missing field `signature`"),
            (
                "[license]\nsignature = \"AAAA\"",
                ":2: license.signature: it must be 64 bytes",
            ),
            (
                "[license]\nsignature = \"SIGNATURE\"\nvalid_until = 2027-01-01",
                ":3: license.valid_until: it must be a date",
            ),
            (
                "[license]\nsignature = \"SIGNATURE\"\nvalid_until = 2027-01-01T00:00:00",
                ":3: license.valid_until: it must be a date",
            ),
            (
                "[license]\nsignature = \"SIGNATURE\"\nvalid_until = 2027-01-01T00:00:00.5Z",
                ":3: license.valid_until: it must be a date",
            ),
            (
                "[license]\nsignature = \"SIGNATURE\"\nmax_rooms = 0",
                ":3: license.max_rooms: it must be from 1",
            ),
            (
                "[license]\nsignature = \"SIGNATURE\"\nmax_rooms = -1",
                ":3: license.max_rooms: invalid value",
            ),
            (
                "[license]\nsignature = \"SIGNATURE\"\nmax_users = 1",
                ":3: license.max_users: unknown field",
            ),
        ] {
            let error = refusal(&lines.replace("SIGNATURE", &signature));
            assert!(
                error.starts_with(&format!("license.toml{place}")),
                "{error}"
            );
        }
        let long = Terms {
            issuer: Some("a".repeat(TEXT_BYTES_MAX + 1)),
            ..Terms::default()
        };
        let error = License::sign(long, &key(1)).unwrap_err();
        assert_eq!(error.to_string(), "issuer: at most 1024 bytes");
    }

    #[test]
    fn a_file_is_read_and_its_faults_are_settings_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("license.toml");
        let license = License::sign(terms(), &key(1)).unwrap();
        std::fs::write(&path, license.to_toml()).unwrap();
        assert_eq!(License::read(&path, &key(1).public()).unwrap(), license);
        let error = License::read(&path, &key(2).public()).unwrap_err();
        assert!(error.to_string().contains("the signature is not"));
        let error = License::read(&folder.path().join("none"), &key(1).public()).unwrap_err();
        assert!(error.to_string().contains("cannot be read"));
    }

    #[test]
    fn an_authority_is_read_in_both_alphabets() {
        let public = (0..=u8::MAX)
            .map(|seed| key(seed).public())
            .find(|public| public.x().contains('-') && public.x().contains('_'))
            .expect("one of 256 keys has both");
        let x = public.x();
        let standard = format!("{}=\n", x.replace('-', "+").replace('_', "/"));
        assert_eq!(license_authority(&x), Ok(public));
        assert_eq!(license_authority(&standard), Ok(public));
        assert_eq!(license_authority("AAAA"), Err(JwkError::X));
    }

    /// Texts that TOML must quote in every way it knows.
    fn text() -> impl Strategy<Value = Option<String>> {
        prop::option::of("(\\PC|[\"'\\\\\n\r\t\0\u{7F}]){0,20}")
    }

    /// Terms that are often alike, and whose texts run into each other.
    fn few_terms() -> impl Strategy<Value = Terms> {
        let text = || prop::option::of("[\0\x01]{0,2}");
        let count = || prop::option::of(1..=2_u64);
        let end = prop::option::of((0..=1_i64).prop_map(ValidUntil));
        (text(), text(), end, count(), count()).prop_map(|(one, other, end, clients, rooms)| {
            Terms {
                issuer: one,
                licensee: other,
                serial_number: None,
                valid_until: end,
                limits: LicenseLimits {
                    max_clients: clients,
                    max_rooms: rooms,
                    max_peers: None,
                },
            }
        })
    }

    fn any_terms() -> impl Strategy<Value = Terms> {
        let count = || prop::option::of(1..=COUNT_MAX);
        let end = prop::option::of(YEARS.prop_map(ValidUntil));
        let limits = (count(), count(), count());
        (text(), text(), text(), end, limits).prop_map(|(issuer, licensee, serial, end, limits)| {
            Terms {
                issuer,
                licensee,
                serial_number: serial,
                valid_until: end,
                limits: LicenseLimits {
                    max_clients: limits.0,
                    max_rooms: limits.1,
                    max_peers: limits.2,
                },
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_signed_is_read_back(terms in any_terms()) {
            let license = License::sign(terms, &key(1)).unwrap();
            prop_assert_eq!(parse(&license.to_toml()).unwrap(), license);
        }

        #[test]
        fn different_terms_are_different_bytes(one in few_terms(), other in few_terms()) {
            prop_assert_eq!(one == other, signed_bytes(&one) == signed_bytes(&other));
        }

        #[test]
        fn any_text_is_a_licence_or_an_error(text in "(\\[license\\]\n)?\\PC{0,60}") {
            prop_assert!(parse(&text).is_err());
        }
    }
}
