package auth

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// TestSignIn: by user name, however it is spelled, or by address.
func TestSignIn(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	for _, name := range []string{"ana", "ANA", " ana ", "ａｎａ", "ana@mail.example", "Ana@MAIL.example"} {
		res, err := d.give(name, goodPassword)
		if err != nil {
			t.Fatalf("SignIn(%q): %v", name, err)
		}
		p := d.who(res.Token)
		want := Principal{Kind: User, Tenant: storage.DefaultTenant, ID: id, Name: "ana", From: here, Session: res.Session, Level: Password}
		if diff := cmp.Diff(want, p, cmp.Comparer(func(a, b Principal) bool { return fmt.Sprint(a) == fmt.Sprint(b) })); diff != "" {
			t.Errorf("VerifySession (-want +got):\n%s", diff)
		}
		if res.Level != Password || res.User != id || len(res.Missing) != 0 {
			t.Errorf("SignIn = %+v", res)
		}
	}
	for name, password := range map[string]string{"ana": "correct horse", "bob": goodPassword, "": goodPassword, "ana@mail": goodPassword, id: goodPassword} {
		if res, err := d.give(name, password); !errors.Is(err, ErrSignIn) || res != nil {
			t.Errorf("SignIn(%q) with %q = %v, %v; want ErrSignIn", name, password, res, err)
		}
	}
	if _, err := d.SignIn(t.Context(), SignInRequest{Tenant: "other", Name: "ana", Password: goodPassword}); !errors.Is(err, ErrSignIn) {
		t.Errorf("SignIn in another tenant: %v; want ErrSignIn", err)
	}
}

// TestAddresses: an address signs in the one who signs in by it, however many others
// have it too; and nobody who does not.
func TestAddresses(t *testing.T) {
	d := newDirectory(t)
	ana := d.add("ana", false)
	for _, name := range []string{"bob", "cid", "dan"} {
		id := d.add(name, false)
		d.edit(id, func(attrs map[string]any) {
			attrs["emails"] = []any{map[string]any{"value": name + "@mail.example"}, map[string]any{"value": "Ana@mail.example"}}
			delete(attrs, schemas.RosterUserURI)
		})
		if res, err := d.give(name, goodPassword); err != nil || res.User != id {
			t.Errorf("SignIn by user name = %v, %v", res, err)
		}
		if _, err := d.give(name+"@mail.example", goodPassword); !errors.Is(err, ErrSignIn) {
			t.Errorf("SignIn by an address that is not signed in by: %v; want ErrSignIn", err)
		}
	}
	for _, name := range []string{"ana", "ana@mail.example"} {
		if res, err := d.give(name, goodPassword); err != nil || res.User != ana {
			t.Errorf("SignIn by %s = %v, %v; want ana", name, res, err)
		}
	}
	d.edit(ana, func(attrs map[string]any) { attrs[schemas.RosterUserURI] = map[string]any{"signInBy": "userName"} })
	if _, err := d.give("ana@mail.example", goodPassword); !errors.Is(err, ErrSignIn) {
		t.Errorf("SignIn by an address that is not signed in by any more: %v; want ErrSignIn", err)
	}
}

