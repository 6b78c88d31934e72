-- Tokens by name and role, of which only the hash is kept. Whoever makes one is shown it once.
CREATE TABLE access_token (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL,
    role          text NOT NULL CHECK (role IN ('administrator', 'radiologist', 'service')),
    token_sha256  text NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL,
    expires_at    timestamptz,
    last_used_at  timestamptz,
    revoked_at    timestamptz,
    revoked_by    text
);
CREATE UNIQUE INDEX access_token_in_force ON access_token (name) WHERE revoked_at IS NULL;

-- A run of audit events, in order of id, chained to the one before: whoever changes or removes an event breaks it.
CREATE TABLE audit_seal (
    id         bigint PRIMARY KEY,                      -- 1, 2, 3 ... without gaps
    events     integer NOT NULL,
    digest     bytea NOT NULL,                          -- SHA-256 of the digest before and of the events
    sealed_at  timestamptz NOT NULL DEFAULT now()
);

-- Who saw or did what: one event per patient revealed. Kept when the study is deleted.
CREATE TABLE audit_event (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    event         text NOT NULL,                        -- radir_pacs.callers.AuditEvent
    caller        text NOT NULL,
    role          text NOT NULL,
    address       text NOT NULL DEFAULT '',
    study_uid     text,
    patient_keys  text[] NOT NULL DEFAULT '{}',
    detail        jsonb NOT NULL DEFAULT '{}',          -- codes and UIDs: route, region, model, the study asked about
    seal          bigint REFERENCES audit_seal
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);  -- each row is updated once, by its seal
CREATE INDEX audit_event_unsealed ON audit_event (id) WHERE seal IS NULL;
CREATE INDEX audit_event_by_seal ON audit_event (seal, id);
CREATE INDEX audit_event_by_caller ON audit_event (caller, id);
CREATE INDEX audit_event_by_study ON audit_event (study_uid, id);
CREATE INDEX audit_event_by_patient ON audit_event USING gin (patient_keys) WITH (fastupdate = off);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'audit_event' AND TG_OP = 'UPDATE' THEN
        IF OLD.seal IS NULL AND (to_jsonb(NEW) - 'seal') = (to_jsonb(OLD) - 'seal') THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_event_stays BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_event_stays_whole BEFORE TRUNCATE ON audit_event EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_seal_stays BEFORE UPDATE OR DELETE ON audit_seal
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_seal_stays_whole BEFORE TRUNCATE ON audit_seal EXECUTE FUNCTION audit_is_append_only();
