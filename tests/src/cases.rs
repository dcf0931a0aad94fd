//! `cases/bridge-cases.json`: the contract of a Nakama `FleetManager` on the Fleet API, case by case. Each step is
//! one call; the file says which requests it must make of the Fleet and what it must return.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use chrono::{DateTime, Utc};
use http::{
    StatusCode,
    header::{ACCEPT, AUTHORIZATION},
};
use serde_json::{Map, Value};

use crate::{Exchange, Recorded, ScriptedFleet};

/// The token at the Fleet that the bridge must show.
pub const TOKEN: &str = "test-token";

/// The app that the bridge must ask for.
pub const APP: u64 = 1;

/// Fewer cases than this means that the file was not read as it should be.
const CASES_MIN: usize = 105;

/// All cases of the file.
///
/// # Errors
/// When the file is not there or has too few.
pub fn read() -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/bridge-cases.json");
    let text = std::fs::read_to_string(path)?;
    let file: Value = serde_json::from_str(&text)?;
    let cases = file["cases"].as_array().context("cases")?;
    ensure!(cases.len() >= CASES_MIN, "only {} cases", cases.len());
    Ok(cases.clone())
}

/// Plays one case on the bridge that `call` reaches, over this Fleet.
///
/// # Errors
/// What does not hold, and in which step.
pub async fn hold(
    case: &Value,
    fleet: &ScriptedFleet,
    call: &impl AsyncFn(&Value) -> Result<Value>,
) -> Result<()> {
    let mut cursors = HashMap::new();
    for (number, step) in case["steps"]
        .as_array()
        .context("steps")?
        .iter()
        .enumerate()
    {
        play(step, fleet, call, &mut cursors)
            .await
            .with_context(|| format!("step {}", number + 1))?;
    }
    Ok(())
}

async fn play(
    step: &Value,
    fleet: &ScriptedFleet,
    call: &impl AsyncFn(&Value) -> Result<Value>,
    cursors: &mut HashMap<String, String>,
) -> Result<()> {
    let mut message = step.clone();
    if let Some(name) = step["args"]["cursor"]["$use"].as_str() {
        message["args"]["cursor"] = cursors[name].clone().into();
    }
    let exchanges = step["fleet"].as_array().context("fleet")?;
    fleet.prepare(exchanges.iter().map(exchange));
    let now = Utc::now();
    let answer = call(&message).await?;
    let expected = &step["expect"];
    asked(&fleet.requests(), exchanges, expected)?;
    answered(&answer, expected, now, cursors)
}

fn exchange(exchange: &Value) -> Exchange {
    let response = &exchange["response"];
    let status = response["status"]
        .as_u64()
        .and_then(|it| u16::try_from(it).ok());
    let text = |name: &str| response[name].as_str().map(str::to_owned);
    Exchange {
        status: StatusCode::from_u16(status.expect("a status")).expect("a status"),
        content_type: text("content_type").unwrap_or_else(|| "application/json".to_owned()),
        body: text("raw")
            .unwrap_or_else(|| response["body"].to_string())
            .into_bytes(),
    }
}

fn asked(requests: &[Recorded], exchanges: &[Value], expected: &Value) -> Result<()> {
    let last_status = exchanges.last().map(|it| it["response"]["status"].as_u64());
    // A failing last answer may be asked for again.
    let may_repeat =
        expected.get("error").is_some() && last_status.flatten().is_some_and(|it| it >= 429);
    let is_count_right =
        requests.len() == exchanges.len() || (may_repeat && requests.len() > exchanges.len());
    ensure!(
        is_count_right,
        "{} requests, {} expected",
        requests.len(),
        exchanges.len()
    );
    for (request, exchange) in requests.iter().zip(exchanges) {
        asked_for(request, &exchange["request"])?;
    }
    Ok(())
}

