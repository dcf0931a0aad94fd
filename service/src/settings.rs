//! Settings files in TOML. A mistake is told by file, line and key, and never quotes a line that may hold a secret.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::Secret;

/// Stands for a key in errors that no single key is to blame for.
const WHOLE: &str = "the file";

/// A setting that is missing or malformed. The text names the variable, or the file, line and key.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable of the environment.
    #[error("{variable} {problem}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file as a whole.
    #[error("{path} cannot be read: {cause}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        cause: io::Error,
    },
    /// A place in the file.
    #[error("{path}:{line}: {key}: {problem}")]
    Key {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The key with its sections.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that no single setting is to blame for.
    #[error("{0}")]
    Whole(String),
}

impl SettingsError {
    /// A variable that is wrong.
    pub fn variable(variable: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Variable {
            variable: variable.into(),
            problem: problem.into(),
        }
    }
}

/// The variables of the environment that are text and not empty.
pub fn variables() -> HashMap<String, String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    env::vars_os()
        .filter_map(text)
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// A settings file, kept to find the line of a key, and the variables beside it.
///
/// Its `Debug` form shows the file's name only: text and variables hold secrets.
#[derive(Default)]
pub struct Settings {
    path: PathBuf,
    text: String,
    /// Others of this machine can read the text.
    is_open: bool,
    variables: HashMap<String, String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads a file; without one everything must come from variables and defaults.
    ///
    /// # Errors
    /// [`SettingsError::File`].
    pub fn read(
        path: Option<&Path>,
        variables: HashMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let Some(path) = path else {
            return Ok(Self::of_text(Path::new(""), String::new(), variables));
        };
        let text = fs::read_to_string(path).map_err(|cause| SettingsError::File {
            path: path.display().to_string(),
            cause,
        })?;
        let mode = fs::metadata(path).map(|it| it.permissions().mode());
        Ok(Self {
            is_open: mode.is_ok_and(|mode| mode & 0o004 != 0),
            ..Self::of_text(path, text, variables)
        })
    }

    /// Text that came from elsewhere; `name` stands for a file's in errors.
    pub fn of_text(name: &Path, text: String, variables: HashMap<String, String>) -> Self {
        Self {
            path: name.to_owned(),
            text,
            is_open: false,
            variables,
        }
    }

