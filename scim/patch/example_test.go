package patch_test

import (
	"fmt"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
)

// A request as Entra sends it, on a user that has no work address yet.
func ExampleApply() {
	set, err := schemas.Load()
	if err != nil {
		fmt.Println(err)
		return
	}
	user := set.Type("User")
	stored, err := user.Parse([]byte(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],
		"id":"2819c223","userName":"ana@example.com","active":true}`))
	if err != nil {
		fmt.Println(err)
		return
	}

	body, err := schemas.Decode([]byte(`{
		"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
		"Operations": [
			{"op": "Replace", "path": "active", "value": "False"},
			{"op": "Add", "path": "emails[type eq \"work\"].value", "value": "ana@example.com"}
		]}`), schemas.Limits{Depth: 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	ops, err := patch.Decode(body, patch.DefaultLimits, schemas.Lenient)
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := patch.Apply(user, stored, ops, schemas.Lenient)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", user.Document(result.Attributes))

	_, err = patch.Apply(user, stored, ops, schemas.Strict)
	fmt.Println(err)
	// Output:
	// {"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"id":"2819c223","userName":"ana@example.com","active":false,"emails":[{"value":"ana@example.com","type":"work"}]}
	// Operations[0]: active: expected a boolean
}
