package domains_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/domains"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/sqlite"
)

// directory is a store with what moves and proves domains, and a clock.
type directory struct {
	t     *testing.T
	store storage.Store
	set   *schemas.Set
	dns   *zone
	clock atomic.Int64
	keep  *domains.Keeper
}

func (d *directory) now() time.Time           { return time.UnixMilli(d.clock.Load()).UTC() }
func (d *directory) advance(by time.Duration) { d.clock.Add(by.Milliseconds()) }

// process returns another process on the same store.
func (d *directory) process(store storage.Store) *domains.Keeper {
	p := &scim.Provider{Store: store, Schemas: d.set, Hasher: auth.NewHasher(), Now: d.now}
	k := domains.New(store, p, d.now, slog.New(slog.DiscardHandler))
	k.Resolver = d.dns
	return k
}

func eachStore(t *testing.T, test func(*testing.T, *directory)) {
	t.Parallel()
	database := mongotest.Start(t)
	for name, open := range map[string]func(t *testing.T) (storage.Store, error){
		"sqlite": func(t *testing.T) (storage.Store, error) {
			return sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{QueryTimeout: time.Minute})
		},
		"mongo": func(t *testing.T) (storage.Store, error) {
			return mongo.Open(t.Context(), database.URI(database.NewDatabase(t)), mongo.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			set, err := schemas.Load()
			if err != nil {
				t.Fatal(err)
			}
			d := &directory{t: t, store: store, set: set, dns: startDNS(t)}
			d.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
			d.keep = d.process(store)
			test(t, d)
		})
	}
}

func operator(tenant storage.TenantID) auth.Principal {
	return auth.Principal{Kind: auth.Operator, Tenant: tenant}
}

func (d *directory) tenant(id storage.TenantID) auth.Principal {
	d.t.Helper()
	if err := auth.CreateTenant(d.t.Context(), d.store, operator(id), string(id), d.now()); err != nil {
		d.t.Fatal(err)
	}
	return operator(id)
}

// add adds a domain, and publishes its proof.
func (d *directory) add(by auth.Principal, name string) *domains.Domain {
	d.t.Helper()
	added, err := d.keep.Add(d.t.Context(), by, name)
	if err != nil {
		d.t.Fatal(err)
	}
	return added
}

func (d *directory) prove(by auth.Principal, name string) {
	d.t.Helper()
	added := d.add(by, name)
	d.dns.set(added.Record(), added.Challenge)
	if _, err := d.keep.Verify(d.t.Context(), by, name); err != nil {
		d.t.Fatal(err)
	}
}

func (d *directory) actions(tenant storage.TenantID, prefix string) (list []string) {
	d.t.Helper()
	entries, err := d.store.AuditEntries(d.t.Context(), tenant, 0, 100_000)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Action, prefix) {
			list = append(list, e.Actor+" "+e.Action+" "+e.ID)
		}
	}
	return list
}

// TestVerify: a domain is proven by its TXT record and by nothing else; what is said
// helps.
func TestVerify(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		by := operator(storage.DefaultTenant)
		dom := d.add(by, "Example.COM")
		if dom.Name != "example.com" || dom.Record() != "_roster-challenge.example.com" || !strings.HasPrefix(dom.Challenge, "roster-challenge=") || len(dom.Challenge) < 40 {
			t.Fatalf("added: %+v", dom)
		}
		verify := func() error {
			t.Helper()
			_, err := d.keep.Verify(t.Context(), by, "example.com")
			if found, err2 := d.keep.Find(t.Context(), by.Tenant, "example.com"); err2 != nil || found.Verified.IsZero() != (err != nil) {
				t.Errorf("Verify: %v, and then the domain is %+v, %v", err, found, err2)
			}
			return err
		}
		refused := func(what, says string) {
			t.Helper()
			err := verify()
			if e, ok := errors.AsType[*domains.ProofError](err); !ok || !strings.Contains(e.Error(), says) || !strings.Contains(e.Error(), dom.Record()) {
				t.Errorf("%s: %v", what, err)
			}
		}
		refused("NXDOMAIN", "add one with the value in record.value")
		d.dns.set("example.com", dom.Challenge)
		refused("a record elsewhere", "add one")
		d.dns.set(dom.Record(), "v=spf1 -all", "roster-challenge=somebody else's", dom.Challenge+"x", dom.Challenge[:20])
		refused("other values", "correct it")
		d.dns.fail(true, 0)
		if err := verify(); !errors.Is(err, domains.ErrUnreachable) {
			t.Errorf("no answer: %v", err)
		}
		d.dns.fail(false, dns.RcodeServerFailure)
		if err := verify(); !errors.Is(err, domains.ErrUnreachable) {
			t.Errorf("SERVFAIL: %v", err)
		}
		d.dns.fail(false, 0)
		// A CNAME leads to where the proof is.
		d.dns.set(dom.Record())
		d.dns.mu.Lock()
		d.dns.cname[dom.Record()+"."] = "proofs.example.net."
		d.dns.mu.Unlock()
		refused("a CNAME to nothing", "add one")
		d.dns.set("proofs.example.net", "something", dom.Challenge)
		if err := verify(); err != nil {
			t.Errorf("with the record behind a CNAME: %v", err)
		}
		want := []string{"operator domain.add example.com", "tenant:default domain.claim example.com", "operator domain.verify example.com"}
		if got := d.actions(by.Tenant, "domain."); !slices.Equal(got, want) {
			t.Errorf("the trail: %q", got)
		}
		if _, err := d.keep.Add(t.Context(), by, "example.com"); err == nil {
			t.Error("the same domain was added again")
		}
		if _, err := d.keep.Verify(t.Context(), by, "other.example"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a domain that was not added: %v", err)
		}
	})
}

