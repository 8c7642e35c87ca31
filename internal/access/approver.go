package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// maxApprovers is how many people are named, and told, of those who could give a role.
const maxApprovers = 20

// person is what is told of somebody, and where.
type person struct {
	id       string
	userName string
	name     string // for people; may be empty
	email    string // may be empty
	language string // BCP 47, may be empty
	active   bool
}

// called is what somebody is called among those who may know the user name.
func (p *person) called() string { return cmp.Or(p.name, p.userName) }

func personFrom(r *storage.Resource) (*person, error) {
	var doc struct {
		UserName          string `json:"userName"`
		DisplayName       string `json:"displayName"`
		PreferredLanguage string `json:"preferredLanguage"`
		Locale            string `json:"locale"`
		Name              struct {
			Formatted string `json:"formatted"`
			Given     string `json:"givenName"`
			Family    string `json:"familyName"`
		} `json:"name"`
		Emails []struct {
			Value   string `json:"value"`
			Primary bool   `json:"primary"`
		} `json:"emails"`
	}
	if json.Unmarshal(r.Doc, &doc) != nil {
		return nil, errors.New("a stored user is damaged")
	}
	p := &person{id: r.ID, userName: doc.UserName, language: cmp.Or(doc.PreferredLanguage, doc.Locale), active: auth.Active(r),
		name: cmp.Or(doc.DisplayName, doc.Name.Formatted, strings.TrimSpace(doc.Name.Given+" "+doc.Name.Family))}
	for _, e := range doc.Emails {
		if p.email == "" || e.Primary {
			p.email = e.Value
		}
	}
	return p, nil
}

// shown is what somebody is called before everybody: nothing, if that is what they sign in
// with, as in some directories.
func (p *person) shown() string {
	if strings.EqualFold(p.name, p.userName) || strings.Contains(p.name, "@") {
		return ""
	}
	return p.name
}

// personIn is Desk.person inside a write.
func personIn(tx storage.Tx, id string) (*person, error) {
	return foundPerson(tx.Get(auth.PrincipalUser, id))
}

// foundPerson is personFrom for what a store returned; nil if there is no such user.
func foundPerson(r *storage.Resource, err error) (*person, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return personFrom(r)
}

// person returns a user, or nil if there is no such user.
func (d *Desk) person(ctx context.Context, tenant storage.TenantID, id string) (*person, error) {
	return foundPerson(d.Store.Get(ctx, tenant, auth.PrincipalUser, id))
}

// approvers returns some of those who could give a role to a user, and whether there are
// more. Accounts that are blocked or for emergencies are not asked.
func (d *Desk) approvers(ctx context.Context, tenant storage.TenantID, role *auth.Role, user string) (list []*person, more bool, err error) {
	ids, err := d.holdings().Approvers(ctx, tenant, role)
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		if id == user {
			continue
		}
		p, err := d.person(ctx, tenant, id)
		if err != nil {
			return nil, false, err
		}
		if p == nil || !p.active {
			continue
		}
		c, err := auth.FindCredential(ctx, d.Store, tenant, id)
		if err != nil {
			return nil, false, err
		}
		if c.BreakGlass {
			continue
		}
		if len(list) == maxApprovers {
			return list, true, nil
		}
		list = append(list, p)
	}
	return list, false, nil
}

// Approvers returns the names of some of those who could give a role to whoever calls,
// and whether there are others: more people, or some without a name. Anybody may ask. So
// nothing is told that would help to sign in as one of them, neither user names nor
// addresses, and not what roles they have.
func (d *Desk) Approvers(ctx context.Context, by auth.Principal, role string) (names []string, more bool, err error) {
	r, err := auth.FindRole(ctx, d.Store, by.Tenant, role)
	if err != nil {
		return nil, false, err
	}
	list, more, err := d.approvers(ctx, by.Tenant, r, by.ID)
	if err != nil {
		return nil, false, err
	}
	for _, p := range list {
		if name := p.shown(); name != "" {
			names = append(names, name)
		} else {
			more = true
		}
	}
	return names, more, nil
}