// TestAnswersAreEqual: whatever the reason, the answer is the same value, and what
// was done until then is the same work.
func TestAnswersAreEqual(t *testing.T) {
	d := newDirectory(t)
	counted := &counting{Store: d.Store}
	d.Store = counted
	d.add("ana", false)
	d.setActive(d.add("blocked", false), false)
	d.add("locked", false)
	for range freeFailures {
		_, _ = d.give("locked", "wrong password")
	}
	d.add("totp", false)
	dev, _ := d.enrol("totp")
	noPassword := d.add("nobody", false)
	d.write(func(tx storage.Tx) error {
		c, err := ReadCredential(tx, noPassword)
		c.SetPassword("", d.clock.now())
		return errors.Join(err, SaveCredential(tx, noPassword, c))
	})
	expired := d.add("expired", false)
	temporary, err := d.ResetPassword(t.Context(), operator, expired)
	if err != nil {
		t.Fatal(err)
	}
	d.clock.advance(25 * time.Hour)
	// Lock again, a day later.
	for range freeFailures {
		_, _ = d.give("locked", "wrong password")
	}
	unknownName := "nowhere"
	for d.decoy(storage.DefaultTenant, unknownName).administrator {
		unknownName += "x"
	}
	type work struct {
		calls  string
		hashes int
		err    error
	}
	var want work
	for _, class := range []struct{ name, user, password, passcode string }{
		{"wrong password", "ana", "wrong password", ""},
		{"unknown name", unknownName, goodPassword, ""},
		{"blocked", "blocked", goodPassword, ""},
		{"locked", "locked", goodPassword, ""},
		{"locked, wrong password", "locked", "wrong password", ""},
		{"wrong passcode", "totp", goodPassword, dev.wrong()},
		{"no passcode grammar", "totp", goodPassword, " " + dev.code()},
		{"passcode without a factor", "ana", goodPassword, "123456"},
		{"no password", "nobody", goodPassword, ""},
		{"expired temporary password", "expired", temporary.Password.Reveal(), ""},
	} {
		counted.reset()
		before := d.hashes
		res, err := d.give(class.user, class.password, []string{class.passcode}...)
		got := work{counted.calls(), d.hashes - before, err}
		if res != nil || !errors.Is(err, ErrSignIn) {
			t.Errorf("%s: %v, %v; want ErrSignIn", class.name, res, err)
		}
		if want.calls == "" {
			want = got
		}
		if got != want {
			t.Errorf("%s: %+v;\nwant %+v", class.name, got, want)
		}
	}
	if want.hashes != 1 {
		t.Errorf("%d hashes; want 1", want.hashes)
	}
}

// TestUnknownTenant: a name that no tenant has leaves nothing behind under it, and is
// answered and counted like an account that does not exist.
func TestUnknownTenant(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	const strange = storage.TenantID("strange")
	before := d.hashes
	for _, tenant := range []storage.TenantID{strange, strange, ""} {
		if res, err := d.SignIn(t.Context(), SignInRequest{Tenant: tenant, Name: "ana", Password: goodPassword}); res != nil || !errors.Is(err, ErrSignIn) {
			t.Errorf("SignIn in %q = %v, %v; want ErrSignIn", tenant, res, err)
		}
		entries, err := d.Store.AuditEntries(t.Context(), tenant, 0, 10)
		if err != nil || len(entries) > 0 {
			t.Errorf("in the trail of %q: %v, %v; want nothing", tenant, entries, err)
		}
		items, err := d.Store.Items(t.Context(), tenant, credentialKind, "")
		if err != nil || len(items) > 0 {
			t.Errorf("items of %q: %d, %v; want none", tenant, len(items), err)
		}
	}
	if n := d.hashes - before; n != 3 {
		t.Errorf("%d hashes, want 3", n)
	}
	entries, err := d.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range entries {
		if e.Action == "signin.unknown" {
			told++
		}
	}
	if told != 3 {
		t.Errorf("%d attempts are in the trail of the default tenant, want 3", told)
	}
	d.add("ben", false)
	if _, err := d.give("ben", goodPassword); err != nil {
		t.Errorf("in a tenant that there is: %v", err)
	}
}

// TestUnknownAdministrators: some names that nobody has take as long as an
// administrator, and always the same ones.
func TestUnknownAdministrators(t *testing.T) {
	d := newDirectory(t)
	slow := 0
	for n := range 1000 {
		name := fmt.Sprint("name", n)
		p := d.decoy(storage.DefaultTenant, name)
		if q := d.decoy(storage.DefaultTenant, strings.ToUpper(name)); p.id != q.id {
			t.Fatalf("%q has the decoys %s and %s", name, p.id, q.id)
		}
		if p.administrator {
			slow++
		}
	}
	if slow < 20 || slow > 140 { // 62.5 expected
		t.Errorf("%d of 1000 unknown names are slow", slow)
	}
	// With parameters for administrators that nothing can be compared with, it shows who
	// is compared like one.
	d.Hasher.administrators.Memory = 1 << 20
	for n := range 100 {
		name, want := fmt.Sprint("name", n), ErrSignIn
		if d.decoy(storage.DefaultTenant, name).administrator {
			want = ErrPasswordHash
		}
		d.clock.advance(longestDelay)
		if _, err := d.give(name, "wrong password"); !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", name, err, want)
		}
	}
}

