package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// DefaultInvitationLifetime is how long the link of an invitation is good if nobody
// says.
const DefaultInvitationLifetime = 7 * 24 * time.Hour

const invitationPrefix = "rosterinvitation_"

// invitationKind is the kind of the items that stand beside a resource of type
// Invitation, under its id, as long as somebody may still accept it or be sent it
// anew. They do not expire: an invitation moves with a dump, and says of itself that
// it has expired.
const invitationKind = "invitation"

// Invitation is what decides whether an invitation may be accepted. It is gone when
// it was, and when it was revoked.
type Invitation struct {
	ID      string    `json:"-"`
	Link    string    `json:"link"`    // the hash of the secret
	Address string    `json:"address"` // the hash of the address
	Inviter string    `json:"inviter"` // as Principal.Actor names them
	Expires time.Time `json:"expires"`

	item *storage.Item
}

// Good reports whether the link is good at this time.
func (i *Invitation) Good(now time.Time) bool { return now.Before(i.Expires) }

// SameLink reports whether both have the link that was made for one of them.
func (i *Invitation) SameLink(o *Invitation) bool {
	return subtle.ConstantTimeCompare([]byte(i.Link), []byte(o.Link)) == 1
}

// NewInvitation makes an invitation to an address, and the secret of its link, which
// is kept nowhere.
func NewInvitation(by Principal, id, address string, expires time.Time) (*Invitation, Secret, error) {
	text, hash, err := newText(rand.Reader, invitationPrefix, by.Tenant)
	if err != nil {
		return nil, "", err
	}
	return &Invitation{ID: id, Link: hash, Address: textID(schemas.Fold(address)), Inviter: by.Actor(), Expires: storage.Milli(expires)}, text, nil
}

// PutInvitation stores an invitation in the place of prev, whose link ends, or as a
// new one.
func PutInvitation(tx storage.ItemWriter, prev, i *Invitation) error {
	data, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("an invitation cannot be written: %w", err)
	}
	var from *storage.Item
	if prev != nil {
		from = prev.item
	}
	keys := []string{"link/" + i.Link, "address/" + i.Address, "inviter/" + i.Inviter}
	return tx.PutItem(from, &storage.Item{Kind: invitationKind, ID: i.ID, Keys: keys, Data: data})
}

// DropInvitation ends an invitation. Of several who do so at once, one does; the
// others get storage.ErrConflict or find that it is gone.
func DropInvitation(tx storage.ItemWriter, i *Invitation) error { return tx.DeleteItem(i.item) }

// ReadInvitation reads an invitation inside a write, or returns storage.ErrNotFound.
func ReadInvitation(tx storage.ItemWriter, id string) (*Invitation, error) {
	i, err := tx.Item(invitationKind, id)
	if err != nil {
		return nil, err
	}
	return invitationFrom(i)
}

// InvitationsTo reads those to the same address inside a write. Whoever asks, and
// puts another one, is alone in doing so.
func InvitationsTo(tx storage.ItemWriter, i *Invitation) ([]*Invitation, error) {
	key := "address/" + i.Address
	if err := tx.Guard(invitationKind + "/" + key); err != nil {
		return nil, err
	}
	list, err := tx.Items(invitationKind, key)
	return readItems(list, err, invitationFrom)
}

// InvitationsBy reads those of an inviter inside a write.
func InvitationsBy(tx storage.ItemWriter, inviter string) ([]*Invitation, error) {
	list, err := tx.Items(invitationKind, "inviter/"+inviter)
	return readItems(list, err, invitationFrom)
}

// FindInvitation finds the invitation that a link is for, and whose it is. The error
// is ErrSignIn unless the link is good, whatever is wrong with it, or what the store
// said.
func FindInvitation(ctx context.Context, items storage.Items, link Secret, now time.Time) (storage.TenantID, *Invitation, error) {
	tenant, hash, ok := parseText(invitationPrefix, link.Reveal())
	if !ok {
		return "", nil, ErrSignIn
	}
	found, err := items.Items(ctx, tenant, invitationKind, "link/"+hash)
	list, err := readItems(found, err, invitationFrom)
	switch {
	case err != nil:
		return "", nil, err
	case len(list) != 1 || !list[0].Good(now):
		return "", nil, ErrSignIn
	}
	return tenant, list[0], nil
}

