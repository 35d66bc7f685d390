drop trigger audit_log_no_truncate on audit_log;
drop trigger audit_log_append_only on audit_log;
create table audit_log_0001 (
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
insert into audit_log_0001 (id, at, actor, address, action, subject, outcome, request_id, details)
  select id, at, actor, address, action, subject, outcome, request_id, after from audit_log;
drop table audit_log;
drop function audit_log_month_make(date);
drop function audit_log_refuse();
alter table audit_log_0001 rename to audit_log;
alter index audit_log_0001_pkey rename to audit_log_pkey;
create index audit_log_page on audit_log (at, id);

drop table settings;
drop table rate_limits;
drop table oauth_codes;
drop table oauth_flows;
drop index invites_page;
-- Nobody could use these any more: the role is none that there was.
delete from invites where role = 'none';
alter table invites drop constraint invites_role_check;
alter table invites add constraint invites_role_check check (role in ('admin', 'operator', 'viewer'));
alter table invites drop column bootstrap;
drop index api_tokens_page;
alter table api_tokens drop column last_used_address;
alter table api_tokens drop column scopes;
drop table refresh_tokens;
alter table sessions drop column ended_reason;
alter table sessions drop column last_used_at;
alter table sessions drop column method;
drop table identities;

drop index deployments_name;
-- Names that are used in several projects get the project's in front.
update deployments d set name = p.name || '-' || d.name from projects p
  where p.id = d.project_id and not p.is_default and d.deleted_at is null
  and exists (select from deployments o where o.name = d.name and o.id <> d.id and o.deleted_at is null);
alter table deployments drop column project_id;
create unique index deployments_name on deployments (name) where deleted_at is null;
drop table project_members;
drop table projects;

drop index accounts_page;
alter table accounts drop column email;
alter table accounts drop column kind;
alter table accounts drop constraint accounts_role_check;
-- Less than a viewer there was not: such accounts may do nothing any more.
update accounts set role = 'viewer', disabled_at = coalesce(disabled_at, now()) where role = 'none';
alter table accounts add constraint accounts_role_check check (role in ('admin', 'operator', 'viewer'));
