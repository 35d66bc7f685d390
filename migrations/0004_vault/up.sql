-- The vault: what is sealed with which key, credentials, and who uses them.

alter table fleet
  -- Names the master key that everything new is sealed with. None: the one that the
  -- check is of.
  add column seals_with bytea,
  -- The known text, sealed with the master key that is about to take over.
  add column next_key_check bytea;

-- How many values each data key has sealed. A key that has sealed enough is followed by
-- that of the next epoch.
create table sealing_epochs (
  master_key bytea not null,
  purpose text not null,
  epoch integer not null check (epoch > 0),
  sealed_count bigint not null default 0 check (sealed_count >= 0),
  primary key (master_key, purpose, epoch)
);

create table credentials (
  id uuid primary key,
  project_id uuid not null references projects (id) on delete cascade,
  name text not null,
  kind text not null check (kind in ('registry', 'secret', 'tls', 'webhook')),
  -- Labels that a node must carry to be given it.
  node_labels jsonb not null default '{}',
  -- Whose images a login is for.
  registry_host text check ((registry_host is not null) = (kind = 'registry')),
  -- Number of its newest version.
  latest integer not null check (latest > 0),
  created_at timestamptz not null default now(),
  created_by text not null,
  updated_at timestamptz not null default now()
);
create unique index credentials_name on credentials (name, project_id);
create index credentials_page on credentials (created_at, id);
create index credentials_project on credentials (project_id, created_at, id);
-- So that there is never a choice between two.
create unique index credentials_registry on credentials (project_id, registry_host, node_labels)
  where registry_host is not null;

create table credential_versions (
  credential_id uuid not null references credentials (id) on delete cascade,
  version integer not null check (version > 0),
  form text not null check (form in ('bytes', 'json')),
  sealed bytea not null,
  -- With which master key, and which of its data keys.
  sealed_by bytea not null,
  epoch integer not null,
  -- What may be shown of it: never a part of the value.
  shown jsonb not null default '{}',
  -- The version whose value it has again.
  restored_from integer,
  created_at timestamptz not null default now(),
  created_by text not null,
  primary key (credential_id, version)
);
create index credential_versions_key on credential_versions (sealed_by, credential_id, version);

-- Which revision of a deployment uses which version, one row for each use.
create table credential_uses (
  deployment_id uuid not null references deployments (id) on delete cascade,
  revision integer not null,
  position integer not null check (position >= 0),
  credential_id uuid not null references credentials (id) on delete cascade,
  version integer not null check (version > 0),
  -- Whether a newer version makes a new revision.
  follows boolean not null,
  primary key (deployment_id, revision, position),
  foreign key (deployment_id, revision) references revisions (deployment_id, number) on delete cascade
);
create index credential_uses_credential on credential_uses (credential_id, version);
