package storagetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

var queryPromises = []promise{
	{"pages hold every resource once, in order, whatever their size", walkPages},
	{"a walk meets every resource once, in order, whatever the size of its pages", walkOn},
	{"a walk meets what is there all the time once, whatever comes and goes", walkAmongChanges},
	{"those in a group, directly or through others, come once and in order, whatever the size of pages", walkGroup},
	{"Count 0 asks for the total only", countZero},
	{"a page past the end is empty and has the total", pastTheEnd},
	{"a large page comes whole", largePage},
	{"what is deleted while a page is read may be missing, and what changed is seen whole", changingPage},
	{"totals and pages are right after creates and deletes in any order", totals},
	{"totals are not moved by a write that fails", totalsOfFailures},
	{"a sort orders by the attribute, then by id, both Descending or neither; no value is last, or first Descending", sortBy},
	{"a multi-valued attribute sorts by its primary or else its first value", sortByMulti},
	{"without SortBy the order is that of ids, Descending the reverse", sortByNothing},
	{"an equality finds long values and tells them apart", longValues},
	{"values are text and nothing else", hostileValues},
	{"instants are compared exactly", instants},
	{"types are apart", typesApart},
	{"what nobody may read is not there, not even for pr or ne", unreadable},
}

// selections are one query of each kind: all, by scan, by each index, sorted.
func selections(d *directory) []storage.Query {
	return []storage.Query{
		{},
		{Descending: true},
		{SortBy: d.user.Lookup("title")},
		{SortBy: d.user.Lookup("meta.lastModified"), Descending: true},
		{Filter: d.parse(d.user, `title eq "t1"`)},
		{Filter: d.parse(d.user, `title eq "t1"`), SortBy: d.user.Lookup("userName"), Descending: true},
		{Filter: d.parse(d.user, `displayName eq "Twin"`)},
		{Filter: d.parse(d.user, `emails.value eq "all@x.example" and title ne "t2"`)},
		{Filter: d.parse(d.user, `meta.lastModified gt "2020-01-01T00:00:00Z"`)},
		{Filter: d.parse(d.user, `userName eq "u7"`)},
		{Filter: d.parse(d.user, `title eq "nobody's"`)},
	}
}

func sampleUsers(d *directory, n int) []*storage.Resource {
	d.t.Helper()
	list := make([]*storage.Resource, n)
	for i := range list {
		display := "Twin"
		if i%3 == 0 {
			display = "Single"
		}
		list[i] = d.draft(d.user, fmt.Sprintf(`{"userName":"u%d","title":"t%d","displayName":"%s","emails":[{"value":"all@x.example"}]}`, i, i%4, display))
	}
	shuffled := slices.Clone(list)
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	d.do(func(tx storage.Tx) error {
		for _, r := range shuffled {
			if err := tx.Create(r); err != nil {
				return err
			}
		}
		return nil
	})
	return list
}

func walkPages(t *testing.T, d *directory) {
	sampleUsers(d, 30)
	for _, q := range selections(d) {
		q.Type, q.StartIndex, q.Count = "User", 1, all
		want, _ := d.page(q)
		for _, size := range []int{1, 7, 29, 30, 31} {
			q.StartIndex, q.Count = 1, size
			var got []string
			for {
				ids, total := d.page(q)
				if total != len(want) {
					t.Errorf("%+v: TotalResults is %d, want %d", q, total, len(want))
				}
				if len(ids) > size {
					t.Fatalf("%+v: the page has %d resources", q, len(ids))
				}
				got = append(got, ids...)
				q.StartIndex += size
				if q.StartIndex > len(want) {
					break
				}
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%+v, pages of %d (-whole +pages):\n%s", q, size, diff)
			}
		}
	}
}

