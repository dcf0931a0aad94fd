//! A connection to Redis that is made again when it breaks. No call lasts longer than its time.

use std::{fmt, future::Future, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, RetryMethod,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout_at},
};

use crate::store::words::Unavailable;

/// Time to connect, and to answer one call: Redis does either in a millisecond, or stands still.
pub(super) const RESPONSE_TIME: Duration = Duration::from_secs(1);

/// Time for one call, all attempts included. Below it a restart of Redis goes unnoticed.
const CALL_TIME: Duration = Duration::from_secs(2);

/// Attempts of one call, the first included: with their pauses they fill its time.
const ATTEMPTS_MAX: u32 = 20;

/// Pauses between attempts: they double up to the longest, so that the last one is not long before the end.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The connection that all calls share.
pub(super) struct Connection {
    client: Client,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// Grows with every connection, so that only the broken one is given up.
    generation: u64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to nothing yet.
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            current: Mutex::default(),
        }
    }

    /// Calls until that succeeds, its time is over, or it is hopeless. The call may be carried out more than once.
    pub(super) async fn call<T, F>(
        &self,
        call: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, Unavailable>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let until = Instant::now() + CALL_TIME;
        let mut pause = PAUSE_MIN;
        let mut attempts = 1;
        loop {
            let error = match timeout_at(until, self.attempt(&call)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(Unavailable("Redis does not answer in time".to_owned())),
            };
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            let is_late = Instant::now() + jittered >= until;
            if !can_pass(&error) || attempts == ATTEMPTS_MAX || is_late {
                return Err(Unavailable(format!("Redis: {error}")));
            }
            sleep(jittered).await;
            pause = (pause * 2).min(PAUSE_MAX);
            attempts += 1;
        }
    }

    /// Calls once, within the time to answer.
    pub(super) async fn attempt<T, F>(
        &self,
        call: impl Fn(MultiplexedConnection) -> F,
    ) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let (connection, generation) = self.current().await?;
        let answer = call(connection).await;
        if answer.as_ref().is_err_and(can_pass) {
            let mut current = self.current.lock().await;
            if current.generation == generation {
                current.connection = None;
            }
        }
        answer
    }

    async fn current(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        // Locked while it connects: the others would only do the same.
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((connection.clone(), current.generation));
        }
        let connection = self.connect(RESPONSE_TIME).await?;
        current.connection = Some(connection.clone());
        current.generation += 1;
        Ok((connection, current.generation))
    }

    /// A connection of its own, for calls that take so long.
    pub(super) async fn connect(
        &self,
        response_time: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(RESPONSE_TIME))
            .set_response_timeout(Some(response_time));
        let client = &self.client;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// Whether the same call may succeed later, over another connection.
fn can_pass(error: &RedisError) -> bool {
    // What Redis refuses by a name of its own: it is BUSY or MISCONF, until somebody acts.
    error.kind() == ErrorKind::Extension || !matches!(error.retry_method(), RetryMethod::NoRetry)
}
