//! When a call is tried again, and after how long. No IO, no clock.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use http::{HeaderMap, Method, StatusCode, header::RETRY_AFTER};

/// How often and how fast a failed call is tried again.
///
/// Tried again are: an answer of 429 or 503, for every method, because the service says that it did nothing;
/// and a broken connection, a time-out, 500, 502 or 504 for GET, PUT, DELETE and PATCH. The last is safe here
/// because the only PATCH of the API merges the same keys again. A POST is not: it might start something twice.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. 1 means no retry.
    pub attempts_max: u32,
    /// Wait before the second attempt; doubles with each further one. Jitter adds up to as much again.
    pub delay_first: Duration,
    /// No wait is longer, neither a computed one nor one that the service asks for: a call whose `Retry-After`
    /// is longer fails at once and hands the figure to its caller.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 4,
            delay_first: Duration::from_millis(50),
            delay_max: Duration::from_secs(2),
        }
    }
}

impl RetryPolicy {
    /// The waits between attempts, jittered: a fleet of callers must not come back in step.
    pub(crate) fn delays(self) -> impl Iterator<Item = Duration> {
        let cap = self.delay_max;
        ExponentialBuilder::new()
            .with_min_delay(self.delay_first)
            .with_max_delay(cap)
            .with_max_times(self.attempts_max.saturating_sub(1) as usize)
            .with_jitter()
            .build()
            .map(move |delay| delay.min(cap))
    }
}

/// Whether the same call may be sent twice.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
    ]
    .contains(method)
}

/// Whether an answer with this status may be asked for again.
pub(crate) fn is_retryable(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => true,
        StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => is_idempotent(method),
        _ => false,
    }
}

/// `Retry-After` in seconds. The date form is not read: it needs a clock that agrees with the service's.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_under_the_cap() {
        let policy = RetryPolicy {
            attempts_max: 12,
            ..RetryPolicy::default()
        };
        let delays: Vec<_> = policy.delays().collect();
        assert_eq!(delays.len(), 11);
        assert!(delays[0] >= policy.delay_first);
        assert!(delays.iter().all(|delay| *delay <= policy.delay_max));
    }

    #[test]
    fn one_attempt_means_no_delay() {
        let policy = RetryPolicy {
            attempts_max: 1,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.delays().count(), 0);
    }

    #[test]
    fn a_post_is_only_retried_when_the_service_refused_it() {
        assert!(is_retryable(StatusCode::TOO_MANY_REQUESTS, &Method::POST));
        assert!(is_retryable(StatusCode::SERVICE_UNAVAILABLE, &Method::POST));
        assert!(!is_retryable(StatusCode::BAD_GATEWAY, &Method::POST));
        assert!(is_retryable(StatusCode::BAD_GATEWAY, &Method::PATCH));
        assert!(!is_retryable(StatusCode::NOT_FOUND, &Method::GET));
    }

    #[test]
    fn retry_after_reads_seconds_and_nothing_else() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        assert_eq!(read("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read("99999999999999999999999"), None);
    }
}
