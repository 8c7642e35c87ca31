package api_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// create makes a resource in somebody's session, or as the client, and returns its id.
func (w *world) create(t *testing.T, token, path, body string, args ...any) string {
	t.Helper()
	return must[struct{ ID string }](t, w.scim(t, token, "POST", path, fmt.Sprintf(body, args...)), 201).ID
}

type rows[T any] struct{ Rows []T }

// table reads a report.
func table[T any](t *testing.T, w *world, path, token string) []T {
	t.Helper()
	return must[rows[T]](t, w.get(t, "/admin/v1/reports/"+path, token), 200).Rows
}

// lines reads a report as CSV.
func (w *world) lines(t *testing.T, path, token string, header ...string) [][]string {
	t.Helper()
	r := w.send(t, "GET", path, "", append(header, "Authorization", "Bearer "+token)...)
	if media := r.Header.Get("Content-Type"); r.Status != 200 || !strings.HasPrefix(media, "text/csv") || !strings.HasPrefix(r.Header.Get("Content-Disposition"), "attachment") {
		t.Fatalf("%s: %d %s %s", path, r.Status, media, r.Body)
	}
	if strings.Count(r.Body, "\n") != strings.Count(r.Body, "\r\n") {
		t.Errorf("%s: lines do not end with CR LF: %q", path, r.Body)
	}
	list, err := csv.NewReader(strings.NewReader(r.Body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

type holder struct {
	RoleName, Principal, Type, Name, ThroughName, By, ByName, Reason string
	Eligible, Active                                                 bool
	Given, ActiveTill, End                                           time.Time
}

// TestRoleHolders: who holds what, directly or through which group, whether it is active
// now, since when, until when, and who gave it (B5, B10).
func TestRoleHolders(t *testing.T) {
	shows(t, "B5")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		eve := w.create(t, w.Token, "/Users", `{"schemas":[%q],"userName":"eve","displayName":"=HYPERLINK(\"//x\",\"a,b\")"}`, schemas.UserURI)
		inner := w.create(t, w.Token, "/Groups", `{"schemas":[%q],"displayName":"inner","members":[{"value":%q}]}`, schemas.GroupURI, eve)
		outer := w.create(t, w.Token, "/Groups", `{"schemas":[%q],"displayName":"outer","members":[{"value":%q}]}`, schemas.GroupURI, inner)
		given := w.now()
		w.assign(t, boss.Token, outer, auth.Auditor, `,"reason":"year end"`)
		own := w.assign(t, boss.Token, bo.id, auth.GroupsAdministrator, `,"kind":"eligible"`)
		end := given.Add(240 * time.Hour)
		w.assign(t, boss.Token, bo.id, auth.ReportsReader, `,"startDate":"`+given.Add(time.Hour).Format(time.RFC3339)+`","endDate":"`+end.Format(time.RFC3339)+`"`)
		w.assign(t, boss.Token, bo.id, auth.GuestInviter, `,"endDate":"`+given.Add(time.Minute).Format(time.RFC3339)+`"`)

		in := w.stepUp(t, bo, w.mfa(t, bo)) // and minutes go by: Guest Inviter ends
		activation := must[struct{ Until time.Time }](t, w.post(t, "/auth/v1/roles/activations", in.Token, object{"assignment": own, "durationSeconds": 3600, "reason": "now"}), 201)
		by := "user:" + admin.id
		want := []holder{
			{RoleName: "Auditor", Principal: outer, Type: "Group", Name: "outer", By: by, ByName: "admin", Reason: "year end", Active: true, Given: given},
			{RoleName: "Auditor", Principal: eve, Type: "User", Name: `=HYPERLINK("//x","a,b")`, ThroughName: "outer", By: by, ByName: "admin", Reason: "year end", Active: true, Given: given},
			{RoleName: "Groups Administrator", Principal: bo.id, Type: "User", Name: "bo", By: by, ByName: "admin", Eligible: true, Active: true, ActiveTill: activation.Until, Given: given},
			{RoleName: "Reports Reader", Principal: bo.id, Type: "User", Name: "bo", By: by, ByName: "admin", Given: given, End: end.Truncate(time.Second)},
		}
		if diff := cmp.Diff(want, table[holder](t, w, "role-holders", boss.Token)); diff != "" {
			t.Errorf("role holders (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[2:3], table[holder](t, w, "role-holders?kind=eligible", boss.Token)); diff != "" {
			t.Errorf("eligible (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[:3], table[holder](t, w, "role-holders?kind=active", boss.Token)); diff != "" {
			t.Errorf("active (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[3:], table[holder](t, w, "role-holders?role="+auth.ReportsReader, boss.Token)); diff != "" {
			t.Errorf("of one role (-want +got):\n%s", diff)
		}
		for _, wrong := range []string{"?kind=x", "?format=xml", "?role=a&role=b", "?page=2"} {
			if r := w.get(t, "/admin/v1/reports/role-holders"+wrong, boss.Token); r.Status != 400 {
				t.Errorf("%s: %d %s", wrong, r.Status, r.Body)
			}
		}
		if r := w.get(t, "/admin/v1/reports/role-holders?role="+nobody, boss.Token); r.Status != 404 {
			t.Errorf("a role that there is not: %d %s", r.Status, r.Body)
		}

		lines := w.lines(t, "/admin/v1/reports/role-holders?format=csv", boss.Token)
		if len(lines) != 5 || lines[0][0] != "role" || !slices.Contains(lines[2], `'=HYPERLINK("//x","a,b")`) || slices.Contains(lines[2], `=HYPERLINK("//x","a,b")`) {
			t.Errorf("as CSV: %q", lines)
		}
		for _, accept := range []string{"text/csv", "application/json;q=0.5, text/csv"} {
			if diff := cmp.Diff(lines, w.lines(t, "/admin/v1/reports/role-holders", boss.Token, "Accept", accept)); diff != "" {
				t.Errorf("with Accept: %s (-parameter +header):\n%s", accept, diff)
			}
		}
		for _, accept := range []string{"*/*", "text/csv;q=0.5, application/json", "text/csv;q=0"} {
			if r := w.send(t, "GET", "/admin/v1/reports/role-holders", "", "Accept", accept, "Authorization", "Bearer "+boss.Token); r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Vary") != "Accept" {
				t.Errorf("with Accept: %s: %v", accept, r.Header)
			}
		}
	})
}

// TestFormulas: whatever people are called, a spreadsheet takes it for text.
func TestFormulas(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	boss := w.mfa(t, admin)
	names := [][2]string{
		{"=1+1", "'=1+1"}, {"+1", "'+1"}, {"-1", "'-1"}, {"@x", "'@x"}, {" =1", "' =1"}, {"\u00a0=1", "'\u00a0=1"}, {"＝1", "'＝1"}, {"\t=1", "\t'=1"},
		// Where a comma separates decimals, a semicolon separates cells.
		{"a;=1", "a;'=1"}, {"a; =1;-b", "a;' =1;'-b"}, {"a\n=1", "a\n'=1"}, {"a\t@b", "a\t'@b"}, {`a;"=1;b`, `a;'"=1;b`},
		{"fine", "fine"}, {"a=1", "a=1"}, {"a;b-c; d", "a;b-c; d"}, {"O'Neil, \"Q\"\nx", "O'Neil, \"Q\"\nx"},
	}
	for i, name := range names {
		w.create(t, w.Token, "/Users", `{"schemas":[%q],"userName":"f%d","displayName":%q}`, schemas.UserURI, i, name[0])
	}
	lines := w.lines(t, "/admin/v1/reports/mfa?format=csv", boss.Token)
	if len(lines) != 2+len(names) { // what the columns are called, and the administrator
		t.Fatalf("%d lines for %d people", len(lines), 1+len(names))
	}
	for i, line := range lines[2:] {
		if in, want := names[i][0], names[i][1]; line[2] != want {
			t.Errorf("%q became %q, want %q", in, line[2], want)
		}
	}
}

// TestPrivilegedAccounts: who is privileged, how they are protected, and when they were
// here; more than two Global Administrators are worth a warning (B5, B9).
func TestPrivilegedAccounts(t *testing.T) {
	shows(t, "B5", "B9")
	onStores(t, func(t *testing.T, w *world) {
		type account struct {
			UserName                                                           string
			Roles                                                              []string
			GlobalAdministrator, Active, Blocked, Emergency, PasscodesDisabled bool
			Enrolled, LastPasscode, LastSignIn                                 time.Time
		}
		type report struct {
			GlobalAdministrators int
			Warnings             []string
			Rows                 []account
		}
		const many, none = "more than two people hold Global Administrator", "no account for emergencies holds Global Administrator"
		admin, second := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "second", auth.GlobalAdministrator)
		w.person(t, "nobody special")
		w.enrol(t, admin)
		enrolled := w.now()
		boss := w.mfa(t, admin)
		signedIn := w.now()
		boss = w.stepUp(t, admin, boss)
		read := func() report {
			t.Helper()
			return must[report](t, w.get(t, "/admin/v1/reports/privileged-accounts", boss.Token), 200)
		}
		passcode := w.now().Truncate(30 * time.Second)
		two := read()
		if two.GlobalAdministrators != 2 || !slices.Equal(two.Warnings, []string{none}) {
			t.Errorf("two: %+v", two)
		}
		must[any](t, w.send(t, "PUT", "/admin/v1/users/"+second.id+"/emergency", `{"emergency":true}`, "Authorization", "Bearer "+boss.Token, "Content-Type", "application/json"), 204)
		bo := w.person(t, "bo")
		w.assign(t, boss.Token, bo.id, auth.GlobalAdministrator, `,"kind":"eligible"`)
		w.assign(t, boss.Token, bo.id, auth.Auditor, `,"kind":"eligible"`)
		three := read()
		want := report{GlobalAdministrators: 3, Warnings: []string{many}, Rows: []account{
			{UserName: "admin", Roles: []string{"Global Administrator"}, GlobalAdministrator: true, Active: true, Enrolled: enrolled, LastPasscode: passcode, LastSignIn: signedIn},
			{UserName: "second", Roles: []string{"Global Administrator"}, GlobalAdministrator: true, Active: true, Emergency: true},
			{UserName: "bo", Roles: []string{"Auditor", "Global Administrator"}, GlobalAdministrator: true},
		}}
		slices.SortFunc(three.Rows, func(a, b account) int { return strings.Compare(a.UserName, b.UserName) })
		slices.SortFunc(want.Rows, func(a, b account) int { return strings.Compare(a.UserName, b.UserName) })
		if diff := cmp.Diff(want, three); diff != "" {
			t.Errorf("three (-want +got):\n%s", diff)
		}
	})
}

// TestMFAStatus: everybody is told of, with a passcode app or without, and what asks for
// one (D4).
func TestMFAStatus(t *testing.T) {
	shows(t, "D4")
	onStores(t, func(t *testing.T, w *world) {
		type status struct {
			UserName                         string
			Enrolled, LastPasscode           time.Time
			RecoveryCodes                    int
			Blocked                          bool
			RequiredByRoles, RequiredByRules []string
		}
		admin, bo, cy, di := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo"), w.person(t, "cy"), w.person(t, "di")
		w.Users(t, 600) // more than are read at a time
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		w.enrol(t, cy)
		enrolled := w.now()
		in := w.signIn(t, cy)
		must[any](t, w.post(t, "/auth/v1/recovery-code", in.Token, object{"code": cy.recovery[0]}), 200)
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		group := w.create(t, w.Token, "/Groups", `{"schemas":[%q],"displayName":"night","members":[{"value":%q}]}`, schemas.GroupURI, cy.id)
		w.assign(t, boss.Token, bo.id, role, "")
		inner := w.create(t, boss.Token, "/Roles", `{"value":"mate","contains":["crew"]}`)
		outer := w.create(t, boss.Token, "/Roles", `{"value":"captain","contains":[%q]}`, inner)
		w.assign(t, boss.Token, di.id, outer, "")
		for _, rule := range []object{
			{"name": "crew", "state": "on", "when": object{"roles": []string{role}, "newDevice": true}, "then": "passcode"},
			{"name": "night", "state": "on", "when": object{"groups": []string{group}}, "then": "passcode"},
			{"name": "tried", "state": "report", "when": object{}, "then": "passcode"},
			{"name": "blocked", "state": "on", "when": object{"groups": []string{group}, "newDevice": true}, "then": "block"},
			{"name": "admins", "state": "on", "when": object{"administrative": true}, "then": "passcode"},
		} {
			must[any](t, w.post(t, "/admin/v1/rules", boss.Token, rule), 201)
		}
		all := table[status](t, w, "mfa", boss.Token)
		if len(all) != 604 {
			t.Fatalf("%d rows, want 604", len(all))
		}
		got := map[string]status{}
		for _, s := range all {
			got[s.UserName] = s
		}
		if len(got) != 604 || got["u599"].RequiredByRules != nil {
			t.Errorf("%d people; u599 is %+v", len(got), got["u599"])
		}
		for _, want := range []status{
			{UserName: "admin", Enrolled: got["admin"].Enrolled, LastPasscode: got["admin"].LastPasscode, RecoveryCodes: 10, RequiredByRoles: []string{"Global Administrator"}, RequiredByRules: []string{"admins"}},
			{UserName: "bo", RequiredByRules: []string{"crew"}},
			{UserName: "di", RequiredByRules: []string{"crew"}}, // by what the role contains
			{UserName: "cy", Enrolled: enrolled, LastPasscode: enrolled.Truncate(30 * time.Second), RecoveryCodes: 9, RequiredByRules: []string{"night"}},
		} {
			if diff := cmp.Diff(want, got[want.UserName]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", want.UserName, diff)
			}
		}
		if lines := w.lines(t, "/admin/v1/reports/mfa?format=csv", boss.Token); len(lines) != 605 {
			t.Errorf("%d lines", len(lines))
		}
		if in := w.signIn(t, di); !slices.Equal(in.Missing, []string{"enrolment"}) {
			t.Errorf("a sign-in with a role that contains the rule's: %+v", in)
		}
	})
}

// TestStaleAccounts: accounts that nobody uses are found, those that nobody ever used
// among them.
func TestStaleAccounts(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		once, never, blocked := w.person(t, "once"), w.person(t, "never"), w.person(t, "blocked")
		in := w.signIn(t, once)
		last := w.now()
		w.scim(t, w.Token, "PATCH", "/Users/"+blocked.id, patching(`{"op":"replace","path":"active","value":false}`))
		w.advance(20 * time.Minute)
		w.get(t, "/auth/v1/session", in.Token) // is no sign-in
		w.advance(40 * 24 * time.Hour)
		w.person(t, "new")
		boss := w.mfa(t, admin)
		type stale struct {
			User       string
			LastSignIn time.Time
			Password   bool
		}
		want := []stale{{once.id, last, true}, {never.id, time.Time{}, true}}
		if diff := cmp.Diff(want, table[stale](t, w, "stale-accounts?days=30", boss.Token)); diff != "" {
			t.Errorf("after 40 days (-want +got):\n%s", diff)
		}
		if got := table[stale](t, w, "stale-accounts", boss.Token); len(got) != 0 {
			t.Errorf("of 90 days: %+v", got)
		}
		if r := w.get(t, "/admin/v1/reports/stale-accounts?days=0", boss.Token); r.Status != 400 {
			t.Errorf("0 days: %d", r.Status)
		}
	})
}

