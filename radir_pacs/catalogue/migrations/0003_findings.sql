-- A finding typed beside a region is a condition of the search: the reports that affirm it are found by an index.

CREATE INDEX report_by_finding ON report USING gin (findings jsonb_path_ops);
