// Package raced tells tests how much to do. The race detector finds races and makes all
// else many times slower; wrong answers are found by volume and by trying every way, which
// needs no detector. So a test that does one thing after the other at length is left out with
// it, or small, and `make test` runs those without it, whole.
package raced
