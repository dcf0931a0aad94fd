//! JSON-RPC 2.0 framing: bytes to calls, results to bytes. Knows no method.

use std::future::Future;

use futures::future::join_all;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::RpcError;

/// Members of a call by name.
pub(crate) type Params = Map<String, Value>;

/// What one call gives.
pub(crate) type CallResult = Result<Value, RpcError>;

/// What goes back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// JSON; `None` when nobody waits for an answer.
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Serialize)]
struct Response {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RpcError>,
    id: Value,
}

impl Response {
    fn new(result: CallResult, id: Value) -> Self {
        let (result, error) = match result {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            jsonrpc: "2.0",
            result,
            error,
            id,
        }
    }
}

/// A JSON body with one error and no id, for what is no answer to a call.
pub(crate) fn error_body(error: RpcError) -> Vec<u8> {
    to_json(&Response::new(Err(error), Value::Null))
}

/// Carries out what a body asks for. `find` says what a method's name stands for, `call` does it. The calls of a batch
/// run at the same time and are answered in their order.
pub(crate) async fn answer<M, F>(
    body: &[u8],
    batch_max: usize,
    find: impl Fn(&str) -> Option<M>,
    call: impl Fn(M, Params) -> F,
) -> Reply
where
    F: Future<Output = CallResult>,
{
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(_) => {
            return Reply {
                status: StatusCode::BAD_REQUEST,
                body: Some(error_body(RpcError::parse())),
            };
        }
    };
    let answer_one = async |request: Value| {
        let (id, checked) = check(request, &find);
        let result = match checked {
            Ok((method, params)) => call(method, params).await,
            Err(error) => Err(error),
        };
        Some(Response::new(result, id?))
    };
    let body = match body {
        Value::Array(batch) if batch.is_empty() => Some(error_body(RpcError::invalid_request())),
        Value::Array(batch) if batch.len() > batch_max => {
            let text = format!(
                "a batch holds at most {batch_max} calls, this one {}",
                batch.len()
            );
            Some(error_body(RpcError::refused(text)))
        }
        Value::Array(batch) => {
            let answers = join_all(batch.into_iter().map(answer_one)).await;
            let answers: Vec<Response> = answers.into_iter().flatten().collect();
            (!answers.is_empty()).then(|| to_json(&answers))
        }
        request => answer_one(request).await.map(|answer| to_json(&answer)),
    };
    let status = match body {
        Some(_) => StatusCode::OK,
        None => StatusCode::NO_CONTENT,
    };
    Reply { status, body }
}

/// The id to answer to (`None`: nobody asked), and what to do.
fn check<M>(
    request: Value,
    find: impl Fn(&str) -> Option<M>,
) -> (Option<Value>, Result<(M, Params), RpcError>) {
    let invalid = |id| (Some(id), Err(RpcError::invalid_request()));
    let Value::Object(mut request) = request else {
        return invalid(Value::Null);
    };
    let id = request.remove("id");
    if id.as_ref().is_some_and(|id| !is_id(id)) {
        return invalid(Value::Null);
    }
    let is_version_2 = request.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    let method = match request.get("method") {
        Some(Value::String(method)) if is_version_2 && !method.starts_with("rpc.") => method,
        // What is no call cannot say that it wants no answer.
        _ => return invalid(id.unwrap_or(Value::Null)),
    };
    let Some(method) = find(method) else {
        return (id, Err(RpcError::method_not_found()));
    };
    let params = match request.remove("params") {
        None => Ok(Params::new()),
        Some(Value::Object(params)) => Ok(params),
        Some(Value::Array(_)) => Err(RpcError::positional_params()),
        Some(_) => Err(RpcError::invalid_params()),
    };
    (id, params.map(|params| (method, params)))
}

