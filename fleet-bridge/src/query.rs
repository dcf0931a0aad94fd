//! What a caller may ask of List: the guide's JSON query or plain parameters, and the place to continue from.
//!
//! Pure: everything is refused or understood here, before any call to Fleet. A filter that cannot be expressed is
//! an error and never a wider list.

mod cursor;
mod json;
mod metadata;
mod plain;

use std::time::Duration;

use crate::{error::Error, model::Server};

pub use self::{
    cursor::{Cursor, Place},
    metadata::Conditions,
};

/// Longest `query` that is read, in bytes. A filter of a few dozen keys needs well under one.
const QUERY_BYTES_MAX: usize = 8 * 1024;

/// What Fleet is asked to filter by, in its own spelling. `None` does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Fleet's status text.
    pub status: Option<String>,
    /// City of the server's location.
    pub city: Option<String>,
    /// Country of the server's location.
    pub country: Option<String>,
    /// Continent of the server's location.
    pub continent: Option<String>,
    /// Conditions on metadata.
    pub metadata: Option<Conditions>,
}

impl Filter {
    /// Reads the guide's JSON query for what it filters by; its paging is checked and dropped.
    ///
    /// # Errors
    ///
    /// `invalid_query` and `unsupported_filter`.
    pub fn parse(query: &str, rules: Rules<'_>) -> Result<Self, Error> {
        json::parse(query, rules).map(|request| request.filter)
    }

    /// Whether Fleet would list this server for the filter.
    pub fn matches(&self, server: &Server) -> bool {
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        is(&self.status, &server.status)
            && is(&self.city, &server.city)
            && is(&self.country, &server.country)
            && is(&self.continent, &server.continent)
            && self
                .metadata
                .as_ref()
                .is_none_or(|conditions| conditions.matches(&server.metadata))
    }
}

/// Where a walk over the servers stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The page, counted from 1; `None` asks for the first without naming it.
    pub page: Option<u32>,
    /// Servers of the page that earlier answers have dealt with.
    pub offset: u16,
    /// Servers on a page; `None` leaves it to whoever answers.
    pub per_page: Option<u8>,
    /// Servers up to this id are dealt with; only in a walk over the index, which then has no page.
    pub after: Option<i64>,
}

/// Who answers a List. A cursor only fits the one it was made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Fleet, page by page.
    Fleet,
    /// What the bridge itself knows, by id.
    Index,
}

/// A checked List call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Which servers.
    pub filter: Filter,
    /// From where.
    pub position: Position,
    /// Most instances in the answer; `None` is a whole page.
    pub limit: Option<u64>,
    /// How old the answer may be; `None` leaves it to the settings. Fleet's own answers are always new.
    pub max_age: Option<Duration>,
}

/// A filter together with the paging that the caller asked for in the same place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    filter: Filter,
    page: Option<u32>,
    per_page: Option<u8>,
}

/// What the meaning of a query depends on besides its text.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Metadata key behind the `state` parameter.
    pub state_key: &'a str,
    /// Largest page that may be asked for; Fleet itself allows 100.
    pub per_page_max: u8,
    /// Part of every cursor, so that it only fits this app.
    pub app_id: i64,
    /// Who answers.
    pub source: Source,
}

impl ListQuery {
    /// Reads the decoded query parameters of a List call.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a parameter, `invalid_query` and `unsupported_filter` for what `query` says,
    /// `invalid_cursor` for a cursor that does not belong to this filter.
    pub fn parse(parameters: &[(String, String)], rules: Rules<'_>) -> Result<Self, Error> {
        let (mut limit, mut cursor, mut query, mut max_age) = (None, None, None, None);
        let mut filters = Vec::new();
        for (name, value) in parameters {
            let slot = match name.as_str() {
                "limit" => &mut limit,
                "cursor" => &mut cursor,
                "query" => &mut query,
                "max_age_ms" => &mut max_age,
                _ => {
                    filters.push((name.as_str(), value.as_str()));
                    continue;
                }
            };
            if slot.replace(value.as_str()).is_some() {
                return Err(Error::invalid_argument(format!(
                    "`{name}` is given more than once"
                )));
            }
        }
        let limit = limit.map(|text| whole("limit", text)).transpose()?;
        let limit = limit.filter(|limit| *limit != 0);
        let max_age = max_age
            .map(|text| whole("max_age_ms", text).map(Duration::from_millis))
            .transpose()?;
        let request = match query.filter(|query| !query.is_empty()) {
            None => plain::parse(&filters, rules)?,
            Some(query) => {
                plain::refuse_unknown(&filters)?;
                if let Some((name, _)) = filters.first() {
                    return Err(Error::invalid_argument(format!(
                        "`{name}` cannot be combined with `query`: use one"
                    )));
                }
                json::parse(query, rules)?
            }
        };
        let position = position(&request, limit, cursor.unwrap_or_default(), rules)?;
        Ok(Self {
            filter: request.filter,
            position,
            limit,
            max_age,
        })
    }

