package auth

import (
	"net/netip"
	"strings"
	"time"

	"github.com/roster-id/roster/storage"
)

// Kind says what sort of caller a principal is. The zero Kind is nobody.
type Kind uint8

const (
	// Client is a provisioning client: an identity provider or HR connector
	// with a bearer token.
	Client Kind = iota + 1
	// Operator is someone with a shell on the host, who may do everything.
	Operator
	// User is a person who signed in.
	User
)

// Level says how sure it is that a session is the person's whose name it bears.
// Levels are in order: what asks for one takes a higher one too.
type Level uint8

const (
	// Limited is a session that may only do what is missing: change a
	// temporary password, or enrol a passcode that the account must have.
	Limited Level = iota + 1
	// Password is a session after the password.
	Password
	// MFA is a session after the password and a passcode or recovery code.
	MFA
)

// String returns "limited", "password", "mfa", or "none" for no session.
func (l Level) String() string {
	if l == 0 || l > MFA {
		return "none"
	}
	return [...]string{"limited", "password", "mfa"}[l-1]
}

// Principal is who a request comes from. It is a value: copying it is cheap and
// nothing behind it changes. The zero Principal is nobody.
type Principal struct {
	Kind Kind
	// Tenant is the only directory the principal can reach. It comes from the
	// credential, never from the request.
	Tenant storage.TenantID
	// ID and Name are the client's or the user's. An operator has neither; see Sweeper.
	ID, Name string
	// From is the address the request came from, if it came from any.
	From   netip.Addr
	Scopes Scopes
	// Profile says how the client is known to write SCIM: one of the Profile
	// constants.
	Profile string
	// References is ReferencesLate for a client whose order of arrival is not guaranteed.
	References string
	// Rate and Burst are those of the client, see storage.Client.
	Rate, Burst int
	// Token is the public id of the token that was presented. It identifies and
	// proves nothing.
	Token string

	// Invitation is the id of the one by which the principal acts without being there:
	// it invited somebody, who accepts now.
	Invitation string

	// Of a user.
	Session    string    // the public id of the session
	Level      Level     // of the session
	PasscodeAt time.Time // when a passcode was last given in it, zero for never
	// Moved says that the session began in another tenant; see Authenticator.Move.
	Moved bool
	// Roles are the ids of the roles that the user has at present, for people to
	// see; what they let the user do is in Permissions.
	Roles       []string
	Permissions Permissions
}

// System is the program itself, which does in a tenant what is due there. It may do
// what an operator may.
func System(tenant storage.TenantID) Principal {
	return Principal{Kind: Operator, Tenant: tenant, Name: storage.SystemActor}
}

// Actor returns how the audit trail names the principal: "client:<id>",
// "user:<id>", "operator" or "system"; "nobody" for a principal that may do nothing.
func (p Principal) Actor() string {
	switch {
	case p.Kind == Client && p.ID != "":
		return "client:" + p.ID
	case p.Kind == User && p.ID != "":
		return "user:" + p.ID
	case p.Kind == Operator && p.Name == storage.SystemActor:
		return storage.SystemActor
	case p.Kind == Operator:
		return "operator"
	}
	return "nobody"
}

// actor is Principal.Actor the other way round.
func actor(s string) (Kind, string) {
	kind, id, _ := strings.Cut(s, ":")
	switch {
	case s == "operator":
		return Operator, ""
	case kind == "client" && id != "":
		return Client, id
	case kind == "user" && id != "":
		return User, id
	}
	return 0, ""
}

// The profiles of a client beside "", the usual tolerance.
const (
	ProfileEntra  = "entra"  // PATCH of a group answers 204
	ProfileOkta   = "okta"   // as usual; kept apart for what Okta alone may need
	ProfileStrict = "strict" // none of the tolerance for what clients get wrong
)

// ReferencesLate says of a client that what it refers to may come later than the
// reference; otherwise that has to be there.
const ReferencesLate = "late"

// validProfile reports whether s names a profile.
func validProfile(s string) bool {
	switch s {
	case "", ProfileEntra, ProfileOkta, ProfileStrict:
		return true
	}
	return false
}
