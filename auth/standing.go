package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/roster-id/roster/storage"
)

// Standing is who must not be changed by just anybody, as of one epoch of a tenant:
// who holds an administrative role, which groups carry roles, from whom links lead
// to other tenants, and which groups and roles conditional rules block. Every write that
// changes it calls Tx.Advance, so that a write which reads the same epoch again,
// with the resource it changes, knows that the Standing holds.
//
// Business roles of users are no part of it, so it grows with the number of
// administrators and of groups with roles, not with the directory.
type Standing struct {
	Epoch  int64
	roles  map[string]*Role    // by id, those of grants
	grants map[string][]*Grant // by principal
	// members are the users and groups in groups that are given administrative
	// roles, with those groups, directly or through others.
	members map[string][]string
	// linked are the users from whom links lead to other tenants.
	linked map[string]bool
	// inside are the groups that somebody who is privileged is a direct member of.
	inside map[string]bool
	// shutGroups and shutRoles are what conditional rules that block are for, and the roles
	// that contain those.
	shutGroups, shutRoles map[string]bool
	// watched are those of grants that are administrative, of members and of linked.
	watched map[string]bool
}

// Standings keeps the Standing of each tenant. The zero Standings is ready for use,
// by several at once.
type Standings struct {
	mu    sync.Mutex
	known map[storage.TenantID]*Standing
	loads map[storage.TenantID]*sync.Mutex
}

// fewWatched is up to how many are asked for their groups, or looked for in one.
// For 900,000 that takes longer than a request has, and every write waits for it.
const fewWatched = 1000

// errMoved: the epoch went on while a Standing was being read.
var errMoved = fmt.Errorf("%w: the roles of the tenant keep changing", storage.ErrUnavailable)

// Known returns the Standing that was read last, or nil.
func (s *Standings) Known(tenant storage.TenantID) *Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[tenant]
}

// Refresh reads the Standing anew unless it is that of the store's epoch.
func (s *Standings) Refresh(ctx context.Context, store storage.Store, tenant storage.TenantID) (*Standing, error) {
	s.mu.Lock()
	if s.known == nil {
		s.known, s.loads = map[storage.TenantID]*Standing{}, map[storage.TenantID]*sync.Mutex{}
	}
	load := s.loads[tenant]
	if load == nil {
		load = new(sync.Mutex)
		s.loads[tenant] = load
	}
	s.mu.Unlock()
	// One reads for all that wait.
	load.Lock()
	defer load.Unlock()
	for range 5 {
		epoch, err := store.Epoch(ctx, tenant)
		if err != nil {
			return nil, err
		}
		if known := s.Known(tenant); known != nil && known.Epoch == epoch {
			return known, nil
		}
		next, err := loadStanding(ctx, store, tenant, epoch)
		if err != nil {
			return nil, err
		}
		again, err := store.Epoch(ctx, tenant)
		if err != nil {
			return nil, err
		}
		if again == epoch {
			s.mu.Lock()
			s.known[tenant] = next
			s.mu.Unlock()
			return next, nil
		}
	}
	return nil, errMoved
}

func loadStanding(ctx context.Context, store storage.Store, tenant storage.TenantID, epoch int64) (*Standing, error) {
	s := &Standing{Epoch: epoch, roles: map[string]*Role{}, grants: map[string][]*Grant{}, members: map[string][]string{}, inside: map[string]bool{}, linked: map[string]bool{},
		shutGroups: map[string]bool{}, shutRoles: map[string]bool{}, watched: map[string]bool{}}
	if err := s.shut(ctx, store, tenant); err != nil {
		return nil, err
	}
	list, err := grantsFrom(store.Items(ctx, tenant, grantKind, watchedKey))
	if err != nil {
		return nil, err
	}
	for _, g := range list {
		if s.roles[g.Role] == nil {
			r, err := FindRole(ctx, store, tenant, g.Role)
			if errors.Is(err, storage.ErrNotFound) {
				continue // the grant came a moment before, the role went a moment after
			}
			if err != nil {
				return nil, err
			}
			s.roles[g.Role] = r
		}
		s.grants[g.Principal] = append(s.grants[g.Principal], g)
	}
	for id := range s.grants {
		if !s.privilegedGrants(id) {
			continue
		}
		s.watched[id] = true
		if s.grants[id][0].PrincipalType == PrincipalGroup {
			if err := s.descend(ctx, store, tenant, id); err != nil {
				return nil, err
			}
		}
	}
	items, err := store.Items(ctx, tenant, linkKind, linksOut)
	links, err := readItems(items, err, linkFrom)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		s.linked[l.User], s.watched[l.User] = true, true
	}
	for id := range s.members {
		s.watched[id] = true
	}
	if len(s.watched) == 0 || s.Many() {
		return s, nil
	}
	groups, err := store.Groups(ctx, tenant, s.Watched()...)
	if err != nil {
		return nil, err
	}
	for _, list := range groups {
		for _, m := range list {
			if m.Direct {
				s.inside[m.Group] = true
			}
		}
	}
	return s, nil
}

