-- An id that stands for nobody in particular opens one study only (ADR 0040).

-- Whether an id stands for nobody in particular, as UNKNOWN, 0000 or --- do: no digit, or one character three times on.
CREATE FUNCTION names_nobody(id text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT id !~ '[0-9]' OR regexp_replace(id, '[^0-9A-Za-z]', '', 'g') ~ '^(.)\1{2,}$'
$$;

-- Which studies are open to an account by its emergency accesses (ADR 0040): those that were asked for, and others that
-- surely belong to the same person: all their keys were the patient's from the beginning, and one that they share with
-- the study asked for names its issuer. A key without issuer counts among studies of one and the same site only. A study
-- of several people opens no other one. Keys without an id, of a placeholder, or that were cut, are nobody's, and no two
-- studies with two dates of birth are of one person. P6: at most 1000 a key.
CREATE OR REPLACE FUNCTION opened_studies(account bigint) RETURNS text[] LANGUAGE sql STABLE AS $$
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
