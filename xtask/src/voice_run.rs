//! What `voice-load --samples` has seen of a voice server, read again.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

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

/// All of them, in the order of time: at least the one before anybody came and the one after everybody left.
///
/// # Errors
/// When there are fewer, or something else is in the file.
pub(crate) fn read(path: &Path) -> Result<Vec<Sample>> {
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
