package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestRules: what a conditional rule says of a sign-in is what happens, for whom it
// applies to and nobody else; one that only reports does nothing; the account for
// emergencies is exempt, and its use is counted.
func TestRules(t *testing.T) {
	shows(t, "B9", "D4")
	onStoresWith(t, testserver.Options{Server: trusting}, testRules)
}

func testRules(t *testing.T, w *world) {
	admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
	in := w.mfa(t, admin)
	at := func(from string, p *person) testserver.Response {
		w.advance(time.Minute)
		body := object{"name": p.name, "password": p.password}
		if p.secret != "" {
			body["passcode"] = w.code(t, p)
		}
		text, _ := json.Marshal(body)
		return w.send(t, "POST", "/auth/v1/sign-in", string(text), "Content-Type", "application/json", "X-Forwarded-For", from, "User-Agent", "program")
	}
	const office, cafe = "192.0.2.1", "198.51.100.1"
	must[signedIn](t, at(office, bo), 200)
	must[signedIn](t, at(cafe, bo), 200)

	abroad := object{"name": "Only from the office", "state": "on", "when": object{"outsideNetworks": []string{"192.0.2.0/24"}}, "then": "block"}
	trial := must[struct{ SignIns, Applies, Accounts int }](t, w.post(t, "/admin/v1/rule-trials", in.Token, abroad), 200)
	if trial.SignIns != 3 || trial.Applies != 2 || trial.Accounts != 2 { // the administrator's came over loopback
		t.Errorf("a dry run: %+v, want 2 of 3 sign-ins, of 2 accounts", trial)
	}

	fresh := func() string {
		w.advance(time.Minute)
		in = must[signedIn](t, w.post(t, "/auth/v1/step-up", in.Token, object{"code": w.code(t, admin)}), 200)
		return in.Token
	}
	if r := w.post(t, "/admin/v1/rules", fresh(), abroad); r.Status != 409 || !strings.Contains(r.Body, "last-administrator") {
		t.Errorf("a rule that lets in no Global Administrator from where one has been: %d %s", r.Status, r.Body)
	}
	must[signedIn](t, at(office, admin), 200)
	abroad["state"] = "report"
	rule := must[struct{ ID string }](t, w.post(t, "/admin/v1/rules", fresh(), abroad), 201)
	must[signedIn](t, at(cafe, bo), 200)
	put := func(status int) {
		t.Helper()
		text, _ := json.Marshal(abroad)
		must[any](t, w.send(t, "PUT", "/admin/v1/rules/"+rule.ID, string(text), "Content-Type", "application/json", "Authorization", "Bearer "+fresh()), status)
	}
	abroad["state"] = "on"
	put(200)
	refused := at(cafe, bo)
	wrong := must[any](t, w.post(t, "/auth/v1/sign-in", "", object{"name": bo.name, "password": "wrong"}), 401)
	if got := must[any](t, refused, 401); fmt.Sprint(got) != fmt.Sprint(wrong) {
		t.Errorf("refused by a rule: %v; want what is said of a wrong password, %v", got, wrong)
	}
	must[signedIn](t, at(office, bo), 200)

	abroad["then"] = "passcode"
	put(200)
	if got := must[signedIn](t, at(cafe, bo), 200); got.Level != "limited" || !slices.Equal(got.Missing, []string{"enrolment"}) {
		t.Errorf("a passcode is asked for, and there is no app: %+v", got)
	}
	if got := must[signedIn](t, at(office, bo), 200); got.Level != "password" {
		t.Errorf("from the office: %+v", got)
	}
	w.enrol(t, bo)
	if got := must[signedIn](t, at(cafe, bo), 200); got.Level != "mfa" {
		t.Errorf("with the passcode: %+v", got)
	}
	code := bo.secret
	bo.secret = ""
	limited := must[signedIn](t, at(cafe, bo), 200)
	if limited.Level != "limited" || !slices.Equal(limited.Missing, []string{"passcode"}) {
		t.Errorf("without the passcode: %+v", limited)
	}
	if r := w.get(t, "/auth/v1/sessions", limited.Token); r.Status != 403 {
		t.Errorf("a session that lacks a passcode lists sessions: %d %s", r.Status, r.Body)
	}
	bo.secret = code
	if got := must[signedIn](t, w.post(t, "/auth/v1/passcode", limited.Token, object{"code": w.code(t, bo)}), 200); got.Level != "mfa" {
		t.Errorf("the passcode given afterwards: %+v", got)
	}

	// The account for emergencies.
	abroad["then"] = "block"
	put(200)
	must[any](t, at(cafe, admin), 401)
	text := `{"emergency":true}`
	must[any](t, w.send(t, "PUT", "/admin/v1/users/"+bo.id+"/emergency", text, "Content-Type", "application/json", "Authorization", "Bearer "+fresh()), 204)
	must[signedIn](t, at(cafe, bo), 200)
	if r := w.send(t, "PUT", "/admin/v1/users/"+admin.id+"/emergency", text, "Content-Type", "application/json", "Authorization", "Bearer "+fresh()); r.Status != 403 ||
		!strings.Contains(r.Body, "somebody else") {
		t.Errorf("one's own account marked: %d %s", r.Status, r.Body)
	}
	metrics, err := w.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, m := range metrics {
		if m.GetName() == "roster_emergency_signin_total" {
			counted = m.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if counted != 1 {
		t.Errorf("roster_emergency_signin_total is %v, want 1", counted)
	}

	must[any](t, w.send(t, "DELETE", "/admin/v1/rules/"+rule.ID, "", "Authorization", "Bearer "+fresh()), 204)
	must[signedIn](t, at(cafe, admin), 200)
}

// TestRuleConditions: each thing that a rule may look at makes the difference at the
// sign-in: a role, a group, a network, a program or place that is new, and how long ago the
// last sign-in was (D4).
func TestRuleConditions(t *testing.T) {
	shows(t, "D4")
	onStoresWith(t, testserver.Options{Server: trusting}, func(t *testing.T, w *world) {
		admin, bo, cy := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo"), w.person(t, "cy")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		w.assign(t, boss.Token, bo.id, role, "")
		group := w.group(t, "night", bo.id)
		level := func(p *person, from, agent string) string {
			t.Helper()
			w.advance(time.Minute)
			return must[signedIn](t, w.send(t, "POST", "/auth/v1/sign-in", fmt.Sprintf(`{"name":%q,"password":%q}`, p.name, p.password),
				"Content-Type", "application/json", "X-Forwarded-For", from, "User-Agent", agent), 200).Level
		}
		const office, cafe = "192.0.2.1", "198.51.100.1"
		level(bo, office, "a")
		level(cy, office, "a")
		for what, c := range map[string]struct {
			when    object
			applies func() string
			not     func() string
		}{
			"role":    {object{"roles": []string{role}}, func() string { return level(bo, office, "a") }, func() string { return level(cy, office, "a") }},
			"group":   {object{"groups": []string{group}}, func() string { return level(bo, office, "a") }, func() string { return level(cy, office, "a") }},
			"network": {object{"networks": []string{"198.51.100.0/24"}}, func() string { return level(bo, cafe, "a") }, func() string { return level(bo, office, "a") }},
			"program": {object{"newDevice": true}, func() string { return level(bo, office, "another") }, func() string { return level(bo, office, "a") }},
			"age": {object{"idleDays": 5}, func() string { w.advance(5 * 24 * time.Hour); return level(bo, office, "a") },
				func() string { w.advance(4 * 24 * time.Hour); return level(bo, office, "a") }},
		} {
			boss = w.mfa(t, admin)
			rule := must[struct{ ID string }](t, w.post(t, "/admin/v1/rules", boss.Token, object{"name": what, "state": "on", "when": c.when, "then": "passcode"}), 201)
			level(bo, office, "a") // not long ago, whatever went before
			if got := c.not(); got != "password" {
				t.Errorf("%s: where the rule does not apply the session is %s", what, got)
			}
			if got := c.applies(); got != "limited" {
				t.Errorf("%s: where the rule applies the session is %s", what, got)
			}
			boss = w.mfa(t, admin)
			must[any](t, w.delete(t, "/admin/v1/rules/"+rule.ID, boss.Token), 204)
		}
	})
}

// TestRuleErrors: what is wrong with a rule is named, its values are not.
func TestRuleErrors(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	in := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
	for _, c := range []struct{ body, want string }{
		{`{"name":"x","state":"on","when":{},"then":"block"}`, "when: expected a condition"},
		{`{"name":"x","state":"maybe","when":{},"then":"block"}`, "state: expected on, report or off"},
		{`{"name":"x","state":"on","when":{"networks":["the office"]},"then":"block"}`, "when.networks[0]: expected a network"},
		{`{"name":"x","state":"on","when":{"moon":"full"},"then":"block"}`, "moon"},
		{`{"name":"","state":"on","when":{},"then":"passcode"}`, "name: expected a name"},
		{`{"name":"x","state":"on","when":{"roles":["` + auth.Auditor + `","maybe"]},"then":"block"}`, "when.roles[1]: expected the id of a role"},
		{`{"name":"x","state":"report","when":{"groups":["maybe"]},"then":"passcode"}`, "when.groups[0]: expected the id of a group"},
	} {
		r := w.send(t, "POST", "/admin/v1/rules", c.body, "Content-Type", "application/json", "Authorization", "Bearer "+in.Token)
		if r.Status != 400 || !strings.Contains(r.Body, c.want) || strings.Contains(r.Body, "maybe") || strings.Contains(r.Body, "the office") {
			t.Errorf("%s: %d %s, want 400 with %q", c.body, r.Status, r.Body, c.want)
		}
	}
	if r := w.get(t, "/admin/v1/rules/none", in.Token); r.Status != 404 {
		t.Errorf("a rule that is not there: %d", r.Status)
	}
}

// TestFirstAdministrator: of many who use a link for a first administrator at once,
// one becomes it, and the others leave nothing behind; what is refused leaves the link
// good.
func TestFirstAdministrator(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{Server: trusting})
	operator := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	link, err := w.People.NewFirstSetup(t.Context(), operator)
	if err != nil {
		t.Fatal(err)
	}
	use := func(i int, name, password string) testserver.Response {
		text, _ := json.Marshal(object{"link": link.Reveal(), "userName": name, "password": password})
		r, err := w.Page(t.Context(), "POST", "/auth/v1/setup", string(text), "Content-Type", "application/json", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
		if err != nil {
			t.Error(err)
		}
		return r
	}
	w.person(t, "taken")
	if r := use(100, "ana", "short"); r.Status != 400 {
		t.Errorf("a short password: %d %s", r.Status, r.Body)
	}
	if r := use(101, "taken", goodPassword); r.Status != 409 {
		t.Errorf("a name that is taken: %d %s", r.Status, r.Body)
	}
	statuses := make([]int, 16)
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() { statuses[i] = use(i, fmt.Sprintf("ana%d", i), goodPassword).Status })
	}
	all.Wait()
	slices.Sort(statuses)
	if statuses[0] != 200 || slices.Contains(statuses[1:], 200) || statuses[1] != 401 {
		t.Errorf("16 at once: %v, want one 200", statuses)
	}
	r := w.Do(t, "GET", `/Users?filter=userName+sw+"ana"&count=0`, "")
	if !strings.Contains(r.Body, `"totalResults":1`) {
		t.Errorf("accounts that were made: %s, want 1", r.Body)
	}
	if r := use(102, "late", goodPassword); r.Status != 401 {
		t.Errorf("the link used again: %d %s", r.Status, r.Body)
	}
}

