package api_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

type accountLink struct {
	ID, Direction, Tenant, User string
	InForce                     bool
}

type destination struct{ ID, Name, User, Link string }

// trail is the actions in the audit trail of a tenant that begin with one of the
// prefixes, with who did them and the values before and after.
func (w *world) trail(t *testing.T, tenant storage.TenantID, prefixes ...string) (list []string) {
	t.Helper()
	entries, err := w.Store.AuditEntries(t.Context(), tenant, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e.Action, p) }) {
			line := e.Actor + " " + e.Action + " " + e.ID
			for _, c := range e.Changes {
				line += fmt.Sprintf(" %s:%s>%s", c.Path, c.Before, c.After)
			}
			list = append(list, line)
		}
	}
	return list
}

// founded makes the tenant acme and moves there.
func (w *world) founded(t *testing.T, boss signedIn) (moved signedIn, to destination) {
	t.Helper()
	must[struct{ ID string }](t, w.post(t, "/admin/v1/tenants", boss.Token, object{"id": "acme", "name": "Acme"}), 201)
	list := must[struct{ Tenants []destination }](t, w.get(t, "/auth/v1/tenants", boss.Token), 200)
	if len(list.Tenants) != 1 || list.Tenants[0].ID != "acme" {
		t.Fatalf("one can move to %+v", list)
	}
	return must[signedIn](t, w.post(t, "/auth/v1/tenants/acme/session", boss.Token, nil), 200), list.Tenants[0]
}

// TestFounding: a tenant that somebody makes has its built-in roles, their linked account
// as Global Administrator, and nothing else. They move there, work there and come back.
func TestFounding(t *testing.T) {
	shows(t, "D1")
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		admin := w.person(t, "admin@example.com", auth.GlobalAdministrator)
		boss := w.mfa(t, admin)
		moved, to := w.founded(t, boss)
		if moved.Level != "mfa" || moved.User != to.User || moved.User == admin.id {
			t.Errorf("the session there is %+v", moved)
		}
		users := must[struct {
			TotalResults int
			Resources    []struct{ ID, UserName string }
		}](t, w.scim(t, moved.Token, "GET", "/Users", ""), 200)
		if users.TotalResults != 1 || users.Resources[0].ID != to.User || users.Resources[0].UserName != admin.name {
			t.Errorf("the new tenant has the users %+v", users)
		}
		for path, want := range map[string]int{"/Groups": 0, "/Roles": len(auth.BuiltInRoles()), "/RoleAssignments": 1} {
			if got := must[struct{ TotalResults int }](t, w.scim(t, moved.Token, "GET", path, ""), 200); got.TotalResults != want {
				t.Errorf("the new tenant has %d of %s, want %d", got.TotalResults, path, want)
			}
		}
		if got := must[struct{ Tenants []destination }](t, w.get(t, "/admin/v1/tenants", moved.Token), 200); len(got.Tenants) != 1 || got.Tenants[0].ID != "acme" {
			t.Errorf("there, the tenants are %+v", got)
		}
		if got := must[struct{ Tenants []destination }](t, w.get(t, "/admin/v1/tenants", boss.Token), 200); len(got.Tenants) != 2 {
			t.Errorf("in the default tenant, they are %+v", got)
		}
		// Its trail is its own, and each tells of the other end.
		home, there := w.trail(t, "default", "link.", "tenant.", "session."), w.trail(t, "acme", "")
		if want := []string{
			fmt.Sprintf(`user:%s link.create %s to:>{"tenant":"acme","user":%q}`, admin.id, admin.id, to.User),
			fmt.Sprintf(`user:%s tenant.create acme name:>"Acme"`, admin.id),
			fmt.Sprintf(`user:%s session.leave %s to:>{"tenant":"acme","user":%q}`, admin.id, admin.id, to.User),
		}; !slices.Equal(home, want) {
			t.Errorf("the default tenant's trail:\n%s", strings.Join(home, "\n"))
		}
		if n := len(there); n != 5 || there[n-1] != fmt.Sprintf(`user:%s session.enter.ok %s from:>{"tenant":"default","user":%q}`, to.User, to.User, admin.id) {
			t.Errorf("the new tenant's trail:\n%s", strings.Join(there, "\n"))
		}
		for _, line := range there {
			if !strings.HasPrefix(line, "user:"+to.User+" ") {
				t.Errorf("somebody else is in the new tenant's trail: %s", line)
			}
		}
		// A moved session goes no further, and changes nothing of what proves the account.
		for path, body := range map[string]any{
			"/auth/v1/tenants/default/session": nil, "/auth/v1/account-link-offers": nil,
			"/auth/v1/step-up": object{"code": "123456"}, "/auth/v1/totp": object{},
			"/auth/v1/password": object{"new": goodPassword + "!"}, "/auth/v1/passcode": object{"code": "123456"},
		} {
			if r := w.post(t, path, moved.Token, body); r.Status != 403 || !strings.Contains(r.Body, "a session of the account's own") {
				t.Errorf("POST %s in a moved session: %d %s", path, r.Status, r.Body)
			}
		}
		if r := w.post(t, "/admin/v1/tenants", moved.Token, object{"id": "third", "name": "Third"}); r.Status != 403 {
			t.Errorf("making a tenant from another one: %d %s", r.Status, r.Body)
		}
		if r := w.post(t, "/admin/v1/tenants", boss.Token, object{"id": "acme", "name": "Again"}); r.Status != 409 {
			t.Errorf("the same tenant again: %d %s", r.Status, r.Body)
		}
		links := must[struct{ Links []accountLink }](t, w.get(t, "/auth/v1/account-links", boss.Token), 200)
		if len(links.Links) != 1 || !links.Links[0].InForce || links.Links[0].Direction != "out" {
			t.Errorf("the links are %+v", links)
		}
		// Back, under another token.
		back := must[signedIn](t, w.post(t, "/auth/v1/session/return", moved.Token, nil), 200)
		if back.User != admin.id || back.Level != "mfa" || back.Token == boss.Token {
			t.Errorf("back: %+v", back)
		}
		for token, want := range map[string]int{moved.Token: 401, boss.Token: 401, back.Token: 200} {
			if r := w.get(t, "/auth/v1/session", token); r.Status != want {
				t.Errorf("a session after the return: %d, want %d", r.Status, want)
			}
		}
		if r := w.post(t, "/auth/v1/session/return", back.Token, nil); r.Status != 409 {
			t.Errorf("a return from nowhere: %d %s", r.Status, r.Body)
		}
	})
}

