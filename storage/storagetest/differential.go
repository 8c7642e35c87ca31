package storagetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

var differentialPromises = []promise{
	{"store and model agree after random writes and on random filters, first world", differential(0)},
	{"store and model agree after random writes and on random filters, second world", differential(1)},
	{"store and model agree after random writes and on random filters, third world", differential(2)},
	{"store and model agree after random writes and on random filters, fourth world", differential(3)},
}

const worlds = 4

const usualFilters = 2000

// setting reads a number from the environment.
func setting(t *testing.T, name string, usual uint64) (n uint64, given bool) {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return usual, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// differential fills a directory of its own for each of the worlds, which share
// the filters out among them.
func differential(number uint64) func(*testing.T, *directory) {
	return func(t *testing.T, d *directory) {
		raced.Skip(t)
		filters, many := setting(t, "ROSTER_TEST_FILTERS", usualFilters)
		seed, changes := uint64(1), 200
		if many {
			seed, changes = rand.Uint64(), 600
		}
		seed, given := setting(t, "ROSTER_TEST_SEED", seed+number)
		if given && number > 0 {
			t.Skip("one world repeats the run")
		}
		explore(t, d, seed, changes, int(filters/worlds))
	}
}

// Agree fills a new store of each kind with the same random data and asks them all
// the same random filters: every answer has to be that of filter.Expr's Match, and
// the same from all stores, resources to the byte.
func Agree(t *testing.T, open ...func(t *testing.T) storage.Store) {
	filters, many := setting(t, "ROSTER_TEST_FILTERS", usualFilters)
	seed, changes := uint64(11), 300
	if many {
		seed, changes = rand.Uint64(), 600
	}
	seed, _ = setting(t, "ROSTER_TEST_SEED", seed)
	var first []string
	for i, o := range open {
		answers := explore(t, newDirectory(t, o), seed, changes, int(filters))
		if i == 0 {
			first = answers
		}
		if diff := cmp.Diff(first, answers); diff != "" {
			t.Fatalf("seed %d: the first store and number %d differ (-first +other):\n%s", seed, i+1, diff)
		}
	}
}

// explore compares store and model in a world of its own. It returns what the
// store answered, a line for each filter.
func explore(t *testing.T, d *directory, seed uint64, changes, filters int) []string {
	w := &world{directory: d, g: newGenerator(seed), model: newModel(d.unique)}
	w.fill(changes)
	if t.Failed() {
		return nil
	}
	w.compare()
	w.load()
	tally := map[string]int{}
	for i := range filters {
		rt := []*schemas.ResourceType{d.user, d.device, d.user, d.group, d.device}[i%5]
		tally[w.ask(rt, w.g.filterOn(rt))]++
		if t.Failed() {
			t.Fatalf("seed %d, filter %d: repeat it with ROSTER_TEST_SEED=%d", seed, i, seed)
		}
	}
	// A suite whose filters select nothing, or everything, would prove little.
	t.Logf("seed %d: %v", seed, tally)
	if some := tally["some"]; some*5 < filters*2 {
		t.Errorf("seed %d: of %d filters only %d select some resources and not others: %v", seed, filters, some, tally)
	}
	return w.answers
}

// world is a directory and the model of it.
type world struct {
	*directory
	g     *generator
	model *model
	trees map[string]map[string]map[string]any // by type and id
	// answers are what the store said to each filter.
	answers []string
}

// ids returns the ids of live resources of the types.
func (w *world) ids(types ...string) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(w.model.live)) {
		if slices.Contains(types, w.model.live[id].Type) {
			ids = append(ids, id)
		}
	}
	return ids
}

// make makes a resource at random.
func (w *world) make(rt *schemas.ResourceType, id string) *storage.Resource {
	w.t.Helper()
	body := w.g.resource(rt)
	attrs, err := rt.Bind(body, schemas.Lenient)
	if err != nil {
		w.t.Fatalf("Bind %v: %v", body, err)
	}
	now := w.now()
	r := &storage.Resource{Type: rt.Name, ID: id, Version: 1, Created: now, LastModified: now}
	w.directory.fill(rt, r, attrs)
	return r
}

