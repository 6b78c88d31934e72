-- Every statement the catalogue runs. Each has a name and a comment; tests/integration/test_queries.py prepares them all.

-- == Ingest ==

-- name: instance_identity
-- What stands under a SOP instance UID, to tell the same input from a conflict.
SELECT study_uid, series_uid, content_sha256 FROM instance WHERE sop_uid = %(sop_uid)s;

-- name: receive_study
-- A study has a new instance. The row lock it takes orders all that happens to one study. The first instance that
-- knows an attribute sets it; an image raises the revision and re-opens, other objects only join.
INSERT INTO study (study_uid, revision, patient_key, patient_id, patient_name, patient_sex, patient_birth_date,
    patient_age_years, study_date, study_time, accession_number, study_description, referring_physician, study_id,
    body_part, modalities)
VALUES (%(study_uid)s, %(is_image)s::boolean::integer, %(patient_key)s, %(patient_id)s, %(patient_name)s,
    %(patient_sex)s, %(patient_birth_date)s, %(patient_age_years)s, %(study_date)s, %(study_time)s,
    %(accession_number)s, %(study_description)s, %(referring_physician)s, %(study_id)s, %(body_part)s,
    array_remove(ARRAY[%(modality)s::text], NULL))
ON CONFLICT (study_uid) DO UPDATE SET
    state = CASE WHEN %(is_image)s::boolean THEN 'RECEIVING' ELSE study.state END,
    reason = CASE WHEN %(is_image)s::boolean THEN NULL ELSE study.reason END,
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
    study_id = coalesce(study.study_id, excluded.study_id),
    body_part = coalesce(study.body_part, excluded.body_part),
    modalities = CASE WHEN excluded.modalities <@ study.modalities THEN study.modalities
        ELSE ARRAY(SELECT DISTINCT m FROM unnest(study.modalities || excluded.modalities) AS m ORDER BY m) END,
    last_instance_at = now(),
    changed_at = now();

-- name: receive_series
-- A series, if it is new. The first instance sets its attributes.
INSERT INTO series (series_uid, study_uid, modality, series_number, series_description, body_part)
VALUES (%(series_uid)s, %(study_uid)s, %(modality)s, %(series_number)s, %(series_description)s, %(body_part)s)
ON CONFLICT DO NOTHING;

-- name: study_of_series
-- The study that a series belongs to.
SELECT study_uid FROM series WHERE series_uid = %(series_uid)s;

-- name: receive_instance
-- An instance; no row comes back when another transaction stored the UID first.
INSERT INTO instance (sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, instance_number, rows_px,
    columns_px, frames, content_sha256, size_bytes, attributes, source)
VALUES (%(sop_uid)s, %(series_uid)s, %(study_uid)s, %(sop_class_uid)s, %(transfer_syntax_uid)s, %(instance_number)s,
    %(rows_px)s, %(columns_px)s, %(frames)s, %(content_sha256)s, %(size_bytes)s, %(attributes)s, %(source)s)
ON CONFLICT DO NOTHING
RETURNING sop_uid;

-- name: add_refusal
-- What was refused, and why.
INSERT INTO refusal (sop_uid, reason, dimse_status, source)
VALUES (%(sop_uid)s, %(reason)s, %(dimse_status)s, %(source)s);

-- name: refusals
-- The newest refusals.
SELECT sop_uid, reason, dimse_status, source, at FROM refusal ORDER BY id DESC LIMIT %(limit)s;

-- name: prune_refusals
-- What was refused long ago, or so many refusals ago: a peer that sends rubbish for ever fills no disk (P6).
DELETE FROM refusal WHERE at < now() - make_interval(secs => %(keep_s)s::float8)
    OR id <= (SELECT max(id) FROM refusal) - %(most)s::bigint;

-- name: known_blobs
-- Which of these blobs an instance names.
SELECT DISTINCT content_sha256 FROM instance WHERE content_sha256 = ANY(%(hashes)s::text[]);

