alter table instance_samples
  add column block_read_bytes bigint,
  add column block_write_bytes bigint,
  add column pids bigint,
  add column throttled_nanos bigint,
  add column oom_kills bigint,
  add column storage_bytes bigint;

-- Readings of hosts, one partition a day, dropped whole. No foreign key, as with
-- those of instances.
create table node_samples (
  node_id uuid not null,
  at timestamptz not null,
  cpu_percent double precision,
  memory_bytes bigint,
  memory_available_bytes bigint,
  -- The whole reading, as its agent took it.
  sample jsonb not null,
  primary key (node_id, at)
) partition by range (at);

alter table nodes
  -- What its agent last made of its figures: state, since when, and why; only
  -- transitions are events.
  add column health jsonb not null default '{"state": "healthy", "since": null, "reasons": []}'
    check (health ->> 'state' in ('healthy', 'degraded', 'failing'));

-- What was kept of attempts that ended.
create table instance_dossiers (
  instance_id uuid not null references instances (id) on delete cascade,
  attempt integer not null check (attempt > 0),
  ended_at timestamptz not null,
  recorded_at timestamptz not null default now(),
  dossier jsonb not null,
  primary key (instance_id, attempt)
);
create index instance_dossiers_age on instance_dossiers (recorded_at);

-- How far the image of an instance that waits for it has come; a gauge.
create table instance_pulls (
  instance_id uuid primary key references instances (id) on delete cascade,
  observed_at timestamptz not null,
  progress jsonb not null
);
