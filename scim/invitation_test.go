package scim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// invitations is a world whose clock the test moves, and in which eve may invite.
type invitations struct {
	*world
	clock time.Time
}

func newInvitations(t *testing.T, open func(testing.TB) storage.Store) *invitations {
	t.Helper()
	w := &invitations{world: newWorld(t, open(t)), clock: time.Now().UTC().Truncate(time.Second).Add(time.Minute)}
	w.now = func() time.Time { return w.clock }
	w.assign("eve invites", auth.GuestInviter, "eve", "")
	return w
}

// onBoth runs a test on each store.
func onBoth(t *testing.T, fn func(*testing.T, *invitations)) {
	t.Helper()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, newInvitations(t, open))
		})
	}
}

// invite makes an invitation, which has to work, and returns its id and its link.
func (w *invitations) invite(by auth.Principal, email, more string) (string, auth.Secret) {
	w.t.Helper()
	r, secret, err := w.p.Invite(w.t.Context(), by, body(`{"email":"`+email+`"`+more+`}`))
	if err != nil {
		w.t.Fatalf("invite %s%s: %v", email, more, err)
	}
	if secret == "" {
		w.t.Fatal("no link was handed over")
	}
	return r.ID, secret
}

func (w *invitations) accept(secret auth.Secret, userName string) (*storage.Resource, error) {
	return w.p.Accept(w.t.Context(), secret, scim.Acceptance{UserName: userName, PasswordHash: "$argon2id$x", From: netip.MustParseAddr("192.0.2.7")})
}

// attrs reads a resource.
func (w *invitations) attrs(typ, id string) map[string]any {
	w.t.Helper()
	r, err := w.store.Get(w.t.Context(), storage.DefaultTenant, typ, id)
	if err != nil {
		w.t.Fatal(err)
	}
	attrs, err := w.typ(typ).Parse(r.Doc)
	if err != nil {
		w.t.Fatal(err)
	}
	return attrs
}

// is wants an invitation to have a status, and a reason for it.
func (w *invitations) is(what, id, status, reason string) {
	w.t.Helper()
	attrs := w.attrs("Invitation", id)
	got := fmt.Sprint(attrs["status"], " ", attrs["statusReason"])
	want := status + " " + reason
	if reason == "" {
		want = status + " <nil>"
	}
	if got != want {
		w.t.Errorf("%s: the invitation is %s, want %s", what, got, want)
	}
}

