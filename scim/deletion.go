package scim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// deletionKind is the kind of the items that hold a deletion, under the id of the user
// or group. They go with it when it is restored or purged.
const deletionKind = "deletion"

// deletion is what is remembered of the deletion of a user or group. The resource and
// its memberships are still there, and so are the assignments that went with it, as
// deleted resources.
type deletion struct {
	By          string   `json:"by"` // as the audit trail names whoever deleted it
	Assignments []string `json:"assignments,omitempty"`
	// Reports are the users whose manager they were.
	Reports []string `json:"reports,omitempty"`
	// Purging says that a part is gone for good already.
	Purging bool `json:"purging,omitzero"`

	item *storage.Item // nil for what was deleted by an older version
}

func (n *deletion) put(tx storage.Tx, id string) error {
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("a deletion cannot be written: %w", err)
	}
	return tx.PutItem(n.item, &storage.Item{Kind: deletionKind, ID: id, Data: data})
}

// deletionFrom reads a deletion; nothing is remembered of what an older version deleted.
func deletionFrom(i *storage.Item, err error) (*deletion, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return &deletion{}, nil
	}
	if err != nil {
		return nil, err
	}
	n := &deletion{item: i}
	if err := json.Unmarshal(i.Data, n); err != nil {
		return nil, errors.New("a stored deletion is damaged")
	}
	return n, nil
}

// remember keeps what restoring a user or group needs beside the store's own.
func (d *decision) remember(r *storage.Resource, grants []*auth.Grant) error {
	n := &deletion{By: d.by.Actor(), Reports: d.reports}
	for _, g := range grants {
		if !g.Ended(d.now) {
			n.Assignments = append(n.Assignments, g.ID)
		}
	}
	return n.put(d.tx, r.ID)
}

// ForgoWith takes an assignment from what would come back with a deleted user or group, as
// deleting it takes it from somebody who is there, with a part of its own in the same write.
// That is told whether there was anything to take.
func (p *Provider) ForgoWith(ctx context.Context, by auth.Principal, assignment string, also func(tx storage.Tx, taken bool) error) error {
	t := p.Schemas.Type(assignmentType)
	err := p.allow(by, auth.Delete, t)
	if err == nil {
		err = p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			taken, err := p.decide(ctx, tx, by, nil, p.now()).forgo(t, assignment)
			if err != nil {
				return err
			}
			return also(tx, taken)
		})
	}
	return p.observe(t, "purge", err)
}

func (d *decision) forgo(t *schemas.ResourceType, assignment string) (taken bool, err error) {
	w, err := d.tx.GetDeleted(t.Name, assignment)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	g, err := grantIn(t, w)
	if err != nil {
		return false, err
	}
	n, err := deletionFrom(d.tx.Item(deletionKind, g.Principal))
	if err != nil || g.Ended(d.now) || !slices.Contains(n.Assignments, assignment) {
		return false, err
	}
	role, err := auth.ReadRole(d.tx, g.Role)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d.loses([]*auth.Role{role})
	if err := d.ask(); err != nil {
		return false, err
	}
	n.Assignments = slices.DeleteFunc(n.Assignments, func(id string) bool { return id == assignment })
	if err := n.put(d.tx, g.Principal); err != nil {
		return false, err
	}
	if _, err := d.tx.Purge(w); err != nil {
		return false, err
	}
	return true, d.purged(w)
}

// grantIn is what an assignment said that is deleted.
func grantIn(t *schemas.ResourceType, w *storage.WholeResource) (*auth.Grant, error) {
	attrs, err := parseStored(t, &w.Resource)
	if err != nil {
		return nil, err
	}
	g, err := assignmentOf(w.ID, attrs)
	if err != nil {
		return nil, fmt.Errorf("read the stored %s %s: %v", assignmentType, w.ID, err) //nolint:errorlint // see parseStored
	}
	return g, nil
}

// comeback is what a deleted user or group would have again.
type comeback struct {
	given  []givenBack // by assignments of its own
	byWay  []ReturningRole
	joined []storage.Membership
	// watched: one of the groups belongs to the Standing.
	watched bool
}

// givenBack is an assignment that was deleted with its principal.
type givenBack struct {
	grant      *auth.Grant
	role       *auth.Role
	assignment *storage.WholeResource
}

// ReturningRole is a role that a deleted user or group would have again.
type ReturningRole struct {
	Role *auth.Role
	// Group is the group that it would come by, or empty if it was given to the user
	// or group itself, by the assignment with the id Assignment.
	Group, Assignment string
}

// reader reads what a comeback consists of, inside a write or outside.
type reader struct {
	deleted func(typ, id string) (*storage.WholeResource, error)
	role    func(id string) (*auth.Role, error)
	// above returns the ids of the groups that a group is in.
	above func(group string) ([]string, error)
}

// comeback gathers what somebody would have again who was in groups.
func (p *Provider) comeback(r reader, s *auth.Standing, n *deletion, groups []storage.Membership, now time.Time) (*comeback, error) {
	c := &comeback{joined: groups}
	t := p.Schemas.Type(assignmentType)
	for _, id := range n.Assignments {
		w, err := r.deleted(assignmentType, id)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		g, err := grantIn(t, w)
		if err != nil {
			return nil, err
		}
		if g.Ended(now) {
			continue
		}
		role, err := r.role(g.Role)
		if errors.Is(err, storage.ErrNotFound) {
			continue // the role is gone, and who held it holds nothing by it
		}
		if err != nil {
			return nil, err
		}
		c.given = append(c.given, givenBack{g, role, w})
	}
	if !s.Groups() {
		return c, nil
	}
	for _, g := range groups {
		above, err := r.above(g.Group)
		if err != nil {
			return nil, err
		}
		for _, role := range s.Carried(g.Group, above, now) {
			c.byWay = append(c.byWay, ReturningRole{Role: role, Group: g.Group})
		}
		c.watched = c.watched || s.Watches(g.Group)
	}
	return c, nil
}

// roles are those of a comeback, each as often as it would come.
func (c *comeback) roles() []ReturningRole {
	var list []ReturningRole
	for _, g := range c.given {
		list = append(list, ReturningRole{Role: g.role, Assignment: g.grant.ID})
	}
	return append(list, c.byWay...)
}

// inside reads in the write.
func (d *decision) inside(groups []*storage.Resource) reader {
	return reader{
		deleted: d.tx.GetDeleted,
		role:    func(id string) (*auth.Role, error) { return auth.ReadRole(d.tx, id) },
		above: func(group string) ([]string, error) {
			for _, g := range groups {
				if g.ID == group {
					return d.tx.Ancestors(g)
				}
			}
			return nil, nil
		},
	}
}

// nameOf is the attribute that names a resource of a type, and is unique.
func nameOf(t *schemas.ResourceType) string {
	if t.Name == auth.PrincipalUser {
		return "userName"
	}
	return "displayName"
}
