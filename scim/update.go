package scim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// How a resource is changed by a PUT or a PATCH: both come to a change, which is computed
// before the write and once more inside it where it was overtaken.

// change is what a PUT or PATCH comes to.
type change struct {
	action     string
	attrs      map[string]any // the whole tree afterwards
	members    []patch.MemberChange
	password   string // a hash to store, if not empty
	noPassword bool   // the password is removed
}

func (c *change) ofPassword() bool { return c.password != "" || c.noPassword }

func (p *Provider) replace(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, body any) (*storage.Resource, error) {
	if err := p.allowOn(by, auth.Update, t, id); err != nil {
		return nil, err
	}
	_, givenMembers := schemas.Field(body, "members")
	bound, err := t.Bind(body, mode(by))
	if err != nil {
		return nil, err
	}
	secret, err := p.takePassword(ctx, by, bound)
	if err != nil {
		return nil, err
	}
	c := change{action: "replace", password: secret}
	members := takeMembers(bound)
	if givenMembers && t.Top("members") != nil {
		c.members = []patch.MemberChange{{Kind: patch.ReplaceMembers, Operation: -1, Members: members}}
	}
	return p.update(ctx, by, t, id, pre, func(_ *storage.Resource, attrs map[string]any) (change, error) {
		next := maps.Clone(bound) // this may run again
		if v, ok := attrs["active"]; ok && next["active"] == nil && !t.Custom {
			next["active"] = v
		}
		keepType(t, attrs, next)
		if err := t.KeepImmutable(attrs, next); err != nil {
			return change{}, err
		}
		c.attrs = next
		return c, nil
	})
}

// storedPassword stands in the tree given to a PATCH for the password that is
// not in the document, so that removing it can be told from leaving it alone.
// No password a client sends contains U+0000.
const storedPassword = "\x00stored"

func (p *Provider) patch(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, ops []patch.Operation) (*storage.Resource, error) {
	if err := p.allowOn(by, auth.Update, t, id); err != nil {
		return nil, err
	}
	hashed := map[string]string{} // hashing is slow, and the function below may run again inside the write
	return p.update(ctx, by, t, id, pre, func(_ *storage.Resource, attrs map[string]any) (change, error) {
		if t.Top("password") != nil {
			attrs["password"] = storedPassword
		}
		res, err := patch.Apply(t, attrs, ops, mode(by))
		delete(attrs, "password")
		if err != nil {
			return change{}, err
		}
		c := change{action: "patch", attrs: res.Attributes, members: res.Members}
		switch pw, ok := c.attrs["password"].(string); {
		case by.Kind == auth.User && pw != storedPassword && t.Top("password") != nil:
			return change{}, errOwnPassword
		case !ok && t.Top("password") != nil:
			stored, err := auth.FindCredential(ctx, p.Store, by.Tenant, id)
			if err != nil {
				return change{}, err
			}
			c.noPassword = stored.PasswordHash != ""
		case ok && pw != storedPassword:
			if hashed[pw] == "" {
				if hashed[pw], err = p.Hasher.Hash(ctx, pw); err != nil {
					return change{}, err
				}
			}
			c.password = hashed[pw]
		}
		delete(c.attrs, "password")
		return c, nil
	})
}

// A change of a resource that is larger than heavyDocument takes too long to be
// computed inside a write, where everybody else waits for it: up to milliseconds
// for each KiB, when a PATCH has as many operations with filters as it may. One
// that was overtaken is begun again outside, attempts times in all.
const (
	heavyDocument = 16 << 10
	attempts      = 5
)

// errOvertaken: a heavy resource has changed meanwhile.
var errOvertaken = fmt.Errorf("%w: the resource kept changing", storage.ErrUnavailable)

// update reads a resource, computes its next state, and writes that unless the
// resource changed meanwhile; then it computes again inside the write, where
// nothing can come between. A resource with members is only read inside: what its
// member changes come to is counted there in any case, and its document is small.
func (p *Provider) update(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition,
	compute func(*storage.Resource, map[string]any) (change, error)) (*storage.Resource, error) {
	if t.Name == membershipType {
		return nil, errFixed
	}
	if !ours(id) {
		return nil, storage.ErrNotFound
	}
	if builtIn(t, id) != nil {
		return nil, errBuiltIn
	}
	u := update{p: p, t: t, by: by, pre: pre, compute: compute}
	for attempt := 1; ; attempt++ {
		var r *storage.Resource
		var err error
		if refersLate(by, t) {
			if u.late, err = p.lateness(ctx, by); err != nil {
				return nil, err
			}
		}
		err = u.late.again(func() error {
			return p.withStanding(ctx, by, func(s *auth.Standing) (err error) {
				u.standing = s
				r, err = u.attempt(ctx, id)
				return err
			})
		})
		if !errors.Is(err, errOvertaken) || attempt == attempts {
			return r, err
		}
	}
}