// walk walks through a query in pages of a size and returns the ids; between is called
// between pages.
func (d *directory) walk(q storage.Query, size int, between func(page []string)) []string {
	d.t.Helper()
	q.Walk, q.Count, q.After = true, size, nil
	var got []string
	for first := true; ; first = false {
		p, err := d.Query(d.t.Context(), d.tenant, q)
		if err != nil {
			d.t.Fatalf("Query %+v: %v", q, err)
		}
		if !first && p.TotalResults != 0 {
			d.t.Errorf("%+v: TotalResults is %d behind a mark", q, p.TotalResults)
		}
		list, err := readAll(d.t.Context(), p)
		if err != nil {
			d.t.Fatalf("%+v: %v", q, err)
		}
		ids := idsOf(list...)
		if len(ids) > size || p.Last != nil && len(ids) < size {
			d.t.Fatalf("%+v: a page of %d, the last: %t", q, len(ids), p.Last == nil)
		}
		got = append(got, ids...)
		if p.Last == nil {
			return got
		}
		q.After = p.Last
		between(ids)
	}
}

func walkOn(t *testing.T, d *directory) {
	sampleUsers(d, 30)
	for i := range 5 { // without a value of most attributes
		d.add(d.user, fmt.Sprintf(`{"userName":"bare%d"}`, i))
	}
	for _, q := range append(selections(d),
		storage.Query{SortBy: d.user.Lookup("title"), Descending: true},
		storage.Query{SortBy: d.user.Lookup("active")},
		storage.Query{SortBy: d.user.Lookup("emails.value"), Descending: true},
		storage.Query{SortBy: d.user.Lookup("id")},
		storage.Query{SortBy: d.user.Lookup("meta.created")},
		storage.Query{SortBy: d.user.Lookup("meta.created"), Filter: d.parse(d.user, `emails.value co "all"`)},
	) {
		q.Type, q.StartIndex, q.Count = "User", 1, all
		want, total := d.page(q)
		q.Walk, q.Count = true, 1
		p, err := d.Query(t.Context(), d.tenant, q)
		if err != nil || p.TotalResults != total {
			t.Errorf("%+v: TotalResults is %d, %v, want %d", q, p.TotalResults, err, total)
		}
		for _, size := range []int{1, 7, 29, 30, 31, 600} {
			got := d.walk(q, size, func([]string) {})
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%+v, pages of %d (-whole +walked):\n%s", q, size, diff)
			}
		}
	}
}

func walkGroup(t *testing.T, d *directory) {
	users := sampleUsers(d, 24)
	slices.SortFunc(users, func(a, b *storage.Resource) int { return strings.Compare(a.ID, b.ID) })
	flat := d.addGroup("Flat", users[2:20]...)
	deep := d.addGroup("Deep", users[5:8]...)
	inner := d.addGroup("Inner", append(users[6:15:15], deep)...)
	lost := d.addGroup("Lost", users[21:]...)
	nested := d.addGroup("Nested", append(users[1:5:5], inner, deep, lost)...)
	d.addMembers(deep, nested) // a circle, which nobody makes any more
	d.remove(users[6])
	d.remove(lost)
	in := func(g *storage.Resource, members []*storage.Resource) {
		t.Helper()
		all := slices.DeleteFunc(idsOf(members...), func(id string) bool { return id == users[6].ID })
		for text, title := range map[string]string{``: "", ` and title eq "t1"`: "t1", ` and not (title eq "t1")`: "!t1", ` and groups.value eq "` + nested.ID + `"`: "nested"} {
			want := slices.DeleteFunc(slices.Clone(all), func(id string) bool {
				i := slices.IndexFunc(users, func(r *storage.Resource) bool { return r.ID == id })
				is := strings.Contains(string(users[i].Doc), `"t1"`)
				return title == "t1" && !is || title == "!t1" && is || title == "nested" && (i < 1 || i > 14)
			})
			filter := d.parse(d.user, `groups.value eq "`+g.ID+`"`+text)
			reversed := slices.Clone(want)
			slices.Reverse(reversed)
			for _, q := range []storage.Query{{}, {Descending: true}, {SortBy: d.user.Lookup("id")}, {SortBy: d.user.Lookup("meta.resourceType"), Descending: true}} {
				want := want
				if q.Descending {
					want = reversed
				}
				q.Type, q.Filter = "User", filter
				for _, size := range []int{3, 17} {
					var paged []string
					for q.StartIndex, q.Count = 1, size; q.StartIndex <= len(want)+1; q.StartIndex += size {
						ids, total := d.page(q)
						if total != len(want) {
							t.Errorf("%s%s from %d: TotalResults is %d, want %d", g.Name, text, q.StartIndex, total, len(want))
						}
						paged = append(paged, ids...)
					}
					if diff := cmp.Diff(want, paged, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("%s%s, %+v, pages of %d (-want +pages):\n%s", g.Name, text, q, size, diff)
					}
					if diff := cmp.Diff(want, d.walk(q, size, func([]string) {}), cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("%s%s, %+v, pages of %d (-want +walked):\n%s", g.Name, text, q, size, diff)
					}
				}
			}
		}
	} // There are fewer groups than members, and then more.
	in(flat, users[2:20])
	in(nested, users[1:15])
	many := d.addGroup("Many", users[0])
	for i := range 60 {
		d.addMembers(many, d.addGroup(fmt.Sprintf("Part %d", i), users[7+i%12], users[i%6]))
	}
	in(many, users[:19])
	in(deep, users[1:15])
	in(d.addGroup("Nobody"), nil)
}

