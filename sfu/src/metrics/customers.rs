//! Voice bytes by customer, for bills. A room gets the counters of its customer when it is made; counting is one
//! addition.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

/// Most customers that are told apart, so that customers who come up with names do not fill the metrics' store. The rest
/// is summed up.
pub(super) const CUSTOMERS_MAX: usize = 1_000;

/// Longest name of a customer that is told apart, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// What the rest is called.
const OTHER: &str = "other";

/// What a customer's rooms have cost.
#[derive(Debug, Default)]
pub(crate) struct CustomerCounters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl CustomerCounters {
    /// Voice has come in.
    pub(crate) fn incoming(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Voice has gone out.
    pub(crate) fn outgoing(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A value, and when it was seen to change last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    value: u64,
    changed: Instant,
}

impl Seen {
    /// Looks again; gives the value if it has changed within `idle_timeout`.
    fn look(&mut self, value: u64, now: Instant, idle_timeout: Duration) -> Option<u64> {
        if self.value != value {
            *self = Self {
                value,
                changed: now,
            };
        }
        let idle = now.saturating_duration_since(self.changed);
        (idle < idle_timeout).then_some(value)
    }
}

#[derive(Debug)]
struct Customer {
    counters: Arc<CustomerCounters>,
    incoming: Seen,
    outgoing: Seen,
}

impl Customer {
    fn new(now: Instant) -> Self {
        let seen = Seen {
            value: 0,
            changed: now,
        };
        Self {
            counters: Arc::default(),
            incoming: seen,
            outgoing: seen,
        }
    }
}

/// What is shown of a customer: bytes in and out.
type Row = (String, Option<u64>, Option<u64>);

/// All customers.
#[derive(Debug)]
pub(super) struct Customers {
    idle_timeout: Duration,
    known: Mutex<BTreeMap<String, Customer>>,
    rows: Mutex<Vec<Row>>,
}

impl Customers {
    pub(super) fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            known: Mutex::default(),
            rows: Mutex::default(),
        }
    }

    /// The counters of a customer; once there are too many, those of all others.
    pub(super) fn counters(&self, customer: &str, now: Instant) -> Arc<CustomerCounters> {
        let mut known = lock(&self.known);
        let is_full = known.len() >= CUSTOMERS_MAX && !known.contains_key(customer);
        let name = match is_full || customer.len() > NAME_BYTES_MAX {
            true => OTHER,
            false => customer,
        };
        let customer = known.entry(name.to_owned());
        Arc::clone(&customer.or_insert_with(|| Customer::new(now)).counters)
    }

    /// Takes note of what has changed. Who is idle and has no room is forgotten, and makes place for another.
    pub(super) fn look(&self, now: Instant) {
        let mut rows = Vec::new();
        let mut known = lock(&self.known);
        known.retain(|name, customer| {
            let counters = &customer.counters;
            let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let incoming = value(&counters.bytes_in);
            let incoming = customer.incoming.look(incoming, now, self.idle_timeout);
            let outgoing = value(&counters.bytes_out);
            let outgoing = customer.outgoing.look(outgoing, now, self.idle_timeout);
            let is_shown = incoming.is_some() || outgoing.is_some();
            if is_shown {
                rows.push((name.clone(), incoming, outgoing));
            }
            is_shown || Arc::strong_count(counters) > 1
        });
        *lock(&self.rows) = rows;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector for Customers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows = lock(&self.rows);
        let mut family = |name, help, value: fn(&Row) -> Option<u64>| -> fmt::Result {
            // The names are the ODIN server's, which do not end in `_total` as OpenMetrics wants it of counters.
            let kind = MetricType::Unknown;
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for row in rows.iter() {
                if let Some(value) = value(row) {
                    let labels = [("customer", row.0.as_str())];
                    family.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
            Ok(())
        };
        let help = "Bytes of voice that came from a customer's peers; only ever grows.";
        family("billing_voice_incoming_bytes", help, |row| row.1)?;
        let help = "Bytes of voice that went to a customer's peers; only ever grows.";
        family("billing_voice_outgoing_bytes", help, |row| row.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn row(name: &str, incoming: Option<u64>, outgoing: Option<u64>) -> Row {
        (name.to_owned(), incoming, outgoing)
    }

    #[test]
    fn what_has_not_changed_for_long_is_left_out_until_it_does() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let customers = Customers::new(IDLE);
        let rows = |seconds| {
            customers.look(after(seconds));
            lock(&customers.rows).clone()
        };
        let studio = customers.counters("studio", start);
        studio.incoming(5);
        assert_eq!(rows(10), [row("studio", Some(5), Some(0))]);
        assert_eq!(rows(60), [row("studio", Some(5), None)]);
        assert_eq!(rows(70), []);
        studio.outgoing(7);
        assert_eq!(rows(200), [row("studio", None, Some(7))]);
        studio.incoming(1);
        assert_eq!(rows(201), [row("studio", Some(6), Some(7))]);
    }

    #[test]
    fn an_idle_customer_without_rooms_makes_place() {
        let start = Instant::now();
        let customers = Customers::new(IDLE);
        let kept = customers.counters("kept", start);
        drop(customers.counters("gone", start));
        customers.look(start + IDLE);
        let names: Vec<_> = lock(&customers.known).keys().cloned().collect();
        assert_eq!(names, ["kept"]);
        kept.incoming(1);
        let again = customers.counters("kept", start + IDLE);
        assert!(Arc::ptr_eq(&kept, &again));
    }

    #[test]
    fn customers_beyond_the_most_are_summed_up() {
        let now = Instant::now();
        let customers = Customers::new(IDLE);
        let first = customers.counters("0", now);
        for number in 1..CUSTOMERS_MAX {
            customers.counters(&number.to_string(), now);
        }
        let one = customers.counters("one more", now);
        let another = customers.counters("another", now);
        let long = customers.counters(&"x".repeat(NAME_BYTES_MAX + 1), now);
        assert!(Arc::ptr_eq(&one, &another) && Arc::ptr_eq(&one, &long));
        assert!(Arc::ptr_eq(&one, &customers.counters(OTHER, now)));
        assert!(Arc::ptr_eq(&first, &customers.counters("0", now)));
        assert_eq!(lock(&customers.known).len(), CUSTOMERS_MAX + 1);
    }
}
