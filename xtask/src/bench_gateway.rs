//! `cargo xtask bench gateway`: how much of a core a Connect costs beyond the signatures it cannot do without.

use std::{fs, net::SocketAddr, process::Command, thread};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{Running, cargo, free_address, release, run, say, target_dir};

/// Rounds; each measures both. Processor time is measured, not the clock: other programs on the machine would
/// otherwise be measured as well. The median of an odd number is one of them.
const ROUNDS: usize = 7;

/// Seconds that each measurement of a round takes.
const SECONDS: &str = "3";

/// Clients that wait for an answer at the same time.
const CONNECTIONS: &str = "32";

/// The gateway gets the first core, whoever drives it the second.
pub(crate) fn run_bench() -> Result<()> {
    ensure!(
        thread::available_parallelism()?.get() >= 2,
        "two cores are needed: one for the gateway, one to drive it"
    );
    let packages = ["-p", "gateway", "-p", "integration-tests"];
    run(cargo(&["build", "--release", "--locked"]).args(packages))?;
    let folder = target_dir().join("bench-gateway");
    fs::create_dir_all(&folder)?;
    let (listen, internal) = (free_address()?, free_address()?);
    let load = |core: &str, what: &str| {
        let mut command = on_core(core, "gateway-load");
        command.arg(what).arg(&folder);
        command
    };
    run(with_addresses(&mut load("1", "prepare"), listen, internal))?;

    let mut gateway = on_core("0", "gateway");
    gateway.arg("--config").arg(folder.join("gateway.toml"));
    gateway.env("BIFROST_GATEWAY_MASTER_KEY", MASTER_KEY);
    gateway
        .env("TOKIO_WORKER_THREADS", "1")
        .env("RUST_LOG", "warn");
    let gateway = Running::start(&mut gateway, listen)?;

    let (mut connects, mut signatures, mut by_clock) = (Vec::new(), Vec::new(), Vec::new());
    let pid = gateway.pid().to_string();
    for round in 0..=ROUNDS {
        let mut connect = load("1", "connect");
        with_addresses(&mut connect, listen, internal);
        connect.args([
            "--seconds",
            SECONDS,
            "--connections",
            CONNECTIONS,
            "--pid",
            &pid,
        ]);
        let connect = figures(&mut connect)?;
        // The gateway has nothing to do meanwhile: its core is free.
        let signature = figures(load("0", "signatures").args(["--seconds", SECONDS]))?;
        let (&[connect, clock], &[signature]) = (connect.as_slice(), signature.as_slice()) else {
            bail!("gateway-load printed something else than figures");
        };
        // The first round warms up.
        if round > 0 {
            say(&format!("round {round}: ratio {:.3}", connect / signature));
            connects.push(connect);
            signatures.push(signature);
            by_clock.push(clock);
        }
    }
    let ratios = connects
        .iter()
        .zip(&signatures)
        .map(|(connect, it)| connect / it);
    let ratio = median(ratios.collect());
    say(&format!(
        "medians of {ROUNDS} rounds, per second of one core's time: {:.0} Connects, {:.0} verify + sign, ratio {ratio:.3}",
        median(connects),
        median(signatures),
    ));
    say(&format!(
        "by the clock, with whatever else runs here: {:.0} Connects/s",
        median(by_clock)
    ));
    let mib = gateway.peak_memory_kib()? / 1024;
    say(&format!("peak memory of the gateway process: {mib} MiB"));
    Ok(())
}

/// 32 bytes for a gateway that lives for a minute on this machine.
const MASTER_KEY: &str = "YmlmcsO2c3QgYmVuY2htYXJrIG1hc3RlciBrZXkgISE=";

fn on_core(core: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(release(program));
    command
}

fn with_addresses(command: &mut Command, listen: SocketAddr, internal: SocketAddr) -> &mut Command {
    command.args([
        "--listen",
        &listen.to_string(),
        "--internal",
        &internal.to_string(),
    ])
}

fn figures(command: &mut Command) -> Result<Vec<f64>> {
    let output = command
        .output()
        .context("taskset is missing (Debian: apt-get install util-linux)")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {words}");
    let text = String::from_utf8(output.stdout)?;
    let figures = text.split_whitespace().map(str::parse);
    Ok(figures.collect::<Result<_, _>>()?)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
