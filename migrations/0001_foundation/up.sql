-- One row: this installation.
create table fleet (
  id uuid primary key,
  -- A known text sealed by the master key: tells a wrong key before it does harm.
  master_key_check bytea not null,
  ca_certificate_der bytea not null,
  ca_key_sealed bytea not null,
  created_at timestamptz not null default now(),
  singleton boolean not null default true unique check (singleton)
);

-- Keys that sign access tokens. The newest signs; all that are not retired verify.
create table signing_keys (
  kid text primary key,
  public_key bytea not null,
  private_key_sealed bytea not null,
  created_at timestamptz not null default now(),
  retired_at timestamptz
);

create table accounts (
  id uuid primary key,
  name text not null unique,
  password_hash text,
  role text not null check (role in ('admin', 'operator', 'viewer')),
  created_at timestamptz not null default now(),
  disabled_at timestamptz
);

create table sessions (
  id uuid primary key,
  account_id uuid not null references accounts (id) on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  address text,
  user_agent text
);
create index sessions_account on sessions (account_id);

create table api_tokens (
  id uuid primary key,
  account_id uuid not null references accounts (id) on delete cascade,
  name text not null,
  token_sha256 bytea not null unique,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz
);
create index api_tokens_account on api_tokens (account_id);

create table invites (
  id uuid primary key,
  token_sha256 bytea not null unique,
  role text not null check (role in ('admin', 'operator', 'viewer')),
  created_by uuid references accounts (id) on delete set null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz
);

create table enrolment_tokens (
  id uuid primary key,
  token_sha256 bytea not null unique,
  labels jsonb not null,
  uses_left integer not null check (uses_left >= 0),
  created_by uuid references accounts (id) on delete set null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);

create table nodes (
  id uuid primary key,
  name text not null unique,
  labels jsonb not null,
  facts jsonb not null,
  state text not null,
  state_since timestamptz not null default now(),
  cordoned boolean not null default false,
  -- SHA-256 of the key in the CSR it enrolled with: makes a repeated enrolment harmless.
  enrolled_key_sha256 bytea not null unique,
  assignment_revision bigint not null default 0,
  session_epoch bigint not null default 0,
  report_stream_id uuid,
  report_seq bigint not null default 0,
  last_seen_at timestamptz,
  created_at timestamptz not null default now()
);

create table node_certificates (
  fingerprint_sha256 bytea primary key,
  node_id uuid not null references nodes (id) on delete cascade,
  not_after timestamptz not null,
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);
create index node_certificates_node on node_certificates (node_id);

create table deployments (
  id uuid primary key,
  name text not null,
  revision integer not null,
  deleting boolean not null default false,
  -- Why instances of it wait for a node; null when none does.
  pending jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz
);
create unique index deployments_name on deployments (name) where deleted_at is null;
create index deployments_page on deployments (created_at, id) where deleted_at is null;

create table revisions (
  deployment_id uuid not null references deployments (id) on delete cascade,
  number integer not null check (number > 0),
  spec jsonb not null,
  created_at timestamptz not null default now(),
  created_by text not null,
  primary key (deployment_id, number)
);

create table instances (
  id uuid primary key,
  deployment_id uuid not null references deployments (id) on delete cascade,
  revision integer not null,
  node_id uuid not null references nodes (id) on delete cascade,
  desired text not null check (desired in ('running', 'stopped', 'removed')),
  restart_generation integer not null default 0,
  -- Whether it is among its node's assignments. Set back once nothing of it is left.
  assigned boolean not null default true,
  -- The node's assignment revision at which it last changed there.
  assignment_revision bigint not null,
  placement jsonb not null,
  -- How far it has come: the guard of every report.
  attempt integer not null default 1,
  phase smallint not null default 10,
  removed boolean not null default false,
  report_seq bigint not null default 0,
  -- The whole of what was last reported.
  status jsonb not null,
  observed_at timestamptz,
  created_at timestamptz not null default now(),
  foreign key (deployment_id, revision) references revisions (deployment_id, number) on delete cascade
);
create index instances_node on instances (node_id, assignment_revision);
create index instances_deployment on instances (deployment_id);
create index instances_assigned on instances (id) where assigned;

create table operations (
  id uuid primary key,
  kind text not null,
  actor text not null,
  -- What it is about is kept in words too: the rows may be gone when it is read.
  deployment_id uuid references deployments (id) on delete set null,
  deployment_name text not null,
  instance_id uuid references instances (id) on delete set null,
  restart_generation integer not null default 0,
  total integer not null,
  done integer not null default 0,
  deadline_seconds integer not null,
  verdict text,
  message text not null default '',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  progressed_at timestamptz not null default now(),
  finished_at timestamptz
);
create index operations_open on operations (id) where verdict is null;
create index operations_page on operations (created_at, id);
create index operations_deployment on operations (deployment_id);
create index operations_instance on operations (instance_id);

create table events (
  id uuid primary key,
  -- When it happened, by the clock of whom it happened to.
  at timestamptz not null,
  recorded_at timestamptz not null default now(),
  kind text not null,
  severity text not null check (severity in ('info', 'warning', 'error')),
  message text not null,
  cause text,
  actor text,
  node_id uuid references nodes (id) on delete set null,
  deployment_id uuid references deployments (id) on delete set null,
  instance_id uuid references instances (id) on delete set null,
  operation_id uuid references operations (id) on delete set null,
  -- Set for those that came as an agent's report, which then can be stored once only.
  report_stream_id uuid,
  report_seq bigint,
  unique (report_stream_id, report_seq)
);
create index events_page on events (recorded_at, id);
create index events_node on events (node_id, recorded_at);
create index events_deployment on events (deployment_id, recorded_at);
create index events_instance on events (instance_id, recorded_at);
create index events_operation on events (operation_id, recorded_at);

create table audit_log (
  id uuid primary key,
  at timestamptz not null default now(),
  actor text not null,
  address text,
  action text not null,
  subject text not null,
  outcome text not null,
  request_id text,
  details jsonb
);
create index audit_log_page on audit_log (at, id);

create table idempotency_keys (
  account_id uuid not null references accounts (id) on delete cascade,
  key text not null,
  request_sha256 bytea not null,
  operation_id uuid not null references operations (id) on delete cascade,
  created_at timestamptz not null default now(),
  primary key (account_id, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);

-- Readings, one partition a day, dropped whole. No foreign key: it would cost a
-- look-up per reading, and partitions outlive instances by design.
create table instance_samples (
  instance_id uuid not null,
  at timestamptz not null,
  cpu_percent double precision,
  memory_bytes bigint,
  memory_limit_bytes bigint,
  network_rx_bytes bigint,
  network_tx_bytes bigint,
  primary key (instance_id, at)
) partition by range (at);
