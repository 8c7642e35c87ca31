package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// office is a directory with a clock that is set by hand.
type office struct {
	t     *testing.T
	store storage.Store
	p     *scim.Provider
	now   time.Time
}

func newOffice(t *testing.T) *office {
	t.Helper()
	store, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, store: store, now: time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)}
	o.p = &scim.Provider{Store: store, Schemas: set, Hasher: auth.NewWeakHasher(), Now: func() time.Time { return o.now }}
	return o
}

func (o *office) create(typ, text string) string {
	o.t.Helper()
	body, err := schemas.Decode([]byte(text), schemas.Limits{})
	if err != nil {
		o.t.Fatal(err)
	}
	r, err := o.p.Create(o.t.Context(), auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}, o.p.Schemas.Type(typ), body)
	if err != nil {
		o.t.Fatalf("%s %s: %v", typ, text, err)
	}
	return r.ID
}

func (o *office) assign(role, principal, more string) string {
	o.t.Helper()
	return o.create("RoleAssignment", `{"role":{"value":"`+role+`"},"principal":{"value":"`+principal+`"}`+more+`}`)
}

// roles are the displays of the roles that a user has now.
func (o *office) roles(user string) string {
	o.t.Helper()
	list, err := auth.EffectiveRoles(o.t.Context(), o.store, storage.DefaultTenant, user, o.now)
	if err != nil {
		o.t.Fatal(err)
	}
	var names []string
	for _, r := range list {
		names = append(names, r.Display)
	}
	return strings.Join(names, ", ")
}

// session is a session of a user, with a passcode given just now.
func (o *office) session(user string) auth.Principal {
	o.t.Helper()
	list, err := auth.EffectiveRoles(o.t.Context(), o.store, storage.DefaultTenant, user, o.now)
	if err != nil {
		o.t.Fatal(err)
	}
	p := auth.Principal{Kind: auth.User, Tenant: storage.DefaultTenant, ID: user, Session: "s", Level: auth.MFA, PasscodeAt: o.now}
	p.Permissions, p.Roles = auth.PermissionsOf(list)
	return p
}

func (o *office) actions() (list []string) {
	o.t.Helper()
	entries, err := o.store.AuditEntries(o.t.Context(), storage.DefaultTenant, 0, 1000)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Action+" by "+e.Actor)
	}
	return list
}