// TestTenantRequests: what a tenant may be called, and who makes one.
func TestTenantRequests(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	boss := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
	for _, id := range []string{"", "a", "Acme", "acme_x", "1acme", "acme-", "ac--me", "default ", strings.Repeat("a", 31), "../x", "acme.example"} {
		if r := w.post(t, "/admin/v1/tenants", boss.Token, object{"id": id, "name": "x"}); r.Status != 400 || !strings.Contains(r.Body, "id: expected") {
			t.Errorf("id %q: %d %s", id, r.Status, r.Body)
		}
	}
	for _, name := range []string{"", " x", "a\nb", strings.Repeat("x", 101)} {
		if r := w.post(t, "/admin/v1/tenants", boss.Token, object{"id": "acme", "name": name}); r.Status != 400 || !strings.Contains(r.Body, "name: expected") {
			t.Errorf("name %q: %d %s", name, r.Status, r.Body)
		}
	}
	if r := w.post(t, "/admin/v1/tenants", boss.Token, object{"id": "default", "name": "x"}); r.Status != 409 {
		t.Errorf("the default tenant again: %d %s", r.Status, r.Body)
	}
	if got := must[struct{ Links []accountLink }](t, w.get(t, "/auth/v1/account-links", boss.Token), 200); len(got.Links) != 0 {
		t.Errorf("tenants that were not made have left links: %+v", got)
	}
	w.advance(6 * time.Minute)
	if r := w.post(t, "/admin/v1/tenants", boss.Token, object{"id": "acme", "name": "x"}); r.Status != 401 {
		t.Errorf("without a fresh passcode: %d %s", r.Status, r.Body)
	}
}