// some picks up to n of the ids.
func (w *world) some(ids []string, n int) []string {
	var out []string
	for range w.g.IntN(n + 1) {
		if len(ids) > 0 {
			out = append(out, pick(w.g, ids))
		}
	}
	return out
}

// fill makes random changes in the store and in the model, in writes of up to ten.
func (w *world) fill(changes int) {
	w.t.Helper()
	acme := w.in(acme) // whose resources nobody here should ever see
	for changes > 0 {
		n := 1 + w.g.IntN(10)
		changes -= n
		before := w.model.clone()
		var steps []func(storage.Tx) error
		for range n {
			if step := w.change(); step != nil {
				steps = append(steps, step)
			}
		}
		fails := w.g.chance(10)
		err := w.try(func(tx storage.Tx) error {
			for _, step := range steps {
				if err := step(tx); err != nil {
					return err
				}
			}
			if fails {
				return errTest
			}
			return nil
		})
		switch {
		case fails && errors.Is(err, errTest):
			w.model = before
		case err != nil:
			w.t.Fatalf("seed %d: write: %v", w.g.seed, err)
		}
		if w.g.chance(20) {
			r := acme.withID(w.make(w.user, randomID(w.g.Rand)), randomID(w.g.Rand))
			if err := acme.try(func(tx storage.Tx) error { return tx.Create(r) }); err != nil {
				if _, ok := errors.AsType[*storage.UniqueError](err); !ok {
					w.t.Fatal(err)
				}
			}
		}
	}
}

// clone copies a model; resources in it are never changed in place.
func (m *model) clone() *model {
	c := newModel(m.unique)
	maps.Copy(c.live, m.live)
	for g, members := range m.rows {
		c.rows[g] = maps.Clone(members)
	}
	return c
}

// change makes one change in the model and returns the step that makes it in the
// store, and checks that the store answers as the model would.
func (w *world) change() func(storage.Tx) error {
	m := w.model
	switch p := w.g.IntN(100); {
	case p < 50:
		rt := pick(w.g, []*schemas.ResourceType{w.user, w.user, w.group, w.device})
		r := w.make(rt, randomID(w.g.Rand))
		if m.taken(r) {
			return nil // creating it would end the write; see unique
		}
		m.live[r.ID] = r
		return func(tx storage.Tx) error { return tx.Create(r) }
	case p < 65:
		return w.replaceOne()
	case p < 72:
		ids := w.ids("User", "Group", "Device")
		if len(ids) == 0 {
			return nil
		}
		prev, at := m.live[pick(w.g, ids)], w.now()
		m.remove(prev.ID, at)
		return func(tx storage.Tx) error {
			held, err := w.held(tx, prev)
			if err != nil {
				return err
			}
			return tx.Delete(held, at)
		}
	}
	groups := w.ids("Group")
	if len(groups) == 0 {
		return nil
	}
	return w.changeMembers(m.live[pick(w.g, groups)])
}

func (w *world) replaceOne() func(storage.Tx) error {
	m := w.model
	ids := w.ids("User", "Group", "Device")
	if len(ids) == 0 {
		return nil
	}
	prev := m.live[pick(w.g, ids)]
	next := w.make(w.typeOf(prev), prev.ID)
	next.Version, next.Created = prev.Version+1, prev.Created
	sent := next
	if w.g.chance(30) || m.taken(next) {
		kept := *prev
		kept.Version, kept.LastModified = next.Version, next.LastModified
		next = &kept
		sent = &storage.Resource{Type: prev.Type, ID: prev.ID, Version: next.Version, Created: next.Created, LastModified: next.LastModified}
	}
	m.live[prev.ID] = next
	return func(tx storage.Tx) error {
		held, err := w.held(tx, prev)
		if err != nil {
			return err
		}
		return tx.Update(held, sent)
	}
}

// held reads a resource that has to be as the model says.
func (w *world) held(tx storage.Tx, want *storage.Resource) (*storage.Resource, error) {
	held, err := tx.Get(want.Type, want.ID)
	if err != nil {
		return nil, err
	}
	if diff := cmp.Diff(want, held, sameResource); diff != "" {
		return nil, fmt.Errorf("inside a write (-model +store):\n%s", diff)
	}
	return held, nil
}

