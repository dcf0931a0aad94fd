//! Word of the end of an operation, on its way to whoever asked for it. It is written together with that end, so that it
//! is sent even if the bridge goes away in between; whoever finds it due sends it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::store::{Key, Put, Timestamp};

/// How often word is sent before it is given up: with the waits between, over about half an hour.
pub(crate) const ATTEMPTS_MAX: u32 = 8;

/// The wait after the first attempt; each one after it is three times as long.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// For one attempt, from the connection to the head of the answer.
pub(crate) const ATTEMPT_TIME: Duration = Duration::from_secs(5);

/// Word on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) url: String,
    /// How often it has been sent.
    pub(crate) attempts: u32,
}

impl Delivery {
    /// Word that has not been sent yet.
    pub(crate) fn new(url: String) -> Self {
        Self { url, attempts: 0 }
    }

    /// The document to write; somebody must look at it at `due`.
    pub(crate) fn put(&self, operation: &str, due: Timestamp) -> Put {
        let text = serde_json::to_string(self).expect("it is plain data with texts as keys");
        Put {
            key: Key::Webhook(operation.to_owned()),
            text: Some(text),
            due: Some(due),
            keep: None,
        }
    }

    /// The same with one attempt more, and when somebody else may take that one for lost.
    pub(crate) fn attempt(&self, now: Timestamp) -> (Self, Timestamp) {
        let next = Self {
            attempts: self.attempts.saturating_add(1),
            ..self.clone()
        };
        let lost_at = next.retry_at(now) + ATTEMPT_TIME;
        (next, lost_at)
    }

    /// When it is sent again, after an attempt that failed now.
    pub(crate) fn retry_at(&self, now: Timestamp) -> Timestamp {
        let times = 3_u32.saturating_pow(self.attempts.saturating_sub(1));
        now + FIRST_WAIT.saturating_mul(times)
    }

    /// It has been sent often enough.
    pub(crate) fn is_given_up(&self) -> bool {
        self.attempts >= ATTEMPTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sent_eight_times_within_about_half_an_hour() {
        let start = Timestamp(1_800_000_000_000);
        let mut now = start;
        let mut delivery = Delivery::new("https://example.com".to_owned());
        let mut waits = Vec::new();
        loop {
            let (next, lost_at) = delivery.attempt(now);
            delivery = next;
            let retry_at = delivery.retry_at(now);
            assert!(lost_at > retry_at, "an attempt under way is not lost");
            if delivery.is_given_up() {
                break;
            }
            waits.push(retry_at.since(now).as_secs());
            now = retry_at;
        }
        assert_eq!(waits, [2, 6, 18, 54, 162, 486, 1458]);
        assert_eq!(now.since(start).as_secs() / 60, 36);
    }

    #[test]
    fn the_waits_do_not_overflow() {
        let delivery = Delivery {
            attempts: u32::MAX,
            ..Delivery::new(String::new())
        };
        assert!(delivery.retry_at(Timestamp(u64::MAX)) >= Timestamp(u64::MAX));
    }
}