func invitationFrom(item *storage.Item) (*Invitation, error) {
	i := &Invitation{ID: item.ID, item: item}
	if err := json.Unmarshal(item.Data, i); err != nil || i.Link == "" || i.Inviter == "" || i.Expires.IsZero() {
		return nil, errors.New("a stored invitation is damaged")
	}
	return i, nil
}

// Reasons why an inviter cannot give any more what an invitation promises.
const (
	InviterBlocked     = "inviterBlocked"
	InviterDeleted     = "inviterDeleted"
	InviterEntitlement = "inviterEntitlement"
	ClientEnded        = "clientEnded"
)

// InviterError says that an inviter cannot give any more what an invitation
// promises. It is for administrators, not for whoever was invited.
type InviterError struct{ Reason string }

func (e *InviterError) Error() string { return "the invitation is void: " + e.Reason }

// FindInviter returns who an invitation acts for, with what they may do now: a client
// by its scopes, a user by the roles that they have or can make active without anybody's
// approval. The error is an *InviterError for one who may do nothing any more, or what
// the store said. It asks outside of a write: see ConfirmInviter.
func FindInviter(ctx context.Context, store storage.Store, tenant storage.TenantID, i *Invitation, now time.Time) (Principal, error) {
	by := Principal{Tenant: tenant, Invitation: i.ID}
	switch by.Kind, by.ID = actor(i.Inviter); by.Kind {
	case Operator:
		return by, nil
	case User:
		u, err := store.Get(ctx, tenant, PrincipalUser, by.ID)
		if err != nil {
			return by, gone(err)
		}
		if !Active(u) {
			return by, &InviterError{InviterBlocked}
		}
		names, err := store.Names(ctx, tenant, PrincipalUser, by.ID)
		if err != nil {
			return by, err
		}
		by.Level, by.Name = MFA, names[by.ID]
		roles, err := outside(ctx, store, tenant, by.ID).roles(by.ID, now, func(g *Grant, now time.Time) bool { return g.begun(now) && !g.Ended(now) && !g.Approval })
		by.Permissions, by.Roles = PermissionsOf(roles)
		return by, err
	case Client:
		clients, err := store.ListClients(ctx, tenant)
		if err != nil {
			return by, err
		}
		n := slices.IndexFunc(clients, func(c *storage.Client) bool { return c.ID == by.ID })
		if n < 0 || !clients[n].Revoked.IsZero() || !inUse(clients[n].Tokens, now) {
			return by, &InviterError{ClientEnded}
		}
		by.Name, by.Scopes = clients[n].Name, knownScopes(clients[n].Scopes)
		return by, nil
	}
	return by, &InviterError{InviterDeleted}
}

// ConfirmInviter reports inside a write whether an inviter is still there to invite:
// nil, an *InviterError, or what the store said. What a user's roles are is for the
// Standing to tell.
func ConfirmInviter(tx storage.Tx, by Principal, now time.Time) error {
	switch by.Kind {
	case User:
		u, err := tx.Get(PrincipalUser, by.ID)
		switch {
		case err != nil:
			return gone(err)
		case !Active(u):
			return &InviterError{InviterBlocked}
		}
	case Client:
		tokens, err := tx.Tokens(by.ID)
		if err != nil {
			return err
		}
		if !inUse(tokens, now) {
			return &InviterError{ClientEnded}
		}
	}
	return nil
}

// inUse reports whether a client has a token that is good.
func inUse(tokens []*storage.Token, now time.Time) bool {
	return slices.ContainsFunc(tokens, func(t *storage.Token) bool { return now.Before(t.Expires) })
}

func gone(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return &InviterError{InviterDeleted}
	}
	return err
}

// NewPassword returns the hash of a password that somebody chooses for an account that
// is about to be made. The error is one of those of Policy.Check, or ErrBusy.
func (a *Authenticator) NewPassword(ctx context.Context, password Secret, administrator bool, words ...string) (hash string, err error) {
	if err := a.Policy.Check(password.Reveal(), administrator, words...); err != nil {
		return "", err
	}
	return a.Hasher.hash(ctx, password.Reveal(), administrator)
}
