//! Reading a world file: every refusal names the file, the line and the key.

use toml::de::{DeTable, DeValue};

use super::World;
use crate::state::State;

/// The world that the command uses without `--world`.
const DEFAULT_WORLD: &str = include_str!("default.toml");

/// Why a world file was refused.
#[derive(Debug, thiserror::Error)]
#[error("{origin}{}, key `{key}`: {message}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
pub struct WorldError {
    /// The file, or the name the text was given.
    pub origin: String,
    /// Line in the file, from 1, if the key stands in it.
    pub line: Option<usize>,
    /// Path of the key, such as `apps[0].configs[1].binary`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

/// A reference or value of a world that makes no sense, by the path of its key.
#[derive(Debug)]
pub(crate) struct Defect {
    /// Path of the key.
    pub(crate) key: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

impl World {
    /// Reads a world from TOML. `origin` is the name to put into errors, usually the file's.
    ///
    /// # Errors
    /// When the text is not TOML, has an unknown or missing key, or refers to something that is
    /// not in it.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, WorldError> {
        let refuse = |line, key: String, message: String| WorldError {
            origin: origin.to_owned(),
            line,
            key,
            message,
        };
        let parsed = toml::Deserializer::parse(text).map_err(|error| {
            let line = error.span().map(|span| line_at(text, span.start));
            refuse(line, "(syntax)".to_owned(), error.message().to_owned())
        })?;
        let world: Self = serde_path_to_error::deserialize(parsed).map_err(|error| {
            let line = error.inner().span().map(|span| line_at(text, span.start));
            refuse(
                line,
                error.path().to_string(),
                error.inner().message().to_owned(),
            )
        })?;
        // Building a state is what finds dangling references, so a world that loads also starts.
        State::new(&world, chrono::DateTime::UNIX_EPOCH, 0)
            .map_err(|defect| refuse(line_of(text, &defect.key), defect.key, defect.message))?;
        Ok(world)
    }

    /// The world that is built in: two apps, fifteen services in four cities, all on 127.0.0.1.
    ///
    /// # Panics
    /// Never: a test reads the built-in text.
    #[must_use]
    pub fn default_world() -> Self {
        Self::from_toml(DEFAULT_WORLD, "default.toml").expect("the built-in world is tested")
    }
}

impl From<Defect> for WorldError {
    fn from(defect: Defect) -> Self {
        Self {
            origin: "the world".to_owned(),
            line: None,
            key: defect.key,
            message: defect.message,
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

/// Finds the line of a key path by walking the parsed document; stops at the deepest part that
/// exists, so that a missing key points at its table.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut offset = table.span().start;
    let mut steps = path
        .split(['.', '['])
        .map(|step| step.trim_end_matches(']'));
    let mut here = table
        .get_ref()
        .iter()
        .find(|(key, _)| Some(key.get_ref().as_ref()) == path.split(['.', '[']).next());
    steps.next();
    let mut value = here.take().map(|(_, value)| value)?;
    loop {
        offset = offset.max(value.span().start);
        let Some(step) = steps.next() else { break };
        let next = match value.get_ref() {
            DeValue::Array(items) => step
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index)),
            DeValue::Table(table) => table
                .iter()
                .find(|(key, _)| key.get_ref().as_ref() == step)
                .map(|(_, value)| value),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => None,
        };
        let Some(next) = next else { break };
        value = next;
    }
    Some(line_at(text, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&str) -> String) -> WorldError {
        World::from_toml(&change(DEFAULT_WORLD), "w.toml").unwrap_err()
    }

    #[test]
    fn the_built_in_world_has_what_a_demo_needs() {
        let world = World::default_world();
        let instances: u32 = world.apps[0]
            .location_settings
            .iter()
            .map(|setting| setting.num_instances)
            .sum();
        assert!(instances >= 12);
        assert!(world.apps.len() >= 2 && world.apps[0].configs.len() >= 2);
        assert!(world.nodes.iter().all(|node| node.address == "127.0.0.1"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = refusal(|text| text.replacen("[[users]]", "[[users]]\nnickname = 'x'", 1));
        assert!(error.key.starts_with("users"), "{error}");
        assert!(
            error.line.is_some() && error.message.contains("nickname"),
            "{error}"
        );
    }

    #[test]
    fn a_dangling_reference_is_named_with_its_line() {
        let error = refusal(|text| text.replacen("binary = \"arena\"", "binary = \"nope\"", 1));
        assert_eq!(error.key, "apps[0].configs[0].binary");
        let line = error.line.unwrap();
        let changed = DEFAULT_WORLD.replacen("binary = \"arena\"", "binary = \"nope\"", 1);
        assert!(
            changed.lines().nth(line - 1).unwrap().contains("nope"),
            "line {line}"
        );
    }

    #[test]
    fn broken_syntax_is_named_with_its_line() {
        let error = refusal(|text| format!("{text}\n= 3"));
        assert_eq!(
            error.line,
            Some(DEFAULT_WORLD.lines().count() + 2),
            "{error}"
        );
    }
}
