package auth

import (
	"slices"
	"strings"

	"github.com/roster-id/roster/storage"
)

// CheckItem reports why a secret that an item holds cannot be opened. kinds are those
// that Rotate knows, beside credentials. An item of any other kind holds none.
func (k *KeyRing) CheckItem(tenant storage.TenantID, i *storage.Item, kinds ...Sealed) error {
	switch {
	case IsCanary(i):
		return k.CheckCanary(tenant, i)
	case i.Kind == credentialKind:
		c, err := credentialFrom(i, nil)
		if err != nil {
			return err
		}
		for _, f := range []*Factor{c.TOTP, c.Pending} {
			if f == nil {
				continue
			}
			if _, err := k.Open(f.Sealed, factorAAD(tenant, i.ID)...); err != nil {
				return err
			}
		}
		return nil
	}
	at := slices.IndexFunc(kinds, func(s Sealed) bool { return s.Kind == i.Kind })
	if at < 0 || !slices.ContainsFunc(i.Keys, isSealedKey) {
		return nil
	}
	_, err := kinds[at].Reseal(k, tenant, i)
	return err
}

// isSealedKey reports whether a key is one that sealedKey makes.
func isSealedKey(key string) bool {
	version, bucket, ok := strings.Cut(key, "/")
	return ok && len(bucket) == 2 && len(version) > 1 && version[0] == 'v' && strings.Trim(version[1:]+bucket, "0123456789") == ""
}

// Reference is what an item is about.
type Reference struct {
	Type string // a resource type, or PrincipalClient
	ID   string
	// Deleted says that what is deleted will do: it may be restored.
	Deleted bool
}

// References returns what an item of this package is about and makes no sense without.
// The error says that the item is damaged.
func References(i *storage.Item) ([]Reference, error) {
	switch i.Kind {
	case credentialKind:
		_, err := credentialFrom(i, nil)
		if strings.HasPrefix(i.ID, decoyPrefix) {
			return nil, err
		}
		return []Reference{{PrincipalUser, i.ID, true}}, err
	case grantKind:
		g, err := grantFrom(i)
		if err != nil {
			return nil, err
		}
		list := []Reference{{g.PrincipalType, g.Principal, true}}
		if BuiltInRole(g.Role) == nil {
			list = append(list, Reference{RoleType, g.Role, false})
		}
		return list, nil
	case invitationKind:
		_, err := invitationFrom(i)
		return []Reference{{"Invitation", i.ID, false}}, err
	case linkKind:
		l, err := linkFrom(i)
		if err != nil {
			return nil, err
		}
		return []Reference{{PrincipalUser, l.User, true}}, nil
	}
	return nil, nil
}
