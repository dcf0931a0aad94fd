//! Whatever stands in the settings, they are an error or a config.

use proptest::prelude::*;

use super::{super::keys::SECTIONS, LEAST, parse};

/// Lines that settings are made of, right and wrong ones.
fn line() -> impl Strategy<Value = String> {
    let names = SECTIONS.iter().flat_map(|section| {
        let keys = section.keys.iter().map(|key| key.name.to_owned());
        keys.chain([
            format!("[{}]", section.name),
            format!("[[{}]]", section.name),
        ])
    });
    let names: Vec<String> = names.collect();
    let value = prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| format!("{value:e}")),
        any::<bool>().prop_map(|value| value.to_string()),
        "\"[a-z0-9.:/@%]{0,12}\"",
        "\\[\"[0-9.:/]{0,8}\"\\]",
        "\\{ (rate|capacity|x) = [0-9]{1,3} \\}",
        Just("1979-05-27T07:32:00Z".to_owned()),
        "\\PC{0,8}",
    ];
    (prop::sample::select(names), value).prop_map(|(name, value)| match name.starts_with('[') {
        true => name,
        false => format!("{name} = {value}"),
    })
}

proptest! {
    #[test]
    fn any_text_is_an_error_or_a_config(text in "\\PC{0,80}") {
        let _ = parse(&text).map(|config| config.warnings());
    }

    #[test]
    fn any_lines_are_an_error_or_a_config(lines in prop::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        for text in [text.clone(), format!("{LEAST}{text}")] {
            match parse(&text) {
                Ok(config) => drop(config.warnings()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
