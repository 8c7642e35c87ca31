package schemas_test

import (
	"fmt"

	"github.com/roster-id/roster/schemas"
)

func ExampleLoad() {
	set, err := schemas.Load()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range set.Types() {
		fmt.Println(t.Name, t.Endpoint, len(t.Attributes()))
	}
	user := set.Type("User")
	for _, path := range []string{"USERNAME", "emails.value", "manager", "nosuch"} {
		if a := user.Lookup(path); a != nil {
			fmt.Println(a, a.Type, a.Mutability, a.Uniqueness)
		} else {
			fmt.Println(path, "is unknown")
		}
	}
	// Output:
	// User /Users 27
	// Group /Groups 6
	// Role /Roles 12
	// RoleAssignment /RoleAssignments 12
	// GroupMembership /GroupMemberships 6
	// Invitation /Invitations 22
	// Entitlement /Entitlements 10
	// userName string readWrite server
	// emails.value string readWrite none
	// urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager complex readWrite none
	// nosuch is unknown
}

// A body becomes a tree that fits the schema, and the tree a document.
func ExampleResourceType_Bind() {
	set, err := schemas.Load()
	if err != nil {
		fmt.Println(err)
		return
	}
	user := set.Type("User")
	body := []byte(`{
		"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
		"USERNAME": "maya", "active": "True", "id": "chosen by the client",
		"emails": {"value": "maya@example.com", "type": "work"}
	}`)
	raw, err := schemas.Decode(body, schemas.Limits{Depth: 32, Tokens: 100_000})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = user.Bind(raw, schemas.Strict)
	fmt.Println(err)
	attrs, err := user.Bind(raw, schemas.Lenient)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", user.Document(attrs))
	// Output:
	// active: expected a boolean
	// {"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"maya","active":true,"emails":[{"value":"maya@example.com","type":"work"}]}
}