-- == The life of a study ==

-- name: complete_quiet
-- Studies that had no new instance for the quiet period are complete: their encode jobs are written with them.
WITH quiet AS (
    SELECT study_uid FROM study
    WHERE state = 'RECEIVING' AND last_instance_at <= now() - make_interval(secs => %(quiet_period_s)s::float8)
    ORDER BY last_instance_at LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED
), completed AS (
    UPDATE study SET state = 'STABLE', changed_at = now() FROM quiet WHERE study.study_uid = quiet.study_uid
    RETURNING study.study_uid
), work AS (
    INSERT INTO job (kind, key, max_attempts)
    SELECT 'encode', study_uid, %(max_attempts)s::integer FROM completed
    ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
    SET again = job.again OR job.state = 'RUNNING'
)
SELECT study_uid FROM completed;

-- name: encode_forgotten
-- Every STABLE study has an open encode job, by construction; should one ever lack it, it does not wait for ever.
INSERT INTO job (kind, key, max_attempts)
SELECT 'encode', study_uid, %(max_attempts)s::integer FROM study AS s
WHERE s.state = 'STABLE' AND NOT EXISTS (
    SELECT FROM job AS j WHERE j.kind = 'encode' AND j.key = s.study_uid AND j.state IN ('PENDING', 'RUNNING'))
ON CONFLICT DO NOTHING
RETURNING key AS study_uid;

-- name: complete_now
-- One study is complete because somebody who knows says so.
UPDATE study SET state = 'STABLE', changed_at = now() WHERE study_uid = %(study_uid)s AND state = 'RECEIVING'
RETURNING study_uid;

-- name: lock_study
-- The study row, locked first by whatever changes both a study and its jobs.
SELECT state, revision FROM study WHERE study_uid = %(study_uid)s FOR UPDATE;

-- name: set_study_state
-- The outcome of a study, unless new images came after the revision that was looked at.
UPDATE study SET state = %(state)s, reason = %(reason)s, changed_at = now()
WHERE study_uid = %(study_uid)s AND (%(revision)s::integer IS NULL OR revision = %(revision)s::integer)
RETURNING study_uid;

-- name: quarantine_stable_study
-- Its encode job failed for good. A study that was re-opened meanwhile gets a new job instead.
UPDATE study SET state = 'QUARANTINED', reason = %(reason)s, changed_at = now()
WHERE study_uid = %(study_uid)s AND state = 'STABLE'
RETURNING study_uid;

-- name: mark_indexed
-- An encoding below the snapshot's xmin is in a generation or in the exact tail of every reader from now on.
UPDATE study SET state = 'INDEXED', changed_at = now()
WHERE state = 'ENCODED' AND NOT EXISTS (
    SELECT FROM encoding AS e
    WHERE e.study_uid = study.study_uid AND e.xid >= pg_snapshot_xmin(pg_current_snapshot()))
RETURNING study_uid;

-- name: blobs_of_study
-- Hashes of a study's instances.
SELECT DISTINCT content_sha256 FROM instance WHERE study_uid = %(study_uid)s;

-- name: delete_study
-- Takes its series, instances, encodings and reports along; triggers note the encodings that are gone.
DELETE FROM study WHERE study_uid = %(study_uid)s RETURNING study_uid;

-- == Reading studies; searches by QIDO-RS keys are put together in qido.py ==

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

-- name: headers_of
-- What the instances of a study said of themselves when they came, as far as it is kept in columns.
SELECT i.*, e.modality, e.series_number, e.series_description, e.body_part, s.patient_key, s.patient_id,
    s.patient_name, s.patient_sex, s.patient_birth_date, s.patient_age_years, s.study_date, s.study_time,
    s.accession_number, s.study_description, s.referring_physician, s.study_id
