//! What instances are given, over the wire.

use protocol::proto::{self, secret_part::Part};
use tonic::Code;

use super::*;
use crate::{
    ledger::LedgerError,
    runtime::LoginProof,
    secrets::ask::{Answer, Unanswered},
};

fn value(index: u32, value: &[u8]) -> Part {
    Part::Value(proto::SecretValue { index, value: value.to_vec() })
}

fn login() -> Part {
    Part::RegistryLogin(proto::RegistryLogin {
        server: "r.example.org".into(),
        username: "bot".into(),
        password: b"hunter2".to_vec(),
    })
}

async fn ask(agent: &Agent, n: u128, values: usize) -> Result<Answer, Unanswered> {
    agent.asking.ask(instance(n), values).await
}

async fn why(agent: &Agent, n: u128) -> Unanswered {
    match ask(agent, n, 1).await {
        Ok(_) => panic!("an answer"),
        Err(why) => why,
    }
}

#[tokio::test]
async fn values_and_a_login_come_as_the_controller_has_them() {
    let controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let large = vec![b'\xff'; domain::spec::SECRET_MAX_BYTES];
    let given = vec![login(), value(0, b""), value(1, b"$x\n\0"), value(2, &large)];
    controller.shared.secrets.lock().unwrap().insert(instance(1).to_string(), given);
    let answer = ask(&agent, 1, 3).await.ok().unwrap();
    let values: Vec<&[u8]> = answer.values.iter().map(|value| value.reveal()).collect();
    assert_eq!(values, [&b""[..], b"$x\n\0", &large]);
    let Some(LoginProof::Password { username, password }) = answer.login.map(|login| login.proof) else {
        panic!("no login")
    };
    assert_eq!((username.as_str(), password.as_str()), ("bot", "hunter2"));
    agent.stop().await;
}

#[tokio::test]
async fn why_there_is_none_is_told_apart() {
    let controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    assert_eq!(why(&agent, 1).await, Unanswered::NotOurs);
    let give = |parts| controller.shared.secrets.lock().unwrap().insert(instance(1).to_string(), parts);
    give(vec![]);
    assert_eq!(why(&agent, 1).await, Unanswered::NotUnderstood, "it broke off");
    give(vec![Part::Missing(proto::SecretsMissing {
        message: "credential db version 2 was deleted".into(),
    })]);
    assert_eq!(why(&agent, 1).await, Unanswered::Missing("credential db version 2 was deleted".into()));
    give(vec![value(0, b"x")]);
    for (code, wanted) in [
        (Code::PermissionDenied, Unanswered::Refused),
        (Code::Unimplemented, Unanswered::TooOld),
        (Code::Unavailable, Unanswered::Away),
    ] {
        controller.shared.behaviour.lock().unwrap().refuse_secrets = Some(code);
        assert_eq!(why(&agent, 1).await, wanted);
    }
    controller.shared.behaviour.lock().unwrap().refuse_secrets = None;
    assert!(ask(&agent, 1, 1).await.is_ok());
    agent.stop().await;
}

#[tokio::test]
async fn a_session_that_comes_about_is_told_to_those_who_wait() {
    let mut controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    let mut reached = agent.asking.reachable();
    let _session = controller.welcomed(0).await;
    soon(async { reached.wait_for(|times| *times > 0).await.map(|_| ()) }).await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_controller_that_cannot_be_reached_is_away() {
    let controller = TestController::start().await;
    let agent = Agent::start(&controller).await;
    drop(controller);
    assert_eq!(why(&agent, 1).await, Unanswered::Away);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_lost_its_key_says_so_and_is_the_same_node_once_it_is_enrolled_again() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = controller.shared.ca.token("sesame");
    let options = || enrol_options(&controller, dir.path(), token.clone());
    let Ok(Enrolled::New(identity)) = enrol(options()).await else { panic!("not enrolled") };
    let open = async || {
        let dir = dir.path().to_owned();
        tokio::task::spawn_blocking(move || {
            // A ledger is free once the thread of the one before has noticed.
            let begun = std::time::Instant::now();
            loop {
                match crate::agent::open(&dir).map(|(identity, _)| identity.node_id()) {
                    Err(crate::agent::AgentError::Ledger(LedgerError::InUse { .. }))
                        if begun.elapsed() < super::super::testing::DEADLINE =>
                    {
                        std::thread::yield_now();
                    }
                    opened => return opened,
                }
            }
        })
        .await
        .unwrap()
    };
    assert_eq!(open().await.unwrap(), identity.node_id());
    std::fs::remove_file(identity.seal_key_path()).unwrap();
    for _ in 0..2 {
        let error = open().await.err().unwrap();
        assert!(matches!(error, crate::agent::AgentError::SealKeyLost { .. }), "{error}");
        assert!(!identity.seal_key_path().exists(), "none is made over what there is");
    }
    let Ok(Enrolled::Mended { aside, .. }) = enrol(options()).await else { panic!("not mended") };
    assert!(aside.join("ledger/snapshot").exists());
    assert_eq!(open().await.unwrap(), identity.node_id());
    assert_eq!(controller.shared.enrolled.lock().unwrap().len(), 1, "the controller was not asked");
}

#[tokio::test]
async fn a_session_that_comes_about_while_a_question_waits_for_its_connection_stops_nothing() {
    // Takes connections and says nothing, so that making one lasts.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let identity = crate::identity::testing::TestCa::new().identity(dir.path(), &url);
    let (_own, identity) = watch::channel(std::sync::Arc::new(identity));
    let (state, states) = watch::channel(LinkState::Away);
    let (asking, asked) = crate::secrets::ask::channel();
    let serving =
        tokio::runtime::Handle::current().spawn(super::super::secrets::serve(asked, identity, states));
    let first = {
        let asking = asking.clone();
        tokio::runtime::Handle::current().spawn(async move { asking.ask(instance(1), 0).await.map(drop) })
    };
    let _connection = silent.accept().await.unwrap();
    let mut reached = asking.reachable();
    state.send_replace(LinkState::Up { session_epoch: 1 });
    soon(async { reached.wait_for(|times| *times > 0).await.map(drop) }).await.unwrap();
    assert_eq!(soon(first).await.unwrap(), Err(Unanswered::Away));
    serving.abort();
}
