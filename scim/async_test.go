package scim_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// later is a server whose asynchronous requests are carried out when a test says so,
// with a clock that the test moves and a store that can die.
type later struct {
	*testserver.Server
	t     *testing.T
	store *mortal
	clock atomic.Int64
}

func newLater(t *testing.T, open func(testing.TB) storage.Store) *later {
	t.Helper()
	l := &later{t: t, store: &mortal{}}
	l.clock.Store(time.Now().UnixMilli())
	l.Server = testserver.Start(t, testserver.Options{
		ByHand: true, Now: func() time.Time { return time.UnixMilli(l.clock.Load()) },
		Open: open, Store: func(s storage.Store) storage.Store { l.store.Store = s; return l.store },
	})
	return l
}

// mortal is a store in which nothing is written any more after some writes. The last
// one is made or not, and whoever made it does not learn which.
type mortal struct {
	storage.Store
	dying  atomic.Bool
	left   atomic.Int64
	made   bool
	after  func() // called after each write, one at a time and not after its own
	inside atomic.Bool
	// refuse, if set, says which writes fail.
	refuse func(context.Context) error
}

func (m *mortal) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if m.dying.Load() {
		switch left := m.left.Add(-1); {
		case left < 0, left == 0 && !m.made:
			return storage.ErrOutcomeUnknown
		case left == 0:
			if err := m.Store.Write(ctx, tenant, fn); err != nil {
				return err
			}
			return storage.ErrOutcomeUnknown
		}
	}
	if m.refuse != nil {
		if err := m.refuse(ctx); err != nil {
			return err
		}
	}
	err := m.Store.Write(ctx, tenant, fn)
	if m.after != nil && m.inside.CompareAndSwap(false, true) {
		m.after()
		m.inside.Store(false)
	}
	return err
}

// process is another one on the same store.
func (l *later) process() *scim.Async {
	return &scim.Async{Provider: l.Provider, Keys: l.Async.Keys, Log: slog.New(slog.DiscardHandler)}
}

func (l *later) send(token string, operations ...string) testserver.Response {
	l.t.Helper()
	return l.Do(l.t, "POST", "/Bulk", fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, scim.BulkRequestURI, strings.Join(operations, ",")),
		"Authorization", "Bearer "+token, "Prefer", "respond-async")
}

func (l *later) accept(operations ...string) (txn string) {
	l.t.Helper()
	r := l.send(l.Token, operations...)
	txn = r.Header.Get("Set-Txn")
	if r.Status != 202 || r.Body != "" || txn == "" || r.Header.Get("Preference-Applied") != "respond-async" || r.Header.Get("Location") != l.URL+"/Bulk/"+txn {
		l.t.Fatalf("%d %v %s", r.Status, r.Header, r.Body)
	}
	return txn
}

func (l *later) statuses(txn string) (list []string) {
	l.t.Helper()
	r := l.Do(l.t, "GET", "/Bulk/"+txn, "")
	if r.Status != 200 {
		l.t.Fatalf("the result: %d %s", r.Status, r.Body)
	}
	var a bulkAnswer
	if err := json.Unmarshal([]byte(r.Body), &a); err != nil {
		l.t.Fatal(err)
	}
	for _, o := range a.Operations {
		list = append(list, o.Status+" "+o.Version)
	}
	return list
}

// done are the actions of a request, by operation.
func (l *later) done(txn string) map[string][]string {
	l.t.Helper()
	list, err := l.Store.AuditEntries(l.t.Context(), storage.DefaultTenant, 0, 1_000_000)
	if err != nil {
		l.t.Fatal(err)
	}
	by := map[string][]string{}
	for _, e := range list {
		if index, ok := strings.CutPrefix(e.RequestID, txn+":"); ok {
			by[index] = append(by[index], strings.Split(e.Actor, ":")[0]+" "+e.Action)
		}
	}
	for _, actions := range by {
		slices.Sort(actions)
	}
	return by
}

