// Package backup decides what of a backup may live again in the store that is made of it.
package backup
