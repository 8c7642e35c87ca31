package auth

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/roster-id/roster/schemas"
)

// The ids of the built-in roles. They are the same in every tenant and never
// change. No id that a store gives comes before them.
const (
	GlobalAdministrator         = "00000000-0000-7000-8000-000000000001"
	PrivilegedRoleAdministrator = "00000000-0000-7000-8000-000000000002"
	UserAdministrator           = "00000000-0000-7000-8000-000000000003"
	ApplicationAdministrator    = "00000000-0000-7000-8000-000000000004"
	AuthenticationAdministrator = "00000000-0000-7000-8000-000000000005"
	HelpdeskAdministrator       = "00000000-0000-7000-8000-000000000006"
	GroupsAdministrator         = "00000000-0000-7000-8000-000000000007"
	GuestInviter                = "00000000-0000-7000-8000-000000000008"
	ReportsReader               = "00000000-0000-7000-8000-000000000009"
	Auditor                     = "00000000-0000-7000-8000-00000000000a"
)

// The categories of a role.
const (
	CategoryDirectory   = "directory"
	CategoryPartner     = "partner"
	CategoryApplication = "application"
	CategoryBusiness    = "business"
)

// Role is what may be assigned. An administrative role has permissions here; a
// business role has none, and means something to the applications that read the
// directory.
type Role struct {
	ID             string      `json:"id"`
	Value          string      `json:"value"` // unique, "global-administrator"
	Display        string      `json:"display,omitzero"`
	Description    string      `json:"-"`
	Category       string      `json:"-"`
	Administrative bool        `json:"administrative,omitzero"`
	BuiltIn        bool        `json:"-"`
	Permissions    Permissions `json:"-"`
	// Contains are the ids of business roles that whoever holds the role holds too.
	Contains []string `json:"-"`
}

// Name is what people call the role.
func (r *Role) Name() string { return cmp.Or(r.Display, r.Value) }

// RolesSince is when the built-in roles were created and last changed, as far as
// a resource has to say so.
var RolesSince = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// builtIn is in the order of the ids.
var builtIn = []*Role{
	directoryRole(GlobalAdministrator, "Global Administrator", "May do everything, and assign every role. Two people should hold it, and an emergency account.",
		everyPermission()...),
	directoryRole(PrivilegedRoleAdministrator, "Privileged Role Administrator", "Assigns and removes roles other than Global Administrator, and defines custom roles with permissions that its holder has.",
		PermissionUsersRead, PermissionGroupsRead, PermissionRolesRead, PermissionRolesCreate, PermissionRolesUpdate, PermissionRolesDelete,
		PermissionRolesAssign, PermissionRolesAssignAdministrative, PermissionReportsRead),
	directoryRole(UserAdministrator, "User Administrator", "Manages users and groups without administrative roles: creates, changes, deletes and restores them, resets passwords.",
		PermissionUsersRead, PermissionUsersCreate, PermissionUsersUpdate, PermissionUsersDelete, PermissionUsersRestore, PermissionUsersInvite,
		PermissionUsersPasswordReset, PermissionUsersSessionsRead, PermissionUsersSessionsEnd,
		PermissionGroupsRead, PermissionGroupsCreate, PermissionGroupsUpdate, PermissionGroupsDelete, PermissionGroupsRestore,
		PermissionRolesRead, PermissionRolesAssign),
	directoryRole(ApplicationAdministrator, "Application Administrator", "Connects identity providers and HR systems: manages provisioning clients and their tokens.",
		PermissionUsersRead, PermissionGroupsRead, PermissionRolesRead, PermissionClientsRead, PermissionClientsWrite, PermissionProvisioningRead),
	directoryRole(AuthenticationAdministrator, "Authentication Administrator", "Helps users without administrative roles to sign in: resets passwords and authenticator apps, signs out.",
		PermissionUsersRead, PermissionGroupsRead, PermissionRolesRead, PermissionUsersPasswordReset, PermissionUsersMFAReset,
		PermissionUsersSessionsRead, PermissionUsersSessionsEnd, PermissionPoliciesRead),
	directoryRole(HelpdeskAdministrator, "Helpdesk Administrator", "Resets the passwords of users without administrative roles, and signs them out.",
		PermissionUsersRead, PermissionGroupsRead, PermissionUsersPasswordReset, PermissionUsersSessionsRead, PermissionUsersSessionsEnd),
	directoryRole(GroupsAdministrator, "Groups Administrator", "Manages groups without administrative roles, and their members.",
		PermissionUsersRead, PermissionGroupsRead, PermissionGroupsCreate, PermissionGroupsUpdate, PermissionGroupsDelete, PermissionGroupsRestore, PermissionRolesRead),
	directoryRole(GuestInviter, "Guest Inviter", "Invites people from outside.",
		PermissionUsersRead, PermissionUsersInvite),
	directoryRole(ReportsReader, "Reports Reader", "Reads reports.",
		PermissionUsersRead, PermissionGroupsRead, PermissionRolesRead, PermissionReportsRead),
	directoryRole(Auditor, "Auditor", "Reads everything, and searches, verifies and exports the audit trail. Changes nothing.",
		PermissionUsersRead, PermissionUsersSessionsRead, PermissionGroupsRead, PermissionRolesRead, PermissionClientsRead, PermissionPoliciesRead,
		PermissionReportsRead, PermissionAuditRead, PermissionAuditExport, PermissionMailRead, PermissionTenantsRead,
		PermissionSchemasRead, PermissionResourcesRead, PermissionProvisioningRead, PermissionFeedsRead),
}

