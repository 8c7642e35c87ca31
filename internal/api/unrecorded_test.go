package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// forgetful is a store whose audit entries can be made to fail.
type forgetful struct {
	storage.Store
	mu sync.Mutex
	// from is the first write, of those that are to come, whose entries fail; less than
	// nothing for none.
	from int
	// quietly keeps the error from whoever records, as a careless caller would.
	quietly bool
}

type forgetfulTx struct {
	storage.Tx
	quietly bool
}

var errForgotten = errors.New("no audit entry today")

func (s *forgetful) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	s.mu.Lock()
	fails, quietly := s.from == 0, s.quietly
	if s.from > 0 {
		s.from--
	}
	s.mu.Unlock()
	if !fails {
		return s.Store.Write(ctx, tenant, fn)
	}
	return s.Store.Write(ctx, tenant, func(tx storage.Tx) error { return fn(&forgetfulTx{tx, quietly}) })
}

func (t *forgetfulTx) Audit(storage.AuditEntry) error {
	if t.quietly {
		_ = t.Tx.Audit(storage.AuditEntry{}) // which the store refuses
		return nil
	}
	return errForgotten
}

func (s *forgetful) fail(from int, quietly bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.quietly = from, quietly
}

// deed is a request that changes something.
type deed struct {
	by   signedIn // whose request it is; nobody's if it has no token
	path string   // with what stands for {id}
	body any
	// parts says that it is done one part after the other, each with an entry of its own.
	parts bool
}

// unrecordedElsewhere are the routes that change something and are not tried by
// TestNothingWithoutEntry: users, groups and what is in them are tried by
// TestNoChangeWithoutEntry, which goes by the provider.
var unrecordedElsewhere = []string{
	"/scim/v2/Users", "/scim/v2/Groups", "/scim/v2/GroupMembers", "/scim/v2/GroupMemberships", "/scim/v2/Me", "/scim/v2/Bulk",
	"/admin/v1/tenants", "/admin/v1/domain", "/admin/v1/mail", "/auth/v1/account-link", "/auth/v1/tenants", "/auth/v1/session/return",
	"DELETE /admin/v1/users/{id}/account-links", "/admin/v1/feeds/{id}/replay", "/admin/v1/dead-letters/", "/events/v1/poll/",
	"POST /scim/v2/Invitations", "PUT /scim/v2/Invitations/", "PATCH /scim/v2/Invitations/", "PUT /scim/v2/Role", "PUT /scim/v2/Entitlements/", "PUT /scim/v2/{type}/", // as the routes beside them
}

// unrecordedNothing are the routes that change nothing, though their methods say so.
var unrecordedNothing = []string{"/.search", "/auth/v1/setup/link", "/auth/v1/invitations/look", "/admin/v1/rule-trials", "/admin/v1/domain-move-previews", "/admin/v1/feeds/{id}/test"}

// TestNothingWithoutEntry: what is done by every route for signing in, passcodes,
// sessions, roles, rules, clients and accounts is recorded with who did it, from where
// and at what level, and is not done at all when it cannot be recorded. What an attempt
// counts before it looks is there, with its own entry, when a later one fails.
func TestNothingWithoutEntry(t *testing.T) {
	raced.Skip(t)
	opt := testserver.Options{NoMail: true, Store: func(s storage.Store) storage.Store { return &forgetful{Store: s, from: -1} }}
	onStoresWith(t, opt, nothingWithoutEntry)
}

