// Package verify looks for what is wrong with a store: what the store keeps twice against
// each other (storage.Checker), and what only those know who wrote it: secrets, references,
// and the audit trail.
package verify
