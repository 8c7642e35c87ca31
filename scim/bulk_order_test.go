package scim_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestBulkCircleThenChange: what is linked in the end takes nothing back that the same
// request has changed meanwhile.
func TestBulkCircleThenChange(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	a, r := bulk(t, s, s.Token, managed("a", "b"), managed("b", "a"), block("a"), block("b"))
	blocked(t, s, a, r, 0, 1)
}

// managed creates a user whose manager is another one of the same request.
func managed(id, manager string) string {
	return fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":%q,"data":{"schemas":[%q,%q],"userName":"circle-%s","active":true,%q:{"manager":{"value":"bulkId:%s"}}}}`,
		id, schemas.UserURI, schemas.EnterpriseUserURI, id, schemas.EnterpriseUserURI, manager)
}

func block(id string) string {
	return fmt.Sprintf(`{"method":"PATCH","path":"/Users/bulkId:%s","data":{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"active","value":false}]}}`, id)
}

// blocked holds the users that operations created against what the whole request says.
func blocked(t *testing.T, s *testserver.Server, a bulkAnswer, r testserver.Response, created ...int) {
	t.Helper()
	for i, o := range a.Operations {
		if o.Status[0] != '2' {
			t.Fatalf("operation %d: %s", i, r.Body)
		}
	}
	for _, i := range created {
		o := a.Operations[i]
		var u struct {
			Active  bool
			Manager struct{ Manager struct{ Value string } } `json:"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`
		}
		if err := json.Unmarshal([]byte(s.Do(t, "GET", strings.TrimPrefix(o.Location, s.URL), "").Body), &u); err != nil {
			t.Fatal(err)
		}
		if u.Active || u.Manager.Manager.Value == "" {
			t.Errorf("%s: active %t, manager %q", o.BulkID, u.Active, u.Manager.Manager.Value)
		}
	}
}

// TestBulkChangeBeforeCircle: the same where the change stands before what it changes.
func TestBulkChangeBeforeCircle(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	a, r := bulk(t, s, s.Token, block("a"), managed("a", "b"), managed("b", "a"), block("b"))
	blocked(t, s, a, r, 1, 2)
}

// TestBulkCircleErrors: what could not be linked is an error that failOnErrors counts.
func TestBulkCircleErrors(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	group := func(id, member string) string {
		return fmt.Sprintf(`{"method":"POST","path":"/Groups","bulkId":%q,"data":{"schemas":[%q],"displayName":"circle-%s","members":[{"value":"bulkId:%s"}]}}`, id, schemas.GroupURI, id, member)
	}
	r := s.Do(t, "POST", "/Bulk", fmt.Sprintf(`{"schemas":[%q],"failOnErrors":1,"Operations":[%s,%s,%s]}`, scim.BulkRequestURI, group("a", "b"), group("b", "a"), createOperation(0)))
	var a bulkAnswer
	if err := json.Unmarshal([]byte(r.Body), &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Operations) != 2 || a.Operations[0].Status != "201" || a.Operations[1].Status != "409" {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}

// TestBulkPasswords: more passwords than may wait to be hashed are none too many.
func TestBulkPasswords(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Hasher: auth.NewHasher()})
	operations := make([]string, 64)
	for i := range operations {
		operations[i] = fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"p%d","data":{"schemas":[%q],"userName":"pushed-%d","password":"correct horse battery staple"}}`, i, schemas.UserURI, i)
	}
	a, _ := bulk(t, s, s.Token, operations...)
	for i, o := range a.Operations {
		if o.Status != "201" {
			t.Fatalf("operation %d: %+v", i, o)
		}
	}
}