FROM instance AS i JOIN series AS e USING (series_uid) JOIN study AS s ON s.study_uid = i.study_uid
WHERE i.study_uid = %(study_uid)s
ORDER BY e.series_number NULLS LAST, i.series_uid, i.instance_number NULLS LAST, i.sop_uid;

-- name: content_of
-- A text that stands for the files of a study: it changes with any of them.
SELECT coalesce(string_agg(content_sha256, ' ' ORDER BY sop_uid), '') AS content
FROM instance WHERE study_uid = %(study_uid)s;

-- name: study_uids
-- A page of all studies' UIDs.
SELECT study_uid FROM study WHERE study_uid > %(after)s ORDER BY study_uid LIMIT %(limit)s;

-- name: studies_in_state
-- Studies in one state, newest first.
SELECT s.*, (SELECT count(*) FROM series WHERE series.study_uid = s.study_uid) AS series_count,
    (SELECT count(*) FROM instance WHERE instance.study_uid = s.study_uid) AS instance_count
FROM study AS s WHERE s.state = %(state)s ORDER BY s.study_date DESC NULLS LAST, s.study_uid LIMIT %(limit)s;

-- == Models and encodings ==

-- name: register_model
-- A model by its id: what stands there stays, since vectors lean on it.
INSERT INTO model (model_id, kind, dim, manifest, active)
VALUES (%(model_id)s, %(kind)s, %(dim)s, %(manifest)s, FALSE)
ON CONFLICT (model_id) DO NOTHING;

-- name: lock_models
-- Activating is rare and must not race: one transaction at a time.
LOCK TABLE model IN SHARE ROW EXCLUSIVE MODE;

-- name: retire_models
-- The other models of a kind no longer answer.
UPDATE model SET active = FALSE WHERE kind = %(kind)s AND model_id <> %(model_id)s AND active;

-- name: activate_model
-- This model answers for its kind.
UPDATE model SET active = TRUE WHERE model_id = %(model_id)s AND NOT active;

-- name: encode_again
-- What another model of the kind encoded, or nobody could, is work for the one that answers now.
INSERT INTO job (kind, key, max_attempts)
SELECT 'encode', s.study_uid, %(max_attempts)s::integer FROM study AS s
WHERE (s.state IN ('ENCODED', 'INDEXED') AND EXISTS (
        SELECT FROM encoding AS e JOIN model AS m USING (model_id)
        WHERE e.study_uid = s.study_uid AND m.kind = %(kind)s AND m.model_id <> %(model_id)s)
    AND NOT EXISTS (
        SELECT FROM encoding AS e WHERE e.study_uid = s.study_uid AND e.model_id = %(model_id)s))
    OR (s.state = 'SKIPPED' AND s.reason LIKE 'no model is served%%')
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
SET again = job.again OR job.state = 'RUNNING';

-- name: model
-- A model by its id.
SELECT model_id, kind, dim, manifest, active FROM model WHERE model_id = %(model_id)s;

-- name: active_model
-- The model that answers for a kind.
SELECT model_id, kind, dim, manifest, active FROM model WHERE kind = %(kind)s AND active;

-- name: drop_encodings
-- What a study had under the models that answer now; a newer encoding, or none, takes the place.
DELETE FROM encoding AS e USING model AS m
WHERE e.study_uid = %(study_uid)s AND m.model_id = e.model_id
    AND (m.active OR e.model_id = ANY(%(model_ids)s::text[]));

-- name: add_encoding
-- The region vectors of a study under one model.
INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors, warnings)
VALUES (%(study_uid)s, %(series_uid)s, %(sop_uid)s, %(model_id)s, %(revision)s, %(regions)s, %(vectors)s,
    %(warnings)s)
RETURNING id;

-- name: note_partitions
-- The partitions that an encoding belongs to.
INSERT INTO partition (model_id, region) SELECT %(model_id)s, unnest(%(regions)s::text[]) ON CONFLICT DO NOTHING;

