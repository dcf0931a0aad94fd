//! Looking for a server, and claiming it in the store.

use std::time::Duration;

use super::{Halt, Step, Stop, Work, read_server};
use crate::{
    matches::{
        claim::{self, Verdict},
        record::{Hold, ServerClaim, Stage},
        world::World,
    },
    store::Version,
};

/// Between two times that a location setting is scaled up for one match: a server that was asked for should be up by
/// then, or somebody else has got it.
pub(in crate::matches) const SCALE_PAUSE: Duration = Duration::from_secs(60);

/// Between two looks for a server for a match that nobody waits for: one that is being started takes a minute and more.
const BACKGROUND_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks for a free server.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Most servers that are tried at one look: the list grows old while they are.
const CLAIMS_MAX: usize = 16;

impl<W: World> Work<'_, W> {
    pub(super) async fn seek(&mut self) -> Step {
        if self.refresh().await? {
            return Ok(());
        }
        if let Some(reason) = self.must_end() {
            let mut next = self.record.clone();
            next.stage = Stage::Ended(reason);
            return self.save(next, None, Some("match.ended")).await;
        }
        let candidates = self.world.candidates(&self.record).await;
        for server in candidates.into_iter().take(CLAIMS_MAX) {
            if self.claim(server).await? {
                return Ok(());
            }
            if self.must_end().is_some() {
                return Ok(());
            }
        }
        if self.record.background.is_some() {
            return self.wait().await;
        }
        self.keep().await?;
        let jitter = LOOK_PAUSE.mul_f64((self.world.random() % 1000) as f64 / 1000.0);
        self.world.sleep(LOOK_PAUSE + jitter).await;
        Ok(())
    }

    /// Leaves a match that nobody waits for to the next look, after having one more server started for it where that is
    /// due. That is written down first: whoever goes on does not do it again at once.
    pub(super) async fn wait(&mut self) -> Step {
        let now = self.world.now();
        let mut next = self.record.clone();
        if let Some(background) = &mut next.background
            && background.may_scale
            && background
                .scaled_at
                .is_none_or(|before| before + SCALE_PAUSE <= now)
        {
            background.scaled_at = Some(now);
            self.save(next, None, None).await?;
            self.world.scale_up(&self.record).await;
            next = self.record.clone();
        }
        next.worker = None;
        next.retry_at = Some(self.world.now() + BACKGROUND_PAUSE);
        self.commit(next, Vec::new(), None).await?;
        Err(Halt::Stop(Stop::Waits))
    }

    /// Claims a server in the store, if it is free there and in its metadata.
    pub(super) async fn claim(&mut self, id: i64) -> Result<bool, Halt> {
        let (known, version) = read_server(self.world, id).await?;
        if known.match_id.is_some() {
            return Ok(false);
        }
        let is_ours = self.claim_free(id, known, version).await;
        let is_left = matches!(is_ours, Ok(false) | Err(Halt::Changed));
        if self.world.allocates() && is_left {
            // What fails here is found by the sweep, as is a server whose claim nobody knows the end of: one that is
            // allocated and that nobody has.
            let _ = self.world.deallocate(id).await;
        }
        is_ours
    }

    pub(super) async fn claim_free(
        &mut self,
        id: i64,
        known: ServerClaim,
        version: Option<Version>,
    ) -> Result<bool, Halt> {
        // Read after the document: whoever changes the server from here on changes the document first, and then the
        // commit below fails.
        let Ok(server) = self.world.read(id).await else {
            return Ok(false);
        };
        if self.judge().verdict(&server, known.fence) != Verdict::Free {
            return Ok(false);
        }
        let Some(api) = self.world.match_api(&server) else {
            return Ok(false);
        };
        let fence = known
            .fence
            .max(claim::fence(&server.metadata))
            .saturating_add(1);
        let mut next = self.record.clone();
        next.stage = Stage::Claimed(Hold {
            server: id,
            fence,
            api,
            is_allocated: self.world.allocates(),
            finish: None,
        });
        let claimed = ServerClaim {
            fence,
            match_id: Some(next.id.clone()),
        };
        let before = self.version;
        match self
            .save(next, Some((claimed.put(id), version)), None)
            .await
        {
            Ok(()) => Ok(true),
            // Somebody else got the server; this match is as it was.
            Err(Halt::Changed) if self.version == before => Ok(false),
            Err(halt) => Err(halt),
        }
    }
}