fn is_id(id: &Value) -> bool {
    match id {
        Value::Null | Value::String(_) => true,
        Value::Number(number) => {
            !number.is_f64() || number.as_f64().is_some_and(|it| it.fract() == 0.0)
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON values can be written as JSON")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// `echo` gives its params back; nothing else is known.
    fn ask(body: &[u8]) -> (u16, Value) {
        let find = |name: &str| (name == "echo").then_some(());
        let echo = |(), params: Params| async { Ok(Value::Object(params)) };
        let reply = answer(body, 3, find, echo).now_or_never().unwrap();
        let body = reply
            .body
            .map(|body| serde_json::from_slice(&body).unwrap());
        (reply.status.as_u16(), body.unwrap_or(Value::Null))
    }

    fn code_and_id(request: &Value) -> (i64, Value) {
        let (status, answer) = ask(request.to_string().as_bytes());
        assert_eq!(status, 200, "{request}");
        (
            answer["error"]["code"].as_i64().unwrap(),
            answer["id"].clone(),
        )
    }

    #[test]
    fn a_call_is_answered_by_its_id() {
        for id in [json!(1), json!("a"), json!(null), json!(-1), json!(2.0)] {
            let request = json!({"jsonrpc": "2.0", "method": "echo", "params": {"a": 1}, "id": id});
            let (status, answer) = ask(request.to_string().as_bytes());
            assert_eq!(status, 200);
            assert_eq!(
                answer,
                json!({"jsonrpc": "2.0", "result": {"a": 1}, "id": id})
            );
        }
    }

    #[test]
    fn what_is_no_call_is_refused_with_its_code() {
        for (request, code, id) in [
            (json!("x"), -32600, json!(null)),
            (json!([]), -32600, json!(null)),
            (json!({"jsonrpc": "2.0"}), -32600, json!(null)),
            (
                json!({"jsonrpc": "1.0", "method": "echo", "id": 1}),
                -32600,
                json!(1),
            ),
            (
                json!({"jsonrpc": "2.0", "method": "rpc.x", "id": 1}),
                -32600,
                json!(1),
            ),
            (
                json!({"jsonrpc": "2.0", "method": "echo", "id": 1.5}),
                -32600,
                json!(null),
            ),
            (
                json!({"jsonrpc": "2.0", "method": "echo", "id": true}),
                -32600,
                json!(null),
            ),
            (
                json!({"jsonrpc": "2.0", "method": "nope", "params": [], "id": "a"}),
                -32601,
                json!("a"),
            ),
            (
                json!({"jsonrpc": "2.0", "method": "toString", "id": 1}),
                -32601,
                json!(1),
            ),
            (
                json!({"jsonrpc": "2.0", "method": "echo", "params": null, "id": 1}),
                -32602,
                json!(1),
            ),
            (
                json!({"jsonrpc": "2.0", "method": "echo", "params": [1], "id": 1}),
                -32010,
                json!(1),
            ),
        ] {
            assert_eq!(code_and_id(&request), (code, id), "{request}");
        }
        for body in [&b""[..], b"{", b"\xff", "[".repeat(100_000).as_bytes()] {
            let (status, answer) = ask(body);
            assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32700)));
        }
    }

    #[test]
    fn a_notification_has_no_answer() {
        for request in [
            json!({"jsonrpc": "2.0", "method": "echo"}),
            json!({"jsonrpc": "2.0", "method": "nope"}),
            json!([{"jsonrpc": "2.0", "method": "echo"}, {"jsonrpc": "2.0", "method": "nope"}]),
        ] {
            assert_eq!(ask(request.to_string().as_bytes()), (204, Value::Null));
        }
    }

    #[test]
    fn a_batch_is_answered_in_order_without_its_notifications() {
        let call = |id: i32| json!({"jsonrpc": "2.0", "method": "echo", "id": id});
        let (_, answer) = ask(json!([call(2), {"jsonrpc": "2.0", "method": "echo"}, 5])
            .to_string()
            .as_bytes());
        let ids: Vec<_> = answer
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["id"])
            .collect();
        assert_eq!(ids, [&json!(2), &json!(null)]);
        let long = json!([call(1), call(2), call(3), call(4)]);
        let (_, answer) = ask(long.to_string().as_bytes());
        assert_eq!(answer["error"]["code"], -32600);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ask(&body);
        }

        #[test]
        fn any_members_have_an_answer(
            members in "(\"(jsonrpc|method|params|id|x)\":(\"2.0\"|\"echo\"|null|1|1.5|\\[1\\]|\\{\\}),){0,5}",
        ) {
            let _ = ask(format!("{{{members}\"z\":1}}").as_bytes());
            let _ = ask(format!("[{{{members}\"z\":1}},7]").as_bytes());
        }
    }
}