// matching returns the addresses of the invitations that a filter selects.
func (w *invitations) matching(text string) string {
	w.t.Helper()
	t := w.typ("Invitation")
	e, err := filter.Parse(text, t, filter.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	page, err := w.p.Query(w.t.Context(), operator(), t, storage.Query{Type: t.Name, Filter: e, StartIndex: 1, Count: 100, SortBy: t.Top("email")})
	if err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for {
		part, err := page.Next(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if len(part) == 0 {
			return strings.Join(list, " ")
		}
		for _, r := range part {
			attrs, err := t.Parse(r.Doc)
			if err != nil {
				w.t.Fatal(err)
			}
			list = append(list, strings.TrimSuffix(attrs["email"].(string), "@out.example"))
		}
	}
}

func (w *invitations) groupsAndRoles(groups, roles []string) string {
	list := func(ids []string) string {
		out := make([]string, len(ids))
		for i, id := range ids {
			if w.ids[id] != "" {
				id = w.ids[id]
			}
			out[i] = `{"value":"` + id + `"}`
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	return `,"groups":` + list(groups) + `,"roles":` + list(roles)
}

// TestInvitationCeiling: nobody invites to what they could not give, by whatever way it
// would come about, and what would be refused leaves nothing.
func TestInvitationCeiling(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		stale := w.session("gus")
		stale.PasscodeAt = w.clock.Add(-time.Hour)
		password := w.session("gus")
		password.Level = auth.Password
		client := func(scopes ...string) auth.Principal {
			s, err := auth.ParseScopes(scopes)
			if err != nil {
				t.Fatal(err)
			}
			return auth.Principal{Kind: auth.Client, Tenant: storage.DefaultTenant, ID: "c", Scopes: s}
		}
		gone := "00000000-0000-7000-8000-fffffffffffe"
		for i, test := range []struct {
			by            auth.Principal
			what          string
			groups, roles []string
			want          int
		}{
			{w.session("eve"), "a guest inviter, to nothing", nil, nil, 200},
			{w.session("eve"), "a guest inviter, to a business role", nil, []string{"deckhand"}, 403},
			{w.session("eve"), "a guest inviter, to a group", []string{"shore"}, nil, 403},
			{w.session("bob"), "nobody special", nil, nil, 403},
			{w.session("uma"), "a user administrator, to a business role and a group", []string{"shore", "deck"}, []string{"cook"}, 200},
			{w.session("uma"), "a user administrator, to an administrative role", nil, []string{auth.UserAdministrator}, 403},
			{w.session("uma"), "a user administrator, to a group with such a role", []string{"admins"}, nil, 403},
			{w.session("uma"), "a user administrator, to a group in a group with such a role", []string{"mid"}, nil, 403},
			{w.session("gus"), "a global administrator", []string{"mid"}, []string{auth.GlobalAdministrator}, 200},
			{stale, "a global administrator with an old passcode", nil, []string{auth.GlobalAdministrator}, 401},
			{stale, "a global administrator with an old passcode, to a business role", nil, []string{"cook"}, 200},
			{password, "a global administrator after the password", nil, nil, 403},
			{w.session("gus"), "to a group that is not there", []string{gone}, nil, 400},
			{w.session("gus"), "to a role that is not there", nil, []string{gone}, 400},
			{hr(t), "a client, to its own role", []string{"deck"}, []string{"deckhand"}, 200},
			{hr(t), "a client, to another role", nil, []string{"cook"}, 403},
			{hr(t), "a client, to an administrative role that its token names", nil, []string{"harbour"}, 403},
			{hr(t), "a client, to a group with such a role", []string{"top"}, nil, 403},
			{client("users", "groups", "roles"), "a client without the scope", nil, nil, 403},
			{client("invitations:read"), "a client that may read", nil, nil, 403},
			{client("invitations"), "a client without the scope of groups", []string{"shore"}, nil, 403},
			{client("invitations", "roles:assign:deckhand"), "a client without the scope of roles", nil, []string{"deckhand"}, 403},
			{client("invitations"), "a client with the scope", nil, nil, 200},
			{auth.Principal{}, "nobody", nil, nil, 403},
		} {
			email := fmt.Sprintf("i%d@out.example", i)
			_, secret, err := w.p.Invite(t.Context(), test.by, body(`{"email":"`+email+`"`+w.groupsAndRoles(test.groups, test.roles)+`}`))
			if status(err) != test.want || (secret != "") != (err == nil) && test.want == 200 {
				t.Errorf("%s: %d %v, want %d", test.what, status(err), err, test.want)
			}
			there := w.matching(`email eq "`+email+`"`) != ""
			if there != (test.want == 200) {
				t.Errorf("%s: there is an invitation: %t", test.what, there)
			}
		}
		// No secret, however it is called, is in a resource or an item in the clear.
		_, secret := w.invite(w.session("gus"), "secret@out.example", "")
		for r, err := range w.store.Dump(t.Context(), storage.DefaultTenant) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(fmt.Sprintf("%+v", r), secret.Reveal()) {
				t.Errorf("the link is in %T", r)
			}
		}
	})
}

// TestInvitationByClient: a client never gets the link: without mail it cannot invite,
// and with mail the link is in the mail alone.
func TestInvitationByClient(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		create := func(email string) error {
			_, err := w.post(hr(t), "Invitation", `{"email":"`+email+`","message":"Come","preferredLanguage":"sv"}`)
			return err
		}
		if err := create("a@out.example"); status(err) != 501 {
			t.Errorf("without mail: %v", err)
		}
		var sent []scim.InvitationMail
		fail := errors.New("the queue is full")
		w.p.SendInvitation = func(_ storage.ItemWriter, tenant storage.TenantID, m scim.InvitationMail, now time.Time) error {
			if m.To == "full@out.example" {
				return fail
			}
			if tenant != storage.DefaultTenant || !now.Equal(w.clock) {
				t.Errorf("the mail is of %s at %s", tenant, now)
			}
			sent = append(sent[:0], m) // the write may run again
			return nil
		}
		if err := create("full@out.example"); !errors.Is(err, fail) || w.matching(`email co "full"`) != "" {
			t.Errorf("with a mail that cannot be queued: %v", err)
		}
		if err := create("a@out.example"); err != nil || len(sent) != 1 {
			t.Fatalf("with mail: %v, %d mails", err, len(sent))
		}
		m := sent[0]
		if _, i, err := auth.FindInvitation(t.Context(), w.store, m.Secret, w.clock); err != nil || i.ID == "" {
			t.Errorf("the link in the mail: %v", err)
		}
		m.Secret = ""
		want := scim.InvitationMail{To: "a@out.example", Language: "sv", Organisation: m.Organisation, Inviter: "hr", Message: "Come", Expires: w.clock.Add(auth.DefaultInvitationLifetime)}
		if diff := cmp.Diff(want, m); diff != "" || m.Organisation == "" {
			t.Error(diff)
		}
		if _, secret, err := w.p.Invite(t.Context(), w.session("gus"), body(`{"email":"b@out.example"}`)); err != nil || secret != "" {
			t.Errorf("with mail the inviter gets a link too, %v", err)
		}
	})
}

