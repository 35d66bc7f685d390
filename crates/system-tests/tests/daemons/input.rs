//! Input that is not good: what is answered, and that nothing of it is kept.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    client::Api,
    controller::{ADMIN, Controller},
    scratch::Scratch,
    spec::Spec,
    views::{Deployment, Event, Node, Operation, Page},
};

async fn running(scratch: &Scratch) -> (Controller, Api) {
    let mut controller = Controller::alone(scratch.path());
    controller.start().await;
    let api = controller.administrator().await;
    (controller, api)
}

/// Everything that a declaration leaves behind.
async fn traces(api: &Api) -> (usize, usize, usize) {
    let deployments: Page<Deployment> = api.get("/deployments").await.unwrap();
    let operations: Page<Operation> = api.get("/operations").await.unwrap();
    let events: Page<Event> = api.get("/events").await.unwrap();
    (deployments.items.len(), operations.items.len(), events.items.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_400_that_names_the_field() {
    let scratch = Scratch::new();
    let (_controller, api) = running(&scratch).await;
    let before = traces(&api).await;
    let cases = [
        (Spec::new("web").set("imge", "app:1"), "imge"),
        (Spec::new("web").set("replicas", "many"), "replicas"),
        (Spec::new("web").set("replicas", -1), "replicas"),
        (Spec::new("web").set("ports", json!([{"container_port": 80, "hostport": 1}])), "ports[0]"),
        (Spec::new("web").set("ports", json!([{"container_port": 70000}])), "ports[0].container_port"),
        (Spec::new("web").set("limits", json!({"memory": 1})), "limits"),
        (Spec::new("web").set("env", json!({"A": 1})), "env.A"),
        (Spec::new("web").set("restart", json!({"when": "sometimes"})), "restart.when"),
    ];
    for (spec, field) in cases {
        let problem = api.post("/deployments", &spec.json()).await.unwrap().problem(400);
        assert!(problem.request_id.is_some());
        let named = problem.errors.first().map(|e| e.field.as_str()).unwrap_or_default();
        assert!(named.starts_with(field), "{field}: {problem:?}");
    }
    for (body, words) in [("{", "not JSON"), ("[]", ""), ("", ""), (r#"{"name":"a","image":"b"} x"#, "")] {
        let answer = api.send(Method::POST, "/deployments", Some(body.into())).await.unwrap();
        let problem = answer.problem(400);
        assert!(problem.detail.contains(words), "{body:?}: {problem:?}");
    }
    let missing = api.post("/deployments", &json!({"image": "app:1"})).await.unwrap().problem(400);
    assert!(missing.detail.contains("name"), "{missing:?}");
    assert_eq!(traces(&api).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_a_422_that_names_every_field_at_once() {
    let scratch = Scratch::new();
    let (_controller, api) = running(&scratch).await;
    let before = traces(&api).await;
    let spec = Spec::new("Not A Name")
        .image("two words")
        .replicas(100_000)
        .set("ports", json!([{"container_port": 0, "host_port": 0}]))
        .set("limits", json!({"memory_bytes": 1, "cpu_millis": 1, "pids": 0}))
        .set("stop_grace_seconds", 100_000)
        .set("progress_deadline_seconds", 1);
    let problem = api.post("/deployments", &spec.json()).await.unwrap().problem(422);
    let fields: Vec<&str> = problem.errors.iter().map(|e| e.field.as_str()).collect();
    for field in [
        "name",
        "image",
        "replicas",
        "ports[0].container_port",
        "ports[0].host_port",
        "limits.memory_bytes",
        "limits.cpu_millis",
        "limits.pids",
        "stop_grace_seconds",
        "progress_deadline_seconds",
    ] {
        assert!(fields.contains(&field), "{field} is missing in {fields:?}");
    }
    let replicas = problem.errors.iter().find(|e| e.field == "replicas").unwrap();
    assert!(replicas.message.contains("1000"), "it says what is allowed: {replicas:?}");
    assert_eq!(traces(&api).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_use_is_a_409_and_the_first_one_stays_as_it_is() {
    let scratch = Scratch::new();
    let (_controller, api) = running(&scratch).await;
    api.deploy(&Spec::new("web")).await;
    let (before, kept) = (traces(&api).await, api.deployment("web").await.unwrap());
    let problem = api.post("/deployments", &Spec::new("web").replicas(5).json()).await.unwrap().problem(409);
    assert_eq!(problem.code, "name_taken");
    assert!(problem.detail.contains("web"), "{problem:?}");
    assert_eq!(traces(&api).await.0, before.0);
    assert_eq!(api.deployment("web").await.unwrap().spec, kept.spec);

    // Sent at the same moment, one of them wins.
    let spec = Spec::new("race").json();
    let answers = tokio::join!(
        api.post("/deployments", &spec),
        api.post("/deployments", &spec),
        api.post("/deployments", &spec),
        api.post("/deployments", &spec)
    );
    let mut statuses = [answers.0, answers.1, answers.2, answers.3].map(|answer| answer.unwrap().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409, 409, 409]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_a_mebibyte_is_a_413_and_one_below_is_read() {
    let scratch = Scratch::new();
    let (_controller, api) = running(&scratch).await;
    let before = traces(&api).await;
    let long = |bytes: usize| format!(r#"{{"name":"web","image":"{}"}}"#, "a".repeat(bytes));
    let answer = api.send(Method::POST, "/deployments", Some(long(1024 * 1024))).await.unwrap();
    assert_eq!(answer.problem(413).code, "body_too_large");
    // Much more than fits into buffers on the way.
    if let Ok(answer) = api.send(Method::POST, "/deployments", Some(long(20 * 1024 * 1024))).await {
        let _ = answer.problem(413);
    }
    let answer = api.send(Method::POST, "/deployments", Some(long(1024 * 1024 - 100))).await.unwrap();
    let _ = answer.problem(422);
    assert_eq!(traces(&api).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_so_and_what_is_not_there_is_a_404() {
    let scratch = Scratch::new();
    let (controller, api) = running(&scratch).await;
    let nobody = Api::new(controller.url());
    let spec = Spec::new("web").json();
    let _ = nobody.post("/deployments", &spec).await.unwrap().problem(401);
    let _ = nobody.with_token("a67_nonsense").post("/deployments", &spec).await.unwrap().problem(401);
    assert!(nobody.sign_in(ADMIN.0, "wrong horse battery").await.is_err());

    let invite: Value = api.post("/invites", &json!({"role": "viewer"})).await.unwrap().good().unwrap();
    let account = json!({"name": "eve", "password": "correct horse battery", "invite": invite["invite"]});
    assert_eq!(nobody.post("/auth/register", &account).await.unwrap().status, 201);
    let viewer = nobody.sign_in("eve", "correct horse battery").await.unwrap();
    let _ = viewer.post("/deployments", &spec).await.unwrap().problem(403);
    assert!(viewer.get::<Page<Node>>("/nodes").await.is_ok());

    let id = "01a20424-bd3c-7657-b1bf-da697adf6b74";
    for path in [
        "/deployments/none".to_owned(),
        format!("/deployments/{id}"),
        "/nodes/none".to_owned(),
        format!("/instances/{id}"),
        "/instances/none".to_owned(),
        format!("/instances/{id}/logs"),
        format!("/operations/{id}"),
        "/nothing".to_owned(),
    ] {
        let _ = api.send(Method::GET, &path, None).await.unwrap().problem(404);
    }
    let _ = api.send(Method::DELETE, "/deployments/none", None).await.unwrap().problem(404);
    let _ = api.send(Method::GET, "/nodes?limit=0", None).await.unwrap().problem(422);
    let _ = api.send(Method::GET, "/nodes?limt=1", None).await.unwrap().problem(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_again_with_its_key_is_done_once() {
    let scratch = Scratch::new();
    let (controller, api) = running(&scratch).await;
    let token: Value = api.post("/api-tokens", &json!({"name": "ci"})).await.unwrap().good().unwrap();
    let send = async |spec: &Spec| {
        let request = system_tests::client::http_client(std::time::Duration::from_secs(10))
            .post(format!("{}/api/v1/deployments", controller.url()))
            .bearer_auth(token["token"].as_str().unwrap())
            .header("Idempotency-Key", "the same")
            .json(&spec.json());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (first, second) = (send(&Spec::new("web")).await, send(&Spec::new("web")).await);
    assert_eq!((first.0, second.0), (202, 202));
    assert_eq!(first.1["id"], second.1["id"]);
    assert_eq!(send(&Spec::new("other")).await.0, 409);
    assert_eq!(traces(&api).await.0, 1);
}