func walkAmongChanges(t *testing.T, d *directory) {
	users := sampleUsers(d, 60)
	random := rand.New(rand.NewPCG(7, 8))
	added := 0
	for _, q := range []storage.Query{
		{},
		{Descending: true},
		{SortBy: d.user.Lookup("title")},
		{SortBy: d.user.Lookup("meta.created"), Descending: true},
		{Filter: d.parse(d.user, `userName sw "u"`)},
	} {
		q.Type = "User"
		stay := map[string]bool{}
		for _, r := range users {
			stay[r.ID] = true
		}
		got := d.walk(q, 7, func([]string) {
			added++
			d.add(d.user, fmt.Sprintf(`{"userName":"u-new%d","title":"t%d"}`, added, added%4))
			i := random.IntN(len(users))
			delete(stay, users[i].ID)
			d.remove(users[i])
			users = slices.Delete(users, i, i+1)
		})
		met := map[string]int{}
		for _, id := range got {
			met[id]++
			if met[id] > 1 {
				t.Errorf("%+v: %s was met again", q, id)
			}
		}
		for id := range stay {
			if met[id] != 1 {
				t.Errorf("%+v: %s was there all the time and not met", q, id)
			}
		}
	}
}

func countZero(t *testing.T, d *directory) {
	sampleUsers(d, 20)
	for _, q := range selections(d) {
		q.Type, q.StartIndex, q.Count = "User", 1, all
		_, want := d.page(q)
		for _, start := range []int{1, 5, 100} {
			q.StartIndex, q.Count = start, 0
			if ids, total := d.page(q); total != want || len(ids) != 0 {
				t.Errorf("%+v: got %d and %q, want %d and no resources", q, total, ids, want)
			}
		}
	}
	if ids, total := d.page(storage.Query{Type: "Group", StartIndex: 1, Count: 10}); total != 0 || len(ids) != 0 {
		t.Errorf("groups: got %d and %q, want none", total, ids)
	}
}

func pastTheEnd(t *testing.T, d *directory) {
	sampleUsers(d, 20)
	for _, q := range selections(d) {
		q.Type, q.StartIndex, q.Count = "User", 1, all
		_, want := d.page(q)
		for _, start := range []int{want + 1, want + 2, 1 << 40, math.MaxInt} {
			q.StartIndex, q.Count = start, 10
			if ids, total := d.page(q); total != want || len(ids) != 0 {
				t.Errorf("%+v: got %d and %q, want %d and no resources", q, total, ids, want)
			}
		}
	}
}

