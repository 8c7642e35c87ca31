package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

var concurrencyPromises = []promise{
	{"of 64 that race for a userName exactly one wins", raceForName},
	{"of 64 that race to update a version exactly one wins", raceForVersion},
	{"64 that add a member to one group all succeed", raceForGroup},
	{"64 that close a ring of groups and look first do not make a cycle", raceForCycle},
	{"64 that give a client a token and end all but one leave two", raceForToken},
	{"no update is lost to those who compare and set", noLostUpdate},
	{"who is deleted while being added is no member", raceToDelete},
	{"who remains for a write is not deleted before it", raceToRemain},
	{"readers see a write whole or not at all", wholeWrites},
	{"a name that changes hands in a write is somebody's at any time", handOver},
	{"who hears of a resource finds it by every value", heardAndFound},
	{"TotalResults is that of the state the page was read from", wholeTotals},
	{"an event never appears below a number a reader has seen", followEvents},
	{"64 writers, of whom many fail, leave whole chains", brokenWrites},
	{"however many read the audit trail, each sees all that was acknowledged", readTogether},
}

const racers = 64

// race runs fn for each racer at the same time and returns the errors.
func race(fn func(i int) error) [racers]error {
	var errs [racers]error
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// winner returns who of the racers won, if it was one; lost is to check the errors of
// the others.
func winner(t *testing.T, errs [racers]error, lost func(what string, err error)) int {
	t.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("both %d and %d won", winner, i)
		default:
			lost(fmt.Sprint("racer ", i), err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	return winner
}

// conflict and taken are what those get who are not the first.
func conflict(t *testing.T) func(string, error) {
	return func(what string, err error) { t.Helper(); wantError(t, what, err, storage.ErrConflict) }
}

func taken(t *testing.T, attr string) func(string, error) {
	return func(what string, err error) { t.Helper(); wantUnique(t, what, err, attr) }
}

func raceForName(t *testing.T, d *directory) {
	var drafts [racers]*storage.Resource
	for i := range drafts {
		drafts[i] = d.draft(d.user, `{"userName":"`+[]string{"ana", "Ana", " ANA", "ａｎａ "}[i%4]+`"}`)
	}
	won := winner(t, race(func(i int) error {
		return d.try(func(tx storage.Tx) error { return tx.Create(drafts[i]) })
	}), taken(t, "userName"))
	d.wantStored(drafts[won])
	if ids, total := d.page(storage.Query{Type: "User", StartIndex: 1, Count: all}); total != 1 || len(ids) != 1 {
		t.Errorf("got %d users, %q, want one", total, ids)
	}
}

func raceForVersion(t *testing.T, d *directory) {
	held := d.hold(d.addUser("ana"))
	var nexts [racers]*storage.Resource
	for i := range nexts {
		nexts[i] = d.revise(d.user, held, fmt.Sprintf(`{"userName":"ana%d"}`, i))
	}
	won := winner(t, race(func(i int) error {
		return d.try(func(tx storage.Tx) error {
			prev := *held
			if i%8 == 7 {
				return tx.Delete(&prev, nexts[i].LastModified)
			}
			return tx.Update(&prev, nexts[i])
		})
	}), conflict(t))
	if won%8 == 7 {
		d.wantGone(held)
		return
	}
	d.wantStored(nexts[won])
}

// raceForCycle lets each racer add the next group to its own, unless it can see
// that this would close the ring.
func raceForCycle(t *testing.T, d *directory) {
	var ring [racers]*storage.Resource
	for i := range ring {
		ring[i] = d.addGroup(fmt.Sprint("Ring", i))
	}
	refused := 0
	for i, err := range race(func(i int) error {
		next := ring[(i+1)%racers]
		return d.try(func(tx storage.Tx) error {
			above, err := tx.Ancestors(ring[i])
			if err != nil {
				return err
			}
			if slices.Contains(above, next.ID) {
				return errTest
			}
			_, err = tx.AddMembers(ring[i], asMembers(next))
			return err
		})
	}) {
		switch {
		case errors.Is(err, errTest):
			refused++
		case err != nil:
			t.Errorf("racer %d: %v", i, err)
		}
	}
	if refused != 1 {
		t.Errorf("%d of %d saw that they would close the ring, want 1", refused, racers)
	}
	for _, g := range ring {
		for _, m := range d.groupsOf(g) {
			if m.Group == g.ID {
				t.Fatalf("%s is above itself", g.Name)
			}
		}
	}
}

func raceForToken(t *testing.T, d *directory) {
	d.store(newClient(d, "c1", "Entra"), newToken(d, "first", "c1"))
	var tokens [racers]*storage.Token
	for i := range tokens {
		tokens[i] = newToken(d, fmt.Sprint("k", i), "c1")
	}
	at := d.now()
	for i, err := range race(func(i int) error {
		return d.try(func(tx storage.Tx) error {
			old, err := tx.Tokens("c1")
			if err != nil {
				return err
			}
			kept := 0
			for _, k := range old {
				switch {
				case !k.Expires.After(at):
				case kept == 0:
					kept++
				default:
					if err := tx.ExpireToken(k.ID, at); err != nil {
						return err
					}
				}
			}
			return tx.CreateToken(tokens[i])
		})
	}) {
		if err != nil {
			t.Errorf("racer %d: %v", i, err)
		}
	}
	active := 0
	list := d.clients()
	for _, k := range list[0].Tokens {
		if k.Expires.After(at) {
			active++
		}
	}
	if active != 2 || len(list[0].Tokens) != racers+1 {
		t.Errorf("%d of %d tokens are left, want 2 of %d", active, len(list[0].Tokens), racers+1)
	}
}

func raceForGroup(t *testing.T, d *directory) {
	users := d.crowd(racers)
	g, both := d.addGroup("Staff"), d.addUser("everybody's")
	for i, err := range race(func(i int) error {
		return d.try(func(tx storage.Tx) error {
			_, err := tx.AddMembers(g, asMembers(users[i], both))
			return err
		})
	}) {
		if err != nil {
			t.Errorf("racer %d: %v", i, err)
		}
	}
	d.wantMembers(g, append(users, both)...)
}

func noLostUpdate(t *testing.T, d *directory) {
	const each = 5
	u := d.add(d.user, `{"userName":"ana","title":"0"}`)
	for i, err := range race(func(i int) error {
		for range each {
			for {
				err := increment(t.Context(), d, u, i%2 == 0)
				if err == nil {
					break
				}
				if !errors.Is(err, storage.ErrConflict) {
					return err
				}
			}
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("racer %d: %v", i, err)
		}
	}
	got := d.hold(u)
	d.wantFound(d.user, fmt.Sprintf(`title eq "%d"`, racers*each), u)
	if got.Version != 1+racers*each {
		t.Errorf("the version is %d, want %d", got.Version, 1+racers*each)
	}
}

// increment counts the title of u up, reading it outside of the write or inside.
func increment(ctx context.Context, d *directory, u *storage.Resource, outside bool) error {
	next := func(prev *storage.Resource) (*storage.Resource, error) {
		attrs, err := d.user.Parse(prev.Doc)
		if err != nil {
			return nil, err
		}
		prev.Index = d.NewIndex(d.tenant, d.user, attrs)
		n, err := strconv.Atoi(attrs["title"].(string))
		if err != nil {
			return nil, err
		}
		attrs["title"] = strconv.Itoa(n + 1)
		r := &storage.Resource{Type: u.Type, ID: u.ID, Version: prev.Version + 1, Created: prev.Created, LastModified: d.now()}
		d.fill(d.user, r, attrs)
		return r, nil
	}
	if !outside {
		return d.try(func(tx storage.Tx) error {
			prev, err := tx.Get("User", u.ID)
			if err != nil {
				return err
			}
			r, err := next(prev)
			if err != nil {
				return err
			}
			return tx.Update(prev, r)
		})
	}
	prev, err := d.Get(ctx, d.tenant, "User", u.ID)
	if err != nil {
		return err
	}
	r, err := next(prev)
	if err != nil {
		return err
	}
	return d.try(func(tx storage.Tx) error { return tx.Update(prev, r) })
}

func raceToDelete(t *testing.T, d *directory) {
	users := d.crowd(racers / 2)
	g := d.addGroup("Staff")
	for i, err := range race(func(i int) error {
		u := users[i/2]
		return d.try(func(tx storage.Tx) error {
			if i%2 == 0 {
				return tx.Delete(u, d.now())
			}
			_, err := tx.AddMembers(g, asMembers(u))
			return err
		})
	}) {
		if _, ok := errors.AsType[*storage.UnknownMemberError](err); err != nil && (i%2 == 0 || !ok) {
			t.Errorf("racer %d: %v", i, err)
		}
	}
	d.wantMembers(g)
	d.wantFound(d.group, `members pr`)
}

func raceToRemain(t *testing.T, d *directory) {
	bosses, other := d.crowd(racers/2), d.addUser("other")
	groups := make([]*storage.Resource, len(bosses))
	for i := range groups {
		groups[i] = d.addGroup(fmt.Sprint("Reports", i))
	}
	seen := make([]int, len(bosses)) // members when the boss was deleted
	for i, err := range race(func(i int) error {
		boss, g := bosses[i/2], groups[i/2]
		return d.try(func(tx storage.Tx) error {
			if i%2 == 0 {
				seen[i/2] = 0
				err := tx.EachMember(g, func(storage.Member) error { seen[i/2]++; return nil })
				return errors.Join(err, tx.Delete(boss, d.now()))
			}
			if err := tx.Remains(boss.Type, boss.ID); err != nil {
				return err
			}
			_, err := tx.AddMembers(g, asMembers(other))
			return err
		})
	}) {
		if err != nil && (i%2 == 0 || !errors.Is(err, storage.ErrNotFound)) {
			t.Errorf("racer %d: %v", i, err)
		}
	}
	for i, g := range groups {
		if n, err := d.CountMembers(t.Context(), d.tenant, g.ID, 1); err != nil || n != seen[i] {
			t.Errorf("CountMembers: got %d, %v; when the boss was deleted there were %d", n, err, seen[i])
		}
	}
}

// during runs write again and again, and read beside it until write has run n
// times or either fails.
func during(t *testing.T, n int, write func(i int) error, read func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		for i := range n {
			if err := write(i); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for reads := 0; ; reads++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("write: %v", err)
			}
			if err := read(); err != nil {
				t.Fatalf("the read after the last write: %v", err)
			}
			return
		default:
		}
		if err := read(); err != nil {
			t.Fatalf("read %d: %v; the writer: %v", reads, err, <-done)
		}
	}
}

func wholeWrites(t *testing.T, d *directory) {
	users := d.crowd(4)
	g, h := d.addGroup("G", users...), d.addGroup("H")
	round := func(i int) []*storage.Resource {
		var next []*storage.Resource
		for _, u := range users {
			v := *u
			v.Version, v.LastModified = u.Version+1, d.now()
			d.fill(d.user, &v, map[string]any{"userName": u.Name, "externalId": strconv.Itoa(i), "title": strconv.Itoa(i)})
			next = append(next, &v)
		}
		return next
	}
	users, err := round(0), error(nil) // from here on all have the same title
	d.do(func(tx storage.Tx) error {
		for _, u := range users {
			err = errors.Join(err, tx.Update(d.hold(u), u))
		}
		return err
	})
	write := func(i int) error {
		next, from, to := round(i+1), g, h
		if i%2 == 1 {
			from, to = h, g
		}
		err := d.try(func(tx storage.Tx) error {
			for j, u := range users {
				if err := tx.Update(u, next[j]); err != nil {
					return err
				}
			}
			_, err := tx.SetMembers(from, nil)
			_, err2 := tx.SetMembers(to, asMembers(users...))
			return errors.Join(err, err2)
		})
		users = next
		return err
	}
	ids := idsOf(users...)
	both := d.parse(d.user, `title pr and groups pr`)
	everybody := d.parse(d.user, `title pr`)
	during(t, 100, write, func() error {
		for _, q := range []storage.Query{{}, {Filter: everybody}, {SortBy: d.user.Lookup("title")}, {Filter: both}} {
			q.Type, q.StartIndex, q.Count = "User", 1, all
			list, _, err := d.query(q)
			if err != nil {
				return err
			}
			if len(list) != len(ids) {
				return fmt.Errorf("%+v: %d users, want %d", q, len(list), len(ids))
			}
			for _, r := range list {
				if r.Version != list[0].Version {
					return fmt.Errorf("%s has version %d, %s has %d", r.Name, r.Version, list[0].Name, list[0].Version)
				}
			}
		}
		got, err := d.Groups(t.Context(), d.tenant, ids...)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if len(got[id]) != 1 || got[id][0] != got[ids[0]][0] {
				return fmt.Errorf("groups are %v", got)
			}
		}
		return nil
	})
}

