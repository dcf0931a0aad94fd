//! The envelope around a page: data, links to other pages, and where in the list it stands.

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::ApiVersion;
use crate::query::Query;

/// How many pages on each side of the present one get a link.
const EACH_SIDE: i64 = 3;

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    pub(crate) total: i64,
    pub(crate) page: i64,
    pub(crate) per_page: i64,
}

/// Where the list was asked for: needed for the links.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Address without the query string.
    pub(crate) path: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) api: ApiVersion,
}

#[derive(Serialize)]
struct Envelope<V> {
    data: Vec<V>,
    links: Value,
    meta: Value,
}

impl<T> Page<T> {
    /// The JSON text of the page, each item shown by `view`.
    pub(crate) fn to_json<V: Serialize>(
        &self,
        place: Place<'_>,
        view: impl Fn(&T) -> V,
    ) -> Vec<u8> {
        let data: Vec<V> = self.data.iter().map(view).collect();
        let last = self.last_page();
        let url = |page: i64| format!("{}?{}", place.path, place.query.with_page(page));
        let prev = (self.page > 1).then(|| url(self.page - 1));
        let next = (self.page < last).then(|| url(self.page + 1));
        let count = i64::try_from(data.len()).unwrap_or(i64::MAX);
        let from = (count > 0).then(|| (self.page - 1) * self.per_page + 1);
        let meta = json!({
            "current_page": self.page,
            "from": from,
            "last_page": last,
            "links": self.links(place, &url),
            "path": place.path,
            "per_page": self.per_page,
            "to": from.map(|from| from + count - 1),
            "total": self.total,
        });
        let links = json!({ "first": url(1), "last": url(last), "prev": prev, "next": next });
        serde_json::to_vec(&Envelope { data, links, meta })
            .expect("views have text keys and write into memory")
    }

    /// The number of the last page; an empty list has one page.
    pub(crate) fn last_page(&self) -> i64 {
        ((self.total + self.per_page - 1) / self.per_page).max(1)
    }

    fn links(&self, place: Place<'_>, url: &impl Fn(i64) -> String) -> Vec<Value> {
        let last = self.last_page();
        let link = |label: String, page: Option<i64>, active: bool| {
            let mut link = json!({ "url": page.map(url), "label": label, "active": active });
            if place.api > ApiVersion::V0_9_0 {
                link["page"] = json!(page);
            }
            link
        };
        let prev = (self.page > 1).then(|| self.page - 1);
        let mut links = vec![link("&laquo; Previous".to_owned(), prev, false)];
        let mut before = 0;
        let here = self.page.min(last);
        let near = here - EACH_SIDE..=here + EACH_SIDE;
        let shown = [1, 2].into_iter().chain(near).chain([last - 1, last]);
        let mut shown: Vec<i64> = shown.filter(|page| (1..=last).contains(page)).collect();
        shown.sort_unstable();
        shown.dedup();
        for page in shown {
            if page > before + 1 {
                links.push(link("...".to_owned(), None, false));
            }
            links.push(link(page.to_string(), Some(page), page == self.page));
            before = page;
        }
        let next = (self.page < last).then(|| self.page + 1);
        links.push(link("Next &raquo;".to_owned(), next, false));
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(total: i64, page: i64, per_page: i64) -> Value {
        let skip = (page - 1) * per_page;
        let data: Vec<i64> = (0..total)
            .skip(skip as usize)
            .take(per_page as usize)
            .collect();
        let query = Query::parse(&format!("perPage={per_page}"));
        let api = ApiVersion::V0_9_2;
        let place = Place {
            path: "http://f/api/v1/apps",
            query: &query,
            api,
        };
        let page = Page {
            data,
            total,
            page,
            per_page,
        };
        serde_json::from_slice(&page.to_json(place, |item| *item)).unwrap()
    }

    #[test]
    fn a_page_in_the_middle_links_both_ways() {
        let page = envelope(5, 2, 2);
        assert_eq!(page["data"], json!([2, 3]));
        assert_eq!(
            page["links"]["next"],
            "http://f/api/v1/apps?perPage=2&page=3"
        );
        assert_eq!(
            page["links"]["prev"],
            "http://f/api/v1/apps?perPage=2&page=1"
        );
        assert_eq!(
            (&page["meta"]["from"], &page["meta"]["to"]),
            (&json!(3), &json!(4))
        );
        assert_eq!(page["meta"]["last_page"], 3);
        assert_eq!(page["meta"]["links"][2]["active"], true);
        assert_eq!(page["meta"]["links"][2]["page"], 2);
    }

    #[test]
    fn an_empty_list_has_one_page_and_a_page_past_the_end_is_empty() {
        let empty = envelope(0, 1, 15);
        assert_eq!(
            (&empty["meta"]["last_page"], &empty["meta"]["from"]),
            (&json!(1), &Value::Null)
        );
        let past = envelope(3, 50, 100);
        assert_eq!(past["data"], json!([]));
        assert_eq!(
            (&past["links"]["next"], &past["meta"]["to"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn the_number_of_links_is_bounded() {
        let page = envelope(10_000, 500, 1);
        assert!(page["meta"]["links"].as_array().unwrap().len() <= 15);
    }
}
