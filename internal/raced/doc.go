// Package raced tells tests how much to do. With the race detector everything else is many
// times slower, while long sequential tests gain nothing from it: they find wrong results
// by volume, not races. So such tests are skipped or shortened with the detector, and
// `make test` runs them a second time without it, at full length.
package raced
