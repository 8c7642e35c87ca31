package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestSessionText: what secret scanners are told of is what is made, and nothing that
// was tampered with is whole.
func TestSessionText(t *testing.T) {
	pattern := regexp.MustCompile("^" + SessionPattern + "$")
	for n := range 10_000 {
		tenant := storage.TenantID(fmt.Sprint("tenant-", n%7))
		text, id, err := newText(rand.Reader, sessionPrefix, tenant)
		if err != nil || !pattern.MatchString(text.Reveal()) {
			t.Fatalf("newText = %s, %v", text.Reveal(), err)
		}
		if gotTenant, gotID, ok := parseText(sessionPrefix, text.Reveal()); !ok || gotTenant != tenant || gotID != id {
			t.Fatalf("parseText = %s, %s, %v", gotTenant, gotID, ok)
		}
	}
	text, _, err := newText(rand.Reader, sessionPrefix, "default")
	if err != nil {
		t.Fatal(err)
	}
	s := text.Reveal()
	for i := range len(s) {
		for _, c := range []byte("0aZ_=") {
			spoiled := s[:i] + string(c) + s[i+1:]
			if spoiled != s && IsSession(spoiled) {
				t.Errorf("%s is as good as %s", spoiled, s)
			}
		}
	}
	for _, bad := range []string{"", s + "0", s[1:], s[:len(s)-1], " " + s, setupPrefix + s[len(sessionPrefix):], sessionPrefix + "_" + strings.Repeat("0", 43) + "_000000", strings.Repeat(s, 20)} {
		if IsSession(bad) {
			t.Errorf("IsSession(%q)", bad)
		}
	}
	token, _, err := NewToken(rand.Reader, "c1", time.Now(), time.Hour)
	if err != nil || IsSession(token.Reveal()) {
		t.Errorf("a client's token passes for a session (%v)", err)
	}
	if _, ok := ParseToken(s); ok {
		t.Error("a session passes for a client's token")
	}
	if _, _, err := newText(bytes.NewReader(make([]byte, 31)), sessionPrefix, "x"); err == nil {
		t.Error("too little randomness was enough")
	}
}

