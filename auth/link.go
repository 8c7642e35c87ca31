package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// A link lets the owner of an account move on into an account in another tenant,
// without signing in again. Each tenant keeps its own side of it, written there,
// recorded there, and a link is in force as long as both sides are there: either
// tenant ends it alone, and neither makes it alone.
//
// It leads one way. Whoever controls the account that it leads from controls the one
// it leads to, so it takes the consent of the latter, and from then on the former is
// protected in its own tenant as a Global Administrator is.

// linkKind is the kind of the items that hold a side of a link each, by the id of the
// link, with the key linkOut or linkIn and the user's id.
const linkKind = "link"

// Keys that find the links of a user.
const (
	linkOut = "out/" // they lead from the user
	linkIn  = "in/"  // they lead to the user
	// linksOut finds all links that lead out of the tenant; see Standing.
	linksOut = "out"
)

// offerKind is the kind of the items that hold offers of links, by the hash of their
// code, with the user's id as key. They expire.
const offerKind = "link-offer"

const (
	offerPrefix = "rosterlink_"
	// OfferFor is how long the offer of a link can be accepted.
	OfferFor = 10 * time.Minute
	// MaxLinks is how many links may lead from an account, and to one.
	MaxLinks = 50
)

// Link is one side of a link: that of the account it leads from, or that of the one
// it leads to.
type Link struct {
	ID     string           `json:"-"`
	User   string           `json:"user"`
	Tenant storage.TenantID `json:"tenant"` // the other one
	Other  string           `json:"other"`  // the user there
	// Out says that the link leads from User to Other.
	Out   bool      `json:"out,omitzero"`
	Since time.Time `json:"since"`

	item *storage.Item
}

// Errors of links.
var (
	// ErrLinkCode: the code is none, has been used, or is too old.
	ErrLinkCode = errors.New("the code for a link is not good: it works once, within ten minutes")
	// ErrLinked: there is a link already, which may have been ended by the other tenant
	// alone, or there are too many.
	ErrLinked = fmt.Errorf("there is such a link already, or %d others", MaxLinks)
	// ErrMoved: it takes a session that was begun with a password.
	ErrMoved = errors.New("this needs a session of the account's own: sign in to it")
)

// pairs reports whether other, read in the other tenant, is the other side.
func (l *Link) pairs(tenant storage.TenantID, other *Link) bool {
	return other.Tenant == tenant && other.User == l.Other && other.Other == l.User && other.Out != l.Out
}

func (l *Link) keys() []string {
	if l.Out {
		return []string{linkOut + l.User, linksOut}
	}
	return []string{linkIn + l.User}
}

func linkFrom(i *storage.Item) (*Link, error) {
	l := &Link{ID: i.ID, item: i}
	if err := json.Unmarshal(i.Data, l); err != nil || l.User == "" || l.Tenant == "" {
		return nil, errors.New("a stored link is damaged")
	}
	return l, nil
}

// NewLinkID returns the id of a link to be made.
func NewLinkID() string { return rand.Text() }

// PutLink stores a new side of a link, and the audit entry of it.
func PutLink(ctx context.Context, tx storage.Tx, by Principal, l Link) error {
	// Two that are made at once see each other.
	if err := tx.Guard("links/" + l.User); err != nil {
		return err
	}
	list, err := linksTx(tx, l.keys()[0])
	if err != nil {
		return err
	}
	for _, other := range list {
		if len(list) >= MaxLinks || l.Out && other.Tenant == l.Tenant || other.Tenant == l.Tenant && other.Other == l.Other {
			return ErrLinked
		}
	}
	data, err := json.Marshal(l)
	if err != nil {
		return errors.New("a link cannot be written")
	}
	if err := tx.PutItem(nil, &storage.Item{Kind: linkKind, ID: l.ID, Keys: l.keys(), Data: data}); err != nil {
		return err
	}
	if l.Out {
		if err := tx.Advance(); err != nil {
			return err
		}
	}
	e := by.Entry(ctx, l.Since, "link.create", PrincipalUser, l.User)
	e.Changes = []storage.Change{storage.ChangeOf(l.path(), nil, l.farEnd())}
	return tx.Audit(e)
}

// dropLink removes a side of a link, and records it.
func dropLink(ctx context.Context, tx storage.Tx, by Principal, l *Link, at time.Time) error {
	if err := tx.DeleteItem(l.item); err != nil {
		return err
	}
	if l.Out {
		if err := tx.Advance(); err != nil {
			return err
		}
	}
	e := by.Entry(ctx, at, "link.end", PrincipalUser, l.User)
	e.Changes = []storage.Change{storage.ChangeOf(l.path(), l.farEnd(), nil)}
	return tx.Audit(e)
}

