//! What the client makes of lists and servers as the versions of the API send them.

use fleet_client::{AppBillingState, Client, Error, Metadata, Protocol, types};
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::query_param};

use crate::{client, serve};

/// A server as API 0.9.0 sends it.
pub(crate) fn server_090(id: u32) -> Value {
    json!({
        "id": id, "appLocationSettingId": 7, "instance": 1, "serverConfigId": 3,
        "serverConfigName": "deathmatch", "name": "srv", "status": "running", "status_message": null,
        "isBackupable": false, "isRestorable": false, "isPending": false, "isNotFound": false,
        "isHealthy": true, "isStopped": false, "maintenance": false,
        "ports": [{"name": "game_port", "protocol": "udp", "targetPort": 7777, "publishedPort": null}],
        "env": {"MODE": {"key": "MODE", "value": null}},
        "restartPolicy": {"condition": "any"},
        "node": {"architecture": "x86_64", "os": "linux", "address": "203.0.113.7"},
        "location": {"city": "limburg", "cityDisplay": "Limburg", "continent": "europe", "country": "de",
            "isProtected": false},
        "resources": {"id": 1, "name": "Small", "slug": "small", "type": "shared", "cpuLimit": "1",
            "cpuReservation": "0.5", "memoryLimitBytes": 1_073_741_824, "memoryLimitMiB": 1024,
            "memoryLimitFileSizeString": "1 GiB", "memoryReservationBytes": 536_870_912,
            "memoryReservationMiB": 512, "memoryReservationFileSizeString": "512 MiB"},
        "backups": [], "metadata": {"instance_state": "idle"},
        "createdAt": "2026-01-02T03:04:05.000000Z", "updatedAt": null
    })
}

/// A server as API 0.9.2 sends it: resources as numbers and without reservations.
fn server_092(id: u32) -> Value {
    let mut server = server_090(id);
    server["resources"] = json!({"id": 1, "name": "Small", "slug": "small", "type": "shared", "cpuLimit": 0.5,
        "memoryLimitBytes": 1_073_741_824, "memoryLimitMiB": 1024.5, "memoryLimitFileSizeString": "1 GiB"});
    server
}

fn page(servers: &[Value], current: u32, last: u32) -> Value {
    let next = (current < last).then(|| format!("https://x/?page={}", current + 1));
    json!({
        "data": servers,
        "links": {"first": null, "last": null, "prev": null, "next": next},
        "meta": {"current_page": current, "from": 1, "last_page": last, "links":
            [{"url": null, "label": "1", "active": true, "page": 1}], "path": null, "per_page": 15, "to": 1,
            "total": 1}
    })
}

async fn list(client: &Client) -> Result<types::ServerPage, Error> {
    Ok(client.get_servers().app(1).send().await?.into_inner())
}

#[tokio::test]
async fn both_versions_of_a_list_are_read() {
    for server in [server_090(1), server_092(1)] {
        let fleet = serve(ResponseTemplate::new(200).set_body_json(page(&[server], 1, 1))).await;
        let read = list(&client(&fleet.uri())).await.expect("a page");
        assert_eq!(read.data[0].resources.slug, "small");
        assert_eq!(read.data[0].ports[0].published_port, None);
    }
}

#[tokio::test]
async fn unknown_fields_and_values_and_php_maps_are_read() {
    let mut odd = server_090(1);
    odd["dns"] = json!("a.example.org");
    odd["metadata"] = json!([]);
    odd["env"] = json!([]);
    odd["ports"][0]["protocol"] = json!("sctp");
    odd["node"]["os"] = json!("plan9");
    let mut bare = server_090(2);
    bare["metadata"] = Value::Null;
    bare.as_object_mut().expect("an object").remove("node");
    let mut null_node = server_090(3);
    null_node["node"] = Value::Null;
    let body = page(&[odd, bare, null_node], 1, 1);
    let fleet = serve(ResponseTemplate::new(200).set_body_json(body)).await;
    let read = list(&client(&fleet.uri())).await.expect("a page").data;
    assert_eq!(read[0].metadata, Metadata::default());
    assert!(read[0].env.0.is_empty());
    assert_eq!(
        read[0].ports[0].protocol,
        Protocol::Unknown("sctp".to_owned())
    );
    assert!(read[1].node.is_none() && read[2].node.is_none());

    let app = json!({"id": 1, "name": "a", "inUse": true, "billingState": "barter"});
    let fleet = serve(ResponseTemplate::new(200).set_body_json(app)).await;
    let read = client(&fleet.uri())
        .get_app_by_id()
        .app(1)
        .send()
        .await
        .expect("an app");
    assert_eq!(
        read.billing_state,
        AppBillingState::Unknown("barter".to_owned())
    );
}

#[tokio::test]
async fn keys_to_delete_are_sent_the_way_php_reads_them() {
    let server = serve(ResponseTemplate::new(200).set_body_json(server_090(101))).await;
    let client = client(&server.uri());
    let keys = vec!["a".to_owned(), "b.c".to_owned()];
    let call = client
        .docker_services_metadata_delete_keys()
        .docker_service(101)
        .metadata(keys);
    call.send().await.expect("a server");
    let requests = server.received_requests().await.expect("recorded");
    let pairs: Vec<_> = requests[0].url.query_pairs().collect();
    assert_eq!(
        pairs,
        [
            ("metadata[]".into(), "a".into()),
            ("metadata[]".into(), "b.c".into())
        ]
    );
}

async fn walked(server: &MockServer) -> Result<Vec<i64>, Error> {
    let client = client(&server.uri());
    let fetch = async |page| {
        let answer = client.get_servers().app(1).page(page).send().await;
        answer.map(|it| it.into_inner()).map_err(Error::from)
    };
    fleet_client::walk(fetch)
        .map_ok(|server| server.id)
        .try_collect()
        .await
}

#[tokio::test]
async fn a_walk_ends_after_the_last_page() {
    let server = MockServer::start().await;
    for (number, ids) in [(1, vec![1, 2]), (2, vec![3, 4]), (3, vec![5])] {
        let servers: Vec<_> = ids.into_iter().map(server_090).collect();
        Mock::given(query_param("page", number.to_string()))
            .respond_with(ResponseTemplate::new(200).set_body_json(page(&servers, number, 3)))
            .expect(1)
            .mount(&server)
            .await;
    }
    assert_eq!(walked(&server).await.expect("a walk"), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_walk_ends_at_an_empty_page_and_at_an_error() {
    let server = serve(ResponseTemplate::new(200).set_body_json(page(&[], 1, 9))).await;
    assert_eq!(walked(&server).await.expect("a walk"), [0_i64; 0]);
    let server = serve(ResponseTemplate::new(404).set_body_json(json!({"message": "no"}))).await;
    assert!(matches!(walked(&server).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_service_that_repeats_a_page_does_not_hold_a_walk_forever() {
    let body = page(&[server_090(1)], 1, 9);
    let server = serve(ResponseTemplate::new(200).set_body_json(body)).await;
    assert!(matches!(
        walked(&server).await,
        Err(Error::BadResponse { .. })
    ));
}