// TestOneTenantPerDomain: of tenants that prove a domain, one has it; it is free when
// that one removes it.
func TestOneTenantPerDomain(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		const n = 6
		by := make([]auth.Principal, n)
		var records []string
		for i := range by {
			by[i] = d.tenant(storage.TenantID(fmt.Sprint("tenant", i)))
			records = append(records, d.add(by[i], "example.com").Challenge)
		}
		d.dns.set("_roster-challenge.example.com", records...)
		errs := make([]error, 2*n) // each twice, by two processes
		other := d.process(d.store)
		var wg sync.WaitGroup
		for i := range errs {
			k := d.keep
			if i >= n {
				k = other
			}
			wg.Go(func() { _, errs[i] = k.Verify(t.Context(), by[i%n], "example.com") })
		}
		wg.Wait()
		winners := map[int]bool{}
		for i, err := range errs {
			if err == nil {
				winners[i%n] = true
			} else if !errors.Is(err, domains.ErrTaken) {
				t.Errorf("tenant %d: %v", i%n, err)
			}
		}
		verified := -1
		for i := range by {
			dom, err := d.keep.Find(t.Context(), by[i].Tenant, "example.com")
			if err != nil {
				t.Fatal(err)
			}
			if !dom.Verified.IsZero() {
				if verified >= 0 {
					t.Errorf("tenants %d and %d both have it", verified, i)
				}
				verified = i
			}
		}
		if len(winners) != 1 || !winners[verified] {
			t.Fatalf("told that they have it: %v; who has: %d", winners, verified)
		}
		loser := by[(verified+1)%n]
		// Time changes nothing while the one who has it has it.
		d.advance(1000 * time.Hour)
		if _, err := d.keep.Verify(t.Context(), loser, "example.com"); !errors.Is(err, domains.ErrTaken) {
			t.Errorf("after a long time: %v", err)
		}
		if err := d.keep.Remove(t.Context(), by[verified], "example.com"); err != nil {
			t.Fatal(err)
		}
		if _, err := d.keep.Verify(t.Context(), loser, "example.com"); err != nil {
			t.Errorf("when it is free: %v", err)
		}
	})
}

// TestClaimLeftBehind: a claim whose tenant came to nothing holds for an hour, not for
// ever, and one of a clock that was ahead not until that is there again.
func TestClaimLeftBehind(t *testing.T) {
	for _, ahead := range []time.Duration{0, 48 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) { testClaimLeftBehind(t, ahead) })
	}
}

func testClaimLeftBehind(t *testing.T, ahead time.Duration) {
	eachStore(t, func(t *testing.T, d *directory) {
		one, two := d.tenant("one"), d.tenant("two")
		d.advance(ahead)
		d.prove(one, "example.com")
		// The process ends before the other write of Verify, as it were.
		if err := d.store.Write(t.Context(), "one", func(tx storage.Tx) error {
			i, err := tx.Item("domain", "example.com")
			if err != nil {
				return err
			}
			return errors.Join(tx.DeleteItem(i), tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: "test"}))
		}); err != nil {
			t.Fatal(err)
		}
		dom := d.add(two, "example.com")
		d.dns.set(dom.Record(), dom.Challenge)
		if _, err := d.keep.Verify(t.Context(), two, "example.com"); !errors.Is(err, domains.ErrTaken) {
			t.Errorf("at once: %v", err)
		}
		d.advance(time.Hour - ahead)
		if _, err := d.keep.Verify(t.Context(), two, "example.com"); err != nil {
			t.Errorf("after an hour: %v", err)
		}
	})
}

