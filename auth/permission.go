package auth

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Act is what is done to a resource.
type Act uint8

// The acts. The zero Act is none and is never permitted.
const (
	Read Act = iota + 1
	// Write is all of Create, Update and Delete.
	Write
	Create
	Update
	Delete
)

var actNames = [...]string{"none", "read", "write", "create", "update", "delete"}

// String returns "read", "write", "create", "update" or "delete".
func (a Act) String() string {
	if int(a) >= len(actNames) {
		a = 0
	}
	return actNames[a]
}

// CustomResource is the name that May and Need know the resource types by that a tenant
// defines. No type is called so.
const CustomResource = "Resource"

// EventResource is the name that May and Need know the events of a client's feeds by.
// They are no resources, and users have none.
const EventResource = "Event"

// May reports whether the principal may do this to resources of the type with
// this name ("User", "Group", "Role", "RoleAssignment", "Entitlement", "Invitation", CustomResource) in its own tenant. A client
// may by its scopes; a user by their permissions, in a session of level MFA. It is
// false for the zero Principal, for one without a tenant, and for whatever it
// does not know. Whether the effect of a write is permitted is another question:
// see Effect.
func (p Principal) May(a Act, resourceType string) bool {
	if p.Tenant == "" || resourceType == "" || a < Read || a > Delete {
		return false
	}
	switch p.Kind {
	case Operator:
		return true
	case Client:
		for _, c := range catalogue {
			if slices.Contains(c.resourceTypes, resourceType) {
				return p.ID != "" && p.Scopes.set&c.scope(a) != 0
			}
		}
	case User:
		needs, ok := permissionsFor[resourceType]
		return ok && p.ID != "" && p.Level >= MFA && p.Permissions.hasAll(needs[a])
	}
	return false
}

// permissionsFor says what a user needs for each act on resources of a type.
var permissionsFor = map[string][Delete + 1]Permissions{
	"User":            acts(PermissionUsersRead, PermissionUsersCreate, PermissionUsersUpdate, PermissionUsersDelete),
	"Group":           acts(PermissionGroupsRead, PermissionGroupsCreate, PermissionGroupsUpdate, PermissionGroupsDelete),
	"GroupMembership": acts(PermissionGroupsRead, PermissionGroupsUpdate, PermissionGroupsUpdate, PermissionGroupsUpdate),
	"Role":            acts(PermissionRolesRead, PermissionRolesCreate, PermissionRolesUpdate, PermissionRolesDelete),
	"Entitlement":     acts(PermissionRolesRead, PermissionRolesCreate, PermissionRolesUpdate, PermissionRolesDelete),
	"RoleAssignment":  acts(PermissionRolesRead, PermissionRolesAssign, PermissionRolesAssign, PermissionRolesAssign),
	CustomResource:    acts(PermissionResourcesRead, PermissionResourcesWrite, PermissionResourcesWrite, PermissionResourcesWrite),
	"Invitation":      acts(PermissionUsersRead, PermissionUsersInvite, PermissionUsersInvite, PermissionUsersInvite),
}

// acts makes a row of permissionsFor. As a write answers with what it wrote, it
// needs reading too.
func acts(read, create, update, remove Permission) (row [Delete + 1]Permissions) {
	row[Read] = NewPermissions(read)
	row[Create] = NewPermissions(read, create)
	row[Update] = NewPermissions(read, update)
	row[Delete] = NewPermissions(remove)
	row[Write] = NewPermissions(read, create, update, remove)
	return row
}

// Permission is one thing that a role lets its holder do. The zero Permission is
// none.
type Permission uint8

