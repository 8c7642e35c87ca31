package api_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/api"
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
	if r := w.post(t, "/admin/v1/domains/new.example/verify", fresh(), nil); r.Status != 409 {
		t.Errorf("without the record: %d %s", r.Status, r.Body)
	}
	if r := w.post(t, "/admin/v1/domains/new.example/primary", fresh(), nil); r.Status != 409 {
		t.Errorf("primary before it is proven: %d %s", r.Status, r.Body)
	}
	dns.Lock()
	dns.records[added.Record.Name] = append(dns.records[added.Record.Name], added.Record.Value) // of this store and the other
	dns.Unlock()
	proven := must[api.Domain](t, w.post(t, "/admin/v1/domains/new.example/verify", fresh(), nil), 200)
	if proven.Verified.IsZero() {
		t.Errorf("proven: %+v", proven)
	}
	if d := must[api.Domain](t, w.post(t, "/admin/v1/domains/new.example/primary", fresh(), nil), 200); !d.Primary {
		t.Errorf("primary: %+v", d)
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
