package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// account is the answer to a new account.
type account struct {
	ID, UserName, Location string
	Active                 bool
	SignInNames            []string
	Password               string
	Expires                time.Time
}

// account asks for an account.
func (w *world) account(t *testing.T, token string, body object) testserver.Response {
	t.Helper()
	return w.post(t, "/admin/v1/users", token, body)
}

// TestAdministratorsAccount: B1 and B2. An administrator is made with groups, roles, a
// country and what is said of the work; the password is generated, shown once, works
// once, and is changed at the first sign-in, where the passcode app is enrolled.
func TestAdministratorsAccount(t *testing.T) {
	shows(t, "B1", "B2", "C6")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "gus", auth.GlobalAdministrator)
		by := w.mfa(t, admin)
		staff := w.group(t, "staff")
		r := w.account(t, by.Token, object{
			"user": object{"userName": "una", "displayName": "Una Berg", "name": object{"givenName": "Una", "familyName": "Berg"}, "title": "Head of IT",
				schemas.EnterpriseUserURI: object{"department": "IT"}, schemas.RosterUserURI: object{"usageLocation": "se"}},
			"groups": []string{staff}, "roles": []object{{"value": auth.UserAdministrator, "reason": "new"}, {"value": auth.Auditor, "kind": "eligible"}},
		})
		made := must[account](t, r, 201)
		want := account{ID: made.ID, UserName: "una", Location: "/scim/v2/Users/" + made.ID, Active: true, SignInNames: []string{"una"}, Password: made.Password, Expires: w.now().Add(24 * time.Hour)}
		if diff := cmp.Diff(want, made); diff != "" {
			t.Errorf("the answer (-want +got):\n%s", diff)
		}
		stored := w.get(t, made.Location, by.Token)
		for _, text := range []string{`"Head of IT"`, `"usageLocation":"SE"`, `"IT"`, staff, `"displayName":"Una Berg"`, `"givenName":"Una"`, `"familyName":"Berg"`} {
			if !strings.Contains(stored.Body, text) {
				t.Errorf("the user is %s, without %s", stored.Body, text)
			}
		}
		for record, err := range w.Store.Dump(t.Context(), storage.DefaultTenant) {
			if err != nil {
				t.Fatal(err)
			}
			if i := record.Item; i != nil && strings.Contains(string(i.Data), made.Password) {
				t.Errorf("the password can be seen again: %s", i.Data)
			}
			if r := record.Resource; r != nil && strings.Contains(string(r.Doc), made.Password) {
				t.Errorf("the password can be seen again: %s", r.Doc)
			}
		}
		p := &person{id: made.ID, name: "una", password: made.Password}
		in := w.signIn(t, p)
		if diff := cmp.Diff([]string{"password"}, in.Missing); in.Level != "limited" || diff != "" {
			t.Errorf("with the password that was handed over: %+v", in)
		}
		if r := w.post(t, "/auth/v1/totp", in.Token, object{}); r.Status != 403 {
			t.Errorf("enrolling before the password is changed: %d %s", r.Status, r.Body)
		}
		p.password = "a much better one, really"
		must[signedIn](t, w.post(t, "/auth/v1/password", in.Token, object{"new": p.password}), 200)
		in = w.enrol(t, p)
		roles := w.get(t, "/auth/v1/roles", in.Token).Body
		if !strings.Contains(roles, auth.UserAdministrator) || !strings.Contains(roles, auth.Auditor) {
			t.Errorf("the roles are %s", roles)
		}
		// What the new administrator may not give, it may not give to a new account.
		w.advance(time.Second)
		r = w.account(t, in.Token, object{"user": object{"userName": "vic"}, "roles": []object{{"value": auth.UserAdministrator}}})
		if r.Status != 403 || strings.Contains(r.Body, "scope") {
			t.Errorf("a User Administrator makes another one: %d %s", r.Status, r.Body)
		}
		must[account](t, w.account(t, in.Token, object{"user": object{"userName": "vic"}, "groups": []string{staff}}), 201)
	})
}