// The permissions. Their numbers mean nothing outside of the process: what is
// stored and shown is their names.
const (
	PermissionUsersRead Permission = iota + 1
	PermissionUsersCreate
	PermissionUsersUpdate
	PermissionUsersDelete
	PermissionUsersRestore
	PermissionUsersPurge
	PermissionUsersInvite
	PermissionUsersPasswordReset
	PermissionUsersMFAReset
	PermissionUsersSessionsRead
	PermissionUsersSessionsEnd
	PermissionGroupsRead
	PermissionGroupsCreate
	PermissionGroupsUpdate
	PermissionGroupsDelete
	PermissionGroupsRestore
	PermissionGroupsPurge
	PermissionRolesRead
	PermissionRolesCreate
	PermissionRolesUpdate
	PermissionRolesDelete
	PermissionRolesAssign
	PermissionRolesAssignAdministrative
	PermissionRolesAssignGlobal
	PermissionClientsRead
	PermissionClientsWrite
	PermissionPoliciesRead
	PermissionPoliciesWrite
	PermissionReportsRead
	PermissionAuditRead
	PermissionAuditExport
	PermissionMailRead
	PermissionMailWrite
	PermissionTenantsRead
	PermissionTenantsWrite
	PermissionSchemasRead
	PermissionSchemasWrite
	PermissionResourcesRead
	PermissionResourcesWrite
	PermissionProvisioningRead
	PermissionFeedsRead
	PermissionFeedsWrite
	permissionsEnd
)

// PermissionInfo is a permission for people to read about.
type PermissionInfo struct {
	Permission  Permission
	Name        string // "users.password.reset"
	Description string // one sentence
}

// permissions is in the order of the constants.
var permissions = [...]PermissionInfo{
	{PermissionUsersRead, "users.read", "List and read users."},
	{PermissionUsersCreate, "users.create", "Create users."},
	{PermissionUsersUpdate, "users.update", "Change users, block and unblock their sign-in."},
	{PermissionUsersDelete, "users.delete", "Delete users."},
	{PermissionUsersRestore, "users.restore", "List deleted users and restore them."},
	{PermissionUsersPurge, "users.purge", "Remove deleted users for good."},
	{PermissionUsersInvite, "users.invite", "Invite people from outside, resend and revoke invitations."},
	{PermissionUsersPasswordReset, "users.password.reset", "Set a temporary password for a user."},
	{PermissionUsersMFAReset, "users.mfa.reset", "Remove a user's authenticator app and recovery codes, so that they enrol again."},
	{PermissionUsersSessionsRead, "users.sessions.read", "See where a user is signed in."},
	{PermissionUsersSessionsEnd, "users.sessions.end", "Sign a user out."},
	{PermissionGroupsRead, "groups.read", "List and read groups and their members."},
	{PermissionGroupsCreate, "groups.create", "Create groups."},
	{PermissionGroupsUpdate, "groups.update", "Change groups and their members."},
	{PermissionGroupsDelete, "groups.delete", "Delete groups."},
	{PermissionGroupsRestore, "groups.restore", "List deleted groups and restore them."},
	{PermissionGroupsPurge, "groups.purge", "Remove deleted groups for good."},
	{PermissionRolesRead, "roles.read", "List and read roles, and who holds them; list and read entitlements."},
	{PermissionRolesCreate, "roles.create", "Create roles with permissions that one has, and entitlements."},
	{PermissionRolesUpdate, "roles.update", "Change roles, adding only permissions that one has, and entitlements."},
	{PermissionRolesDelete, "roles.delete", "Delete roles that are not built in, and entitlements."},
	{PermissionRolesAssign, "roles.assign", "Assign and remove business roles."},
	{PermissionRolesAssignAdministrative, "roles.assign.administrative", "Assign and remove administrative roles other than Global Administrator, and change their holders."},
	{PermissionRolesAssignGlobal, "roles.assign.global", "Assign and remove Global Administrator, and change its holders."},
	{PermissionClientsRead, "clients.read", "List provisioning clients and their tokens."},
	{PermissionClientsWrite, "clients.write", "Create, change, rotate and revoke provisioning clients."},
	{PermissionPoliciesRead, "policies.read", "Read the policies for passwords, sign-in and retention."},
	{PermissionPoliciesWrite, "policies.write", "Change the policies for passwords, sign-in and retention."},
	{PermissionReportsRead, "reports.read", "Read reports, including that on privileged accounts."},
	{PermissionAuditRead, "audit.read", "Search the audit trail and verify it."},
	{PermissionAuditExport, "audit.export", "Export the audit trail."},
	{PermissionMailRead, "mail.read", "See which mail waits to be sent or could not be sent, and its recipients."},
	{PermissionMailWrite, "mail.write", "Send mail again, or discard it."},
	{PermissionTenantsRead, "tenants.read", "List tenants and domains."},
	{PermissionTenantsWrite, "tenants.write", "Create and change tenants and domains."},
	{PermissionSchemasRead, "schemas.read", "List and read the schemas that the tenant defines."},
	{PermissionSchemasWrite, "schemas.write", "Define, change and remove custom schemas and resource types."},
	{PermissionResourcesRead, "resources.read", "List and read resources of the types that the tenant defines."},
	{PermissionResourcesWrite, "resources.write", "Create, change and delete resources of the types that the tenant defines."},
	{PermissionProvisioningRead, "provisioning.read", "See which requests clients sent, and why they were refused."},
	{PermissionFeedsRead, "feeds.read", "See feeds, where they are sent, and what could not be delivered."},
	{PermissionFeedsWrite, "feeds.write", "Create and change feeds of resources that one may read; retry and discard what could not be delivered."},
}