// TestBlocked: sign-in, sessions and steps of a blocked user end, and unblocking
// restores none that was dropped.
func TestBlocked(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, p := d.enrol("ana")
	token, err := d.StepUp(t.Context(), p, Secret(dev.next()))
	if err != nil {
		t.Fatal(err)
	}
	p = d.who(token.Token)
	d.setActive(id, false)
	d.clock.advance(cacheFor)
	if _, err := d.VerifySession(t.Context(), token.Token.Reveal(), here); !refused(err) {
		t.Errorf("VerifySession of a blocked user: %v; want a refusal", err)
	}
	if _, err := d.StepUp(t.Context(), p, Secret(dev.next())); !refused(err) {
		t.Errorf("StepUp of a blocked user: %v; want a refusal", err)
	}
	d.write(func(tx storage.Tx) error { return drop(tx, id) })
	d.setActive(id, true)
	if _, err := d.VerifySession(t.Context(), token.Token.Reveal(), here); !refused(err) {
		t.Errorf("VerifySession after unblocking: %v; want a refusal", err)
	}
	d.enter("ana", dev.next())
}

// TestLevels: what a sign-in comes to.
func TestLevels(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	d.add("root", true)
	check := func(what string, res *SignInResult, err error, level Level, missing ...Lack) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if res.Level != level || !slices.Equal(res.Missing, missing) {
			t.Errorf("%s: level %s, missing %v; want %s, %v", what, res.Level, res.Missing, level, missing)
		}
		if p := d.who(res.Token); p.Level != level || (level == MFA) == p.PasscodeAt.IsZero() {
			t.Errorf("%s: the principal has level %s and a passcode at %v", what, p.Level, p.PasscodeAt)
		}
	}
	res, err := d.give("ana", goodPassword)
	check("a user", res, err, Password)
	res, err = d.give("root", goodPassword)
	check("an administrator without a factor", res, err, Limited, LacksEnrolment)
	dev, _ := d.enrol("root")
	res, err = d.give("root", goodPassword)
	check("an administrator without a passcode", res, err, Password, LacksPasscode)
	up, err := d.Passcode(t.Context(), d.who(res.Token), Secret(dev.next()))
	check("and with one afterwards", up, err, MFA)
	if _, err := d.VerifySession(t.Context(), res.Token.Reveal(), here); !refused(err) {
		t.Errorf("the former token of the session: %v; want a refusal", err)
	}
	res, err = d.give("root", goodPassword, dev.next())
	check("an administrator with a passcode", res, err, MFA)
	rec, err := d.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "root", Password: goodPassword, RecoveryCode: dev.codes[0]})
	check("with a recovery code", rec, err, Limited, LacksEnrolment)
	res, err = d.give("root", goodPassword, dev.next())
	check("with a passcode, after a recovery code", res, err, Limited, LacksEnrolment)
	res, err = d.give("root", goodPassword)
	check("with a password alone, after a recovery code", res, err, Password, LacksPasscode)
	if _, err := d.Enrol(t.Context(), d.who(res.Token), ""); !errors.Is(err, ErrPasscodeAge) {
		t.Errorf("Enrol with a password alone: %v; want ErrPasscodeAge", err)
	}
	d.enrolIn(d.who(rec.Token))
	dev2, err := d.give("root", goodPassword)
	check("after enrolling again", dev2, err, Password, LacksPasscode)
}

// enrolIn enrols in a session.
func (d *directory) enrolIn(p Principal) (*device, Principal) {
	d.t.Helper()
	e, err := d.Enrol(d.t.Context(), p, "")
	if err != nil {
		d.t.Fatalf("Enrol: %v", err)
	}
	dev := &device{d: d, secret: e.Secret.Reveal()}
	res, err := d.ConfirmEnrolment(d.t.Context(), p, Secret(dev.code()))
	if err != nil {
		d.t.Fatalf("ConfirmEnrolment: %v", err)
	}
	dev.codes = res.RecoveryCodes
	return dev, d.who(res.Token)
}

