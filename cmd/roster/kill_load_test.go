package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/roster-id/roster/schemas"
)

// The load of TestKill: what the workers ask for, and what they know.

const (
	workers      = 8
	sharedGroups = 3
	mostUsers    = 24 // of one worker; then it deletes
)

// user is one that a worker has made.
type user struct {
	id, name string
	mark     string // what stands in all the attributes that change together
	version  int64
	groups   map[*group]bool
}

// group has members of all workers, or it is one worker's own.
type group struct {
	id   string
	mark string // as in user; a shared group keeps its first one
}

// change is something that a worker asks for.
type change struct {
	request string // its id
	action  string // what the audit trail calls it
	id      string // of the resource; a new one gets it from the answer
	method  string
	path    string
	body    string
	refused int // the status, when it must not happen
	// did makes the worker know that it happened, undone that it did not.
	did    func(*change)
	undone func()
	// mark and version are what the answer must show, where it shows anything.
	mark    string
	version int64
}

// worker does one thing after another. While the load runs only its own
// goroutine touches it.
type worker struct {
	k      *killTest
	n      int
	rand   *rand.Rand
	shared []*group
	own    *group
	marks  int // how many were used

	users         []*user
	free          []string // names of its own to be taken again
	gone, allGone []*user  // deleted, in this cycle and before
	left, allLeft []string // names given up
	acked         []*change
	refused       int
	pending       *change // in flight when the server died
}

// work asks for one change after another until the server is gone.
func (w *worker) work(cycle uint64, over *atomic.Bool) {
	for i := 0; !over.Load(); i++ {
		c := w.next()
		c.request = fmt.Sprintf("kill-%d-%d-%d", cycle, w.n, i)
		r, err := w.k.send(c)
		if wrong, ok := errors.AsType[answerError](err); ok {
			w.k.t.Errorf("%s %s %s: %v", c.method, c.path, c.body, wrong)
			return
		}
		switch {
		case err != nil && c.refused == 0:
			w.pending = c
			return
		case err != nil:
			return // it cannot have happened, or the audit trail will tell
		case c.refused != 0:
			w.refused++
			continue
		}
		if c.id == "" {
			c.id = r.ID
		}
		c.did(c)
		w.acked = append(w.acked, c)
		if r.ID != "" && c.mark != "" && (r.ID != c.id || slices.Min(r.marks()) != c.mark || slices.Max(r.marks()) != c.mark) ||
			c.version != 0 && r.version() != c.version {
			w.k.t.Errorf("%s %s answered %+v; want the mark %s and version %d", c.method, c.path, r, c.mark, c.version)
		}
	}
}

// answerError is an answer that was read to its end and is not the right one.
// Any other error of send leaves open what happened.
type answerError string

func (e answerError) Error() string { return string(e) }

// send sends a change and reads the whole answer.
func (k *killTest) send(c *change) (r resource, err error) {
	want := map[string][]int{"POST": {201}, "PUT": {200}, "PATCH": {200, 204}, "DELETE": {204}}[c.method]
	if c.refused != 0 {
		want = []int{c.refused}
	}
	res, body, err := k.server.do(c.method, c.path, k.token, c.body, "X-Request-Id", c.request)
	if err != nil {
		return r, err
	}
	if !slices.Contains(want, res.StatusCode) {
		return r, answerError(fmt.Sprintf("answered %s %s; want %d", res.Status, body, want))
	}
	if body != "" {
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return r, answerError(fmt.Sprintf("answered %q: %v", body, err))
		}
	}
	return r, nil
}

// resource is a user or group as it is answered.
type resource struct {
	ID          string
	UserName    string
	Title       string
	DisplayName string
	NickName    string
	ExternalID  string
	Emails      []struct{ Value string }
	Members     []struct{ Value string }
	Groups      []struct{ Value string }
	Meta        struct{ ResourceType, Version string }
}

