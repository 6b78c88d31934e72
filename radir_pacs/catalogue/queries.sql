-- Every statement the catalogue runs. Each has a name and a comment; tests/integration/test_queries.py prepares them all.

-- A clock may be set back, so a time further ahead than the wait in question counts as long past:
-- NOT BETWEEN now() - wait AND now() + wait; an age is an absolute difference.

-- == Ingest ==

-- name: receive
-- All that an instance that arrives changes, in one statement, and what stands already under its UIDs. The row lock of
-- its study orders all that happens to one study. The first instance that has an attribute sets it, of study and series;
-- an image raises the revision and re-opens the study, other objects are only added. Nothing is changed when the UID
-- stands already ("known": as a file that came before and does not count) or the series belongs to another study.
-- A unique violation: another transaction was faster. No lock is awaited longer than lock_timeout_ms.
WITH r AS MATERIALIZED (
    SELECT *, set_config('lock_timeout', %(lock_timeout_ms)s::text, true) FROM jsonb_to_record(%(arrival)s) AS _(
        sop_uid text, series_uid text, study_uid text, sop_class_uid text, transfer_syntax_uid text,
        is_image boolean, patient_key text, patient_id text, patient_name text, patient_sex text,
        patient_birth_date date, patient_age_years real, study_date date, study_time text, accession_number text,
        study_description text, referring_physician text, study_id text, body_part text, modality text,
        patient_keys text[], patient_name_folded text, referring_physician_folded text, series_number integer,
        series_description text, instance_number integer, rows_px integer, columns_px integer, frames integer,
        content_sha256 text, size_bytes bigint, attributes jsonb, source text, site text, notes text[])
), standing AS MATERIALIZED (
    SELECT i.study_uid, i.series_uid, i.sop_class_uid, i.content_sha256, EXISTS (
        SELECT FROM correction AS c WHERE c.sop_uid = i.sop_uid AND c.other_sha256 = r.content_sha256) AS known
    FROM instance AS i JOIN r USING (sop_uid)
), parent AS MATERIALIZED (
    SELECT e.study_uid FROM series AS e JOIN r USING (series_uid)
), received_study AS (
    INSERT INTO study (study_uid, revision, patient_key, patient_id, patient_name, patient_sex, patient_birth_date,
        patient_age_years, study_date, study_time, accession_number, study_description, referring_physician, study_id,
        body_part, modalities, patient_keys, patient_name_folded, referring_physician_folded, sites, departments)
    SELECT r.study_uid, r.is_image::integer, r.patient_key, r.patient_id, r.patient_name,
        r.patient_sex, r.patient_birth_date, r.patient_age_years, r.study_date,
        r.study_time, r.accession_number, r.study_description, r.referring_physician, r.study_id,
        r.body_part, array_remove(ARRAY[r.modality], NULL), r.patient_keys,
        r.patient_name_folded, r.referring_physician_folded, array_remove(ARRAY[r.site], NULL),
        array_remove(ARRAY[department_of(r.attributes)], NULL)
    FROM r WHERE NOT EXISTS (SELECT FROM standing)
        AND NOT EXISTS (SELECT FROM parent WHERE parent.study_uid <> r.study_uid)
    ON CONFLICT (study_uid) DO UPDATE SET
        state = CASE WHEN excluded.revision > 0 THEN 'RECEIVING' ELSE study.state END,
        reason = CASE WHEN excluded.revision > 0 THEN NULL ELSE study.reason END,
        reason_code = CASE WHEN excluded.revision > 0 THEN NULL ELSE study.reason_code END,
        revision = study.revision + excluded.revision,
        patient_key = CASE WHEN study.patient_key = '' THEN excluded.patient_key ELSE study.patient_key END,
        patient_id = coalesce(study.patient_id, excluded.patient_id),
        patient_name = coalesce(study.patient_name, excluded.patient_name),
        patient_sex = coalesce(study.patient_sex, excluded.patient_sex),
        patient_birth_date = coalesce(study.patient_birth_date, excluded.patient_birth_date),
        patient_age_years = coalesce(study.patient_age_years, excluded.patient_age_years),
        study_date = coalesce(study.study_date, excluded.study_date),
        study_time = coalesce(study.study_time, excluded.study_time),
        accession_number = coalesce(study.accession_number, excluded.accession_number),
        study_description = coalesce(study.study_description, excluded.study_description),
        referring_physician = coalesce(study.referring_physician, excluded.referring_physician),
        patient_name_folded = coalesce(study.patient_name_folded, excluded.patient_name_folded),
        referring_physician_folded = coalesce(study.referring_physician_folded, excluded.referring_physician_folded),
        study_id = coalesce(study.study_id, excluded.study_id),
        body_part = coalesce(study.body_part, excluded.body_part),
        modalities = CASE WHEN excluded.modalities <@ study.modalities THEN study.modalities
            ELSE ARRAY(SELECT DISTINCT m FROM unnest(study.modalities || excluded.modalities) AS m ORDER BY m) END,
        patient_keys = CASE WHEN excluded.patient_keys <@ study.patient_keys THEN study.patient_keys
            ELSE ARRAY(SELECT DISTINCT k FROM unnest(study.patient_keys || excluded.patient_keys) AS k ORDER BY k) END,
        sites = CASE WHEN excluded.sites <@ study.sites THEN study.sites
            ELSE ARRAY(SELECT DISTINCT k FROM unnest(study.sites || excluded.sites) AS k ORDER BY k) END,
        departments = CASE WHEN excluded.departments <@ study.departments THEN study.departments
            ELSE few_departments(ARRAY(
                SELECT DISTINCT k FROM unnest(study.departments || excluded.departments) AS k ORDER BY k)) END,
        last_instance_at = now(),
        is_emptied = false,
        changed_at = now()
    RETURNING study_uid
), received_series AS (
    INSERT INTO series (series_uid, study_uid, modality, series_number, series_description, body_part)
    SELECT r.series_uid, r.study_uid, r.modality, r.series_number, r.series_description, r.body_part
    FROM received_study JOIN r USING (study_uid) WHERE NOT EXISTS (SELECT FROM parent)
    RETURNING study_uid
), received_instance AS (
    INSERT INTO instance (sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, instance_number, rows_px,
        columns_px, frames, content_sha256, size_bytes, attributes, source, patient_keys, notes)
    SELECT r.sop_uid, r.series_uid, r.study_uid, r.sop_class_uid, r.transfer_syntax_uid,
        r.instance_number, r.rows_px, r.columns_px, r.frames,
        r.content_sha256, r.size_bytes, r.attributes, r.source, r.patient_keys, r.notes
    FROM r JOIN received_study USING (study_uid) JOIN (SELECT study_uid FROM parent UNION ALL SELECT study_uid FROM received_series) AS of_series
        USING (study_uid)
    RETURNING sop_uid
), mended AS (
    DELETE FROM damaged_blob AS d USING r
    WHERE d.content_sha256 = r.content_sha256 AND EXISTS (SELECT FROM received_instance)
), back AS (
    DELETE FROM evicted_blob AS e USING r
    WHERE e.content_sha256 = r.content_sha256 AND EXISTS (SELECT FROM received_instance)
)
SELECT (SELECT study_uid FROM parent) AS study_of_series, standing.*
FROM (VALUES (true)) AS always LEFT JOIN standing ON true;

-- name: receive_more
-- What most instances are: new ones of a series that stands, which tell nothing new of their study. Takes several at once
-- and returns which of them it stored, as `receive` would have; for the others nothing is changed, and `receive` is
-- asked. Studies are locked in order. OFFSET 0: a look-up by key for each instance, however small the tables were when
-- the statement was planned.
WITH r AS MATERIALIZED (
    SELECT *, set_config('lock_timeout', %(lock_timeout_ms)s::text, true) FROM jsonb_to_recordset(%(arrivals)s) AS _(
        sop_uid text, series_uid text, study_uid text, sop_class_uid text, transfer_syntax_uid text,
        is_image boolean, patient_key text, patient_id text, patient_name text, patient_sex text,
        patient_birth_date date, patient_age_years real, study_date date, study_time text, accession_number text,
        study_description text, referring_physician text, study_id text, body_part text, modality text,
        patient_keys text[], patient_name_folded text, referring_physician_folded text,
        instance_number integer, rows_px integer, columns_px integer, frames integer,
        content_sha256 text, size_bytes bigint, attributes jsonb, source text, site text, notes text[])
), standing_study AS MATERIALIZED (
    SELECT s.* FROM (SELECT DISTINCT study_uid FROM r ORDER BY study_uid) AS named
        CROSS JOIN LATERAL (SELECT * FROM study WHERE study.study_uid = named.study_uid FOR NO KEY UPDATE) AS s
), plain AS MATERIALIZED (
    SELECT r.* FROM r JOIN standing_study AS s USING (study_uid)
    WHERE (
        coalesce(s.patient_id, r.patient_id), coalesce(s.patient_name, r.patient_name),
        coalesce(s.patient_sex, r.patient_sex), coalesce(s.patient_birth_date, r.patient_birth_date),
        coalesce(s.patient_age_years, r.patient_age_years), coalesce(s.study_date, r.study_date),
        coalesce(s.study_time, r.study_time), coalesce(s.accession_number, r.accession_number),
        coalesce(s.study_description, r.study_description), coalesce(s.referring_physician, r.referring_physician),
        coalesce(s.patient_name_folded, r.patient_name_folded),
        coalesce(s.referring_physician_folded, r.referring_physician_folded), coalesce(s.study_id, r.study_id),
        coalesce(s.body_part, r.body_part)
    ) IS NOT DISTINCT FROM (
        s.patient_id, s.patient_name, s.patient_sex, s.patient_birth_date, s.patient_age_years, s.study_date,
        s.study_time, s.accession_number, s.study_description, s.referring_physician, s.patient_name_folded,
        s.referring_physician_folded, s.study_id, s.body_part
    ) AND (s.patient_key <> '' OR r.patient_key = '')
        AND array_remove(ARRAY[r.modality], NULL) <@ s.modalities AND r.patient_keys <@ s.patient_keys
        AND array_remove(ARRAY[r.site], NULL) <@ s.sites
        AND array_remove(ARRAY[department_of(r.attributes)], NULL) <@ s.departments
        AND EXISTS (SELECT FROM series AS e WHERE e.series_uid = r.series_uid AND e.study_uid = r.study_uid OFFSET 0)
        AND NOT EXISTS (SELECT FROM instance AS i WHERE i.sop_uid = r.sop_uid OFFSET 0)
        AND NOT EXISTS (SELECT FROM damaged_blob AS d WHERE d.content_sha256 = r.content_sha256 OFFSET 0)
        AND NOT EXISTS (SELECT FROM evicted_blob AS e WHERE e.content_sha256 = r.content_sha256 OFFSET 0)
), received_study AS (
    UPDATE study SET
        state = CASE WHEN images > 0 THEN 'RECEIVING' ELSE state END,
        reason = CASE WHEN images > 0 THEN NULL ELSE reason END,
        reason_code = CASE WHEN images > 0 THEN NULL ELSE reason_code END,
        revision = revision + images,
        last_instance_at = now(),
        is_emptied = false,
        changed_at = now()
    FROM (SELECT study_uid, sum(is_image::integer)::integer AS images FROM plain GROUP BY study_uid) AS received
    WHERE study.study_uid = received.study_uid
)
INSERT INTO instance (sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, instance_number, rows_px,
    columns_px, frames, content_sha256, size_bytes, attributes, source, patient_keys, notes)
SELECT sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, instance_number, rows_px,
    columns_px, frames, content_sha256, size_bytes, attributes, source, patient_keys, notes FROM plain
RETURNING sop_uid;

-- name: add_refusal
-- What was refused, and why.
INSERT INTO refusal (sop_uid, reason, reason_code, dimse_status, source)
VALUES (%(sop_uid)s, %(reason)s, %(reason_code)s, %(dimse_status)s, %(source)s);

-- name: refusals
-- The newest refusals.
SELECT sop_uid, reason, reason_code, dimse_status, source, at FROM refusal ORDER BY id DESC LIMIT %(limit)s;

-- name: drop_refusals
-- An administrator has seen these refusals.
DELETE FROM refusal WHERE %(reason_code)s::text IS NULL OR reason_code = %(reason_code)s;

-- name: prune_refusals
-- Old refusals, and all but the newest: a peer that keeps sending garbage must not fill the disk (P6).
DELETE FROM refusal WHERE at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8)
    OR id <= (SELECT max(id) FROM refusal) - %(most)s::bigint;

-- name: received_again
-- The same content came again, so its file is intact. A study that failed only because of the machine is tried again, as
-- is one that answers by old vectors since its files were away.
WITH mended AS (DELETE FROM damaged_blob WHERE content_sha256 = %(content_sha256)s),
    back AS (DELETE FROM evicted_blob WHERE content_sha256 = %(content_sha256)s)
UPDATE study SET state = 'RECEIVING', reason = NULL, reason_code = NULL, last_instance_at = now(), changed_at = now()
WHERE study_uid = %(study_uid)s AND reason_code = ANY(%(reason_codes)s::text[])
    AND state IN ('QUARANTINED', 'INDEXED');

-- name: study_has_files
-- A picture of the study is here again. Before received_again: the study's row is locked before the file's.
UPDATE study SET is_emptied = false WHERE study_uid = %(study_uid)s
    AND EXISTS (SELECT FROM evicted_blob WHERE content_sha256 = %(content_sha256)s);

-- name: note_damage
-- A file that an instance names is not what was stored.
INSERT INTO damaged_blob (content_sha256)
SELECT %(content_sha256)s WHERE EXISTS (SELECT FROM instance WHERE content_sha256 = %(content_sha256)s)
ON CONFLICT DO NOTHING;

-- name: damage
-- The instances whose files are damaged, the newest damage first.
SELECT i.study_uid, i.sop_uid, d.found_at FROM damaged_blob AS d JOIN instance AS i USING (content_sha256)
ORDER BY d.found_at DESC, i.sop_uid LIMIT %(limit)s;

-- name: study_of_evicted
-- The study of a file that was removed on purpose, who sent it, and why the file went.
SELECT s.study_uid, s.sites, e.reason FROM evicted_blob AS e JOIN instance AS i USING (content_sha256)
    JOIN study AS s USING (study_uid)
WHERE e.content_sha256 = %(content_sha256)s LIMIT 1;

-- name: prune_evicted
-- Files that made room and that no instance refers to any more.
DELETE FROM evicted_blob AS e
WHERE NOT EXISTS (SELECT FROM instance AS i WHERE i.content_sha256 = e.content_sha256);

-- name: prune_damage
-- Damage of files that no instance refers to any more.
DELETE FROM damaged_blob AS d
WHERE NOT EXISTS (SELECT FROM instance AS i WHERE i.content_sha256 = d.content_sha256);

-- name: known_blobs
-- Which of these blobs are kept: an instance refers to one that did not make room, or a backup is being made, which may
-- be about to copy it (0x52414442: catalogue/backups.py). A backup does not begin before this transaction has ended.
SELECT content_sha256 FROM instance AS i WHERE content_sha256 = ANY(%(hashes)s::text[])
    AND NOT EXISTS (SELECT FROM evicted_blob AS e WHERE e.content_sha256 = i.content_sha256)
UNION
SELECT other_sha256 FROM correction WHERE aside AND other_sha256 = ANY(%(hashes)s::text[])
UNION
SELECT sha256 FROM unnest(%(hashes)s::text[]) AS _ (sha256)
WHERE (SELECT NOT pg_try_advisory_xact_lock_shared(1380009026));

-- name: named_blobs
-- Which of these blobs an instance refers to, whatever a backup needs.
SELECT content_sha256 FROM instance WHERE content_sha256 = ANY(%(hashes)s::text[])
UNION
SELECT other_sha256 FROM correction WHERE aside AND other_sha256 = ANY(%(hashes)s::text[]);

-- name: noted_instances
-- The newest instances whose file was odd.
SELECT sop_uid, notes, source, received_at AS at FROM instance WHERE notes <> '{}'
ORDER BY received_at DESC LIMIT %(limit)s;

-- == Corrections ==

-- name: lock_instance
-- The file that counts for an instance, locked after its study.
SELECT content_sha256 FROM instance WHERE sop_uid = %(sop_uid)s FOR UPDATE;

-- name: add_correction
-- The trace of a correction.
INSERT INTO correction (sop_uid, other_sha256, aside, changed, source)
VALUES (%(sop_uid)s, %(other_sha256)s, %(aside)s, %(changed)s::text[], %(source)s)
ON CONFLICT DO NOTHING;

-- name: corrections
-- The newest corrections.
SELECT sop_uid, other_sha256, aside, changed, source, at FROM correction ORDER BY id DESC LIMIT %(limit)s;

-- name: correct_instance
-- The corrected header replaces the earlier one.
UPDATE instance SET transfer_syntax_uid = %(transfer_syntax_uid)s, instance_number = %(instance_number)s,
    rows_px = %(rows_px)s, columns_px = %(columns_px)s, frames = %(frames)s, content_sha256 = %(content_sha256)s,
    size_bytes = %(size_bytes)s, attributes = %(attributes)s, source = %(source)s,
    patient_keys = %(patient_keys)s::text[], notes = %(notes)s::text[]
WHERE sop_uid = %(sop_uid)s;

-- name: correct_series
-- What a correction changes in its series; null: nothing.
UPDATE series SET modality = coalesce(%(modality)s, modality),
    series_number = coalesce(%(series_number)s, series_number),
    series_description = coalesce(%(series_description)s, series_description),
    body_part = coalesce(%(body_part)s, body_part)
WHERE series_uid = %(series_uid)s;

