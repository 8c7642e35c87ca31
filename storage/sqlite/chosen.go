package sqlite

import (
	"context"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/schemas"
)

// Attributes that an operator chose (storage.ChooseIndexed) have an index on an
// expression over the shadow. SQLite keeps it itself, whichever program writes, so
// what a process knows of such indexes decides how fast it finds things, and never
// what it finds.

// chosenPrefix begins the names of these indexes; the attribute's path follows.
const chosenPrefix = "chosen "

// chosenSQL makes the index of an attribute. Two types that have an attribute of one
// path share it. Resources without a value are no part of it. The id is, so that
// what has one value comes in the order of lists.
func chosenSQL(a *schemas.Attribute) string {
	value := "json_extract(shadow, " + path(a, nil) + ")"
	return "CREATE INDEX " + chosenIndex(a.Path) + " ON resource (tenant, type, " + value + ", id) WHERE deleted IS NULL AND " + value + " IS NOT NULL"
}

// chosenIndex is the name of the index as SQL has it.
func chosenIndex(path string) string {
	return `"` + strings.ReplaceAll(chosenPrefix+path, `"`, `""`) + `"`
}

// choose makes the indexes of the attributes in the options and drops others, unless
// the options leave that to somebody else, and notes which there are.
func (s *Store) choose(ctx context.Context, c *sqlite.Conn) error {
	have, err := chosenPaths(c)
	if err != nil {
		return err
	}
	s.chosen = make(map[string]bool)
	if s.opt.Indexed == nil {
		for path := range have {
			s.chosen[path] = true
		}
		return nil
	}
	for _, a := range s.opt.Indexed {
		s.chosen[a.Path] = true
	}
	for path := range have {
		if !s.chosen[path] {
			s.opt.Log.Info("an index is dropped", "attribute", path)
			if err := dropChosen(c, path); err != nil {
				return err
			}
		}
	}
	c.SetInterrupt(ctx.Done()) // of a large store this takes a while
	defer c.SetInterrupt(nil)
	for _, a := range s.opt.Indexed {
		if !have[a.Path] {
			s.opt.Log.Info("an index is built", "attribute", a.Path)
			if err := sqlitex.ExecuteTransient(c, chosenSQL(a), nil); err != nil {
				return fmt.Errorf("build the index of %s: %w", a.Path, err)
			}
		}
	}
	return nil
}

// chosenPaths returns of which attributes there is an index.
func chosenPaths(c *sqlite.Conn) (paths map[string]bool, err error) {
	paths = make(map[string]bool)
	err = query(c, `SELECT substr(name, length(?1) + 1) FROM sqlite_schema WHERE type = 'index' AND substr(name, 1, length(?1)) = ?1`,
		func(st *sqlite.Stmt) error {
			paths[st.ColumnText(0)] = true
			return nil
		}, chosenPrefix)
	return paths, err
}

func dropChosen(c *sqlite.Conn, path string) error {
	if err := sqlitex.ExecuteTransient(c, "DROP INDEX "+chosenIndex(path), nil); err != nil {
		return fmt.Errorf("drop the index of %s: %w", path, err)
	}
	return nil
}