// marks are the values of the attributes that change together.
func (r resource) marks() []string {
	if r.Meta.ResourceType == "Group" {
		return []string{r.DisplayName, r.ExternalID}
	}
	email := ""
	if len(r.Emails) == 1 {
		email, _, _ = strings.Cut(r.Emails[0].Value, "@")
	}
	return []string{r.Title, r.DisplayName, r.NickName, r.ExternalID, email}
}

// version is the revision of the resource's own attributes.
func (r resource) version() int64 {
	revision, _, _ := strings.Cut(strings.Trim(strings.TrimPrefix(r.Meta.Version, "W/"), `"`), ".")
	n, _ := strconv.ParseInt(revision, 10, 64)
	return n
}

type object = map[string]any

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is made of strings
	}
	return string(b)
}

// marked are the attributes of a user that change together.
func marked(mark string) object {
	return object{
		"title": mark, "displayName": mark, "nickName": mark, "externalId": mark,
		"emails": []object{{"value": mark + "@example.com", "type": "work", "primary": true}},
	}
}

func userBody(name, mark string) string {
	o := marked(mark)
	o["schemas"], o["userName"] = []string{schemas.UserURI}, name
	return marshal(o)
}

func groupBody(mark string) string {
	return marshal(object{"schemas": []string{schemas.GroupURI}, "displayName": mark, "externalId": mark})
}

func patchBody(operations ...object) string {
	return marshal(object{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}, "Operations": operations})
}

func (w *worker) newMark() string {
	w.marks++
	return fmt.Sprintf("mark-%d-%d", w.n, w.marks)
}

// next draws what to do next.
func (w *worker) next() *change {
	lot := w.rand.IntN(100)
	switch {
	case len(w.users) < 4:
		return w.create()
	case len(w.users) >= mostUsers:
		return w.delete()
	case lot < 22:
		return w.create()
	case lot < 48:
		return w.patch()
	case lot < 58:
		return w.replace()
	case lot < 68:
		return w.delete()
	case lot < 84:
		return w.members(w.shared[w.rand.IntN(len(w.shared))])
	case lot < 92:
		return w.reshape()
	}
	return w.mistake()
}

// someone draws one of the worker's users.
func (w *worker) someone() *user { return w.users[w.rand.IntN(len(w.users))] }

// newName draws a name that nobody has, perhaps one that somebody had.
func (w *worker) newName() string {
	if len(w.free) > 0 && w.rand.IntN(3) == 0 {
		i := w.rand.IntN(len(w.free))
		name := w.free[i]
		w.free = slices.Delete(w.free, i, i+1)
		return name
	}
	return strings.Replace(w.newMark(), "mark", "user", 1) + "@example.com"
}

// giveUp notes that a name is free.
func (w *worker) giveUp(name string) { w.free, w.left = append(w.free, name), append(w.left, name) }

func (w *worker) create() *change {
	name, mark := w.newName(), w.newMark()
	return &change{
		action: "user.create", method: "POST", path: "/Users", body: userBody(name, mark), mark: mark, version: 1,
		did: func(c *change) {
			w.users = append(w.users, &user{id: c.id, name: name, mark: mark, version: 1, groups: map[*group]bool{}})
		},
		undone: func() { w.giveUp(name) },
	}
}

// patch changes several attributes in one request, by one operation or by many.
func (w *worker) patch() *change {
	u, mark := w.someone(), w.newMark()
	var operations []object
	if w.rand.IntN(3) == 0 {
		operations = append(operations, object{"op": "replace", "value": marked(mark)})
	} else {
		for path, value := range marked(mark) {
			operations = append(operations, object{"op": "replace", "path": path, "value": value})
		}
	}
	return &change{
		action: "user.patch", id: u.id, method: "PATCH", path: "/Users/" + u.id, body: patchBody(operations...),
		mark: mark, version: u.version + 1,
		did:    func(*change) { u.mark, u.version = mark, u.version+1 },
		undone: func() {},
	}
}

