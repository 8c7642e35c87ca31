-- Loads under way: how far each has come.
CREATE TABLE load (
    tenant  TEXT PRIMARY KEY NOT NULL,
    dump    TEXT NOT NULL,
    records INTEGER NOT NULL,
    digest  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Deleted resources are found by their ids when memberships are loaded.
CREATE INDEX resource_hidden ON resource (tenant, id) WHERE deleted IS NOT NULL;

-- Each tenant numbers its own audit trail, so that one that is loaded keeps its
-- numbers whatever the others have.
CREATE TABLE audit_by_tenant (
    tenant     TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    type       TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    INTEGER NOT NULL, -- 0 for what is no event
    attributes TEXT NOT NULL, -- space-separated paths
    PRIMARY KEY (tenant, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO audit_by_tenant (tenant, seq, at, request_id, actor, action, type, id, version, attributes)
    SELECT tenant, seq, at, request_id, actor, action, type, id, version, attributes FROM audit ORDER BY tenant, seq;
DROP TABLE audit;
ALTER TABLE audit_by_tenant RENAME TO audit;
