package auth

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/sqlite"
)

// TestThrottleDelays: five failures, then delays that double.
func TestThrottleDelays(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	for range freeFailures {
		if _, err := d.give("ana", "wrong password"); !errors.Is(err, ErrSignIn) {
			t.Fatal(err)
		}
	}
	for _, delay := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		d.clock.advance(delay - time.Millisecond)
		if _, err := d.give("ana", goodPassword); !errors.Is(err, ErrSignIn) {
			t.Errorf("just before %v: %v; want ErrSignIn", delay, err)
		}
		d.clock.advance(time.Millisecond)
		if _, err := d.give("ana", "wrong password"); !errors.Is(err, ErrSignIn) {
			t.Error(err)
		}
	}
	d.clock.advance(15 * time.Minute)
	d.enter("ana")
	for range freeFailures - 1 {
		if _, err := d.give("ana", "wrong password"); !errors.Is(err, ErrSignIn) {
			t.Fatal(err)
		}
	}
	d.enter("ana")
	if got, want := d.seen("lockout", "locked"), 8; got != want {
		t.Errorf("%d lockouts observed, want %d", got, want)
	}
}

// TestLockIsStored: M04. What was counted is there for another process, and although
// the attempt failed.
func TestLockIsStored(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	for range freeFailures {
		_, _ = d.give("ana", "wrong password")
	}
	other, err := sqlite.Open(t.Context(), d.path, sqlite.Options{Guest: true, MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c, err := FindCredential(t.Context(), other, storage.DefaultTenant, id)
	if err != nil || c.Throttle.Failures != freeFailures || !c.Throttle.Locked(d.clock.now()) {
		t.Errorf("another connection sees %+v, %v", c.Throttle, err)
	}
}

// TestCountedThoughTheRestFails: M04. An attempt is counted though what comes after that
// fails in the store.
func TestCountedThoughTheRestFails(t *testing.T) {
	for name, enter := range map[string]func(*directory, Principal, *device) error{
		"sign in": func(d *directory, _ Principal, dev *device) error {
			_, err := d.give("ana", goodPassword, dev.wrong())
			return err
		},
		"passcode": func(d *directory, p Principal, dev *device) error {
			_, err := d.Passcode(t.Context(), p, Secret(dev.wrong()))
			return err
		},
		"step up": func(d *directory, p Principal, dev *device) error {
			_, err := d.StepUp(t.Context(), p, Secret(dev.wrong()))
			return err
		},
	} {
		d := newDirectory(t)
		id := d.add("ana", false)
		dev, p := d.enrol("ana")
		lane := laneInside
		if name != "step up" {
			p, lane = d.enter("ana"), laneKnown
		}
		store := d.Store
		for n := range freeFailures {
			d.Store = &secondFails{Store: store}
			if err := enter(d, p, dev); err == nil || errors.Is(err, ErrSignIn) || refused(err) {
				t.Fatalf("%s: %v; want an error of the store", name, err)
			}
			d.Store = store
			if got := d.credential(id).Throttle.lane(lane).Failures; got != n+1 {
				t.Errorf("%s: %d are counted of %d", name, got, n+1)
			}
		}
		if err := enter(d, p, dev); !errors.Is(err, ErrSignIn) || !d.credential(id).Throttle.lane(lane).Locked(d.clock.now()) {
			t.Errorf("%s, after %d: %v; want ErrSignIn, and a lock", name, freeFailures, err)
		}
	}
}

// secondFails is a store whose second write does.
type secondFails struct {
	storage.Store
	writes int
}

func (s *secondFails) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if s.writes++; s.writes == 2 {
		return storage.ErrUnavailable
	}
	return s.Store.Write(ctx, tenant, fn)
}

// TestSpellingsShareACounter: M05.
func TestSpellingsShareACounter(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	var spellings []string
	for n := range 50 {
		name := []string{"ana", "Ana", "ANA", "aNa", "ａna", "anａ", "ana@mail.example", "ANA@mail.example", "Ana@Mail.Example", "anA"}[n%10]
		spellings = append(spellings, []string{"", " ", "\t", "  ", "\u00a0"}[n/10]+name+[]string{"", " ", "\n"}[n%3])
	}
	seen := map[string]bool{}
	for _, name := range spellings {
		seen[name] = true
		_, _ = d.give(name, "wrong password")
		if c := d.credential(id); c.Throttle.Failures > freeFailures {
			t.Fatalf("%d failures counted", c.Throttle.Failures)
		}
	}
	if len(seen) != 50 || d.seen("signin", "unknown") != 0 {
		t.Errorf("%d spellings, of which %d are nobody's", len(seen), d.seen("signin", "unknown"))
	}
	if got := d.seen("signin", "wrong"); got != freeFailures {
		t.Errorf("%d passwords were looked at, want %d", got, freeFailures)
	}
}

// entries are all ways to try a factor or a password in a session.
var entries = map[string]func(d *directory, p Principal, dev *device) error{
	"password": func(d *directory, _ Principal, _ *device) error {
		_, err := d.give("ana", "wrong password")
		return err
	},
	"password and passcode": func(d *directory, _ Principal, dev *device) error {
		_, err := d.give("ana", goodPassword, dev.wrong())
		return err
	},
	"password and recovery code": func(d *directory, _ Principal, _ *device) error {
		_, err := d.SignIn(d.t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, RecoveryCode: "wrong", From: here, Agent: "test"})
		return err
	},
	"passcode": func(d *directory, p Principal, dev *device) error {
		_, err := d.Passcode(d.t.Context(), p, Secret(dev.wrong()))
		return err
	},
	"recovery code": func(d *directory, p Principal, _ *device) error {
		_, err := d.RecoveryCode(d.t.Context(), p, "wrong")
		return err
	},
	"step up": func(d *directory, p Principal, dev *device) error {
		_, err := d.StepUp(d.t.Context(), p, Secret(dev.wrong()))
		return err
	},
	"self-check": func(d *directory, p Principal, dev *device) error {
		return d.SelfCheck(d.t.Context(), p, Secret(dev.wrong()))
	},
	"enrol": func(d *directory, p Principal, _ *device) error {
		_, err := d.Enrol(d.t.Context(), p, "wrong password")
		return err
	},
	"confirm": func(d *directory, p Principal, dev *device) error {
		_, err := d.ConfirmEnrolment(d.t.Context(), p, Secret(dev.wrong()))
		return err
	},
	"change password": func(d *directory, p Principal, _ *device) error {
		_, err := d.ChangePassword(d.t.Context(), p, "wrong password", "a password for tomorrow")
		return err
	},
}

