package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// Errors of an Authenticator.
var (
	// ErrSignIn: what was given to prove who somebody is was not accepted. It is
	// the same for an account that does not exist, is blocked or locked, and for
	// whatever was wrong: nobody is told which.
	ErrSignIn = errors.New("the sign-in was not accepted")
	// ErrPasswordAge: the password has to be given again, for the last time was more
	// than StepUpAge ago.
	ErrPasswordAge = errors.New("the password has to be given again")
	// ErrPasscodeAge: so has a passcode, or a recovery code.
	ErrPasscodeAge = errors.New("a passcode has to be given first")
	// ErrPasswordChange: the temporary password has to be changed first.
	ErrPasswordChange = errors.New("the temporary password has to be changed first")
	// ErrPasswordPushed: the password of somebody who has become an administrator came
	// over SCIM. Somebody entitled has to give a temporary one, or a link.
	ErrPasswordPushed = errors.New("the password came from a provisioning client")
	// ErrNoEnrolment: no enrolment has begun in this session, or too long ago.
	ErrNoEnrolment = errors.New("no enrolment has begun")
	// ErrFactorDisabled: too many passcodes were wrong; somebody entitled has to
	// reset the account's factors.
	ErrFactorDisabled = errors.New("passcodes of this account are not accepted any more")
	// ErrSamePassword: the new password is the old one.
	ErrSamePassword = &PolicyError{"another password than before"}
	// ErrSelf: this can be done to others only.
	ErrSelf = errors.New("nobody can do this to their own account: somebody else has to")
)

// enrolmentTime is how long an enrolment waits to be confirmed.
const enrolmentTime = 10 * time.Minute

// Authenticator signs users in, and looks after what they prove who they are with.
// Set the fields before the first call; all methods are safe for concurrent use.
//
// Whatever is given as a proof is counted as an attempt first, in a write of its
// own, and looked at afterwards; what it is good for happens in a second write,
// which also records what became of it. A passcode is taken in the write that makes
// the session, so it counts once, whichever processes it is given to.
type Authenticator struct {
	Store   storage.Store
	Schemas *schemas.Set
	Hasher  *Hasher
	Keys    *KeyRing
	Now     func() time.Time
	Policy  Policy
	// Issuer is what authenticator apps show beside the account; "Roster" if empty.
	Issuer string
	// Observe is told of every attempt, by the constants below; it may be nil.
	Observe func(event, outcome string)
	// Log is told what callers cannot see; it may be nil.
	Log *slog.Logger

	recent  recentSessions
	tenants knownTenants
}

// outcome is how an attempt ended, for metrics and the audit trail.
type outcome string

const (
	accepted  outcome = "ok"
	wrong     outcome = "wrong"     // the password, passcode or code
	unknown   outcome = "unknown"   // there is no such account
	blocked   outcome = "blocked"   // the account is not active
	forbidden outcome = "forbidden" // a conditional rule blocks it
	locked    outcome = "locked"    // too many failures
	expired   outcome = "expired"   // a temporary password that is too old, or was used
	replayed  outcome = "replayed"  // a passcode that was used
	poisoned  outcome = "poisoned"  // the last passcode is from the future
	disabled  outcome = "disabled"  // too many wrong passcodes
	ended     outcome = "ended"     // the session has ended
	early     outcome = "early"     // something else comes first
	busy      outcome = "busy"
	failed    outcome = "error"
)

// The events that Observe is told of.
const (
	eventSignIn    = "signin"
	eventPasscode  = "passcode"
	eventRecovery  = "recovery"
	eventStepUp    = "stepup"
	eventCheck     = "check"
	eventEnrol     = "enrol"
	eventConfirm   = "confirm"
	eventPassword  = "password"
	eventSetup     = "setup"
	eventMove      = "move"      // into another tenant
	eventEmergency = "emergency" // a sign-in to an account for emergencies
	eventLockout   = "lockout"   // with the outcomes locked and disabled
)

func (a *Authenticator) observe(event string, o outcome, err error) {
	switch {
	case errors.Is(err, ErrBusy):
		o = busy
	case o == "":
		o = failed
	}
	if a.Observe != nil {
		a.Observe(event, string(o))
	}
}

func (a *Authenticator) log() *slog.Logger {
	if a.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Log
}