    /// A page of all servers.
    pub(crate) fn of_page(number: u32, per_page: u8) -> Self {
        Self {
            filter: Filter::default(),
            position: Position {
                page: Some(number),
                per_page: Some(per_page),
                ..Position::default()
            },
            limit: None,
            max_age: None,
        }
    }

    /// The page asked for, counted from 1.
    pub fn page(&self) -> u32 {
        self.position.page.unwrap_or(1)
    }

    /// The cursor text that continues this list at `place`.
    pub fn cursor(&self, place: Place, rules: Rules<'_>) -> String {
        let per_page = self.position.per_page;
        Cursor {
            place,
            per_page,
            fingerprint: cursor::fingerprint(&self.filter, rules.app_id),
        }
        .encode()
    }
}

fn position(
    request: &Request,
    limit: Option<u64>,
    cursor: &str,
    rules: Rules<'_>,
) -> Result<Position, Error> {
    if cursor.is_empty() {
        let per_page_of_limit = limit.map(|limit| {
            u8::try_from(limit)
                .unwrap_or(u8::MAX)
                .min(rules.per_page_max)
        });
        return Ok(Position {
            page: request.page,
            per_page: request.per_page.or(per_page_of_limit),
            ..Position::default()
        });
    }
    let cursor = Cursor::decode(cursor).map_err(Error::InvalidCursor)?;
    if cursor.fingerprint != cursor::fingerprint(&request.filter, rules.app_id) {
        return Err(Error::InvalidCursor("it was made for another filter"));
    }
    let per_page = cursor.per_page;
    match (cursor.place, rules.source) {
        (Place::Page { page, offset }, Source::Fleet) => Ok(Position {
            page: Some(page),
            offset,
            per_page,
            after: None,
        }),
        (Place::After(id), Source::Index) => Ok(Position {
            per_page,
            after: Some(id),
            ..Position::default()
        }),
        (Place::Page { .. }, Source::Index) => Err(Error::InvalidCursor(
            "it was made while the bridge had no index: begin the list again",
        )),
        (Place::After(_), Source::Fleet) => Err(Error::InvalidCursor(
            "it was made while the bridge had an index: begin the list again",
        )),
    }
}

