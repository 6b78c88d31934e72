-- Names as they are compared; radir_pacs.catalogue.migrate fills them in for the studies that stand.

ALTER TABLE study ADD COLUMN patient_name_folded text;
ALTER TABLE study ADD COLUMN referring_physician_folded text;
