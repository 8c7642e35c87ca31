package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/roster-id/roster/storage"
)

// enrolmentTime is how long an enrolment waits to be confirmed.
const enrolmentTime = 10 * time.Minute

// Passcode proves, in a session that began with a password, that its user has the
// factor too. The session goes on under another token. The error is ErrSignIn, a
// *RefusedError if the session has ended, or what the store said.
func (a *Authenticator) Passcode(ctx context.Context, by Principal, code Secret) (*SignInResult, error) {
	return a.factor(ctx, by, eventPasscode, func(w *settlement, s *session) (outcome, error) {
		return a.takePasscode(w, s, code)
	})
}

// StepUp is Passcode for a session in which one was given before.
func (a *Authenticator) StepUp(ctx context.Context, by Principal, code Secret) (*SignInResult, error) {
	return a.factor(ctx, by, eventStepUp, func(w *settlement, s *session) (outcome, error) {
		if s.PasscodeAt.IsZero() {
			return early, ErrPasscodeAge
		}
		return a.takePasscode(w, s, code)
	})
}

// RecoveryCode takes a recovery code in the place of a passcode. What can be done
// then is to enrol again.
func (a *Authenticator) RecoveryCode(ctx context.Context, by Principal, code Secret) (*SignInResult, error) {
	return a.factor(ctx, by, eventRecovery, func(w *settlement, s *session) (outcome, error) {
		return takeRecovery(w, s, code), nil
	})
}

func (a *Authenticator) factor(ctx context.Context, by Principal, event string, take func(*settlement, *session) (outcome, error)) (*SignInResult, error) {
	var res SignInResult
	err := a.prove(ctx, by, event, nil, func(w *settlement, s *storedSession) (outcome, error) {
		if o, err := take(w, &s.session); o != accepted {
			return o, err
		}
		w.proved(true)
		w.known(&s.session, s.Started)
		w.issue(&res, s.session, w.administrator, s.item)
		return accepted, nil
	})
	if err != nil {
		return nil, err
	}
	return &res, nil
}

// SelfCheck reports whether a passcode is accepted, and changes nothing beside that
// it has been used. The errors are those of Passcode.
func (a *Authenticator) SelfCheck(ctx context.Context, by Principal, code Secret) error {
	return a.prove(ctx, by, eventCheck, nil, func(w *settlement, _ *storedSession) (outcome, error) {
		var s session
		o, err := a.takePasscode(w, &s, code)
		if o == accepted {
			w.proved(true)
		}
		return o, err
	})
}