// TestAcceptance: the account has everything that was promised, and the address that
// the mail went to, in one step that the audit trail tells of.
func TestAcceptance(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		id, secret := w.invite(w.session("gus"), "Ada@out.example", `,"name":{"givenName":"Ada","familyName":"L"},"title":"Countess","preferredLanguage":"sv","active":false,
			"`+schemas.EnterpriseUserURI+`":{"department":"Engines","manager":{"value":"`+w.ids["bob"]+`"}},
			"`+schemas.RosterUserURI+`":{"usageLocation":"gb","signInBy":"email"},
			"groups":[{"value":"`+w.ids["shore"]+`"},{"value":"`+w.ids["admins"]+`"}],
			"roles":[{"value":"`+w.ids["cook"]+`","endDate":"2999-01-01T00:00:00Z"},{"value":"`+auth.GlobalAdministrator+`","kind":"eligible"},{"value":"`+w.ids["harbour"]+`"}]`)
		i, err := w.p.Invited(t.Context(), secret)
		if err != nil || i.Email != "Ada@out.example" || i.Inviter != "gus" || i.GivenName != "Ada" || i.UserName != "" || !i.Administrative || i.Active {
			t.Fatalf("the invitee sees %+v, %v", i, err)
		}
		user, err := w.p.Accept(t.Context(), secret, scim.Acceptance{UserName: "ada", GivenName: "Augusta", FamilyName: "King", PasswordHash: "$argon2id$x"})
		if err != nil {
			t.Fatal(err)
		}
		got := w.attrs("User", user.ID)
		delete(got, "id")
		want := map[string]any{"schemas": []any{schemas.UserURI, schemas.EnterpriseUserURI, schemas.RosterUserURI}, "userName": "ada", "active": false, "title": "Countess", "preferredLanguage": "sv",
			"name":                    map[string]any{"givenName": "Augusta", "familyName": "King"},
			"emails":                  []any{map[string]any{"value": "Ada@out.example", "type": "work", "primary": true}},
			schemas.EnterpriseUserURI: map[string]any{"department": "Engines", "manager": map[string]any{"value": w.ids["bob"]}},
			schemas.RosterUserURI:     map[string]any{"usageLocation": "GB", "signInBy": "email"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		holdings, err := auth.Holdings{Store: w.store, Now: w.now}.OfUser(t.Context(), storage.DefaultTenant, user.ID)
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]string{}
		for _, h := range holdings {
			has[h.Role] = fmt.Sprint(h.Through, h.Eligible, !h.End.IsZero())
			if h.Through == "" {
				a := w.attrs("RoleAssignment", h.Assignment)
				if a["assignedBy"] != "user:"+w.ids["gus"] {
					t.Errorf("a role was given by %v", a["assignedBy"])
				}
			}
		}
		if diff := cmp.Diff(map[string]string{w.ids["cook"]: "false true", auth.GlobalAdministrator: "true false", w.ids["harbour"]: "false false", auth.UserAdministrator: w.ids["admins"] + "false false"}, has); diff != "" {
			t.Error(diff)
		}
		groups, err := w.store.Groups(t.Context(), storage.DefaultTenant, user.ID)
		if err != nil || len(groups[user.ID]) != 2 {
			t.Errorf("groups: %v, %v", groups, err)
		}
		w.is("accepted", id, "accepted", "")
		if u := w.attrs("Invitation", id)["user"].(map[string]any)["value"]; u != user.ID {
			t.Errorf("it became %v", u)
		}
		if _, err := w.accept(secret, "another"); !errors.Is(err, auth.ErrSignIn) {
			t.Errorf("the link again: %v", err)
		}
		// The decision knows the new administrator at once, in this process and others.
		if s := status(w.patch(w.session("uma"), "User", user.ID, `{"op":"replace","path":"userName","value":"mine"}`)); s != 403 {
			t.Errorf("a lower role changes the new administrator: %d", s)
		}
		var told []string
		entries, err := w.store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.At.Equal(w.clock) && (e.Type != "RoleAssignment" || e.Actor != "operator") {
				told = append(told, e.Actor+" "+e.Action+" "+e.Level)
			}
		}
		by := "user:" + w.ids["gus"]
		if diff := cmp.Diff([]string{by + " invitation.create mfa", by + " user.create ", by + " group.patch ", by + " group.patch ",
			by + " roleassignment.create ", by + " roleassignment.create ", by + " roleassignment.create ", "user:" + user.ID + " invitation.accept "}, told); diff != "" {
			t.Error(diff)
		}
	})
}

