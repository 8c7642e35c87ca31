package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/roster-id/roster/schemas"
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
		there, err := w.tx.Get(PrincipalUser, u.id)
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
		case there == nil || !Active(there):
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
		return a.audit(ctx, tx, by, "password.rehash", user, storage.Milli(a.Now()))
	})
}

// audit records what was done, or tried. A decoy has no name in it.
func (a *Authenticator) audit(ctx context.Context, tx storage.Tx, by Principal, action, user string, at time.Time, changed ...string) error {
	if strings.HasPrefix(user, decoyPrefix) {
		user = ""
	}
	return a.auditOf(ctx, tx, by, action, PrincipalUser, user, at, changed...)
}

// auditOf is audit for what is no user.
func (a *Authenticator) auditOf(ctx context.Context, tx storage.Tx, by Principal, action, typ, id string, at time.Time, changed ...string) error {
	e := by.Entry(ctx, at, action, typ, id)
	e.Attributes = changed
	return tx.Audit(e)
}