// SignInRequest is what somebody gives to sign in. Beside the password there may be a
// passcode or a recovery code.
type SignInRequest struct {
	Tenant       storage.TenantID
	Name         string // the user name, or an address of a user who signs in by it
	Password     Secret
	Passcode     Secret
	RecoveryCode Secret
	From         netip.Addr
	Agent        string // the program, as it says
}

// SignIn begins a session. The error is ErrSignIn, ErrPasswordEmpty,
// ErrPasswordTooLong, ErrBusy, or what the store said. What is done until ErrSignIn
// is returned takes as long whatever the reason.
func (a *Authenticator) SignIn(ctx context.Context, r SignInRequest) (*SignInResult, error) {
	res, o, err := a.signIn(ctx, r)
	a.observe(eventSignIn, o, err)
	return res, err
}

func (a *Authenticator) signIn(ctx context.Context, r SignInRequest) (*SignInResult, outcome, error) {
	ticket, err := a.Hasher.admit(r.Password.Reveal())
	if err != nil {
		return nil, "", err
	}
	defer ticket.release()
	exists, err := a.tenants.has(ctx, a.Store, r.Tenant)
	if err != nil {
		return nil, "", err
	}
	tenant := r.Tenant
	if !exists {
		// Strangers may name any tenant, and nothing is kept under what they make up.
		r.Tenant = storage.DefaultTenant
	}
	u, err := a.find(ctx, r.Tenant, r.Name)
	if err != nil {
		return nil, "", err
	}
	if !exists {
		u = a.decoy(tenant, r.Name)
	}
	rules, err := a.judge(ctx, r, u.id)
	if err != nil {
		return nil, "", err
	}
	by := Principal{Tenant: r.Tenant, From: r.From}
	try, err := a.begin(ctx, by, u.id, eventSignIn, func(_ storage.Tx, c *Credential, now time.Time) (laneName, error) {
		if rules.past(c, now).newDevice {
			return laneStrangers, nil
		}
		return laneKnown, nil
	})
	if err != nil {
		return nil, "", err
	}
	good, err := a.verify(ctx, ticket, try.hash, u.decoy && u.administrator)
	if err != nil {
		return nil, "", err
	}
	var (
		res           SignInResult
		administrator bool
	)
	o, err := a.settle(ctx, by, u.id, eventSignIn, try, func(w *settlement) (outcome, error) {
		there, err := w.tx.Get("User", u.id)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return "", err
		}
		c := w.c
		switch {
		case !try.admitted:
			return locked, nil
		case !u.found:
			return unknown, nil
		case !good || c.Generation != try.generation:
			return wrong, nil
		case there == nil || !parseAccount(there).active:
			return blocked, nil
		case !c.passwordGood(w.now):
			return expired, nil
		}
		verdict := rules.verdict(c, w.now)
		if verdict.Block {
			return forbidden, nil
		}
		s := session{User: u.id, Started: w.now, PasswordAt: w.now, Demand: verdict.Passcode, Known: try.lane == laneKnown, Last: rules.past(c, w.now).last, From: address(r.From), Agent: shortened(r.Agent)}
		switch {
		case r.Passcode != "":
			if o, err := a.takePasscode(w, &s, r.Passcode); o != accepted {
				return o, err
			}
		case r.RecoveryCode != "":
			if o := takeRecovery(w, &s, r.RecoveryCode); o != accepted {
				return o, nil
			}
		}
		if administrator, err = isAdministratorTx(w.tx, there, w.now); err != nil {
			return "", err
		}
		c.TemporaryUsed = c.Temporary
		w.actor = Principal{Kind: User, Tenant: r.Tenant, ID: u.id, From: r.From}
		w.proved(c.TOTP == nil || s.proved())
		if c.BreakGlass {
			w.also = append(w.also, "emergency.use")
		}
		if err := rules.record(w, &s, verdict); err != nil {
			return "", err
		}
		w.issue(&res, s, administrator, nil)
		return accepted, nil
	})
	if err != nil {
		return nil, o, err
	}
	if rules.facts.BreakGlass {
		a.log().Warn("somebody signed in to an account for emergencies", "tenant", r.Tenant, "user", u.id)
		a.observe(eventEmergency, accepted, nil)
	}
	// Not before: how long a refusal takes must not tell that the password was right.
	if a.Hasher.outdated(try.hash, administrator) {
		if err := a.rehash(ctx, by, u.id, ticket, try.hash, administrator); err != nil {
			a.log().Warn("a password could not be hashed anew", "user", u.id, "error", err)
		}
	}
	return &res, o, nil
}

