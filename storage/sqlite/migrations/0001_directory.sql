-- Times are milliseconds since 1970.
CREATE TABLE tenant (
    id      TEXT PRIMARY KEY NOT NULL,
    name    TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A resource is addressed inside the store by n, which is what other tables
-- hold: an integer is compact and leads to the row in one step.
CREATE TABLE resource (
    n        INTEGER PRIMARY KEY,
    tenant   TEXT NOT NULL,
    type     TEXT NOT NULL,
    id       TEXT NOT NULL,
    version  INTEGER NOT NULL,
    created  INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    deleted  INTEGER,
    name     TEXT NOT NULL,
    keys     BLOB NOT NULL, -- what unique_key and lookup hold of it (keys.go)
    doc      TEXT NOT NULL,
    shadow   BLOB NOT NULL -- JSONB
) STRICT;
CREATE UNIQUE INDEX resource_live ON resource (tenant, type, id) WHERE deleted IS NULL;
CREATE INDEX resource_modified ON resource (tenant, type, modified) WHERE deleted IS NULL;
CREATE INDEX resource_deleted ON resource (tenant, deleted) WHERE deleted IS NOT NULL;
-- Deleted resources are found by their ids when memberships are loaded.
CREATE INDEX resource_hidden ON resource (tenant, id) WHERE deleted IS NOT NULL;

-- Keys of the live resources up to the row in keyed; those of later rows are
-- held in memory and stand here after the next merge (keys.go). A key is a hash
-- over tenant, type, attribute and value: entries of a few bytes keep the pages
-- that a merge touches few. 128 bits of SHA-256 decide uniqueness; what lookup
-- finds by 64 is compared with the whole filter before it is believed.
CREATE TABLE unique_key (
    h BLOB PRIMARY KEY NOT NULL,
    n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE lookup (
    h INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (h, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE keyed (n INTEGER NOT NULL) STRICT;
INSERT INTO keyed (n) VALUES (0);

-- Live resources counted in runs of neighbouring ids, each beginning at lo, so
-- that totals and far pages do not walk the whole index.
CREATE TABLE tally (
    tenant TEXT NOT NULL,
    type   TEXT NOT NULL,
    lo     TEXT NOT NULL,
    live   INTEGER NOT NULL,
    PRIMARY KEY (tenant, type, lo)
) STRICT, WITHOUT ROWID;

CREATE TABLE membership (
    grp     INTEGER NOT NULL,
    member  INTEGER NOT NULL,
    display TEXT NOT NULL, -- empty for the member's name
    PRIMARY KEY (grp, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX membership_member ON membership (member, grp);

CREATE TABLE credential (
    n      INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    secret TEXT NOT NULL,
    PRIMARY KEY (n, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE client (
    tenant   TEXT NOT NULL,
    id       TEXT NOT NULL,
    name     TEXT NOT NULL,
    scopes   TEXT NOT NULL, -- space-separated
    profile  TEXT NOT NULL,
    networks TEXT NOT NULL, -- space-separated
    created  INTEGER NOT NULL,
    revoked  INTEGER,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX client_name ON client (tenant, name) WHERE revoked IS NULL;
-- The one key that does not begin with the tenant: a token says whose it is.
CREATE TABLE token (
    id        TEXT PRIMARY KEY NOT NULL,
    tenant    TEXT NOT NULL,
    client    TEXT NOT NULL,
    hash      BLOB NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    last_used INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX token_client ON token (tenant, client);

-- The audit trail, which loses no row. Entries with a version are the outbox.
-- Each tenant numbers its own, so that one that is loaded keeps its numbers
-- whatever the others have.
CREATE TABLE audit (
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

-- Loads under way: how far each has come.
CREATE TABLE load (
    tenant  TEXT PRIMARY KEY NOT NULL,
    dump    TEXT NOT NULL,
    records INTEGER NOT NULL,
    digest  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO tenant (id, name, created) VALUES ('default', 'Default tenant', unixepoch() * 1000);