// TestAcceptedOnce (S14): of 64 who accept an invitation at once one gets an account.
func TestAcceptedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		_, secret := w.invite(w.session("gus"), "race@out.example", w.groupsAndRoles([]string{"shore"}, []string{"cook"}))
		var wg sync.WaitGroup
		var accepted, refused atomic.Int32
		for n := range 64 {
			wg.Go(func() {
				_, err := w.accept(secret, fmt.Sprint("racer", n))
				for errors.Is(err, storage.ErrUnavailable) {
					_, err = w.accept(secret, fmt.Sprint("racer", n))
				}
				switch {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, auth.ErrSignIn), errors.Is(err, scim.ErrAccountExists):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		page, err := w.store.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 1,
			Filter: must1(filter.Parse(`userName sw "racer" or emails.value eq "race@out.example"`, w.typ("User"), filter.Limits{}))})
		if err != nil || page.TotalResults != 1 || accepted.Load() != 1 || refused.Load() != 63 {
			t.Fatalf("%d accounts, %d accepted, %d refused, %v", page.TotalResults, accepted.Load(), refused.Load(), err)
		}
		// Nor when the account is not there any more.
		list, err := page.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.remove(operator(), "User", list[0].ID); err != nil {
			t.Fatal(err)
		}
		if _, err := w.accept(secret, "again"); !errors.Is(err, auth.ErrSignIn) {
			t.Errorf("after its account was deleted: %v; want ErrSignIn", err)
		}
	})
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestInvitationIsBounded: how much an invitation promises.
func TestInvitationIsBounded(t *testing.T) {
	w := newInvitations(t, sqliteStore)
	for _, name := range []string{"groups", "roles"} {
		var list []string
		for n := range scim.MaxPromised + 1 {
			list = append(list, fmt.Sprintf(`{"value":"00000000-0000-7000-8000-%012d"}`, n))
		}
		_, _, err := w.p.Invite(t.Context(), w.session("gus"), body(`{"email":"many@out.example","`+name+`":[`+strings.Join(list, ",")+`]}`))
		if v, ok := errors.AsType[*schemas.ValueError](err); !ok || v.Path != name || !strings.Contains(v.Msg, "at most 50") {
			t.Errorf("51 %s: %v", name, err)
		}
	}
}

// TestInviterThen (S13, S14, V25): what an invitation gives is decided again when it is
// accepted. Whoever holds the link learns nothing; those who may read the invitation see
// why, and nothing brings it back.
func TestInviterThen(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		void := func(what, id string, secret auth.Secret, reason string) {
			t.Helper()
			if _, err := w.accept(secret, "nobody"+what[:1]); !errors.Is(err, auth.ErrSignIn) {
				t.Errorf("%s: accepted, or %v", what, err)
			}
			w.is(what, id, "revoked", reason)
			if _, err := w.p.Invited(t.Context(), secret); !errors.Is(err, auth.ErrSignIn) {
				t.Errorf("%s: looked at, %v", what, err)
			}
		}
		replace := func(name, ops string) {
			t.Helper()
			if err := w.patch(operator(), "User", w.ids[name], ops); err != nil {
				t.Fatal(err)
			}
		}
		id, secret := w.invite(w.session("eve"), "blocked@out.example", "")
		other, _ := w.invite(w.session("gus"), "other@out.example", "")
		replace("eve", `{"op":"replace","path":"active","value":false}`)
		w.is("in the same step", id, "revoked", auth.InviterBlocked)
		replace("eve", `{"op":"replace","path":"active","value":true}`)
		void("a blocked inviter", id, secret, auth.InviterBlocked)
		w.is("somebody else's", other, "pending", "")

		id, secret = w.invite(w.session("eve"), "locked-out@out.example", "")
		replace("eve", `{"op":"replace","path":"active","value":false},{"op":"replace","path":"password","value":"correct horse battery"}`)
		w.is("blocked with another password", id, "revoked", auth.InviterBlocked)
		replace("eve", `{"op":"replace","path":"active","value":true}`)
		void("blocked with another password", id, secret, auth.InviterBlocked)

		id, secret = w.invite(w.session("eve"), "demoted@out.example", "")
		if err := w.remove(operator(), "RoleAssignment", w.ids["eve invites"]); err != nil {
			t.Fatal(err)
		}
		void("demoted, at look or accept", id, secret, auth.InviterEntitlement)
		w.assign("eve invites again", auth.GuestInviter, "eve", "")
		void("promoted again", id, secret, auth.InviterEntitlement)

		// May still invite, and not to this.
		w.assign("eve is UA", auth.UserAdministrator, "eve", "")
		id, secret = w.invite(w.session("eve"), "less@out.example", w.groupsAndRoles(nil, []string{"cook"}))
		if err := w.remove(operator(), "RoleAssignment", w.ids["eve is UA"]); err != nil {
			t.Fatal(err)
		}
		void("less than before", id, secret, auth.InviterEntitlement)

		// Nor to groups at all, also to one that carries no role.
		w.assign("eve is UA again", auth.UserAdministrator, "eve", "")
		id, secret = w.invite(w.session("eve"), "no-groups@out.example", w.groupsAndRoles([]string{"shore"}, nil))
		if err := w.remove(operator(), "RoleAssignment", w.ids["eve is UA again"]); err != nil {
			t.Fatal(err)
		}
		void("no groups any more", id, secret, auth.InviterEntitlement)

		// A group that carries more than it did.
		id, secret = w.invite(w.session("uma"), "group@out.example", w.groupsAndRoles([]string{"shore"}, nil))
		w.assign("shore is harbour", w.ids["harbour"], "shore", "")
		void("grown", id, secret, auth.InviterEntitlement)

		// Somebody who is eligible can still give what they gave when the role was active.
		w.assign("bob may invite", auth.GuestInviter, "bob", `,"kind":"eligible"`)
		active := w.session("bob")
		active.Permissions = auth.BuiltInRole(auth.GuestInviter).Permissions
		_, secret = w.invite(active, "eligible@out.example", "")
		if _, err := w.accept(secret, "eligible"); err != nil {
			t.Errorf("of an inviter who is eligible: %v", err)
		}

		// Not if somebody else has to approve that.
		if err := w.remove(operator(), "RoleAssignment", w.ids["bob may invite"]); err != nil {
			t.Fatal(err)
		}
		w.assign("bob may ask", auth.GuestInviter, "bob", `,"kind":"eligible","approvalRequired":true`)
		id, secret = w.invite(active, "approval@out.example", "")
		void("to be approved", id, secret, auth.InviterEntitlement)

		id, secret = w.invite(w.session("eve"), "deleted@out.example", "")
		if err := w.remove(operator(), "User", w.ids["eve"]); err != nil {
			t.Fatal(err)
		}
		w.is("deleted, in the same step", id, "revoked", auth.InviterDeleted)
		void("one who was deleted", id, secret, auth.InviterDeleted)

		// Clients: revoked, and with no token that is good.
		for _, end := range []string{"revoked", "expired"} {
			c := auth.ClientManager{Store: w.store, Now: w.now}
			made, err := c.Create(t.Context(), operator(), &storage.Client{Name: end, Tenant: storage.DefaultTenant, Scopes: []string{"invitations"}}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			scopes, err := auth.ParseScopes([]string{"invitations"})
			if err != nil {
				t.Fatal(err)
			}
			by := auth.Principal{Kind: auth.Client, Tenant: storage.DefaultTenant, ID: made.Client.ID, Name: end, Scopes: scopes}
			_, good := w.invite(by, "good-"+end+"@out.example", "")
			if _, err := w.accept(good, "good-"+end); err != nil {
				t.Errorf("of a client: %v", err)
			}
			id, secret := w.invite(by, end+"@out.example", "")
			if end == "revoked" {
				if err := c.Revoke(t.Context(), operator(), made.Client.ID); err != nil {
					t.Fatal(err)
				}
			} else {
				w.clock = w.clock.Add(time.Hour)
			}
			void(end, id, secret, auth.ClientEnded)
		}
	})
}