// replace puts a whole user in the place of another, at times under a new name.
func (w *worker) replace() *change {
	u, mark := w.someone(), w.newMark()
	name, undone := u.name, func() {}
	if w.rand.IntN(2) == 0 {
		name = w.newName()
		undone = func() { w.giveUp(name) }
	}
	return &change{
		action: "user.replace", id: u.id, method: "PUT", path: "/Users/" + u.id, body: userBody(name, mark),
		mark: mark, version: u.version + 1,
		did: func(*change) {
			if name != u.name {
				w.giveUp(u.name)
			}
			u.name, u.mark, u.version = name, mark, u.version+1
		},
		undone: undone,
	}
}

func (w *worker) delete() *change {
	u := w.someone()
	return &change{
		action: "user.delete", id: u.id, method: "DELETE", path: "/Users/" + u.id,
		did: func(*change) {
			w.users = slices.DeleteFunc(w.users, func(other *user) bool { return other == u })
			w.gone = append(w.gone, u)
			w.giveUp(u.name)
		},
		undone: func() {},
	}
}

// draw returns up to three of the worker's users that are in the group, or that
// are not.
func (w *worker) draw(g *group, in bool) (some []*user) {
	for _, i := range w.rand.Perm(len(w.users)) {
		if u := w.users[i]; u.groups[g] == in && len(some) < 3 {
			some = append(some, u)
		}
	}
	return some[:w.rand.IntN(len(some)+1)]
}

func adding(users []*user) object {
	var values []object
	for _, u := range users {
		values = append(values, object{"value": u.id})
	}
	return object{"op": "add", "path": "members", "value": values}
}

func removing(users []*user) (operations []object) {
	for _, u := range users {
		operations = append(operations, object{"op": "remove", "path": fmt.Sprintf("members[value eq %q]", u.id)})
	}
	return operations
}

// members adds some members and removes others, in one request.
func (w *worker) members(g *group, more ...object) *change {
	in, out := w.draw(g, false), w.draw(g, true)
	operations := slices.Concat(more, removing(out))
	if len(in) > 0 {
		operations = append(operations, adding(in))
	}
	if len(operations) == 0 {
		return w.create()
	}
	return &change{
		action: "group.patch", id: g.id, method: "PATCH", path: "/Groups/" + g.id, body: patchBody(operations...),
		did: func(*change) {
			for _, u := range in {
				u.groups[g] = true
			}
			for _, u := range out {
				delete(u.groups, g)
			}
		},
		undone: func() {},
	}
}

// reshape changes the attributes of the worker's own group together with its
// members.
func (w *worker) reshape() *change {
	mark := w.newMark()
	c := w.members(w.own, object{"op": "replace", "path": "displayName", "value": mark}, object{"op": "replace", "path": "externalId", "value": mark})
	members := c.did
	c.mark = mark
	c.did = func(c *change) {
		members(c)
		w.own.mark = mark
	}
	return c
}

// mistake asks for what must be refused as a whole, some of it after part of it
// was done. Nothing may be left of that, and the changes of others that are
// committed with it must not suffer.
func (w *worker) mistake() *change {
	u, other := w.someone(), w.someone()
	switch w.rand.IntN(3) {
	case 0:
		return &change{method: "POST", path: "/Users", body: userBody(u.name, w.newMark()), refused: 409}
	case 1:
		if u == other {
			return &change{method: "PATCH", path: "/Users/" + u.id, refused: 400, body: patchBody(
				object{"op": "replace", "path": "title", "value": w.newMark()}, object{"op": "replace", "path": "active", "value": "perhaps"})}
		}
		return &change{method: "PUT", path: "/Users/" + u.id, body: userBody(other.name, w.newMark()), refused: 409}
	}
	g := w.shared[w.rand.IntN(len(w.shared))]
	add := adding([]*user{u, other, {id: uuid.NewString()}})
	return &change{method: "PATCH", path: "/Groups/" + g.id, refused: 400, body: patchBody(append(removing(w.draw(g, true)), add)...)}
}