func handOver(t *testing.T, d *directory) {
	body := func(name string) string {
		return `{"userName":"` + name + `","externalId":"` + name + `","displayName":"` + name + `","emails":[{"value":"` + name + `"}]}`
	}
	a, b := d.add(d.user, body("x")), d.add(d.user, body("y"))
	write := func(i int) error {
		names := []string{"x", "y", "x"}[i%2:]
		tmp := d.revise(d.user, a, body("tmp"))
		nextB := d.revise(d.user, b, body(names[0]))
		nextA := d.revise(d.user, tmp, body(names[1]))
		if err := d.try(func(tx storage.Tx) error {
			return errors.Join(tx.Update(a, tmp), tx.Update(b, nextB), tx.Update(tmp, nextA))
		}); err != nil {
			return err
		}
		a, b = nextA, nextB
		return nil
	}
	var filters []filter.Expr
	for _, attr := range []string{"userName", "externalId", "displayName", "emails.value"} {
		filters = append(filters, d.parse(d.user, attr+` eq "x"`))
	}
	during(t, 150, write, func() error {
		for _, f := range filters {
			list, total, err := d.query(storage.Query{Type: "User", Filter: f, StartIndex: 1, Count: 10})
			if err != nil {
				return err
			}
			if total != 1 || len(list) != 1 {
				return fmt.Errorf("%s: TotalResults is %d with %d resources, want 1", f, total, len(list))
			}
		}
		return nil
	})
}

