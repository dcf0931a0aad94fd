//! The query string: names and values in order, decoded.

/// A decoded query string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string. Bytes that are not UTF-8 become the replacement character.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The last value of a name: a repeated parameter overrides, as PHP has it.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a list: `name[]=a`, `name[0]=a` or `name=a`, repeated.
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |(known, value)| {
            let rest = known.strip_prefix(name)?;
            let index = rest
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            let is_list = rest.is_empty()
                || index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()));
            is_list.then_some(value.as_str())
        })
    }

    /// All values of `name[key]=value`, with their keys.
    pub(crate) fn map<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(known, value)| {
            let key = known
                .strip_prefix(name)?
                .strip_prefix('[')?
                .strip_suffix(']')?;
            Some((key, value.as_str()))
        })
    }

    /// The query string again, with `page` set to another number.
    pub(crate) fn with_page(&self, page: i64) -> String {
        let mut text = String::new();
        for (name, value) in self.0.iter().filter(|(name, _)| name != "page") {
            encode(name, &mut text);
            text.push('=');
            encode(value, &mut text);
            text.push('&');
        }
        text.push_str("page=");
        text.push_str(&page.to_string());
        text
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if first == b'+' { b' ' } else { first }));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn encode(text: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(DIGITS[usize::from(byte >> 4)]));
            into.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_maps_are_told_from_plain_parameters() {
        let query = Query::parse("a=1&a=2&m%5B%5D=x&m[1]=y&m=z&filter%5Bcity%5D=s%C3%A3o+p&n%");
        assert_eq!(query.last("a"), Some("2"));
        assert_eq!(query.list("m").collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(query.map("filter").collect::<Vec<_>>(), [("city", "são p")]);
        assert_eq!(query.last("n%"), Some(""));
    }

    #[test]
    fn the_link_to_another_page_keeps_the_rest() {
        let query = Query::parse("page=1&sort[]=-id&filter[metadata]=a%3D%22x%22");
        assert_eq!(
            query.with_page(2),
            "sort%5B%5D=-id&filter%5Bmetadata%5D=a%3D%22x%22&page=2"
        );
    }
}
