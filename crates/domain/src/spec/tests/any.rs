//! Specs of any kind.

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use super::*;
use crate::name::Name;

/// Texts that fit somewhere, and with `wild` texts that fit nowhere.
fn text(wild: bool, fitting: &'static [&'static str]) -> BoxedStrategy<String> {
    let fitting = select(fitting).prop_map(str::to_owned);
    if wild { prop_oneof![fitting, any::<String>()].boxed() } else { fitting.boxed() }
}

fn number(wild: bool, fitting: std::ops::RangeInclusive<u64>) -> BoxedStrategy<u64> {
    if wild { prop_oneof![fitting, any::<u64>()].boxed() } else { fitting.boxed() }
}

fn volumes(wild: bool) -> impl Strategy<Value = Vec<Volume>> {
    let path = || text(wild, &["/data", "/run", "/srv/a b", "/x/./y"]);
    let volume = prop_oneof![
        (path(), any::<bool>(), text(wild, &["db", "a.b-c"]))
            .prop_map(|(target, read_only, name)| Volume::Named { target, read_only, name }),
        (path(), any::<bool>(), path()).prop_map(|(target, read_only, path)| Volume::Bind {
            target,
            read_only,
            path
        }),
        (path(), option::of(number(wild, 4096..=1 << 30)), option::of(0u32..=0o7777))
            .prop_map(|(target, size_bytes, mode)| Volume::Tmpfs { target, size_bytes, mode }),
    ];
    vec(volume, 0..=if wild { 3 } else { 1 })
}

fn network(wild: bool) -> impl Strategy<Value = Network> {
    let aliases = vec(text(wild, &["web", "db.internal"]), 0..3);
    let join = (text(wild, &["front"]), aliases).prop_map(|(name, aliases)| NetworkSpec { name, aliases });
    prop_oneof![
        Just(Network::Bridge),
        Just(Network::Host),
        Just(Network::None),
        vec(join, 1..=if wild { 3 } else { 1 }).prop_map(|networks| Network::Named { networks }),
    ]
}

/// Uses of credentials; with `wild` any, and otherwise such that do not meet.
pub(super) fn secrets(wild: bool) -> impl Strategy<Value = Vec<SecretUse>> {
    let target = prop_oneof![
        text(wild, &["TOKEN", "KEY"]).prop_map(|name| SecretTarget::Env { name }),
        (
            text(wild, &["/run/secrets/key", "/etc/app/tls.key"]),
            number(wild, 0..=0o777),
            number(wild, 0..=u64::from(ID_MAX)),
            any::<u32>(),
        )
            .prop_map(|(path, mode, uid, gid)| SecretTarget::File {
                path,
                mode: u32::try_from(mode).unwrap_or(u32::MAX),
                uid: u32::try_from(uid).unwrap_or(u32::MAX),
                gid: gid.min(ID_MAX),
            }),
    ];
    let key = option::of(text(wild, &["password", "db.password"]));
    let secret = (select(&["app-key", "db"][..]), key, option::of(number(wild, 1..=9)), target);
    let secret = secret.prop_map(|(credential, key, version, target)| SecretUse {
        credential: Name::parse(credential).unwrap(),
        key,
        version: version.map(|version| u32::try_from(version).unwrap_or(u32::MAX)),
        target,
        resolved: None,
    });
    vec(secret, 0..=if wild { 4 } else { 1 })
}

prop_compose! {
    fn limits(wild: bool)(
        cpu_millis in 10u32..1_000_000,
        memory_bytes in number(wild, MEMORY_MIN_BYTES..=BYTES_MAX),
        memory_reservation_bytes in option::of(number(wild, MEMORY_MIN_BYTES..=MEMORY_MIN_BYTES)),
        swap_bytes in number(wild, 0..=BYTES_MAX),
        storage_bytes in option::of(number(wild, STORAGE_MIN_BYTES..=BYTES_MAX)),
        pids in 1u32..1000,
        shm_bytes in option::of(number(wild, 4096..=BYTES_MAX)),
        storage_exceeded in proptest::sample::select(&[crate::spec::StorageExceeded::Mark, crate::spec::StorageExceeded::Stop][..]),
    ) -> Limits {
        Limits { cpu_millis, memory_bytes, memory_reservation_bytes, swap_bytes, storage_bytes, storage_exceeded, pids, shm_bytes }
    }
}

