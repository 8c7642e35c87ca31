package sqlite

import (
	"errors"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// TestQueryAmongCommits: a value that goes from one row to another in every commit is
// found, even if there is a commit each time between asking for keys and reading.
func TestQueryAmongCommits(t *testing.T) {
	s := openNew(t, Options{})
	called := func(n int, version int64, name string) *storage.Resource {
		r := newResource(userType, n, map[string]any{"userName": name, "externalId": name})
		r.Version = version
		return r
	}
	one, other := called(1, 1, "x"), called(2, 1, "y")
	create(t, s, one)
	create(t, s, other)
	handOver := func() {
		free := called(1, one.Version+1, "tmp")
		next, last := called(2, other.Version+1, one.Name), called(1, one.Version+2, other.Name)
		free.Ref, last.Ref, next.Ref = one.Ref, one.Ref, other.Ref
		err := write(s, func(tx storage.Tx) error {
			return errors.Join(tx.Update(one, free), tx.Update(other, next), tx.Update(free, last))
		})
		if err != nil {
			t.Fatal(err)
		}
		one, other = last, next
	}
	// Nobody reads without being let.
	readers := make([]*sqlite.Conn, 0, s.size)
	for range s.size {
		readers = append(readers, <-s.readers)
	}
	defer func() {
		for _, c := range readers {
			s.readers <- c
		}
	}()
	for _, path := range []string{"userName", "externalId"} {
		found := make(chan int, 1)
		go func() {
			p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 10,
				Filter: filter.EqualTo(userType.Lookup(path), "x")})
			if err != nil {
				t.Error(err)
				found <- -1
				return
			}
			found <- p.TotalResults
		}()
		for done := false; !done; {
			time.Sleep(5 * time.Millisecond) // it has asked for keys by now, or it is no test of this
			handOver()
			s.readers <- readers[0]
			readers[0] = <-s.readers // whether it was used or not
			select {
			case n := <-found:
				if done = true; n != 1 {
					t.Errorf("%s eq \"x\": found %d times", path, n)
				}
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
}
