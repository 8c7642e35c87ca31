-- Small records that are no resources (storage.Item), and what they are found by.
CREATE TABLE item (
    tenant  TEXT NOT NULL,
    kind    TEXT NOT NULL,
    id      TEXT NOT NULL,
    version INTEGER NOT NULL,
    expires INTEGER,
    data    BLOB NOT NULL,
    PRIMARY KEY (tenant, kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX item_expires ON item (expires) WHERE expires IS NOT NULL;
CREATE TABLE item_key (
    tenant TEXT NOT NULL,
    kind   TEXT NOT NULL,
    key    TEXT NOT NULL,
    id     TEXT NOT NULL,
    PRIMARY KEY (tenant, kind, key, id)
) STRICT, WITHOUT ROWID;
-- The keys of an item are removed with it.
CREATE INDEX item_key_id ON item_key (tenant, kind, id);

-- What proves who a user is, which was the hash of a password and nothing else.
INSERT INTO item (tenant, kind, id, version, data)
    SELECT r.tenant, 'credential', r.id, 1, CAST(json_object('passwordHash', c.secret) AS BLOB)
    FROM credential c JOIN resource r ON r.n = c.n WHERE c.kind = 'password';
DROP TABLE credential;
