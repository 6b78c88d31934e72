-- A job reads the files of a storage commitment; its result waits here until the peer was told.
ALTER TABLE commitment ADD COLUMN failed jsonb;
INSERT INTO job (kind, key, max_attempts)
SELECT 'commitment', id::text, 12 FROM commitment WHERE state = 'PENDING'
ON CONFLICT DO NOTHING;
