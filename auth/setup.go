package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

const (
	// SetupFor is how long a link for a first password is good, and RecoverFor one
	// for somebody who has lost everything.
	SetupFor   = 24 * time.Hour
	RecoverFor = time.Hour
)

// setupKind is the kind of the items that hold one-time links, by the hash of their
// text, with the user's id as key. They expire.
const setupKind = "setup"

type setup struct {
	User    string `json:"user"`
	Recover bool   `json:"recover,omitzero"`
}

// NewSetup makes the secret of a link with which a user chooses a password, once.
// With lost, the link is good for a shorter time, and using it removes the user's
// factors as well. The user's former links end. The error is a *DeniedError or
// storage.ErrNotFound.
func (a *Authenticator) NewSetup(ctx context.Context, by Principal, user string, lost bool) (Secret, error) {
	text, id, err := newText(rand.Reader, setupPrefix, by.Tenant)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(setup{user, lost})
	if err != nil {
		return "", err
	}
	lifetime, action := SetupFor, "setup.create"
	if lost {
		lifetime, action = RecoverFor, "setup.recover"
	}
	return text, a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := milli(a.Now())
		if err := mayChangeCredentials(tx, by, user, PermissionUsersPasswordReset, now); err != nil {
			return err
		}
		if lost && by.Kind != Operator {
			return errDeniedCredentials // on the host only: it leaves no factor
		}
		former, err := tx.Items(setupKind, user)
		if err != nil {
			return err
		}
		for _, i := range former {
			if err := tx.DeleteItem(i); err != nil {
				return err
			}
		}
		err = tx.PutItem(nil, &storage.Item{Kind: setupKind, ID: id, Keys: []string{user}, Expires: now.Add(lifetime), Data: data})
		if err != nil {
			return err
		}
		return a.audit(ctx, tx, by, action, user, now)
	})
}

// SetupRequest is what somebody gives who follows a link.
type SetupRequest struct {
	Text     Secret // of NewSetup
	Password Secret // the one chosen
	From     netip.Addr
	Agent    string
}

// UseSetup sets the password that somebody chose who followed a link, and begins a
// session. Of several who use a link at once, one does. The error is ErrSignIn, one
// of those of Policy.Check, ErrBusy, or what the store said; until a password is
// accepted the link stays good.
func (a *Authenticator) UseSetup(ctx context.Context, r SetupRequest) (*SignInResult, error) {
	res, o, err := a.useSetup(ctx, r)
	a.observe(eventSetup, o, err)
	return res, err
}

func (a *Authenticator) useSetup(ctx context.Context, r SetupRequest) (*SignInResult, outcome, error) {
	tenant, id, ok := parseText(setupPrefix, r.Text.Reveal())
	if !ok {
		return nil, wrong, ErrSignIn
	}
	link, o, err := a.link(a.Store.Item(ctx, tenant, setupKind, id))
	if o != accepted {
		return nil, o, err
	}
	u, err := a.account(ctx, tenant, link.User)
	if err != nil {
		return nil, "", err
	}
	administrator, err := a.isAdministrator(ctx, tenant, link.User)
	if err != nil {
		return nil, "", err
	}
	if err := a.Policy.Check(r.Password.Reveal(), administrator, u.words...); err != nil {
		return nil, early, err
	}
	hash, err := a.Hasher.hash(ctx, r.Password.Reveal(), administrator)
	if err != nil {
		return nil, "", err
	}
	var res *SignInResult
	defer a.InvalidateUser(link.User)
	err = a.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		if link, o, err = a.link(tx.Item(setupKind, id)); o != accepted {
			return err
		}
		there, err := tx.Get("User", link.User)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if there == nil || !parseAccount(there).active {
			o = blocked
			return ErrSignIn
		}
		c, err := ReadCredential(tx, link.User)
		if err != nil {
			return err
		}
		now := milli(a.Now())
		c.SetPassword(hash, now)
		if link.Recover {
			c.resetMFA()
		}
		if err := SaveCredential(tx, link.User, c); err != nil {
			return err
		}
		// The link itself goes with them.
		if _, err := dropSessions(tx, link.User); err != nil {
			return err
		}
		s := session{User: link.User, Started: now, PasswordAt: now, From: address(r.From), Agent: shortened(r.Agent)}
		if res, err = issue(tx, tenant, s, c, administrator, nil, now); err != nil {
			return err
		}
		by := Principal{Kind: User, Tenant: tenant, ID: link.User, From: r.From}
		return a.audit(ctx, tx, by, "setup.use", link.User, now)
	})
	if err != nil {
		if !errors.Is(err, ErrSignIn) {
			o = ""
		}
		return nil, o, err
	}
	return res, accepted, nil
}

// link reads a link that is still good.
func (a *Authenticator) link(i *storage.Item, err error) (*setup, outcome, error) {
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, wrong, ErrSignIn
	case err != nil:
		return nil, "", err
	case !a.Now().Before(i.Expires):
		return nil, expired, ErrSignIn
	}
	var s setup
	if err := json.Unmarshal(i.Data, &s); err != nil {
		return nil, "", errors.New("the stored link is damaged")
	}
	return &s, accepted, nil
}
