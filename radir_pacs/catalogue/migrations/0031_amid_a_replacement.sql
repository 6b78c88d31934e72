-- The encoder of a model, where no other one that is not to be cleared away answers from its image tokens; one whose
-- manifest does not say may.
CREATE FUNCTION unused_encoder(gone model) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT gone.manifest ->> 'encoder' WHERE NOT EXISTS (
        SELECT FROM model AS m WHERE m.model_id <> gone.model_id AND m.kind = gone.kind
            AND (m.state <> 'RETIRED' OR m.kept_until IS NULL OR m.kept_until > now())
            AND coalesce(m.manifest ->> 'encoder', gone.manifest ->> 'encoder') = gone.manifest ->> 'encoder')
$$;

-- An installation that was updated while a model was being replaced: what the one that serves covers, and the rest is
-- encoded in the background.
WITH counted AS (
    SELECT m.model_id, (SELECT count(*) FROM encoding AS e WHERE e.model_id = m.model_id) AS encoded, (
        SELECT count(DISTINCT e.study_uid) FROM encoding AS e JOIN model AS other USING (model_id)
        WHERE other.kind = m.kind AND other.model_id <> m.model_id AND NOT EXISTS (
            SELECT FROM encoding AS own WHERE own.study_uid = e.study_uid AND own.model_id = m.model_id)) AS lacking
    FROM model AS m WHERE m.state = 'SERVING'
)
UPDATE model AS m SET coverage = c.encoded::real / (c.encoded + c.lacking),
    fed_below = (SELECT last_value + 1 FROM encoding_id_seq), fed_at = now()
FROM counted AS c WHERE c.model_id = m.model_id AND c.lacking > 0;
