//! Keys that everybody knows, because documents and tests print their private halves.

use crate::key::PublicKey;

/// Public keys (`x`) whose private halves are public: the sample key of the ODIN server's documentation and the keys
/// of the test vectors in this repository.
const PUBLISHED: [&str; 6] = [
    "a5J2bhmU7vsY0LrW1zt56iUdmhRUNz7Pl9eBoCy29d8",
    "ZGYe_vBZVNkzQ6fD8BmkJUb6o0p8wfKt3PqFVx6-be4",
    "BGdqebH3XkPxmc-W8GeRiQF3OtbPrGowFgUV9B1zpg4",
    "3VcSKCfpN9MN_62_nt_-0ilM-yggL-6D63nrGNbmW_Y",
    "3Dgel90cXnUO3sssTGZ96A37oHsXlXHmMmQONBQ457Q",
    "4YWJIk1NzKrS8mVctvxD7xaCoAffkeCQ2y973-RMUpY",
];

/// Whether anybody can sign for this key. A program that guards something refuses it.
pub fn is_published(key: &PublicKey) -> bool {
    PUBLISHED.contains(&key.x().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_key_is_a_key_and_is_known() {
        for x in PUBLISHED {
            assert!(is_published(&PublicKey::from_x(x).unwrap()), "{x}");
        }
    }
}