// knownTenants remembers tenants that there are.
type knownTenants struct {
	mu    sync.Mutex
	known map[storage.TenantID]bool
}

// has reports whether there is a tenant.
func (k *knownTenants) has(ctx context.Context, store storage.Tenants, tenant storage.TenantID) (bool, error) {
	k.mu.Lock()
	known := k.known[tenant]
	k.mu.Unlock()
	if known {
		return true, nil
	}
	list, err := store.ListTenants(ctx)
	if err != nil {
		return false, err
	}
	there := make(map[storage.TenantID]bool, len(list))
	for _, t := range list {
		there[t.ID] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = there
	return there[tenant], nil
}

// verify compares a password with a hash, or with none at the same cost.
func (a *Authenticator) verify(ctx context.Context, t *ticket, hash string, administrator bool) (bool, error) {
	if checkHash(hash) != nil {
		_, err := t.verify(ctx, a.Hasher.dummy(administrator))
		return false, err
	}
	return t.verify(ctx, hash)
}

// rehash hashes the password with the parameters of today.
func (a *Authenticator) rehash(ctx context.Context, by Principal, user string, t *ticket, old string, administrator bool) error {
	hash, err := t.hash(ctx, administrator)
	if err != nil {
		return err
	}
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		c, err := ReadCredential(tx, user)
		if err != nil || c.PasswordHash != old {
			return err
		}
		c.PasswordHash = hash
		if err := SaveCredential(tx, user, c); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, "password.rehash", user, milli(a.Now()))
	})
}

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
	issuer := a.Issuer
	if issuer == "" {
		issuer = "Roster"
	}
	enrolment, secret, err := newEnrolment(rand.Reader, issuer, u.userName)
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

// ResetPassword gives a user a temporary password, and ends the user's sessions. It
// leaves the factors as they are. The error is ErrSelf, a *DeniedError,
// storage.ErrNotFound, ErrBusy, or ErrLastAdministrator if the temporary password ends:
// that one is helped with NewSetup.
func (a *Authenticator) ResetPassword(ctx context.Context, by Principal, user string) (*Temporary, error) {
	administrator, err := a.isAdministrator(ctx, by.Tenant, user)
	if err != nil {
		return nil, err
	}
	t, err := a.NewTemporary(ctx, administrator)
	if err != nil {
		return nil, err
	}
	defer a.InvalidateUser(user)
	err = a.change(ctx, by, user, PermissionUsersPasswordReset, "password.reset", func(c *Credential, now time.Time) {
		c.beginAnew(administrator)
		a.handOver(c, t, now)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// ResetMFA removes the factors of a user, who has to enrol again, and ends the
// user's sessions. The error is ErrSelf, a *DeniedError, storage.ErrNotFound, or
// ErrLastAdministrator: that one is helped with NewSetup.
func (a *Authenticator) ResetMFA(ctx context.Context, by Principal, user string) error {
	defer a.InvalidateUser(user)
	return a.change(ctx, by, user, PermissionUsersMFAReset, "mfa.reset", func(c *Credential, _ time.Time) { c.resetMFA() })
}

// change is a change of somebody's credential by somebody else, which ends the
// sessions.
func (a *Authenticator) change(ctx context.Context, by Principal, user string, p Permission, action string, fn func(*Credential, time.Time)) error {
	if by.Kind == User && by.ID == user {
		return ErrSelf
	}
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := milli(a.Now())
		if err := mayChangeCredentials(tx, by, user, p, now); err != nil {
			return err
		}
		err := KeepAdministrator(tx, now, func() error {
			c, err := ReadCredential(tx, user)
			if err != nil {
				return err
			}
			fn(c, now)
			return SaveCredential(tx, user, c)
		})
		if err != nil {
			return err
		}
		if _, err := dropSessions(tx, user); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, action, user, now)
	})
}

// mayChangeCredentials reports why by may not change the credentials of a user, or
// the sessions: it takes the permission, and that by may manage all roles that the
// user holds.
func mayChangeCredentials(tx storage.Tx, by Principal, user string, p Permission, now time.Time) error {
	by, err := by.AsOf(tx, now)
	if err != nil {
		return err
	}
	if by.Kind != Operator && (by.Kind != User || !by.Permissions.Has(p)) {
		return errDeniedCredentials
	}
	r, err := tx.Get("User", user)
	if err != nil {
		return err
	}
	held, err := HeldRolesTx(tx, r, now)
	if err != nil {
		return err
	}
	return Effect{Subjects: []Subject{{Before: held, After: held, Changes: AspectCredentials}}}.Permitted(by)
}