fn asked_for(request: &Recorded, expected: &Value) -> Result<()> {
    ensure!(
        Some(request.method.as_str()) == expected["method"].as_str(),
        "{}",
        request.method
    );
    let path = format!("/api{}", expected["path"].as_str().context("path")?);
    ensure!(
        request.uri.path() == path,
        "{} instead of {path}",
        request.uri.path()
    );
    let expected_query = expected["query"].as_array().map_or(&[][..], Vec::as_slice);
    let wanted = pairs(expected_query.iter().map(|pair| {
        let text = |index: usize| pair[index].as_str().unwrap_or_default().to_owned();
        (text(0), text(1))
    }));
    let url = reqwest::Url::parse(&format!("http://fleet{}", request.uri))?;
    let got = pairs(
        url.query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned())),
    );
    ensure!(got == wanted, "query {got:?} instead of {wanted:?}");
    let header = |name| {
        request
            .headers
            .get(name)
            .and_then(|it| it.to_str().ok())
            .unwrap_or("")
    };
    ensure!(
        header(AUTHORIZATION) == format!("Bearer {TOKEN}"),
        "the token"
    );
    ensure!(
        header(ACCEPT).contains("application/json"),
        "accept {}",
        header(ACCEPT)
    );
    match expected.get("body") {
        None => {}
        Some(body) if body.get("$any").is_some() => {}
        Some(body) => {
            let got: Value = serde_json::from_slice(&request.body)?;
            let is_right = match body.get("$subset") {
                Some(subset) => contains(&got, subset),
                None => same(&got, body),
            };
            ensure!(is_right, "body {got} instead of {body}");
        }
    }
    Ok(())
}

/// Sorted, without the order (the bridge always asks for one) and without a first page that is the default.
fn pairs(all: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = all
        .filter(|(name, value)| {
            name != "sort[]" && (name, value.as_str()) != (&"page".to_owned(), "1")
        })
        .collect();
    pairs.sort();
    pairs
}

fn answered(
    answer: &Value,
    expected: &Value,
    now: DateTime<Utc>,
    cursors: &mut HashMap<String, String>,
) -> Result<()> {
    if let Some(kind) = expected.get("error") {
        ensure!(
            answer["error"] == *kind,
            "{answer} instead of the error {kind}"
        );
        return Ok(());
    }
    ensure!(answer.get("error").is_none(), "{answer}");
    if expected.get("ok").is_some() {
        ensure!(answer["ok"] == true, "{answer}");
    }
    if let Some(instance) = expected.get("instance") {
        same_instance(&answer["instance"], instance, now)?;
    }
    if let Some(instances) = expected["instances"].as_array() {
        let got = answer["instances"].as_array().context("instances")?;
        ensure!(
            got.len() == instances.len(),
            "{} instances, {} expected",
            got.len(),
            instances.len()
        );
        for (got, wanted) in got.iter().zip(instances) {
            same_instance(got, wanted, now)?;
        }
        let cursor = answer["next_cursor"].as_str().context("next_cursor")?;
        match &expected["next_cursor"] {
            Value::String(wanted) => ensure!(cursor == wanted, "cursor {cursor:?}"),
            rule => {
                ensure!(!cursor.is_empty(), "no cursor");
                if let Some(name) = rule["$save"].as_str() {
                    cursors.insert(name.to_owned(), cursor.to_owned());
                }
            }
        }
    }
    Ok(())
}

fn same_instance(got: &Value, wanted: &Value, now: DateTime<Utc>) -> Result<()> {
    let empty = Map::new();
    let got = got.as_object().context("an instance")?;
    let wanted = wanted.as_object().unwrap_or(&empty);
    for (name, wanted) in wanted {
        let got = got
            .get(name)
            .with_context(|| format!("{name} is missing"))?;
        if name == "create_time" {
            same_instant(got, wanted, now)?;
        } else {
            ensure!(same(got, wanted), "{name}: {got} instead of {wanted}");
        }
    }
    match got.keys().find(|name| !wanted.contains_key(*name)) {
        Some(extra) => bail!("{extra} is not part of an instance"),
        None => Ok(()),
    }
}

fn same_instant(got: &Value, wanted: &Value, now: DateTime<Utc>) -> Result<()> {
    let read = |value: &Value| -> Result<DateTime<Utc>> {
        Ok(value.as_str().context("a time")?.parse::<DateTime<Utc>>()?)
    };
    let (wanted, tolerance_ms) = match wanted["$now"].as_i64() {
        Some(seconds) => (now, seconds * 1000),
        None => (read(wanted.get("$instant").unwrap_or(wanted))?, 1),
    };
    let apart = (read(got)? - wanted).num_milliseconds().abs();
    ensure!(apart <= tolerance_ms, "{got} instead of {wanted}");
    Ok(())
}

/// Equal as JSON, numbers by value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn contains(got: &Value, subset: &Value) -> bool {
    match (got, subset) {
        (Value::Object(got), Value::Object(subset)) => subset
            .iter()
            .all(|(key, wanted)| got.get(key).is_some_and(|got| contains(got, wanted))),
        _ => same(got, subset),
    }
}
