// Package storagetest tests the contract of package storage. [Run] tests a backend:
//
//	func TestContract(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storage.Store { … })
//	}
//
// Every promise in the comments of storage is a test here, and its name reads as
// the promise. They are listed at the top of each file: resources.go, members.go,
// deleted.go, queries.go, items.go, epoch.go, clients.go, audit.go, tenants.go, concurrency.go and dump.go. A
// backend adds tests of its own for what only it promises. [Move] tests two
// backends that a directory is moved between.
//
// The most important part is differential.go: a directory and a plain model of it in
// Go (model.go) are filled at random (generate.go). Then both answer thousands of
// random filters, the store with Query and the model with filter.Expr's Match,
// which defines what a filter means. A failure prints the seed, the filter, the
// smallest part of it on which they differ, and the ids.
//
// ROSTER_TEST_FILTERS sets a higher number of filters, with a new seed for each run;
// ROSTER_TEST_SEED repeats a run.
//
// Begin with storagetest.go.
package storagetest