// TestSessionsEnd: when idle, and when long, whatever is done in them.
func TestSessionsEnd(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	use := func(token Secret) error {
		_, err := d.VerifySession(t.Context(), token.Reveal(), here)
		return err
	}
	res, err := d.give("ana", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	d.clock.advance(SessionIdle - time.Second)
	if err := use(res.Token); err != nil {
		t.Errorf("idle for 29:59: %v", err)
	}
	d.clock.advance(SessionIdle - time.Second)
	if err := use(res.Token); err != nil {
		t.Errorf("idle for 29:59 again: %v", err)
	}
	d.clock.advance(SessionIdle)
	if err := use(res.Token); !refused(err) {
		t.Errorf("idle for 30:00: %v; want a refusal", err)
	}
	if res, err = d.give("ana", goodPassword); err != nil {
		t.Fatal(err)
	}
	for at := time.Duration(0); at < SessionLength-10*time.Minute; at += 10 * time.Minute {
		if err := use(res.Token); err != nil {
			t.Fatalf("after %v: %v", at, err)
		}
		d.clock.advance(10 * time.Minute)
	}
	d.clock.advance(10*time.Minute - time.Second)
	if err := use(res.Token); err != nil {
		t.Errorf("after 11:59:59: %v", err)
	}
	d.clock.advance(900 * time.Millisecond)
	if err := use(res.Token); err != nil {
		t.Errorf("after 11:59:59.9: %v", err)
	}
	d.clock.advance(100 * time.Millisecond) // sooner than what was said of it is asked anew
	if err := use(res.Token); !refused(err) {
		t.Errorf("after 12 hours: %v; want a refusal", err)
	}
}

// TestEndedSessionsProveNothing: a principal that was verified a moment ago is worth no
// more than its session is now.
func TestEndedSessionsProveNothing(t *testing.T) {
	for name, end := range map[string]func(*directory, Principal){
		"idle":            func(d *directory, _ Principal) { d.clock.advance(SessionIdle) },
		"long":            func(d *directory, _ Principal) { d.clock.advance(SessionLength) },
		"from the future": func(d *directory, _ Principal) { d.clock.advance(-time.Hour) },
		"of another generation": func(d *directory, p Principal) {
			d.write(func(tx storage.Tx) error {
				c, err := ReadCredential(tx, p.ID)
				if err != nil {
					return err
				}
				c.Generation++
				return SaveCredential(tx, p.ID, c)
			})
		},
	} {
		d := newDirectory(t)
		d.add("ana", false)
		dev, p := d.enrol("ana")
		failures := d.credential(p.ID).Throttle.Failures
		end(d, p)
		if _, err := d.StepUp(t.Context(), p, Secret(dev.at(1))); !refused(err) {
			t.Errorf("%s: %v; want a refusal", name, err)
		}
		if got := d.credential(p.ID).Throttle.Failures; got != failures {
			t.Errorf("%s: counted as a failure", name)
		}
	}
	// Nor is one user's session another user's.
	d := newDirectory(t)
	d.add("ana", false)
	bob := d.add("bob", false)
	_, p := d.enrol("ana")
	p.ID = bob
	if _, err := d.Enrol(t.Context(), p, ""); !refused(err) {
		t.Errorf("another user's session: %v; want a refusal", err)
	}
}

// TestStepUpDoesNotProlong: another token for a session is no longer session.
func TestStepUpDoesNotProlong(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	dev, _ := d.enrol("ana")
	res, err := d.give("ana", goodPassword, dev.next())
	if err != nil {
		t.Fatal(err)
	}
	ends := res.Ends
	for range 30 {
		d.clock.advance(20 * time.Minute)
		if res, err = d.StepUp(t.Context(), d.who(res.Token), Secret(dev.code())); err != nil {
			t.Fatal(err)
		}
	}
	if !res.Ends.Equal(ends) {
		t.Errorf("the session ends %v later", res.Ends.Sub(ends))
	}
}

// TestStepUpAge: 299 s are not too long ago, 301 s are; and a clock that went back
// makes nothing younger.
func TestStepUpAge(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	_, p := d.enrol("ana")
	at := p.PasscodeAt
	for age, want := range map[time.Duration]bool{
		0: true, 299 * time.Second: true, 300 * time.Second: true, 301 * time.Second: false, time.Hour: false,
		-30 * time.Second: true, -31 * time.Second: false, -time.Hour: false,
	} {
		if got := p.PasscodeWithin(StepUpAge, at.Add(age)); got != want {
			t.Errorf("%v after a passcode: %v, want %v", age, got, want)
		}
	}
	for name, q := range map[string]Principal{"nobody": {}, "a session without one": {Kind: User, Level: Password, PasscodeAt: at}, "an operator": {Kind: Operator, PasscodeAt: at, Level: MFA}, "never": {Kind: User, Level: MFA}} {
		if q.PasscodeWithin(StepUpAge, at) {
			t.Errorf("%s gave a passcode", name)
		}
	}
}

// TestClockBack: a session from the future is none, and what was proved in the future
// is not proved.
func TestClockBack(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	dev, _ := d.enrol("ana")
	res, err := d.give("ana", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	d.clock.advance(10 * time.Minute)
	up, err := d.Passcode(t.Context(), d.who(res.Token), Secret(dev.code()))
	if err != nil {
		t.Fatal(err)
	}
	d.clock.advance(-5 * time.Minute)
	if p := d.who(up.Token); p.Level != Password || !p.PasscodeAt.IsZero() {
		t.Errorf("a passcode from the future: level %s, at %v", p.Level, p.PasscodeAt)
	}
	d.clock.advance(-time.Hour)
	if _, err := d.VerifySession(t.Context(), up.Token.Reveal(), here); !refused(err) {
		t.Errorf("a session from the future: %v; want a refusal", err)
	}
}

// TestTenSessions: another one ends the oldest.
func TestTenSessions(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	var tokens []Secret
	for range MaxSessions + 3 {
		d.clock.advance(time.Second)
		res, err := d.give("ana", goodPassword)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, res.Token)
	}
	for n, token := range tokens {
		_, err := d.VerifySession(t.Context(), token.Reveal(), here)
		if n < 3 && !refused(err) || n >= 3 && err != nil {
			t.Errorf("session %d: %v", n, err)
		}
	}
	list, err := d.Sessions(t.Context(), storage.DefaultTenant, id)
	if err != nil || len(list) != MaxSessions {
		t.Fatalf("%d sessions, %v", len(list), err)
	}
	if s := list[0]; !s.Started.Equal(d.clock.now()) || !s.LastUsed.Equal(s.Started) || s.From != "192.0.2.7" || s.Agent != "test" || s.Level != Password {
		t.Errorf("the newest is %+v", s)
	}
	// One of one's own, and nobody else's.
	bob := d.add("bob", false)
	p := d.who(tokens[5])
	if err := d.EndSession(t.Context(), p, bob, list[0].ID); err == nil {
		t.Error("a session of somebody else's was ended")
	}
	if err := d.EndSession(t.Context(), d.enter("bob"), bob, list[0].ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a session of somebody else's, as one's own: %v; want ErrNotFound", err)
	}
	if err := d.EndSession(t.Context(), p, id, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.VerifySession(t.Context(), tokens[len(tokens)-1].Reveal(), here); !refused(err) {
		t.Errorf("the session that was ended: %v", err)
	}
	if err := d.SignOut(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := d.VerifySession(t.Context(), tokens[5].Reveal(), here); !refused(err) {
		t.Errorf("after signing out: %v", err)
	}
	if err := d.EndSessions(t.Context(), d.who(tokens[6]), id); err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if _, err := d.VerifySession(t.Context(), token.Reveal(), here); !refused(err) {
			t.Errorf("after signing out everywhere: %v", err)
		}
	}
	if list, err := d.Sessions(t.Context(), storage.DefaultTenant, id); err != nil || len(list) != 0 {
		t.Errorf("%d sessions are left, %v", len(list), err)
	}
}

// TestSessionsEndWithCredentials: M21. Each of these ends every session, for other
// processes within half a second, and no session that began before comes back.
func TestSessionsEndWithCredentials(t *testing.T) {
	for name, do := range map[string]func(*directory, Principal, *device) error{
		"password changed": func(d *directory, p Principal, _ *device) error {
			_, err := d.ChangePassword(d.t.Context(), p, goodPassword, "a password for tomorrow")
			return err
		},
		"password reset": func(d *directory, p Principal, _ *device) error {
			_, err := d.ResetPassword(d.t.Context(), operator, p.ID)
			return err
		},
		"password written by a client": func(d *directory, p Principal, _ *device) error {
			d.write(func(tx storage.Tx) error {
				c, err := ReadCredential(tx, p.ID)
				if err != nil {
					return err
				}
				c.SetPassword(c.PasswordHash, d.clock.now())
				return SaveCredential(tx, p.ID, c)
			})
			return nil
		},
		"MFA reset": func(d *directory, p Principal, _ *device) error { return d.ResetMFA(d.t.Context(), operator, p.ID) },
		"enrolled again": func(d *directory, p Principal, _ *device) error {
			d.enrolIn(p)
			return nil
		},
		"signed out everywhere": func(d *directory, p Principal, _ *device) error { return d.EndSessions(d.t.Context(), p, p.ID) },
		"blocked": func(d *directory, p Principal, _ *device) error {
			d.setActive(p.ID, false)
			return nil
		},
		"deleted": func(d *directory, p Principal, _ *device) error {
			d.write(func(tx storage.Tx) error {
				r, err := tx.Get("User", p.ID)
				if err != nil {
					return err
				}
				return tx.Delete(r, d.clock.now())
			})
			return nil
		},
		"link used": func(d *directory, p Principal, _ *device) error {
			link, err := d.NewSetup(d.t.Context(), operator, p.ID, true)
			if err != nil {
				return err
			}
			_, err = d.UseSetup(d.t.Context(), SetupRequest{Text: link, Password: "a password for tomorrow"})
			return err
		},
	} {
		d := newDirectory(t)
		id := d.add("ana", false)
		dev, p := d.enrol("ana")
		old, err := d.give("ana", goodPassword, dev.next())
		if err != nil {
			t.Fatal(err)
		}
		second, err := d.give("ana", goodPassword)
		if err != nil {
			t.Fatal(err)
		}
		other := d.another(d.Store, d.Keys)
		for _, s := range []*SignInResult{old, second} {
			if _, err := other.VerifySession(t.Context(), s.Token.Reveal(), here); err != nil {
				t.Fatal(err)
			}
		}
		if err := do(d, p, dev); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d.clock.advance(cacheFor)
		for _, s := range []*SignInResult{old, second} {
			if _, err := other.VerifySession(t.Context(), s.Token.Reveal(), here); !refused(err) {
				t.Errorf("%s: a session goes on in another process: %v", name, err)
			}
		}
		if name != "blocked" && name != "deleted" {
			if _, err := d.VerifySession(t.Context(), old.Token.Reveal(), here); !refused(err) {
				t.Errorf("%s: a session goes on: %v", name, err)
			}
		}
		for _, s := range []*SignInResult{old, second} {
			if list, err := d.Sessions(t.Context(), storage.DefaultTenant, id); err != nil {
				t.Error(err)
			} else {
				for _, l := range list {
					if l.ID == s.Session && name != "blocked" && name != "deleted" {
						t.Errorf("%s: the session is still listed", name)
					}
				}
			}
		}
	}
}

// TestDropSessions: it changes what a sign-in under way would write, too.
func TestDropSessions(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	before := d.credential(id).Generation
	d.write(func(tx storage.Tx) error { return drop(tx, id) })
	if after := d.credential(id).Generation; after == before {
		t.Error("a sign-in under way would not notice")
	}
	d.write(func(tx storage.Tx) error { return drop(tx, "00000000-0000-7000-8000-00000000ffff") })
	if c := d.credential("00000000-0000-7000-8000-00000000ffff"); c.item != nil {
		t.Error("somebody without a credential has got one")
	}
}

// TestVerifySessionAsks: what it asks the store, and how often.
func TestVerifySessionAsks(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	counted := &counting{Store: d.Store}
	res, err := d.give("ana", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	d.Store = counted
	d.who(res.Token)
	asked := counted.calls()
	d.clock.advance(cacheFor - time.Millisecond)
	d.who(res.Token)
	if got := counted.calls(); got != asked {
		t.Errorf("asked again within half a second: %s", got)
	}
	d.clock.advance(time.Millisecond)
	d.who(res.Token)
	if got := counted.calls(); got != asked+" "+asked {
		t.Errorf("asked %s; want twice %s", got, asked)
	}
	counted.reset()
	for _, bad := range []string{"", "x", res.Token.Reveal()[1:], res.Token.Reveal() + "0"} {
		if _, err := d.VerifySession(t.Context(), bad, here); !refused(err) || counted.calls() != "" {
			t.Errorf("%q: %v, asked %q", bad, err, counted.calls())
		}
	}
	for range 100 { // a minute and a half
		d.clock.advance(time.Second)
		d.who(res.Token)
	}
	if n := strings.Count(counted.calls(), "Extend"); n != 1 {
		t.Errorf("extended %d times in 100 s, want once", n)
	}
}

// TestSetup: S12. A link is good once, for a time, and the newest only.
func TestSetup(t *testing.T) {
	d := newDirectory(t)
	id := d.add("root", true)
	dev, _ := d.enrol("root")
	use := func(text Secret, password string) (*SignInResult, error) {
		return d.UseSetup(t.Context(), SetupRequest{Text: text, Password: Secret(password), From: here})
	}
	link := func(lost bool) Secret {
		t.Helper()
		text, err := d.NewSetup(t.Context(), operator, id, lost)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	former, text := link(false), link(false)
	if _, err := use(former, "a password for tomorrow"); !errors.Is(err, ErrSignIn) {
		t.Errorf("the former link: %v; want ErrSignIn", err)
	}
	for _, short := range []string{"short", "of 11 chars"} { // of an administrator
		if _, err := use(text, short); err == nil || errors.Is(err, ErrSignIn) {
			t.Errorf("a short password: %v; want a PolicyError", err)
		}
	}
	res, err := use(text, "a password for tomorrow")
	if err != nil || res.Level != Password || res.User != id {
		t.Errorf("UseSetup = %+v, %v; want a session that needs the passcode", res, err)
	}
	if _, err := use(text, "a password for tomorrow"); !errors.Is(err, ErrSignIn) {
		t.Errorf("a second time: %v; want ErrSignIn", err)
	}
	if _, err := d.give("root", "a password for tomorrow", dev.next()); err != nil {
		t.Errorf("the new password and the factor: %v", err)
	}
	for lost, lifetime := range map[bool]time.Duration{false: SetupFor, true: RecoverFor} {
		text := link(lost)
		d.clock.advance(lifetime)
		if _, err := use(text, "a password for tomorrow"); !errors.Is(err, ErrSignIn) {
			t.Errorf("after %v: %v; want ErrSignIn", lifetime, err)
		}
	}
	text = link(true)
	if res, err = use(text, "a password for next week"); err != nil || res.Level != Limited || res.Missing[0] != LacksEnrolment {
		t.Errorf("after everything was lost: %+v, %v; want a session for enrolment", res, err)
	}
	if d.credential(id).TOTP != nil {
		t.Error("the factor is still there")
	}
	// Blocking makes links void.
	text = link(false)
	d.setActive(id, false)
	if _, err := use(text, "a password for tomorrow"); !errors.Is(err, ErrSignIn) {
		t.Errorf("of a blocked user: %v; want ErrSignIn", err)
	}
	d.write(func(tx storage.Tx) error { return drop(tx, id) })
	d.setActive(id, true)
	if _, err := use(text, "a password for tomorrow"); !errors.Is(err, ErrSignIn) {
		t.Errorf("after unblocking: %v; want ErrSignIn", err)
	}
	d.add("ana", false)
	if _, err := d.NewSetup(t.Context(), d.enter("ana"), id, false); err == nil {
		t.Error("a user made a link for an administrator")
	}
	// Links that leave no factor, and those for a first administrator, come from the host.
	by := Principal{Kind: User, Tenant: storage.DefaultTenant, ID: d.add("boss", true), Level: MFA, Permissions: BuiltInRole(GlobalAdministrator).Permissions}
	if _, err := d.NewSetup(t.Context(), by, id, false); err != nil {
		t.Errorf("a link by a Global Administrator: %v", err)
	}
	if _, err := d.NewSetup(t.Context(), by, id, true); err == nil {
		t.Error("a Global Administrator made a link that leaves no factor")
	}
	if _, err := d.NewFirstSetup(t.Context(), by); !errors.Is(err, ErrNotPermitted) {
		t.Errorf("a link for a first administrator: %v; want ErrNotPermitted", err)
	}
}

// TestSignOutMeetsSignIn: who is signed out everywhere while they sign in is not signed in
// by that.
func TestSignOutMeetsSignIn(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	worked, ended := d.Hasher.worked, false
	d.Hasher.worked = func() { // when the password is looked at
		worked()
		if !ended {
			ended = true
			if err := d.EndSessions(t.Context(), operator, id); err != nil {
				t.Error(err)
			}
		}
	}
	if res, err := d.give("ana", goodPassword); !errors.Is(err, ErrSignIn) || !ended {
		t.Errorf("SignIn = %+v, %v; want ErrSignIn", res, err)
	}
	if _, err := d.give("ana", goodPassword); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestInvalidateMeetsLookup: what was asked before something was invalidated is not
// kept after it.
func TestInvalidateMeetsLookup(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	res, err := d.give("ana", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	store := &slowItems{Store: d.Store}
	d.Authenticator = d.another(store, d.Keys)
	store.then = func() {
		if err := d.EndSessions(t.Context(), operator, id); err != nil {
			t.Error(err)
		}
	}
	_, _ = d.VerifySession(t.Context(), res.Token.Reveal(), here)
	if _, err := d.VerifySession(t.Context(), res.Token.Reveal(), here); !refused(err) {
		t.Errorf("VerifySession: %v; want a refusal", err)
	}
}

// slowItems does something after everything about a session has been read.
type slowItems struct {
	storage.Store
	then func()
}

func (s *slowItems) Groups(ctx context.Context, tenant storage.TenantID, members ...string) (map[string][]storage.Membership, error) {
	groups, err := s.Store.Groups(ctx, tenant, members...)
	if then := s.then; then != nil {
		s.then = nil
		then()
	}
	return groups, err
}
