package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// TestTOTPVectors are those of RFC 6238, appendix B, for SHA-1, cut to six digits.
func TestTOTPVectors(t *testing.T) {
	secret := []byte("12345678901234567890")
	for at, code := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		now := time.Unix(at, 0)
		if s, ok, err := passcodeStep(secret, code, now); !ok || err != nil || s != at/30 {
			t.Errorf("at %d: %s = %d, %v, %v; want step %d", at, code, s, ok, err, at/30)
		}
		for steps, want := range map[time.Duration]bool{-2: false, -1: true, 1: true, 2: false} {
			if at+30*int64(steps) < 0 {
				continue
			}
			if _, ok, _ := passcodeStep(secret, code, now.Add(steps*30*time.Second)); ok != want {
				t.Errorf("at %d, %d steps off: accepted %v, want %v", at, steps, ok, want)
			}
		}
	}
}

// TestPasscodeSpellings: M01. What is not six ASCII digits is no passcode, used or
// not.
func TestPasscodeSpellings(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, p := d.enrol("ana")
	variants := func(code string) []string {
		wide := func(base rune) string {
			return strings.Map(func(r rune) rune { return base + r - '0' }, code)
		}
		return []string{
			" " + code, code + " ", "\t" + code, code + "\n", code + "\r\n", "\u00a0" + code, "\u200b" + code, "+" + code, "-" + code,
			code[:3] + " " + code[3:], code[:3] + "-" + code[3:], code + "\x00", "0" + code, code + "0", "0x" + code,
			wide('\uff10'), wide('\u0660'), wide('\u06f0'), wide('\u0966'), code[1:], code + "." + code, "", "٠" + code[1:],
		}
	}
	for _, used := range []bool{false, true} {
		code := dev.next()
		if used {
			res, err := d.StepUp(t.Context(), p, Secret(code))
			if err != nil {
				t.Fatal(err)
			}
			p = d.who(res.Token)
		}
		for _, v := range variants(code) {
			d.write(func(tx storage.Tx) error { // none of this is about how often
				c, err := ReadCredential(tx, id)
				if err != nil {
					return err
				}
				c.Throttle = Throttle{}
				return SaveCredential(tx, id, c)
			})
			if _, err := d.StepUp(t.Context(), p, Secret(v)); !errors.Is(err, ErrSignIn) {
				t.Errorf("used %v, %q: %v; want ErrSignIn", used, v, err)
			}
		}
	}
}

// TestPasscodeCountsOnce: M02. Whatever it is given for first, it is not accepted
// again anywhere; after a restart neither.
func TestPasscodeCountsOnce(t *testing.T) {
	ways := map[string]func(*directory, Principal, string) error{
		"sign in": func(d *directory, _ Principal, code string) error {
			_, err := d.give("ana", goodPassword, code)
			return err
		},
		"passcode": func(d *directory, p Principal, code string) error {
			_, err := d.Passcode(d.t.Context(), p, Secret(code))
			return err
		},
		"step up": func(d *directory, p Principal, code string) error {
			_, err := d.StepUp(d.t.Context(), p, Secret(code))
			return err
		},
		"self-check": func(d *directory, p Principal, code string) error {
			return d.SelfCheck(d.t.Context(), p, Secret(code))
		},
	}
	for first, use := range ways {
		t.Run(first, func(t *testing.T) {
			d := newDirectory(t)
			d.add("ana", false)
			dev, _ := d.enrol("ana")
			// The code that confirmed the enrolment is used as well.
			for name, again := range ways {
				p := d.enter("ana", dev.next())
				if err := again(d, p, dev.code()); !errors.Is(err, ErrSignIn) {
					t.Errorf("the code of the sign-in, then %s: %v; want ErrSignIn", name, err)
				}
			}
			p := d.enter("ana", dev.next())
			code := dev.next()
			if err := use(d, p, code); err != nil {
				t.Fatalf("%s: %v", first, err)
			}
			// After a restart, with the same store opened anew.
			if err := d.Store.Close(); err != nil {
				t.Fatal(err)
			}
			store, err := sqlite.Open(t.Context(), d.path, sqlite.Options{MustExist: true})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			restarted := &directory{t: t, clock: d.clock}
			restarted.Authenticator = d.another(store, d.Keys)
			replayed := func() (n int) {
				for _, event := range []string{"signin", "passcode", "stepup", "check"} {
					n += d.seen(event, "replayed")
				}
				return n
			}
			for name, again := range ways {
				p := restarted.enter("ana")
				if name == "step up" { // which needs a passcode; code is good for another step
					p = restarted.enter("ana", dev.next())
				}
				before := replayed()
				if err := again(restarted, p, code); !errors.Is(err, ErrSignIn) || replayed() != before+1 {
					t.Errorf("%s, then %s: %v, %d found used; want ErrSignIn for that", first, name, err, replayed()-before)
				}
			}
		})
	}
	t.Run("confirm", func(t *testing.T) {
		d := newDirectory(t)
		d.add("ana", false)
		dev, p := d.enrol("ana")
		for name, again := range ways {
			if err := again(d, p, dev.code()); !errors.Is(err, ErrSignIn) {
				t.Errorf("the code of the enrolment, then %s: %v; want ErrSignIn", name, err)
			}
		}
	})
}