// TestRenameTenant: its people rename it, and nobody else's.
func TestRenameTenant(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		boss := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
		moved, _ := w.founded(t, boss)
		put := func(token, id, name string) testserver.Response {
			return w.send(t, "PUT", "/admin/v1/tenants/"+id, fmt.Sprintf(`{"name":%q}`, name), "Authorization", "Bearer "+token, "Content-Type", "application/json")
		}
		if got := must[struct{ Name string }](t, put(moved.Token, "acme", "Acme & Sons"), 200); got.Name != "Acme & Sons" {
			t.Errorf("renamed: %+v", got)
		}
		for token, id := range map[string]string{moved.Token: "default", boss.Token: "acme"} {
			if r := put(token, id, "stolen"); r.Status != 404 {
				t.Errorf("renaming %s from the other one: %d %s", id, r.Status, r.Body)
			}
		}
		if got := w.trail(t, "acme", "tenant.rename"); len(got) != 1 || !strings.HasSuffix(got[0], `name:"Acme">"Acme & Sons"`) {
			t.Errorf("the trail: %q", got)
		}
	})
}

// TestMovedSessionEnds: a session that has moved is over within a second, in another
// process too, with whatever it stands on.
func TestMovedSessionEnds(t *testing.T) {
	t.Parallel()
	for name, open := range stores(t) {
		for what, end := range map[string]func(*testing.T, *world, *person, signedIn, signedIn, destination){
			"the session it came from": func(t *testing.T, w *world, _ *person, home, _ signedIn, _ destination) {
				must[struct{}](t, w.post(t, "/auth/v1/sign-out", home.Token, nil), 204)
			},
			"all sessions there": func(t *testing.T, w *world, _ *person, home, _ signedIn, _ destination) {
				if r := w.send(t, "DELETE", "/auth/v1/sessions", "", "Authorization", "Bearer "+home.Token); r.Status != 204 {
					t.Fatal(r.Status)
				}
			},
			"the password there": func(t *testing.T, w *world, p *person, home, moved signedIn, _ destination) {
				home = w.stepUp(t, p, home)
				w.advance(time.Second)
				must[signedIn](t, w.get(t, "/auth/v1/session", moved.Token), 200) // the session there goes on
				must[signedIn](t, w.post(t, "/auth/v1/password", home.Token, object{"current": p.password, "new": "another horse in the stable"}), 200)
			},
			"the account there": func(t *testing.T, w *world, p *person, _, _ signedIn, _ destination) {
				w.block(t, "default", p.id)
			},
			"the account": func(t *testing.T, w *world, _ *person, _, _ signedIn, to destination) {
				w.spareAdministrator(t, "acme")
				w.block(t, "acme", to.User)
			},
			"the link, from there": func(t *testing.T, w *world, _ *person, home, _ signedIn, to destination) {
				if r := w.send(t, "DELETE", "/auth/v1/account-links/"+to.Link, "", "Authorization", "Bearer "+home.Token); r.Status != 204 {
					t.Fatal(r.Status, r.Body)
				}
			},
			"the link, from here": func(t *testing.T, w *world, _ *person, _, moved signedIn, to destination) {
				w.spareAdministrator(t, "acme")
				if r := w.send(t, "DELETE", "/admin/v1/users/"+to.User+"/account-links", "", "Authorization", "Bearer "+moved.Token); r.Status != 204 {
					t.Fatal(r.Status, r.Body)
				}
			},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				w := begin(t, testserver.Options{Open: open, Server: trusting})
				admin := w.person(t, "admin", auth.GlobalAdministrator)
				w.enrol(t, w.person(t, "second", auth.GlobalAdministrator)) // so that the first can be blocked
				home := w.mfa(t, admin)
				moved, to := w.founded(t, home)
				// Another process keeps an answer of its own.
				other := &auth.Authenticator{Store: w.Store, Schemas: w.People.Schemas, Hasher: w.People.Hasher, Keys: w.People.Keys, Now: w.now, Policy: auth.DefaultPolicy()}
				if by, err := other.VerifySession(t.Context(), moved.Token, netip.Addr{}); err != nil || by.Tenant != "acme" || !by.Moved {
					t.Fatalf("in another process: %+v, %v", by, err)
				}
				end(t, w, admin, home, moved, to)
				w.advance(time.Second)
				if by, err := other.VerifySession(t.Context(), moved.Token, netip.Addr{}); err == nil {
					t.Errorf("in another process the session goes on: %+v", by)
				}
				if r := w.get(t, "/auth/v1/session", moved.Token); r.Status != 401 {
					t.Errorf("the session goes on: %d %s", r.Status, r.Body)
				}
			})
		}
	}
}

