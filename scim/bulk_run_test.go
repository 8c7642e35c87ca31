package scim_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// ordering plays the same operations as one bulk request and one after the other, on a
// server each. Ids stand as @0, @1, ... in the order in which resources are made.
type ordering struct {
	server *testserver.Server
	ids    []string
}

var placeholder = regexp.MustCompile(`@\d+`)

func (o *ordering) fill(s string) string {
	return placeholder.ReplaceAllStringFunc(s, func(at string) string {
		var n int
		if _, err := fmt.Sscanf(at, "@%d", &n); err != nil || n >= len(o.ids) {
			panic(at)
		}
		return o.ids[n]
	})
}

func (o *ordering) blank(s string) string {
	for i, id := range o.ids {
		s = strings.ReplaceAll(s, id, fmt.Sprint("@", i))
	}
	return s
}

// own is what follows the version of a resource itself in that of what it is shown as.
var own = regexp.MustCompile(`\.[0-9a-f]+"$`)

type bulkStep struct{ method, path, data string }

func (o *ordering) one(t *testing.T, s bulkStep) string {
	t.Helper()
	body := s.data
	if s.method == "DELETE" {
		body = ""
	}
	r := o.server.Do(t, s.method, o.fill(s.path), o.fill(body))
	var e struct{ ScimType string }
	if r.Status >= 400 {
		if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprint(r.Status, " ", e.ScimType, " ", own.ReplaceAllString(r.Header.Get("ETag"), `"`))
}

// together returns the outcomes of the steps as one bulk request.
func (o *ordering) together(t *testing.T, steps []bulkStep) (got []string) {
	t.Helper()
	var operations []string
	for i, s := range steps {
		data := ""
		if s.method != "DELETE" {
			data = `,"data":` + o.fill(s.data)
		}
		id := ""
		if s.method == "POST" {
			id = fmt.Sprintf(`,"bulkId":"b%d"`, i)
		}
		operations = append(operations, fmt.Sprintf(`{"method":%q,"path":%q%s%s}`, s.method, o.fill(s.path), id, data))
	}
	a, _ := bulk(t, o.server, o.server.Token, operations...)
	for _, one := range a.Operations {
		got = append(got, one.Status+" "+one.Response.ScimType+" "+one.Version)
	}
	return got
}

// state is all that there is, without times and without the ids of those that the steps
// made.
func (o *ordering) state(t *testing.T) (all []string) {
	t.Helper()
	for _, path := range []string{"/Users", "/Groups"} {
		var page struct{ Resources []map[string]any }
		if err := json.Unmarshal([]byte(o.server.Do(t, "GET", path, "").Body), &page); err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Resources {
			meta, _ := r["meta"].(map[string]any)
			r["meta"] = own.ReplaceAllString(fmt.Sprint(meta["version"]), `"`)
			if id, _ := r["id"].(string); !slices.Contains(o.ids, id) {
				delete(r, "id")
			}
			for _, list := range []string{"members", "groups"} {
				values, _ := r[list].([]any)
				slices.SortFunc(values, func(a, b any) int { return strings.Compare(o.blank(fmt.Sprint(a)), o.blank(fmt.Sprint(b))) })
			}
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.ReplaceAll(o.blank(string(text)), o.server.URL, ""))
		}
	}
	slices.Sort(all)
	return all
}