// TestSharedAccounts: an account that is used from many places at once stands out, also
// around midnight; one that travels does not (D6).
func TestSharedAccounts(t *testing.T) {
	shows(t, "D6")
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		admin, shared, traveller := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "desk"), w.person(t, "traveller")
		midnight := w.now().Truncate(24 * time.Hour).Add(24 * time.Hour)
		w.clock.Store(midnight.Add(-25 * time.Minute).UnixMilli())
		from := func(p *person, address, agent string) {
			t.Helper()
			r := w.send(t, "POST", "/auth/v1/sign-in", fmt.Sprintf(`{"name":%q,"password":%q}`, p.name, p.password),
				"Content-Type", "application/json", "X-Forwarded-For", address, "User-Agent", agent)
			must[any](t, r, 200)
		}
		first := w.now()
		for i := range 4 {
			from(shared, fmt.Sprintf("192.0.2.%d", i), "a")
			from(shared, fmt.Sprintf("192.0.2.%d", i), "b")
			from(traveller, "198.51.100.1", "a")
			w.advance(12 * time.Minute)
		}
		for i := range 4 {
			from(traveller, fmt.Sprintf("203.0.113.%d", i), "a")
			w.advance(time.Hour)
		}
		boss := w.mfa(t, admin)
		type row struct {
			User                        string
			Since                       time.Time
			SignIns, Addresses, Devices int
		}
		want := []row{{shared.id, first, 8, 4, 2}}
		if diff := cmp.Diff(want, table[row](t, w, "shared-accounts", boss.Token)); diff != "" {
			t.Errorf("shared (-want +got):\n%s", diff)
		}
		if got := table[row](t, w, "shared-accounts?least=5", boss.Token); len(got) != 0 {
			t.Errorf("from five places: %+v", got)
		}
	})
}

