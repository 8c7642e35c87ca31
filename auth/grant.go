package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// The kinds of items that say who holds what.
const (
	grantKind = "grant" // a Grant, under the id of its RoleAssignment
	roleKind  = "role"  // a custom role, under its id
)

// watchedKey finds the grants of which everybody must know who changes a user or
// group: those of administrative roles, and those to groups; see Standing.
const watchedKey = "watched"

// RoleType and AssignmentType are the resource types of roles and of their assignments.
const (
	RoleType       = "Role"
	AssignmentType = "RoleAssignment"
)

// The types of a principal that holds a role: two resource types, and clients.
const (
	PrincipalUser   = "User"
	PrincipalGroup  = "Group"
	PrincipalClient = "Client"
)

// Grant is a role assignment as decisions see it. It stands beside the resource of
// type RoleAssignment with the same id, and is written with it.
type Grant struct {
	ID            string    `json:"-"`
	Role          string    `json:"role"`
	Principal     string    `json:"principal"`
	PrincipalType string    `json:"type"`
	Eligible      bool      `json:"eligible,omitzero"`
	Approval      bool      `json:"approval,omitzero"` // a second person agrees to each activation
	Start         time.Time `json:"start,omitzero"`    // zero: from the beginning
	End           time.Time `json:"end,omitzero"`      // zero: for good

	item *storage.Item
}

// Ended reports whether the grant is over for good.
func (g *Grant) Ended(now time.Time) bool { return !g.End.IsZero() && !now.Before(g.End) }

// InForce reports whether the grant gives its role at this time, without being
// activated.
func (g *Grant) InForce(now time.Time) bool {
	return !g.Eligible && g.begun(now) && !g.Ended(now)
}

func (g *Grant) begun(now time.Time) bool { return g.Start.IsZero() || !now.Before(g.Start) }

// makesEligible reports whether a user may make the role active at this time who is
// in the groups above.
func (g *Grant) makesEligible(user string, above []string, now time.Time) bool {
	return g.Eligible && g.begun(now) && !g.Ended(now) && (g.Principal == user || slices.Contains(above, g.Principal))
}

// watched reports whether a grant of this role belongs to the Standing.
func (g *Grant) watched(r *Role) bool { return privileged(r) || g.PrincipalType == PrincipalGroup }

// PutGrant stores a grant of a role in the place of prev, or as a new one.
func PutGrant(tx storage.Tx, prev, g *Grant, r *Role) error {
	data, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("a grant cannot be written: %w", err)
	}
	keys := []string{"principal/" + g.Principal, "role/" + g.Role}
	if g.watched(r) {
		keys = append(keys, watchedKey)
	}
	var from *storage.Item
	if prev != nil {
		from = prev.item
	}
	if err := tx.PutItem(from, &storage.Item{Kind: grantKind, ID: g.ID, Keys: keys, Data: data}); err != nil || !g.watched(r) {
		return err
	}
	return tx.Advance()
}

// DropGrant removes a grant of a role.
func DropGrant(tx storage.Tx, g *Grant, r *Role) error {
	if g.watched(r) {
		if err := tx.Advance(); err != nil {
			return err
		}
	}
	if err := endActivations(tx, "grant/"+g.ID); err != nil {
		return err
	}
	return tx.DeleteItem(g.item)
}

// ReadGrant reads a grant inside a write.
func ReadGrant(tx storage.ItemWriter, id string) (*Grant, error) {
	i, err := tx.Item(grantKind, id)
	if err != nil {
		return nil, err
	}
	return grantFrom(i)
}

// GrantsTo reads the grants to a user, group or client inside a write.
func GrantsTo(tx storage.ItemWriter, principal string) ([]*Grant, error) {
	return grantsFrom(tx.Items(grantKind, "principal/"+principal))
}

// GrantsOf reads the grants of a role inside a write.
func GrantsOf(tx storage.ItemWriter, role string) ([]*Grant, error) {
	return grantsFrom(tx.Items(grantKind, "role/"+role))
}

// FindGrantsTo is GrantsTo outside of a write.
func FindGrantsTo(ctx context.Context, items storage.Items, tenant storage.TenantID, principal string) ([]*Grant, error) {
	return grantsFrom(items.Items(ctx, tenant, grantKind, "principal/"+principal))
}

// FindGrantsOf is GrantsOf outside of a write.
func FindGrantsOf(ctx context.Context, items storage.Items, tenant storage.TenantID, role string) ([]*Grant, error) {
	return grantsFrom(items.Items(ctx, tenant, grantKind, "role/"+role))
}

func grantFrom(i *storage.Item) (*Grant, error) {
	g := &Grant{ID: i.ID, item: i}
	if err := json.Unmarshal(i.Data, g); err != nil || g.Role == "" || g.Principal == "" {
		return nil, errors.New("a stored grant is damaged")
	}
	return g, nil
}

func grantsFrom(items []*storage.Item, err error) ([]*Grant, error) {
	return readItems(items, err, grantFrom)
}

