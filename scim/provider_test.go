package scim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// tree decodes JSON as a request's body is decoded.
func tree(t *testing.T, text string) any {
	t.Helper()
	v, err := schemas.Decode([]byte(text), scim.BodyLimits)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestNobody: a Provider does nothing for nobody, whatever a route may have let
// through.
func TestNobody(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	user := s.Provider.Schemas.Type("User")
	id := s.Users(t, 1)[0]
	body := tree(t, `{"userName":"x"}`)
	for name, by := range map[string]auth.Principal{
		"nobody":                   {},
		"an operator of no tenant": {Kind: auth.Operator},
		"a client without scopes":  {Kind: auth.Client, ID: "c", Tenant: storage.DefaultTenant},
		"a client for groups": {Kind: auth.Client, ID: "c", Tenant: storage.DefaultTenant,
			Scopes: func() auth.Scopes { g, _ := auth.ParseScopes([]string{"groups"}); return g }()},
	} {
		ctx := t.Context()
		for operation, do := range map[string]func() error{
			"Create": func() error { _, err := s.Provider.Create(ctx, by, user, body); return err },
			"Get":    func() error { _, err := s.Provider.Get(ctx, by, user, id); return err },
			"Query": func() error {
				_, err := s.Provider.Query(ctx, by, user, storage.Query{Type: "User", Count: 1})
				return err
			},
			"Replace": func() error { _, err := s.Provider.Replace(ctx, by, user, id, scim.Precondition{}, body); return err },
			"Patch":   func() error { _, err := s.Provider.Patch(ctx, by, user, id, scim.Precondition{}, nil); return err },
			"Delete":  func() error { return s.Provider.Delete(ctx, by, user, id, scim.Precondition{}) },
		} {
			if err := do(); !errors.Is(err, scim.ErrForbidden) {
				t.Errorf("%s for %s: %v, want ErrForbidden", operation, name, err)
			}
		}
	}
	if r := s.Do(t, "GET", "/Users/"+id, ""); r.Header.Get("ETag") != `W/"1"` {
		t.Errorf("the user has changed: %s", r.Body)
	}
}

// TestAudit: every change leaves who did what to whom from where, with the names of
// the attributes and their values before and after, passwords excepted, under the
// id of the request; what changes nothing leaves nothing. The outbox has the same.
func TestAudit(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	ctx := t.Context()
	clients, err := s.Store.ListClients(ctx, storage.DefaultTenant)
	if err != nil || len(clients) != 1 {
		t.Fatalf("%d clients, %v", len(clients), err)
	}
	actor := "client:" + clients[0].ID
	before, err := s.Store.AuditEntries(ctx, storage.DefaultTenant, 0, 100)
	if err != nil {
		t.Fatal(err)
	}

	var ids struct{ ID string }
	create := func(path, body string) string {
		t.Helper()
		r := s.Do(t, "POST", path, body, "X-Request-Id", "create")
		if err := json.Unmarshal([]byte(r.Body), &ids); err != nil || r.Status != 201 {
			t.Fatalf("POST %s: %d %s", path, r.Status, r.Body)
		}
		return ids.ID
	}
	change := func(id, method, path, body string, want int) {
		t.Helper()
		if r := s.Do(t, method, path, body, "X-Request-Id", id); r.Status != want {
			t.Fatalf("%s %s: %d %s, want %d", method, path, r.Status, r.Body, want)
		}
	}
	user := create("/Users", `{"schemas":["`+schemas.UserURI+`"],"userName":"secretive","password":"correct horse"}`)
	group := create("/Groups", `{"schemas":["`+schemas.GroupURI+`"],"displayName":"Secretive"}`)
	change("put", "PUT", "/Users/"+user, `{"schemas":["`+schemas.UserURI+`"],"userName":"secretive","title":"Pilot","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"North"}}`, 200)
	change("patch", "PATCH", "/Users/"+user, patchOp(`{"op":"replace","path":"emails","value":[{"value":"a@example.com"}]},{"op":"add","path":"title","value":"Mate"}`), 200)
	change("password", "PATCH", "/Users/"+user, patchOp(`{"op":"replace","path":"password","value":"battery staple"}`), 200)
	change("no-password", "PATCH", "/Users/"+user, patchOp(`{"op":"remove","path":"password"}`), 200)
	change("same", "PATCH", "/Users/"+user, patchOp(`{"op":"add","path":"title","value":"Mate"}`), 200)
	change("member", "PATCH", "/Groups/"+group, patchOp(`{"op":"add","path":"members","value":[{"value":%q}]}`, user), 200)
	change("same-member", "PATCH", "/Groups/"+group, patchOp(`{"op":"add","path":"members","value":[{"value":%q}]}`, user), 200)
	change("both", "PATCH", "/Groups/"+group, patchOp(`{"op":"remove","path":"members"},{"op":"replace","path":"displayName","value":"Other"}`), 200)
	change("refused", "PATCH", "/Groups/"+group, patchOp(`{"op":"replace","path":"displayName","value":"Another"},{"op":"add","path":"members","value":[{"value":"nobody"}]}`), 400)
	change("stale", "DELETE", "/Groups/00000000-0000-7000-8000-000000000000", "", 404)
	outer := create("/Groups", `{"schemas":["`+schemas.GroupURI+`"],"displayName":"Outer","members":[{"value":"`+group+`"},{"value":"`+user+`"}]}`)
	change("back", "PATCH", "/Groups/"+group, patchOp(`{"op":"add","path":"members","value":[{"value":%q}]}`, user), 200)
	change("delete", "DELETE", "/Users/"+user, "", 204)
	change("delete-group", "DELETE", "/Groups/"+group, "", 204)

	entries, err := s.Store.AuditEntries(ctx, storage.DefaultTenant, before[len(before)-1].Seq, 100)
	if err != nil {
		t.Fatal(err)
	}
	type line struct{ Request, Actor, Action, Type, ID, Attributes, Changes string }
	text := func(list []storage.Change) string {
		var b strings.Builder
		for _, c := range list {
			fmt.Fprintf(&b, "%s: %s > %s; ", c.Path, c.Before, c.After)
		}
		return b.String()
	}
	var got []line
	for _, e := range entries {
		got = append(got, line{e.RequestID, e.Actor, e.Action, e.Type, e.ID, strings.Join(e.Attributes, " "), text(e.Changes)})
		if from, err := netip.ParseAddr(e.From); err != nil || e.Level != "" {
			t.Errorf("an entry of a client is from %q at level %q, %v", from, e.Level, err)
		}
	}
	added, removed := ` > {"added":["`+user+`"],"total":1}; `, ` {"removed":["`+user+`"],"total":1} > ; `
	both := []string{group, user}
	slices.Sort(both)
	want := []line{
		{"create", actor, "user.create", "User", user, "", `userName:  > "secretive"; active:  > true; `},
		{"create", actor, "group.create", "Group", group, "", `displayName:  > "Secretive"; `},
		{"put", actor, "user.replace", "User", user, "title " + schemas.EnterpriseUserURI + ":department",
			`title:  > "Pilot"; ` + schemas.EnterpriseUserURI + `:department:  > "North"; `},
		{"patch", actor, "user.patch", "User", user, "title emails", `title: "Pilot" > "Mate"; emails:  > [{"value":"a@example.com"}]; `},
		{"password", actor, "user.patch", "User", user, "password", "password:  > ; "},
		{"no-password", actor, "user.patch", "User", user, "password", "password:  > ; "},
		{"member", actor, "group.patch", "Group", group, "members", "members: " + added},
		{"both", actor, "group.patch", "Group", group, "displayName members", `displayName: "Secretive" > "Other"; members:` + removed},
		{"create", actor, "group.create", "Group", outer, "", `displayName:  > "Outer"; members:  > {"added":["` + both[0] + `","` + both[1] + `"],"total":2}; `},
		{"back", actor, "group.patch", "Group", group, "members", "members: " + added},
		{"delete", actor, "user.delete", "User", user, "", `userName: "secretive" > ; active: true > ; `},
		{"delete", actor, "group.patch", "Group", group, "members", "members:" + removed}, // what a deletion does to groups
		{"delete", actor, "group.patch", "Group", outer, "members", "members:" + removed},
		{"delete-group", actor, "group.delete", "Group", group, "", `displayName: "Other" > ; `},
		{"delete-group", actor, "group.patch", "Group", outer, "members", `members: {"removed":["` + group + `"],"total":1} > ; `},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the audit trail (-want +got):\n%s", diff)
	}
	events, err := s.Store.Events(ctx, storage.DefaultTenant, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != len(want) {
		t.Fatalf("%d events for %d changes", len(events), len(want))
	}
	for i, e := range events {
		if w := want[i]; e.Action != w.Action || e.Version == 0 || e.ID != w.ID || strings.Join(e.Attributes, " ") != w.Attributes {
			t.Errorf("event %d is %+v, the audit trail has %+v", i, e, w)
		}
	}
	if last, r := events[len(events)-1], s.Do(t, "GET", "/Groups/"+outer, ""); r.Header.Get("ETag") != fmt.Sprintf(`W/"%d"`, last.Version) {
		t.Errorf("the last event of a group has version %d, the group %s", last.Version, r.Header.Get("ETag"))
	}
	if all := fmt.Sprint(got); strings.Contains(all, "horse") || strings.Contains(all, "staple") || strings.Contains(all, "argon2") {
		t.Errorf("there are passwords in the audit trail: %s", all)
	}
}

// TestPasswordIsKeptAsAHash: what is stored can verify the password, is replaced
// with it and goes with it, and nothing else of it is in the store's files.
func TestPasswordIsKeptAsAHash(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	r := s.Do(t, "POST", "/Users", `{"schemas":["`+schemas.UserURI+`"],"userName":"ana","password":"correct horse"}`)
	var u struct{ ID string }
	if err := json.Unmarshal([]byte(r.Body), &u); err != nil {
		t.Fatal(err)
	}
	verifies := func(password string) bool {
		t.Helper()
		c, err := auth.FindCredential(t.Context(), s.Store, storage.DefaultTenant, u.ID)
		if err != nil {
			t.Fatal(err)
		}
		if c.PasswordHash == "" {
			return false
		}
		ok, err := s.Provider.Hasher.Verify(t.Context(), password, c.PasswordHash)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !verifies("correct horse") || verifies("Correct horse") {
		t.Error("the password that was set does not verify, or another does")
	}
	s.Do(t, "PUT", "/Users/"+u.ID, `{"schemas":["`+schemas.UserURI+`"],"userName":"ana"}`)
	if !verifies("correct horse") {
		t.Error("a PUT without a password has changed it")
	}
	s.Do(t, "PATCH", "/Users/"+u.ID, patchOp(`{"op":"replace","path":"title","value":"Pilot"}`))
	if !verifies("correct horse") {
		t.Error("a PATCH of something else has changed it")
	}
	s.Do(t, "PATCH", "/Users/"+u.ID, patchOp(`{"op":"replace","value":{"password":"battery staple"}}`))
	if !verifies("battery staple") || verifies("correct horse") {
		t.Error("after a PATCH the new password does not verify, or the old one does")
	}
	s.Do(t, "PUT", "/Users/"+u.ID, `{"schemas":["`+schemas.UserURI+`"],"userName":"ana","password":"correct horse"}`)
	if !verifies("correct horse") {
		t.Error("after a PUT the new password does not verify")
	}
	s.Do(t, "PATCH", "/Users/"+u.ID, patchOp(`{"op":"remove","path":"password"}`))
	if verifies("correct horse") {
		t.Error("the password that was removed verifies")
	}
}

// TestPasswordLeavesTheRest: a client that sets or removes a password changes
// nothing else of the credential, and the password is the user's own from then on.
func TestPasswordLeavesTheRest(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	r := s.Do(t, "POST", "/Users", `{"schemas":["`+schemas.UserURI+`"],"userName":"ana"}`)
	var u struct{ ID string }
	if err := json.Unmarshal([]byte(r.Body), &u); err != nil {
		t.Fatal(err)
	}
	err := s.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(tx.PutItem(nil, &storage.Item{Kind: "credential", ID: u.ID, Data: []byte(`{"passwordHash":"x","temporary":true,"rest":"stays"}`)}),
			tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		method, body string
		has          bool
	}{
		{"PATCH", patchOp(`{"op":"add","path":"password","value":"correct horse"}`), true},
		{"PUT", `{"schemas":["` + schemas.UserURI + `"],"userName":"ana","password":"battery staple"}`, true},
		{"PATCH", patchOp(`{"op":"remove","path":"password"}`), false},
	} {
		s.Do(t, c.method, "/Users/"+u.ID, c.body)
		item, err := s.Store.Item(t.Context(), storage.DefaultTenant, "credential", u.ID)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(item.Data, &got); err != nil {
			t.Fatal(err)
		}
		if got["rest"] != "stays" || got["temporary"] != nil || (got["passwordHash"] != nil) != c.has || (got["passwordSet"] != nil) != c.has || got["passwordHash"] == "x" {
			t.Errorf("after change %d the credential is %v", i, got)
		}
		if item.Version != int64(i+2) {
			t.Errorf("after change %d the credential has version %d", i, item.Version)
		}
	}
	// There is none any more, so this changes nothing.
	s.Do(t, "PATCH", "/Users/"+u.ID, patchOp(`{"op":"remove","path":"password"}`))
	if item, err := s.Store.Item(t.Context(), storage.DefaultTenant, "credential", u.ID); err != nil || item.Version != 4 {
		t.Errorf("removing no password: got %+v, %v, want version 4", item, err)
	}
}

// TestClockThatGoesBack: lastModified never does.
func TestClockThatGoesBack(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	user := s.Provider.Schemas.Type("User")
	noon := time.Date(2030, 5, 6, 12, 0, 0, 0, time.UTC)
	s.Provider.Now = func() time.Time { return noon }
	r, err := s.Provider.Create(t.Context(), operator(), user, tree(t, `{"userName":"ana"}`))
	if err != nil {
		t.Fatal(err)
	}
	s.Provider.Now = func() time.Time { return noon.Add(-time.Hour) }
	r, err = s.Provider.Patch(t.Context(), operator(), user, r.ID, scim.Precondition{}, []patch.Operation{{Op: patch.Add, Path: "title", Value: "Pilot"}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.LastModified.Equal(noon) || !r.Created.Equal(noon) || r.Version != 2 {
		t.Errorf("created %s, modified %s, version %d", r.Created, r.LastModified, r.Version)
	}
}

// TestUpdateMeanwhile: when a resource changes between being read and being
// written, the change is computed again from what it is by then.
func TestUpdateMeanwhile(t *testing.T) {
	t.Parallel()
	meanwhile := &interrupted{}
	s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store {
		meanwhile.Store = inner
		return meanwhile
	}})
	id := s.Users(t, 1)[0]
	rename := func() {
		p := unwatched(s)
		user := p.Schemas.Type("User")
		if _, err := p.Patch(context.Background(), operator(), user, id, scim.Precondition{},
			[]patch.Operation{{Op: patch.Add, Path: "nickName", Value: "An"}, {Op: patch.Add, Path: "title", Value: "Mate"}}); err != nil {
			t.Error(err)
		}
	}
	meanwhile.do.Store(&rename)
	r := s.Do(t, "PATCH", "/Users/"+id, patchOp(`{"op":"add","path":"title","value":"Pilot"}`))
	if r.Status != 200 || !strings.Contains(r.Body, `"nickName":"An"`) || !strings.Contains(r.Body, `"title":"Pilot"`) || r.Header.Get("ETag") != `W/"3"` {
		t.Errorf("got %d %s", r.Status, r.Body)
	}
	retitle := func() {
		p := unwatched(s)
		user := p.Schemas.Type("User")
		if _, err := p.Patch(context.Background(), operator(), user, id, scim.Precondition{}, []patch.Operation{{Op: patch.Replace, Path: "title", Value: "Cook"}}); err != nil {
			t.Error(err)
		}
	}
	meanwhile.do.Store(&retitle)
	if r := s.Do(t, "PATCH", "/Users/"+id, patchOp(`{"op":"add","path":"title","value":"Master"}`), "If-Match", `W/"3"`); r.Status != 412 {
		t.Errorf("under a precondition that held at first: %d %s, want 412", r.Status, r.Body)
	}
	remove := func() {
		p := unwatched(s)
		if err := p.Delete(context.Background(), operator(), p.Schemas.Type("User"), id, scim.Precondition{}); err != nil {
			t.Error(err)
		}
	}
	meanwhile.do.Store(&remove)
	if r := s.Do(t, "PATCH", "/Users/"+id, patchOp(`{"op":"add","path":"title","value":"Master"}`)); r.Status != 404 {
		t.Errorf("of a user that was deleted meanwhile: %d %s, want 404", r.Status, r.Body)
	}
}

// unwatched returns a provider on the server's store that has seen nothing yet and
// counts nothing.
func unwatched(s *testserver.Server) *scim.Provider {
	return &scim.Provider{Store: s.Store, Schemas: s.Provider.Schemas, Hasher: s.Provider.Hasher, Now: s.Provider.Now}
}

// interrupted does something once between a read and the write that follows.
type interrupted struct {
	storage.Store
	do atomic.Pointer[func()]
}

func (i *interrupted) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if do := i.do.Swap(nil); do != nil {
		(*do)()
	}
	return i.Store.Write(ctx, tenant, fn)
}

// failing is a store that fails in everything about resources.
type failing struct {
	storage.Store
	err atomic.Pointer[error]
}

func (f *failing) fault() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *failing) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, tenant, typ, id)
}

