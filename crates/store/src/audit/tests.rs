//! What is shown of a spec.

use super::*;

#[test]
fn nothing_that_people_put_passwords_into_is_shown_of_a_spec() {
    let mut instance = InstanceSpec::of_image("app:1");
    instance.env.0.insert("PASSWORD".into(), "hunter2".into());
    instance.labels.insert("basic.auth".into(), "hunter2".into());
    instance.log.options.0.insert("token".into(), "hunter2".into());
    instance.command = vec!["--password=hunter2".into()];
    instance.entrypoint = vec!["hunter2".into()];
    instance.user = Some("1000".into());
    let shown = spec_shown(&DeploymentSpec::of_instance(instance));
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert_eq!(shown["env"], json!(["PASSWORD"]));
    assert_eq!(shown["labels"], json!(["basic.auth"]));
    assert_eq!(shown["log"], json!({"driver": null, "options": ["token"]}));
    assert_eq!(shown["user"], "1000");
    assert_eq!(shown["network"], json!({"mode": "bridge"}));
    assert_eq!(shown["limits"]["storage_bytes"], 1 << 30);
}
