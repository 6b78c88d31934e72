-- Events that were exported leave the table; their seals stay, so that the chain over all others is still verified.
ALTER TABLE audit_seal ADD COLUMN retired_at timestamptz;

CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'audit_event' AND TG_OP = 'UPDATE' THEN
        IF OLD.seal IS NULL AND (to_jsonb(NEW) - 'seal') = (to_jsonb(OLD) - 'seal') THEN
            RETURN NEW;
        END IF;
    ELSIF TG_TABLE_NAME = 'audit_event' AND TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM audit_seal AS s WHERE s.id = OLD.seal AND s.retired_at IS NOT NULL) THEN
            RETURN OLD;
        END IF;
    ELSIF TG_TABLE_NAME = 'audit_seal' AND TG_OP = 'UPDATE' THEN
        IF OLD.retired_at IS NULL AND (to_jsonb(NEW) - 'retired_at') = (to_jsonb(OLD) - 'retired_at') THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