-- name: encoding_of
-- What a study has under a model.
SELECT study_uid, series_uid, sop_uid, model_id, regions, vectors, warnings FROM encoding
WHERE study_uid = %(study_uid)s AND model_id = %(model_id)s;

-- name: encodings_of_study
-- Which models a study is encoded under.
SELECT e.model_id, m.kind, m.active FROM encoding AS e JOIN model AS m USING (model_id)
WHERE e.study_uid = %(study_uid)s ORDER BY m.active DESC, e.model_id;

-- name: encoding_owners
-- The studies behind index labels; a label that is gone has no row.
SELECT e.id AS encoding_id, e.series_uid, e.sop_uid, s.*,
    (SELECT count(*) FROM series WHERE series.study_uid = s.study_uid) AS series_count,
    (SELECT count(*) FROM instance WHERE instance.study_uid = s.study_uid) AS instance_count
FROM encoding AS e JOIN study AS s USING (study_uid) WHERE e.id = ANY(%(ids)s::bigint[]);

-- name: snapshot_xmin
-- All transactions below it have ended: what they wrote is visible to every later statement.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin;

-- name: encodings_since
-- Vectors of one region committed at or after a snapshot; some may have been read before, which does no harm.
SELECT e.id, substring(e.vectors FROM (array_position(e.regions, %(region)s) - 1) * m.dim * 4 + 1 FOR m.dim * 4)
    AS vector
FROM encoding AS e JOIN model AS m USING (model_id)
WHERE e.model_id = %(model_id)s AND e.xid >= %(since)s::text::xid8 AND %(region)s = ANY(e.regions)
ORDER BY e.id;

-- name: encodings_gone_since
-- Encodings deleted or replaced at or after a snapshot.
SELECT encoding_id AS id FROM encoding_gone
WHERE model_id = %(model_id)s AND xid >= %(since)s::text::xid8 ORDER BY encoding_id;

-- name: allowed_encodings
-- Encodings of the studies that pass every filter given; a scanner is a Manufacturer and its model (PS3.3 C.7.5.1),
-- what is said is a path that exists in the mined findings of one of the study's reports.
SELECT e.id FROM encoding AS e JOIN study AS s USING (study_uid)
WHERE e.model_id = %(model_id)s AND %(region)s = ANY(e.regions)
    AND (%(modalities)s::text[] IS NULL OR s.modalities && %(modalities)s::text[])
    AND (%(study_date_from)s::date IS NULL OR s.study_date >= %(study_date_from)s::date)
    AND (%(study_date_to)s::date IS NULL OR s.study_date <= %(study_date_to)s::date)
    AND (%(sexes)s::text[] IS NULL OR s.patient_sex = ANY(%(sexes)s::text[]))
    AND (%(age_from)s::real IS NULL OR s.patient_age_years >= %(age_from)s::real)
    AND (%(age_to)s::real IS NULL OR s.patient_age_years <= %(age_to)s::real)
    AND (%(body_part)s::text IS NULL OR lower(s.body_part) = lower(%(body_part)s::text))
    AND (NOT %(with_report)s::boolean OR s.has_report)
    AND (%(said)s::text IS NULL OR s.study_uid IN (
        SELECT r.study_uid FROM report AS r WHERE NOT r.superseded AND r.findings @? %(said)s::text::jsonpath))
    AND (NOT %(same_scanner)s::boolean OR EXISTS (
        SELECT FROM instance AS i WHERE i.study_uid = s.study_uid
            AND (i.attributes #> '{00080070,Value}', i.attributes #> '{00081090,Value}') IN (
                SELECT q.attributes #> '{00080070,Value}', q.attributes #> '{00081090,Value}'
                FROM instance AS q WHERE q.study_uid = %(query_study_uid)s)))
ORDER BY e.id;

