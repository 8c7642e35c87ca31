package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// reportPage is how many resources a report reads at a time: what it keeps of them is
// forgotten with the next ones.
const reportPage = 250

// Reports tells who holds what and how accounts are protected, for people to read. It
// reads a directory in portions, and may mix states that follow each other closely.
type Reports struct {
	Store storage.Store
	Now   func() time.Time
}

func (r Reports) holdings() Holdings { return Holdings(r) }

// Held is a Holding with what people want to know of it.
type Held struct {
	Holding
	RoleName, Name, ThroughName string
	Active                      bool      // at present
	Given                       time.Time // when the role was given
	By                          string    // who gave it: "user:<id>", "client:<id>", "operator"
	ByName                      string
	Reason                      string
}

// Holders calls fn for each way in which somebody holds a role, or that role, in the
// order in which they were given: users, groups and clients that it was given to, and
// users in those groups. What has ended is left out.
func (r Reports) Holders(ctx context.Context, tenant storage.TenantID, role string, fn func(Held) error) error {
	clients, err := r.Store.ListClients(ctx, tenant)
	if err != nil {
		return err
	}
	clientNames := map[string]string{}
	for _, c := range clients {
		clientNames[c.ID] = c.Name
	}
	active, err := r.holdings().active(ctx, tenant, "")
	if err != nil {
		return err
	}
	return r.walk(ctx, tenant, AssignmentType, func(page []*storage.Resource) error {
		p := holders{Reports: r, ctx: ctx, tenant: tenant, clients: clientNames, active: active, now: r.Now()}
		return p.page(page, role, fn)
	})
}

// walk calls fn for all resources of a type, in the order of ids and in portions, which
// are valid for the call.
func (r Reports) walk(ctx context.Context, tenant storage.TenantID, typ string, fn func([]*storage.Resource) error) error {
	return storage.Walk(ctx, r.Store, tenant, storage.Query{Type: typ, StartIndex: 1, Count: reportPage}, fn)
}

// holders is a page of role assignments being told.
type holders struct {
	Reports
	ctx     context.Context // of one page
	tenant  storage.TenantID
	clients map[string]string
	active  map[string]time.Time
	now     time.Time
	names   map[string]map[string]string // by type and id
}

func (p *holders) page(page []*storage.Resource, role string, fn func(Held) error) error {
	ids := make([]string, len(page))
	for i, res := range page {
		ids[i] = res.ID
	}
	items, err := p.Store.ItemsByID(p.ctx, p.tenant, grantKind, ids...)
	if err != nil {
		return err
	}
	var list []Held
	want := map[string][]string{}
	for _, res := range page {
		item := items[res.ID]
		if item == nil {
			continue // it went meanwhile
		}
		g, err := grantFrom(item)
		if err != nil {
			return err
		}
		if g.Ended(p.now) || role != "" && g.Role != role {
			continue
		}
		var told struct {
			AssignedBy string `json:"assignedBy"`
			Reason     string `json:"reason"`
		}
		if err := json.Unmarshal(res.Doc, &told); err != nil {
			return errors.New("a stored role assignment is damaged")
		}
		list = append(list, Held{Holding: holdingOf(g), Given: res.Created, By: told.AssignedBy, Reason: told.Reason})
		want[RoleType] = append(want[RoleType], g.Role)
		want[g.PrincipalType] = append(want[g.PrincipalType], g.Principal)
		if user, ok := strings.CutPrefix(told.AssignedBy, "user:"); ok {
			want[PrincipalUser] = append(want[PrincipalUser], user)
		}
	}
	p.names = map[string]map[string]string{PrincipalClient: p.clients}
	slices.Sort(want[RoleType])
	if p.names[RoleType], err = RoleNames(p.ctx, p.Store, p.tenant, slices.Compact(want[RoleType])...); err != nil {
		return err
	}
	for _, typ := range []string{PrincipalUser, PrincipalGroup} {
		slices.Sort(want[typ])
		if p.names[typ], err = p.Store.Names(p.ctx, p.tenant, typ, slices.Compact(want[typ])...); err != nil {
			return err
		}
	}
	for _, h := range list {
		if err := p.tell(h, fn); err != nil {
			return err
		}
	}
	return nil
}