// TestPermissionCatalogue: what roles permit can be read (D3).
func TestPermissionCatalogue(t *testing.T) {
	shows(t, "D3")
	onStores(t, testPermissionCatalogue)
}

func testPermissionCatalogue(t *testing.T, w *world) {
	boss := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
	list := must[struct {
		Permissions []struct {
			Name, Description string
			Custom            bool
		}
	}](t, w.get(t, "/admin/v1/permissions", boss.Token), http.StatusOK).Permissions
	if len(list) != len(auth.AllPermissions()) {
		t.Errorf("%d permissions, want %d", len(list), len(auth.AllPermissions()))
	}
	for _, p := range list {
		if p.Description == "" || p.Custom == (p.Name == "roles.assign.global") {
			t.Errorf("%+v", p)
		}
	}
}

// TestActivationReport: which eligible roles are active, and which wait to be approved, who
// asked why, who approved, and until when (B10).
func TestActivationReport(t *testing.T) {
	shows(t, "B10")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo, cy := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo"), w.person(t, "cy")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		now := w.assign(t, boss.Token, bo.id, auth.GroupsAdministrator, `,"kind":"eligible"`)
		approved := w.assign(t, boss.Token, cy.id, auth.GroupsAdministrator, `,"kind":"eligible","approvalRequired":true`)
		waiting := w.assign(t, boss.Token, cy.id, auth.Auditor, `,"kind":"eligible","approvalRequired":true`)
		type activation struct {
			RoleName, User, Name, Reason, ApprovedBy string
			Waiting                                  bool
			Asked, Until                             time.Time
		}
		var want []activation
		activate := func(p *person, in signedIn, assignment, role, reason string) string {
			t.Helper()
			made := must[struct {
				ID    string
				Until time.Time
			}](t, w.post(t, "/auth/v1/roles/activations", in.Token, object{"assignment": assignment, "durationSeconds": 3600, "reason": reason}), 201)
			want = append(want, activation{RoleName: role, User: p.id, Name: p.name, Reason: reason, Waiting: made.Until.IsZero(), Asked: w.now(), Until: made.Until})
			return made.ID
		}
		first := w.stepUp(t, bo, w.mfa(t, bo))
		activate(bo, first, now, "Groups Administrator", "clean-up")
		second := w.stepUp(t, cy, w.mfa(t, cy))
		asked := activate(cy, second, approved, "Groups Administrator", "new groups")
		activate(cy, second, waiting, "Auditor", "the audit")
		boss = w.stepUp(t, admin, boss)
		given := must[struct{ Until time.Time }](t, w.post(t, "/auth/v1/roles/activations/"+asked+"/approval", boss.Token, nil), 200)
		want[1].Waiting, want[1].ApprovedBy, want[1].Until = false, admin.id, given.Until
		sorted := cmpopts.SortSlices(func(a, b activation) bool { return a.Reason < b.Reason })
		if diff := cmp.Diff(want, table[activation](t, w, "activations", boss.Token), sorted); diff != "" {
			t.Errorf("the report (-want +got):\n%s", diff)
		}
		if lines := w.lines(t, "/admin/v1/reports/activations?format=csv", boss.Token); len(lines) != 4 || !slices.Contains(lines[0], "approvedBy") {
			t.Errorf("as CSV: %q", lines)
		}
		w.advance(25 * time.Minute)
		w.get(t, "/auth/v1/session", boss.Token)
		w.advance(25 * time.Minute)
		w.get(t, "/auth/v1/session", boss.Token)
		w.advance(25 * time.Minute)
		if diff := cmp.Diff(want[2:], table[activation](t, w, "activations", boss.Token), sorted); diff != "" {
			t.Errorf("when the hour is over (-want +got):\n%s", diff)
		}
	})
}

