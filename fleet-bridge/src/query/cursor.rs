//! The opaque text that continues a list: a place in Fleet's pages or in the index, bound to the filter it was made
//! with.
//!
//! The checksum catches accidents (a truncated or invented text), not forgery: a forged cursor can only name a
//! place that its maker could have asked for anyway.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Conditions, Filter};

/// First byte of a cursor over Fleet's pages; another value is another layout.
const PAGES: u8 = 1;
/// First byte of a cursor over the index.
const INDEX: u8 = 2;
/// Version 1, page 4, offset 2, page size 1, fingerprint 8, checksum 4.
const PAGES_BYTES: usize = 20;
/// Version 1, id 8, page size 1, fingerprint 8, checksum 4.
const INDEX_BYTES: usize = 22;
/// Fleet's largest page; a cursor beyond it was not made by the bridge.
const PER_PAGE_MAX: u8 = 100;
const FOREIGN: &str = "it was not made by this bridge";

/// A place in the servers of one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The place.
    pub place: Place,
    /// Page size of the walk; `None` leaves it to whoever answers.
    pub per_page: Option<u8>,
    /// Of the filter and app of the walk.
    pub fingerprint: u64,
}

/// Where an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the pages of Fleet, that move when servers come and go.
    Page {
        /// Fleet's page, counted from 1.
        page: u32,
        /// Servers of the page that are done.
        offset: u16,
    },
    /// In the index: servers up to this id are done.
    After(i64),
}

impl Cursor {
    /// The cursor as callers see it.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(INDEX_BYTES);
        match self.place {
            Place::Page { page, offset } => {
                bytes.push(PAGES);
                bytes.extend(page.to_be_bytes());
                bytes.extend(offset.to_be_bytes());
            }
            Place::After(id) => {
                bytes.push(INDEX);
                bytes.extend(id.to_be_bytes());
            }
        }
        bytes.push(self.per_page.unwrap_or(0));
        bytes.extend(self.fingerprint.to_be_bytes());
        bytes.extend(checksum(&bytes));
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor.
    ///
    /// # Errors
    ///
    /// Why the text is not a cursor of this bridge.
    pub fn decode(text: &str) -> Result<Self, &'static str> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| FOREIGN)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(FOREIGN)?;
        if *sum != checksum(body) {
            return Err(FOREIGN);
        }
        let (place, rest) = match (body.split_first(), bytes.len()) {
            (Some((&PAGES, rest)), PAGES_BYTES) => {
                let (page, rest) = rest.split_first_chunk().ok_or(FOREIGN)?;
                let (offset, rest) = rest.split_first_chunk().ok_or(FOREIGN)?;
                let page = u32::from_be_bytes(*page);
                let offset = u16::from_be_bytes(*offset);
                (Place::Page { page, offset }, rest)
            }
            (Some((&INDEX, rest)), INDEX_BYTES) => {
                let (id, rest) = rest.split_first_chunk().ok_or(FOREIGN)?;
                (Place::After(i64::from_be_bytes(*id)), rest)
            }
            _ => return Err(FOREIGN),
        };
        let (per_page, rest) = rest.split_first().ok_or(FOREIGN)?;
        let (fingerprint, _) = rest.split_first_chunk().ok_or(FOREIGN)?;
        if matches!(place, Place::Page { page: 0, .. }) || *per_page > PER_PAGE_MAX {
            return Err(FOREIGN);
        }
        Ok(Self {
            place,
            per_page: (*per_page != 0).then_some(*per_page),
            fingerprint: u64::from_be_bytes(*fingerprint),
        })
    }
}

/// Identifies a filter of an app. The same in every build, because cursors outlive a restart.
pub(super) fn fingerprint(filter: &Filter, app_id: i64) -> u64 {
    let Filter {
        status,
        city,
        country,
        continent,
        metadata,
    } = filter;
    let mut hash = fnv1a(FNV_START, &app_id.to_be_bytes());
    let metadata = metadata.as_ref().map(Conditions::as_str);
    let [status, city, country, continent] =
        [status, city, country, continent].map(Option::as_deref);
    for field in [status, city, country, continent, metadata] {
        // Neither byte occurs in UTF-8, so that no text can imitate an absent field or the end of one.
        hash = match field {
            None => fnv1a(hash, &[0xFE]),
            Some(text) => fnv1a(fnv1a(hash, text.as_bytes()), &[0xFF]),
        };
    }
    hash
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = fnv1a(FNV_START, bytes).to_be_bytes();
    [a, b, c, d]
}

/// Start value of the 64-bit FNV-1a hash.
const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::{any, proptest},
        sample::Index,
    };

    use super::*;

    proptest! {
        #[test]
        fn decode_reverses_encode(page in 1u32.., offset in any::<u16>(), size in 0u8..=100, fingerprint in any::<u64>(),
            id in any::<i64>()) {
            let per_page = (size != 0).then_some(size);
            for place in [Place::Page { page, offset }, Place::After(id)] {
                let cursor = Cursor { place, per_page, fingerprint };
                assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
            }
        }

        #[test]
        fn a_changed_byte_is_noticed(at in any::<Index>(), flip in 1u8..) {
            for place in [Place::Page { page: 3, offset: 2 }, Place::After(7)] {
                let cursor = Cursor { place, per_page: Some(15), fingerprint: 77 };
                let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor.encode()).unwrap();
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                assert!(Cursor::decode(&BASE64_URL_SAFE_NO_PAD.encode(bytes)).is_err());
            }
        }

        #[test]
        fn arbitrary_text_is_refused(text in ".*") {
            assert!(Cursor::decode(&text).is_err());
        }
    }

    #[test]
    fn the_fingerprint_tells_fields_and_their_absence_apart() {
        let text = || Some("x".to_owned());
        let key = serde_json::Map::from_iter([("x".to_owned(), 1.into())]);
        let filters = [
            Filter::default(),
            Filter {
                status: text(),
                ..Filter::default()
            },
            Filter {
                city: text(),
                ..Filter::default()
            },
            Filter {
                status: Some(String::new()),
                ..Filter::default()
            },
            Filter {
                metadata: Conditions::new(&key).unwrap(),
                ..Filter::default()
            },
        ];
        for (i, a) in filters.iter().enumerate() {
            for b in &filters[i + 1..] {
                assert_ne!(fingerprint(a, 1), fingerprint(b, 1));
            }
            assert_ne!(fingerprint(a, 1), fingerprint(a, 2));
        }
    }

    #[test]
    fn the_layout_of_a_cursor_over_pages_outlives_a_new_build() {
        let place = Place::Page { page: 2, offset: 7 };
        let cursor = Cursor {
            place,
            per_page: Some(1),
            fingerprint: 9,
        };
        assert_eq!(cursor.encode(), "AQAAAAIABwEAAAAAAAAACRUFH8I");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(FNV_START, b"foobar"), 0x8594_4171_F739_67E8);
    }
}
