//! What is known of a section and of a key.

/// A section of the settings.
#[derive(Debug)]
pub(in crate::config) struct SectionTable {
    /// With the sections around it; empty is the top of the file.
    pub(in crate::config) name: &'static str,
    /// What it is for, for the sample.
    pub(in crate::config) doc: &'static str,
    /// May be there several times.
    pub(in crate::config) is_list: bool,
    /// Its keys, in the order of the sample.
    pub(in crate::config) keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub(in crate::config) struct Key {
    /// Without its section.
    pub(in crate::config) name: &'static str,
    /// How the sample shows it.
    pub(in crate::config) shown: Shown,
    /// What is in it, where it is a table.
    pub(in crate::config) members: Members,
    /// What it means, and the unit of its value.
    pub(in crate::config) doc: &'static str,
}

/// How the sample shows a key. Values are TOML.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Shown {
    /// Set, because nothing works without it.
    Set(&'static str),
    /// Commented out, with its default.
    Default(&'static str),
    /// Commented out, with one of many values; the section is not complete without it.
    Needed(&'static str),
    /// Commented out, with one of many values; there is no default.
    Example(&'static str),
    /// By its sentence only.
    Told,
    /// Not at all: it has no effect, or its place is another today.
    Hidden,
}

/// What is in the value of a key.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Members {
    /// It is not a table.
    None,
    /// A table with these keys.
    Of(&'static [&'static str]),
    /// A table with any keys.
    Any,
}
