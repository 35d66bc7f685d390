//! What an operator can get wrong, and what the program says then.

use std::{fs, os::unix::fs::PermissionsExt};

use system_tests::{controller::Controller, scratch::Scratch, wait::seconds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_setting_is_named_and_exits_78_before_anything_starts() {
    let cases = [
        ("A67_HTTP_LISTN", "127.0.0.1:1", "A67_HTTP_LISTN"),
        ("A67_HTTP_LISTEN", "nonsense", "http_listen"),
        ("A67_BCRYPT_COST", "40", "bcrypt_cost"),
        ("A67_REGISTRATION", "maybe", "registration"),
        ("A67_NODE_UNREACHABLE_AFTER_MS", "100", "node_unreachable_after_ms"),
        ("A67_LOG", "inof", "A67_LOG"),
        ("A67_AGENT_URL", "http://x:1", "agent_url"),
        ("A67_DATA_DIR", "relative", "data_dir"),
    ];
    for (name, value, shown) in cases {
        let scratch = Scratch::new();
        let controller = Controller::alone(scratch.path()).with(name, value);
        let output = controller.run(&["serve"], "").await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{name}={value}: {said}");
        assert!(said.to_lowercase().contains(&shown.to_lowercase()), "{name}={value}: {said}");
        assert!(!controller.data_dir().exists(), "{name}={value} made files");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_in_the_file_is_named_and_so_is_a_file_that_is_not_there() {
    let scratch = Scratch::new();
    let controller = Controller::alone(scratch.path());
    let file = scratch.path().join("controller.toml");
    fs::write(&file, "http_listn = '127.0.0.1:1'\n").unwrap();
    for (path, shown) in [(file.as_path(), "http_listn"), (&scratch.path().join("gone.toml"), "gone.toml")] {
        let output = controller.run(&["serve", "--config", &path.display().to_string()], "").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(shown), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_command_line_exits_64_and_help_and_version_exit_0() {
    let scratch = Scratch::new();
    let controller = Controller::alone(scratch.path());
    for line in [["serve", "--unknown"].as_slice(), &["admin"], &[], &["admin", "api-token", "--name", "x"]] {
        let output = controller.run(line, "").await;
        assert_eq!(output.status.code(), Some(64), "{line:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{line:?}");
    }
    for line in [["--help"].as_slice(), &["--version"], &["admin", "create", "--help"]] {
        assert_eq!(controller.run(line, "").await.status.code(), Some(0), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_that_is_wrong_or_gone_is_refused_and_nothing_is_changed() {
    let scratch = Scratch::new();
    let mut controller = Controller::alone(scratch.path());
    controller.start().await;
    let api = controller.administrator().await;
    let token = api.clone();
    assert_eq!(controller.stop(seconds(20)).await.code(), Some(0));

    let key = controller.data_dir().join("master.key");
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = scratch.path().join("kept.key");
    fs::rename(&key, &kept).unwrap();

    controller.launch();
    let (status, log) = controller.end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("put the key back") && log.contains("master.key"), "{log}");
    assert!(!key.exists(), "a new key was made over old data");

    // Another fleet's key is a good key, and not ours.
    let other = Scratch::new();
    let mut stranger = Controller::alone(other.path());
    stranger.start().await;
    assert_eq!(stranger.stop(seconds(20)).await.code(), Some(0));
    fs::copy(stranger.data_dir().join("master.key"), &key).unwrap();
    controller.launch();
    let (status, log) = controller.end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("not the one that this database was made with"), "{log}");

    fs::rename(&kept, &key).unwrap();
    controller.start().await;
    token.get::<serde_json::Value>("/auth/me").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_named_with_its_key() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["http_listen", "grpc_listen"] {
        let name = format!("A67_{}", key.to_uppercase());
        let controller = Controller::alone(scratch.path()).with(&name, &address);
        let output = controller.run(&["serve"], "").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(key) && said.contains(&address), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_may_not_be_is_refused_with_the_reason_at_the_host() {
    let scratch = Scratch::new();
    let controller = Controller::alone(scratch.path());
    let cases = [
        (["--name", "Not A Name"], "correct horse battery", "name"),
        (["--name", "short"], "short", "password"),
    ];
    for (name, password, shown) in cases {
        let arguments = [["admin", "create", "--password-stdin"].as_slice(), &name].concat();
        let output = controller.run(&arguments, password).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(shown) && output.stdout.is_empty(), "{said}");
    }
}
