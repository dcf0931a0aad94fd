//! What came out of a run, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    account::Tally,
    course::Sample,
    engine::{Heard, Measured},
    listener::{Times, no_times},
    plan::{Plan, Transport},
    quality::mos,
    relay::RelayFigures,
};

/// Share of a core above which figures are the generator's as much as the server's.
const BUSY_MAX: f64 = 0.8;

/// Time that packets may lie in our own sockets, 99 % of them, before listeners are told of as slower than they would be:
/// acknowledgements then come late. Latency is measured before.
const LAG_MAX_US: f64 = 5_000.0;

/// Everything about one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked for.
    pub plan: Plan,
    /// Seconds that counted. A busy machine makes them more than were asked for.
    pub elapsed_s: f64,
    /// Packets of talkers.
    pub sent: u64,
    /// All listeners together.
    pub whole: Figures,
    /// The same at the end of the time in which fewer talk, if there was one.
    pub then: Option<Figures>,
    /// Listeners by what carries their voice.
    pub by_transport: BTreeMap<Transport, Figures>,
    /// Each listener.
    pub listeners: Vec<ListenerFigures>,
    /// The worst of them.
    pub worst: Worst,
    /// The server, if its process can be seen.
    pub server: Option<ServerFigures>,
    /// The server's own metrics, if they can be read.
    pub metrics: Option<MetricsFigures>,
    /// What was seen from time to time, if somebody looked.
    pub course: Vec<Sample>,
    /// The bad network, if there was one.
    pub relay: Option<RelayFigures>,
    /// Ourselves.
    pub generator: GeneratorFigures,
    /// Why the figures are not what they seem.
    pub warnings: Vec<String>,
}

/// What listeners got.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Packets that were said while the listener was there.
    pub expected: u64,
    /// Those of them that came.
    pub received: u64,
    /// Those that did not.
    pub lost: u64,
    /// The same as a share.
    pub loss: f64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets of the listener itself, of another room or of nobody: always a fault of the server.
    pub misdelivered: u64,
    /// From a talker's hand to the listener's kernel.
    pub latency: LatencyFigures,
    /// Longest time without voice from somebody who talked, in milliseconds.
    pub longest_gap_ms: f64,
    /// Estimated mean opinion score; see [`crate::mos`].
    pub mos: f64,
}

/// One-way times in microseconds. All are zero when nothing came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyFigures {
    /// Half of the packets took no longer.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
}

/// One listener.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerFigures {
    /// Its number.
    pub peer: u32,
    /// What carries its voice.
    pub transport: Transport,
    /// What it got.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The listener who has it worst, in each respect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Worst {
    /// Largest share of packets that did not come.
    pub loss: f64,
    /// Largest of the times that 99 of 100 packets keep, in microseconds.
    pub p99_us: f64,
    /// Lowest score.
    pub mos: f64,
}

/// The server's process while it counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ServerFigures {
    /// Processor time as a share of one core.
    pub cores: f64,
    /// Processor time for each packet that a listener got, in microseconds; all the server did is in it.
    pub us_per_forward: f64,
    /// Resident memory at the end, in KiB.
    pub resident_kib: u64,
    /// Threads at the end.
    pub threads: u64,
    /// Open files at the end.
    pub files: u64,
}

/// What the server counted meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricsFigures {
    /// Voice packets that came.
    pub packets_in: u64,
    /// Voice packets that went out.
    pub packets_out: u64,
    /// Voice packets that were dropped, by reason; reasons without any are left out.
    pub drops: BTreeMap<String, u64>,
}

/// How the generator itself did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GeneratorFigures {
    /// Processor time of the thread that carries voice, as a share of one core.
    pub cores: f64,
    /// Time that 99 of 100 packets lay in our sockets before we came to them, in microseconds. No part of their latency.
    pub lag_p99_us: f64,
    /// How long after their time 99 of 100 packets were sent, in microseconds. No part of their latency.
    pub lateness_p99_us: f64,
    /// Packets that were not sent because their time had passed by more than an interval.
    pub skipped: u64,
    /// Packets that our own side did not take.
    pub unsent: u64,
    /// Peers that were in their rooms at the end.
    pub present: u32,
    /// Voice connections that ended by themselves.
    pub ended: u32,
    /// Peers whose signalling ended by itself.
    pub thrown_out: u32,
}

