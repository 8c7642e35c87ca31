package auth

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseScopes(t *testing.T) {
	for _, test := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"users"}, "users"},
		{[]string{"users,groups"}, "groups,users"},
		{[]string{"users", "groups"}, "groups,users"},
		{[]string{" users:read , groups "}, "groups,users:read"},
		{[]string{"users:read", "users:read"}, "users:read"},
		{[]string{"users:write"}, "users"}, // a write answers with the resource
		{[]string{"users:read", "users:write"}, "users"},
		{[]string{"users", "users:read", "groups:write"}, "groups,users"},
	} {
		got, err := ParseScopes(test.in)
		if err != nil || got.String() != test.want {
			t.Errorf("ParseScopes(%q) = %q, %v; want %q", test.in, got, err, test.want)
		}
		again, err := ParseScopes(got.Strings())
		if err != nil || again != got {
			t.Errorf("ParseScopes(%q) = %v, %v; want %v", got.Strings(), again, err, got)
		}
	}
}

func TestParseScopesUnknown(t *testing.T) {
	for _, s := range []string{"user", "users:", "users:admin", ":read", "Users", "*", "users:read:write", "users groups", "users\x00"} {
		got, err := ParseScopes([]string{"groups", s})
		unknown, ok := errors.AsType[*UnknownScopeError](err)
		if !ok || unknown.Scope != s || got != (Scopes{}) {
			t.Errorf("ParseScopes(groups, %q) = %v, %v; want an UnknownScopeError", s, got, err)
			continue
		}
		for _, name := range ScopeNames() {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%q does not mention %s", err, name)
			}
		}
	}
	if !slices.IsSorted(ScopeNames()) {
		t.Errorf("ScopeNames() = %q; want them sorted", ScopeNames())
	}
}

// TestMay walks every kind of principal through every effect.
func TestMay(t *testing.T) {
	client := func(scopes ...string) Principal {
		s, err := ParseScopes(scopes)
		if err != nil {
			t.Fatal(err)
		}
		return Principal{Kind: Client, Tenant: "default", ID: "c1", Scopes: s}
	}
	without := func(p Principal, change func(*Principal)) Principal {
		change(&p)
		return p
	}
	all := client("users", "groups")
	person := Principal{Kind: User, Tenant: "default", ID: "u1", Level: MFA, Permissions: NewPermissions(
		PermissionUsersRead, PermissionUsersCreate, PermissionUsersUpdate, PermissionUsersDelete,
		PermissionGroupsRead, PermissionGroupsCreate, PermissionGroupsUpdate, PermissionGroupsDelete)}
	for _, test := range []struct {
		name string
		by   Principal
		want string // of read users, write users, read groups, write groups
	}{
		{"nobody", Principal{}, "----"},
		{"nobody with everything", without(all, func(p *Principal) { p.Kind = 0 }), "----"},
		{"unknown kind", without(all, func(p *Principal) { p.Kind = 99 }), "----"},
		{"client without a tenant", without(all, func(p *Principal) { p.Tenant = "" }), "----"},
		{"client without an id", without(all, func(p *Principal) { p.ID = "" }), "----"},
		{"client without scopes", client(), "----"},
		{"users", client("users"), "rw--"},
		{"users:read", client("users:read"), "r---"},
		{"users:write", client("users:write"), "rw--"},
		{"groups", client("groups"), "--rw"},
		{"groups:read", client("groups:read"), "--r-"},
		{"groups:write", client("groups:write"), "--rw"},
		{"both", all, "rwrw"},
		{"read both", client("users:read", "groups:read"), "r-r-"},
		{"person", person, "rwrw"},
		{"person without a tenant", without(person, func(p *Principal) { p.Tenant = "" }), "----"},
		{"person without an id", without(person, func(p *Principal) { p.ID = "" }), "----"},
		{"person without a passcode", without(person, func(p *Principal) { p.Level = Password }), "----"},
		{"person without permissions", without(person, func(p *Principal) { p.Permissions = 0 }), "----"},
		{"operator", Principal{Kind: Operator, Tenant: "default"}, "rwrw"},
		{"operator without a tenant", Principal{Kind: Operator}, "----"},
	} {
		got := ""
		for _, typ := range []string{"User", "Group"} {
			for _, e := range []Act{Read, Write} {
				switch {
				case !test.by.May(e, typ):
					got += "-"
				case e == Read:
					got += "r"
				default:
					got += "w"
				}
			}
		}
		if got != test.want {
			t.Errorf("%s: May = %s; want %s", test.name, got, test.want)
		}
		for _, typ := range []string{"", "user", "Users", "Role", "Client"} {
			if test.by.Kind == Client && test.by.May(Read, typ) {
				t.Errorf("%s: May(Read, %q) = true", test.name, typ)
			}
		}
		for _, e := range []Act{0, 6, 255} {
			if test.by.May(e, "User") {
				t.Errorf("%s: May(%d, User) = true", test.name, e)
			}
		}
		if test.by.May(Read, "") {
			t.Errorf(`%s: May(Read, "") = true`, test.name)
		}
	}
}

func TestActString(t *testing.T) {
	for e, want := range map[Act]string{Read: "read", Write: "write", Create: "create", Update: "update", Delete: "delete", 0: "none", 9: "none"} {
		if got := e.String(); got != want {
			t.Errorf("Act(%d).String() = %q; want %q", e, got, want)
		}
	}
}

func TestActor(t *testing.T) {
	for _, test := range []struct {
		by   Principal
		want string
	}{
		{Principal{}, "nobody"},
		{Principal{Kind: Client}, "nobody"},
		{Principal{Kind: Client, ID: "c1", Name: "okta"}, "client:c1"},
		{Principal{Kind: Operator}, "operator"},
	} {
		if got := test.by.Actor(); got != test.want {
			t.Errorf("%+v.Actor() = %q; want %q", test.by, got, test.want)
		}
	}
}

func TestValidProfile(t *testing.T) {
	for s, want := range map[string]bool{"": true, "entra": true, "okta": true, "strict": true, "Okta": false, "azure": false} {
		if got := validProfile(s); got != want {
			t.Errorf("validProfile(%q) = %v; want %v", s, got, want)
		}
	}
}
