//! The tables as the migrations leave them. A test compares this file with a
//! migrated database, so it cannot fall behind.

diesel::table! {
    accounts (id) {
        id -> Uuid,
        name -> Text,
        password_hash -> Nullable<Text>,
        role -> Text,
        created_at -> Timestamptz,
        disabled_at -> Nullable<Timestamptz>,
        kind -> Text,
        email -> Nullable<Text>,
    }
}

diesel::table! {
    api_tokens (id) {
        id -> Uuid,
        account_id -> Uuid,
        name -> Text,
        token_sha256 -> Bytea,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        scopes -> Jsonb,
        last_used_address -> Nullable<Text>,
    }
}

diesel::table! {
    audit_log (at, id) {
        id -> Uuid,
        at -> Timestamptz,
        actor -> Text,
        actor_kind -> Text,
        actor_uuid -> Nullable<Uuid>,
        credential_uuid -> Nullable<Uuid>,
        address -> Nullable<Text>,
        action -> Text,
        subject -> Text,
        project -> Nullable<Text>,
        outcome -> Text,
        request_id -> Nullable<Text>,
        before -> Nullable<Jsonb>,
        after -> Nullable<Jsonb>,
    }
}

diesel::table! {
    deployments (id) {
        id -> Uuid,
        name -> Text,
        revision -> Integer,
        deleting -> Bool,
        pending -> Nullable<Jsonb>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
        project_id -> Uuid,
        stable_revision -> Nullable<Integer>,
        paused -> Nullable<Text>,
    }
}