-- name: correct_study
-- What a correction changes in its study; null: nothing. The study belongs to every patient that one of its
-- instances names, so that it is left out for both while only some of them are corrected; keys that were known are
-- kept when no instance names a patient any more.
UPDATE study SET patient_key = coalesce(%(patient_key)s, patient_key), patient_id = coalesce(%(patient_id)s, patient_id),
    patient_name = coalesce(%(patient_name)s, patient_name), patient_sex = coalesce(%(patient_sex)s, patient_sex),
    patient_birth_date = coalesce(%(patient_birth_date)s, patient_birth_date),
    patient_age_years = coalesce(%(patient_age_years)s, patient_age_years),
    study_date = coalesce(%(study_date)s, study_date), study_time = coalesce(%(study_time)s, study_time),
    accession_number = coalesce(%(accession_number)s, accession_number),
    study_description = coalesce(%(study_description)s, study_description),
    referring_physician = coalesce(%(referring_physician)s, referring_physician),
    patient_name_folded = coalesce(%(patient_name_folded)s, patient_name_folded),
    referring_physician_folded = coalesce(%(referring_physician_folded)s, referring_physician_folded),
    study_id = coalesce(%(study_id)s, study_id), body_part = coalesce(%(body_part)s, body_part),
    modalities = CASE WHEN %(modality)s::text IS NULL THEN modalities ELSE ARRAY(
        SELECT DISTINCT i.attributes #>> '{00080060,Value,0}' FROM instance AS i
        WHERE i.study_uid = study.study_uid AND i.attributes #>> '{00080060,Value,0}' IS NOT NULL ORDER BY 1) END,
    patient_keys = coalesce((
        SELECT array_agg(DISTINCT k ORDER BY k) FROM instance AS i, unnest(i.patient_keys) AS k
        WHERE i.study_uid = study.study_uid), patient_keys),
    sites = CASE WHEN %(site)s::text IS NULL THEN sites
        ELSE ARRAY(SELECT DISTINCT k FROM unnest(sites || %(site)s::text) AS k ORDER BY k) END,
    departments = few_departments(ARRAY(
        SELECT DISTINCT department_of(i.attributes) FROM instance AS i
        WHERE i.study_uid = study.study_uid AND department_of(i.attributes) IS NOT NULL ORDER BY 1)),
    state = CASE WHEN %(reopens)s::boolean THEN 'RECEIVING' ELSE state END,
    reason = CASE WHEN %(reopens)s::boolean THEN NULL ELSE reason END,
    reason_code = CASE WHEN %(reopens)s::boolean THEN NULL ELSE reason_code END,
    revision = revision + %(reopens)s::boolean::integer,
    last_instance_at = CASE WHEN %(reopens)s::boolean THEN now() ELSE last_instance_at END,
    is_emptied = false,
    changed_at = now()
WHERE study_uid = %(study_uid)s;

-- name: drop_report_of
-- What was read from an SR before it was corrected; its report job reads it again.
DELETE FROM report WHERE sop_uid = %(sop_uid)s;

-- == The life of a study ==

-- name: complete_quiet
-- Studies that had no new instance for the quiet period are complete: their encode jobs are written with them.
WITH quiet AS (
    SELECT study_uid FROM study
    WHERE state = 'RECEIVING'
        AND last_instance_at NOT BETWEEN now() - make_interval(secs => %(quiet_period_s)s::float8) AND now() + make_interval(secs => %(quiet_period_s)s::float8)
    ORDER BY last_instance_at LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED
), completed AS (
    UPDATE study SET state = 'STABLE', changed_at = now() FROM quiet WHERE study.study_uid = quiet.study_uid
    RETURNING study.study_uid
), work AS (
    INSERT INTO job (kind, key, max_attempts)
    SELECT 'encode', study_uid, %(max_attempts)s::integer FROM completed
    ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
    SET again = job.again OR job.state = 'RUNNING', urgency = least(job.urgency, excluded.urgency)
)
SELECT study_uid FROM completed;

-- name: encode_forgotten
-- Every STABLE study has an open encode job, by construction; one that lacks it all the same does not wait for ever.
INSERT INTO job (kind, key, max_attempts)
SELECT 'encode', study_uid, %(max_attempts)s::integer FROM study AS s
WHERE s.state = 'STABLE' AND NOT EXISTS (
    SELECT FROM job AS j WHERE j.kind = 'encode' AND j.key = s.study_uid AND j.state IN ('PENDING', 'RUNNING'))
ON CONFLICT DO NOTHING
RETURNING key AS study_uid;

-- name: complete_now
-- One study is complete because its sender says so.
UPDATE study SET state = 'STABLE', changed_at = now() WHERE study_uid = %(study_uid)s AND state = 'RECEIVING'
RETURNING study_uid;

-- name: retry_studies
-- Studies that were skipped or quarantined get another encode job, written with their state.
WITH chosen AS (
    SELECT study_uid FROM study
    WHERE state = ANY(%(states)s::text[])
        AND (%(study_uid)s::text IS NULL OR study_uid = %(study_uid)s::text)
        AND (%(reason_code)s::text IS NULL OR reason_code = %(reason_code)s::text)
    ORDER BY study_uid FOR UPDATE
), opened AS (
    UPDATE study SET state = 'STABLE', reason = NULL, reason_code = NULL, changed_at = now()
    FROM chosen WHERE study.study_uid = chosen.study_uid
    RETURNING study.study_uid
), work AS (
    INSERT INTO job (kind, key, max_attempts)
    SELECT 'encode', study_uid, %(max_attempts)s::integer FROM opened
    ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
    SET again = job.again OR job.state = 'RUNNING', urgency = least(job.urgency, excluded.urgency)
)
SELECT study_uid FROM opened ORDER BY study_uid;

-- name: drop_studies
-- Quarantined studies are left as they are by decision: nobody needs to look at them again.
UPDATE study SET state = 'SKIPPED', reason_code = 'DROPPED', changed_at = now()
WHERE state = 'QUARANTINED'
    AND (%(study_uid)s::text IS NULL OR study_uid = %(study_uid)s::text)
    AND (%(reason_code)s::text IS NULL OR reason_code = %(reason_code)s::text)
RETURNING study_uid;

-- name: lock_study
-- The study row, locked first by whatever changes both a study and its jobs.
SELECT state, revision FROM study WHERE study_uid = %(study_uid)s FOR UPDATE;

-- name: set_study_state
-- The outcome of a study, unless new images came after the revision that was looked at.
UPDATE study SET state = %(state)s, reason = %(reason)s, reason_code = %(reason_code)s, changed_at = now()
WHERE study_uid = %(study_uid)s AND (%(revision)s::integer IS NULL OR revision = %(revision)s::integer)
RETURNING study_uid;

-- name: quarantine_stable_study
-- Its encode job failed for good. A study that was re-opened meanwhile gets a new job instead.
UPDATE study SET state = 'QUARANTINED', reason = %(reason)s, reason_code = %(reason_code)s, changed_at = now()
WHERE study_uid = %(study_uid)s AND state = 'STABLE'
RETURNING study_uid;

-- name: mark_indexed
-- An encoding below the snapshot's xmin is in a generation or in the exact tail of every reader from now on. A study
-- that somebody else has locked is left for the next time.
UPDATE study SET state = 'INDEXED', changed_at = now() WHERE study_uid IN (
    SELECT study_uid FROM study AS s WHERE state = 'ENCODED' AND NOT EXISTS (
        SELECT FROM encoding AS e
        WHERE e.study_uid = s.study_uid AND e.xid >= pg_snapshot_xmin(pg_current_snapshot()))
    FOR UPDATE SKIP LOCKED)
RETURNING study_uid;

-- name: blobs_of_study
-- Hashes of a study's instances.
SELECT content_sha256 FROM instance WHERE study_uid = %(study_uid)s
UNION
SELECT c.other_sha256 FROM correction AS c JOIN instance AS i USING (sop_uid)
WHERE c.aside AND i.study_uid = %(study_uid)s;

-- name: delete_study
-- Also deletes its series, instances, encodings and reports; triggers record the encodings that are gone.
DELETE FROM study WHERE study_uid = %(study_uid)s RETURNING study_uid;

-- name: delete_instances
-- A series of a study, or one of its instances; with the files of their corrections that were kept aside, which go too.
DELETE FROM instance AS i
WHERE study_uid = %(study_uid)s AND series_uid = %(series_uid)s
    AND (%(sop_uid)s::text IS NULL OR sop_uid = %(sop_uid)s::text)
RETURNING sop_uid, content_sha256, rows_px IS NOT NULL AS is_image,
    ARRAY(SELECT c.other_sha256 FROM correction AS c WHERE c.aside AND c.sop_uid = i.sop_uid) AS aside;

-- name: delete_reports_of_instances
-- What was read from instances that are gone.
DELETE FROM report WHERE sop_uid = ANY(%(sop_uids)s::text[]);

-- name: delete_empty_series
-- A series without instances.
DELETE FROM series AS e
WHERE e.study_uid = %(study_uid)s AND NOT EXISTS (SELECT FROM instance AS i WHERE i.series_uid = e.series_uid);

-- name: delete_empty_study
-- A study whose last instance is gone.
DELETE FROM study AS s
WHERE s.study_uid = %(study_uid)s AND NOT EXISTS (SELECT FROM instance AS i WHERE i.study_uid = s.study_uid);

-- name: delete_encodings
-- The vectors of a study under every model, and its image tokens.
WITH tokens AS (DELETE FROM image_tokens WHERE study_uid = %(study_uid)s)
DELETE FROM encoding WHERE study_uid = %(study_uid)s;

-- name: reopen_study
-- The state of a study after some of its instances were deleted; if an image is gone, it is encoded again.
UPDATE study AS s SET
    state = CASE WHEN %(is_image)s::boolean THEN 'RECEIVING' ELSE s.state END,
    reason = CASE WHEN %(is_image)s::boolean THEN NULL ELSE s.reason END,
    reason_code = CASE WHEN %(is_image)s::boolean THEN NULL ELSE s.reason_code END,
    revision = s.revision + %(is_image)s::boolean::integer,
    modalities = ARRAY(
        SELECT DISTINCT e.modality FROM series AS e
        WHERE e.study_uid = s.study_uid AND e.modality IS NOT NULL ORDER BY e.modality),
    has_report = EXISTS (SELECT FROM report AS r WHERE r.study_uid = s.study_uid),
    last_instance_at = now(),
    changed_at = now()
WHERE s.study_uid = %(study_uid)s;

-- == Reading studies; searches by QIDO-RS keys are built in qido.py ==

-- name: study
-- One study with its counts.
SELECT s.*, (SELECT count(*) FROM series WHERE series.study_uid = s.study_uid) AS series_count,
    (SELECT count(*) FROM instance WHERE instance.study_uid = s.study_uid) AS instance_count
FROM study AS s WHERE s.study_uid = %(study_uid)s;

-- name: instance
-- One instance.
SELECT * FROM instance WHERE sop_uid = %(sop_uid)s;

-- name: instances_of
-- The instances of a study, or of one of its series.
SELECT * FROM instance
WHERE study_uid = %(study_uid)s AND (%(series_uid)s::text IS NULL OR series_uid = %(series_uid)s::text)
ORDER BY series_uid, instance_number NULLS LAST, sop_uid;

-- name: sop_uids_of
-- The SOP Instance UIDs held of a study: what a sender compares with what it sent.
SELECT sop_uid FROM instance WHERE study_uid = %(study_uid)s ORDER BY sop_uid;

-- name: headers_of
-- What the instances of some studies said of themselves when they came, as far as it is kept in columns.
SELECT i.*, e.modality, e.series_number, e.series_description, e.body_part, s.patient_key, s.patient_id,
    s.patient_name, s.patient_sex, s.patient_birth_date, s.patient_age_years, s.study_date, s.study_time,
    s.accession_number, s.study_description, s.referring_physician, s.study_id
FROM instance AS i JOIN series AS e USING (series_uid) JOIN study AS s ON s.study_uid = i.study_uid
WHERE i.study_uid = ANY(%(study_uids)s::text[])
ORDER BY i.study_uid, e.series_number NULLS LAST, i.series_uid, i.instance_number NULLS LAST, i.sop_uid;

-- name: in_scope
-- Which of some studies a scope admits.
SELECT s.study_uid FROM study AS s
WHERE s.study_uid = ANY(%(study_uids)s::text[]) AND is_in_scope(s, %(scope)s::jsonb);

-- name: sites_here
-- Labels that studies have, or will have from a peer.
SELECT DISTINCT unnest(sites) AS name FROM study_search UNION SELECT coalesce(site, ae_title) FROM peer ORDER BY name;

-- name: departments_here
-- Institutional Department Names that images of studies have.
SELECT DISTINCT unnest(departments) AS name FROM study_search ORDER BY name;

-- name: study_uids
-- A page of all studies' UIDs.
SELECT study_uid FROM study WHERE study_uid > %(after)s ORDER BY study_uid LIMIT %(limit)s;

-- name: studies_in_state
-- Studies in one state, or those of them with one reason code, newest first.
SELECT s.*, (SELECT count(*) FROM series WHERE series.study_uid = s.study_uid) AS series_count,
    (SELECT count(*) FROM instance WHERE instance.study_uid = s.study_uid) AS instance_count
FROM (
    SELECT study_uid FROM study
    WHERE state = %(state)s AND (%(reason_code)s::text IS NULL OR reason_code = %(reason_code)s::text)
    ORDER BY study_date DESC NULLS LAST, study_uid LIMIT %(limit)s
) AS chosen JOIN study AS s USING (study_uid)
ORDER BY s.study_date DESC NULLS LAST, s.study_uid;

-- == Models and encodings ==

-- name: register_model
-- A model by its id: an existing row stays as it is, since vectors depend on it.
INSERT INTO model (model_id, kind, dim, manifest) VALUES (%(model_id)s, %(kind)s, %(dim)s, %(manifest)s)
ON CONFLICT (model_id) DO NOTHING RETURNING model_id;

-- name: model_has_bundle
-- A verified copy of its bundle is in the home folder; null: it is there no more.
UPDATE model SET bundle_sha256 = %(sha256)s WHERE model_id = %(model_id)s AND bundle_sha256 IS DISTINCT FROM %(sha256)s;

-- name: lock_models
-- Changes of what serves are rare and must not race: one transaction at a time.
LOCK TABLE model IN SHARE ROW EXCLUSIVE MODE;

-- name: set_model_state
-- A model's new state. One that encodes from now on begins with the newest study of the archive.
UPDATE model SET state = %(state)s,
    kept_until = now() + make_interval(secs => %(keep_s)s::float8),
    coverage = coalesce(%(coverage)s::real, coverage),
    fed_below = CASE WHEN %(feed)s::boolean THEN (SELECT last_value + 1 FROM encoding_id_seq) END,
    fed_at = now()
WHERE model_id = %(model_id)s;

-- name: add_model_event
-- A line of the history.
INSERT INTO model_event (model_id, kind, change, replaces, who, reason, evidence, coverage)
VALUES (%(model_id)s, %(kind)s, %(change)s, %(replaces)s, %(who)s, %(reason)s, %(evidence)s, %(coverage)s::real);

-- name: model_events
-- The history of all models or of one, oldest first.
SELECT id, at, model_id, kind, change, replaces, who, reason, evidence, coverage FROM model_event
WHERE %(model_id)s::text IS NULL OR model_id = %(model_id)s::text ORDER BY id;

-- name: served_before
-- The model that answered until this one was promoted.
SELECT replaces FROM model_event WHERE model_id = %(model_id)s AND change = 'PROMOTED' ORDER BY id DESC LIMIT 1;

-- name: model_coverage
-- Studies of a kind that a model has encoded, and that only another one has whose encodings are not to be cleared away.
SELECT (SELECT count(*) FROM encoding WHERE model_id = %(model_id)s)::integer AS encoded, (
    SELECT count(DISTINCT e.study_uid) FROM encoding AS e JOIN model AS m USING (model_id)
    WHERE m.kind = %(kind)s AND e.model_id <> %(model_id)s
        AND (m.state <> 'RETIRED' OR m.kept_until IS NULL OR m.kept_until > now()) AND NOT EXISTS (
        SELECT FROM encoding AS own WHERE own.study_uid = e.study_uid AND own.model_id = %(model_id)s))::integer AS lacking;

-- name: model_progress
-- Jobs for a model that wait or run, that failed for good, and how fast its last encodings came.
SELECT count(*) FILTER (WHERE j.state IN ('PENDING', 'RUNNING'))::integer AS waiting,
    count(DISTINCT j.key) FILTER (WHERE j.state = 'FAILED' AND EXISTS (
        SELECT FROM encoding AS e WHERE e.study_uid = split_part(j.key, '/', 2)) AND NOT EXISTS (
        SELECT FROM encoding AS e WHERE e.study_uid = split_part(j.key, '/', 2) AND e.model_id = %(model_id)s))::integer
        AS failed,
    (SELECT count(*) / nullif(extract(epoch FROM max(r.encoded_at) - min(r.encoded_at)), 0) * 60 FROM (
        SELECT e.encoded_at FROM encoding AS e WHERE e.model_id = %(model_id)s ORDER BY e.xid DESC LIMIT 500) AS r
        WHERE abs(extract(epoch FROM now() - r.encoded_at)) < 600)::float8 AS per_minute
FROM job AS j WHERE j.kind = 'reencode' AND j.state <> 'DONE' AND starts_with(j.key, %(model_id)s || '/');

-- name: feeds_models
-- Before rows are locked: whoever changes what serves then waits, or is waited for, and neither for the other.
LOCK TABLE model IN ROW EXCLUSIVE MODE;

-- name: models_to_feed
-- Models with studies of the archive left to encode: the one that answers first. Another relay's are passed over.
SELECT model_id, kind, state, fed_below, abs(extract(epoch FROM now() - fed_at))::float8 AS since_s FROM model
WHERE fed_below IS NOT NULL AND bundle_sha256 IS NOT NULL
    AND (state IN ('SERVING', 'SHADOW') OR (state = 'RETIRED' AND kept_until > now()))
ORDER BY CASE state WHEN 'SERVING' THEN 0 WHEN 'SHADOW' THEN 1 ELSE 2 END, model_id FOR NO KEY UPDATE SKIP LOCKED;

-- name: open_reencodings
-- Jobs that encode the archive for a model and have not ended, and whether others will come.
SELECT count(*)::integer AS n, EXISTS (
    SELECT FROM model WHERE model_id = %(model_id)s AND fed_below IS NOT NULL) AS more FROM job
WHERE kind = 'reencode' AND state IN ('PENDING', 'RUNNING') AND starts_with(key, %(model_id)s || '/');

-- name: feed_model
-- Queue the next studies of the archive for a model, the newest first; returns where to go on, and how many these were.
-- Reads encodings from the newest on until enough studies are found that lack one, and of a bounded range of ids, so
-- that what is encoded already costs little at a time.
WITH span AS MATERIALIZED (
    SELECT newest.id AS newest, newest.id - %(look)s AS down_to, ARRAY(
        SELECT m.model_id FROM model AS m WHERE m.kind = %(kind)s AND m.model_id <> %(model_id)s) AS others
    FROM (SELECT max(e.id) AS id FROM encoding AS e WHERE e.id < %(fed_below)s) AS newest
), lacking AS MATERIALIZED (
    SELECT e.id, e.study_uid FROM encoding AS e
    WHERE e.id <= (SELECT newest FROM span) AND e.id > (SELECT down_to FROM span)
        AND e.model_id = ANY((SELECT others FROM span)::text[])
        AND (SELECT own.id FROM encoding AS own WHERE own.study_uid = e.study_uid AND own.model_id = %(model_id)s) IS NULL
    ORDER BY e.id DESC LIMIT %(room)s
), queued AS (
    INSERT INTO job (kind, key, max_attempts, urgency)
    SELECT 'reencode', %(model_id)s || '/' || study_uid, %(max_attempts)s::integer, %(urgency)s::smallint
    FROM lacking GROUP BY study_uid ORDER BY max(id) DESC
    ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO NOTHING
    RETURNING id
)
SELECT (SELECT count(*) FROM queued)::integer AS queued, CASE
    WHEN (SELECT count(*) FROM lacking) = %(room)s THEN (SELECT min(id) FROM lacking)
    WHEN EXISTS (SELECT FROM encoding AS e WHERE e.id <= (SELECT down_to FROM span))
        THEN (SELECT down_to + 1 FROM span) END AS fed_below;

-- name: model_fed
-- Where to go on with a model's archive; null: every study was queued.
UPDATE model SET fed_below = %(fed_below)s, fed_at = CASE WHEN %(queued)s > 0 THEN now() ELSE fed_at END
WHERE model_id = %(model_id)s;

-- name: feed_again
-- Begin once more with a model's archive, where studies are lacking that are neither queued nor failed.
UPDATE model SET fed_below = (SELECT last_value + 1 FROM encoding_id_seq), fed_at = now()
WHERE model_id = %(model_id)s AND fed_below IS NULL;

-- name: note_coverage
-- What part of the studies the model that answers covers.
UPDATE model SET coverage = %(coverage)s::real WHERE model_id = %(model_id)s AND coverage <> %(coverage)s::real;

-- name: hurry_model
-- What is queued for a model that answers from now on comes before what only prepares another.
UPDATE job SET urgency = %(urgency)s::smallint
WHERE kind = 'reencode' AND state = 'PENDING' AND starts_with(key, %(model_id)s || '/') AND urgency > %(urgency)s::smallint;

-- name: encode_under_others
-- The other models that are kept encode the study too: at once the one that answers, later those that may.
INSERT INTO job (kind, key, max_attempts, urgency)
SELECT 'reencode', m.model_id || '/' || %(study_uid)s::text, %(max_attempts)s::integer,
    CASE m.state WHEN 'SERVING' THEN %(new)s::smallint ELSE %(beside)s::smallint END
FROM kept_model AS m
WHERE m.kind = ANY(%(kinds)s::text[]) AND m.bundle_sha256 IS NOT NULL AND NOT EXISTS (
    SELECT FROM encoding AS own WHERE own.study_uid = %(study_uid)s::text AND own.model_id = m.model_id)
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
SET again = job.again OR job.state = 'RUNNING', urgency = least(job.urgency, excluded.urgency);

-- name: encode_skipped
-- Studies that no model could encode are work for one of their own now, which new studies need not wait for. The
-- newest first.
INSERT INTO job (kind, key, max_attempts, urgency)
SELECT 'encode', s.study_uid, %(max_attempts)s::integer, %(urgency)s::smallint FROM study AS s
WHERE s.state = 'SKIPPED' AND s.reason_code = 'NO_MODEL'
ORDER BY s.received_at DESC
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
SET again = job.again OR job.state = 'RUNNING', urgency = least(job.urgency, excluded.urgency);

-- name: encode_kind
-- Studies that were encoded from images of another kind while no model encoded this one.
INSERT INTO job (kind, key, max_attempts, urgency)
SELECT 'reencode', %(model_id)s || '/' || s.study_uid, %(max_attempts)s::integer, %(urgency)s::smallint FROM study AS s
WHERE s.state IN ('ENCODED', 'INDEXED') AND s.modalities && %(modalities)s::text[] AND NOT EXISTS (
    SELECT FROM encoding AS e JOIN model AS m USING (model_id) WHERE e.study_uid = s.study_uid AND m.kind = %(kind)s)
ORDER BY s.received_at DESC
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO NOTHING;

-- name: model
-- A model by its id.
SELECT model_id, kind, dim, manifest, state, bundle_sha256, kept_until, coverage FROM model WHERE model_id = %(model_id)s;

-- name: models
-- All models; those that are kept alone, where asked.
SELECT model_id, kind, dim, manifest, state, bundle_sha256, kept_until, coverage FROM model
WHERE NOT %(kept)s::boolean OR model_id IN (SELECT k.model_id FROM kept_model AS k)
ORDER BY kind DESC, CASE state WHEN 'SERVING' THEN 0 WHEN 'SHADOW' THEN 1 WHEN 'RETIRED' THEN 2 ELSE 3 END, added_at DESC;

-- name: serving_model
-- The model that answers for a kind.
SELECT model_id, kind, dim, manifest, state, bundle_sha256, kept_until, coverage FROM model
WHERE kind = %(kind)s AND state = 'SERVING';

-- name: models_to_prune
-- Models whose time for a rollback is over, with something left of them. In an index's order: the planner would read
-- the whole table to find that there is nothing.
SELECT model_id, kind FROM model AS m WHERE state = 'RETIRED' AND kept_until <= now() AND (bundle_sha256 IS NOT NULL
    OR (SELECT e.id FROM encoding AS e WHERE e.model_id = m.model_id ORDER BY e.xid LIMIT 1) IS NOT NULL
    OR EXISTS (SELECT FROM partition AS p WHERE p.model_id = m.model_id)
    OR (SELECT t.study_uid FROM image_tokens AS t WHERE t.encoder = unused_encoder(m) ORDER BY t.study_uid LIMIT 1)
        IS NOT NULL);

-- name: model_may_go
-- Whether a model's time for a rollback is still over.
SELECT FROM model WHERE model_id = %(model_id)s AND state = 'RETIRED' AND kept_until <= now();

-- name: prune_encodings
-- Some encodings of a model that has no bundle any more and is not kept. In an index's order: each call would otherwise
-- read all that other models have, and all that the calls before it deleted.
DELETE FROM encoding WHERE id = ANY(ARRAY(
    SELECT e.id FROM encoding AS e WHERE e.model_id = (SELECT m.model_id FROM model AS m
        WHERE m.model_id = %(model_id)s AND m.state = 'RETIRED' AND m.bundle_sha256 IS NULL)
    ORDER BY e.xid LIMIT %(limit)s));

-- name: prune_tokens
-- Some image tokens that no model answers from any more, as prune_encodings.
DELETE FROM image_tokens WHERE (encoder, study_uid) IN (
    SELECT t.encoder, t.study_uid FROM image_tokens AS t WHERE t.encoder = (
        SELECT unused_encoder(m) FROM model AS m WHERE m.model_id = %(model_id)s AND m.bundle_sha256 IS NULL)
    ORDER BY t.study_uid LIMIT %(limit)s);

-- name: prune_model_generations
-- The builds of a model that is not kept; what an outside engine has of it is cleared later (`to_clear`).
WITH outside AS (
    UPDATE generation SET state = 'RETIRED' WHERE model_id = %(model_id)s AND engine <> 'local' AND state <> 'RETIRED')
DELETE FROM generation WHERE model_id = %(model_id)s AND engine = 'local';

-- name: prune_partitions
-- The partitions of a model that is not kept.
DELETE FROM partition WHERE model_id = %(model_id)s;

-- name: add_shadow_answer
-- How the model in shadow answered a question.
INSERT INTO shadow_answer (region, serving, shadow, compared, shared, serving_agreement, shadow_agreement, serving_ms,
    shadow_ms)
VALUES (%(region)s, %(serving)s, %(shadow)s, %(compared)s, %(shared)s, %(serving_agreement)s::real,
    %(shadow_agreement)s::real, %(serving_ms)s, %(shadow_ms)s);

-- name: shadow_answers
-- The last questions that a model answered in shadow beside the one that serves, newest first.
SELECT at, region, serving, shadow, compared, shared, serving_agreement, shadow_agreement, serving_ms, shadow_ms
FROM shadow_answer WHERE shadow = %(shadow)s ORDER BY id DESC LIMIT %(limit)s;

-- name: prune_shadow_answers
-- Answers that nobody will compare any more.
DELETE FROM shadow_answer
WHERE at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8);

-- name: drop_encodings
-- Encodings of a study, and image tokens, that no longer hold: of kinds of image that it has no more, of another revision, and those that
-- newer ones replace. What other models made of the same images stays.
WITH tokens AS (
    DELETE FROM image_tokens AS t
    WHERE t.study_uid = %(study_uid)s AND (t.kind <> ALL(%(kinds)s::text[]) OR t.revision <> %(revision)s::integer)
)
DELETE FROM encoding AS e USING model AS m
WHERE e.study_uid = %(study_uid)s AND m.model_id = e.model_id AND (m.kind <> ALL(%(kinds)s::text[])
    OR e.model_id = ANY(%(model_ids)s::text[]) OR e.revision <> %(revision)s::integer);

-- name: drop_encoding
-- A study's encoding under one model; a newer one replaces it.
DELETE FROM encoding WHERE study_uid = %(study_uid)s AND model_id = %(model_id)s;

-- name: add_encoding
-- The region vectors of a study under one model.
INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors, warnings, slices, chest,
    scanner)
