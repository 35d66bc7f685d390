//! Whatever lies about: what is used stays, what goes is ours and old enough.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const POLICY: Policy = Policy { keep_unused: HOUR, watermark_percent: 85, volumes: true };

#[derive(Clone, Debug, Default)]
struct Notes(BTreeMap<String, Timestamp>);

impl Memory for Notes {
    fn image_unused_since(&self, id: &str) -> Option<Timestamp> {
        self.0.get(id).copied()
    }

    fn volume_unused_since(&self, name: &str) -> Option<Timestamp> {
        self.0.get(name).copied()
    }
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::days(10_000)
}

fn ago(seconds: i64) -> Timestamp {
    now() - TimeDelta::seconds(seconds)
}

fn instance(n: u8) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(n.into()))
}

fn image(n: u8) -> Image {
    Image {
        id: format!("sha256:i{n}"),
        names: vec![format!("app:{n}"), format!("app@sha256:d{n}")],
        size_bytes: 10,
    }
}

fn dead(n: u8, seconds: i64) -> Container {
    Container {
        id: format!("c{n}"),
        instance_id: Some(instance(n)),
        is_dead: true,
        created_at: Some(ago(seconds)),
        images: Vec::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
    }
}

fn complete() -> Needs {
    Needs { complete: true, ..Needs::default() }
}

fn notes(entries: &[(&str, i64)]) -> Notes {
    Notes(entries.iter().map(|(name, seconds)| ((*name).to_owned(), ago(*seconds))).collect())
}

fn go(held: &Belongings, needs: &Needs, memory: &Notes, disk: Option<Disk>) -> Vec<Removal> {
    tidy(held, needs, memory, disk, &POLICY, now())
}

#[test]
fn images_go_when_they_are_ours_unused_and_old() {
    let held = Belongings { images: (1..=4).map(image).collect(), ..Belongings::default() };
    // 1 is old, 2 is not, 3 is not ours, 4 is old and needed.
    let memory = notes(&[("sha256:i1", 7200), ("sha256:i2", 1800), ("sha256:i4", 7200)]);
    for need in ["app:4", "sha256:i4", "sha256:d4"] {
        let needs = Needs { images: [need.to_owned()].into(), ..complete() };
        assert_eq!(go(&held, &needs, &memory, None), [Removal::Image("sha256:i1".into())], "{need}");
    }
}