func heardAndFound(t *testing.T, d *directory) {
	const n = 200
	name := func(i int) string { return fmt.Sprintf("u%d", i) }
	var drafts []*storage.Resource
	var filters [n][]filter.Expr
	for i := range n {
		q := quote(name(i))
		drafts = append(drafts, d.draft(d.user, fmt.Sprintf(`{"userName":%s,"externalId":%s,"displayName":%s,"emails":[{"value":%s}]}`, q, q, q, q)))
		for _, attr := range []string{"userName", "externalId", "displayName", "emails.value"} {
			filters[i] = append(filters[i], d.parse(d.user, attr+" eq "+q))
		}
	}
	seen := 0
	var after int64
	during(t, n, func(i int) error {
		return d.try(func(tx storage.Tx) error {
			return errors.Join(tx.Create(drafts[i]), tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: "create", Type: "User", ID: drafts[i].ID, Version: 1}))
		})
	}, func() error {
		list, err := d.Events(t.Context(), d.tenant, after, 1)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, f := range filters[seen] {
			found, total, err := d.query(storage.Query{Type: "User", Filter: f, StartIndex: 1, Count: 10})
			if err != nil {
				return err
			}
			if total != 1 || len(found) != 1 || found[0].ID != list[0].ID {
				return fmt.Errorf("event %d: %s: TotalResults is %d with %d resources, want 1", list[0].Seq, f, total, len(found))
			}
		}
		seen, after = seen+1, list[0].Seq
		return nil
	})
}