VALUES (%(study_uid)s, %(series_uid)s, %(sop_uid)s, %(model_id)s, %(revision)s, %(regions)s, %(vectors)s,
    %(warnings)s, %(slices)s::text[], %(chest)s::real[], (
        SELECT nullif(concat_ws(E'\\', i.attributes #>> '{00080070,Value,0}', i.attributes #>> '{00081090,Value,0}'), '')
        FROM instance AS i WHERE i.sop_uid = %(sop_uid)s))
RETURNING id;

-- name: note_partitions
-- The partitions that an encoding belongs to.
INSERT INTO partition (model_id, region) SELECT %(model_id)s, unnest(%(regions)s::text[]) ON CONFLICT DO NOTHING;

-- name: encoding_of
-- The encoding of a study under a model.
SELECT study_uid, series_uid, sop_uid, model_id, regions, vectors, warnings, slices, chest FROM encoding
WHERE study_uid = %(study_uid)s AND model_id = %(model_id)s;

-- name: slices_of_series
-- The slices of a CT series as they were last encoded.
SELECT slices, chest FROM encoding
WHERE study_uid = %(study_uid)s AND series_uid = %(series_uid)s AND slices IS NOT NULL ORDER BY id DESC LIMIT 1;

-- name: encodings_of_study
-- Under which of the models that answer a study is encoded.
SELECT e.model_id, m.kind FROM encoding AS e JOIN model AS m USING (model_id)
WHERE e.study_uid = %(study_uid)s AND m.state = 'SERVING' ORDER BY e.model_id;

-- name: encoding_owners
-- The studies behind index labels and, when asked, what their mined reports say, oldest first. A label that is gone has no row, nor
-- has one of a named study or, when asked, of the query's patient: it may have come since the question was asked.
-- The same statement records who asked and is shown them, without waiting for the disk, unless the caller is NULL.
WITH found AS MATERIALIZED (
    SELECT e.id AS encoding_id, e.series_uid, e.sop_uid, e.slices, e.chest, s.*,
        (SELECT count(*) FROM series WHERE series.study_uid = s.study_uid) AS series_count,
        (SELECT count(*) FROM instance WHERE instance.study_uid = s.study_uid) AS instance_count,
        CASE WHEN %(explained)s::boolean THEN
            (SELECT jsonb_agg(f.findings ORDER BY CASE WHEN f.received_at > now() THEN '-infinity' ELSE f.received_at END, f.id)::text
            FROM report AS f WHERE f.study_uid = s.study_uid AND NOT f.superseded AND f.findings IS NOT NULL) END AS said
    FROM encoding AS e JOIN study AS s USING (study_uid)
    WHERE e.id = ANY(%(ids)s::bigint[]) AND s.study_uid <> ALL(%(study_uids)s::text[]) AND NOT coalesce(%(same_patient)s::boolean
        AND s.patient_keys && (SELECT q.patient_keys FROM study AS q WHERE q.study_uid = %(query_study_uid)s), FALSE)
), quick AS (
    SELECT set_config('synchronous_commit', 'off', true) WHERE %(caller)s::text IS NOT NULL
), noted AS (
    INSERT INTO audit_event (event, caller, role, address, study_uid, patient_keys, detail)
    SELECT n.event, %(caller)s, %(role)s, %(address)s, n.study_uid, n.patient_keys, %(detail)s::text::jsonb || n.more
    FROM quick CROSS JOIN LATERAL (
        SELECT 'ASKED' AS event, q.study_uid, q.patient_keys,
            jsonb_build_object('cases', (SELECT count(*) FROM found)) AS more
        FROM study AS q WHERE q.study_uid = %(query_study_uid)s
        UNION ALL
        SELECT 'CASE_SHOWN', f.study_uid, f.patient_keys, jsonb_build_object('like', %(query_study_uid)s::text) FROM found AS f
    ) AS n
)
SELECT * FROM found;

-- name: snapshot_xmin
-- All transactions below it have ended: what they wrote is visible to every later statement. No encoding that there is
-- has an id above ``newest``.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin, (SELECT last_value FROM encoding_id_seq) AS newest,
    (SELECT xid::text FROM feed_horizon) AS horizon;

-- name: vectors_in_range
-- Ids and vectors of one region, of a model's encodings between two ids, in the same order.
SELECT string_agg(int8send(e.id), '') AS ids, string_agg(
    substring(e.vectors FROM (array_position(e.regions, %(region)s::text) - 1) * %(size)s + 1 FOR %(size)s), '') AS vectors
FROM encoding AS e
WHERE e.model_id = %(model_id)s AND %(region)s::text = ANY(e.regions) AND e.id >= %(first)s AND e.id < %(end)s
    AND e.xid >= %(since)s::text::xid8;

-- name: encodings_since
-- Vectors of one region committed at or after a snapshot; some may have been read before, which does no harm.
SELECT e.id, substring(e.vectors FROM (array_position(e.regions, %(region)s) - 1) * m.dim * 4 + 1 FOR m.dim * 4)
    AS vector
FROM encoding AS e JOIN model AS m USING (model_id)
WHERE e.model_id = %(model_id)s AND e.xid >= %(since)s::text::xid8 AND %(region)s = ANY(e.regions)
ORDER BY e.id LIMIT %(most)s;

-- name: encodings_gone_since
-- Encodings deleted or replaced at or after a snapshot.
SELECT encoding_id AS id FROM encoding_gone
WHERE model_id = %(model_id)s AND xid >= %(since)s::text::xid8 ORDER BY encoding_id;

-- name: encoding_bounds
-- Between which ids the encodings of a model lie that were committed at or after a snapshot.
SELECT min(id) AS first, max(id) AS last FROM encoding
WHERE model_id = %(model_id)s AND xid >= %(since)s::text::xid8;

-- name: cases_in_range
-- What filters look at, of a model's encodings between two ids, packed as `radir_pacs.catalogue.cases` reads it; texts
-- as hashes, whose meaning is looked up by `case_words`.
SELECT string_agg(
    int8send(e.id) || int4send(coalesce(s.study_date - DATE '1970-01-01', -2147483648))
    || float4send(coalesce(s.patient_age_years, 'NaN')::real)
    || CASE WHEN s.has_report THEN '\x01'::bytea ELSE '\x00'::bytea END || int2send(s.withheld)
    || int8send(coalesce(hashtextextended(s.patient_sex, 0), 0))
    || int8send(hashtextextended(array_to_string(s.modalities, E'\\'), 0))
    || int8send(coalesce(hashtextextended(s.body_part, 0), 0))
    || int8send(coalesce(hashtextextended(e.scanner, 0), 0))
    || int8send(hashtextextended(array_to_string(s.sites, E'\\'), 0))
    || int8send(hashtextextended(array_to_string(s.departments, E'\\'), 0)), '') AS cases
FROM encoding AS e JOIN study AS s USING (study_uid)
WHERE e.model_id = %(model_id)s AND e.id >= %(first)s AND e.id < %(end)s;

-- name: cases_since
-- The same of encodings that were added, or whose study changed, at or after a snapshot.
SELECT e.id, coalesce(s.study_date - DATE '1970-01-01', -2147483648) AS day,
    coalesce(s.patient_age_years, 'NaN')::real AS age, s.has_report, s.withheld,
    coalesce(hashtextextended(s.patient_sex, 0), 0) AS sex,
    hashtextextended(array_to_string(s.modalities, E'\\'), 0) AS modalities,
    coalesce(hashtextextended(s.body_part, 0), 0) AS body_part, coalesce(hashtextextended(e.scanner, 0), 0) AS scanner,
    hashtextextended(array_to_string(s.sites, E'\\'), 0) AS sites,
    hashtextextended(array_to_string(s.departments, E'\\'), 0) AS departments
FROM encoding AS e JOIN study AS s USING (study_uid)
WHERE e.id IN (
    SELECT id FROM encoding WHERE model_id = %(model_id)s AND xid >= %(since)s::text::xid8
    UNION ALL
    SELECT o.id FROM study_changed AS c JOIN encoding AS o USING (study_uid)
    WHERE o.model_id = %(model_id)s AND c.xid >= %(since)s::text::xid8)
LIMIT %(most)s;

-- name: case_words
-- The texts behind the hashes of some encodings.
SELECT name, hashtextextended(word, 0) AS hash, word
FROM encoding AS e JOIN study AS s USING (study_uid) CROSS JOIN LATERAL (VALUES ('sex', s.patient_sex),
    ('modalities', array_to_string(s.modalities, E'\\')), ('body_part', s.body_part), ('scanner', e.scanner),
    ('sites', array_to_string(s.sites, E'\\')), ('departments', array_to_string(s.departments, E'\\'))
) AS words (name, word)
WHERE e.id = ANY(%(ids)s::bigint[]) AND word IS NOT NULL;

-- name: affirming_encodings
-- Encodings of a model whose study's report says something: "said" is a path that exists in its mined findings. Their ids
-- in one value, unsorted.
SELECT string_agg(int8send(e.id), '') AS ids FROM encoding AS e
WHERE e.model_id = %(model_id)s AND e.study_uid IN (
    SELECT r.study_uid FROM report AS r WHERE NOT r.superseded AND r.findings @? %(said)s::text::jsonpath);

-- name: affirming_among
-- The same, among some encodings.
SELECT e.id FROM encoding AS e
WHERE e.id = ANY(%(ids)s::bigint[]) AND EXISTS (
    SELECT FROM report AS r
    WHERE r.study_uid = e.study_uid AND NOT r.superseded AND r.findings @? %(said)s::text::jsonpath);

-- name: encodings_of_studies
-- Encodings of a model of some studies.
SELECT id FROM encoding WHERE model_id = %(model_id)s AND study_uid = ANY(%(study_uids)s::text[]);

-- name: question
-- What a similar-case query asks first, all of one snapshot: its study, what mined reports say of it, the encodings under
-- the models that answer now, or under a named one (a row each), and what never answers: the encodings of named studies, of the query study
-- and, when asked, of the query's patient. Then the builds that answer for some partitions, and whether anything was
-- committed at or after some snapshots. Arrays, since the planner believes that a patient has a hundredth of all
-- studies; the newest xid, since it would read all encodings for one above a bound.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin, (SELECT last_value FROM encoding_id_seq) AS newest,
    (SELECT xid::text FROM feed_horizon) AS horizon,
    ARRAY(SELECT x.id FROM encoding AS x WHERE x.study_uid = ANY(%(study_uids)s::text[] || ARRAY(
        SELECT o.study_uid FROM unnest(s.patient_keys) AS k (key) JOIN study AS o ON o.patient_keys @> ARRAY[k.key]
        WHERE %(same_patient)s::boolean)) ORDER BY x.id) AS excluded,
    ARRAY(SELECT g.name FROM unnest(%(models)s::text[], %(regions)s::text[]) WITH ORDINALITY AS p (model_id, region, i)
        LEFT JOIN generation AS g ON (g.model_id, g.region, g.state) = (p.model_id, p.region, 'PUBLISHED')
        ORDER BY p.i) AS published,
    (SELECT coalesce(bool_or(
            (SELECT n.xid FROM encoding AS n WHERE n.model_id = r.model_id ORDER BY n.xid DESC LIMIT 1) >= r.since::xid8
            OR (SELECT n.xid FROM encoding_gone AS n WHERE n.model_id = r.model_id ORDER BY n.xid DESC LIMIT 1)
                >= r.since::xid8), FALSE)
        FROM unnest(%(read_models)s::text[], %(since)s::text[]) AS r (model_id, since))
        OR coalesce((SELECT n.xid FROM study_changed AS n ORDER BY n.xid DESC LIMIT 1)
            >= %(changed_since)s::text::xid8, FALSE) AS has_news,
    (SELECT jsonb_agg(f.findings ORDER BY CASE WHEN f.received_at > now() THEN '-infinity' ELSE f.received_at END, f.id)::text
        FROM report AS f WHERE f.study_uid = s.study_uid AND NOT f.superseded AND f.findings IS NOT NULL) AS said,
    s.*, (SELECT count(*) FROM series WHERE series.study_uid = s.study_uid) AS series_count,
    (SELECT count(*) FROM instance WHERE instance.study_uid = s.study_uid) AS instance_count,
    e.id AS label, e.series_uid, e.sop_uid, e.model_id, e.regions, e.vectors, e.warnings, e.slices, e.chest, e.kind,
    e.intended_use, e.coverage
FROM study AS s LEFT JOIN LATERAL (
    SELECT a.*, m.kind, m.manifest #>> '{training,intended_use}' AS intended_use, m.coverage
    FROM encoding AS a JOIN model AS m USING (model_id) WHERE a.study_uid = s.study_uid
        AND CASE WHEN %(under)s::text IS NULL THEN m.state = 'SERVING' ELSE m.model_id = %(under)s::text END) AS e ON TRUE
WHERE s.study_uid = %(study_uid)s;

-- name: published_generations
-- The builds that answer for some partitions.
SELECT g.model_id, g.region, g.name, g.count, g.as_of::text AS as_of, g.manifest, g.published_at, g.engine
FROM generation AS g JOIN unnest(%(models)s::text[], %(regions)s::text[]) AS p (model_id, region)
    USING (model_id, region)
WHERE g.state = 'PUBLISHED';

-- == Generations ==

-- name: retire_generation
-- A newer generation, or nothing, answers for the partition; or nobody goes on with a named one that is on its way.
UPDATE generation SET state = %(state)s, reason = %(reason)s
WHERE model_id = %(model_id)s AND region = %(region)s
    AND (state = 'PUBLISHED' AND %(name)s::text IS NULL OR state IN ('PUBLISHED', 'FILLING') AND name = %(name)s::text)
RETURNING name;

-- name: record_generation
-- A verified build answers for its partition from here on, or is on its way to (FILLING).
INSERT INTO generation (model_id, region, name, count, as_of, manifest, state, engine)
VALUES (%(model_id)s, %(region)s, %(name)s, %(count)s, %(as_of)s::text::xid8, %(manifest)s, %(state)s, %(engine)s);

-- name: published_generation
-- The build that answers for a partition.
SELECT model_id, region, name, count, as_of::text AS as_of, manifest, published_at, engine FROM generation
WHERE model_id = %(model_id)s AND region = %(region)s AND state = 'PUBLISHED';

-- name: filling_generation
-- What an engine has so far of a partition that another one still answers for.
SELECT model_id, region, name, count, as_of::text AS as_of, manifest, published_at, engine FROM generation
WHERE model_id = %(model_id)s AND region = %(region)s AND state = 'FILLING' AND engine = %(engine)s;

-- name: stop_filling
-- Nobody goes on with what is on its way; an outside engine still has it.
UPDATE generation SET state = 'RETIRED', published_at = now()
WHERE state = 'FILLING' AND (%(model_id)s::text IS NULL OR (model_id, region) = (%(model_id)s::text, %(region)s::text));

-- name: newest_number
-- The highest number that a build of a partition had: names are numbers first.
SELECT coalesce(max(split_part(name, '-', 1)::bigint), 0) AS number FROM generation
WHERE model_id = %(model_id)s AND region = %(region)s;

-- name: index_engine
-- Where the index was moved to, or began; null: nobody asked yet.
SELECT index_engine FROM installation;

-- name: begin_with_engine
-- The engine of a new installation, or of one from before there were several.
UPDATE installation SET index_engine = %(engine)s WHERE index_engine IS NULL;

-- name: choose_engine
-- The engine that every build goes to from now on.
UPDATE installation SET index_engine = %(engine)s;

-- name: to_move
-- Partitions of kept models that another engine answers for: how many vectors each has, and how many are on their way.
SELECT g.model_id, g.region, g.engine, g.count, coalesce(f.count, 0) AS filled
FROM generation AS g JOIN kept_model AS m USING (model_id)
LEFT JOIN generation AS f ON (f.model_id, f.region, f.state, f.engine) = (g.model_id, g.region, 'FILLING', %(engine)s)
WHERE g.state = 'PUBLISHED' AND g.engine <> %(engine)s ORDER BY 1, 2;

-- name: to_clear
-- Places where an outside engine has what no process asks for any more: another build has answered for a while, or the
-- model is kept no more. Not what builds go to now, and not while a job works on the partition: it may be filling it.
WITH held AS (
    SELECT g.model_id, g.region, g.engine, max(g.published_at) AS at FROM generation AS g
    WHERE g.engine <> 'local' GROUP BY 1, 2, 3
    HAVING bool_and(g.state IN ('RETIRED', 'REFUSED') OR g.model_id NOT IN (SELECT k.model_id FROM kept_model AS k))
), ended AS (
    SELECT h.*, coalesce((SELECT min(n.published_at) FROM generation AS n
        WHERE (n.model_id, n.region) = (h.model_id, h.region) AND n.published_at > h.at), h.at) AS since
    FROM held AS h
)
SELECT e.model_id, e.region, e.engine FROM ended AS e
WHERE e.since NOT BETWEEN now() - make_interval(secs => %(after_s)s::float8) AND now() + make_interval(secs => %(after_s)s::float8)
    AND (e.engine IS DISTINCT FROM (SELECT i.index_engine FROM installation AS i)
        OR e.model_id NOT IN (SELECT k.model_id FROM kept_model AS k))
    AND NOT EXISTS (SELECT FROM job AS j
        WHERE j.kind = 'index' AND j.key = e.model_id || '/' || e.region AND j.state = 'RUNNING')
ORDER BY 1, 2, 3;

-- name: held_outside
-- Where an outside engine may have vectors.
SELECT DISTINCT model_id, region, engine FROM generation WHERE engine <> 'local' ORDER BY 1, 2, 3;

-- name: cleared
-- An engine has nothing of a place any more; what it was given since stays recorded.
DELETE FROM generation WHERE model_id = %(model_id)s AND region = %(region)s AND engine = %(engine)s
    AND (state IN ('RETIRED', 'REFUSED') OR model_id NOT IN (SELECT k.model_id FROM kept_model AS k));

-- name: labels_in_range
-- Ids of the encodings of a model with a region that were committed before a snapshot, between two ids.
SELECT string_agg(int8send(e.id), '') AS ids FROM encoding AS e
WHERE e.model_id = %(model_id)s AND %(region)s::text = ANY(e.regions) AND e.id >= %(first)s AND e.id < %(end)s
    AND e.xid >= %(since)s::text::xid8 AND e.xid < %(until)s::text::xid8;

-- name: vectors_of
-- Ids and vectors of one region, of some encodings, packed in the same order; those that are gone are missing.
SELECT string_agg(int8send(e.id), '') AS ids, string_agg(
    substring(e.vectors FROM (array_position(e.regions, %(region)s) - 1) * m.dim * 4 + 1 FOR m.dim * 4), '') AS vectors
FROM encoding AS e JOIN model AS m USING (model_id)
WHERE e.id = ANY(%(ids)s::bigint[]) AND e.model_id = %(model_id)s AND %(region)s = ANY(e.regions);

-- name: served_partitions
-- Each partition of the models that are kept, with the generation that answers for it.
SELECT p.model_id, p.region, g.name AS published, coalesce(g.count, 0) AS count,
    coalesce(g.as_of, '0'::xid8)::text AS as_of, g.manifest->'segments' AS segments,
    coalesce(g.engine, 'local') AS engine
FROM partition AS p JOIN kept_model AS m USING (model_id)
LEFT JOIN generation AS g ON g.model_id = p.model_id AND g.region = p.region AND g.state = 'PUBLISHED'
ORDER BY p.model_id, p.region;

-- name: count_tail
-- Vectors of a region, and encodings of its model that are gone, between two snapshots.
SELECT
    (SELECT count(*) FROM encoding WHERE model_id = %(model_id)s AND %(region)s = ANY(regions)
        AND xid >= %(since)s::text::xid8 AND xid < %(until)s::text::xid8) AS n_tail,
    (SELECT count(*) FROM encoding_gone WHERE model_id = %(model_id)s
        AND xid >= %(since)s::text::xid8 AND xid < %(until)s::text::xid8) AS n_gone;

-- name: count_tails
-- Vectors of each region of a model between two snapshots.
SELECT region, count(*) AS n FROM encoding CROSS JOIN unnest(regions) AS region
WHERE model_id = %(model_id)s AND xid >= %(since)s::text::xid8 AND xid < %(until)s::text::xid8
GROUP BY region;

-- name: count_gone
-- Encodings of a model that went between two snapshots.
SELECT count(*) AS n FROM encoding_gone
WHERE model_id = %(model_id)s AND xid >= %(since)s::text::xid8 AND xid < %(until)s::text::xid8;

-- name: to_forget
-- Partitions whose files may hold a vector that was deleted longer ago than a time.
SELECT g.model_id, g.region FROM generation AS g JOIN kept_model AS m USING (model_id)
WHERE g.state = 'PUBLISHED' AND g.manifest->'segments' IS DISTINCT FROM '[]' AND (
    abs(extract(epoch FROM now() - (g.manifest->>'oldest_deletion')::timestamptz)) > %(after_s)s::float8
    OR EXISTS (SELECT FROM encoding_gone AS x WHERE x.model_id = g.model_id AND x.xid >= g.as_of
        AND abs(extract(epoch FROM now() - x.at)) > %(after_s)s::float8));

-- name: merge_bound
-- Up to which snapshot a merge takes encodings in: all, or about as many as one merge should. Encodings of one
-- transaction stay together.
WITH beyond AS (
    SELECT xid FROM encoding
    WHERE model_id = %(model_id)s AND %(region)s = ANY(regions) AND xid >= %(since)s::text::xid8
    ORDER BY xid OFFSET %(most)s LIMIT 1
), first AS (
    SELECT xid FROM encoding
    WHERE model_id = %(model_id)s AND %(region)s = ANY(regions) AND xid >= %(since)s::text::xid8
    ORDER BY xid LIMIT 1
)
SELECT least(
    pg_snapshot_xmin(pg_current_snapshot()),
    (SELECT CASE
        WHEN beyond.xid > first.xid THEN beyond.xid
        ELSE (SELECT e.xid FROM encoding AS e
            WHERE e.model_id = %(model_id)s AND e.xid > first.xid ORDER BY e.xid LIMIT 1)
    END FROM beyond, first))::text AS until;

-- name: merge_gone
-- What a merge leaves out, and when the first of it went.
SELECT encoding_id AS id, at FROM encoding_gone
WHERE model_id = %(model_id)s AND xid >= %(since)s::text::xid8 ORDER BY encoding_id;

-- name: merge_page
-- Vectors that a merge takes in, by id.
SELECT e.id, substring(e.vectors FROM (array_position(e.regions, %(region)s) - 1) * m.dim * 4 + 1 FOR m.dim * 4)
    AS vector
FROM encoding AS e JOIN model AS m USING (model_id)
WHERE e.model_id = %(model_id)s AND e.xid >= %(since)s::text::xid8 AND e.xid < %(until)s::text::xid8
    AND %(region)s = ANY(e.regions) AND e.id > %(after)s
ORDER BY e.id LIMIT %(limit)s;

-- name: encoding_waits
-- Whether somebody encodes, or will at once: a build then leaves the other cores alone.
SELECT EXISTS (SELECT FROM job WHERE kind IN ('encode', 'reencode') AND state IN ('PENDING', 'RUNNING')) AS waits;

-- name: prune_gone
-- Deletions that every generation includes and that no process is likely to have missed.
WITH pruned AS (
    DELETE FROM encoding_gone AS x
    WHERE x.at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8)
        AND NOT EXISTS (
            SELECT FROM generation AS g
            WHERE g.model_id = x.model_id AND g.state IN ('FILLING', 'PUBLISHED') AND g.as_of <= x.xid)
    RETURNING x.xid AS xid)
UPDATE feed_horizon AS h SET xid = greatest(h.xid, p.xid) FROM (SELECT xid FROM pruned ORDER BY xid DESC LIMIT 1) AS p;

-- name: prune_changed
-- Changes of studies that no process is likely to have missed.
WITH pruned AS (
    DELETE FROM study_changed
    WHERE at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8)
    RETURNING xid AS xid)
