alter table events drop column after, drop column before;
alter table fleet drop column replacement_paused;
alter table nodes drop column draining;
alter table instances drop column removed_for, drop column placed_for, drop column replaces_id;
drop index operations_one_open_node;
drop index operations_one_open;
alter table operations
  drop column node_id,
  drop column reverting,
  drop column replaced,
  drop column base_revision,
  drop column revision;
alter table deployments drop column paused, drop column stable_revision;
alter table revisions drop column cause, drop column template;
