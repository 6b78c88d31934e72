-- Of several reports of a study the newest truth counts: amended and predecessor documents step back. A report in a
-- language that is not read says so.

ALTER TABLE report ADD COLUMN unread_language text;
ALTER TABLE report ADD COLUMN predecessors text[] NOT NULL DEFAULT '{}';
ALTER TABLE report ADD COLUMN draft boolean NOT NULL DEFAULT FALSE;
ALTER TABLE report ADD COLUMN superseded boolean NOT NULL DEFAULT FALSE;
