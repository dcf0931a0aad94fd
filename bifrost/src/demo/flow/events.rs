//! The bridge's events: server-sent events, read until a match has ended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::RequestBuilder;
use tokio::time::timeout;

/// What every match goes through.
pub(super) const LIFE: [&str; 4] = [
    "match.created",
    "match.running",
    "match.ending",
    "match.ended",
];

/// All of it has happened before anybody asks.
const READ_MAX: Duration = Duration::from_secs(5);

/// Bytes that are read at most: hundreds of events.
const BYTES_MAX: usize = 256 * 1024;

/// The kinds of the events, up to the end of the match.
pub(super) async fn read(request: RequestBuilder) -> Result<Vec<String>> {
    let mut text = String::new();
    let reading = async {
        let mut response = request.send().await.context("the bridge does not answer")?;
        let status = response.status();
        ensure!(status.is_success(), "the bridge answers {status}");
        while !has_ended(&kinds(&text)) {
            let chunk = response.chunk().await?;
            let chunk = chunk.context("the bridge ends the events")?;
            text.push_str(&String::from_utf8_lossy(&chunk));
            ensure!(text.len() <= BYTES_MAX, "the events do not end");
        }
        Ok(())
    };
    let result = timeout(READ_MAX, reading).await;
    result.with_context(|| format!("no {} among {:?}", LIFE[3], kinds(&text)))??;
    Ok(kinds(&text))
}

fn has_ended(kinds: &[String]) -> bool {
    kinds.iter().any(|kind| kind == LIFE[3])
}

/// The kinds of all whole events.
fn kinds(text: &str) -> Vec<String> {
    let whole = text.rfind("\n\n").and_then(|end| text.get(..end));
    let lines = whole.unwrap_or_default().lines();
    let kinds = lines.filter_map(|line| line.strip_prefix("event: "));
    kinds.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_events_count() {
        let text = ":\nid: h.0\n\nid: h.1\nevent: match.created\ndata: {}\n\nid: h.2\nevent: match.ended\n";
        assert_eq!(kinds(text), ["match.created"]);
        let text = format!("{text}data: {{}}\n\n");
        assert_eq!(kinds(&text), ["match.created", "match.ended"]);
        assert!(has_ended(&kinds(&text)));
        assert!(kinds("").is_empty());
    }
}