// TestActivationsThatStand: what made somebody eligible goes, and with it what they have
// made active, or wait to: from the report, from what waits to be approved, and from their
// own list.
func TestActivationsThatStand(t *testing.T) {
	shows(t, "B10")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		group := w.group(t, "Night shift")
		boss := w.fresh(t, admin)
		ofGroup := w.assign(t, boss, group, auth.GroupsAdministrator, `,"kind":"eligible"`)
		waitsToo := w.assign(t, boss, group, auth.Auditor, `,"kind":"eligible","approvalRequired":true`)
		sessions := map[string]string{}
		ids := map[string][]string{}
		people := map[string]*person{}
		activate := func(name, assignment string) {
			t.Helper()
			made := must[struct{ ID string }](t, w.post(t, "/auth/v1/roles/activations", sessions[name], object{"assignment": assignment, "durationSeconds": 8 * 3600, "reason": "the night"}), 201)
			ids[name] = append(ids[name], made.ID)
		}
		var own string
		for _, name := range []string{"bo", "cy", "di", "eve"} {
			p := w.person(t, name)
			people[name] = p
			if name == "di" {
				own = w.assign(t, w.fresh(t, admin), p.id, auth.GroupsAdministrator, `,"kind":"eligible"`)
			} else {
				must[object](t, w.scim(t, w.fresh(t, admin), "PATCH", "/Groups/"+group, patching(`{"op":"add","path":"members","value":[{"value":"`+p.id+`"}]}`)), 200)
			}
			sessions[name] = w.fresh(t, p)
			if name == "di" {
				activate(name, own)
				continue
			}
			activate(name, ofGroup)
			activate(name, waitsToo)
		}
		check := func(what string, names ...string) {
			t.Helper()
			boss := w.fresh(t, admin)
			var want, waiting, report []string
			for _, name := range names {
				want = append(want, ids[name]...)
				waiting = append(waiting, ids[name][1:]...)
			}
			for _, row := range must[struct{ Rows []struct{ Activation string } }](t, w.get(t, "/admin/v1/reports/activations", boss), 200).Rows {
				report = append(report, row.Activation)
			}
			sorted := cmpopts.SortSlices(strings.Compare)
			if diff := cmp.Diff(want, report, sorted, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: the report (-want +got):\n%s", what, diff)
			}
			if diff := cmp.Diff(waiting, w.waiting(t, boss), sorted, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: what waits (-want +got):\n%s", what, diff)
			}
		}
		check("at first", "bo", "cy", "di", "eve")
		must[object](t, w.scim(t, w.fresh(t, admin), "PATCH", "/Groups/"+group, patching(`{"op":"remove","path":"members[value eq \"`+people["cy"].id+`\"]"}`)), 200)
		check("out of the group", "bo", "di", "eve")
		for _, name := range []string{"bo", "cy"} {
			mine := must[struct{ Activations []struct{ ID string } }](t, w.get(t, "/auth/v1/roles/activations", w.fresh(t, people[name])), 200).Activations
			if want := map[string]int{"bo": 2, "cy": 0}[name]; len(mine) != want {
				t.Errorf("the own list of %s has %d, want %d", name, len(mine), want)
			}
		}
		later := w.now().Add(24 * time.Hour).Format(time.RFC3339)
		must[object](t, w.scim(t, w.fresh(t, admin), "PATCH", "/RoleAssignments/"+own, patching(`{"op":"add","path":"startDate","value":"`+later+`"}`)), 200)
		check("to begin later", "bo", "eve")
		must[any](t, w.scim(t, w.fresh(t, admin), "DELETE", "/Users/"+people["eve"].id, ""), 204)
		check("deleted", "bo")
		must[any](t, w.scim(t, w.fresh(t, admin), "DELETE", "/Groups/"+group, ""), 204)
		check("the group deleted")
	})
}