func directoryRole(id, display, description string, list ...Permission) *Role {
	return &Role{ID: id, Value: strings.ReplaceAll(strings.ToLower(display), " ", "-"), Display: display, Description: description,
		Category: CategoryDirectory, Administrative: true, BuiltIn: true, Permissions: NewPermissions(list...)}
}

func everyPermission() (list []Permission) {
	for _, i := range permissions {
		list = append(list, i.Permission)
	}
	return list
}

// BuiltInRoles returns the built-in roles in the order of their ids. They must
// not be changed.
func BuiltInRoles() []*Role { return slices.Clone(builtIn) }

// BuiltInRole returns the built-in role with this id, or nil.
func BuiltInRole(id string) *Role {
	i, ok := slices.BinarySearchFunc(builtIn, id, func(r *Role, id string) int { return strings.Compare(r.ID, id) })
	if !ok {
		return nil
	}
	return builtIn[i]
}

// CanonicalRoleName returns the form in which names of roles are compared:
// normalised (NFKC), folded, and without white space at its ends.
func CanonicalRoleName(s string) string { return strings.TrimSpace(schemas.Fold(s)) }

// ReservedRoleName reports whether people could take a name for that of a built-in
// role: it is the value or the display of one, whatever stands between its
// words, or that with "admin" for "administrator". Custom roles do not get such a
// name.
func ReservedRoleName(s string) bool {
	name := lettersOf(s)
	return slices.ContainsFunc(builtIn, func(r *Role) bool { return name == lettersOf(r.Display) })
}

// lettersOf returns the letters and digits of a name in canonical form.
func lettersOf(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, CanonicalRoleName(s))
	return strings.TrimSuffix(s, "istrator")
}

// CustomPermissions reads the permissions of a custom role by their names. No
// custom role may give Global Administrator.
func CustomPermissions(names []string) (s Permissions, err error) {
	for i, name := range names {
		p, ok := parsePermission(name)
		switch {
		case !ok:
			return 0, &CustomPermissionError{i, "there is no permission of this name"}
		case p == PermissionRolesAssignGlobal:
			return 0, &CustomPermissionError{i, "only Global Administrator has this permission"}
		}
		s |= NewPermissions(p)
	}
	return s, nil
}

// CustomPermissionError says which of a custom role's permissions is wrong.
type CustomPermissionError struct {
	Index int // its place in the list that was given
	Msg   string
}

func (e *CustomPermissionError) Error() string {
	return fmt.Sprintf("permission %d: %s", e.Index, e.Msg)
}
