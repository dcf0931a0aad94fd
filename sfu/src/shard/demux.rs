//! Which session a packet of the shared socket belongs to, and on which shard that is.

use is::stun::StunMessage;

use super::ShardNumber;

/// Characters of an ICE user fragment: `ice-char` of RFC 8839.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Characters of a user fragment after the one for the shard: 90 bits, so that nobody guesses it.
const RANDOM_CHARACTERS: usize = 15;

/// Shards that a user fragment can name.
pub(crate) const SHARDS_MAX: usize = ALPHABET.len();

/// What a packet is, by its first byte (RFC 7983).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// STUN, with the user fragment of the session it is for.
    Stun(&'a str),
    /// Anything a session that is known by its address may get.
    Dtls,
    /// Nothing that clients send.
    Unknown,
}

impl<'a> Packet<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        match bytes.first() {
            Some(0..=3) => {
                let message = StunMessage::parse(bytes).ok();
                let username = message.as_ref().and_then(StunMessage::split_username);
                // The name borrows from the message; the same text is found again in the packet.
                let ours = username.and_then(|(ours, _)| find(bytes, ours));
                ours.map_or(Self::Unknown, Self::Stun)
            }
            Some(20..=63) => Self::Dtls,
            _ => Self::Unknown,
        }
    }
}

fn find<'a>(bytes: &'a [u8], text: &str) -> Option<&'a str> {
    let at = bytes
        .windows(text.len().max(1))
        .position(|it| it == text.as_bytes())?;
    std::str::from_utf8(bytes.get(at..at + text.len())?).ok()
}

/// A new user fragment of a session on this shard; `random` are bytes of the system's generator.
pub(super) fn user_fragment(shard: ShardNumber, random: &[u8; RANDOM_CHARACTERS]) -> String {
    let character = |number: u8| char::from(ALPHABET[usize::from(number) % ALPHABET.len()]);
    let random = random.iter().map(|byte| character(*byte));
    std::iter::once(character(shard.0)).chain(random).collect()
}

/// The shard that made a user fragment.
pub(crate) fn shard_of(user_fragment: &str) -> Option<ShardNumber> {
    let first = user_fragment.bytes().next()?;
    let at = ALPHABET.iter().position(|it| *it == first)?;
    u8::try_from(at).ok().map(ShardNumber)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        let mut bytes = [kind.to_be_bytes(), length.to_be_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A binding request with this user name, a priority and a signature that nobody made.
    fn binding_request(username: &str) -> Vec<u8> {
        let attributes = [
            attribute(0x0006, username.as_bytes()),
            attribute(0x0024, &[0, 0, 0, 1]),
            attribute(0x0008, &[7; 20]),
        ]
        .concat();
        let mut bytes = vec![0, 1];
        bytes.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        bytes.extend([0x21, 0x12, 0xa4, 0x42]);
        bytes.extend([7; 12]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn packets_are_told_apart() {
        assert_eq!(
            Packet::of(&binding_request("ours:theirs")),
            Packet::Stun("ours")
        );
        assert_eq!(Packet::of(&binding_request("ours")), Packet::Unknown);
        assert_eq!(Packet::of(&binding_request("")), Packet::Unknown);
        assert_eq!(Packet::of(&[22, 254, 253]), Packet::Dtls);
        for unknown in [&[][..], &[0], &[0, 1, 0, 0], &[128, 0], &[255], &[64]] {
            assert_eq!(Packet::of(unknown), Packet::Unknown);
        }
    }

    #[test]
    fn a_user_fragment_names_its_shard() {
        for number in 0..64 {
            let fragment = user_fragment(ShardNumber(number), &[number * 4; 15]);
            assert_eq!(fragment.len(), 16);
            assert_eq!(shard_of(&fragment), Some(ShardNumber(number)));
        }
        assert_eq!(shard_of(""), None);
        assert_eq!(shard_of("ü"), None);
    }

    proptest! {
        #[test]
        fn any_packet_is_something(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::of(&bytes);
        }

        #[test]
        fn a_changed_binding_request_is_something(at in 0..36_usize, byte: u8) {
            let mut bytes = binding_request("ours:theirs");
            bytes[at] = byte;
            let _ = Packet::of(&bytes);
        }
    }
}