// TestInviteWhileBlocked: an invitation is either before its inviter is blocked, and
// revoked, or after it, and refused.
func TestInviteWhileBlocked(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		eve := w.session("eve")
		for n := range 10 {
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() {
					_, _, err := w.p.Invite(t.Context(), eve, body(fmt.Sprintf(`{"email":"w%d.%d@out.example"}`, n, i)))
					if s := status(err); s != 200 && s != 403 && s != 503 {
						t.Error(s, err)
					}
				})
			}
			err := w.patch(operator(), "User", w.ids["eve"], `{"op":"replace","path":"active","value":false}`)
			wg.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if left := w.matching(`status eq "pending"`); left != "" {
				t.Fatalf("round %d: the blocked inviter's %s wait", n, left)
			}
			if err := w.patch(operator(), "User", w.ids["eve"], `{"op":"replace","path":"active","value":true}`); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestInvitationExpires (V28): nothing has to run for a link to end, and for lists to
// say so.
func TestInvitationExpires(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		w.p.InvitationLifetime = time.Hour
		id, secret := w.invite(w.session("gus"), "a@out.example", "")
		_, used := w.invite(w.session("gus"), "b@out.example", "")
		gone, _ := w.invite(w.session("gus"), "c@out.example", "")
		if _, err := w.accept(used, "b"); err != nil {
			t.Fatal(err)
		}
		if err := w.p.Withdraw(t.Context(), w.session("gus"), gone); err != nil {
			t.Fatal(err)
		}
		w.is("withdrawn", gone, "revoked", "withdrawn")
		lists := func(when string, want map[string]string) {
			t.Helper()
			for text, list := range want {
				if got := w.matching(text); got != list {
					t.Errorf("%s, %s: %q, want %q", when, text, got, list)
				}
			}
		}
		lists("while it is good", map[string]string{`status eq "pending"`: "a", `status eq "expired"`: "", `status ne "pending"`: "b c", `status eq "accepted"`: "b",
			`not (status eq "expired")`: "a b c", `status pr`: "a b c", `status co "e" and email sw "a"`: "a"})
		w.clock = w.clock.Add(time.Hour)
		lists("when it has ended", map[string]string{`status eq "pending"`: "", `status eq "EXPIRED"`: "a", `status ne "pending"`: "a b c", `status ne "expired"`: "b c",
			`not (status eq "expired")`: "b c", `status pr`: "a b c", `status sw "exp" or status eq "revoked"`: "a c", `status gt "pending"`: "c"})
		for _, err := range []error{second(w.accept(secret, "late")), second(w.p.Invited(t.Context(), secret))} {
			if !errors.Is(err, auth.ErrSignIn) {
				t.Errorf("after it has ended: %v", err)
			}
		}
		if w.matching(`status eq "expired"`) != "a" {
			t.Error("a try has changed it")
		}
		if _, err := w.p.Query(t.Context(), operator(), w.typ("Invitation"), storage.Query{Type: "Invitation", SortBy: w.typ("Invitation").Top("status"), StartIndex: 1, Count: 1}); status(err) != 400 {
			t.Errorf("ordered by status: %v", err)
		}
		_, again, err := w.p.SendAgain(t.Context(), w.session("gia"), id)
		if err != nil {
			t.Fatal(err)
		}
		w.is("sent again", id, "pending", "")
		if who := w.attrs("Invitation", id)["inviter"].(map[string]any)["value"]; who != w.ids["gia"] {
			t.Errorf("the inviter is %v", who)
		}
		if err := second(w.accept(secret, "former")); !errors.Is(err, auth.ErrSignIn) {
			t.Errorf("the former link: %v", err)
		}
		if _, err := w.accept(again, "again"); err != nil {
			t.Errorf("the new link: %v", err)
		}
		for what, err := range map[string]error{"sent again": third(w.p.SendAgain(t.Context(), w.session("gus"), id)), "withdrawn": w.p.Withdraw(t.Context(), w.session("gus"), id),
			"changed": w.patch(w.session("gus"), "Invitation", id, `{"op":"replace","path":"title","value":"x"}`)} {
			if status(err) != 409 {
				t.Errorf("accepted, and %s: %v", what, err)
			}
		}
	})
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// TestInvitationOfOthers: who could not have made an invitation can neither change it,
// nor send it again, nor take it back.
func TestInvitationOfOthers(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		id, secret := w.invite(w.session("gus"), "high@out.example", w.groupsAndRoles(nil, []string{auth.GlobalAdministrator}))
		plain, _ := w.invite(w.session("gus"), "plain@out.example", "")
		for _, by := range []auth.Principal{w.session("eve"), w.session("uma"), hr(t)} {
			for what, err := range map[string]error{
				"sends it again": third(w.p.SendAgain(t.Context(), by, id)), "takes it back": w.p.Withdraw(t.Context(), by, id), "deletes it": w.remove(by, "Invitation", id),
				"names the user": w.patch(by, "Invitation", id, `{"op":"replace","path":"userName","value":"mine"}`),
				"blocks it":      w.patch(by, "Invitation", id, `{"op":"replace","path":"active","value":false}`),
				"takes the role": w.patch(by, "Invitation", id, `{"op":"remove","path":"roles"}`),
				"adds a role":    w.patch(by, "Invitation", plain, `{"op":"add","path":"roles","value":[{"value":"`+auth.GuestInviter+`"}]}`),
			} {
				if status(err) != 403 {
					t.Errorf("%s %s: %v", by.Name, what, err)
				}
			}
		}
		for what, ops := range map[string]string{"the address": `{"op":"replace","path":"email","value":"other@out.example"}`, "the status": `{"op":"replace","path":"status","value":"accepted"}`,
			"the end": `{"op":"replace","path":"expires","value":"2999-01-01T00:00:00Z"}`, "the inviter": `{"op":"replace","path":"inviter.value","value":"x"}`} {
			if err := w.patch(w.session("gus"), "Invitation", plain, ops); status(err) != 400 {
				t.Errorf("%s is changed: %v", what, err)
			}
		}
		// A PUT leaves what is the server's, and may change the rest.
		before := w.attrs("Invitation", plain)
		if _, err := w.p.Replace(t.Context(), w.session("gus"), w.typ("Invitation"), plain, scim.Precondition{}, body(`{"email":"plain@out.example","title":"x","status":"accepted"}`)); err != nil {
			t.Fatal(err)
		}
		before["title"] = "x"
		if diff := cmp.Diff(before, w.attrs("Invitation", plain)); diff != "" {
			t.Error(diff)
		}
		if err := w.remove(w.session("gus"), "Invitation", id); err != nil {
			t.Fatal(err)
		}
		if err := second(w.accept(secret, "high")); !errors.Is(err, auth.ErrSignIn) {
			t.Errorf("deleted: %v", err)
		}
	})
}

