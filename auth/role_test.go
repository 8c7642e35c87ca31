package auth

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for i, p := range AllPermissions() {
		if int(p.Permission) != i+1 || p.Permission.String() != p.Name || !strings.HasSuffix(p.Description, ".") || seen[p.Name] {
			t.Errorf("permission %d: %+v", i, p)
		}
		seen[p.Name] = true
		if got, ok := parsePermission(p.Name); !ok || got != p.Permission {
			t.Errorf("parsePermission(%q) = %v, %v", p.Name, got, ok)
		}
	}
	if len(seen) != int(permissionsEnd)-1 || permissionsEnd > 64 {
		t.Errorf("%d permissions, %d constants; a set holds 63", len(seen), permissionsEnd-1)
	}
	if _, ok := parsePermission("none"); ok {
		t.Error(`"none" is a permission`)
	}
	all := NewPermissions(everyPermission()...)
	if all.Has(0) || all.Has(permissionsEnd) || all.Has(200) || NewPermissions(0, permissionsEnd, 200) != 0 || all.hasAll(0) {
		t.Error("a set has what is no permission")
	}
}

func TestBuiltInRoles(t *testing.T) {
	list := BuiltInRoles()
	if len(list) != 10 || !slices.IsSortedFunc(list, func(a, b *Role) int { return strings.Compare(a.ID, b.ID) }) {
		t.Fatalf("%d built-in roles, or out of order", len(list))
	}
	for _, r := range list {
		if BuiltInRole(r.ID) != r || !r.Administrative || !r.BuiltIn || r.Permissions == 0 || r.Description == "" || r.Category != CategoryDirectory {
			t.Errorf("%+v", r)
		}
		if r.ID != GlobalAdministrator && r.Permissions.Has(PermissionRolesAssignGlobal) {
			t.Errorf("%s may give Global Administrator", r.Display)
		}
		if r.ID != GlobalAdministrator && r.ID != PrivilegedRoleAdministrator && r.Permissions.Has(PermissionRolesAssignAdministrative) {
			t.Errorf("%s may give administrative roles", r.Display)
		}
	}
	if got := BuiltInRole(GlobalAdministrator).Permissions; got != NewPermissions(everyPermission()...) {
		t.Errorf("Global Administrator lacks something: %v", got.Strings())
	}
	if BuiltInRole("") != nil || BuiltInRole("00000000-0000-7000-8000-00000000000b") != nil {
		t.Error("there is a role that is none")
	}
}

// TestReservedRoleNames: however it is spelt, nobody makes a role that looks like a
// built-in one (M16).
func TestReservedRoleNames(t *testing.T) {
	for s, want := range map[string]bool{
		"Global Administrator": true, "global-administrator": true, "Global-Admin ": true, "GLOBAL-ADMIN": true, "globaladmin": true,
		" Global\u00a0Administrator\u200b": true, "ＧＬＯＢＡＬ　ＡＤＭＩＮ": true, "Auditor": true, "auditor!": true, "reports_reader": true,
		"ｇｕｅｓｔ inviter": true, "Global": false, "Administrator": false, "Auditors": false, "sales": false, "": false, "!": false,
	} {
		if got := ReservedRoleName(s); got != want {
			t.Errorf("ReservedRoleName(%q) = %v", s, got)
		}
	}
}

func TestCustomPermissions(t *testing.T) {
	set, err := CustomPermissions([]string{"users.read", "audit.read", "users.read"})
	if err != nil || set != NewPermissions(PermissionUsersRead, PermissionAuditRead) {
		t.Errorf("CustomPermissions = %v, %v", set.Strings(), err)
	}
	for i, names := range [][]string{{"users.*"}, {"users.read", "roles.assign.global"}} {
		_, err := CustomPermissions(names)
		if e, ok := errors.AsType[*CustomPermissionError](err); !ok || e.Index != i || strings.Contains(err.Error(), names[i]) {
			t.Errorf("CustomPermissions(%q): %v", names, err)
		}
	}
}
