alter table revisions
  -- The number of the revision whose copies this one's are like: where it is that
  -- of an instance's own revision, the instance need not be replaced.
  add column template integer,
  -- Why there is this revision, for people.
  add column cause text not null default '';
update revisions set template = number;
alter table revisions alter column template set not null;

alter table deployments
  -- The last revision that all copies were healthy with; what a failed update goes back to.
  add column stable_revision integer,
  -- Who or what halted the rollout; null while it goes on.
  add column paused text;

alter table operations
  -- The revision that it shall bring about, and the one to go back to.
  add column revision integer,
  add column base_revision integer,
  -- How many copies that served before it has taken away.
  add column replaced integer not null default 0,
  -- Set while it takes back what it did: why.
  add column reverting text,
  add column node_id uuid references nodes (id) on delete set null;
create index operations_node on operations (node_id);
-- One at a time for a deployment, and one for a node. A deletion could begin beside a
-- creation before; the newer one is what was wanted.
update operations older set
  verdict = 'cancelled', message = 'a newer operation took its place', finished_at = now(), updated_at = now()
where verdict is null and instance_id is null and exists (
  select from operations newer
  where newer.deployment_id = older.deployment_id and newer.verdict is null and newer.instance_id is null
    and (newer.created_at, newer.id) > (older.created_at, older.id)
);
create unique index operations_one_open on operations (deployment_id)
  where verdict is null and instance_id is null;
create unique index operations_one_open_node on operations (node_id) where verdict is null;

alter table instances
  -- The instance on a lost node that it stands in for.
  add column replaces_id uuid references instances (id) on delete set null,
  -- Why it was made, and why it was taken away, for programs.
  add column placed_for text not null default 'lacking',
  add column removed_for text;
create index instances_replaces on instances (replaces_id);

alter table nodes
  -- Its instances are being moved elsewhere; it is cordoned as long.
  add column draining boolean not null default false;


-- Set while so many nodes are lost at once that none of their instances is replaced.
alter table fleet add column replacement_paused text;

alter table events
  add column before jsonb,
  add column after jsonb;