// TestBlockedAdministrator: B1. An administrator can be made blocked, with little said;
// the rest is said later, and then they sign in.
func TestBlockedAdministrator(t *testing.T) {
	shows(t, "B1")
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "gus", auth.GlobalAdministrator))
		made := must[account](t, w.account(t, by.Token, object{"user": object{"userName": "una", "active": false}, "roles": []object{{"value": auth.Auditor}}}), 201)
		sign := func() testserver.Response {
			w.advance(time.Minute)
			return w.post(t, "/auth/v1/sign-in", "", object{"name": "una", "password": made.Password})
		}
		if r := sign(); made.Active || r.Status != 401 {
			t.Errorf("blocked: %+v, and signing in: %d %s", made, r.Status, r.Body)
		}
		later := patching(`{"op":"add","value":{"active":true,"title":"Head of IT","name":{"givenName":"Una","familyName":"Berg"},
			"` + schemas.EnterpriseUserURI + `":{"department":"IT"},"` + schemas.RosterUserURI + `":{"usageLocation":"se"}}}`)
		r := w.scim(t, by.Token, "PATCH", "/Users/"+made.ID, later)
		for _, text := range []string{`"Head of IT"`, `"usageLocation":"SE"`, `"department":"IT"`, `"familyName":"Berg"`, `"active":true`} {
			if r.Status != 200 || !strings.Contains(r.Body, text) {
				t.Errorf("later: %d %s, without %s", r.Status, r.Body, text)
			}
		}
		group := w.create(t, by.Token, "/Groups", `{"schemas":[%q],"displayName":"staff","members":[{"value":%q}]}`, schemas.GroupURI, made.ID)
		if got := w.user(t, made.ID).Groups; len(got) != 1 || got[0].Value != group {
			t.Errorf("the groups are %+v", got)
		}
		if in := must[signedIn](t, sign(), 200); in.Level != "limited" {
			t.Errorf("not blocked any more: %+v", in)
		}
	})
}

// TestStepUpForAdministrators: giving an administrative role takes a fresh passcode, in a
// new account as well; anything else does not.
func TestStepUpForAdministrators(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "gus", auth.GlobalAdministrator))
		w.advance(10 * time.Minute)
		r := w.account(t, by.Token, object{"user": object{"userName": "una"}, "roles": []object{{"value": auth.Auditor}}})
		if r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), "max_age") {
			t.Errorf("an administrator without a fresh passcode: %d %s", r.Status, r.Body)
		}
		must[account](t, w.account(t, by.Token, object{"user": object{"userName": "una"}}), 201)
		if r := w.post(t, "/admin/v1/users/"+w.person(t, "bo").id+"/password-reset", by.Token, nil); r.Status != 401 {
			t.Errorf("a reset without a fresh passcode: %d %s", r.Status, r.Body)
		}
	})
}

