//! What the players do: enter their voice rooms with the tokens of their match, and hear each other.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use voice_client::{LeaveReason, Transport, Trust};

use super::matchmaker::{Made, Seat};
use crate::demo::{
    player::{Player, Ticket},
    timeline::Timeline,
};

/// Packets that each player sends: half a second.
const PACKETS: usize = 25;

/// Packets that must arrive. Voice is never sent twice, and a machine that is busy may lose some.
const HEARD_MIN: usize = 20;

/// Packets may be under way this long after the last of them was sent. Later ones count as lost.
const HEAR_MAX: Duration = Duration::from_secs(2);

/// Both players of the match, in its voice rooms.
pub(super) struct Players([Player; 2]);

/// Both enter all of their rooms.
pub(super) async fn join(made: &Made, certificate: &Path, timeline: &Timeline) -> Result<Players> {
    timeline.step("Both players enter its voice rooms with their tokens");
    let [first, second] = made.seats.as_slice() else {
        bail!("there should be two players, not {}", made.seats.len());
    };
    let (gateway, file) = (&first.gateway, certificate.display());
    timeline.command(&format!(
        "curl -s --cacert {file} {gateway} -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \
         -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Connect\",\"params\":{{}}}}'"
    ));
    let (web, native) = (&first.user_id, &second.user_id);
    timeline.note(&format!(
        "$TOKEN is a token of the answer above; from there on {web} uses WebSockets and WebRTC as browsers do, \
         {native} WebTransport"
    ));
    let trust = Trust::pem_file(certificate).context("the demo's certificate is not usable")?;
    let mut early = Player::join(&trust, first.ticket(Transport::WebSocket)).await?;
    let late = Player::join(&trust, second.ticket(Transport::WebTransport)).await?;
    early.expect_talker().await?;
    ensure!(
        early.server == late.server,
        "one match should be on one voice server, not on {} and {}",
        early.server,
        late.server
    );
    let rooms = first.rooms.len();
    timeline.held(&format!(
        "the gateway sends both to the voice server at {}",
        early.server
    ));
    for player in [&early, &late] {
        let user_id = &player.user_id;
        timeline.held(&format!(
            "{user_id} is in {rooms} rooms, its voice connection is up"
        ));
    }
    Ok(Players([early, late]))
}

/// Both talk at once, and each hears the other.
pub(super) async fn talk(players: &mut Players, timeline: &Timeline) -> Result<()> {
    timeline.step("They talk in the match's room: packets as of speech, 20 ms apart");
    let Players([first, second]) = players;
    let (from_first, from_second) = tokio::try_join!(first.talk(PACKETS), second.talk(PACKETS))?;
    let names = [first.user_id.clone(), second.user_id.clone()];
    let [first_name, second_name] = &names;
    for (hearer, talker, sent) in [
        (second, first_name, from_first),
        (first, second_name, from_second),
    ] {
        let latencies = hearer.hear(sent, HEAR_MAX).await;
        let (user_id, heard) = (&hearer.user_id, latencies.len());
        ensure!(
            heard >= HEARD_MIN,
            "{user_id} should hear at least {HEARD_MIN} of {PACKETS} packets of {talker}, not {heard}"
        );
        let median = median(latencies).as_secs_f64() * 1000.0;
        timeline.held(&format!(
            "{user_id} hears {heard} of {PACKETS} packets of {talker}, the median after {median:.1} ms"
        ));
    }
    Ok(())
}

impl Players {
    /// Waits until both have been told to leave all of their rooms; gives their names and the reasons.
    pub(super) async fn dismissed(
        &mut self,
        patience: Duration,
    ) -> Result<Vec<(String, Vec<LeaveReason>)>> {
        let Self([first, second]) = self;
        let (of_first, of_second) =
            tokio::try_join!(first.dismissed(patience), second.dismissed(patience))?;
        Ok(vec![
            (first.user_id.clone(), of_first),
            (second.user_id.clone(), of_second),
        ])
    }
}

impl Seat {
    fn ticket(&self, transport: Transport) -> Ticket<'_> {
        Ticket {
            user_id: &self.user_id,
            gateway: &self.gateway,
            token: &self.token,
            rooms: &self.rooms,
            transport,
        }
    }
}

/// The middle one; zero where there is none.
fn median(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies
        .get(latencies.len() / 2)
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let of =
            |millis: &[u64]| median(millis.iter().copied().map(Duration::from_millis).collect());
        assert_eq!(of(&[9, 1, 4]), Duration::from_millis(4));
        assert_eq!(of(&[]), Duration::ZERO);
    }
}
