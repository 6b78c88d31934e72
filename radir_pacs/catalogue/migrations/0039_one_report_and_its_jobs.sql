-- The report that stands for a study: a whole one before an addendum, a final one before a draft, then the newest.
CREATE FUNCTION main_report(of_study text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT r.body FROM report AS r WHERE r.study_uid = of_study AND NOT r.superseded
    ORDER BY r.adds, r.draft, CASE WHEN r.received_at > now() THEN '-infinity' ELSE r.received_at END DESC, r.id DESC
    LIMIT 1
$$;

-- Whether a model that is not to be cleared away answers from an encoder's image tokens, besides one that is; one whose
-- manifest does not say may.
CREATE FUNCTION encoder_is_used(encoder text, of_kind text, gone text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM model AS m WHERE m.model_id <> gone AND m.kind = of_kind
        AND (m.state <> 'RETIRED' OR m.kept_until IS NULL OR m.kept_until > now())
        AND coalesce(m.manifest ->> 'encoder', encoder_is_used.encoder) = encoder_is_used.encoder)
$$;

-- The encoder of a model, where no other one answers from its image tokens.
CREATE OR REPLACE FUNCTION unused_encoder(gone model) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT gone.manifest ->> 'encoder'
    WHERE NOT encoder_is_used(gone.manifest ->> 'encoder', gone.kind, gone.model_id)
$$;

-- The keys that a study's jobs may have: its own, and one for each model.
CREATE FUNCTION job_keys(of_study text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT of_study UNION ALL SELECT m.model_id || '/' || of_study FROM model AS m
$$;

CREATE INDEX job_by_key ON job (key);