    /// Whether every user of this machine can read the file.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The file as a struct.
    ///
    /// # Errors
    /// [`SettingsError::Key`] for the first mistake.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        let deserializer = toml::Deserializer::parse(&self.text)
            .map_err(|error| self.parse_error(WHOLE.to_owned(), &error))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let key = match error.path().to_string() {
                // The path to the whole of it.
                path if path == "." => WHOLE.to_owned(),
                path => path,
            };
            self.parse_error(key, error.inner())
        })
    }

    /// The parser's own text would quote the line, and with it a secret that stands on it.
    fn parse_error(&self, key: String, error: &toml::de::Error) -> SettingsError {
        SettingsError::Key {
            path: self.path.display().to_string(),
            line: error.span().map_or(1, |span| self.line_at(span.start)),
            key,
            problem: without_text(error.message()),
        }
    }

    /// An error about a key of the file, e.g. `limit.requests` or `customers[1].id`.
    pub fn error(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        SettingsError::Key {
            path: self.path.display().to_string(),
            line: self.line_of(key),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    /// Every key of the text with its sections, e.g. `limit.requests` or `customers[1].id`, and the line it stands on;
    /// none when the text is not TOML. A
    /// section comes before what is in it, else they come as they stand.
    pub fn keys(&self) -> Vec<(String, usize)> {
        let Ok(root) = DeTable::parse(&self.text) else {
            return Vec::new();
        };
        let mut keys = Vec::new();
        collect_table(root.get_ref(), "", &mut keys);
        let ends: Vec<usize> = self.text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |start: usize| ends.partition_point(|end| *end < start) + 1;
        keys.into_iter()
            .map(|(key, start)| (key, line(start)))
            .collect()
    }

    fn line_at(&self, start: usize) -> usize {
        let before = self.text.get(..start).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    /// The line that sets a key; else the line of the nearest section around it; else the first.
    fn line_of(&self, key: &str) -> usize {
        let is_around = |found: &str| {
            let rest = key.strip_prefix(found);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let keys = self.keys().into_iter();
        let around = keys.filter(|(found, _)| is_around(found));
        around
            .max_by_key(|(found, _)| found.len())
            .map_or(1, |(_, line)| line)
    }

    /// A variable of the environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A secret file's text without the line end. A relative path is relative to the working directory.
    ///
    /// # Errors
    /// [`SettingsError::Key`] when it cannot be read.
    pub fn secret_file(&self, key: &str, file: &Path) -> Result<Secret, SettingsError> {
        let text = fs::read_to_string(file).map_err(|error| {
            self.error(key, format!("{} cannot be read: {error}", file.display()))
        })?;
        let secret = text.trim_end_matches(['\r', '\n']).to_owned();
        Ok(secret.into())
    }

    /// A secret whose variable or file the settings name.
    ///
    /// # Errors
    /// [`SettingsError`] when both are named, the variable is not set, or the file cannot be read.
    pub fn named_secret(
        &self,
        section: &str,
        variable: Option<&str>,
        (file_key, file): (&str, Option<&Path>),
    ) -> Result<Option<Secret>, SettingsError> {
        match (variable, file) {
            (None, None) => Ok(None),
            (Some(name), None) => match self.variable(name) {
                Some(text) => Ok(Some(text.to_owned().into())),
                None => Err(self.error(section, format!("the variable {name} is not set"))),
            },
            (None, Some(path)) => self
                .secret_file(&format!("{section}.{file_key}"), path)
                .map(Some),
            (Some(_), Some(_)) => Err(self.error(
                section,
                format!("a variable and {file_key} are set: keep one"),
            )),
        }
    }

    /// A secret that has one source: a variable, a file the settings name, or the settings themselves.
    ///
    /// # Errors
    /// [`SettingsError`] when it is given twice, or its file cannot be read.
    pub fn secret(
        &self,
        variable: &str,
        file: (&str, Option<&Path>),
        inline: (&str, Option<String>),
    ) -> Result<Option<Secret>, SettingsError> {
        let named = self.variable(variable);
        match (named, file.1, inline.1) {
            (None, None, None) => Ok(None),
            (Some(text), None, None) => Ok(Some(text.to_owned().into())),
            (None, Some(path), None) => self.secret_file(file.0, path).map(Some),
            (None, None, Some(text)) => {
                self.warn_if_readable(inline.0);
                Ok(Some(text.into()))
            }
            (Some(_), Some(_), _) => Err(self.error(file.0, twice(variable))),
            (Some(_), None, Some(_)) => Err(self.error(inline.0, twice(variable))),
            (None, Some(_), Some(_)) => Err(self.error(inline.0, twice(file.0))),
        }
    }

    /// Says so when a file that holds a secret is open to everybody on the machine.
    fn warn_if_readable(&self, key: &str) {
        if self.is_open {
            let path = self.path.display();
            tracing::warn!(
                "{path}: holds the secret {key}, and every user of this machine can read it"
            );
        }
    }
}

/// Serde shows a string of the wrong type or form; it may be a secret under the wrong key.
fn without_text(message: &str) -> String {
    let quoted = message.split_once("string \"");
    let parts = quoted.and_then(|(before, rest)| Some((before, rest.rsplit_once('"')?.1)));
    match parts {
        Some((before, after)) => format!("{before}a string{after}"),
        None => message.to_owned(),
    }
}

fn twice(other: &str) -> String {
    format!("{other} is set as well: keep one")
}

fn collect_table(table: &DeTable<'_>, around: &str, keys: &mut Vec<(String, usize)>) {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let path = match around {
            "" => name.get_ref().to_string(),
            around => format!("{around}.{}", name.get_ref()),
        };
        keys.push((path.clone(), name.span().start));
        collect_value(value.get_ref(), &path, keys);
    }
}

fn collect_value(value: &DeValue<'_>, path: &str, keys: &mut Vec<(String, usize)>) {
    match value {
        DeValue::Table(table) => collect_table(table, path, keys),
        DeValue::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let path = format!("{path}[{at}]");
                keys.push((path.clone(), item.span().start));
                collect_value(item.get_ref(), &path, keys);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde::Deserialize;

    use super::*;

    const TEXT: &str = "# a comment\nlisten = 1\n[limit]\nlisten = 2\n[[customer]]\nid = 1\n[[customer.key]]\nx = 1\n\
                        [[customer.key]]\nx = 2\n[[customer]]\nid = 2\n[[customer.key]]\nx = 3\n";

    fn settings(text: &str, variables: &[(&str, &str)]) -> Settings {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(Some(file.path()), variables.collect()).unwrap()
    }

    #[test]
    fn a_key_is_found_in_its_section() {
        let settings = settings(TEXT, &[]);
        for (key, line) in [
            ("listen", 2),
            ("limit.listen", 4),
            ("limit.other", 3),
            ("customer[0].id", 6),
            ("customer[0].key[1].x", 10),
            ("customer[1].id", 12),
            ("customer[1].key[0].x", 14),
            ("customer[1].name", 11),
            ("other", 1),
        ] {
            assert_eq!(settings.line_of(key), line, "{key}");
        }
    }

    #[test]
    fn a_key_is_found_however_it_is_written() {
        let text = "a.b = 1\nc = [\n  { d = 1 },\n  { d = 2, e = { f = 1 } }\n]\n\"g\" = \"\"\"\n[h]\nb = 1\n\"\"\"\n\
                    [i.j]\nk = 1\n[i]\nl = 1\n[[m]]\n[[m]]\nn = 1\n";
        let settings = settings(text, &[]);
        for (key, line) in [
            ("a.b", 1),
            ("c[0].d", 3),
            ("c[1].e.f", 4),
            ("c[1].x", 4),
            ("g", 6),
            ("h.b", 1),
            ("i.j.k", 11),
            ("i.l", 13),
            ("m[0].n", 14),
            ("m[1].n", 16),
        ] {
            assert_eq!(settings.line_of(key), line, "{key}");
        }
        let keys: Vec<_> = settings.keys().into_iter().map(|(key, _)| key).collect();
        let before = |outer: &str, inner: &str| {
            let place = |wanted: &str| keys.iter().position(|key| key == wanted).unwrap();
            assert!(place(outer) < place(inner), "{keys:?}");
        };
        before("c", "c[1].d");
        before("i", "i.j.k");
        before("m[1]", "m[1].n");
    }

    #[test]
    fn debug_shows_neither_text_nor_variables() {
        let settings = settings("a = \"hunter2\"", &[("S", "hunter3")]);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn a_mistake_is_told_by_line_and_key_and_quotes_nothing() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[expect(dead_code, reason = "only its type matters")]
            secret: u8,
        }
        for (text, place) in [
            ("\nsecret = \"hunter2\"", ":2: secret: "),
            ("secret = 1\nhunter = \"hunter2\"", ":2: hunter: "),
            ("\n\nsecret hunter2", ":3: the file: "),
            ("", ":1: the file: missing field `secret`"),
        ] {
            let error = settings(text, &[]).parse::<File>().unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_has_one_source() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from file\n").unwrap();
        let path = Some(file.path());
        let inline = || Some("inline".to_owned());
        let none = settings("", &[]);
        let set = settings("", &[("S", "variable")]);
        let read = |settings: &Settings, path, inline| {
            settings
                .secret("S", ("s_file", path), ("s", inline))
                .map(|secret| secret.map(|it| it.expose().to_owned()))
        };
        assert_eq!(read(&none, None, None).unwrap(), None);
        assert_eq!(read(&none, path, None).unwrap().unwrap(), "from file");
        assert_eq!(read(&none, None, inline()).unwrap().unwrap(), "inline");
        assert_eq!(read(&set, None, None).unwrap().unwrap(), "variable");
        for (settings, path, inline) in [
            (&set, path, None),
            (&set, None, inline()),
            (&none, path, inline()),
        ] {
            let error = read(settings, path, inline).unwrap_err().to_string();
            assert!(error.contains("keep one"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Settings::read(Some(Path::new("/no/such")), HashMap::new());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("/no/such cannot be read")
        );
    }
}