// AllPermissions returns every permission there is, in the order of the
// catalogue.
func AllPermissions() []PermissionInfo { return slices.Clone(permissions[:]) }

// String returns the name of the permission, or "none".
func (p Permission) String() string {
	if p == 0 || p >= permissionsEnd {
		return "none"
	}
	return permissions[p-1].Name
}

// parsePermission returns the permission with this name, exactly.
func parsePermission(name string) (Permission, bool) {
	for _, i := range permissions {
		if i.Name == name {
			return i.Permission, true
		}
	}
	return 0, false
}

// Permissions is a set of permissions. The zero Permissions is empty.
type Permissions uint64

// NewPermissions returns the set of the given permissions.
func NewPermissions(list ...Permission) (s Permissions) {
	for _, p := range list {
		if p != 0 && p < permissionsEnd {
			s |= 1 << p
		}
	}
	return s
}

// Has reports whether p is in the set. No set has the zero Permission.
func (s Permissions) Has(p Permission) bool { return p != 0 && p < permissionsEnd && s&(1<<p) != 0 }

// hasAll reports whether all of needs are in the set, and there are any.
func (s Permissions) hasAll(needs Permissions) bool { return needs != 0 && needs&^s == 0 }

// Strings returns the names in the order of the catalogue.
func (s Permissions) Strings() []string {
	names := []string{}
	for _, i := range permissions {
		if s.Has(i.Permission) {
			names = append(names, i.Name)
		}
	}
	return names
}

// Scopes is a set of scopes. The zero Scopes is empty and permits nothing. Scopes
// can be compared.
//
// A scope is the name of a kind of resource, "users", "groups", "memberships" (the
// members of groups as resources of their own), "events" (those that were put aside for the client, which it fetches), "invitations", "entitlements", "roles" (which includes role assignments)
// or "resources" (those of all types that the tenant defines), alone or with ":read" or ":write". Alone it means
// both. As every write answers with the resource it wrote, ":write" includes
// ":read", and "users:write" is another way to say "users".
//
// "roles:assign:<role>" lets a client give somebody the business role with this
// value or id, by whatever way it may write; it permits nothing by itself.
type Scopes struct {
	set scopeSet
	// assign is a sorted list of roles, each with a comma before and after it.
	assign string
}

type scopeSet uint16

// catalogue lists the scopes by name.
var catalogue = []scopeEntry{
	{"entitlements", []string{"Entitlement"}, 1 << 10, 1 << 11},
	{"events", []string{EventResource}, 1 << 14, 1 << 15},
	{"groups", []string{"Group"}, 1 << 0, 1 << 1},
	{"invitations", []string{"Invitation"}, 1 << 8, 1 << 9},
	{"memberships", []string{"GroupMembership"}, 1 << 6, 1 << 7},
	{"resources", []string{CustomResource}, 1 << 12, 1 << 13},
	{"roles", []string{"Role", "RoleAssignment"}, 1 << 4, 1 << 5},
	{"users", []string{"User"}, 1 << 2, 1 << 3},
}

// assignScope begins a scope that names a role.
const assignScope = "roles:assign:"

type scopeEntry struct {
	name          string
	resourceTypes []string
	read, write   scopeSet
}

