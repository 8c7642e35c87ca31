package auth

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/storage"
)

// credentialKind is the kind of the item that holds a user's Credential, under
// the id of the user.
const credentialKind = "credential"

// Credential is what proves who a user is. The zero Credential proves nothing.
// That of a user who is deleted stays, for the user may come back (see Revive and
// Forget): whoever reads one has to know that there is such a user.
type Credential struct {
	PasswordHash string    `json:"passwordHash,omitzero"` // in PHC string format, empty for none
	PasswordSet  time.Time `json:"passwordSet,omitzero"`
	// Temporary says that the password is good for choosing another one only.
	Temporary       bool      `json:"temporary,omitzero"`
	PasswordExpires time.Time `json:"passwordExpires,omitzero"`
	// TemporaryUsed says that somebody has signed in with it, which works once.
	TemporaryUsed bool `json:"temporaryUsed,omitzero"`

	// Pushed says that the password came over SCIM, or from whoever knew one that did:
	// it proves nothing of somebody who has become an administrator since.
	Pushed bool `json:"pushed,omitzero"`

	// TOTP is the factor that passcodes are made with, Pending one that has not been
	// confirmed. Recovery are the hashes of the codes that stand in for a passcode
	// once each.
	TOTP     *Factor  `json:"totp,omitzero"`
	Pending  *Factor  `json:"pending,omitzero"`
	Recovery [][]byte `json:"recovery,omitempty"`
	// Reenrol says that a recovery code was used: the next thing to do is to enrol
	// again.
	Reenrol bool `json:"reenrol,omitzero"`

	Throttle Throttle `json:"throttle,omitzero"`

	// Devices are what the user has signed in from in the last 30 days, the latest
	// first.
	Devices []Device `json:"devices,omitempty"`
	// Unproved is when somebody last signed in with the password where a rule asked for a
	// passcode as well: it counts for nothing before that is given.
	Unproved time.Time `json:"unproved,omitzero"`

	// Generation changes with whatever ends sessions: one that began in another
	// generation has ended.
	Generation int64 `json:"generation,omitzero"`
	// BreakGlass marks an account for emergencies.
	BreakGlass bool `json:"breakGlass,omitzero"`

	// LastSignIn is when the user's last session began. It is written with what each
	// sign-in changes here in any case.
	LastSignIn time.Time `json:"lastSignIn,omitzero"`

	// Unknown is what a newer Roster has put there. It is kept.
	Unknown jsontext.Value `json:",embed"`

	item *storage.Item // as it was read; nil if there is none yet
}

// SetPassword puts a password of the user's own, as a hash, in the place of what
// was there. An empty hash is no password. The user's sessions end.
func (c *Credential) SetPassword(hash string, at time.Time) {
	c.PasswordHash, c.PasswordSet, c.Temporary, c.PasswordExpires, c.TemporaryUsed, c.Pushed = hash, at, false, time.Time{}, false, false
	if hash == "" {
		c.PasswordSet = time.Time{}
	}
	c.Generation++
}

// PushPassword puts a password that came over SCIM, as a hash, in the place of what was
// there.
func (c *Credential) PushPassword(hash string, at time.Time) {
	c.SetPassword(hash, at)
	c.Pushed = hash != ""
}

// changePassword puts a password in the place of one that was given just now. Whoever
// knew that one knows this one.
func (c *Credential) changePassword(hash string, at time.Time) {
	pushed := c.Pushed
	c.SetPassword(hash, at)
	c.Pushed = pushed
}

// beginAnew removes the factors of an administrator that were enrolled with a password
// that others knew.
func (c *Credential) beginAnew(administrator bool) {
	if administrator && c.Pushed {
		c.resetMFA()
	}
}

// setTemporary puts a temporary password, good until expires, or for ever if that is
// zero, in the place of what was there.
func (c *Credential) setTemporary(hash string, at, expires time.Time) {
	c.SetPassword(hash, at)
	c.Temporary, c.PasswordExpires = true, expires
}

// signedIn notes that a session began.
func (c *Credential) signedIn(at time.Time) {
	if at.After(c.LastSignIn) {
		c.LastSignIn = at
	}
}

// passwordGood reports whether the password is one that can be signed in with.
func (c *Credential) passwordGood(now time.Time) bool {
	return c.PasswordHash != "" && !c.TemporaryUsed && (c.PasswordExpires.IsZero() || now.Before(c.PasswordExpires))
}

// resetMFA removes all factors, and what was counted about them. The user's sessions
// end.
func (c *Credential) resetMFA() {
	c.TOTP, c.Pending, c.Recovery, c.Reenrol = nil, nil, nil, false
	c.Throttle = Throttle{}
	c.Generation++
}

// FindCredential reads the credential of a user; one that was never given any has
// the zero Credential.
func FindCredential(ctx context.Context, items storage.Items, tenant storage.TenantID, user string) (*Credential, error) {
	return credentialFrom(items.Item(ctx, tenant, credentialKind, user))
}

// ReadCredential is FindCredential inside a write, for SaveCredential.
func ReadCredential(tx storage.ItemWriter, user string) (*Credential, error) {
	return credentialFrom(tx.Item(credentialKind, user))
}

// SaveCredential stores what has become of a credential since it was read, or a
// user's first one. The error is storage.ErrConflict if it was changed since, which
// cannot be if it was read in the same write; so whoever saves twice reads again
// between. c is left as it is, for a write may run more than once.
func SaveCredential(tx storage.ItemWriter, user string, c *Credential) error {
	data, err := json.Marshal(c)
	if err != nil {
		return errors.New("the credential cannot be written") // the error may quote it
	}
	return tx.PutItem(c.item, &storage.Item{Kind: credentialKind, ID: user, Keys: c.sealedKeys(user), Data: data})
}

func credentialFrom(i *storage.Item, err error) (*Credential, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return &Credential{}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Credential{item: i}
	if err := json.Unmarshal(i.Data, c); err != nil {
		return nil, errors.New("the stored credential is damaged") // the error may quote it
	}
	return c, nil
}