func nothingWithoutEntry(t *testing.T, w *world) {
	store, ok := w.Provider.Store.(*forgetful)
	if !ok {
		t.Fatalf("the store is a %T", w.Provider.Store)
	}
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	w.enrol(t, admin)
	w.enrol(t, w.person(t, "spare", auth.GlobalAdministrator))
	n := 0
	somebody := func(roles ...string) *person {
		n++
		return w.person(t, fmt.Sprint("person", n), roles...)
	}
	boss := func() signedIn { return w.mfa(t, admin) }
	enrolled := func() (*person, signedIn) { p := somebody(); return p, w.enrol(t, p) }
	role := func(kind string) string {
		n++
		return fmt.Sprintf(`{"value":"role%d",%q:{"kind":%q}}`, n, schemas.RosterRoleURI, kind)
	}
	made := func(path string, body any) string {
		t.Helper()
		b := boss()
		var r testserver.Response
		if text, ok := body.(string); ok {
			r = w.scim(t, b.Token, "POST", path, text)
		} else {
			r = w.post(t, path, b.Token, body)
		}
		v := must[struct {
			ID     string
			Client struct{ ID string }
		}](t, r, 201)
		return v.ID + v.Client.ID
	}
	assignment := func(to, role, more string) string {
		return fmt.Sprintf(`{"role":{"value":%q},"principal":{"value":%q}%s}`, role, to, more)
	}
	eligible := func(more string) (signedIn, string) {
		p, in := enrolled()
		id := made("/RoleAssignments", assignment(p.id, auth.ReportsReader, `,"kind":"eligible"`+more))
		return w.stepUp(t, p, in), id
	}
	activation := func(more string) (signedIn, string) {
		in, id := eligible(more)
		return in, must[struct{ ID string }](t, w.post(t, "/auth/v1/roles/activations", in.Token, object{"assignment": id, "durationSeconds": 3600, "reason": "x"}), 201).ID
	}
	invitation := func() invited {
		n++
		return w.invite(t, boss().Token, object{"email": fmt.Sprintf("p%d@out.example", n), "userName": fmt.Sprint("invited", n)})
	}
	rule := func(state string) object {
		return object{"name": "New", "state": state, "when": object{"newDevice": true}, "then": "passcode"}
	}
	client := func() string {
		n++
		return made("/admin/v1/clients", object{"name": fmt.Sprint("client", n), "scopes": []string{"users"}})
	}
	deleted := func(path, body string) string {
		id := made(path, body)
		must[any](t, w.scim(t, boss().Token, "DELETE", path+"/"+id, ""), 204)
		return id
	}
	review := func() (id, assignment string) {
		b := boss()
		role := made("/Roles", role("business"))
		w.assign(t, b.Token, somebody().id, role, "")
		id = made("/admin/v1/reviews", object{"title": "x", "roles": []string{role}, "reviewers": []string{admin.id}, "due": w.now().Add(48 * time.Hour), "onNoDecision": "revoke"})
		for _, x := range w.reviewed(t, boss().Token, id) {
			assignment = x.Assignment
		}
		return id, assignment
	}
	request := func() (signedIn, string) {
		in := w.signIn(t, somebody())
		return in, w.ask(t, in.Token, object{"role": made("/Roles", role("business")), "reason": "x", "hours": 4}).ID
	}
	group := func() string { n++; return fmt.Sprintf(`{"displayName":"made%d"}`, n) }
	user := func() string { n++; return fmt.Sprintf(`{"userName":"made%d"}`, n) }

	entitlement := func() string { n++; return fmt.Sprintf(`{"value":"entitlement%d"}`, n) }
	schema := func() (id string, body object) {
		n++
		id = fmt.Sprint("urn:example:badge", n)
		return id, object{"extends": []string{"User"}, "schema": object{"id": id, "attributes": []object{{"name": "number"}}}}
	}
	w.gadgets(t)
	gadget := func() string { return made("/Gadgets", `{"serial":"1"}`) }

	feed := func(body object) string {
		t.Helper()
		return must[feedAnswer](t, w.post(t, "/admin/v1/feeds", boss().Token, body), 201).Feed.ID
	}
	polled := func() object {
		n++
		c := &storage.Client{Tenant: storage.DefaultTenant, Name: fmt.Sprint("poller", n), Scopes: []string{"events"}}
		w.Issue(t, c)
		return object{"name": "x", "delivery": "poll", "client": c.ID}
	}
	deeds := map[string]func() deed{
		"POST /auth/v1/sign-in": func() deed {
			p, _ := enrolled()
			w.advance(time.Minute)
			return deed{body: object{"name": p.name, "password": p.password, "passcode": w.code(t, p)}}
		},
		"POST /auth/v1/setup": func() deed {
			link, err := w.People.NewSetup(t.Context(), auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}, somebody(auth.Auditor).id, false)
			if err != nil {
				t.Fatal(err)
			}
			return deed{body: object{"link": link.Reveal(), "password": goodPassword + " 2"}}
		},
		"POST /auth/v1/invitations/accept": func() deed {
			return deed{body: object{"link": linkSecret(t, invitation()), "password": goodPassword}, parts: true} // the account, then the session
		},
		"POST /auth/v1/passcode": func() deed {
			p, _ := enrolled()
			in := w.signIn(t, p)
			return deed{by: in, body: object{"code": w.code(t, p)}}
		},
		"POST /auth/v1/recovery-code": func() deed {
			p, _ := enrolled()
			return deed{by: w.signIn(t, p), body: object{"code": p.recovery[0]}}
		},
		"POST /auth/v1/step-up":    func() deed { p, in := enrolled(); return deed{by: in, body: object{"code": w.code(t, p)}} },
		"POST /auth/v1/sign-out":   func() deed { return deed{by: w.signIn(t, somebody())} },
		"DELETE /auth/v1/sessions": func() deed { return deed{by: w.signIn(t, somebody())} },
		"DELETE /auth/v1/sessions/{id}": func() deed {
			p := somebody()
			other := w.signIn(t, p)
			return deed{by: w.signIn(t, p), path: other.Session}
		},
		"POST /auth/v1/password": func() deed {
			return deed{by: w.signIn(t, somebody()), body: object{"current": goodPassword, "new": goodPassword + " 2"}}
		},
		"POST /auth/v1/totp": func() deed { return deed{by: w.signIn(t, somebody()), body: object{}} },
		"POST /auth/v1/totp/confirm": func() deed {
			p := somebody()
			in := w.signIn(t, p)
			p.secret = must[struct{ Secret string }](t, w.post(t, "/auth/v1/totp", in.Token, object{}), 200).Secret
			return deed{by: in, body: object{"code": w.code(t, p)}}
		},
		"POST /auth/v1/totp/check": func() deed { p, in := enrolled(); return deed{by: in, body: object{"code": w.code(t, p)}} },
		"DELETE /auth/v1/totp":     func() deed { _, in := enrolled(); return deed{by: in} },
		"POST /auth/v1/roles/activations": func() deed {
			in, id := eligible("")
			return deed{by: in, body: object{"assignment": id, "durationSeconds": 3600, "reason": "x"}}
		},
		"DELETE /auth/v1/roles/activations/{id}": func() deed { in, id := activation(""); return deed{by: in, path: id} },
		"POST /auth/v1/roles/activations/{id}/approval": func() deed {
			_, id := activation(`,"approvalRequired":true`)
			return deed{by: boss(), path: id}
		},
		"POST /auth/v1/roles/requests": func() deed {
			id := made("/Roles", role("business"))
			return deed{by: w.signIn(t, somebody()), body: object{"role": id, "reason": "x", "hours": 4}}
		},
		"DELETE /auth/v1/roles/requests/{id}": func() deed { in, id := request(); return deed{by: in, path: id} },

		"POST /admin/v1/role-requests/{id}/decision": func() deed {
			_, id := request()
			return deed{by: boss(), path: id, body: object{"decision": "approve"}}
		},
		"POST /admin/v1/users": func() deed {
			n++
			return deed{by: boss(), body: object{"user": object{"userName": fmt.Sprint("account", n)}}}
		},
		"POST /admin/v1/users/{id}/password-reset": func() deed { p := somebody(); return deed{by: boss(), path: p.id} },
		"POST /admin/v1/users/{id}/mfa-reset":      func() deed { p, _ := enrolled(); return deed{by: boss(), path: p.id} },
		"PUT /admin/v1/users/{id}/emergency":       func() deed { p := somebody(); return deed{by: boss(), path: p.id, body: object{"emergency": true}} },
		"DELETE /admin/v1/users/{id}/sessions": func() deed {
			p := somebody()
			w.signIn(t, p)
			return deed{by: boss(), path: p.id}
		},
		"POST /admin/v1/invitations": func() deed {
			n++
			return deed{by: boss(), body: object{"invitation": object{"email": fmt.Sprintf("p%d@out.example", n)}}}
		},
		"POST /admin/v1/invitations/{id}/resend": func() deed { i := invitation(); return deed{by: boss(), path: i.ID} },
		"POST /admin/v1/invitations/{id}/revoke": func() deed { i := invitation(); return deed{by: boss(), path: i.ID} },
		"DELETE /scim/v2/Invitations/{id}":       func() deed { i := invitation(); return deed{by: boss(), path: i.ID} },
		"POST /admin/v1/rules":                   func() deed { return deed{by: boss(), body: rule("report")} },
		"PUT /admin/v1/rules/{id}": func() deed {
			id := made("/admin/v1/rules", rule("report"))
			return deed{by: boss(), path: id, body: rule("off")}
		},
		"DELETE /admin/v1/rules/{id}": func() deed { id := made("/admin/v1/rules", rule("report")); return deed{by: boss(), path: id} },
		"POST /admin/v1/clients": func() deed {
			n++
			return deed{by: boss(), body: object{"name": fmt.Sprint("client", n), "scopes": []string{"users"}}}
		},
		"PATCH /admin/v1/clients/{id}": func() deed {
			id := client()
			return deed{by: boss(), path: id, body: object{"scopes": []string{"groups"}}}
		},
		"POST /admin/v1/clients/{id}/rotate": func() deed { id := client(); return deed{by: boss(), path: id, body: object{}} },
		"POST /admin/v1/clients/{id}/revoke": func() deed { id := client(); return deed{by: boss(), path: id} },
		"PUT /admin/v1/policies/retention":   func() deed { return deed{by: boss(), body: object{"deletedDays": 7}} },
		"POST /admin/v1/deleted-users/{id}/restore": func() deed {
			id := deleted("/Users", user())
			return deed{by: boss(), path: id, body: object{}}
		},
		"DELETE /admin/v1/deleted-users/{id}": func() deed { id := deleted("/Users", user()); return deed{by: boss(), path: id} },
		"POST /admin/v1/deleted-groups/{id}/restore": func() deed {
			id := deleted("/Groups", group())
			return deed{by: boss(), path: id, body: object{}}
		},
		"DELETE /admin/v1/deleted-groups/{id}": func() deed { id := deleted("/Groups", group()); return deed{by: boss(), path: id} },
		"POST /admin/v1/reviews": func() deed {
			return deed{by: boss(), body: object{"title": "x", "administrative": true, "reviewers": []string{admin.id}, "due": w.now().Add(48 * time.Hour)}}
		},
		"POST /admin/v1/reviews/{id}/decisions": func() deed {
			id, a := review()
			return deed{by: boss(), path: id, body: object{"assignment": a, "decision": "revoke", "reason": "x"}}
		},
		"POST /admin/v1/reviews/{id}/close": func() deed { id, _ := review(); return deed{by: boss(), path: id, body: object{}, parts: true} },
		"POST /admin/v1/feeds":              func() deed { return deed{by: boss(), body: polled()} },
		"PATCH /admin/v1/feeds/{id}":        func() deed { id := feed(polled()); return deed{by: boss(), path: id, body: object{"name": "y"}} },
		"DELETE /admin/v1/feeds/{id}":       func() deed { id := feed(polled()); return deed{by: boss(), path: id} },
		"POST /admin/v1/feeds/{id}/rotate": func() deed {
			id := feed(object{"name": "x", "delivery": "webhook", "url": "https://example.com/"})
			r := w.send(t, "PATCH", "/admin/v1/feeds/"+id, `{"enabled":false}`, "Authorization", "Bearer "+boss().Token, "Content-Type", "application/json")
			must[object](t, r, 200) // lest it is sent to meanwhile
			return deed{by: boss(), path: id}
		},
		"POST /scim/v2/Roles": func() deed { return deed{by: boss(), body: role("administrative")} },
		"PATCH /scim/v2/Roles/{id}": func() deed {
			id := made("/Roles", role("business"))
			return deed{by: boss(), path: id, body: patching(`{"op":"add","path":"display","value":"x"}`)}
		},
		"DELETE /scim/v2/Roles/{id}":    func() deed { id := made("/Roles", role("business")); return deed{by: boss(), path: id} },
		"POST /scim/v2/RoleAssignments": func() deed { p := somebody(); return deed{by: boss(), body: assignment(p.id, auth.Auditor, "")} },
		"PATCH /scim/v2/RoleAssignments/{id}": func() deed {
			id := made("/RoleAssignments", assignment(somebody().id, auth.Auditor, ""))
			return deed{by: boss(), path: id, body: patching(`{"op":"add","path":"endDate","value":"2999-01-01T00:00:00Z"}`)}
		},
		"POST /scim/v2/Entitlements": func() deed { return deed{by: boss(), body: entitlement()} },
		"PATCH /scim/v2/Entitlements/{id}": func() deed {
			id := made("/Entitlements", entitlement())
			return deed{by: boss(), path: id, body: patching(`{"op":"add","path":"display","value":"x"}`)}
		},
		"DELETE /scim/v2/Entitlements/{id}": func() deed { id := made("/Entitlements", entitlement()); return deed{by: boss(), path: id} },
		"PUT /admin/v1/policies/vocabulary": func() deed { return deed{by: boss(), body: object{"roles": true, "entitlements": false}} },
		"POST /admin/v1/schemas":            func() deed { _, body := schema(); return deed{by: boss(), body: body} },
		"POST /admin/v1/schema-packs/{id}":  func() deed { return deed{by: boss(), path: "device", parts: true} },
		"PUT /admin/v1/schemas/{id}": func() deed {
			id, body := schema()
			made("/admin/v1/schemas", body)
			body["schema"] = object{"id": id, "attributes": []object{{"name": "number"}, {"name": "colour"}}}
			return deed{by: boss(), path: id, body: body, parts: true}
		},
		"DELETE /admin/v1/schemas/{id}": func() deed {
			id, body := schema()
			made("/admin/v1/schemas", body)
			return deed{by: boss(), path: id, parts: true}
		},
		"POST /scim/v2/{type}": func() deed { return deed{by: boss(), body: `{"serial":"1"}`} },
		"PATCH /scim/v2/{type}/{id}": func() deed {
			id := gadget()
			return deed{by: boss(), path: id, body: patching(`{"op":"add","path":"serial","value":"2"}`)}
		},
		"DELETE /scim/v2/{type}/{id}": func() deed { id := gadget(); return deed{by: boss(), path: id} },
		"DELETE /scim/v2/RoleAssignments/{id}": func() deed {
			id := made("/RoleAssignments", assignment(somebody().id, auth.Auditor, ""))
			return deed{by: boss(), path: id}
		},
	}

	left := map[string]bool{}
	for name := range deeds {
		left[name] = true
	}
	for _, m := range w.Mounts {
		for _, route := range m.Routes {
			name := route.Method + " " + m.Prefix + route.Path
			in := func(list []string) bool {
				return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(name, s) })
			}
			prepare := deeds[name]
			if route.Method == "GET" || in(unrecordedNothing) || prepare == nil && in(unrecordedElsewhere) {
				continue
			}
			if prepare == nil {
				t.Errorf("%s is not tried", name)
				continue
			}
			delete(left, name)
			d := prepare()
			tryWithoutEntry(t, w, store, name, d)
		}
	}
	for name := range left {
		t.Errorf("%s is no route", name)
	}
	t.Logf("%d routes", len(deeds))
}

