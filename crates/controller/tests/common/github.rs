//! A stand-in for GitHub over real HTTP, and a browser that goes through it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use daemon::Supervisor;
use reqwest::{
    Method, StatusCode,
    header::{COOKIE, LOCATION, SET_COOKIE},
};
use serde_json::{Value, json};
use url::Url;

use crate::common::{Answer, Api};

pub(crate) const SECRET: &str = "hunter2";
pub(crate) const TOKEN: &str = "gho_of_the_stand_in";

/// How the stand-in behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Well,
    /// Never answers who it is.
    Silent,
    /// Has a fault.
    Broken,
    /// Answers with more than anybody reads.
    Endless,
    /// Refuses the client's secret, and says 200.
    Misconfigured,
}

pub(crate) struct State {
    pub(crate) mode: Mode,
    pub(crate) user: Value,
    pub(crate) emails: Value,
    pub(crate) memberships: Vec<String>,
    /// Codes that may be used, and their PKCE challenges.
    pub(crate) codes: HashMap<String, String>,
    issued: u32,
    pub(crate) asked: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Github(Arc<Mutex<State>>);

impl Github {
    pub(crate) async fn start() -> (Self, String) {
        let github = Self(Arc::new(Mutex::new(State {
            mode: Mode::Well,
            user: json!({ "id": 583_231, "login": "Octo-Cat", "email": "octo@github.example" }),
            emails: json!([]),
            memberships: Vec::new(),
            codes: HashMap::new(),
            issued: 0,
            asked: Vec::new(),
        })));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let data = web::Data::new(github.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/login/oauth/authorize", web::get().to(authorize))
                .route("/login/oauth/access_token", web::post().to(access_token))
                .route("/api/{path:.*}", web::get().to(api))
        });
        let server = server.workers(1).disable_signals().shutdown_timeout(0).listen(listener).unwrap().run();
        drop(Supervisor::new(tokio::runtime::Handle::current()).spawn("stand-in", server));
        (github, base)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn is(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state());
    }
}

/// The person is signed in there already, and says yes.
async fn authorize(github: web::Data<Github>, query: web::Query<HashMap<String, String>>) -> HttpResponse {
    assert_eq!((query["response_type"].as_str(), query["code_challenge_method"].as_str()), ("code", "S256"));
    assert_eq!(query["client_id"], "the-app");
    let mut state = github.state();
    state.issued += 1;
    let code = format!("code-{}", state.issued);
    state.codes.insert(code.clone(), query["code_challenge"].clone());
    let mut back = Url::parse(&query["redirect_uri"]).unwrap();
    back.query_pairs_mut().append_pair("code", &code).append_pair("state", &query["state"]);
    HttpResponse::Found().insert_header(("Location", back.as_str())).finish()
}

async fn access_token(github: web::Data<Github>, form: web::Form<HashMap<String, String>>) -> HttpResponse {
    let mode = github.state().mode;
    assert_eq!((form["client_id"].as_str(), form["client_secret"].as_str()), ("the-app", SECRET));
    if mode == Mode::Misconfigured {
        return HttpResponse::Ok().json(json!({ "error": "incorrect_client_credentials" }));
    }
    let hash = ring::digest::digest(&ring::digest::SHA256, form["code_verifier"].as_bytes());
    let challenge = github.state().codes.remove(&form["code"]);
    if challenge != Some(URL_SAFE_NO_PAD.encode(hash)) {
        // As GitHub does it.
        let body = json!({ "error": "bad_verification_code", "error_description": "The code passed is incorrect or expired." });
        return HttpResponse::Ok().json(body);
    }
    HttpResponse::Ok()
        .json(json!({ "access_token": TOKEN, "scope": "read:user,user:email", "token_type": "bearer" }))
}

async fn api(github: web::Data<Github>, request: HttpRequest, path: web::Path<String>) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("authorization"), Some(format!("Bearer {TOKEN}")));
    assert_eq!(header("x-github-api-version").as_deref(), Some("2022-11-28"));
    assert_eq!(header("accept").as_deref(), Some("application/vnd.github+json"));
    assert!(header("user-agent").unwrap().starts_with("automator67-controller/"));
    let mode = {
        let mut state = github.state();
        state.asked.push(path.clone());
        state.mode
    };
    match mode {
        Mode::Silent => return std::future::pending().await,
        Mode::Broken => return HttpResponse::BadGateway().finish(),
        Mode::Endless => return HttpResponse::Ok().body(vec![b' '; 2 << 20]),
        Mode::Well | Mode::Misconfigured => {}
    }
    let state = github.state();
    match path.as_str() {
        "user" => HttpResponse::Ok().json(&state.user),
        "user/emails" => HttpResponse::Ok().json(&state.emails),
        member if state.memberships.iter().any(|path| path == member) => {
            HttpResponse::Ok().json(json!({ "state": "active" }))
        }
        _ => HttpResponse::NotFound().json(json!({ "message": "Not Found" })),
    }
}

/// Keeps cookies, and follows nothing by itself.
pub(crate) struct Browser<'a> {
    api: &'a Api,
    client: reqwest::Client,
    pub(crate) cookie: Option<String>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(api: &'a Api) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { api, client, cookie: None }
    }

    pub(crate) async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let request = match &self.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        };
        let answer = self.api.send(request).await;
        if let Some(set) = answer.headers.get(SET_COOKIE) {
            let set = set.to_str().unwrap();
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
            assert!(set.contains("Path=/api/v1/auth/github"), "{set}");
            self.cookie = Some(set.split(';').next().unwrap().to_owned());
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = self.client.get(format!("{}/api/v1{path}", self.api.base));
        self.send(request).await
    }

    pub(crate) async fn post(&mut self, path: &str, token: Option<&str>, body: Value) -> Answer {
        let request = self.api.request(Method::POST, path, token).json(&body);
        self.send(request).await
    }

    /// Begins; the callback's path and query, as GitHub sends the browser there.
    pub(crate) async fn out(&mut self, return_to: &str) -> String {
        let begun = self.get(&format!("/auth/github?return_to={return_to}")).await;
        assert_eq!(begun.status, StatusCode::FOUND, "{}", begun.body);
        let to = begun.headers[LOCATION].to_str().unwrap().to_owned();
        self.pass(&to).await
    }

    /// Goes through GitHub.
    pub(crate) async fn pass(&mut self, authorize: &str) -> String {
        let asked = self.client.get(authorize).send().await.unwrap();
        let back = Url::parse(asked.headers()[LOCATION].to_str().unwrap()).unwrap();
        format!("{}?{}", back.path().strip_prefix("/api/v1").unwrap(), back.query().unwrap())
    }

    pub(crate) async fn back(&mut self, return_to: &str) -> Answer {
        let callback = self.out(return_to).await;
        self.get(&callback).await
    }

    pub(crate) async fn exchange(&mut self, code: &str) -> Answer {
        self.post("/auth/github/exchange", None, json!({ "code": code })).await
    }

    /// The whole way; the session.
    pub(crate) async fn sign_in(&mut self) -> Value {
        let landed = self.back("/nodes").await;
        let session = self.exchange(&code(&landed)).await;
        assert_eq!(session.status, StatusCode::OK, "{}", session.body);
        session.body
    }
}

pub(crate) fn location(answer: &Answer) -> Url {
    assert_eq!(answer.status, StatusCode::FOUND, "{}", answer.body);
    Url::parse(answer.headers[LOCATION].to_str().unwrap()).unwrap()
}

pub(crate) fn code(answer: &Answer) -> String {
    let url = location(answer);
    let code = url.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    assert!(code.starts_with("a67c_"));
    code
}