// TestEarlierStep: once a code has been used, those of earlier steps are void, even
// where they would have been in time.
func TestEarlierStep(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	dev, _ := d.enrol("ana")
	d.clock.advance(time.Hour)
	p := d.enter("ana", dev.at(1))
	for _, steps := range []int64{-1, 0, 1} {
		if _, err := d.StepUp(t.Context(), p, Secret(dev.at(steps))); !errors.Is(err, ErrSignIn) {
			t.Errorf("the code of %d: %v; want ErrSignIn", steps, err)
		}
	}
	d.clock.advance(time.Minute)
	if _, err := d.StepUp(t.Context(), p, Secret(dev.code())); err != nil {
		t.Errorf("the next code: %v", err)
	}
}

// TestClockJump: a code that was accepted while a clock was wrong does not make
// others void in silence.
func TestClockJump(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	dev, _ := d.enrol("ana")
	d.clock.advance(time.Hour)
	if _, err := d.give("ana", goodPassword, dev.code()); err != nil {
		t.Fatal(err)
	}
	d.clock.advance(-59 * time.Minute)
	if _, err := d.give("ana", goodPassword, dev.code()); !errors.Is(err, ErrSignIn) {
		t.Errorf("after the clock went back: %v; want ErrSignIn", err)
	}
	if d.seen("signin", "poisoned") != 1 || d.actions()[len(d.actions())-1] != "signin.poisoned" {
		t.Errorf("observed %v, audited %v", d.observed, d.actions())
	}
	res, err := d.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, RecoveryCode: dev.codes[0]})
	if err != nil {
		t.Fatalf("a recovery code: %v", err)
	}
	d.enrolIn(d.who(res.Token))
}

// TestSwappedSecrets: S23. A sealed secret opens for its owner only.
func TestSwappedSecrets(t *testing.T) {
	d := newDirectory(t)
	ana, bob := d.add("ana", false), d.add("bob", false)
	anas, _ := d.enrol("ana")
	bobs, _ := d.enrol("bob")
	d.write(func(tx storage.Tx) error {
		a, err := ReadCredential(tx, ana)
		if err != nil {
			return err
		}
		b, err := ReadCredential(tx, bob)
		if err != nil {
			return err
		}
		a.TOTP.Sealed, b.TOTP.Sealed = b.TOTP.Sealed, a.TOTP.Sealed
		if err := SaveCredential(tx, ana, a); err != nil {
			return err
		}
		return SaveCredential(tx, bob, b)
	})
	d.clock.advance(time.Minute)
	for name, code := range map[string]string{"ana": anas.code(), "bob": anas.code(), "ana ": bobs.code(), "bob ": bobs.code()} {
		if res, err := d.give(name, goodPassword, code); !errors.Is(err, ErrSignIn) {
			t.Errorf("%s: %v, %v; want ErrSignIn", name, res, err)
		}
	}
	if d.seen("signin", "error") != 4 || !strings.HasSuffix(fmt.Sprint(d.actions()), "signin.error]") {
		t.Errorf("observed %v", d.observed)
	}
	sealed := d.Keys.Seal([]byte("12345678901234567890"), factorAAD("t", "ana")...)
	for name, owner := range map[string][]string{"another user": factorAAD("t", "bob"), "the same in another tenant": factorAAD("u", "ana")} {
		if _, err := d.Keys.Open(sealed, owner...); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v; want ErrSealed", name, err)
		}
	}
}