-- name: excluded_encodings
-- Encodings of named studies, of the query study and, when asked, of the query's patient.
SELECT e.id FROM encoding AS e WHERE e.model_id = %(model_id)s AND e.study_uid = ANY(%(study_uids)s::text[])
UNION
SELECT e.id FROM encoding AS e JOIN study AS s USING (study_uid)
WHERE e.model_id = %(model_id)s AND %(same_patient)s::boolean AND s.patient_key <> ''
    AND s.patient_key = (SELECT q.patient_key FROM study AS q WHERE q.study_uid = %(query_study_uid)s)
ORDER BY id;

-- == Generations ==

-- name: retire_generation
-- A newer generation, or nothing, answers for the partition.
UPDATE generation SET state = %(state)s, reason = %(reason)s
WHERE model_id = %(model_id)s AND region = %(region)s AND state = 'PUBLISHED'
    AND (%(name)s::text IS NULL OR name = %(name)s::text)
RETURNING name;

-- name: record_generation
-- A verified build answers for its partition from here on.
INSERT INTO generation (model_id, region, name, count, as_of, manifest)
VALUES (%(model_id)s, %(region)s, %(name)s, %(count)s, %(as_of)s::text::xid8, %(manifest)s);

-- name: published_generation
-- The build that answers for a partition.
SELECT model_id, region, name, count, as_of::text AS as_of, manifest, published_at FROM generation
WHERE model_id = %(model_id)s AND region = %(region)s AND state = 'PUBLISHED';

-- name: partitions
-- Each partition of the active models: vectors in its generation, in its tail, and gone since the generation.
WITH served AS (
    SELECT p.model_id, p.region, g.name AS published, coalesce(g.count, 0) AS n_generation,
        coalesce(g.as_of, '0'::xid8) AS as_of
    FROM partition AS p JOIN model AS m USING (model_id)
    LEFT JOIN generation AS g ON g.model_id = p.model_id AND g.region = p.region AND g.state = 'PUBLISHED'
    WHERE m.active
)
SELECT p.model_id, p.region, p.published, p.n_generation,
    (SELECT count(*) FROM encoding AS e
     WHERE e.model_id = p.model_id AND e.xid >= p.as_of AND p.region = ANY(e.regions)) AS n_tail,
    gone.n AS n_gone, gone.oldest_s AS oldest_gone_s
FROM served AS p CROSS JOIN LATERAL (
    SELECT count(*) AS n, extract(epoch FROM now() - min(x.at))::float8 AS oldest_s FROM encoding_gone AS x
    WHERE x.model_id = p.model_id AND x.xid >= p.as_of) AS gone
ORDER BY p.model_id, p.region;

-- name: prune_gone
-- Deletions that every generation has taken in and that no process is likely to have missed.
DELETE FROM encoding_gone AS x
WHERE x.at < now() - make_interval(secs => %(keep_s)s::float8)
    AND NOT EXISTS (
        SELECT FROM generation AS g WHERE g.model_id = x.model_id AND g.state = 'PUBLISHED' AND g.as_of <= x.xid);

-- name: prune_generations
-- Generations that answer no more.
DELETE FROM generation WHERE state <> 'PUBLISHED' AND published_at < now() - make_interval(secs => %(keep_s)s::float8);

-- == Reports ==

-- name: add_report
-- A report; the same text for the same study, or the same SR, is one row.
INSERT INTO report (study_uid, sop_uid, source, body, content_sha256, predecessors, draft)
VALUES (%(study_uid)s, %(sop_uid)s, %(source)s, %(body)s, %(content_sha256)s, %(predecessors)s, %(draft)s)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: renew_report
-- An SR that is read again: what it says now.
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
-- Which reports of a study another one replaces: as its predecessor, or as a draft of what is complete.
UPDATE report AS r SET superseded = NOT r.superseded
WHERE r.study_uid = %(study_uid)s AND r.superseded IS DISTINCT FROM (
    EXISTS (SELECT FROM report AS n WHERE n.study_uid = r.study_uid AND r.sop_uid = ANY(n.predecessors)
        AND NOT n.sop_uid = ANY(r.predecessors))
    OR (r.draft AND EXISTS (SELECT FROM report AS n WHERE n.study_uid = r.study_uid AND n.source = r.source
        AND NOT n.draft)));

