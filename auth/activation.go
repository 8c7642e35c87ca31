package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// activationKind is the kind of the items that say that somebody has made an
// eligible role active. They vanish some time after they end.
const activationKind = "activation"

const (
	// MaxActivation is the longest that an eligible role can be active at a time.
	MaxActivation = 8 * time.Hour
	// ApprovalWithin is how long an activation waits to be approved.
	ApprovalWithin = 24 * time.Hour
	// maxReason bounds a reason, in bytes.
	maxReason = 500
)

// Activation is an eligible role that its holder has made active for a while, or
// asks to.
type Activation struct {
	ID        string    `json:"-"`
	Grant     string    `json:"grant"` // the id of the role assignment
	Role      string    `json:"role"`
	Principal string    `json:"principal"` // the user
	Seconds   int64     `json:"seconds"`   // how long it is to be active
	Reason    string    `json:"reason"`
	Asked     time.Time `json:"asked"`
	// Until is when it ends; zero as long as it waits to be approved.
	Until      time.Time `json:"until,omitzero"`
	ApprovedBy string    `json:"approvedBy,omitzero"` // the id of a user

	item *storage.Item
}

// InForce reports whether the activation gives its role at this time.
func (a *Activation) InForce(now time.Time) bool {
	return !a.Until.IsZero() && now.Before(a.Until) && !now.Before(a.Asked.Add(-clockDrift))
}

// Pending reports whether the activation waits to be approved.
func (a *Activation) Pending(now time.Time) bool {
	return a.Until.IsZero() && now.Before(a.Asked.Add(ApprovalWithin))
}

// Errors of activations. Others are *InvalidError, *DeniedError, storage.ErrNotFound and
// ErrStalePasscode.
var (
	// ErrStalePasscode: a passcode has to be given first.
	ErrStalePasscode = errors.New("a passcode is required, given within the last five minutes")
	// ErrActivation: what was asked for is not possible.
	ErrActivation = errors.New("the role cannot be activated like this")
)

// Activate makes a role active for a while that a user is eligible for, or asks for
// that where a second person has to approve. The user is whoever calls, in a session
// with a fresh passcode. Sessions notice within half a second.
func Activate(ctx context.Context, store storage.Store, by Principal, now time.Time, assignment string, duration time.Duration, reason string) (*Activation, error) {
	if err := fresh(by, now); err != nil {
		return nil, err
	}
	reason = strings.TrimSpace(reason)
	switch {
	case reason == "" || len(reason) > maxReason:
		return nil, &InvalidError{"reason", fmt.Sprintf("a reason of at most %d bytes", maxReason)}
	case duration < time.Minute || duration > MaxActivation:
		return nil, &InvalidError{"durationSeconds", fmt.Sprintf("at least 60 and at most %d", MaxActivation/time.Second)}
	}
	var a *Activation
	err := store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		g, err := eligible(tx, by.ID, assignment, now)
		if err != nil {
			return err
		}
		others, err := activationsFrom(tx.Items(activationKind, "grant/"+g.ID+"/"+by.ID))
		if err != nil {
			return err
		}
		for _, o := range others {
			if o.InForce(now) || o.Pending(now) {
				return fmt.Errorf("%w: it is active already, or waits to be approved", ErrActivation)
			}
		}
		a = &Activation{ID: storage.NewID(), Grant: g.ID, Role: g.Role, Principal: by.ID, Seconds: int64(duration / time.Second), Reason: reason, Asked: now}
		action := "role.activate.request"
		if !g.Approval {
			a.Until = endOf(g, now.Add(duration))
			action = "role.activate"
		}
		if err := putActivation(tx, nil, a); err != nil {
			return err
		}
		return auditActivation(ctx, tx, by, now, action, a)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Approve makes an activation that waits for it active from now on. It takes another
// person, who could give the role for good, with a fresh passcode.
func Approve(ctx context.Context, store storage.Store, by Principal, now time.Time, activation string) (*Activation, error) {
	if err := fresh(by, now); err != nil {
		return nil, err
	}
	var a *Activation
	err := store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		prev, err := readActivation(tx, activation)
		if err != nil {
			return err
		}
		if prev.Principal == by.ID {
			return &DeniedError{"somebody else has to approve"}
		}
		g, err := eligible(tx, prev.Principal, prev.Grant, now)
		if err != nil {
			return err
		}
		if err := mayGive(tx, by, g.Role, now); err != nil {
			return err
		}
		if !prev.Pending(now) {
			return fmt.Errorf("%w: it does not wait to be approved", ErrActivation)
		}
		next := *prev
		next.Until, next.ApprovedBy = endOf(g, now.Add(time.Duration(prev.Seconds)*time.Second)), by.ID
		if err := putActivation(tx, prev.item, &next); err != nil {
			return err
		}
		a = &next
		return auditActivation(ctx, tx, by, now, "role.activate.approve", a)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Deactivate ends an activation, or refuses one that waits to be approved, and returns
// whose it was: its holder may, and who could give the role.
func Deactivate(ctx context.Context, store storage.Store, by Principal, now time.Time, activation string) (holder string, err error) {
	if !known(by) {
		return "", errDeniedNobody
	}
	err = store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		a, err := readActivation(tx, activation)
		if err != nil {
			return err
		}
		holder = a.Principal
		if by.Kind != User || a.Principal != by.ID {
			if err := mayGive(tx, by, a.Role, now); err != nil {
				return err
			}
		}
		end := func() error { return tx.DeleteItem(a.item) }
		if a.Role == GlobalAdministrator {
			err = KeepAdministrator(tx, now, end)
		} else {
			err = end()
		}
		if err != nil {
			return err
		}
		return auditActivation(ctx, tx, by, now, "role.deactivate", a)
	})
	return holder, err
}

