drop table instance_pulls;
drop table instance_dossiers;
alter table nodes drop column health;
drop table node_samples;
alter table instance_samples
  drop column storage_bytes,
  drop column oom_kills,
  drop column throttled_nanos,
  drop column pids,
  drop column block_write_bytes,
  drop column block_read_bytes;
