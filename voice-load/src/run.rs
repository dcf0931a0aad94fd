//! One run: everybody comes, talks, and is counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fastrand::Rng;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    course,
    engine::{Command, Engine, Measured, Progress},
    movement::Walk,
    plan::Plan,
    relay::Relay,
    report::{MetricsFigures, Report, Seen, ServerFigures, ratio},
    samples::{Looks, Sampler},
    session::Offers,
    signalling::{Common, Order, live},
    target::Doorman,
    trust::Trust,
    usage::{self, Usage},
};

/// Orders that wait for a peer; what comes then is a move that comes too late, and is left out.
const ORDERS_MAX: usize = 8;

/// Between the last packet and the account of who got what: whatever is under way arrives, or never will.
const STRAGGLERS: Duration = Duration::from_millis(1_000);

/// Everybody must be in within this time after the last one set out.
const ENTER_MAX: Duration = Duration::from_secs(90);

/// Peers on their way in at once: a server gives each 10 s from its joining to its room's stream, and shares its time
/// among all of them.
const COMING_MAX: u32 = 32;

/// The end of the time in which fewer talk that is reported.
const THEN_COUNTS: Duration = Duration::from_secs(5);

/// Between two looks at who is in.
const LOOK: Duration = Duration::from_millis(20);

/// Time for everybody to leave.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// What can be known of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) pid: Option<u32>,
    /// Address of its metrics.
    pub(crate) metrics: Option<String>,
    /// It is to be looked at all the time.
    pub(crate) looks: Option<Looks>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Nobody is there yet.
    Before,
    Coming,
    WarmingUp,
    Counting,
    /// What counts is over, and fewer talk.
    Then,
    Leaving,
    /// Everybody has left, and the server had time to notice.
    After,
}

/// Carries a plan out.
///
/// # Errors
/// When somebody does not get in, or everybody is thrown out.
pub(crate) async fn run(
    plan: &Plan,
    doorman: Arc<Doorman>,
    trust: Trust,
    watched: &Watched,
    tell: impl Fn(Stage, &Progress),
) -> Result<Report> {
    let (engine, thread) = Engine::start(plan)?;
    let common = Common {
        plan: Arc::new(plan.clone()),
        engine: engine.clone(),
        doorman,
        trust,
        offers: Arc::new(Offers::new()?),
        relay: plan.link.map(Relay::start).transpose()?.map(Arc::new),
    };
    let sampler = match &watched.looks {
        Some(looks) => Some(Sampler::start(looks, watched, &engine).await?),
        None => None,
    };
    let tell = |stage, progress: &Progress| {
        if let Some(sampler) = &sampler {
            sampler.tell(stage);
        }
        tell(stage, progress);
    };
    let mut crowd = Attendance::new(Arc::new(common), plan);
    let result = crowd.act(plan, watched, &tell).await;
    tell(Stage::Leaving, engine.progress());
    crowd.dismiss().await;
    let sampled = match sampler {
        Some(sampler) => sampler.end().await,
        None => Ok(()),
    };
    // An engine that has ended says so below.
    let _ = engine.tell(Command::Stop).await;
    let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
    ended.map_err(|_| anyhow!("the thread that carries voice panicked"))??;
    sampled?;
    result
}

/// Everybody's signalling.
struct Attendance {
    common: Arc<Common>,
    lives: JoinSet<(u32, Result<()>)>,
    orders: Vec<Option<mpsc::Sender<Order>>>,
    walks: Vec<Walk>,
    random: Rng,
    warnings: Vec<String>,
    thrown_out: u32,
    /// Who is to come again.
    away: Vec<u32>,
}

impl Attendance {
    fn new(common: Arc<Common>, plan: &Plan) -> Self {
        let peers = 0..plan.peer_count();
        Self {
            common,
            lives: JoinSet::new(),
            orders: peers.clone().map(|_| None).collect(),
            walks: peers.map(|peer| Walk::new(plan, peer)).collect(),
            random: Rng::with_seed(plan.seed),
            warnings: Vec::new(),
            thrown_out: 0,
            away: Vec::new(),
        }
    }