fn whole(name: &str, text: &str) -> Result<u64, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::invalid_argument(format!(
            "`{name}` must be a whole number that is not negative"
        )));
    }
    // Any number that is too long for the type is far above what a page can hold, and longer than any age.
    Ok(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::error::Kind;

    pub(super) const RULES: Rules<'static> = Rules {
        state_key: "instance_state",
        per_page_max: 100,
        app_id: 1,
        source: Source::Fleet,
    };

    const PLACE: Place = Place::Page { page: 2, offset: 7 };

    const OVER_INDEX: Rules<'static> = Rules {
        source: Source::Index,
        ..RULES
    };

    pub(super) fn parse(parameters: &[(&str, &str)]) -> Result<ListQuery, Error> {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        ListQuery::parse(&parameters, RULES)
    }

    fn kind(parameters: &[(&str, &str)]) -> Kind {
        parse(parameters).unwrap_err().kind()
    }

    #[test]
    fn no_parameter_lists_without_a_filter() {
        for parameters in [
            &[][..],
            &[("query", ""), ("limit", "0"), ("cursor", "")],
            &[("query", "{}")],
        ] {
            let query = parse(parameters).unwrap();
            assert_eq!(query.filter, Filter::default());
            assert_eq!(query.position, Position::default());
            assert_eq!(query.limit, None);
        }
    }

    #[test]
    fn limit_becomes_the_page_size_up_to_the_largest_page() {
        for (limit, per_page) in [
            ("3", 3),
            ("100", 100),
            ("250", 100),
            ("99999999999999999999999", 100),
        ] {
            assert_eq!(
                parse(&[("limit", limit)]).unwrap().position.per_page,
                Some(per_page)
            );
        }
        let query = parse(&[("limit", "2"), ("query", r#"{"PerPage": 3}"#)]).unwrap();
        assert_eq!((query.limit, query.position.per_page), (Some(2), Some(3)));
    }

    #[test]
    fn a_limit_that_is_no_count_is_refused() {
        for limit in ["-1", "", "+1", "1.5", " 1", "ten"] {
            assert_eq!(
                kind(&[("limit", limit)]),
                Kind::InvalidArgument,
                "{limit:?}"
            );
        }
        assert_eq!(
            kind(&[("limit", "1"), ("limit", "2")]),
            Kind::InvalidArgument
        );
    }

    #[test]
    fn query_and_plain_parameters_exclude_each_other() {
        assert_eq!(
            kind(&[("query", "{}"), ("status", "running")]),
            Kind::InvalidArgument
        );
        assert_eq!(
            kind(&[("query", "{}"), ("stauts", "running")]),
            Kind::InvalidArgument
        );
        assert!(
            parse(&[("query", ""), ("status", "running")]).is_ok(),
            "an empty query asks for nothing"
        );
    }

    #[test]
    fn a_cursor_continues_where_it_was_made_whatever_the_query_pages_by() {
        let first = parse(&[("query", r#"{"Pages": 1, "PerPage": 1}"#)]).unwrap();
        let cursor = first.cursor(PLACE, RULES);
        let next = parse(&[
            ("query", r#"{"Pages": 1, "PerPage": 9}"#),
            ("cursor", &cursor),
        ])
        .unwrap();
        assert_eq!(
            next.position,
            Position {
                page: Some(2),
                offset: 7,
                per_page: Some(1),
                after: None,
            }
        );
    }

    #[test]
    fn a_cursor_of_another_filter_or_app_is_refused() {
        let cursor = parse(&[("status", "running")])
            .unwrap()
            .cursor(PLACE, RULES);
        assert!(
            parse(&[("query", r#"{"Status": "running"}"#), ("cursor", &cursor)]).is_ok(),
            "same filter"
        );
        assert_eq!(
            kind(&[("status", "stopped"), ("cursor", &cursor)]),
            Kind::InvalidCursor
        );
        assert_eq!(
            kind(&[("city", "running"), ("cursor", &cursor)]),
            Kind::InvalidCursor
        );
        assert_eq!(kind(&[("cursor", &cursor)]), Kind::InvalidCursor);
        let parameters = [
            ("status".to_owned(), "running".to_owned()),
            ("cursor".to_owned(), cursor),
        ];
        let other = ListQuery::parse(&parameters, Rules { app_id: 2, ..RULES });
        assert_eq!(other.unwrap_err().kind(), Kind::InvalidCursor);
    }

    #[test]
    fn a_cursor_only_fits_the_source_it_was_made_by() {
        let with = |cursor: String, rules| {
            ListQuery::parse(&[("cursor".to_owned(), cursor)], rules).map(|query| query.position)
        };
        let query = parse(&[]).unwrap();
        let over_pages = query.cursor(PLACE, RULES);
        let over_index = query.cursor(Place::After(7), OVER_INDEX);
        assert_eq!(with(over_index.clone(), OVER_INDEX).unwrap().after, Some(7));
        for (cursor, rules) in [(over_pages, OVER_INDEX), (over_index, RULES)] {
            let kind = with(cursor, rules).unwrap_err().kind();
            assert_eq!(kind, Kind::InvalidCursor);
        }
    }

    #[test]
    fn an_age_is_a_count_of_milliseconds() {
        let age = |text| parse(&[("max_age_ms", text)]).map(|query| query.max_age);
        assert_eq!(age("0").unwrap(), Some(Duration::ZERO));
        assert_eq!(age("1500").unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(parse(&[]).unwrap().max_age, None);
        for text in ["", "-1", "1s", "1.5"] {
            assert_eq!(
                age(text).unwrap_err().kind(),
                Kind::InvalidArgument,
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_parameter_panics(name in any::<usize>(), value in ".*") {
            let names = ["query", "limit", "cursor", "metadata", "status", "page", "per_page", "state", "max_age_ms"];
            let _ = parse(&[(names[name % names.len()], &value)]);
        }
    }
}
