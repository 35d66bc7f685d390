-- Projects: deployments belong to one, and membership gives a role in it.
create table projects (
  id uuid primary key,
  name text not null,
  -- The one that is meant where none is named; there always is one.
  is_default boolean not null default false,
  created_at timestamptz not null default now(),
  deleted_at timestamptz
);
create unique index projects_name on projects (name) where deleted_at is null;
create unique index projects_default on projects (is_default) where is_default;
insert into projects (id, name, is_default) values ('00000000-0000-7000-8000-000000000001', 'default', true);

-- `none`: nothing on the fleet, only what memberships give.
alter table accounts drop constraint accounts_role_check;
alter table accounts add constraint accounts_role_check check (role in ('admin', 'operator', 'viewer', 'none'));
alter table accounts add column kind text not null default 'user' check (kind in ('user', 'service'));
alter table accounts add column email text;
create index accounts_page on accounts (created_at, id);

create table project_members (
  project_id uuid not null references projects (id) on delete cascade,
  account_id uuid not null references accounts (id) on delete cascade,
  role text not null check (role in ('admin', 'operator', 'viewer')),
  created_at timestamptz not null default now(),
  primary key (project_id, account_id)
);
create index project_members_account on project_members (account_id);

alter table deployments add column project_id uuid references projects (id) on delete cascade;
update deployments set project_id = (select id from projects where is_default);
alter table deployments alter column project_id set not null;
drop index deployments_name;
create unique index deployments_name on deployments (name, project_id) where deleted_at is null;
create index deployments_project on deployments (project_id, created_at, id);

-- Who an account is elsewhere: matched by the other side's own id, never by a name.
create table identities (
  provider text not null,
  subject text not null,
  account_id uuid not null references accounts (id) on delete cascade,
  login text not null,
  email text,
  -- The role that the mapping of teams gave at the last sign-in; none: it gave none.
  mapped_role text check (mapped_role in ('admin', 'operator', 'viewer')),
  linked_at timestamptz not null default now(),
  last_sign_in_at timestamptz,
  primary key (provider, subject)
);
create unique index identities_account on identities (account_id, provider);

-- A session lasts as long as it is refreshed: each refresh moves expires_at.
alter table sessions add column method text not null default 'password';
alter table sessions add column last_used_at timestamptz not null default now();
alter table sessions add column ended_reason text;

-- One-time tokens that continue a session. A used one that comes again after a short
-- grace was stolen, by whoever came first or second: the session ends.
create table refresh_tokens (
  token_sha256 bytea primary key,
  session_id uuid not null references sessions (id) on delete cascade,
  created_at timestamptz not null default now(),
  used_at timestamptz,
  -- How often it was used: more than once only within the grace.
  uses smallint not null default 0
);
create index refresh_tokens_session on refresh_tokens (session_id);

-- Permissions that a token has of those of its account; `*` is all.
alter table api_tokens add column scopes jsonb not null default '["*"]';
alter table api_tokens add column last_used_address text;
create index api_tokens_page on api_tokens (account_id, created_at, id);

-- Made by the controller itself for the first admin, and shown to whoever runs it.
alter table invites add column bootstrap boolean not null default false;
alter table invites drop constraint invites_role_check;
alter table invites add constraint invites_role_check check (role in ('admin', 'operator', 'viewer', 'none'));
create index invites_page on invites (created_at, id);

