//! Lists: what can be filtered and sorted is a table per resource; selecting, ordering and paging
//! is done once, here, for all of them.

mod page;
mod tables;

pub(crate) use self::page::{Page, Place};
pub(crate) use self::tables::{
    APPS, BACKUPS, BINARIES, CONFIGS, LOCATIONS, PACKAGES, REGISTRIES, SERVICES, SETTINGS,
};

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::filter::MetadataFilter;
use crate::limits;
use crate::model::ApiVersion;
use crate::query::Query;
use crate::refusal::{FieldErrors, Refusal};
use crate::state::State;

/// What a field of a thing holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Nothing,
    Integer(i64),
    Number(f64),
    Flag(bool),
    Text(&'a str),
    Time(chrono::DateTime<chrono::Utc>),
    Object(&'a Map<String, Value>),
}

/// Reads a field of a thing.
pub(crate) type Read<T> = for<'a> fn(&'a State, &'a T) -> Cell<'a>;

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Integer,
    Flag,
    Text,
    /// The text contains the value.
    Part,
    /// The metadata filter language.
    Metadata,
}

/// What a list can be filtered and sorted by.
#[derive(Debug)]
pub(crate) struct Table<T: 'static> {
    pub(crate) filters: &'static [(&'static str, Compare, Read<T>)],
    pub(crate) sorts: &'static [(&'static str, Read<T>)],
}

/// A value to compare with, checked.
enum Wanted {
    Integer(i64),
    Flag(bool),
    Text(String),
    Part(String),
    Metadata(MetadataFilter),
}

impl Wanted {
    fn parse(compare: Compare, text: &str) -> Result<Self, String> {
        match compare {
            Compare::Integer => text
                .parse()
                .map(Self::Integer)
                .map_err(|_| "must be an integer".to_owned()),
            Compare::Flag => match text {
                "true" | "1" => Ok(Self::Flag(true)),
                "false" | "0" => Ok(Self::Flag(false)),
                _ => Err("must be true or false".to_owned()),
            },
            Compare::Text => Ok(Self::Text(text.to_owned())),
            Compare::Part => Ok(Self::Part(text.to_owned())),
            Compare::Metadata => MetadataFilter::parse(text)
                .map(Self::Metadata)
                .map_err(|error| error.to_string()),
        }
    }

    fn accepts(&self, cell: Cell<'_>, arrays: bool) -> bool {
        match (self, cell) {
            (Self::Integer(wanted), Cell::Integer(value)) => *wanted == value,
            (Self::Integer(wanted), Cell::Number(value)) => wanted.to_string() == value.to_string(),
            (Self::Flag(wanted), Cell::Flag(value)) => *wanted == value,
            (Self::Text(wanted), Cell::Text(value)) => wanted == value,
            (Self::Part(wanted), Cell::Text(value)) => value.contains(wanted),
            (Self::Metadata(filter), Cell::Object(metadata)) => filter.matches(metadata, arrays),
            _ => false,
        }
    }
}

impl Cell<'_> {
    /// Order of two cells of one field; nothing comes first.
    fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Cell::Integer(a), Cell::Integer(b)) => a.cmp(&b),
            (Cell::Number(a), Cell::Number(b)) => a.total_cmp(&b),
            (Cell::Flag(a), Cell::Flag(b)) => a.cmp(&b),
            (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
            (Cell::Time(a), Cell::Time(b)) => a.cmp(&b),
            (Cell::Nothing, Cell::Nothing) => Ordering::Equal,
            (Cell::Nothing, _) => Ordering::Less,
            (_, Cell::Nothing) => Ordering::Greater,
            _ => Ordering::Equal,
        }
    }
}

/// A page number and size, checked.
struct Window {
    page: i64,
    per_page: i64,
}

impl<T> Table<T> {
    /// The page of `things` that the query asks for.
    pub(crate) fn select<'a>(
        &self,
        state: &'a State,
        things: impl Iterator<Item = &'a T>,
        query: &Query,
        api: ApiVersion,
    ) -> Result<Page<&'a T>, Refusal> {
        let mut errors = FieldErrors::default();
        let window = window(query, &mut errors);
        let filters = self.wanted(query, &mut errors);
        let sorts = self.order(query, &mut errors);
        if !errors.0.is_empty() {
            return Err(Refusal::Invalid(errors));
        }
        let arrays = api > ApiVersion::V0_9_0;
        let mut found: Vec<&T> = things
            .filter(|thing| {
                filters
                    .iter()
                    .all(|(read, wanted)| wanted.accepts(read(state, thing), arrays))
            })
            .collect();
        if !sorts.is_empty() {
            found.sort_by(|a, b| {
                let by = |(read, descending): &(Read<T>, bool)| {
                    let order = read(state, a).order(read(state, b));
                    if *descending { order.reverse() } else { order }
                };
                sorts
                    .iter()
                    .map(by)
                    .find(|order| order.is_ne())
                    .unwrap_or(Ordering::Equal)
            });
        }
        let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let skip = (window.page - 1).saturating_mul(window.per_page);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let take = usize::try_from(window.per_page).unwrap_or(usize::MAX);
        let data = found.into_iter().skip(skip).take(take).collect();
        Ok(Page {
            data,
            total,
            page: window.page,
            per_page: window.per_page,
        })
    }

    fn wanted(&self, query: &Query, errors: &mut FieldErrors) -> Vec<(Read<T>, Wanted)> {
        let mut wanted = Vec::new();
        for (name, text) in query.map("filter") {
            let field = format!("filter.{name}");
            let Some((_, compare, read)) = self.filters.iter().find(|(known, ..)| *known == name)
            else {
                errors.add(field, format!("The list cannot be filtered by {name}."));
                continue;
            };
            match Wanted::parse(*compare, text) {
                Ok(value) => wanted.push((*read, value)),
                Err(problem) => errors.add(field, format!("The filter {name} {problem}.")),
            }
        }
        wanted
    }

    fn order(&self, query: &Query, errors: &mut FieldErrors) -> Vec<(Read<T>, bool)> {
        let mut order = Vec::new();
        let keys = query.list("sort").flat_map(|value| value.split(','));
        for (index, key) in keys.enumerate().filter(|(_, key)| !key.is_empty()) {
            let (name, descending) = match key.strip_prefix('-') {
                Some(name) => (name, true),
                None => (key, false),
            };
            match self.sorts.iter().find(|(known, _)| *known == name) {
                Some((_, read)) if order.len() < 2 * self.sorts.len() => {
                    order.push((*read, descending));
                }
                _ => errors.add(format!("sort.{index}"), "The selected sort key is invalid."),
            }
        }
        order
    }
}

fn window(query: &Query, errors: &mut FieldErrors) -> Window {
    let mut number = |name: &str, default: i64| match query.last(name) {
        None | Some("") => default,
        Some(text) => text.parse().unwrap_or_else(|_| {
            errors.add(name, format!("The {name} field must be an integer."));
            default
        }),
    };
    // A page before the first one is the first one.
    let page = number("page", 1).max(1);
    let per_page = number("perPage", limits::PAGE_DEFAULT);
    if !(1..=limits::PAGE_MAX).contains(&per_page) {
        let most = limits::PAGE_MAX;
        errors.add(
            "perPage",
            format!("The perPage field must be between 1 and {most}."),
        );
    }
    Window {
        page,
        per_page: per_page.clamp(1, limits::PAGE_MAX),
    }
}