func (f *failing) GetToChange(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.Store.GetToChange(ctx, tenant, typ, id)
}

func (f *failing) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.Store.Query(ctx, tenant, q)
}

func (f *failing) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.Store.Write(ctx, tenant, fn)
}

// TestStoreThatFails: whatever the store says, no answer claims success, no answer
// repeats what it said, and what may succeed later says when to try.
func TestStoreThatFails(t *testing.T) {
	t.Parallel()
	store := &failing{}
	s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store {
		store.Store = inner
		return store
	}})
	user := s.Users(t, 1)[0]
	requests := []struct{ method, path, body string }{
		{"GET", "/Users", ""},
		{"GET", "/Users/" + user, ""},
		{"POST", "/Users", `{"schemas":["` + schemas.UserURI + `"],"userName":"ana"}`},
		{"PUT", "/Users/" + user, `{"schemas":["` + schemas.UserURI + `"],"userName":"ana"}`},
		{"PATCH", "/Users/" + user, patchOp(`{"op":"add","path":"title","value":"Pilot"}`)},
		{"DELETE", "/Users/" + user, ""},
	}
	for _, fault := range []struct {
		err      error
		status   int
		scimType string
		retry    bool
	}{
		{errors.New("disk /dev/secretive is on fire"), 500, "", false},
		{&fs.PathError{Op: "open", Path: filepath.Join("secretive", "roster.db"), Err: fs.ErrPermission}, 500, "", false},
		{fmt.Errorf("%w: secretive", storage.ErrUnaudited), 500, "", false},
		{fmt.Errorf("%w: secretive", storage.ErrUnavailable), 503, "", true},
		{fmt.Errorf("%w: secretive", storage.ErrOutcomeUnknown), 503, "", true},
		{fmt.Errorf("secretive: %w", context.DeadlineExceeded), 503, "", true},
		{fmt.Errorf("secretive: %w", auth.ErrBusy), 503, "", true},
		{fmt.Errorf("%w: secretive", storage.ErrTooExpensive), 400, "tooMany", false},
		{fmt.Errorf("%w: secretive", storage.ErrNotFound), 404, "", false},
	} {
		store.err.Store(&fault.err)
		for _, q := range requests {
			r := s.Do(t, q.method, q.path, q.body)
			var e struct{ Status, ScimType, Detail string }
			if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
				t.Fatalf("%s %s with %v: %s", q.method, q.path, fault.err, r.Body)
			}
			if r.Status != fault.status || e.Status != fmt.Sprint(fault.status) || e.ScimType != fault.scimType || e.Detail == "" {
				t.Errorf("%s %s with %v: %d %s, want %d %s", q.method, q.path, fault.err, r.Status, r.Body, fault.status, fault.scimType)
			}
			if unknown := errors.Is(fault.err, storage.ErrOutcomeUnknown); unknown && strings.Contains(e.Detail, "nothing was changed") {
				t.Errorf("%s %s with %v: says %q, which nobody knows", q.method, q.path, fault.err, e.Detail)
			}
			if strings.Contains(r.Body, "secretive") {
				t.Errorf("%s %s repeats what the store said: %s", q.method, q.path, r.Body)
			}
			if (r.Header.Get("Retry-After") != "") != fault.retry || r.Header.Get("ETag") != "" || r.Header.Get("Location") != "" {
				t.Errorf("%s %s with %v: headers %v", q.method, q.path, fault.err, r.Header)
			}
		}
	}
	store.err.Store(nil)
	if r := s.Do(t, "GET", "/Users/"+user, ""); r.Status != 200 || r.Header.Get("ETag") != `W/"1"` {
		t.Errorf("afterwards: %d %s", r.Status, r.Body)
	}
}