// TestRolesCalledByValue: a role that has no name of its own is called by its value,
// wherever people read of it.
func TestRolesCalledByValue(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		role := must[struct{ ID string }](t, w.Do(t, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"deckhand"}`, schemas.RoleURI)), 201).ID
		asked := must[struct{ ID string }](t, w.Do(t, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"cook"}`, schemas.RoleURI)), 201).ID
		boss := w.fresh(t, admin)
		assignment := w.assign(t, boss, bo.id, role, `,"kind":"eligible"`)
		in := w.fresh(t, bo)
		must[object](t, w.post(t, "/auth/v1/roles/activations", in, object{"assignment": assignment, "durationSeconds": 3600, "reason": "rain"}), 201)
		got := map[string]string{"a request": w.ask(t, in, object{"role": asked, "reason": "summer"}).RoleName}
		boss = w.fresh(t, admin)
		for _, q := range must[struct{ Requests []request }](t, w.get(t, "/admin/v1/role-requests", boss), 200).Requests {
			got["what waits"] = q.RoleName
		}
		type row struct{ Role, RoleName string }
		for _, name := range []string{"role-holders", "activations"} {
			for _, r := range table[row](t, w, name, boss) {
				if r.Role == role {
					got[name] = r.RoleName
				}
			}
		}
		review := must[struct{ ID string }](t, w.post(t, "/admin/v1/reviews", boss, object{"title": "Crew", "roles": []string{role}, "due": w.now().Add(time.Hour), "reviewers": []string{admin.id}}), 201).ID
		for _, x := range must[struct{ Rows []row }](t, w.get(t, "/admin/v1/reviews/"+review+"/assignments", boss), 200).Rows {
			got["a review"] = x.RoleName
		}
		got["an assignment"] = must[struct{ Role struct{ Display string } }](t, w.scim(t, boss, "GET", "/RoleAssignments/"+assignment, ""), 200).Role.Display
		want := map[string]string{"a request": "cook", "what waits": "cook", "role-holders": "deckhand", "activations": "deckhand", "a review": "deckhand", "an assignment": "deckhand"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the role is called (-want +got):\n%s", diff)
		}
	})
}

