package scim_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

type bulkAnswer struct {
	Operations []struct {
		Status, Location, BulkID, Version string
		Response                          struct{ ScimType, Detail string }
	}
}

func bulk(t *testing.T, s *testserver.Server, token string, operations ...string) (bulkAnswer, testserver.Response) {
	t.Helper()
	r := s.Do(t, "POST", "/Bulk", fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, scim.BulkRequestURI, strings.Join(operations, ",")), "Authorization", "Bearer "+token)
	var a bulkAnswer
	if err := json.Unmarshal([]byte(r.Body), &a); err != nil {
		t.Fatal(err)
	}
	return a, r
}

func createOperation(i int) string {
	return fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"b%d","data":{"schemas":[%q],"userName":"bulk-%d"}}`, i, schemas.UserURI, i)
}

// countingCommits starts a server and returns how often its store has committed.
func countingCommits(t *testing.T) (*testserver.Server, *atomic.Int64) {
	t.Helper()
	commits := new(atomic.Int64)
	return testserver.Start(t, testserver.Options{Open: func(t testing.TB) storage.Store {
		store, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{QueryTimeout: time.Minute, OnCommit: func(int, time.Duration) { commits.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}}), commits
}

// TestBulkSharesCommits: a thousand creates of one request share commits, and each is
// there afterwards.
func TestBulkSharesCommits(t *testing.T) {
	t.Parallel()
	s, commits := countingCommits(t)
	operations := make([]string, scim.MaxBulkOperations)
	for i := range operations {
		operations[i] = createOperation(i)
	}
	before := commits.Load()
	a, r := bulk(t, s, s.Token, operations...)
	if r.Status != 200 || len(a.Operations) != len(operations) {
		t.Fatalf("%d with %d operations", r.Status, len(a.Operations))
	}
	for i, o := range a.Operations {
		if o.Status != "201" || o.BulkID != fmt.Sprint("b", i) || o.Location == "" {
			t.Fatalf("operation %d: %+v", i, o)
		}
	}
	n := int(commits.Load() - before)
	t.Logf("%d creates in %d commits", len(operations), n)
	if n > len(operations)/4 {
		t.Errorf("%d creates took %d commits", len(operations), n)
	}
	var list struct{ TotalResults int }
	if err := json.Unmarshal([]byte(s.Do(t, "GET", "/Users?count=0", "").Body), &list); err != nil || list.TotalResults != len(operations) {
		t.Errorf("there are %d users, %v", list.TotalResults, err)
	}
}

// TestBulkLimits: what discovery promises is taken, and no more.
func TestBulkLimits(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	var config struct {
		Bulk struct {
			Supported                     bool
			MaxOperations, MaxPayloadSize int
		}
	}
	if err := json.Unmarshal([]byte(s.Do(t, "GET", "/ServiceProviderConfig", "").Body), &config); err != nil || !config.Bulk.Supported {
		t.Fatalf("%+v, %v", config, err)
	}
	for n, want := range map[int]int{config.Bulk.MaxOperations: 200, config.Bulk.MaxOperations + 1: 413} {
		operations := make([]string, n)
		for i := range operations {
			operations[i] = `{"method":"DELETE","path":"/Users/none"}`
		}
		if _, r := bulk(t, s, s.Token, operations...); r.Status != want {
			t.Errorf("%d operations: %d, want %d", n, r.Status, want)
		}
	}
	for size, want := range map[int]int{config.Bulk.MaxPayloadSize: 200, config.Bulk.MaxPayloadSize + 1: 413} {
		text := fmt.Sprintf(`{"schemas":[%q],"Operations":[]}`, scim.BulkRequestURI)
		if r := s.Do(t, "POST", "/Bulk", text+strings.Repeat(" ", size-len(text))); r.Status != want || want == 413 && !strings.Contains(r.Body, strconv.Itoa(config.Bulk.MaxPayloadSize)) {
			t.Errorf("%d bytes: %d %s, want %d with the limit", size, r.Status, r.Body, want)
		}
	}
}

// TestBulkAsksForEach: each operation needs what it would need alone, with the state that
// it finds.
func TestBulkAsksForEach(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.Start(t, testserver.Options{Open: open})
			group := s.Group(t, "Crew", "", nil)
			users := s.Client(t, "users only", "", "users", "groups:read")
			a, _ := bulk(t, s, users, createOperation(1),
				fmt.Sprintf(`{"method":"PATCH","path":"/Groups/%s","data":[{"op":"add","path":"members","value":[{"value":"bulkId:b1"}]}]}`, group),
				fmt.Sprintf(`{"method":"POST","path":"/Groups","bulkId":"g","data":{"schemas":[%q],"displayName":"x"}}`, schemas.GroupURI),
				fmt.Sprintf(`{"method":"DELETE","path":"/Groups/%s"}`, group),
				`{"method":"DELETE","path":"/Users/bulkId:b1"}`,
				`{"method":"DELETE","path":"/Users/bulkId:b1"}`)
			var got []string
			for _, o := range a.Operations {
				got = append(got, o.Status)
			}
			if want := "201 403 403 403 204 404"; strings.Join(got, " ") != want {
				t.Errorf("%v, want %s", got, want)
			}
			readers := s.Client(t, "reads", "", "users:read")
			if a, r := bulk(t, s, readers, createOperation(2)); r.Status != 200 || a.Operations[0].Status != "403" {
				t.Errorf("%d %s", r.Status, r.Body)
			}
		})
	}
}

// TestBulkStrict: the strict profile takes the RFC at its word.
func TestBulkStrict(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	strict := s.Client(t, "strict one", "strict", "users")
	without := strings.Replace(createOperation(1), `"bulkId":"b1",`, "", 1)
	if a, _ := bulk(t, s, strict, without); a.Operations[0].Status != "400" {
		t.Errorf("a POST without bulkId: %+v", a.Operations[0])
	}
	if a, _ := bulk(t, s, s.Token, without); a.Operations[0].Status != "201" {
		t.Errorf("a POST without bulkId, leniently: %+v", a.Operations[0])
	}
}

// TestBulkReferences: a bulkId stands wherever an id may.
func TestBulkReferences(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	post := func(path, id, schema, rest string) string {
		return fmt.Sprintf(`{"method":"POST","path":%q,"bulkId":%q,"data":{"schemas":[%q],%s}}`, path, id, schema, rest)
	}
	patch := func(path, operation string) string {
		return fmt.Sprintf(`{"method":"PATCH","path":%q,"data":[%s]}`, path, operation)
	}
	token := s.Client(t, "composer", "", "users", "groups", "roles", "memberships", "roles:assign:inner")
	a, r := bulk(t, s, token,
		post("/Roles", "in", schemas.RoleURI, `"value":"inner"`),
		post("/Roles", "out", schemas.RoleURI, `"value":"outer","contains":["bulkId:in"]`),
		post("/Roles", "out2", schemas.RoleURI, `"value":"outer2"`),
		patch("/Roles/bulkId:out2", `{"op":"add","path":"contains","value":["bulkId:in"]}`),
		post("/Users", "u", schemas.UserURI, `"userName":"u"`),
		post("/Users", "v", schemas.UserURI, `"userName":"v"`),
		post("/Groups", "g", schemas.GroupURI, `"displayName":"g","members":["bulkId:u"]`),
		post("/GroupMembers", "m", schemas.GroupMembershipURI, `"group":{"value":"bulkId:g"},"member":{"value":"bulkId:v"}`),
		`{"method":"DELETE","path":"/GroupMemberships/bulkId:m"}`,
		patch("/Users/bulkId:u", `{"op":"add","value":{"`+schemas.EnterpriseUserURI+`:manager":"bulkId:v"}}`),
		patch("/Users/bulkId:v", `{"op":"add","value":{"`+schemas.EnterpriseUserURI+`:manager.value":"bulkId:u"}}`),
		patch("/Groups/bulkId:g", `{"op":"add","path":"members","value":"bulkId:v"}`),
		patch("/Groups/bulkId:g", `{"op":"remove","path":"members","value":["bulkId:u"]}`),
	)
	for i, o := range a.Operations {
		if o.Status[0] != '2' {
			t.Errorf("operation %d: %s", i, o.Status)
		}
	}
	if t.Failed() {
		t.Log(r.Body)
	}
}
