package sqlite

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/storage"
)

// trail returns the entries of the default tenant, and what is wrong with their
// chains.
func trail(t *testing.T, s storage.Audit) ([]storage.AuditEntry, []audit.Fault) {
	t.Helper()
	list, err := s.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.Verify(t.Context(), s, storage.DefaultTenant, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list, r.Faults
}

// lengths returns how many entries the chains of a trail have, one after the other.
func lengths(list []storage.AuditEntry) []int {
	var out []int
	for i, e := range list {
		if i == 0 || e.Chain != list[i-1].Chain {
			out = append(out, 0)
		}
		out[len(out)-1]++
	}
	return out
}

func record(n int) func(storage.Tx) error {
	return func(tx storage.Tx) error {
		for range n {
			if err := tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "test"}); err != nil {
				return err
			}
		}
		return nil
	}
}

// add records entries in writes of one each.
func add(t *testing.T, s *Store, n int) {
	t.Helper()
	for range n {
		if err := s.Write(t.Context(), storage.DefaultTenant, record(1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChainOfEachOpening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	for _, n := range []int{3, 1, 2} {
		s := open(t, path, Options{})
		add(t, s, n)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, path, Options{})
	defer s.Close()
	add(t, s, 1)
	// A command beside the server has a chain of its own, and so has the server
	// from there on.
	guest := open(t, path, Options{Guest: true})
	defer guest.Close()
	add(t, guest, 2)
	add(t, s, 2)
	add(t, guest, 1)
	list, faults := trail(t, s)
	if got := lengths(list); !slices.Equal(got, []int{3, 1, 2, 1, 2, 2, 1}) || len(faults) > 0 {
		t.Errorf("chains of %d entries, faults %v", got, faults)
	}
	if _, seen := trail(t, guest); len(seen) > 0 {
		t.Errorf("the guest finds %v", seen)
	}
}

// TestChainOfABatch: of writes that share a commit some fail, before the batch has
// to begin again and after.
func TestChainOfABatch(t *testing.T) {
	for name, fails := range map[string]func(storage.Tx) error{
		"with entries": func(tx storage.Tx) error { return errors.Join(record(3)(tx), errTest) },
		"with changes": func(tx storage.Tx) error { return errors.Join(tx.Create(newUser(1)), record(2)(tx), errTest) },
		"in a panic":   func(tx storage.Tx) error { return errors.Join(record(1)(tx), func() error { panic("here") }()) },
		"before":       func(storage.Tx) error { return errTest },
		"unnoticed":    func(tx storage.Tx) error { _ = tx.Audit(storage.AuditEntry{}); return record(1)(tx) },
	} {
		s := openNew(t, Options{})
		for range 2 {
			errs := together(t, s, record(1), fails, record(2), fails, fails, record(1))
			if errs[0] != nil || errs[1] == nil || errs[2] != nil || errs[4] == nil || errs[5] != nil {
				t.Errorf("%s: got %v", name, errs)
			}
		}
		list, faults := trail(t, s)
		if got := lengths(list); !slices.Equal(got, []int{8}) || len(faults) > 0 || list[7].Seq != 8 {
			t.Errorf("%s: chains of %d entries, faults %v", name, got, faults)
		}
	}
}

var errTest = errors.New("the write of this test fails")

// TestTailLostMeanwhile: when the last entries vanish under a running server, what
// it records next says so for ever.
func TestTailLostMeanwhile(t *testing.T) {
	for name, change := range map[string]string{
		"removed": `DELETE FROM audit WHERE seq > 3`,
		"altered": `UPDATE audit SET hash = zeroblob(32) WHERE seq = 5`,
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			path := filepath.Join(t.TempDir(), "roster.db")
			s := open(t, path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			defer s.Close()
			add(t, s, 5)
			c, err := openConn(path, writer)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := exec(c, change); err != nil {
				t.Fatal(err)
			}
			add(t, s, 2)
			if !strings.Contains(log.String(), "the audit trail has been changed") {
				t.Errorf("the log has %q", log.String())
			}
			list, faults := trail(t, s)
			last := list[len(list)-2:]
			if last[0].N != 1 || last[1].N != 2 || len(faults) == 0 {
				t.Errorf("the server went on with %+v; faults %v", last, faults)
			}
		})
	}
}

// TestFieldsThatDoNotBelong: what stands in a row and is no part of what an entry
// is made of does not pass for it.
func TestFieldsThatDoNotBelong(t *testing.T) {
	for _, change := range []string{
		`attributes = 'title  active'`, `attributes = ' title active'`, `attributes = 'title active '`,
		`changes = zeroblob(1)`, `changes = x''`, `changes = x'01'`, `changes = CAST(changes || x'00' AS BLOB)`, `changes = CAST(x'8100' || substr(changes, 2) AS BLOB)`, `changes = NULL`,
	} {
		path := filepath.Join(t.TempDir(), "roster.db")
		s := open(t, path, Options{})
		err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			return tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "test", Attributes: []string{"title", "active"},
				Changes: []storage.Change{{Path: "title", After: []byte(`"x"`)}}})
		})
		if _, faults := trail(t, s); err != nil || len(faults) > 0 {
			t.Fatal(err, faults)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := openConn(path, writer)
		if err != nil {
			t.Fatal(err)
		}
		if err := exec(c, `UPDATE audit SET `+change); err != nil {
			t.Fatal(change, err)
		}
		c.Close()
		s = open(t, path, Options{})
		if _, faults := trail(t, s); len(faults) != 1 || faults[0].Kind != audit.Broken {
			t.Errorf("%s: faults %v, want one", change, faults)
		}
		s.Close()
	}
}