UPDATE feed_horizon AS h SET xid = greatest(h.xid, p.xid) FROM (SELECT xid FROM pruned ORDER BY xid DESC LIMIT 1) AS p;

-- name: prune_generations
-- Generations that answer no more; the last of an outside engine goes when the engine was cleared (`cleared`).
DELETE FROM generation AS g WHERE g.state IN ('RETIRED', 'REFUSED')
    AND (g.engine = 'local' OR EXISTS (SELECT FROM generation AS n
        WHERE (n.model_id, n.region, n.engine) = (g.model_id, g.region, g.engine) AND n.published_at > g.published_at))
    AND published_at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8);

-- == Reports ==

-- name: add_report
-- A report; the same text for the same study, or the same SR, is one row.
INSERT INTO report (study_uid, sop_uid, source, body, content_sha256, predecessors, draft)
VALUES (%(study_uid)s, %(sop_uid)s, %(source)s, %(body)s, %(content_sha256)s, %(predecessors)s, %(draft)s)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: renew_report
-- An SR that was read again: its new content.
UPDATE report AS r SET body = %(body)s, content_sha256 = %(content_sha256)s, predecessors = %(predecessors)s,
    draft = %(draft)s
WHERE r.sop_uid = %(sop_uid)s AND r.study_uid = %(study_uid)s
    AND (r.content_sha256, r.predecessors, r.draft) IS DISTINCT FROM (
        %(content_sha256)s, %(predecessors)s::text[], %(draft)s::boolean)
    AND NOT EXISTS (SELECT FROM report AS o WHERE o.study_uid = r.study_uid AND o.id <> r.id
        AND o.content_sha256 = %(content_sha256)s);

-- name: say_again
-- A document that replaces others has the text of an earlier one, whose row becomes its own.
UPDATE report SET sop_uid = %(sop_uid)s, predecessors = %(predecessors)s, draft = %(draft)s, received_at = now()
WHERE study_uid = %(study_uid)s AND content_sha256 = %(content_sha256)s AND sop_uid <> %(sop_uid)s
    AND NOT EXISTS (SELECT FROM report WHERE sop_uid = %(sop_uid)s);

-- name: settle_reports
-- Which reports of a study are replaced by another: as its predecessor, or as a draft of a complete one.
UPDATE report AS r SET superseded = NOT r.superseded
WHERE r.study_uid = %(study_uid)s AND r.superseded IS DISTINCT FROM (
    EXISTS (SELECT FROM report AS n WHERE n.study_uid = r.study_uid AND r.sop_uid = ANY(n.predecessors)
        AND NOT n.sop_uid = ANY(r.predecessors))
    OR (r.draft AND EXISTS (SELECT FROM report AS n WHERE n.study_uid = r.study_uid AND n.source = r.source
        AND NOT n.draft)));

-- name: report_id
-- The report that is there already.
SELECT id, findings IS NULL AS unmined FROM report
WHERE (study_uid = %(study_uid)s AND content_sha256 = %(content_sha256)s) OR sop_uid = %(sop_uid)s
ORDER BY id LIMIT 1;

-- name: studies_of_accession
-- The studies of an accession number; a second row shows that it is ambiguous.
SELECT study_uid FROM study_search WHERE accession_number = %(accession_number)s ORDER BY study_uid LIMIT 2;

-- name: note_report
-- Whether the study has a report now.
UPDATE study AS s SET has_report = NOT s.has_report, changed_at = now()
WHERE s.study_uid = %(study_uid)s AND s.has_report IS DISTINCT FROM EXISTS (
    SELECT FROM report AS r WHERE r.study_uid = s.study_uid AND NOT r.superseded);

-- name: save_findings
-- What mining read from a report.
UPDATE report SET findings = %(findings)s, mined = %(findings)s, parser = %(parser)s, adds = %(adds)s,
    unread_language = %(unread_language)s
WHERE id = %(report_id)s;

-- name: lock_study_of_report
-- The study of a report, locked: what mining reads from its reports is settled by one job at a time.
SELECT study_uid FROM study WHERE study_uid = (SELECT r.study_uid FROM report AS r WHERE r.id = %(report_id)s)
FOR UPDATE;

-- name: mined_reports
-- What mining read from the valid reports of the same study, oldest first.
SELECT id, mined, adds, findings FROM report
WHERE study_uid = (SELECT r.study_uid FROM report AS r WHERE r.id = %(report_id)s) AND NOT superseded
    AND mined IS NOT NULL
ORDER BY CASE WHEN received_at > now() THEN '-infinity' ELSE received_at END, id;

-- name: settle_findings
-- What holds of a report beside the study's others.
UPDATE report SET findings = %(findings)s WHERE id = %(report_id)s;

-- name: report
-- One report.
SELECT id, study_uid, sop_uid, source, body, findings, parser, unread_language, received_at FROM report WHERE id = %(report_id)s;

-- name: reported_studies
-- Complete studies that are not skipped, quarantined or withheld, each with its newest report; one page, after a given UID.
SELECT s.study_uid, s.patient_key, s.modalities, newest.body
FROM study AS s CROSS JOIN LATERAL (
    SELECT r.body FROM report AS r WHERE r.study_uid = s.study_uid AND NOT r.superseded 
        ORDER BY CASE WHEN r.received_at > now() THEN '-infinity' ELSE r.received_at END DESC, r.id DESC LIMIT 1
) AS newest
WHERE s.has_report AND s.withheld = 0 AND s.state IN ('STABLE', 'ENCODED', 'INDEXED') AND s.study_uid > %(after)s
ORDER BY s.study_uid LIMIT %(limit)s;

-- name: reports_of
-- The valid reports of a study, oldest first.
SELECT id, study_uid, sop_uid, source, body, findings, parser, unread_language, received_at FROM report
WHERE study_uid = %(study_uid)s AND NOT superseded
ORDER BY CASE WHEN received_at > now() THEN '-infinity' ELSE received_at END, id;

-- name: count_unread_reports
-- Reports without findings because of their language.
SELECT unread_language AS language, count(*) AS n FROM report
WHERE unread_language IS NOT NULL AND NOT superseded GROUP BY unread_language ORDER BY n DESC, language;

-- name: reports_of_other_parsers
-- Keys of jobs for reports that another version of the parser mined; a limited number, and none that failed. The names of all
-- versions begin with the first language that they read.
SELECT key FROM (
    SELECT r.id, CASE WHEN EXISTS (SELECT FROM instance AS i WHERE i.sop_uid = r.sop_uid) THEN r.sop_uid
        ELSE %(prefix)s || r.id END AS key
    FROM report AS r WHERE r.parser LIKE 'en%%' AND r.parser <> %(parser)s) AS old
WHERE NOT EXISTS (SELECT FROM job WHERE job.kind = 'report' AND job.key = old.key AND job.state = 'FAILED')
ORDER BY id LIMIT %(limit)s;

-- name: report_waits
-- Whether a report is being mined, or will be.
SELECT EXISTS (SELECT FROM job WHERE kind = 'report' AND state IN ('PENDING', 'RUNNING')) AS waits;

-- == Versions of reports, and those that wait ==

-- name: add_version
-- A version as it came.
INSERT INTO report_version (source, sender, document, status, version_at, sent_at, body, content_sha256, replaces,
    named_study_uid, numbers, patient_keys)
VALUES (%(source)s, %(sender)s, %(document)s, %(status)s, %(version_at)s, %(sent_at)s, %(body)s, %(content_sha256)s,
    %(replaces)s::text[], %(named_study_uid)s, %(numbers)s::text[], %(patient_keys)s::text[])
RETURNING id;

-- name: newest_version
-- The version of the same document, or of the study's one report of this source, that would count last; of those that
-- wait only one that names its study in the same way.
SELECT status, content_sha256, version_at FROM report_version
WHERE source = %(source)s AND sender = %(sender)s AND document = %(document)s
    AND (document <> '' OR (study_uid IS NOT NULL AND study_uid = %(study_uid)s::text) OR (study_uid IS NULL
        AND (named_study_uid, numbers) IS NOT DISTINCT FROM (%(named_study_uid)s::text, %(numbers)s::text[])))
ORDER BY version_at DESC, sent_at DESC, id DESC LIMIT 1;

-- name: other_parts
-- What names the study of each part of a document, where it holds at this time and is not among those named.
SELECT sender, named_study_uid, numbers, patient_keys FROM (
    SELECT DISTINCT ON (sender) * FROM report_version
    WHERE document = %(document)s AND source = %(source)s AND split_part(sender, E'\x1f', 1) = %(whole)s
        AND sender <> ALL(%(named)s::text[])
    ORDER BY sender, version_at DESC, sent_at DESC, id DESC
) AS newest
WHERE status NOT IN ('CANCELLED', 'IN_ERROR') AND (version_at, sent_at) <= (%(version_at)s, %(sent_at)s);

-- name: lock_document
-- Versions of one document come one after another: each sees which parts the others have.
SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(E'\x1e', %(source)s::text, %(whole)s::text, %(document)s::text), 0));

-- name: newer_without_part
-- When the newest complete version of a document was made, where it is newer than this one and has no such part.
SELECT version_at, sent_at FROM report_version AS other
WHERE document = %(document)s AND source = %(source)s AND split_part(sender, E'\x1f', 1) = %(whole)s
    AND status IN ('FINAL', 'AMENDED') AND (version_at, sent_at) > (%(version_at)s, %(sent_at)s)
    AND NOT EXISTS (SELECT FROM report_version AS own WHERE own.document = other.document
        AND own.source = other.source AND own.sender = %(sender)s
        AND (own.version_at, own.sent_at) >= (other.version_at, other.sent_at))
ORDER BY version_at DESC, sent_at DESC LIMIT 1;

-- name: versions_of
-- All versions of a study's reports.
SELECT id, source, sender, document, status, version_at, sent_at, content_sha256, replaces FROM report_version
WHERE study_uid = %(study_uid)s;

-- name: join_version
-- A version, and those of the same document that wait, belong to this study; without a document, those that name the
-- study in the same way.
UPDATE report_version SET study_uid = %(joined)s, wanted = FALSE
WHERE study_uid IS NULL AND source = %(source)s AND sender = %(sender)s AND document = %(document)s
    AND (document <> '' OR (named_study_uid, numbers) IS NOT DISTINCT FROM (
        %(named_study_uid)s::text, %(numbers)s::text[]));

-- name: study_of_document
-- The study of the other versions of a document.
SELECT study_uid FROM report_version
WHERE document = %(document)s AND document <> '' AND source = %(source)s AND sender = %(sender)s
    AND study_uid IS NOT NULL LIMIT 1;

-- name: study_named
-- The study that a report names by its UID.
SELECT study_uid FROM study WHERE study_uid = %(named_study_uid)s::text;

