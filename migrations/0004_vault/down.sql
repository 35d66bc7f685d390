drop table credential_uses;
drop table credential_versions;
drop table credentials;
drop table sealing_epochs;
alter table fleet drop column next_key_check, drop column seals_with;
