//go:build !race

package scim_test

// many is how many members the large group has: more than any portion in which
// they are read.
const many = 20_000

// modelSequences is how many sequences TestModel sends to an embedded store.
const modelSequences = 1_000