// TestEffectiveRoles: roles come from the user and from groups around them, within
// their dates, and end by themselves.
func TestEffectiveRoles(t *testing.T) {
	o := newOffice(t)
	ana := o.create("User", `{"userName":"ana"}`)
	inner := o.create("Group", `{"displayName":"inner","members":[{"value":"`+ana+`"}]}`)
	outer := o.create("Group", `{"displayName":"outer","members":[{"value":"`+inner+`"}]}`)
	sales := o.create("Role", `{"value":"sales","display":"Sales"}`)
	o.assign(sales, ana, "")
	o.assign(auth.Auditor, outer, `,"startDate":"2026-05-04T10:00:00Z","endDate":"2026-05-04T11:00:00Z"`)
	o.assign(auth.GuestInviter, inner, "")
	o.assign(auth.ReportsReader, ana, `,"kind":"eligible"`)
	for _, test := range []struct {
		hour, minute int
		want         string
	}{
		{9, 0, "Guest Inviter, Sales"}, {9, 59, "Guest Inviter, Sales"}, {10, 0, "Guest Inviter, Auditor, Sales"},
		{10, 59, "Guest Inviter, Auditor, Sales"}, {11, 0, "Guest Inviter, Sales"},
	} {
		o.now = time.Date(2026, 5, 4, test.hour, test.minute, 0, 0, time.UTC)
		if got := o.roles(ana); got != test.want {
			t.Errorf("at %d:%02d: %s, want %s", test.hour, test.minute, got, test.want)
		}
		for what, roles := range map[string]func(storage.Tx, *storage.Resource, time.Time) ([]*auth.Role, error){"effective": auth.EffectiveRolesTx, "held": auth.HeldRolesTx} {
			err := o.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
				r, err := tx.Get("User", ana)
				if err != nil {
					return err
				}
				list, err := roles(tx, r, o.now)
				var names []string
				for _, r := range list {
					names = append(names, r.Display)
				}
				want := test.want
				if what == "held" {
					want = "Guest Inviter, Reports Reader, Auditor, Sales"
					if test.hour == 11 {
						want = "Guest Inviter, Reports Reader, Sales"
					}
				}
				if got := strings.Join(names, ", "); got != want {
					t.Errorf("at %d:%02d, %s inside a write: %s, want %s", test.hour, test.minute, what, got, want)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// TestActivation: an eligible role is made active by its holder with a passcode and a
// reason, for a while, and with another person's consent where that is asked for
// (B10).
func TestActivation(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	ana, ben, gia := o.create("User", `{"userName":"ana"}`), o.create("User", `{"userName":"ben"}`), o.create("User", `{"userName":"gia"}`)
	crew := o.create("Group", `{"displayName":"crew","members":[{"value":"`+ben+`"}]}`)
	o.assign(auth.GlobalAdministrator, gia, "")
	own := o.assign(auth.Auditor, ana, `,"kind":"eligible"`)
	guarded := o.assign(auth.GlobalAdministrator, crew, `,"kind":"eligible","approvalRequired":true,"endDate":"2026-05-04T12:00:00Z"`)
	held := o.assign(auth.ReportsReader, ana, "")
	denied := func(what string, err error, want error) {
		t.Helper()
		if want == nil {
			if _, ok := errors.AsType[*auth.DeniedError](err); !ok {
				t.Errorf("%s: %v, want a DeniedError", what, err)
			}
		} else if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	activate := func(by auth.Principal, assignment string, d time.Duration, reason string) error {
		_, err := auth.Activate(ctx, o.store, by, o.now, assignment, d, reason)
		return err
	}
	by := o.session(ana)
	late := by
	late.PasscodeAt = o.now.Add(-301 * time.Second)
	ahead := by
	ahead.PasscodeAt = o.now.Add(31 * time.Second)
	low := by
	low.Level = auth.Password
	never := by
	never.PasscodeAt = time.Time{}
	denied("with a passcode of 301 s ago", activate(late, own, time.Hour, "audit"), auth.ErrStalePasscode)
	denied("with a passcode to come", activate(ahead, own, time.Hour, "audit"), auth.ErrStalePasscode)
	denied("without a passcode", activate(never, own, time.Hour, "audit"), auth.ErrStalePasscode)
	denied("after the password only", activate(low, own, time.Hour, "audit"), nil)
	denied("the operator", activate(auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}, own, time.Hour, "audit"), nil)
	for member, err := range map[string]error{
		"reason":            activate(by, own, time.Hour, "  "),
		"durationSeconds":   activate(by, own, auth.MaxActivation+time.Second, "audit"),
		"durationSeconds\n": activate(by, own, 0, "audit"),
	} {
		if e, ok := errors.AsType[*auth.InvalidError](err); !ok || e.Member != strings.TrimSpace(member) {
			t.Errorf("a wrong %s: %v, want an error that names it", member, err)
		}
	}
	denied("a role that is held", activate(by, held, time.Hour, "audit"), auth.ErrActivation)
	denied("somebody else's", activate(by, guarded, time.Hour, "audit"), storage.ErrNotFound)
	denied("what there is not", activate(by, ana, time.Hour, "audit"), storage.ErrNotFound)
	denied("somebody else", activate(o.session(ben), own, time.Hour, "audit"), storage.ErrNotFound)

	late.PasscodeAt = o.now.Add(-299 * time.Second)
	if err := activate(late, own, time.Hour, "audit"); err != nil {
		t.Fatal(err)
	}
	denied("again", activate(by, own, time.Hour, "audit"), auth.ErrActivation)
	if got := o.roles(ana); got != "Reports Reader, Auditor" {
		t.Errorf("activated: %s", got)
	}
	o.now = o.now.Add(time.Hour - time.Second)
	if got := o.roles(ana); got != "Reports Reader, Auditor" {
		t.Errorf("a second before the end: %s", got)
	}
	o.now = o.now.Add(time.Second)
	if got := o.roles(ana); got != "Reports Reader" {
		t.Errorf("at the end: %s", got)
	}

	// By a group, with consent.
	asked, err := auth.Activate(ctx, o.store, o.session(ben), o.now, guarded, 5*time.Hour, "a repair")
	if err != nil || !asked.Pending(o.now) {
		t.Fatalf("Activate = %+v, %v", asked, err)
	}
	if got := o.roles(ben); got != "" {
		t.Errorf("before anybody agrees: %s", got)
	}
	approve := func(by auth.Principal) error {
		_, err := auth.Approve(ctx, o.store, by, o.now, asked.ID)
		return err
	}
	forged := o.session(ben)
	forged.Permissions = auth.BuiltInRole(auth.GlobalAdministrator).Permissions
	denied("one's own consent", approve(forged), nil)
	denied("the consent of somebody who cannot give the role", approve(o.session(ana)), nil)
	demoted := o.session(ana)
	demoted.Permissions = auth.BuiltInRole(auth.GlobalAdministrator).Permissions
	denied("the consent of somebody who could give the role a moment ago", approve(demoted), nil)
	stale := o.session(gia)
	stale.PasscodeAt = o.now.Add(-time.Hour)
	denied("consent without a fresh passcode", approve(stale), auth.ErrStalePasscode)
	if err := approve(o.session(gia)); err != nil {
		t.Fatal(err)
	}
	denied("consent given twice", approve(o.session(gia)), auth.ErrActivation)
	if got := o.roles(ben); got != "Global Administrator" {
		t.Errorf("after somebody agreed: %s", got)
	}
	o.now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	if got := o.roles(ben); got != "" {
		t.Errorf("after the end of the assignment: %s", got)
	}
	o.now = time.Date(2026, 5, 4, 11, 0, 0, 0, time.UTC)
	_, err = auth.Deactivate(ctx, o.store, o.session(ana), o.now, asked.ID)
	denied("an end by somebody else", err, nil)
	if holder, err := auth.Deactivate(ctx, o.store, o.session(ben), o.now, asked.ID); err != nil || holder != ben {
		t.Error(err)
	}
	if got := o.roles(ben); got != "" {
		t.Errorf("after it was ended: %s", got)
	}
	want := []string{"role.activate by user:" + ana, "role.activate.request by user:" + ben, "role.activate.approve by user:" + gia, "role.deactivate by user:" + ben}
	got := slices.DeleteFunc(o.actions(), func(s string) bool { return !strings.HasPrefix(s, "role.") || strings.HasPrefix(s, "role.create") })
	if !slices.Equal(got, want) {
		t.Errorf("audited: %q, want %q", got, want)
	}
}

// TestActivationEndsWithItsGrant: who has made a role active loses it with what made
// them eligible: at the end that the assignment was given meanwhile, and on leaving the
// group it was given to.
func TestActivationEndsWithItsGrant(t *testing.T) {
	o := newOffice(t)
	operator := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	ana, ben := o.create("User", `{"userName":"ana"}`), o.create("User", `{"userName":"ben"}`)
	inner := o.create("Group", `{"displayName":"inner","members":[{"value":"`+ben+`"}]}`)
	crew := o.create("Group", `{"displayName":"crew","members":[{"value":"`+inner+`"}]}`)
	own := o.assign(auth.Auditor, ana, `,"kind":"eligible"`)
	shared := o.assign(auth.GlobalAdministrator, crew, `,"kind":"eligible"`)
	for user, assignment := range map[string]string{ana: own, ben: shared} {
		if _, err := auth.Activate(t.Context(), o.store, o.session(user), o.now, assignment, 8*time.Hour, "audit"); err != nil {
			t.Fatal(err)
		}
	}
	if ana, ben := o.roles(ana), o.roles(ben); ana != "Auditor" || ben != "Global Administrator" {
		t.Fatalf("activated: %q and %q", ana, ben)
	}
	change := func(typ, id, op string) {
		t.Helper()
		body, err := schemas.Decode([]byte(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`+op+`]}`), schemas.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		ops, err := patch.Decode(body, patch.DefaultLimits, schemas.Lenient)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.p.Patch(t.Context(), operator, o.p.Schemas.Type(typ), id, scim.Precondition{}, ops); err != nil {
			t.Fatal(err)
		}
	}
	change("RoleAssignment", own, `{"op":"add","path":"endDate","value":"2026-05-04T10:00:00Z"}`)
	change("Group", crew, `{"op":"remove","path":"members[value eq \"`+inner+`\"]"}`)
	if got := o.roles(ben); got != "" {
		t.Errorf("after the group was left: %s", got)
	}
	o.now = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	if got := o.roles(ana); got != "" {
		t.Errorf("after the assignment ended: %s", got)
	}
}

// TestHoldings: who holds a role, and by what, is listed (B5).
func TestHoldings(t *testing.T) {
	o := newOffice(t)
	ctx := context.Background()
	ana, ben := o.create("User", `{"userName":"ana"}`), o.create("User", `{"userName":"ben"}`)
	inner := o.create("Group", `{"displayName":"inner","members":[{"value":"`+ben+`"}]}`)
	outer := o.create("Group", `{"displayName":"outer","members":[{"value":"`+inner+`"},{"value":"`+ana+`"}]}`)
	names := map[string]string{ana: "ana", ben: "ben", inner: "inner", outer: "outer", "": ""}
	sales := o.create("Role", `{"value":"sales"}`)
	o.assign(auth.Auditor, outer, "")
	own := o.assign(auth.Auditor, ben, `,"kind":"eligible"`)
	o.assign(auth.Auditor, ana, `,"endDate":"2026-05-04T10:00:00Z"`)
	o.assign(sales, ana, "")
	if _, err := auth.Activate(ctx, o.store, o.session(ben), o.now, own, time.Hour, "audit"); err != nil {
		t.Fatal(err)
	}
	h := auth.Holdings{Store: o.store, Now: func() time.Time { return o.now }}
	text := func(x auth.Holding) string {
		s := names[x.Principal]
		if x.Through != "" {
			s += " through " + names[x.Through]
		}
		if x.Eligible {
			s += " eligible"
		}
		if !x.ActiveTill.IsZero() {
			s += " active till " + x.ActiveTill.UTC().Format("15:04")
		}
		return s
	}
	ofRole := func() (list []string) {
		if err := h.OfRole(ctx, storage.DefaultTenant, auth.Auditor, func(x auth.Holding) error { list = append(list, text(x)); return nil }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := []string{"outer", "ana through outer", "ben through outer", "ben eligible active till 10:00", "ana"}
	got := ofRole()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("OfRole: %q, want %q", got, want)
	}
	o.now = o.now.Add(time.Hour)
	if got := ofRole(); slices.Contains(got, "ana") || !slices.Contains(got, "ben eligible") {
		t.Errorf("OfRole an hour later: %q", got)
	}
	list, err := h.OfUser(ctx, storage.DefaultTenant, ana)
	if err != nil || len(list) != 2 || list[0].Role != sales || list[1].Through != outer {
		t.Errorf("OfUser = %+v, %v", list, err)
	}
	var admins []auth.Holding
	err = h.Administrators(ctx, storage.DefaultTenant, func(_ *auth.Role, x auth.Holding) error { admins = append(admins, x); return nil })
	if err != nil || len(admins) != 4 || slices.ContainsFunc(admins, func(x auth.Holding) bool { return x.Role == sales }) {
		t.Errorf("Administrators = %+v, %v", admins, err)
	}
}
