package sqlite

import (
	"context"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// Describe implements storage.Describer.
func (s *Store) Describe(ctx context.Context) (d storage.Description, err error) {
	d.Folder = filepath.Dir(s.path)
	err = s.read(ctx, func(c *sqlite.Conn) error {
		err := query(c, "SELECT sqlite_version()", func(st *sqlite.Stmt) error { d.Product = "SQLite " + st.ColumnText(0); return nil })
		if err != nil {
			return err
		}
		return query(c, "PRAGMA user_version", func(st *sqlite.Stmt) error { d.Schema = st.ColumnInt64(0); return nil })
	})
	return d, err
}
