//! The migrations, and what the code believes of them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use store::testing::{database, empty_database};

const COLUMNS: &str = "select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable \
    from information_schema.columns where table_schema = 'public' and table_name not like '\\_\\_%' \
    and table_name !~ '_[0-9]{8}$' order by 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_lead_up_down_and_up_again_to_the_same_schema() {
    let db = empty_database().await;
    assert!(db.store.migrate().await.unwrap() >= 1);
    let first = db.texts(COLUMNS).await;
    assert_eq!(db.store.migrate().await.unwrap(), 0, "a second run has nothing to do");
    db.revert_all().await;
    assert_eq!(db.texts(COLUMNS).await, [""; 0]);
    db.store.migrate().await.unwrap();
    assert_eq!(db.texts(COLUMNS).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_that_were_open_side_by_side_leave_the_newest_of_each_deployment() {
    let db = empty_database().await;
    db.migrate_to("0003").await;
    db.execute(
        "insert into deployments (id, name, project_id, revision) \
         select gen_random_uuid(), n, p.id, 1 from projects p, unnest(array['web', 'db']) n",
    )
    .await;
    db.execute(
        "insert into operations (id, kind, actor, deployment_id, deployment_name, total, deadline_seconds, created_at) \
         select gen_random_uuid(), k, 'anna', d.id, d.name, 1, 300, timestamptz '2026-01-01' + s * interval '1 s' \
         from deployments d, (values ('deployment_create', 1), ('deployment_delete', 2)) v(k, s) \
         where d.name = 'web' or s = 1",
    )
    .await;
    db.store.migrate().await.unwrap();
    let told =
        "select concat_ws(' ', deployment_name, kind, coalesce(verdict, 'open')) from operations order by 1";
    assert_eq!(
        db.texts(told).await,
        ["db deployment_create open", "web deployment_create cancelled", "web deployment_delete open"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn controllers_that_start_together_migrate_once() {
    let db = empty_database().await;
    let runs = (0..4).map(|_| db.store.migrate());
    let applied: Vec<usize> = futures_util::future::try_join_all(runs).await.unwrap();
    assert_eq!(applied.iter().filter(|n| **n > 0).count(), 1, "{applied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_a_newer_version_has_used_is_refused() {
    let db = database().await;
    db.execute("insert into __diesel_schema_migrations (version) values ('9999')").await;
    let refused = db.store.migrate().await.unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("9999"), "{source}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_in_the_code_is_the_schema_in_the_database() {
    let db = database().await;
    let mut in_code = Vec::new();
    let mut table = String::new();
    for line in include_str!("../src/schema.rs").lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" (").filter(|_| line.ends_with('{')) {
            table = name.to_owned();
        } else if let Some((column, kind)) =
            line.trim_end_matches(',').split_once(" -> ").filter(|_| !line.starts_with("diesel"))
        {
            let inner = kind.trim_start_matches("Nullable<").trim_end_matches('>');
            let data_type = match inner {
                "Uuid" => "uuid",
                "Bytea" => "bytea",
                "Timestamptz" => "timestamp with time zone",
                "Bool" => "boolean",
                "Text" => "text",
                "Integer" => "integer",
                "BigInt" => "bigint",
                "SmallInt" => "smallint",
                "Jsonb" => "jsonb",
                "Double" => "double precision",
                other => panic!("a type this test does not know: {other}"),
            };
            in_code
                .push(format!("{table}.{column} {data_type} {}", if kind == inner { "NO" } else { "YES" }));
        }
    }
    in_code.sort();
    let mut in_database = db.texts(COLUMNS).await;
    in_database.sort();
    assert_eq!(in_code, in_database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reference_has_a_foreign_key_with_a_stated_delete_rule() {
    let db = database().await;
    let without = db
        .texts(
            "select c.table_name || '.' || c.column_name from information_schema.columns c \
             join information_schema.tables t on t.table_name = c.table_name and t.table_schema = 'public' and t.table_type = 'BASE TABLE' \
             where c.table_schema = 'public' and c.column_name like '%\\_id' and c.table_name !~ '^(instance|node)_samples' \
             and c.column_name not in ('report_stream_id', 'request_id') and not exists ( \
               select 1 from pg_constraint k join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey) \
               where k.contype = 'f' and k.conrelid = c.table_name::text::regclass and a.attname = c.column_name \
               and k.confdeltype in ('c', 'n'))",
        )
        .await;
    assert_eq!(without, [""; 0]);
}
