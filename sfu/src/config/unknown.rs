//! Keys that nothing reads. A mistyped limit that is passed over in silence is no limit.

use service::{Settings, SettingsError};
use strsim::damerau_levenshtein;

use super::keys::{Key, Members, SECTIONS, SectionTable, Shown};

/// Longest name, in bytes, that is held against known ones; the effort grows with its length.
const NAME_BYTES_MAX: usize = 64;

/// Keys and sections of other servers and other times, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    (
        "log.loki",
        "this server does not send its log anywhere: it goes to standard error",
    ),
    (
        "database",
        "this server has no database: what it reports goes to the gateway of [supervisor]",
    ),
    (
        "provisioning",
        "this server has no provisioning: the gateway of [supervisor] recommends settings",
    ),
    (
        "http_client",
        "this server has no settings for the calls it makes itself",
    ),
    ("license", "it belongs into a file of its own, license.toml"),
    (
        "http.webrtc_ports",
        "it is now one port for all clients: http.webrtc_binding",
    ),
];

/// Refuses the first key that is not known, and says which may have been meant.
pub(super) fn check(settings: &Settings) -> Result<(), SettingsError> {
    for (path, _) in settings.keys() {
        let plain = without_indices(&path);
        if let Some((_, instead)) = REFUSED.iter().find(|(name, _)| *name == plain) {
            return Err(settings.error(&path, *instead));
        }
        if !is_known(&plain) {
            return Err(settings.error(&path, problem(&plain)));
        }
    }
    Ok(())
}

/// `authorization.keys[1].kid` is the same key as `authorization.keys[0].kid`.
fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut is_index = false;
    for character in path.chars() {
        match character {
            '[' => is_index = true,
            ']' => is_index = false,
            _ if is_index => {}
            _ => plain.push(character),
        }
    }
    plain
}

fn is_known(path: &str) -> bool {
    is_section(path)
        || SECTIONS.iter().any(|section| {
            let name = in_section(section, path);
            name.is_some_and(|name| section.keys.iter().any(|key| covers(key, name)))
        })
}

/// Whether it is a section or around one.
fn is_section(path: &str) -> bool {
    let is_around = |name: &str| {
        let rest = name.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    SECTIONS.iter().any(|section| is_around(section.name))
}

/// What is left of a path inside of a section.
fn in_section<'a>(section: &SectionTable, path: &'a str) -> Option<&'a str> {
    match section.name {
        "" => Some(path),
        name => path.strip_prefix(name)?.strip_prefix('.'),
    }
}

/// Whether it is this key or in it.
fn covers(key: &Key, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(key.name) else {
        return false;
    };
    let Some(member) = rest.strip_prefix('.') else {
        return rest.is_empty();
    };
    match key.members {
        Members::None => false,
        Members::Of(names) => names.contains(&member),
        Members::Any => true,
    }
}

fn problem(path: &str) -> String {
    let (around, name) = path.rsplit_once('.').unwrap_or(("", path));
    if name.len() > NAME_BYTES_MAX {
        return "unknown key".to_owned();
    }
    let what = format!("unknown key `{name}`");
    let elsewhere: Vec<String> = SECTIONS
        .iter()
        .filter(|section| shown(section).any(|known| known == name))
        .map(|section| match section.name {
            "" => "the top of the file".to_owned(),
            section => format!("[{section}]"),
        })
        .collect();
    if !elsewhere.is_empty() {
        return format!("{what}: it belongs to {}", listed(&elsewhere));
    }
    let distance = |known: &&str| damerau_levenshtein(name, known);
    let nearest = beside(around).into_iter().min_by_key(distance);
    match nearest.filter(|known| distance(known) <= (known.len() / 3).max(1)) {
        Some(known) => format!("{what}: did you mean `{known}`?"),
        None => what,
    }
}

fn shown(section: &SectionTable) -> impl Iterator<Item = &'static str> {
    let keys = section.keys.iter();
    keys.filter(|key| !matches!(key.shown, Shown::Hidden))
        .map(|key| key.name)
}

/// The keys and sections in a section, or the members of a key.
fn beside(around: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for section in SECTIONS {
        if section.name == around {
            names.extend(shown(section));
        } else if let Some(inner) = match around {
            "" => Some(section.name),
            around => section
                .name
                .strip_prefix(around)
                .and_then(|it| it.strip_prefix('.')),
        } {
            names.extend(inner.split('.').next());
        }
        let key = in_section(section, around);
        let key = key.and_then(|name| section.keys.iter().find(|key| key.name == name));
        if let Some(Members::Of(members)) = key.map(|key| key.members) {
            names.extend(members);
        }
    }
    names
}

fn listed(names: &[String]) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        names => names.concat(),
    }
}
