package api_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
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
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := begin(t, testserver.Options{Open: open})
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

			// An administrator: nothing but enrolment is open before that.
			i = w.invite(t, admin, object{"email": "adm@out.example", "userName": "adm", "roles": []object{{"value": auth.UserAdministrator}}})
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
			if r := w.get(t, "/scim/v2/Users", w.enrol(t, adm).Token); r.Status != 200 {
				t.Errorf("after the enrolment: %d %s", r.Status, r.Body)
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
			if r := w.Do(t, "PATCH", "/Users/"+a.User, `{"schemas":["`+patchURI+`"],"Operations":[{"op":"replace","path":"active","value":true}]}`); r.Status != 200 {
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
}

// TestInvitationByMail: a client invites, the link is in the mail alone, in the language
// of the invitee, and leads where this server is set up to be, whatever the request says.
func TestInvitationByMail(t *testing.T) {
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := begin(t, testserver.Options{Open: open})
			const base = "https://roster.example.com"
			w.Provider.SendInvitation = scim.MailInvitations(w.Mail, func(s auth.Secret) string { return base + "/invitation#" + s.Reveal() })
			create := func(email string) testserver.Response {
				t.Helper()
				return w.Do(t, "POST", "/Invitations", `{"schemas":["`+schemas.InvitationURI+`"],"email":"`+email+`","preferredLanguage":"sv-SE","message":"zqxmessage"}`,
					"X-Forwarded-Host", "evil.example.com")
			}
			r := create("ada@out.example")
			i := must[object](t, r, 201)
			if strings.Contains(r.Body, "rosterinvitation_") || i["status"] != "pending" || i["inviter"].(object)["display"] != "test" {
				t.Errorf("a client gets %s", r.Body)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			letters := w.Outbox.Letters(ctx, 1)
			if len(letters) != 1 || letters[0].To != "ada@out.example" || letters[0].Language != "sv" || !strings.Contains(letters[0].Text, "zqxmessage") {
				t.Fatalf("sent: %+v", letters)
			}
			_, secret, ok := strings.Cut(letters[0].Text, base+"/invitation#")
			secret = strings.Fields(secret + " ")[0]
			if !ok || strings.Contains(letters[0].Text, "evil") {
				t.Errorf("the mail reads: %s", letters[0].Text)
			}
			a := must[accepted](t, w.post(t, "/auth/v1/invitations/accept", "", object{"link": secret, "password": goodPassword}), 200)
			if a.Session == nil || a.UserName != "ada@out.example" {
				t.Errorf("accepted: %+v", a)
			}
			// Addresses that cannot be sent to are the request's fault, and leave nothing.
			if r := create(`a\u200db@out.example`); r.Status != 400 || !strings.Contains(r.Body, "email") {
				t.Errorf("an address with an invisible character: %d %s", r.Status, r.Body)
			}
			if r := w.Do(t, "GET", "/Invitations", ""); !strings.Contains(r.Body, `"totalResults":1,`) {
				t.Errorf("left: %s", r.Body)
			}
			admin := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator)).Token
			if i := w.invite(t, admin, object{"email": "bo@out.example"}); i.Link != "" {
				t.Error("with mail the administrator gets the link too")
			}
		})
	}
}
