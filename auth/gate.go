package auth

import (
	"errors"
	"fmt"
	"time"
)

// Need is what a route asks of whoever calls it. Every route declares one; the
// zero Need is no declaration, and a server with such a route does not start.
type Need struct {
	kind         need
	act          Act
	resourceType string
	level        Level
	permission   Permission
}

type need uint8

const (
	needPublic need = iota + 1
	needToken
	needScope
	needSession
	needMFA
	needStepUp
)

// Public asks for nothing.
func Public() Need { return Need{kind: needPublic} }

// Token asks for a client with a valid token, whatever its scopes, or for a
// person who signed in.
func Token() Need { return Need{kind: needToken} }

// Scope asks for a client whose scopes allow this act on resources of a type, or
// for a person whose permissions do, in a session of level MFA.
func Scope(act Act, resourceType string) Need {
	return Need{kind: needScope, act: act, resourceType: resourceType}
}

// AnySession asks for a session of any level, one that is Limited included: what
// it takes to become more than that, and to leave.
func AnySession() Need { return Need{kind: needSession, level: Limited} }

// AtLevel asks for a session of at least this level. It panics at level Limited,
// which nothing but AnySession asks for.
func AtLevel(least Level) Need {
	if least != Password && least != MFA {
		panic("a route needs a session of level " + least.String())
	}
	return Need{kind: needSession, level: least}
}

// Admin asks for a session of level MFA of somebody with a permission.
func Admin(p Permission) Need { return Need{kind: needMFA, level: MFA, permission: p} }

// StepUp asks for what Admin does, with a passcode given within StepUpAge.
func StepUp(p Permission) Need { return Need{kind: needStepUp, level: MFA, permission: p} }

// Fresh asks for a session of level MFA with a passcode given within StepUpAge,
// whatever its owner may do.
func Fresh() Need { return Need{kind: needStepUp, level: MFA} }

// Declared reports whether n is a declaration at all.
func (n Need) Declared() bool { return n.kind != 0 }

// Public reports whether n lets everyone in.
func (n Need) Public() bool { return n.kind == needPublic }

// Errors of Need.Meets besides *RefusedError and *LevelError.
var (
	// ErrNotPermitted: it is known who calls, and they may not do this.
	ErrNotPermitted = errors.New("not permitted")
	// ErrLimited: first the session's password has to be changed, or a passcode
	// enrolled.
	ErrLimited = fmt.Errorf("%w before the password is changed and a passcode enrolled", ErrNotPermitted)
)

// LevelError says that the session may be the right person's, and that a passcode
// has to show it (RFC 9470).
type LevelError struct {
	// MaxAge is how long ago the passcode may have been given; zero for any time
	// in this session.
	MaxAge time.Duration
}

func (e *LevelError) Error() string { return "a passcode is required" }

// Challenge is the value of WWW-Authenticate that goes with the error (RFC 9470
// §3).
func (e *LevelError) Challenge() string {
	c := `Bearer realm="roster", error="insufficient_user_authentication", acr_values="` + MFA.String() + `"`
	if e.MaxAge > 0 {
		c += fmt.Sprintf(`, max_age="%d"`, int(e.MaxAge.Seconds()))
	}
	return c
}

var (
	errLevel = &LevelError{}
	errStale = &LevelError{MaxAge: StepUpAge}
)

// Meets returns nil if by satisfies n at this time. Otherwise the error is a
// *RefusedError for nobody, a *LevelError for a session that can be raised,
// ErrLimited or ErrNotPermitted. Who lacks a permission is told so and not asked
// for a fresh passcode first.
func (n Need) Meets(by Principal, now time.Time) error {
	switch {
	case n.kind == 0:
		return ErrNotPermitted
	case n.kind == needPublic:
		return nil
	case by.Tenant == "" || by.ID == "":
		return refuseMissing
	case by.Kind == Client:
		return n.meetsClient(by)
	case by.Kind == User && by.Level != 0 && by.Session != "":
		return n.meetsUser(by, now)
	}
	return ErrNotPermitted
}

func (n Need) meetsClient(by Principal) error {
	if n.kind == needToken || n.kind == needScope && by.May(n.act, n.resourceType) {
		return nil
	}
	return ErrNotPermitted
}

func (n Need) meetsUser(by Principal, now time.Time) error {
	least := n.level
	switch n.kind {
	case needToken:
		least = Password
	case needScope:
		least = MFA
	}
	switch {
	case by.Level < least && by.Level == Limited:
		return ErrLimited
	case by.Level < least:
		return errLevel
	case n.kind == needScope && !by.May(n.act, n.resourceType):
		return ErrNotPermitted
	case n.permission != 0 && !by.Permissions.Has(n.permission):
		return ErrNotPermitted
	case n.kind == needStepUp && !by.PasscodeWithin(StepUpAge, now):
		return errStale
	}
	return nil
}

// String names the need for listings of routes: "public", "token",
// "scope(User:write)", "session", "session(password)", "mfa(audit.read)",
// "step-up", "step-up(clients.write)".
func (n Need) String() string {
	switch n.kind {
	case needPublic:
		return "public"
	case needToken:
		return "token"
	case needScope:
		return "scope(" + n.resourceType + ":" + n.act.String() + ")"
	case needSession:
		if n.level == Limited {
			return "session"
		}
		return "session(" + n.level.String() + ")"
	case needMFA:
		return "mfa(" + n.permission.String() + ")"
	case needStepUp:
		if n.permission == 0 {
			return "step-up"
		}
		return "step-up(" + n.permission.String() + ")"
	}
	return "undeclared"
}
