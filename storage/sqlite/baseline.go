package sqlite

import (
	"context"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// Baseline reads and writes bare rows through the same readers and the same
// group commit as resources. It is the limit that roster bench measures the
// protocol against: what the store itself costs, and nothing else.
type Baseline struct{ store *Store }

// NewBaseline adds a table of bare rows to a store made for measuring.
func NewBaseline(ctx context.Context, s *Store) (*Baseline, error) {
	err := s.Write(ctx, storage.DefaultTenant, func(t storage.Tx) error {
		return t.(*tx).exec(`CREATE TABLE IF NOT EXISTS baseline (id TEXT PRIMARY KEY NOT NULL, doc TEXT NOT NULL) STRICT`)
	})
	return &Baseline{s}, err
}

// Write stores one row durably.
func (b *Baseline) Write(ctx context.Context, id string, doc []byte) error {
	return b.store.Write(ctx, storage.DefaultTenant, func(t storage.Tx) error {
		return t.(*tx).exec(`INSERT INTO baseline (id, doc) VALUES (?, ?)`, id, string(doc))
	})
}

// Read returns one row by its id.
func (b *Baseline) Read(ctx context.Context, id string) (doc []byte, err error) {
	err = b.store.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT doc FROM baseline WHERE id = ?`, func(st *sqlite.Stmt) error {
			doc = make([]byte, st.ColumnLen(0))
			st.ColumnBytes(0, doc)
			return nil
		}, id)
	})
	if err == nil && doc == nil {
		err = storage.ErrNotFound
	}
	return doc, err
}
