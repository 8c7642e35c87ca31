package auth

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
)

// TestNoStepWithoutProof: M13. Somebody who knows everything but the factor, and
// somebody who knows everything but the password, take steps in any order while the
// owner does the same. The first never gets past a password, the second nowhere.
func TestNoStepWithoutProof(t *testing.T) {
	raced.Skip(t)
	if os.Getenv("ROSTER_TEST_STEPS") == "" { // the steps of a hundred people take a while: see make sequences
		checks := flag.Lookup("rapid.checks").Value
		before := checks.String()
		if err := checks.Set("25"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = checks.Set(before) }()
	}
	d := newDirectory(t)
	d.add("keeper", true) // so that nobody else is the last administrator
	d.enrol("keeper")
	users := 0
	rapid.Check(t, func(rt *rapid.T) {
		users++
		name := fmt.Sprint("ana", users)
		m := &scene{directory: d, rt: rt, name: name, password: goodPassword}
		m.id = d.add(name, rapid.Bool().Draw(rt, "administrator"))
		m.dev, m.owner = d.enrol(name)
		m.used = []string{m.dev.code()}
		rt.Repeat(map[string]func(*rapid.T){
			"time":     func(rt *rapid.T) { d.clock.advance(time.Duration(rapid.IntRange(1, 400).Draw(rt, "s")) * time.Second) },
			"thief":    func(rt *rapid.T) { m.thief(rt) },
			"finder":   func(rt *rapid.T) { m.finder(rt) },
			"owner":    func(rt *rapid.T) { m.ownerActs(rt) },
			"operator": func(rt *rapid.T) { m.resetPassword() },
			"": func(rt *rapid.T) {
				if c := d.credential(m.id); c.TOTP == nil || !bytes.Equal(m.sealedSecret(c.TOTP), m.dev.raw()) {
					rt.Fatalf("the factor is another one than the owner's")
				}
			},
		})
	})
}

type scene struct {
	*directory
	rt       *rapid.T
	id, name string
	dev      *device
	owner    Principal
	password string   // the present one, which the thief knows
	used     []string // passcodes that were used, which the thief has seen

	stolen []Principal // sessions of the thief
}

func (m *scene) sealedSecret(f *Factor) []byte {
	plain, err := m.Keys.Open(f.Sealed, factorAAD(storage.DefaultTenant, m.id)...)
	if err != nil {
		m.rt.Fatal(err)
	}
	return plain
}

func (m *scene) signIn(password, passcode string, recovery Secret) (*SignInResult, error) {
	return m.SignIn(m.t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: m.name, Password: Secret(password), Passcode: Secret(passcode), RecoveryCode: recovery})
}

// thief knows the password.
func (m *scene) thief(rt *rapid.T) {
	ctx := m.t.Context()
	got := func(what string, res *SignInResult, err error) {
		if err != nil {
			return
		}
		if res.Level > Password {
			rt.Fatalf("%s: a session of level %s", what, res.Level)
		}
		if p, err := m.VerifySession(ctx, res.Token.Reveal(), here); err == nil {
			m.stolen = append(m.stolen, p)
		}
	}
	code := Secret(rapid.SampledFrom(append([]string{m.dev.wrong(), "", "000000x"}, m.used...)).Draw(rt, "code"))
	if len(m.stolen) == 0 || rapid.IntRange(0, 3).Draw(rt, "sign in") == 0 {
		res, err := m.signIn(m.password, rapid.SampledFrom([]string{"", code.Reveal()}).Draw(rt, "with"), "")
		got("sign in", res, err)
		return
	}
	p := rapid.SampledFrom(m.stolen).Draw(rt, "session")
	switch rapid.IntRange(0, 6).Draw(rt, "step") {
	case 0:
		res, err := m.Passcode(ctx, p, code)
		got("passcode", res, err)
	case 1:
		res, err := m.StepUp(ctx, p, code)
		got("step up", res, err)
	case 2:
		res, err := m.RecoveryCode(ctx, p, code)
		got("recovery code", res, err)
	case 3:
		if e, err := m.Enrol(ctx, p, Secret(m.password)); err == nil {
			rt.Fatalf("the thief has begun an enrolment: %v", e.URI)
		}
	case 4:
		if _, err := m.ConfirmEnrolment(ctx, p, code); err == nil {
			rt.Fatal("the thief has confirmed an enrolment")
		}
	case 5:
		if err := m.SelfCheck(ctx, p, code); err == nil {
			rt.Fatal("a code of the thief's was accepted")
		}
	case 6:
		next := m.newPassword()
		res, err := m.ChangePassword(ctx, p, Secret(m.password), Secret(next))
		if err == nil {
			m.password = next
		}
		got("change password", res, err)
	}
}