// tell calls fn for a role assignment and, if it is to a group, for those in it.
func (p *holders) tell(h Held, fn func(Held) error) error {
	h.RoleName = p.names[RoleType][h.Role]
	h.Name = p.names[h.Type][h.Principal]
	switch kind, id, _ := strings.Cut(h.By, ":"); kind {
	case "user":
		h.ByName = p.names[PrincipalUser][id]
	case "client":
		h.ByName = p.clients[id]
	}
	if err := p.one(h, fn); err != nil || h.Type != PrincipalGroup {
		return err
	}
	through := h
	through.Through, through.ThroughName, through.Type = h.Principal, h.Name, PrincipalUser
	return p.holdings().within(p.ctx, p.tenant, h.Principal, func(m storage.Member) error {
		through.Principal, through.Name = m.Value, m.Display
		return p.one(through, fn)
	})
}

func (p *holders) one(h Held, fn func(Held) error) error {
	h.ActiveTill = p.active[h.Assignment+"/"+h.Principal]
	h.Active = h.InForce(p.now)
	return fn(h)
}

// AccountState is what is told of an account.
type AccountState struct {
	ID, UserName, DisplayName string
	Active                    bool // not blocked
	Created                   time.Time
	Emergency                 bool
	Password                  bool // there is one to sign in with
	Temporary                 bool // which has to be changed first
	LastSignIn                time.Time
	// Of the passcode app, if there is one.
	Enrolled     time.Time
	LastPasscode time.Time
	Disabled     bool // too many wrong passcodes
	Recovery     int  // recovery codes that are left
	// Roles are the administrative roles that the user holds, eligible ones and those that
	// begin later included. Rules are conditional rules that ask for a passcode, in some
	// circumstances at least.
	Roles []*Role
	Rules []string
}

// Accounts calls fn for every user, in the order of ids.
func (r Reports) Accounts(ctx context.Context, tenant storage.TenantID, fn func(AccountState) error) error {
	a, err := r.newAccounts(ctx, tenant)
	if err != nil {
		return err
	}
	return r.walk(ctx, tenant, PrincipalUser, func(page []*storage.Resource) error { return a.page(ctx, page, fn) })
}

// Privileged is somebody with an administrative role.
type Privileged struct {
	AccountState
	// Global: the user holds Global Administrator. InForce: an administrative role is in
	// force at present.
	Global, InForce bool
}