// TestFirstAdministratorOnce: when a Global Administrator can sign in, there are no links
// for a first one, and one from before makes none any more (S12).
func TestFirstAdministratorOnce(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		operator := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		link, err := w.People.NewFirstSetup(t.Context(), operator)
		if err != nil {
			t.Fatalf("while nobody has a passcode: %v", err)
		}
		w.mfa(t, admin)
		if _, err := w.People.NewFirstSetup(t.Context(), operator); !errors.Is(err, auth.ErrAdministered) {
			t.Errorf("another link: %v; want ErrAdministered", err)
		}
		if r := w.post(t, "/auth/v1/setup", "", object{"link": link.Reveal(), "userName": "second", "password": goodPassword}); r.Status != 409 {
			t.Errorf("the link from before: %d %s, want 409", r.Status, r.Body)
		}
		if r := w.Do(t, "GET", `/Users?filter=userName+eq+"second"&count=0`, ""); !strings.Contains(r.Body, `"totalResults":0`) {
			t.Errorf("an account was made: %s", r.Body)
		}
	})
}

// TestRuleComesToHold: nothing makes a rule that is there hold for the last Global
// Administrator, by whatever way they come into a group that it is for, or to a role. It
// may where another one is left, and for people who are none.
func TestRuleComesToHold(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, spare, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "spare", auth.GlobalAdministrator), w.person(t, "bo")
		boss := func() string { return w.fresh(t, admin) }
		group := func(name, member string) string {
			return must[struct{ ID string }](t, w.scim(t, boss(), "POST", "/Groups", fmt.Sprintf(`{"schemas":[%q],"displayName":%q,"members":[{"value":%q}]}`, schemas.GroupURI, name, member)), 201).ID
		}
		role := func(value string) string {
			return must[struct{ ID string }](t, w.Do(t, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":%q}`, schemas.RoleURI, value)), 201).ID
		}
		left, outer, crew, gone, decks := group("left", bo.id), group("outer", bo.id), group("crew", admin.id), group("gone", admin.id), group("decks", bo.id)
		deck, captain := role("deckhand"), role("captain")
		bosun := must[struct{ ID string }](t, w.scim(t, boss(), "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"bosun","contains":["deckhand"]}`, schemas.RoleURI)), 201).ID
		w.assign(t, boss(), admin.id, captain, "")
		w.assign(t, boss(), decks, deck, "")
		must[object](t, w.scim(t, boss(), "PATCH", "/Groups/"+left, patching(`{"op":"add","path":"members","value":[{"value":"`+outer+`"}]}`)), 200)
		// A rule names what there is when it is made.
		forGroups := func(state string) object {
			return object{"name": "Left", "state": state, "when": object{"groups": []string{left, gone}}, "then": "block"}
		}
		rule := must[struct{ ID string }](t, w.post(t, "/admin/v1/rules", boss(), forGroups("off")), 201).ID
		must[any](t, w.scim(t, boss(), "DELETE", "/Groups/"+gone, ""), 204)
		// What is known of who has which role is from before there is a rule.
		must[object](t, w.scim(t, boss(), "PATCH", "/Users/"+bo.id, patching(`{"op":"add","path":"title","value":"Mate"}`)), 200)
		must[object](t, w.scim(t, boss(), "PATCH", "/Users/"+admin.id, patching(`{"op":"add","path":"title","value":"Master"}`)), 200)
		text, err := json.Marshal(forGroups("on"))
		if err != nil {
			t.Fatal(err)
		}
		must[any](t, w.send(t, "PUT", "/admin/v1/rules/"+rule, string(text), "Content-Type", "application/json", "Authorization", "Bearer "+boss()), 200)
		must[any](t, w.post(t, "/admin/v1/rules", boss(), object{"name": "Left", "state": "on", "when": object{"roles": []string{deck}}, "then": "block"}), 201)
		member := func(id string) string {
			return patching(`{"op":"add","path":"members","value":[{"value":"` + id + `"}]}`)
		}
		assignment := func(role, principal string) string {
			return fmt.Sprintf(`{"schemas":[%q],"role":{"value":%q},"principal":{"value":%q}}`, schemas.RoleAssignmentURI, role, principal)
		}
		ways := map[string]func(token string) testserver.Response{
			"joins": func(token string) testserver.Response {
				return w.scim(t, token, "PATCH", "/Groups/"+left, member(admin.id))
			},
			"joins one inside": func(token string) testserver.Response {
				return w.scim(t, token, "PATCH", "/Groups/"+outer, member(admin.id))
			},
			"by a group": func(token string) testserver.Response {
				return w.scim(t, token, "PATCH", "/Groups/"+left, member(crew))
			},
			"by a client": func(string) testserver.Response { return w.Do(t, "PATCH", "/Groups/"+left, member(crew)) },
			"joins for a role": func(token string) testserver.Response {
				return w.scim(t, token, "PATCH", "/Groups/"+decks, member(admin.id))
			},
			"is given the role": func(token string) testserver.Response {
				return w.scim(t, token, "POST", "/RoleAssignments", assignment(deck, admin.id))
			},
			"is given what contains it": func(token string) testserver.Response {
				return w.scim(t, token, "POST", "/RoleAssignments", assignment(bosun, admin.id))
			},
			"the group is given": func(token string) testserver.Response {
				return w.scim(t, token, "POST", "/RoleAssignments", assignment(deck, crew))
			},
			"a role contains it": func(token string) testserver.Response {
				return w.scim(t, token, "PATCH", "/Roles/"+captain, patching(`{"op":"add","path":"contains","value":["deckhand"]}`))
			},
			"the group comes back": func(token string) testserver.Response {
				return w.post(t, "/admin/v1/deleted-groups/"+gone+"/restore", token, object{})
			},
			"all are replaced": func(token string) testserver.Response {
				return w.scim(t, token, "PUT", "/Groups/"+left, fmt.Sprintf(`{"schemas":[%q],"displayName":"left","members":[{"value":%q}]}`, schemas.GroupURI, admin.id))
			},
		}
		for what, way := range ways {
			r := way(boss())
			if r.Status != 409 || !strings.Contains(r.Body, "Global Administrator") {
				t.Errorf("%s: %d %s, want 409", what, r.Status, r.Body)
			}
		}
		must[object](t, w.scim(t, boss(), "PATCH", "/Groups/"+outer, patching(`{"op":"add","path":"members","value":[{"value":"`+w.pushed(t, w.Token, "cy").id+`"}]}`)), 200)
		must[object](t, w.scim(t, boss(), "POST", "/RoleAssignments", assignment(deck, bo.id)), 201)

		// With somebody else whom the rules let in each is done.
		w.mfa(t, spare)
		token := w.mfa(t, spare).Token
		for what, way := range ways {
			if r := way(token); r.Status >= 300 && r.Status != 409 || r.Status == 409 && !strings.Contains(r.Body, "already") {
				t.Errorf("%s, when there is another one: %d %s", what, r.Status, r.Body)
			}
		}
	})
}

// TestRuleForAdministrators: no rule, new, changed or turned on, lets in no Global
// Administrator any more; nor does taking the mark for emergencies from the only one
// whom rules do not hold up, or that administrator away. Somebody for emergencies is
// enough.
func TestRuleForAdministrators(t *testing.T) {
	onStores(t, ruleForAdministrators)
}

func ruleForAdministrators(t *testing.T, w *world) {
	admin, spare := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "spare", auth.GlobalAdministrator)
	w.mfa(t, spare)
	in := w.mfa(t, admin)
	send := func(method, path string, body any) testserver.Response {
		w.advance(time.Minute)
		in = must[signedIn](t, w.post(t, "/auth/v1/step-up", in.Token, object{"code": w.code(t, admin)}), 200)
		text := ""
		if body != nil {
			b, _ := json.Marshal(body)
			text = string(b)
		}
		return w.send(t, method, path, text, "Content-Type", "application/json", "Authorization", "Bearer "+in.Token)
	}
	refused := func(what string, r testserver.Response) {
		t.Helper()
		if r.Status != 409 || !strings.Contains(r.Body, "last-administrator") && !strings.Contains(r.Body, "Global Administrator") {
			t.Errorf("%s: %d %s, want 409", what, r.Status, r.Body)
		}
	}
	rule := func(state, then string, when object) object {
		return object{"name": "Nobody", "state": state, "when": when, "then": then}
	}
	administrators := object{"administrative": true}
	for what, body := range map[string]object{
		"administrators":         rule("on", "block", administrators),
		"the role":               rule("on", "block", object{"roles": []string{auth.GlobalAdministrator}}),
		"where both are":         rule("on", "block", object{"networks": []string{"127.0.0.0/8"}}),
		"where neither has been": rule("on", "block", object{"outsideNetworks": []string{"192.0.2.0/24"}}),
	} {
		refused(what, send("POST", "/admin/v1/rules", body))
	}
	off := must[struct{ ID string }](t, send("POST", "/admin/v1/rules", rule("off", "block", administrators)), 201)
	path := "/admin/v1/rules/" + off.ID
	must[any](t, send("PUT", path, rule("report", "block", administrators)), 200)
	must[any](t, send("PUT", path, rule("on", "passcode", administrators)), 200)
	refused("turned on", send("PUT", path, rule("on", "block", administrators)))
	must[any](t, send("PUT", path, rule("on", "block", object{"newDevice": true})), 200)

	emergency := "/admin/v1/users/" + spare.id + "/emergency"
	must[any](t, send("PUT", emergency, object{"emergency": true}), 204)
	must[any](t, send("PUT", path, rule("on", "block", administrators)), 200)
	if told := w.told(t, "rule.replace"); told["when"] != [2]string{`{"newDevice":true}`, `{"administrative":true}`} || len(told) != 1 {
		t.Errorf("the audit entry of a changed rule: %v", told)
	}
	refused("the mark taken away", send("PUT", emergency, object{"emergency": false}))
	refused("the account deleted", send("DELETE", "/scim/v2/Users/"+spare.id, nil))
	refused("the passcodes reset", send("POST", "/admin/v1/users/"+spare.id+"/mfa-reset", nil))
	w.advance(time.Minute)
	if r := w.post(t, "/auth/v1/sign-in", "", object{"name": admin.name, "password": admin.password, "passcode": w.code(t, admin)}); r.Status != 401 {
		t.Errorf("an administrator whom the rule blocks signs in: %d", r.Status)
	}
	w.mfa(t, spare)
	must[any](t, send("DELETE", path, nil), 204)
	if told := w.told(t, "rule.delete"); told["name"] != [2]string{`"Nobody"`, ""} || told["then"] != [2]string{`"block"`, ""} {
		t.Errorf("the audit entry of a rule that is gone: %v", told)
	}
	if told := w.told(t, "rule.create"); told["state"] != [2]string{"", `"off"`} {
		t.Errorf("the audit entry of a new rule: %v", told)
	}
	must[any](t, send("PUT", emergency, object{"emergency": false}), 204)
}