-- name: studies_of_numbers
-- The studies of the first number that has any: by accession number or by their order, and of the same patient by any
-- id of either, where the report names one. Ids are the same where their issuers are, or one has none.
WITH called AS (
    SELECT * FROM unnest(%(numbers)s::text[]) WITH ORDINALITY AS n (number, place)
), named AS (
    SELECT t.study_uid, c.place FROM called AS c JOIN study_search AS t ON t.accession_number = c.number
    UNION ALL
    SELECT o.study_uid, c.place FROM called AS c JOIN order_link AS o ON o.number = c.number
), found AS (
    SELECT s.study_uid, min(n.place) AS place FROM named AS n JOIN study AS s USING (study_uid)
    WHERE cardinality(%(patient_keys)s::text[]) = 0 OR EXISTS (
        SELECT FROM unnest(s.patient_keys) AS a (key), unnest(keys_of_patient(%(patient_keys)s::text[])) AS b (key)
        WHERE split_part(a.key, '\', 2) = split_part(b.key, '\', 2)
            AND (split_part(a.key, '\', 1) = split_part(b.key, '\', 1) OR a.key LIKE '\\%%' OR b.key LIKE '\\%%'))
    GROUP BY s.study_uid
)
SELECT study_uid FROM found WHERE place = (SELECT min(place) FROM found) ORDER BY study_uid LIMIT 2;

-- name: drop_texts
-- Texts that no longer hold.
DELETE FROM report WHERE study_uid = %(study_uid)s AND content_sha256 = ANY(%(hashes)s::text[]) RETURNING adds;

-- name: report_of_version
-- The text of a version that holds; no row where the study has this text already.
INSERT INTO report (study_uid, source, body, content_sha256)
SELECT study_uid, source, body, content_sha256 FROM report_version WHERE id = %(id)s
ON CONFLICT DO NOTHING
RETURNING id, TRUE AS unmined;

-- name: report_of_text
-- The report that has the text of a version.
SELECT r.id, r.findings IS NULL AS unmined FROM report AS r JOIN report_version AS v
    ON r.study_uid = v.study_uid AND r.content_sha256 = v.content_sha256
WHERE v.id = %(id)s;

-- name: any_report
-- A report of the study that holds and was mined.
SELECT id FROM report WHERE study_uid = %(study_uid)s AND NOT superseded AND findings IS NOT NULL ORDER BY id LIMIT 1;

-- name: wanted_reports
-- Reports that wait and whose study may have come; one for each document.
SELECT id FROM report_version WHERE wanted ORDER BY id LIMIT %(limit)s;

-- name: waiting_report
-- A report that waits.
SELECT * FROM report_version WHERE id = %(id)s AND study_uid IS NULL;

-- name: not_wanted
-- The study was not its own.
UPDATE report_version SET wanted = FALSE WHERE id = %(id)s;

-- name: want_late_reports
-- Reports of the last minutes whose study is here: both came at once, and neither saw the other.
UPDATE report_version AS v SET wanted = TRUE
WHERE v.study_uid IS NULL AND NOT v.wanted AND v.received_at > now() - interval '10 minutes' AND (
    EXISTS (SELECT FROM study AS s WHERE s.study_uid = v.named_study_uid)
    OR EXISTS (SELECT FROM study_search AS t JOIN study AS s USING (study_uid)
        WHERE t.accession_number = ANY(v.numbers) AND s.received_at > v.received_at - interval '10 minutes'));

-- name: waiting_reports
-- Reports that wait, newest first, without those that withdraw what never came.
SELECT id, source, split_part(sender, E'\x1f', 1) AS sender, status, named_study_uid, received_at FROM report_version
WHERE study_uid IS NULL AND status NOT IN ('CANCELLED', 'IN_ERROR') ORDER BY id DESC LIMIT %(limit)s;

-- name: count_waiting_reports
-- How many versions of reports wait, without those that withdraw what never came.
SELECT count(*)::integer AS n FROM report_version
WHERE study_uid IS NULL AND status NOT IN ('CANCELLED', 'IN_ERROR');

-- name: prune_waiting_reports
-- Reports that waited long enough.
DELETE FROM report_version WHERE study_uid IS NULL
    AND received_at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8);

-- name: link_order
-- An order's numbers lead to its study.
INSERT INTO order_link (number, study_uid) SELECT unnest(%(numbers)s::text[]), %(study_uid)s
ON CONFLICT (number, study_uid) DO UPDATE SET at = now();

-- name: end_order
-- A cancelled order leads nowhere.
DELETE FROM order_link WHERE study_uid = %(study_uid)s AND number = ANY(%(numbers)s::text[]);

-- name: want_ordered_reports
-- Reports that wait under an order's number, now that it leads to a study.
UPDATE report_version SET wanted = TRUE WHERE study_uid IS NULL AND NOT wanted AND numbers && %(numbers)s::text[];

-- name: prune_order_links
-- Orders of long ago; a report that comes later is found by accession number or study.
DELETE FROM order_link
WHERE at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8);

-- == Messages ==

-- name: add_message
-- A message, once; no row when the same one was answered before, which it waits for.
INSERT INTO message (sender, control_id, content_sha256, kind, outcome, answer, reason, reason_code, error_code, error_at, body)
VALUES (%(sender)s, %(control_id)s, %(content_sha256)s, %(kind)s, 'DONE', %(answer)s, %(reason)s, %(reason_code)s,
    %(error_code)s, %(error_at)s, %(body)s)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: message_again
-- What the same message was answered.
UPDATE message SET times = times + 1
WHERE sender = %(sender)s AND control_id = %(control_id)s AND content_sha256 = %(content_sha256)s
RETURNING outcome, answer, reason, reason_code, error_code, error_at;

-- name: message_outcome
-- What became of a message.
UPDATE message SET outcome = %(outcome)s, answer = %(answer)s, reason = %(reason)s, reason_code = %(reason_code)s,
    error_code = %(error_code)s, error_at = %(error_at)s, body = %(body)s
WHERE sender = %(sender)s AND control_id = %(control_id)s AND content_sha256 = %(content_sha256)s;

-- name: kept_messages
-- The newest messages that could not be used.
SELECT id, sender, control_id, kind, reason, coalesce(reason_code, 'OTHER') AS reason_code, times, at FROM message
WHERE outcome = 'KEPT' ORDER BY id DESC LIMIT %(limit)s;

-- name: kept_message
-- One of them, as it came.
SELECT body FROM message WHERE id = %(id)s AND outcome = 'KEPT' AND body IS NOT NULL;

-- name: drop_kept
-- Kept messages that the administrator has dealt with.
DELETE FROM message WHERE outcome = 'KEPT' AND (%(id)s::bigint IS NULL OR id = %(id)s::bigint);

-- name: count_messages
-- Messages by outcome.
SELECT outcome, count(*)::integer AS n FROM message GROUP BY outcome ORDER BY outcome;

-- name: prune_messages
-- Answers that nobody will ask for again; kept messages that are old, or older than those that fill the room for them.
WITH size AS (
    SELECT id, sum(octet_length(body)) OVER (ORDER BY id DESC) AS newer_bytes FROM message WHERE outcome = 'KEPT'
)
DELETE FROM message AS m
WHERE m.at NOT BETWEEN now() - make_interval(secs => CASE WHEN m.outcome = 'KEPT' THEN %(kept_s)s::float8 ELSE %(answered_s)s::float8 END)
        AND now() + make_interval(secs => CASE WHEN m.outcome = 'KEPT' THEN %(kept_s)s::float8 ELSE %(answered_s)s::float8 END)
    OR m.id IN (SELECT size.id FROM size WHERE size.newer_bytes > %(most_bytes)s::bigint);

-- == Patients ==

-- name: lock_studies_of_patients
-- The studies of some patients, in order.
SELECT study_uid FROM study WHERE patient_keys && %(keys)s::text[] ORDER BY study_uid FOR UPDATE;

-- name: link_patients
-- A patient became another one; no row when that is known.
INSERT INTO patient_link (prior_key, key) VALUES (%(prior_key)s, %(key)s) ON CONFLICT DO NOTHING RETURNING id;

-- name: unlink_patients
-- A merge is undone; no row when there is none.
UPDATE patient_link SET in_force = FALSE, ended_at = now()
WHERE prior_key = %(prior_key)s AND key = %(key)s AND in_force RETURNING id;

-- name: note_moves
-- What the studies of a patient show before a merge.
INSERT INTO patient_move (link_id, study_uid, patient_key, patient_id, patient_name, patient_sex, patient_birth_date,
    patient_name_folded)
SELECT %(link_id)s, study_uid, patient_key, patient_id, patient_name, patient_sex, patient_birth_date,
    patient_name_folded
FROM study WHERE patient_key = %(prior_key)s AND patient_keys && ARRAY[%(prior_key)s::text];

-- name: move_studies
-- The studies of a patient follow a merge; those that show this patient show the other one.
UPDATE study SET patient_keys = keys_of_patient(patient_keys), patient_key = key_of_patient(patient_key),
    patient_id = CASE WHEN patient_key = %(prior_key)s THEN %(id)s ELSE patient_id END,
    patient_name = CASE WHEN patient_key = %(prior_key)s THEN coalesce(%(patient_name)s, patient_name) ELSE patient_name END,
    patient_name_folded = CASE WHEN patient_key = %(prior_key)s THEN coalesce(%(patient_name_folded)s, patient_name_folded)
        ELSE patient_name_folded END,
    patient_sex = CASE WHEN patient_key = %(prior_key)s THEN coalesce(%(patient_sex)s, patient_sex) ELSE patient_sex END,
    patient_birth_date = CASE WHEN patient_key = %(prior_key)s THEN coalesce(%(patient_birth_date)s::date, patient_birth_date)
        ELSE patient_birth_date END,
    changed_at = now()
WHERE patient_keys && ARRAY[%(prior_key)s::text];

-- name: move_back
-- Studies show again what they showed before a merge.
UPDATE study AS s SET patient_key = m.patient_key, patient_id = m.patient_id, patient_name = m.patient_name,
    patient_sex = m.patient_sex, patient_birth_date = m.patient_birth_date,
    patient_name_folded = m.patient_name_folded, changed_at = now()
FROM patient_move AS m WHERE m.link_id = %(link_id)s AND m.study_uid = s.study_uid;

-- name: forget_moves
-- What was noted of a merge that is undone, and of later ones that the same studies followed because of it.
DELETE FROM patient_move AS m USING patient_move AS first
WHERE first.link_id = %(link_id)s AND m.study_uid = first.study_uid AND m.link_id >= first.link_id;

-- name: keys_as_sent
-- The studies of a patient belong to those whom their instances name; the trigger adds what these became.
UPDATE study AS s SET patient_keys = sent.keys, changed_at = now(),
    patient_key = CASE WHEN s.patient_key = ANY(keys_of_patient(sent.keys)) THEN s.patient_key ELSE sent.first END,
    patient_id = CASE WHEN s.patient_key = ANY(keys_of_patient(sent.keys)) THEN s.patient_id
        ELSE split_part(sent.first, '\', 2) END
FROM (
    SELECT i.study_uid, array_agg(DISTINCT k.key ORDER BY k.key) AS keys,
        (array_agg(k.key ORDER BY i.received_at, i.sop_uid))[1] AS first
    FROM instance AS i CROSS JOIN LATERAL unnest(i.patient_keys) AS k (key)
    WHERE i.study_uid IN (SELECT t.study_uid FROM study AS t WHERE t.patient_keys && ARRAY[%(prior_key)s::text])
    GROUP BY i.study_uid
) AS sent
WHERE s.study_uid = sent.study_uid;

-- name: rename_patient
-- What the studies of a patient show of them; null changes nothing.
UPDATE study SET patient_name = coalesce(%(patient_name)s, patient_name),
    patient_name_folded = coalesce(%(patient_name_folded)s, patient_name_folded),
    patient_sex = coalesce(%(patient_sex)s, patient_sex),
    patient_birth_date = coalesce(%(patient_birth_date)s::date, patient_birth_date), changed_at = now()
WHERE patient_keys && %(keys)s::text[] AND patient_key = ANY(%(keys)s::text[]);

-- == Viewer ==

-- name: add_feedback
-- A reader's judgement of one similar case; the latest counts.
INSERT INTO feedback (query_study_uid, case_study_uid, region, model_id, generation, rank, score, verdict, reason, reader)
VALUES (%(query_study_uid)s, %(case_study_uid)s, %(region)s, %(model_id)s, %(generation)s, %(rank)s, %(score)s,
    %(verdict)s, %(reason)s, %(reader)s)
ON CONFLICT (reader, query_study_uid, case_study_uid, region, model_id) DO UPDATE SET
    generation = excluded.generation, rank = excluded.rank, score = excluded.score, verdict = excluded.verdict,
    reason = excluded.reason, at = now();

-- name: withdraw_feedback
-- The reader withdraws the judgement, whichever models were answering when it was given: an older one must not come back.
DELETE FROM feedback WHERE reader = %(reader)s AND query_study_uid = %(query_study_uid)s
    AND case_study_uid = %(case_study_uid)s AND region = %(region)s;

-- name: feedback
-- Every judgement, oldest first: material for training.
SELECT query_study_uid, case_study_uid, region, model_id, generation, rank, score, verdict, reason, reader, at
FROM feedback ORDER BY at, id;

-- name: feedback_of
-- One reader's judgements of the cases of a study.
SELECT query_study_uid, case_study_uid, region, model_id, generation, rank, score, verdict, reason, reader, at
FROM feedback WHERE query_study_uid = %(query_study_uid)s AND reader = %(reader)s ORDER BY at, id;

-- name: open_context
-- A token opens the viewer on a study for a while.
INSERT INTO viewer_context (token_sha256, study_uid, reader, scope, expires_at)
VALUES (%(token_sha256)s, %(study_uid)s, %(reader)s, %(scope)s::jsonb, now() + make_interval(secs => %(valid_s)s::float8));

-- name: context
-- The study that a token opens, for whom, and what of similar cases; and whether any patient is withheld.
SELECT token_sha256, study_uid, reader, scope, EXISTS (SELECT FROM withheld_patient) AS withholds FROM viewer_context WHERE token_sha256 = %(token_sha256)s
    AND expires_at > now() AND expires_at <= now() + make_interval(secs => %(valid_s)s::float8);

-- name: show_in_context
-- Cases that a token was answered; one that was deleted meanwhile is left out. In order, so that two answers to one
-- token do not wait for each other.
INSERT INTO viewer_context_case (token_sha256, study_uid)
SELECT %(token_sha256)s, study_uid FROM study WHERE study_uid = ANY(%(study_uids)s) ORDER BY study_uid
ON CONFLICT DO NOTHING;

-- name: count_shown_in_context
-- How many studies a token was answered.
SELECT count(*) AS n FROM viewer_context_case WHERE token_sha256 = %(token_sha256)s;

-- name: is_compared
-- Whether an instance is what a model compares of a study: the radiograph, or a slice of the CT series. A row if so.
SELECT FROM encoding JOIN model USING (model_id)
WHERE encoding.study_uid = %(study_uid)s AND encoding.series_uid = %(series_uid)s
    AND (encoding.sop_uid = %(sop_uid)s OR model.kind = 'CT') LIMIT 1;

-- name: shown_in_context
-- Whether an instance is of what the holder of a token was shown of a case: the radiograph that was compared, or the
-- slices of the CT series that was. Without a series, whether the case was; without an instance, whether the series was.
SELECT FROM viewer_context_case AS shown
WHERE shown.token_sha256 = %(token_sha256)s AND shown.study_uid = %(study_uid)s
    AND (%(series_uid)s::text IS NULL OR EXISTS (
        SELECT FROM encoding JOIN model USING (model_id)
        WHERE encoding.study_uid = shown.study_uid AND encoding.series_uid = %(series_uid)s
            AND (%(sop_uid)s::text IS NULL OR encoding.sop_uid = %(sop_uid)s OR model.kind = 'CT')));

-- name: reports_since_context
-- Structured reports that we added to a token's study since the token was made.
SELECT count(*) AS n FROM viewer_context AS held JOIN instance USING (study_uid)
WHERE held.token_sha256 = %(token_sha256)s AND instance.source = %(source)s
    AND instance.received_at >= held.expires_at - make_interval(secs => %(valid_s)s::float8);

-- name: judgements_since_context
-- Judgements on cases like a token's study since the token was made.
SELECT count(*) AS n FROM viewer_context AS held JOIN feedback ON feedback.query_study_uid = held.study_uid
WHERE held.token_sha256 = %(token_sha256)s
    AND feedback.at >= held.expires_at - make_interval(secs => %(valid_s)s::float8);

-- name: prune_contexts
-- Tokens that have expired.
DELETE FROM viewer_context WHERE expires_at < now() OR expires_at > now() + make_interval(secs => %(valid_s)s::float8);

-- name: jobs_before
-- Encode jobs that run or will run before a study's own, for the reader who waits.
SELECT (SELECT count(*) FROM job WHERE kind IN ('encode', 'reencode') AND state = 'RUNNING')
    + (SELECT count(*) FROM job AS j WHERE j.kind IN ('encode', 'reencode') AND j.state = 'PENDING'
        AND (j.urgency, j.id) < (own.urgency, own.id)) AS count
FROM job AS own WHERE own.state = 'PENDING' AND ((own.kind = 'encode' AND own.key = %(study_uid)s) OR (
    own.kind = 'reencode' AND own.key IN (
        SELECT m.model_id || '/' || %(study_uid)s::text FROM model AS m WHERE m.state = 'SERVING')))
ORDER BY own.urgency, own.id LIMIT 1;

-- == Jobs ==

-- name: enqueue
-- Work for a key. An open job is reused; one that runs already will run again.
INSERT INTO job (kind, key, max_attempts) VALUES (%(kind)s, %(key)s, %(max_attempts)s)
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
SET again = job.again OR job.state = 'RUNNING', urgency = least(job.urgency, excluded.urgency)
RETURNING id;

-- name: enqueue_merge
-- A merge for a partition, unless one failed for good in the last minutes.
INSERT INTO job (kind, key, max_attempts)
SELECT 'index', %(key)s::text, %(max_attempts)s::integer
WHERE NOT EXISTS (
    SELECT FROM job WHERE kind = 'index' AND key = %(key)s::text AND state = 'FAILED'
        AND changed_at BETWEEN now() - make_interval(secs => %(rest_s)s::float8) AND now() + make_interval(secs => %(rest_s)s::float8))
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO NOTHING
RETURNING id;

-- name: claim
-- Lease a pending job; the token fences every earlier holder.
UPDATE job SET state = 'RUNNING', attempt = attempt + 1, token = nextval('job_token'), again = FALSE,
    lease_until = now() + make_interval(secs => %(lease_s)s::float8), worker = %(worker)s, changed_at = now()
WHERE id = %(id)s AND state = 'PENDING' AND kind = ANY(%(kinds)s)
    AND (run_after <= now() OR run_after > now() + make_interval(secs => %(longest_backoff_s)s::float8))
RETURNING id, kind, key, state, attempt, max_attempts, token, reason_code, urgency;

-- name: hurry
-- Somebody waits for this study: its encode job is the next, and is announced at once. A study that another model has
-- encoded, and the one that answers has not, gets its job now, wherever the archive is.
WITH lacking AS (
    INSERT INTO job (kind, key, max_attempts, urgency)
    SELECT 'reencode', m.model_id || '/' || %(study_uid)s::text, %(max_attempts)s::integer, 0 FROM model AS m
    WHERE m.state = 'SERVING' AND NOT EXISTS (
        SELECT FROM encoding AS own WHERE own.study_uid = %(study_uid)s::text AND own.model_id = m.model_id)
        AND EXISTS (SELECT FROM encoding AS e JOIN model AS other USING (model_id)
            WHERE e.study_uid = %(study_uid)s::text AND other.kind = m.kind)
        AND NOT EXISTS (SELECT FROM job WHERE kind = 'reencode' AND state = 'FAILED'
            AND key = m.model_id || '/' || %(study_uid)s::text)
    ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO NOTHING
    RETURNING id
), hurried AS (
    UPDATE job SET urgency = 0, rung_at = NULL
    WHERE state = 'PENDING' AND urgency > 0 AND ((kind = 'encode' AND key = %(study_uid)s) OR (kind = 'reencode'
        AND key IN (SELECT m.model_id || '/' || %(study_uid)s::text FROM model AS m WHERE m.state = 'SERVING')))
    RETURNING id
)
SELECT id FROM lacking UNION ALL SELECT id FROM hurried;

-- name: claim_studies
-- Lease the encode jobs that come first. One whose decoder was killed, or whose worker was twice, is leased alone: by a
-- worker that holds no other, which each becomes as long as such a job is the first.
WITH due AS MATERIALIZED (
    SELECT id, CASE reason_code WHEN 'DECODER_KILLED' THEN TRUE
        WHEN 'WORKER_KILLED' THEN attempt >= least(2, max_attempts - 1) ELSE FALSE END AS alone FROM job
    WHERE kind IN ('encode', 'reencode') AND state = 'PENDING' AND urgency <= %(least_urgent)s
        AND (run_after <= now() OR run_after > now() + make_interval(secs => %(longest_backoff_s)s::float8))
    ORDER BY urgency, id LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED
), first AS (
    SELECT id, alone FROM due LIMIT 1
)
UPDATE job SET state = 'RUNNING', attempt = attempt + 1, token = nextval('job_token'), again = FALSE,
    lease_until = now() + make_interval(secs => %(lease_s)s::float8), worker = %(worker)s, changed_at = now()
FROM first, due
WHERE job.id = due.id AND CASE WHEN first.alone THEN %(holds_none)s AND due.id = first.id ELSE NOT due.alone END
RETURNING job.id, kind, key, state, attempt, max_attempts, token, reason_code, urgency;

-- name: release
-- The holder has not begun these: they are as they were, also where its lease ran out, if nobody has claimed them since.
UPDATE job SET state = 'PENDING', attempt = CASE WHEN again THEN 0 ELSE greatest(attempt - 1, 0) END, again = FALSE,
    token = nextval('job_token'), reason_code = mine.reason_code,
    error = CASE WHEN state = 'PENDING' THEN NULL ELSE error END,
    run_after = CASE WHEN state = 'PENDING' THEN now() ELSE run_after END,
    lease_until = NULL, rung_at = NULL, changed_at = now()
FROM unnest(%(ids)s::bigint[], %(tokens)s::bigint[], %(reason_codes)s::text[]) AS mine (id, token, reason_code)
WHERE job.id = mine.id AND job.token = mine.token
    AND (state = 'RUNNING' OR (state = 'PENDING' AND job.reason_code = 'WORKER_KILLED'));

-- name: heartbeat_all
-- The holder is still working on all of these. One whose row is locked is being ended, or prolonged at the next beat.
UPDATE job SET lease_until = now() + make_interval(secs => %(lease_s)s::float8)
WHERE id IN (
    SELECT held.id FROM job AS held
    JOIN unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) AS mine (id, token) ON held.id = mine.id AND held.token = mine.token
    WHERE held.state = 'RUNNING' FOR UPDATE OF held SKIP LOCKED);

-- name: hold
-- Lock the job row inside the transaction that writes its result; no row means that the lease is lost.
SELECT id FROM job WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s FOR UPDATE;

-- name: finish
-- Done; or pending again, when the key was requested while the job ran.
UPDATE job SET state = CASE WHEN again THEN 'PENDING' ELSE 'DONE' END, attempt = CASE WHEN again THEN 0 ELSE attempt END,
    again = FALSE, error = %(note)s, reason_code = NULL, lease_until = NULL, rung_at = NULL, run_after = now(), changed_at = now()
WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s
RETURNING state;

-- name: fail
-- One attempt failed: try again later, give up, or start afresh when the key was requested while the job ran.
UPDATE job SET
    state = CASE WHEN again OR %(retry)s::boolean THEN 'PENDING' ELSE 'FAILED' END,
    attempt = CASE WHEN again THEN 0 ELSE attempt END,
    run_after = now() + make_interval(secs => CASE WHEN again THEN 0 ELSE %(backoff_s)s::float8 END),
    again = FALSE, error = %(error)s, reason_code = %(reason_code)s, lease_until = NULL, rung_at = NULL, changed_at = now()
WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s
RETURNING state;

-- name: expired
-- Jobs whose lease is over.
SELECT id, kind, key, state, attempt, max_attempts, token, reason_code, urgency FROM job
WHERE state = 'RUNNING' AND kind = ANY(%(kinds)s)
    AND lease_until NOT BETWEEN now() AND now() + make_interval(secs => 2 * %(lease_s)s::float8)
ORDER BY id LIMIT %(limit)s;

-- name: still_expired
-- The lease is over even now that the job row is locked.
SELECT id FROM job WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s
    AND lease_until NOT BETWEEN now() AND now() + make_interval(secs => 2 * %(lease_s)s::float8)
FOR UPDATE;

-- name: to_announce
-- Pending jobs of these kinds without a broker message, or with one so old that it must be lost. At most "limit" are
-- announced and unclaimed, so that a long queue does not fill the broker; optionally, running jobs count as well.
SELECT id FROM job
WHERE state = 'PENDING' AND kind = ANY(%(kinds)s::text[])
    AND (run_after <= now() OR run_after > now() + make_interval(secs => %(longest_backoff_s)s::float8))
    AND (rung_at IS NULL
        OR rung_at NOT BETWEEN now() - make_interval(secs => %(ring_again_s)s::float8) AND now() + make_interval(secs => %(ring_again_s)s::float8))
ORDER BY CASE WHEN run_after > now() THEN '-infinity' ELSE run_after END, id
LIMIT greatest(0, %(limit)s - (
    SELECT count(*) FROM job WHERE kind = ANY(%(kinds)s::text[]) AND (
        (state = 'PENDING' AND rung_at BETWEEN now() - make_interval(secs => %(ring_again_s)s::float8)
            AND now() + make_interval(secs => %(ring_again_s)s::float8))
        OR (%(with_running)s::boolean AND state = 'RUNNING'))));

-- name: studies_to_announce
-- Encode jobs to announce, the first ones: as many as workers are neither busy nor about to hear of one. A worker that
-- hears of one goes on by itself until none is left, so that a long queue leaves no messages behind.
SELECT id, urgency FROM job
WHERE kind IN ('encode', 'reencode') AND state = 'PENDING'
    AND (run_after <= now() OR run_after > now() + make_interval(secs => %(longest_backoff_s)s::float8))
    AND (rung_at IS NULL
        OR rung_at NOT BETWEEN now() - make_interval(secs => %(ring_again_s)s::float8) AND now() + make_interval(secs => %(ring_again_s)s::float8))
ORDER BY urgency, id
LIMIT greatest(0, greatest(%(workers)s::integer, (
        SELECT count(*) FROM process WHERE detail LIKE %(encodes)s::text || '%%' AND seen_at > now() - interval '10 s'
    )) - (
        SELECT count(*) FROM job WHERE state = 'PENDING' AND kind IN ('encode', 'reencode')
            AND rung_at BETWEEN now() - make_interval(secs => %(ring_again_s)s::float8)
                AND now() + make_interval(secs => %(ring_again_s)s::float8)
    ) - (
        SELECT count(DISTINCT worker) FROM job WHERE state = 'RUNNING' AND kind IN ('encode', 'reencode')
    ));

-- name: announced
-- The broker is about to have the message. A job claimed meanwhile needs no mark.
UPDATE job SET rung_at = now() WHERE id = ANY(%(ids)s::bigint[]) AND state = 'PENDING';

-- name: not_announced
-- The broker did not take the message.
UPDATE job SET rung_at = NULL WHERE id = ANY(%(ids)s::bigint[]) AND state = 'PENDING';

-- name: job
-- One job, for display.
SELECT id, kind, key, state, attempt, max_attempts, token, error, again, reason_code, urgency FROM job
WHERE id = %(id)s AND kind = ANY(%(kinds)s);

-- name: failed_jobs
-- Jobs that failed for good and that nobody asked for again. Those of studies show in their study.
SELECT kind, key, error, coalesce(reason_code, 'OTHER') AS reason_code, changed_at AS at FROM job AS j
WHERE state = 'FAILED' AND kind <> 'encode' AND kind = ANY(%(kinds)s)
    AND NOT EXISTS (SELECT FROM job AS later WHERE later.kind = j.kind AND later.key = j.key AND later.id > j.id)
ORDER BY id DESC LIMIT %(limit)s;

-- name: failed_under_serving
-- The job by which a model that answers should have encoded a study, and which failed for good.
SELECT kind, key, error, coalesce(reason_code, 'OTHER') AS reason_code, changed_at AS at FROM job AS j
WHERE state = 'FAILED' AND kind = 'reencode'
    AND key IN (SELECT m.model_id || '/' || %(study_uid)s::text FROM model AS m WHERE m.state = 'SERVING')
    AND NOT EXISTS (SELECT FROM job AS later WHERE later.kind = j.kind AND later.key = j.key AND later.id > j.id)
ORDER BY id DESC LIMIT 1;

-- name: retried_jobs
-- Jobs whose last attempt failed and that are tried again. Those of studies show in their study.
SELECT kind, key, error, reason_code, changed_at AS at FROM job
WHERE state IN ('PENDING', 'RUNNING') AND kind <> 'encode' AND kind = ANY(%(kinds)s) AND reason_code IS NOT NULL
ORDER BY id DESC LIMIT %(limit)s;

-- name: retry_failed_jobs
-- What failed for good and nobody asked for again is tried once more.
INSERT INTO job (kind, key, max_attempts, urgency)
SELECT j.kind, j.key, j.max_attempts, j.urgency FROM job AS j
WHERE j.state = 'FAILED' AND j.kind <> 'encode' AND j.kind = ANY(%(kinds)s)
    AND (%(reason_code)s::text IS NULL OR j.reason_code = %(reason_code)s::text)
    AND NOT EXISTS (SELECT FROM job AS later WHERE later.kind = j.kind AND later.key = j.key AND later.id > j.id)
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO NOTHING
RETURNING key;

-- name: job_progress
-- The progress of a job, for whoever asked for it.
SELECT id, kind, key, state, attempt, max_attempts, reason_code, error AS message, changed_at FROM job WHERE id = %(id)s;

-- name: prune_jobs
-- Jobs that ended long ago.
DELETE FROM job WHERE state IN ('DONE', 'FAILED')
    AND changed_at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8);

-- == Storage commitment ==

-- name: add_commitment
-- A request for commitment; the same transaction asked for again is checked and answered again.
INSERT INTO commitment (transaction_uid, requestor, instances)
VALUES (%(transaction_uid)s, %(requestor)s, %(instances)s)
ON CONFLICT (requestor, transaction_uid) DO UPDATE
SET instances = excluded.instances, state = 'PENDING', asked_at = clock_timestamp(), reported_at = NULL, failed = NULL
RETURNING id;

-- name: commitment
-- One request.
SELECT id, transaction_uid, requestor, instances, state, asked_at, failed FROM commitment WHERE id = %(id)s;

-- name: commitment_checked
-- The result of a request, unless it was made again meanwhile.
UPDATE commitment SET failed = %(failed)s WHERE id = %(id)s AND asked_at = %(asked_at)s;

-- name: pending_commitments
-- Requests of a peer that were checked, and whose results it has not been told yet, oldest first.
SELECT id, transaction_uid, requestor, instances, state, asked_at, failed FROM commitment
WHERE requestor = %(requestor)s AND state = 'PENDING' AND failed IS NOT NULL ORDER BY id LIMIT %(limit)s;

-- name: commitment_reported
-- The peer has the result, unless it asked again meanwhile.
UPDATE commitment SET state = 'REPORTED', reported_at = now() WHERE id = %(id)s AND asked_at = %(asked_at)s;

-- name: prune_commitments
-- Requests that were answered, or that nobody came back for, long ago.
DELETE FROM commitment
WHERE asked_at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8);

-- name: held_instances
-- Class and blob of those of some instances that are here, and whether the blob was found damaged or made room.
SELECT sop_uid, sop_class_uid, content_sha256, size_bytes,
    EXISTS (SELECT FROM damaged_blob AS d WHERE d.content_sha256 = instance.content_sha256) AS is_damaged,
    EXISTS (SELECT FROM evicted_blob AS e WHERE e.content_sha256 = instance.content_sha256) AS is_away FROM instance
WHERE sop_uid = ANY(%(sop_uids)s::text[]);

-- == Processes and the overview ==

-- name: alive
-- The heartbeat of a process.
INSERT INTO process (name, pid, state, detail, version)
VALUES (%(name)s, %(pid)s, %(state)s, %(detail)s, %(version)s)
ON CONFLICT (name) DO UPDATE SET state = excluded.state, detail = excluded.detail, version = excluded.version, seen_at = now(),
    started_at = CASE WHEN process.pid = excluded.pid THEN process.started_at ELSE now() END, pid = excluded.pid;

-- name: gone
-- A process ends in order.
DELETE FROM process WHERE name = %(name)s AND pid = %(pid)s;

-- name: processes
-- All processes, with the seconds since their last heartbeat.
SELECT name, pid, state, detail, version, started_at, abs(extract(epoch FROM now() - seen_at))::float8 AS silent_s
FROM process ORDER BY name;

-- name: prune_processes
-- Processes that have been silent for a long time.
DELETE FROM process WHERE seen_at NOT BETWEEN now() - make_interval(secs => %(keep_s)s::float8) AND now() + make_interval(secs => %(keep_s)s::float8);

-- name: count_studies
-- Studies by state.
SELECT state, count(*)::integer AS n FROM study GROUP BY state;

-- name: count_jobs
-- Jobs by kind and state, with the age of the oldest that is still open.
SELECT kind, state, count(*)::integer AS n,
    max(abs(extract(epoch FROM now() - created_at))) FILTER (WHERE state IN ('PENDING', 'RUNNING'))::float8 AS oldest_s
FROM job WHERE kind = ANY(%(kinds)s) GROUP BY kind, state ORDER BY kind, state;

-- name: count_open_jobs_of_others
-- Open jobs of none of these kinds: a later release made them, and only it can do them.
SELECT count(*)::integer AS n FROM job WHERE state IN ('PENDING', 'RUNNING') AND NOT kind = ANY(%(kinds)s);

-- name: count_encodings
-- Encodings by model.
SELECT model_id, count(*)::integer AS n FROM encoding GROUP BY model_id ORDER BY model_id;

-- name: count_refusals
-- Refused objects of the last day.
SELECT count(*)::integer AS n FROM refusal
WHERE at BETWEEN now() - interval '1 day' AND now() + interval '1 day';

-- name: figures_of_queues
-- Jobs that wait or run by the queue that an operator would add workers to; the age is of those that may run.
SELECT queue, count(*) FILTER (WHERE state = 'PENDING')::integer AS waiting,
    count(*) FILTER (WHERE state = 'RUNNING')::integer AS running,
    coalesce(greatest(max(extract(epoch FROM now() - greatest(created_at, run_after)))
        FILTER (WHERE state = 'PENDING'), 0), 0)::float8 AS oldest_s
FROM (
    SELECT CASE WHEN kind NOT IN ('encode', 'reencode') THEN kind WHEN urgency = 0 THEN 'urgent'
        WHEN urgency = 1 THEN 'new' ELSE 'reencode' END AS queue, state, created_at, run_after
    FROM job WHERE state IN ('PENDING', 'RUNNING')
    UNION ALL
    SELECT 'train', state, created_at, created_at FROM retraining_run WHERE state IN ('PENDING', 'RUNNING')
    UNION ALL
    SELECT name, 'NONE', NULL, NULL FROM unnest(ARRAY['urgent', 'new', 'reencode', 'index', 'report', 'pull', 'send',
        'commitment', 'train']) AS name
) AS open GROUP BY queue ORDER BY queue;

