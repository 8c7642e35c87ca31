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
	// SetupFor is how long a link for a first password is good.
	SetupFor = 24 * time.Hour
	// RecoverFor is how long one is good for somebody who has lost everything.
	RecoverFor = time.Hour
)

// setupKind is the kind of the items that hold one-time links, by the hash of their
// text, with the user's id as key. They expire.
const setupKind = "setup"

const setupPrefix = "rostersetup_"

// firstKey finds the link for a first administrator, of which there is one at most.
const firstKey = "first"

type setup struct {
	User    string `json:"user,omitzero"` // empty for a first administrator
	Recover bool   `json:"recover,omitzero"`
}

// NewFirstSetup makes the secret of a link with which somebody becomes the first
// administrator of a tenant, once; it is for operators, on the host. A former such
// link ends. The error is ErrAdministered if the tenant has a Global Administrator
// who can sign in.
func (a *Authenticator) NewFirstSetup(ctx context.Context, by Principal) (Secret, error) {
	if by.Kind != Operator {
		return "", ErrNotPermitted
	}
	text, id, err := newText(rand.Reader, setupPrefix, by.Tenant)
	if err != nil {
		return "", err
	}
	return text, a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		there, err := usableAdministrator(tx, now)
		if err != nil {
			return err
		}
		if there {
			return ErrAdministered
		}
		if err := putSetup(tx, id, firstKey, setup{}, now.Add(SetupFor)); err != nil {
			return err
		}
		return a.auditOf(ctx, tx, by, "setup.first", "Tenant", string(by.Tenant), now)
	})
}

// ErrAdministered says: the tenant has a Global Administrator who can sign in, and whoever
// is locked out can be let in again by name.
var ErrAdministered = errors.New("the tenant has a Global Administrator who can sign in")

// Administered reports whether somebody was given Global Administrator in a tenant,
// for good or for a time, whether or not they can sign in.
func (a *Authenticator) Administered(ctx context.Context, tenant storage.TenantID) (bool, error) {
	items, err := a.Store.Items(ctx, tenant, grantKind, "role/"+GlobalAdministrator)
	return len(items) > 0, err
}

// Setup is what a link is for that is good.
type Setup struct {
	First    bool   // to become the first administrator
	Language string // of the user otherwise, if it is known
}

// FindSetup says what a link is for. The error is ErrSignIn if it is not good, or what
// the store said.
func (a *Authenticator) FindSetup(ctx context.Context, text Secret) (Setup, error) {
	tenant, id, ok := parseText(setupPrefix, text.Reveal())
	if !ok {
		return Setup{}, ErrSignIn
	}
	link, o, err := a.foundSetup(a.Store.Item(ctx, tenant, setupKind, id))
	if o != accepted {
		return Setup{}, err
	}
	if link.User == "" {
		return Setup{First: true}, nil
	}
	u, err := a.account(ctx, tenant, link.User)
	return Setup{Language: u.language}, err
}

// FirstClaim is the use of a link for a first administrator.
type FirstClaim struct {
	By   Principal // in whose name the account is made
	Link Secret    // with which its password is chosen then, in the place of the one that was claimed
	// Claim uses the link up, in the write that makes the account. Of several who claim
	// a link at once, one does. The error is ErrSignIn, ErrAdministered, or what the
	// store said.
	Claim func(tx storage.Tx, user string, now time.Time) error
}

// ClaimFirst readies the use of a link for a first administrator. The error is ErrSignIn
// if the link cannot be one.
func (a *Authenticator) ClaimFirst(ctx context.Context, text Secret, from netip.Addr) (*FirstClaim, error) {
	tenant, id, ok := parseText(setupPrefix, text.Reveal())
	if !ok {
		return nil, ErrSignIn
	}
	next, nextID, err := newText(rand.Reader, setupPrefix, tenant)
	if err != nil {
		return nil, err
	}
	by := Principal{Kind: Operator, Tenant: tenant, From: from}
	return &FirstClaim{By: by, Link: next, Claim: func(tx storage.Tx, user string, now time.Time) error {
		item, err := tx.Item(setupKind, id)
		link, o, err := a.foundSetup(item, err)
		switch {
		case o != accepted:
			return err
		case link.User != "":
			return ErrSignIn
		}
		there, err := usableAdministrator(tx, now)
		switch {
		case err != nil:
			return err
		case there:
			return ErrAdministered
		}
		if err := tx.DeleteItem(item); err != nil {
			return err
		}
		if err := putSetup(tx, nextID, user, setup{User: user}, now.Add(SetupFor)); err != nil {
			return err
		}
		return a.auditOf(ctx, tx, by, "setup.claim", "Tenant", string(tenant), now)
	}}, nil
}

// CheckFirst is Policy.Check for somebody who is about to become an administrator.
func (a *Authenticator) CheckFirst(password Secret, userName string) error {
	return a.Policy.Check(password.Reveal(), true, userName)
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
	lifetime, action := SetupFor, "setup.create"
	if lost {
		lifetime, action = RecoverFor, "setup.recover"
	}
	return text, a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		if err := mayChangeCredentials(tx, by, user, PermissionUsersPasswordReset, now); err != nil {
			return err
		}
		if lost && by.Kind != Operator {
			return errDeniedCredentials // on the host only: it leaves no factor
		}
		if err := putSetup(tx, id, user, setup{user, lost}, now.Add(lifetime)); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, action, user, now)
	})
}

// putSetup stores a link in the place of the one that the same key finds.
func putSetup(tx storage.Tx, id, key string, s setup, expires time.Time) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if _, err := deleteItems(tx, setupKind, key); err != nil {
		return err
	}
	return tx.PutItem(nil, &storage.Item{Kind: setupKind, ID: id, Keys: []string{key}, Expires: expires, Data: data})
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
	link, o, err := a.foundSetup(a.Store.Item(ctx, tenant, setupKind, id))
	switch {
	case o != accepted:
		return nil, o, err
	case link.User == "":
		return nil, wrong, ErrSignIn
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
		if link, o, err = a.foundSetup(tx.Item(setupKind, id)); o != accepted {
			return err
		}
		there, err := tx.Get(PrincipalUser, link.User)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if there == nil || !Active(there) {
			o = blocked
			return ErrSignIn
		}
		c, err := ReadCredential(tx, link.User)
		if err != nil {
			return err
		}
		now := storage.Milli(a.Now())
		c.beginAnew(administrator)
		c.SetPassword(hash, now)
		c.signedIn(now)
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
		by := Principal{Kind: User, Tenant: tenant, ID: link.User, From: r.From, Level: res.Level}
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

// foundSetup reads a link that is still good.
func (a *Authenticator) foundSetup(i *storage.Item, err error) (*setup, outcome, error) {
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