// randomStep is something that could get in the way of another one, among some people
// and groups.
func randomStep(r *rand.Rand, people, groups int) bulkStep {
	user := func() string { return fmt.Sprint("@", r.IntN(people)) }
	group := func() string { return fmt.Sprint("@", people+r.IntN(groups)) }
	name := func() string { return fmt.Sprint("u", r.IntN(people+2)) }
	change := func(path string, operations ...string) bulkStep {
		return bulkStep{"PATCH", path, fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, patch.MessageURI, strings.Join(operations, ","))}
	}
	switch r.IntN(18) {
	case 0:
		return bulkStep{"DELETE", "/Users/" + user(), ""}
	case 1:
		return bulkStep{"DELETE", "/Groups/" + group(), ""}
	case 2, 3:
		return change("/Users/"+user(), fmt.Sprintf(`{"op":"replace","path":"userName","value":%q}`, name()))
	case 4:
		return change("/Users/"+user(), fmt.Sprintf(`{"op":"replace","path":"title","value":"t%d"}`, r.IntN(2)))
	case 5, 6:
		return change("/Users/"+user(), fmt.Sprintf(`{"op":"add","path":"%s:manager.value","value":%q}`, schemas.EnterpriseUserURI, user()))
	case 7:
		return bulkStep{"PUT", "/Users/" + user(), fmt.Sprintf(`{"schemas":[%q],"userName":%q,"title":"put"}`, schemas.UserURI, name())}
	case 8, 9:
		return bulkStep{"POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":%q}`, schemas.UserURI, name())}
	case 10:
		return change("/Groups/"+group(), fmt.Sprintf(`{"op":"add","path":"members","value":[{"value":%q}]}`, group()))
	case 11:
		return change("/Groups/"+group(), fmt.Sprintf(`{"op":"remove","path":"members[value eq \"%s\"]"}`, user()))
	case 12, 13:
		member := user()
		if r.IntN(2) == 0 {
			member = group()
		}
		return bulkStep{"POST", "/GroupMemberships", fmt.Sprintf(`{"schemas":[%q],"group":{"value":%q},"member":{"value":%q}}`, schemas.GroupMembershipURI, group(), member)}
	case 14:
		return bulkStep{"DELETE", "/GroupMemberships/" + group() + "." + user(), ""}
	default:
		return change("/Groups/"+group(), fmt.Sprintf(`{"op":"add","path":"members","value":[{"value":%q}]}`, user()))
	}
}

// TestBulkInOrder: what shares commits comes out as if each operation had been sent when
// the one before was answered, versions and errors too.
func TestBulkInOrder(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	const rounds = 30
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for round := range rounds {
				r := rand.New(rand.NewPCG(uint64(round), 7)) // the same each time
				people := 4 + 8*(round%3)                    // the more, the more are under way together
				groups := people / 2
				var steps []bulkStep
				for range 30 {
					steps = append(steps, randomStep(r, people, groups))
				}
				var both [2]*ordering
				for i := range both {
					o := &ordering{server: testserver.Start(t, testserver.Options{Open: open})}
					o.ids = o.server.Users(t, people)
					for n := range groups {
						o.ids = append(o.ids, o.server.Group(t, fmt.Sprint("group-", n), "", nil))
					}
					both[i] = o
				}
				var alone []string
				for _, s := range steps {
					alone = append(alone, both[0].one(t, s))
				}
				if diff := cmp.Diff(alone, both[1].together(t, steps)); diff != "" {
					t.Fatalf("round %d: %s\n%v", round, diff, steps)
				}
				if diff := cmp.Diff(both[0].state(t), both[1].state(t)); diff != "" {
					t.Fatalf("round %d: %s\n%v", round, diff, steps)
				}
			}
		})
	}
}

// TestBulkBegunAgain: what begins again because the roles of the tenant have changed, as
// another process knows first, does not come after what stands behind it.
func TestBulkBegunAgain(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.Start(t, testserver.Options{Open: open})
			for round := range 20 {
				err := s.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					return errors.Join(tx.Advance(), tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"}))
				})
				if err != nil {
					t.Fatal(err)
				}
				var operations, want, got []string
				for i := range 8 {
					name := fmt.Sprintf("%d-%d", round, i)
					var user struct{ ID string }
					r := s.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":%q}`, schemas.UserURI, name))
					if err := json.Unmarshal([]byte(r.Body), &user); err != nil {
						t.Fatal(err)
					}
					group := s.Group(t, name, "", nil)
					operations = append(operations,
						fmt.Sprintf(`{"method":"PUT","path":"/Groups/%s","data":{"schemas":[%q],"displayName":%q,"members":[{"value":%q}]}}`, group, schemas.GroupURI, name, user.ID),
						fmt.Sprintf(`{"method":"DELETE","path":"/Users/%s"}`, user.ID))
					want = append(want, "200", "204")
				}
				a, _ := bulk(t, s, s.Token, operations...)
				for _, o := range a.Operations {
					got = append(got, o.Status)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("round %d: %v, want %v", round, got, want)
				}
			}
		})
	}
}