func wholeTotals(t *testing.T, d *directory) {
	pair := func(i int) (a, b *storage.Resource) {
		return d.draft(d.group, fmt.Sprintf(`{"displayName":"a%d"}`, i)), d.draft(d.group, fmt.Sprintf(`{"displayName":"b%d"}`, i))
	}
	var stored []*storage.Resource
	write := func(i int) error {
		a, b := pair(i)
		err := d.try(func(tx storage.Tx) error {
			if len(stored) >= 20 {
				return errors.Join(tx.Delete(stored[0], d.now()), tx.Delete(stored[1], d.now()))
			}
			return errors.Join(tx.Create(a), tx.Create(b))
		})
		if len(stored) >= 20 {
			stored = stored[2:]
		} else {
			stored = append(stored, a, b)
		}
		return err
	}
	filter := d.parse(d.group, `displayName pr`)
	during(t, 200, write, func() error {
		for _, q := range []storage.Query{
			{Count: all}, {Count: all, Filter: filter}, {Count: 3}, {Count: 3, Filter: filter}, {Count: 3, SortBy: d.group.Lookup("displayName")},
		} {
			q.Type, q.StartIndex = "Group", 1
			list, total, err := d.query(q)
			if err != nil {
				return err
			}
			if total%2 != 0 || len(list) != min(total, q.Count) {
				return fmt.Errorf("%+v: TotalResults is %d with %d resources", q, total, len(list))
			}
		}
		return nil
	})
}