// block blocks an account, past all decisions.
func (w *world) block(t *testing.T, tenant storage.TenantID, id string) {
	t.Helper()
	users := w.People.Schemas.Type("User")
	body := map[string]any{"schemas": []any{schemas.UserURI}, "userName": "blocked", "active": false}
	if _, err := w.Provider.Replace(t.Context(), auth.Principal{Kind: auth.Operator, Tenant: tenant}, users, id, scim.Precondition{}, body); err != nil {
		t.Fatal(err)
	}
}

// spareAdministrator gives a tenant a Global Administrator who can sign in.
func (w *world) spareAdministrator(t *testing.T, tenant storage.TenantID) *person {
	t.Helper()
	p := w.personOf(t, tenant, w.clientOf(t, tenant), "spare", auth.GlobalAdministrator)
	w.enrol(t, p)
	return p
}

func (w *world) clientOf(t *testing.T, tenant storage.TenantID) string {
	t.Helper()
	return w.Issue(t, &storage.Client{Tenant: tenant, Name: "idp", Scopes: []string{"users", "groups", "roles"}})
}

// TestLinkTakesBothSides: a link comes of an offer in one tenant and its acceptance in
// the other, each with a fresh passcode; it leads one way.
func TestLinkTakesBothSides(t *testing.T) {
	shows(t, "D1")
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		const acme storage.TenantID = "acme"
		if err := auth.CreateTenant(t.Context(), w.Store, auth.Principal{Kind: auth.Operator, Tenant: acme}, "Acme", w.now()); err != nil {
			t.Fatal(err)
		}
		token := w.clientOf(t, acme)
		ana, bo, eve := w.person(t, "ana"), w.personOf(t, acme, token, "bo", auth.GlobalAdministrator), w.person(t, "eve")
		accept := func(in signedIn, code string) testserver.Response {
			return w.post(t, "/auth/v1/account-links", in.Token, object{"code": code})
		}
		theirs := w.mfa(t, bo)
		w.mfa(t, ana)
		w.mfa(t, eve)
		offer := func() string {
			t.Helper()
			theirs = w.stepUp(t, bo, theirs)
			return must[struct{ Code string }](t, w.post(t, "/auth/v1/account-link-offers", theirs.Token, nil), 201).Code
		}
		// Not without a passcode just given, on either side.
		code := offer()
		mine, hers := w.mfa(t, ana), w.mfa(t, eve)
		w.advance(6 * time.Minute)
		if r := accept(mine, code); r.Status != 401 {
			t.Errorf("accepted without a fresh passcode: %d %s", r.Status, r.Body)
		}
		if r := w.post(t, "/auth/v1/account-link-offers", theirs.Token, nil); r.Status != 401 {
			t.Errorf("offered without a fresh passcode: %d %s", r.Status, r.Body)
		}
		mine = w.stepUp(t, ana, mine)
		// Not with what is no offer, or one of the same tenant, or one that a later one took the place of, or that is too old.
		old := code
		code = offer()
		middle := len(code) / 2
		damaged := code[:middle] + string(code[middle]^1) + code[middle+1:]
		for name, bad := range map[string]string{"an earlier offer": old, "nothing": "", "a session": theirs.Token, "its id": theirs.Session, "a damaged one": damaged} {
			if r := accept(mine, bad); r.Status != 409 {
				t.Errorf("accepted with %s: %d %s", name, r.Status, r.Body)
			}
		}
		theirs = w.stepUp(t, bo, theirs)
		if r := accept(theirs, code); r.Status != 400 {
			t.Errorf("accepted in the same tenant: %d %s", r.Status, r.Body)
		}
		w.advance(10 * time.Minute)
		mine = w.stepUp(t, ana, mine)
		if r := accept(mine, code); r.Status != 409 {
			t.Errorf("accepted too late: %d %s", r.Status, r.Body)
		}
		// What ends sessions ends offers.
		code = offer()
		if err := w.People.EndSessions(t.Context(), auth.Principal{Kind: auth.User, Tenant: acme, ID: bo.id, Level: auth.MFA}, bo.id); err != nil {
			t.Fatal(err)
		}
		if r := accept(mine, code); r.Status != 409 {
			t.Errorf("accepted after the offering account's sessions had ended: %d %s", r.Status, r.Body)
		}
		theirs = w.mfa(t, bo)
		// Of two who accept an offer, one does.
		code = offer()
		mine, hers = w.stepUp(t, ana, mine), w.stepUp(t, eve, hers)
		statuses := make([]int, 2)
		var wg sync.WaitGroup
		for i, in := range []signedIn{mine, hers} {
			body, _ := json.Marshal(object{"code": code})
			wg.Go(func() {
				r, err := w.Page(t.Context(), "POST", "/auth/v1/account-links", string(body), "Authorization", "Bearer "+in.Token, "Content-Type", "application/json")
				if err == nil {
					statuses[i] = r.Status
				}
			})
		}
		wg.Wait()
		if slices.Sort(statuses); !slices.Equal(statuses, []int{201, 409}) {
			t.Fatalf("two accepted one offer: %v", statuses)
		}
		in := mine
		if got := must[struct{ Links []accountLink }](t, w.get(t, "/auth/v1/account-links", mine.Token), 200); len(got.Links) == 0 {
			in = hers
		}
		// It leads one way.
		moved := must[signedIn](t, w.post(t, "/auth/v1/tenants/acme/session", in.Token, nil), 200)
		if moved.User != bo.id {
			t.Errorf("moved to %+v", moved)
		}
		theirs = w.stepUp(t, bo, theirs)
		if r := w.post(t, "/auth/v1/tenants/default/session", theirs.Token, nil); r.Status != 404 {
			t.Errorf("the other way: %d %s", r.Status, r.Body)
		}
		// Those who may see both sides, and the trails.
		for session, direction := range map[string]string{in.Token: "out", theirs.Token: "in"} {
			got := must[struct{ Links []accountLink }](t, w.get(t, "/auth/v1/account-links", session), 200)
			if len(got.Links) != 1 || got.Links[0].Direction != direction || !got.Links[0].InForce {
				t.Errorf("the side %s: %+v", direction, got)
			}
		}
		for _, tenant := range []storage.TenantID{acme, "default"} {
			if got := w.trail(t, tenant, "link.create"); len(got) != 1 {
				t.Errorf("the trail of %s: %q", tenant, got)
			}
		}
		if got := must[struct{ Sessions []struct{ Tenant string } }](t, w.get(t, "/admin/v1/users/"+bo.id+"/sessions", theirs.Token), 200); !slices.ContainsFunc(got.Sessions, func(s struct{ Tenant string }) bool { return s.Tenant == "default" }) {
			t.Errorf("where bo is signed in says nothing of the other tenant: %+v", got)
		}
	})
}

