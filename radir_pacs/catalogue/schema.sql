-- The catalogue: the only shared truth. Blob files hold bytes, index files are a cache of it.
-- Every table has columns for its times; jobs tell the next stage that there is work.
-- Locks are taken in the order study, series, instance, job, so that no two transactions wait for each other.
-- Migrations lead to this schema exactly (tests/integration/test_migrations.py).

CREATE TABLE schema_version (
    version     integer PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    works_from  integer                              -- the newest migration that a program must know; null: this one
);

-- One row per study (PS3.3 C.7.2.1 and the patient's attributes as the study carries them).
CREATE TABLE study (
    study_uid            text PRIMARY KEY,
    state                text NOT NULL DEFAULT 'RECEIVING'
                         CHECK (state IN ('RECEIVING', 'STABLE', 'ENCODED', 'INDEXED', 'SKIPPED', 'QUARANTINED')),
    reason               text,
    revision             integer NOT NULL DEFAULT 0,   -- grows with every new image; what was encoded names it
    patient_key          text NOT NULL DEFAULT '',     -- issuer + id: the same person; '' = unknown, never "the same"
    patient_id           text,
    patient_name         text,
    patient_sex          text,
    patient_birth_date   date,
    patient_age_years    real,
    study_date           date,
    study_time           text,
    accession_number     text,
    study_description    text,
    referring_physician  text,
    study_id             text,
    body_part            text,
    modalities           text[] NOT NULL DEFAULT '{}',
    has_report           boolean NOT NULL DEFAULT false,
    received_at          timestamptz NOT NULL DEFAULT now(),
    last_instance_at     timestamptz NOT NULL DEFAULT now(),
    changed_at           timestamptz NOT NULL DEFAULT now(),
    reason_code          text,                         -- radir_pacs.reasons.ReasonCode, beside every reason
    patient_keys         text[] NOT NULL DEFAULT '{}', -- of all its instances: a study of two patients belongs to both
    patient_name_folded  text,                         -- folded for comparison: radir_pacs.catalogue.names
    referring_physician_folded text,
    sites                text[] NOT NULL DEFAULT '{}', -- labels of all that sent to it (radir_pacs.scopes)
    withheld             smallint NOT NULL DEFAULT 0,  -- from whom: radir_pacs.scopes.Withheld, kept by triggers
    departments          text[] NOT NULL DEFAULT '{}', -- Institutional Department Name (0008,1040) of its instances
    is_emptied           boolean NOT NULL DEFAULT false -- no picture is here: no pass of retention reads its instances
) WITH (fillfactor = 85);  -- an update by an instance finds room on its page, and writes no index
CREATE INDEX study_by_state ON study (state);
CREATE INDEX study_by_patients ON study USING gin (patient_keys);

-- Terms by which a study is found, each after a letter for its kind: three consecutive characters of a text between a
-- mark for its start and two for its end (n, r, i, a, d), a whole patient ID (I), a word of a name as fuzzy matching
-- spells it (N, R). radir_pacs.catalogue.search_terms makes the same of what is asked for.
CREATE FUNCTION search_terms(patient_name text, referring_physician text, patient_id text, accession_number text,
    study_description text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
DECLARE
    terms text[] := '{}';
    kind text;
    part text;
    word text;
BEGIN
    FOREACH part IN ARRAY string_to_array('n' || replace(patient_name, '=', '=n'), '=')
        || string_to_array('r' || replace(referring_physician, '=', '=r'), '=')
        || string_to_array('i' || replace(patient_id, '\', '\i'), '\')
        || ('a' || accession_number) || ('d' || study_description)
    LOOP
        CONTINUE WHEN part IS NULL;
        kind := left(part, 1);
        part := substr(part, 2);
        IF kind IN ('n', 'r') THEN
            part := rtrim(part, '^');
            FOREACH word IN ARRAY
                string_to_array(translate(regexp_replace(part, '([aou])e', '\1', 'g'), '^-,', '   '), ' ')
            LOOP
                CONTINUE WHEN word = '';
                terms := terms || (upper(kind) || left(word, 64));
            END LOOP;
        ELSIF kind = 'i' THEN
            terms := terms || ('I' || left(part, 64));
        END IF;
        part := chr(1) || part || chr(2) || chr(2);
        FOR place IN 1 .. length(part) - 2 LOOP
            terms := terms || (kind || substr(part, place, 3));
        END LOOP;
    END LOOP;
    RETURN array_to_tsvector(terms);
END $$;

-- The department that an instance names (0008,1040), cut to what an LO may hold (PS3.5 6.2): it is a key of an index.
CREATE FUNCTION department_of(attributes jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT nullif(left(attributes #>> '{00081040,Value,0}', 64), '')
$$;

-- At most 32 departments of a study; for more stands a comma, which no scope can name (radir_pacs.scopes.DEPARTMENT).
CREATE FUNCTION few_departments(names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN cardinality(names) > 32 OR ',' = ANY(names) THEN ARRAY[','] ELSE names END
$$;

-- What studies are searched by, kept by triggers. A study changes with every instance; what stands here hardly ever
-- does, so that its indexes cost once per study. In order: the newest day first, studies without one last, then by UID.
CREATE TABLE study_search (
    study_uid            text PRIMARY KEY REFERENCES study ON DELETE CASCADE,
    newest_first         integer NOT NULL,             -- days from the study's to the last of the calendar
    study_time           text,
    patient_id           text,
    patient_name_folded  text,
    patient_birth_date   date,
    patient_sex          text,
    accession_number     text,
    study_description    text,
    referring_physician_folded text,
    study_id             text,
    modalities           text[] NOT NULL,
    sites                text[] NOT NULL DEFAULT '{}',
    withheld             smallint NOT NULL DEFAULT 0,
    departments          text[] NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX study_search_in_order ON study_search (newest_first, study_uid);
CREATE INDEX study_search_by_accession ON study_search (accession_number);
CREATE INDEX study_search_by_birth_date ON study_search (patient_birth_date);
CREATE INDEX study_search_by_modality ON study_search USING gin (modalities);
CREATE INDEX study_search_by_site ON study_search USING gin (sites);
CREATE INDEX study_search_by_department ON study_search USING gin (departments);
CREATE INDEX study_search_by_terms ON study_search USING gin (search_terms(patient_name_folded,
    referring_physician_folded, patient_id, accession_number, study_description))
    WITH (gin_pending_list_limit = 256);  -- kB: the study that fills the list enters it all into the index

CREATE FUNCTION study_is_searched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_search VALUES (NEW.study_uid, coalesce(DATE '9999-12-31' - NEW.study_date, 2147483647),
        NEW.study_time, NEW.patient_id, NEW.patient_name_folded, NEW.patient_birth_date, NEW.patient_sex,
        NEW.accession_number, NEW.study_description, NEW.referring_physician_folded, NEW.study_id, NEW.modalities,
        NEW.sites, NEW.withheld, NEW.departments)
    ON CONFLICT (study_uid) DO UPDATE SET newest_first = excluded.newest_first, study_time = excluded.study_time,
        patient_id = excluded.patient_id, patient_name_folded = excluded.patient_name_folded,
        patient_birth_date = excluded.patient_birth_date, patient_sex = excluded.patient_sex,
        accession_number = excluded.accession_number, study_description = excluded.study_description,
        referring_physician_folded = excluded.referring_physician_folded, study_id = excluded.study_id,
        modalities = excluded.modalities, sites = excluded.sites, withheld = excluded.withheld,
        departments = excluded.departments;
    RETURN NULL;
END $$;
CREATE TRIGGER study_search_on_insert AFTER INSERT ON study FOR EACH ROW EXECUTE FUNCTION study_is_searched();
CREATE TRIGGER study_search_on_update AFTER UPDATE ON study FOR EACH ROW
    WHEN ((OLD.study_date, OLD.study_time, OLD.patient_id, OLD.patient_name_folded, OLD.patient_birth_date,
        OLD.patient_sex, OLD.accession_number, OLD.study_description, OLD.referring_physician_folded, OLD.study_id,
        OLD.modalities, OLD.sites, OLD.withheld, OLD.departments) IS DISTINCT FROM (NEW.study_date, NEW.study_time,
        NEW.patient_id, NEW.patient_name_folded, NEW.patient_birth_date, NEW.patient_sex, NEW.accession_number,
        NEW.study_description, NEW.referring_physician_folded, NEW.study_id, NEW.modalities, NEW.sites, NEW.withheld,
        NEW.departments))
    EXECUTE FUNCTION study_is_searched();

CREATE TABLE series (
    series_uid          text PRIMARY KEY,
    study_uid           text NOT NULL REFERENCES study ON DELETE CASCADE,
    modality            text,
    series_number       integer,
    series_description  text,
    body_part           text
);
CREATE INDEX series_by_study ON series (study_uid);

-- One row per SOP instance. The same UID with the same hash is the same input (P2); another header is a correction,
-- other pixels are a conflict.
CREATE TABLE instance (
    sop_uid              text PRIMARY KEY,
    series_uid           text NOT NULL REFERENCES series ON DELETE CASCADE,
    study_uid            text NOT NULL REFERENCES study ON DELETE CASCADE,
    sop_class_uid        text NOT NULL,
    transfer_syntax_uid  text NOT NULL,
    instance_number      integer,
    rows_px              integer,
    columns_px           integer,
    frames               integer NOT NULL DEFAULT 1,
    content_sha256       text NOT NULL,               -- name of the blob (Part-10 file)
    size_bytes           bigint NOT NULL,
    attributes           jsonb NOT NULL,              -- DICOM JSON model of the header without bulk data (PS3.18 F)
    source               text NOT NULL DEFAULT '',    -- calling AE title, or 'stow'
    received_at          timestamptz NOT NULL DEFAULT now(),
    patient_keys         text[] NOT NULL DEFAULT '{}', -- issuer + id of each Patient ID it names
    notes                text[] NOT NULL DEFAULT '{}'  -- what was odd about the file (HeaderNote)
);
CREATE INDEX instance_by_series ON instance (series_uid);
CREATE INDEX instance_by_study ON instance (study_uid);
CREATE INDEX instance_by_blob ON instance (content_sha256);
CREATE INDEX instance_with_notes ON instance (received_at) WHERE notes <> '{}';

-- An instance that came again with another header. A file named here never counts again, however often it is sent.
CREATE TABLE correction (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sop_uid       text NOT NULL REFERENCES instance ON DELETE CASCADE,
    other_sha256  text NOT NULL,                      -- the file that does not count: replaced, or kept aside
    aside         boolean NOT NULL,                   -- the first header counts, and this file, the later one, is kept
    changed       text[] NOT NULL,                    -- keywords of the attributes that differ; never their values
    source        text NOT NULL DEFAULT '',           -- who sent the later file
    at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sop_uid, other_sha256)
);
CREATE INDEX correction_by_blob ON correction (other_sha256) WHERE aside;

-- What was refused, with the reason: ids only.
CREATE TABLE refusal (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sop_uid      text,
    reason       text NOT NULL,
    dimse_status integer,
    source       text NOT NULL DEFAULT '',
    at           timestamptz NOT NULL DEFAULT now(),
    reason_code  text NOT NULL DEFAULT 'OTHER'
);

-- Files whose bytes are no longer what was stored; storing the content again repairs one.
CREATE TABLE damaged_blob (
    content_sha256  text PRIMARY KEY,
    found_at        timestamptz NOT NULL DEFAULT now()
);

-- How much the folders of the blobs hold, as the sweep last saw each: a budget is kept by it.
CREATE TABLE blob_usage (
    part   smallint PRIMARY KEY,                      -- the first byte of the hashes
    files  bigint NOT NULL,
    bytes  bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);

-- Files that were removed on purpose: the PACS has them, or a rule says that nobody needs them.
CREATE TABLE evicted_blob (
    content_sha256  text PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT now(),
    reason          text NOT NULL DEFAULT 'room' CHECK (reason IN ('room', 'retention'))
);

-- A model: its region order gives the meaning of encoding.vectors. Which one answers for a kind (SERVING) changes only
-- by a promotion or a rollback; SHADOW encodes beside it; RETIRED served before, or never will.
CREATE TABLE model (
    model_id    text PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('CXR', 'CT')),
    dim         integer NOT NULL,
    manifest    jsonb NOT NULL,
    added_at    timestamptz NOT NULL DEFAULT now(),
    state       text NOT NULL DEFAULT 'REGISTERED' CHECK (state IN ('REGISTERED', 'SHADOW', 'SERVING', 'RETIRED')),
    bundle_sha256 text,                               -- of the manifest in models/<model_id>; null: there is no copy
    kept_until  timestamptz,                          -- a RETIRED model encodes new studies until then, for a rollback
    fed_below   bigint,                               -- encodings of other models from this id down may lack one of its own
    fed_at      timestamptz,                          -- when studies of the archive were last queued for it
    coverage    real NOT NULL DEFAULT 1               -- of the SERVING model: its share of the studies, as last counted
);
CREATE UNIQUE INDEX one_serving_model ON model (kind) WHERE state = 'SERVING';
CREATE UNIQUE INDEX one_shadow_model ON model (kind) WHERE state = 'SHADOW';

-- Models whose encodings and index are kept up to date.
CREATE VIEW kept_model AS
SELECT model_id, kind, dim, manifest, state, bundle_sha256, kept_until, fed_below, fed_at, coverage FROM model
WHERE state IN ('SERVING', 'SHADOW') OR (state = 'RETIRED' AND kept_until > now());

-- Whether a model that is not to be cleared away answers from an encoder's image tokens, besides one that is; one whose
-- manifest does not say may.
CREATE FUNCTION encoder_is_used(encoder text, of_kind text, gone text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM model AS m WHERE m.model_id <> gone AND m.kind = of_kind
        AND (m.state <> 'RETIRED' OR m.kept_until IS NULL OR m.kept_until > now())
        AND coalesce(m.manifest ->> 'encoder', encoder_is_used.encoder) = encoder_is_used.encoder)
$$;

-- The encoder of a model, where no other one answers from its image tokens.
CREATE FUNCTION unused_encoder(gone model) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT gone.manifest ->> 'encoder'
    WHERE NOT encoder_is_used(gone.manifest ->> 'encoder', gone.kind, gone.model_id)
$$;

-- What happened to models, who or which rule did it, and why. Rows are only ever added.
CREATE TABLE model_event (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    model_id  text NOT NULL REFERENCES model,
    kind      text NOT NULL,
    change    text NOT NULL CHECK (change IN ('REGISTERED', 'SHADOWED', 'PROMOTED', 'ROLLED_BACK', 'RETIRED', 'PRUNED')),
    replaces  text,                                   -- of PROMOTED and ROLLED_BACK: the model that answered until then
    who       text NOT NULL CHECK (who <> ''),        -- a person, or 'rule:' and its name
    reason    text NOT NULL,
    evidence  text NOT NULL DEFAULT '',               -- where the grounds are filed
    coverage  real                                    -- share of the studies that it had encoded then
);
CREATE INDEX model_event_by_model ON model_event (model_id, id);

CREATE FUNCTION model_events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of models is only ever added to' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER model_event_stays BEFORE UPDATE OR DELETE ON model_event FOR EACH ROW
EXECUTE FUNCTION model_events_stay();
CREATE TRIGGER model_events_stay_all BEFORE TRUNCATE ON model_event FOR EACH STATEMENT
EXECUTE FUNCTION model_events_stay();

-- A question that the model in shadow answered too, unseen: how its first ten cases differ. Nothing about a patient.
CREATE TABLE shadow_answer (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                 timestamptz NOT NULL DEFAULT now(),
    region             text NOT NULL,
    serving            text NOT NULL REFERENCES model,
    shadow             text NOT NULL REFERENCES model,
    compared           integer NOT NULL,              -- cases of each: ten, or fewer in a small archive
    shared             integer NOT NULL,              -- of them, those that both answered
    serving_agreement  real,                          -- of the cases' reports with the query's, mean of 0 to 1
    shadow_agreement   real,
    serving_ms         real NOT NULL,
    shadow_ms          real NOT NULL
);
CREATE INDEX shadow_answer_by_model ON shadow_answer (shadow, id);
CREATE INDEX shadow_answer_by_time ON shadow_answer (at);

-- One row per study and model: the unit vectors of its regions, float32 little-endian, row i for regions[i].
-- Re-encoding replaces the row under a new id, so a vector that an index holds never changes under its id.
CREATE TABLE encoding (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    study_uid    text NOT NULL REFERENCES study ON DELETE CASCADE,
    series_uid   text NOT NULL,
    sop_uid      text NOT NULL,
    model_id     text NOT NULL REFERENCES model,
    revision     integer NOT NULL,                    -- study.revision that was encoded
    regions      text[] NOT NULL,
    vectors      bytea NOT NULL,
    warnings     text[] NOT NULL DEFAULT '{}',
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),  -- readers find late commits by snapshot, not by highest id
    encoded_at   timestamptz NOT NULL DEFAULT now(),
    slices       text[],                              -- for a CT, feet to head: SOP Instance UID, or UID/frame number
    chest        real[],                              -- among them: domes, apices (slice indices), mm from slice to slice
    scanner      text,                                -- Manufacturer\Manufacturer's Model Name of the encoded picture
    UNIQUE (study_uid, model_id)
);
ALTER TABLE encoding ALTER COLUMN vectors SET STORAGE EXTERNAL;  -- one region is read without the others
CREATE INDEX encoding_by_model_xid ON encoding (model_id, xid);

-- Image tokens of a study under one encoder, float16 little-endian [count, width]: what decoder and head answer from
-- (radir_pacs.encode.tokens). The model's hash of its encoder says whose they are.
CREATE TABLE image_tokens (
    study_uid   text NOT NULL REFERENCES study ON DELETE CASCADE,
    encoder     text NOT NULL,                        -- hash of the weights and settings that made them
    series_uid  text NOT NULL,
    sop_uid     text NOT NULL,
    revision    integer NOT NULL,                     -- study.revision that was encoded
    kind        text NOT NULL CHECK (kind IN ('CXR', 'CT')),
    lateral_view boolean NOT NULL,                     -- the view of a radiograph
    count       integer NOT NULL,                     -- tokens of equal width
    tokens      bytea NOT NULL,
    warnings    text[] NOT NULL DEFAULT '{}',         -- this and the next two as in encoding
    slices      text[],
    chest       real[],
    kept_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (encoder, study_uid)
);
ALTER TABLE image_tokens ALTER COLUMN tokens SET STORAGE EXTERNAL;
CREATE INDEX image_tokens_by_study ON image_tokens (study_uid);

-- Encodings that are gone; an index drops them before its next answer.
CREATE TABLE encoding_gone (
    encoding_id  bigint PRIMARY KEY,
    model_id     text NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX encoding_gone_by_model_xid ON encoding_gone (model_id, xid);

CREATE FUNCTION encoding_is_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO encoding_gone (encoding_id, model_id) VALUES (OLD.id, OLD.model_id) ON CONFLICT DO NOTHING;
    RETURN OLD;
END $$;
CREATE TRIGGER encoding_gone_on_delete AFTER DELETE ON encoding FOR EACH ROW EXECUTE FUNCTION encoding_is_gone();

-- The set of vectors of one region under one model, which is searched together.
CREATE TABLE partition (
    model_id  text NOT NULL REFERENCES model,
    region    text NOT NULL,
    PRIMARY KEY (model_id, region)
);

-- A verified build of one partition. The PUBLISHED one is served; its files are under index/<model>/<region>/<name>, or
-- an outside engine has it.
CREATE TABLE generation (
    model_id      text NOT NULL REFERENCES model,
    region        text NOT NULL,
    name          text NOT NULL,
    count         integer NOT NULL,
    as_of         xid8 NOT NULL,                      -- it holds everything committed before; changes() continues here
    manifest      jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'PUBLISHED' CHECK (state IN ('FILLING', 'PUBLISHED', 'RETIRED', 'REFUSED')),
    reason        text,
    published_at  timestamptz NOT NULL DEFAULT now(),
    engine        text NOT NULL DEFAULT 'local',      -- whose it is: local (our files), pgvector, milvus
    PRIMARY KEY (model_id, region, name)
);
CREATE UNIQUE INDEX one_published_generation ON generation (model_id, region) WHERE state = 'PUBLISHED';
-- What an engine has so far of a partition that another one still answers for.
CREATE UNIQUE INDEX one_filling_generation ON generation (model_id, region) WHERE state = 'FILLING';

-- A free-text report of a study; findings are what mining read from it.
CREATE TABLE report (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    study_uid     text NOT NULL REFERENCES study ON DELETE CASCADE,
    sop_uid       text UNIQUE,                        -- the SR it came from, when it came as DICOM
    source        text NOT NULL,                      -- 'sr', 'csv', …
    body          text NOT NULL,
    content_sha256 text NOT NULL,
    findings      jsonb,                              -- null: not mined yet
    parser        text,                               -- version of the parser that mined it
    received_at   timestamptz NOT NULL DEFAULT now(),
    unread_language text,                             -- of a text in a language that mining does not read (ISO 639-1)
    predecessors  text[] NOT NULL DEFAULT '{}',       -- SOP Instance UIDs of the documents it replaces (PS3.3 C.17.2)
    draft         boolean NOT NULL DEFAULT FALSE,     -- partial or preliminary: gives way to any that is neither
    superseded    boolean NOT NULL DEFAULT FALSE,     -- another report of the study replaces it
    mined         jsonb,                              -- what mining read from this text alone; findings: after addenda
    adds          boolean NOT NULL DEFAULT FALSE,     -- an addendum alone, as mining saw it
    UNIQUE (study_uid, content_sha256)
);
CREATE INDEX report_by_study ON report (study_uid);
CREATE INDEX report_by_finding ON report USING gin (findings jsonb_path_ops);

-- The report that stands for a study: a whole one before an addendum, a final one before a draft, then the newest.
CREATE FUNCTION main_report(of_study text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT r.body FROM report AS r WHERE r.study_uid = of_study AND NOT r.superseded
    ORDER BY r.adds, r.draft, CASE WHEN r.received_at > now() THEN '-infinity' ELSE r.received_at END DESC, r.id DESC
    LIMIT 1
$$;

-- Studies whose attributes, report or scanner changed after they were encoded: what filters look at stands in the memory
-- of every reader, beside the index.
CREATE TABLE study_changed (
    study_uid  text NOT NULL,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX study_changed_by_xid ON study_changed (xid);

CREATE FUNCTION study_has_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_changed (study_uid) VALUES (NEW.study_uid);
    RETURN NULL;
END $$;
CREATE TRIGGER study_changed_on_update AFTER UPDATE ON study FOR EACH ROW WHEN (
    (OLD.patient_keys, OLD.patient_id, OLD.patient_name, OLD.patient_sex, OLD.patient_birth_date, OLD.patient_age_years,
        OLD.study_date, OLD.study_time, OLD.accession_number, OLD.study_description, OLD.referring_physician,
        OLD.study_id, OLD.body_part, OLD.modalities, OLD.has_report, OLD.sites, OLD.withheld, OLD.departments)
    IS DISTINCT FROM
    (NEW.patient_keys, NEW.patient_id, NEW.patient_name, NEW.patient_sex, NEW.patient_birth_date, NEW.patient_age_years,
        NEW.study_date, NEW.study_time, NEW.accession_number, NEW.study_description, NEW.referring_physician,
        NEW.study_id, NEW.body_part, NEW.modalities, NEW.has_report, NEW.sites, NEW.withheld, NEW.departments))
EXECUTE FUNCTION study_has_changed();

CREATE FUNCTION report_has_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_changed (study_uid) VALUES (coalesce(NEW.study_uid, OLD.study_uid));
    RETURN NULL;
END $$;
CREATE TRIGGER study_changed_on_report_update AFTER UPDATE OF findings, superseded ON report FOR EACH ROW
EXECUTE FUNCTION report_has_changed();
CREATE TRIGGER study_changed_on_report_insert AFTER INSERT ON report FOR EACH ROW WHEN (NEW.findings IS NOT NULL)
EXECUTE FUNCTION report_has_changed();
CREATE TRIGGER study_changed_on_report_delete AFTER DELETE ON report FOR EACH ROW WHEN (OLD.findings IS NOT NULL)
EXECUTE FUNCTION report_has_changed();

CREATE FUNCTION scanner_has_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE encoding AS e SET scanner = nullif(
        concat_ws(E'\\', NEW.attributes #>> '{00080070,Value,0}', NEW.attributes #>> '{00081090,Value,0}'), '')
    WHERE e.study_uid = NEW.study_uid AND e.sop_uid = NEW.sop_uid;
    INSERT INTO study_changed (study_uid) VALUES (NEW.study_uid);
    RETURN NULL;
END $$;
CREATE TRIGGER study_changed_on_correction AFTER UPDATE OF attributes ON instance FOR EACH ROW
WHEN (OLD.attributes IS DISTINCT FROM NEW.attributes) EXECUTE FUNCTION scanner_has_changed();

-- Every version of a report that came as text, as its sender said it (radir_pacs/catalogue/report_versions.py). Those
-- in force stand in report; one without a study waits for it.
CREATE TABLE report_version (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source          text NOT NULL,                    -- 'hl7', 'fhir', 'csv'
    sender          text NOT NULL DEFAULT '',         -- sending application and facility, or a server
    document        text NOT NULL,                    -- the sender's name for the report in all its versions; '': the study's
    status          text NOT NULL
                    CHECK (status IN ('PRELIMINARY', 'FINAL', 'AMENDED', 'ADDENDUM', 'CANCELLED', 'IN_ERROR')),
    version_at      timestamptz NOT NULL,             -- of the report, as its sender says; later versions replace
    sent_at         timestamptz NOT NULL,             -- of the message
    body            text NOT NULL,
    content_sha256  text NOT NULL,
    replaces        text[] NOT NULL DEFAULT '{}',     -- other documents of the sender whose place it takes
    study_uid       text REFERENCES study ON DELETE CASCADE,  -- null: it waits
    named_study_uid text,
    numbers         text[] NOT NULL DEFAULT '{}',     -- accession and order numbers, the surest first
    patient_keys    text[] NOT NULL DEFAULT '{}',     -- empty: the number alone names the study
    wanted          boolean NOT NULL DEFAULT FALSE,   -- a study came, or changed, that may be its own
    received_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX report_version_by_study ON report_version (study_uid);
CREATE INDEX report_version_by_document ON report_version (document, source);
CREATE INDEX report_waiting_by_study ON report_version (named_study_uid) WHERE study_uid IS NULL;
CREATE INDEX report_waiting_by_number ON report_version USING gin (numbers) WITH (fastupdate = off)
    WHERE study_uid IS NULL;  -- each study that comes looks here: a list of late entries would cost it 25 ms
CREATE INDEX report_waiting_by_time ON report_version (received_at) WHERE study_uid IS NULL;
CREATE INDEX report_wanted ON report_version (id) WHERE wanted;

-- Orders that name their study: an accession or order number leads to a Study Instance UID, also before its images.
CREATE TABLE order_link (
    number          text NOT NULL,
    study_uid       text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (number, study_uid)
);
CREATE INDEX order_link_by_study ON order_link (study_uid);

-- The study comes, or changes: reports that may be its own are joined by the relay.
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

-- HL7 messages that were answered. The same one again gets the same answer and changes nothing; one that could not be
-- used is kept whole for the administrator.
CREATE TABLE message (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender          text NOT NULL,                    -- MSH-3 and MSH-4
    control_id      text NOT NULL,                    -- MSH-10
    content_sha256  text NOT NULL,
    kind            text NOT NULL DEFAULT '',         -- MSH-9, as 'ORU^R01'
    outcome         text NOT NULL CHECK (outcome IN ('STORED', 'WAITING', 'DONE', 'KEPT')),
    answer          text NOT NULL CHECK (answer IN ('AA', 'AE', 'AR')),
    reason          text NOT NULL DEFAULT '',         -- names no patient
    reason_code     text,
    error_code      text NOT NULL DEFAULT '',         -- HL7 table 0357
    error_at        text NOT NULL DEFAULT '',         -- ERL: segment, sequence, field
    body            bytea,                            -- of a message that is kept
    times           integer NOT NULL DEFAULT 1,       -- how often it came
    at              timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sender, control_id, content_sha256)
);
CREATE INDEX message_kept ON message (id) WHERE outcome = 'KEPT';
CREATE INDEX message_by_time ON message (at);

-- A patient became another one, as the hospital says. One that is no longer in force was undone.
CREATE TABLE patient_link (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prior_key  text NOT NULL,
    key        text NOT NULL,
    in_force   boolean NOT NULL DEFAULT TRUE,
    at         timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    CHECK (prior_key <> key)
);
CREATE UNIQUE INDEX one_patient_link ON patient_link (prior_key, key) WHERE in_force;

-- What a merge changed in a study, as it was before.
CREATE TABLE patient_move (
    link_id              bigint NOT NULL REFERENCES patient_link,
    study_uid            text NOT NULL REFERENCES study ON DELETE CASCADE,
    patient_key          text NOT NULL,
    patient_id           text,
    patient_name         text,
    patient_sex          text,
    patient_birth_date   date,
    patient_name_folded  text,
    PRIMARY KEY (link_id, study_uid)
);
CREATE INDEX patient_move_by_study ON patient_move (study_uid);

-- These keys and all that they became.
CREATE FUNCTION keys_of_patient(keys text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    WITH RECURSIVE known (key) AS (
        SELECT unnest(keys)
        UNION
        SELECT l.key FROM patient_link AS l JOIN known AS k ON l.prior_key = k.key WHERE l.in_force
    )
    SELECT coalesce(array_agg(key ORDER BY key), '{}') FROM known
$$;

-- What a key became in the end.
CREATE FUNCTION key_of_patient(key text) RETURNS text LANGUAGE sql STABLE AS $$
    WITH RECURSIVE became (key, path) AS (
        SELECT key_of_patient.key, ARRAY[key_of_patient.key]
        UNION ALL
        SELECT l.key, b.path || l.key FROM became AS b CROSS JOIN LATERAL (
            SELECT x.key FROM patient_link AS x WHERE x.prior_key = b.key AND x.in_force ORDER BY x.id DESC LIMIT 1
        ) AS l WHERE NOT l.key = ANY(b.path)
    )
    SELECT b.key FROM became AS b ORDER BY cardinality(b.path) DESC LIMIT 1
$$;

-- A study that comes under an id that was merged belongs to the patient it became.
CREATE FUNCTION study_follows_patient() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    said text = NEW.patient_key;
BEGIN
    IF EXISTS (SELECT FROM patient_link AS l WHERE l.in_force AND l.prior_key = ANY(NEW.patient_keys)) THEN
        NEW.patient_keys = keys_of_patient(NEW.patient_keys);
        NEW.patient_key = key_of_patient(said);
        IF NEW.patient_key <> said THEN
            NEW.patient_id = split_part(NEW.patient_key, '\', 2);
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER new_study_follows_patient BEFORE INSERT ON study FOR EACH ROW
WHEN (NEW.patient_keys <> '{}') EXECUTE FUNCTION study_follows_patient();
CREATE TRIGGER changed_study_follows_patient BEFORE UPDATE ON study FOR EACH ROW
WHEN (OLD.patient_keys IS DISTINCT FROM NEW.patient_keys OR OLD.patient_key IS DISTINCT FROM NEW.patient_key)
EXECUTE FUNCTION study_follows_patient();

-- Patients whose studies are withheld, by the hospital's decision: from research, or from all but administrators.
CREATE TABLE withheld_patient (
    patient_key  text PRIMARY KEY,
    degree       smallint NOT NULL CHECK (degree IN (1, 2)),  -- radir_pacs.scopes.Withheld
    reason       text NOT NULL DEFAULT '',
    by           text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION degree_of_patient(keys text[]) RETURNS smallint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(w.degree), 0::smallint) FROM withheld_patient AS w WHERE w.patient_key = ANY(keys)
$$;

CREATE FUNCTION study_is_withheld() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.withheld = degree_of_patient(NEW.patient_keys);
    RETURN NEW;
END $$;
CREATE TRIGGER withheld_new_study BEFORE INSERT ON study FOR EACH ROW
WHEN (NEW.patient_keys <> '{}') EXECUTE FUNCTION study_is_withheld();
CREATE TRIGGER withheld_changed_study BEFORE UPDATE ON study FOR EACH ROW
WHEN (OLD.patient_keys IS DISTINCT FROM NEW.patient_keys) EXECUTE FUNCTION study_is_withheld();

-- A merged patient stays withheld.
CREATE FUNCTION withholding_follows_patient() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO withheld_patient (patient_key, degree, reason, by)
    SELECT NEW.key, w.degree, w.reason, w.by FROM withheld_patient AS w WHERE w.patient_key = NEW.prior_key
    ON CONFLICT (patient_key) DO UPDATE SET degree = greatest(withheld_patient.degree, excluded.degree);
    RETURN NULL;
END $$;
CREATE TRIGGER withholding_follows_patient AFTER INSERT ON patient_link FOR EACH ROW
EXECUTE FUNCTION withholding_follows_patient();

CREATE FUNCTION patient_is_withheld() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE study AS s SET withheld = degree_of_patient(s.patient_keys)
    WHERE s.patient_keys @> ARRAY[coalesce(NEW.patient_key, OLD.patient_key)];
    RETURN NULL;
END $$;
CREATE TRIGGER withheld_patient_changed AFTER INSERT OR UPDATE OR DELETE ON withheld_patient FOR EACH ROW
EXECUTE FUNCTION patient_is_withheld();

-- Whether a scope admits a study: `radir_pacs.scopes.Scope` says what it means.
CREATE FUNCTION is_in_scope(s study, scope jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT s.study_uid = ANY(ARRAY(SELECT jsonb_array_elements_text(scope -> 'opened'))) OR coalesce(
        (NOT scope ? 'sites' OR (s.sites <> '{}' AND to_jsonb(s.sites) <@ (scope -> 'sites')))
        AND (NOT scope ? 'departments'
            OR (s.departments <> '{}' AND to_jsonb(s.departments) <@ (scope -> 'departments')))
        AND (NOT scope ? 'modalities' OR (s.modalities && ARRAY(SELECT jsonb_array_elements_text(scope -> 'modalities'))
            AND s.modalities <@ ARRAY(SELECT jsonb_array_elements_text(
                (scope -> 'modalities') || (scope -> 'without_images')))))
        AND (NOT scope ? 'since' OR s.study_date >= (scope ->> 'since')::date)
        AND (NOT scope ? 'until' OR s.study_date <= (scope ->> 'until')::date)
        AND s.withheld <= (scope ->> 'sees')::smallint, FALSE)
$$;

-- Up to which transaction the feed of changes (encoding_gone, study_changed) was pruned: one row. A reader that read
-- before it starts again from the catalogue.
CREATE TABLE feed_horizon (
    xid  xid8 NOT NULL
);
INSERT INTO feed_horizon VALUES ('0');

-- Work. The row is written in the transaction of the data; a broker message only announces it.
CREATE TABLE job (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL,
    key           text NOT NULL,
    state         text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'RUNNING', 'DONE', 'FAILED')),
    attempt       integer NOT NULL DEFAULT 0,
    max_attempts  integer NOT NULL DEFAULT 3,
    token         bigint,                             -- fencing: grows with every lease
    worker        text,                               -- who holds or held it
    lease_until   timestamptz,
    run_after     timestamptz NOT NULL DEFAULT now(),
    rung_at       timestamptz,
    again         boolean NOT NULL DEFAULT false,     -- requested again while it ran
    error         text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    reason_code   text,                               -- of the last attempt, when it failed
    urgency       smallint NOT NULL DEFAULT 1         -- of an encode or reencode job: types.Urgency, the lowest number first
);
CREATE UNIQUE INDEX one_open_job ON job (kind, key) WHERE state IN ('PENDING', 'RUNNING');
CREATE INDEX job_open ON job (kind, state, run_after) WHERE state IN ('PENDING', 'RUNNING');
CREATE INDEX job_running ON job (id) WHERE state = 'RUNNING';
CREATE INDEX job_encode ON job (urgency, id) WHERE kind IN ('encode', 'reencode') AND state = 'PENDING';
CREATE INDEX job_failed ON job (kind, key) WHERE state = 'FAILED';
CREATE INDEX job_rung ON job (rung_at) WHERE state = 'PENDING' AND rung_at IS NOT NULL;
CREATE INDEX job_by_key ON job (key);
CREATE SEQUENCE job_token;

-- The keys that a study's jobs may have: its own, and one for each model.
CREATE FUNCTION job_keys(of_study text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT of_study UNION ALL SELECT m.model_id || '/' || of_study FROM model AS m
$$;

-- Heartbeats of the processes.
CREATE TABLE process (
    name        text PRIMARY KEY,
    pid         integer NOT NULL,
    state       text NOT NULL,
    detail      text NOT NULL DEFAULT '',
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    version     text NOT NULL DEFAULT ''                -- of the program
);

-- A reader's judgement of one similar case; a later one of the same reader replaces it.
CREATE TABLE feedback (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    query_study_uid  text NOT NULL REFERENCES study ON DELETE CASCADE,
    case_study_uid   text NOT NULL REFERENCES study ON DELETE CASCADE,
    region           text NOT NULL,
    model_id         text NOT NULL,
    generation       text,
    rank             integer NOT NULL,
    score            real NOT NULL,
    verdict          text NOT NULL CHECK (verdict IN ('UP', 'DOWN')),
    reason           text NOT NULL DEFAULT '',
    reader           text NOT NULL DEFAULT '',        -- a random name that one browser keeps; no person
    at               timestamptz NOT NULL DEFAULT now(),
    UNIQUE (reader, query_study_uid, case_study_uid, region, model_id)
);

-- A study that somebody with access asked to open; only the caller knows the token itself.
CREATE TABLE viewer_context (
    token_sha256  text PRIMARY KEY,
    study_uid     text NOT NULL REFERENCES study ON DELETE CASCADE,
    expires_at    timestamptz NOT NULL,
    reader        text, -- who opened it, where the PACS says so
    scope         jsonb NOT NULL DEFAULT '{}'         -- of the token that opened it
);

-- Studies whose pictures a token may show, since they were among its similar cases.
CREATE TABLE viewer_context_case (
    token_sha256  text NOT NULL REFERENCES viewer_context ON DELETE CASCADE,
    study_uid     text NOT NULL REFERENCES study ON DELETE CASCADE,
    PRIMARY KEY (token_sha256, study_uid)
);

-- A request for storage commitment (PS3.4 annex J), until its result was reported and for a while after that.
CREATE TABLE commitment (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_uid  text NOT NULL,
    requestor        text NOT NULL,                   -- calling AE title
    instances        jsonb NOT NULL,                  -- [[SOP class UID, SOP instance UID], ...] as requested
    state            text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'REPORTED')),
    asked_at         timestamptz NOT NULL DEFAULT now(),
    reported_at      timestamptz,
    failed           jsonb,                           -- [[class, instance, reason], ...]; null: not checked yet
    UNIQUE (requestor, transaction_uid)
);
CREATE INDEX commitment_pending ON commitment (requestor) WHERE state = 'PENDING';

-- DICOM peers that may call. The setting calling_ae_titles goes on admitting titles beside them.
CREATE TABLE peer (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ae_title     text NOT NULL CHECK (ae_title <> ''),
    network      cidr NOT NULL DEFAULT '::/0',         -- from where it calls; ::/0: from anywhere
    certificate  text,                                 -- of its TLS connection: sha256:… or CN=…; null: not looked at
    may_store    boolean NOT NULL DEFAULT true,
    may_commit   boolean NOT NULL DEFAULT true,        -- storage commitment (PS3.4 annex J)
    site         text,                                 -- the label of what it sends (radir_pacs.scopes); null: its title
    host         text,                                 -- where it is called itself, to verify the connection
    port         integer,
    over_tls     boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    UNIQUE (ae_title, network)
);

-- Tokens by name and role, of which only the hash is kept. Whoever makes one is shown it once.
CREATE TABLE access_token (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL,
    role          text NOT NULL CHECK (role IN ('administrator', 'radiologist', 'service', 'researcher')),
    token_sha256  text NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL,
    expires_at    timestamptz,
    last_used_at  timestamptz,
    revoked_at    timestamptz,
    revoked_by    text,
    scope         jsonb NOT NULL DEFAULT '{}',        -- which studies: radir_pacs.scopes
    names         boolean NOT NULL DEFAULT false      -- rows of similar cases name their patients
);
CREATE UNIQUE INDEX access_token_in_force ON access_token (name) WHERE revoked_at IS NULL;

-- People who sign in, by a password of ours or by a provider (OpenID Connect). One that was removed stays as a row: as
-- with tokens, requests need a caller from the first one on, for good.
CREATE TABLE account (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name               text NOT NULL,
    role               text NOT NULL CHECK (role IN ('administrator', 'radiologist', 'researcher')),
    scope              jsonb NOT NULL DEFAULT '{}',   -- which studies: radir_pacs.scopes
    names              boolean NOT NULL DEFAULT false,  -- rows of similar cases name their patients
    password_hash      text,                          -- argon2id; null: signs in by the provider
    must_change        boolean NOT NULL DEFAULT false,  -- the password was given by somebody else
    issuer             text,                          -- of the provider, which calls the person ``subject``
    subject            text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    created_by         text NOT NULL,
    last_signed_in_at  timestamptz,
    disabled_at        timestamptz,
    removed_at         timestamptz,
    CHECK ((issuer IS NULL) = (subject IS NULL)),
    CHECK (issuer IS NULL OR password_hash IS NULL)
);
CREATE UNIQUE INDEX account_by_name ON account (lower(name)) WHERE removed_at IS NULL;
CREATE UNIQUE INDEX account_by_subject ON account (issuer, subject) WHERE removed_at IS NULL;

-- Whose rights were widened to one patient for a while, with a reason (ADR 0040). The trail keeps the same for longer.
CREATE TABLE emergency_access (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    bigint NOT NULL REFERENCES account,
    caller        text NOT NULL,                        -- its name
    study_uid     text NOT NULL,                        -- the study that was asked for
    patient_keys  text[] NOT NULL,                      -- of the patient, merged ones too, as they were then
    reason        text NOT NULL,
    begun_at      timestamptz NOT NULL DEFAULT now(),
    ends_at       timestamptz NOT NULL,
    ended_at      timestamptz                           -- NULL: the trail does not have its end yet
);
CREATE INDEX emergency_access_open ON emergency_access (account_id) WHERE ended_at IS NULL;

-- These keys, and all that they were merged with, in either direction.
CREATE FUNCTION linked_keys(keys text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    WITH RECURSIVE linked (key) AS (
        SELECT unnest(keys)
        UNION
        SELECT CASE WHEN l.key = k.key THEN l.prior_key ELSE l.key END
        FROM linked AS k JOIN patient_link AS l ON k.key IN (l.key, l.prior_key) AND l.in_force
    )
    SELECT coalesce(array_agg(key ORDER BY key), '{}') FROM linked
$$;

-- Whether an id stands for nobody in particular, as UNKNOWN, 0000 or --- do: no digit, or one character three times on.
CREATE FUNCTION names_nobody(id text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT id !~ '[0-9]' OR regexp_replace(id, '[^0-9A-Za-z]', '', 'g') ~ '^(.)\1{2,}$'
$$;

-- Which studies are open to an account by its emergency accesses (ADR 0040): those that were asked for, and others that
-- surely belong to the same person: all their keys were the patient's from the beginning, and one that they share with
-- the study asked for names its issuer. A key without issuer counts among studies of one and the same site only. A study
-- of several people opens no other one. Keys without an id, of a placeholder, or that were cut, are nobody's, and no two
-- studies with two dates of birth are of one person. P6: at most 1000 a key.
CREATE FUNCTION opened_studies(account bigint) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT a.study_uid FROM emergency_access AS o JOIN study AS a USING (study_uid)
        WHERE o.account_id = account AND o.ended_at IS NULL AND o.ends_at > now()
        UNION
        SELECT same.study_uid FROM emergency_access AS o JOIN study AS a USING (study_uid)
            CROSS JOIN LATERAL unnest(a.patient_keys) AS k (key)
            CROSS JOIN LATERAL (
                SELECT s.study_uid FROM study AS s
                WHERE s.patient_keys @> ARRAY[k.key] AND s.patient_keys <@ o.patient_keys
                    AND (split_part(k.key, '\', 1) <> '' OR (cardinality(a.sites) = 1 AND s.sites = a.sites))
                    AND coalesce(s.patient_birth_date = a.patient_birth_date, TRUE)
                LIMIT 1000
            ) AS same
        WHERE o.account_id = account AND o.ended_at IS NULL AND o.ends_at > now()
            AND NOT names_nobody(split_part(k.key, '\', 2)) AND length(k.key) < 256
            AND a.patient_keys <@ linked_keys(a.patient_keys[1:1]))
$$;

-- Who is signed in, by the keyed hash of a random id that only the browser has: with an account, or with a token.
CREATE TABLE web_session (
    id_sha256   text PRIMARY KEY,
    account_id  bigint REFERENCES account ON DELETE CASCADE,
    token_tag   text,                                 -- keyed hash of the token's hash (radir_pacs.access.sessions)
    id_token    text,                                 -- by which the provider knows the session at its end
    since       timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    address     text NOT NULL DEFAULT '',
    CHECK ((account_id IS NULL) <> (token_tag IS NULL))
);
CREATE INDEX web_session_by_account ON web_session (account_id);

-- Attempts to sign in that failed, or have not ended: each one more makes the next wait longer.
CREATE TABLE sign_in_attempt (
    who            text NOT NULL,                     -- keyed hash of the name that was typed; empty: any name
    address        text NOT NULL,                     -- of IPv6 the network of 64 bits
    tries          integer NOT NULL,
    last_at        timestamptz NOT NULL DEFAULT now(),
    blocked_until  timestamptz NOT NULL,
    PRIMARY KEY (who, address)
);
CREATE INDEX sign_in_attempt_by_age ON sign_in_attempt (last_at);

-- Browsers that were sent to the provider and have not come back; each comes back once.
CREATE TABLE provider_visit (
    state_sha256    text PRIMARY KEY,
    browser_sha256  text NOT NULL,                    -- of the cookie of the browser that was sent
    nonce           text NOT NULL,
    verifier        text NOT NULL,                    -- RFC 7636
    leads_to        text NOT NULL,
    address         text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);

-- A run of audit events, in order of id, chained to the one before: whoever changes or removes an event breaks it.
CREATE TABLE audit_seal (
    id         bigint PRIMARY KEY,                      -- 1, 2, 3 ... without gaps
    events     integer NOT NULL,
    digest     bytea NOT NULL,                          -- SHA-256 of the digest before and of the events
    sealed_at  timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz                              -- its events were exported, and are here no more
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
CREATE TRIGGER audit_event_stays BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_event_stays_whole BEFORE TRUNCATE ON audit_event EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_seal_stays BEFORE UPDATE OR DELETE ON audit_seal
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_seal_stays_whole BEFORE TRUNCATE ON audit_seal EXECUTE FUNCTION audit_is_append_only();

-- To whom the audit trail is sent, and how far each of them has it.
CREATE TABLE audit_receiver (
    name          text PRIMARY KEY,                     -- syslog or fhir, as the settings name them
    seal          bigint NOT NULL DEFAULT 0,            -- the last event that it confirmed: its seal
    event         bigint NOT NULL DEFAULT 0,            -- and its id
    sent_at       timestamptz,
    failed        text,                                 -- a ReasonCode; NULL: the last batch arrived
    failed_since  timestamptz,
    holder        text NOT NULL DEFAULT '',             -- which process sends to it,
    held_until    timestamptz NOT NULL DEFAULT '-infinity'  -- until then it alone
);

-- What was erased, so that a later look can tell whether anything is left: numbers and hashes, and no patient.
CREATE TABLE erasure (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    by            text NOT NULL,
    study_uids    text[] NOT NULL,
    encoding_ids  bigint[] NOT NULL,
    blobs         text[] NOT NULL,
    runs          bigint[] NOT NULL,                   -- retrainings whose snapshot held one of the studies
    subject       bytea NOT NULL                       -- SHA-256 of what was asked to be erased
);
CREATE INDEX erasure_by_subject ON erasure (subject);

-- Retraining: one run from its plan to the evidence (radir_training.retraining).
CREATE TABLE retraining_run (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('CXR', 'CT')),
    depth         text NOT NULL CHECK (depth IN ('head', 'full')),
    state         text NOT NULL DEFAULT 'PENDING'
                  CHECK (state IN ('PENDING', 'RUNNING', 'DONE', 'REFUSED', 'FAILED', 'CANCELLED')),
    plan          jsonb NOT NULL,                     -- as it was before anything was trained
    plan_sha256   text NOT NULL,
    champion      text NOT NULL REFERENCES model,     -- the model that served when the run began
    challenger    text,                               -- what was trained
    passed        boolean,                            -- all gates; null: not judged
    started_by    text NOT NULL,
    reason        text,                               -- why it was refused, failed or cancelled
    reason_code   text,
    cancel_asked  boolean NOT NULL DEFAULT false,
    worker        text,                               -- the process that holds it
    token         bigint,                             -- fencing: grows with every lease
    lease_until   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    asked         boolean NOT NULL DEFAULT false      -- the relay begins it, and resumes it
);
CREATE SEQUENCE retraining_token;

-- The steps of a run, in their order; a step that is done is never done again.
CREATE TABLE retraining_step (
    run_id      bigint NOT NULL REFERENCES retraining_run ON DELETE CASCADE,
    number      integer NOT NULL,
    name        text NOT NULL,
    state       text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'RUNNING', 'DONE', 'FAILED')),
    progress    real NOT NULL DEFAULT 0,              -- share that is done
    note        text NOT NULL DEFAULT '',             -- what it does now, or came to; names nobody
    attempts    integer NOT NULL DEFAULT 0,
    artefacts   jsonb NOT NULL DEFAULT '{}',          -- files of the run's folder, each with its SHA-256
    started_at  timestamptz,
    ended_at    timestamptz,
    PRIMARY KEY (run_id, number)
);

-- What a run saw: its snapshot. A study that is deleted leaves it; what was counted stands in the step's note.
CREATE TABLE retraining_study (
    run_id         bigint NOT NULL REFERENCES retraining_run ON DELETE CASCADE,
    study_uid      text NOT NULL REFERENCES study ON DELETE CASCADE,
    revision       integer NOT NULL,
    report_sha256  text NOT NULL,
    held_out       boolean NOT NULL,
    PRIMARY KEY (run_id, study_uid)
);
CREATE INDEX retraining_study_by_study ON retraining_study (study_uid);

-- What readers had judged of pairs of a run's studies.
CREATE TABLE retraining_judgement (
    run_id           bigint NOT NULL REFERENCES retraining_run ON DELETE CASCADE,
    query_study_uid  text NOT NULL REFERENCES study ON DELETE CASCADE,
    case_study_uid   text NOT NULL REFERENCES study ON DELETE CASCADE,
    region           text NOT NULL,
    up               integer NOT NULL,                -- readers who said that the case is alike, and who said not
    down             integer NOT NULL,
    PRIMARY KEY (run_id, query_study_uid, case_study_uid, region)
);
CREATE INDEX retraining_judgement_by_query ON retraining_judgement (query_study_uid);
CREATE INDEX retraining_judgement_by_case ON retraining_judgement (case_study_uid);

-- How well a model that serves did with the studies of a week. Nothing about a patient.
CREATE TABLE model_quality (
    week         date NOT NULL,                       -- its Monday
    model_id     text NOT NULL REFERENCES model,
    kind         text NOT NULL CHECK (kind IN ('CXR', 'CT')),
    figures      jsonb NOT NULL,                      -- radir_pacs.query.quality
    measured_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (week, model_id)
);

-- Which installation a bucket of files belongs to: a restore gives another id. One row.
CREATE TABLE installation (
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    index_engine  text                                -- where the index is built; null: nobody asked yet
);
INSERT INTO installation DEFAULT VALUES;

-- Studies whose files are to stay: somebody said so (person), or an export is about to read them.
CREATE TABLE study_hold (
    study_uid  text NOT NULL REFERENCES study ON DELETE CASCADE,
    why        text NOT NULL CHECK (why IN ('person', 'export')),
    by         text NOT NULL,                         -- the person, or the id of the export
    at         timestamptz NOT NULL DEFAULT now(),
    until      timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (study_uid, why, by)
);

-- Studies whose files something is about to read, and what: none of these files goes.
CREATE VIEW held_study AS
SELECT substring(key FROM '[^/]*$') AS study_uid, 'job' AS why FROM job
WHERE state IN ('PENDING', 'RUNNING') AND kind <> 'report'
UNION ALL
SELECT s.study_uid, 'retraining' FROM retraining_study AS s JOIN retraining_run AS r ON r.id = s.run_id
WHERE r.depth = 'full' AND r.state IN ('PENDING', 'RUNNING')
UNION ALL
SELECT i.study_uid, 'commitment' FROM commitment AS c CROSS JOIN jsonb_array_elements(c.instances) AS asked
    JOIN instance AS i ON i.sop_uid = asked ->> 1
WHERE c.state = 'PENDING'
UNION ALL
SELECT h.study_uid, h.why FROM study_hold AS h WHERE h.until > now();

-- Whether a study is indexed, and encoded as it stands by every model of its kinds that serves or is in shadow.
CREATE FUNCTION encoded_by_all(of_study text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT s.state = 'INDEXED' AND NOT EXISTS (SELECT FROM model AS m
        WHERE m.state IN ('SERVING', 'SHADOW')
            AND m.kind IN (SELECT k.kind FROM encoding AS e JOIN model AS k USING (model_id) WHERE e.study_uid = of_study)
            AND NOT EXISTS (SELECT FROM encoding AS e
                WHERE e.study_uid = of_study AND e.model_id = m.model_id AND e.revision = s.revision))
    FROM study AS s WHERE s.study_uid = of_study
$$;

-- How far the rules of retention have gone through the archive. One row.
CREATE TABLE retention_pass (
    is_it     boolean PRIMARY KEY DEFAULT true CHECK (is_it),
    rules     text NOT NULL,                          -- SHA-256 of the rules; others begin anew
    after_at  timestamptz,                            -- studies up to this last instance are done; null: none yet
    began_at  timestamptz NOT NULL DEFAULT now(),
    ended_at  timestamptz,                            -- null: it goes on
    studies   bigint NOT NULL DEFAULT 0,              -- of which files were removed
    files     bigint NOT NULL DEFAULT 0,
    bytes     bigint NOT NULL DEFAULT 0
);