    async fn act(
        &mut self,
        plan: &Plan,
        watched: &Watched,
        tell: &impl Fn(Stage, &Progress),
    ) -> Result<Report> {
        let engine = self.common.engine.clone();
        let http = reqwest::Client::builder().no_proxy().build()?;
        self.come(plan, tell).await?;
        let warm_up = Duration::from_secs_f64(plan.warm_up_s);
        self.be_busy(plan, warm_up, Stage::WarmingUp, tell).await?;
        let before = look(&http, watched).await?;
        engine.ask(|begun| Command::Begin { begun }).await?;
        let (usage_before, began) = (usage(watched)?, Instant::now());
        let duration = Duration::from_secs_f64(plan.duration_s);
        let course = course::follow(plan, &http, watched, &engine);
        let busy = self.be_busy(plan, duration, Stage::Counting, tell);
        let ((), course) = tokio::try_join!(busy, course)?;
        let (usage_after, elapsed) = (usage(watched)?, began.elapsed());
        engine.ask(|hushed| Command::Hush { hushed }).await?;
        let present = engine.progress().present();
        sleep(STRAGGLERS).await;
        let after = look(&http, watched).await?;
        let measured = engine.ask(|report| Command::Report { report }).await?;
        let then = match plan.then_s > 0.0 {
            true => Some(self.go_on(plan, tell).await?),
            false => None,
        };
        let ended = engine.progress().ended();
        if ended > 0 {
            let why = engine.progress().failures().join("; ");
            self.warnings.push(format!(
                "{ended} voice connections ended by themselves: {why}"
            ));
        }
        let server = usage_before.zip(usage_after);
        Ok(Report::new(
            plan,
            &measured,
            Seen {
                server: server.map(|(before, after)| figures(before, after, elapsed, &measured)),
                metrics: before
                    .zip(after)
                    .map(|(before, after)| usage::between(&before, &after)),
                then,
                present,
                ended,
                thrown_out: self.thrown_out,
                course,
                relay: self.common.relay.as_ref().map(|it| it.figures()),
                warnings: std::mem::take(&mut self.warnings),
            },
        ))
    }

    /// What those hear who stay when fewer talk, at the end of that time.
    async fn go_on(&mut self, plan: &Plan, tell: &impl Fn(Stage, &Progress)) -> Result<Measured> {
        let engine = self.common.engine.clone();
        let time = Duration::from_secs_f64(plan.then_s);
        let counts = time.min(THEN_COUNTS);
        let talkers = plan.then_talkers;
        engine.tell(Command::Allow { talkers }).await?;
        let before = time.saturating_sub(counts);
        self.be_busy(plan, before, Stage::Then, tell).await?;
        engine.ask(|begun| Command::Begin { begun }).await?;
        self.be_busy(plan, counts, Stage::Then, tell).await?;
        engine.ask(|hushed| Command::Hush { hushed }).await?;
        sleep(STRAGGLERS).await;
        Ok(engine.ask(|report| Command::Report { report }).await?)
    }

    /// Lets everybody come, at the plan's pace, and waits until they are in. So that each is in soon after it has set out,
    /// no more are on their way than a server and we can serve at once.
    async fn come(&mut self, plan: &Plan, tell: &impl Fn(Stage, &Progress)) -> Result<()> {
        let engine = self.common.engine.clone();
        let mut pace = interval(Duration::from_secs_f64(1.0 / plan.ramp));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for peer in 0..plan.peer_count() {
            pace.tick().await;
            let began = Instant::now();
            while engine.progress().present() + COMING_MAX <= peer {
                sleep(LOOK).await;
                self.nobody_failed()?;
                ensure!(began.elapsed() < ENTER_MAX, "nobody gets in any more");
            }
            self.start(peer);
            self.nobody_failed()?;
            tell(Stage::Coming, engine.progress());
        }
        let began = Instant::now();
        while engine.progress().present() < plan.peer_count() {
            sleep(LOOK).await;
            self.nobody_failed()?;
            tell(Stage::Coming, engine.progress());
            let present = engine.progress().present();
            if began.elapsed() > ENTER_MAX {
                bail!("only {present} of {} peers got in", plan.peer_count());
            }
        }
        if plan.is_ramp_silent {
            let talkers = plan.talkers;
            engine.tell(Command::Allow { talkers }).await?;
        }
        Ok(())
    }

    fn start(&mut self, peer: u32) {
        let (sender, mut orders) = mpsc::channel(ORDERS_MAX);
        let common = Arc::clone(&self.common);
        let start = self.walks.get(peer as usize).map_or([0.0; 3], Walk::place);
        if let Some(place) = self.orders.get_mut(peer as usize) {
            *place = Some(sender);
        }
        self.lives.spawn(async move {
            let lived = Box::pin(live(common, peer, start, &mut orders)).await;
            (peer, lived)
        });
    }

    /// # Errors
    /// When somebody did not get in.
    fn nobody_failed(&mut self) -> Result<()> {
        let progress = self.common.engine.progress();
        if progress.ended() > 0 {
            bail!("not everybody got in: {}", progress.failures().join("; "));
        }
        while let Some(ended) = self.lives.try_join_next() {
            let (peer, lived) = ended?;
            lived.with_context(|| format!("peer {peer}"))?;
        }
        Ok(())
    }