// TestOneSideOfALink: a side without the other leads nowhere, whichever it is.
func TestOneSideOfALink(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		const acme storage.TenantID = "acme"
		if err := auth.CreateTenant(t.Context(), w.Store, auth.Principal{Kind: auth.Operator, Tenant: acme}, "Acme", w.now()); err != nil {
			t.Fatal(err)
		}
		bo := w.personOf(t, acme, w.clientOf(t, acme), "bo")
		put := func(tenant storage.TenantID, l auth.Link) {
			t.Helper()
			l.Since = w.now()
			err := w.Store.Write(t.Context(), tenant, func(tx storage.Tx) error {
				return auth.PutLink(t.Context(), tx, auth.Principal{Kind: auth.Operator, Tenant: tenant}, l)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for name, other := range map[string]func(person string) *auth.Link{
			"none":               func(string) *auth.Link { return nil },
			"of another link":    func(p string) *auth.Link { return &auth.Link{ID: "x" + p, User: bo.id, Tenant: "default", Other: p} },
			"for somebody else":  func(p string) *auth.Link { return &auth.Link{ID: p, User: bo.id, Tenant: "default", Other: p + "x"} },
			"of somebody else":   func(p string) *auth.Link { return &auth.Link{ID: p, User: bo.id + "x", Tenant: "default", Other: p} },
			"for another tenant": func(p string) *auth.Link { return &auth.Link{ID: p, User: bo.id, Tenant: "third", Other: p} },
			"that leads out too": func(p string) *auth.Link {
				return &auth.Link{ID: p, User: bo.id, Tenant: "default", Other: p, Out: true}
			},
		} {
			p := w.person(t, name)
			put("default", auth.Link{ID: p.id, User: p.id, Tenant: acme, Other: bo.id, Out: true})
			if side := other(p.id); side != nil {
				put(acme, *side)
			}
			in := w.mfa(t, p)
			if r := w.post(t, "/auth/v1/tenants/acme/session", in.Token, nil); r.Status != 404 {
				t.Errorf("with another side %s: %d %s", name, r.Status, r.Body)
			}
			got := must[struct{ Links []accountLink }](t, w.get(t, "/auth/v1/account-links", in.Token), 200)
			if len(got.Links) != 1 || got.Links[0].InForce {
				t.Errorf("with another side %s: %+v", name, got)
			}
		}
	})
}

// TestTargetDecides: the rules of the tenant that is entered hold, a blocked account is
// not entered, and what is refused is recorded in both.
func TestTargetDecides(t *testing.T) {
	shows(t, "D1")
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		boss := w.mfa(t, admin)
		_, to := w.founded(t, boss)
		spare := w.spareAdministrator(t, "acme")
		theirs := w.mfa(t, spare)
		group := must[struct{ ID string }](t, w.scim(t, theirs.Token, "POST", "/Groups", fmt.Sprintf(`{"schemas":[%q],"displayName":"founders","members":[{"value":%q}]}`, schemas.GroupURI, to.User)), 201)
		rule := must[struct{ ID string }](t, w.post(t, "/admin/v1/rules", theirs.Token, object{"name": "office", "state": "on",
			"when": object{"groups": []string{group.ID}, "outsideNetworks": []string{"192.0.2.0/24"}}, "then": "block"}), 201)
		boss = w.stepUp(t, admin, boss)
		refused := func(what string) {
			t.Helper()
			r := w.post(t, "/auth/v1/tenants/acme/session", boss.Token, nil)
			if r.Status != 403 || !strings.Contains(r.Body, "cannot be entered now") {
				t.Errorf("%s: %d %s", what, r.Status, r.Body)
			}
		}
		refused("from outside of the office")
		body := w.send(t, "POST", "/auth/v1/tenants/acme/session", "", "Authorization", "Bearer "+boss.Token, "X-Forwarded-For", "192.0.2.7")
		if must[signedIn](t, body, 200).Level != "mfa" {
			t.Errorf("from the office: %s", body.Body)
		}
		if r := w.send(t, "DELETE", "/admin/v1/rules/"+rule.ID, "", "Authorization", "Bearer "+theirs.Token); r.Status != 204 {
			t.Fatal(r.Status)
		}
		w.block(t, "acme", to.User)
		refused("a blocked account")
		want := []string{"session.enter.ok", "session.enter.forbidden", "session.enter.ok", "session.enter.blocked"}
		var got []string
		for _, line := range w.trail(t, "acme", "session.enter") {
			got = append(got, strings.Fields(line)[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("the trail there: %q", got)
		}
		if n := len(w.trail(t, "default", "session.leave")); n != 4 {
			t.Errorf("%d moves in the trail here", n)
		}
	})
}

// TestLinkedAccountIsProtected: an account that others can be entered from is changed by
// those only who may manage a Global Administrator.
func TestLinkedAccountIsProtected(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		const acme storage.TenantID = "acme"
		if err := auth.CreateTenant(t.Context(), w.Store, auth.Principal{Kind: auth.Operator, Tenant: acme}, "Acme", w.now()); err != nil {
			t.Fatal(err)
		}
		ana, bo := w.person(t, "ana"), w.personOf(t, acme, w.clientOf(t, acme), "bo", auth.GlobalAdministrator)
		help := w.person(t, "helper", auth.UserAdministrator)
		chief := w.person(t, "boss", auth.GlobalAdministrator)
		helper, boss := w.mfa(t, help), w.mfa(t, chief)
		theirs := w.mfa(t, bo)
		w.mfa(t, ana)
		crew := path.Base(w.scim(t, w.Token, "POST", "/Groups", `{"displayName":"Crew"}`).Header.Get("Location"))
		changes := 0
		patch := func(in string) int {
			changes++
			return w.scim(t, in, "PATCH", "/Users/"+ana.id, fmt.Sprintf(
				`{"schemas":[%q],"Operations":[{"op":"replace","path":"emails","value":[{"value":"ana%d@example.com"}]}]}`, patchURI, changes)).Status
		}
		tries := func(in string) (got []int) {
			got = append(got, patch(in))
			return append(got, w.post(t, "/admin/v1/users/"+ana.id+"/password-reset", in, nil).Status)
		}
		if got := tries(helper.Token); !slices.Equal(got, []int{200, 200}) {
			t.Fatalf("without a link: %v", got)
		}
		ana.password = must[struct{ Password string }](t, w.post(t, "/admin/v1/users/"+ana.id+"/password-reset", helper.Token, nil), 200).Password
		in := w.signIn(t, ana)
		ana.password = "another horse in the stable"
		must[signedIn](t, w.post(t, "/auth/v1/password", in.Token, object{"new": ana.password}), 200)
		mine := w.mfa(t, ana)
		theirs = w.stepUp(t, bo, theirs)
		code := must[struct{ Code string }](t, w.post(t, "/auth/v1/account-link-offers", theirs.Token, nil), 201).Code
		mine = w.stepUp(t, ana, mine)
		must[accountLink](t, w.post(t, "/auth/v1/account-links", mine.Token, object{"code": code}), 201)
		helper = w.stepUp(t, help, helper)
		if got := tries(helper.Token); !slices.Equal(got, []int{403, 403}) {
			t.Errorf("a User Administrator on a linked account: %v", got)
		}
		if got := patch(w.Token); got != 403 {
			t.Errorf("a client on a linked account: %d", got)
		}
		// Who is in which group is a matter of the account as well.
		boss = w.stepUp(t, chief, boss)
		if r := w.scim(t, boss.Token, "PATCH", "/Groups/"+crew, fmt.Sprintf(`{"schemas":[%q],"Operations":[{"op":"add","path":"members","value":[{"value":%q}]}]}`, patchURI, ana.id)); r.Status != 200 {
			t.Fatalf("a Global Administrator puts it into a group: %d %s", r.Status, r.Body)
		}
		if r := w.scim(t, w.Token, "PUT", "/Groups/"+crew, `{"displayName":"Crew","members":[]}`); r.Status != 403 {
			t.Errorf("a client empties the group that a linked account is in: %d %s", r.Status, r.Body)
		}
		if r := w.scim(t, w.Token, "DELETE", "/Groups/"+crew, ""); r.Status != 403 {
			t.Errorf("a client deletes that group: %d %s", r.Status, r.Body)
		}
		if r := w.scim(t, boss.Token, "DELETE", "/Groups/"+crew, ""); r.Status != 204 {
			t.Fatalf("a Global Administrator deletes that group: %d %s", r.Status, r.Body)
		}
		if r := w.post(t, "/admin/v1/deleted-groups/"+crew+"/restore", helper.Token, object{}); r.Status != 403 {
			t.Errorf("a User Administrator brings that group back: %d %s", r.Status, r.Body)
		}
		if r := w.send(t, "DELETE", "/admin/v1/users/"+ana.id+"/account-links", "", "Authorization", "Bearer "+helper.Token); r.Status != 403 {
			t.Errorf("a User Administrator cuts its links: %d %s", r.Status, r.Body)
		}
		if r := w.send(t, "DELETE", "/admin/v1/users/"+ana.id+"/account-links", "", "Authorization", "Bearer "+boss.Token); r.Status != 204 {
			t.Errorf("a Global Administrator cuts its links: %d %s", r.Status, r.Body)
		}
		helper = w.stepUp(t, help, helper)
		if got := tries(helper.Token); !slices.Equal(got, []int{200, 200}) {
			t.Errorf("when it is cut: %v", got)
		}
	})
}

