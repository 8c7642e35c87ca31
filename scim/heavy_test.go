package scim_test

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// overtaking is a store in which somebody else changes a user before every write,
// as long as there is one to be changed.
type overtaking struct {
	storage.Store
	id     atomic.Value // of the user
	times  atomic.Int32 // how often this is still to happen
	writes atomic.Int32
}

func (s *overtaking) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	id, _ := s.id.Load().(string)
	if id == "" {
		return s.Store.Write(ctx, tenant, fn)
	}
	s.writes.Add(1)
	if s.times.Add(-1) >= 0 {
		err := s.Store.Write(ctx, tenant, func(tx storage.Tx) error {
			r, err := tx.Get("User", id)
			if err != nil {
				return err
			}
			next := *r
			next.Version, next.Doc = r.Version+1, nil
			if err := tx.Update(r, &next); err != nil {
				return err
			}
			return tx.Audit(storage.AuditEntry{At: r.LastModified, Actor: "operator", Action: "test", Type: "User", ID: id})
		})
		if err != nil {
			return err
		}
	}
	return s.Store.Write(ctx, tenant, fn)
}

// TestHeavyChangesAreComputedOutside: the change of a large resource that was
// overtaken is not computed again while all writers wait; that of a small one is,
// for it must not starve.
func TestHeavyChangesAreComputedOutside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		size          int
		times         int32
		status        int
		writes        int32
		title, method string
	}{
		{"small", 100, 1000, 200, 1, "Pilot", "PATCH"},
		{"large, overtaken twice", 20_000, 2, 200, 3, "Pilot", "PATCH"},
		{"large, overtaken always", 20_000, 1000, 503, 5, "", "PATCH"},
		{"made large", 100, 1, 200, 2, strings.Repeat("x", 20_000), "PUT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var store *overtaking
			s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store {
				store = &overtaking{Store: inner}
				return store
			}})
			created := s.Do(t, "POST", "/Users", `{"userName":"ana","nickName":"`+strings.Repeat("n", test.size)+`"}`)
			id := path.Base(created.Header.Get("Location"))
			store.times.Store(test.times)
			store.id.Store(id)
			body := patchOp("%s", `{"op":"add","path":"title","value":"Pilot"}`)
			if test.method == "PUT" {
				body = `{"userName":"ana","title":"` + test.title + `"}`
			}
			r := s.Do(t, test.method, "/Users/"+id, body)
			if r.Status != test.status || store.writes.Load() != test.writes {
				t.Errorf("got %d after %d writes, want %d after %d: %.200s", r.Status, store.writes.Load(), test.status, test.writes, r.Body)
			}
			if test.status == 503 && r.Header.Get("Retry-After") == "" {
				t.Error("the 503 does not say when to come again")
			}
			store.id.Store("")
			if r := s.Do(t, "GET", "/Users/"+id+"?attributes=title", ""); strings.Contains(r.Body, `"title"`) != (test.title != "") || !strings.Contains(r.Body, test.title) {
				t.Errorf("afterwards: %.200s", r.Body)
			}
		})
	}
}

// crowded is a store in which writes see groups of more members than there are.
type crowded struct {
	storage.Store
	walks atomic.Int32 // through the members of a group
}

type crowdedTx struct {
	storage.Tx
	store *crowded
}

func (s *crowded) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	return s.Store.Write(ctx, tenant, func(tx storage.Tx) error { return fn(crowdedTx{tx, s}) })
}

func (tx crowdedTx) EachMember(group *storage.Resource, fn func(storage.Member) error) error {
	tx.store.walks.Add(1)
	for range 30_000 {
		if err := fn(storage.Member{Value: "x", Type: "User", Display: "X"}); err != nil {
			return err
		}
	}
	return tx.Tx.EachMember(group, fn)
}

