//! What goes on beside the calls: events are followed, and names of forgotten documents removed.

use std::{convert::Infallible, fmt, time::Duration};

use redis::{
    RedisError, RedisResult,
    streams::{StreamRangeReply, StreamReadReply},
};
use tokio::time::sleep;

use super::{
    Redis,
    connection::RESPONSE_TIME,
    entry::{event, sequence},
    recent::{Gap, RECENT_MAX, Recent},
};
use crate::store::{
    UPKEEP_INTERVAL,
    words::{Unavailable, millis},
};

/// Time that a reader waits for events: few calls, and a lost history is noticed soon.
const FOLLOW_TIME: Duration = Duration::from_secs(1);

/// Events that are read at once while they are followed.
const FOLLOW_PAGE: usize = 256;

/// Pause before events are followed again.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// Names of forgotten documents that one script goes through, and scripts in one round.
const FORGET_PAGE: usize = 500;
const FORGET_PAGES_MAX: usize = 20;

/// Why following events ended.
enum Broken {
    Redis(RedisError),
    /// Events are missing, or it is another history.
    Gap,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(error) => error.fmt(f),
            Self::Gap => f.write_str("events are missing"),
        }
    }
}

impl From<RedisError> for Broken {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Gap> for Broken {
    fn from(Gap: Gap) -> Self {
        Self::Gap
    }
}

impl Redis {
    /// Follows events and forgets what is over, for ever.
    pub(in crate::store) async fn run(&self) {
        tokio::join!(self.follow(), self.forget());
    }

    async fn follow(&self) {
        /// Events are not followed any more, also when that is given up.
        struct Following<'a>(&'a Recent);
        impl Drop for Following<'_> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let mut is_told = false;
        loop {
            let following = Following(&self.recent);
            let Err(broken) = self.follow_history(&mut is_told).await;
            drop(following);
            // Once for each time that Redis is away.
            if !is_told {
                tracing::warn!("events are not followed: {broken}");
                is_told = true;
            }
            sleep(FOLLOW_PAUSE).await;
        }
    }

    /// Follows events until that breaks.
    async fn follow_history(&self, is_told: &mut bool) -> Result<Infallible, Broken> {
        let wait = FOLLOW_TIME + RESPONSE_TIME;
        let mut connection = self.connection.connect(wait).await?;
        let survey = self.survey_over(&mut connection).await?;
        let key = self.key("events");
        let mut calls = redis::pipe();
        let last = calls.atomic().cmd("XREVRANGE").arg(&key).arg("+").arg("-");
        last.arg("COUNT").arg(RECENT_MAX);
        let oldest = calls.cmd("XRANGE").arg(&key).arg("-").arg("+");
        oldest.arg("COUNT").arg(1);
        type Answer = (StreamRangeReply, StreamRangeReply);
        let (last, oldest): Answer = calls.query_async(&mut connection).await?;
        let oldest = oldest.ids.first().map_or(Ok(0), sequence)?;
        let last = last.ids.iter().rev().map(event);
        let last = last.collect::<RedisResult<Vec<_>>>()?;
        // There may be more of them by now.
        let mut newest = last.last().map_or(survey.newest, |event| event.sequence);
        self.recent.begin(last, oldest, newest);
        *is_told = false;
        loop {
            let mut calls = redis::pipe();
            calls.cmd("HGET").arg(self.key("head")).arg("id");
            let read = calls.cmd("XREAD").arg("COUNT").arg(FOLLOW_PAGE);
            read.arg("BLOCK").arg(millis(FOLLOW_TIME));
            read.arg("STREAMS").arg(&key).arg(format!("{newest}-0"));
            type Answer = (Option<String>, Option<StreamReadReply>);
            let (id, read): Answer = calls.query_async(&mut connection).await?;
            if id.as_deref() != Some(&survey.id) {
                return Err(Broken::Gap);
            }
            let keys = read.into_iter().flat_map(|read| read.keys);
            let events = keys.flat_map(|key| key.ids).map(|id| event(&id));
            let events = events.collect::<RedisResult<Vec<_>>>()?;
            if let Some(last) = events.last() {
                newest = last.sequence;
                self.recent.extend(events)?;
            }
        }
    }

    async fn forget(&self) {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            // Redis being away is told by whoever follows events.
            let _ = self.forget_now().await;
        }
    }

    /// Removes names of documents that Redis has forgotten.
    pub(in crate::store) async fn forget_now(&self) -> Result<(), Unavailable> {
        let mut call = self.scripts.forget.key(self.key("over"));
        call.key(self.key("due")).key(self.key("matches"));
        call.arg(self.key("doc:")).arg(FORGET_PAGE);
        let call = &call;
        for _ in 0..FORGET_PAGES_MAX {
            let forgotten = self.connection.call(|mut connection| async move {
                let forgotten: usize = call.invoke_async(&mut connection).await?;
                Ok(forgotten)
            });
            if forgotten.await? < FORGET_PAGE {
                break;
            }
        }
        Ok(())
    }
}
