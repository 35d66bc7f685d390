//! Changes of deployments and nodes, as a client makes them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use common::Api;
use controller::auth::role::Role;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

fn web(image: &str, replicas: u32) -> Value {
    json!({"name": "web", "image": image, "replicas": replicas})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_based_on_the_revision_that_was_read_and_one_is_under_way_at_a_time() {
    let api = Api::new().await;
    let token = api.account("operator", Role::Operator).await;
    let made = api.post("/deployments", Some(&token), web("app:1", 0)).await;
    assert_eq!(made.status, StatusCode::ACCEPTED);
    api.services.store.orchestrate(&()).await.unwrap();
    let shown = api.get("/deployments/web", &token).await;
    assert_eq!(shown.headers[header::ETAG], "\"1\"");
    let put = async |image: &str, query: &str, revision: &str| {
        let request = api.request(Method::PUT, &format!("/deployments/web{query}"), Some(&token));
        api.send(request.header(header::IF_MATCH, revision).json(&web(image, 1))).await
    };
    let stale = put("app:2", "", "\"7\"").await;
    assert_eq!(
        (stale.status, stale.body["code"].as_str()),
        (StatusCode::PRECONDITION_FAILED, Some("revision_changed"))
    );
    let dry = put("app:2", "?dry_run=true", "\"1\"").await;
    assert_eq!(dry.status, StatusCode::OK);
    assert_eq!((&dry.body["revision"], &dry.body["pending"]["lacking"]), (&json!(2), &json!(1)));
    let update = put("app:2", "", "\"1\"").await;
    assert_eq!((update.status, &update.body["revision"]), (StatusCode::ACCEPTED, &json!(2)));
    let busy = put("app:3", "", "*").await;
    assert_eq!(
        (busy.status, busy.body["code"].as_str()),
        (StatusCode::CONFLICT, Some("operation_in_progress"))
    );
    let newer = put("app:3", "?supersede=true", "\"2\"").await;
    assert_eq!(newer.status, StatusCode::ACCEPTED);
    let older = api.get(&format!("/operations/{}", update.body["id"].as_str().unwrap()), &token).await;
    assert_eq!(older.body["verdict"], "cancelled");
    let renamed = api.request(Method::PUT, "/deployments/web", Some(&token));
    let renamed = api.send(renamed.json(&json!({"name": "other", "image": "app:1"}))).await;
    assert_eq!(renamed.body["errors"][0]["field"].as_str(), Some("name"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_are_listed_compared_and_gone_back_to() {
    let api = Api::new().await;
    let token = api.account("operator", Role::Operator).await;
    api.post("/deployments", Some(&token), web("app:1", 0)).await;
    api.services.store.orchestrate(&()).await.unwrap();
    let put = api.request(Method::PUT, "/deployments/web", Some(&token)).json(&web("app:2", 0));
    assert_eq!(api.send(put).await.status, StatusCode::ACCEPTED);
    api.services.store.orchestrate(&()).await.unwrap();
    let back = api.post("/deployments/web/rollback", Some(&token), json!({"revision": 1})).await;
    assert_eq!(back.status, StatusCode::ACCEPTED, "{}", back.body);
    let list = api.get("/deployments/web/revisions?limit=2", &token).await.body;
    let number = |n: usize| (list["items"][n]["revision"].as_u64(), list["items"][n]["template"].as_u64());
    assert_eq!((number(0), number(1)), ((Some(3), Some(1)), (Some(2), Some(2))));
    let rest = api
        .get(&format!("/deployments/web/revisions?cursor={}", list["next_cursor"].as_str().unwrap()), &token)
        .await;
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 1);
    let diff = api.get("/deployments/web/revisions/2/diff", &token).await.body;
    assert_eq!(diff["changes"], json!([{"field": "image", "from": "app:1", "to": "app:2"}]));
    let none = api.get("/deployments/web/revisions/3/diff?from=1", &token).await.body;
    assert_eq!((&none["changes"], &none["replaces_copies"]), (&json!([]), &json!(false)));
    assert_eq!(api.get("/deployments/web/revisions/9", &token).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_could_be_jumped_is_refused_with_the_least_that_is_safe() {
    let api = Api::new().await;
    let token = api.account("operator", Role::Operator).await;
    let mut unsafe_one = web("app:1", 1);
    unsafe_one["stop_after_seconds"] = json!(30);
    unsafe_one["disconnect"] = json!({"replace_after_seconds": 45, "keep": "oldest"});
    let refused = api.post("/deployments", Some(&token), unsafe_one.clone()).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let text = refused.body.to_string();
    assert!(text.contains("must be at least 60") && text.contains("disconnect.keep"), "{text}");
    unsafe_one["disconnect"] = json!({});
    let fine = api.post("/deployments", Some(&token), unsafe_one).await;
    assert_eq!(fine.status, StatusCode::ACCEPTED);
    let spec = api.get("/deployments/web", &token).await.body["spec"].clone();
    assert_eq!(spec["disconnect"], json!({"replace_after_seconds": 60, "keep": "newest"}));
}