var errDeniedCredentials = &DeniedError{"you may not do this with somebody else's credentials"}

// takePasscode uses a passcode for a session.
func (a *Authenticator) takePasscode(w *settlement, s *session, code Secret) (outcome, error) {
	c := w.c
	if c.TOTP == nil || c.Throttle.FactorDisabled {
		if c.TOTP != nil {
			return disabled, nil
		}
		return wrong, nil
	}
	o, err := c.TOTP.take(a.Keys, w.by.Tenant, w.id, code.Reveal(), w.now)
	switch o {
	case accepted:
		s.PasscodeAt = w.now
	case wrong, replayed:
		w.factorFailed()
	}
	if err != nil {
		// Whose secret cannot be opened is not signed in, and is told no more than
		// others.
		a.log().Error("a TOTP secret cannot be used", "user", w.id, "error", err)
		return failed, nil
	}
	return o, nil
}

// takeRecovery uses a recovery code for a session.
func takeRecovery(w *settlement, s *session, code Secret) outcome {
	c := w.c
	switch {
	case c.TOTP == nil:
		return wrong
	case c.Throttle.FactorDisabled:
		return disabled
	case !c.takeRecoveryCode(w.by.Tenant, w.id, code.Reveal()):
		w.factorFailed()
		return wrong
	}
	c.Reenrol = true
	s.RecoveryAt, s.PasscodeAt = w.now, time.Time{}
	return accepted
}

// attempt is one that has been counted.
type attempt struct {
	at         time.Time
	lane       laneName
	admitted   bool
	hash       string // of the password
	generation int64  // of the credential: it must be the same when the attempt counts
}

// begin counts an attempt, in a write of its own. enter says in which lane, or refuses
// it before it counts.
func (a *Authenticator) begin(ctx context.Context, by Principal, user, event string, enter func(storage.Tx, *Credential, time.Time) (laneName, error)) (attempt, error) {
	var t attempt
	err := a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := milli(a.Now())
		c, err := ReadCredential(tx, user)
		if err != nil {
			return err
		}
		lane, err := enter(tx, c, now)
		if err != nil {
			return err
		}
		t = attempt{at: now, lane: lane, admitted: c.Throttle.lane(lane).begin(now), hash: c.PasswordHash, generation: c.Generation}
		if err := SaveCredential(tx, user, c); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, event+".attempt", user, now)
	})
	return t, err
}

// settlement is the write in which an attempt comes to something.
type settlement struct {
	tx  storage.Tx
	now time.Time
	id  string // of the user
	by  Principal
	try attempt
	c   *Credential
	// administrator says that the user is one, in a session.
	administrator bool

	actor     Principal // for the audit trail
	changed   []string
	lockout   []outcome
	also      []string // actions that are recorded as well
	endOthers bool
	begun     *newSession
}

// newSession is one to be issued when all else is done.
type newSession struct {
	session
	administrator bool
	prev          *storage.Item
	into          *SignInResult
}

// issue has a session begun when the credential has been saved; into is set then.
func (w *settlement) issue(into *SignInResult, s session, administrator bool, prev *storage.Item) {
	w.begun = &newSession{s, administrator, prev, into}
}

// known remembers what a session began on, and when: its sign-in is complete.
func (w *settlement) known(s *session, at time.Time) {
	if s.Device != "" {
		w.c.saw(Device{ID: s.Device, At: at, From: s.From})
		s.Device = ""
	}
}

// lane is where the attempt was counted.
func (w *settlement) lane() *Lane { return w.c.Throttle.lane(w.try.lane) }

// proved uncounts the attempt: with all others of its lane and all wrong passcodes, if
// nothing is left to be proved. Those of other lanes are somebody else's.
func (w *settlement) proved(all bool) {
	if all {
		*w.lane() = Lane{}
		w.c.Throttle.FactorFailures = 0
		return
	}
	w.lane().takeBack(w.try.at)
}

func (w *settlement) factorFailed() {
	if w.c.Throttle.factorFailed() {
		w.changed = append(w.changed, "throttle.factorDisabled")
		w.lockout = append(w.lockout, disabled)
	}
}

