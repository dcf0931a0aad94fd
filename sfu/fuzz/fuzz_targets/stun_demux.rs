//! Any packet is for a session or for none, and whatever it is called stands in the packet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::fuzzing::session_of;

/// Bytes of a STUN header.
const HEADER: usize = 20;
/// A binding request, up to its length.
const BINDING_REQUEST: [u8; 2] = [0, 1];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: [u8; 2] = [0, 6];
/// Requests without these two are refused: a priority, and an integrity that the session checks, not the socket.
const PRIORITY: [u8; 8] = [0, 0x24, 0, 4, 110, 0, 30, 255];
const INTEGRITY: [u8; 24] = {
    let mut attribute = [7; 24];
    [attribute[0], attribute[1], attribute[2], attribute[3]] = [0, 8, 0, 20];
    attribute
};
/// Longer user names are refused (RFC 8489).
const USERNAME_MAX: usize = 512;

fuzz_target!(|data: &[u8]| {
    check(data);
    // Lengths that fit are rarely found by mutation: any bytes as the user name of a whole request.
    let name = &data[..data.len().min(USERNAME_MAX)];
    let request = binding_request(name);
    check(&request);
    if let Ok(text) = str::from_utf8(name)
        && let Some((ours, theirs)) = text.split_once(':')
        && !ours.is_empty()
        && !theirs.is_empty()
    {
        let (fragment, _) = session_of(&request).expect("a user name of two parts names a session");
        assert_eq!(fragment, ours);
    }
});

fn check(packet: &[u8]) {
    let Some((fragment, shard)) = session_of(packet) else {
        return;
    };
    assert!(packet[0] <= 3, "what is no STUN has no user name");
    let is_inside = packet
        .windows(fragment.len().max(1))
        .any(|it| it == fragment.as_bytes());
    assert!(is_inside || fragment.is_empty());
    assert!(shard.is_none_or(|shard| shard < 64));
}

fn binding_request(name: &[u8]) -> Vec<u8> {
    let padded = name.len().next_multiple_of(4);
    let length = |bytes: usize| {
        u16::try_from(bytes)
            .expect("the name is short")
            .to_be_bytes()
    };
    let attributes = 4 + padded + PRIORITY.len() + INTEGRITY.len();
    let mut request = Vec::with_capacity(HEADER + attributes);
    request.extend(BINDING_REQUEST);
    request.extend(length(attributes));
    request.extend(MAGIC_COOKIE);
    request.extend([7; 12]);
    request.extend(USERNAME);
    request.extend(length(name.len()));
    request.extend(name);
    request.resize(HEADER + 4 + padded, 0);
    request.extend(PRIORITY);
    request.extend(INTEGRITY);
    request
}