// TestCustomersAccount: C1, C2, C5 and C6. A customer is made who signs in by e-mail or
// by user name, holds no role, and cannot sign in while blocked.
func TestCustomersAccount(t *testing.T) {
	shows(t, "C1", "C2", "C5", "C6")
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "una", auth.UserAdministrator))
		first := func(made account, name string) testserver.Response {
			w.advance(time.Minute)
			return w.post(t, "/auth/v1/sign-in", "", object{"name": name, "password": made.Password})
		}
		address := must[account](t, w.account(t, by.Token, object{"signIn": "email",
			"user": object{"emails": []object{{"value": "home@shop.example"}, {"value": "Kim@shop.example", "primary": true}}}}), 201)
		if address.UserName != "Kim@shop.example" {
			t.Errorf("who signs in by e-mail: %+v", address)
		}
		if want := []string{"Kim@shop.example", "home@shop.example"}; !slices.Equal(address.SignInNames, want) {
			t.Errorf("who signs in by e-mail may do so by %q, want %q", address.SignInNames, want)
		}
		if r := first(address, "home@shop.example"); r.Status != 200 {
			t.Errorf("signing in by e-mail: %d %s", r.Status, r.Body)
		}
		name := must[account](t, w.account(t, by.Token, object{"signIn": "userName",
			"user": object{"userName": "lou", "emails": []object{{"value": "lou@shop.example"}}}}), 201)
		if r := first(name, "lou@shop.example"); r.Status != 401 {
			t.Errorf("who signs in by user name signs in by e-mail: %d %s", r.Status, r.Body)
		}
		if r := first(name, "lou"); r.Status != 200 {
			t.Errorf("signing in by user name: %d %s", r.Status, r.Body)
		}
		if list := w.get(t, "/admin/v1/users/"+name.ID+"/roles", by.Token); list.Body != `{"holdings":[]}` {
			t.Errorf("the roles of a new customer: %s", list.Body)
		}
		blocked := must[account](t, w.account(t, by.Token, object{"user": object{"userName": "max", "active": false}}), 201)
		if blocked.Active || blocked.Password == "" {
			t.Errorf("a blocked customer: %+v", blocked)
		}
		if r := first(blocked, "max"); r.Status != 401 {
			t.Errorf("a blocked customer signs in: %d %s", r.Status, r.Body)
		}
		patch := patching(`{"op":"replace","path":"active","value":true}`)
		if r := w.send(t, "PATCH", blocked.Location, patch, "Authorization", "Bearer "+by.Token, "Content-Type", "application/scim+json"); r.Status != 200 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		if r := first(blocked, "max"); r.Status != 200 {
			t.Errorf("a customer who is not blocked any more: %d %s", r.Status, r.Body)
		}
		none := must[account](t, w.account(t, by.Token, object{"password": "none", "user": object{"userName": "nil"}}), 201)
		if none.Password != "" || !none.Expires.IsZero() {
			t.Errorf("an account without a password: %+v", none)
		}
	})
}

