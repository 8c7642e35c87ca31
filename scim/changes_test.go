package scim

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func ids(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("01a20000-0000-7000-8000-%012d", i))
	}
	return list
}

func told(list []storage.Change) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%s %s > %s;", c.Path, c.Before, c.After)
	}
	return b.String()
}

// TestChangesAreBounded: however much changes, an entry has 16 KiB of it at most,
// and is JSON that a store takes.
func TestChangesAreBounded(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	user := set.Type("User")
	prev, next := map[string]any{}, map[string]any{}
	for _, a := range user.Attributes() {
		if a.Type == schemas.String && !a.MultiValued {
			prev[a.Name], next[a.Name] = strings.Repeat("a", 4094), strings.Repeat("é", 4096)
		}
	}
	next["title"] = "short"
	paths, c := differences(user, prev, next)
	c.members(true, ids(0, 5000), 5000)
	for i := range 5000 {
		c.members(false, ids(i, i+1), 1)
	}
	size := 0
	list := c.whole()
	for i, v := range list {
		size += len(v.Before) + len(v.After)
		if i < len(paths) && v.Path != paths[i] {
			t.Errorf("change %d is of %s, want %s", i, v.Path, paths[i])
		}
	}
	e := storage.AuditEntry{Actor: "operator", Action: "x", Changes: list}
	if err := e.Check(); err != nil || size > 16<<10 || size < 12<<10 || len(list) != len(paths)+2 {
		t.Errorf("%d changes with %d bytes, %v, want %d with 12 to 16 KiB", len(list), size, err, len(paths)+2)
	}
	if got := told(list); !strings.Contains(got, `title {"$bytes":4096} > "short"`) || !strings.Contains(got, `{"$bytes":8194}`) {
		t.Errorf("got %.300s", got)
	}
	if v := user.Lookup("password").ReadableJSON("correct horse"); v != nil {
		t.Errorf("the password is told: %s", v)
	}
}

func TestMembersTold(t *testing.T) {
	quoted := func(list []string) string { return `["` + strings.Join(list, `","`) + `"]` }
	for _, c := range []struct {
		name string
		do   func(*changes)
		want string
	}{
		{"some come", func(c *changes) { c.members(true, ids(0, 2), 2) }, `members  > {"added":` + quoted(ids(0, 2)) + `,"total":2};`},
		{"in several operations", func(c *changes) { c.members(true, ids(0, 2), 2); c.members(true, ids(2, 3), 1) }, `members  > {"added":` + quoted(ids(0, 3)) + `,"total":3};`},
		{"twice the same", func(c *changes) { c.members(true, append(ids(0, 2), ids(0, 2)...), 2) }, `members  > {"added":` + quoted(ids(0, 2)) + `,"total":2};`},
		{"one was there", func(c *changes) { c.members(true, ids(0, 2), 1) }, `members  > {"given":` + quoted(ids(0, 2)) + `,"added":1};`},
		{"none goes", func(c *changes) { c.members(false, ids(0, 2), 0) }, ``},
		{"one of two goes", func(c *changes) { c.members(false, ids(0, 2), 1) }, `members {"given":` + quoted(ids(0, 2)) + `,"removed":1} > ;`},
		{"many come", func(c *changes) { c.members(true, ids(0, 70), 70) }, `members  > {"added":` + quoted(ids(0, 50)) + `,"total":70};`},
		{"set", func(c *changes) { c.set(ids(0, 3), true, ids(2, 4), 3) },
			`members {"removed":` + quoted(ids(0, 2)) + `,"total":2} > ;members  > {"added":` + quoted(ids(3, 4)) + `,"total":1};`},
		{"set of many", func(c *changes) { c.set(nil, false, ids(0, 60), 7) }, `members  > {"set":` + quoted(ids(0, 50)) + `,"total":60,"changed":7};`},
	} {
		var ch changes
		c.do(&ch)
		if got := told(ch.whole()); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestDeletedTells(t *testing.T) {
	c, err := deleted([]byte(`{"id":"1","userName":"a\u00e9","name":{"userName":"no"},"emails":[{"active":1}],"active":false}`))
	if got := told(c.whole()); err != nil || got != `userName "a\u00e9" > ;active false > ;` {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := deleted(bytes.Repeat([]byte("{"), 3)); err == nil {
		t.Error("half a document was read")
	}
}