-- name: figures_of_generations
-- The age of the generation that answers for each partition.
SELECT g.model_id, g.region, greatest(extract(epoch FROM now() - g.published_at), 0)::float8 AS age_s
FROM generation AS g JOIN kept_model AS m USING (model_id) WHERE g.state = 'PUBLISHED' ORDER BY 1, 2;

-- name: schema_is_made
-- Whether anybody has ever made our tables.
SELECT to_regclass('schema_version') IS NOT NULL AS is_made;

-- name: schema_version
-- The newest migration that was applied, and the newest that a program must know; 0: none was. Answered by an older
-- database too, which has no such column.
SELECT coalesce(max(version), 0) AS version,
    coalesce(max(coalesce((to_jsonb(v) ->> 'works_from')::integer, version)), 0) AS needed FROM schema_version AS v;

-- name: database_clock
-- The database's time.
SELECT extract(epoch FROM clock_timestamp())::float8 AS now_s;

-- == Tokens ==

-- name: create_token
-- A token in force; its name must be free.
INSERT INTO access_token (name, role, scope, names, token_sha256, created_by, expires_at)
VALUES (%(name)s, %(role)s, %(scope)s::jsonb, %(names)s, %(token_sha256)s, %(created_by)s,
    now() + make_interval(secs => %(valid_s)s::float8));

-- name: revoke_token
-- The token of this name ends now.
UPDATE access_token SET revoked_at = now(), revoked_by = %(by)s WHERE name = %(name)s AND revoked_at IS NULL
RETURNING id;

-- name: tokens
-- All tokens that there ever were, newest first; ``in_force``: not revoked and not expired.
SELECT id, name, role, scope, names, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by,
    revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS in_force
FROM access_token ORDER BY id DESC;

-- name: token_hashes
-- The tokens in force, by hash; a single row without any where there is none but some were made once, or accounts.
-- ``withholds``: whether any patient is withheld.
SELECT id, name, role, scope, names, token_sha256, EXISTS (SELECT FROM withheld_patient) AS withholds FROM access_token
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, FALSE
WHERE EXISTS (SELECT FROM access_token) OR EXISTS (SELECT FROM account);

-- name: name_is_taken
-- Whether a caller has this name: a token in force, or an account; the trail tells callers by their names.
SELECT EXISTS (SELECT FROM access_token WHERE lower(name) = lower(%(name)s) AND revoked_at IS NULL) AS by_token,
    EXISTS (SELECT FROM account WHERE lower(name) = lower(%(name)s) AND removed_at IS NULL) AS by_account;

-- name: tokens_used
-- These tokens were used just now.
UPDATE access_token SET last_used_at = now() WHERE id = ANY(%(ids)s::bigint[]);

-- == Accounts and sessions ==

-- name: add_account
-- An account; its name must be free.
INSERT INTO account (name, role, scope, names, password_hash, must_change, issuer, subject, created_by)
VALUES (%(name)s, %(role)s, %(scope)s::jsonb, %(names)s, %(password_hash)s, %(must_change)s, %(issuer)s, %(subject)s,
    %(created_by)s)
RETURNING id;

-- name: account_to_sign_in
-- What signing in as somebody needs; a disabled account too, so that both take the same time.
SELECT id, name, role, password_hash, must_change, disabled_at IS NOT NULL AS disabled FROM account
WHERE lower(name) = lower(%(name)s) AND removed_at IS NULL;

-- name: account_of_subject
-- The account of a person whom the provider named, locked.
SELECT id, name, role, scope, names, disabled_at IS NOT NULL AS disabled FROM account
WHERE issuer = %(issuer)s AND subject = %(subject)s AND removed_at IS NULL FOR UPDATE;

-- name: accounts
-- All accounts by name, or one; their sessions, and until when they wait longest after wrong passwords (``who``).
SELECT a.id, a.name, a.role, a.scope, a.names, a.issuer, a.subject, a.must_change, a.created_at, a.created_by,
    a.last_signed_in_at, a.disabled_at,
    (SELECT count(*) FROM web_session AS s WHERE s.account_id = a.id
        AND s.since BETWEEN now() - make_interval(secs => %(longest_s)s::float8)
            AND now() + make_interval(secs => %(longest_s)s::float8)
        AND s.seen_at BETWEEN now() - make_interval(secs => %(idle_s)s::float8)
            AND now() + make_interval(secs => %(idle_s)s::float8)) AS sessions
FROM account AS a
WHERE a.removed_at IS NULL AND (%(name)s::text IS NULL OR lower(a.name) = lower(%(name)s))
ORDER BY lower(a.name);

-- name: lock_account
-- The account of this name, locked.
SELECT id, name, role, scope, names, issuer, disabled_at IS NOT NULL AS disabled FROM account
WHERE lower(name) = lower(%(name)s) AND removed_at IS NULL FOR UPDATE;

-- name: lock_administrators
-- One transaction at a time, from here to its end, takes an administrator's right away.
SELECT pg_advisory_xact_lock(x'524144524d'::bigint);

-- name: another_administrator
-- A row where another account than this one administers and signs in with a password.
SELECT FROM account WHERE role = 'administrator' AND issuer IS NULL AND disabled_at IS NULL AND removed_at IS NULL
    AND id <> %(id)s LIMIT 1;

-- name: set_account_rights
-- Another role, scope or right to names.
UPDATE account SET role = %(role)s, scope = %(scope)s::jsonb, names = %(names)s WHERE id = %(id)s;

-- name: set_password
-- Another password, or the same in a newer form; no row where ``verified`` is given and not the password any more.
UPDATE account SET password_hash = %(password_hash)s, must_change = %(must_change)s
WHERE id = %(id)s AND (%(verified)s::text IS NULL OR password_hash = %(verified)s)
RETURNING id;

-- name: disable_account
-- Nobody signs in with it.
UPDATE account SET disabled_at = now() WHERE id = %(id)s;

-- name: enable_account
-- Somebody signs in with it again.
UPDATE account SET disabled_at = NULL WHERE id = %(id)s;

-- name: remove_account
-- It is gone but for its name and what it did.
UPDATE account SET removed_at = now(), password_hash = NULL, must_change = FALSE WHERE id = %(id)s;

-- name: account_signed_in
-- It signs in, and is locked; no row where it may no more, or what was verified is not its password any more.
UPDATE account SET last_signed_in_at = now()
WHERE id = %(id)s AND disabled_at IS NULL AND removed_at IS NULL
    AND password_hash IS NOT DISTINCT FROM %(verified)s::text
RETURNING id;

-- name: begin_session
-- Somebody is signed in, by the hash of a new id.
INSERT INTO web_session (id_sha256, account_id, token_tag, id_token, address)
VALUES (%(id_sha256)s, %(account_id)s, %(token_tag)s, %(id_token)s, %(address)s);

-- name: session
-- Who is signed in with this id, if the session is neither too old nor idle and the account, where it is of one, in
-- force. ``withholds``: whether any patient is withheld. ``opened``: studies open in an
-- emergency; ``opened_left_s``: until the first of these accesses ends.
SELECT s.token_tag, a.id AS account_id, a.name, a.role, a.scope, a.names, a.must_change, a.password_hash IS NOT NULL AS
    has_password, EXISTS (SELECT FROM withheld_patient) AS withholds, s.id_token,
    opened_studies(a.id) AS opened, extract(epoch FROM (
        SELECT min(o.ends_at) FROM emergency_access AS o
        WHERE o.account_id = a.id AND o.ended_at IS NULL AND o.ends_at > now()) - now())::float8 AS opened_left_s,
    extract(epoch FROM now() - s.seen_at)::float8 AS unseen_s
FROM web_session AS s LEFT JOIN account AS a ON a.id = s.account_id
WHERE s.id_sha256 = %(id_sha256)s
    AND s.since BETWEEN now() - make_interval(secs => %(longest_s)s::float8)
        AND now() + make_interval(secs => %(longest_s)s::float8)
    AND s.seen_at BETWEEN now() - make_interval(secs => %(idle_s)s::float8)
        AND now() + make_interval(secs => %(idle_s)s::float8)
    AND (s.account_id IS NULL OR (a.disabled_at IS NULL AND a.removed_at IS NULL));

-- name: session_seen
-- The session is in use.
UPDATE web_session SET seen_at = now() WHERE id_sha256 = %(id_sha256)s;

-- name: end_session
-- Nobody is signed in with this id any more.
DELETE FROM web_session WHERE id_sha256 = %(id_sha256)s;

-- name: end_sessions
-- Of an account.
DELETE FROM web_session WHERE account_id = %(id)s;

-- name: prune_sessions
-- Sessions that have ended by time.
DELETE FROM web_session WHERE since NOT BETWEEN now() - make_interval(secs => %(longest_s)s::float8)
        AND now() + make_interval(secs => %(longest_s)s::float8)
    OR seen_at NOT BETWEEN now() - make_interval(secs => %(idle_s)s::float8)
        AND now() + make_interval(secs => %(idle_s)s::float8);

-- name: begin_attempt
-- One more attempt to sign in; no row while the ones before make it wait. Beyond ``free`` tries each doubles the wait.
INSERT INTO sign_in_attempt AS a (who, address, tries, blocked_until) VALUES (%(who)s, %(address)s, 1, now())
ON CONFLICT (who, address) DO UPDATE SET
    tries = CASE WHEN a.last_at < now() - make_interval(secs => %(forget_s)s::float8) THEN 1 ELSE a.tries + 1 END,
    last_at = now(),
    blocked_until = now() + CASE WHEN a.last_at < now() - make_interval(secs => %(forget_s)s::float8)
        OR a.tries + 1 < %(free)s THEN interval '0'
        ELSE make_interval(secs => least(%(most_s)s::float8, power(2, least(a.tries + 1 - %(free)s, 20)))) END
WHERE a.blocked_until <= now() OR a.blocked_until > now() + make_interval(secs => %(most_s)s::float8)
RETURNING tries;

-- name: attempt_waits
-- For how many seconds the next attempt waits.
SELECT greatest(extract(epoch FROM blocked_until - now()), 0)::float8 AS wait_s FROM sign_in_attempt
WHERE who = %(who)s AND address = %(address)s;

-- name: forget_attempts
-- The attempts as somebody from one address.
DELETE FROM sign_in_attempt WHERE who = %(who)s AND address = %(address)s;

-- name: forgive_attempts
-- The attempts as somebody from all addresses, and what these addresses wait for, whatever the name.
DELETE FROM sign_in_attempt WHERE who = %(who)s
    OR (who = '' AND address IN (SELECT address FROM sign_in_attempt WHERE who = %(who)s));

-- name: uncount_attempt
-- An attempt succeeded, or was none: it is taken back of what counts for these names from this address.
UPDATE sign_in_attempt SET tries = greatest(tries - 1, 0), blocked_until = now()
WHERE who = ANY(%(names)s::text[]) AND address = %(address)s;

-- name: attempts_of
-- Failed attempts as somebody, by address.
SELECT address, tries, last_at, blocked_until FROM sign_in_attempt WHERE who = %(who)s ORDER BY last_at DESC;

-- name: prune_attempts
-- Attempts of long ago.
DELETE FROM sign_in_attempt WHERE last_at NOT BETWEEN now() - make_interval(secs => %(forget_s)s::float8)
    AND now() + make_interval(secs => %(forget_s)s::float8);

-- name: begin_visit
-- A browser is sent to the provider; not one more where ``most`` of this address are away.
INSERT INTO provider_visit (state_sha256, browser_sha256, nonce, verifier, leads_to, address)
SELECT %(state_sha256)s, %(browser_sha256)s, %(nonce)s, %(verifier)s, %(leads_to)s, %(address)s
WHERE (SELECT count(*) FROM provider_visit WHERE address = %(address)s) < %(most)s
RETURNING state_sha256;

-- name: end_visit
-- It comes back, once; no row where it was not sent, or too long ago.
DELETE FROM provider_visit WHERE state_sha256 = %(state_sha256)s AND browser_sha256 = %(browser_sha256)s
RETURNING nonce, verifier, leads_to, at BETWEEN now() - make_interval(secs => %(within_s)s::float8) AND now() AS in_time;

-- name: prune_visits
-- Visits from which nobody came back.
DELETE FROM provider_visit WHERE at NOT BETWEEN now() - make_interval(secs => %(within_s)s::float8) AND now();

-- == Peers ==

-- name: add_peer
-- A peer that may call; no row where its title is known from this network already.
INSERT INTO peer (ae_title, network, certificate, may_store, may_commit, site, host, port, over_tls, created_by)
VALUES (%(ae_title)s, %(network)s::cidr, %(certificate)s, %(may_store)s, %(may_commit)s, %(site)s, %(host)s, %(port)s,
    %(over_tls)s, %(by)s)
ON CONFLICT (ae_title, network) DO NOTHING RETURNING id;

-- name: remove_peer
-- It may call no more; from one network, or from any.
DELETE FROM peer WHERE ae_title = %(ae_title)s AND (%(network)s::cidr IS NULL OR network = %(network)s::cidr)
RETURNING id;

-- name: peers
-- All peers by title, the narrowest network first.
SELECT ae_title, network::text AS network, certificate, may_store, may_commit, site, host, port, over_tls, created_at,
    created_by
FROM peer ORDER BY ae_title, masklen(network) DESC, network;

-- == Erasure ==

-- name: studies_to_erase
-- A study by its UID, and those of the patient with these keys, locked.
SELECT study_uid FROM study WHERE study_uid = %(study_uid)s OR patient_keys && %(patient_keys)s::text[]
ORDER BY study_uid FOR UPDATE;

-- name: traces_of_studies
-- What has to be looked for outside the tables: files, index labels, retrainings; and instances, which other rows name.
SELECT
    ARRAY(SELECT id FROM encoding WHERE study_uid = ANY(%(study_uids)s::text[]) ORDER BY id) AS encoding_ids,
    ARRAY(SELECT content_sha256 FROM instance WHERE study_uid = ANY(%(study_uids)s::text[])
        UNION SELECT c.other_sha256 FROM correction AS c JOIN instance AS i USING (sop_uid)
        WHERE c.aside AND i.study_uid = ANY(%(study_uids)s::text[])) AS blobs,
    ARRAY(SELECT sop_uid FROM instance WHERE study_uid = ANY(%(study_uids)s::text[])) AS sop_uids,
    ARRAY(SELECT DISTINCT run_id FROM retraining_study WHERE study_uid = ANY(%(study_uids)s::text[])) AS runs;

-- name: erase_versions
-- Versions of reports that name the studies or the patients, waiting ones too.
DELETE FROM report_version WHERE named_study_uid = ANY(%(study_uids)s::text[])
    OR patient_keys && %(patient_keys)s::text[];

-- name: erase_orders
-- Orders of the studies.
DELETE FROM order_link WHERE study_uid = ANY(%(study_uids)s::text[]);

-- name: erase_jobs
-- Work on the studies and their instances; a process that holds such a job finds that out when it ends it.
DELETE FROM job WHERE key = ANY(%(study_uids)s::text[] || %(sop_uids)s::text[])
    OR split_part(key, '/', 2) = ANY(%(study_uids)s::text[]);

-- name: erase_refusals
-- Refusals of their instances.
DELETE FROM refusal WHERE sop_uid = ANY(%(sop_uids)s::text[]);

-- name: erase_links
-- What the patients became, and who became them.
WITH gone AS (
    SELECT id FROM patient_link WHERE prior_key = ANY(%(patient_keys)s::text[]) OR key = ANY(%(patient_keys)s::text[])
), moves AS (
    DELETE FROM patient_move WHERE link_id IN (SELECT id FROM gone)
)
DELETE FROM patient_link WHERE id IN (SELECT id FROM gone);

-- name: erase_emergencies
-- Who opened the studies or the patients in an emergency; the trail keeps it, and lacks the end of these.
WITH gone AS (
    DELETE FROM emergency_access WHERE study_uid = ANY(%(study_uids)s::text[])
        OR patient_keys && %(patient_keys)s::text[]
    RETURNING id, study_uid, patient_keys, ended_at
)
SELECT id, study_uid, patient_keys FROM gone WHERE ended_at IS NULL ORDER BY id;

-- name: forget_now
-- Their vectors leave the index files with the next merge, which is due at once, and the feed names them no more.
WITH fed AS (DELETE FROM study_changed WHERE study_uid = ANY(%(study_uids)s::text[]))
UPDATE encoding_gone SET at = at - interval '2 days' WHERE encoding_id = ANY(%(encoding_ids)s::bigint[]);

-- name: add_erasure
-- The record of an erasure.
INSERT INTO erasure (by, study_uids, encoding_ids, blobs, runs, subject)
VALUES (%(by)s, %(study_uids)s, %(encoding_ids)s, %(blobs)s, %(runs)s, %(subject)s);

-- name: erasures
-- What was erased under this name, in all.
SELECT max(at) AS at,
    ARRAY(SELECT unnest(x.study_uids) FROM erasure AS x WHERE x.subject = %(subject)s) AS study_uids,
    ARRAY(SELECT unnest(x.encoding_ids) FROM erasure AS x WHERE x.subject = %(subject)s) AS encoding_ids,
    ARRAY(SELECT unnest(x.blobs) FROM erasure AS x WHERE x.subject = %(subject)s) AS blobs,
    ARRAY(SELECT unnest(x.runs) FROM erasure AS x WHERE x.subject = %(subject)s) AS runs
FROM erasure WHERE subject = %(subject)s;

-- name: left_of_erased
-- Rows of every table that may name a study or a patient, but for the audit trail and the decision to withhold.
WITH uids AS (SELECT unnest(%(study_uids)s::text[]) AS study_uid)
SELECT
    (SELECT count(*) FROM study WHERE study_uid IN (TABLE uids) OR patient_keys && %(patient_keys)s::text[]) AS studies,
    (SELECT count(*) FROM study_search WHERE study_uid IN (TABLE uids)) AS "search rows",
    (SELECT count(*) FROM series WHERE study_uid IN (TABLE uids)) AS series,
    (SELECT count(*) FROM instance WHERE study_uid IN (TABLE uids)) AS instances,
    (SELECT count(*) FROM report WHERE study_uid IN (TABLE uids)) AS reports,
    (SELECT count(*) FROM report_version WHERE study_uid IN (TABLE uids) OR named_study_uid IN (TABLE uids)
        OR patient_keys && %(patient_keys)s::text[]) AS "versions of reports, waiting ones too",
    (SELECT count(*) FROM encoding WHERE study_uid IN (TABLE uids)) AS vectors,
    (SELECT count(*) FROM image_tokens WHERE study_uid IN (TABLE uids)) AS "image tokens",
    (SELECT count(*) FROM order_link WHERE study_uid IN (TABLE uids)) AS orders,
    (SELECT count(*) FROM job WHERE key IN (TABLE uids) OR split_part(key, '/', 2) IN (TABLE uids)) AS jobs,
    (SELECT count(*) FROM patient_link WHERE prior_key = ANY(%(patient_keys)s::text[])
        OR key = ANY(%(patient_keys)s::text[])) AS "merges of patients",
    (SELECT count(*) FROM feedback WHERE query_study_uid IN (TABLE uids) OR case_study_uid IN (TABLE uids))
        + (SELECT count(*) FROM retraining_judgement WHERE query_study_uid IN (TABLE uids)
            OR case_study_uid IN (TABLE uids)) AS judgements,
    (SELECT count(*) FROM viewer_context WHERE study_uid IN (TABLE uids)) + (SELECT count(*) FROM viewer_context_case
        WHERE study_uid IN (TABLE uids)) AS "links of the sidebar",
    (SELECT count(*) FROM retraining_study WHERE study_uid IN (TABLE uids)) AS "snapshots of retrainings",
    (SELECT count(*) FROM emergency_access WHERE study_uid IN (TABLE uids) OR patient_keys && %(patient_keys)s::text[])
        AS "accesses in an emergency",
    (SELECT count(*) FROM study_hold WHERE study_uid IN (TABLE uids)) AS "holds of files",
    (SELECT count(*) FROM study_changed WHERE study_uid IN (TABLE uids)) AS "feed of changes";

-- == Withheld patients ==

-- name: withhold
-- Withhold the patient with these keys.
INSERT INTO withheld_patient (patient_key, degree, reason, by)
SELECT key, %(degree)s, %(reason)s, %(by)s FROM unnest(%(patient_keys)s::text[]) AS k (key) ORDER BY key
ON CONFLICT (patient_key) DO UPDATE SET degree = excluded.degree, reason = excluded.reason, by = excluded.by, at = now();

-- name: show_again
-- The patient with these keys is withheld no more.
DELETE FROM withheld_patient WHERE patient_key = ANY(%(patient_keys)s::text[]) RETURNING patient_key;

-- name: withhold_late
-- Studies of patients with these keys, or of any who is withheld, that were being received meanwhile: the trigger on
-- either side did not see the other. within_s: of who is withheld, those whose decision is younger. A look-up per key,
-- and all degrees by one join: for an array of ten thousand keys the index would try each with every study it finds.
UPDATE study AS s SET withheld = degree_of_patient(s.patient_keys) FROM (
    SELECT study_uid FROM study
    WHERE study_uid = ANY(ARRAY(
        SELECT o.study_uid FROM (
            SELECT unnest(%(patient_keys)s::text[]) AS key
            UNION ALL
            SELECT patient_key FROM withheld_patient WHERE %(patient_keys)s::text[] IS NULL
                AND (%(within_s)s::float8 IS NULL OR abs(extract(epoch FROM now() - at)) < %(within_s)s::float8)
        ) AS asked CROSS JOIN LATERAL (
            SELECT s.study_uid, s.patient_keys, s.withheld FROM study AS s
            WHERE s.patient_keys @> ARRAY[asked.key] OFFSET 0
        ) AS o CROSS JOIN LATERAL unnest(o.patient_keys) AS k (key)
        LEFT JOIN LATERAL (SELECT p.degree FROM withheld_patient AS p WHERE p.patient_key = k.key OFFSET 0) AS w ON TRUE
        GROUP BY o.study_uid, o.withheld HAVING o.withheld <> coalesce(max(w.degree), 0)))
        AND withheld <> degree_of_patient(patient_keys)
    ORDER BY study_uid FOR UPDATE
) AS late WHERE late.study_uid = s.study_uid;

-- name: withheld
-- Withheld patients, the newest first, with how many of their studies are here.
SELECT w.patient_key, w.degree, w.reason, w.by, w.at,
    (SELECT count(*) FROM study AS s WHERE s.patient_keys @> ARRAY[w.patient_key])::integer AS studies
FROM withheld_patient AS w ORDER BY w.at DESC, w.patient_key;

-- == Emergency access ==

-- name: begin_emergency
-- An account, which is locked, opens the patient of a study for a while; no row where the account may not, or where the
-- study is not here or names no patient.
INSERT INTO emergency_access (account_id, caller, study_uid, patient_keys, reason, ends_at)
SELECT a.id, a.name, s.study_uid, linked_keys(s.patient_keys), %(reason)s, now() + make_interval(secs => %(valid_s)s::float8)
FROM account AS a CROSS JOIN study AS s
WHERE a.id = %(account)s AND a.role = 'radiologist' AND a.disabled_at IS NULL AND a.removed_at IS NULL
    AND s.study_uid = %(study_uid)s AND s.patient_keys <> '{}'