// TestCustomersFound: C4. Customers are found by what they are called, by address and by
// whether they are blocked; several that were selected are deleted in one request, and
// each comes back or is removed for good.
func TestCustomersFound(t *testing.T) {
	shows(t, "C4")
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "una", auth.UserAdministrator))
		ids := map[string]string{}
		for _, c := range []object{
			{"userName": "kim", "displayName": "Kim Åkesson", "emails": []object{{"value": "kim@shop.example"}}},
			{"userName": "lou", "displayName": "Lou Åkesson", "emails": []object{{"value": "lou@shop.example"}}, "active": false},
			{"userName": "max", "displayName": "Max Berg", "emails": []object{{"value": "max@other.example"}}},
		} {
			made := must[account](t, w.account(t, by.Token, object{"user": c}), 201)
			ids[made.UserName] = made.ID
		}
		found := func(filter string) (names []string) {
			t.Helper()
			for _, u := range must[struct{ Resources []user }](t, w.scim(t, by.Token, "GET", "/Users?sortBy=userName&filter="+url.QueryEscape(filter), ""), 200).Resources {
				names = append(names, u.UserName)
			}
			return names
		}
		for filter, want := range map[string][]string{
			`displayName co "ÅKESSON"`:                                {"kim", "lou"},
			`emails.value ew "@shop.example" and active eq true`:      {"kim"},
			`userName eq "max" or emails.value eq "kim@shop.example"`: {"kim", "max"},
			`active eq false`:         {"lou"},
			`displayName co "nobody"`: nil,
		} {
			if got := found(filter); !slices.Equal(got, want) {
				t.Errorf("%s finds %q, want %q", filter, got, want)
			}
		}
		bulk := fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[{"method":"DELETE","path":"/Users/%s"},{"method":"DELETE","path":"/Users/%s"}]}`, ids["kim"], ids["lou"])
		if r := w.scim(t, by.Token, "POST", "/Bulk", bulk); r.Status != 200 || strings.Count(r.Body, `"204"`) != 2 {
			t.Errorf("two at once: %d %s", r.Status, r.Body)
		}
		if got := found(`emails.value pr`); !slices.Equal(got, []string{"max"}) {
			t.Errorf("left: %q", got)
		}
		must[any](t, w.post(t, "/admin/v1/deleted-users/"+ids["kim"]+"/restore", by.Token, object{}), 200)
		w.advance(time.Second)
		boss := w.mfa(t, w.person(t, "gus", auth.GlobalAdministrator))
		must[any](t, w.delete(t, "/admin/v1/deleted-users/"+ids["lou"], boss.Token), 204)
		if got := found(`emails.value pr`); !slices.Equal(got, []string{"kim", "max"}) {
			t.Errorf("in the end: %q", got)
		}
		must[any](t, w.get(t, "/admin/v1/deleted-users/"+ids["lou"], boss.Token), 404)
	})
}

// TestAccountRefused: what is wrong is named in the words of the request, and nothing is
// made.
func TestAccountRefused(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "gus", auth.GlobalAdministrator))
		user := object{"userName": "una"}
		before := w.everything(t, "default")
		for _, c := range []struct {
			name   string
			body   object
			status int
			want   string
		}{
			{"no user", object{}, 400, "user: is required"},
			{"a user that is none", object{"user": 7}, 400, "user: expected an object"},
			{"no user name", object{"user": object{"title": "x"}}, 400, "userName: is required"},
			{"an unknown member", object{"user": user, "blocked": true}, 400, "blocked"},
			{"a password of the giver's own", object{"user": object{"userName": "una", "password": goodPassword}}, 403, "people choose their own"},
			{"another password", object{"user": user, "password": goodPassword}, 400, "password: expected generate or none"},
			{"another way to sign in", object{"user": user, "signIn": "phone"}, 400, "signIn: expected userName or email"},
			{"no address", object{"user": user, "signIn": "email"}, 400, "user.emails: expected an address to sign in by"},
			{"said twice", object{"user": object{"userName": "una", schemas.RosterUserURI: object{"signinby": "email"}}, "signIn": "userName"}, 400, "signIn: user says it too"},
			{"no country", object{"user": object{"userName": "una", schemas.RosterUserURI: object{"usageLocation": "xx"}}}, 400, "usageLocation: expected the two letters"},
			{"a taken name", object{"user": object{"userName": "GUS"}}, 409, "userName is already in use"},
			{"an unknown manager", object{"user": object{"userName": "una", schemas.EnterpriseUserURI: object{"manager": object{"value": nobody}}}}, 400, "manager.value: no user has this id"},
			{"an unknown group", object{"user": user, "groups": []string{nobody}}, 400, "groups[0]: no group has this id"},
			{"an unknown role", object{"user": user, "roles": []object{{"value": nobody}}}, 400, "roles[0].value: no role has this id"},
			{"another kind", object{"user": user, "roles": []object{{"value": auth.Auditor, "kind": "x"}}}, 400, "roles[0].kind: expected active or eligible"},
			{"a role that has ended", object{"user": user, "roles": []object{{"value": auth.Auditor, "startDate": "2030-01-02T00:00:00Z", "endDate": "2030-01-01T00:00:00Z"}}}, 400, "roles[0].endDate"},
		} {
			r := w.account(t, by.Token, c.body)
			var p struct{ Type, Detail string }
			_ = json.Unmarshal([]byte(r.Body), &p)
			if r.Status != c.status || !strings.Contains(p.Detail, c.want) || strings.Contains(r.Body, goodPassword) {
				t.Errorf("%s: %d %s, want %d with %s", c.name, r.Status, r.Body, c.status, c.want)
			}
			if want := map[int]string{400: "invalid-request", 403: "", 409: "conflict"}[c.status]; !strings.HasSuffix(p.Type, want) {
				t.Errorf("%s: the type is %s", c.name, p.Type)
			}
		}
		if after := w.everything(t, "default"); !slices.Equal(before, after) {
			t.Errorf("something was made: %d records, %d before", len(after), len(before))
		}
	})
}

// TestWhoHelpsWhom: B2, C3 and the rest of what is done for others. Each by the roles
// entitled to it, and never by a lower role to a higher one.
func TestWhoHelpsWhom(t *testing.T) {
	shows(t, "B2", "B8", "C3")
	onStores(t, func(t *testing.T, w *world) {
		roles := map[string]string{"user": "", "helpdesk": auth.HelpdeskAdministrator, "user administrator": auth.UserAdministrator,
			"privileged role administrator": auth.PrivilegedRoleAdministrator, "global administrator": auth.GlobalAdministrator}
		names := slices.Sorted(maps.Keys(roles))
		callers, targets := map[string]*person{}, map[string]*person{}
		for _, name := range names {
			var held []string
			if roles[name] != "" {
				held = append(held, roles[name])
			}
			callers[name], targets[name] = w.person(t, name+" who helps", held...), w.person(t, name+" who is helped", held...)
			w.enrol(t, callers[name])
		}
		// Who may help whom with what; nobody else.
		customers, everyone := []string{"user"}, names
		acts := []struct {
			method, path string
			by           map[string][]string
		}{
			{"POST", "/password-reset", map[string][]string{"helpdesk": customers, "user administrator": customers, "global administrator": everyone}},
			{"POST", "/mfa-reset", map[string][]string{"global administrator": everyone}},
			{"DELETE", "/sessions", map[string][]string{"helpdesk": customers, "user administrator": customers, "global administrator": everyone}},
		}
		for _, caller := range names {
			token := w.mfa(t, callers[caller]).Token
			for _, act := range acts {
				for _, target := range names {
					r := w.send(t, act.method, "/admin/v1/users/"+targets[target].id+act.path, "", "Authorization", "Bearer "+token)
					ok := r.Status/100 == 2
					if want := slices.Contains(act.by[caller], target); ok != want || !ok && r.Status != 403 {
						t.Errorf("%s %s of a %s by a %s: %d %s, want it: %t", act.method, act.path, target, caller, r.Status, r.Body, want)
					}
				}
			}
		}
	})
}

// TestTemporaryForADay: C3. Unless the policy says otherwise a temporary password is good
// for a day, whether it came with the account or of a reset, and not for a second longer.
func TestTemporaryForADay(t *testing.T) {
	shows(t, "C3")
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "gus", auth.GlobalAdministrator))
		handed := map[string]string{}
		begun := w.now()
		for _, name := range []string{"new in time", "new but late"} {
			handed[name] = must[account](t, w.account(t, by.Token, object{"user": object{"userName": name}}), 201).Password
		}
		for _, name := range []string{"reset in time", "reset but late"} {
			handed[name] = must[account](t, w.post(t, "/admin/v1/users/"+w.person(t, name).id+"/password-reset", by.Token, nil), 200).Password
		}
		for _, c := range []struct {
			after time.Duration
			names []string
			want  int
		}{
			{24*time.Hour - time.Second, []string{"new in time", "reset in time"}, 200},
			{24 * time.Hour, []string{"new but late", "reset but late"}, 401},
		} {
			w.clock.Store(begun.Add(c.after).UnixMilli())
			for _, name := range c.names {
				if r := w.post(t, "/auth/v1/sign-in", "", object{"name": name, "password": handed[name]}); r.Status != c.want {
					t.Errorf("%s, after %s: %d %s, want %d", name, c.after, r.Status, r.Body, c.want)
				}
			}
		}
	})
}

// TestTemporaryForEver: a policy of never is honoured: the password works however late,
// once, and has to be changed then.
func TestTemporaryForEver(t *testing.T) {
	shows(t, "C3")
	policy := auth.DefaultPolicy()
	policy.TemporaryFor = 0
	onStoresWith(t, testserver.Options{Policy: &policy}, func(t *testing.T, w *world) {
		admin := w.person(t, "gus", auth.GlobalAdministrator)
		by := w.mfa(t, admin)
		p := w.person(t, "bo")
		reset := w.post(t, "/admin/v1/users/"+p.id+"/password-reset", by.Token, nil)
		p.password = must[account](t, reset, 200).Password
		made := w.account(t, by.Token, object{"user": object{"userName": "kim"}})
		if strings.Contains(reset.Body, "expires") || strings.Contains(made.Body, "expires") {
			t.Errorf("a password for ever expires: %s, %s", reset.Body, made.Body)
		}
		q := &person{name: "kim", password: must[account](t, made, 201).Password}
		w.advance(5 * 365 * 24 * time.Hour)
		for _, p := range []*person{p, q} {
			in := w.signIn(t, p)
			if in.Level != "limited" {
				t.Errorf("after years: %+v", in)
			}
			if r := w.post(t, "/auth/v1/sign-in", "", object{"name": p.name, "password": p.password}); r.Status != 401 {
				t.Errorf("a second time: %d", r.Status)
			}
			if next := must[signedIn](t, w.post(t, "/auth/v1/password", in.Token, object{"new": "a much better one, really"}), 200); next.Level != "password" {
				t.Errorf("after the change: %+v", next)
			}
		}
	})
}

// TestSessionsOfNobody: who does not exist has no list of sessions, empty or not.
func TestSessionsOfNobody(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "gus", auth.GlobalAdministrator))
		if r := w.get(t, "/admin/v1/users/"+nobody+"/sessions", by.Token); r.Status != 404 {
			t.Errorf("%d %s", r.Status, r.Body)
		}
		if r := w.get(t, "/admin/v1/users/"+w.person(t, "bo").id+"/sessions", by.Token); r.Status != 200 {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
}

// TestPaddedNames: white space at the ends of a user name that somebody typed or pasted keeps
// nobody out, and neither does that of a name that came over SCIM, which is kept.
func TestPaddedNames(t *testing.T) {
	onStoresWith(t, testserver.Options{NoMail: true}, func(t *testing.T, w *world) {
		operator := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
		link, err := w.People.NewFirstSetup(t.Context(), operator)
		if err != nil {
			t.Fatal(err)
		}
		in := func(name, password string, want int) {
			t.Helper()
			w.advance(time.Minute)
			if r := w.post(t, "/auth/v1/sign-in", "", object{"name": name, "password": password}); r.Status != want {
				t.Errorf("signing in as %q: %d %s, want %d", name, r.Status, r.Body, want)
			}
		}
		must[object](t, w.post(t, "/auth/v1/setup", "", object{"link": link.Reveal(), "userName": " first ", "password": goodPassword}), 200)
		in("first", goodPassword, 200)
		gus := w.person(t, "gus", auth.GlobalAdministrator)
		by := w.mfa(t, gus)

		kim := must[account](t, w.account(t, by.Token, object{"user": object{"username": "\tkim "}}), 201)
		if kim.UserName != "kim" || !slices.Equal(kim.SignInNames, []string{"kim"}) {
			t.Errorf("the new account: %+v", kim)
		}
		in("kim", kim.Password, 200)
		if r := w.account(t, by.Token, object{"user": object{"userName": " "}}); r.Status != 400 {
			t.Errorf("a blank name: %d %s", r.Status, r.Body)
		}
		mail := must[account](t, w.account(t, by.Token, object{"signIn": "email", "user": object{"emails": []object{{"value": " lou@shop.example "}}}}), 201)
		if !slices.Equal(mail.SignInNames, []string{"lou@shop.example"}) {
			t.Errorf("who signs in by e-mail: %+v", mail)
		}
		in(" lou@shop.example ", mail.Password, 200)

		invited := w.invite(t, by.Token, object{"schemas": []string{schemas.InvitationURI}, "email": "bea@out.example"})
		bea := must[struct {
			UserName string
			Session  *signedIn
		}](t, w.post(t, "/auth/v1/invitations/accept", "", object{"link": linkSecret(t, invited), "userName": " bea\u00a0", "password": goodPassword}), 200)
		if bea.UserName != "bea" || bea.Session == nil {
			t.Errorf("who accepted an invitation: %+v", bea)
		}
		in("bea", goodPassword, 200)

		olaf := must[struct{ ID, UserName string }](t, w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":" olaf "}`, schemas.UserURI)), 201)
		temporary := must[struct{ Password string }](t, w.post(t, "/admin/v1/users/"+olaf.ID+"/password-reset", w.fresh(t, gus), nil), 200)
		in(olaf.UserName, temporary.Password, 200)
	})
}
