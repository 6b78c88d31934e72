-- To whom the audit trail is sent, and how far each of them has it.
CREATE TABLE audit_receiver (
    name          text PRIMARY KEY,
    seal          bigint NOT NULL DEFAULT 0,
    event         bigint NOT NULL DEFAULT 0,
    sent_at       timestamptz,
    failed        text,
    failed_since  timestamptz,
    holder        text NOT NULL DEFAULT '',
    held_until    timestamptz NOT NULL DEFAULT '-infinity'
);