// readTogether: a store may give numbers when it is read, and a reader must not
// miss what another reader is just giving one to.
func readTogether(t *testing.T, d *directory) {
	const readers = 4
	seen := int64(0)
	for round := range 8 {
		r := d.draft(d.user, fmt.Sprintf(`{"userName":"u%d"}`, round))
		if err := d.try(func(tx storage.Tx) error { return tx.Create(r) }); err != nil {
			t.Fatal(err)
		}
		var lists [racers][]storage.AuditEntry
		errs := race(func(i int) (err error) {
			if i >= readers {
				return nil
			}
			lists[i], err = d.AuditEntries(t.Context(), d.tenant, seen, 100)
			return err
		})
		for i, list := range lists[:readers] {
			if errs[i] != nil || len(list) != 1 {
				t.Fatalf("round %d: reader %d found %d entries, %v, want the one of the write that was just acknowledged", round, i, len(list), errs[i])
			}
		}
		seen = lists[0][0].Seq
	}
}

func followEvents(t *testing.T, d *directory) {
	const each = 8
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type answer struct {
		seen []storage.AuditEntry
		err  error
	}
	reader := make(chan answer)
	written := make(chan struct{})
	go func() {
		var a answer
		for last := false; ; {
			select {
			case <-written:
				last = true // one more look finds the rest
			default:
			}
			after := int64(0)
			if n := len(a.seen); n > 0 {
				after = a.seen[n-1].Seq
			}
			list, err := d.Events(ctx, d.tenant, after, 7)
			a.seen = append(a.seen, list...)
			if err != nil || last && len(list) == 0 {
				a.err = err
				reader <- a
				return
			}
			for _, e := range list {
				// Whoever hears of a change finds it made.
				r, err := d.Get(ctx, d.tenant, e.Type, e.ID)
				if err != nil || r.Version < e.Version {
					a.err = errors.Join(a.err, fmt.Errorf("event %d of version %d of %s: the store has %+v, %w", e.Seq, e.Version, e.ID, r, err))
				}
			}
		}
	}()
	errs := race(func(i int) error {
		raw := map[string]any{"userName": fmt.Sprint("u", i)}
		r := &storage.Resource{Type: "User", ID: storage.NewID(), Version: 1, Created: d.now(), LastModified: d.now()}
		d.fill(d.user, r, raw)
		for v := range int64(each) {
			err := d.try(func(tx storage.Tx) error {
				var err error
				if v == 0 {
					err = tx.Create(r)
				} else {
					err = tx.Update(&storage.Resource{Type: r.Type, ID: r.ID, Version: v, Ref: r.Ref}, &storage.Resource{Type: r.Type, ID: r.ID, Version: v + 1, LastModified: d.now()})
				}
				err = errors.Join(err, tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: fmt.Sprint(i), Type: "User", ID: r.ID, Version: v + 1}))
				if i%16 == 3 && v%2 == 1 {
					// Some fail first, so that their numbers are given up.
					return errors.Join(err, errTest)
				}
				return err
			})
			if errors.Is(err, errTest) {
				err = d.try(func(tx storage.Tx) error {
					return errors.Join(
						tx.Update(&storage.Resource{Type: r.Type, ID: r.ID, Version: v, Ref: r.Ref}, &storage.Resource{Type: r.Type, ID: r.ID, Version: v + 1, LastModified: d.now()}),
						tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: fmt.Sprint(i), Type: "User", ID: r.ID, Version: v + 1}))
				})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	close(written)
	for i, err := range errs {
		if err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	a := <-reader
	if a.err != nil {
		t.Errorf("reader: %v", a.err)
	}
	whole, err := d.Events(t.Context(), d.tenant, 0, all)
	if err != nil || len(whole) != racers*each {
		t.Fatalf("Events: got %d, %v, want %d", len(whole), err, racers*each)
	}
	seqs := func(list []storage.AuditEntry) (s []int64) {
		for _, e := range list {
			s = append(s, e.Seq)
		}
		return s
	}
	if !slices.Equal(seqs(whole), seqs(a.seen)) {
		t.Errorf("the reader saw %d events, the store has %d:\n%d\n%d", len(a.seen), len(whole), seqs(a.seen), seqs(whole))
	}
	version := map[string]int64{}
	for _, e := range whole {
		if e.Version != version[e.ID]+1 {
			t.Errorf("version %d of %s comes after version %d", e.Version, e.ID, version[e.ID])
		}
		version[e.ID] = e.Version
	}
}
