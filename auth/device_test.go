package auth

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
)

// TestDevices: what is new and how long ago the last sign-in was, by network, program
// and time; for accounts whose sign-ins were recorded in the former way, too.
func TestDevices(t *testing.T) {
	home, office := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.9")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	id := func(user, agent string, from netip.Addr) string {
		return deviceOf(storage.DefaultTenant, user, agent, from)
	}
	var ana, bo Credential
	ana.saw(Device{ID: id("ana", "other", home), At: now.Add(-40 * day)})
	ana.saw(Device{ID: id("ana", "browser", home), At: now.Add(-5 * day)})
	bo.saw(Device{ID: id("bo", "browser", office), At: now})
	for _, c := range []struct {
		name, user, agent string
		from              netip.Addr
		of                *Credential
		want              past
	}{
		{"as before", "ana", "browser", home, &ana, past{false, 5, now.Add(-5 * day)}},
		{"another address of the network", "ana", "browser", netip.MustParseAddr("192.0.2.200"), &ana, past{false, 5, now.Add(-5 * day)}},
		{"another network", "ana", "browser", office, &ana, past{true, 5, now.Add(-5 * day)}},
		{"too long ago to count", "ana", "other", home, &ana, past{true, 5, now.Add(-5 * day)}},
		{"somebody else's device", "bo", "browser", home, &bo, past{true, 0, now}},
		{"never seen", "cy", "browser", home, &Credential{}, past{true, -1, time.Time{}}},
	} {
		got := remember(c.of.Devices, id(c.user, c.agent, c.from), now)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(past{})); diff != "" {
			t.Errorf("%s: remember (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestDevicesKept: the latest are remembered, each once and however often and in
// whichever order they came, and no more than that.
func TestDevicesKept(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var c Credential
	for n := range 3 * devicesKept {
		c.saw(Device{ID: fmt.Sprint(n), At: now.Add(time.Duration(n) * time.Hour)})
	}
	c.saw(Device{ID: fmt.Sprint(3*devicesKept - 1), At: now}) // from the other process, late
	if n := len(c.Devices); n != devicesKept {
		t.Fatalf("%d are kept, want %d", n, devicesKept)
	}
	for n, d := range c.Devices {
		if want := 3*devicesKept - 1 - n; d.ID != fmt.Sprint(want) || !d.At.Equal(now.Add(time.Duration(want)*time.Hour)) {
			t.Errorf("number %d is %v, want %d", n, d, want)
		}
	}
}

// TestRecordedBefore: a device of a sign-in that was recorded in the former way, under
// the id of its user, is known.
func TestRecordedBefore(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	at := d.clock.now().Add(-3 * day)
	d.write(func(tx storage.Tx) error {
		data := fmt.Sprintf(`{"user":%q,"at":%q,"device":%q,"facts":{"idleDays":0}}`, id, at.Format(time.RFC3339), deviceOf(storage.DefaultTenant, id, "test", here))
		return tx.PutItem(nil, &storage.Item{Kind: SignInKind, ID: "old", Keys: []string{id, dayKey(at)}, Data: []byte(data)})
	})
	rule := Rule{ID: "r", Name: "New devices", State: RuleOn, Then: Block, When: Condition{NewDevice: true}}
	if err := d.PutRule(t.Context(), operator, rule, true); err != nil {
		t.Fatal(err)
	}
	res, err := d.give("ana", goodPassword)
	if err != nil || !res.Last.Equal(at) {
		t.Fatalf("SignIn = %+v, %v; want one whose last was at %v", res, err, at)
	}
	if _, err := d.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, From: here, Agent: "another"}); err == nil {
		t.Error("SignIn from a new device was accepted")
	}
	count := func() int {
		items, err := d.Store.Items(t.Context(), storage.DefaultTenant, SignInKind, "")
		if err != nil {
			t.Fatal(err)
		}
		return len(items)
	}
	before := count()
	d.write(func(tx storage.Tx) error { return Forget(tx, id) })
	if after := count(); before != 2 || after != 0 {
		t.Errorf("%d sign-ins were recorded, and %d are left of somebody who is forgotten; want 2, 0", before, after)
	}
}

// TestSignInDoesNotGrow: signing in for the thousandth time asks as much of the store
// as for the second, and the credential is as large.
func TestSignInDoesNotGrow(t *testing.T) {
	raced.Skip(t)
	d := newDirectory(t)
	id := d.add("ana", false)
	counted := &counting{Store: d.Store}
	d.Store = counted
	var calls string
	var size int
	n := 1000
	if testing.Short() {
		n = 100
	}
	for k := range n {
		counted.reset()
		from := netip.AddrFrom4([4]byte{10, byte(k >> 8), byte(k), 1})
		if _, err := d.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, From: from}); err != nil {
			t.Fatal(err)
		}
		d.clock.advance(time.Minute)
		i, err := d.Store.Item(t.Context(), storage.DefaultTenant, credentialKind, id)
		if err != nil {
			t.Fatal(err)
		}
		older, err := d.Store.Items(t.Context(), storage.DefaultTenant, SignInKind, id)
		if err != nil || len(older) > 0 {
			t.Fatalf("%d recorded sign-ins are read for the next one, %v", len(older), err)
		}
		if k == devicesKept+MaxSessions {
			calls, size = counted.calls(), len(i.Data)
		}
		if k > devicesKept+MaxSessions && (counted.calls() != calls || len(i.Data) > size+100) {
			t.Fatalf("sign-in %d: %d bytes, %s;\nwant %d bytes, %s", k, len(i.Data), counted.calls(), size, calls)
		}
	}
}