// settle decides what an attempt comes to, and records it. When fn does not accept
// it, nothing else than that is recorded; the error is that of fn, or ErrSignIn.
func (a *Authenticator) settle(ctx context.Context, by Principal, user, event string, try attempt, fn func(*settlement) (outcome, error)) (outcome, error) {
	var (
		o      outcome
		refuse error
		w      *settlement
	)
	err := a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		c, err := ReadCredential(tx, user)
		if err != nil {
			return err
		}
		w = &settlement{tx: tx, now: milli(a.Now()), id: user, by: by, try: try, c: c, actor: by}
		o, err = fn(w)
		refuse = nil
		switch {
		case o == "" && err != nil:
			return err
		case o == early || o == disabled && err != nil:
			// Nothing was tried.
			w.lane().takeBack(try.at)
			refuse = err
		case o != accepted:
			if refuse = err; err == nil {
				refuse = ErrSignIn
			}
			if w.lane().Locked(w.now) && o != locked && o != unknown {
				w.changed = append(w.changed, "throttle.lockedUntil")
				w.lockout = append(w.lockout, locked)
			}
		case err != nil:
			return err
		}
		if o == accepted && w.begun != nil {
			c.signedIn(w.begun.Started)
		}
		if err := SaveCredential(tx, user, c); err != nil {
			return err
		}
		if o == accepted {
			if w.endOthers {
				if _, err := dropSessions(tx, user); err != nil {
					return err
				}
			}
			if n := w.begun; n != nil {
				res, err := issue(tx, by.Tenant, n.session, c, n.administrator, n.prev, w.now)
				if err != nil {
					return err
				}
				*n.into = *res
				if w.actor.Level == 0 {
					w.actor.Level = res.Level // a sign-in: there was no session before
				}
			}
		}
		for _, action := range w.also {
			if err := a.audit(ctx, tx, w.actor, action, user, w.now); err != nil {
				return err
			}
		}
		return a.audit(ctx, tx, w.actor, event+"."+string(o), user, w.now, w.changed...)
	})
	if err != nil {
		return "", err
	}
	for _, l := range w.lockout {
		a.observe(eventLockout, l, nil)
	}
	return o, refuse
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
		r, err := w.tx.Get("User", by.ID)
		if errors.Is(err, storage.ErrNotFound) {
			return blocked, refuseRevoked
		}
		if err != nil {
			return "", err
		}
		if !parseAccount(r).active {
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

// account is what is asked of a user's resource.
type account struct {
	id            string
	userName      string
	displayName   string
	active        bool
	words         []string // see Policy.Check
	language      string   // preferredLanguage, or else locale
	found         bool
	decoy         bool
	administrator bool // of a decoy: it takes as long as one
}

func parseAccount(r *storage.Resource) account {
	var doc struct {
		UserName    string `json:"userName"`
		DisplayName string `json:"displayName"`
		NickName    string `json:"nickName"`
		Active      *bool  `json:"active"` // a user without it is active
		Language    string `json:"preferredLanguage"`
		Locale      string `json:"locale"`
		Name        struct {
			Given  string `json:"givenName"`
			Family string `json:"familyName"`
		} `json:"name"`
		Emails []struct {
			Value string `json:"value"`
		} `json:"emails"`
	}
	if err := json.Unmarshal(r.Doc, &doc); err != nil {
		return account{id: r.ID} // nobody signs in with a damaged record
	}
	p := account{id: r.ID, userName: doc.UserName, displayName: doc.DisplayName, active: doc.Active == nil || *doc.Active, found: true,
		language: cmp.Or(doc.Language, doc.Locale),
		words:    []string{doc.UserName, doc.DisplayName, doc.NickName, doc.Name.Given, doc.Name.Family}}
	for _, e := range doc.Emails {
		p.words = append(p.words, e.Value)
	}
	return p
}

// account returns a user by id; one who does not exist is not active.
func (a *Authenticator) account(ctx context.Context, tenant storage.TenantID, id string) (account, error) {
	r, err := a.Store.Get(ctx, tenant, "User", id)
	if errors.Is(err, storage.ErrNotFound) {
		return account{id: id}, nil
	}
	if err != nil {
		return account{}, err
	}
	return parseAccount(r), nil
}

// UserNamed returns the id of the user that a name stands for when somebody signs in
// with it, or storage.ErrNotFound.
func (a *Authenticator) UserNamed(ctx context.Context, tenant storage.TenantID, name string) (string, error) {
	p, err := a.named(ctx, tenant, name)
	if err == nil && p == nil {
		err = storage.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	return p.id, nil
}

// find returns the user that a name stands for: the user name, or an address of a user
// who signs in by it. Somebody who does not exist is a decoy.
func (a *Authenticator) find(ctx context.Context, tenant storage.TenantID, name string) (account, error) {
	p, err := a.named(ctx, tenant, name)
	if err != nil || p != nil {
		return *cmp.Or(p, &account{}), err
	}
	return a.decoy(tenant, name), nil
}

// named returns the user that a name stands for, or nil. There is one at most: see
// schemas.SignInAddresses.
func (a *Authenticator) named(ctx context.Context, tenant storage.TenantID, name string) (*account, error) {
	users, name := a.Schemas.Type("User"), strings.TrimSpace(name)
	var hits []account
	// Both are always asked, for how long it takes must not depend on the answer.
	for _, f := range []filter.Expr{
		equals(users, "userName", name),
		filter.And{equals(users, "emails.value", name), equals(users, schemas.RosterUserURI+":signInBy", schemas.SignInByEmail)},
	} {
		list, err := a.query(ctx, tenant, users, f)
		if err != nil {
			return nil, err
		}
		hits = append(hits, list...)
	}
	for _, u := range hits[min(1, len(hits)):] {
		if u.id != hits[0].id {
			return nil, nil
		}
	}
	if len(hits) == 0 {
		return nil, nil
	}
	return &hits[0], nil
}

func equals(t *schemas.ResourceType, path, value string) filter.Compare {
	return filter.EqualTo(t.Lookup(path), value)
}

func (a *Authenticator) query(ctx context.Context, tenant storage.TenantID, users *schemas.ResourceType, f filter.Expr) (list []account, err error) {
	page, err := a.Store.Query(ctx, tenant, storage.Query{Type: users.Name, Filter: f, StartIndex: 1, Count: 2})
	if err != nil {
		return nil, fmt.Errorf("find a user: %w", err)
	}
	err = page.Each(ctx, func(part []*storage.Resource) error {
		for _, r := range part {
			list = append(list, parseAccount(r))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find a user: %w", err)
	}
	return list, nil
}

// Decoys stand in for accounts that do not exist: attempts are counted on them just
// the same. There are few, so that nobody fills the store with them.
const (
	decoys = 64
	// administratorDecoys is how many of them are as slow as an administrator:
	// who is slow is not known to be one.
	administratorDecoys = 4
	// decoyPrefix begins their ids, and no user's.
	decoyPrefix = "nobody-"
)

// decoy returns always the same one for a name.
func (a *Authenticator) decoy(tenant storage.TenantID, name string) account {
	mac := hmac.New(sha256.New, a.Keys.Derive(forDecoys))
	mac.Write([]byte(string(tenant) + "\x00" + schemas.Fold(name)))
	n := binary.BigEndian.Uint64(mac.Sum(nil)) % decoys
	return account{id: fmt.Sprintf("%s%02d", decoyPrefix, n), decoy: true, administrator: n < administratorDecoys}
}

// isAdministrator reports whether a user has an administrative role at present.
func (a *Authenticator) isAdministrator(ctx context.Context, tenant storage.TenantID, user string) (bool, error) {
	roles, err := EffectiveRoles(ctx, a.Store, tenant, user, a.Now())
	return slices.ContainsFunc(roles, privileged), err
}

func isAdministratorTx(tx storage.Tx, user *storage.Resource, now time.Time) (bool, error) {
	roles, err := EffectiveRolesTx(tx, user, now)
	return slices.ContainsFunc(roles, privileged), err
}

// audit records what was done, or tried. A decoy has no name in it.
func (a *Authenticator) audit(ctx context.Context, tx storage.Tx, by Principal, action, user string, at time.Time, changed ...string) error {
	if strings.HasPrefix(user, decoyPrefix) {
		user = ""
	}
	return a.auditOf(ctx, tx, by, action, "User", user, at, changed...)
}

// auditOf is audit for what is no user.
func (a *Authenticator) auditOf(ctx context.Context, tx storage.Tx, by Principal, action, typ, id string, at time.Time, changed ...string) error {
	e := by.Entry(ctx, at, action, typ, id)
	e.Attributes = changed
	return tx.Audit(e)
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}