-- name: report_id
-- The report that stands there already.
SELECT id, findings IS NULL AS unmined FROM report
WHERE (study_uid = %(study_uid)s AND content_sha256 = %(content_sha256)s) OR sop_uid = %(sop_uid)s
ORDER BY id LIMIT 1;

-- name: drop_superseded
-- A corrected text takes the place of those that the same source gave for the study before.
DELETE FROM report
WHERE study_uid = %(study_uid)s AND source = %(source)s AND sop_uid IS NULL AND content_sha256 <> %(content_sha256)s;

-- name: studies_of_accession
-- Whose accession number it is; a second one tells that it names no single study.
SELECT study_uid FROM study WHERE accession_number = %(accession_number)s ORDER BY study_uid LIMIT 2;

-- name: note_report
-- The study has a report now.
UPDATE study SET has_report = TRUE, changed_at = now() WHERE study_uid = %(study_uid)s AND NOT has_report;

-- name: save_findings
-- What mining read from a report.
UPDATE report SET findings = %(findings)s, parser = %(parser)s, unread_language = %(unread_language)s WHERE id = %(report_id)s RETURNING id;

-- name: report
-- One report.
SELECT id, study_uid, sop_uid, source, body, findings, parser, unread_language, received_at FROM report WHERE id = %(report_id)s;

-- name: reported_studies
-- Complete studies that nobody set aside, each with its newest report; a page, going on after a UID.
SELECT s.study_uid, s.patient_key, s.modalities, newest.body
FROM study AS s CROSS JOIN LATERAL (
    SELECT r.body FROM report AS r WHERE r.study_uid = s.study_uid AND NOT r.superseded ORDER BY r.received_at DESC, r.id DESC LIMIT 1
) AS newest
WHERE s.has_report AND s.state IN ('STABLE', 'ENCODED', 'INDEXED') AND s.study_uid > %(after)s
ORDER BY s.study_uid LIMIT %(limit)s;

-- name: reports_of
-- The reports of a study that hold, oldest first.
SELECT id, study_uid, sop_uid, source, body, findings, parser, unread_language, received_at FROM report
WHERE study_uid = %(study_uid)s AND NOT superseded ORDER BY received_at, id;

-- name: findings_of
-- Mined findings of several studies.
SELECT study_uid, findings FROM report
WHERE study_uid = ANY(%(study_uids)s::text[]) AND NOT superseded AND findings IS NOT NULL ORDER BY received_at, id;

-- name: count_unread_reports
-- Reports without findings because of their language.
SELECT unread_language AS language, count(*) AS n FROM report
WHERE unread_language IS NOT NULL AND NOT superseded GROUP BY unread_language ORDER BY n DESC, language;

-- name: reports_of_other_parsers
-- Keys of the jobs that mine what another version of mining read; some of them, and none that failed.
SELECT key FROM (
    SELECT r.id, CASE WHEN EXISTS (SELECT FROM instance AS i WHERE i.sop_uid = r.sop_uid) THEN r.sop_uid
        ELSE %(prefix)s || r.id END AS key
    FROM report AS r WHERE r.parser LIKE %(language)s || '-%%' AND r.parser <> %(parser)s) AS old
WHERE NOT EXISTS (SELECT FROM job WHERE job.kind = 'report' AND job.key = old.key AND job.state = 'FAILED')
ORDER BY id LIMIT %(limit)s;

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
-- The reader has no opinion any more.
DELETE FROM feedback WHERE reader = %(reader)s AND query_study_uid = %(query_study_uid)s
    AND case_study_uid = %(case_study_uid)s AND region = %(region)s AND model_id = %(model_id)s;

