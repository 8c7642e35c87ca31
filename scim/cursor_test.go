package scim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
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
			if r, err := s.Try(t.Context(), "GET", "/Groups?count=2&cursor="+first.NextCursor, ""); err != nil || r.Status != 400 || scimType(t, r.Body) != "invalidCursor" {
				t.Errorf("of users, for groups: %d %s, %v", r.Status, r.Body, err)
			}
			for i := range first.NextCursor {
				forged := []byte(first.NextCursor)
				forged[i] ^= 1 // or another character of the alphabet, or none of it
				refuse(s, s.Token, "count=2", string(forged), "invalidCursor")
				if i > 0 && i%11 == 0 {
					refuse(s, s.Token, "count=2", first.NextCursor[:i], "invalidCursor")
				}
			}
			// One cursor has one spelling, whatever bits of the last character mean nothing.
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			for _, query := range []string{"count=2", "count=2&sortBy=userName", "count=2&sortBy=active"} {
				page, _ := walkPage(t, s, s.Token, query, "")
				last := len(page.NextCursor) - 1
				for _, c := range strings.Replace(alphabet, page.NextCursor[last:], "", 1) {
					refuse(s, s.Token, query, page.NextCursor[:last]+string(c), "invalidCursor")
				}
				refuse(s, s.Token, query, page.NextCursor+"\n", "invalidCursor")
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

// passers create users and delete some of them, and some that were there before, until
// they are stopped: never more of them than a walk comes to the end of.
type passers struct {
	s                *testserver.Server
	created, deleted atomic.Int64
	going            chan string   // ids of users to delete
	tick             chan struct{} // holds something when there was a change since it was last emptied
	stop             chan struct{}
}

func (p *passers) change(ctx context.Context, status int, done *atomic.Int64, method, path, body string) (id string, err error) {
	r, err := p.s.Try(ctx, method, path, body)
	if err != nil || r.Status != status {
		return "", fmt.Errorf("%s %s: %d %s, %w", method, path, r.Status, r.Body, err)
	}
	done.Add(1)
	select {
	case p.tick <- struct{}{}:
	default:
	}
	var u struct{ ID string }
	if r.Body != "" {
		err = json.Unmarshal([]byte(r.Body), &u)
	}
	return u.ID, err
}

func (p *passers) run(ctx context.Context, name string) error {
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return nil
		default:
		}
		id, err := p.change(ctx, 201, &p.created, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"passing-%s-%d"}`, schemas.UserURI, name, n))
		if err != nil {
			return err
		}
		if n%4 == 0 && n < 200 { // this one stays
			select {
			case id = <-p.going:
			default:
				continue
			}
		}
		if _, err := p.change(ctx, 204, &p.deleted, "DELETE", "/Users/"+id, ""); err != nil {
			return err
		}
	}
}

// TestWalkAmongChanges: while clients create and delete users, walks in several orders
// meet everybody who is there all the time, and nobody twice. Something changes between
// any two pages.
func TestWalkAmongChanges(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.Start(t, testserver.Options{Open: open})
			p := &passers{s: s, going: make(chan string, 200), tick: make(chan struct{}, 1), stop: make(chan struct{})}
			stay := map[string]bool{}
			for i, id := range s.Users(t, 400) {
				if i%2 == 0 {
					stay[id] = true
				} else {
					p.going <- id
				}
			}
			g, ctx := errgroup.WithContext(t.Context())
			for c := range 4 {
				g.Go(func() error { return p.run(ctx, fmt.Sprint(c)) })
			}
			for _, query := range []string{"count=7", "count=25&sortBy=userName", "count=20&sortBy=meta.lastModified&sortOrder=descending", "count=13&filter=userName+pr"} {
				met := map[string]int{}
				pages, repeated, missed := 0, 0, 0
				created, deleted := p.created.Load(), p.deleted.Load()
				for cursor := ""; ; {
					select {
					case <-p.tick:
					default:
					}
					page, r := walkPage(t, s, s.Token, query, cursor)
					if r.Status != 200 {
						t.Fatalf("%s: %d %s", query, r.Status, r.Body)
					}
					pages++
					for _, u := range page.Resources {
						if met[u.ID]++; met[u.ID] > 1 {
							repeated++
							t.Errorf("%s: %s was met again", query, u.UserName)
						}
					}
					if cursor = page.NextCursor; cursor == "" {
						break
					}
					select {
					case <-p.tick:
					case <-ctx.Done():
						t.Fatalf("%s: nothing changes any more: %v", query, g.Wait())
					}
				}
				for id := range stay {
					if met[id] == 0 {
						missed++
						t.Errorf("%s: %s was not met", query, id)
					}
				}
				created, deleted = p.created.Load()-created, p.deleted.Load()-deleted
				t.Logf("%s: %d pages; meanwhile %d users were created and %d deleted; of %d that were there throughout %d were met, %d missed, %d of all repeated",
					query, pages, created, deleted, len(stay), len(stay)-missed, missed, repeated)
				if pages < 10 || created == 0 || deleted == 0 {
					t.Errorf("%s: the walk was not among changes", query)
				}
			}
			close(p.stop)
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
