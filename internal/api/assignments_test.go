package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestAssignments: roles are given to users, groups and clients, for good or between two
// dates, given otherwise, and taken.
func TestAssignments(t *testing.T) {
	shows(t, "B4")
	onStores(t, assignments)
}

func assignments(t *testing.T, w *world) {
	admin, bo, cy := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo"), w.person(t, "cy")
	boss := w.mfa(t, admin)
	fresh := func() string { boss = w.stepUp(t, admin, boss); return boss.Token }
	assign := func(role, principal, more string) string {
		t.Helper()
		return must[struct{ ID string }](t, w.scim(t, fresh(), "POST", "/RoleAssignments", fmt.Sprintf(
			`{"schemas":[%q],"role":{"value":%q},"principal":{"value":%q}%s}`, schemas.RoleAssignmentURI, role, principal, more)), 201).ID
	}
	holds := func(p *person, role string) bool {
		t.Helper()
		held := must[struct {
			Holdings []struct {
				Role       string
				Start, End time.Time
			}
		}](t, w.get(t, "/admin/v1/users/"+p.id+"/roles", boss.Token), 200)
		for _, h := range held.Holdings {
			if h.Role == role && !h.Start.After(w.now()) && (h.End.IsZero() || h.End.After(w.now())) {
				return true
			}
		}
		return false
	}
	check := func(what string, p *person, role string, want bool) {
		t.Helper()
		if holds(p, role) != want {
			t.Errorf("%s: %s holds the role: %t, want %t", what, p.name, !want, want)
		}
	}

	// A user, for good; then until a date, and the date passes.
	id := assign(auth.HelpdeskAdministrator, bo.id, "")
	check("for good", bo, auth.HelpdeskAdministrator, true)
	end := w.now().Add(2 * time.Hour).Format(time.RFC3339)
	must[object](t, w.scim(t, fresh(), "PATCH", "/RoleAssignments/"+id, patching(`{"op":"replace","path":"endDate","value":"`+end+`"}`)), 200)
	check("until a date", bo, auth.HelpdeskAdministrator, true)
	w.advance(3 * time.Hour)
	boss = w.mfa(t, admin)
	check("after the date", bo, auth.HelpdeskAdministrator, false)

	// From a date on.
	start := w.now().Add(2 * time.Hour).Format(time.RFC3339)
	id = assign(auth.ReportsReader, bo.id, fmt.Sprintf(`,"startDate":%q`, start))
	check("before it begins", bo, auth.ReportsReader, false)
	w.advance(3 * time.Hour)
	boss = w.mfa(t, admin)
	check("when it has begun", bo, auth.ReportsReader, true)
	must[any](t, w.scim(t, fresh(), "DELETE", "/RoleAssignments/"+id, ""), 204)
	check("taken", bo, auth.ReportsReader, false)

	// A group, whose members hold it as long as they are members.
	group := must[struct{ ID string }](t, w.scim(t, fresh(), "POST", "/Groups", fmt.Sprintf(`{"schemas":[%q],"displayName":"Desk","members":[{"value":%q}]}`, schemas.GroupURI, cy.id)), 201).ID
	id = assign(auth.Auditor, group, "")
	check("by a group", cy, auth.Auditor, true)
	must[any](t, w.scim(t, fresh(), "PATCH", "/Groups/"+group, patching(`{"op":"remove","path":"members[value eq \"`+cy.id+`\"]"}`)), 200)
	check("out of the group", cy, auth.Auditor, false)
	must[any](t, w.scim(t, fresh(), "DELETE", "/RoleAssignments/"+id, ""), 204)

	// A client gets business roles, and no administrative one.
	role := must[struct{ ID string }](t, w.scim(t, fresh(), "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"deckhand"}`, schemas.RoleURI)), 201).ID
	made := must[struct{ Client struct{ ID string } }](t, w.post(t, "/admin/v1/clients", fresh(), object{"name": "hr", "scopes": []string{"users"}}), 201)
	id = assign(role, made.Client.ID, "")
	holders := must[struct{ Holdings []holding }](t, w.get(t, "/admin/v1/roles/"+role+"/holders", boss.Token), 200).Holdings
	if len(holders) != 1 || holders[0].Principal != made.Client.ID {
		t.Errorf("who holds a role that a client was given: %+v", holders)
	}
	r := w.scim(t, fresh(), "POST", "/RoleAssignments", fmt.Sprintf(`{"schemas":[%q],"role":{"value":%q},"principal":{"value":%q}}`, schemas.RoleAssignmentURI, auth.Auditor, made.Client.ID))
	if r.Status != 400 {
		t.Errorf("an administrative role for a client: %d %s", r.Status, r.Body)
	}
	must[any](t, w.scim(t, fresh(), "DELETE", "/RoleAssignments/"+id, ""), 204)

	// What a client has ends with it, as with a user.
	id = assign(role, made.Client.ID, "")
	must[any](t, w.post(t, "/admin/v1/clients/"+made.Client.ID+"/revoke", fresh(), nil), 204)
	must[any](t, w.scim(t, boss.Token, "GET", "/RoleAssignments/"+id, ""), 404)
	if holders := must[struct{ Holdings []holding }](t, w.get(t, "/admin/v1/roles/"+role+"/holders", boss.Token), 200).Holdings; len(holders) > 0 {
		t.Errorf("who holds a role of a client that was revoked: %+v", holders)
	}
	list := w.entries(t, id)
	if e := list[len(list)-1]; e.Action != "roleassignment.delete" || e.Actor != "user:"+admin.id || e.Level != "mfa" {
		t.Errorf("recorded as %+v", e)
	}
	// From the host, where a server has the directory, it takes that server to do so.
	made = must[struct{ Client struct{ ID string } }](t, w.post(t, "/admin/v1/clients", fresh(), object{"name": "hr", "scopes": []string{"users"}}), 201)
	id = assign(role, made.Client.ID, "")
	host := &auth.ClientManager{Store: w.Store, Now: w.now}
	if err := host.Revoke(t.Context(), auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}, made.Client.ID); err != nil {
		t.Fatal(err)
	}
	must[any](t, w.scim(t, boss.Token, "GET", "/RoleAssignments/"+id, ""), 200)
	for range 2 { // the second finds nothing to do
		if _, err := w.Provider.Sweep(t.Context(), storage.DefaultTenant); err != nil {
			t.Fatal(err)
		}
	}
	must[any](t, w.scim(t, boss.Token, "GET", "/RoleAssignments/"+id, ""), 404)
}

// TestAuditTrail: who did what to whom, when, from where and with what it changed, is
// found by who did it, by what was done to what, and by when; it can be taken along, and
// its chains hold. That they break when somebody edits it is for the tests of
// internal/audit.
func TestAuditTrail(t *testing.T) {
	shows(t, "D5")
	onStores(t, auditTrail)
}

// exported is where an entry of the audit trail stands.
type exported struct {
	Seq, N int64
	Chain  string
	Hash   []byte
}

func auditTrail(t *testing.T, w *world) {
	admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
	boss := w.mfa(t, admin).Token
	must[object](t, w.scim(t, boss, "PATCH", "/Users/"+bo.id, patching(`{"op":"replace","path":"active","value":false}`)), 200)
	list := must[struct {
		Entries []struct {
			Actor, Action, Type, ID, From, Level string
			At                                   time.Time
			Attributes                           []string
		}
	}](t, w.get(t, "/admin/v1/audit?action=user.patch&actor="+url.QueryEscape("user:"+admin.id), boss), 200)
	if len(list.Entries) != 1 {
		t.Fatalf("found %+v", list)
	}
	e := list.Entries[0]
	if e.ID != bo.id || e.Type != "User" || e.From == "" || e.Level != "mfa" || strings.Join(e.Attributes, " ") != "active" || !e.At.Equal(w.now()) {
		t.Errorf("the entry is %+v", e)
	}
	// By what it was done to, and when.
	began := w.now()
	count := func(query string) int {
		t.Helper()
		return len(must[struct{ Entries []struct{ Action string } }](t, w.get(t, "/admin/v1/audit?"+query, boss), 200).Entries)
	}
	at := func(d time.Duration) string { return url.QueryEscape(began.Add(d).Format(time.RFC3339Nano)) }
	w.advance(time.Second)
	group := w.group(t, "staff")
	for query, want := range map[string]int{
		"type=Group": 1, "type=Group&id=" + group: 1, "type=User&id=" + group: 0, "id=" + bo.id + "&action=user.patch": 1,
		"type=Group&since=" + at(time.Second): 1, "type=Group&until=" + at(time.Second): 0,
		"type=User&action=user.patch&since=" + at(time.Second): 0, "type=User&action=user.patch&until=" + at(time.Second): 1,
	} {
		if got := count(query); got != want {
			t.Errorf("%s finds %d, want %d", query, got, want)
		}
	}
	// All of it can be taken along, page by page, each entry with its place in a chain of
	// hashes, and the chains hold.
	var whole []exported
	for after := ""; ; {
		page := must[struct {
			Entries []exported
			Next    string
		}](t, w.get(t, "/admin/v1/audit?limit=5&after="+after, boss), 200)
		whole = append(whole, page.Entries...)
		if after = page.Next; after == "" {
			break
		}
	}
	// At once, too, by who has just given a passcode.
	r := w.get(t, "/admin/v1/audit/export", boss)
	lines := strings.Split(strings.TrimSuffix(r.Body, "\n"), "\n")
	if r.Status != 200 || r.Header.Get("Content-Type") != "application/jsonl" || len(lines) != len(whole)+1 {
		t.Fatalf("export: %d %q, %d lines; want %d", r.Status, r.Header.Get("Content-Type"), len(lines), len(whole)+1)
	}
	for i, text := range lines {
		var e struct {
			Seq           int64
			Actor, Action string
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil || e.Seq != whole[0].Seq+int64(i) || (e.Action == "audit.export") != (i == len(whole)) {
			t.Errorf("line %d: %v %s", i, err, text)
		}
	}
	if r := w.get(t, "/admin/v1/audit/export?action=nothing", boss); r.Status != 200 || len(r.Body) > 0 {
		t.Errorf("export of nothing: %d %s", r.Status, r.Body)
	}
	w.advance(auth.StepUpAge + time.Second)
	if r := w.get(t, "/admin/v1/audit/export", boss); r.Status != 401 {
		t.Errorf("export with a passcode of before: %d %s", r.Status, r.Body)
	}
	whole = append(whole, must[struct{ Entries []exported }](t, w.get(t, fmt.Sprintf("/admin/v1/audit?after=%d", whole[len(whole)-1].Seq), boss), 200).Entries...)
	links := map[string]int64{}
	for i, e := range whole {
		if links[e.Chain]++; e.Seq != whole[0].Seq+int64(i) || e.Chain == "" || e.N != links[e.Chain] || len(e.Hash) != 32 {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	report, err := audit.Verify(t.Context(), w.Store, storage.DefaultTenant, nil)
	if err != nil || !report.OK() || report.Entries != int64(len(whole)) || report.Chains != len(links) || report.Unchained != 0 {
		t.Errorf("verified: %+v, %v; %d were taken along, of %d chains", report, err, len(whole), len(links))
	}
	if r := w.get(t, "/admin/v1/audit", w.signIn(t, w.person(t, "cy")).Token); r.Status != 401 {
		t.Errorf("somebody without the role: %d %s", r.Status, r.Body)
	}
}

// edited is a store in which somebody has edited values in the audit trail.
type edited struct{ storage.Store }

func (s edited) AuditEntries(ctx context.Context, tenant storage.TenantID, after int64, limit int) ([]storage.AuditEntry, error) {
	list, err := s.Store.AuditEntries(ctx, tenant, after, limit)
	for i := range list {
		list[i].Changes = []storage.Change{{Path: "x", After: []byte(`{"a":`)}}
	}
	return list, err
}

// TestEditedTrail: what somebody has made of an entry hides neither it nor others.
func TestEditedTrail(t *testing.T) {
	w := begin(t, testserver.Options{Store: func(s storage.Store) storage.Store { return edited{s} }})
	boss := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator)).Token
	if r := w.get(t, "/admin/v1/audit?limit=1", boss); r.Status != 200 || !strings.Contains(r.Body, `"changes":[{"path":"x","after":"{\"a\":"}]`) {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}