func (m *scene) newPassword() string { return fmt.Sprint("kq7 xw9 ", m.clock.now().UnixNano()) }

// finder has the device and the recovery codes, and knows the ids of sessions.
func (m *scene) finder(rt *rapid.T) {
	ctx := m.t.Context()
	p := Principal{Kind: User, Tenant: storage.DefaultTenant, ID: m.id, Session: "0123", Level: MFA, PasscodeAt: m.clock.now()}
	code := Secret(m.dev.code())
	var err error
	switch rapid.IntRange(0, 6).Draw(rt, "step") {
	case 0:
		_, err = m.signIn("wrong password", m.dev.code(), "")
	case 1:
		_, err = m.signIn("wrong password", "", m.dev.codes[0])
	case 2:
		_, err = m.Passcode(ctx, p, code)
	case 3:
		_, err = m.StepUp(ctx, p, code)
	case 4:
		_, err = m.RecoveryCode(ctx, p, m.dev.codes[0])
	case 5:
		_, err = m.Enrol(ctx, p, "")
	case 6:
		_, err = m.ChangePassword(ctx, p, "", Secret(m.newPassword()))
	}
	if err == nil {
		rt.Fatal("somebody got in without the password")
	}
}

// ownerActs: the owner knows everything. What does not work, because the account is
// locked or a session has ended, does not.
func (m *scene) ownerActs(rt *rapid.T) {
	ctx := m.t.Context()
	again := func(res *SignInResult, err error) {
		if err != nil {
			return
		}
		if p, err := m.VerifySession(ctx, res.Token.Reveal(), here); err == nil {
			m.owner = p
		}
	}
	code := m.dev.code()
	switch step := rapid.IntRange(0, 4).Draw(rt, "step"); step {
	case 0, 1:
		try := func() (*SignInResult, error) { return m.signIn(m.password, code, "") }
		if step == 1 {
			try = func() (*SignInResult, error) { return m.StepUp(ctx, m.owner, Secret(code)) }
		}
		res, err := try()
		if err == nil { // otherwise it has not been used, and is good for whoever saw it
			m.used = append(m.used, code)
		}
		again(res, err)
	case 2:
		again(m.signIn(m.password, "", m.dev.codes[rapid.IntRange(0, 9).Draw(rt, "recovery")]))
	case 3:
		e, err := m.Enrol(ctx, m.owner, Secret(m.password))
		if err != nil {
			return
		}
		if rapid.Bool().Draw(rt, "confirm") {
			dev := &device{d: m.directory, secret: e.Secret.Reveal()}
			if res, err := m.ConfirmEnrolment(ctx, m.owner, Secret(dev.code())); err == nil {
				m.used = append(m.used, dev.code())
				dev.codes = res.RecoveryCodes
				m.dev = dev
				again(&res.SignInResult, nil)
			}
		}
	case 4:
		next := m.newPassword()
		res, err := m.ChangePassword(ctx, m.owner, Secret(m.password), Secret(next))
		if err == nil {
			m.password = next
		}
		again(res, err)
	}
}

// resetPassword gives the account a temporary password, which the thief learns.
func (m *scene) resetPassword() {
	temporary, err := m.ResetPassword(m.t.Context(), operator, m.id)
	if err != nil {
		m.rt.Fatal(err)
	}
	m.password = temporary.Password.Reveal()
}
