//! What containers are given of the vault, as they find it, and where else it is not.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use daemon::seal::MasterKey;
use domain::{
    assignment::Assignment,
    id::{CredentialId, InstanceId},
    instance::FailureReason,
    name::Name,
    secret::Secret,
    spec::{Resolved, SECRET_MAX_BYTES, SecretTarget, SecretUse},
};
use node_agent::{
    pull::{Pulls, Settings},
    runtime::{LoginProof, RegistryLogin, Runtime as _, RuntimeErrorKind},
    secrets::{
        Parts, Secrets,
        ask::{Answer, channel},
    },
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::engine::{CLOSED_REGISTRY, LOGIN, World, shell};

/// An agent's secrets, and a controller that gives the same to whoever asks.
struct Vault {
    secrets: Secrets,
    kept: TempDir,
    _files: TempDir,
}

fn vault(files: TempDir, values: Vec<Vec<u8>>, login: Option<RegistryLogin>) -> Vault {
    let (kept, (asking, mut asked)) = (tempfile::tempdir().unwrap(), channel());
    let secrets = Secrets::new(Parts {
        node: Uuid::now_v7().into(),
        kept_dir: kept.path().to_owned(),
        key: MasterKey::generate().unwrap().derive("tests"),
        files_dir: files.path().to_owned(),
        asking,
    });
    tokio::runtime::Handle::current().spawn(async move {
        while let Some(ask) = asked.next().await {
            let values = values.iter().map(|value| Secret::copy_of(value)).collect();
            let _ = ask.answer.send(Ok(Answer { login: login.clone(), values }));
        }
    });
    Vault { secrets, kept, _files: files }
}

/// A directory in memory that the engine sees under the same path.
fn in_memory() -> TempDir {
    tempfile::Builder::new().prefix("a67-secrets-").tempdir_in("/dev/shm").unwrap()
}

fn used(index: usize, target: SecretTarget) -> SecretUse {
    let resolved = Some(Resolved::new(Uuid::now_v7().into(), 1));
    let credential = Name::nearest(&format!("key-{index}"));
    SecretUse { credential, key: None, version: None, target, resolved }
}

/// Bytes that come up nowhere by chance.
fn random(length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| Uuid::new_v4().into_bytes()).flatten().take(length).collect()
}

fn text(rest: &str) -> Vec<u8> {
    format!("{}{rest}", Uuid::new_v4().simple()).into_bytes()
}

/// The forms in which a value may lie about. Of a long one its beginning will do.
fn forms(value: &[u8]) -> [Vec<u8>; 3] {
    let value = &value[..value.len().min(48)];
    let url: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
    // As programs do it that leave letters as they are.
    let mixed: String = value
        .iter()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(*b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let base64 = STANDARD.encode(&value[..value.len() / 3 * 3]).into_bytes();
    [value.to_vec(), base64, if mixed.contains('%') { mixed } else { url }.into_bytes()]
}

fn occurs(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return false };
    let mut at = 0;
    while let Some(found) = haystack[at..].iter().position(|byte| byte == first) {
        at += found + 1;
        if haystack[at..].starts_with(rest) {
            return true;
        }
    }
    false
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path()),
            Ok(kind) if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

pub async fn values_arrive_byte_for_byte_and_files_lie_about_nowhere(world: Arc<World>) {
    let values = vec![
        Vec::new(),
        random(SECRET_MAX_BYTES),
        [b"\0\xff\xfe".as_slice(), &random(40)].concat(),
        text("\n"),
        text("$HOME ${X} $$ `id` \"'\\ \n\n"),
        text(" as a variable: $PATH ü\n"),
        vec![b'x'; 100 * 1024],
    ];
    let file = |n: usize, mode, uid, gid| {
        let path = format!("/run/secrets/{n}");
        used(n, SecretTarget::File { path, mode, uid, gid })
    };
    let env = |n: usize| used(n, SecretTarget::Env { name: format!("KEY{n}") });
    let declared = [("400", 0, 0), ("444", 33, 34), ("440", 0, 1000), ("777", 1000, 0), ("000", 0, 0)];
    let vault = vault(in_memory(), values.clone(), None);
    let mut wanted = shell("sleep 1000");
    wanted.spec.secrets = declared
        .iter()
        .enumerate()
        .map(|(n, (mode, uid, gid))| file(n, u32::from_str_radix(mode, 8).unwrap(), *uid, *gid))
        .chain([env(5), env(6)])
        .collect();
    vault.secrets.prepare(&wanted).await.unwrap();
    let given = vault.secrets.deliver(&wanted).await.unwrap();
    let made = world.runtime.create_given(&wanted, &given).await.unwrap();
    world.runtime.start(&made.container_id).await.unwrap();
    let id = made.container_id.as_str();
    let sum = |value: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, value);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let box_says =
        async |words: &[&str]| world.docker(&[&["exec", id, "/bin/busybox"], words].concat()).await;
    for (n, (mode, uid, gid)) in declared.iter().enumerate() {
        let path = format!("/run/secrets/{n}");
        let stat = box_says(&["stat", "-c", "%a %u %g %s", &path]).await;
        let mode = mode.trim_start_matches('0');
        let mode = if mode.is_empty() { "0" } else { mode };
        assert_eq!(stat, format!("{mode} {uid} {gid} {}", values[n].len()));
        assert!(box_says(&["sha256sum", &path]).await.starts_with(&sum(&values[n])), "{path}");
        let write = format!("echo x > {path} || echo refused");
        assert_eq!(box_says(&["sh", "-c", &write]).await, "refused");
    }
    for n in [5, 6] {
        let script = format!("printf %s \"$KEY{n}\" | busybox sha256sum");
        assert!(box_says(&["sh", "-c", &script]).await.starts_with(&sum(&values[n])), "KEY{n}");
    }
    nothing_else_holds(&world, &vault, &values, id).await;

    // Killed, and memory emptied as a reboot does: it starts again with what is kept.
    world.docker(&["kill", id]).await;
    fs::remove_dir_all(given.files[0].source.parent().unwrap()).unwrap();
    vault.secrets.deliver_files(&wanted).await.unwrap();
    world.runtime.start(id).await.unwrap();
    assert!(box_says(&["sha256sum", "/run/secrets/1"]).await.starts_with(&sum(&values[1])));
    world.runtime.remove(id).await.unwrap();
}

