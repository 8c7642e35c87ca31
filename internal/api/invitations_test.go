package api_test

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

type invited struct {
	ID, Link string
	Expires  time.Time
}

type accepted struct {
	User, UserName string
	Session        *signedIn
}

// linkSecret is what follows the number sign in a link.
func linkSecret(t *testing.T, i invited) string {
	t.Helper()
	u, err := url.Parse(i.Link)
	if err != nil || u.Path != "/invitation" || !strings.HasPrefix(u.Fragment, "rosterinvitation_") {
		t.Fatalf("the link is %s, %v", i.Link, err)
	}
	return u.Fragment
}

func (w *world) invite(t *testing.T, token string, invitation object) invited {
	t.Helper()
	return must[invited](t, w.post(t, "/admin/v1/invitations", token, object{"invitation": invitation}), 201)
}

// TestInvitation follows somebody from the invitation to their first sign-in (B3).
func TestInvitation(t *testing.T) {
	shows(t, "B3")
	onStoresWith(t, testserver.Options{NoMail: true}, func(t *testing.T, w *world) {
		admin := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator)).Token
		status := func(id string) (status, reason any) {
			t.Helper()
			o := must[object](t, w.get(t, "/scim/v2/Invitations/"+id, admin), 200)
			return o["status"], o["statusReason"]
		}
		try := func(link string, more object) testserver.Response {
			t.Helper()
			w.advance(time.Minute)
			body := object{"link": link, "password": goodPassword}
			for k, v := range more {
				body[k] = v
			}
			return w.post(t, "/auth/v1/invitations/accept", "", body)
		}

		// A customer.
		i := w.invite(t, admin, object{"schemas": []string{schemas.InvitationURI}, "email": "ada@out.example", "name": object{"givenName": "Ada"}, "message": "Welcome"})
		link := linkSecret(t, i)
		if !i.Expires.Equal(w.now().Add(auth.DefaultInvitationLifetime)) {
			t.Errorf("the link is good until %s", i.Expires)
		}
		look := must[object](t, w.post(t, "/auth/v1/invitations/look", "", object{"link": link}), 200)
		if look["email"] != "ada@out.example" || look["inviter"] != "admin" || look["organisation"] == "" || look["userName"] != nil || look["name"].(object)["givenName"] != "Ada" {
			t.Errorf("the invitee sees %v", look)
		}
		for password, title := range map[string]string{"ada@out.example1": "password-refused", "short": "password-refused", "": ""} {
			if r := try(link, object{"password": password, "userName": "ada"}); r.Status != 400 || !strings.Contains(r.Body, title) {
				t.Errorf("with the password %q: %d %s", password, r.Status, r.Body)
			}
		}
		if r := try(link, object{"userName": "admin"}); r.Status != 409 || strings.Contains(r.Body, `admin"`) {
			t.Errorf("with a user name that is taken: %d %s", r.Status, r.Body)
		}
		a := must[accepted](t, try(link, object{"userName": "ada", "name": object{"givenName": "Augusta"}}), 200)
		if a.Session == nil || a.Session.Level != "password" || len(a.Session.Missing) != 0 || a.Session.User != a.User || a.UserName != "ada" {
			t.Fatalf("accepted: %+v", a)
		}
		must[object](t, w.get(t, "/auth/v1/sessions", a.Session.Token), 200)
		user := must[object](t, w.get(t, "/scim/v2/Users/"+a.User, admin), 200)
		if user["name"].(object)["givenName"] != "Augusta" || user["emails"].([]any)[0].(object)["value"] != "ada@out.example" {
			t.Errorf("the account is %v", user)
		}
		if s, _ := status(i.ID); s != "accepted" {
			t.Errorf("the invitation is %v", s)
		}

		// An administrator, with all that the account is to have: nothing but enrolment is
		// open before that.
		staff := w.group(t, "staff")
		if r := w.post(t, "/admin/v1/invitations", admin, object{"invitation": object{"email": "adm@out.example", "roles": []object{{"value": auth.Auditor, "endDate": time.Time{}}}}}); r.Status != 400 || !strings.Contains(r.Body, "roles[0].endDate") {
			t.Errorf("a role until the zero time, which is not for good: %d %s", r.Status, r.Body)
		}
		if r := w.post(t, "/admin/v1/invitations", admin, object{"invitation": object{"email": "adm@out.example", "roles": []object{{"value": auth.Auditor, "approvalRequired": true}}}}); r.Status != 400 || !strings.Contains(r.Body, "roles[0].approvalRequired") {
			t.Errorf("approval of what is not made active: %d %s", r.Status, r.Body)
		}
		i = w.invite(t, admin, object{"email": "adm@out.example", "userName": "adm", "title": "Head of IT",
			schemas.EnterpriseUserURI: object{"department": "IT"}, schemas.RosterUserURI: object{"usageLocation": "se"},
			"groups": []object{{"value": staff}},
			"roles":  []object{{"value": auth.UserAdministrator, "endDate": w.now().Add(240 * time.Hour)}, {"value": auth.Auditor, "kind": "eligible", "approvalRequired": true}}})
		if r := try(linkSecret(t, i), object{"password": "elevenchars"}); r.Status != 400 {
			t.Errorf("a password that is enough for others: %d %s", r.Status, r.Body)
		}
		a = must[accepted](t, try(linkSecret(t, i), nil), 200)
		if a.Session == nil || a.Session.Level != "limited" || len(a.Session.Missing) != 1 || a.Session.Missing[0] != "enrolment" {
			t.Fatalf("accepted by an administrator: %+v", a.Session)
		}
		if r := w.get(t, "/scim/v2/Users", a.Session.Token); r.Status != 403 {
			t.Errorf("before the enrolment: %d", r.Status)
		}
		adm := &person{id: a.User, name: "adm", password: goodPassword}
		in := w.enrol(t, adm).Token
		made := w.get(t, "/scim/v2/Users/"+a.User, in)
		for _, text := range []string{`"title":"Head of IT"`, `"department":"IT"`, `"usageLocation":"SE"`, `"value":"` + staff + `"`} {
			if made.Status != 200 || !strings.Contains(made.Body, text) {
				t.Errorf("after the enrolment: %d %s, without %s", made.Status, made.Body, text)
			}
		}
		kinds := map[string]bool{}
		for _, h := range must[struct{ Holdings []holding }](t, w.get(t, "/auth/v1/roles", in), 200).Holdings {
			kinds[h.Role] = h.Eligible
		}
		if diff := cmp.Diff(map[string]bool{auth.UserAdministrator: false, auth.Auditor: true}, kinds); diff != "" {
			t.Errorf("the roles, and whether they are eligible (-want +got):\n%s", diff)
		}
		query := url.QueryEscape(fmt.Sprintf(`principal.value eq %q and approvalRequired eq true`, a.User))
		if r := w.scim(t, admin, "GET", "/RoleAssignments?filter="+query, ""); !strings.Contains(r.Body, `"totalResults":1`) || !strings.Contains(r.Body, auth.Auditor) {
			t.Errorf("roles that are made active with approval: %d %s", r.Status, r.Body)
		}

		// Blocked until somebody unblocks it.
		i = w.invite(t, admin, object{"email": "blocked@out.example", "active": false})
		a = must[accepted](t, try(linkSecret(t, i), nil), 200)
		if a.Session != nil || a.UserName != "blocked@out.example" {
			t.Errorf("accepted, blocked: %+v", a)
		}
		blocked := &person{id: a.User, name: "blocked@out.example", password: goodPassword}
		w.advance(time.Minute)
		if r := w.post(t, "/auth/v1/sign-in", "", object{"name": blocked.name, "password": goodPassword}); r.Status != 401 {
			t.Errorf("blocked: %d", r.Status)
		}
		if r := w.Do(t, "PATCH", "/Users/"+a.User, patching(`{"op":"replace","path":"active","value":true}`)); r.Status != 200 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		w.signIn(t, blocked)

		// Whatever is wrong with a link is answered alike.
		admin = w.mfa(t, w.person(t, "admin2", auth.GlobalAdministrator)).Token
		revoked := w.invite(t, admin, object{"email": "revoked@out.example"})
		former := w.invite(t, admin, object{"email": "former@out.example"})
		expired := w.invite(t, admin, object{"email": "expired@out.example"})
		if r := w.post(t, "/admin/v1/invitations/"+revoked.ID+"/revoke", admin, nil); r.Status != 204 {
			t.Errorf("revoke: %d %s", r.Status, r.Body)
		}
		if s, why := status(revoked.ID); s != "revoked" || why != "withdrawn" {
			t.Errorf("it is %v, %v", s, why)
		}
		for _, what := range []string{"resend", "revoke"} {
			if p := must[struct{ Type string }](t, w.post(t, "/admin/v1/invitations/"+revoked.ID+"/"+what, admin, nil), 409); p.Type != "urn:roster:problem:conflict" {
				t.Errorf("%s of a revoked invitation: a problem of type %s", what, p.Type)
			}
		}
		again := must[invited](t, w.post(t, "/admin/v1/invitations/"+former.ID+"/resend", admin, nil), 200)
		if again.ID != former.ID || again.Link == former.Link {
			t.Errorf("sent again: %+v", again)
		}
		want := try("rosterinvitation_nonsense", nil)
		for what, i := range map[string]invited{"revoked": revoked, "former": former} {
			if r := try(linkSecret(t, i), nil); r.Status != 401 || r.Body != want.Body {
				t.Errorf("%s: %d %s, want %s", what, r.Status, r.Body, want.Body)
			}
		}
		w.advance(auth.DefaultInvitationLifetime)
		for _, path := range []string{"look", "accept"} {
			r := w.post(t, "/auth/v1/invitations/"+path, "", object{"link": linkSecret(t, expired)})
			if path == "accept" {
				r = try(linkSecret(t, expired), nil)
			}
			if r.Status != 401 || r.Body != want.Body {
				t.Errorf("expired, %s: %d %s", path, r.Status, r.Body)
			}
		}
		r := w.Do(t, "GET", "/Invitations/"+expired.ID, "")
		fresh := r.Header.Get("ETag")
		if !strings.Contains(r.Body, `"status":"expired"`) {
			t.Errorf("expired: %s", r.Body)
		}
		if r := w.Do(t, "GET", "/Invitations/"+expired.ID, "", "If-None-Match", `W/"1"`); r.Status != 200 || fresh == `W/"1"` {
			t.Errorf("the version is %s, as when it was pending: %d", fresh, r.Status)
		}
		if r := w.Do(t, "GET", "/Invitations?filter="+url.QueryEscape(`status eq "expired" and email sw "expired"`), ""); !strings.Contains(r.Body, `"totalResults":1,`) {
			t.Errorf("a list of what has expired: %s", r.Body)
		}
		// A client lists them and makes none where the link could reach nobody.
		if r := w.Do(t, "POST", "/Invitations", `{"schemas":["`+schemas.InvitationURI+`"],"email":"c@out.example"}`); r.Status != 501 || strings.Contains(r.Body, "rosterinvitation_") {
			t.Errorf("by a client: %d %s", r.Status, r.Body)
		}
	})
}

