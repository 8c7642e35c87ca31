package auth

import (
	"strings"
	"testing"
)

// The roles and principals that the decision is tried with.
var (
	sales      = &Role{ID: "r-sales", Value: "Sales"}
	finance    = &Role{ID: "r-finance", Value: "finance"}
	auditor    = BuiltInRole(Auditor)
	global     = BuiltInRole(GlobalAdministrator)
	empty      = &Role{ID: "r-empty", Value: "empty", Administrative: true}            // an administrative role without permissions
	disguised  = &Role{ID: "r-disguised", Value: "disguised", Permissions: 1 << 1}     // permissions without saying so
	likeGlobal = &Role{ID: "r-like", Value: "like", Permissions: global.Permissions}   // as good as Global Administrator
	nameless   = &Role{}                                                               // damaged
	comma      = &Role{ID: "r-comma", Value: "sales,finance", Administrative: false}   // cannot be named by its value
	shadow     = &Role{ID: "r-shadow", Value: "global-administrator"}                  // by the name of a built-in role
	renamed    = &Role{ID: GlobalAdministrator, Value: "sales", Administrative: false} // by the id of one
)

func client(t *testing.T, scopes ...string) Principal {
	t.Helper()
	s, err := ParseScopes(scopes)
	if err != nil {
		t.Fatal(err)
	}
	return Principal{Kind: Client, Tenant: "t", ID: "c", Scopes: s}
}

func userWith(roles ...*Role) Principal {
	set, ids := PermissionsOf(roles)
	return Principal{Kind: User, Tenant: "t", ID: "u", Session: "s", Level: MFA, Permissions: set, Roles: ids}
}

func with(p Principal, change func(*Principal)) Principal {
	change(&p)
	return p
}

// TestPermitted walks every kind of principal through every kind of effect on every
// kind of role. A row says of each role, in the order of roles, what the principal
// may do: g give it, t take it from somebody, c change what is protected of somebody
// who holds it, p change the rest of their profile.
func TestPermitted(t *testing.T) {
	roles := []*Role{sales, finance, auditor, global, empty, disguised, likeGlobal, nameless, comma, shadow, renamed}
	all := []string{"users", "groups", "roles"}
	user := userWith(BuiltInRole(UserAdministrator))
	for _, test := range []struct {
		name string
		by   Principal
		want string
	}{
		{"nobody", Principal{}, ".... .... .... .... .... .... .... .... .... .... ...."},
		{"nobody with everything", with(userWith(global), func(p *Principal) { p.Kind = 0 }), ".... .... .... .... .... .... .... .... .... .... ...."},
		{"unknown kind", with(userWith(global), func(p *Principal) { p.Kind = 9 }), ".... .... .... .... .... .... .... .... .... .... ...."},
		{"operator", Principal{Kind: Operator, Tenant: "t"}, "gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp"},
		{"operator without a tenant", Principal{Kind: Operator}, ".... .... .... .... .... .... .... .... .... .... ...."},
		{"client", client(t, all...), ".tcp .tcp .... .... .... .... .... .tcp .tcp .tcp ...."},
		{"client without a tenant", with(client(t, "roles:assign:sales"), func(p *Principal) { p.Tenant = "" }), ".... .... .... .... .... .... .... .... .... .... ...."},
		{"client without an id", with(client(t, "roles:assign:sales"), func(p *Principal) { p.ID = "" }), ".... .... .... .... .... .... .... .... .... .... ...."},
		{"client with permissions", with(client(t, all...), func(p *Principal) { p.Permissions, p.Level = global.Permissions, MFA }), ".tcp .tcp .... .... .... .... .... .tcp .tcp .tcp ...."},
		{"client that may give sales", client(t, "roles:assign:SALES"), "gtcp .tcp .... .... .... .... .... .tcp .tcp .tcp ...."},
		{"client that may give a role by its id", client(t, "roles:assign:r-finance"), ".tcp gtcp .... .... .... .... .... .tcp .tcp .tcp ...."},
		{"client that names administrative roles", client(t, "roles:assign:auditor", "roles:assign:"+GlobalAdministrator, "roles:assign:empty", "roles:assign:disguised", "roles:assign:like"),
			".tcp .tcp .... .... .... .... .... .tcp .tcp .tcp ...."},
		{"user without roles", userWith(), ".tcp .tcp .... .... .... .... .... .tcp .tcp .tcp ...."},
		{"User Administrator", user, "gtcp gtcp .... .... .... .... .... gtcp gtcp gtcp ...."},
		{"User Administrator after the password", with(user, func(p *Principal) { p.Level = Password }), ".... .... .... .... .... .... .... .... .... .... ...."},
		{"User Administrator without an id", with(user, func(p *Principal) { p.ID = "" }), ".... .... .... .... .... .... .... .... .... .... ...."},
		{"User Administrator without a tenant", with(user, func(p *Principal) { p.Tenant = "" }), ".... .... .... .... .... .... .... .... .... .... ...."},
		{"User Administrator with scopes", with(user, func(p *Principal) { p.Scopes = client(t, "roles:assign:sales").Scopes; p.Permissions = 0 }), ".tcp .tcp .... .... .... .... .... .tcp .tcp .tcp ...."},
		{"Privileged Role Administrator", userWith(BuiltInRole(PrivilegedRoleAdministrator)), "gtcp gtcp gtcp .... gtcp gtcp .... gtcp gtcp gtcp ...."},
		{"Global Administrator", userWith(global), "gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp gtcp"},
		{"Global Administrator after the password", with(userWith(global), func(p *Principal) { p.Level = Password }), ".... .... .... .... .... .... .... .... .... .... ...."},
	} {
		var row []string
		for _, r := range roles {
			cell := ""
			for _, do := range []struct {
				sign   string
				effect Subject
			}{
				{"g", Subject{After: []*Role{r}}},
				{"t", Subject{Before: []*Role{r}}},
				{"c", Subject{Before: []*Role{r}, After: []*Role{r}, Changes: AspectEmail}},
				{"p", Subject{Before: []*Role{r}, After: []*Role{r}, Changes: AspectProfile}},
			} {
				if (Effect{Subjects: []Subject{do.effect}}).Permitted(test.by) == nil {
					cell += do.sign
				} else {
					cell += "."
				}
			}
			row = append(row, cell)
		}
		// What only clients are kept from is not what holding a role protects from.
		want := test.want
		if test.by.Kind == User && known(test.by) {
			want = strings.ReplaceAll(want, "....", "...p")
		}
		if got := strings.Join(row, " "); got != want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, want)
		}
	}
}