/// What was seen besides what listeners got.
pub(crate) struct Seen {
    pub(crate) server: Option<ServerFigures>,
    pub(crate) metrics: Option<MetricsFigures>,
    pub(crate) then: Option<Measured>,
    pub(crate) present: u32,
    pub(crate) ended: u32,
    pub(crate) thrown_out: u32,
    pub(crate) course: Vec<Sample>,
    pub(crate) relay: Option<RelayFigures>,
    pub(crate) warnings: Vec<String>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, measured: &Measured, seen: Seen) -> Self {
        let mut whole = Sum::default();
        let mut by_transport: BTreeMap<Transport, Sum> = BTreeMap::new();
        for heard in &measured.heard {
            whole.add(heard);
            by_transport
                .entry(plan.transport(heard.peer))
                .or_default()
                .add(heard);
        }
        let listener = |heard: &Heard| ListenerFigures {
            peer: heard.peer,
            transport: plan.transport(heard.peer),
            figures: Sum::of(heard).figures(),
        };
        let listeners: Vec<_> = measured.heard.iter().map(listener).collect();
        let each = || {
            listeners
                .iter()
                .map(|it| &it.figures)
                .filter(|it| it.expected > 0)
        };
        let worst = Worst {
            loss: each().map(|it| it.loss).fold(0.0, f64::max),
            p99_us: each().map(|it| it.latency.p99_us).fold(0.0, f64::max),
            mos: each().map(|it| it.mos).fold(f64::INFINITY, f64::min),
        };
        let generator = GeneratorFigures {
            cores: ratio(measured.busy.as_secs_f64(), measured.elapsed.as_secs_f64()),
            lag_p99_us: times(&measured.lag).p99_us,
            lateness_p99_us: times(&measured.lateness).p99_us,
            skipped: measured.skipped,
            unsent: measured.unsent,
            present: seen.present,
            ended: seen.ended,
            thrown_out: seen.thrown_out,
        };
        let mut report = Self {
            plan: plan.clone(),
            elapsed_s: measured.elapsed.as_secs_f64(),
            sent: measured.sent,
            whole: whole.figures(),
            then: seen
                .then
                .as_ref()
                .map(|it| Sum::of_all(&it.heard).figures()),
            by_transport: by_transport
                .into_iter()
                .map(|(it, sum)| (it, sum.figures()))
                .collect(),
            listeners,
            worst,
            server: seen.server,
            metrics: seen.metrics,
            course: seen.course,
            relay: seen.relay,
            generator,
            warnings: seen.warnings,
        };
        report.doubt();
        report
    }

    /// Says what speaks against the figures.
    fn doubt(&mut self) {
        let it = &self.generator;
        let mut warnings = Vec::new();
        if it.cores > BUSY_MAX {
            let percent = it.cores * 100.0;
            warnings.push(format!(
                "the generator was busy for {percent:.0} % of its core: figures are its own as much as the server's"
            ));
        }
        if it.lag_p99_us > LAG_MAX_US {
            warnings.push(format!(
                "packets lay in the generator's sockets for up to {:.1} ms: it had no time for them",
                it.lag_p99_us / 1_000.0
            ));
        }
        if it.skipped > 0 {
            warnings.push(format!(
                "{} packets were never sent: the generator was late",
                it.skipped
            ));
        }
        if it.unsent > 0 {
            warnings.push(format!("{} packets did not leave the generator", it.unsent));
        }
        if let Some(relay) = self.relay.filter(|it| it.overflowed > 0) {
            warnings.push(format!(
                "the relay lost {} packets that no seed lost: it had no room for them",
                relay.overflowed
            ));
        }
        if self.whole.misdelivered > 0 {
            let count = self.whole.misdelivered;
            warnings.push(format!(
                "{count} packets reached somebody who must not hear them"
            ));
        }
        self.warnings.extend(warnings);
    }
}

pub(crate) fn ratio(of: f64, to: f64) -> f64 {
    match to > 0.0 {
        true => of / to,
        false => 0.0,
    }
}

fn times(times: &Times) -> LatencyFigures {
    if times.is_empty() {
        return LatencyFigures::default();
    }
    let us = |ns: u64| ns as f64 / 1_000.0;
    LatencyFigures {
        p50_us: us(times.value_at_quantile(0.5)),
        p99_us: us(times.value_at_quantile(0.99)),
        p999_us: us(times.value_at_quantile(0.999)),
        max_us: us(times.max()),
    }
}

struct Sum {
    tally: Tally,
    misdelivered: u64,
    latency: Times,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            tally: Tally::default(),
            misdelivered: 0,
            latency: no_times(),
        }
    }
}

impl Sum {
    fn of(heard: &Heard) -> Self {
        let mut sum = Self::default();
        sum.add(heard);
        sum
    }

    fn of_all(heard: &[Heard]) -> Self {
        let mut sum = Self::default();
        heard.iter().for_each(|it| sum.add(it));
        sum
    }