diesel::table! {
    enrolment_tokens (id) {
        id -> Uuid,
        token_sha256 -> Bytea,
        labels -> Jsonb,
        uses_left -> Integer,
        created_by -> Nullable<Uuid>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    events (id) {
        id -> Uuid,
        at -> Timestamptz,
        recorded_at -> Timestamptz,
        kind -> Text,
        severity -> Text,
        message -> Text,
        cause -> Nullable<Text>,
        actor -> Nullable<Text>,
        node_id -> Nullable<Uuid>,
        deployment_id -> Nullable<Uuid>,
        instance_id -> Nullable<Uuid>,
        operation_id -> Nullable<Uuid>,
        report_stream_id -> Nullable<Uuid>,
        report_seq -> Nullable<BigInt>,
        before -> Nullable<Jsonb>,
        after -> Nullable<Jsonb>,
    }
}

diesel::table! {
    fleet (id) {
        id -> Uuid,
        master_key_check -> Bytea,
        ca_certificate_der -> Bytea,
        ca_key_sealed -> Bytea,
        created_at -> Timestamptz,
        singleton -> Bool,
        seals_with -> Nullable<Bytea>,
        next_key_check -> Nullable<Bytea>,
        replacement_paused -> Nullable<Text>,
    }
}

diesel::table! {
    idempotency_keys (account_id, key) {
        account_id -> Uuid,
        key -> Text,
        request_sha256 -> Bytea,
        operation_id -> Uuid,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    identities (provider, subject) {
        provider -> Text,
        subject -> Text,
        account_id -> Uuid,
        login -> Text,
        email -> Nullable<Text>,
        mapped_role -> Nullable<Text>,
        linked_at -> Timestamptz,
        last_sign_in_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    instance_dossiers (instance_id, attempt) {
        instance_id -> Uuid,
        attempt -> Integer,
        ended_at -> Timestamptz,
        recorded_at -> Timestamptz,
        dossier -> Jsonb,
    }
}

diesel::table! {
    instance_pulls (instance_id) {
        instance_id -> Uuid,
        observed_at -> Timestamptz,
        progress -> Jsonb,
    }
}

diesel::table! {
    node_samples (node_id, at) {
        node_id -> Uuid,
        at -> Timestamptz,
        cpu_percent -> Nullable<Double>,
        memory_bytes -> Nullable<BigInt>,
        memory_available_bytes -> Nullable<BigInt>,
        sample -> Jsonb,
    }
}

diesel::table! {
    instance_samples (instance_id, at) {
        instance_id -> Uuid,
        at -> Timestamptz,
        cpu_percent -> Nullable<Double>,
        memory_bytes -> Nullable<BigInt>,
        memory_limit_bytes -> Nullable<BigInt>,
        network_rx_bytes -> Nullable<BigInt>,
        network_tx_bytes -> Nullable<BigInt>,
        block_read_bytes -> Nullable<BigInt>,
        block_write_bytes -> Nullable<BigInt>,
        pids -> Nullable<BigInt>,
        throttled_nanos -> Nullable<BigInt>,
        oom_kills -> Nullable<BigInt>,
        storage_bytes -> Nullable<BigInt>,
    }
}

diesel::table! {
    instances (id) {
        id -> Uuid,
        deployment_id -> Uuid,
        revision -> Integer,
        node_id -> Uuid,
        desired -> Text,
        restart_generation -> Integer,
        assigned -> Bool,
        assignment_revision -> BigInt,
        placement -> Jsonb,
        attempt -> Integer,
        phase -> SmallInt,
        removed -> Bool,
        report_seq -> BigInt,
        status -> Jsonb,
        observed_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        replaces_id -> Nullable<Uuid>,
        placed_for -> Text,
        removed_for -> Nullable<Text>,
    }
}

diesel::table! {
    invites (id) {
        id -> Uuid,
        token_sha256 -> Bytea,
        role -> Text,
        created_by -> Nullable<Uuid>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        bootstrap -> Bool,
    }
}

diesel::table! {
    node_certificates (fingerprint_sha256) {
        fingerprint_sha256 -> Bytea,
        node_id -> Uuid,
        not_after -> Timestamptz,
        created_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    nodes (id) {
        id -> Uuid,
        name -> Text,
        labels -> Jsonb,
        facts -> Jsonb,
        state -> Text,
        state_since -> Timestamptz,
        cordoned -> Bool,
        enrolled_key_sha256 -> Bytea,
        assignment_revision -> BigInt,
        session_epoch -> BigInt,
        report_stream_id -> Nullable<Uuid>,
        report_seq -> BigInt,
        last_seen_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        health -> Jsonb,
        draining -> Bool,
    }
}

diesel::table! {
    oauth_codes (code_sha256) {
        code_sha256 -> Bytea,
        account_id -> Uuid,
        method -> Text,
        browser_sha256 -> Bytea,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    oauth_flows (state_sha256) {
        state_sha256 -> Bytea,
        provider -> Text,
        browser_sha256 -> Bytea,
        pkce_verifier_sealed -> Bytea,
        return_to -> Text,
        account_id -> Nullable<Uuid>,
        session_id -> Nullable<Uuid>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    operations (id) {
        id -> Uuid,
        kind -> Text,
        actor -> Text,
        deployment_id -> Nullable<Uuid>,
        deployment_name -> Text,
        instance_id -> Nullable<Uuid>,
        restart_generation -> Integer,
        total -> Integer,
        done -> Integer,
        deadline_seconds -> Integer,
        verdict -> Nullable<Text>,
        message -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        progressed_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        revision -> Nullable<Integer>,
        base_revision -> Nullable<Integer>,
        replaced -> Integer,
        reverting -> Nullable<Text>,
        node_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    project_members (project_id, account_id) {
        project_id -> Uuid,
        account_id -> Uuid,
        role -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    projects (id) {
        id -> Uuid,
        name -> Text,
        is_default -> Bool,
        created_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    rate_limits (key_sha256) {
        key_sha256 -> Bytea,
        empty_at -> Timestamptz,
    }
}

diesel::table! {
    refresh_tokens (token_sha256) {
        token_sha256 -> Bytea,
        session_id -> Uuid,
        created_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        uses -> SmallInt,
    }
}

diesel::table! {
    revisions (deployment_id, number) {
        deployment_id -> Uuid,
        number -> Integer,
        spec -> Jsonb,
        created_at -> Timestamptz,
        created_by -> Text,
        template -> Integer,
        cause -> Text,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        account_id -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
        address -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        method -> Text,
        last_used_at -> Timestamptz,
        ended_reason -> Nullable<Text>,
    }
}

diesel::table! {
    settings (name) {
        name -> Text,
        value -> Jsonb,
        updated_at -> Timestamptz,
        updated_by -> Text,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        public_key -> Bytea,
        private_key_sealed -> Bytea,
        created_at -> Timestamptz,
        retired_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    credential_uses (deployment_id, revision, position) {
        deployment_id -> Uuid,
        revision -> Integer,
        position -> Integer,
        credential_id -> Uuid,
        version -> Integer,
        follows -> Bool,
    }
}

diesel::table! {
    credential_versions (credential_id, version) {
        credential_id -> Uuid,
        version -> Integer,
        form -> Text,
        sealed -> Bytea,
        sealed_by -> Bytea,
        epoch -> Integer,
        shown -> Jsonb,
        restored_from -> Nullable<Integer>,
        created_at -> Timestamptz,
        created_by -> Text,
    }
}

diesel::table! {
    credentials (id) {
        id -> Uuid,
        project_id -> Uuid,
        name -> Text,
        kind -> Text,
        node_labels -> Jsonb,
        registry_host -> Nullable<Text>,
        latest -> Integer,
        created_at -> Timestamptz,
        created_by -> Text,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    sealing_epochs (master_key, purpose, epoch) {
        master_key -> Bytea,
        purpose -> Text,
        epoch -> Integer,
        sealed_count -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    accounts,
    api_tokens,
    audit_log,
    credential_uses,
    credential_versions,
    credentials,
    deployments,
    enrolment_tokens,
    events,
    fleet,
    idempotency_keys,
    identities,
    instance_dossiers,
    instance_pulls,
    instance_samples,
    instances,
    invites,
    node_certificates,
    node_samples,
    nodes,
    oauth_codes,
    oauth_flows,
    operations,
    project_members,
    projects,
    rate_limits,
    refresh_tokens,
    revisions,
    sealing_epochs,
    sessions,
    settings,
    signing_keys,
);

diesel::joinable!(sessions -> accounts (account_id));
diesel::joinable!(api_tokens -> accounts (account_id));
diesel::joinable!(node_certificates -> nodes (node_id));
diesel::joinable!(instances -> nodes (node_id));
diesel::joinable!(instances -> deployments (deployment_id));
diesel::joinable!(revisions -> deployments (deployment_id));
diesel::joinable!(events -> nodes (node_id));
diesel::joinable!(events -> deployments (deployment_id));
diesel::joinable!(deployments -> projects (project_id));
diesel::joinable!(project_members -> projects (project_id));
diesel::joinable!(project_members -> accounts (account_id));
diesel::joinable!(identities -> accounts (account_id));
diesel::joinable!(refresh_tokens -> sessions (session_id));
diesel::joinable!(oauth_codes -> accounts (account_id));
diesel::joinable!(credentials -> projects (project_id));
diesel::joinable!(credential_versions -> credentials (credential_id));
diesel::joinable!(credential_uses -> credentials (credential_id));
diesel::joinable!(credential_uses -> deployments (deployment_id));
