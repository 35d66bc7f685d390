//! Signing in with GitHub, over real HTTP against a stand-in for it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;
#[path = "common/github.rs"]
mod stand_in;

use common::{Answer, Api};
use controller::{
    auth::role::Role,
    config::{Config, List},
};
use reqwest::{Method, StatusCode, header::LOCATION};
use serde_json::json;
use stand_in::{Browser, Github, Mode, SECRET, TOKEN, code, location};
use zeroize::Zeroizing;

fn list(texts: &[&str]) -> List {
    List(texts.iter().map(ToString::to_string).collect())
}

async fn setting(edit: impl FnOnce(&mut Config)) -> (Api, Github) {
    let (github, base) = Github::start().await;
    let api = Api::with(|config| {
        config.github_client_id = Some("the-app".into());
        config.github_client_secret = Some(Zeroizing::new(SECRET.into()));
        config.github_url.clone_from(&base);
        config.github_api_url = format!("{base}/api");
        config.github_default_role = Some(Role::Viewer);
        config.sign_in_limit_per_address_per_minute = 0;
        edit(config);
    })
    .await;
    (api, github)
}

/// A page with a status that says what to do; nothing was made.
async fn assert_page(api: &Api, answer: &Answer, status: u16, code: &str) {
    let text = answer.body.as_str().unwrap_or_else(|| panic!("no page but {}", answer.body));
    assert_eq!(answer.status.as_u16(), status, "{text}");
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(text.contains(code) && !text.contains("<script"), "{text}");
    assert!(text.contains(answer.headers["x-request-id"].to_str().unwrap()), "{text}");
    assert!(answer.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    for secret in [TOKEN, SECRET, "code-1"] {
        assert!(!text.contains(secret), "{text}");
    }
    for table in ["oauth_codes", "sessions"] {
        assert_eq!(api.count(table).await, "0", "{table}");
    }
}

async fn assert_nobody(api: &Api) {
    for table in ["accounts", "identities", "oauth_codes", "sessions", "refresh_tokens"] {
        assert_eq!(api.count(table).await, "0", "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_sign_in_makes_an_account_and_the_next_finds_it_whatever_it_is_called_by_then() {
    let (api, github) = setting(|_| {}).await;
    let mut browser = Browser::new(&api);
    let landed = browser.back("/nodes?sort=name").await;
    let to = location(&landed);
    assert_eq!((to.origin().ascii_serialization().as_str(), to.path()), ("http://127.0.0.1:6700", "/nodes"));
    let names: Vec<_> = to.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!((names, to.fragment()), (vec!["sort".to_owned(), "code".to_owned()], None));
    let session = browser.exchange(&code(&landed)).await;
    assert_eq!(session.status, StatusCode::OK, "{}", session.body);
    assert_eq!(session.body["account"]["name"], "octo-cat");
    assert_eq!(session.body["account"]["role"], "viewer");
    let token = session.body["access_token"].as_str().unwrap();
    assert_eq!(api.get("/auth/me", token).await.status, StatusCode::OK);
    assert_eq!(api.db.texts("select method from sessions").await, ["github"]);

    github.is(|state| {
        state.user = json!({ "id": 583_231, "login": "renamed", "email": null });
        state.emails = json!([{ "email": "new@github.example", "primary": true, "verified": true }]);
    });
    let again = Browser::new(&api).sign_in().await;
    assert_eq!(again["account"], session.body["account"]);
    let seen = api.db.texts("select subject || ' ' || login || ' ' || email from identities").await;
    assert_eq!(seen, ["583231 renamed new@github.example"]);
    assert_eq!((api.count("accounts").await, api.count("oauth_flows").await), ("1".into(), "0".into()));
    assert_eq!(api.count("oauth_codes").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_login_nor_address_leads_to_an_account_that_is_there() {
    let (api, _) = setting(|_| {}).await;
    api.account("octo-cat", Role::Admin).await;
    api.db.execute("update accounts set email = 'octo@github.example'").await;
    let session = Browser::new(&api).sign_in().await;
    assert_eq!(
        (session["account"]["name"].as_str(), session["account"]["role"].as_str()),
        (Some("octo-cat-2"), Some("viewer"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_first_sign_ins_at_once_make_one_account() {
    let (api, _) = setting(|_| {}).await;
    let (mut one, mut two) = (Browser::new(&api), Browser::new(&api));
    let (first, second) = tokio::join!(one.sign_in(), two.sign_in());
    assert_eq!(first["account"], second["account"]);
    assert_eq!(api.count("accounts").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_used_once_soon_and_in_the_browser_that_signed_in() {
    let (api, _) = setting(|_| {}).await;
    let (mut browser, mut other) = (Browser::new(&api), Browser::new(&api));
    let landed = browser.back("/").await;
    other.out("/").await;
    let mut nobody = Browser::new(&api);
    for thief in [&mut other, &mut nobody] {
        let refused = thief.exchange(&code(&landed)).await;
        assert_eq!(
            (refused.status, refused.body["code"].as_str()),
            (StatusCode::UNAUTHORIZED, Some("bad_code"))
        );
    }
    let cookie = browser.cookie.clone();
    assert_eq!(browser.exchange(&code(&landed)).await.status, StatusCode::OK);
    browser.cookie = cookie;
    assert_eq!(browser.exchange(&code(&landed)).await.status, StatusCode::UNAUTHORIZED, "used twice");
    let late = browser.back("/").await;
    api.db.execute("update oauth_codes set expires_at = now() - interval '1 s'").await;
    assert_eq!(browser.exchange(&code(&late)).await.status, StatusCode::UNAUTHORIZED, "too late");
    let disabled = browser.back("/").await;
    api.db.execute("update accounts set disabled_at = now()").await;
    assert_eq!(
        browser.exchange(&code(&disabled)).await.status,
        StatusCode::UNAUTHORIZED,
        "disabled meanwhile"
    );
    assert_eq!(api.count("sessions").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_missing_wrong_of_another_browser_used_or_expired_is_refused() {
    let (api, _) = setting(|_| {}).await;
    let mut browser = Browser::new(&api);
    let callback = browser.out("/").await;
    let mut other = Browser::new(&api);
    for path in [
        callback.as_str(),
        "/auth/github/callback",
        "/auth/github/callback?code=code-1",
        "/auth/github/callback?code=1&code=2&state=%FF",
    ] {
        assert_page(&api, &other.get(path).await, 400, "bad_state").await;
    }
    other.out("/").await;
    assert_page(&api, &other.get(&callback).await, 400, "bad_state").await;
    let wrong = callback.replace("state=", "state=x");
    assert_page(&api, &browser.get(&wrong).await, 400, "bad_state").await;
    let mut forged = Browser::new(&api);
    forged.cookie = browser.cookie.as_ref().map(|cookie| format!("{}x", &cookie[..cookie.len() - 1]));
    assert_page(&api, &forged.get(&callback).await, 400, "bad_state").await;
    assert_nobody(&api).await;
    // What strangers tried has not cost the browser its own sign-in.
    assert_eq!(browser.get(&callback).await.status, StatusCode::FOUND);
    assert_eq!(browser.get(&callback).await.status, StatusCode::BAD_REQUEST, "used once");
    let late = browser.out("/").await;
    api.db.execute("update oauth_flows set expires_at = now() - interval '1 s'").await;
    assert_eq!(browser.get(&late).await.status, StatusCode::BAD_REQUEST, "expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_no_at_github_or_comes_with_a_used_code_makes_nothing() {
    let (api, github) = setting(|_| {}).await;
    let mut browser = Browser::new(&api);
    let callback = browser.out("/").await;
    let state = callback.split("state=").nth(1).unwrap();
    let denied =
        format!("/auth/github/callback?error=access_denied&error_description=%3Cscript%3E&state={state}");
    assert_page(&api, &browser.get(&denied).await, 403, "denied_at_provider").await;
    assert_page(&api, &browser.get(&callback).await, 400, "bad_state").await;
    let callback = browser.out("/").await;
    github.is(|state| state.codes.clear());
    assert_page(&api, &browser.get(&callback).await, 400, "code_refused").await;
    github.is(|state| state.mode = Mode::Misconfigured);
    assert_page(&api, &browser.back("/").await, 502, "provider_misconfigured").await;
    assert_nobody(&api).await;
    let lines = "select outcome || ' ' || (after ->> 'reason') from audit_log where action = 'sign_in' and after ->> 'reason' is not null order by at, id";
    let written = api.db.texts(lines).await;
    assert_eq!(
        written,
        ["refused denied_at_provider", "refused code_refused", "failed provider_misconfigured"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_verified_primary_address_will_do() {
    let (api, github) = setting(|_| {}).await;
    github.is(|state| {
        state.user = json!({ "id": 1, "login": "eve", "email": null });
        state.emails = json!([
            { "email": "a@b.example", "primary": true, "verified": false },
            { "email": "c@d.example", "primary": false, "verified": true },
        ]);
    });
    assert_page(&api, &Browser::new(&api).back("/").await, 403, "no_verified_mail").await;
    assert_nobody(&api).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_let_in_members_of_an_organization_and_of_a_team_and_the_people_on_them() {
    let (api, github) = setting(|config| {
        config.github_allowed_organizations = list(&["acme"]);
        config.github_allowed_teams = list(&["other/Core-Team"]);
        config.github_allowed_users = list(&["9"]);
        config.github_default_role = None;
    })
    .await;
    assert_page(&api, &Browser::new(&api).back("/").await, 403, "not_allowed").await;
    assert_nobody(&api).await;
    for (id, membership) in
        [(1, "user/memberships/orgs/acme"), (2, "orgs/other/teams/core-team/memberships/m2"), (9, "")]
    {
        github.is(|state| {
            state.user = json!({ "id": id, "login": format!("m{id}"), "email": "m@x.example" });
            state.memberships = vec![membership.to_owned()];
        });
        let session = Browser::new(&api).sign_in().await;
        assert_eq!(session["account"]["role"], "none", "nothing gives a role on the fleet");
    }
    github.is(|state| state.memberships.clear());
    github.is(|state| state.user = json!({ "id": 1, "login": "m1", "email": "m@x.example" }));
    assert_eq!(Browser::new(&api).back("/").await.status, StatusCode::FORBIDDEN, "no member any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_neither_lists_nor_a_role_nobody_new_comes_in() {
    let (api, github) = setting(|config| config.github_default_role = None).await;
    assert_page(&api, &Browser::new(&api).back("/").await, 403, "no_account").await;
    assert_nobody(&api).await;
    assert_eq!(github.state().asked, ["user"], "nothing is asked that does not matter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_follow_teams_at_each_sign_in_and_a_changed_one_ends_the_other_sessions() {
    let (api, github) =
        setting(|config| config.github_team_roles = list(&["acme/ops=operator", "acme/root=admin"])).await;
    api.account("root", Role::Admin).await;
    let team = |slug: &str| vec![format!("orgs/acme/teams/{slug}/memberships/Octo-Cat")];
    github.is(|state| state.memberships = team("ops"));
    let first = Browser::new(&api).sign_in().await;
    assert_eq!(first["account"]["role"], "operator");
    let token = first["access_token"].as_str().unwrap();
    let second = Browser::new(&api).sign_in().await;
    assert_eq!(api.get("/auth/me", token).await.status, StatusCode::OK, "the same role ends nothing");
    github.is(|state| state.memberships = team("root"));
    let third = Browser::new(&api).sign_in().await;
    assert_eq!(third["account"]["role"], "admin");
    for ended in [token, second["access_token"].as_str().unwrap()] {
        assert_eq!(api.get("/auth/me", ended).await.status, StatusCode::UNAUTHORIZED);
    }
    github.is(|state| state.memberships.clear());
    assert_eq!(Browser::new(&api).sign_in().await["account"]["role"], "viewer", "in no mapped team any more");
    api.db.execute("update accounts set role = 'operator' where name = 'octo-cat'").await;
    assert_eq!(Browser::new(&api).sign_in().await["account"]["role"], "operator", "an administrator gave it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_administrator_stays_one_whatever_the_teams_say() {
    let (api, github) =
        setting(|config| config.github_team_roles = list(&["acme/root=admin", "acme/ops=operator"])).await;
    github.is(|state| state.memberships = vec!["orgs/acme/teams/root/memberships/Octo-Cat".into()]);
    assert_eq!(Browser::new(&api).sign_in().await["account"]["role"], "admin");
    github.is(|state| state.memberships = vec!["orgs/acme/teams/ops/memberships/Octo-Cat".into()]);
    assert_eq!(Browser::new(&api).sign_in().await["account"]["role"], "admin");
}

async fn link(browser: &mut Browser<'_>, token: &str) -> Answer {
    let begun = browser.post("/auth/github/link", Some(token), json!({ "return_to": "/settings" })).await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.body);
    let callback = browser.pass(begun.body["url"].as_str().unwrap()).await;
    browser.get(&callback).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_linked_by_whoever_is_signed_in_to_it_and_to_nobody_elses_identity() {
    let (api, github) = setting(|config| config.github_default_role = None).await;
    let (anna, bert) = (api.account("anna", Role::Operator).await, api.account("bert", Role::Viewer).await);
    let linked = link(&mut Browser::new(&api), &anna).await;
    assert_eq!(location(&linked).as_str(), "http://127.0.0.1:6700/settings?linked=github");
    let session = Browser::new(&api).sign_in().await;
    assert_eq!(
        (session["account"]["name"].as_str(), session["account"]["role"].as_str()),
        (Some("anna"), Some("operator"))
    );

    let taken = link(&mut Browser::new(&api), &bert).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert!(taken.body.as_str().unwrap().contains("linked_elsewhere"));
    github.is(|state| state.user = json!({ "id": 2, "login": "second", "email": "s@x.example" }));
    let second = link(&mut Browser::new(&api), &anna).await;
    assert!(second.body.as_str().unwrap().contains("has_another_link"));
    assert_eq!(
        api.db.texts("select a.name from identities i join accounts a on a.id = i.account_id").await,
        ["anna"]
    );

    let mut away = Browser::new(&api);
    let begun = away.post("/auth/github/link", Some(&bert), json!({})).await;
    let callback = away.pass(begun.body["url"].as_str().unwrap()).await;
    assert_eq!(api.post("/auth/logout", Some(&bert), json!({})).await.status, StatusCode::NO_CONTENT);
    let signed_out = away.get(&callback).await;
    assert_eq!(signed_out.status, StatusCode::FORBIDDEN);
    assert!(signed_out.body.as_str().unwrap().contains("signed_out"));
    assert_eq!(api.count("identities").await, "1");

    let delete = || api.send(api.request(Method::DELETE, "/auth/github/link", Some(&anna)));
    assert_eq!(delete().await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete().await.status, StatusCode::NOT_FOUND);
    let actions = api
        .db
        .texts("select actor || ' ' || action from audit_log where action like 'identity%' order by at, id")
        .await;
    assert_eq!(actions, ["anna identity_link", "anna identity_unlink"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_way_to_sign_in_is_not_taken_away_and_an_api_token_links_nothing() {
    let (api, _) = setting(|_| {}).await;
    let session = Browser::new(&api).sign_in().await;
    let token = session["access_token"].as_str().unwrap();
    let refused = api.send(api.request(Method::DELETE, "/auth/github/link", Some(token))).await;
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (StatusCode::CONFLICT, Some("last_way_to_sign_in"))
    );
    assert_eq!(api.count("identities").await, "1");
    let made =
        api.post("/api-tokens", Some(token), json!({ "name": "ci", "expires_in_seconds": 3600 })).await;
    let ci = made.body["token"].as_str().unwrap();
    let refused = api.post("/auth/github/link", Some(ci), json!({})).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (StatusCode::CONFLICT, Some("no_session")));
    let refused = api.send(api.request(Method::DELETE, "/auth/github/link", Some(ci))).await;
    assert_eq!(refused.body["code"], "no_session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_account_gets_no_code() {
    let (api, _) = setting(|_| {}).await;
    Browser::new(&api).sign_in().await;
    api.db.execute("update accounts set disabled_at = now()").await;
    api.db.execute("delete from sessions").await;
    assert_page(&api, &Browser::new(&api).back("/").await, 403, "account_disabled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_that_is_slow_broken_or_endless_makes_a_clear_page_and_nothing_else() {
    let (api, github) = setting(|config| config.github_timeout_seconds = 1).await;
    for (mode, status, code) in [
        (Mode::Silent, 504, "provider_timeout"),
        (Mode::Broken, 502, "provider_unavailable"),
        (Mode::Endless, 502, "provider_answer"),
    ] {
        github.is(|state| state.mode = mode);
        assert_page(&api, &Browser::new(&api).back("/").await, status, code).await;
    }
    assert_nobody(&api).await;
    assert_eq!(api.db.texts("select outcome from audit_log where action = 'sign_in'").await, ["failed"; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_that_is_away_makes_a_clear_page_and_nothing_else() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let (api, _) = setting(|config| config.github_url = base).await;
    let mut browser = Browser::new(&api);
    let begun = browser.get("/auth/github").await;
    let to = location(&begun);
    let state = to.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let back = browser.get(&format!("/auth/github/callback?code=code-1&state={state}")).await;
    assert_page(&api, &back, 502, "provider_unavailable").await;
    assert_nobody(&api).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_to_another_origin_and_nothing_secret_is_in_an_address() {
    let (api, _) = setting(|_| {}).await;
    let mut browser = Browser::new(&api);
    for bad in [
        "//evil.example",
        "/%5Cevil.example",
        "https://evil.example",
        "/.//evil.example",
        "/%09/evil.example",
        "evil",
        "/api/v1/x",
    ] {
        let refused = browser.get(&format!("/auth/github?return_to={bad}")).await;
        assert_eq!(
            (refused.status, refused.body["errors"][0]["field"].as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, Some("return_to")),
            "{bad}"
        );
    }
    assert_eq!(api.count("oauth_flows").await, "0");
    let begun = browser.get("/auth/github?return_to=/nodes").await;
    let to = begun.headers[LOCATION].to_str().unwrap().to_owned();
    let cookie = browser.cookie.clone().unwrap();
    for secret in [SECRET, "code_verifier", cookie.split('=').nth(1).unwrap()] {
        assert!(!to.contains(secret), "{to}");
    }
    let callback = browser.pass(&to).await;
    let landed = browser.get(&callback).await;
    let landing = location(&landed).to_string();
    assert!(
        !landing.contains("code-1") && !landing.contains("state") && !landing.contains("eyJ"),
        "{landing}"
    );
    assert!(!landing.contains(TOKEN), "{landing}");
    let stored = api
        .db
        .texts("select encode(code_sha256, 'escape') || encode(browser_sha256, 'escape') from oauth_codes")
        .await;
    assert!(!stored[0].contains(&code(&landed)["a67c_".len()..]));
    let asked = api
        .db
        .texts("select coalesce(before::text, '') || coalesce(after::text, '') || subject from audit_log")
        .await;
    assert!(asked.iter().all(|line| !line.contains("a67c_") && !line.contains(TOKEN)), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_client_id_there_is_no_such_way_in() {
    let api = Api::new().await;
    let anna = api.account("anna", Role::Viewer).await;
    let mut browser = Browser::new(&api);
    let begun = browser.get("/auth/github").await;
    assert_eq!(
        (begun.status, begun.body["code"].as_str()),
        (StatusCode::NOT_FOUND, Some("provider_not_configured"))
    );
    let link = browser.post("/auth/github/link", Some(&anna), json!({})).await;
    assert_eq!(link.body["code"], "provider_not_configured");
    assert_eq!(browser.exchange("a67c_x").await.body["code"], "provider_not_configured");
    assert_eq!(browser.get("/auth/github/callback?code=x&state=y").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_comes_back_too_often_is_told_so_by_a_page_and_one_that_begins_too_often_by_a_problem()
{
    let (api, _) = setting(|config| config.sign_in_limit_per_address_per_minute = 1).await;
    let mut browser = Browser::new(&api);
    assert_eq!(browser.get("/auth/github").await.status, StatusCode::FOUND);
    assert_eq!(browser.get("/auth/github").await.status, StatusCode::TOO_MANY_REQUESTS);
    let page = browser.get("/auth/github/callback?code=x&state=y").await;
    assert_page(&api, &page, 429, "Sign in again in a minute").await;
    assert_eq!(browser.exchange("a67c_x").await.status, StatusCode::TOO_MANY_REQUESTS);
}
