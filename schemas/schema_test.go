package schemas_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/roster-id/roster/schemas"
)

const (
	userURI       = schemas.UserURI
	enterpriseURI = schemas.EnterpriseUserURI
)

func TestLookup(t *testing.T) {
	for _, c := range []struct{ path, want string }{ // want is the path of the result, empty for nil
		{"userName", "userName"},
		{"USERNAME", "userName"},
		{"id", "id"},
		{"externalid", "externalId"},
		{"schemas", "schemas"},
		{"meta.lastmodified", "meta.lastModified"},
		{"name", "name"},
		{"name.givenName", "name.givenName"},
		{"NAME.GIVENNAME", "name.givenName"},
		{"emails.value", "emails.value"},
		{"groups.$ref", "groups.$ref"},
		{"groups.$REF", "groups.$ref"},

		// After a schema URN, in any case.
		{userURI + ":userName", "userName"},
		{userURI + ":name.familyName", "name.familyName"},
		{strings.ToUpper(userURI) + ":EMAILS.TYPE", "emails.type"},
		{userURI + ":id", "id"},
		{enterpriseURI, enterpriseURI},
		{strings.ToUpper(enterpriseURI), enterpriseURI},
		{enterpriseURI + ":department", enterpriseURI + ":department"},
		{enterpriseURI + ".department", enterpriseURI + ":department"},
		{userURI + ".name.givenName", "name.givenName"},
		{enterpriseURI + ".manager.value", enterpriseURI + ":manager.value"},
		{strings.ToLower(enterpriseURI) + ":Manager.DisplayName", enterpriseURI + ":manager.displayName"},

		// The bare name of an extension attribute, as Entra writes it.
		{"manager", enterpriseURI + ":manager"},
		{"Manager.Value", enterpriseURI + ":manager.value"},
		{"employeenumber", enterpriseURI + ":employeeNumber"},

		// The core URN stands for no attribute.
		{userURI, ""},
		{userURI + ":", ""},
		{userURI + ":" + enterpriseURI, ""},
		{userURI + ":manager", ""},
		{enterpriseURI + ":userName", ""},
		{enterpriseURI + ":", ""},
		{enterpriseURI + ".", ""},
		{enterpriseURI + "x:department", ""},
		{"urn:ietf:params:scim:schemas:core:2.0:Group:displayName", ""},
		{"urn:", ""},
		{":", ""},
		{"", ""},
		{".", ""},
		{"name.", ""},
		{".name", ""},
		{"name.nosuch", ""},
		{"name.givenName.value", ""},
		{"userName.value", ""},
		{"nosuch", ""},
		{"nosuch.value", ""},
		{"emails[0]", ""},
		{"__proto__", ""},
		{"\u212aey", ""},
		{"phone\u017fumbers", ""},
		{"\xff", ""},
	} {
		got := ""
		if a := userType(t).Lookup(c.path); a != nil {
			got = a.Path
		}
		if got != c.want {
			t.Errorf("Lookup(%q) = %q, want %q", c.path, got, c.want)
		}
	}
}

// URNs contain colons and dots; of two that fit, the longer one is meant. A
// schema need not have a URN: Microsoft's have addresses.
func TestLookupPrefersTheLongestURI(t *testing.T) {
	rt := customType(t,
		`{"id":"urn:example:Thing","attributes":[{"name":"a"},{"name":"shared"}]}`,
		`{"id":"urn:example:Thing:1.0","attributes":[{"name":"b"},{"name":"shared"},{"name":"twice"}]}`,
		`{"id":"urn:example:Thing:1.0:more","attributes":[{"name":"c"},{"name":"twice"}]}`,
		`{"id":"http://example.com/2006/Thing/2.0","attributes":[{"name":"d"}]}`,
		`{"id":"urn:example:More","attributes":[{"name":"e"}]}`)
	for _, c := range []struct{ path, want string }{
		{"urn:example:Thing:a", "a"},
		{"urn:example:Thing:1.0", "urn:example:Thing:1.0"},
		{"urn:example:Thing:1.0:b", "urn:example:Thing:1.0:b"},
		{"urn:example:thing:1.0:more", "urn:example:Thing:1.0:more"},
		{"urn:example:thing:1.0:more:c", "urn:example:Thing:1.0:more:c"},
		{"http://example.com/2006/Thing/2.0:d", "http://example.com/2006/Thing/2.0:d"},
		{"HTTP://example.com/2006/Thing/2.0", "http://example.com/2006/Thing/2.0"},
		{"http://example.com/2006/Thing/3.0", ""},
		{"urn:example:More:e", "urn:example:More:e"},
		{"urn:example:Thing:urn:example:More", ""}, // an extension is no attribute of the core schema
		{"shared", "shared"}, // the core attribute hides the extension's
		{"urn:example:Thing:1.0:shared", "urn:example:Thing:1.0:shared"},
		{"twice", "urn:example:Thing:1.0:twice"}, // the first extension that has it
	} {
		got := ""
		if a := rt.Lookup(c.path); a != nil {
			got = a.Path
		}
		if got != c.want {
			t.Errorf("Lookup(%q) = %q, want %q", c.path, got, c.want)
		}
	}
}

