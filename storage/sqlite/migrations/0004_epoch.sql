-- How often Tx.Advance was called; no row for never.
CREATE TABLE epoch (
    tenant TEXT PRIMARY KEY NOT NULL,
    n      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