// TestPermittedAspects: each aspect of somebody with a role that the principal may
// not manage is protected by itself, whatever else the effect has.
func TestPermittedAspects(t *testing.T) {
	by := userWith(BuiltInRole(UserAdministrator))
	for i, name := range aspectNames {
		a := Aspects(1 << i)
		s := Subject{Before: []*Role{sales, auditor}, After: []*Role{auditor, sales}, Changes: a}
		err := Effect{Subjects: []Subject{{Changes: a}, s}}.Permitted(by)
		if (err == nil) != (a == AspectProfile) {
			t.Errorf("%s of an auditor: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%s of an auditor: %v does not say so", name, err)
		}
		if err := (Effect{Subjects: []Subject{s}}).Permitted(client(t, "users")); err == nil {
			t.Errorf("%s of an auditor by a client: permitted", name)
		}
		if err := (Effect{Subjects: []Subject{{Before: []*Role{sales}, After: []*Role{sales}, Changes: a}}}).Permitted(by); err != nil {
			t.Errorf("%s of somebody with a business role: %v", name, err)
		}
	}
	// Nothing of somebody protected changes: whoever asks may.
	same := Subject{Before: []*Role{global}, After: []*Role{global}}
	if err := (Effect{Subjects: []Subject{same}}).Permitted(client(t)); err != nil {
		t.Errorf("an effect that is none: %v", err)
	}
	if err := (Effect{}).Permitted(Principal{}); err == nil {
		t.Error("an effect that is none by nobody: permitted")
	}
	// A role that is kept is neither gained nor lost.
	kept := Subject{Before: []*Role{finance}, After: []*Role{{ID: finance.ID}, sales}}
	if err := (Effect{Subjects: []Subject{kept}}).Permitted(client(t, "roles:assign:sales")); err != nil {
		t.Errorf("sales beside finance by a client that may give sales: %v", err)
	}
}

