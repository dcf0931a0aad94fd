//! A report as text for people.

use std::fmt::Write as _;

use crate::report::{Figures, Report};

/// One line for each transport and for all, then what is to be known of server and generator.
pub(crate) fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_table(&mut text, report);
    text
}

fn write_table(text: &mut String, report: &Report) -> std::fmt::Result {
    let plan = &report.plan;
    writeln!(
        text,
        "{} rooms x {} peers, {} talkers each, {} packets/s of {} bytes, {:.1} s: {} packets said",
        plan.rooms,
        plan.peers,
        plan.talkers,
        plan.rate,
        plan.packet_bytes,
        report.elapsed_s,
        report.sent
    )?;
    writeln!(
        text,
        "{:<14} {:>10} {:>8} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>5}",
        "listeners",
        "received",
        "loss",
        "double",
        "reordered",
        "p50",
        "p99",
        "p99.9",
        "max",
        "gap",
        "MOS"
    )?;
    for (transport, figures) in &report.by_transport {
        let name = serde_json::to_value(transport).ok();
        let name = name.as_ref().and_then(|it| it.as_str()).unwrap_or("?");
        line(text, name, figures)?;
    }
    if report.by_transport.len() > 1 {
        line(text, "all", &report.whole)?;
    }
    if let Some(then) = &report.then {
        line(text, "then", then)?;
    }
    write_sides(text, report)
}

/// Server and generator.
fn write_sides(text: &mut String, report: &Report) -> std::fmt::Result {
    let worst = &report.worst;
    writeln!(
        text,
        "worst listener: loss {}, p99 {}, MOS {:.2}",
        percent(worst.loss),
        time(worst.p99_us),
        worst.mos
    )?;
    write_programs(text, report)?;
    for warning in &report.warnings {
        writeln!(text, "warning: {warning}")?;
    }
    Ok(())
}

/// Server and generator.
fn write_programs(text: &mut String, report: &Report) -> std::fmt::Result {
    if let Some(server) = &report.server {
        writeln!(
            text,
            "server: {:.2} us per forward, {:.1} % of a core, {} MiB, {} threads, {} files",
            server.us_per_forward,
            server.cores * 100.0,
            server.resident_kib / 1024,
            server.threads,
            server.files
        )?;
    }
    if let Some(metrics) = &report.metrics {
        write!(
            text,
            "server's metrics: {} in, {} out",
            metrics.packets_in, metrics.packets_out
        )?;
        for (reason, count) in &metrics.drops {
            write!(text, ", {count} {reason}")?;
        }
        writeln!(text)?;
    }
    if let Some(relay) = &report.relay {
        writeln!(
            text,
            "bad network: {} packets, {} lost, {} doubled, none later than planned by more than {}",
            relay.packets,
            relay.lost,
            relay.doubled,
            time(relay.late_us_max as f64)
        )?;
    }
    let generator = &report.generator;
    writeln!(
        text,
        "generator: {:.1} % of a core; packets lay {} in its sockets and went {} late (p99)",
        generator.cores * 100.0,
        time(generator.lag_p99_us),
        time(generator.lateness_p99_us)
    )
}

fn line(text: &mut String, name: &str, figures: &Figures) -> std::fmt::Result {
    let latency = &figures.latency;
    writeln!(
        text,
        "{name:<14} {:>10} {:>8} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>5.2}",
        figures.received,
        percent(figures.loss),
        figures.duplicates,
        figures.reordered,
        time(latency.p50_us),
        time(latency.p99_us),
        time(latency.p999_us),
        time(latency.max_us),
        time(figures.longest_gap_ms * 1_000.0),
        figures.mos
    )
}

pub(crate) fn percent(share: f64) -> String {
    match share {
        0.0 => "0".to_owned(),
        _ => format!("{:.3} %", share * 100.0),
    }
}

/// Microseconds in the unit that people read.
pub(crate) fn time(us: f64) -> String {
    match us {
        ..1_000.0 => format!("{us:.0} us"),
        ..1_000_000.0 => format!("{:.2} ms", us / 1_000.0),
        _ => format!("{:.2} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn everything_that_counts_is_in_the_table() {
        let text = table(&report());
        for wanted in [
            "5 rooms x 10 peers",
            "data-channel",
            "web-transport",
            "all",
            "5.000 %",
            "5.50 us per forward",
            "10 late",
            "warning: first",
            "generator: 90.0 %",
            "bad network: 0 packets",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }

    #[test]
    fn times_have_a_unit_that_fits() {
        let times = [0.4, 999.0, 1_500.0, 2_000_000.0].map(time);
        assert_eq!(times, ["0 us", "999 us", "1.50 ms", "2.00 s"]);
    }
}