// TestReportsAsTables: each report has the same rows as JSON and as CSV, and the columns
// are called what the members are.
func TestReportsAsTables(t *testing.T) {
	shows(t, "B5", "D4", "D6")
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		desk, never := w.person(t, "desk"), w.person(t, "never")
		w.assign(t, w.mfa(t, admin).Token, never.id, auth.Auditor, "")
		w.advance(100 * 24 * time.Hour)
		for i := range 4 {
			must[any](t, w.send(t, "POST", "/auth/v1/sign-in", fmt.Sprintf(`{"name":%q,"password":%q}`, desk.name, desk.password),
				"Content-Type", "application/json", "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)), 200)
		}
		boss := w.mfa(t, admin)
		for report, column := range map[string]string{"role-holders": "roleName", "privileged-accounts": "userName", "mfa": "userName", "stale-accounts": "userName", "shared-accounts": "userName"} {
			list := table[map[string]any](t, w, report, boss.Token)
			lines := w.lines(t, "/admin/v1/reports/"+report+"?format=csv", boss.Token)
			at := slices.Index(lines[0], column)
			if len(list) == 0 || len(lines) != len(list)+1 || at < 0 {
				t.Errorf("%s: %d rows, and as CSV %q", report, len(list), lines)
				continue
			}
			for i, row := range list {
				if lines[i+1][at] != row[column] {
					t.Errorf("%s: row %d is %v, and as CSV %q", report, i, row, lines[i+1])
				}
				for member := range row {
					if !slices.Contains(lines[0], member) {
						t.Errorf("%s: no column is called %s: %q", report, member, lines[0])
					}
				}
			}
		}
	})
}