prop_compose! {
    fn security(wild: bool)(
        (privileged, no_new_privileges, read_only_root) in any::<(bool, bool, bool)>(),
        cap_add in vec(text(wild, &["NET_ADMIN", "CHOWN"]), 0..3),
        cap_drop in vec(text(wild, &["ALL", "MKNOD"]), 0..3),
    ) -> Security {
        Security { privileged, cap_add, cap_drop, no_new_privileges, read_only_root }
    }
}

prop_compose! {
    fn specs(wild: bool)(
        image in text(wild, &["app:1", "ghcr.io/team/app@sha256:00"]),
        command in vec(text(wild, &["run", "--all"]), 0..3),
        env in btree_map(text(wild, &["A", "PATH"]), text(wild, &["", "b=c"]), 0..3),
        labels in btree_map(text(wild, &["a", "traefik.enable"]), text(wild, &["", "true"]), 0..3),
        (working_dir, user, hostname, stop_signal) in (
            option::of(text(wild, &["/", "/work"])),
            option::of(text(wild, &["1000:1000", "www-data"])),
            option::of(text(wild, &["web", "db.internal"])),
            option::of(text(wild, &["SIGQUIT", "9"])),
        ),
        (network, volumes, secrets) in (network(wild), volumes(wild), secrets(wild)),
        (limits, security) in (limits(wild), security(wild)),
        ulimits in vec((text(wild, &["nofile"]), -1i64..10, Just(-1i64)), 0..=1),
        devices in vec(text(wild, &["/dev/fuse"]), 0..=1),
        (driver, options) in (
            option::of(text(wild, &["json-file", "none"])),
            btree_map(text(wild, &["max-size"]), text(wild, &["1m"]), 0..2),
        ),
        (init, container_port) in any::<(bool, u16)>(),
    ) -> InstanceSpec {
        let ports = vec![PortSpec { container_port, host_port: None, transport: Transport::Udp }];
        let ulimits = ulimits.into_iter().map(|(name, soft, hard)| Ulimit { name, soft, hard }).collect();
        InstanceSpec {
            command, env: Env(env), labels, working_dir, user, hostname, stop_signal, volumes, limits, security,
            ports: if network.publishes() && (wild || container_port > 0) { ports } else { Vec::new() },
            network, secrets, ulimits, devices: devices.iter().map(|path| device(path)).collect(),
            log: LogSpec { driver, options: Options(options) }, init, ..InstanceSpec::of_image(image)
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_validated_and_refused_without_a_panic_and_the_same_each_time(spec in specs(true)) {
        let spec = whole(spec);
        prop_assert_eq!(spec.validate(), spec.validate());
        let registries = vec!["docker.io".to_owned()];
        let node = Policy { registries, bind_paths: vec!["/srv".into()], ..Policy::default() };
        let _ = refuse(&spec.instance, &node);
        for fault in spec.validate().err().unwrap_or_default() {
            prop_assert!(!fault.field.is_empty() && !fault.message.is_empty());
        }
    }

    #[test]
    fn a_valid_spec_stays_what_it_is_when_it_is_stored(spec in specs(false)) {
        let spec = whole(spec);
        prop_assert_eq!(spec.validate(), Ok(()));
        let stored = serde_json::to_value(&spec).unwrap();
        let back: DeploymentSpec = serde_json::from_value(stored).unwrap();
        prop_assert_eq!(back.validate(), Ok(()));
        prop_assert_eq!(back, spec);
    }

    #[test]
    fn a_path_is_allowed_only_if_its_parts_begin_with_those_of_an_allowed_one(path in "(/(a|b|\\.|\\.\\.|ab)?){0,5}") {
        let node = Policy { bind_paths: vec!["/a/b".into()], ..Policy::default() };
        if refuse_bind(&path, &node).is_none() {
            let clean: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            prop_assert!(clean.starts_with(&["a", "b"]) && !clean.contains(&".."), "{}", path);
        }
    }
}
