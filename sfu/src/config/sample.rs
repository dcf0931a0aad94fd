//! The sample settings, made from the table of keys so that they cannot differ from what is read.

use super::keys::{Key, SECTIONS, SectionTable, Shown};

/// Columns of the sample.
const WIDTH: usize = 100;

const HEAD: &str = "Settings of the voice server. A line that begins with \"#\" and a name shows how it would be set; \
                    the others are needed by a server that stands alone. Times are whole milliseconds.";

/// A commented `config.toml` with every key.
pub fn sample() -> String {
    let mut text = String::new();
    comment(&mut text, HEAD);
    for section in SECTIONS {
        write_section(&mut text, section);
    }
    text
}

fn write_section(text: &mut String, section: &SectionTable) {
    text.push('\n');
    if !section.name.is_empty() {
        comment(text, section.doc);
        let is_set = section
            .keys
            .iter()
            .any(|key| matches!(key.shown, Shown::Set(_)));
        let mark = if is_set { "" } else { "#" };
        text.push_str(&match section.is_list {
            true => format!("{mark}[[{}]]\n", section.name),
            false => format!("{mark}[{}]\n", section.name),
        });
    }
    for key in section.keys {
        write_key(text, key);
    }
}

fn write_key(text: &mut String, key: &Key) {
    let Key { name, doc, .. } = key;
    match key.shown {
        Shown::Set(value) => {
            comment(text, doc);
            text.push_str(&format!("{name} = {value}\n"));
        }
        Shown::Default(value) => {
            comment(text, &format!("{doc} Default: {value}."));
            text.push_str(&format!("#{name} = {value}\n"));
        }
        Shown::Example(value) => {
            comment(text, &format!("{doc} Default: not set."));
            text.push_str(&format!("#{name} = {value}\n"));
        }
        Shown::Needed(value) => {
            comment(text, &format!("{doc} Needed in this section."));
            text.push_str(&format!("#{name} = {value}\n"));
        }
        Shown::Told => comment(text, &format!("{name}: {doc}")),
        Shown::Hidden => {}
    }
}

/// Words in lines of the sample's width, each with its mark.
fn comment(text: &mut String, words: &str) {
    let mut line = "#".to_owned();
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs, path::Path};

    use serde::{Deserialize, Deserializer, de::Visitor, forward_to_deserialize_any};

    use super::*;
    use crate::config::{Config, file};

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");

    fn parse(text: &str) -> Config {
        let name = Path::new("config.example.toml");
        let token = ("ODIN_API_TOKEN".to_owned(), "t".to_owned());
        Config::parse(name, text, [token].into()).expect("the sample is right")
    }

    /// The sample with these of its settings that are commented out set.
    fn set(is_set: impl Fn(&str) -> bool) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(setting)
                if !setting.is_empty() && !setting.starts_with(' ') && is_set(setting) =>
            {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        };
        sample().lines().map(line).collect()
    }

    #[test]
    fn the_sample_file_is_the_one_of_the_table() {
        if env::var_os("BIFROST_WRITE_SAMPLE").is_some() {
            fs::write(FILE, sample()).unwrap();
        }
        assert_eq!(
            fs::read_to_string(FILE).unwrap(),
            sample(),
            "BIFROST_WRITE_SAMPLE=1 cargo test -p sfu sample writes it anew"
        );
    }

    #[test]
    fn the_sample_is_right_as_it_is_and_with_everything_in_it_set() {
        let config = parse(&sample());
        assert!(config.quic.is_some() && config.http.is_some());
        assert!(config.supervisor.is_none() && config.metrics.is_none());
        assert!(config.fleet.is_none());
        assert_eq!(config.warnings(), [""; 0]);
        let config = parse(&set(|_| true));
        assert!(config.supervisor.is_some() && config.metrics.is_some());
        assert!(config.fleet.is_some());
        assert!(config.telemetry.is_some() && config.limit.max_peers == Some(25));
        assert_eq!(config.warnings(), [""; 0]);
    }

    #[test]
    fn what_the_sample_calls_a_default_is_one() {
        let is_section = |line: &str| line.starts_with('[');
        let is_shown = |line: &str, value: fn(Shown) -> Option<&'static str>| {
            let mut keys = SECTIONS.iter().flat_map(|section| section.keys);
            keys.any(|key| {
                value(key.shown).is_some_and(|value| line == format!("{} = {value}", key.name))
            })
        };
        let is_needed = |line: &str| {
            is_shown(line, |shown| match shown {
                Shown::Needed(value) => Some(value),
                _ => None,
            })
        };
        let is_default = |line: &str| {
            is_shown(line, |shown| match shown {
                Shown::Default(value) => Some(value),
                _ => None,
            })
        };
        let least = parse(&set(|line| is_section(line) || is_needed(line)));
        let text = set(|line| is_section(line) || is_needed(line) || is_default(line));
        assert_ne!(text, set(|line| is_section(line) || is_needed(line)));
        assert_eq!(format!("{:#?}", parse(&text)), format!("{least:#?}"));
    }

    #[test]
    fn the_table_has_exactly_the_fields_that_are_read() {
        let structs = [
            ("", fields::<file::File>()),
            ("log", fields::<file::Log>()),
            ("log.terminal", fields::<file::Terminal>()),
            ("supervisor", fields::<file::Supervisor>()),
            ("authorization", fields::<file::Authorization>()),
            ("authorization.keys", fields::<file::Key>()),
            ("quic", fields::<file::Quic>()),
            ("http", fields::<file::Http>()),
            ("metrics", fields::<file::Metrics>()),
            ("limit", fields::<file::Limit>()),
            ("limit.network", fields::<file::Network>()),
            (
                "limit.network.incoming_media_packets",
                fields::<file::PacketRate>(),
            ),
            ("limit.peer", fields::<file::Peer>()),
            (
                "limit.peer.incoming_messages",
                fields::<file::MessageRate>(),
            ),
            ("telemetry", fields::<file::Telemetry>()),
            ("fleet", fields::<file::Fleet>()),
            ("internal", fields::<file::Internal>()),
        ];
        let path = |section: &str, name: &str| match section {
            "" => name.to_owned(),
            section => format!("{section}.{name}"),
        };
        let mut read = BTreeSet::new();
        for (section, fields) in structs {
            read.extend(fields.iter().map(|field| path(section, field)));
        }
        let mut told = BTreeSet::new();
        for section in SECTIONS {
            // Every section is a field of the one around it.
            for (at, _) in section.name.match_indices('.') {
                told.insert(section.name[..at].to_owned());
            }
            told.insert(section.name.to_owned());
            for key in section.keys {
                let key_path = path(section.name, key.name);
                if let super::super::keys::Members::Of(members) = key.members {
                    told.extend(members.iter().map(|member| path(&key_path, member)));
                }
                assert!(told.insert(key_path), "{} is told twice", key.name);
                assert!(key.doc.ends_with('.'), "{} is told", key.name);
            }
        }
        told.remove("");
        assert_eq!(told, read);
    }

    /// The names a struct asks its deserializer for.
    fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
        let mut fields: &'static [&'static str] = &[];
        let asked = T::deserialize(Fields(&mut fields));
        assert!(asked.is_err() && !fields.is_empty());
        fields
    }

    struct Fields<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only the names are wanted"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
}
