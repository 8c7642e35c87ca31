-- Users are found by their manager. SQL cannot derive a key: derive.go does it for the
-- rows beyond n, and then takes n away.
DELETE FROM stale;
INSERT INTO stale (n) SELECT 0 WHERE EXISTS (SELECT 1 FROM resource);
