//! Any text is a token or an error. Claims are judged, and those that we can write are read as they were written.

#![no_main]

use std::{sync::LazyLock, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway_api::{Claims, ClaimsObject, KeyKind, KeyPair, Rules, Token, sign};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::from_seed(&[7; 32], KeyKind::Customer));

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data)
        && let Ok(token) = Token::read(text)
    {
        let _ = token.clone().believe_without_key().map(|it| it.claims());
        if let Ok(verified) = token.verify(&KEY.public()) {
            judge(verified.claims().as_ref().ok());
        }
    }
    // No mutation finds a signature by itself: sign a header and claims, with a zero byte between them.
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else {
        return;
    };
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()));
    let token = format!("{signed}.{signature}");
    if let Ok(verified) = Token::read(&token).and_then(|token| token.verify(&KEY.public())) {
        judge(verified.claims().as_ref().ok());
    }
    if let Ok(claims) = serde_json::from_slice::<Claims>(claims) {
        let token = sign(&claims, &KEY);
        let token = Token::read(&token).expect("a token that was signed is read");
        let verified = token.verify(&KEY.public()).expect("our signature is right");
        let object = verified.claims().expect("claims are an object");
        let again = serde_json::from_value::<Claims>(object.into());
        assert_eq!(again.expect("claims that were written are read"), claims);
        let _ = claims.rooms();
    }
});

fn judge(claims: Option<&ClaimsObject>) {
    let rules = Rules {
        audience: "gateway",
        leeway: Duration::from_secs(300),
        now: Duration::from_secs(1_700_000_000),
    };
    if let Some(Ok(restrictions)) = claims.map(|claims| rules.check(claims)) {
        let _ = restrictions.allows("Connect");
    }
}