// TestWayIn: a new tenant cannot lose the one who made it before there is somebody
// better, and then can.
func TestWayIn(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		boss := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
		moved, to := w.founded(t, boss)
		remove := func(path string) testserver.Response {
			return w.send(t, "DELETE", path, "", "Authorization", "Bearer "+moved.Token)
		}
		assignments := must[struct{ Resources []struct{ ID string } }](t, w.scim(t, moved.Token, "GET", "/RoleAssignments", ""), 200)
		ways := map[string]string{
			"the account": "/scim/v2/Users/" + to.User, "its role": "/scim/v2/RoleAssignments/" + assignments.Resources[0].ID,
			"its links": "/admin/v1/users/" + to.User + "/account-links", "its own link": "/auth/v1/account-links/" + to.Link,
		}
		for what, path := range ways {
			if r := remove(path); r.Status != 409 {
				t.Errorf("the only way in loses %s: %d %s", what, r.Status, r.Body)
			}
		}
		// With nothing to sign in with it is no reason to refuse operators a way in.
		if _, err := w.People.NewFirstSetup(t.Context(), auth.Principal{Kind: auth.Operator, Tenant: "acme"}); err != nil {
			t.Errorf("a link for a first administrator: %v", err)
		}
		spare := w.spareAdministrator(t, "acme")
		// Who can sign in stays, for a link may be gone at any time.
		if r := remove("/scim/v2/Users/" + spare.id); r.Status != 409 {
			t.Errorf("the one who can sign in is deleted: %d %s", r.Status, r.Body)
		}
		if r := remove(ways["the account"]); r.Status != 204 {
			t.Errorf("the linked account is deleted when there is another: %d %s", r.Status, r.Body)
		}
	})
}

