//! Nodes: enrolment, certificates, sessions, state. What administrators do with them is
//! in `change`.

mod change;

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::{
    Timestamp,
    id::{NodeId, ReportStreamId, UserId},
    name::{Labels, Name},
    node::{NodeFacts, NodeHealth, NodeState},
};
use uuid::Uuid;

pub use change::NodeChange;

use crate::{
    Cursor, Page, Refusal, Store, StoreError,
    audit::{Actor, ActorKind, AuditNew, audit_insert_on_conn},
    event::{EventNew, Severity, event_insert_on_conn},
    page::fetch_limit,
    schema::{enrolment_tokens, instances, node_certificates, nodes},
    text::json,
    wake::{Wake, wake_in_txn},
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = nodes, check_for_backend(diesel::pg::Pg))]
struct NodeRow {
    id: Uuid,
    name: String,
    labels: serde_json::Value,
    facts: serde_json::Value,
    state: String,
    state_since: Timestamp,
    cordoned: bool,
    draining: bool,
    health: serde_json::Value,
    assignment_revision: i64,
    last_seen_at: Option<Timestamp>,
    created_at: Timestamp,
}

/// A node, as stored.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name; unique.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// What its agent last said of the host.
    pub facts: NodeFacts,
    /// How it stands.
    pub state: NodeState,
    /// Since when.
    pub state_since: Timestamp,
    /// Whether it takes nothing new.
    pub cordoned: bool,
    /// Whether what it runs is being moved elsewhere.
    pub draining: bool,
    /// How well it is.
    pub health: HealthTold,
    /// Grows with each change of its assignments.
    pub assignment_revision: u64,
    /// When it was last heard of; written in batches, so up to ten seconds old.
    pub last_seen_at: Option<Timestamp>,
    /// When it was enrolled.
    pub created_at: Timestamp,
}

/// What a node's agent last made of its figures.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HealthTold {
    /// How well it is.
    pub state: NodeHealth,
    /// Since when, by the node's clock; `None` where it was never told.
    pub since: Option<Timestamp>,
    /// Why it is not healthy, for people.
    pub reasons: Vec<String>,
}

impl NodeRow {
    fn read(self) -> Result<Node, StoreError> {
        Ok(Node {
            id: self.id.into(),
            name: self.name,
            labels: serde_json::from_value(self.labels)
                .map_err(|e| StoreError::corrupt("node's labels", e))?,
            facts: serde_json::from_value(self.facts).map_err(|e| StoreError::corrupt("node's facts", e))?,
            state: NodeState::parse(&self.state)
                .ok_or_else(|| StoreError::corrupt("node's state", self.state))?,
            state_since: self.state_since,
            cordoned: self.cordoned,
            draining: self.draining,
            health: serde_json::from_value(self.health)
                .map_err(|e| StoreError::corrupt("node's health", e))?,
            assignment_revision: u64::try_from(self.assignment_revision).unwrap_or_default(),
            last_seen_at: self.last_seen_at,
            created_at: self.created_at,
        })
    }
}

/// A host that wants to become a node. The caller has checked its CSR and made
/// its certificate for `id`.
pub struct NodeEnrol<'a> {
    /// The id to give it, unless its key is known already.
    pub id: NodeId,
    /// SHA-256 of the enrolment token's secret.
    pub token_sha256: &'a [u8],
    /// SHA-256 of the public key in the CSR.
    pub key_sha256: &'a [u8],
    /// What to call it; made unique by a number where it is taken.
    pub name: &'a Name,
    /// What it says of itself.
    pub facts: &'a NodeFacts,
    /// From where it enrols.
    pub address: Option<&'a str>,
}

/// What became of an enrolment.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The id it has: its own if the key had enrolled before.
    pub id: NodeId,
    /// The name it has.
    pub name: String,
}

/// What a session begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionBegun {
    /// Grows with each session of the node.
    pub epoch: u64,
    /// Reports of this stream up to here are stored.
    pub acknowledged_seq: u64,
}