// fresh reports whether by is a person who gave a passcode a moment ago.
func fresh(by Principal, now time.Time) error {
	if by.Kind != User || !known(by) {
		return errDeniedNobody
	}
	if !by.PasscodeWithin(StepUpAge, now) {
		return ErrStalePasscode
	}
	return nil
}

func mayGive(tx storage.Tx, by Principal, role string, now time.Time) error {
	r, err := ReadRole(tx, role)
	if err != nil {
		return err
	}
	if by, err = by.AsOf(tx, now); err != nil {
		return err
	}
	return by.MayGive(r)
}

// eligible returns the grant that makes a user eligible for its role at this time,
// their own or that of a group they are in.
func eligible(tx storage.Tx, user, assignment string, now time.Time) (*Grant, error) {
	g, err := ReadGrant(tx, assignment)
	if err != nil {
		return nil, err
	}
	var above []string
	if g.Principal != user {
		if g.PrincipalType != PrincipalGroup {
			return nil, storage.ErrNotFound
		}
		u, err := tx.Get(PrincipalUser, user)
		if err != nil {
			return nil, err
		}
		if above, err = aboveTx(tx, u); err != nil {
			return nil, err
		}
		if !slices.Contains(above, g.Principal) {
			return nil, storage.ErrNotFound
		}
	}
	if !g.makesEligible(user, above, now) {
		return nil, fmt.Errorf("%w: it is not an eligible one at present", ErrActivation)
	}
	return g, nil
}

// endOf keeps an activation within its grant.
func endOf(g *Grant, end time.Time) time.Time {
	if !g.End.IsZero() && g.End.Before(end) {
		return g.End
	}
	return end
}

func putActivation(tx storage.Tx, prev *storage.Item, a *Activation) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("an activation cannot be written: %w", err)
	}
	expires := a.Until
	if expires.IsZero() {
		expires = a.Asked.Add(ApprovalWithin)
	}
	return tx.PutItem(prev, &storage.Item{Kind: activationKind, ID: a.ID, Data: data, Expires: storage.Milli(expires),
		Keys: []string{"principal/" + a.Principal, "role/" + a.Role, "grant/" + a.Grant, "grant/" + a.Grant + "/" + a.Principal}})
}

func readActivation(tx storage.ItemWriter, id string) (*Activation, error) {
	i, err := tx.Item(activationKind, id)
	if err != nil {
		return nil, err
	}
	return activationFrom(i)
}

func activationFrom(i *storage.Item) (*Activation, error) {
	a := &Activation{ID: i.ID, item: i}
	if err := json.Unmarshal(i.Data, a); err != nil || a.Role == "" || a.Principal == "" {
		return nil, errors.New("a stored activation is damaged")
	}
	return a, nil
}

func activationsFrom(items []*storage.Item, err error) ([]*Activation, error) {
	return readItems(items, err, activationFrom)
}

// endActivations removes the activations of a grant that is no more, or of a user
// who is no more.
func endActivations(tx storage.Tx, key string) error {
	list, err := activationsFrom(tx.Items(activationKind, key))
	for _, a := range list {
		if err == nil {
			err = tx.DeleteItem(a.item)
		}
	}
	return err
}

// auditActivation records an activation with its reason and its time.
func auditActivation(ctx context.Context, tx storage.Tx, by Principal, now time.Time, action string, a *Activation) error {
	e := by.Entry(ctx, now, action, AssignmentType, a.Grant)
	e.Changes = []storage.Change{storage.ChangeOf("user", nil, a.Principal), storage.ChangeOf("reason", nil, a.Reason), storage.ChangeOf("durationSeconds", nil, a.Seconds)}
	return tx.Audit(e)
}

// Activations returns the activations of a user that are in force or wait to be
// approved; those of everybody if user is empty. What made their holders eligible is
// asked, as whenever it is asked for roles.
func Activations(ctx context.Context, store storage.Store, tenant storage.TenantID, user string, now time.Time) ([]*Activation, error) {
	key := ""
	if user != "" {
		key = "principal/" + user
	}
	all, err := activationsFrom(store.Items(ctx, tenant, activationKind, key))
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(a *Activation) bool { return !a.InForce(now) && !a.Pending(now) })
	var list []*Activation
	for portion := range slices.Chunk(all, reportPage) {
		stand, err := standing(ctx, store, tenant, portion, now)
		if err != nil {
			return nil, err
		}
		list = append(list, stand...)
	}
	return list, nil
}

// standing returns those of a portion of activations whose holders are eligible as yet.
func standing(ctx context.Context, store storage.Store, tenant storage.TenantID, portion []*Activation, now time.Time) ([]*Activation, error) {
	var users, grants []string
	for _, a := range portion {
		users, grants = append(users, a.Principal), append(grants, a.Grant)
	}
	slices.Sort(users)
	users = slices.Compact(users)
	there, err := store.Names(ctx, tenant, PrincipalUser, users...)
	if err != nil {
		return nil, err
	}
	groups, err := store.Groups(ctx, tenant, users...)
	if err != nil {
		return nil, err
	}
	items, err := store.ItemsByID(ctx, tenant, grantKind, grants...)
	if err != nil {
		return nil, err
	}
	var list []*Activation
	for _, a := range portion {
		item := items[a.Grant]
		if _, ok := there[a.Principal]; !ok || item == nil {
			continue
		}
		g, err := grantFrom(item)
		if err != nil {
			return nil, err
		}
		if g.makesEligible(a.Principal, groupIDs(groups[a.Principal]), now) {
			list = append(list, a)
		}
	}
	return list, nil
}