func (w *world) changeMembers(group *storage.Resource) func(storage.Tx) error {
	m := w.model
	rows := m.rows[group.ID]
	if rows == nil {
		rows = map[string]string{}
		m.rows[group.ID] = rows
	}
	ids := w.some(w.ids("User", "Group"), 8)
	if w.g.chance(30) { // some who are there already
		ids = append(ids, w.some(slices.Sorted(maps.Keys(rows)), 3)...)
	}
	members := make([]storage.Member, len(ids))
	for i, id := range ids {
		members[i].Value = id
		if w.g.chance(30) {
			members[i].Display = w.g.text()
		}
	}
	want := 0
	add := func() {
		for _, e := range members {
			if _, ok := rows[e.Value]; ok {
				continue
			}
			want++
			rows[e.Value] = e.Display
		}
	}
	var do func(tx storage.Tx, g *storage.Resource) (int, error)
	switch w.g.IntN(4) {
	case 0:
		for _, id := range ids {
			if _, ok := rows[id]; ok {
				want++
				delete(rows, id)
			}
		}
		do = func(tx storage.Tx, g *storage.Resource) (int, error) { return tx.RemoveMembers(g, ids) }
	case 1:
		for id := range rows {
			if !slices.Contains(ids, id) {
				want++
				delete(rows, id)
			}
		}
		add()
		do = func(tx storage.Tx, g *storage.Resource) (int, error) { return tx.SetMembers(g, members) }
	default:
		add()
		do = func(tx storage.Tx, g *storage.Resource) (int, error) { return tx.AddMembers(g, members) }
	}
	return func(tx storage.Tx) error {
		held, err := tx.Get("Group", group.ID)
		if err != nil {
			return err
		}
		got, err := do(tx, held)
		if err == nil && got != want {
			err = fmt.Errorf("the members of %s changed by %d rows, in the model by %d", group.ID, got, want)
		}
		return err
	}
}

// compare checks everything that can be read of the store against the model.
func (w *world) compare() {
	w.t.Helper()
	for _, rt := range []*schemas.ResourceType{w.user, w.group, w.device} {
		want := w.model.ofType(rt.Name)
		got, total, err := w.query(storage.Query{Type: rt.Name, StartIndex: 1, Count: all})
		if diff := cmp.Diff(want, got, sameResource); err != nil || total != len(want) || diff != "" {
			w.t.Errorf("seed %d: %s: total %d, %v (-model +store):\n%s", w.g.seed, rt.Name, total, err, diff)
		}
		for _, r := range got {
			up := w.model.groups(r.ID)
			var want []storage.Membership
			for g, direct := range up {
				want = append(want, storage.Membership{Group: g, Display: w.model.live[g].Name, Direct: direct})
			}
			if rt != w.device {
				w.wantGroups(r, want...)
			}
			if in := slices.Contains(slices.Collect(maps.Values(up)), true); in && !r.InGroups {
				w.t.Errorf("seed %d: %s: InGroups is %v", w.g.seed, r.ID, r.InGroups)
			}
		}
	}
	for _, g := range w.model.ofType("Group") {
		var want []storage.Member
		for id := range w.model.rows[g.ID] {
			want = append(want, storage.Member{Value: id, Type: w.model.live[id].Type, Display: w.model.display(g.ID, id)})
		}
		if diff := cmp.Diff(byValue(want), w.members(g), cmpopts.EquateEmpty()); diff != "" {
			w.t.Errorf("seed %d: members of %s (-model +store):\n%s", w.g.seed, g.ID, diff)
		}
	}
}

// load makes the trees that filters are matched against.
func (w *world) load() {
	w.t.Helper()
	w.trees = map[string]map[string]map[string]any{}
	for _, rt := range []*schemas.ResourceType{w.user, w.group, w.device} {
		trees := map[string]map[string]any{}
		for _, r := range w.model.ofType(rt.Name) {
			tree, err := w.model.tree(rt, r)
			if err != nil {
				w.t.Fatal(err)
			}
			w.g.observe(rt.Attributes(), tree)
			trees[r.ID] = tree
		}
		w.trees[rt.Name] = trees
	}
}