// TestLinksOfOthers: what is asked about the links of a user is answered as about the sessions:
// 404 for one who does not exist, or is another tenant's; and ending none is done.
func TestLinksOfOthers(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		admin, plain := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "plain")
		boss := w.mfa(t, admin)
		moved, _ := w.founded(t, boss)
		for _, c := range []struct {
			name, token, user string
			get, end          int
		}{
			{"nobody", boss.Token, "nobody", 404, 404},
			{"somebody of another tenant", moved.Token, admin.id, 404, 404},
			{"somebody without links", boss.Token, plain.id, 200, 204},
		} {
			for _, what := range []string{"sessions", "account-links"} {
				at := "/admin/v1/users/" + c.user + "/" + what
				if r := w.get(t, at, c.token); r.Status != c.get {
					t.Errorf("%s: GET …/%s: %d %s, want %d", c.name, what, r.Status, r.Body, c.get)
				}
				if r := w.delete(t, at, c.token); r.Status != c.end {
					t.Errorf("%s: DELETE …/%s: %d %s, want %d", c.name, what, r.Status, r.Body, c.end)
				}
			}
		}
		if r := w.delete(t, "/auth/v1/account-links/nothing", boss.Token); r.Status != 404 {
			t.Errorf("ending a link that is not there: %d %s", r.Status, r.Body)
		}
	})
}