// mixed are operations of all sorts, with some that change nothing or fail, and would
// change something if they were done once more after what follows them.
func mixed(n int) []string {
	name := fmt.Sprintf("n%d-", n)
	user := func(id, rest string) string {
		return fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":%q,"data":{"schemas":[%q],"userName":"%s%s"%s}}`, id, schemas.UserURI, name, id, rest)
	}
	patch := func(path, op string) string {
		return fmt.Sprintf(`{"method":"PATCH","path":%q,"data":[%s]}`, path, op)
	}
	return []string{
		user("a", ""), user("b", ""), user("c", ""),
		strings.ReplaceAll(managed("x", "y"), "circle-", name), strings.ReplaceAll(managed("y", "x"), "circle-", name),
		user("secret", `,"password":"correct horse"`),
		patch("/Users/bulkId:a", `{"op":"replace","path":"active","value":true}`), // as it is
		patch("/Users/bulkId:a", `{"op":"replace","path":"active","value":false}`),
		strings.Replace(user("again", ""), name+"again", name+"b", 1), // taken
		`{"method":"DELETE","path":"/Users/bulkId:b"}`,
		fmt.Sprintf(`{"method":"POST","path":"/Groups","bulkId":"g","data":{"schemas":[%q],"displayName":"%sg","members":[{"value":"bulkId:x"}]}}`, schemas.GroupURI, name),
		`{"method":"POST","path":"/GroupMemberships","bulkId":"m","data":{"schemas":["urn:ietf:params:scim:schemas:core:2.0:GroupMembership"],"group":{"value":"bulkId:g"},"member":{"value":"bulkId:c"}}}`,
		patch("/Groups/bulkId:g", `{"op":"add","path":"members","value":[{"value":"bulkId:x"}]}`), // is one
		patch("/Groups/bulkId:g", `{"op":"remove","path":"members[value eq \"bulkId:x\"]"}`),
		user("d", ""), user("e", ""),
		strings.ReplaceAll(managed("p", "q"), "circle-", name), strings.ReplaceAll(managed("q", "p"), "circle-", name),
	}
}