// attempt reads, computes and writes.
func (u update) attempt(ctx context.Context, id string) (*storage.Resource, error) {
	p, t, by := u.p, u.t, u.by
	if m := t.Top("members"); m != nil && m.Detached {
		if u.late != nil {
			if err := u.look(ctx, id); err != nil {
				return nil, err
			}
		}
		first := u
		err := p.write(ctx, by.Tenant, func(tx storage.Tx) error {
			u = first
			return u.inside(ctx, tx, id)
		})
		if err != nil {
			return nil, err
		}
		return u.next, nil
	}
	read, err := p.Store.GetToChange(ctx, by.Tenant, t.Name, id)
	if err != nil {
		return nil, err
	}
	if err := u.prepare(ctx, read); err != nil {
		return nil, err
	}
	heavy := max(len(read.Doc), len(u.next.Doc)) > heavyDocument
	if u.nothing() {
		return read, nil
	}
	first := u
	err = p.write(ctx, by.Tenant, func(tx storage.Tx) error {
		u = first
		err := u.write(ctx, tx)
		switch {
		case !errors.Is(err, storage.ErrConflict):
			return err
		case heavy:
			return errOvertaken
		}
		return u.inside(ctx, tx, id)
	})
	if err != nil {
		return nil, signInTaken(err, u.change.attrs, slices.Contains(u.changed, "userName"))
	}
	return u.next, nil
}

// update is one PUT or PATCH under way.
type update struct {
	p       *Provider
	t       *schemas.ResourceType
	by      auth.Principal
	pre     Precondition
	compute func(*storage.Resource, map[string]any) (change, error)

	prev, next *storage.Resource
	change     change
	changed    []string        // attribute paths
	values     changes         // of these
	looked     int             // at members, to find those that a filter selects
	above      map[string]bool // the groups that this one belongs to; nil until somebody asks
	standing   *auth.Standing
	then       func(*decision) error // what else follows from the change; may be nil
	d          *decision
	own        bool   // of oneself, and needs no permission
	manager    string // that is new, and has to be a user; "" for none

	late   *lateness // nil where all that is referred to has to be there
	within bool      // the write has begun
	waits  string    // the manager who is waited for, or ""
	renews bool      // who is not waited for any more, and is sent again
	// came and went are the members that a group waits for from now on, and no longer.
	came, went []string
}

// inside reads the resource in the write, where it stays as it is, computes its
// next state and writes that.
func (u *update) inside(ctx context.Context, tx storage.Tx, id string) error {
	prev, err := tx.Get(u.t.Name, id)
	if err != nil {
		return err
	}
	u.within = true
	if err := u.prepare(ctx, prev); err != nil {
		return err
	}
	return u.write(ctx, tx)
}

// prepare computes the next state from prev.
func (u *update) prepare(ctx context.Context, prev *storage.Resource) error {
	if err := u.pre.check(prev); err != nil {
		return err
	}
	attrs, err := parseStored(u.t, prev)
	if err != nil {
		return err
	}
	if u.t.Unknown(attrs) {
		return errChanging
	}
	if u.change, err = u.compute(prev, attrs); err != nil {
		return err
	}
	if err := u.p.settled(ctx, u.by.Tenant, u.t, attrs, u.change.attrs); err != nil {
		return err
	}
	next := &storage.Resource{Type: prev.Type, ID: prev.ID, Version: prev.Version + 1, Created: prev.Created,
		LastModified: later(u.p.now(), prev.LastModified), InGroups: prev.InGroups}
	dropManagerRef(u.t, attrs, u.change.attrs)
	if err := u.lookForManager(ctx, attrs, prev.ID); err != nil {
		return err
	}
	if u.then, err = u.p.reprepare(ctx, u.by, u.t, attrs, u.change.attrs, prev.ID); err != nil {
		return err
	}
	if err := u.p.fill(u.by.Tenant, u.t, next, u.change.attrs); err != nil {
		return err
	}
	if u.manager = managerToCheck(u.by, attrs, u.change.attrs); u.manager == prev.ID || u.waits != "" {
		u.manager = "" // their own: this write reads them anyway
	}
	u.changed, u.values = differences(u.t, attrs, u.change.attrs)
	if u.change.ofPassword() {
		u.changed = append(u.changed, "password")
		u.values.Add("password", nil, nil)
	}
	u.prev, u.next = prev, next
	return nil
}

// later keeps lastModified from going back when the clock does.
func later(now, last time.Time) time.Time {
	if now.Before(last) {
		return last
	}
	return now
}

func (u *update) nothing() bool {
	return !u.renews && bytes.Equal(u.prev.Doc, u.next.Doc) && len(u.change.members) == 0 && !u.change.ofPassword()
}

