package storagetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// model is what a directory should hold, in plain maps.
type model struct {
	live map[string]*storage.Resource // by id
	// rows are the members of each group with the displays given. Those of what
	// is deleted are taken out.
	rows   map[string]map[string]string
	unique func(*storage.Resource) []storage.Key
}

func newModel(unique func(*storage.Resource) []storage.Key) *model {
	return &model{map[string]*storage.Resource{}, map[string]map[string]string{}, unique}
}

// ofType returns the live resources of a type, ordered by id.
func (m *model) ofType(name string) []*storage.Resource {
	var list []*storage.Resource
	for _, id := range slices.Sorted(maps.Keys(m.live)) {
		if r := m.live[id]; r.Type == name {
			list = append(list, r)
		}
	}
	return list
}

// taken reports whether somebody other than r has one of its unique keys.
func (m *model) taken(r *storage.Resource) bool {
	for _, other := range m.live {
		if other.Type != r.Type || other.ID == r.ID {
			continue
		}
		for _, k := range m.unique(r) {
			if slices.Contains(m.unique(other), k) {
				return true
			}
		}
	}
	return false
}

// display returns how a group shows a member.
func (m *model) display(group, member string) string {
	if given := m.rows[group][member]; given != "" {
		return given
	}
	return m.live[member].Name
}

// remove deletes a resource as Tx.Delete should.
func (m *model) remove(id string, at time.Time) {
	delete(m.live, id)
	delete(m.rows, id)
	for g, members := range m.rows {
		if _, ok := members[id]; !ok {
			continue
		}
		delete(members, id)
		next := *m.live[g]
		next.Version++
		next.LastModified = at
		m.live[g] = &next
	}
}

// groups returns the groups of a member by id, and whether it is in them directly.
func (m *model) groups(member string) map[string]bool {
	up := map[string]bool{}
	var climb func(id string, direct bool)
	climb = func(id string, direct bool) {
		for g, members := range m.rows {
			if _, ok := members[id]; !ok {
				continue
			}
			was, seen := up[g]
			up[g] = was || direct
			if !seen {
				climb(g, false)
			}
		}
	}
	climb(member, true)
	return up
}

// tree returns a resource as filters see it.
func (m *model) tree(rt *schemas.ResourceType, r *storage.Resource) (map[string]any, error) {
	tree, err := rt.Parse(r.Doc)
	if err != nil {
		return nil, err
	}
	const format = "2006-01-02T15:04:05.000Z"
	tree["meta"] = map[string]any{
		"resourceType": r.Type, "created": r.Created.UTC().Format(format), "lastModified": r.LastModified.UTC().Format(format),
		"version": fmt.Sprintf(`W/"%d"`, r.Version),
	}
	var groups, members []any
	up := m.groups(r.ID)
	for _, g := range slices.Sorted(maps.Keys(up)) { // in an order that a seed repeats
		typ := "indirect"
		if up[g] {
			typ = "direct"
		}
		groups = append(groups, map[string]any{"value": g, "display": m.live[g].Name, "type": typ})
	}
	for _, id := range slices.Sorted(maps.Keys(m.rows[r.ID])) {
		members = append(members, map[string]any{"value": id, "display": m.display(r.ID, id), "type": m.live[id].Type})
	}
	if rt.Top("groups") != nil && groups != nil {
		tree["groups"] = groups
	}
	if rt.Top("members") != nil && members != nil {
		tree["members"] = members
	}
	return tree, nil
}

// selects returns the ids of what a filter matches, in their order.
func selects(e filter.Expr, trees map[string]map[string]any) []string {
	var ids []string
	for id, tree := range trees {
		if e == nil || e.Match(tree) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// order puts ids into the order of a query.
func order(ids []string, trees map[string]map[string]any, by *schemas.Attribute, descending bool) {
	slices.SortFunc(ids, func(a, b string) int {
		n := 0
		if by != nil {
			n = storage.CompareValues(sortValue(by, trees[a]), sortValue(by, trees[b]))
		}
		if n = cmp.Or(n, strings.Compare(a, b)); descending {
			return -n
		}
		return n
	})
}

// sortValue is the value that a tree is ordered by: a string in comparison form,
// a number, a bool, or nil.
func sortValue(a *schemas.Attribute, tree map[string]any) any {
	var path []*schemas.Attribute
	for p := a; p != nil; p = p.Parent {
		path = append(path, p)
	}
	var v any = tree
	for _, p := range slices.Backward(path) {
		m, _ := v.(map[string]any)
		v = m[p.Name]
		if list, ok := v.([]any); ok {
			v = first(list)
		}
	}
	if s, ok := v.(string); ok {
		if a.Type == schemas.DateTime {
			t, _ := schemas.ParseTime(s)
			return storage.Ticks(t)
		}
		return a.Key(s)
	}
	return v
}

// first returns the primary element of a list, or else its first.
func first(list []any) any {
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && m["primary"] == true {
			return e
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[0]
}