/// Looks for what went as files; and for what went as a variable, which the engine
/// shows, so that the search is known to find.
async fn nothing_else_holds(world: &World, vault: &Vault, values: &[Vec<u8>], id: &str) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("inspect"), world.docker(&["inspect", id]).await).unwrap();
    fs::write(at("history"), world.docker(&["history", "--no-trunc", crate::engine::IMAGE]).await).unwrap();
    world.docker(&["save", "-o", at("image").to_str().unwrap(), crate::engine::IMAGE]).await;
    world.docker(&["export", "-o", at("layer").to_str().unwrap(), id]).await;
    let mut searched = files_below(dir.path());
    let (kept, engines) =
        (files_below(vault.kept.path()), files_below(&world.engine_dir().join("data/containers").join(id)));
    assert!(searched.len() == 4 && kept.len() == 1 && !engines.is_empty(), "there is nothing to search");
    searched.extend(kept);
    searched.extend(engines);
    let mut found = Vec::new();
    for path in searched {
        let bytes = fs::read(&path).unwrap();
        for (n, value) in values.iter().enumerate().filter(|(n, value)| !value.is_empty() && *n < 6) {
            let held = forms(value).iter().any(|form| occurs(&bytes, form));
            // The engine's JSON escapes what is not plain in a text.
            let held = held || (n == 5 && occurs(&bytes, &value[..32]));
            if held {
                found.push((n, path.file_name().unwrap().to_string_lossy().into_owned()));
            }
        }
    }
    assert!(found.iter().all(|(n, _)| *n == 5), "{found:?}");
    for control in ["inspect", "config.v2.json"] {
        assert!(found.iter().any(|(_, file)| file == control), "the search does not find: {found:?}");
    }
}

pub async fn a_directory_on_disk_is_refused_before_the_engine_is_asked(world: Arc<World>) {
    let on_disk = tempfile::tempdir_in("/var/tmp").unwrap();
    let vault = vault(on_disk, vec![b"value".to_vec()], None);
    let mut wanted = shell("sleep 1000");
    wanted.spec.secrets = vec![used(0, SecretTarget::file("/run/key"))];
    vault.secrets.prepare(&wanted).await.unwrap();
    let error = vault.secrets.deliver(&wanted).await.err().unwrap();
    assert_eq!(error.kind, RuntimeErrorKind::Refused(FailureReason::StartFailed));
    assert!(error.message.contains("not in memory"), "{error}");
    assert!(files_below(vault.secrets.files_dir()).is_empty());
    assert_eq!(world.runtime.inspect(wanted.instance_id).await.unwrap(), None);
}

pub async fn a_closed_registry_takes_the_login_that_the_controller_chose(world: Arc<World>) {
    let login = |server: &str, password: &str| RegistryLogin {
        server: server.to_owned(),
        proof: LoginProof::Password {
            username: LOGIN.0.to_owned(),
            password: zeroize::Zeroizing::new(password.to_owned()),
        },
    };
    let mut wanted: Assignment = shell("true");
    wanted.spec.image = format!("{CLOSED_REGISTRY}/given:1");
    wanted.registry_credential = Some(CredentialId::from_uuid(Uuid::now_v7()));
    let pull = async |login: RegistryLogin| {
        let vault = vault(in_memory(), Vec::new(), Some(login));
        let pulls =
            Pulls::new(Arc::new(world.runtime.clone()), Settings::default(), Some(vault.secrets.clone()));
        let wanted = Assignment { instance_id: InstanceId::from_uuid(Uuid::now_v7()), ..wanted.clone() };
        pulls.join(&wanted).await
    };
    let denied = Err(RuntimeErrorKind::Refused(FailureReason::ImageDenied));
    for wrong in [login(CLOSED_REGISTRY, "wrong"), login("127.0.0.1:1", LOGIN.1)] {
        assert_eq!(pull(wrong).await.map_err(|error| error.kind), denied);
    }
    pull(login(CLOSED_REGISTRY, LOGIN.1)).await.unwrap();
    assert!(world.runtime.image(&wanted.spec.image).await.unwrap().is_some());
    world.docker(&["rmi", &wanted.spec.image]).await;
}