/// A node by its id or by its name.
#[derive(Clone, Debug)]
pub enum NodeKey {
    /// By id.
    Id(NodeId),
    /// By name.
    Name(String),
}

fn node_actor(name: &str, address: Option<&str>) -> Actor {
    Actor { address: address.map(str::to_owned), ..Actor::of(ActorKind::Node, format!("node {name}")) }
}

async fn node_certificate_insert_on_conn(
    conn: &mut AsyncPgConnection,
    node: NodeId,
    fingerprint: &[u8],
    not_after: Timestamp,
) -> Result<(), StoreError> {
    diesel::insert_into(node_certificates::table)
        .values((
            node_certificates::fingerprint_sha256.eq(fingerprint),
            node_certificates::node_id.eq(node.uuid()),
            node_certificates::not_after.eq(not_after),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

impl Store {
    /// Makes an enrolment token.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn enrolment_token_insert(
        &self,
        id: Uuid,
        sha256: &[u8],
        labels: &Labels,
        (uses, lifetime): (u32, Duration),
        actor: &Actor,
    ) -> Result<Timestamp, StoreError> {
        let expires_at = chrono::Utc::now() + lifetime;
        let labels = json(labels, "label")?;
        self.transact("enrolment_token_insert", async |conn| {
            diesel::insert_into(enrolment_tokens::table)
                .values((
                    enrolment_tokens::id.eq(id),
                    enrolment_tokens::token_sha256.eq(sha256),
                    enrolment_tokens::labels.eq(&labels),
                    enrolment_tokens::uses_left.eq(i32::try_from(uses).unwrap_or(i32::MAX)),
                    enrolment_tokens::created_by.eq(actor.account_id.map(UserId::uuid)),
                    enrolment_tokens::expires_at.eq(expires_at),
                ))
                .execute(conn)
                .await?;
            let shown = serde_json::json!({ "uses": uses, "labels": labels, "expires_at": expires_at });
            let audit = AuditNew::done("enrolment_token_create", &id.to_string()).change(None, Some(shown));
            audit_insert_on_conn(conn, actor, &audit).await
        })
        .await?;
        Ok(expires_at)
    }

    /// Uses a token up and makes the node, both or neither. A key that has
    /// enrolled before gets its node again, and uses nothing up.
    ///
    /// # Errors
    /// [`Refusal::TokenRefused`].
    pub async fn node_enrol(&self, enrol: &NodeEnrol<'_>) -> Result<Enrolled, StoreError> {
        let facts = json(enrol.facts, "fact")?;
        self.transact("node_enrol", async |conn| {
            if let Some(again) = enrolled_before_in_txn(conn, enrol).await? {
                return Ok(again);
            }
            let good = enrolment_tokens::table
                .filter(enrolment_tokens::token_sha256.eq(enrol.token_sha256))
                .filter(enrolment_tokens::uses_left.gt(0))
                .filter(enrolment_tokens::expires_at.gt(diesel::dsl::now));
            let used: Option<(Uuid, serde_json::Value)> = diesel::update(good)
                .set(enrolment_tokens::uses_left.eq(enrolment_tokens::uses_left - 1))
                .returning((enrolment_tokens::id, enrolment_tokens::labels))
                .get_result(conn)
                .await
                .optional()?;
            let (token, labels) = used.ok_or(Refusal::TokenRefused("enrolment token"))?;
            let name = free_name_in_txn(conn, enrol.name).await?;
            diesel::insert_into(nodes::table)
                .values((
                    nodes::id.eq(enrol.id.uuid()),
                    nodes::name.eq(&name),
                    nodes::labels.eq(&labels),
                    nodes::facts.eq(&facts),
                    nodes::state.eq(NodeState::Enrolled.as_str()),
                    nodes::enrolled_key_sha256.eq(enrol.key_sha256),
                ))
                .execute(conn)
                .await?;
            let actor = node_actor(&name, enrol.address);
            let shown =
                serde_json::json!({ "id": enrol.id.uuid(), "labels": labels, "enrolment_token": token });
            let audit = AuditNew::done("node_enrol", &name).change(None, Some(shown));
            audit_insert_on_conn(conn, &actor, &audit).await?;
            let message = format!("node {name} was enrolled");
            let event = EventNew {
                node_id: Some(enrol.id),
                ..EventNew::now("node_enrolled", Severity::Info, message)
            };
            event_insert_on_conn(conn, &event).await?;
            Ok(Enrolled { id: enrol.id, name })
        })
        .await
    }

    /// Notes a certificate that was issued to a node.
    ///
    /// # Errors
    /// When the database is not there, or the node is gone.
    pub async fn node_certificate_insert(
        &self,
        node: NodeId,
        fingerprint: &[u8],
        not_after: Timestamp,
    ) -> Result<(), StoreError> {
        let mut conn = self.conn().await?;
        node_certificate_insert_on_conn(&mut conn, node, fingerprint, not_after).await
    }

    /// Notes a certificate that a node got for its old one, and that it did.
    ///
    /// # Errors
    /// [`Refusal::Missing`] for a node that was removed.
    pub async fn node_certificate_renew(
        &self,
        node: NodeId,
        (fingerprint, not_after): (&[u8], Timestamp),
        address: Option<&str>,
    ) -> Result<(), StoreError> {
        self.transact("node_certificate_renew", async |conn| {
            let name: Option<String> = nodes::table
                .filter(nodes::id.eq(node.uuid()))
                .select(nodes::name)
                .first(conn)
                .await
                .optional()?;
            let name = name.ok_or(Refusal::Missing("node"))?;
            node_certificate_insert_on_conn(conn, node, fingerprint, not_after).await?;
            let audit = AuditNew::done("node_renew", &name)
                .change(None, Some(serde_json::json!({ "not_after": not_after })));
            audit_insert_on_conn(conn, &node_actor(&name, address), &audit).await
        })
        .await
    }

    /// Whether a certificate is this node's, and not revoked.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_certificate_is_good(
        &self,
        node: NodeId,
        fingerprint: &[u8],
    ) -> Result<bool, StoreError> {
        let mut conn = self.conn().await?;
        let good = node_certificates::table
            .filter(node_certificates::fingerprint_sha256.eq(fingerprint))
            .filter(node_certificates::node_id.eq(node.uuid()))
            .filter(node_certificates::revoked_at.is_null());
        Ok(diesel::select(diesel::dsl::exists(good)).get_result(&mut conn).await?)
    }

    /// Begins a session: takes over the facts and says what was stored of the
    /// report stream. A stream that is new to the node starts from 0.
    ///
    /// # Errors
    /// [`Refusal::Missing`] for a node that was removed.
    pub async fn node_session_begin(
        &self,
        node: NodeId,
        facts: &NodeFacts,
        stream: ReportStreamId,
    ) -> Result<SessionBegun, StoreError> {
        let facts = json(facts, "fact")?;
        self.transact("node_session_begin", async |conn| {
            let held: Option<(Option<Uuid>, i64)> = nodes::table
                .filter(nodes::id.eq(node.uuid()))
                .select((nodes::report_stream_id, nodes::report_seq))
                .for_update()
                .first(conn)
                .await
                .optional()?;
            let (held_stream, held_seq) = held.ok_or(Refusal::Missing("node"))?;
            let same_stream = held_stream == Some(stream.uuid());
            let seq = if same_stream { held_seq } else { 0 };
            if !same_stream {
                forget_progress_in_txn(conn, node).await?;
            }
            let epoch: i64 = diesel::update(nodes::table.filter(nodes::id.eq(node.uuid())))
                .set((
                    nodes::facts.eq(&facts),
                    nodes::session_epoch.eq(nodes::session_epoch + 1),
                    nodes::report_stream_id.eq(stream.uuid()),
                    nodes::report_seq.eq(seq),
                    nodes::last_seen_at.eq(crate::txn::db_now()),
                ))
                .returning(nodes::session_epoch)
                .get_result(conn)
                .await?;
            Ok(SessionBegun {
                epoch: u64::try_from(epoch).unwrap_or_default(),
                acknowledged_seq: u64::try_from(seq).unwrap_or_default(),
            })
        })
        .await
    }

    /// Takes over what a node says of its host.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_facts_set(&self, node: NodeId, facts: &NodeFacts) -> Result<(), StoreError> {
        let facts = json(facts, "fact")?;
        self.transact("node_facts_set", async |conn| {
            diesel::update(nodes::table.filter(nodes::id.eq(node.uuid())))
                .set(nodes::facts.eq(&facts))
                .execute(conn)
                .await?;
            // A bigger host may have room for what waits.
            Ok(wake_in_txn(conn, Wake::Orchestrate).await?)
        })
        .await
    }

    /// Writes when nodes were last heard of, all in one statement. Never goes back.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_seen(&self, seen: &[(NodeId, Timestamp)]) -> Result<(), StoreError> {
        use diesel::sql_types::{Array, Timestamptz, Uuid as SqlUuid};
        let (ids, times): (Vec<Uuid>, Vec<Timestamp>) = seen.iter().map(|(id, at)| (id.uuid(), *at)).unzip();
        // The rows are locked in the order of their ids first, as a planning pass does.
        const UPDATE: &str = "with seen as (select * from unnest($1, $2) as s (id, at)), \
             locked as (select n.id from nodes n join seen on n.id = seen.id order by n.id for no key update of n) \
             update nodes set last_seen_at = greatest(last_seen_at, seen.at) \
             from seen join locked on locked.id = seen.id where nodes.id = seen.id";
        self.transact("node_seen", async |conn| {
            let update = diesel::sql_query(UPDATE)
                .bind::<Array<SqlUuid>, _>(&ids)
                .bind::<Array<Timestamptz>, _>(&times);
            Ok(update.execute(conn).await.map(drop)?)
        })
        .await
    }

    /// Writes a transition of a node's state. Says whether it was one.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_state_set(
        &self,
        node: NodeId,
        state: NodeState,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.transact("node_state_set", async |conn| {
            let name: Option<String> = diesel::update(
                nodes::table.filter(nodes::id.eq(node.uuid())).filter(nodes::state.ne(state.as_str())),
            )
            .set((nodes::state.eq(state.as_str()), nodes::state_since.eq(at)))
            .returning(nodes::name)
            .get_result(conn)
            .await
            .optional()?;
            let Some(name) = name else { return Ok(false) };
            let severity = match state {
                NodeState::Ready | NodeState::Enrolled => Severity::Info,
                NodeState::Suspect => Severity::Warning,
                NodeState::Unreachable | NodeState::EngineUnreachable => Severity::Error,
            };
            let message = format!("node {name} is {}", state.as_str());
            let event = EventNew {
                at,
                node_id: Some(node),
                ..EventNew::now(format!("node_{}", state.as_str()), severity, message)
            };
            event_insert_on_conn(conn, &event).await?;
            wake_in_txn(conn, Wake::Orchestrate).await?;
            Ok(true)
        })
        .await
    }

    /// One node.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_fetch(&self, key: &NodeKey) -> Result<Option<Node>, StoreError> {
        let mut conn = self.conn().await?;
        let query = nodes::table.select(NodeRow::as_select()).into_boxed();
        let query = match key {
            NodeKey::Id(id) => query.filter(nodes::id.eq(id.uuid())),
            NodeKey::Name(name) => query.filter(nodes::name.eq(name)),
        };
        query.first(&mut conn).await.optional()?.map(NodeRow::read).transpose()
    }

    /// Nodes, the oldest first.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_list_page(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Node>, StoreError> {
        let mut conn = self.conn().await?;
        let mut query = nodes::table
            .select(NodeRow::as_select())
            .order((nodes::created_at, nodes::id))
            .limit(fetch_limit(limit))
            .into_boxed();
        if let Some(Cursor { at, id }) = after {
            query = query.filter(nodes::created_at.gt(at).or(nodes::created_at.eq(at).and(nodes::id.gt(id))));
        }
        let rows: Vec<NodeRow> = query.load(&mut conn).await?;
        Page::cut(rows, limit, |row| Cursor { at: row.created_at, id: row.id }).try_map(NodeRow::read)
    }

    /// Every node's id and state, for the judge of presence.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_states(&self) -> Result<Vec<(NodeId, NodeState)>, StoreError> {
        let mut conn = self.conn().await?;
        let rows: Vec<(Uuid, String)> =
            nodes::table.select((nodes::id, nodes::state)).load(&mut conn).await?;
        rows.into_iter()
            .map(|(id, state)| {
                NodeState::parse(&state)
                    .map(|s| (id.into(), s))
                    .ok_or_else(|| StoreError::corrupt("node's state", state))
            })
            .collect()
    }

    /// How many instances each of these nodes is assigned.
    ///
    /// # Errors
    /// When the database is not there.
    pub async fn node_instance_counts(&self, ids: &[NodeId]) -> Result<Vec<(NodeId, u64)>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let mut conn = self.conn().await?;
        let rows: Vec<(Uuid, i64)> = instances::table
            .filter(instances::assigned)
            .filter(instances::node_id.eq_any(ids))
            .group_by(instances::node_id)
            .select((instances::node_id, diesel::dsl::count_star()))
            .load(&mut conn)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(id, count)| (id.into(), u64::try_from(count).unwrap_or_default()))
            .collect())
    }
}

