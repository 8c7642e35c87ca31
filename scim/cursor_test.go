package scim_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// cursorPage is one page of a walk.
type cursorPage struct {
	TotalResults int
	NextCursor   string
	Resources    []struct{ ID, UserName string }
}

func walkPage(t *testing.T, s *testserver.Server, token, query, cursor string) (cursorPage, testserver.Response) {
	t.Helper()
	r := s.Do(t, "GET", "/Users?"+query+"&cursor="+url.QueryEscape(cursor), "", "Authorization", "Bearer "+token)
	var p cursorPage
	if err := json.Unmarshal([]byte(r.Body), &p); err != nil {
		t.Fatal(err)
	}
	return p, r
}

// TestCursorIsBound: a cursor is good for the client and the query that it was made
// for, for ten minutes, in every process on the same store, and for nobody who makes one up.
func TestCursorIsBound(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			var clock atomic.Int64
			clock.Store(time.Now().UnixMilli())
			now := func() time.Time { return time.UnixMilli(clock.Load()) }
			same := testserver.Options{Open: func(testing.TB) storage.Store { return store }, Now: now}
			s := testserver.Start(t, same)
			s.Users(t, 5)
			first, _ := walkPage(t, s, s.Token, "count=2", "")
			if first.TotalResults != 5 || len(first.Resources) != 2 || first.NextCursor == "" {
				t.Fatalf("the first page: %+v", first)
			}
			refuse := func(s *testserver.Server, token, query, cursor, want string) {
				t.Helper()
				_, r := walkPage(t, s, token, query, cursor)
				if r.Status != 400 || scimType(t, r.Body) != want {
					t.Errorf("%s: %d %s, want 400 %s", query, r.Status, r.Body, want)
				}
			}
			other := s.Client(t, "another one", "", "users")
			refuse(s, other, "count=2", first.NextCursor, "invalidCursor")
			refuse(s, s.Token, "count=2&filter=userName+pr", first.NextCursor, "invalidCursor")
			refuse(s, s.Token, "count=2&sortBy=userName", first.NextCursor, "invalidCursor")
			refuse(s, s.Token, "count=3", first.NextCursor, "invalidCount")
			for i := range first.NextCursor {
				forged := []byte(first.NextCursor)
				forged[i] ^= 1 // or another character of the alphabet, or none of it
				refuse(s, s.Token, "count=2", string(forged), "invalidCursor")
				if i > 0 && i%11 == 0 {
					refuse(s, s.Token, "count=2", first.NextCursor[:i], "invalidCursor")
				}
			}
			clock.Add(10 * time.Minute.Milliseconds())
			second, _ := walkPage(t, s, s.Token, "count=2", first.NextCursor)
			if len(second.Resources) != 2 || second.NextCursor == "" {
				t.Fatalf("the second page, ten minutes later: %+v", second)
			}
			clock.Add(2000)
			refuse(s, s.Token, "count=2", first.NextCursor, "expiredCursor")
			if third, _ := walkPage(t, s, s.Token, "count=2", second.NextCursor); len(third.Resources) != 1 || third.NextCursor != "" {
				t.Errorf("the third page: %+v", third)
			}
		})
	}
}

func scimType(t *testing.T, body string) string {
	t.Helper()
	var e struct{ ScimType string }
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	return e.ScimType
}

// TestWalkAmongChanges: while clients create and delete users, walks in several orders
// meet everybody who is there all the time, and nobody twice.
func TestWalkAmongChanges(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.Start(t, testserver.Options{Open: open})
			stay := map[string]bool{}
			for _, id := range s.Users(t, 200) {
				stay[id] = true
			}
			stop := make(chan struct{})
			var g errgroup.Group
			for c := range 4 {
				g.Go(func() error {
					for n := range 150 { // or a walk would never come to its end
						select {
						case <-stop:
							return nil
						default:
						}
						r, err := s.Try(t.Context(), "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"passing-%d-%d"}`, schemas.UserURI, c, n))
						if err != nil || r.Status != 201 {
							return fmt.Errorf("%d %s, %w", r.Status, r.Body, err)
						}
						var u struct{ ID string }
						if err := json.Unmarshal([]byte(r.Body), &u); err != nil {
							return err
						}
						if n%2 == 0 {
							if r, err := s.Try(t.Context(), "DELETE", "/Users/"+u.ID, ""); err != nil || r.Status != 204 {
								return fmt.Errorf("%d %s, %w", r.Status, r.Body, err)
							}
						}
					}
					return nil
				})
			}
			for _, query := range []string{"count=7", "count=50&sortBy=userName", "count=20&sortBy=meta.lastModified&sortOrder=descending", "count=13&filter=userName+pr"} {
				met := map[string]int{}
				for cursor := ""; ; {
					p, r := walkPage(t, s, s.Token, query, cursor)
					if r.Status != 200 {
						t.Fatalf("%s: %d %s", query, r.Status, r.Body)
					}
					for _, u := range p.Resources {
						if met[u.ID]++; met[u.ID] > 1 {
							t.Errorf("%s: %s was met again", query, u.UserName)
						}
					}
					if cursor = p.NextCursor; cursor == "" {
						break
					}
				}
				for id := range stay {
					if met[id] == 0 {
						t.Errorf("%s: %s was not met", query, id)
					}
				}
			}
			close(stop)
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
