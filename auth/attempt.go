package auth

import (
	"context"
	"time"

	"github.com/roster-id/roster/storage"
)

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
		now := storage.Milli(a.Now())
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
		w = &settlement{tx: tx, now: storage.Milli(a.Now()), id: user, by: by, try: try, c: c, actor: by}
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