// TestBulkFirstHasIt: of creates that want one unique value the first has it, wherever
// in a resource the value stands.
func TestBulkFirstHasIt(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	unique := schemas.AttributeDefinition{Name: "code", Uniqueness: "server"}
	err := s.Provider.Define(t.Context(), operator(), tagged(unique, schemas.AttributeDefinition{
		Name: "badges", Type: "complex", MultiValued: true, SubAttributes: []schemas.SubAttributeDefinition{{Name: "value", Uniqueness: "server"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	const n = 16
	for name, value := range map[string]string{
		"of an extension":                   fmt.Sprintf(`%q:{"code":"x"}`, tagURN),
		"of an element":                     fmt.Sprintf(`%q:{"badges":[{"value":"y"}]}`, tagURN),
		"of an element without a list":      fmt.Sprintf(`%q:{"BADGES":"y2"}`, tagURN),
		"an address that people sign in by": fmt.Sprintf(`"emails":[{"value":"z@example.com"}],%q:{"signInBy":"email"}`, schemas.RosterUserURI),
	} {
		var operations, want, got []string
		for i := range n {
			operations = append(operations, fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"b%d","data":{"schemas":[%q],"userName":"%s %d",%s}}`,
				i, schemas.UserURI, name, i, value))
			want = append(want, "409")
		}
		want[0] = "201"
		a, _ := bulk(t, s, s.Token, operations...)
		for _, o := range a.Operations {
			got = append(got, o.Status)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestBulkFirstIsIt: of creates that mean the same the first is it.
func TestBulkFirstIsIt(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	user := s.Users(t, 1)[0]
	group := s.Group(t, "crew", "", nil)
	var role struct{ ID string }
	if err := json.Unmarshal([]byte(s.Do(t, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"deckhand"}`, schemas.RoleURI)).Body), &role); err != nil {
		t.Fatal(err)
	}
	token := s.Client(t, "hr", "", "memberships", "invitations", "roles", "roles:assign:deckhand")
	const n = 16
	for path, data := range map[string]string{
		"/GroupMemberships": fmt.Sprintf(`{"schemas":[%q],"group":{"value":%q},"member":{"value":%q}}`, schemas.GroupMembershipURI, group, user),
		"/RoleAssignments":  fmt.Sprintf(`{"schemas":[%q],"role":{"value":%q},"principal":{"value":%q}}`, schemas.RoleAssignmentURI, role.ID, user),
		"/Invitations":      fmt.Sprintf(`{"schemas":[%q],"email":"ida@example.com"}`, schemas.InvitationURI),
	} {
		var operations, want, got []string
		for i := range n {
			operations = append(operations, fmt.Sprintf(`{"method":"POST","path":%q,"bulkId":"b%d","data":%s}`, path, i, data))
			want = append(want, "409")
		}
		want[0] = "201"
		a, r := bulk(t, s, token, operations...)
		for _, o := range a.Operations {
			got = append(got, o.Status)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v\n%s", path, got, want, r.Body)
		}
	}
}

// TestBulkOfPeople: where an operation changes who holds administrative roles, those after
// it come out in order, too.
func TestBulkOfPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteStore(t))
	change := func(group, member string) string {
		return fmt.Sprintf(`{"method":"PATCH","path":"/Groups/%s","data":[{"op":"add","path":"members","value":[%s]}]}`, w.ids[group], w.members(member))
	}
	operations, want := []string{change("admins", "eve")}, []string{"200"}
	for i := range 8 {
		a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
		w.create(a, "Group", fmt.Sprintf(`{"displayName":%q}`, a))
		w.create(b, "Group", fmt.Sprintf(`{"displayName":%q}`, b))
		operations, want = append(operations, change(a, b), change(b, a)), append(want, "200", "400")
	}
	var serve func(http.ResponseWriter, *http.Request, auth.Principal) error
	for _, r := range scim.NewHandler(w.p, func(*http.Request) string { return "https://x.example" }).Routes() {
		if r.Path == "/Bulk" {
			serve = r.Serve
		}
	}
	answer := httptest.NewRecorder()
	request := httptest.NewRequest("POST", "/Bulk", strings.NewReader(fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, scim.BulkRequestURI, strings.Join(operations, ","))))
	if err := serve(answer, request, w.session("gus")); err != nil {
		t.Fatal(err)
	}
	var a bulkAnswer
	if err := json.Unmarshal(answer.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range a.Operations {
		got = append(got, o.Status)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestBulkChangesShareCommits: so do operations of any kind, with references too.
func TestBulkChangesShareCommits(t *testing.T) {
	t.Parallel()
	s, commits := countingCommits(t)
	const n = 200
	counts := map[string]int64{}
	send := func(kind string, operation func(i int) string) {
		var list []string
		for i := range n {
			list = append(list, operation(i))
		}
		before := commits.Load()
		a, r := bulk(t, s, s.Token, list...)
		for i, o := range a.Operations {
			if o.Status[0] != '2' {
				t.Fatalf("%s %d: %s\n%s", kind, i, o.Status, r.Body)
			}
		}
		counts[kind] = commits.Load() - before
	}
	ids := s.Users(t, n)
	send("PATCH", func(i int) string {
		return fmt.Sprintf(`{"method":"PATCH","path":"/Users/%s","data":[{"op":"replace","path":"title","value":"x"}]}`, ids[i])
	})
	send("PUT", func(i int) string {
		return fmt.Sprintf(`{"method":"PUT","path":"/Users/%s","data":{"schemas":[%q],"userName":"v%d"}}`, ids[i], schemas.UserURI, i)
	})
	send("references", func(i int) string {
		if i == 0 {
			return fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"boss","data":{"schemas":[%q],"userName":"boss"}}`, schemas.UserURI)
		}
		return fmt.Sprintf(`{"method":"POST","path":"/Users","bulkId":"b%d","data":{"schemas":[%q,%q],"userName":"w%d",%q:{"manager":{"value":"bulkId:boss"}}}}`,
			i, schemas.UserURI, schemas.EnterpriseUserURI, i, schemas.EnterpriseUserURI)
	})
	group := s.Group(t, "crew", "", nil)
	send("memberships", func(i int) string {
		return fmt.Sprintf(`{"method":"POST","path":"/GroupMemberships","bulkId":"m%d","data":{"schemas":[%q],"group":{"value":%q},"member":{"value":%q}}}`,
			i, schemas.GroupMembershipURI, group, ids[i])
	})
	send("DELETE", func(i int) string { return fmt.Sprintf(`{"method":"DELETE","path":"/Users/%s"}`, ids[i]) })
	t.Logf("commits of %d operations each: %v", n, counts)
	for kind, c := range counts {
		if c > n/4 {
			t.Errorf("%d times %s took %d commits", n, kind, c)
		}
	}
}
