-- Deleted resources are listed by type, from the last one on.
DROP INDEX resource_deleted;
CREATE INDEX resource_deleted ON resource (tenant, type, deleted, id) WHERE deleted IS NOT NULL;
-- The highest row number of resource that was purged: none is given twice, for some
-- reader may still hold it.
CREATE TABLE purged (n INTEGER NOT NULL) STRICT;
INSERT INTO purged (n) VALUES (0);
