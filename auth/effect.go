package auth

import (
	"slices"
	"strings"
)

// Effect is what a write would do, as far as somebody must be entitled to it: who
// would have which roles before and after, what of them would change, and which
// roles would be other than they are. Whoever writes gathers the Effect inside the
// write and asks Permitted before anything becomes durable. It does not matter by
// which route the effect comes about.
type Effect struct {
	Subjects []Subject
	Roles    []RoleChange
}

// Subject is a user, group or client that a write touches.
type Subject struct {
	// Before and After are the roles that the subject holds, directly or through
	// groups; active, eligible or to begin later.
	Before, After []*Role
	Changes       Aspects
}

// RoleChange is a role before and after a write; nil for one that is not there.
type RoleChange struct {
	Before, After *Role
	// Gives are the roles that it contains from now on: all who hold it get them.
	Gives []*Role
}

// Aspects are what of a subject a write changes.
type Aspects uint16

// The aspects of a subject.
const (
	// AspectCredentials: what proves who somebody is, and their sessions.
	AspectCredentials Aspects = 1 << iota
	AspectUserName
	AspectEmail
	// AspectActive: whether somebody can sign in at all.
	AspectActive
	// AspectMembership: which groups somebody is in, and, of a group, who is in it.
	AspectMembership
	// AspectRoles: which roles somebody is given, for how long.
	AspectRoles
	// AspectExistence: being deleted or restored; of a group, being renamed too.
	AspectExistence
	// AspectProfile is everything else, which is protected from clients only.
	AspectProfile
)

var aspectNames = [...]string{"credentials", "userName", "emails", "active", "membership", "roles", "existence", "profile"}

// String names the aspects with commas between.
func (a Aspects) String() string {
	var names []string
	for i, name := range aspectNames {
		if a&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// DeniedError says what of an Effect is not permitted. It names no subject and no
// value.
type DeniedError struct{ Msg string }

func (e *DeniedError) Error() string { return e.Msg }

var (
	errDeniedNobody = &DeniedError{"nobody may do this without being known"}
	errDeniedGrowth = &DeniedError{"this would give somebody a role that you may not give"}
	errDeniedLoss   = &DeniedError{"this would take a role from somebody that you may not take"}
	errDeniedMore   = &DeniedError{"this role would get permissions that you do not have"}
	errDeniedRole   = &DeniedError{"this is a role that you may not change"}
)

// Permitted reports whether a principal may bring the effect about: nil, or a
// *DeniedError. It depends on nothing but e and by.
//
//   - Roles that a subject gains must be assignable by the principal, those that it
//     loses manageable.
//   - Of a subject that holds a role which is not manageable by the principal
//     nothing that is protected may change. For clients that is everything.
//   - A role that has permissions may only get those that the principal has, and
//     only be changed or removed by somebody who could assign it.
//   - What a role gives besides must be assignable by the principal, and is never an
//     administrative role, whoever asks: what makes a role administrative is seen in
//     the role itself.
func (e Effect) Permitted(by Principal) error {
	if !known(by) {
		return errDeniedNobody
	}
	for _, s := range e.Subjects {
		for _, r := range s.After {
			if !holds(s.Before, r) && !by.assignable(r) {
				return errDeniedGrowth
			}
		}
		for _, r := range s.Before {
			if by.manageable(r) {
				continue
			}
			if !holds(s.After, r) {
				return errDeniedLoss
			}
			changes := s.Changes
			if by.Kind != Client {
				changes &^= AspectProfile
			}
			if changes != 0 {
				return &DeniedError{"of somebody with an administrative role that you may not manage, this cannot be changed: " + changes.String()}
			}
		}
	}
	for _, c := range e.Roles {
		if err := c.permitted(by); err != nil {
			return err
		}
	}
	return nil
}

// Administrative reports whether an administrative role would be given, taken, held
// otherwise, or other than it is, or its holder gone. Of people that asks for a passcode
// given just now.
func (e Effect) Administrative() bool {
	for _, s := range e.Subjects {
		for _, r := range s.After {
			if privileged(r) && (s.Changes&(AspectRoles|AspectExistence) != 0 || !holds(s.Before, r)) {
				return true
			}
		}
		for _, r := range s.Before {
			if privileged(r) && !holds(s.After, r) {
				return true
			}
		}
	}
	return slices.ContainsFunc(e.Roles, func(c RoleChange) bool {
		return c.Before != nil && privileged(c.Before) || c.After != nil && privileged(c.After) || slices.ContainsFunc(c.Gives, privileged)
	})
}

func (c RoleChange) permitted(by Principal) error {
	var had Permissions
	if c.Before != nil {
		if !by.manageable(c.Before) {
			return errDeniedRole
		}
		had = c.Before.Permissions
	}
	if c.After == nil {
		return nil
	}
	if !by.manageable(c.After) {
		return errDeniedRole
	}
	if more := c.After.Permissions &^ had; by.Kind != Operator && more&^by.Permissions != 0 {
		return errDeniedMore
	}
	for _, r := range c.Gives {
		if privileged(r) || !by.assignable(r) {
			return errDeniedGrowth
		}
	}
	return nil
}

// known reports whether by is somebody who can be entitled to anything: a user only
// with a passcode given.
func known(by Principal) bool {
	switch by.Kind {
	case Operator:
		return by.Tenant != ""
	case Client:
		return by.Tenant != "" && by.ID != ""
	case User:
		return by.Tenant != "" && by.ID != "" && by.Level >= MFA
	}
	return false
}

func holds(list []*Role, r *Role) bool {
	return slices.ContainsFunc(list, func(o *Role) bool { return o.ID == r.ID })
}

// assignable reports whether a known principal may give a role to somebody.
func (p Principal) assignable(r *Role) bool {
	switch p.Kind {
	case Operator:
		return true
	case Client:
		return !privileged(r) && p.Scopes.Assigns(r)
	case User:
		return p.Permissions.Has(needOf(r))
	}
	return false
}

// MayGive returns nil if the principal may give a role to somebody who holds none, or a
// *DeniedError.
func (p Principal) MayGive(r *Role) error {
	return Effect{Subjects: []Subject{{After: []*Role{r}}}}.Permitted(p)
}

// manageable reports whether a known principal may change those who hold a role.
func (p Principal) manageable(r *Role) bool {
	return p.Kind == Operator || !privileged(r) || p.Kind == User && p.Permissions.Has(needOf(r))
}

// privileged reports whether a role is more than a business role. One that has
// permissions is, whatever it says of itself.
func privileged(r *Role) bool {
	return r.Administrative || r.Permissions != 0 || r.ID == GlobalAdministrator
}

// needOf returns the permission it takes to assign a role.
func needOf(r *Role) Permission {
	switch {
	case r.ID == GlobalAdministrator || r.Permissions.Has(PermissionRolesAssignGlobal):
		return PermissionRolesAssignGlobal
	case privileged(r):
		return PermissionRolesAssignAdministrative
	}
	return PermissionRolesAssign
}