// TestFilteredMembersOfLargeGroups: a filter that names a member looks at no other, and
// one that does not is compared, while all writers wait, with so many and no more.
func TestFilteredMembersOfLargeGroups(t *testing.T) {
	t.Parallel()
	var store *crowded
	s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store {
		store = &crowded{Store: inner}
		return store
	}})
	ana := path.Base(s.Do(t, "POST", "/Users", `{"userName":"ana"}`).Header.Get("Location"))
	bob := path.Base(s.Do(t, "POST", "/Users", `{"userName":"bob"}`).Header.Get("Location"))
	group := s.Do(t, "POST", "/Groups", `{"displayName":"Staff","members":[{"value":"`+ana+`"},{"value":"`+bob+`"}]}`)
	where := "/Groups/" + path.Base(group.Header.Get("Location"))
	remove := func(filters ...string) string {
		var ops []string
		for _, f := range filters {
			ops = append(ops, `{"op":"remove","path":"members[`+strings.ReplaceAll(f, `"`, `\"`)+`]"}`)
		}
		return patchOp("%s", strings.Join(ops, ","))
	}
	byType := `type eq "Group"`
	for _, test := range []struct {
		name, body string
		status     int
		walks      int32
		left       []string // of the two
	}{
		{"named, and something else of it", remove(`value eq "` + ana + `" and type eq "Group"`), 200, 0, []string{ana, bob}},
		{"named", remove(`type eq "User" and value eq "` + ana + `"`), 200, 0, []string{bob}},
		{"named, and no member", remove(`value eq "` + ana + `" and display eq "ana"`), 200, 0, []string{bob}},
		{"by its type", remove(byType), 200, 1, []string{bob}},
		{"twice", remove(byType, `value eq "`+bob+`" and type eq "Group"`, byType), 400, 2, []string{bob}},
	} {
		store.walks.Store(0)
		r := s.Do(t, "PATCH", where, test.body)
		if r.Status != test.status || store.walks.Load() != test.walks {
			t.Errorf("%s: got %d after %d walks, want %d after %d: %s", test.name, r.Status, store.walks.Load(), test.status, test.walks, r.Body)
		}
		if test.status == 400 && (!strings.Contains(r.Body, `"tooMany"`) || !strings.Contains(r.Body, "Operations[2]: members: ")) {
			t.Errorf("%s: %s", test.name, r.Body)
		}
		shown := s.Do(t, "GET", where, "").Body
		for _, id := range []string{ana, bob} {
			if strings.Contains(shown, id) != slices.Contains(test.left, id) {
				t.Errorf("%s: left are %s", test.name, shown)
			}
		}
	}
}

// endless is a store with groups whose last member nobody sees.
type endless struct{ storage.Store }

func (endless) Members(context.Context, storage.TenantID, string, string) iter.Seq2[storage.Member, error] {
	return func(yield func(storage.Member, error) bool) {
		for range 20_000_000 {
			if !yield(storage.Member{Value: "01a20000-0000-7000-8000-000000000000", Type: "User", Display: "X"}, nil) {
				return
			}
		}
	}
}

func (endless) CountMembers(context.Context, storage.TenantID, string, int) (int, error) {
	return 1 << 30, nil
}

// TestMembershipsOfLargeGroups: a page of memberships makes those that it shows, and not all that come
// before it, and a filter for something else of the members has its time.
func TestMembershipsOfLargeGroups(t *testing.T) { // not parallel: it counts allocations
	s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store { return endless{inner} }})
	group := path.Base(s.Do(t, "POST", "/Groups?excludedAttributes=members", `{"displayName":"Staff"}`).Header.Get("Location"))
	list := func(filter, more string) string {
		r := s.Do(t, "GET", "/GroupMemberships?filter="+url.QueryEscape(`group.value eq "`+group+`"`+filter)+more, "")
		return fmt.Sprint(r.Status, " ", r.Body)
	}
	for _, more := range []string{"&count=3", "&count=3&startIndex=500000", "&count=3&cursor="} {
		allocations := testing.AllocsPerRun(1, func() {
			if got := list("", more); !strings.HasPrefix(got, "200 ") || strings.Count(got, `"member"`) != 3 || !strings.Contains(got, `"totalResults":1073741824`) {
				t.Errorf("%s: %s", more, got)
			}
		})
		if allocations > 100_000 { // one that is made has some
			t.Errorf("%s: %.0f allocations", more, allocations)
		}
	}
	for _, more := range []string{"", "&cursor="} {
		if got := list(` and member.display sw "Y"`, more); !strings.HasPrefix(got, "400 ") || !strings.Contains(got, `"tooMany"`) || !strings.Contains(got, "member.value") {
			t.Errorf("compared%s: %s", more, got)
		}
	}
}