// Privileged returns the users who hold administrative roles, in the order of ids.
func (r Reports) Privileged(ctx context.Context, tenant storage.TenantID) ([]Privileged, error) {
	now := r.Now()
	type standing struct{ global, inForce bool }
	all := map[string]standing{}
	err := r.holdings().Administrators(ctx, tenant, func(role *Role, h Holding) error {
		if h.Type == PrincipalUser {
			s := all[h.Principal]
			s.global = s.global || role.ID == GlobalAdministrator
			s.inForce = s.inForce || h.InForce(now)
			all[h.Principal] = s
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a, err := r.newAccounts(ctx, tenant)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(all))
	for id := range all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var list []Privileged
	for portion := range slices.Chunk(ids, reportPage) {
		var page []*storage.Resource
		for _, id := range portion {
			u, err := r.Store.Get(ctx, tenant, PrincipalUser, id)
			if errors.Is(err, storage.ErrNotFound) {
				continue // they went meanwhile
			}
			if err != nil {
				return nil, err
			}
			page = append(page, u)
		}
		err := a.page(ctx, page, func(s AccountState) error {
			list = append(list, Privileged{AccountState: s, Global: all[s.ID].global, InForce: all[s.ID].inForce})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// accounts is what the states of accounts are told by.
type accounts struct {
	Reports
	tenant   storage.TenantID
	standing *Standing
	rules    []Rule // those that are on and ask for a passcode
	groups   bool   // the groups of somebody matter to them
	// given is who is given the roles that rules name, or others that contain them, by
	// role and principal.
	given map[string]map[string]bool
	now   time.Time
}

func (r Reports) newAccounts(ctx context.Context, tenant storage.TenantID) (*accounts, error) {
	a := &accounts{Reports: r, tenant: tenant, given: map[string]map[string]bool{}, now: r.Now()}
	var err error
	if a.standing, err = new(Standings).Refresh(ctx, r.Store, tenant); err != nil {
		return nil, err
	}
	rules, err := Rules(ctx, r.Store, tenant)
	if err != nil {
		return nil, err
	}
	for _, rule := range rules {
		if rule.State != RuleOn || rule.Then != RequirePasscode {
			continue
		}
		a.rules = append(a.rules, rule)
		a.groups = a.groups || len(rule.When.Groups) > 0 || len(rule.When.Roles) > 0
		for _, role := range rule.When.Roles {
			if a.given[role] != nil {
				continue
			}
			a.given[role] = map[string]bool{}
			ids, err := containing(ctx, r.Store, tenant, role)
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				grants, err := FindGrantsOf(ctx, r.Store, tenant, id)
				if err != nil {
					return nil, err
				}
				for _, g := range grants {
					if !g.Ended(a.now) {
						a.given[role][g.Principal] = true
					}
				}
			}
		}
	}
	return a, nil
}

func (a *accounts) page(ctx context.Context, page []*storage.Resource, fn func(AccountState) error) error {
	ids := make([]string, len(page))
	for i, u := range page {
		ids[i] = u.ID
	}
	items, err := a.Store.ItemsByID(ctx, a.tenant, credentialKind, ids...)
	if err != nil {
		return err
	}
	groups := map[string][]storage.Membership{}
	if a.groups && len(ids) > 0 {
		if groups, err = a.Store.Groups(ctx, a.tenant, ids...); err != nil {
			return err
		}
	}
	for _, u := range page {
		c := &Credential{}
		if i := items[u.ID]; i != nil {
			if c, err = credentialFrom(i, nil); err != nil {
				return err
			}
		}
		if err := fn(a.state(u, c, groupIDs(groups[u.ID]))); err != nil {
			return err
		}
	}
	return nil
}

func (a *accounts) state(u *storage.Resource, c *Credential, groups []string) AccountState {
	account := parseAccount(u)
	s := AccountState{
		ID: u.ID, UserName: account.userName, DisplayName: account.displayName, Active: account.active, Created: u.Created, Emergency: c.BreakGlass,
		Password: c.passwordGood(a.now), Temporary: c.Temporary, LastSignIn: c.LastSignIn, Roles: a.standing.Held(u.ID, a.now),
	}
	if c.TOTP != nil {
		s.Enrolled, s.LastPasscode, s.Disabled, s.Recovery = c.TOTP.Since, c.TOTP.LastUsed(), c.Throttle.FactorDisabled, len(c.Recovery)
	}
	if c.BreakGlass {
		return s
	}
	for _, rule := range a.rules {
		if a.concerns(rule.When, s, groups) {
			s.Rules = append(s.Rules, rule.Name)
		}
	}
	return s
}

// concerns reports whether a condition can hold for somebody, as far as it asks who
// they are.
func (a *accounts) concerns(c Condition, s AccountState, groups []string) bool {
	has := func(role string) bool {
		return a.given[role][s.ID] || slices.ContainsFunc(groups, func(g string) bool { return a.given[role][g] })
	}
	return (!c.Administrative || len(s.Roles) > 0) &&
		(len(c.Roles) == 0 || slices.ContainsFunc(c.Roles, has)) &&
		(len(c.Groups) == 0 || intersects(c.Groups, groups))
}

// Shared is an account that was used from many places within an hour.
type Shared struct {
	User, UserName, DisplayName string
	From                        time.Time // when that hour began
	SignIns, Addresses, Devices int       // in it
}

// sharedWithin is within what time places are many at once.
const sharedWithin = time.Hour

// MaxSharedDays is for how many days back Shared looks at most.
const MaxSharedDays = signInDays

// Shared returns the accounts that were signed in to from at least so many addresses,
// or with so many programs and networks, within an hour of the last days, each with the
// hour when it was worst, in the order of ids. It reads the recorded sign-ins a day at a time.
func (r Reports) Shared(ctx context.Context, tenant storage.TenantID, least, days int) ([]Shared, error) {
	now := r.Now()
	worst := map[string]Shared{}
	late := map[string][]place{} // of the day after, which was read before
	for back := range days {
		date := now.Add(-time.Duration(back) * day)
		items, err := r.Store.Items(ctx, tenant, SignInKind, dayKey(date))
		if err != nil {
			return nil, fmt.Errorf("read recorded sign-ins: %w", err)
		}
		today := map[string][]place{}
		for _, item := range items {
			in, err := recordedFrom(item)
			if err != nil {
				return nil, err
			}
			today[in.User] = append(today[in.User], place{in.At, in.Facts.From, in.Device})
		}
		began := date.UTC().Truncate(day)
		early := map[string][]place{}
		for user, list := range today {
			list = append(list, late[user]...)
			slices.SortFunc(list, func(a, b place) int { return a.at.Compare(b.at) })
			for i, p := range list {
				if p.at.Sub(began) < sharedWithin {
					early[user] = append(early[user], p)
				}
				if s := p.hour(list[i:]); max(s.Addresses, s.Devices) >= max(least, worst[user].Addresses+1, worst[user].Devices+1) {
					s.User = user
					worst[user] = s
				}
			}
		}
		late = early
	}
	list := make([]Shared, 0, len(worst))
	for _, s := range worst {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Shared) int { return strings.Compare(a.User, b.User) })
	kept := list[:0]
	for _, s := range list {
		u, err := r.Store.Get(ctx, tenant, PrincipalUser, s.User)
		if errors.Is(err, storage.ErrNotFound) {
			continue // there is no such user any more
		}
		if err != nil {
			return nil, err
		}
		account := parseAccount(u)
		s.UserName, s.DisplayName = account.userName, account.displayName
		kept = append(kept, s)
	}
	return kept, nil
}

// place is where a sign-in came from.
type place struct {
	at     time.Time
	from   netip.Addr
	device string
}

// hour counts what is in a list, which p begins, within an hour.
func (p place) hour(list []place) Shared {
	addresses, devices := map[netip.Addr]bool{}, map[string]bool{}
	s := Shared{From: p.at}
	for _, o := range list {
		if o.at.Sub(p.at) >= sharedWithin {
			break
		}
		s.SignIns++
		addresses[o.from], devices[o.device] = true, true
	}
	s.Addresses, s.Devices = len(addresses), len(devices)
	return s
}

// Catalogue calls fn for all roles of a tenant, the built-in ones first.
func (r Reports) Catalogue(ctx context.Context, tenant storage.TenantID, fn func(*Role) error) error {
	for _, role := range builtIn {
		if err := fn(role); err != nil {
			return err
		}
	}
	return r.walk(ctx, tenant, RoleType, func(page []*storage.Resource) error {
		for _, res := range page {
			role, err := FindRole(ctx, r.Store, tenant, res.ID)
			if errors.Is(err, storage.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			var doc map[string]json.RawMessage
			var more struct {
				Description string `json:"description"`
				Category    string `json:"category"`
			}
			if json.Unmarshal(res.Doc, &doc) != nil || json.Unmarshal(doc[schemas.RosterRoleURI], &more) != nil {
				return errors.New("a stored role is damaged")
			}
			role.Description, role.Category = more.Description, more.Category
			if err := fn(role); err != nil {
				return err
			}
		}
		return nil
	})
}