// TestNewAdministrator: somebody becomes an administrator in the middle of a session
// and has no factor; and back, which gives nothing that was not proved.
func TestNewAdministrator(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	res, err := d.give("ana", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		administrator bool
		want          Level
	}{{false, Password}, {true, Limited}, {false, Password}} {
		d.demote(id)
		if step.administrator {
			d.promote(id)
		}
		d.clock.advance(cacheFor)
		if p := d.who(res.Token); p.Level != step.want {
			t.Errorf("level %s; want %s", p.Level, step.want)
		}
	}
	d.promote(id)
	if res, err = d.give("ana", goodPassword); err != nil {
		t.Fatal(err)
	}
	d.demote(id)
	if p := d.who(res.Token); p.Level != Limited {
		t.Errorf("level %s; want limited: nothing was proved since", p.Level)
	}
}

func TestIssueRefusesUnprovedSessions(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	for name, c := range map[string]*Credential{"no factor": {}, "no passcode": {TOTP: &Factor{}}} {
		s := session{User: id, Started: d.clock.now(), PasswordAt: d.clock.now()}
		if name == "no factor" {
			s.PasscodeAt = d.clock.now()
		}
		s.Level = MFA
		err := d.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			res, err := issue(tx, storage.DefaultTenant, s, c, false, nil, d.clock.now())
			if err == nil && res.Level == MFA {
				t.Errorf("%s: a session of level mfa", name)
			}
			return errors.Join(err, tx.Audit(storage.AuditEntry{At: storage.Milli(d.clock.now()), Actor: "operator", Action: "test"}))
		})
		if name == "no factor" && !errors.Is(err, errUnproved) {
			t.Errorf("%s: %v; want errUnproved", name, err)
		}
	}
}

