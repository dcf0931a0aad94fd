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