    fn add(&mut self, heard: &Heard) {
        self.tally.add(heard.tally);
        self.misdelivered += heard.misdelivered;
        self.latency += &heard.latency;
    }

    fn figures(&self) -> Figures {
        let Tally {
            expected,
            received,
            reordered,
            duplicates,
            longest_gap_ns,
        } = self.tally;
        let lost = self.tally.lost();
        let loss = ratio(lost as f64, expected as f64);
        let latency = times(&self.latency);
        Figures {
            expected,
            received,
            lost,
            loss,
            reordered,
            duplicates,
            misdelivered: self.misdelivered,
            latency,
            longest_gap_ms: longest_gap_ns as f64 / 1e6,
            mos: mos(latency.p99_us / 1_000.0, loss),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{course::Forwards, plan::tests::plan};

    fn heard(peer: u32, expected: u64, received: u64, us: u64) -> Heard {
        let mut latency = no_times();
        latency
            .record_n(us * 1_000, u32::try_from(received).unwrap())
            .unwrap();
        Heard {
            peer,
            tally: Tally {
                expected,
                received,
                reordered: 1,
                duplicates: 2,
                longest_gap_ns: 30_000_000,
            },
            latency,
            misdelivered: 0,
        }
    }

    pub(crate) fn report() -> Report {
        let measured = Measured {
            heard: vec![heard(0, 100, 100, 200), heard(1, 100, 90, 800)],
            sent: 100,
            unsent: 0,
            skipped: 0,
            lag: no_times(),
            lateness: no_times(),
            busy: Duration::from_millis(900),
            elapsed: Duration::from_secs(1),
        };
        let plan = Plan {
            data_channel_percent: 50,
            ..plan()
        };
        let server = ServerFigures {
            cores: 0.25,
            us_per_forward: 5.5,
            resident_kib: 9_000,
            threads: 4,
            files: 30,
        };
        let sample = Sample {
            at_s: 10.0,
            present: 50,
            clients: Some(50),
            peers: Some(50),
            server_resident_kib: Some(9_000),
            generator_resident_kib: 8_000,
            forwards: Forwards::default(),
        };
        let seen = Seen {
            server: Some(server),
            metrics: Some(MetricsFigures {
                packets_in: 100,
                packets_out: 190,
                drops: [("late".to_owned(), 10)].into(),
            }),
            then: None,
            present: 50,
            ended: 0,
            thrown_out: 0,
            course: vec![sample],
            relay: Some(RelayFigures::default()),
            warnings: vec!["first".to_owned()],
        };
        Report::new(&plan, &measured, seen)
    }

    #[test]
    fn listeners_are_summed_by_transport_and_the_worst_is_named() {
        let report = report();
        let whole = &report.whole;
        assert_eq!((whole.expected, whole.received, whole.lost), (200, 190, 10));
        assert_eq!((whole.reordered, whole.duplicates), (2, 4));
        assert_eq!(whole.loss, 0.05);
        assert_eq!(whole.longest_gap_ms, 30.0);
        assert_eq!(report.worst.loss, 0.1);
        assert!((790.0..=810.0).contains(&report.worst.p99_us));
        assert!(report.worst.mos < whole.mos);
        let by: Vec<_> = report
            .by_transport
            .iter()
            .map(|(it, sum)| (*it, sum.lost))
            .collect();
        assert_eq!(
            by,
            [(Transport::DataChannel, 10), (Transport::WebTransport, 0)]
        );
        assert_eq!(report.warnings.len(), 2);
        assert!(report.warnings[1].contains("90 %"), "{:?}", report.warnings);
    }

    #[test]
    fn the_json_has_the_members_that_programs_read() {
        let json = serde_json::to_value(report()).unwrap();
        for member in [
            "/plan/rooms",
            "/plan/pattern",
            "/sent",
            "/elapsed_s",
            "/whole/expected",
            "/whole/loss",
            "/whole/latency/p50_us",
            "/whole/latency/p999_us",
            "/whole/mos",
            "/by_transport/data-channel/lost",
            "/listeners/1/latency/p99_us",
            "/listeners/1/transport",
            "/worst/p99_us",
            "/server/us_per_forward",
            "/server/cores",
            "/metrics/drops/late",
            "/generator/cores",
            "/generator/lag_p99_us",
            "/generator/present",
            "/generator/ended",
            "/generator/thrown_out",
            "/course/0/at_s",
            "/course/0/clients",
            "/course/0/server_resident_kib",
            "/course/0/generator_resident_kib",
            "/course/0/forwards/median_us",
            "/relay/overflowed",
            "/warnings/0",
        ] {
            assert!(
                json.pointer(member).is_some(),
                "{member} is not in {json:#}"
            );
        }
    }
}