// TestOneCounter: M06. After four failures of one kind and one of another nothing is
// accepted, by any way in from the same lane: when signing in up to the passcode, and in
// a session with one.
func TestOneCounter(t *testing.T) {
	for lane, ways := range map[laneName][]string{
		laneKnown:  {"password", "password and passcode", "password and recovery code", "passcode", "recovery code", "self-check"},
		laneInside: {"passcode", "recovery code", "step up", "self-check", "enrol", "confirm", "change password"},
	} {
		for _, first := range ways {
			t.Run(fmt.Sprintf("lane %d, %s", lane, first), func(t *testing.T) { testOneCounter(t, lane, first, ways) })
		}
	}
}

func testOneCounter(t *testing.T, lane laneName, first string, ways []string) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, p := d.enrol("ana")
	e, err := d.Enrol(t.Context(), p, "") // for confirm
	if err != nil {
		t.Fatal(err)
	}
	d.clock.advance(time.Minute)
	if lane != laneInside {
		p = d.enter("ana")
	}
	for range freeFailures - 1 {
		if err := entries[first](d, p, dev); !errors.Is(err, ErrSignIn) {
			t.Fatalf("%s: %v; want ErrSignIn", first, err)
		}
	}
	if got := d.credential(id).Throttle; got.lane(lane).Failures != freeFailures-1 {
		t.Fatalf("%+v counted, want %d in lane %d", got, freeFailures-1, lane)
	}
	for _, name := range ways {
		// From four failures on, each time.
		d.write(func(tx storage.Tx) error {
			c, err := ReadCredential(tx, id)
			if err != nil {
				return err
			}
			c.Throttle = Throttle{}
			c.Throttle.lane(lane).Failures = freeFailures - 1
			return SaveCredential(tx, id, c)
		})
		if err := entries[name](d, p, dev); !errors.Is(err, ErrSignIn) {
			t.Errorf("%s: %v; want ErrSignIn", name, err)
		}
		if c := d.credential(id); !c.Throttle.lane(lane).Locked(d.clock.now()) {
			t.Errorf("four times %s, then %s: not locked: %+v", first, name, c.Throttle)
		}
	}
	good := map[string]func() error{
		"recovery": func() error { _, err := d.RecoveryCode(t.Context(), p, dev.codes[0]); return err },
		"check":    func() error { return d.SelfCheck(t.Context(), p, Secret(dev.code())) },
		"passcode": func() error { _, err := d.Passcode(t.Context(), p, Secret(dev.code())); return err },
	}
	if lane == laneInside {
		good["step up"] = func() error { _, err := d.StepUp(t.Context(), p, Secret(dev.code())); return err }
		good["enrol"] = func() error { _, err := d.Enrol(t.Context(), p, goodPassword); return err }
		good["confirm"] = func() error {
			next := &device{d: d, secret: e.Secret.Reveal()}
			_, err := d.ConfirmEnrolment(t.Context(), p, Secret(next.code()))
			return err
		}
		good["change"] = func() error {
			_, err := d.ChangePassword(t.Context(), p, goodPassword, "a password for tomorrow")
			return err
		}
	} else {
		good["sign in"] = func() error { _, err := d.give("ana", goodPassword, dev.code()); return err }
	}
	for name, do := range good {
		if err := do(); !errors.Is(err, ErrSignIn) {
			t.Errorf("%s with all that is right, while locked: %v; want ErrSignIn", name, err)
		}
	}
}