func (c scopeEntry) scope(a Act) scopeSet {
	if a == Read {
		return c.read
	}
	return c.write
}

// ScopeNames returns every way to spell a scope, sorted.
func ScopeNames() []string {
	var names []string
	for _, c := range catalogue {
		names = append(names, c.name)
		if c.name == "roles" {
			names = append(names, assignScope+"<role>")
		}
		names = append(names, c.name+":read", c.name+":write")
	}
	return names
}

// UnknownScopeError says that a scope does not exist.
type UnknownScopeError struct{ Scope string }

func (e *UnknownScopeError) Error() string {
	return fmt.Sprintf("unknown scope %q; valid are %s", e.Scope, strings.Join(ScopeNames(), ", "))
}

// ParseScopes makes a set of scopes, each of which may also be a list separated
// by commas. Spaces around a scope do not count; empty ones are left out. The
// error is an *UnknownScopeError.
func ParseScopes(list []string) (Scopes, error) {
	var set Scopes
	for _, item := range list {
		for name := range strings.SplitSeq(item, ",") {
			name = strings.TrimSpace(name)
			if name == "" {
				continue
			}
			s, ok := parseScope(name)
			if !ok {
				return Scopes{}, &UnknownScopeError{name}
			}
			set = set.with(s)
		}
	}
	return set, nil
}

// knownScopes makes a set of the stored scopes of a client. One that this version does
// not know permits nothing here, so that an older process serves a client that a newer
// one gave more to.
func knownScopes(list []string) (set Scopes) {
	for _, name := range list {
		s, _ := parseScope(name) // empty if there is none
		set = set.with(s)
	}
	return set
}

// parseScope returns what a scope stands for, if it exists.
func parseScope(s string) (Scopes, bool) {
	if role, ok := strings.CutPrefix(s, assignScope); ok {
		role = CanonicalRoleName(role)
		// What is stored is separated by white space.
		if role == "" || strings.ContainsFunc(s, unicode.IsSpace) || strings.ContainsFunc(s, unicode.IsControl) || strings.Contains(role, ",") {
			return Scopes{}, false
		}
		return Scopes{assign: "," + role + ","}, true
	}
	name, act, narrowed := strings.Cut(s, ":")
	i := slices.IndexFunc(catalogue, func(c scopeEntry) bool { return c.name == name })
	switch {
	case i < 0:
		return Scopes{}, false
	case !narrowed || act == "write":
		return Scopes{set: catalogue[i].read | catalogue[i].write}, true
	case act == "read":
		return Scopes{set: catalogue[i].read}, true
	}
	return Scopes{}, false
}

// with returns the union of two sets.
func (s Scopes) with(more Scopes) Scopes {
	s.set |= more.set
	if more.assign == "" || more.assign == s.assign {
		return s
	}
	list := append(s.assigned(), more.assigned()...)
	slices.Sort(list)
	s.assign = "," + strings.Join(slices.Compact(list), ",") + ","
	return s
}

func (s Scopes) assigned() []string {
	return strings.FieldsFunc(s.assign, func(r rune) bool { return r == ',' })
}

// Assigns reports whether the set names a role, by its id or its value.
func (s Scopes) Assigns(r *Role) bool {
	for _, name := range []string{r.ID, CanonicalRoleName(r.Value)} {
		if name != "" && !strings.Contains(name, ",") && strings.Contains(s.assign, ","+name+",") {
			return true
		}
	}
	return false
}

// Strings returns the set in canonical form: sorted, each kind of resource at
// most once. ParseScopes reads it back.
func (s Scopes) Strings() []string {
	names := make([]string, 0, len(catalogue))
	for _, c := range catalogue {
		switch {
		case s.set&c.write != 0:
			names = append(names, c.name)
		case s.set&c.read != 0:
			names = append(names, c.name+":read")
		}
		if c.name == "roles" {
			for _, role := range s.assigned() {
				names = append(names, assignScope+role)
			}
		}
	}
	slices.Sort(names)
	return names
}

// String returns the canonical form with commas between.
func (s Scopes) String() string { return strings.Join(s.Strings(), ",") }