// TestGroupsThatFail: the groups of a user are looked up apart; when that fails
// there is no answer without them.
func TestGroupsThatFail(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store { return noGroups{inner} }})
	users := s.Users(t, 2)
	group := s.Group(t, "Crew", "", users[:1])
	for path, want := range map[string]int{"/Users/" + users[0]: 503, "/Users/" + users[1]: 200, "/Users": 503} {
		if r := s.Do(t, "GET", path, ""); r.Status != want {
			t.Errorf("GET %s: %d %s, want %d", path, r.Status, r.Body, want)
		}
	}
	if r := s.Do(t, "PATCH", "/Groups/"+group, patchOp(`{"op":"replace","path":"displayName","value":"The crew"}`)); r.Status != 503 {
		t.Errorf("a PATCH whose answer cannot be made: %d %s", r.Status, r.Body)
	}
}

type noGroups struct{ storage.Store }

func (noGroups) Groups(context.Context, storage.TenantID, ...string) (map[string][]storage.Membership, error) {
	return nil, storage.ErrUnavailable
}

func (noGroups) CountMembers(context.Context, storage.TenantID, string, int) (int, error) {
	return 0, storage.ErrUnavailable
}

func (noGroups) Members(context.Context, storage.TenantID, string, string) iter.Seq2[storage.Member, error] {
	return func(yield func(storage.Member, error) bool) { yield(storage.Member{}, storage.ErrUnavailable) }
}

