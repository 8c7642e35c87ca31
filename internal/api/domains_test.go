package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// zone is what DNS says.
type zone struct {
	sync.Mutex
	records map[string][]string
}

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	z.Lock()
	defer z.Unlock()
	if list, ok := z.records[strings.TrimSuffix(name, ".")]; ok {
		return list, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// TestDomains: a domain is added, proven by a record in DNS and made primary, and user
// names under another one are moved over, after a look at what would happen.
func TestDomains(t *testing.T) {
	shows(t, "D2")
	dns := &zone{records: map[string][]string{}}
	onStoresWith(t, testserver.Options{Resolver: dns}, func(t *testing.T, w *world) { proveAndMove(t, w, dns) })
}

func proveAndMove(t *testing.T, w *world, dns *zone) {
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	boss := w.mfa(t, admin)
	fresh := func() string { boss = w.stepUp(t, admin, boss); return boss.Token }
	ana, bo := w.person(t, "ana@old.example"), w.person(t, "bo@old.example")
	w.person(t, "bo@new.example")

	added := must[api.Domain](t, w.post(t, "/admin/v1/domains", fresh(), object{"name": "New.Example"}), 201)
	if added.Name != "new.example" || added.Record == nil || added.Record.Type != "TXT" || !added.Verified.IsZero() {
		t.Fatalf("added: %+v", added)
	}
	if r := w.post(t, "/admin/v1/domains/new.example/verify", fresh(), nil); r.Status != 409 || !strings.Contains(r.Body, "record.value") {
		t.Errorf("without the record: %d %s", r.Status, r.Body)
	}
	if r := w.post(t, "/admin/v1/domains/new.example/primary", fresh(), nil); r.Status != 409 {
		t.Errorf("primary before it is proven: %d %s", r.Status, r.Body)
	}
	dns.Lock()
	dns.records[added.Record.Name] = append(dns.records[added.Record.Name], added.Record.Value) // of this store and the other
	dns.Unlock()
	proven := must[api.Domain](t, w.post(t, "/admin/v1/domains/New.Example/verify", fresh(), nil), 200) // as it was added
	if proven.Verified.IsZero() {
		t.Errorf("proven: %+v", proven)
	}
	if d := must[api.Domain](t, w.post(t, "/admin/v1/domains/new.example/primary", fresh(), nil), 200); !d.Primary {
		t.Errorf("primary: %+v", d)
	}

	// The default one is read as it is listed, and can be primary again.
	const byDefault = "/admin/v1/domains/default.roster.invalid"
	if d := must[api.Domain](t, w.get(t, byDefault, boss.Token), 200); !d.Default || d.Primary {
		t.Errorf("the default one beside a primary one: %+v", d)
	}
	if d := must[api.Domain](t, w.post(t, byDefault+"/primary", fresh(), nil), 200); !d.Default || !d.Primary {
		t.Errorf("the default one made primary: %+v", d)
	}
	if d := must[api.Domain](t, w.get(t, "/admin/v1/domains/new.example", boss.Token), 200); d.Primary {
		t.Errorf("two are primary: %+v", d)
	}
	must[any](t, w.send(t, "DELETE", byDefault, "", "Authorization", "Bearer "+fresh()), 409)
	must[any](t, w.post(t, byDefault+"/verify", fresh(), nil), 409)
	if r := w.get(t, "/admin/v1/domains/acme.roster.invalid", boss.Token); r.Status != 404 {
		t.Errorf("that of another tenant: %d %s", r.Status, r.Body)
	}

	move := object{"from": "old.example", "to": "new.example"}
	preview := must[api.DomainMovePreview](t, w.post(t, "/admin/v1/domain-move-previews", fresh(), move), 200)
	if preview.Total != 2 || preview.Conflicted != 1 || len(preview.Conflicts) != 1 || preview.Conflicts[0].Before != "bo@old.example" {
		t.Errorf("the preview: %+v", preview)
	}
	begun := must[api.DomainMove](t, w.post(t, "/admin/v1/domain-moves", fresh(), move), 201)
	for more := true; more; {
		var err error
		if more, err = w.Domains.Step(t.Context(), storage.DefaultTenant, begun.ID, "this process"); err != nil {
			t.Fatal(err)
		}
	}
	done := must[api.DomainMove](t, w.get(t, "/admin/v1/domain-moves/"+begun.ID, boss.Token), 200)
	if done.Moved != 1 || done.Skipped != 1 || done.Finished.IsZero() {
		t.Errorf("the move: %+v", done)
	}
	for p, want := range map[*person]string{ana: "ana@new.example", bo: "bo@old.example"} {
		u := must[object](t, w.get(t, "/scim/v2/Users/"+p.id, boss.Token), 200)
		if fmt.Sprint(u["userName"]) != want {
			t.Errorf("%s is called %v afterwards, want %s", p.name, u["userName"], want)
		}
	}
	ana.name = "ana@new.example"
	w.signIn(t, ana)
}

// TestDomainMoveGoesOn: a move is paused and resumed, goes on where it was when the process
// that made it is gone.
func TestDomainMoveGoesOn(t *testing.T) {
	shows(t, "D2")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		const users = 450 // more than two steps
		var ops []object
		for i := range users {
			ops = append(ops, object{"method": "POST", "path": "/Users", "bulkId": fmt.Sprint(i), "data": object{"schemas": []string{schemas.UserURI}, "userName": fmt.Sprintf("u%d@old.example", i)}})
		}
		text, err := json.Marshal(object{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:BulkRequest"}, "Operations": ops})
		if err != nil {
			t.Fatal(err)
		}
		must[any](t, w.Do(t, "POST", "/Bulk", string(text)), 200)
		move := must[api.DomainMove](t, w.post(t, "/admin/v1/domain-moves", boss.Token, object{"from": "old.example", "to": "default.roster.invalid"}), 201)
		path := "/admin/v1/domain-moves/" + move.ID
		step := func(process string) bool {
			t.Helper()
			more, err := w.Domains.Step(t.Context(), storage.DefaultTenant, move.ID, process)
			if err != nil {
				t.Fatal(err)
			}
			return more
		}
		is := func(when, state string, least, most int) (moved int) {
			t.Helper()
			m := must[api.DomainMove](t, w.get(t, path, boss.Token), 200)
			if moved = m.Moved; m.State != state || moved < least || moved > most || m.Total != users {
				t.Errorf("%s: %+v, want it %s with %d to %d moved", when, m, state, least, most)
			}
			named := must[struct{ TotalResults int }](t, w.Do(t, "GET", "/Users?count=0&filter=userName+ew+%22@default.roster.invalid%22", ""), 200).TotalResults
			if named != moved {
				t.Errorf("%s: %d have their new names, want %d", when, named, moved)
			}
			return moved
		}
		step("first")
		some := is("after a step", "running", 1, users-1)
		must[any](t, w.post(t, path+"/pause", boss.Token, nil), 200)
		if step("first") {
			t.Error("a paused move goes on")
		}
		is("paused", "paused", some, some)
		must[any](t, w.post(t, path+"/pause", boss.Token, nil), 409)
		must[any](t, w.post(t, path+"/resume", boss.Token, nil), 200)
		step("first")
		is("resumed", "running", some+1, users-1)
		w.advance(2 * time.Minute) // and the first process is not heard of any more
		for step("second") {
		}
		is("taken over", "done", users, users)
		must[any](t, w.post(t, path+"/resume", boss.Token, nil), 409)
	})
}
