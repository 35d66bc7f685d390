//! The audit log: nobody changes it, and it goes by whole months.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::time::Duration;

use chrono::{DateTime, Utc};
use store::{
    audit::{Actor, ActorKind, AuditFilter, AuditNew, AuditOrder},
    testing::{TestDatabase, database, empty_database},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const PARTITIONS: &str = "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid \
    where i.inhparent = 'audit_log'::regclass order by 1";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Whatever changes or removes lines of a table.
fn changes(table: &str) -> [String; 4] {
    [
        format!("update {table} set actor = 'nobody'"),
        format!("delete from {table}"),
        format!("truncate {table}"),
        format!(
            "insert into {table} select * from audit_log on conflict (at, id) do update set actor = 'nobody'"
        ),
    ]
}

async fn line(db: &TestDatabase, subject: &str) {
    db.store.audit_insert(&Actor::system(), &AuditNew::done("test", subject)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_even_a_superuser_changes_lines_whether_in_the_log_or_in_a_month_of_it() {
    let db = database().await;
    db.store.audit_partitions_maintain(Utc::now() + 100 * DAY, 3650 * DAY).await.unwrap();
    line(&db, "kept").await;
    let lines = db.texts("select a::text from audit_log a").await;
    let mut tables = db.texts(PARTITIONS).await;
    assert!(tables.len() >= 4, "{tables:?}");
    // Months without a line have none to change.
    for empty in &tables {
        assert!(db.refusal_of(&format!("truncate {empty}")).await.contains("append-only"), "{empty}");
    }
    tables.retain(|month| *month == format!("audit_log_{}", Utc::now().format("%Y%m01")));
    assert_eq!(tables.len(), 1);
    for table in ["audit_log", tables[0].as_str()] {
        for change in changes(table) {
            let refusal = db.refusal_of(&change).await;
            assert!(refusal.contains("the audit log is append-only"), "{change}: {refusal}");
        }
    }
    assert_eq!(db.texts("select a::text from audit_log a").await, lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_owns_all_tables_may_add_lines_and_nothing_else() {
    let db = empty_database().await;
    let role = format!("r_{}", uuid::Uuid::now_v7().simple());
    let migrations = [
        include_str!("../../../migrations/0001_foundation/up.sql"),
        include_str!("../../../migrations/0002_identity/up.sql"),
    ];
    let [first, second] = migrations;
    db.execute(&format!(
        "create role {role}; grant create on schema public to {role}; set role {role}; {first}; {second}; \
         select audit_log_month_make('2000-01-01'); \
         insert into audit_log (id, actor, actor_kind, action, subject, outcome) \
         values (gen_random_uuid(), 'system', 'system', 'test', 'kept', 'done')"
    ))
    .await;
    let owners =
        db.texts("select distinct tableowner from pg_tables where tablename like 'audit_log%'").await;
    assert_eq!(owners, [role.as_str()]);
    let mut tables = db.texts(PARTITIONS).await;
    tables.push("audit_log".to_owned());
    for change in tables.iter().flat_map(|table| changes(table)) {
        let refusal = db.refusal_of(&format!("set role {role}; {change}")).await;
        assert!(refusal.contains("permission denied for table"), "{change}: {refusal}");
    }
    db.execute(&format!("set role {role}; drop table audit_log_20000101")).await;
    assert_eq!(db.texts("select subject from audit_log").await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn months_are_made_ahead_and_dropped_whole_once_all_of_them_is_too_old() {
    let db = database().await;
    db.execute("do $$ declare m date; begin for m in select generate_series('2019-11-01'::date, '2020-12-01', '1 month') loop \
        perform audit_log_month_make(m); end loop; end $$").await;
    db.execute(
        "insert into audit_log (id, at, actor, actor_kind, action, subject, outcome) \
         select gen_random_uuid(), t, 'system', 'system', 'test', t::text, 'done' \
         from generate_series('2019-11-30 23:59:59+00'::timestamptz, '2020-02-29 12:00+00', '1 day') t",
    )
    .await;
    let keep = 31 * DAY;
    // The last of January is 31 days ago, and its month stays until all of it is.
    let now = at("2020-03-02T12:00:00Z");
    let maintain = |now| db.store.audit_partitions_maintain(now, keep);
    let (first, second) = tokio::join!(maintain(now), maintain(now));
    assert!(first.is_ok() && second.is_ok());
    let months = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|n| n < &"audit_log_2020050".to_owned()).collect()
    };
    let kept = months(db.texts(PARTITIONS).await);
    assert_eq!(
        kept,
        ["audit_log_20200101", "audit_log_20200201", "audit_log_20200301", "audit_log_20200401"]
    );
    assert_eq!(db.texts("select count(*) from audit_log where at < '2020-01-01+00'").await, ["0"]);
    let expired =
        "select subject from audit_log where action = 'audit_expire' and actor_kind = 'system' order by 1";
    assert_eq!(
        db.texts(expired).await,
        ["audit_log_20191101", "audit_log_20191201"],
        "once, though two did it"
    );
    maintain(at("2020-03-03T12:00:00Z")).await.unwrap();
    assert_eq!(months(db.texts(PARTITIONS).await).first().unwrap(), "audit_log_20200201");

    let future = Utc::now() + 400 * DAY;
    db.store.audit_partitions_maintain(future, 3650 * DAY).await.unwrap();
    let names = db.texts(PARTITIONS).await;
    for ahead in [0, 1, 2] {
        let month = future.date_naive().checked_add_months(chrono::Months::new(ahead)).unwrap();
        assert!(names.contains(&format!("audit_log_{}", month.format("%Y%m01"))), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_the_first_schema_are_there_after_the_second_and_after_going_back() {
    let db = empty_database().await;
    db.migrate_to("0001").await;
    db.execute(
        "insert into audit_log (id, at, actor, address, action, subject, outcome, request_id) values \
         (gen_random_uuid(), '2026-01-31 23:59:59.999+00', 'anna', '10.0.0.1', 'sign_in', 'anna', 'refused', 'r1'), \
         (gen_random_uuid(), '2026-02-01 00:00+00', 'node n1', null, 'node_enrol', 'n1', 'done', null), \
         (gen_random_uuid(), now(), 'administrator at the host', null, 'account_create', 'anna', 'done', null)",
    )
    .await;
    const SHOWN: &str = "select concat_ws(' ', id, at, actor, address, action, subject, outcome, request_id) from audit_log order by at";
    let lines = db.texts(SHOWN).await;
    db.migrate_to("0002").await;
    assert_eq!(db.texts(SHOWN).await, lines);
    assert_eq!(db.texts("select actor_kind from audit_log order by at").await, ["user", "node", "host"]);
    let months = db.texts("select distinct tableoid::regclass from audit_log order by 1").await;
    assert!(
        months.contains(&"audit_log_20260101".to_owned())
            && months.contains(&"audit_log_20260201".to_owned())
    );
    db.execute(include_str!("../../../migrations/0002_identity/down.sql")).await;
    assert_eq!(db.texts(SHOWN).await, lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_in_either_order_have_every_line_once_and_filters_leave_out_the_others() {
    let db = database().await;
    // Lines of one moment, so that only the id tells them apart.
    db.execute(
        "insert into audit_log (id, at, actor, actor_kind, action, subject, outcome) \
         select gen_random_uuid(), now() - (n / 3) * interval '1 s', 'actor' || n % 2, 'user', 'test', n::text, 'done' \
         from generate_series(1, 20) n",
    )
    .await;
    for order in [AuditOrder::Newest, AuditOrder::Oldest] {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.audit_list_page(&AuditFilter::default(), order, after, 3).await.unwrap();
            rows.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let keys: Vec<_> = rows.iter().map(|row| (row.at, row.id)).collect();
        let mut sorted = keys.clone();
        sorted.sort();
        if order == AuditOrder::Newest {
            sorted.reverse();
        }
        assert_eq!((keys.len(), &keys), (20, &sorted));
    }
    let node = Actor {
        address: Some("10.1.1.1".into()),
        request_id: Some("r7".into()),
        ..Actor::of(ActorKind::Node, "node n1")
    };
    let audit = AuditNew::refused("node_session", "n1")
        .in_project("web")
        .change(None, Some(serde_json::json!({"a": 1})));
    db.store.audit_insert(&node, &audit).await.unwrap();
    let text = |s: &str| Some(s.to_owned());
    let none = AuditFilter::default;
    for filter in [
        AuditFilter { actor: text("node n1"), ..none() },
        AuditFilter { action: text("node_session"), ..none() },
        AuditFilter { subject: text("n1"), ..none() },
        AuditFilter { project: text("web"), ..none() },
        AuditFilter { outcome: text("refused"), ..none() },
        AuditFilter { address: text("10.1.1.1"), ..none() },
        AuditFilter { request_id: text("r7"), ..none() },
    ] {
        let found = db.store.audit_list_page(&filter, AuditOrder::Newest, None, 10).await.unwrap().items;
        assert_eq!(found.len(), 1, "{filter:?}");
        assert_eq!(
            (found[0].actor.as_str(), found[0].after.clone()),
            ("node n1", Some(serde_json::json!({"a": 1})))
        );
        let other = AuditFilter { actor: text("actor1"), ..filter };
        let found = db.store.audit_list_page(&other, AuditOrder::Newest, None, 50).await.unwrap().items;
        assert!(found.iter().all(|row| row.actor == "actor1"));
    }
    let ago = |seconds| Some(Utc::now() - chrono::TimeDelta::seconds(seconds));
    let old = AuditFilter { until: ago(3600), ..none() };
    assert_eq!(db.store.audit_list_page(&old, AuditOrder::Oldest, None, 10).await.unwrap().items, []);
    let recent = AuditFilter { since: ago(3600), ..none() };
    assert_eq!(
        db.store.audit_list_page(&recent, AuditOrder::Oldest, None, 50).await.unwrap().items.len(),
        21
    );
}
