//! How often one key and one address may call.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use http::HeaderMap;
use ipnet::IpNet;

use crate::config::{Limits, Rate};

/// After this many calls, addresses and keys that are long silent are forgotten.
const CALLS_PER_SWEEP: u32 = 10_000;

/// Most addresses and most keys that are told apart; beyond it those that are silent are forgotten at once.
const KEYS_MAX: usize = 100_000;

/// When to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter(u64);

impl RetryAfter {
    /// Whole seconds, at least 1.
    pub(crate) fn seconds(self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Keyed<K: std::hash::Hash + Eq + Clone> {
    limiter: Option<DefaultKeyedRateLimiter<K>>,
    calls: AtomicU32,
}

impl<K: std::hash::Hash + Eq + Clone> Keyed<K> {
    fn new(rate: Rate) -> Self {
        let quota = NonZeroU32::new(rate.per_second).map(|per_second| {
            let burst = NonZeroU32::new(rate.burst).unwrap_or(per_second);
            Quota::per_second(per_second).allow_burst(burst)
        });
        Self {
            limiter: quota.map(RateLimiter::keyed),
            calls: AtomicU32::new(0),
        }
    }

    fn allow(&self, key: &K) -> Result<(), RetryAfter> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        if calls.is_multiple_of(CALLS_PER_SWEEP)
            || (calls.is_multiple_of(100) && limiter.len() > KEYS_MAX)
        {
            limiter.retain_recent();
        }
        limiter.check_key(key).map_err(|wait| {
            let wait = wait.wait_time_from(DefaultClock::default().now());
            RetryAfter(wait.as_secs() + 1)
        })
    }
}

/// The limits of a gateway.
#[derive(Debug)]
pub(crate) struct RateLimits {
    addresses: Keyed<IpAddr>,
    keys: Keyed<String>,
    trusted_proxies: Vec<IpNet>,
}

impl RateLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            addresses: Keyed::new(limits.address),
            keys: Keyed::new(limits.key),
            trusted_proxies: limits.trusted_proxies.clone(),
        }
    }

    /// Counts a call of this address.
    pub(crate) fn allow_address(&self, address: IpAddr) -> Result<(), RetryAfter> {
        self.addresses.allow(&network(address))
    }

    /// Counts a call with a token of this key.
    pub(crate) fn allow_key(&self, kid: &str) -> Result<(), RetryAfter> {
        if self.keys.limiter.is_none() {
            return Ok(());
        }
        self.keys.allow(&kid.to_owned())
    }

    /// Who calls: the peer, or whom a proxy that is trusted speaks for.
    pub(crate) fn client_address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.ip().to_canonical();
        let is_trusted = |address: &IpAddr| {
            let mut proxies = self.trusted_proxies.iter();
            proxies.any(|proxy| proxy.contains(address))
        };
        if !is_trusted(&peer) {
            return peer;
        }
        // From the right: what stands left of the first address that is not trusted may be invented.
        let lines = headers.get_all("x-forwarded-for").into_iter().rev();
        let hops = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(',').rev())
            .map_while(|hop| hop.trim().parse::<IpAddr>().ok())
            .map(|address| address.to_canonical());
        let mut client = peer;
        for hop in hops {
            client = hop;
            if !is_trusted(&hop) {
                break;
            }
        }
        client
    }
}

/// Whoever has one address of IPv6 has the whole /64.
fn network(address: IpAddr) -> IpAddr {
    const NETWORK_BITS: u128 = !0 << 64;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK_BITS).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_second: u32, burst: u32) -> RateLimits {
        let rate = Rate { per_second, burst };
        RateLimits::new(&Limits {
            key: rate,
            address: rate,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..Limits::default()
        })
    }

    #[test]
    fn a_burst_is_allowed_and_then_no_more() {
        let limits = limits(1, 3);
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        let allowed = (0..9).filter(|_| limits.allow_address(one).is_ok()).count();
        assert_eq!(allowed, 3);
        let refused = limits.allow_address(neighbour).unwrap_err();
        assert!((1..=2).contains(&refused.seconds()));
        assert!(limits.allow_address(other).is_ok());
        let allowed = (0..9).filter(|_| limits.allow_key("k").is_ok()).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = limits(0, 0);
        assert!((0..10_000).all(|_| limits.allow_key("k").is_ok()));
    }

    #[test]
    fn only_a_trusted_proxy_speaks_for_others() {
        let limits = limits(1, 1);
        let client = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let address = limits.client_address(peer.parse().unwrap(), &headers);
            address.to_string()
        };
        assert_eq!(client("1.1.1.1:1", &["2.2.2.2"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1:1", &["3.3.3.3, 2.2.2.2"]), "2.2.2.2");
        assert_eq!(
            client("10.0.0.1:1", &["3.3.3.3", "2.2.2.2, 10.0.0.2"]),
            "2.2.2.2"
        );
        assert_eq!(client("10.0.0.1:1", &["junk, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("[::ffff:10.0.0.1]:1", &["2.2.2.2"]), "2.2.2.2");
        assert_eq!(client("10.0.0.1:1", &[]), "10.0.0.1");
    }
}
