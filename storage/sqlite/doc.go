// Package sqlite keeps a Roster directory in one SQLite file.
//
// One goroutine writes (writer.go). It takes all waiting writes, runs them one
// after the other, with savepoints once one has failed, inserts the rows of all of
// them together (insert.go), and commits once. So concurrent requests share one
// fsync, and each still waits until its own change is durable. A pool of read-only connections answers everything else and
// never waits for the writer. The database runs in WAL mode with
// synchronous=FULL; every pragma is read back after opening (conn.go).
//
// A file lock keeps a second server out. Commands such as "roster client" open
// the same file as a guest ([Options.Guest]) beside a running server: SQLite's
// own locks order the two writers.
//
// Filters become SQL over the search shadow, a JSONB column (where.go). Rows leave out
// what all of their type have in common (short.go).
// Equality on the attributes that clients search by uses an index. Totals and far
// pages of unfiltered lists come from counted runs of ids (tally.go).
//
// The keys that it uses are hashes. Those of new rows wait in memory until they are
// merged into the tables (keys.go, recent.go), and a filter in memory knows of most new
// unique keys that nobody has them (sieve.go). Filters on the groups of users read
// memberships in their order (below.go).
//
// Another goroutine moves the log into the file while writes go on (checkpoint.go).
//
// A deleted resource keeps its row and its memberships, out of sight, until it is
// restored or purged (deleted.go); purged data is overwritten in the file.
//
// In SQL, LIMIT takes "0 + ?" where "?" would do: SQLite plans with the value of a
// bare parameter there and compiles the statement again whenever it is bound.
//
// Begin with sqlite.go, then writer.go and tx.go for writing, read.go and
// where.go for reading.
package sqlite