    /// Lets time pass, in which people move, go and come.
    async fn be_busy(
        &mut self,
        plan: &Plan,
        time: Duration,
        stage: Stage,
        tell: &impl Fn(Stage, &Progress),
    ) -> Result<()> {
        let began = Instant::now();
        let everybody = f64::from(plan.peer_count());
        let mut moves = Dues::new(plan.moves * everybody);
        let mut leaves = Dues::new(plan.churn);
        while began.elapsed() < time {
            let left = time.saturating_sub(began.elapsed());
            sleep(left.min(LOOK)).await;
            for _ in 0..moves.due(began.elapsed()) {
                self.move_one(plan);
            }
            for _ in 0..leaves.due(began.elapsed()) {
                self.let_one_go(plan);
            }
            self.take_back()?;
            tell(stage, self.common.engine.progress());
            ensure!(!self.lives.is_empty(), "everybody is gone");
        }
        Ok(())
    }

    fn move_one(&mut self, plan: &Plan) {
        let peer = self.random.u32(..plan.peer_count());
        let (Some(walk), Some(Some(orders))) = (
            self.walks.get_mut(peer as usize),
            self.orders.get(peer as usize),
        ) else {
            return;
        };
        walk.step(&mut self.random);
        // A peer that has no time to move stays where it is.
        let _ = orders.try_send(Order::Move(walk.place()));
    }

    fn let_one_go(&mut self, plan: &Plan) {
        let peer = self.random.u32(..plan.peer_count());
        let orders = self.orders.get_mut(peer as usize).and_then(Option::take);
        if let Some(orders) = orders {
            self.away.push(peer);
            // One that is about to end anyway is not told.
            let _ = orders.try_send(Order::Leave);
        }
    }

    /// Who has left as it was told comes again; who was thrown out does not.
    fn take_back(&mut self) -> Result<()> {
        while let Some(ended) = self.lives.try_join_next() {
            let (peer, lived) = ended?;
            let was_told = self.away.iter().position(|it| *it == peer);
            match (lived, was_told) {
                (Ok(()), Some(at)) => {
                    self.away.swap_remove(at);
                    self.start(peer);
                }
                (Ok(()), None) => {}
                (Err(why), _) => {
                    self.thrown_out += 1;
                    self.warnings.push(format!("peer {peer} is out: {why:#}"));
                }
            }
        }
        Ok(())
    }

    async fn dismiss(&mut self) {
        self.orders.clear();
        let all = async { while self.lives.join_next().await.is_some() {} };
        // What remains is dropped with us.
        let _ = tokio::time::timeout(LEAVE_MAX, all).await;
        self.lives.abort_all();
    }
}

/// Things that are due at a rate.
struct Dues {
    per_second: f64,
    done: u64,
}

impl Dues {
    fn new(per_second: f64) -> Self {
        Self {
            per_second,
            done: 0,
        }
    }

    fn due(&mut self, elapsed: Duration) -> u64 {
        let all = (self.per_second * elapsed.as_secs_f64()) as u64;
        let due = all.saturating_sub(self.done);
        self.done = self.done.max(all);
        due
    }
}

fn usage(watched: &Watched) -> Result<Option<Usage>> {
    watched.pid.map(Usage::of).transpose()
}

async fn look(http: &reqwest::Client, watched: &Watched) -> Result<Option<MetricsFigures>> {
    match &watched.metrics {
        Some(url) => usage::metrics(http, url).await.map(Some),
        None => Ok(None),
    }
}

fn figures(before: Usage, after: Usage, elapsed: Duration, measured: &Measured) -> ServerFigures {
    let used = after
        .processor
        .saturating_sub(before.processor)
        .as_secs_f64();
    let received: u64 = measured.heard.iter().map(|it| it.tally.received).sum();
    ServerFigures {
        cores: ratio(used, elapsed.as_secs_f64()),
        us_per_forward: ratio(used * 1e6, received as f64),
        resident_kib: after.resident_kib,
        threads: after.threads,
        files: after.files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_keeps_its_rate_whenever_it_is_asked_for() {
        let mut dues = Dues::new(3.0);
        let asked = [0, 100, 400, 400, 2_000, 10_000];
        let due: Vec<_> = asked
            .iter()
            .map(|ms| dues.due(Duration::from_millis(*ms)))
            .collect();
        assert_eq!(due, [0, 0, 1, 0, 5, 24]);
    }
}