// farEnd is the other end of a link or a move, as the audit trail tells it.
type farEnd struct {
	Tenant storage.TenantID `json:"tenant"`
	User   string           `json:"user"`
}

func (l *Link) farEnd() farEnd { return farEnd{l.Tenant, l.Other} }

func (l *Link) path() string {
	if l.Out {
		return "to"
	}
	return "from"
}

// linksTx reads the links that a key finds, inside a write.
func linksTx(tx storage.ItemWriter, key string) ([]*Link, error) {
	items, err := tx.Items(linkKind, key)
	return readItems(items, err, linkFrom)
}

// LinkOf is a link as its user sees it.
type LinkOf struct {
	Link
	// InForce says that the other side is there too.
	InForce bool
}

// Links returns the links from and to a user.
func (a *Authenticator) Links(ctx context.Context, tenant storage.TenantID, user string) ([]LinkOf, error) {
	var list []LinkOf
	for _, key := range []string{linkOut, linkIn} {
		items, err := a.Store.Items(ctx, tenant, linkKind, key+user)
		sides, err := readItems(items, err, linkFrom)
		if err != nil {
			return nil, err
		}
		for _, l := range sides {
			there, err := a.otherSide(ctx, tenant, l)
			if err != nil {
				return nil, err
			}
			list = append(list, LinkOf{*l, there})
		}
	}
	return list, nil
}

// otherSide reports whether the other side of a link is there.
func (a *Authenticator) otherSide(ctx context.Context, tenant storage.TenantID, l *Link) (bool, error) {
	other, err := a.side(ctx, l.Tenant, l.ID)
	return other != nil && l.pairs(tenant, other), err
}

// side reads one side of a link, or nil if it is not there.
func (a *Authenticator) side(ctx context.Context, tenant storage.TenantID, id string) (*Link, error) {
	i, err := a.Store.Item(ctx, tenant, linkKind, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return linkFrom(i)
}

// offer is what is stored of one.
type offer struct {
	User       string `json:"user"`
	Generation int64  `json:"generation"` // of the credential: what ends sessions ends offers
}

// OfferLink makes a code with which somebody who signed in to another tenant gets a
// link to the account of by. A former offer ends. Whoever calls it has made sure that a
// passcode was given just now. The error is ErrMoved.
func (a *Authenticator) OfferLink(ctx context.Context, by Principal) (Secret, time.Time, error) {
	if by.Kind != User || by.Moved {
		return "", time.Time{}, ErrMoved
	}
	code, id, err := newText(rand.Reader, offerPrefix, by.Tenant)
	if err != nil {
		return "", time.Time{}, err
	}
	expires := storage.Milli(a.Now().Add(OfferFor))
	return code, expires, a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		c, _, err := proving(tx, by, now)
		if err != nil {
			return err
		}
		if _, err := deleteItems(tx, offerKind, by.ID); err != nil {
			return err
		}
		data, err := json.Marshal(offer{by.ID, c.Generation})
		if err != nil {
			return err
		}
		if err := tx.PutItem(nil, &storage.Item{Kind: offerKind, ID: id, Keys: []string{by.ID}, Expires: expires, Data: data}); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, "link.offer", by.ID, now)
	})
}