// shut notes whom rules are for that block.
func (s *Standing) shut(ctx context.Context, store storage.Store, tenant storage.TenantID) error {
	rules, err := Rules(ctx, store, tenant)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if !r.blocks() {
			continue
		}
		for _, id := range r.When.Groups {
			s.shutGroups[id] = true
		}
		for _, id := range r.When.Roles {
			ids, err := containing(ctx, store, tenant, id)
			if err != nil {
				return err
			}
			for _, id := range ids {
				s.shutRoles[id] = true
			}
		}
	}
	return nil
}

// Blocks reports whether there are conditional rules that block and are for some groups or
// roles: they may come to hold for somebody who comes to one.
func (s *Standing) Blocks() bool { return len(s.shutGroups)+len(s.shutRoles) > 0 }

// Shuts reports whether such a rule is for one of these groups, or for a role that it
// hands on.
func (s *Standing) Shuts(groups ...string) bool {
	return slices.ContainsFunc(groups, func(id string) bool {
		return s.shutGroups[id] || slices.ContainsFunc(s.grants[id], func(g *Grant) bool { return s.shutRoles[g.Role] })
	})
}

// ShutsRole reports whether such a rule is for a role, or for one that it contains.
func (s *Standing) ShutsRole(id string) bool { return s.shutRoles[id] }

// descend notes all who are in a group that is given administrative roles.
func (s *Standing) descend(ctx context.Context, store storage.Store, tenant storage.TenantID, group string) error {
	seen := map[string]bool{group: true}
	level := []string{group}
	for len(level) > 0 {
		var next []string
		for _, g := range level {
			for m, err := range store.Members(ctx, tenant, g, "") {
				if err != nil {
					return err
				}
				if seen[m.Value] {
					continue
				}
				seen[m.Value] = true
				s.members[m.Value] = append(s.members[m.Value], group)
				if m.Type == PrincipalGroup {
					next = append(next, m.Value)
				}
			}
		}
		level = next
	}
	return nil
}

func (s *Standing) privilegedGrants(principal string) bool {
	return slices.ContainsFunc(s.grants[principal], func(g *Grant) bool { return privileged(s.roles[g.Role]) })
}

// Held returns the administrative roles that a user or group holds, directly or
// through groups, at present, eligible or later. Whoever a link leads from to another
// tenant counts as a Global Administrator.
func (s *Standing) Held(id string, now time.Time) []*Role {
	var roles []*Role
	if s.linked[id] {
		roles = append(roles, BuiltInRole(GlobalAdministrator))
	}
	roles = s.add(roles, id, now, privileged)
	for _, g := range s.members[id] {
		roles = s.add(roles, g, now, privileged)
	}
	return roles
}

// Carried returns the roles that a group hands on to its members, given those
// groups that it is in, directly or through others.
func (s *Standing) Carried(group string, above []string, now time.Time) []*Role {
	every := func(*Role) bool { return true }
	roles := s.add(nil, group, now, every)
	for _, g := range above {
		roles = s.add(roles, g, now, every)
	}
	return roles
}

// Groups reports whether there are roles given to groups at all.
func (s *Standing) Groups() bool {
	for _, list := range s.grants {
		if list[0].PrincipalType == PrincipalGroup {
			return true
		}
	}
	return false
}

// Inside reports whether somebody with an administrative role is a direct member
// of a group, or may be, where very many have one.
func (s *Standing) Inside(group string) bool { return s.Many() || s.inside[group] }

// Watches reports whether a user or group is part of the Standing, even if only by
// grants that have ended: what changes their memberships changes the Standing.
func (s *Standing) Watches(id string) bool { return s.watched[id] }

// Watched returns the ids of those that Watches is true of.
func (s *Standing) Watched() []string { return slices.Collect(maps.Keys(s.watched)) }

// Many reports whether those are so many that any group is taken for one that has some of
// them in it, and that looking through a group is better than looking for each in it.
func (s *Standing) Many() bool { return len(s.watched) > fewWatched }

func (s *Standing) add(roles []*Role, principal string, now time.Time, which func(*Role) bool) []*Role {
	for _, g := range s.grants[principal] {
		if r := s.roles[g.Role]; which(r) && !g.Ended(now) && !holds(roles, r) {
			roles = append(roles, r)
		}
	}
	return roles
}
