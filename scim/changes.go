package scim

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

const (
	maxChangeIDs = 50 // of members
	// maxDiffMembers is from how many members on a group whose members are set is
	// not read first, to tell who came and who went.
	maxDiffMembers = 1000
)

// changes are the values before and after of an audit entry.
type changes struct {
	storage.Changes
	came, gone moved
}

// moved are members who came or went.
type moved struct {
	ids   []string // the first of those that were given
	given int
	total int // how many of those it made a difference for
}

// members notes members who came or went.
func (c *changes) members(came bool, given []string, n int) {
	m := &c.gone
	if came {
		m = &c.came
	}
	given = slices.Compact(slices.Sorted(slices.Values(given)))
	m.ids = append(m.ids, given[:min(len(given), maxChangeIDs-len(m.ids))]...)
	m.given += len(given)
	m.total += n
}

// whole returns all changes.
func (c changes) whole() []storage.Change {
	if v := c.gone.json("removed"); v != nil {
		c.Add("members", v, nil)
	}
	if v := c.came.json("added"); v != nil {
		c.Add("members", nil, v)
	}
	return c.List
}

// json tells of members. When some made no difference, because they were members
// before, or were none, it is not known which.
func (m moved) json(what string) []byte {
	if m.total == 0 {
		return nil
	}
	v := []byte{'{'}
	if m.given == m.total {
		v = append(appendIDs(v, what, m.ids), `,"total":`...)
	} else {
		v = append(append(append(appendIDs(v, "given", m.ids), `,"`...), what...), `":`...)
	}
	return append(strconv.AppendInt(v, int64(m.total), 10), '}')
}

func appendIDs(dst []byte, name string, ids []string) []byte {
	dst = append(schemas.AppendString(dst, name), ':', '[')
	for i, id := range ids[:min(len(ids), maxChangeIDs)] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = schemas.AppendString(dst, id)
	}
	return append(dst, ']')
}

// differences returns the paths of the attributes at the top, and of those in
// an extension, whose values differ, and these values.
func differences(t *schemas.ResourceType, prev, next map[string]any) (paths []string, c changes) {
	note := func(a *schemas.Attribute, x, y any) {
		if !reflect.DeepEqual(x, y) {
			paths = append(paths, a.Path)
			c.Add(a.Path, a.ReadableJSON(x), a.ReadableJSON(y))
		}
	}
	for _, a := range t.Attributes() {
		x, y := prev[a.Name], next[a.Name]
		switch {
		case a.Name == "schemas":
		case a.Extension:
			xm, _ := x.(map[string]any)
			ym, _ := y.(map[string]any)
			for _, s := range a.SubAttributes {
				note(s, xm[s.Name], ym[s.Name])
			}
		default:
			note(a, x, y)
		}
	}
	return paths, c
}

// telling are the attributes that tell people which resource was created or
// deleted; of a role, an assignment and an invitation, what it gives to whom.
var telling = []string{
	"userName", "email", "groups", "roles", "displayName", "externalId", "active", "value", "permissions", "contains", "role", "principal", "kind", "startDate", "endDate", "reason",
}

// created returns what the entry of a new resource tells.
func created(t *schemas.ResourceType, attrs map[string]any) (c changes) {
	c.List = make([]storage.Change, 0, 4) // as many as of a user
	for _, name := range telling {
		if v := attrs[name]; v != nil {
			if a := t.Top(name); a != nil {
				c.Add(a.Path, nil, a.ReadableJSON(v))
			}
		}
	}
	return c
}

// deleted returns what the entry of a resource that is gone tells. This is done
// inside the write, so only what is needed of the document is read.
func deleted(doc []byte) (c changes, err error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(doc))
	if _, err := d.ReadToken(); err != nil {
		return c, err
	}
	values := map[string][]byte{}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return c, err
		}
		if s := name.String(); slices.Contains(telling, s) {
			v, err := d.ReadValue()
			if err != nil {
				return c, err
			}
			values[s] = bytes.Clone(v)
		} else if err := d.SkipValue(); err != nil {
			return c, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return c, err
	}
	for _, name := range telling {
		if v := values[name]; v != nil {
			c.Add(name, v, nil)
		}
	}
	return c, nil
}

// errManyMembers ends the reading of a group that has more members than are
// compared.
var errManyMembers = errors.New("many members")

// membersBefore returns the ids of a group's members, or false if there are many.
func membersBefore(tx storage.Tx, group *storage.Resource) (ids []string, few bool, err error) {
	err = tx.EachMember(group, func(m storage.Member) error {
		if len(ids) == maxDiffMembers {
			return errManyMembers
		}
		ids = append(ids, m.Value)
		return nil
	})
	if errors.Is(err, errManyMembers) {
		return nil, false, nil
	}
	return ids, true, err
}

// set notes that the members of a group were set, which touched n of them.
func (c *changes) set(before []string, few bool, after []string, n int) {
	if !few {
		v := append(appendIDs([]byte{'{'}, "set", after), `,"total":`...)
		v = append(strconv.AppendInt(v, int64(len(after)), 10), `,"changed":`...)
		c.Add("members", nil, append(strconv.AppendInt(v, int64(n), 10), '}'))
		return
	}
	without := func(list, others []string) []string {
		is := make(map[string]bool, len(others))
		for _, id := range others {
			is[id] = true
		}
		return slices.DeleteFunc(slices.Clone(list), func(id string) bool { return is[id] })
	}
	gone := without(before, after)
	c.members(false, gone, len(gone))
	came := slices.Compact(slices.Sorted(slices.Values(without(after, before))))
	c.members(true, came, len(came))
}
