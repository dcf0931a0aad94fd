//! The opaque text that continues a list: a place in Fleet's pages, bound to the filter it was made with.
//!
//! The checksum catches accidents (a truncated or invented text), not forgery: a forged cursor can only name a
//! page that its maker could have asked for anyway.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Conditions, Filter};

/// First byte of every cursor; another value is another layout.
const VERSION: u8 = 1;
/// Version 1, page 4, offset 2, page size 1, fingerprint 8, checksum 4.
const LENGTH_BYTES: usize = 20;
/// Fleet's largest page; a cursor beyond it was not made by the bridge.
const PER_PAGE_MAX: u8 = 100;

/// A place in the pages of one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Fleet's page, counted from 1.
    pub page: u32,
    /// Servers of the page that are done.
    pub offset: u16,
    /// Page size of the walk; `None` leaves it to Fleet.
    pub per_page: Option<u8>,
    /// Of the filter and app of the walk.
    pub fingerprint: u64,
}

impl Cursor {
    /// The cursor as callers see it.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(LENGTH_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.page.to_be_bytes());
        bytes.extend(self.offset.to_be_bytes());
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
        const FOREIGN: &str = "it was not made by this bridge";
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| FOREIGN)?;
        let bytes: [u8; LENGTH_BYTES] = bytes.try_into().map_err(|_| FOREIGN)?;
        let (body, sum) = bytes.split_at(LENGTH_BYTES - 4);
        if sum != checksum(body) || body[0] != VERSION {
            return Err(FOREIGN);
        }
        let [
            _,
            p0,
            p1,
            p2,
            p3,
            o0,
            o1,
            per_page,
            f0,
            f1,
            f2,
            f3,
            f4,
            f5,
            f6,
            f7,
            ..,
        ] = bytes;
        let page = u32::from_be_bytes([p0, p1, p2, p3]);
        if page == 0 || per_page > PER_PAGE_MAX {
            return Err(FOREIGN);
        }
        Ok(Self {
            page,
            offset: u16::from_be_bytes([o0, o1]),
            per_page: (per_page != 0).then_some(per_page),
            fingerprint: u64::from_be_bytes([f0, f1, f2, f3, f4, f5, f6, f7]),
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
    use proptest::prelude::{any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn decode_reverses_encode(page in 1u32.., offset in any::<u16>(), size in 0u8..=100, fingerprint in any::<u64>()) {
            let cursor = Cursor { page, offset, per_page: (size != 0).then_some(size), fingerprint };
            assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }

        #[test]
        fn a_changed_byte_is_noticed(at in 0usize..LENGTH_BYTES, flip in 1u8..) {
            let cursor = Cursor { page: 3, offset: 2, per_page: Some(15), fingerprint: 77 };
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor.encode()).unwrap();
            bytes[at] ^= flip;
            assert!(Cursor::decode(&BASE64_URL_SAFE_NO_PAD.encode(bytes)).is_err());
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
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(FNV_START, b"foobar"), 0x8594_4171_F739_67E8);
    }
}