// TestDamagedDocument: a stored resource that cannot be read is an error of the
// server, for that resource alone.
func TestDamagedDocument(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store { return damaged{inner} }})
	user := s.Users(t, 1)[0]
	for _, q := range []struct{ method, path, body string }{
		{"GET", "/Users/" + user + "?attributes=userName", ""},
		{"PUT", "/Users/" + user, `{"schemas":["` + schemas.UserURI + `"],"userName":"ana"}`},
		{"PATCH", "/Users/" + user, patchOp(`{"op":"add","path":"title","value":"Pilot"}`)},
	} {
		if r := s.Do(t, q.method, q.path, q.body); r.Status != 500 || strings.Contains(r.Body, "u0") {
			t.Errorf("%s %s: %d %s, want 500", q.method, q.path, r.Status, r.Body)
		}
	}
}

type damaged struct{ storage.Store }

func (d damaged) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	r, err := d.Store.Get(ctx, tenant, typ, id)
	if err == nil {
		r.Doc = r.Doc[:len(r.Doc)-5]
	}
	return r, err
}

func (d damaged) GetToChange(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	return d.Get(ctx, tenant, typ, id)
}

// TestObserve: each operation is told once, with a name for how it ended that
// comes from a small vocabulary.
func TestObserve(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	var seen []string
	s.Provider.Observe = func(typ, operation, outcome string) { seen = append(seen, typ+" "+operation+" "+outcome) }
	id := s.Users(t, 1)[0]
	s.Do(t, "GET", "/Users/"+id, "")
	s.Do(t, "GET", "/Groups/"+id, "")
	s.Do(t, "GET", "/Users", "")
	s.Do(t, "POST", "/Users", `{"schemas":["`+schemas.UserURI+`"],"userName":"u0"}`)
	s.Do(t, "PUT", "/Users/"+id, `{"schemas":["`+schemas.UserURI+`"],"userName":7}`)
	s.Do(t, "PATCH", "/Users/"+id, patchOp(`{"op":"remove"}`))
	s.Do(t, "DELETE", "/Users/"+id, "", "If-Match", `"0"`)
	s.Do(t, "DELETE", "/Users/"+id, "")
	want := []string{
		"User get ok", "Group get notFound", "User query ok", "User create uniqueness", "User replace invalidValue",
		"User patch noTarget", "User delete preconditionFailed", "User delete ok",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	s.Provider.Observe = nil
	if r := s.Do(t, "GET", "/Users", ""); r.Status != 200 {
		t.Errorf("with nobody observing: %d", r.Status)
	}
}

// TestObserveWithoutType: what is refused without a scimType has a name of that
// vocabulary, too.
func TestObserveWithoutType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteStore(t))
	w.create("bosun", "Role", `{"value":"bosun","contains":["deckhand"]}`)
	var seen []string
	w.p.Observe = func(typ, operation, outcome string) { seen = append(seen, typ+" "+operation+" "+outcome) }
	stale := w.session("gus")
	stale.PasscodeAt = w.now().Add(-time.Hour)
	_ = w.remove(stale, "RoleAssignment", w.ids["uma is UA"]) // how it ends is what Observe is told
	_ = w.remove(w.session("gus"), "Role", w.ids["deckhand"])
	want := []string{"RoleAssignment delete unauthorized", "Role delete conflict"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}

// TestWriteErrorSaysWhatItSent is about what the outer server logs.
func TestWriteErrorSaysWhatItSent(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	e := scim.WriteError(w, httptest.NewRequest(http.MethodGet, "/", nil), &scim.Error{Status: 429, Detail: "slower", RetryAfter: 7})
	if e.Error() != "slower" || w.Code != 429 || w.Header().Get("Retry-After") != "7" ||
		w.Body.String() != `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"429","detail":"slower"}` ||
		w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}
