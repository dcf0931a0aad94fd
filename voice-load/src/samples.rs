//! What the server uses and counts while a run goes on, look by look, for who wants to see what becomes of it in time.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{
    engine::Engine,
    run::{Stage, Watched},
    usage::{self, Series, Usage},
};

/// How the server is to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    /// Where the looks are written, each a line of JSON.
    pub(crate) file: PathBuf,
    /// Between two of them.
    pub(crate) every: Duration,
    /// From when everybody has left to the last one.
    pub(crate) settle: Duration,
}

/// One look.
#[derive(Debug, Serialize)]
struct Sample {
    /// Seconds since the run began.
    at_s: f64,
    stage: Stage,
    /// Peers in their rooms with an open voice connection.
    present: u32,
    /// Packets of voice that were sent and heard so far, whether they count or not.
    sent: u64,
    heard: u64,
    /// The server's process; none when there is no such process, or it is not known.
    process: Option<Usage>,
    /// What the server shows; none when it did not answer, or its metrics are not known.
    metrics: Option<Series>,
}

/// Looks at the server beside a run.
pub(crate) struct Sampler {
    stage: watch::Sender<Stage>,
    settle: Duration,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Sampler {
    /// The first look is taken before this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) async fn start(looks: &Looks, watched: &Watched, engine: &Engine) -> Result<Self> {
        let (stage, stages) = watch::channel(Stage::Before);
        let mut sampling = Sampling {
            began: Instant::now(),
            watched: watched.clone(),
            engine: engine.clone(),
            http: reqwest::Client::builder().no_proxy().build()?,
            file: create(&looks.file)?,
            stages,
        };
        sampling.look().await?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(sampling.run(looks.every, stopped));
        Ok(Self {
            stage,
            settle: looks.settle,
            stop,
            task,
        })
    }

    /// The run has come so far.
    pub(crate) fn tell(&self, stage: Stage) {
        self.stage.send_if_modified(|it| {
            let is_new = *it != stage;
            *it = stage;
            is_new
        });
    }

    /// Lets the server settle and takes the last look.
    ///
    /// # Errors
    /// When the file could not be written.
    pub(crate) async fn end(self) -> Result<()> {
        tokio::time::sleep(self.settle).await;
        self.tell(Stage::After);
        // One that has ended has an error to tell.
        let _ = self.stop.send(());
        self.task.await?
    }
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    Ok(BufWriter::new(file))
}

struct Sampling {
    began: Instant,
    watched: Watched,
    engine: Engine,
    http: reqwest::Client,
    file: BufWriter<File>,
    stages: watch::Receiver<Stage>,
}

impl Sampling {
    async fn run(mut self, every: Duration, mut stopped: oneshot::Receiver<()>) -> Result<()> {
        let mut pace = interval(every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and that look has been taken.
        pace.tick().await;
        loop {
            let is_over = tokio::select! {
                _ = &mut stopped => true,
                _ = pace.tick() => false,
            };
            self.look().await?;
            if is_over {
                return Ok(());
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let metrics = match &self.watched.metrics {
            // A server that does not answer is what the sample then says.
            Some(url) => usage::series(&self.http, url).await.ok(),
            None => None,
        };
        let progress = self.engine.progress();
        let sample = Sample {
            at_s: self.began.elapsed().as_secs_f64(),
            stage: *self.stages.borrow(),
            present: progress.present(),
            sent: progress.sent.load(Ordering::Relaxed),
            heard: progress.heard.load(Ordering::Relaxed),
            process: self.watched.pid.and_then(|pid| Usage::of(pid).ok()),
            metrics,
        };
        serde_json::to_writer(&mut self.file, &sample)?;
        self.file.write_all(b"\n")?;
        self.file.flush()?;
        Ok(())
    }
}
