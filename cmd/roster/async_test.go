package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/roster-id/roster/scim"
)

// TestAsyncRestart: a bulk request that was accepted is done by the server that comes
// after the one that took it.
func TestAsyncRestart(t *testing.T) {
	t.Parallel()
	const users = 12 // with passwords, so that it takes longer than the server lives
	store := t.TempDir()
	s := serveStore(t, store, "--shutdown-delay", "0s")
	token := rosterToken(t, "client", "create", "--store", store, "--name", "hr", "--scopes", "users")
	operations := make([]string, users)
	for i := range operations {
		operations[i] = fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"b%d","data":{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"late-%d","password":"a long password"}}`, i, i)
	}
	body := fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, scim.BulkRequestURI, strings.Join(operations, ","))
	res, _, err := s.do("POST", "/Bulk", token, body, "Prefer", "respond-async")
	if err != nil || res.StatusCode != 202 {
		t.Fatal(res, err)
	}
	path := "/Bulk/" + res.Header.Get("Set-Txn")
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s = serveStore(t, store)
	first := true
	err = eventually(func() error {
		res, got, err := s.do("GET", path, token, "")
		switch {
		case err != nil:
			return err
		case res.StatusCode == 202:
			first = false
			return errors.New("it is not done")
		case res.StatusCode != 200 || strings.Count(got, `{"status":"201"`) != users:
			t.Fatalf("%s %s", res.Status, got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if first {
		t.Log("it was done before the server was asked for it")
	}
	if _, got, err := s.do("GET", `/Users?count=0`, token, ""); err != nil || !strings.Contains(got, fmt.Sprintf(`"totalResults":%d`, users)) {
		t.Errorf("%s, %v", got, err)
	}
}