func tryWithoutEntry(t *testing.T, w *world, store *forgetful, name string, d deed) {
	t.Helper()
	method, path, _ := strings.Cut(name, " ")
	send := func() testserver.Response {
		header := []string{}
		if d.by.Token != "" {
			header = append(header, "Authorization", "Bearer "+d.by.Token)
		}
		text, ok := d.body.(string)
		if ok {
			header = append(header, "Content-Type", "application/scim+json")
		} else if d.body != nil {
			b, err := json.Marshal(d.body)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
			header = append(header, "Content-Type", "application/json")
		}
		return w.send(t, method, strings.NewReplacer("{id}", d.path, "{type}", "Gadgets").Replace(path), text, header...)
	}
	// What a request says of its session, such as that it goes on, is written without an
	// entry; it is not written twice.
	if d.by.Token != "" {
		w.get(t, "/auth/v1/session", d.by.Token)
	}
	before := w.state(t)
	entries := len(w.allEntries(t))
	for _, quietly := range []bool{false, true} {
		store.fail(0, quietly)
		r := send()
		store.fail(-1, false)
		if r.Status < 500 {
			t.Errorf("%s is answered without an entry: %d %s", name, r.Status, r.Body)
		}
		if after := w.state(t); !slices.Equal(before, after) {
			t.Fatalf("%s has changed something without an entry: %q", name, difference(before, after))
		}
	}
	r := testserver.Response{}
	for n := 1; n < 8; n++ {
		if !d.parts {
			store.fail(n, false)
		}
		r = send()
		store.fail(-1, false)
		if r.Status < 500 {
			break
		}
		// Attempts are counted by then, and nothing else has happened.
		for _, line := range difference(before, w.state(t)) {
			if !strings.Contains(line, `"Kind":"credential"`) && !strings.Contains(line, `"Audit":{`) {
				t.Errorf("%s: without the entry of write %d there is %s", name, n, line)
			}
		}
	}
	if r.Status/100 != 2 {
		t.Fatalf("%s: %d %s", name, r.Status, r.Body)
	}
	told := false
	list := w.allEntries(t)[entries:]
	for _, e := range list {
		told = told || e.From == "127.0.0.1" && (d.by.Token == "" || e.Actor == "user:"+d.by.User && e.Level == d.by.Level)
	}
	if !told {
		t.Errorf("%s: nothing says that %s did it at level %s: %+v", name, d.by.User, d.by.Level, list)
	}
}

// state is all there is of the default tenant, what vanishes by itself included, which a
// dump leaves out.
func (w *world) state(t *testing.T) []string {
	t.Helper()
	lines := w.everything(t, storage.DefaultTenant)
	for _, kind := range []string{auth.SessionKind, auth.SignInKind, "setup", "activation", "link-offer"} {
		items, err := w.Store.Items(t.Context(), storage.DefaultTenant, kind, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range items {
			lines = append(lines, fmt.Sprintf("%s %s %d %v %s", kind, i.ID, i.Version, i.Expires, i.Data))
		}
	}
	return lines
}

func (w *world) allEntries(t *testing.T) []storage.AuditEntry {
	t.Helper()
	list, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// difference is the lines of after that before has not, and those that are gone.
func difference(before, after []string) (list []string) {
	for _, pair := range [][2][]string{{after, before}, {before, after}} {
		has := map[string]bool{}
		for _, line := range pair[1] {
			has[line] = true
		}
		for _, line := range pair[0] {
			if !has[line] {
				list = append(list, line)
			}
		}
	}
	return list
}