// readItems reads what a store returned, each item by read.
func readItems[T any](items []*storage.Item, err error, read func(*storage.Item) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	list := make([]T, len(items))
	for n, i := range items {
		if list[n], err = read(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// storedRole is the item of a custom role.
type storedRole struct {
	Value          string   `json:"value"`
	Display        string   `json:"display,omitzero"`
	Administrative bool     `json:"administrative,omitzero"`
	Permissions    []string `json:"permissions,omitzero"`
	Contains       []string `json:"contains,omitzero"` // ids
}

// containerKey finds the roles that contain others.
const containerKey = "container"

// PutRole stores a custom role for decisions, beside its resource.
func PutRole(tx storage.Tx, r *Role) error {
	prev, err := tx.Item(roleKind, r.ID)
	if errors.Is(err, storage.ErrNotFound) {
		prev, err = nil, nil
	}
	if err != nil {
		return err
	}
	s := storedRole{Value: r.Value, Display: r.Display, Administrative: r.Administrative, Permissions: r.Permissions.Strings(), Contains: r.Contains}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("a role cannot be written: %w", err)
	}
	// It may be part of a Standing; and of two writes that each look for a circle the
	// later one has to see what the other did.
	if prev != nil || len(r.Contains) > 0 {
		if err := tx.Advance(); err != nil {
			return err
		}
	}
	item := &storage.Item{Kind: roleKind, ID: r.ID, Data: data}
	if len(r.Contains) > 0 {
		item.Keys = append(item.Keys, containerKey)
		for _, id := range r.Contains {
			item.Keys = append(item.Keys, "contains/"+id)
		}
	}
	return tx.PutItem(prev, item)
}

// Contained reports whether another role contains this one, inside a write.
func Contained(tx storage.ItemWriter, id string) (bool, error) {
	items, err := tx.Items(roleKind, "contains/"+id)
	return len(items) > 0, err
}

// Containers returns for each role that others contain the values of those, sorted.
func Containers(ctx context.Context, items storage.Items, tenant storage.TenantID) (map[string][]string, error) {
	list, err := items.Items(ctx, tenant, roleKind, containerKey)
	if err != nil {
		return nil, err
	}
	by := map[string][]string{}
	for _, i := range list {
		r, err := roleFrom(i)
		if err != nil {
			return nil, err
		}
		for _, id := range r.Contains {
			by[id] = append(by[id], r.Value)
		}
	}
	for _, values := range by {
		slices.Sort(values)
	}
	return by, nil
}

// containing returns a role and those that contain it, directly or through others, by their
// ids.
func containing(ctx context.Context, items storage.Items, tenant storage.TenantID, role string) ([]string, error) {
	ids := []string{role}
	for i := 0; i < len(ids); i++ {
		list, err := items.Items(ctx, tenant, roleKind, "contains/"+ids[i])
		if err != nil {
			return nil, err
		}
		for _, item := range list {
			if !slices.Contains(ids, item.ID) {
				ids = append(ids, item.ID)
			}
		}
	}
	return ids, nil
}

// DropRole removes a custom role from decisions. Nobody must hold it any more.
func DropRole(tx storage.Tx, id string) error {
	prev, err := tx.Item(roleKind, id)
	if err != nil {
		return err
	}
	if err := tx.Advance(); err != nil {
		return err
	}
	return tx.DeleteItem(prev)
}

// ReadRole returns a role, built in or custom, inside a write, or
// storage.ErrNotFound.
func ReadRole(tx storage.ItemWriter, id string) (*Role, error) {
	return roleBy(id, func() (*storage.Item, error) { return tx.Item(roleKind, id) })
}

// FindRole is ReadRole outside of a write.
func FindRole(ctx context.Context, items storage.Items, tenant storage.TenantID, id string) (*Role, error) {
	return roleBy(id, func() (*storage.Item, error) { return items.Item(ctx, tenant, roleKind, id) })
}

// RoleNames returns what roles are called, by their ids. Those that do not exist are
// absent.
func RoleNames(ctx context.Context, items storage.Items, tenant storage.TenantID, ids ...string) (map[string]string, error) {
	found, err := items.ItemsByID(ctx, tenant, roleKind, ids...)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, id := range ids {
		r := BuiltInRole(id)
		if item := found[id]; r == nil && item != nil {
			if r, err = roleFrom(item); err != nil {
				return nil, err
			}
		}
		if r != nil {
			names[id] = r.Name()
		}
	}
	return names, nil
}

func roleBy(id string, read func() (*storage.Item, error)) (*Role, error) {
	if r := BuiltInRole(id); r != nil {
		return r, nil
	}
	i, err := read()
	if err != nil {
		return nil, err
	}
	return roleFrom(i)
}

func roleFrom(i *storage.Item) (*Role, error) {
	var s storedRole
	if err := json.Unmarshal(i.Data, &s); err != nil || s.Value == "" {
		return nil, errors.New("a stored role is damaged")
	}
	r := &Role{ID: i.ID, Value: s.Value, Display: s.Display, Administrative: s.Administrative, Contains: s.Contains}
	for _, name := range s.Permissions {
		// A permission that this version does not know permits nothing here.
		p, _ := parsePermission(name)
		r.Permissions |= NewPermissions(p)
	}
	return r, nil
}
