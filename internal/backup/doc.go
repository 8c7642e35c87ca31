// Package backup decides which parts of a backup a restore keeps, and which it invalidates.
package backup