// TestInvitationNeverAttaches (V14): an invitation makes an account, and never comes to
// one there is.
func TestInvitationNeverAttaches(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		gus := w.session("gus")
		for what, text := range map[string]string{
			"the address of somebody":        `{"email":"Bob@X.example"}`,
			"an address that is a user name": `{"email":"taken@out.example"}`,
			"a user name of somebody":        `{"email":"new@out.example","userName":"BOB"}`,
			"an address that is invited":     `{"email":"FIRST@out.example"}`,
		} {
			if what == "an address that is a user name" {
				w.create("taken", "User", `{"userName":"taken@out.example"}`)
			}
			if what == "an address that is invited" {
				w.invite(gus, "first@out.example", "")
			}
			if _, _, err := w.p.Invite(t.Context(), gus, body(text)); status(err) != 409 {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, bad := range []string{"", "x", "a@b@c", "Ada <a@out.example>", "a@out.example\r\nBcc: b@out.example", "a@out.example, b@out.example", strings.Repeat("a", 250) + "@out.example"} {
			text := string(must1(json.Marshal(map[string]any{"email": bad})))
			if _, _, err := w.p.Invite(t.Context(), gus, body(text)); status(err) != 400 {
				t.Errorf("%q: %v", bad, err)
			}
		}
		// The account came after the invitation.
		id, secret := w.invite(gus, "late@out.example", "")
		w.create("late", "User", `{"userName":"late","emails":[{"value":"late@out.example"}]}`)
		address := second(w.accept(secret, "fresh"))
		_, free := w.invite(gus, "free@out.example", "")
		name := second(w.accept(free, "bob"))
		if !errors.Is(address, scim.ErrAccountExists) || !errors.Is(name, scim.ErrAccountExists) {
			t.Errorf("taken: %v and %v, which have to be alike", address, name)
		}
		w.is("with the address taken", id, "pending", "")
		if _, err := w.accept(free, "free"); err != nil {
			t.Errorf("with another name: %v", err)
		}
		invitation, named := w.invite(gus, "named@out.example", `,"userName":"namd"`)
		if s := status(w.patch(gus, "Invitation", invitation, `{"op":"replace","path":"userName","value":"BOB"}`)); s != 409 {
			t.Errorf("changed to a user name of somebody: %d, want 409", s)
		}
		if err := w.patch(gus, "Invitation", invitation, `{"op":"replace","path":"userName","value":"named"}`); err != nil {
			t.Errorf("changed to another user name: %v", err)
		}
		other, _ := w.invite(gus, "other@out.example", `,"userName":"other"`)
		w.create("other", "User", `{"userName":"Other"}`)
		if _, _, err := w.p.SendAgain(t.Context(), gus, other); status(err) != 409 {
			t.Errorf("sent again when somebody has the user name: %v", err)
		}
		if err := w.patch(gus, "Invitation", other, `{"op":"add","path":"title","value":"Mate"}`); err != nil {
			t.Errorf("changed otherwise when somebody has the user name: %v", err)
		}
		if err := second(w.accept(named, "mine")); status(err) != 400 {
			t.Errorf("another user name than that of the invitation: %v", err)
		}
		if u, err := w.accept(named, ""); err != nil || w.attrs("User", u.ID)["userName"] != "named" {
			t.Errorf("the user name of the invitation: %v", err)
		}
	})
}