// write decides about the change and writes it.
func (u *update) write(ctx context.Context, tx storage.Tx) error {
	u.d = u.p.decide(ctx, tx, u.by, u.standing, u.p.now())
	if err := u.d.holds(u.prev); err != nil {
		return err
	}
	if err := u.allowOwn(); err != nil {
		return err
	}
	touched := aspects(u.t, u.changed)
	if touched != 0 {
		u.d.subject(u.prev.ID, touched)
	}
	costs := (touched&(auth.AspectActive|auth.AspectCredentials) != 0 || len(u.change.members) > 0) && u.d.global(u.prev.ID)
	if !costs && u.standing.Blocks() && slices.ContainsFunc(u.change.members, comes) {
		above, err := u.ancestors(tx)
		if err != nil {
			return err
		}
		costs = u.standing.Shuts(append(above, u.prev.ID)...)
	}
	return u.d.keep(costs, func() error { return u.apply(ctx, tx) })
}

// comes reports whether somebody may become a member by a change.
func comes(c patch.MemberChange) bool {
	return c.Kind == patch.AddMembers || c.Kind == patch.ReplaceMembers
}

// apply writes the change.
func (u *update) apply(ctx context.Context, tx storage.Tx) error {
	same := bytes.Equal(u.prev.Doc, u.next.Doc)
	if err := u.guard(tx); err != nil {
		return err
	}
	rows, err := u.applyMembers(tx)
	if err != nil {
		return err
	}
	if same && rows == 0 && !u.change.ofPassword() {
		u.next = u.prev
		return u.unchanged(tx)
	}
	if u.then == nil && !u.own {
		if err := u.d.ask(); err != nil {
			return err
		}
	}
	if err := checkManager(tx, u.manager); err != nil {
		return u.late.overtaken(err)
	}
	next := u.next
	if same {
		short := *next
		short.Doc, short.Index = nil, nil
		next = &short
	}
	if err := tx.Update(u.prev, next); err != nil {
		return err
	}
	if err := u.applyAccess(tx); err != nil {
		return err
	}
	if u.then != nil {
		if err := u.then(u.d); err != nil {
			return err
		}
	}
	if err := u.p.record(ctx, tx, u.by, u.change.action, u.next, u.changed, u.values); err != nil {
		return err
	}
	if err := u.d.tellWaiting(u.next, u.came, u.went); err != nil || u.late == nil {
		return err
	}
	return u.late.changed(u)
}

// applyMembers writes the changes of members, and returns how many rows they touched.
func (u *update) applyMembers(tx storage.Tx) (rows int, err error) {
	for _, m := range u.change.members {
		waited := len(u.went)
		n, err := u.changeMembers(tx, m)
		if err != nil {
			return 0, inOperation(m, err)
		}
		selects := m.Kind == patch.RemoveMembers || m.Kind == patch.RemoveWhere
		if n == 0 && len(u.went) == waited && selects && (m.Target || mode(u.by) == schemas.Strict) {
			return 0, &patch.Error{Index: m.Operation, Path: "members", Kind: patch.NoTarget, Msg: "no value matches the filter"}
		}
		rows += n
	}
	if rows > 0 {
		u.changed = append(u.changed, "members")
		u.d.subject(u.prev.ID, auth.AspectMembership)
	}
	return rows, nil
}

// unchanged writes what a resource waits for that stays as it is.
func (u *update) unchanged(tx storage.Tx) error {
	if u.renews {
		if err := u.late.waitFor(tx, u.prev.ID, u.waits, u.d.now); err != nil {
			return err
		}
		u.came = append(u.came, u.waits)
	}
	if len(u.came)+len(u.went) > 0 {
		if err := u.d.ask(); err != nil {
			return err
		}
	}
	return u.d.tellWaiting(u.prev, u.came, u.went)
}

// applyAccess writes a new password, and ends what a user has begun who has got one, or is
// blocked.
func (u *update) applyAccess(tx storage.Tx) error {
	id, at := u.prev.ID, u.next.LastModified
	blocks := u.blocks()
	if u.change.ofPassword() { // which ends sessions
		n, err := auth.WritePassword(tx, id, u.change.password, at)
		if err != nil {
			return err
		}
		if err := u.d.sessionsEnded(n, id, at); err != nil {
			return err
		}
	} else if blocks {
		if err := u.d.endSessions(id, at); err != nil {
			return err
		}
	}
	if !blocks {
		return nil
	}
	return u.d.endInvitations(id, auth.InviterBlocked, at)
}

// inOperation says which operation of a PATCH brought a value that is wrong.
func inOperation(c patch.MemberChange, err error) error {
	v, ok := errors.AsType[*schemas.ValueError](err)
	if !ok || c.Operation < 0 {
		return err
	}
	operation, path := c.Operation, v.Path
	var i int
	if n, _ := fmt.Sscanf(path, memberPathFormat, &i); n == 1 {
		operation, i = c.Origin(i)
		path = memberPath(i)
	}
	return &patch.Error{Index: operation, Path: path, Kind: patch.InvalidValue, Msg: v.Msg}
}

// blocks reports whether the change keeps a user from signing in.
func (u *update) blocks() bool {
	return u.t.Top("password") != nil && slices.Contains(u.changed, "active") && u.change.attrs["active"] == false
}
