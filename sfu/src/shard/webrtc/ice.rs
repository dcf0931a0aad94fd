//! The server's side of ICE: it answers a client's checks and makes none of its own (RFC 8445, section 2.5, "lite").

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use is::stun::StunMessage;

/// Who has not checked for so long does not want to hear any more (RFC 7675, section 5.1).
pub(super) const CONSENT: Duration = Duration::from_secs(30);

/// A client whose checks come by another way, and nothing by the one in use for this long, has changed its way. Clients
/// check the one they use every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 128;

/// See the module.
pub(super) struct Ice {
    /// Ours: clients sign their checks with it.
    password: String,
    remote: Option<Remote>,
}

/// Where the client is.
#[derive(Clone, Copy, Debug)]
struct Remote {
    address: SocketAddr,
    heard: Instant,
    consented: Instant,
}

impl std::fmt::Debug for Ice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ice")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl Ice {
    pub(super) fn new(password: String) -> Self {
        Self {
            password,
            remote: None,
        }
    }

    /// Where to send to; `None` where nobody wants to hear.
    pub(super) fn remote(&self, now: Instant) -> Option<SocketAddr> {
        let remote = self.remote?;
        let is_wanted = now.saturating_duration_since(remote.consented) < CONSENT;
        is_wanted.then_some(remote.address)
    }

    /// Takes a client's check, and gives the answer; `None` for what is no check of this client.
    pub(super) fn check(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let check = StunMessage::parse(bytes).ok()?;
        let password = self.password.as_bytes();
        if !check.is_binding_request() || !check.verify(password, sha1_hmac) {
            return None;
        }
        match &mut self.remote {
            Some(remote) => {
                remote.consented = now;
                let silence = now.saturating_duration_since(remote.heard);
                if remote.address == source || (check.use_candidate() && silence > SILENCE_MAX) {
                    (remote.address, remote.heard) = (source, now);
                }
            }
            None => {
                self.remote = Some(Remote {
                    address: source,
                    heard: now,
                    consented: now,
                });
            }
        }
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let reply = StunMessage::binding_reply(check.trans_id(), source);
        let length = reply
            .to_bytes(Some(password), &mut answer, sha1_hmac)
            .ok()?;
        answer.truncate(length);
        Some(answer)
    }

    /// The client's own packets came from here, and could be decrypted: it has chosen this way. Addresses that have not been
    /// checked do not get as far.
    pub(super) fn heard(&mut self, now: Instant, source: SocketAddr) {
        if let Some(remote) = &mut self.remote {
            (remote.address, remote.heard) = (source, now);
        }
    }
}

fn sha1_hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    let mut tag = [0; 20];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

#[cfg(test)]
pub(super) mod tests {
    use is::stun::TransId;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    pub(in crate::shard::webrtc) fn check(password: &str, is_chosen: bool) -> Vec<u8> {
        let message =
            StunMessage::binding_request("ours:theirs", TransId::new(), true, 1, 1, is_chosen);
        let mut bytes = vec![0; 256];
        let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, sha1_hmac);
        bytes.truncate(length.unwrap());
        bytes
    }

    #[test]
    fn checks_are_answered_to_those_who_know_the_password() {
        let now = Instant::now();
        let mut ice = Ice::new("secret".to_owned());
        assert_eq!(ice.check(now, address(1), &check("another", true)), None);
        assert_eq!(ice.remote(now), None);
        let answer = ice.check(now, address(1), &check("secret", true)).unwrap();
        let answer = StunMessage::parse(&answer).unwrap();
        assert!(answer.is_successful_binding_response());
        assert!(answer.verify(b"secret", sha1_hmac));
        assert_eq!(answer.mapped_address(), Some(address(1)));
        assert_eq!(ice.remote(now), Some(address(1)));
        assert_eq!(ice.check(now, address(1), &[0, 1, 0, 0]), None);
    }

    #[test]
    fn the_client_chooses_its_way_by_using_it_and_stays_as_long_as_it_checks() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut ice = Ice::new("secret".to_owned());
        ice.check(began, address(1), &check("secret", true));
        ice.check(began, address(2), &check("secret", true));
        assert_eq!(ice.remote(began), Some(address(1)), "the first is as good");
        ice.heard(at(1), address(2));
        assert_eq!(ice.remote(at(1)), Some(address(2)), "this one is used");
        ice.check(at(7), address(3), &check("secret", false));
        assert_eq!(ice.remote(at(7)), Some(address(2)), "not chosen");
        ice.check(at(7), address(3), &check("secret", true));
        assert_eq!(
            ice.remote(at(7)),
            Some(address(3)),
            "and the other is silent"
        );
        assert_eq!(ice.remote(at(36)), Some(address(3)));
        assert_eq!(ice.remote(at(37)), None);
        ice.check(at(40), address(3), &check("secret", true));
        assert_eq!(ice.remote(at(40)), Some(address(3)));
    }

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // RFC 2202, section 3, the second case.
        let tag = sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    }
}
