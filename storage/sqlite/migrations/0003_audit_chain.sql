-- From where and at what level something was done, what it changed, and the chain
-- of each entry (storage/chain.go). Entries from before have none.
ALTER TABLE audit ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN level TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN changes BLOB; -- as storage.AppendChanges writes them
ALTER TABLE audit ADD COLUMN chain TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN hash BLOB;