// TestRolesOffered: the built-in roles are there with what each permits; roles of one's own
// are in a category, by which they are found; somebody holds several (D3).
func TestRolesOffered(t *testing.T) {
	shows(t, "D3")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		type role struct {
			ID, Value, Display string
			More               struct {
				Kind, Category, Description string
				BuiltIn                     bool
				Permissions                 []string
			} `json:"urn:ietf:params:scim:schemas:extension:roster:2.0:Role"`
		}
		list := func(query string) []role {
			t.Helper()
			return must[struct{ Resources []role }](t, w.scim(t, boss.Token, "GET", "/Roles"+query, ""), 200).Resources
		}
		all := list("")
		if len(all) != len(auth.BuiltInRoles()) {
			t.Fatalf("%d roles, want %d", len(all), len(auth.BuiltInRoles()))
		}
		for i, r := range auth.BuiltInRoles() {
			got := all[i]
			if got.ID != r.ID || got.Display != r.Display || got.More.Description == "" || !got.More.BuiltIn || got.More.Kind != "administrative" || got.More.Category != "directory" {
				t.Errorf("%s is %+v", r.Display, got)
			}
			if diff := cmp.Diff(r.Permissions.Strings(), got.More.Permissions, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("what %s permits (-want +got):\n%s", r.Display, diff)
			}
		}
		held := []string{auth.Auditor}
		w.assign(t, boss.Token, bo.id, auth.Auditor, "")
		for _, category := range []string{"partner", "application", "business"} {
			id := w.create(t, boss.Token, "/Roles", `{"schemas":[%q,%q],"value":"a-%s",%[2]q:{"category":%[3]q}}`, schemas.RoleURI, schemas.RosterRoleURI, category)
			if got := list("?filter=" + url.QueryEscape(schemas.RosterRoleURI+`:category eq "`+category+`"`)); len(got) != 1 || got[0].ID != id {
				t.Errorf("of the category %s: %+v", category, got)
			}
			w.assign(t, boss.Token, bo.id, id, "")
			held = append(held, id)
		}
		if r := w.scim(t, boss.Token, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q,%q],"value":"x",%[2]q:{"category":"kitchen"}}`, schemas.RoleURI, schemas.RosterRoleURI)); r.Status != 400 {
			t.Errorf("of another category: %d %s", r.Status, r.Body)
		}
		var got []string
		for _, h := range must[struct{ Holdings []holding }](t, w.get(t, "/admin/v1/users/"+bo.id+"/roles", boss.Token), 200).Holdings {
			got = append(got, h.Role)
		}
		if diff := cmp.Diff(held, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("several at once (-want +got):\n%s", diff)
		}
	})
}
