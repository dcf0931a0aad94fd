//! Runs of `voice-load` that are judged: made, left in a folder, and read again.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{cargo, run, say, target_dir};

/// What a run leaves in its folder.
const SAMPLES: &str = "samples.jsonl";
const REPORT: &str = "report.json";

/// A run that has ended.
pub(crate) struct Run {
    /// All looks at the server, in the order of time: at least the one before anybody came and the one after everybody
    /// left.
    pub(crate) samples: Vec<Sample>,
    pub(crate) report: Value,
}

impl Run {
    /// Runs `voice_load`; the run is left in a folder of this name beside what is built.
    pub(crate) fn make(name: &str, mut voice_load: Command) -> Result<Self> {
        build()?;
        let folder = target_dir().join(name);
        fs::create_dir_all(&folder)?;
        voice_load.arg("--samples").arg(folder.join(SAMPLES));
        voice_load.arg("--json").arg(folder.join(REPORT));
        run(&mut voice_load)?;
        Self::read(&folder)
    }

    /// Reads what a run has left.
    ///
    /// # Errors
    /// When something is missing, or something else is in the files.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let report = fs::read(folder.join(REPORT)).context("no report")?;
        Ok(Self {
            samples: samples(&folder.join(SAMPLES))?,
            report: serde_json::from_slice(&report)?,
        })
    }
}

/// Builds the load generator, and the voice server that it starts.
pub(crate) fn build() -> Result<()> {
    run(cargo(&["build", "--release", "--locked"]).args(["-p", "sfu", "-p", "voice-load"]))
}

/// Says what was found, and fails with these words if there is anything.
pub(crate) fn settle(faults: &[String], words: &'static str) -> Result<()> {
    for fault in faults {
        say(&format!("fault: {fault}"));
    }
    ensure!(faults.is_empty(), words);
    Ok(())
}

/// One look at the server.
pub(crate) struct Sample(Value);

impl Sample {
    /// Seconds since the run began.
    pub(crate) fn at_s(&self) -> f64 {
        self.number("/at_s").unwrap_or(f64::NAN)
    }

    pub(crate) fn stage(&self) -> &str {
        self.0["stage"].as_str().unwrap_or("?")
    }

    /// A figure that stands there; none when the server had none to show.
    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer).and_then(Value::as_f64)
    }

    /// One of the server's metrics, summed over its labels except for the reason, which follows a `/`.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.0["metrics"][name].as_f64()
    }

    /// Voice packets that were dropped, for whatever reason.
    pub(crate) fn drops(&self) -> f64 {
        let metrics = self.0["metrics"].as_object().into_iter().flatten();
        metrics
            .filter(|(name, _)| name.starts_with("sfu_drops_total/"))
            .filter_map(|(_, count)| count.as_f64())
            .sum()
    }

    /// The server was there, and answered.
    pub(crate) fn is_whole(&self) -> bool {
        self.0["process"].is_object() && self.0["metrics"].is_object()
    }
}

fn samples(path: &Path) -> Result<Vec<Sample>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let samples = text
        .lines()
        .map(|line| Ok(Sample(serde_json::from_str(line)?)));
    let samples = samples.collect::<Result<Vec<_>>>()?;
    let stages = [samples.first(), samples.last()].map(|it| it.map(Sample::stage));
    ensure!(
        stages == [Some("before"), Some("after")],
        "{} does not go from before the run to after it",
        path.display()
    );
    Ok(samples)
}

/// Those of one stage.
pub(crate) fn of_stage<'a>(samples: &'a [Sample], stage: &str) -> Vec<&'a Sample> {
    samples.iter().filter(|it| it.stage() == stage).collect()
}

/// A sample from its text, for tests.
#[cfg(test)]
pub(crate) fn sample(value: Value) -> Sample {
    Sample(value)
}