// TestPasswordDoesNotResetTheCounter: who knows the password gets no more guesses at
// the passcode by signing in again in between.
func TestPasswordDoesNotResetTheCounter(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	dev, _ := d.enrol("ana")
	guesses := 0
	for range 30 {
		res, err := d.give("ana", goodPassword)
		if err != nil {
			break
		}
		before := d.seen("passcode", "wrong")
		_, _ = d.Passcode(t.Context(), d.who(res.Token), Secret(dev.wrong()))
		guesses += d.seen("passcode", "wrong") - before
	}
	if guesses != freeFailures {
		t.Errorf("%d guesses, want %d", guesses, freeFailures)
	}
}

// TestSuccessClears: whoever has proved everything begins anew.
func TestSuccessClears(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, _ := d.enrol("ana")
	for name, enter := range map[string]func() error{
		"at once":  func() error { _, err := d.give("ana", goodPassword, dev.next()); return err },
		"in steps": func() error { _, err := d.Passcode(t.Context(), d.enter("ana"), Secret(dev.next())); return err },
		"recovery code": func() error {
			_, err := d.RecoveryCode(t.Context(), d.enter("ana"), dev.codes[0])
			return err
		},
	} {
		for range freeFailures - 2 {
			_, _ = d.give("ana", goodPassword, dev.wrong())
		}
		if err := enter(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := d.credential(id).Throttle; got != (Throttle{}) {
			t.Errorf("%s: %+v is left", name, got)
		}
	}
}

// TestFactorCap: after twenty wrong passcodes in a row, whatever the delays, none is
// accepted until somebody resets the factors; resetting the password does not help.
func TestFactorCap(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, _ := d.enrol("ana")
	looked := 0
	for range 40 {
		d.clock.advance(longestDelay)
		before := d.seen("signin", "wrong")
		if _, err := d.give("ana", goodPassword, dev.wrong()); !errors.Is(err, ErrSignIn) {
			t.Fatal(err)
		}
		looked += d.seen("signin", "wrong") - before
	}
	if looked != maxFactorFailures || d.seen("lockout", "disabled") != 1 {
		t.Errorf("%d passcodes were looked at, want %d; %d times observed as disabled", looked, maxFactorFailures, d.seen("lockout", "disabled"))
	}
	d.clock.advance(longestDelay)
	for name, r := range map[string]SignInRequest{"passcode": {Passcode: Secret(dev.code())}, "recovery code": {RecoveryCode: dev.codes[0]}} {
		r.Tenant, r.Name, r.Password = storage.DefaultTenant, "ana", goodPassword
		if _, err := d.SignIn(t.Context(), r); !errors.Is(err, ErrSignIn) {
			t.Errorf("a good %s: %v; want ErrSignIn", name, err)
		}
		d.clock.advance(longestDelay)
	}
	res, err := d.give("ana", goodPassword)
	if err != nil || res.Level != Password {
		t.Fatalf("the password alone = %+v, %v", res, err)
	}
	if _, err := d.Enrol(t.Context(), d.who(res.Token), ""); !errors.Is(err, ErrFactorDisabled) {
		t.Errorf("Enrol: %v; want ErrFactorDisabled", err)
	}
	temporary, err := d.ResetPassword(t.Context(), operator, id)
	if err != nil {
		t.Fatal(err)
	}
	if res, err = d.give("ana", temporary.Password.Reveal()); err != nil {
		t.Fatal(err)
	}
	if res, err = d.ChangePassword(t.Context(), d.who(res.Token), "", goodPassword+" 2"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Enrol(t.Context(), d.who(res.Token), ""); !errors.Is(err, ErrFactorDisabled) {
		t.Errorf("Enrol after a password reset: %v; want ErrFactorDisabled", err)
	}
	if err := d.ResetMFA(t.Context(), operator, id); err != nil {
		t.Fatal(err)
	}
	if res, err = d.give("ana", goodPassword+" 2"); err != nil {
		t.Fatal(err)
	}
	d.enrolIn(d.who(res.Token))
}

// TestFactorCapWhileEnrolling: whoever began to enrol before passcodes were disabled does
// not come by a new app afterwards.
func TestFactorCapWhileEnrolling(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	_, p := d.enrol("ana")
	e, err := d.Enrol(t.Context(), p, "")
	if err != nil {
		t.Fatal(err)
	}
	d.write(func(tx storage.Tx) error {
		c, err := ReadCredential(tx, id)
		if err != nil {
			return err
		}
		c.Throttle.FactorDisabled = true
		return SaveCredential(tx, id, c)
	})
	next := &device{d: d, secret: e.Secret.Reveal()}
	if _, err := d.ConfirmEnrolment(t.Context(), p, Secret(next.code())); !errors.Is(err, ErrFactorDisabled) {
		t.Errorf("ConfirmEnrolment: %v; want ErrFactorDisabled", err)
	}
	if !d.credential(id).Throttle.FactorDisabled {
		t.Error("passcodes are accepted again")
	}
}

// TestLockBetweenSteps: M12. Who was locked after the password does not get through
// with the passcode.
func TestLockBetweenSteps(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	dev, _ := d.enrol("ana")
	d.clock.advance(time.Minute)
	res, err := d.give("ana", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	for range freeFailures {
		_, _ = d.give("ana", "wrong password")
	}
	if _, err := d.Passcode(t.Context(), d.who(res.Token), Secret(dev.code())); !errors.Is(err, ErrSignIn) {
		t.Errorf("Passcode: %v; want ErrSignIn", err)
	}
	d.clock.advance(firstDelay)
	if _, err := d.Passcode(t.Context(), d.who(res.Token), Secret(dev.next())); err != nil {
		t.Errorf("Passcode after the delay: %v", err)
	}
}

// TestClockJumpDoesNotLock: a lock that was set while a clock was wrong lasts no
// longer than any other.
func TestClockJumpDoesNotLock(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	d.clock.advance(24 * time.Hour)
	for range freeFailures {
		_, _ = d.give("ana", "wrong password")
	}
	d.clock.advance(-24 * time.Hour)
	if _, err := d.give("ana", goodPassword); !errors.Is(err, ErrSignIn) {
		t.Fatal(err)
	}
	d.clock.advance(longestDelay)
	d.enter("ana")
}

// onBothStores runs a test with two processes on one store.
func onBothStores(t *testing.T, test func(t *testing.T, d *directory, other *Authenticator)) {
	t.Run("SQLite", func(t *testing.T) {
		d := newDirectory(t)
		test(t, d, d.another(d.Store, d.Keys))
	})
	t.Run("MongoDB", func(t *testing.T) {
		server := mongotest.Start(t)
		uri := server.URI(server.NewDatabase(t))
		open := func() storage.Store {
			s, err := mongo.Open(t.Context(), uri, mongo.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		}
		d := directoryOn(t, open())
		test(t, d, d.another(open(), d.Keys))
	})
}

// atOnce has n calls made at once, in two processes by turns, and returns how many
// succeeded. The others have to fail with ErrSignIn.
func atOnce(t *testing.T, d *directory, other *Authenticator, n int, call func(a *Authenticator, n int) error) int {
	t.Helper()
	var (
		good atomic.Int64
		wait sync.WaitGroup
	)
	for n := range n {
		a := []*Authenticator{d.Authenticator, other}[n%2]
		wait.Go(func() {
			switch err := call(a, n); {
			case err == nil:
				good.Add(1)
			case !errors.Is(err, ErrSignIn):
				t.Errorf("call %d: %v", n, err)
			}
		})
	}
	wait.Wait()
	return int(good.Load())
}

// unthrottle lets a user fail a thousand times before it counts.
func (d *directory) unthrottle(id string) {
	d.t.Helper()
	d.write(func(tx storage.Tx) error {
		c, err := ReadCredential(tx, id)
		if err != nil {
			return err
		}
		c.Throttle = Throttle{Lane: Lane{Failures: -1000}, Known: Lane{Failures: -1000}, FactorFailures: -1000}
		return SaveCredential(tx, id, c)
	})
}

// TestSameCodeAtOnce: M03. 64 at once in two processes, one code: one gets in.
func TestSameCodeAtOnce(t *testing.T) {
	rounds := 5
	if testing.Short() {
		rounds = 1
	}
	onBothStores(t, func(t *testing.T, d *directory, other *Authenticator) {
		id := d.add("ana", false)
		dev, p := d.enrol("ana")
		for range rounds {
			d.clock.advance(time.Hour)
			code := Secret(dev.code())
			d.unthrottle(id) // how often is what the other tests are about
			p = d.enter("ana")
			in := atOnce(t, d, other, 64, func(a *Authenticator, n int) (err error) {
				switch n / 2 % 3 {
				case 0:
					_, err = a.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, Passcode: code})
				case 1:
					_, err = a.Passcode(t.Context(), p, code)
				case 2:
					err = a.SelfCheck(t.Context(), p, code)
				}
				if refused(err) {
					err = ErrSignIn
				}
				return err
			})
			if in != 1 {
				t.Fatalf("%d got in with one code", in)
			}
		}
	})
}

// TestGuessesAtOnce: M07. 200 at once in two processes, half of them in ten sessions
// side by side, get no more guesses than one who asks one after the other, and somebody
// is told.
func TestGuessesAtOnce(t *testing.T) {
	onBothStores(t, func(t *testing.T, d *directory, other *Authenticator) {
		d.add("ana", false)
		dev, _ := d.enrol("ana")
		d.clock.advance(time.Hour)
		var sessions []Secret
		for range MaxSessions {
			res, err := d.give("ana", goodPassword)
			if err != nil {
				t.Fatal(err)
			}
			sessions = append(sessions, res.Token)
		}
		looked := func() int { return d.seen("signin", "wrong") + d.seen("passcode", "wrong") }
		total := 0
		for range 3 {
			before := looked()
			var in []Principal
			for _, s := range sessions {
				in = append(in, d.who(s))
			}
			var wait sync.WaitGroup
			for n := range 200 {
				a := []*Authenticator{d.Authenticator, other}[n%2]
				wait.Go(func() {
					r := SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, Passcode: Secret(dev.wrong()), From: here, Agent: "test"}
					if n/2%2 == 0 {
						if _, err := a.Passcode(t.Context(), in[n%len(in)], r.Passcode); !errors.Is(err, ErrSignIn) {
							t.Errorf("Passcode: %v; want ErrSignIn", err)
						}
						return
					}
					if n%3 == 0 {
						r.Password = "wrong password"
					}
					if _, err := a.SignIn(t.Context(), r); !errors.Is(err, ErrSignIn) {
						t.Errorf("SignIn: %v; want ErrSignIn", err)
					}
				})
			}
			wait.Wait()
			got := looked() - before
			if want := map[bool]int{true: freeFailures, false: 1}[total == 0]; got != want {
				t.Errorf("%d guesses were looked at, want %d", got, want)
			}
			total += got
			d.clock.advance(longestDelay)
		}
		if d.seen("lockout", "locked") == 0 {
			t.Error("nobody was told")
		}
	})
}

// TestRecoveryCodeAtOnce: M08. One of 64 uses a code.
func TestRecoveryCodeAtOnce(t *testing.T) {
	onBothStores(t, func(t *testing.T, d *directory, other *Authenticator) {
		id := d.add("ana", false)
		dev, _ := d.enrol("ana")
		d.unthrottle(id)
		in := atOnce(t, d, other, 64, func(a *Authenticator, _ int) error {
			_, err := a.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, RecoveryCode: dev.codes[3]})
			return err
		})
		if in != 1 || len(d.credential(id).Recovery) != recoveryCodes-1 {
			t.Errorf("%d got in, %d codes are left", in, len(d.credential(id).Recovery))
		}
	})
}

