//! What one forwarding thread counts. The packet path touches plain atomics of its own thread and nothing else.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
};

/// Bounds of the time that a packet is in the server, in nanoseconds: from 50 µs, about what the work takes, to 250 ms,
/// when nobody wants to hear it any more.
const FORWARD_BOUNDS_NS: [u64; 12] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
];

/// What waits in front of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Work for its rooms: commands, peers that come, orders.
    Commands,
    /// Packets that go out.
    Outgoing,
}

impl Queue {
    const ALL: [Self; 2] = [Self::Commands, Self::Outgoing];

    fn label(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Outgoing => "outgoing",
        }
    }
}

/// The counters of one shard. Each is written by its shard, and read by whoever looks.
#[derive(Debug)]
pub(crate) struct ShardCounters {
    packets_in: AtomicU64,
    bytes_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
    drops: Box<[(&'static str, AtomicU64)]>,
    /// By bound; the last one is without.
    forwards: [AtomicU64; FORWARD_BOUNDS_NS.len() + 1],
    forward_ns: AtomicU64,
    busy_ns: AtomicU64,
    too_slow: AtomicU64,
    /// 0 is none.
    stream_budget: AtomicU64,
    queues: [AtomicU64; Queue::ALL.len()],
}

impl ShardCounters {
    /// All at zero. `reasons` names why packets are dropped, in the order of their indices.
    pub(crate) fn new(reasons: &'static [&'static str]) -> Self {
        let drops = reasons.iter().map(|reason| (*reason, AtomicU64::new(0)));
        Self {
            packets_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            packets_out: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            drops: drops.collect(),
            forwards: Default::default(),
            forward_ns: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            stream_budget: AtomicU64::new(0),
            queues: Default::default(),
        }
    }

    /// A voice packet of so many bytes has come.
    pub(crate) fn packet_in(&self, bytes: usize) {
        self.packets_in.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Voice packets of so many bytes in all have gone out.
    pub(crate) fn packets_out(&self, packets: usize, bytes: usize) {
        self.packets_out
            .fetch_add(packets as u64, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Packets were dropped on the way to so many receivers; see [`Self::dropped`].
    pub(crate) fn refused(&self, reason: usize, receivers: usize) {
        if let Some((_, count)) = self.drops.get(reason) {
            count.fetch_add(receivers as u64, Ordering::Relaxed);
        }
    }

    /// A packet was dropped; `reason` is the index of its name. One without a name is not counted.
    pub(crate) fn dropped(&self, reason: usize) {
        self.refused(reason, 1);
    }

    /// A packet went out to all who hear it, so long after it had come.
    pub(crate) fn forwarded(&self, after: Duration) {
        let ns = whole_ns(after);
        let bucket = FORWARD_BOUNDS_NS.partition_point(|bound| *bound < ns);
        self.forwards[bucket].fetch_add(1, Ordering::Relaxed);
        self.forward_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// The shard was at work for so long.
    pub(crate) fn busy(&self, time: Duration) {
        self.busy_ns.fetch_add(whole_ns(time), Ordering::Relaxed);
    }

    /// How long the shard was at work since its start.
    pub(crate) fn busy_time(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed))
    }

    /// So many peers had to leave because they did not read what they were told.
    pub(crate) fn too_slow(&self, peers: u64) {
        self.too_slow.fetch_add(peers, Ordering::Relaxed);
    }

    /// So many streams each room may carry while the shard is overloaded; `None` when it is not.
    pub(crate) fn stream_budget(&self, budget: Option<u32>) {
        let budget = budget.unwrap_or_default();
        self.stream_budget.store(budget.into(), Ordering::Relaxed);
    }

    /// So much waits in a queue.
    pub(crate) fn queue_depth(&self, queue: Queue, depth: usize) {
        self.queues[queue as usize].store(depth as u64, Ordering::Relaxed);
    }
}

fn whole_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct ShardLabels {
    shard: u32,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct DropLabels {
    shard: u32,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct QueueLabels {
    shard: u32,
    queue: &'static str,
}

/// Shows the counters of all shards.
pub(super) struct Shards(pub(super) Vec<Arc<ShardCounters>>);

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shards").field(&self.0.len()).finish()
    }
}

impl Shards {
    fn each(&self) -> impl Iterator<Item = (u32, &ShardCounters)> {
        (0..).zip(self.0.iter().map(Arc::as_ref))
    }

    fn count(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        value: impl Fn(&ShardCounters) -> &AtomicU64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (shard, counters) in self.each() {
            let value = value(counters).load(Ordering::Relaxed);
            let labels = ShardLabels { shard };
            let mut series = family.encode_family(&labels)?;
            series.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn drops(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Voice packets that were not forwarded, by reason.";
        let mut family = encoder.encode_descriptor("drops", help, None, MetricType::Counter)?;
        for (shard, counters) in self.each() {
            for (reason, count) in &counters.drops {
                let labels = DropLabels { shard, reason };
                let count = count.load(Ordering::Relaxed);
                let mut series = family.encode_family(&labels)?;
                series.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn forwards(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help =
            "Time from a voice packet's arrival until it has gone out to everybody who hears it.";
        let kind = MetricType::Histogram;
        let mut family = encoder.encode_descriptor("forward_seconds", help, None, kind)?;
        for (shard, counters) in self.each() {
            let bounds = FORWARD_BOUNDS_NS.iter().map(|bound| *bound as f64 / 1e9);
            let counts = counters.forwards.iter();
            let counts = counts.map(|count| count.load(Ordering::Relaxed));
            let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
            let sum = counters.forward_ns.load(Ordering::Relaxed) as f64 / 1e9;
            let count = buckets.iter().map(|(_, count)| count).sum();
            let labels = ShardLabels { shard };
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn busy(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time for which a shard was at work; one second in a second is all it can.";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("shard_busy_seconds", help, None, kind)?;
        for (shard, counters) in self.each() {
            let labels = ShardLabels { shard };
            let busy = counters.busy_time().as_secs_f64();
            let mut series = family.encode_family(&labels)?;
            series.encode_counter::<NoLabelSet, _, u64>(&busy, None)?;
        }
        Ok(())
    }

    fn stream_budget(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help =
            "Streams that each room may carry while its shard is overloaded; 0 when it is not.";
        let (name, kind) = ("shard_stream_budget", MetricType::Gauge);
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (shard, counters) in self.each() {
            let budget = counters.stream_budget.load(Ordering::Relaxed);
            let labels = ShardLabels { shard };
            family.encode_family(&labels)?.encode_gauge(&budget)?;
        }
        Ok(())
    }

    fn queues(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What waits in front of a shard, by queue, when it looked last.";
        let mut family = encoder.encode_descriptor("shard_queue", help, None, MetricType::Gauge)?;
        for (shard, counters) in self.each() {
            for queue in Queue::ALL {
                let depth = counters.queues[queue as usize].load(Ordering::Relaxed);
                let queue = queue.label();
                let labels = QueueLabels { shard, queue };
                family.encode_family(&labels)?.encode_gauge(&depth)?;
            }
        }
        Ok(())
    }
}

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let text = ("packets_in", "Voice packets that came.");
        self.count(encoder, text, |shard| &shard.packets_in)?;
        let text = ("bytes_in", "Bytes of the voice packets that came.");
        self.count(encoder, text, |shard| &shard.bytes_in)?;
        let text = ("packets_out", "Voice packets that went out.");
        self.count(encoder, text, |shard| &shard.packets_out)?;
        let text = ("bytes_out", "Bytes of the voice packets that went out.");
        self.count(encoder, text, |shard| &shard.bytes_out)?;
        let text = (
            "slow_peers",
            "Peers that had to leave because they did not read.",
        );
        self.count(encoder, text, |shard| &shard.too_slow)?;
        self.drops(encoder)?;
        self.forwards(encoder)?;
        self.busy(encoder)?;
        self.stream_budget(encoder)?;
        self.queues(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwards(after: Duration) -> usize {
        let shard = ShardCounters::new(&[]);
        shard.forwarded(after);
        let is_counted = |count: &AtomicU64| count.load(Ordering::Relaxed) == 1;
        shard.forwards.iter().position(is_counted).unwrap()
    }

    #[test]
    fn a_packet_is_counted_below_the_first_bound_that_it_keeps() {
        assert_eq!(forwards(Duration::ZERO), 0);
        assert_eq!(forwards(Duration::from_micros(50)), 0);
        assert_eq!(forwards(Duration::from_nanos(50_001)), 1);
        assert_eq!(forwards(Duration::from_millis(250)), 11);
        assert_eq!(forwards(Duration::MAX), 12);
    }

    #[test]
    fn a_reason_without_a_name_is_no_reason_to_fall_over() {
        let shard = ShardCounters::new(&["late"]);
        shard.dropped(0);
        shard.dropped(1);
        assert_eq!(shard.drops[0].1.load(Ordering::Relaxed), 1);
    }
}