RETURNING id, ends_at;

-- name: emergencies_begun
-- How many an account, which is locked, began within the time of one, whether they have ended or not.
SELECT count(*)::integer AS n FROM emergency_access
WHERE account_id = %(account)s AND begun_at > now() - make_interval(secs => %(valid_s)s::float8);

-- name: end_emergency
-- One ends before its time; no row where it has ended.
UPDATE emergency_access SET ended_at = now() WHERE id = %(number)s AND ended_at IS NULL AND ends_at > now()
    AND (%(account)s::text IS NULL OR account_id = (
        SELECT a.id FROM account AS a WHERE lower(a.name) = lower(%(account)s) AND a.removed_at IS NULL))
RETURNING id, study_uid, patient_keys;

-- name: end_emergencies_of
-- All of an account end, since it lost the right.
UPDATE emergency_access SET ended_at = least(now(), ends_at) WHERE account_id = %(id)s AND ended_at IS NULL
RETURNING id, study_uid, patient_keys;

-- name: end_emergencies
-- Those whose time is over end, once.
UPDATE emergency_access SET ended_at = ends_at WHERE ended_at IS NULL AND ends_at <= now()
RETURNING id, caller, study_uid, patient_keys;

-- name: prune_emergencies
-- Those that ended long ago; the trail keeps them.
DELETE FROM emergency_access WHERE ended_at < now() - make_interval(secs => %(keep_s)s::float8);

-- name: emergencies
-- All that are kept, the newest first, or those of one account that are open.
SELECT id AS number, caller, study_uid, patient_keys, reason, begun_at, ends_at, ended_at,
    ended_at IS NULL AND ends_at > now() AS is_open
FROM emergency_access
WHERE %(account)s::text IS NULL OR (ended_at IS NULL AND ends_at > now() AND account_id = (
    SELECT a.id FROM account AS a WHERE lower(a.name) = lower(%(account)s) AND a.removed_at IS NULL))
ORDER BY id DESC;

-- name: figure_of_emergencies
-- Patients who are open in an emergency, or were opened within the last hour.
SELECT count(*)::integer AS n FROM emergency_access
WHERE begun_at > now() - interval '1 hour' OR (ended_at IS NULL AND ends_at > now());

-- == Audit ==

-- name: without_waiting
-- The transaction's commit does not wait for the disk.
SELECT set_config('synchronous_commit', 'off', true);

-- name: note_event
-- One event, about a study or none, or about a patient. A study that is not there has no patients.
INSERT INTO audit_event (event, caller, role, address, study_uid, patient_keys, detail)
VALUES (%(event)s, %(caller)s, %(role)s, %(address)s, %(study_uid)s,
    coalesce(%(patient_keys)s::text[], (SELECT patient_keys FROM study WHERE study_uid = %(study_uid)s), '{}'), %(detail)s::text::jsonb);

-- name: note_studies
-- One event per study.
INSERT INTO audit_event (event, caller, role, address, study_uid, patient_keys, detail)
SELECT %(event)s, %(caller)s, %(role)s, %(address)s, study_uid, patient_keys, %(detail)s::text::jsonb
FROM study WHERE study_uid = ANY(%(study_uids)s::text[]) ORDER BY study_uid;

-- name: audit_events
-- Events that match, newest first; a condition that is NULL matches all.
SELECT id, at, event, caller, role, address, study_uid, patient_keys, detail, seal FROM audit_event
WHERE (%(caller)s::text IS NULL OR caller = %(caller)s)
    AND (%(study_uid)s::text IS NULL OR study_uid = %(study_uid)s)
    AND (%(event)s::text IS NULL OR event = %(event)s)
    AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
    AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(most)s;

-- name: audit_events_of_patient
-- Events about the patient with these keys that match, newest first. By the patient first: the planner would otherwise
-- walk all events backwards until it has found enough.
WITH hit AS MATERIALIZED (
    SELECT id, at, event, caller, role, address, study_uid, patient_keys, detail, seal FROM audit_event
    WHERE patient_keys && %(patient_keys)s::text[]
)
SELECT * FROM hit
WHERE (%(caller)s::text IS NULL OR caller = %(caller)s)
    AND (%(study_uid)s::text IS NULL OR study_uid = %(study_uid)s)
    AND (%(event)s::text IS NULL OR event = %(event)s)
    AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
    AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(most)s;

-- name: keys_of_patient_id
-- The keys (issuer and id) under which a patient's id may be known, and those that they were merged with.
WITH RECURSIVE linked (key) AS (
    SELECT issuer || chr(92) || %(patient_id)s::text FROM (
        SELECT DISTINCT split_part(key, chr(92), 1) AS issuer FROM study CROSS JOIN unnest(patient_keys) AS key
        UNION SELECT split_part(key, chr(92), 1) FROM patient_link
        UNION SELECT ''
    ) AS known
    UNION
    SELECT CASE WHEN l.key = k.key THEN l.prior_key ELSE l.key END
    FROM linked AS k JOIN patient_link AS l ON k.key IN (l.key, l.prior_key) AND l.in_force
)
SELECT key FROM linked;

-- name: linked_keys
-- These keys of patients, and those that they were merged with.
SELECT unnest(linked_keys(%(patient_keys)s::text[])) AS key ORDER BY key;

-- name: known_keys_of_patient_id
-- The keys (issuer and id) of this id that studies, merges, reports or decisions to withhold name.
WITH named (key) AS (
    SELECT unnest(patient_keys) FROM study
    UNION SELECT unnest(patient_keys) FROM report_version
    UNION SELECT prior_key FROM patient_link
    UNION SELECT key FROM patient_link
    UNION SELECT patient_key FROM withheld_patient
)
SELECT key AS patient_key FROM named WHERE split_part(key, chr(92), 2) = %(patient_id)s ORDER BY key;

-- name: lock_audit
-- One process seals at a time; it holds until the transaction ends.
SELECT pg_try_advisory_xact_lock(x'5241445341'::bigint) AS is_mine;

-- name: last_seal
-- The newest seal.
SELECT id, digest FROM audit_seal ORDER BY id DESC LIMIT 1;

-- name: unsealed_events
-- The oldest events that no seal covers.
SELECT id, at, event, caller, role, address, study_uid, patient_keys, detail FROM audit_event
WHERE seal IS NULL ORDER BY id LIMIT %(most)s;

-- name: count_unsealed
-- How many events no seal covers, and for how long the oldest of them.
SELECT count(*)::integer AS unsealed, extract(epoch FROM now() - min(at))::float8 AS oldest_s FROM audit_event WHERE seal IS NULL;

-- name: add_seal
-- A seal over a run of events.
INSERT INTO audit_seal (id, events, digest) VALUES (%(id)s, %(events)s, %(digest)s);

-- name: seal_events
-- The events that a seal covers.
UPDATE audit_event SET seal = %(seal)s WHERE id = ANY(%(ids)s::bigint[]);

-- name: seals
-- Seals after one, in order.
SELECT id, events, digest, sealed_at, retired_at FROM audit_seal WHERE id > %(after)s ORDER BY id LIMIT %(most)s;

-- name: events_of_seals
-- The events that some seals cover, in the order in which they were sealed.
SELECT seal, id, at, event, caller, role, address, study_uid, patient_keys, detail FROM audit_event
WHERE seal BETWEEN %(first)s AND %(last)s ORDER BY seal, id;

-- name: retire_seals
-- The events of some seals were exported.
UPDATE audit_seal SET retired_at = now() WHERE id BETWEEN %(first)s AND %(last)s AND retired_at IS NULL;

-- name: drop_retired
-- They leave the table.
DELETE FROM audit_event WHERE seal BETWEEN %(first)s AND %(last)s;

-- name: retired_up_to
-- The last seal that an event of the trail says was exported.
SELECT coalesce(max((detail ->> 'last')::bigint), 0) AS last FROM audit_event WHERE event = 'AUDIT_RETIRED';

-- name: keep_audit_receivers
-- These receivers too; a new one begins with the first event after the newest seal. One that no setting names any more
-- keeps its place: a relay whose settings were not read must lose nothing.
INSERT INTO audit_receiver (name, seal, event)
SELECT name, coalesce((SELECT max(id) FROM audit_seal), 0), coalesce((SELECT max(e.id) FROM audit_event AS e
    WHERE e.seal = (SELECT max(id) FROM audit_seal)), 0)
FROM unnest(%(names)s::text[]) AS n (name) ON CONFLICT (name) DO NOTHING;

-- name: forget_audit_receiver
-- Nothing waits for a receiver any more.
DELETE FROM audit_receiver WHERE name = %(name)s RETURNING name;

-- name: hold_audit_receiver
-- This process alone sends to it for a while; no row where another one does.
UPDATE audit_receiver SET holder = %(holder)s, held_until = now() + make_interval(secs => %(hold_s)s)
WHERE name = %(name)s AND (holder = %(holder)s OR held_until < now()) RETURNING seal, event;

-- name: sealed_events_after
-- Events after one, in the order of the seals.
SELECT id, at, event, caller, role, address, study_uid, patient_keys, detail, seal FROM audit_event
WHERE (seal, id) > (%(seal)s::bigint, %(event)s::bigint) ORDER BY seal, id LIMIT %(most)s;

-- name: audit_sent
-- A receiver confirmed everything up to this event; it never goes back.
UPDATE audit_receiver SET seal = %(seal)s, event = %(event)s, sent_at = now(), failed = NULL, failed_since = NULL
WHERE name = %(name)s AND holder = %(holder)s AND (seal, event) < (%(seal)s, %(event)s);

-- name: audit_not_sent
-- A receiver did not take a batch.
UPDATE audit_receiver SET failed = %(failed)s, failed_since = coalesce(failed_since, now())
WHERE name = %(name)s AND holder = %(holder)s;

-- name: lock_audit_receiver
-- Where a receiver is, and why it did not take the last batch.
SELECT seal, event, failed FROM audit_receiver WHERE name = %(name)s FOR UPDATE;

-- name: audit_skip
-- A receiver goes on behind this event, which it refused.
UPDATE audit_receiver SET seal = %(seal)s, event = %(event)s, failed = NULL, failed_since = NULL WHERE name = %(name)s;

-- name: audit_send_again
-- All receivers go on with the seal that holds the first event from a time on.
WITH first AS (SELECT min(seal) AS seal FROM audit_event WHERE at >= %(since)s)
UPDATE audit_receiver AS r SET seal = first.seal - 1, event = 9223372036854775807, holder = '', held_until = '-infinity'
FROM first WHERE first.seal <= r.seal RETURNING name;

-- name: audit_receivers
-- How far each receiver is: how many events wait, and for how long the oldest of them.
SELECT r.name, r.sent_at, r.failed, r.failed_since, w.waiting::bigint AS waiting,
    coalesce(extract(epoch FROM now() - w.oldest), 0)::float8 AS oldest_s
FROM audit_receiver AS r CROSS JOIN LATERAL (
    SELECT (SELECT coalesce(sum(s.events), 0) FROM audit_seal AS s WHERE s.id > r.seal AND s.retired_at IS NULL)
            + (SELECT count(*) FROM audit_event AS e WHERE e.seal = r.seal AND e.id > r.event)
            + (SELECT count(*) FROM audit_event AS e WHERE e.seal IS NULL) AS waiting,
        least((SELECT e.at FROM audit_event AS e WHERE (e.seal, e.id) > (r.seal, r.event) ORDER BY e.seal, e.id LIMIT 1),
            (SELECT min(e.at) FROM audit_event AS e WHERE e.seal IS NULL)) AS oldest
) AS w ORDER BY r.name;

-- name: audit_sent_up_to
-- The last seal that every receiver has as a whole; no row without a receiver.
SELECT min(CASE WHEN EXISTS (SELECT FROM audit_event AS e WHERE e.seal = r.seal AND e.id > r.event) THEN r.seal - 1
    ELSE r.seal END) AS seal
FROM audit_receiver AS r HAVING count(*) > 0;

-- name: keep_tokens
-- The image tokens of a study under one encoder; newer ones replace them.
INSERT INTO image_tokens (study_uid, encoder, series_uid, sop_uid, revision, kind, lateral_view, count, tokens, warnings,
    slices, chest)
VALUES (%(study_uid)s, %(encoder)s, %(series_uid)s, %(sop_uid)s, %(revision)s, %(kind)s, %(lateral)s, %(count)s, %(tokens)s,
    %(warnings)s, %(slices)s::text[], %(chest)s::real[])
ON CONFLICT (encoder, study_uid) DO UPDATE SET series_uid = excluded.series_uid, sop_uid = excluded.sop_uid,
    revision = excluded.revision, lateral_view = excluded.lateral_view, count = excluded.count, tokens = excluded.tokens,
    warnings = excluded.warnings, slices = excluded.slices, chest = excluded.chest, kept_at = now();

-- name: kept_tokens
-- Image tokens of some studies under one encoder, those that are of the study as it is now.
SELECT t.study_uid, t.encoder, t.series_uid, t.sop_uid, t.revision, t.kind, t.lateral_view AS lateral, t.count, t.tokens, t.warnings, t.slices,
    t.chest
FROM image_tokens AS t JOIN study AS s ON s.study_uid = t.study_uid AND s.revision = t.revision
WHERE t.encoder = %(encoder)s AND t.study_uid = ANY(%(study_uids)s::text[]) ORDER BY t.study_uid;

-- name: kept_tokens_of_encodings
-- As kept_tokens, of the studies of some encodings; beside each its encoding.
SELECT e.id, t.study_uid, t.encoder, t.series_uid, t.sop_uid, t.revision, t.kind, t.lateral_view AS lateral, t.count, t.tokens,
    t.warnings, t.slices, t.chest
FROM encoding AS e JOIN image_tokens AS t ON t.study_uid = e.study_uid AND t.revision = e.revision
WHERE t.encoder = %(encoder)s AND e.id = ANY(%(ids)s::bigint[]) ORDER BY e.id;

-- name: studies_with_tokens
-- Which of some studies have image tokens under one encoder.
SELECT t.study_uid FROM image_tokens AS t JOIN study AS s ON s.study_uid = t.study_uid AND s.revision = t.revision
WHERE t.encoder = %(encoder)s AND t.study_uid = ANY(%(study_uids)s::text[]);

-- name: token_count
-- How many studies have tokens under each encoder, and how many bytes they take.
SELECT encoder, count(*) AS studies, sum(octet_length(tokens)) AS bytes FROM image_tokens GROUP BY encoder
ORDER BY encoder;

-- name: forget_tokens
-- Drop the tokens of which no model answers any more.
WITH kept AS MATERIALIZED (SELECT DISTINCT encoder, kind FROM image_tokens)
DELETE FROM image_tokens AS t USING kept
WHERE (t.encoder, t.kind) = (kept.encoder, kept.kind) AND NOT encoder_is_used(kept.encoder, kept.kind, '');

-- name: lock_retraining
-- Whoever begins a run waits for whoever does at the same moment: there are never two at once.
LOCK TABLE retraining_run IN SHARE ROW EXCLUSIVE MODE;

-- name: start_retraining
-- A run with its plan, unless a process is at one or about to be, or the last one of its kind is too young.
INSERT INTO retraining_run (kind, depth, plan, plan_sha256, champion, started_by, asked)
SELECT %(kind)s, %(depth)s, %(plan)s, %(plan_sha256)s, %(champion)s, %(started_by)s, %(asked)s
WHERE NOT EXISTS (SELECT FROM retraining_run WHERE state = 'RUNNING' AND lease_until > now())
    AND NOT EXISTS (SELECT FROM retraining_run WHERE state = 'PENDING' AND NOT cancel_asked
        AND abs(extract(epoch FROM now() - created_at)) < %(begins_s)s::float8)
    AND NOT EXISTS (SELECT FROM retraining_run WHERE kind = %(kind)s
        AND abs(extract(epoch FROM now() - created_at)) < 86400 * %(least_days)s::float8)
RETURNING id;

-- name: add_retraining_steps
-- The steps of a run, none begun.
INSERT INTO retraining_step (run_id, number, name)
SELECT %(run_id)s, n, name FROM unnest(%(names)s::text[]) WITH ORDINALITY AS given (name, n);

-- name: retraining_runs
-- The newest runs.
SELECT id, kind, depth, state, plan, plan_sha256, champion, challenger, passed, started_by, reason, reason_code,
    cancel_asked, asked, worker, coalesce(lease_until > now(), false) AS held, created_at,
    greatest(changed_at, lease_until) AS changed_at, ended_at
FROM retraining_run WHERE id = coalesce(%(run_id)s::bigint, id) ORDER BY id DESC LIMIT %(limit)s;

-- name: retraining_numbers
-- All runs.
SELECT id FROM retraining_run;

-- name: retraining_steps
-- The steps of a run, in their order.
SELECT number, name, state, progress, note, attempts, artefacts, started_at, ended_at FROM retraining_step
WHERE run_id = %(run_id)s ORDER BY number;

-- name: ask_for_retraining
-- The relay is to begin a run, or to go on with it; the attempts that were made do not count any more.
WITH afresh AS (UPDATE retraining_step SET attempts = 0 WHERE run_id = %(run_id)s AND state <> 'DONE')
UPDATE retraining_run SET asked = true, state = 'PENDING', changed_at = now(), ended_at = NULL
WHERE id = %(run_id)s AND state IN ('PENDING', 'RUNNING', 'FAILED') AND coalesce(lease_until <= now(), true)
    AND NOT cancel_asked RETURNING id;

-- name: hold_retraining
-- Take a run that nobody holds and that has not ended.
UPDATE retraining_run SET state = 'RUNNING', worker = %(worker)s, token = nextval('retraining_token'),
    lease_until = now() + make_interval(secs => %(lease_s)s), reason = NULL, reason_code = NULL, changed_at = now(),
    ended_at = NULL
WHERE id = %(run_id)s AND state IN ('PENDING', 'RUNNING', 'FAILED') AND coalesce(lease_until <= now(), true)
    AND NOT cancel_asked
    AND NOT EXISTS (SELECT FROM retraining_run AS o WHERE o.id <> %(run_id)s AND o.state = 'RUNNING' AND o.lease_until > now())
RETURNING token;

-- name: renew_retraining
-- Keep a run; says whether it is to be cancelled. No row: somebody else holds it.
UPDATE retraining_run SET lease_until = now() + make_interval(secs => %(lease_s)s)
WHERE id = %(run_id)s AND token = %(token)s AND state = 'RUNNING' RETURNING cancel_asked;

-- name: let_go_of_retraining
-- Nobody is at the run any more.
UPDATE retraining_run SET lease_until = now() WHERE id = %(run_id)s AND token = %(token)s AND state = 'RUNNING';

-- name: tell_retraining_step
-- What a step is doing. Only who holds the run may say so.
UPDATE retraining_step AS s SET state = %(state)s, progress = %(progress)s, note = %(note)s,
    artefacts = s.artefacts || %(artefacts)s::jsonb,
    attempts = s.attempts + (%(begins)s)::integer,
    started_at = coalesce(s.started_at, now()),
    ended_at = CASE WHEN %(state)s IN ('DONE', 'FAILED') THEN now() END
FROM retraining_run AS r
WHERE s.run_id = r.id AND r.id = %(run_id)s AND r.token = %(token)s AND r.state = 'RUNNING' AND s.number = %(number)s RETURNING s.number;

-- name: note_challenger
-- What a run trained, and whether it passed.
UPDATE retraining_run SET challenger = coalesce(%(challenger)s, challenger), passed = coalesce(%(passed)s, passed),
    changed_at = now() WHERE id = %(run_id)s AND token = %(token)s AND state = 'RUNNING' RETURNING id;

-- name: end_retraining
-- The run is over, or may be resumed after a failure; nobody holds it.
UPDATE retraining_run SET state = %(state)s, reason = %(reason)s, reason_code = %(reason_code)s, lease_until = NULL,
    changed_at = now(), ended_at = now() WHERE id = %(run_id)s AND token = %(token)s AND state = 'RUNNING' RETURNING id;

-- name: ask_to_cancel_retraining
-- Have a run stop; one that nobody holds is cancelled at once.
UPDATE retraining_run SET cancel_asked = true, changed_at = now(),
    state = CASE WHEN coalesce(lease_until <= now(), true) THEN 'CANCELLED' ELSE state END,
    ended_at = CASE WHEN coalesce(lease_until <= now(), true) THEN now() ELSE ended_at END
WHERE id = %(run_id)s AND state IN ('PENDING', 'RUNNING', 'FAILED') RETURNING state;

-- name: end_cancelled_retrainings
-- Runs whose process was killed before it saw that they are to be cancelled: nothing would ever end them.
UPDATE retraining_run SET state = 'CANCELLED', lease_until = NULL, changed_at = now(), ended_at = now()
WHERE cancel_asked AND state IN ('PENDING', 'RUNNING', 'FAILED') AND coalesce(lease_until <= now(), true) RETURNING id;

-- name: give_up_retrainings
-- Runs that somebody resumes by itself, and of which one step has been begun so often without an end. They may be
-- resumed by hand.
UPDATE retraining_run AS r SET state = 'FAILED', lease_until = NULL, changed_at = now(), ended_at = now(),
    reason = s.name || ' was begun ' || s.attempts || ' times and never ended'
FROM retraining_step AS s
WHERE (r.asked OR r.started_by = %(started_by)s) AND r.state IN ('PENDING', 'RUNNING') AND coalesce(r.lease_until <= now(), true)
    AND s.run_id = r.id AND s.state <> 'DONE' AND s.attempts >= %(attempts)s RETURNING r.id;

-- name: snapshot_retraining
-- What a run sees.
INSERT INTO retraining_study (run_id, study_uid, revision, report_sha256, held_out)
SELECT %(run_id)s, given.study_uid, given.revision, given.report_sha256, given.held_out
FROM unnest(%(study_uids)s::text[], %(revisions)s::integer[], %(report_sha256s)s::text[], %(held_out)s::boolean[])
    AS given (study_uid, revision, report_sha256, held_out)
JOIN study AS s USING (study_uid)
ON CONFLICT DO NOTHING;

-- name: retraining_snapshot
-- The studies of a run by UID.
SELECT study_uid, revision, report_sha256, held_out FROM retraining_study WHERE run_id = %(run_id)s ORDER BY study_uid;

-- name: snapshot_judgements
-- What readers have judged of pairs of a run's studies; of one reader the last word.
INSERT INTO retraining_judgement (run_id, query_study_uid, case_study_uid, region, up, down)
SELECT %(run_id)s, last.query_study_uid, last.case_study_uid, last.region,
    count(*) FILTER (WHERE last.verdict = 'UP'), count(*) FILTER (WHERE last.verdict = 'DOWN')
FROM (
    SELECT DISTINCT ON (reader, query_study_uid, case_study_uid, region) query_study_uid, case_study_uid, region, verdict
    FROM feedback ORDER BY reader, query_study_uid, case_study_uid, region, at DESC, id DESC
) AS last
JOIN retraining_study AS q ON (q.run_id, q.study_uid) = (%(run_id)s, last.query_study_uid)
JOIN retraining_study AS c ON (c.run_id, c.study_uid) = (%(run_id)s, last.case_study_uid)
GROUP BY last.query_study_uid, last.case_study_uid, last.region
ON CONFLICT DO NOTHING;