// TestPermittedRoles: who may make, change and remove roles. A row says of the
// principal: b make, alter and remove business roles; a an administrative role of
// permissions that it has; m add a permission that it does not have; k keep one that
// it does not have; l take one away; d delete such a role; g change Global
// Administrator.
func TestPermittedRoles(t *testing.T) {
	custom := func(list ...Permission) *Role {
		return &Role{ID: "r-custom", Value: "custom", Administrative: true, Permissions: NewPermissions(list...)}
	}
	for _, test := range []struct {
		name string
		by   Principal
		want string
	}{
		{"nobody", Principal{}, "......."},
		{"operator", Principal{Kind: Operator, Tenant: "t"}, "bamkldg"},
		{"client", client(t, "roles", "roles:assign:custom"), "b......"},
		{"client with permissions", with(client(t, "roles"), func(p *Principal) { p.Permissions = global.Permissions }), "b......"},
		{"User Administrator", userWith(BuiltInRole(UserAdministrator)), "b......"},
		{"Privileged Role Administrator", userWith(BuiltInRole(PrivilegedRoleAdministrator)), "ba.kld."},
		{"Global Administrator", userWith(global), "bamkldg"},
		{"Global Administrator after the password", with(userWith(global), func(p *Principal) { p.Level = Password }), "......."},
	} {
		got := ""
		for _, do := range []struct {
			sign    string
			changes []RoleChange
		}{
			{"b", []RoleChange{{After: sales}, {Before: sales, After: sales}, {Before: sales}}},
			{"a", []RoleChange{{After: custom(PermissionRolesRead)}}},
			{"m", []RoleChange{{Before: custom(PermissionRolesRead), After: custom(PermissionRolesRead, PermissionAuditRead)}}},
			{"k", []RoleChange{{Before: custom(PermissionAuditRead), After: custom(PermissionAuditRead)}}},
			{"l", []RoleChange{{Before: custom(PermissionAuditRead, PermissionRolesRead), After: custom(PermissionRolesRead)}}},
			{"d", []RoleChange{{Before: custom(PermissionAuditRead)}}},
			{"g", []RoleChange{{Before: global, After: global}}},
		} {
			permitted := true
			for _, c := range do.changes {
				permitted = permitted && Effect{Roles: []RoleChange{c}}.Permitted(test.by) == nil
			}
			if permitted {
				got += do.sign
			} else {
				got += "."
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	// A business role that becomes an administrative one is one.
	if err := (Effect{Roles: []RoleChange{{Before: sales, After: custom(PermissionRolesRead)}}}).Permitted(client(t, "roles")); err == nil {
		t.Error("a client makes a business role an administrative one")
	}
}

// TestDeniedSaysNoValue: what is refused names no subject, role or value.
func TestDeniedSaysNoValue(t *testing.T) {
	secret := &Role{ID: "r-canary", Value: "canary", Display: "canary", Administrative: true, Permissions: 2}
	for _, e := range []Effect{
		{Subjects: []Subject{{After: []*Role{secret}}}},
		{Subjects: []Subject{{Before: []*Role{secret}}}},
		{Subjects: []Subject{{Before: []*Role{secret}, After: []*Role{secret}, Changes: AspectEmail}}},
		{Roles: []RoleChange{{After: secret}}},
	} {
		err := e.Permitted(client(t, "users", "roles"))
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("Permitted = %v", err)
		}
	}
}

// TestAdministrative: giving, taking and changing administrative roles, and making or
// removing who holds one, asks for a fresh passcode; nothing else does.
func TestAdministrative(t *testing.T) {
	business, admin, other := &Role{ID: "r-business"}, &Role{ID: "r-admin", Administrative: true}, &Role{ID: "r-other", Administrative: true}
	list := func(r ...*Role) []*Role { return r }
	for _, test := range []struct {
		name   string
		effect Effect
		want   bool
	}{
		{"nothing", Effect{}, false},
		{"given", Effect{Subjects: []Subject{{After: list(admin)}}}, true},
		{"taken", Effect{Subjects: []Subject{{Before: list(admin)}}}, true},
		{"one more", Effect{Subjects: []Subject{{Before: list(admin), After: list(admin, other)}}}, true},
		{"one less", Effect{Subjects: []Subject{{Before: list(admin, other), After: list(admin)}}}, true},
		{"held as before", Effect{Subjects: []Subject{{Before: list(admin), After: list(admin)}}}, false},
		{"held otherwise", Effect{Subjects: []Subject{{Before: list(admin), After: list(admin), Changes: AspectRoles}}}, true},
		{"who holds it comes or goes", Effect{Subjects: []Subject{{Before: list(admin), After: list(admin), Changes: AspectExistence}}}, true},
		{"who holds it gets another address", Effect{Subjects: []Subject{{Before: list(admin), After: list(admin), Changes: AspectEmail | AspectCredentials}}}, false},
		{"a business role given", Effect{Subjects: []Subject{{After: list(business)}}}, false},
		{"a business role taken", Effect{Subjects: []Subject{{Before: list(business)}}}, false},
		{"a business role held otherwise", Effect{Subjects: []Subject{{Before: list(business), After: list(business), Changes: AspectRoles | AspectExistence}}}, false},
		{"the second of two", Effect{Subjects: []Subject{{After: list(business)}, {After: list(admin)}}}, true},
		{"a role made", Effect{Roles: []RoleChange{{After: admin}}}, true},
		{"a role removed", Effect{Roles: []RoleChange{{Before: admin}}}, true},
		{"a role changed", Effect{Roles: []RoleChange{{Before: admin, After: admin}}}, true},
		{"a business role made", Effect{Roles: []RoleChange{{After: business}}}, false},
		{"a business role removed", Effect{Roles: []RoleChange{{Before: business}}}, false},
		{"a business role becomes administrative", Effect{Roles: []RoleChange{{Before: business, After: admin}}}, true},
	} {
		if got := test.effect.Administrative(); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}

// TestPermittedContents: who may put a role into another. It takes what giving the role
// would take, and nobody puts in an administrative one.
func TestPermittedContents(t *testing.T) {
	sales, crew := &Role{ID: "r-sales", Value: "sales"}, &Role{ID: "r-crew", Value: "crew"}
	custom := &Role{ID: "r-custom", Value: "custom", Administrative: true, Permissions: NewPermissions(PermissionAuditRead)}
	silent := &Role{ID: "r-silent", Value: "silent", Permissions: NewPermissions(PermissionAuditRead)}
	for _, test := range []struct {
		name string
		by   Principal
		want string // b a business role into a business role, a into an administrative one; x others
	}{
		{"nobody", Principal{}, ".."},
		{"operator", Principal{Kind: Operator, Tenant: "t"}, "ba"},
		{"client", client(t, "roles"), ".."},
		{"client that names another", client(t, "roles", "roles:assign:crew", "roles:assign:custom"), ".."},
		{"client that names it", client(t, "roles", "roles:assign:sales", "roles:assign:custom"), "b."},
		{"User Administrator", userWith(BuiltInRole(UserAdministrator)), "b."},
		{"Groups Administrator", userWith(BuiltInRole(GroupsAdministrator)), ".."},
		{"Privileged Role Administrator", userWith(BuiltInRole(PrivilegedRoleAdministrator)), "ba"},
		{"Global Administrator", userWith(BuiltInRole(GlobalAdministrator)), "ba"},
	} {
		got := ""
		for _, into := range []struct {
			sign string
			role *Role
		}{{"b", crew}, {"a", custom}} {
			change := func(r *Role) Effect {
				return Effect{Roles: []RoleChange{{Before: into.role, After: into.role, Gives: []*Role{r}}}}
			}
			if change(sales).Permitted(test.by) == nil {
				got += into.sign
			} else {
				got += "."
			}
			for _, r := range []*Role{custom, silent, BuiltInRole(GlobalAdministrator), BuiltInRole(Auditor)} {
				if e := change(r); e.Permitted(test.by) == nil {
					t.Errorf("%s puts %s into %s", test.name, r.Value, into.role.Value)
				} else if !e.Administrative() {
					t.Errorf("%s in %s is no administrative effect", r.Value, into.role.Value)
				}
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if (Effect{Roles: []RoleChange{{Before: crew, After: crew, Gives: []*Role{sales}}}}).Administrative() {
		t.Error("a business role in a business role is an administrative effect")
	}
}
