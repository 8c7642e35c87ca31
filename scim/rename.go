package scim

import (
	"context"
	"maps"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Rename gives a user the user name that rename makes of the one they have, and does the
// same to the e-mail addresses if emails says so. Where rename returns false a value
// stays. It reports whether anything has changed.
func (p *Provider) Rename(ctx context.Context, by auth.Principal, id string, emails bool, rename func(string) (string, bool)) (bool, error) {
	set, err := p.types(ctx, by.Tenant)
	if err != nil {
		return false, err
	}
	t := set.Type(auth.PrincipalUser)
	changed, err := p.rename(ctx, by, t, id, emails, rename)
	return changed, p.observe(t, "patch", err)
}

func (p *Provider) rename(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, emails bool, rename func(string) (string, bool)) (changed bool, err error) {
	if err := p.allow(by, auth.Update, t); err != nil {
		return false, err
	}
	_, err = p.update(ctx, by, t, id, Precondition{}, func(_ *storage.Resource, attrs map[string]any) (change, error) {
		next := maps.Clone(attrs)
		changed = false
		name, _ := attrs["userName"].(string)
		if name, ok := rename(name); ok {
			next["userName"], changed = name, true
		}
		if list, _ := attrs["emails"].([]any); emails && changed {
			var moved []any
			for _, e := range list {
				email, _ := e.(map[string]any)
				value, _ := email["value"].(string)
				if value, ok := rename(value); ok {
					email = maps.Clone(email)
					email["value"] = value
				}
				moved = append(moved, email)
			}
			if len(moved) > 0 {
				next["emails"] = moved
			}
		}
		return change{action: "patch", attrs: next}, nil
	})
	return changed, err
}

// Privileged returns which of some users hold an administrative role, or can go on to
// other tenants.
func (p *Provider) Privileged(ctx context.Context, tenant storage.TenantID, ids []string) (map[string]bool, error) {
	s, err := p.standings.Refresh(ctx, p.Store, tenant)
	if err != nil {
		return nil, err
	}
	list := map[string]bool{}
	for _, id := range ids {
		if len(s.Held(id, p.now())) > 0 {
			list[id] = true
		}
	}
	return list, nil
}
