//go:build !race

package scim_test

// many is how many members the large group has: more than any portion in which
// they are read.
const many = 20_000
