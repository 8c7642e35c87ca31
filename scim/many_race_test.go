//go:build race

package scim_test

// many is smaller here, because the race detector makes SQLite 15 times slower.
const many = 3_000

// modelSequences is how many sequences TestModel sends to an embedded store.
const modelSequences = 100