// TestPrimary: one domain is primary at a time, and it is a proven one.
func TestPrimary(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		by := operator(storage.DefaultTenant)
		d.prove(by, "one.example")
		d.prove(by, "two.example")
		d.add(by, "three.example")
		if _, err := d.keep.SetPrimary(t.Context(), by, "three.example"); !errors.Is(err, domains.ErrUnproven) {
			t.Errorf("an unproven one: %v", err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if _, err := d.keep.SetPrimary(t.Context(), by, []string{"one.example", "two.example"}[i%2]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := d.keep.List(t.Context(), by.Tenant)
		if err != nil {
			t.Fatal(err)
		}
		var primary []string
		for _, dom := range list {
			if dom.Primary {
				primary = append(primary, dom.Name)
			}
		}
		if len(primary) != 1 {
			t.Errorf("primary are %q", primary)
		}
	})
}

// TestRemoveInUse: a domain that user names are under stays.
func TestRemoveInUse(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		by := operator(storage.DefaultTenant)
		for name, user := range map[string]string{"one.example": "Ana@ONE.example", "xn--bcher-kva.example": "bo@bücher.example"} {
			d.prove(by, name)
			u := d.user(by.Tenant, user)
			if err := d.keep.Remove(t.Context(), by, name); !errors.Is(err, domains.ErrInUse) {
				t.Errorf("removing %s, which %s is under: %v", name, user, err)
			}
			if err := d.keep.Provider.Delete(t.Context(), by, d.set.Type("User"), u, scim.Precondition{}); err != nil {
				t.Fatal(err)
			}
			if err := d.keep.Remove(t.Context(), by, name); err != nil {
				t.Errorf("when nobody is: %v", err)
			}
		}
	})
}

func (d *directory) user(tenant storage.TenantID, name string, emails ...string) string {
	d.t.Helper()
	body := map[string]any{"schemas": []any{schemas.UserURI}, "userName": name}
	var list []any
	for _, e := range emails {
		list = append(list, map[string]any{"value": e, "type": "work"})
	}
	if list != nil {
		body["emails"] = list
	}
	r, err := d.keep.Provider.Create(d.t.Context(), operator(tenant), d.set.Type("User"), body)
	if err != nil {
		d.t.Fatal(err)
	}
	return r.ID
}

// TestCheck: a proof that has vanished is reported once, and nothing is taken away; one
// that DNS does not tell of is not missing.
func TestCheck(t *testing.T) {
	eachStore(t, func(t *testing.T, d *directory) {
		by := d.tenant("acme")
		d.prove(by, "example.com")
		dom, err := d.keep.Find(t.Context(), "acme", "example.com")
		if err != nil {
			t.Fatal(err)
		}
		look := func(want bool, actions ...string) {
			t.Helper()
			if err := d.keep.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			found, err := d.keep.Find(t.Context(), "acme", "example.com")
			if err != nil || found.Verified.IsZero() || found.Missing.IsZero() == want {
				t.Errorf("missing %t: %+v, %v", want, found, err)
			}
			var got []string
			for _, a := range d.actions("acme", "domain.") {
				if strings.HasPrefix(a, "system ") {
					got = append(got, strings.Fields(a)[1])
				}
			}
			if !slices.Equal(got, actions) {
				t.Errorf("the trail: %q, want %q", got, actions)
			}
		}
		d.dns.set(dom.Record())
		look(false) // not yet due
		d.advance(24 * time.Hour)
		d.dns.fail(true, 0)
		look(false)
		d.dns.fail(false, 0)
		look(true, "domain.missing")
		d.advance(24 * time.Hour)
		look(true, "domain.missing", "domain.check")
		d.dns.set(dom.Record(), dom.Challenge)
		d.advance(24 * time.Hour)
		look(false, "domain.missing", "domain.check", "domain.found")
		d.advance(-1000 * time.Hour) // the clock was ahead
		d.dns.set(dom.Record())
		look(true, "domain.missing", "domain.check", "domain.found", "domain.missing")
	})
}