// TestSetupAtOnce: S12. Of those who use one link at once, one does.
func TestSetupAtOnce(t *testing.T) {
	onBothStores(t, func(t *testing.T, d *directory, other *Authenticator) {
		id := d.add("ana", true)
		link, err := d.NewSetup(t.Context(), operator, id, false)
		if err != nil {
			t.Fatal(err)
		}
		in := atOnce(t, d, other, 16, func(a *Authenticator, n int) error {
			_, err := a.UseSetup(t.Context(), SetupRequest{Text: link, Password: Secret(fmt.Sprintf("a password number %d", n))})
			return err
		})
		if in != 1 {
			t.Errorf("%d used the link", in)
		}
	})
}

// TestNothingReadable: the files of the database hold none of what users were given,
// in any spelling.
func TestNothingReadable(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", true)
	dev, _ := d.enrol("ana")
	code := dev.next()
	res, err := d.give("ana", goodPassword, code)
	if err != nil {
		t.Fatal(err)
	}
	d.add("bob", false)
	bob := d.enter("bob")
	pending, err := d.Enrol(t.Context(), bob, "")
	if err != nil {
		t.Fatal(err)
	}
	temporary, err := d.ResetPassword(t.Context(), operator, bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	link, err := d.NewSetup(t.Context(), operator, id, true)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"password": goodPassword, "TOTP secret": string(dev.raw()), "pending TOTP secret": string((&device{d: d, secret: pending.Secret.Reveal()}).raw()),
		"session": res.Token.Reveal(), "temporary password": temporary.Password.Reveal(), "link": link.Reveal(),
		"temporary password, canonical": canonicalReadable(temporary.Password.Reveal()), "key file": string(d.keyRoot()),
		"session secret": strings.Split(res.Token.Reveal(), "_")[2],
	}
	for n, c := range dev.codes {
		secrets[fmt.Sprint("recovery code ", n)] = c.Reveal()
		secrets[fmt.Sprint("recovery code ", n, ", canonical")] = canonicalReadable(c.Reveal())
	}
	if err := d.Store.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(d.path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, f := range files {
		b := readFile(t, f)
		for name, secret := range secrets {
			for spelling, text := range spellingsOf(secret) {
				if strings.Contains(b, text) {
					t.Errorf("%s has the %s, %s", filepath.Base(f), name, spelling)
				}
			}
		}
		if strings.HasSuffix(f, ".db") && !strings.Contains(b, id) {
			t.Errorf("%s has no trace of the user, so this test shows nothing", f)
		}
	}
}