// ask compares the answers to one filter, as a whole, in another order and in
// small pages. It tells whether the filter selects all, some or no resources.
func (w *world) ask(rt *schemas.ResourceType, text string) string {
	w.t.Helper()
	e, trees := w.parse(rt, text), w.trees[rt.Name]
	want := selects(e, trees)
	q := storage.Query{Type: rt.Name, Filter: e, StartIndex: 1, Count: all}
	if w.g.chance(30) {
		q.SortBy, q.Descending = w.sortable(rt), w.g.chance(50)
		order(want, trees, q.SortBy, q.Descending)
	}
	got, total, err := w.query(q)
	if err != nil {
		w.t.Errorf("%s: %v", text, err)
		return "failed"
	}
	w.note(text, got, total)
	if ids := idsOf(got...); total != len(want) || !slices.Equal(want, ids) {
		w.report(rt, q, text, want, ids, total)
		return "wrong"
	}
	if w.g.chance(12) {
		w.askPages(q, text, want)
	}
	switch len(want) {
	case 0:
		return "none"
	case len(trees):
		return "all"
	}
	return "some"
}

// note keeps an answer.
func (w *world) note(text string, got []*storage.Resource, total int) {
	h := fnv.New64a()
	for _, r := range got {
		fmt.Fprintf(h, "%s %s %d %s %s %s\n", r.Type, r.ID, r.Version, r.Created, r.LastModified, r.Doc)
	}
	w.answers = append(w.answers, fmt.Sprintf("%s: %d of %d, %x", text, len(got), total, h.Sum64()))
}

func (w *world) askPages(q storage.Query, text string, want []string) {
	w.t.Helper()
	size := 1 + w.g.IntN(9)
	for pages := range 3 {
		q.StartIndex, q.Count = 1+pages*size, size
		if pages == 2 { // any page, past the end too
			q.StartIndex, q.Count = 1+w.g.IntN(len(want)+3), w.g.IntN(5)
		}
		ids, total := w.page(q)
		part := want[min(q.StartIndex-1, len(want)):min(q.StartIndex-1+q.Count, len(want))]
		if total != len(want) || !slices.Equal(part, ids) {
			w.t.Errorf("%s: %d from %d on, by %v, descending %v: TotalResults is %d, want %d; got %q, want %q",
				text, q.Count, q.StartIndex, q.SortBy, q.Descending, total, len(want), ids, part)
		}
	}
}

// sortable picks an attribute that lists may be ordered by.
func (w *world) sortable(rt *schemas.ResourceType) *schemas.Attribute {
	for {
		a := pick(w.g, filterable(rt)).Leaf()
		if a != nil && a.Type != schemas.Complex && !a.Top().Detached {
			return a
		}
	}
}

// report says where the store and Match disagree, and on which part of the
// filter.
func (w *world) report(rt *schemas.ResourceType, q storage.Query, text string, want, got []string, total int) {
	w.t.Helper()
	missing := slices.DeleteFunc(slices.Clone(want), func(id string) bool { return slices.Contains(got, id) })
	extra := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return slices.Contains(want, id) })
	w.t.Errorf("seed %d: %ss by %v, descending %v: %s\nTotalResults is %d, Match selects %d; missing %q, wrongly there %q",
		w.g.seed, rt.Name, q.SortBy, q.Descending, text, total, len(want), missing, extra)
	if len(missing)+len(extra) == 0 {
		w.t.Errorf("the same in another order: got %q, want %q", got, want)
		return
	}
	part := w.smallest(rt, q.Filter)
	w.t.Errorf("they differ on: %s", part)
	for _, id := range slices.Concat(missing, extra)[:1] {
		tree, err := json.Marshal(w.trees[rt.Name][id])
		w.t.Errorf("for example on: %s %v", tree, err)
	}
}

// smallest returns the smallest part of a filter on which store and Match differ.
func (w *world) smallest(rt *schemas.ResourceType, e filter.Expr) filter.Expr {
	var parts []filter.Expr
	switch e := e.(type) {
	case filter.And:
		parts = e
	case filter.Or:
		parts = e
	case filter.Not:
		parts = []filter.Expr{e.Expr}
	}
	for _, p := range parts {
		got, _, err := w.query(storage.Query{Type: rt.Name, Filter: p, StartIndex: 1, Count: all})
		if err != nil || !slices.Equal(idsOf(got...), selects(p, w.trees[rt.Name])) {
			return w.smallest(rt, p)
		}
	}
	return e
}
