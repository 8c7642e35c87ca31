// Package mongotest gives tests a MongoDB server.
//
// [Start] takes the first it finds: the server that ROSTER_TEST_MONGODB_URI
// names, a mongod on the PATH, or the double, and says in the log which one it
// was:
//
//	server := mongotest.Start(t)
//	database := server.NewDatabase(t)
//	client, err := mongo.Connect(options.Client().ApplyURI(server.URI(database)))
//
// Begin with mongotest.go; mongod.go and ferretdb.go start other servers, and
// everything else is the double.
//
// # The double
//
// [StartDouble] starts a server in this process that speaks MongoDB's wire
// protocol (wire.go), so that tests go through the real driver. A message
// becomes a request (commands.go), which finds its session and its transaction
// (transactions.go) or snapshot (snapshots.go) and ends in the function for its
// command: write.go, query.go and cursors.go for documents, catalog.go and
// indexes.go for where they are, explain.go, concerns.go, handshake.go and
// auth.go. What it takes from a command it takes by name (arguments.go), and a
// name it does not know is an error. A test can stop and restart the double, cut
// its connections, and let commands fail or lose their answers (failure.go).
//
// The data is kept by an engine (engine.go) whose states do not change: a read
// looks at one of them without a lock, a commit puts a new one in its place that
// shares nearly all with the last. Transactions read the state they began on.
// They claim the keys they write, and a key somebody else claims or has
// committed since is a write conflict, as in MongoDB; so two transactions that
// write to different documents go on side by side. Filters (filter.go) pick
// documents by an index where they can (plan.go, key.go). Update operators are
// those of lungo (update.go), which also is the second opinion on filters in
// the tests.
//
// # What can be relied on
//
// The double answers as MongoDB 7.0 does, or refuses. What it does not know is
// CommandNotFound, an option or operator it does not support is NotImplemented,
// and a field nobody expected is an error, never ignored. It differs from a
// server in what one process in memory cannot have: other members, elections,
// sharding, durability, the choices of a cost-based planner.
package mongotest