/// A ledger that is new knows nothing of what an older one said, and counts from
/// the beginning: whatever it says first is news. What is known stays until then.
async fn forget_progress_in_txn(conn: &mut AsyncPgConnection, node: NodeId) -> Result<(), StoreError> {
    diesel::update(instances::table.filter(instances::node_id.eq(node.uuid())).filter(instances::assigned))
        .set((
            instances::attempt.eq(0),
            instances::phase.eq(0),
            instances::removed.eq(false),
            instances::report_seq.eq(0),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

async fn enrolled_before_in_txn(
    conn: &mut AsyncPgConnection,
    enrol: &NodeEnrol<'_>,
) -> Result<Option<Enrolled>, StoreError> {
    let before: Option<(Uuid, String)> = nodes::table
        .filter(nodes::enrolled_key_sha256.eq(enrol.key_sha256))
        .select((nodes::id, nodes::name))
        .first(conn)
        .await
        .optional()?;
    Ok(before.map(|(id, name)| Enrolled { id: id.into(), name }))
}

/// The wanted name, or with the first free number behind it.
async fn free_name_in_txn(conn: &mut AsyncPgConnection, wanted: &Name) -> Result<String, StoreError> {
    // Two hosts of one name that enrol together must not choose the same number.
    diesel::sql_query("select pg_advisory_xact_lock(6701002)").execute(conn).await?;
    let taken: Vec<String> = nodes::table.select(nodes::name).load(conn).await?;
    let free = |name: &String| !taken.contains(name);
    let numbered = (2..=taken.len() + 2).map(|n| {
        let tail = format!("-{n}");
        let room = domain::name::NAME_MAX_BYTES - tail.len();
        let head: String = wanted.as_str().chars().take(room).collect();
        format!("{}{tail}", head.trim_end_matches('-'))
    });
    let mut names = std::iter::once(wanted.to_string()).chain(numbered);
    Ok(names.find(free).unwrap_or_else(|| format!("node-{}", Uuid::now_v7())))
}
