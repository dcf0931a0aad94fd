//! Any text is an access key or an error, and a key is written as it was read.

#![no_main]

use gateway_api::{AccessKey, RANDOM_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data)
        && let Ok(key) = text.parse::<AccessKey>()
    {
        assert_eq!(key.expose(), text);
    }
    // No mutation finds the checksum of a key by itself.
    if let Some(random) = data.first_chunk::<RANDOM_BYTES>() {
        let key = AccessKey::from_random(random);
        let read: AccessKey = key.expose().parse().expect("a key that was made is read");
        assert_eq!(read.expose(), key.expose());
        let jwk = read.key_pair().private_jwk();
        let pair = jwk.key_pair().expect("a JWK that was made is read");
        assert_eq!(pair.expect("both halves").public(), key.key_pair().public());
    }
});
