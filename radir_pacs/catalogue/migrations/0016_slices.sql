-- On which slices of a CT a region is shown; encodings made before keep to the middle slice.
ALTER TABLE encoding ADD COLUMN slices text[], ADD COLUMN chest real[];
