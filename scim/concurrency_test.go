package scim_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// operator is who may do everything.
func operator() auth.Principal {
	return auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
}

// TestParallelMemberAdds: 64 clients add a member each to one group at the same
// time, without a precondition; all are members at the end. Then all are removed
// in the same way.
func TestParallelMemberAdds(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	const clients = 64
	users := s.Users(t, clients)
	group := s.Group(t, "Crew", "", nil)
	all := func(op func(user string) string) {
		t.Helper()
		var g errgroup.Group
		start := make(chan struct{})
		for _, u := range users {
			g.Go(func() error {
				<-start
				r, err := s.Try(t.Context(), "PATCH", "/Groups/"+group, patchOp("%s", op(u)))
				if err == nil && r.Status != 200 && r.Status != 204 { // 204 once the group is large
					err = fmt.Errorf("%d %s", r.Status, r.Body)
				}
				return err
			})
		}
		close(start)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	members := func() []string {
		var g struct{ Members []struct{ Value string } }
		if err := json.Unmarshal([]byte(s.Do(t, "GET", "/Groups/"+group, "").Body), &g); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, m := range g.Members {
			ids = append(ids, m.Value)
		}
		slices.Sort(ids)
		return ids
	}
	all(func(u string) string { return fmt.Sprintf(`{"op":"add","path":"members","value":[{"value":%q}]}`, u) })
	slices.Sort(users)
	if got := members(); !slices.Equal(got, users) {
		t.Errorf("after %d parallel adds there are %d members", clients, len(got))
	}
	if v := s.Do(t, "GET", "/Groups/"+group, "").Header.Get("ETag"); v != fmt.Sprintf(`W/"%d"`, clients+1) {
		t.Errorf("after %d changes the version is %s", clients, v)
	}
	all(func(u string) string { return fmt.Sprintf(`{"op":"remove","path":"members[value eq \"%s\"]"}`, u) })
	if got := members(); len(got) != 0 {
		t.Errorf("after %d parallel removals there are %d members", clients, len(got))
	}
}

// TestLostUpdates: 16 clients read a counter and write it back one higher, each
// 25 times, under If-Match. However many of them are refused, the counter is what
// was accepted.
func TestLostUpdates(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	user := s.Users(t, 1)[0]
	var accepted, refused atomic.Int64
	var g errgroup.Group
	for c := range 16 {
		g.Go(func() error {
			for range 25 {
				r, err := s.Try(t.Context(), "GET", "/Users/"+user, "")
				if err != nil {
					return err
				}
				var u struct{ Title string }
				if err := json.Unmarshal([]byte(r.Body), &u); err != nil {
					return err
				}
				n, _ := strconv.Atoi(u.Title) // 0 without a title
				next := strconv.Itoa(n + 1)
				etag := r.Header.Get("ETag")
				if c%2 == 0 {
					r, err = s.Try(t.Context(), "PATCH", "/Users/"+user, patchOp(`{"op":"replace","path":"title","value":%q}`, next), "If-Match", etag)
				} else {
					r, err = s.Try(t.Context(), "PUT", "/Users/"+user, `{"schemas":["`+schemas.UserURI+`"],"userName":"u0","title":"`+next+`"}`, "If-Match", etag)
				}
				switch {
				case err != nil:
					return err
				case r.Status == 200:
					accepted.Add(1)
				case r.Status == 412:
					refused.Add(1)
				default:
					return fmt.Errorf("%d %s", r.Status, r.Body)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var u struct{ Title string }
	if err := json.Unmarshal([]byte(s.Do(t, "GET", "/Users/"+user, "").Body), &u); err != nil {
		t.Fatal(err)
	}
	if u.Title != fmt.Sprint(accepted.Load()) || accepted.Load()+refused.Load() != 16*25 {
		t.Errorf("%d updates were accepted and %d refused; the counter is %s", accepted.Load(), refused.Load(), u.Title)
	}
}

// TestUpdatesWithoutPrecondition: clients that change different attributes of one
// user at the same time do not undo each other's change.
func TestUpdatesWithoutPrecondition(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	user := s.Users(t, 1)[0]
	attributes := []string{"title", "nickName", "displayName", "locale", "timezone", "userType", "name.givenName", "name.familyName"}
	var g errgroup.Group
	for _, a := range attributes {
		g.Go(func() error {
			for n := range 10 {
				r, err := s.Try(t.Context(), "PATCH", "/Users/"+user, patchOp(
					`{"op":"replace","path":%q,"value":"%d"},{"op":"add","path":"roles","value":[{"value":"%s-%d"}]}`, a, n, a, n))
				if err != nil {
					return err
				}
				if r.Status != 200 {
					return fmt.Errorf("%d %s", r.Status, r.Body)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var u struct {
		Title, NickName, DisplayName, Locale, Timezone, UserType string
		Name                                                     struct{ GivenName, FamilyName string }
		Roles                                                    []any
	}
	if err := json.Unmarshal([]byte(s.Do(t, "GET", "/Users/"+user, "").Body), &u); err != nil {
		t.Fatal(err)
	}
	for i, got := range []string{u.Title, u.NickName, u.DisplayName, u.Locale, u.Timezone, u.UserType, u.Name.GivenName, u.Name.FamilyName} {
		if got != "9" {
			t.Errorf("%s is %q, want the last value that was written", attributes[i], got)
		}
	}
	if len(u.Roles) != 10*len(attributes) {
		t.Errorf("%d roles of %d", len(u.Roles), 10*len(attributes))
	}
}

// TestParallelCreates: of many who want the same name, spelt differently, one gets
// it.
func TestParallelCreates(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	names := []string{"Ana", "ana", "ANA", "aNa", " ana", "ana ", "ａｎａ", "AnA"}
	for round := range 5 {
		var won atomic.Int64
		var g errgroup.Group
		for _, name := range names {
			g.Go(func() error {
				r, err := s.Try(t.Context(), "POST", "/Users", fmt.Sprintf(`{"schemas":["%s"],"userName":"%s%d"}`, schemas.UserURI, name, round))
				switch {
				case err != nil:
					return err
				case r.Status == 201:
					won.Add(1)
				case r.Status != 409:
					return fmt.Errorf("%d %s", r.Status, r.Body)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		// "ana " is another name once something follows the space.
		if got := won.Load(); got != 2 {
			t.Errorf("round %d: %d of %d got the name, want one, and one the name with a space in it", round, got, len(names))
		}
	}
}

// TestBurst: a client that sends many requests at once, as Entra does (E06), is
// not turned away.
func TestBurst(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	s.Users(t, 50)
	var wg sync.WaitGroup
	var other atomic.Int64
	for range 16 {
		wg.Go(func() {
			for i := range 25 {
				r, err := s.Try(t.Context(), "GET", fmt.Sprintf("/Users?filter=userName+eq+%%22u%d%%22", i), "")
				if err != nil || r.Status != 200 {
					other.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := other.Load(); n > 0 {
		t.Errorf("%d of 400 requests had another answer than 200", n)
	}
}

// TestParallelCycle: of many who would together close a ring of groups, one is
// refused.
func TestParallelCycle(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	ring := make([]string, 12)
	for i := range ring {
		ring[i] = s.Group(t, fmt.Sprint("Ring", i), "", nil)
	}
	var refused atomic.Int64
	var g errgroup.Group
	for i, id := range ring {
		g.Go(func() error {
			r, err := s.Try(t.Context(), "PATCH", "/Groups/"+id, patchOp(`{"op":"add","path":"members","value":[{"value":%q}]}`, ring[(i+1)%len(ring)]))
			switch {
			case err != nil:
				return err
			case r.Status == 400 && strings.Contains(r.Body, "members[0].value"):
				refused.Add(1)
			case r.Status != 200:
				return fmt.Errorf("%d %s", r.Status, r.Body)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := refused.Load(); n != 1 {
		t.Errorf("%d of %d were refused, want 1", n, len(ring))
	}
}
