package scim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// A role can contain business roles: whoever holds it holds them. It cannot contain
// administrative ones, which list their permissions: what a role permits here is seen in
// the role itself, by people and by whatever decides.

// MaxContained is how many roles one contains at most.
const MaxContained = 100

var errContained = &Error{Status: 409, Detail: "other roles contain this one: take it out of them first"}

func containsPath(i int) string { return fmt.Sprintf("contains[%d]", i) }

// contained finds the roles that a role is to contain, and keeps their values in the
// attributes, each once.
func (p *Provider) contained(ctx context.Context, by auth.Principal, r *auth.Role, attrs map[string]any) error {
	list, _ := attrs["contains"].([]any)
	if len(list) > MaxContained {
		return &schemas.ValueError{Path: "contains", Msg: fmt.Sprintf("expected at most %d", MaxContained)}
	}
	var values []any
	for i, v := range list {
		text, _ := v.(string)
		role, err := p.roleMeant(ctx, by.Tenant, text)
		if errors.Is(err, storage.ErrNotFound) {
			return &schemas.ValueError{Path: containsPath(i), Msg: "no role has this value or id"}
		}
		if err != nil {
			return err
		}
		if role.Administrative {
			return &schemas.ValueError{Path: containsPath(i), Msg: "is an administrative role: only business roles can be contained"}
		}
		if role.ID == r.ID {
			return &schemas.ValueError{Path: containsPath(i), Msg: "a role cannot contain itself"}
		}
		if !slices.Contains(r.Contains, role.ID) {
			r.Contains, values = append(r.Contains, role.ID), append(values, role.Value)
		}
	}
	if delete(attrs, "contains"); values != nil {
		attrs["contains"] = values
	}
	return nil
}

// roleMeant returns the role that somebody means by its value or its id.
func (p *Provider) roleMeant(ctx context.Context, tenant storage.TenantID, text string) (*auth.Role, error) {
	for _, r := range auth.BuiltInRoles() {
		if r.ID == text || r.Value == auth.CanonicalRoleName(text) {
			return r, nil
		}
	}
	found, err := p.word(ctx, tenant, roleType, text)
	if err != nil {
		return nil, err
	}
	return auth.FindRole(ctx, p.Store, tenant, found.ID)
}

// given returns the roles that a role contains from now on, as they are in this write. It
// refuses those that contain the role themselves.
func (d *decision) given(was, r *auth.Role) (gives []*auth.Role, err error) {
	for i, id := range r.Contains {
		inside, err := auth.ReadRole(d.tx, id)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, &schemas.ValueError{Path: containsPath(i), Msg: "no role has this value or id"}
		}
		if err != nil {
			return nil, err
		}
		circle, err := d.reaches(inside, r.ID)
		if err != nil {
			return nil, err
		}
		if circle {
			return nil, &schemas.ValueError{Path: containsPath(i), Msg: "this role contains the one that would contain it"}
		}
		if was == nil || !slices.Contains(was.Contains, id) {
			gives = append(gives, inside)
		}
	}
	return gives, nil
}

// reaches reports whether a role contains another, directly or through others.
func (d *decision) reaches(from *auth.Role, id string) (bool, error) {
	seen, next := map[string]bool{}, slices.Clone(from.Contains)
	for len(next) > 0 {
		at := next[0]
		next = next[1:]
		if at == id {
			return true, nil
		}
		if seen[at] {
			continue
		}
		seen[at] = true
		r, err := auth.ReadRole(d.tx, at)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		next = append(next, r.Contains...)
	}
	return false, nil
}
