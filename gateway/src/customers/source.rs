//! Reads a list of customers from where it is kept.

use std::{path::Path, time::Duration};

use service::Secret;

use super::Customer;
use crate::config::CustomerSource;

/// Longest list, in bytes.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Time for a list to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The list; `None` when it is in the settings and never changes.
pub(super) async fn read(source: &CustomerSource) -> Result<Option<Vec<Customer>>, String> {
    let bytes = match source {
        CustomerSource::Static(_) => return Ok(None),
        CustomerSource::File { path, .. } => file(path).await?,
        CustomerSource::Http { url, token, .. } => {
            // The address may hold credentials: an error must not show it.
            http(url, token.as_ref())
                .await
                .map_err(|error| error.without_url().to_string())??
        }
    };
    let list = serde_json::from_slice(&bytes);
    list.map(Some).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("not a list of customers (line {line}, column {column}): {error}")
    })
}

async fn file(path: &Path) -> Result<Vec<u8>, String> {
    use tokio::io::AsyncReadExt as _;
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let mut file = file.take(LIST_BYTES_MAX as u64 + 1);
    file.read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() > LIST_BYTES_MAX {
        return Err(too_long());
    }
    Ok(bytes)
}

async fn http(
    url: &str,
    token: Option<&Secret>,
) -> Result<Result<Vec<u8>, String>, reqwest::Error> {
    // A refresh is rare: a client per call costs less than a connection kept open for it.
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut request = client
        .get(url)
        .header(http::header::ACCEPT, "application/json");
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let mut response = request.send().await?;
    if response.status() != http::StatusCode::OK {
        return Ok(Err(format!(
            "the customer API answers {}",
            response.status()
        )));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LIST_BYTES_MAX {
            return Ok(Err(too_long()));
        }
    }
    Ok(Ok(bytes))
}

fn too_long() -> String {
    format!("the list is longer than {LIST_BYTES_MAX} bytes")
}