#[test]
fn a_full_disk_is_relieved_by_the_longest_unused_first_and_by_no_more_than_it_takes() {
    let held = Belongings { images: (1..=4).map(image).collect(), ..Belongings::default() };
    let memory = notes(&[("sha256:i1", 700), ("sha256:i2", 1800), ("sha256:i3", 900), ("sha256:i4", 60)]);
    let disk = |free_bytes| Some(Disk { bytes: 100, free_bytes });
    let ids = |disk| {
        let removals = go(&held, &complete(), &memory, disk);
        removals
            .into_iter()
            .map(|removal| match removal {
                Removal::Image(id) => id,
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(disk(16)), [""; 0], "84 % is below the watermark");
    assert_eq!(ids(disk(15)), ["sha256:i2"], "5 bytes over the relief");
    assert_eq!(ids(disk(5)), ["sha256:i2", "sha256:i3"]);
    assert_eq!(ids(disk(0)), ["sha256:i2", "sha256:i3"]);
    assert_eq!(ids(Some(Disk { bytes: 100, free_bytes: 0 })).len(), 2, "the youngest is left in its grace");
}

#[test]
fn of_containers_only_dead_ones_of_ours_that_nobody_knows_go() {
    let stranger = Container { instance_id: None, ..dead(9, 7200) };
    let alive = Container { is_dead: false, ..dead(8, 7200) };
    let held = Belongings {
        containers: vec![dead(1, 7200), dead(2, 7200), dead(3, 10), stranger, alive],
        ..Belongings::default()
    };
    let needs = Needs { instances: [instance(2)].into(), ..complete() };
    assert_eq!(go(&held, &needs, &Notes::default(), None), [Removal::Container("c1".into())]);
}

#[test]
fn networks_go_that_nobody_is_in_or_wants_to_be_in() {
    let network = |n: u8, seconds| Network {
        id: format!("n{n}"),
        name: format!("net{n}"),
        created_at: Some(ago(seconds)),
    };
    let member = |network: &str| Container { networks: vec![network.into()], ..dead(7, 10) };
    let held = Belongings {
        networks: vec![
            network(1, 7200),
            network(2, 7200),
            network(3, 7200),
            network(4, 7200),
            network(5, 60),
        ],
        containers: vec![member("net2"), member("n3")],
        ..Belongings::default()
    };
    let needs = Needs { networks: ["net4".to_owned()].into(), ..complete() };
    assert_eq!(go(&held, &needs, &Notes::default(), None), [Removal::Network("n1".into())]);
}

#[test]
fn volumes_go_only_where_that_was_asked_for() {
    let held = Belongings {
        volumes: ["old", "held", "wanted", "young"].map(|name| Volume { name: name.into() }).to_vec(),
        containers: vec![Container { volumes: vec!["held".into()], ..dead(7, 10) }],
        ..Belongings::default()
    };
    let needs = Needs { volumes: ["wanted".to_owned()].into(), ..complete() };
    let memory = notes(&[("old", 7200), ("held", 7200), ("wanted", 7200), ("young", 700)]);
    assert_eq!(go(&held, &needs, &memory, None), [Removal::Volume("old".into())]);
    let policy = Policy { volumes: false, ..POLICY };
    assert_eq!(tidy(&held, &needs, &memory, None, &policy, now()), []);
}

fn any_needs() -> impl Strategy<Value = Needs> {
    let need = prop_oneof![
        (0u8..8).prop_map(|n| format!("app:{n}")),
        (0u8..8).prop_map(|n| format!("sha256:i{n}")),
        (0u8..8).prop_map(|n| format!("sha256:d{n}")),
    ];
    (
        any::<bool>(),
        prop::collection::btree_set(need, 0..6),
        prop::collection::btree_set((0u8..8).prop_map(instance), 0..6),
    )
        .prop_map(|(complete, images, instances)| Needs {
            complete,
            images,
            instances,
            ..Needs::default()
        })
}

fn any_held() -> impl Strategy<Value = Belongings> {
    let container = (0u8..8, 0u8..8, any::<bool>(), 0i64..10_000).prop_map(|(n, used, is_dead, age)| {
        Container { is_dead, images: vec![format!("sha256:i{used}")], ..dead(n, age) }
    });
    (prop::collection::btree_set(0u8..8, 0..8), prop::collection::vec(container, 0..5)).prop_map(
        |(images, containers)| Belongings {
            images: images.into_iter().map(image).collect(),
            containers,
            ..Belongings::default()
        },
    )
}

proptest! {
    #[test]
    fn nothing_that_is_used_or_not_ours_or_of_a_known_instance_ever_goes(
        held in any_held(), needs in any_needs(),
        ours in prop::collection::btree_map((0u8..8).prop_map(|n| format!("sha256:i{n}")), (0i64..100_000).prop_map(ago), 0..8),
        free_bytes in 0u64..100, keep in 0u64..100_000, watermark_percent in 0u8..=100,
    ) {
        let memory = Notes(ours);
        let policy = Policy { keep_unused: Duration::from_secs(keep), watermark_percent, volumes: true };
        let disk = Some(Disk { bytes: 100, free_bytes });
        let removals = tidy(&held, &needs, &memory, disk, &policy, now());
        prop_assert!(needs.complete || removals.is_empty());
        for removal in &removals {
            match removal {
                Removal::Image(id) => {
                    let image = held.images.iter().find(|image| image.id == *id).unwrap();
                    prop_assert!(!is_image_used(image, &held, &needs));
                    prop_assert!(memory.0[id] <= now() - TimeDelta::from_std(GRACE).unwrap());
                }
                Removal::Container(id) => {
                    let container = held.containers.iter().find(|c| c.id == *id && c.is_dead).unwrap();
                    prop_assert!(!needs.instances.contains(&container.instance_id.unwrap()));
                }
                Removal::Network(_) | Removal::Volume(_) => prop_assert!(false, "there are none"),
            }
        }
        // What went is not asked for again.
        let gone = |id: &str| removals.contains(&Removal::Image(id.to_owned()));
        let left = Belongings { images: held.images.iter().filter(|i| !gone(&i.id)).cloned().collect(), ..held.clone() };
        let again = tidy(&left, &needs, &memory, disk, &policy, now());
        prop_assert!(again.iter().all(|removal| !matches!(removal, Removal::Image(id) if gone(id))));
    }
}