func bigUsers(d *directory, n int) []*storage.Resource {
	d.t.Helper()
	list := make([]*storage.Resource, n)
	nick := strings.Repeat("0123456789abcdef", 256)
	for i := range list {
		list[i] = d.draft(d.user, fmt.Sprintf(`{"userName":"big%d","title":"t","nickName":"%s"}`, i, nick))
	}
	d.do(func(tx storage.Tx) error {
		for _, r := range list {
			if err := tx.Create(r); err != nil {
				return err
			}
		}
		return nil
	})
	return list
}

func largePage(t *testing.T, d *directory) {
	want := bigUsers(d, 400)
	for _, q := range []storage.Query{{}, {Filter: d.parse(d.user, `title eq "t"`)}, {SortBy: d.user.Lookup("id")}} {
		q.Type, q.StartIndex, q.Count = "User", 1, 400
		got, total, err := d.query(q)
		if err != nil || total != len(want) {
			t.Errorf("got %d, %v, want %d", total, err, len(want))
		}
		if diff := cmp.Diff(want, got, sameResource); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", q, diff)
		}
	}
}

func changingPage(t *testing.T, d *directory) {
	users := bigUsers(d, 400)
	p, err := d.Query(t.Context(), d.tenant, storage.Query{Type: "User", StartIndex: 1, Count: 400})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range users[380:390] {
		d.remove(r)
	}
	changed := d.replace(users[395], `{"userName":"changed"}`)
	seen := map[string]*storage.Resource{}
	last := ""
	for {
		list, err := p.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, r := range list {
			if r.ID <= last {
				t.Fatalf("%s comes after %s", r.ID, last)
			}
			r := r.Clone()
			seen[r.ID], last = r, r.ID
		}
	}
	for i, r := range users {
		got := seen[r.ID]
		switch {
		case got == nil && (i < 380 || i >= 390):
			t.Errorf("%s is missing", r.Name)
		case got == nil || got.Version == r.Version && cmp.Equal(r, got, sameResource):
		case i != 395 || !cmp.Equal(changed, got, sameResource):
			t.Errorf("%s is neither as it was nor as it is now: version %d", r.Name, got.Version)
		}
	}
}