// TestInvitationMoves: a pending invitation is part of a dump, and its link is good
// where that is loaded.
func TestInvitationMoves(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		id, secret := w.invite(w.session("gus"), "moves@out.example", w.groupsAndRoles([]string{"shore"}, []string{"cook"}))
		var file bytes.Buffer
		if _, err := (&dump.Writer{Store: w.store, Schemas: w.p.Schemas, Now: w.clock}).Write(t.Context(), storage.DefaultTenant, &file); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(file.String(), secret.Reveal()) {
			t.Error("the link is in the dump")
		}
		store := sqliteStore(t)
		if _, err := (&dump.Loader{Store: store, Schemas: w.p.Schemas, Now: w.now}).Load(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
		w.store = store
		w.p = &scim.Provider{Store: store, Schemas: w.p.Schemas, Hasher: w.p.Hasher, Now: w.now}
		w.is("loaded", id, "pending", "")
		if _, err := w.accept(secret, "moved"); err != nil {
			t.Errorf("the link: %v", err)
		}
	})
}

// TestManyInvitations: a user has so many waiting at most; a client as many as it
// likes; what ended makes room.
func TestManyInvitations(t *testing.T) {
	raced.Skip(t)
	w := newInvitations(t, sqliteStore)
	eve := w.session("eve")
	first := ""
	for n := range scim.MaxInvited {
		id, _ := w.invite(eve, fmt.Sprintf("m%d@out.example", n), "")
		if first == "" {
			first = id
		}
	}
	if _, _, err := w.p.Invite(t.Context(), eve, body(`{"email":"more@out.example"}`)); status(err) != 409 {
		t.Errorf("one more: %v", err)
	}
	if err := w.p.Withdraw(t.Context(), eve, first); err != nil {
		t.Fatal(err)
	}
	w.invite(eve, "more@out.example", "")
	if err := w.remove(operator(), "User", w.ids["eve"]); err != nil {
		t.Fatal(err)
	}
	if left := w.matching(`status eq "pending"`); left != "" {
		t.Errorf("left: %s", left)
	}
}

