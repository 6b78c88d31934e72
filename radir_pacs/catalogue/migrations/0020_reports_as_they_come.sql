-- Reports as hospitals send them: every version that came, those that wait for their study, orders that name a study,
-- HL7 messages. What mining read from a text stands beside what holds of it after addenda.

ALTER TABLE report ADD COLUMN mined jsonb;
ALTER TABLE report ADD COLUMN adds boolean NOT NULL DEFAULT FALSE;
UPDATE report SET mined = findings;

CREATE TABLE report_version (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source          text NOT NULL,
    sender          text NOT NULL DEFAULT '',
    document        text NOT NULL,
    status          text NOT NULL
                    CHECK (status IN ('PRELIMINARY', 'FINAL', 'AMENDED', 'ADDENDUM', 'CANCELLED', 'IN_ERROR')),
    version_at      timestamptz NOT NULL,
    sent_at         timestamptz NOT NULL,
    body            text NOT NULL,
    content_sha256  text NOT NULL,
    replaces        text[] NOT NULL DEFAULT '{}',
    study_uid       text REFERENCES study ON DELETE CASCADE,
    named_study_uid text,
    numbers         text[] NOT NULL DEFAULT '{}',
    patient_keys    text[] NOT NULL DEFAULT '{}',
    wanted          boolean NOT NULL DEFAULT FALSE,
    received_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX report_version_by_study ON report_version (study_uid);
CREATE INDEX report_version_by_document ON report_version (document, source);
CREATE INDEX report_waiting_by_study ON report_version (named_study_uid) WHERE study_uid IS NULL;
CREATE INDEX report_waiting_by_number ON report_version USING gin (numbers) WITH (fastupdate = off)
    WHERE study_uid IS NULL;  -- each study that comes looks here: a list of late entries would cost it 25 ms
CREATE INDEX report_waiting_by_time ON report_version (received_at) WHERE study_uid IS NULL;
CREATE INDEX report_wanted ON report_version (id) WHERE wanted;
INSERT INTO report_version (source, document, status, version_at, sent_at, body, content_sha256, study_uid, received_at)
SELECT source, '', CASE WHEN body ~* '^\s*addend' THEN 'ADDENDUM' ELSE 'FINAL' END, received_at, received_at, body,
    content_sha256, study_uid, received_at
FROM report WHERE sop_uid IS NULL AND source = 'csv' ORDER BY id;

CREATE TABLE order_link (
    number          text NOT NULL,
    study_uid       text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (number, study_uid)
);
CREATE INDEX order_link_by_study ON order_link (study_uid);

CREATE FUNCTION study_wants_reports() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    called text[] = array_remove(ARRAY(SELECT o.number FROM order_link AS o WHERE o.study_uid = NEW.study_uid)
        || NEW.accession_number, NULL);
BEGIN
    UPDATE report_version AS v SET wanted = TRUE
    WHERE v.study_uid IS NULL AND NOT v.wanted AND v.named_study_uid = NEW.study_uid;
    UPDATE report_version AS v SET wanted = TRUE
    WHERE v.study_uid IS NULL AND NOT v.wanted AND v.numbers && called;
    RETURN NULL;
END $$;
CREATE TRIGGER new_study_wants_reports AFTER INSERT ON study FOR EACH ROW EXECUTE FUNCTION study_wants_reports();
CREATE TRIGGER changed_study_wants_reports AFTER UPDATE ON study FOR EACH ROW
WHEN (OLD.accession_number IS DISTINCT FROM NEW.accession_number OR OLD.patient_keys IS DISTINCT FROM NEW.patient_keys)
EXECUTE FUNCTION study_wants_reports();

CREATE TABLE message (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender          text NOT NULL,
    control_id      text NOT NULL,
    content_sha256  text NOT NULL,
    kind            text NOT NULL DEFAULT '',
    outcome         text NOT NULL CHECK (outcome IN ('STORED', 'WAITING', 'DONE', 'KEPT')),
    answer          text NOT NULL CHECK (answer IN ('AA', 'AE', 'AR')),
    reason          text NOT NULL DEFAULT '',
    reason_code     text,
    error_code      text NOT NULL DEFAULT '',
    error_at        text NOT NULL DEFAULT '',
    body            bytea,
    times           integer NOT NULL DEFAULT 1,
    at              timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sender, control_id, content_sha256)
);
CREATE INDEX message_kept ON message (id) WHERE outcome = 'KEPT';
CREATE INDEX message_by_time ON message (at);
