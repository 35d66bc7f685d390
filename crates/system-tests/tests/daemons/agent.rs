//! An agent on a host where something is missing or wrong.

use std::process::Output;

use system_tests::{
    controller::Controller,
    process::{clean_command, finish, program},
    scratch::Scratch,
    wait::seconds,
};

async fn run(scratch: &Scratch, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = clean_command(&program("automator67-agent"), arguments);
    command.env("A67_AGENT_DATA_DIR", scratch.path().join("agent"));
    command.env("A67_AGENT_DOCKER_HOST", "unix:///nowhere/docker.sock");
    command.envs(settings.iter().copied());
    let Output { status, stdout, stderr } = finish(command, "", seconds(30)).await;
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_not_enrolled_says_what_to_do_and_exits_78() {
    let scratch = Scratch::new();
    let (code, said) = run(&scratch, &["run"], &[]).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("enrol"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_setting_of_an_agent_is_named_and_exits_78() {
    for (name, value, shown) in [
        ("A67_AGENT_DATA_DRI", "/tmp", "A67_AGENT_DATA_DRI"),
        ("A67_AGENT_LOG", "inof", "inof"),
        ("A67_AGENT_MAX_PARALLEL_ACTIONS", "0", "max_parallel_actions"),
        ("A67_AGENT_LOG_FORMAT", "pretty", "log_format"),
    ] {
        let (code, said) = run(&Scratch::new(), &["run"], &[(name, value)]).await;
        assert_eq!(code, Some(78), "{name}={value}: {said}");
        assert!(said.to_lowercase().contains(&shown.to_lowercase()), "{name}={value}: {said}");
    }
    for line in [["run", "--unknown"].as_slice(), &[], &["enrol"]] {
        let (code, said) = run(&Scratch::new(), line, &[]).await;
        assert_eq!(code, Some(64), "{line:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_enrol_says_whether_it_is_the_address_the_token_or_the_controller() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path());
    controller.start().await;
    let token = controller.prints(&["admin", "enrolment-token"], "").await;
    let url = controller.agent_url().to_owned();
    // REST answers there, and no agents' side.
    let rest = controller.url().replace("http:", "https:");
    let unknown = token.replacen("a67e_", "a67e_x", 1);
    for (exit, url, token, shown) in [
        (1, "https://127.0.0.1:1", token.as_str(), "reach the controller"),
        (1, &rest, &token, &rest),
        (1, &url, &unknown, "refused the token"),
        (64, "nonsense", &token, "nonsense"),
        (64, &url, "a67e_short", "token"),
    ] {
        let (code, said) = run(&scratch, &["enrol", "--controller", url, "--token", token], &[]).await;
        assert_eq!(code, Some(exit), "{url}: {said}");
        assert!(said.contains(shown), "{url}: {said}");
        assert!(!said.contains(token), "the token is shown: {said}");
        let (code, _) = run(&scratch, &["run"], &[]).await;
        assert_eq!(code, Some(78), "it is half enrolled");
    }
    // Every failure before has used nothing up, and an engine is not needed for it.
    let enrol = ["enrol", "--controller", &url, "--token", &token, "--name", "late"];
    let (code, said) = run(&scratch, &enrol, &[]).await;
    assert_eq!(code, Some(0), "{said}");
}