// totals compares pages with a plain sorted list of ids while thousands of
// resources come and go.
func totals(t *testing.T, d *directory) {
	raced.Skip(t)
	const n = 4000
	rng := rand.New(rand.NewPCG(7, 7))
	var live []*storage.Resource // ordered by id
	byID := func(r *storage.Resource, id string) int { return strings.Compare(r.ID, id) }
	name := 0
	create := func() *storage.Resource {
		name++
		id := randomID(rng)
		if rng.IntN(4) > 0 { // mostly one after the other, as ids are given
			id = fmt.Sprintf("%08x", name) + id[8:]
		}
		return d.withID(d.draft(d.group, fmt.Sprintf(`{"displayName":"g%d"}`, name)), id)
	}
	check := func() {
		t.Helper()
		ids := idsOf(live...)
		for range 6 {
			start, count := 1+rng.IntN(len(ids)+3), rng.IntN(60)
			want := ids[min(start-1, len(ids)):min(start-1+count, len(ids))]
			got, total := d.page(storage.Query{Type: "Group", StartIndex: start, Count: count})
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); total != len(ids) || diff != "" {
				t.Fatalf("%d from %d of %d: TotalResults is %d (-want +got):\n%s", count, start, len(ids), total, diff)
			}
		}
	}
	check()
	for name < n {
		creates, deletes := rng.IntN(300), 0
		if name > n/4 {
			deletes = min(rng.IntN(120), len(live))
		}
		var added, gone []*storage.Resource
		for range creates {
			added = append(added, create())
		}
		next := slices.Clone(live)
		for range deletes {
			i := rng.IntN(len(next))
			if rng.IntN(2) == 0 { // empty whole stretches too
				i = min(len(next)-1, len(next)/3)
			}
			gone = append(gone, next[i])
			next = slices.Delete(next, i, i+1)
		}
		d.do(func(tx storage.Tx) error {
			for _, r := range added {
				if err := tx.Create(r); err != nil {
					return err
				}
			}
			for _, r := range gone {
				if err := tx.Delete(r, d.now()); err != nil {
					return err
				}
			}
			return nil
		})
		for _, r := range added {
			i, _ := slices.BinarySearchFunc(next, r.ID, byID)
			next = slices.Insert(next, i, r)
		}
		live = next
		check()
	}
	var walked []string
	for start := 1; start <= len(live); start += 500 {
		ids, _ := d.page(storage.Query{Type: "Group", StartIndex: start, Count: 500})
		walked = append(walked, ids...)
	}
	if diff := cmp.Diff(idsOf(live...), walked); diff != "" {
		t.Errorf("pages of 500 (-want +got):\n%s", diff)
	}
	for portion := range slices.Chunk(live, 1000) {
		d.do(func(tx storage.Tx) error {
			for _, r := range portion {
				if err := tx.Delete(r, d.now()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	live = nil
	check()
	d.addGroup("the first again")
	if ids, total := d.page(storage.Query{Type: "Group", StartIndex: 1, Count: 10}); total != 1 || len(ids) != 1 {
		t.Errorf("after all were deleted and one came: got %d and %q", total, ids)
	}
}

// randomID has the form of a UUIDv7 and no order.
func randomID(rng *rand.Rand) string {
	var u uuid.UUID
	for i := range u {
		u[i] = byte(rng.Uint32())
	}
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80
	return u.String()
}

func totalsOfFailures(t *testing.T, d *directory) {
	users := sampleUsers(d, 10)
	held := d.hold(users[3])
	for _, fails := range []error{errTest, storage.ErrConflict} {
		wantError(t, "Write", d.try(func(tx storage.Tx) error {
			if err := tx.Delete(held, d.now()); err != nil {
				return err
			}
			if err := tx.Create(d.draft(d.user, `{"userName":"x"}`)); err != nil {
				return err
			}
			if err := tx.Create(d.draft(d.user, `{"userName":"y"}`)); err != nil {
				return err
			}
			return fails
		}), fails)
	}
	wantUnique(t, "Write", d.try(func(tx storage.Tx) error { return tx.Create(d.draft(d.user, `{"userName":"u1"}`)) }), "userName")
	if ids, total := d.page(storage.Query{Type: "User", StartIndex: 1, Count: all}); total != 10 || len(ids) != 10 {
		t.Errorf("got %d and %d resources, want 10", total, len(ids))
	}
}

func (d *directory) wantOrder(q storage.Query, want ...*storage.Resource) {
	d.t.Helper()
	q.StartIndex, q.Count = 1, all
	ids, total := d.page(q)
	name := map[string]string{}
	var wantNames, gotNames []string
	for _, r := range want {
		name[r.ID] = r.Name
		wantNames = append(wantNames, r.Name)
	}
	for _, id := range ids {
		gotNames = append(gotNames, name[id])
	}
	if diff := cmp.Diff(wantNames, gotNames); total != len(want) || diff != "" {
		d.t.Errorf("by %v, descending %v: total %d (-want +got):\n%s", q.SortBy, q.Descending, total, diff)
	}
}

func sortBy(_ *testing.T, d *directory) {
	// a and e have the same values and are told apart by their ids.
	a := d.add(d.user, `{"userName":"a","name":{"familyName":"Ng"},"title":"Z","active":true}`)
	b := d.add(d.user, `{"userName":"B","name":{"familyName":"ng ab"},"active":false}`)
	c := d.add(d.user, `{"userName":"c","name":{"familyName":"Ａdams"}}`)
	n := d.add(d.user, `{"userName":"n","name":{"givenName":"None"}}`)
	e := d.add(d.user, `{"userName":"e","name":{"familyName":"NG"},"title":"z","active":true}`)
	f := d.add(d.user, `{"userName":"f","name":{"familyName":"Ångström"}}`)
	g := d.add(d.user, `{"userName":"g","name":{"familyName":"\ufffd"}}`)
	h := d.add(d.user, `{"userName":"h","name":{"familyName":"😀"}}`)
	b2 := d.replace(b, `{"userName":"B","name":{"familyName":"ng ab"},"active":false,"title":"y"}`)
	for _, s := range []struct {
		by   string
		want []*storage.Resource
	}{
		{"userName", []*storage.Resource{a, b2, c, e, f, g, h, n}},
		{"name.familyName", []*storage.Resource{c, a, e, b2, f, g, h, n}},
		{"title", []*storage.Resource{b2, a, e, c, n, f, g, h}},
		{"active", []*storage.Resource{b2, a, e, c, n, f, g, h}},
		{"meta.created", []*storage.Resource{a, b2, c, n, e, f, g, h}},
		{"meta.lastModified", []*storage.Resource{a, c, n, e, f, g, h, b2}},
		{"id", []*storage.Resource{a, b2, c, n, e, f, g, h}},
		{"nickName", []*storage.Resource{a, b2, c, n, e, f, g, h}},
	} {
		q := storage.Query{Type: "User", SortBy: d.user.Lookup(s.by)}
		d.wantOrder(q, s.want...)
		q.Descending = true
		back := slices.Clone(s.want)
		slices.Reverse(back)
		d.wantOrder(q, back...)
	}
	d.wantOrder(storage.Query{Type: "User", SortBy: d.user.Lookup("userName"), Filter: d.parse(d.user, `title pr`), Descending: true}, e, b2, a)
}

func sortByMulti(_ *testing.T, d *directory) {
	a := d.add(d.user, `{"userName":"a","emails":[{"value":"z@x","type":"work"},{"value":"b@x","primary":true}]}`)
	b := d.add(d.user, `{"userName":"b","emails":[{"value":"C@x"},{"value":"a@x"}]}`)
	c := d.add(d.user, `{"userName":"c"}`)
	e := d.add(d.user, `{"userName":"e","emails":[{"value":"a@x","primary":false},{"type":"home","primary":true}]}`)
	f := d.add(d.user, `{"userName":"f","emails":[{"value":"a@x"}]}`)
	d.wantOrder(storage.Query{Type: "User", SortBy: d.user.Lookup("emails.value")}, f, a, b, c, e)
	d.wantOrder(storage.Query{Type: "User", SortBy: d.user.Lookup("emails.value"), Descending: true}, e, c, b, a, f)
	d.wantOrder(storage.Query{Type: "User", SortBy: d.user.Lookup("emails.type")}, e, a, b, c, f)

	w := d.add(d.device, `{"displayName":"w","tags":["b","a"],"levels":[10],"ports":[{"value":2,"protocols":["a b"]},{"value":1}]}`)
	x := d.add(d.device, `{"displayName":"x","tags":["a","c"],"levels":[9],"ports":[{"value":1,"protocols":["a"]}]}`)
	y := d.add(d.device, `{"displayName":"y","tags":["c"],"ports":[{"value":3,"protocols":["a","b"]}]}`)
	for by, want := range map[string][]*storage.Resource{
		"tags": {x, w, y}, "levels": {x, w, y}, "ports.value": {x, w, y}, "ports.protocols": {x, y, w},
	} {
		d.wantOrder(storage.Query{Type: "Device", SortBy: d.device.Lookup(by)}, want...)
	}
}

func sortByNothing(t *testing.T, d *directory) {
	want := idsOf(sampleUsers(d, 30)...)
	slices.Sort(want)
	for range 2 {
		for _, f := range []string{"", "title pr", `emails.value eq "all@x.example"`, `meta.lastModified gt "2020-01-01T00:00:00Z"`} {
			for _, descending := range []bool{false, true} {
				q := storage.Query{Type: "User", StartIndex: 1, Count: all, Descending: descending}
				if f != "" {
					q.Filter = d.parse(d.user, f)
				}
				got, _ := d.page(q)
				if descending {
					slices.Reverse(got)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%q, descending %v (-want +got):\n%s", f, descending, diff)
				}
			}
		}
	}
}

func longValues(_ *testing.T, d *directory) {
	long := strings.Repeat("lång ", 100)
	var users []*storage.Resource
	for i := range 3 {
		v := quote(fmt.Sprint(long, i))
		users = append(users, d.add(d.user, fmt.Sprintf(`{"userName":%s,"externalId":%s,"displayName":%s,"title":%s,"emails":[{"value":%s}]}`, v, v, v, v, v)))
	}
	for i, u := range users {
		v := quote(fmt.Sprint(long, i))
		for _, attr := range []string{"userName", "externalId", "displayName", "title", "emails.value"} {
			d.wantFound(d.user, attr+" eq "+v, u)
		}
		d.wantFound(d.user, "userName eq "+quote(strings.ToUpper(fmt.Sprint(long, i))), u)
		d.wantFound(d.user, "externalId eq "+quote(strings.ToUpper(fmt.Sprint(long, i))))
	}
	d.wantFound(d.user, "userName eq "+quote(storage.IndexValue(users[0].Name)))
	d.wantFound(d.user, "userName eq "+quote(long))
	d.wantFound(d.user, "userName sw "+quote(long), users...)
}

// hostile are values that mean something to a database.
var hostile = []string{
	`'`, `''`, `"`, `\`, `\'`, `%`, `_`, `%%`, `$`, `$.a`, `$where`, `{"$gt":""}`, `{"$ne":null}`, `?`, `?1`, `:a`, `@a`, `;`, `--`, `/*`, `' OR '1'='1`, `' OR 1=1 --`,
	`'); DROP TABLE resource; --`, `x' UNION SELECT doc FROM resource --`, `\u0027`, `*`, `[a]`, `.*`, `^`, `$$`, `a.b`, `null`, `true`, `0`, `0x10`,
	"\u02bc", "＇", "＂", "％", "line\nfeed", "tab\t", "\x01", "\x7f", "é", "e\u0301", "😀", "\u2028", "\ufeff", "İ", "ı", "ﬁ", "ſ",
}

func hostileValues(t *testing.T, d *directory) {
	owner := map[string]*storage.Resource{}
	for i, v := range hostile {
		r := d.draft(d.user, fmt.Sprintf(`{"userName":"h%d","externalId":%s,"displayName":%s,"title":%s,"emails":[{"value":%s,"type":"work"}],"roles":[{"value":"x"},{"value":%s}]}`,
			i, quote(v), quote(v), quote(v), quote(v), quote(v)))
		owner[v] = r
	}
	d.do(func(tx storage.Tx) error {
		for _, r := range owner {
			if err := tx.Create(r); err != nil {
				return err
			}
		}
		return nil
	})
	for _, v := range hostile {
		var same []*storage.Resource
		for w, r := range owner {
			if schemas.Fold(w) == schemas.Fold(v) {
				same = append(same, r)
			}
		}
		q := quote(v)
		d.wantFound(d.user, `externalId eq `+q, owner[v])
		d.wantFound(d.user, `displayName eq `+q, same...)
		d.wantFound(d.user, `title eq `+q, same...)
		d.wantFound(d.user, `emails.value eq `+q, same...)
		d.wantFound(d.user, `emails[type eq "work" and value eq `+q+`]`, same...)
		d.wantFound(d.user, `roles[value eq `+q+` and not (type pr)]`, same...)
		d.wantFound(d.user, `title ge `+q+` and title le `+q, same...)
		for _, op := range []string{"co", "sw", "ew"} {
			if !slices.Contains(d.find(d.user, `title `+op+` `+q), owner[v].ID) {
				t.Errorf("title %s %s does not find it", op, q)
			}
		}
	}
	if _, total := d.page(storage.Query{Type: "User", StartIndex: 1}); total != len(hostile) {
		t.Errorf("TotalResults is %d afterwards, want %d", total, len(hostile))
	}
}

func instants(_ *testing.T, d *directory) {
	u := d.draft(d.user, `{"userName":"ana"}`) // at 12:00:00.988
	u.LastModified = u.Created
	d.do(func(tx storage.Tx) error { return tx.Create(u) })
	at := u.Created.Format("2006-01-02T15:04:05")
	for _, c := range []struct {
		text       string
		eq, lt, gt bool // how the resource's instant compares with it
	}{
		{at + ".988Z", true, false, false},
		{at + ".988", true, false, false},
		{at + ".988000000Z", true, false, false},
		{u.Created.Add(2*3600e9).Format("2006-01-02T15:04:05") + ".988+02:00", true, false, false},
		{at + ".9880001Z", false, true, false},
		{at + ".988000099Z", true, false, false}, // finer than what is compared
		{at + ".9879999Z", false, false, true},
		{at + ".987999999Z", false, false, true},
		{at + ".987Z", false, false, true},
		{at + ".989Z", false, true, false},
		{"9999-12-31T23:59:59Z", false, true, false},
		{"0001-01-01T00:00:00Z", false, false, true},
	} {
		for _, attr := range []string{"meta.created", "meta.lastModified"} {
			for op, selects := range map[string]bool{
				"eq": c.eq, "ne": !c.eq, "lt": c.lt, "le": c.lt || c.eq, "gt": c.gt, "ge": c.gt || c.eq,
			} {
				var want []*storage.Resource
				if selects {
					want = append(want, u)
				}
				d.wantFound(d.user, attr+" "+op+" "+quote(c.text), want...)
				d.wantFound(d.user, attr+" "+op+" "+quote(c.text)+` and userName eq "ana"`, want...)
			}
		}
	}
}

func typesApart(_ *testing.T, d *directory) {
	u, g := d.addUser("x"), d.addGroup("x")
	v := d.add(d.device, `{"displayName":"x"}`)
	for _, id := range idsOf(u, g, v) {
		f := `id eq "` + id + `"`
		d.wantFound(d.user, f, slices.DeleteFunc([]*storage.Resource{u}, func(r *storage.Resource) bool { return r.ID != id })...)
		d.wantFound(d.group, f, slices.DeleteFunc([]*storage.Resource{g}, func(r *storage.Resource) bool { return r.ID != id })...)
		d.wantFound(d.device, f, slices.DeleteFunc([]*storage.Resource{v}, func(r *storage.Resource) bool { return r.ID != id })...)
	}
	d.wantFound(d.user, `meta.resourceType eq "User"`, u)
	d.wantFound(d.user, `meta.resourceType eq "Group"`)
	d.wantFound(d.group, `meta.lastModified gt "2020-01-01T00:00:00Z"`, g)
}

func unreadable(_ *testing.T, d *directory) {
	hidden := d.add(d.device, `{"displayName":"hidden","pin":"1234","maker":{"contract":"x"},"ports":[{"secret":"a"},{"secret":"b"}]}`)
	part := d.add(d.device, `{"displayName":"part","maker":{"contract":"x","name":"m"},"ports":[{"secret":"a"},{"secret":"b","value":1}]}`)
	d.wantFound(d.device, `displayName pr`, hidden, part)
	for _, f := range []string{`maker pr`, `ports pr`, `ports.open ne true`, `ports[not (value eq 2)]`, `maker[name ne "x"]`, `ports.value ne 2`} {
		d.wantFound(d.device, f, part)
	}
	for _, f := range []string{`ports[not (value pr)]`, `ports.value ne 1`} {
		d.wantFound(d.device, f)
	}
	d.wantOrder(storage.Query{Type: "Device", SortBy: d.device.Lookup("ports.value")}, part, hidden)
}