// Every attribute is found by its path, and by its path in capitals.
func TestPathsLeadBack(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range set.Types() {
		n := 0
		var walk func(a *schemas.Attribute)
		walk = func(a *schemas.Attribute) {
			n++
			if got := rt.Lookup(a.Path); got != a {
				t.Errorf("%s: Lookup(%q) = %v", rt.Name, a.Path, got)
			}
			if got := rt.Lookup(strings.ToUpper(a.String())); got != a {
				t.Errorf("%s: Lookup(%q) = %v", rt.Name, strings.ToUpper(a.Path), got)
			}
			for _, s := range a.SubAttributes {
				if s.Parent != a || s.Top() != a.Top() {
					t.Errorf("%s: %s has another parent", rt.Name, s.Path)
				}
				walk(s)
			}
		}
		for _, a := range rt.Attributes() {
			if a.Parent != nil || a.Top() != a || rt.Top(a.Name) != a {
				t.Errorf("%s: %s is not at the top", rt.Name, a.Path)
			}
			walk(a)
		}
		if n < 10 {
			t.Errorf("%s has %d attributes", rt.Name, n)
		}
	}
}

func TestAttributesAreInTheOrderOfAResource(t *testing.T) {
	set, _ := schemas.Load()
	for _, c := range []struct{ name, want string }{
		{"User", "schemas id externalId userName name displayName nickName profileUrl title userType preferredLanguage locale timezone " +
			"active password emails phoneNumbers ims photos addresses groups entitlements roles x509Certificates " + enterpriseURI + " " + schemas.RosterUserURI + " meta"},
		{"Group", "schemas id externalId displayName members meta"},
	} {
		var names []string
		for _, a := range set.Type(c.name).Attributes() {
			names = append(names, a.Name)
		}
		if diff := cmp.Diff(strings.Fields(c.want), names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// The common attributes of RFC 7643 §3.1 belong to no schema.
func TestCommonAttributes(t *testing.T) {
	for _, c := range []struct {
		path       string
		typ        schemas.Type
		mutability schemas.Mutability
		returned   schemas.Returned
		uniqueness schemas.Uniqueness
		exact      bool
	}{
		{"schemas", schemas.Reference, schemas.ReadWrite, schemas.ReturnedAlways, schemas.UniquenessNone, false}, // URIs of schemas have no case (§2.1)
		{"id", schemas.String, schemas.ReadOnly, schemas.ReturnedAlways, schemas.UniquenessServer, true},
		{"externalId", schemas.String, schemas.ReadWrite, schemas.ReturnedDefault, schemas.UniquenessNone, true},
		{"meta", schemas.Complex, schemas.ReadOnly, schemas.ReturnedDefault, schemas.UniquenessNone, true},
		{"meta.resourceType", schemas.String, schemas.ReadOnly, schemas.ReturnedDefault, schemas.UniquenessNone, true},
		{"meta.created", schemas.DateTime, schemas.ReadOnly, schemas.ReturnedDefault, schemas.UniquenessNone, true},
		{"meta.lastModified", schemas.DateTime, schemas.ReadOnly, schemas.ReturnedDefault, schemas.UniquenessNone, true},
		{"meta.location", schemas.Reference, schemas.ReadOnly, schemas.ReturnedDefault, schemas.UniquenessNone, true},
		{"meta.version", schemas.String, schemas.ReadOnly, schemas.ReturnedDefault, schemas.UniquenessNone, true},
	} {
		a := userType(t).Lookup(c.path)
		if a.Type != c.typ || a.Mutability != c.mutability || a.Returned != c.returned || a.Uniqueness != c.uniqueness || a.CaseExact != c.exact {
			t.Errorf("%s is %v %v %v %v exact=%v", a.Path, a.Type, a.Mutability, a.Returned, a.Uniqueness, a.CaseExact)
		}
	}
}

func TestReadable(t *testing.T) {
	rt := customType(t, `{"id":"urn:example:X","attributes":[
		{"name":"open"},
		{"name":"never","returned":"never"},
		{"name":"writeOnly","mutability":"writeOnly"},
		{"name":"box","type":"complex","returned":"never","subAttributes":[{"name":"open"}]},
		{"name":"mixed","type":"complex","subAttributes":[{"name":"open"},{"name":"never","returned":"never"},{"name":"asked","returned":"request"}]}]}`)
	for _, c := range []struct {
		path string
		want bool
	}{
		{"open", true}, {"never", false}, {"writeOnly", false}, {"box", false}, {"box.open", false},
		{"mixed", true}, {"mixed.open", true}, {"mixed.never", false}, {"mixed.asked", true},
	} {
		if got := rt.Lookup(c.path).Readable(); got != c.want {
			t.Errorf("%s: Readable() = %v, want %v", c.path, got, c.want)
		}
	}
	if userType(t).Top("password").Readable() {
		t.Error("a password can be read")
	}
}

// A comparison with a complex attribute is one with its value.
func TestLeaf(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"userName", "userName"}, {"emails", "emails.value"}, {"manager", enterpriseURI + ":manager.value"}, {"name", ""}, {"addresses", ""},
	} {
		got := ""
		if a := userType(t).Lookup(c.path).Leaf(); a != nil {
			got = a.Path
		}
		if got != c.want {
			t.Errorf("%s: Leaf() = %q, want %q", c.path, got, c.want)
		}
	}
}

// Only lists of members and groups are kept as rows.
func TestDetached(t *testing.T) {
	set, _ := schemas.Load()
	for _, rt := range set.Types() {
		for _, a := range rt.Attributes() {
			want := rt.Name == "User" && a.Name == "groups" || rt.Name == "Group" && a.Name == "members"
			if a.Detached != want {
				t.Errorf("%s.%s: Detached = %v", rt.Name, a.Name, a.Detached)
			}
		}
	}
	if customType(t, `{"id":"urn:example:X","attributes":[{"name":"members"}]}`).Top("members").Detached {
		t.Error("a string called members is detached")
	}
}

func TestSet(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	var types, uris []string
	for _, rt := range set.Types() {
		types = append(types, rt.Name+" "+rt.Endpoint)
	}
	for _, s := range set.Schemas() {
		uris = append(uris, s.ID)
	}
	if diff := cmp.Diff([]string{"User /Users", "Group /Groups", "Role /Roles", "RoleAssignment /RoleAssignments", "GroupMembership /GroupMemberships", "Invitation /Invitations", "Entitlement /Entitlements"}, types); diff != "" {
		t.Errorf("Types (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{schemas.EntitlementURI, schemas.GroupURI, schemas.GroupMembershipURI, schemas.RoleURI, userURI, enterpriseURI, schemas.RosterEntitlementURI, schemas.InvitationURI, schemas.RosterRoleURI, schemas.RoleAssignmentURI, schemas.RosterUserURI}, uris); diff != "" {
		t.Errorf("Schemas (-want +got):\n%s", diff)
	}
	if set.Type("User") == nil || set.Type("user") != nil || set.Type("") != nil {
		t.Error("Type wants the exact name")
	}
	if s := set.Schema(strings.ToUpper(userURI)); s == nil || s.ID != userURI {
		t.Error("Schema compares URIs without regard to case")
	}
	if set.Schema("urn:example:X") != nil {
		t.Error("Schema finds a schema nobody has")
	}
	// A schema behind two types is listed once.
	user := set.Type("User")
	if got := schemas.NewSet(user, user).Schemas(); len(got) != 3 {
		t.Errorf("%d schemas behind one type given twice", len(got))
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{schemas.Complex.String(), "complex"}, {schemas.DateTime.String(), "dateTime"},
		{schemas.WriteOnly.String(), "writeOnly"}, {schemas.ReturnedRequest.String(), "request"},
		{schemas.UniquenessGlobal.String(), "global"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