// TestTemporaryPassword: it is given once, good once, and good for nothing but
// choosing another one.
func TestTemporaryPassword(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	old, err := d.give("ana", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	temporary, err := d.ResetPassword(t.Context(), operator, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.VerifySession(t.Context(), old.Token.Reveal(), here); !refused(err) {
		t.Errorf("a session from before: %v; want a refusal", err)
	}
	if _, err := d.give("ana", goodPassword); !errors.Is(err, ErrSignIn) {
		t.Errorf("the former password: %v; want ErrSignIn", err)
	}
	res, err := d.give("ana", temporary.Password.Reveal())
	if err != nil || res.Level != Limited || !slices.Equal(res.Missing, []Lack{LacksPassword}) {
		t.Fatalf("SignIn = %+v, %v; want a limited session", res, err)
	}
	if _, err := d.give("ana", temporary.Password.Reveal()); !errors.Is(err, ErrSignIn) {
		t.Errorf("a second time: %v; want ErrSignIn", err)
	}
	p := d.who(res.Token)
	if _, err := d.Enrol(t.Context(), p, ""); !errors.Is(err, ErrPasswordChange) {
		t.Errorf("Enrol: %v; want ErrPasswordChange", err)
	}
	if _, err := d.ChangePassword(t.Context(), p, "", temporary.Password); !errors.Is(err, ErrSamePassword) {
		t.Errorf("the same again: %v; want ErrSamePassword", err)
	}
	if _, err := d.ChangePassword(t.Context(), p, "", "short"); err == nil {
		t.Error("a short password was accepted")
	}
	next, err := d.ChangePassword(t.Context(), p, "", "another horse, better")
	if err != nil || next.Level != Password {
		t.Fatalf("ChangePassword = %+v, %v", next, err)
	}
	if _, err := d.VerifySession(t.Context(), res.Token.Reveal(), here); !refused(err) {
		t.Errorf("the limited session: %v; want a refusal", err)
	}
	if _, err := d.give("ana", "another horse, better"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if _, err := d.ChangePassword(t.Context(), d.who(next.Token), "", "yet another, a third"); !errors.Is(err, ErrSignIn) {
		t.Errorf("without the current password: %v; want ErrSignIn", err)
	}
}

func TestTemporaryPasswordExpires(t *testing.T) {
	for _, test := range []struct {
		lifetime, wait time.Duration
		want           error
	}{
		{24 * time.Hour, 24*time.Hour - time.Second, nil},
		{24 * time.Hour, 24 * time.Hour, ErrSignIn},
		{0, 10_000 * time.Hour, nil},
	} {
		d := newDirectory(t)
		d.Policy.TemporaryFor = test.lifetime
		id := d.add("ana", false)
		temporary, err := d.ResetPassword(t.Context(), operator, id)
		if err != nil {
			t.Fatal(err)
		}
		d.clock.advance(test.wait)
		if _, err := d.give("ana", temporary.Password.Reveal()); !errors.Is(err, test.want) {
			t.Errorf("good for %v, after %v: %v; want %v", test.lifetime, test.wait, err, test.want)
		}
	}
}

// TestPasswordResetLeavesFactors: M14. Neither the reset nor the change of a password
// gets around the factor.
func TestPasswordResetLeavesFactors(t *testing.T) {
	d := newDirectory(t)
	id := d.add("root", true)
	d.add("other", true)
	dev, _ := d.enrol("root")
	if _, err := d.ResetPassword(t.Context(), operator, id); !errors.Is(err, ErrLastAdministrator) {
		t.Errorf("of the last administrator, whose password would expire: %v; want ErrLastAdministrator", err)
	}
	d.enrol("other")
	before := d.credential(id)
	temporary, err := d.ResetPassword(t.Context(), operator, id)
	if err != nil {
		t.Fatal(err)
	}
	after := d.credential(id)
	if diff := cmp.Diff(before.TOTP, after.TOTP); diff != "" || len(after.Recovery) != recoveryCodes {
		t.Errorf("the reset changed the factors (-before +after):\n%s", diff)
	}
	res, err := d.give("root", temporary.Password.Reveal())
	if err != nil || res.Level != Limited {
		t.Fatalf("SignIn = %+v, %v", res, err)
	}
	if res, err = d.ChangePassword(t.Context(), d.who(res.Token), "", "another horse, better"); err != nil {
		t.Fatal(err)
	}
	if res.Level != Password || !slices.Equal(res.Missing, []Lack{LacksPasscode}) {
		t.Errorf("after the change: %s, missing %v; want a passcode to be missing", res.Level, res.Missing)
	}
	if _, err := d.Enrol(t.Context(), d.who(res.Token), "another horse, better"); !errors.Is(err, ErrPasscodeAge) {
		t.Errorf("Enrol: %v; want ErrPasscodeAge", err)
	}
	if up, err := d.Passcode(t.Context(), d.who(res.Token), Secret(dev.next())); err != nil || up.Level != MFA {
		t.Errorf("Passcode = %+v, %v", up, err)
	}
}

func TestResetMFA(t *testing.T) {
	d := newDirectory(t)
	id, ana := d.add("root", true), d.add("ana", false)
	d.add("other", true)
	dev, p := d.enrol("root")
	if err := d.ResetMFA(t.Context(), operator, id); !errors.Is(err, ErrLastAdministrator) {
		t.Errorf("of the last administrator: %v; want ErrLastAdministrator", err)
	}
	_, other := d.enrol("other")
	d.enrol("ana")
	password := other
	password.Level = Password
	auditor := d.add("auditor", false)
	d.write(func(tx storage.Tx) error {
		g := &Grant{ID: auditor, Role: Auditor, Principal: auditor, PrincipalType: PrincipalUser}
		return PutGrant(tx, nil, g, BuiltInRole(Auditor))
	})
	_, auditing := d.enrol("auditor")
	client := Principal{Kind: Client, Tenant: storage.DefaultTenant, ID: "c1", Scopes: Scopes{set: ^scopeSet(0)}}
	gone := d.add("gone", true)
	_, blocked := d.enrol("gone")
	d.setActive(gone, false)
	for name, by := range map[string]Principal{
		"nobody": {}, "a user": d.enter("ana"), "an administrator without a passcode": password, "a client": client, "an auditor": auditing,
		"an administrator who was blocked a moment ago": blocked,
	} {
		for _, user := range []string{id, ana} {
			if by.ID == user {
				continue
			}
			if _, ok := errors.AsType[*DeniedError](d.ResetMFA(t.Context(), by, user)); !ok {
				t.Errorf("by %s: not denied", name)
			}
			if _, err := d.ResetPassword(t.Context(), by, user); err == nil {
				t.Errorf("by %s: a password was reset", name)
			}
			if err := d.EndSessions(t.Context(), by, user); err == nil {
				t.Errorf("by %s: sessions were ended", name)
			}
		}
	}
	for _, by := range []Principal{p, other} {
		if err := d.ResetMFA(t.Context(), by, by.ID); !errors.Is(err, ErrSelf) {
			t.Errorf("of oneself: %v; want ErrSelf", err)
		}
	}
	if err := d.ResetMFA(t.Context(), other, id); err != nil {
		t.Fatal(err)
	}
	c := d.credential(id)
	if c.TOTP != nil || c.Pending != nil || c.Recovery != nil {
		t.Errorf("what is left: %+v", c)
	}
	if _, err := d.StepUp(t.Context(), p, Secret(dev.next())); !refused(err) {
		t.Errorf("the session from before: %v; want a refusal", err)
	}
	if res, err := d.give("root", goodPassword); err != nil || res.Level != Limited {
		t.Errorf("SignIn = %+v, %v; want a session for enrolment", res, err)
	}
	if err := d.ResetMFA(t.Context(), operator, "00000000-0000-7000-8000-00000000ffff"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("of nobody: %v; want ErrNotFound", err)
	}
}

// TestEnrolment: what it needs, and what it gives.
func TestEnrolment(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana:b", false)
	p := d.enter("ana:b")
	d.clock.advance(StepUpAge + time.Second)
	if _, err := d.Enrol(t.Context(), p, ""); !errors.Is(err, ErrPasswordAge) {
		t.Errorf("Enrol 301 s after the password: %v; want ErrPasswordAge", err)
	}
	if _, err := d.Enrol(t.Context(), p, "wrong password"); !errors.Is(err, ErrSignIn) {
		t.Errorf("Enrol with a wrong password: %v; want ErrSignIn", err)
	}
	if _, err := d.ConfirmEnrolment(t.Context(), p, "123456"); !errors.Is(err, ErrNoEnrolment) {
		t.Errorf("ConfirmEnrolment: %v; want ErrNoEnrolment", err)
	}
	e, err := d.Enrol(t.Context(), p, goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(e.URI.Reveal())
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Roster:ana:b" {
		t.Errorf("URI = %s, %v", e.URI.Reveal(), err)
	}
	q := u.Query()
	if q.Get("secret") != e.Secret.Reveal() || len(e.Secret) != 32 || q.Get("issuer") != "Roster" || q.Get("period") != "30" || q.Get("digits") != "6" || q.Get("algorithm") != "SHA1" {
		t.Errorf("URI = %s, secret %s", e.URI.Reveal(), e.Secret.Reveal())
	}
	if image, err := png.Decode(bytes.NewReader(e.QR)); err != nil || image.Bounds().Dx() != 256 {
		t.Errorf("the QR image: %v", err)
	}
	if c := d.credential(id); c.TOTP != nil || c.Recovery != nil {
		t.Error("there are a factor or recovery codes before the enrolment was confirmed")
	}
	dev := &device{d: d, secret: e.Secret.Reveal()}
	other := d.enter("ana:b")
	if _, err := d.ConfirmEnrolment(t.Context(), other, Secret(dev.code())); !errors.Is(err, ErrNoEnrolment) {
		t.Errorf("in another session: %v; want ErrNoEnrolment", err)
	}
	if _, err := d.ConfirmEnrolment(t.Context(), p, Secret(dev.wrong())); !errors.Is(err, ErrSignIn) {
		t.Errorf("with a wrong code: %v; want ErrSignIn", err)
	}
	res, err := d.ConfirmEnrolment(t.Context(), p, Secret(dev.code()))
	if err != nil || res.Level != MFA || len(res.RecoveryCodes) != recoveryCodes {
		t.Fatalf("ConfirmEnrolment = %+v, %v", res, err)
	}
	if _, err := d.ConfirmEnrolment(t.Context(), d.who(res.Token), Secret(dev.next())); !errors.Is(err, ErrNoEnrolment) {
		t.Errorf("a second time: %v; want ErrNoEnrolment", err)
	}
	for what, p := range map[string]Principal{"the session from before": p, "another session": other} {
		if _, err := d.Passcode(t.Context(), p, Secret(dev.next())); !refused(err) {
			t.Errorf("%s: %v; want a refusal", what, err)
		}
	}
	if err := d.SelfCheck(t.Context(), d.who(res.Token), Secret(dev.next())); err != nil {
		t.Errorf("SelfCheck: %v", err)
	}
	if err := d.SelfCheck(t.Context(), d.who(res.Token), Secret(dev.code())); !errors.Is(err, ErrSignIn) {
		t.Errorf("SelfCheck with the same code: %v; want ErrSignIn", err)
	}
}

// TestEnrolmentExpires: a secret that was shown long ago is not confirmed.
func TestEnrolmentExpires(t *testing.T) {
	for wait, want := range map[time.Duration]error{enrolmentTime: nil, enrolmentTime + time.Second: ErrNoEnrolment} {
		d := newDirectory(t)
		d.add("ana", false)
		p := d.enter("ana")
		e, err := d.Enrol(t.Context(), p, "")
		if err != nil {
			t.Fatal(err)
		}
		d.clock.advance(wait)
		dev := &device{d: d, secret: e.Secret.Reveal()}
		if _, err := d.ConfirmEnrolment(t.Context(), p, Secret(dev.code())); !errors.Is(err, want) {
			t.Errorf("after %v: %v; want %v", wait, err, want)
		}
	}
}

// TestEnrolAgain: the former factor has to be proved, and the former recovery codes
// are void.
func TestEnrolAgain(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	dev, p := d.enrol("ana")
	former := dev.codes
	d.clock.advance(StepUpAge + time.Second)
	if _, err := d.Enrol(t.Context(), p, goodPassword); !errors.Is(err, ErrPasscodeAge) {
		t.Errorf("Enrol 301 s after a passcode: %v; want ErrPasscodeAge", err)
	}
	up, err := d.StepUp(t.Context(), p, Secret(dev.next()))
	if err != nil {
		t.Fatal(err)
	}
	p = d.who(up.Token)
	e, err := d.Enrol(t.Context(), p, goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := d.give("ana", goodPassword, dev.next()); err != nil || res.Level != MFA {
		t.Errorf("the former factor, as long as the new one is not confirmed: %v", err)
	}
	next := &device{d: d, secret: e.Secret.Reveal()}
	res, err := d.ConfirmEnrolment(t.Context(), p, Secret(next.code()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.give("ana", goodPassword, dev.next()); !errors.Is(err, ErrSignIn) {
		t.Errorf("the former factor: %v; want ErrSignIn", err)
	}
	if _, err := d.RecoveryCode(t.Context(), d.who(res.Token), former[0]); !errors.Is(err, ErrSignIn) {
		t.Errorf("a former recovery code: %v; want ErrSignIn", err)
	}
}

// TestRecoveryCodes: each is good once, for its owner, however it is copied.
func TestRecoveryCodes(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	d.add("bob", false)
	anas, _ := d.enrol("ana")
	bobs, _ := d.enrol("bob")
	try := func(name string, code Secret) error {
		_, err := d.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: name, Password: goodPassword, RecoveryCode: code})
		return err
	}
	if err := try("bob", anas.codes[0]); !errors.Is(err, ErrSignIn) {
		t.Errorf("somebody else's: %v; want ErrSignIn", err)
	}
	if err := try("ana", anas.codes[0]); err != nil {
		t.Errorf("ana's: %v", err)
	}
	if err := try("ana", anas.codes[0]); !errors.Is(err, ErrSignIn) {
		t.Errorf("a second time: %v; want ErrSignIn", err)
	}
	copied := strings.ToUpper(strings.ReplaceAll(anas.codes[1].Reveal(), "-", " "))
	if err := try("ana", Secret(copied)); err != nil {
		t.Errorf("in another spelling: %v", err)
	}
	if err := try("ana", anas.codes[1]); !errors.Is(err, ErrSignIn) {
		t.Errorf("in two spellings: %v; want ErrSignIn", err)
	}
	p := d.enter("bob")
	res, err := d.RecoveryCode(t.Context(), p, bobs.codes[9])
	if err != nil || res.Level != Limited {
		t.Errorf("RecoveryCode = %+v, %v", res, err)
	}
	for _, code := range bobs.codes {
		if n := len(canonicalReadable(code.Reveal())); n != 24 {
			t.Errorf("a code of %d characters", n)
		}
	}
}

// TestRecoveryCodesAreBound: the hash of a code is that of one owner's, even if it is
// moved.
func TestRecoveryCodesAreBound(t *testing.T) {
	seen := map[string]bool{}
	for _, owner := range [][2]string{{"t", "ana"}, {"t", "bob"}, {"u", "ana"}, {"ta", "na"}} {
		seen[string(hashRecoveryCode(storage.TenantID(owner[0]), owner[1], "code"))] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d hashes of four owners", len(seen))
	}
}

// TestRehash: a successful sign-in brings the hash up to date, one that fails does
// not.
func TestRehash(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	old := d.credential(id).PasswordHash
	d.promote(id)
	if _, err := d.give("ana", "wrong password"); !errors.Is(err, ErrSignIn) {
		t.Fatal(err)
	}
	if got := d.credential(id).PasswordHash; got != old {
		t.Error("a wrong password changed the hash")
	}
	p := d.enter("ana")
	c := d.credential(id)
	if !strings.HasPrefix(c.PasswordHash, "$argon2id$v=19$m=16,t=1,p=1$") {
		t.Errorf("the hash is still %s…", c.PasswordHash[:28])
	}
	if _, err := d.Enrol(t.Context(), p, ""); err != nil {
		t.Errorf("the session has ended: %v", err)
	}
	d.enter("ana")
	if again := d.credential(id).PasswordHash; again != c.PasswordHash {
		t.Error("the hash changed again")
	}
}

// TestLongPassword: M22. It is refused before anything else is done.
func TestLongPassword(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	counted := &counting{Store: d.Store}
	d.Store = counted
	before := d.hashes
	for _, name := range []string{"ana", "nobody"} {
		if _, err := d.give(name, strings.Repeat("a", 1<<20)); !errors.Is(err, ErrPasswordTooLong) {
			t.Errorf("SignIn: %v; want ErrPasswordTooLong", err)
		}
	}
	if n := counted.calls(); n != "" || d.hashes != before {
		t.Errorf("%d hashes, and the store was asked: %s", d.hashes-before, n)
	}
}

func TestBusy(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	d.Hasher.admitted = make(chan struct{}) // room for nobody
	if _, err := d.give("ana", goodPassword); !errors.Is(err, ErrBusy) {
		t.Errorf("SignIn: %v; want ErrBusy", err)
	}
	if n := d.credential(id).Throttle.Failures; n != 0 || d.seen("signin", "busy") != 1 {
		t.Errorf("%d failures counted, %d observed as busy", n, d.seen("signin", "busy"))
	}
}

// TestAuditTrail: every attempt and what came of it, and no secret.
func TestAuditTrail(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	_, _ = d.give("ana", "wrong password")
	_, _ = d.give("not-a-user", "wrong password")
	dev, p := d.enrol("ana")
	if _, err := d.StepUp(t.Context(), p, Secret(dev.code())); !errors.Is(err, ErrSignIn) {
		t.Errorf("a used code: %v", err)
	}
	if err := d.EndSessions(t.Context(), p, id); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"signin.attempt", "signin.wrong", "signin.attempt", "signin.unknown", "signin.attempt", "signin.ok",
		"enrol.attempt", "enrol.ok", "confirm.attempt", "confirm.ok", "stepup.attempt", "stepup.replayed", "session.end",
	}
	if diff := cmp.Diff(want, d.actions()); diff != "" {
		t.Errorf("audited (-want +got):\n%s", diff)
	}
	for user, want := range map[string][]Reference{id: {{PrincipalUser, id, true}}, d.decoy(storage.DefaultTenant, "not-a-user").id: nil} {
		i, err := d.Store.Item(t.Context(), storage.DefaultTenant, credentialKind, user)
		if err != nil {
			t.Fatal(err)
		}
		if refs, err := References(i); err != nil || !slices.Equal(refs, want) {
			t.Errorf("the credential %s is about %+v, %v; want %+v", user, refs, err, want)
		}
	}
	entries, err := d.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "not-a-user") || strings.Contains(text, "nobody-") || strings.Contains(text, dev.secret) {
			t.Errorf("the audit trail has %s", text)
		}
		if e.Action == "signin.ok" && (e.Actor != "user:"+id || e.ID != id) {
			t.Errorf("%s by %s on %s", e.Action, e.Actor, e.ID)
		}
	}
	if d.seen("signin", "wrong") != 1 || d.seen("stepup", "replayed") != 1 || d.seen("confirm", "ok") != 1 {
		t.Errorf("observed:\n%s", lines(d.observed))
	}
}