// Enrol makes a TOTP secret, which counts from ConfirmEnrolment on, in the same
// session. password may be empty if it was given in the session less than StepUpAge
// ago. Who has a factor has to give a passcode, or a recovery code, as well. The
// error is ErrPasswordChange, ErrPasswordPushed, ErrPasswordAge, ErrPasscodeAge or ErrFactorDisabled,
// or one of those of Passcode.
func (a *Authenticator) Enrol(ctx context.Context, by Principal, password Secret) (*Enrolment, error) {
	u, err := a.account(ctx, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	if u.userName == "" {
		return nil, refuseRevoked
	}
	enrolment, secret, err := newEnrolment(rand.Reader, cmp.Or(a.Issuer, "Roster"), u.userName)
	if err != nil {
		return nil, err
	}
	err = a.prove(ctx, by, eventEnrol, &passwordCheck{password: password}, func(w *settlement, s *storedSession) (outcome, error) {
		c := w.c
		switch {
		case c.Temporary:
			return early, ErrPasswordChange
		case c.Pushed && w.administrator:
			return early, ErrPasswordPushed
		case password == "" && !within(s.PasswordAt, StepUpAge, w.now):
			return early, ErrPasswordAge
		case c.Throttle.FactorDisabled:
			return disabled, ErrFactorDisabled
		case c.TOTP != nil && !within(s.PasscodeAt, StepUpAge, w.now) && !within(s.RecoveryAt, StepUpAge, w.now):
			return early, ErrPasscodeAge
		}
		if err := a.Keys.MeetCanary(w.tx, by.Tenant); err != nil {
			return "", err
		}
		c.Pending = &Factor{Sealed: a.Keys.Seal(secret, factorAAD(by.Tenant, by.ID)...), Since: w.now, Session: s.item.ID}
		w.proved(false)
		return accepted, nil
	})
	if err != nil {
		return nil, err
	}
	return enrolment, nil
}

// Confirmed is the outcome of an enrolment: a session with another token, and
// recovery codes that are shown once.
type Confirmed struct {
	SignInResult
	RecoveryCodes []Secret
}

// ConfirmEnrolment makes the secret of Enrol the factor of the user, if the passcode
// is one of it; that uses the passcode. Former recovery codes are void, and the
// user's other sessions end. The error is ErrNoEnrolment or one of those of
// Passcode.
func (a *Authenticator) ConfirmEnrolment(ctx context.Context, by Principal, code Secret) (*Confirmed, error) {
	var res Confirmed
	err := a.prove(ctx, by, eventConfirm, nil, func(w *settlement, s *storedSession) (outcome, error) {
		c, f := w.c, w.c.Pending
		if f == nil || f.Session != s.item.ID || !within(f.Since, enrolmentTime, w.now) {
			return early, ErrNoEnrolment
		}
		switch {
		case c.Temporary:
			return early, ErrPasswordChange
		case c.Pushed && w.administrator:
			return early, ErrPasswordPushed
		case c.Throttle.FactorDisabled:
			return disabled, ErrFactorDisabled
		}
		if o, err := f.take(a.Keys, by.Tenant, by.ID, code.Reveal(), w.now); o != accepted {
			return o, err
		}
		codes, hashes, err := newRecoveryCodes(rand.Reader, by.Tenant, by.ID)
		if err != nil {
			return "", err
		}
		c.resetMFA()
		c.TOTP, c.Recovery = &Factor{Sealed: f.Sealed, Since: w.now, LastStep: f.LastStep}, hashes
		s.PasscodeAt, s.RecoveryAt = w.now, time.Time{}
		w.proved(true)
		w.known(&s.session, s.Started)
		w.endOthers = true
		w.issue(&res.SignInResult, s.session, w.administrator, nil)
		res.RecoveryCodes = codes
		return accepted, nil
	})
	if err != nil {
		return nil, err
	}
	return &res, nil
}

// ChangePassword puts a password that the user has chosen in the place of the current
// one, which need not be given if it is a temporary one. The user's other sessions
// end. The error is one of those of Policy.Check, ErrSamePassword, or one of those
// of SignIn and Passcode.
func (a *Authenticator) ChangePassword(ctx context.Context, by Principal, current, next Secret) (*SignInResult, error) {
	u, err := a.account(ctx, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	administrator, err := a.isAdministrator(ctx, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	if err := a.Policy.Check(next.Reveal(), administrator, u.words...); err != nil {
		return nil, err
	}
	var res SignInResult
	check := &passwordCheck{password: current, next: next, administrator: administrator}
	err = a.prove(ctx, by, eventPassword, check, func(w *settlement, s *storedSession) (outcome, error) {
		c := w.c
		switch {
		case current == "" && (!c.Temporary || !within(s.PasswordAt, SessionLength, w.now)):
			return wrong, nil
		case check.same:
			return early, ErrSamePassword
		case c.TOTP != nil && !c.Temporary && !within(s.PasscodeAt, SessionLength, w.now) && !within(s.RecoveryAt, SessionLength, w.now):
			// Whoever knows the password alone could lock its owner out.
			return early, ErrPasscodeAge
		}
		c.changePassword(check.hashed, w.now)
		s.PasswordAt = w.now
		w.proved(c.TOTP == nil)
		w.endOthers = true
		w.issue(&res, s.session, w.administrator, nil)
		return accepted, nil
	})
	if err != nil {
		return nil, err
	}
	return &res, nil
}

// ErrFactorRequired says: the user's roles require a passcode.
var ErrFactorRequired = errors.New("the roles of this account require a passcode")

// RemoveFactor lets a user do without passcodes; the session by is in becomes one of
// level Password, and the others end. Whoever calls it has made sure that a passcode
// was given just now. The error is ErrFactorRequired for those who hold an
// administrative role, and ErrMoved in a session that began in another tenant.
func (a *Authenticator) RemoveFactor(ctx context.Context, by Principal) (*SignInResult, error) {
	if by.Moved {
		return nil, ErrMoved
	}
	defer a.InvalidateUser(by.ID)
	var res *SignInResult
	err := a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		c, err := ReadCredential(tx, by.ID)
		if err != nil {
			return err
		}
		s, err := resume(tx, by, c, now)
		if err != nil {
			return err
		}
		u, err := tx.Get(PrincipalUser, by.ID)
		if err != nil {
			return err
		}
		administrator, err := isAdministratorTx(tx, u, now)
		switch {
		case err != nil:
			return err
		case administrator:
			return ErrFactorRequired
		}
		c.resetMFA()
		if err := SaveCredential(tx, by.ID, c); err != nil {
			return err
		}
		if _, err := dropSessions(tx, by.ID); err != nil {
			return err
		}
		next := s.session
		next.PasscodeAt, next.RecoveryAt = time.Time{}, time.Time{}
		if res, err = issue(tx, by.Tenant, next, c, false, nil, now); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, "mfa.remove", by.ID, now)
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// passwordCheck is a password that is given in a session.
type passwordCheck struct {
	password Secret // or empty
	next     Secret // one to be hashed, in ChangePassword
	// administrator says how next is hashed.
	administrator bool
	same          bool   // next is the password that there is
	hashed        string // of next
}

// prove is what all have in common that prove something in a session.
func (a *Authenticator) prove(ctx context.Context, by Principal, event string, check *passwordCheck, fn func(*settlement, *storedSession) (outcome, error)) error {
	o, err := a.tryProof(ctx, by, event, check, fn)
	a.observe(event, o, err)
	return err
}

func (a *Authenticator) tryProof(ctx context.Context, by Principal, event string, check *passwordCheck, fn func(*settlement, *storedSession) (outcome, error)) (outcome, error) {
	if by.Kind != User || by.ID == "" || by.Session == "" {
		return ended, refuseUnknown
	}
	if by.Moved {
		return early, ErrMoved
	}
	var (
		ticket, nextTicket *ticket
		err                error
	)
	if check != nil && check.password != "" {
		if ticket, err = a.Hasher.admit(check.password.Reveal()); err != nil {
			return "", err
		}
		defer ticket.release()
	}
	if check != nil && check.next != "" {
		if nextTicket, err = a.Hasher.admit(check.next.Reveal()); err != nil {
			return "", err
		}
		defer nextTicket.release()
	}
	try, err := a.begin(ctx, by, by.ID, event, func(tx storage.Tx, c *Credential, now time.Time) (laneName, error) {
		s, err := resume(tx, by, c, now)
		if err != nil {
			return 0, err
		}
		return s.lane(now), nil
	})
	if err != nil {
		if _, refused := errors.AsType[*RefusedError](err); refused {
			return ended, err
		}
		return "", err
	}
	good := true
	if ticket != nil {
		if good, err = a.verify(ctx, ticket, try.hash, false); err != nil {
			return "", err
		}
	}
	if nextTicket != nil && good && try.admitted {
		if check.same, err = a.verify(ctx, nextTicket, try.hash, false); err != nil {
			return "", err
		}
		if check.hashed, err = nextTicket.hash(ctx, check.administrator); err != nil {
			return "", err
		}
	}
	defer a.InvalidateUser(by.ID)
	return a.settle(ctx, by, by.ID, event, try, func(w *settlement) (outcome, error) {
		s, err := resume(w.tx, by, w.c, w.now)
		if err != nil {
			if _, refused := errors.AsType[*RefusedError](err); refused {
				return ended, err
			}
			return "", err
		}
		r, err := w.tx.Get(PrincipalUser, by.ID)
		if errors.Is(err, storage.ErrNotFound) {
			return blocked, refuseRevoked
		}
		if err != nil {
			return "", err
		}
		if !Active(r) {
			return blocked, refuseRevoked
		}
		switch {
		case !try.admitted:
			return locked, nil
		case !good || w.c.Generation != try.generation:
			return wrong, nil
		}
		if w.administrator, err = isAdministratorTx(w.tx, r, w.now); err != nil {
			return "", err
		}
		return fn(w, s)
	})
}

// resume returns the session that by is in, unless it has ended.
func resume(tx storage.Tx, by Principal, c *Credential, now time.Time) (*storedSession, error) {
	s, err := foundSession(tx.Item(SessionKind, by.Session))
	if err != nil {
		return nil, err
	}
	if s.User != by.ID || s.over(c, now) {
		return nil, refuseExpired
	}
	return s, nil
}