// TestInvitationByMail: where mail is set up, the link goes to the invitee and nowhere
// else, in their language, and a client can invite; sent again, the former link ends.
func TestInvitationByMail(t *testing.T) {
	shows(t, "B3")
	onStores(t, func(t *testing.T, w *world) {
		inviter := w.person(t, "admin", auth.GlobalAdministrator)
		admin := w.mfa(t, inviter).Token
		must[object](t, w.scim(t, admin, "PATCH", "/Users/"+inviter.id, patching(`{"op":"add","path":"displayName","value":"Åsa Öberg"}`)), 200)
		i := w.invite(t, admin, object{"schemas": []string{schemas.InvitationURI}, "email": "ada@out.example", "message": "Välkommen ombord", "preferredLanguage": "sv-SE"})
		if i.Link != "" {
			t.Error("the administrator is shown the link")
		}
		must[any](t, w.post(t, "/admin/v1/invitations/"+i.ID+"/resend", admin, nil), 200)
		client := w.Client(t, "hr", "", "invitations")
		r := w.scim(t, client, "POST", "/Invitations", `{"schemas":["`+schemas.InvitationURI+`"],"email":"bo@out.example"}`)
		if r.Status != 201 || strings.Contains(r.Body, "#") {
			t.Errorf("a client invites: %d %s", r.Status, r.Body)
		}
		// An address that no mail can go to is the request's fault, and leaves nothing.
		r = w.scim(t, client, "POST", "/Invitations", `{"schemas":["`+schemas.InvitationURI+`"],"email":"a\u200db@out.example"}`)
		if r.Status != 400 || !strings.Contains(r.Body, `"detail":"email`) {
			t.Errorf("an address with an invisible character: %d %s", r.Status, r.Body)
		}
		if r := w.scim(t, client, "GET", "/Invitations?count=0", ""); !strings.Contains(r.Body, `"totalResults":2,`) {
			t.Errorf("left: %s", r.Body)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		links := map[string][]string{}
		for _, l := range w.Outbox.Letters(ctx, 3) {
			m := regexp.MustCompile(regexp.QuoteMeta(w.Root) + `/invitation#(\S+)`).FindStringSubmatch(l.Text)
			if m == nil {
				t.Fatalf("a letter without a link:\n%s", l.Text)
			}
			links[l.To] = append(links[l.To], m[1])
			switch {
			case l.To == "bo@out.example" && (l.Language != "en" || !strings.Contains(l.Subject, "invited you")):
				t.Errorf("the letter to somebody whose language is not known: %s, %s", l.Language, l.Subject)
			case l.To == "ada@out.example" && (l.Language != "sv" || !strings.Contains(l.Subject, "har bjudit in dig") || !strings.Contains(l.HTML, `lang="sv"`)):
				t.Errorf("the letter to somebody who reads Swedish: %s, %s\n%s", l.Language, l.Subject, l.HTML)
			case l.To == "ada@out.example" && (!strings.Contains(l.Text, "Välkommen ombord") || !strings.Contains(l.Text, "Åsa Öberg har bjudit in dig") || strings.Contains(l.Text, inviter.name)):
				t.Errorf("the letter:\n%s", l.Text)
			}
		}
		if len(links["ada@out.example"]) != 2 || len(links["bo@out.example"]) != 1 {
			t.Fatalf("letters went to %v", links)
		}
		good := 0
		for _, link := range links["ada@out.example"] {
			w.advance(time.Minute)
			if r := w.post(t, "/auth/v1/invitations/accept", "", object{"link": link, "password": goodPassword, "userName": "ada"}); r.Status == 200 {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%d of two links were good", good)
		}
	})
}

// TestInvitationRace: of 64 who accept at once one has an account and a session, and the
// others have nothing.
func TestInvitationRace(t *testing.T) {
	shows(t, "B3")
	onStoresWith(t, testserver.Options{NoMail: true, Server: trusting}, func(t *testing.T, w *world) {
		admin := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator)).Token
		link := linkSecret(t, w.invite(t, admin, object{"email": "race@out.example", "groups": []object{{"value": w.group(t, "staff")}}}))
		var (
			all      sync.WaitGroup
			mu       sync.Mutex
			statuses = map[int]int{}
		)
		for i := range 64 {
			all.Go(func() {
				body := fmt.Sprintf(`{"link":%q,"password":%q,"userName":"racer%d"}`, link, goodPassword, i)
				r, err := w.Page(t.Context(), "POST", "/auth/v1/invitations/accept", body, "Content-Type", "application/json", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
				mu.Lock()
				defer mu.Unlock()
				if statuses[r.Status]++; err != nil || r.Status != 200 && strings.Contains(r.Body, "rostersession_") {
					t.Errorf("%v, %d %s", err, r.Status, r.Body)
				}
			})
		}
		all.Wait()
		if statuses[200] != 1 || statuses[401]+statuses[409]+statuses[503] != 63 {
			t.Errorf("the answers were %v, want 200 once", statuses)
		}
		if r := w.Do(t, "GET", "/Users?count=0&filter="+url.QueryEscape(`userName sw "racer" or emails.value eq "race@out.example"`), ""); !strings.Contains(r.Body, `"totalResults":1,`) {
			t.Errorf("accounts: %s", r.Body)
		}
	})
}