-- name: retraining_judgements
-- What readers had judged when a run took its snapshot.
SELECT query_study_uid, case_study_uid, region, up, down FROM retraining_judgement WHERE run_id = %(run_id)s
ORDER BY query_study_uid, case_study_uid, region;

-- name: once_seen
-- Studies that were held out in some run, or that were not.
SELECT DISTINCT study_uid FROM retraining_study WHERE held_out = %(held_out)s;

-- name: studies_to_train
-- Complete studies of a window of study dates that are not withheld, with their report, and what groups of patients are
-- made of.
SELECT s.study_uid, s.revision, s.patient_key, s.modalities, s.patient_sex, s.patient_age_years, s.study_date,
    main.body,
    (SELECT e.scanner FROM encoding AS e WHERE e.study_uid = s.study_uid AND e.model_id = %(model_id)s) AS scanner
FROM study AS s CROSS JOIN LATERAL main_report(s.study_uid) AS main (body)
WHERE s.has_report AND main.body IS NOT NULL AND s.withheld = 0 AND s.state IN ('STABLE', 'ENCODED', 'INDEXED')
    AND s.study_uid > %(after)s
    AND (%(since)s::date IS NULL OR s.study_date >= %(since)s) AND (%(until)s::date IS NULL OR s.study_date <= %(until)s)
ORDER BY s.study_uid LIMIT %(limit)s;

-- == Quality ==

-- name: keep_quality
-- A week's figures; measured again, they replace the earlier ones.
INSERT INTO model_quality (week, model_id, kind, figures)
VALUES (%(week)s, %(model_id)s, %(kind)s, %(figures)s)
ON CONFLICT (week, model_id) DO UPDATE SET figures = excluded.figures, measured_at = now();

-- name: quality
-- The newest weeks.
SELECT week, model_id, kind, figures, measured_at FROM model_quality ORDER BY week DESC, kind, model_id LIMIT %(limit)s;

-- name: reported_studies_of_week
-- Some studies that came in a time, were encoded by a model, and have a mined report: the same ones at every look.
SELECT s.study_uid FROM study AS s JOIN encoding AS e ON (e.study_uid, e.model_id) = (s.study_uid, %(model_id)s)
WHERE s.received_at >= %(since)s AND s.received_at < %(until)s AND EXISTS (
    SELECT FROM report AS r WHERE r.study_uid = s.study_uid AND NOT r.superseded AND r.findings IS NOT NULL)
ORDER BY md5(s.study_uid) LIMIT %(limit)s;

-- name: main_reports
-- Of each study the report that stands for it.
SELECT given.study_uid, main_report(given.study_uid) AS body FROM unnest(%(study_uids)s::text[]) AS given (study_uid);

-- name: vectors_of_week
-- Vectors of a region with the scanner, of some studies that came in a time.
SELECT s.study_uid, e.scanner,
    substring(e.vectors FROM (array_position(e.regions, %(region)s) - 1) * m.dim * 4 + 1 FOR m.dim * 4) AS vector
FROM study AS s JOIN encoding AS e USING (study_uid) JOIN model AS m USING (model_id)
WHERE e.model_id = %(model_id)s AND %(region)s = ANY(e.regions)
    AND s.received_at >= %(since)s AND s.received_at < %(until)s
ORDER BY md5(s.study_uid) LIMIT %(limit)s;

-- name: vectors_of_training
-- The same of the studies on which a model was trained here, by the snapshot of its run, as far as they came before a
-- time; for one that was not, of the first studies that it encoded. The studies first: the vectors of all would be put
-- in order with them.
WITH trained AS (
    SELECT t.study_uid FROM retraining_study AS t WHERE NOT t.held_out
        AND t.run_id = (SELECT max(r.id) FROM retraining_run AS r WHERE r.challenger = %(model_id)s)
), chosen AS MATERIALIZED (
    SELECT e.id, s.study_uid, s.received_at FROM study AS s JOIN encoding AS e USING (study_uid)
    WHERE e.model_id = %(model_id)s AND %(region)s = ANY(e.regions) AND s.received_at < %(until)s
        AND (NOT EXISTS (SELECT FROM trained) OR s.study_uid IN (SELECT trained.study_uid FROM trained))
    ORDER BY CASE WHEN EXISTS (SELECT FROM trained) THEN NULL ELSE s.received_at END, md5(s.study_uid) LIMIT %(limit)s
)
SELECT c.study_uid, e.scanner, EXISTS (SELECT FROM trained) AS trained,
    substring(e.vectors FROM (array_position(e.regions, %(region)s) - 1) * m.dim * 4 + 1 FOR m.dim * 4) AS vector
FROM chosen AS c JOIN encoding AS e USING (id) JOIN model AS m USING (model_id)
ORDER BY CASE WHEN EXISTS (SELECT FROM trained) THEN NULL ELSE c.received_at END, md5(c.study_uid);

-- == What an administrator looks at ==

-- name: throughput
-- Studies and reports of each of the last hours, by what happened to them.
SELECT flow, floor(extract(epoch FROM now() - at) / 3600)::integer AS hours_ago, count(*)::integer AS n
FROM job AS j CROSS JOIN LATERAL (VALUES
    (CASE j.kind WHEN 'encode' THEN 'ARRIVED' END, j.created_at),
    (CASE j.state WHEN 'FAILED' THEN 'FAILED' WHEN 'DONE' THEN
        CASE j.kind WHEN 'encode' THEN 'ENCODED' WHEN 'reencode' THEN 'REENCODED' WHEN 'report' THEN 'REPORTS' END
    END, j.changed_at)
) AS happened (flow, at)
WHERE flow IS NOT NULL AND at > now() - make_interval(hours => %(hours)s::integer) AND at <= now()
GROUP BY flow, hours_ago;

-- name: failed_jobs_by_reason
-- What failed_jobs lists, counted.
SELECT kind AS place, coalesce(reason_code, 'OTHER') AS reason_code, count(*)::integer AS n, max(changed_at) AS newest
FROM job AS j
WHERE state = 'FAILED' AND kind <> 'encode'
    AND NOT EXISTS (SELECT FROM job AS later WHERE later.kind = j.kind AND later.key = j.key AND later.id > j.id)
GROUP BY 1, 2 ORDER BY n DESC, 1, 2;

-- name: studies_by_reason
-- Studies of these states by reason code.
SELECT state AS place, coalesce(reason_code, 'OTHER') AS reason_code, count(*)::integer AS n, max(changed_at) AS newest
FROM study WHERE state = ANY(%(states)s::text[]) GROUP BY 1, 2 ORDER BY n DESC, 1, 2;

-- name: refusals_by_reason
-- Refusals that are still listed, by reason code.
SELECT '' AS place, reason_code, count(*)::integer AS n, max(at) AS newest FROM refusal GROUP BY 2 ORDER BY n DESC, 2;

-- name: index_sizes
-- Partitions, vectors and the age of each model's index, and what its largest partition has beside its generation.
WITH served AS (
    SELECT p.model_id, p.region, coalesce(g.count, 0) AS count, coalesce(g.as_of, '0'::xid8) AS as_of, g.published_at
    FROM partition AS p JOIN kept_model USING (model_id)
    LEFT JOIN generation AS g ON g.model_id = p.model_id AND g.region = p.region AND g.state = 'PUBLISHED'
), largest AS (
    SELECT DISTINCT ON (model_id) model_id, as_of FROM served ORDER BY model_id, count DESC, region
)
SELECT model_id, count(*)::integer AS partitions, sum(count)::bigint AS vectors, min(published_at) AS oldest_at,
    (SELECT count(*) FROM encoding AS e WHERE e.model_id = l.model_id AND e.xid >= l.as_of) AS tail
FROM served JOIN largest AS l USING (model_id) GROUP BY model_id, l.model_id, l.as_of ORDER BY model_id;

-- name: partition_sizes
-- Each partition of a model: vectors in its generation, and those committed since.
WITH served AS (
    SELECT p.region, coalesce(g.count, 0) AS vectors, coalesce(g.as_of, '0'::xid8) AS as_of, g.published_at
    FROM partition AS p
    LEFT JOIN generation AS g ON g.model_id = p.model_id AND g.region = p.region AND g.state = 'PUBLISHED'
    WHERE p.model_id = %(model_id)s
), tails AS (
    SELECT s.region, count(*) AS n
    FROM encoding AS e CROSS JOIN unnest(e.regions) AS r (region)
    JOIN served AS s ON s.region = r.region AND e.xid >= s.as_of
    WHERE e.model_id = %(model_id)s AND e.xid >= (SELECT min(as_of) FROM served)
    GROUP BY s.region
)
SELECT region, vectors, coalesce(n, 0) AS tail, published_at FROM served LEFT JOIN tails USING (region)
ORDER BY vectors + coalesce(n, 0) DESC, region;

-- name: timeline
-- What happened to a study, oldest first: ids, codes and reasons only.
SELECT at, what, subject, detail, count, reason_code, said FROM (
    SELECT min(received_at) AS at, 'RECEIVED' AS what, source AS subject, '' AS detail, count(*)::integer AS count,
        NULL AS reason_code, NULL AS said, 1 AS place
    FROM instance WHERE study_uid = %(study_uid)s GROUP BY source
    UNION ALL
    SELECT c.at, 'CORRECTED', c.source, CASE WHEN c.aside THEN 'ASIDE' ELSE 'COUNTS' END, cardinality(c.changed), NULL,
        NULL, 2
    FROM correction AS c JOIN instance USING (sop_uid) WHERE instance.study_uid = %(study_uid)s
    UNION ALL
    SELECT d.found_at, 'DAMAGED', '', '', count(*)::integer, NULL, NULL, 2
    FROM damaged_blob AS d JOIN instance USING (content_sha256) WHERE instance.study_uid = %(study_uid)s GROUP BY d.found_at
    UNION ALL
    SELECT received_at, 'REPORTED', source,
        CASE WHEN superseded THEN 'SUPERSEDED' WHEN draft THEN 'DRAFT' WHEN adds THEN 'ADDENDUM'
            WHEN unread_language IS NOT NULL THEN 'UNREAD' ELSE 'IN_FORCE' END,
        coalesce(CASE WHEN jsonb_typeof(findings) = 'array' THEN jsonb_array_length(findings) END, 0), NULL, NULL, 2
    FROM report WHERE study_uid = %(study_uid)s
    UNION ALL
    SELECT created_at, 'QUEUED', kind || CASE kind WHEN 'reencode' THEN ' ' || split_part(key, '/', 1) ELSE '' END, '', 0,
        NULL, NULL, 3
    FROM job WHERE kind IN ('encode', 'reencode', 'pull') AND key = ANY(ARRAY(SELECT job_keys(%(study_uid)s)))
    UNION ALL
    SELECT changed_at, 'JOB', kind || CASE kind WHEN 'reencode' THEN ' ' || split_part(key, '/', 1) ELSE '' END, state,
        attempt, reason_code, error, 4
    FROM job WHERE kind IN ('encode', 'reencode', 'pull') AND key = ANY(ARRAY(SELECT job_keys(%(study_uid)s)))
        AND (state <> 'PENDING' OR attempt > 0)
    UNION ALL
    SELECT encoded_at, 'ENCODED', model_id, '', cardinality(regions), NULL, NULL, 5
    FROM encoding WHERE study_uid = %(study_uid)s
    UNION ALL
    SELECT changed_at, 'STATE', state, '', 0, reason_code, reason, 6 FROM study WHERE study_uid = %(study_uid)s
) AS happened
ORDER BY at, place;

-- name: count_feedback
-- Readers' judgements by region, with the day of the newest.
SELECT region, count(*) FILTER (WHERE verdict = 'UP')::integer AS up,
    count(*) FILTER (WHERE verdict = 'DOWN')::integer AS down, max(at) AS newest
FROM feedback GROUP BY region ORDER BY count(*) DESC, region;
-- == Backup and restore ==

-- name: installation
-- The id of this installation.
SELECT id::text FROM installation;

-- name: name_installation
-- A restored installation is another one than that of the backup.
UPDATE installation SET id = %(id)s::uuid;

-- name: blobs_to_copy
-- Every blob with a hash from low to below high that an instance refers to, by hash, but those that made room; the size
-- is null for a file that was kept beside another.
SELECT sha256, max(size_bytes) AS size_bytes FROM (
    SELECT content_sha256 AS sha256, size_bytes FROM instance
    WHERE content_sha256 >= %(low)s AND content_sha256 < %(high)s
    UNION ALL
    SELECT other_sha256, NULL FROM correction WHERE aside AND other_sha256 >= %(low)s AND other_sha256 < %(high)s
) AS b WHERE NOT EXISTS (SELECT FROM evicted_blob AS e WHERE e.content_sha256 = b.sha256)
GROUP BY sha256 ORDER BY sha256;

-- name: tables
-- The tables that stand.
SELECT relname AS name FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname;

-- name: forget_generations
-- After a restore: no build of before answers, whatever files are there; every vector is in the tail until the next merge.
DELETE FROM generation;

-- name: renumber_encodings
-- After a restore: transactions are counted anew, so what was committed is as if committed now.
UPDATE encoding SET xid = pg_current_xact_id();

-- name: forget_gone
-- After a restore: no reader has read the feed of changes yet.
DELETE FROM encoding_gone;

-- name: forget_changed
-- After a restore, as forget_gone.
DELETE FROM study_changed;

-- name: move_feed_horizon
-- After a restore: whoever read the feed before starts again from the catalogue.
UPDATE feed_horizon SET xid = pg_current_xact_id();

-- name: release_jobs
-- After a restore: nobody works on what was under way, which was no fault of the job.
UPDATE job SET state = 'PENDING', attempt = greatest(attempt - 1, 0), worker = NULL, lease_until = NULL,
    run_after = least(run_after, now()), rung_at = NULL, changed_at = now()
WHERE state = 'RUNNING';

-- name: announce_again
-- After a restore: messages about jobs were not kept.
UPDATE job SET rung_at = NULL WHERE state = 'PENDING' AND rung_at IS NOT NULL;

-- name: release_retraining
-- After a restore: nobody holds a run.
UPDATE retraining_run SET worker = NULL, lease_until = NULL WHERE lease_until IS NOT NULL;

-- name: forget_sessions
-- After a restore: nobody is signed in, who may have been signed out since the backup.
DELETE FROM web_session;

-- name: forget_visits
-- After a restore, as forget_sessions.
DELETE FROM provider_visit;

-- name: forget_all_attempts
-- After a restore: nobody waits for attempts of before.
DELETE FROM sign_in_attempt;

-- name: forget_processes
-- After a restore: no process of before is alive.
DELETE FROM process;

-- == Disk ==

-- name: note_blob_usage
-- What the sweep found in one folder of blobs.
INSERT INTO blob_usage (part, files, bytes) VALUES (%(part)s, %(files)s, %(bytes)s)
ON CONFLICT (part) DO UPDATE SET files = excluded.files, bytes = excluded.bytes, at = now();

-- name: blob_usage
-- What all folders hold, as far as the sweep has come.
SELECT coalesce(sum(files), 0)::bigint AS files, coalesce(sum(bytes), 0)::bigint AS bytes, count(*)::integer AS parts
FROM blob_usage;

-- name: usage_by_modality
-- Bytes of the instances by modality; what made room is counted apart.
SELECT coalesce(s.modality, '') AS modality, count(*)::bigint AS files,
    coalesce(sum(i.size_bytes) FILTER (WHERE e.content_sha256 IS NULL), 0)::bigint AS bytes,
    coalesce(sum(i.size_bytes) FILTER (WHERE e.content_sha256 IS NOT NULL), 0)::bigint AS evicted_bytes
FROM instance AS i JOIN series AS s USING (series_uid) LEFT JOIN evicted_blob AS e USING (content_sha256)
GROUP BY 1 ORDER BY bytes DESC;

-- name: usage_by_table
-- Bytes of each table with its indexes.
SELECT relname AS name, pg_total_relation_size(oid)::bigint AS bytes FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY bytes DESC, name;

-- name: evictable_keys
-- Studies after a place in their order, the oldest first. Many at once: there is no index by that order, which every
-- instance that arrives would have to write.
SELECT study_uid, last_instance_at FROM study
WHERE state = ANY(%(states)s::text[]) AND NOT is_emptied
    AND (last_instance_at, study_uid) > (%(after_at)s::timestamptz, %(after_uid)s::text)
ORDER BY last_instance_at, study_uid LIMIT %(limit)s;

-- name: note_emptied
-- Which of these studies, all locked before, have no picture here.
UPDATE study AS s SET is_emptied = true WHERE study_uid = ANY(%(study_uids)s::text[]) AND NOT is_emptied
    AND NOT EXISTS (SELECT FROM instance AS i LEFT JOIN evicted_blob AS e USING (content_sha256)
        WHERE i.study_uid = s.study_uid AND i.rows_px IS NOT NULL AND e.content_sha256 IS NULL);

-- name: instances_in
-- How many instances each of these studies has.
SELECT study_uid, count(*)::bigint AS instances FROM instance WHERE study_uid = ANY(%(study_uids)s::text[])
GROUP BY study_uid;

-- name: evictable
-- These studies, the oldest first, with the pictures that are here: none where something is about to read them.
SELECT s.study_uid, s.last_instance_at, s.state, s.sites, coalesce(h.held, '{}') AS held,
    CASE WHEN %(by_rule)s::boolean AND f.hashes IS NOT NULL THEN encoded_by_all(s.study_uid) ELSE false END AS is_encoded,
    coalesce(f.hashes, '{}') AS hashes, coalesce(f.sop_uids, '{}') AS sop_uids,
    coalesce(f.modalities, '{}') AS modalities, coalesce(f.sop_classes, '{}') AS sop_classes,
    coalesce(f.sizes, '{}') AS sizes
FROM (
    SELECT study_uid, last_instance_at, state, sites FROM study
    WHERE study_uid = ANY(%(study_uids)s::text[]) AND state = ANY(%(states)s::text[])
) AS s LEFT JOIN (
    SELECT study_uid, array_agg(DISTINCT why ORDER BY why) AS held FROM held_study
    WHERE study_uid = ANY(%(study_uids)s::text[]) GROUP BY study_uid
) AS h USING (study_uid) CROSS JOIN LATERAL (
    SELECT array_agg(i.content_sha256 ORDER BY i.sop_uid) AS hashes, array_agg(i.sop_uid ORDER BY i.sop_uid) AS sop_uids,
        array_agg(coalesce(r.modality, '') ORDER BY i.sop_uid) AS modalities,
        array_agg(i.sop_class_uid ORDER BY i.sop_uid) AS sop_classes,
        array_agg(i.size_bytes ORDER BY i.sop_uid) AS sizes
    FROM instance AS i JOIN series AS r USING (series_uid) LEFT JOIN evicted_blob AS e USING (content_sha256)
    WHERE i.study_uid = s.study_uid AND i.rows_px IS NOT NULL AND e.content_sha256 IS NULL AND h.held IS NULL
) AS f
ORDER BY s.last_instance_at, s.study_uid;

-- name: evict
-- The study is locked before (lock_study), so that a hold that was being written is seen here. These files go, unless
-- something came to the study or is about to read them, or a backup may be about to copy them (as known_blobs).
WITH still AS (
    SELECT s.study_uid FROM study AS s WHERE s.study_uid = %(study_uid)s AND s.state = ANY(%(states)s::text[])
        AND s.last_instance_at = %(last_instance_at)s AND pg_try_advisory_xact_lock_shared(1380009026)
        AND NOT EXISTS (SELECT FROM held_study AS h WHERE h.study_uid = %(study_uid)s)
        AND (NOT %(must_be_encoded)s::boolean OR encoded_by_all(s.study_uid))
    FOR UPDATE OF s
)
INSERT INTO evicted_blob (content_sha256, reason) SELECT unnest(%(hashes)s::text[]), %(reason)s FROM still
ON CONFLICT DO NOTHING RETURNING content_sha256;

-- name: away
-- Files that were removed on purpose, by why.
SELECT reason, count(*)::bigint AS files FROM evicted_blob GROUP BY reason;

-- name: away_reason
-- Why a file was removed on purpose; no row: it was not.
SELECT reason FROM evicted_blob WHERE content_sha256 = %(content_sha256)s;

-- name: whose_study
-- From which sites a study came, and to which patients it belongs.
SELECT sites, patient_keys FROM study WHERE study_uid = %(study_uid)s;

-- name: lock_studies
-- These studies, if they are here, locked in the order that schema.sql prescribes.
SELECT study_uid FROM study WHERE study_uid = ANY(%(study_uids)s::text[]) ORDER BY study_uid FOR UPDATE;

-- name: away_of_study
-- How many of a study's files were removed on purpose.
SELECT count(*)::bigint AS files FROM instance AS i JOIN evicted_blob AS e USING (content_sha256)
WHERE i.study_uid = %(study_uid)s;

-- name: hold_studies
-- The files of these studies stay, if they are here; says which these are.
INSERT INTO study_hold (study_uid, why, by, until)
SELECT study_uid, %(why)s, %(by)s, coalesce(now() + make_interval(secs => %(for_s)s::float8), 'infinity') FROM study
WHERE study_uid = ANY(%(study_uids)s::text[]) ORDER BY study_uid
ON CONFLICT (study_uid, why, by) DO UPDATE SET until = excluded.until RETURNING study_uid;

-- name: release_studies
-- Holds that end: of a study, or all of somebody.
DELETE FROM study_hold WHERE why = %(why)s AND (%(study_uid)s::text IS NULL OR study_uid = %(study_uid)s)
    AND (%(by)s::text IS NULL OR by = %(by)s);

-- name: holds
-- Who holds which studies, the newest first.
SELECT study_uid, why, by, at FROM study_hold WHERE until > now() ORDER BY at DESC, study_uid LIMIT %(limit)s;

-- name: prune_holds
-- Holds whose time is over.
DELETE FROM study_hold WHERE until <= now();

-- name: retention_pass
-- How far the rules have gone through the archive.
SELECT rules, after_at, began_at, ended_at, studies, files, bytes,
    extract(epoch FROM now() - ended_at)::float8 AS ended_s FROM retention_pass;

-- name: begin_retention_pass
-- From the oldest study on.
INSERT INTO retention_pass (rules) VALUES (%(rules)s)
ON CONFLICT (is_it) DO UPDATE SET rules = excluded.rules, after_at = NULL, began_at = now(), ended_at = NULL, studies = 0,
    files = 0, bytes = 0;

-- name: go_on_with_retention
-- Studies up to this last instance are done.
UPDATE retention_pass SET after_at = %(after_at)s, studies = studies + %(studies)s, files = files + %(files)s,
    bytes = bytes + %(bytes)s;

-- name: end_retention_pass
-- Every study was looked at.
UPDATE retention_pass SET ended_at = now();

-- name: not_evicted
-- The file stays after all.
WITH here AS (DELETE FROM evicted_blob WHERE content_sha256 = %(content_sha256)s)
UPDATE study SET is_emptied = false
WHERE is_emptied AND study_uid IN (SELECT study_uid FROM instance WHERE content_sha256 = %(content_sha256)s);

-- name: less_used
-- A file is gone from its folder before the sweep sees it.
UPDATE blob_usage SET files = greatest(files - 1, 0), bytes = greatest(bytes - %(bytes)s, 0) WHERE part = %(part)s;
