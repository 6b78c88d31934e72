-- The oldest release that goes on working with a database that has this migration, by the newest migration that it
-- knows; null: it must know this one (ADR 0050). And which version a process is of.
ALTER TABLE schema_version ADD COLUMN works_from integer;
ALTER TABLE process ADD COLUMN version text NOT NULL DEFAULT '';
