// Package verify checks the consistency of a store: redundant data within the store
// (storage.Checker), and what only the packages that wrote it can check: secrets,
// references, and the audit trail.
package verify
