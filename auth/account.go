package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// account is what is asked of a user's resource.
type account struct {
	id            string
	userName      string
	displayName   string
	active        bool
	words         []string // see Policy.Check
	language      string   // preferredLanguage, or else locale
	found         bool
	decoy         bool
	administrator bool // of a decoy: it takes as long as one
}

func parseAccount(r *storage.Resource) account {
	var doc struct {
		UserName    string `json:"userName"`
		DisplayName string `json:"displayName"`
		NickName    string `json:"nickName"`
		Language    string `json:"preferredLanguage"`
		Locale      string `json:"locale"`
		Active      *bool  `json:"active"` // a user without it is active
		Name        struct {
			Given  string `json:"givenName"`
			Family string `json:"familyName"`
		} `json:"name"`
		Emails []struct {
			Value string `json:"value"`
		} `json:"emails"`
	}
	if err := json.Unmarshal(r.Doc, &doc); err != nil {
		return account{id: r.ID} // nobody signs in with a damaged record
	}
	p := account{id: r.ID, userName: doc.UserName, displayName: doc.DisplayName, active: doc.Active == nil || *doc.Active, found: true,
		language: cmp.Or(doc.Language, doc.Locale),
		words:    []string{doc.UserName, doc.DisplayName, doc.NickName, doc.Name.Given, doc.Name.Family}}
	for _, e := range doc.Emails {
		p.words = append(p.words, e.Value)
	}
	return p
}

// Active reports whether a user is not blocked. One whose record cannot be read is.
func Active(user *storage.Resource) bool { return parseAccount(user).active }

// account returns a user by id; one who does not exist is not active.
func (a *Authenticator) account(ctx context.Context, tenant storage.TenantID, id string) (account, error) {
	r, err := a.Store.Get(ctx, tenant, PrincipalUser, id)
	if errors.Is(err, storage.ErrNotFound) {
		return account{id: id}, nil
	}
	if err != nil {
		return account{}, err
	}
	return parseAccount(r), nil
}

// UserNamed returns the id of the user that a name stands for when somebody signs in
// with it, or storage.ErrNotFound.
func (a *Authenticator) UserNamed(ctx context.Context, tenant storage.TenantID, name string) (string, error) {
	p, err := a.named(ctx, tenant, name)
	if err == nil && p == nil {
		err = storage.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	return p.id, nil
}

// find returns the user that a name stands for: the user name, or an address of a user
// who signs in by it. Somebody who does not exist is a decoy.
func (a *Authenticator) find(ctx context.Context, tenant storage.TenantID, name string) (account, error) {
	p, err := a.named(ctx, tenant, name)
	if err != nil || p != nil {
		return *cmp.Or(p, &account{}), err
	}
	return a.decoy(tenant, name), nil
}

// named returns the user that a name stands for, or nil. There is one at most: see
// schemas.SignInAddresses.
func (a *Authenticator) named(ctx context.Context, tenant storage.TenantID, name string) (*account, error) {
	users := a.Schemas.Type(PrincipalUser)
	names := []string{strings.TrimSpace(name)}
	if name != names[0] { // clients may have given somebody a name with white space at its ends
		names = append(names, name)
	}
	var hits []account
	for _, name := range names {
		// Both are always asked, for how long it takes must not depend on the answer.
		for _, f := range []filter.Expr{
			equals(users, "userName", name),
			filter.And{equals(users, "emails.value", name), equals(users, schemas.RosterUserURI+":signInBy", schemas.SignInByEmail)},
		} {
			list, err := a.query(ctx, tenant, users, f)
			if err != nil {
				return nil, err
			}
			hits = append(hits, list...)
		}
	}
	for _, u := range hits[min(1, len(hits)):] {
		if u.id != hits[0].id {
			return nil, nil
		}
	}
	if len(hits) == 0 {
		return nil, nil
	}
	return &hits[0], nil
}

func equals(t *schemas.ResourceType, path, value string) filter.Compare {
	return filter.EqualTo(t.Lookup(path), value)
}

func (a *Authenticator) query(ctx context.Context, tenant storage.TenantID, users *schemas.ResourceType, f filter.Expr) (list []account, err error) {
	page, err := a.Store.Query(ctx, tenant, storage.Query{Type: users.Name, Filter: f, StartIndex: 1, Count: 2})
	if err != nil {
		return nil, fmt.Errorf("find a user: %w", err)
	}
	err = page.Each(ctx, func(part []*storage.Resource) error {
		for _, r := range part {
			list = append(list, parseAccount(r))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find a user: %w", err)
	}
	return list, nil
}

// Decoys stand in for accounts that do not exist: attempts are counted on them just
// the same. There are few, so that nobody fills the store with them.
const (
	decoys = 64
	// administratorDecoys is how many of them are as slow as an administrator:
	// who is slow is not known to be one.
	administratorDecoys = 4
	// decoyPrefix begins their ids, and no user's.
	decoyPrefix = "nobody-"
)

// decoy returns always the same one for a name.
func (a *Authenticator) decoy(tenant storage.TenantID, name string) account {
	mac := hmac.New(sha256.New, a.Keys.Derive(forDecoys))
	mac.Write([]byte(string(tenant) + "\x00" + schemas.Fold(name)))
	n := binary.BigEndian.Uint64(mac.Sum(nil)) % decoys
	return account{id: fmt.Sprintf("%s%02d", decoyPrefix, n), decoy: true, administrator: n < administratorDecoys}
}

// isAdministrator reports whether a user has an administrative role at present.
func (a *Authenticator) isAdministrator(ctx context.Context, tenant storage.TenantID, user string) (bool, error) {
	roles, err := EffectiveRoles(ctx, a.Store, tenant, user, a.Now())
	return slices.ContainsFunc(roles, privileged), err
}

func isAdministratorTx(tx storage.Tx, user *storage.Resource, now time.Time) (bool, error) {
	roles, err := EffectiveRolesTx(tx, user, now)
	return slices.ContainsFunc(roles, privileged), err
}