-- name: feedback
-- Every judgement, oldest first: material for training.
SELECT query_study_uid, case_study_uid, region, model_id, generation, rank, score, verdict, reason, reader, at
FROM feedback ORDER BY at, id;

-- name: feedback_of
-- What one reader said of the cases of a study.
SELECT query_study_uid, case_study_uid, region, model_id, generation, rank, score, verdict, reason, reader, at
FROM feedback WHERE query_study_uid = %(query_study_uid)s AND reader = %(reader)s ORDER BY at, id;

-- name: open_context
-- A token opens the viewer on a study for a while.
INSERT INTO viewer_context (token_sha256, study_uid, expires_at)
VALUES (%(token_sha256)s, %(study_uid)s, now() + make_interval(secs => %(valid_s)s::float8));

-- name: context
-- The study that a token opens.
SELECT study_uid FROM viewer_context WHERE token_sha256 = %(token_sha256)s AND expires_at > now();

-- name: prune_contexts
-- Tokens that open nothing any more.
DELETE FROM viewer_context WHERE expires_at < now();

-- name: jobs_before
-- Encode jobs that will run before a study's own: what its reader waits for.
SELECT count(*) AS count FROM job AS j WHERE j.kind = 'encode' AND j.state IN ('PENDING', 'RUNNING')
    AND j.id < (SELECT min(own.id) FROM job AS own WHERE own.kind = 'encode' AND own.key = %(study_uid)s
        AND own.state IN ('PENDING', 'RUNNING'));

-- == Jobs ==

-- name: enqueue
-- Work for a key. Where a job is open already it serves; one that runs is asked to run again.
INSERT INTO job (kind, key, max_attempts) VALUES (%(kind)s, %(key)s, %(max_attempts)s)
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO UPDATE
SET again = job.again OR job.state = 'RUNNING'
RETURNING id;

-- name: enqueue_merge
-- A merge for a partition, unless one failed for good in the last minutes.
INSERT INTO job (kind, key, max_attempts)
SELECT 'index', %(key)s::text, %(max_attempts)s::integer
WHERE NOT EXISTS (
    SELECT FROM job WHERE kind = 'index' AND key = %(key)s::text AND state = 'FAILED'
        AND changed_at > now() - make_interval(secs => %(rest_s)s::float8))
ON CONFLICT (kind, key) WHERE state IN ('PENDING', 'RUNNING') DO NOTHING
RETURNING id;

-- name: claim
-- Lease a pending job; the token fences every earlier holder.
UPDATE job SET state = 'RUNNING', attempt = attempt + 1, token = nextval('job_token'), again = FALSE,
    lease_until = now() + make_interval(secs => %(lease_s)s::float8), worker = %(worker)s, changed_at = now()
WHERE id = %(id)s AND state = 'PENDING' AND run_after <= now()
RETURNING id, kind, key, state, attempt, max_attempts, token;

-- name: next_study_to_encode
-- Whose encode job is likely the next: bells are rung in this order.
SELECT key FROM job WHERE state = 'PENDING' AND kind = 'encode' AND run_after <= now() ORDER BY run_after, id LIMIT 1;

-- name: heartbeat
-- The holder still works.
UPDATE job SET lease_until = now() + make_interval(secs => %(lease_s)s::float8)
WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s
RETURNING id;

-- name: hold
-- Lock the job row inside the transaction that writes its result; no row means that the lease is lost.
SELECT id FROM job WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s FOR UPDATE;

-- name: finish
-- Done; or once more, when the key was asked for while the job ran.
UPDATE job SET state = CASE WHEN again THEN 'PENDING' ELSE 'DONE' END, attempt = CASE WHEN again THEN 0 ELSE attempt END,
    again = FALSE, error = %(note)s, lease_until = NULL, rung_at = NULL, run_after = now(), changed_at = now()
WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s
RETURNING state;