// overtaken is a store in which something else happens before the next write.
type overtaken struct {
	storage.Store
	first func()
}

func (s *overtaken) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if first := s.first; first != nil {
		s.first = nil
		first()
	}
	return s.Store.Write(ctx, tenant, fn)
}

// TestAcceptanceOvertaken: what changes between the look at an invitation and the write
// that accepts it counts.
func TestAcceptanceOvertaken(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		clients := auth.ClientManager{Store: w.store, Now: w.now}
		made, err := clients.Create(t.Context(), operator(), &storage.Client{Name: "idp", Tenant: storage.DefaultTenant, Scopes: []string{"invitations"}}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		client := auth.Principal{Kind: auth.Client, Tenant: storage.DefaultTenant, ID: made.Client.ID, Scopes: must1(auth.ParseScopes([]string{"invitations"}))}
		for i, test := range []struct {
			what   string
			by     auth.Principal
			happen func(id string) error
			want   string
		}{
			{"its client is revoked", client, func(string) error { return clients.Revoke(t.Context(), operator(), client.ID) }, "revoked"},
			{"its inviter is demoted", w.session("eve"), func(string) error { return w.remove(operator(), "RoleAssignment", w.ids["eve invites"]) }, "revoked"},
			{"it is sent again", w.session("gus"), func(id string) error { return third(w.p.SendAgain(t.Context(), w.session("gus"), id)) }, "pending"},
			{"it is withdrawn", w.session("gus"), func(id string) error { return w.p.Withdraw(t.Context(), w.session("gus"), id) }, "revoked"},
		} {
			id, secret := w.invite(test.by, fmt.Sprintf("o%d@out.example", i), "")
			slow := &overtaken{Store: w.store, first: func() {
				if err := test.happen(id); err != nil {
					t.Error(err)
				}
			}}
			p := &scim.Provider{Store: slow, Schemas: w.p.Schemas, Hasher: w.p.Hasher, Now: w.now}
			if _, err := p.Accept(t.Context(), secret, scim.Acceptance{UserName: fmt.Sprint("overtaken", i), PasswordHash: "$argon2id$x"}); !errors.Is(err, auth.ErrSignIn) {
				t.Errorf("%s: %v", test.what, err)
			}
			if s := w.attrs("Invitation", id)["status"]; s != test.want {
				t.Errorf("%s: it is %v, want %s", test.what, s, test.want)
			}
		}
		// What the invitation says is taken as it is then.
		id, secret := w.invite(w.session("gus"), "changed@out.example", "")
		slow := &overtaken{Store: w.store, first: func() {
			if err := w.patch(w.session("gus"), "Invitation", id, `{"op":"replace","path":"title","value":"Captain"}`); err != nil {
				t.Error(err)
			}
		}}
		p := &scim.Provider{Store: slow, Schemas: w.p.Schemas, Hasher: w.p.Hasher, Now: w.now}
		u, err := p.Accept(t.Context(), secret, scim.Acceptance{UserName: "changed", PasswordHash: "$argon2id$x"})
		if err != nil || w.attrs("User", u.ID)["title"] != "Captain" {
			t.Errorf("changed: %v", err)
		}
	})
}

// TestInvitationIsPurged: the invitation that somebody came by says who that was, and goes
// for good when they do.
func TestInvitationIsPurged(t *testing.T) {
	onBoth(t, func(t *testing.T, w *invitations) {
		id, secret := w.invite(w.session("gus"), "ada@out.example", "")
		other, _ := w.invite(w.session("gus"), "bea@out.example", "")
		user, err := w.p.Accept(t.Context(), secret, scim.Acceptance{UserName: "ada", PasswordHash: "$argon2id$x"})
		if err != nil {
			t.Fatal(err)
		}
		users, invitations := w.p.Schemas.Type("User"), w.p.Schemas.Type("Invitation")
		if err := w.p.Delete(t.Context(), operator(), users, user.ID, scim.Precondition{}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.p.Get(t.Context(), operator(), invitations, id); err != nil {
			t.Fatalf("while the user can come back: %v", err)
		}
		if err := w.p.Purge(t.Context(), operator(), users, user.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := w.p.Get(t.Context(), operator(), invitations, id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the invitation afterwards: %v", err)
		}
		if n, err := w.store.CountDeleted(t.Context(), storage.DefaultTenant, "Invitation"); err != nil || n != 0 {
			t.Errorf("deleted invitations afterwards: %d, %v", n, err)
		}
		if _, err := w.p.Get(t.Context(), operator(), invitations, other); err != nil {
			t.Errorf("somebody else's: %v", err)
		}
	})
}