-- Sign-ins at a provider that are under way. A row is used once and deleted with it.
create table oauth_flows (
  state_sha256 bytea primary key,
  provider text not null,
  -- Of the random value in the browser's cookie: the flow belongs to that browser.
  browser_sha256 bytea not null,
  pkce_verifier_sealed bytea not null,
  return_to text not null,
  -- Set when a signed-in account asked to be linked.
  account_id uuid references accounts (id) on delete cascade,
  -- In which sign-in that was: it must still last when the browser comes back.
  session_id uuid references sessions (id) on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
-- What a browser exchanges for tokens after it came back; used once, and deleted with it.
create table oauth_codes (
  code_sha256 bytea primary key,
  account_id uuid not null references accounts (id) on delete cascade,
  method text not null,
  browser_sha256 bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);

-- Limits that hold across controllers, by GCRA: when a key's bucket is empty again.
-- Nothing is lost with it that a restart of the database may not lose.
create unlogged table rate_limits (
  key_sha256 bytea primary key,
  empty_at timestamptz not null
);
create index rate_limits_age on rate_limits (empty_at);

-- What administrators change while it runs; a missing one is as configured.
create table settings (
  name text primary key,
  value jsonb not null,
  updated_at timestamptz not null default now(),
  updated_by text not null
);

-- The audit log: by month, and append-only.
alter table audit_log rename to audit_log_0001;
alter index audit_log_page rename to audit_log_0001_page;
alter index audit_log_pkey rename to audit_log_0001_pkey;
create table audit_log (
  id uuid not null,
  at timestamptz not null default now(),
  actor text not null,
  actor_kind text not null check (actor_kind in ('anonymous', 'user', 'service', 'node', 'host', 'system')),
  -- No reference: the log outlives what it is about.
  actor_uuid uuid,
  -- The API token or session that was used.
  credential_uuid uuid,
  address text,
  action text not null,
  subject text not null,
  project text,
  outcome text not null check (outcome in ('done', 'refused', 'failed')),
  request_id text,
  before jsonb,
  after jsonb,
  primary key (at, id)
) partition by range (at);
create index audit_log_page on audit_log (at desc, id desc);
create index audit_log_actor on audit_log (actor, at desc);
create index audit_log_subject on audit_log (subject, at desc);
create index audit_log_request on audit_log (request_id);

create function audit_log_refuse() returns trigger language plpgsql as $$
begin
  raise exception 'the audit log is append-only' using errcode = 'insufficient_privilege';
end $$;
create trigger audit_log_append_only before update or delete on audit_log
  for each row execute function audit_log_refuse();
create trigger audit_log_no_truncate before truncate on audit_log
  for each statement execute function audit_log_refuse();
-- Also for whoever owns the table; a superuser is stopped by the triggers alone.
revoke update, delete, truncate on audit_log from public;
do $$ begin execute format('revoke update, delete, truncate on audit_log from %I', current_user); end $$;

-- Makes the partition of the month that begins on that day, unless it is there, as
-- guarded as the whole. Row triggers come from the parent; all else does not.
create function audit_log_month_make(month date) returns void language plpgsql as $$
declare
  name text := 'audit_log_' || to_char(month, 'YYYYMMDD');
begin
  if to_regclass(name) is not null then
    return;
  end if;
  execute format('create table %I partition of audit_log for values from (%L) to (%L)', name,
    to_char(month, 'YYYY-MM-DD "00:00+00"'), to_char(month + interval '1 month', 'YYYY-MM-DD "00:00+00"'));
  execute format('create trigger audit_log_no_truncate before truncate on %I
    for each statement execute function audit_log_refuse()', name);
  execute format('revoke update, delete, truncate on %I from public, %I', name, current_user);
end $$;

do $$
declare
  month date;
  last date;
begin
  select date_trunc('month', coalesce(min(at), now()) at time zone 'utc'),
    greatest(max(at), now() + interval '62 days') at time zone 'utc' into month, last from audit_log_0001;
  while month <= last loop
    perform audit_log_month_make(month);
    month := month + interval '1 month';
  end loop;
end $$;
insert into audit_log (id, at, actor, actor_kind, address, action, subject, outcome, request_id, after)
  select id, at, actor,
    case when actor = 'system' then 'system' when actor = 'anonymous' then 'anonymous'
      when actor = 'administrator at the host' then 'host' when actor like 'node %' then 'node' else 'user' end,
    address, action, subject, outcome, request_id, details
  from audit_log_0001;
drop table audit_log_0001;