-- name: fail
-- One attempt failed: try again later, give up, or start afresh when the key was asked for while the job ran.
UPDATE job SET
    state = CASE WHEN again OR (%(retry)s::boolean AND attempt < max_attempts) THEN 'PENDING' ELSE 'FAILED' END,
    attempt = CASE WHEN again THEN 0 ELSE attempt END,
    run_after = now() + make_interval(secs => CASE WHEN again THEN 0 ELSE %(backoff_s)s::float8 END),
    again = FALSE, error = %(error)s, lease_until = NULL, rung_at = NULL, changed_at = now()
WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s
RETURNING state;

-- name: expired
-- Jobs whose holder went silent.
SELECT id, kind, key, state, attempt, max_attempts, token FROM job
WHERE state = 'RUNNING' AND lease_until < now() ORDER BY lease_until LIMIT %(limit)s;

-- name: still_expired
-- The lease is over even now that the job row is locked.
SELECT id FROM job WHERE id = %(id)s AND state = 'RUNNING' AND token = %(token)s AND lease_until < now() FOR UPDATE;

-- name: to_ring
-- Pending jobs whose bell was not rung, or so long ago that it was lost. At most "limit" stay rung and unclaimed, so
-- that a long queue does not fill the broker.
SELECT id FROM job
WHERE state = 'PENDING' AND run_after <= now()
    AND (rung_at IS NULL OR rung_at < now() - make_interval(secs => %(ring_again_s)s::float8))
ORDER BY run_after, id
LIMIT greatest(0, %(limit)s - (
    SELECT count(*) FROM job WHERE state = 'PENDING'
        AND rung_at >= now() - make_interval(secs => %(ring_again_s)s::float8)));

-- name: rung
-- The broker has the message. A job that was claimed since needs no mark.
UPDATE job SET rung_at = now() WHERE id = ANY(%(ids)s::bigint[]) AND state = 'PENDING';

-- name: job
-- One job, for those who watch.
SELECT id, kind, key, state, attempt, max_attempts, token, error, again FROM job WHERE id = %(id)s;

-- name: prune_jobs
-- Jobs that ended long ago.
DELETE FROM job WHERE state IN ('DONE', 'FAILED') AND changed_at < now() - make_interval(secs => %(keep_s)s::float8);

-- == Processes and the overview ==

-- name: alive
-- A process says that it lives.
INSERT INTO process (name, pid, state, detail) VALUES (%(name)s, %(pid)s, %(state)s, %(detail)s)
ON CONFLICT (name) DO UPDATE SET state = excluded.state, detail = excluded.detail, seen_at = now(),
    started_at = CASE WHEN process.pid = excluded.pid THEN process.started_at ELSE now() END, pid = excluded.pid;

-- name: gone
-- A process says that it ends.
DELETE FROM process WHERE name = %(name)s AND pid = %(pid)s;

-- name: processes
-- All processes that said so, with the seconds since.
SELECT name, pid, state, detail, started_at, extract(epoch FROM now() - seen_at)::float8 AS silent_s
FROM process ORDER BY name;

-- name: prune_processes
-- Processes silent for long.
DELETE FROM process WHERE seen_at < now() - make_interval(secs => %(keep_s)s::float8);

-- name: count_studies
-- Studies by state.
SELECT state, count(*)::integer AS n FROM study GROUP BY state;

-- name: count_jobs
-- Jobs by kind and state, with the age of the oldest that is still open.
SELECT kind, state, count(*)::integer AS n,
    extract(epoch FROM now() - min(created_at) FILTER (WHERE state IN ('PENDING', 'RUNNING')))::float8 AS oldest_s
FROM job GROUP BY kind, state ORDER BY kind, state;

-- name: count_encodings
-- Encodings by model.
SELECT model_id, count(*)::integer AS n FROM encoding GROUP BY model_id ORDER BY model_id;

-- name: count_refusals
-- Refused objects of the last day.
SELECT count(*)::integer AS n FROM refusal WHERE at > now() - interval '1 day';