// TestAsyncInterrupted: a process that ends at any write, whether that was made or not,
// takes nothing with it, and nothing is done twice by who goes on.
func TestAsyncInterrupted(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLater(t, open)
			txn := l.accept(mixed(0)...)
			l.Async.Round(t.Context())
			want, wantDone := l.statuses(txn), l.done(txn)
			short := make([]string, len(want))
			for i, s := range want {
				short[i] = s[:3]
			}
			if got := strings.Join(short, " "); got != "201 201 201 201 201 201 200 200 409 204 201 201 200 200 201 201 201 201" {
				t.Fatal(got)
			}
			for n := 2; ; n++ {
				l.store.made = n%2 == 1
				txn := l.accept(mixed(n - 1)...)
				l.store.left.Store(int64(n / 2))
				l.store.dying.Store(true)
				l.process().Round(t.Context())
				l.store.dying.Store(false)
				if l.store.left.Load() > 0 {
					t.Logf("%d ways to be interrupted", n-2)
					if n < 20 {
						t.Error("that is too few")
					}
					return
				}
				for range 3 { // by others, when the lease has run out
					l.clock.Add((3 * time.Minute).Milliseconds())
					l.process().Round(t.Context())
				}
				if diff := cmp.Diff(want, l.statuses(txn)); diff != "" {
					t.Errorf("interrupted at write %d (made: %v): the result (-want +got):\n%s", n/2, l.store.made, diff)
				}
				if diff := cmp.Diff(wantDone, l.done(txn)); diff != "" {
					t.Errorf("interrupted at write %d (made: %v): what was done (-want +got):\n%s", n/2, l.store.made, diff)
				}
				r := l.Do(t, "GET", fmt.Sprintf(`/Users?filter=userName+sw+"n%d-"&sortBy=userName`, n-1), "")
				var list struct {
					Resources []struct {
						UserName string
						Active   bool
						Groups   []any
					}
				}
				if err := json.Unmarshal([]byte(r.Body), &list); err != nil {
					t.Fatal(err)
				}
				var state []string
				for _, u := range list.Resources {
					_, name, _ := strings.Cut(u.UserName, "-")
					state = append(state, fmt.Sprintf("%s%v%d", name, u.Active, len(u.Groups)))
				}
				if got := strings.Join(state, " "); got != "afalse0 ctrue1 dtrue0 etrue0 ptrue0 qtrue0 secrettrue0 xtrue0 ytrue0" {
					t.Errorf("interrupted at write %d (made: %v): %s", n/2, l.store.made, got)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestAsyncStops: a process that is to end ends with the operations at hand, and gives
// the rest back at once.
func TestAsyncStops(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLater(t, open)
			txn := l.accept(createOperation(1), block("b1"), strings.ReplaceAll(block("b1"), "false", "true"))
			ctx, cancel := context.WithCancel(t.Context())
			writes := 0
			l.store.after = func() {
				if writes++; writes == 2 { // it is claimed, and the first user is there
					cancel()
				}
			}
			l.process().Round(ctx)
			l.store.after = nil
			if r := l.Do(t, "GET", "/Bulk/"+txn, ""); r.Status != 202 || r.Header.Get("Retry-After") == "" || r.Header.Get("Set-Txn") != txn {
				t.Fatalf("%d %v", r.Status, r.Header)
			}
			if n := len(l.done(txn)); n != 1 {
				t.Errorf("%d operations are done", n)
			}
			l.process().Round(t.Context())
			if diff := cmp.Diff([]string{`201 W/"1"`, `200 W/"2"`, `200 W/"3"`}, l.statuses(txn)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAsyncSealed: what waits is not to be read in the store, and is gone when it is
// done. Keys are rotated meanwhile.
func TestAsyncSealed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, open := range map[string]func(testing.TB) storage.Store{
		"MongoDB": mongoStore,
		"SQLite": func(t testing.TB) storage.Store {
			s, err := sqlite.Open(t.Context(), dir, sqlite.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const password = "a fine long password"
			l := newLater(t, open)
			txn := l.accept(fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"p","data":{"schemas":[%q],"userName":"petra","password":%q}}`, schemas.UserURI, password))
			var kept []byte
			for _, kind := range []string{"bulk", "bulk.request", "bulk.step", "bulk.result"} {
				items, err := l.Store.Items(t.Context(), storage.DefaultTenant, kind, "")
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range items {
					kept = append(kept, i.Data...)
				}
			}
			if name == "SQLite" {
				files, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					b, err := os.ReadFile(f)
					if err != nil {
						t.Fatal(err)
					}
					kept = append(kept, b...)
				}
			}
			if !strings.Contains(string(kept), txn) && !strings.Contains(string(kept), `"sealed"`) {
				t.Fatal("the request was not found in the store")
			}
			for at := range 3 {
				text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", at) + password))
				for _, secret := range []string{password, text[4 : len(text)-4], "petra"} {
					if strings.Contains(string(kept), secret) {
						t.Errorf("%q is in the store", secret)
					}
				}
			}
			i, err := l.Store.Item(t.Context(), storage.DefaultTenant, scim.SealedBulk.Kind, txn)
			if err != nil {
				t.Fatal(err)
			}
			next, err := scim.SealedBulk.Reseal(l.Async.Keys, storage.DefaultTenant, i)
			if err != nil || string(next.Data) == string(i.Data) || !next.Expires.Equal(i.Expires) {
				t.Fatalf("sealed anew: %v", err)
			}
			err = l.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
				if err := tx.PutItem(i, next); err != nil {
					return err
				}
				return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "keyring.reseal", Type: "KeyRing", ID: "v1"})
			})
			if err != nil {
				t.Fatal(err)
			}
			l.process().Round(t.Context())
			if got := l.statuses(txn); got[0][:3] != "201" {
				t.Error(got)
			}
			for kind, want := range map[string]int{"bulk": 1, "bulk.request": 0, "bulk.step": 0, "bulk.result": 1} {
				items, err := l.Store.Items(t.Context(), storage.DefaultTenant, kind, "")
				if err != nil || len(items) != want {
					t.Errorf("%d items of the kind %s, want %d: %v", len(items), kind, want, err)
				}
			}
		})
	}
}

// TestAsyncClients: a result is for the client that asked, for a while; what waits is
// decided about with what the client may then.
func TestAsyncClients(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLater(t, open)
			other := l.Client(t, "other", "")
			as := func(token, path string) int {
				return l.Do(t, "GET", path, "", "Authorization", "Bearer "+token).Status
			}
			txn := l.accept(createOperation(1))
			if a, b := as(l.Token, "/Bulk/"+txn), as(other, "/Bulk/"+txn); a != 202 || b != 404 {
				t.Errorf("while it waits: %d, another client: %d", a, b)
			}
			revoked := l.send(other, createOperation(2), createOperation(3), `{"method":"DELETE","path":"/Users/bulkId:b2"}`)
			clients, err := l.Store.ListClients(t.Context(), storage.DefaultTenant)
			if err != nil {
				t.Fatal(err)
			}
			c := clients[slices.IndexFunc(clients, func(c *storage.Client) bool { return c.Name == "other" })]
			manager := &auth.ClientManager{Store: l.Store, Now: time.Now}
			if err := manager.Revoke(t.Context(), auth.System(storage.DefaultTenant), c.ID); err != nil {
				t.Fatal(err)
			}
			narrow := l.Client(t, "narrow", "", "users", "groups")
			narrowed := l.send(narrow, createOperation(4), `{"method":"POST","path":"/Groups","bulkId":"g","data":{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"g"}}`)
			if clients, err = l.Store.ListClients(t.Context(), storage.DefaultTenant); err != nil {
				t.Fatal(err)
			}
			c = clients[slices.IndexFunc(clients, func(c *storage.Client) bool { return c.Name == "narrow" })]
			if _, err := manager.Update(t.Context(), auth.System(storage.DefaultTenant), c.ID, auth.ClientChange{Scopes: &[]string{"groups"}}); err != nil {
				t.Fatal(err)
			}
			l.Async.Round(t.Context())
			if got := l.statuses(txn); got[0] != `201 W/"1"` {
				t.Error(got)
			}
			if r := l.Do(t, "GET", "/Bulk/"+narrowed.Header.Get("Set-Txn"), "", "Authorization", "Bearer "+narrow); r.Status != 200 ||
				strings.Count(r.Body, `"status":"403"`) != 2 || strings.Count(r.Body, `"status":"201"`) != 1 { // in the operation and in its response
				t.Errorf("a client with fewer scopes than before: %d %s", r.Status, r.Body)
			}
			result, err := l.Store.Item(t.Context(), storage.DefaultTenant, "bulk.result", revoked.Header.Get("Set-Txn"))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(result.Data), `{"status":"401"`) != 3 {
				t.Errorf("a revoked client: %s", result.Data)
			}
			l.clock.Add(scim.DefaultResultLifetime.Milliseconds() - 1)
			if got := as(l.Token, "/Bulk/"+txn); got != 200 {
				t.Errorf("a day later: %d", got)
			}
			l.clock.Add(1)
			if got := as(l.Token, "/Bulk/"+txn); got != 404 {
				t.Errorf("more than a day later: %d", got)
			}
			if _, err := l.Store.SweepItems(t.Context(), time.UnixMilli(l.clock.Load()+1)); err != nil {
				t.Fatal(err)
			}
			for _, kind := range []string{"bulk", "bulk.result"} {
				if items, err := l.Store.Items(t.Context(), storage.DefaultTenant, kind, ""); err != nil || len(items) > 0 {
					t.Errorf("%d items of the kind %s are left: %v", len(items), kind, err)
				}
			}
			for range scim.MaxAsync {
				l.accept()
			}
			if r := l.send(l.Token); r.Status != 429 || r.Header.Get("Retry-After") == "" {
				t.Errorf("one too many: %d %v", r.Status, r.Header)
			}
			l.Async.Round(t.Context())
			l.accept()
		})
	}
}

// TestAsyncTakenOver: a process that was held up beyond its lease does nothing that the
// one which took over has done, and one that goes on keeps its lease.
func TestAsyncTakenOver(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLater(t, open)
			first := l.accept(mixed(0)...)
			l.Async.Round(t.Context())
			want := l.done(first)
			for at := range 8 {
				txn := l.accept(mixed(at + 1)...)
				writes := 0
				l.store.after = func() {
					if writes++; writes == at+1 { // the first is the claim
						l.clock.Add((3 * time.Minute).Milliseconds())
						l.process().Round(t.Context())
					}
				}
				l.process().Round(t.Context())
				l.store.after = nil
				l.process().Round(t.Context())
				if diff := cmp.Diff(want, l.done(txn)); diff != "" {
					t.Errorf("held up after write %d: what was done (-want +got):\n%s", at+1, diff)
				}
				l.statuses(txn)
			}
			txn := l.accept(mixed(9)...)
			l.store.after = func() {
				l.clock.Add((25 * time.Second).Milliseconds())
				l.process().Round(t.Context())
			}
			l.process().Round(t.Context())
			l.store.after = nil
			if diff := cmp.Diff(want, l.done(txn)); diff != "" {
				t.Errorf("with time that passes (-want +got):\n%s", diff)
			}
			entries, err := l.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1_000_000)
			if err != nil {
				t.Fatal(err)
			}
			actions := map[string]int{}
			for _, e := range entries {
				if e.ID == txn {
					actions[e.Action]++
				}
			}
			if actions["bulk.attempt"] != 1 || actions["bulk.renew"] < 3 || actions["bulk.done"] != 1 {
				t.Error(actions)
			}
		})
	}
}

// TestAsyncGivenUp: what is temporarily not possible is tried again, and given up in the
// end with a result that says so.
func TestAsyncGivenUp(t *testing.T) {
	t.Parallel()
	l := newLater(t, sqliteStore)
	busy := atomic.Bool{}
	busy.Store(true)
	l.store.refuse = func(ctx context.Context) error {
		if busy.Load() && strings.Contains(auth.RequestID(ctx), ":") {
			return storage.ErrUnavailable
		}
		return nil
	}
	txn := l.accept(createOperation(1))
	for range 3 {
		l.Async.Round(t.Context())
		if r := l.Do(t, "GET", "/Bulk/"+txn, ""); r.Status != 202 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		l.clock.Add((5 * time.Minute).Milliseconds())
	}
	busy.Store(false)
	l.Async.Round(t.Context())
	if got := l.statuses(txn); got[0] != `201 W/"1"` {
		t.Error(got)
	}
	busy.Store(true)
	txn = l.accept(createOperation(2))
	for range 24 {
		l.Async.Round(t.Context())
		l.clock.Add((5 * time.Minute).Milliseconds())
	}
	if got := l.statuses(txn); got[0] != "503 " {
		t.Error(got)
	}
}

// TestAsyncClockBack: a request does not wait until a clock that was ahead is there again,
// neither behind a lease nor for its next attempt.
func TestAsyncClockBack(t *testing.T) {
	t.Parallel()
	l := newLater(t, sqliteStore)
	ahead := (48 * time.Hour).Milliseconds()
	refuse := func(ctx context.Context) error {
		if strings.Contains(auth.RequestID(ctx), ":") {
			return storage.ErrUnavailable
		}
		return nil
	}
	l.clock.Add(ahead)
	l.store.refuse = refuse
	postponed := l.accept(createOperation(1))
	l.process().Round(t.Context())
	l.store.refuse = nil
	left := l.accept(createOperation(2))
	l.store.left.Store(1) // the lease
	l.store.made = true
	l.store.dying.Store(true)
	l.process().Round(t.Context())
	l.store.dying.Store(false)
	l.clock.Add(-ahead)
	l.process().Round(t.Context())
	for _, txn := range []string{postponed, left} {
		if got := l.statuses(txn); got[0] != `201 W/"1"` {
			t.Error(got)
		}
	}
}

// TestAsyncRevokedMeanwhile: a client that is revoked does nothing more, even if the clock
// goes back meanwhile.
func TestAsyncRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	l := newLater(t, sqliteStore)
	l.clock.Add((time.Hour).Milliseconds())
	remove := func(id string) string { return `{"method":"DELETE","path":"/Users/` + id + `"}` }
	ids := l.Users(t, 3)
	txn := l.send(l.Client(t, "other", ""), remove(ids[0]), remove(ids[1]), remove(ids[2])).Header.Get("Set-Txn")
	clients, err := l.Store.ListClients(t.Context(), storage.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	c := clients[slices.IndexFunc(clients, func(c *storage.Client) bool { return c.Name == "other" })]
	writes := 0
	l.store.after = func() {
		if writes++; writes != 2 { // the lease and the first operation
			return
		}
		l.clock.Add(-(time.Hour).Milliseconds())
		manager := &auth.ClientManager{Store: l.store.Store, Now: time.Now}
		if err := manager.Revoke(t.Context(), auth.System(storage.DefaultTenant), c.ID); err != nil {
			t.Error(err)
		}
	}
	l.process().Round(t.Context())
	l.store.after = nil
	result, err := l.Store.Item(t.Context(), storage.DefaultTenant, "bulk.result", txn)
	if err != nil || strings.Count(string(result.Data), `{"status":"204"`) != 1 || strings.Count(string(result.Data), `{"status":"401"`) != 2 {
		t.Errorf("%s, %v", result.Data, err)
	}
}