// AcceptLink uses up an offer and makes a link from the account of by to the one that
// was offered. Of several who accept an offer at once, one does. Whoever calls it has
// made sure that a passcode was given just now. The error is ErrMoved, ErrLinkCode,
// ErrLinked, or an *InvalidError for an offer of the same tenant.
func (a *Authenticator) AcceptLink(ctx context.Context, by Principal, code Secret) (*Link, error) {
	if by.Kind != User || by.Moved {
		return nil, ErrMoved
	}
	tenant, id, ok := parseText(offerPrefix, code.Reveal())
	switch {
	case !ok:
		return nil, ErrLinkCode
	case tenant == by.Tenant:
		return nil, &InvalidError{"code", "one that was made in another tenant"}
	}
	// An offer is not to be used up in vain.
	items, err := a.Store.Items(ctx, by.Tenant, linkKind, linkOut+by.ID)
	out, err := readItems(items, err, linkFrom)
	switch {
	case err != nil:
		return nil, err
	case len(out) >= MaxLinks || slices.ContainsFunc(out, func(l *Link) bool { return l.Tenant == tenant }):
		return nil, ErrLinked
	}
	link := Link{ID: NewLinkID(), User: by.ID, Tenant: tenant, Out: true, Since: storage.Milli(a.Now())}
	// The side of the account that it leads to comes first: it is what consent
	// stands for, and without the other one it leads nowhere.
	err = a.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		i, err := tx.Item(offerKind, id)
		if errors.Is(err, storage.ErrNotFound) {
			return ErrLinkCode
		}
		if err != nil {
			return err
		}
		var o offer
		if err := json.Unmarshal(i.Data, &o); err != nil {
			return errors.New("a stored offer is damaged")
		}
		c, err := ReadCredential(tx, o.User)
		if err != nil {
			return err
		}
		r, err := tx.Get(PrincipalUser, o.User)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			return ErrLinkCode
		case err != nil:
			return err
		case !now.Before(i.Expires), c.Generation != o.Generation, !Active(r):
			return ErrLinkCode
		}
		if err := tx.DeleteItem(i); err != nil {
			return err
		}
		link.Other = o.User
		return PutLink(ctx, tx, Principal{Kind: User, Tenant: tenant, ID: o.User, From: by.From},
			Link{ID: link.ID, User: o.User, Tenant: by.Tenant, Other: by.ID, Since: link.Since})
	})
	if errors.Is(err, storage.ErrConflict) {
		err = ErrLinkCode
	}
	if err != nil {
		return nil, err
	}
	if err := a.BeginLink(ctx, by, link); err != nil {
		return nil, err
	}
	return &link, nil
}

// BeginLink stores the side of a link that leads from the account of by, which leads
// nowhere before the other side is there. A passcode has to have been given just now.
func (a *Authenticator) BeginLink(ctx context.Context, by Principal, l Link) error {
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if _, _, err := proving(tx, by, storage.Milli(a.Now())); err != nil {
			return err
		}
		return PutLink(ctx, tx, by, l)
	})
}

// proving returns the credential and the session of somebody who signed in and gave a
// passcode just now, whose account is not blocked.
func proving(tx storage.Tx, by Principal, now time.Time) (*Credential, *storedSession, error) {
	c, err := ReadCredential(tx, by.ID)
	if err != nil {
		return nil, nil, err
	}
	s, err := resume(tx, by, c, now)
	if err != nil {
		return nil, nil, err
	}
	r, err := tx.Get(PrincipalUser, by.ID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, nil, refuseRevoked
	case err != nil:
		return nil, nil, err
	case !Active(r):
		return nil, nil, refuseRevoked
	case s.Via != nil:
		return nil, nil, ErrMoved
	case !within(s.PasscodeAt, StepUpAge, now):
		return nil, nil, ErrPasscodeAge
	}
	return c, s, nil
}

// CutLink ends a link of by, from either side. The error is storage.ErrNotFound, or
// ErrLastAdministrator for the only way in to a tenant.
func (a *Authenticator) CutLink(ctx context.Context, by Principal, id string) error {
	return a.cut(ctx, by, by.ID, id)
}

// CutLinks ends all links from and to a user, if there are any, for somebody who may
// manage the user's credentials. The error is storage.ErrNotFound for a user who does not
// exist, ErrLastAdministrator as for CutLink, or a *DeniedError.
func (a *Authenticator) CutLinks(ctx context.Context, by Principal, user string) error {
	return a.cut(ctx, by, user, "")
}

// cut ends one link of a user, or all if id is "".
func (a *Authenticator) cut(ctx context.Context, by Principal, user, id string) error {
	defer a.InvalidateUser(user)
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		if err := mayEnd(tx, by, user, now); err != nil {
			return err
		}
		out, err := linksTx(tx, linkOut+user)
		if err != nil {
			return err
		}
		in, err := linksTx(tx, linkIn+user)
		if err != nil {
			return err
		}
		found := false
		err = KeepAdministrator(tx, now, func() error {
			for _, l := range append(out, in...) {
				if id != "" && l.ID != id {
					continue
				}
				found = true
				if err := dropLink(ctx, tx, by, l, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && !found && id != "" {
			err = storage.ErrNotFound
		}
		return err
	})
}

// forgetLinks removes what is kept of the links from and to a user.
func forgetLinks(tx storage.Tx, user string) error {
	out, err := deleteItems(tx, linkKind, linkOut+user)
	if err != nil {
		return err
	}
	if _, err := deleteItems(tx, linkKind, linkIn+user); err != nil {
		return err
	}
	if _, err := deleteItems(tx, offerKind, user); err != nil {
		return err
	}
	if out > 0 {
		return tx.Advance()
	}
	return nil
}
