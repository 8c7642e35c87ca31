package auth

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/roster-id/roster/storage"
)

// Temporary is a password that somebody is handed, who signs in with it once and
// chooses another one then.
type Temporary struct {
	Password Secret
	Expires  time.Time // zero if it does not; known when it has been written

	hash string
}

// NewTemporary makes a temporary password for the account of an administrator, or
// another one. The error is ErrBusy, or that of the context.
func (a *Authenticator) NewTemporary(ctx context.Context, administrator bool) (*Temporary, error) {
	password, err := newTemporaryPassword(rand.Reader)
	if err != nil {
		return nil, err
	}
	hash, err := a.Hasher.hash(ctx, password.Reveal(), administrator)
	if err != nil {
		return nil, err
	}
	return &Temporary{Password: password, hash: hash}, nil
}

// PutTemporary gives an account its first password, in the write that makes it.
func (a *Authenticator) PutTemporary(ctx context.Context, tx storage.Tx, by Principal, user string, t *Temporary, now time.Time) error {
	var c Credential
	a.handOver(&c, t, now)
	if err := SaveCredential(tx, user, &c); err != nil {
		return err
	}
	return a.audit(ctx, tx, by, "password.temporary", user, now)
}

// handOver puts a temporary password in the place of what was there.
func (a *Authenticator) handOver(c *Credential, t *Temporary, now time.Time) {
	t.Expires = time.Time{}
	if a.Policy.TemporaryFor > 0 {
		t.Expires = now.Add(a.Policy.TemporaryFor)
	}
	c.setTemporary(t.hash, now, t.Expires)
}
