package scim_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// wordy is a directory with roles and entitlements that users have.
type wordy struct {
	*testserver.Server
	t *testing.T
}

func (w wordy) create(typ, attributes string) string {
	w.t.Helper()
	r := w.Do(w.t, "POST", "/"+typ+"s", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:%s"],%s}`, typ, attributes))
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(r.Body), &made); err != nil || r.Status != 201 {
		w.t.Fatalf("%s: %d %s", attributes, r.Status, r.Body)
	}
	return made.ID
}

func (w wordy) hold(v auth.Vocabulary) {
	w.t.Helper()
	if err := w.People.PutVocabulary(w.t.Context(), operator(), v); err != nil {
		w.t.Fatal(err)
	}
}

func (w wordy) remove(status int, path string) {
	w.t.Helper()
	if r := w.Do(w.t, "DELETE", path, ""); r.Status != status {
		w.t.Errorf("DELETE %s: %d %s", path, r.Status, r.Body)
	}
}

// has returns the version of a user and the words in an attribute.
func (w wordy) has(id, attribute string) string {
	w.t.Helper()
	var u struct {
		Meta                struct{ Version string }
		Roles, Entitlements []struct{ Value string }
	}
	if err := json.Unmarshal([]byte(w.Do(w.t, "GET", "/Users/"+id, "").Body), &u); err != nil {
		w.t.Fatal(err)
	}
	list := u.Roles
	if attribute == "entitlements" {
		list = u.Entitlements
	}
	text := u.Meta.Version
	for _, e := range list {
		text += " " + e.Value
	}
	return text
}

// TestWordGone: where a tenant holds users to its roles and entitlements, one that is
// deleted is taken from everybody in the same write; where it does not, their words stay.
func TestWordGone(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	for name, open := range stores {
		for typ, attribute := range map[string]string{"Role": "roles", "Entitlement": "entitlements"} {
			t.Run(name+"/"+attribute, func(t *testing.T) {
				t.Parallel()
				w := wordy{testserver.Start(t, testserver.Options{Open: open}), t}
				endpoint := "/" + typ + "s/"
				word := func(value string) string { return w.create(typ, fmt.Sprintf(`"value":%q`, value)) }
				user := func(name string, words ...string) string {
					return w.create("User", fmt.Sprintf(`"userName":%q,%q:[{"value":"%s"}]`, name, attribute, strings.Join(words, `"},{"value":"`)))
				}
				want := func(id, want string) {
					t.Helper()
					if got := w.has(id, attribute); got != want {
						t.Errorf("%s of the user: %s, want %s", attribute, got, want)
					}
				}

				// By themselves they are words of the clients'.
				buyer, clerk := word("buyer"), word("clerk")
				ana, cy := user("ana", "BUYER", "clerk", buyer), user("cy", "clerk")
				free := `W/"1" BUYER clerk ` + buyer
				w.remove(204, endpoint+buyer)
				want(ana, free)
				w.hold(auth.Vocabulary{Roles: typ != "Role", Entitlements: typ == "Role"}) // the other one
				buyer = word("buyer")
				w.remove(204, endpoint+buyer)
				want(ana, free)

				w.hold(auth.Vocabulary{Roles: true, Entitlements: true})
				buyer = word("buyer")
				dee, eva := user("dee", buyer), user("eva", "clerk", "ＢＵＹＥＲ")
				w.remove(204, endpoint+buyer)
				want(ana, `W/"2" clerk `+strings.Fields(free)[3]) // what was gone before means nothing to the server
				want(cy, `W/"1" clerk`)
				want(dee, `W/"2"`)
				want(eva, `W/"2" clerk`)
				if found := w.Do(t, "GET", "/Users?filter="+attribute+".value+eq+%22buyer%22&count=0", ""); !strings.Contains(found.Body, `"totalResults":0`) {
					t.Errorf("a search still finds: %s", found.Body)
				}
				list, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
				if err != nil {
					t.Fatal(err)
				}
				var told []string
				for _, e := range list {
					if e.Action == "user.patch" {
						told = append(told, fmt.Sprintf("%s %v %d %s", e.ID, e.Attributes, e.Version, e.Changes[0].Path))
					}
				}
				taken := fmt.Sprintf(" [%s] 2 %[1]s", attribute)
				if diff := cmp.Diff([]string{ana + taken, dee + taken, eva + taken}, told); diff != "" {
					t.Errorf("recorded (-want +got):\n%s", diff)
				}

				if typ != "Role" {
					return
				}
				// One that more have than a write takes stays with all of them.
				var users []string
				for i := range scim.MaxHolders - 2 { // besides ana, eva and cy
					users = append(users, fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"%d","data":{"schemas":[%q],"userName":"c%d",%q:[{"value":"clerk"}]}}`, i, schemas.UserURI, i, attribute))
				}
				w.Do(t, "POST", "/Bulk", fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, scim.BulkRequestURI, strings.Join(users, ",")))
				w.remove(409, endpoint+clerk)
				want(cy, `W/"1" clerk`)
				w.remove(204, "/Users/"+ana)
				w.remove(204, endpoint+clerk)
				want(cy, `W/"2"`)
			})
		}
	}
}

// TestBulkWords: in a bulk request a role or an entitlement can be meant by its value once
// an operation before has created it, and not before.
func TestBulkWords(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := wordy{testserver.Start(t, testserver.Options{Open: open}), t}
			w.hold(auth.Vocabulary{Roles: true, Entitlements: true})
			scopes := []string{"users", "roles", "entitlements"}
			for round := range 10 {
				scopes = append(scopes, fmt.Sprint("roles:assign:deckhand", round), fmt.Sprint("roles:assign:bosun", round))
			}
			token := w.Client(t, "who may put roles into roles", "", scopes...)
			for round := range 10 {
				post := func(typ, attributes string) string {
					return strings.ReplaceAll(fmt.Sprintf(`{"method":"POST","path":"/%ss","data":{"schemas":["urn:ietf:params:scim:schemas:core:2.0:%[1]s"],%s}}`, typ, attributes), "{n}", fmt.Sprint(round))
				}
				operations := []string{
					post("User", `"userName":"early{n}","roles":[{"value":"deckhand{n}"}]`),
					post("Role", `"value":"deckhand{n}"`),
					post("Role", `"value":"bosun{n}","contains":["deckhand{n}"]`),
					post("Role", `"value":"mate{n}","contains":["bosun{n}"]`),
					post("Entitlement", `"value":"seat{n}"`),
					post("User", `"userName":"ana{n}","roles":[{"value":"mate{n}"}],"entitlements":[{"value":"seat{n}"}]`),
					post("User", `"userName":"bo{n}","roles":[{"value":"bosun{n}"}]`),
				}
				r := w.Do(t, "POST", "/Bulk", fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, scim.BulkRequestURI, strings.Join(operations, ",")), "Authorization", "Bearer "+token)
				var answer struct{ Operations []struct{ Status string } }
				if err := json.Unmarshal([]byte(r.Body), &answer); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, o := range answer.Operations {
					got = append(got, o.Status)
				}
				if diff := cmp.Diff([]string{"400", "201", "201", "201", "201", "201", "201"}, got); diff != "" {
					t.Errorf("(-want +got):\n%s\n%s", diff, r.Body)
				}
			}
		})
	}
}
