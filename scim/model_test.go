package scim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// stepsOfModel is how long a sequence is.
const stepsOfModel = 50

// TestModel sends random sequences of requests about users, groups, roles and
// memberships, and a model of a few maps says what each answer must be: status,
// version, members, groups direct and indirect, uniqueness, what filters find and in
// which order, entity tags. Nothing of it is taken from the server but ids.
func TestModel(t *testing.T) {
	raced.Skip(t)
	sequences := map[string]int{"SQLite": 1000, "MongoDB": 100}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			setChecks(t, number(t, "ROSTER_TEST_MODEL", sequences[name]))
			store := open(t)
			s := testserver.Start(t, testserver.Options{Open: func(testing.TB) storage.Store { return keptOpen{store} }})
			client := scimtest.Direct(s.Handler)
			answers := map[int]int{}
			rapid.Check(t, func(rt *rapid.T) {
				m := &model{rt: rt, s: s, client: client, answers: answers,
					users: map[string]*modelUser{}, groups: map[string]*modelGroup{}, roles: map[string]*modelRole{}, seen: map[string]tagSeen{}}
				defer m.clear()
				for range stepsOfModel {
					m.step()
				}
				for id := range m.users {
					m.get("/Users/", id)
				}
				for id := range m.groups {
					m.get("/Groups/", id)
				}
			})
			t.Logf("answers by status: %v", answers)
			for _, status := range []int{200, 201, 204, 304, 400, 404, 409, 412} {
				if answers[status] == 0 {
					t.Errorf("no answer was %d", status)
				}
			}
		})
	}
}

// keptOpen is a store that whoever opened it closes.
type keptOpen struct{ storage.Store }

func (keptOpen) Close() error { return nil }

type modelUser struct {
	userName, externalID, title string
	active                      string // "true", "false", or "" for none
	emails                      []modelEmail
	version                     int
}

type modelEmail struct{ Value, Type string }

type modelGroup struct {
	displayName string
	members     map[string]bool
	version     int
}

type modelRole struct {
	value, display string
	version        int
}

// tagSeen is the last ETag of a resource and what it stood for.
type tagSeen struct{ tag, state string }

type model struct {
	rt      *rapid.T
	s       *testserver.Server
	client  *http.Client
	answers map[int]int

	users  map[string]*modelUser
	groups map[string]*modelGroup
	roles  map[string]*modelRole
	gone   []string // ids of what was deleted
	seen   map[string]tagSeen
	made   []string // paths of everything, to be taken away
}

// wire is as much of any resource, list or error as the model knows of.
type wire struct {
	ID, UserName, ExternalID, Title, DisplayName, Value, Display string
	Active                                                       *bool
	Emails                                                       []modelEmail
	Members                                                      []struct{ Value, Type string }
	Groups                                                       []struct{ Value, Type, Display string }
	Group, Member                                                struct{ Value string }
	Meta                                                         struct{ ResourceType, Version, Location string }
	ScimType                                                     string
	TotalResults, StartIndex, ItemsPerPage                       int
	NextCursor                                                   string
	Resources                                                    []wire
}

func (m *model) do(method, path, body string, header ...string) (int, http.Header, wire) {
	m.rt.Helper()
	req, err := http.NewRequest(method, m.s.URL+path, strings.NewReader(body))
	if err != nil {
		m.rt.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.s.Token)
	req.Header.Set("Content-Type", "application/scim+json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := m.client.Do(req)
	if err != nil {
		m.rt.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		m.rt.Fatal(err)
	}
	var w wire
	if len(text) > 0 {
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&w); err != nil {
			m.rt.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	m.answers[resp.StatusCode]++
	m.rt.Logf("%s %s %s %v: %d %s", method, path, body, header, resp.StatusCode, text)
	return resp.StatusCode, resp.Header, w
}

// want fails unless the status is one of those.
func (m *model) want(got int, w wire, wants ...verdict) {
	m.rt.Helper()
	for _, v := range wants {
		if got == v.status && (v.scimType == "" || w.ScimType == v.scimType) {
			return
		}
	}
	m.rt.Fatalf("got %d %s, want %v", got, w.ScimType, wants)
}

// verdict is a status and the scimType that goes with it.
type verdict struct {
	status   int
	scimType string
}

var (
	notFound     = verdict{404, ""}
	staleVersion = verdict{412, ""}
	conflict     = verdict{409, "uniqueness"}
	badValue     = verdict{400, "invalidValue"}
	immutable    = verdict{400, "mutability"}
	noTarget     = verdict{400, "noTarget"}
)

// pools of values, small enough to meet again, with pairs that only differ in case.
var (
	userNames   = []string{"ana", "Ana", "bo", "cy", "CY", "dee", "eli", "flo", "gus", "hal"}
	externalIDs = []string{"", "E1", "e1", "E2"}
	titles      = []string{"", "Mate", "Pilot", "pilot", "Cook"}
	actives     = []string{"", "true", "false"}
	groupNames  = []string{"crew", "Crew", "deck", "shore", "all", "watch", "yard", "pier"}
	roleValues  = []string{"m-one", "M-One", "m-two"}
	displays    = []string{"One", "Two"}
	emailPool   = []modelEmail{{"a@x.example", "work"}, {"b@x.example", "work"}, {"a@x.example", "home"}, {"c@y.example", "other"}}
)

func (m *model) draw(label string, from []string) string {
	return rapid.SampledFrom(from).Draw(m.rt, label)
}

func (m *model) chance(label string, oneIn int) bool {
	return rapid.IntRange(1, oneIn).Draw(m.rt, label) == oneIn
}

// one draws an id of those, or one that nobody has; those are in the order of
// creation, so that a sequence means the same when it is run again.
func (m *model) one(label string, of ...[]string) string {
	ids := slices.Concat(of...)
	if len(ids) == 0 || m.chance(label+" that is not there", 12) {
		if len(m.gone) > 0 {
			return m.gone[rapid.IntRange(0, len(m.gone)-1).Draw(m.rt, label)]
		}
		return "00000000-0000-7000-8000-000000000000"
	}
	return ids[rapid.IntRange(0, len(ids)-1).Draw(m.rt, label)]
}

func sortedKeys[V any](of map[string]V) []string { return slices.Sorted(maps.Keys(of)) }

func (m *model) step() {
	steps := []func(){
		m.createUser, m.createUser, m.createGroup, m.createRole, m.createMembership, m.putUser, m.patchUser, m.patchUser, m.putGroup,
		m.patchGroup, m.patchGroup, m.patchGroup, m.changeRole, m.remove, m.removeMembership, m.read, m.read, m.unchanged,
		m.listUsers, m.listUsers, m.listGroups, m.listMemberships,
	}
	steps[rapid.IntRange(0, len(steps)-1).Draw(m.rt, "step")]()
}

// The model.

// contains reports whether the group from has the one named to below it, at any depth.
func (m *model) contains(from, to string) bool {
	if from == to {
		return true
	}
	g := m.groups[from]
	if g == nil {
		return false
	}
	for id := range g.members {
		if m.contains(id, to) {
			return true
		}
	}
	return false
}

// groupsOf is direct or indirect by the id of a group that has the user.
func (m *model) groupsOf(user string) map[string]string {
	out := map[string]string{}
	for id, g := range m.groups {
		if g.members[user] {
			out[id] = "direct"
		} else if m.contains(id, user) {
			out[id] = "indirect"
		}
	}
	return out
}

func (m *model) userNameTaken(name, except string) bool {
	for id, u := range m.users {
		if id != except && strings.EqualFold(u.userName, name) {
			return true
		}
	}
	return false
}

func (m *model) groupNameTaken(name, except string) bool {
	for id, g := range m.groups {
		if id != except && strings.EqualFold(g.displayName, name) {
			return true
		}
	}
	return false
}

// badMember reports whether the group cannot have one of those as a member.
func (m *model) badMember(group string, members []string) bool {
	return slices.ContainsFunc(members, func(id string) bool {
		return m.users[id] == nil && (m.groups[id] == nil || m.contains(id, group))
	})
}

// forget takes a member out of all groups, each of which changes.
func (m *model) forget(id string) {
	for _, g := range m.groups {
		if g.members[id] {
			delete(g.members, id)
			g.version++
		}
	}
}

// state is the resource as text: what two answers have in common when their tags are
// the same.
func (m *model) state(id string) string {
	switch {
	case m.users[id] != nil:
		u := m.users[id]
		var groups []string
		for g, kind := range m.groupsOf(id) {
			groups = append(groups, fmt.Sprint(g, " ", kind, " ", m.groups[g].displayName))
		}
		slices.Sort(groups)
		return fmt.Sprintf("user %d %q %q %q %s %q\n%s", u.version, u.userName, u.externalID, u.title, u.active, u.emails, strings.Join(groups, "\n"))
	case m.groups[id] != nil:
		g := m.groups[id]
		var members []string
		for member := range g.members {
			kind := "User"
			if m.groups[member] != nil {
				kind = "Group"
			}
			members = append(members, member+" "+kind)
		}
		slices.Sort(members)
		return fmt.Sprintf("group %d %q\n%s", g.version, g.displayName, strings.Join(members, "\n"))
	}
	r := m.roles[id]
	return fmt.Sprintf("role %d %q %q", r.version, r.value, r.display)
}

// stateOf is the same for what the server says.
func stateOf(w wire) string {
	version := strings.TrimPrefix(w.Meta.Version, `W/"`)
	version = version[:max(0, strings.IndexAny(version+`"`, `."`))]
	var parts []string
	switch w.Meta.ResourceType {
	case "User":
		for _, g := range w.Groups {
			parts = append(parts, g.Value+" "+g.Type+" "+g.Display)
		}
		slices.Sort(parts)
		active := ""
		if w.Active != nil {
			active = strconv.FormatBool(*w.Active)
		}
		return fmt.Sprintf("user %s %q %q %q %s %q\n%s", version, w.UserName, w.ExternalID, w.Title, active, w.Emails, strings.Join(parts, "\n"))
	case "Group":
		for _, member := range w.Members {
			parts = append(parts, member.Value+" "+member.Type)
		}
		slices.Sort(parts)
		return fmt.Sprintf("group %s %q\n%s", version, w.DisplayName, strings.Join(parts, "\n"))
	}
	return fmt.Sprintf("role %s %q %q", version, w.Value, w.Display)
}

// same compares a resource in an answer with the model, and its tag with the last one.
func (m *model) same(id, tag string, w wire) {
	m.rt.Helper()
	state := m.state(id)
	if diff := cmp.Diff(state, stateOf(w)); diff != "" {
		m.rt.Fatalf("the resource is not as in the model (-model +server):\n%s", diff)
	}
	if w.ID != id || tag != w.Meta.Version {
		m.rt.Fatalf("id %s, ETag %s and meta.version %s, want id %s", w.ID, tag, w.Meta.Version, id)
	}
	if last, ok := m.seen[id]; ok && (last.state == state) != (last.tag == tag) {
		m.rt.Fatalf("ETag %s was %s: it changes when what is shown does, and only then\nbefore: %s\nnow: %s", tag, last.tag, last.state, state)
	}
	m.seen[id] = tagSeen{tag, state}
}

// created notes a resource that was made.
func (m *model) created(path string, w wire, header http.Header) {
	m.rt.Helper()
	if want := m.s.URL + path + w.ID; w.ID == "" || header.Get("Location") != want {
		m.rt.Fatalf("Location %s, want %s", header.Get("Location"), want)
	}
	m.made = append(m.made, path+w.ID)
}

// The requests.

func (m *model) emails(label string) []modelEmail {
	n := rapid.IntRange(0, 2).Draw(m.rt, label)
	at := rapid.IntRange(0, len(emailPool)-1).Draw(m.rt, label)
	var out []modelEmail
	for i := range n {
		out = append(out, emailPool[(at+i)%len(emailPool)])
	}
	return out
}

// userBody is a user as a client sends it, and the model's.
func (m *model) userBody() (*modelUser, string) {
	u := &modelUser{
		userName: m.draw("userName", userNames), externalID: m.draw("externalId", externalIDs), title: m.draw("title", titles),
		active: m.draw("active", actives), emails: m.emails("emails"), version: 1,
	}
	body := map[string]any{"schemas": []string{schemas.UserURI}, "userName": u.userName}
	if u.externalID != "" {
		body["externalId"] = u.externalID
	}
	if u.title != "" {
		body["title"] = u.title
	}
	if u.active != "" {
		body["active"] = u.active == "true"
	}
	if u.emails != nil {
		body["emails"] = asSent(u.emails)
	}
	return u, m.text(body)
}

func asSent(emails []modelEmail) []map[string]string {
	out := []map[string]string{}
	for _, e := range emails {
		out = append(out, map[string]string{"value": e.Value, "type": e.Type})
	}
	return out
}

func (m *model) text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		m.rt.Fatal(err)
	}
	return string(b)
}

func (m *model) createUser() {
	u, body := m.userBody()
	status, header, w := m.do("POST", "/Users", body)
	if m.userNameTaken(u.userName, "") {
		m.want(status, w, conflict)
		return
	}
	m.want(status, w, verdict{201, ""})
	if u.active == "" {
		u.active = "true"
	}
	m.users[w.ID] = u
	m.created("/Users/", w, header)
	m.same(w.ID, header.Get("ETag"), w)
}

func (m *model) people() []string   { return sortedKeys(m.users) }
func (m *model) circles() []string  { return sortedKeys(m.groups) }
func (m *model) settings() []string { return sortedKeys(m.roles) }

func (m *model) membersDrawn() []string {
	var out []string
	for range rapid.IntRange(0, 3).Draw(m.rt, "members") {
		out = append(out, m.one("member", m.people(), m.circles()))
	}
	return out
}

func values(ids []string) []map[string]string {
	out := []map[string]string{}
	for _, id := range ids {
		out = append(out, map[string]string{"value": id})
	}
	return out
}

func setOf(ids []string) map[string]bool {
	out := map[string]bool{}
	for _, id := range ids {
		out[id] = true
	}
	return out
}

func (m *model) createGroup() {
	name, members := m.draw("displayName", groupNames), m.membersDrawn()
	status, header, w := m.do("POST", "/Groups", m.text(map[string]any{"schemas": []string{schemas.GroupURI}, "displayName": name, "members": values(members)}))
	switch taken, bad := m.groupNameTaken(name, ""), m.badMember("", members); {
	case taken && bad:
		m.want(status, w, conflict, badValue)
	case taken:
		m.want(status, w, conflict)
	case bad:
		m.want(status, w, badValue)
	default:
		m.want(status, w, verdict{201, ""})
		m.groups[w.ID] = &modelGroup{name, setOf(members), 1}
		m.created("/Groups/", w, header)
		m.same(w.ID, header.Get("ETag"), w)
	}
}

func (m *model) createRole() {
	r := &modelRole{m.draw("value", roleValues), m.draw("display", displays), 1}
	taken := false
	for _, other := range m.roles {
		taken = taken || strings.EqualFold(other.value, r.value)
	}
	status, header, w := m.do("POST", "/Roles", m.text(map[string]any{"schemas": []string{schemas.RoleURI}, "value": r.value, "display": r.display}))
	if taken {
		m.want(status, w, conflict)
		return
	}
	m.want(status, w, verdict{201, ""})
	m.roles[w.ID] = r
	m.created("/Roles/", w, header)
	m.same(w.ID, header.Get("ETag"), w)
}

// precondition draws an If-Match and says whether it holds for a resource of that
// version.
func (m *model) precondition(id string, version int) (header []string, holds bool) {
	switch rapid.IntRange(0, 7).Draw(m.rt, "If-Match") {
	case 0:
		return []string{"If-Match", "*"}, true
	case 1:
		return []string{"If-Match", fmt.Sprintf(`W/"%d"`, version+1)}, false
	case 2:
		if last, ok := m.seen[id]; ok { // a tag holds as long as the resource itself has not changed, whatever its groups
			return []string{"If-Match", last.tag}, strings.HasPrefix(last.tag+".", fmt.Sprintf(`W/"%d"`, version)) || strings.HasPrefix(last.tag, fmt.Sprintf(`W/"%d.`, version))
		}
	}
	return nil, true
}

func (m *model) putUser() {
	id := m.one("user", m.people())
	u, body := m.userBody()
	m.changeUser("PUT", id, body, u)
}

// changeUser asks for a change of a user into u, whose active is empty if it stays.
func (m *model) changeUser(method, id, body string, u *modelUser) {
	old := m.users[id]
	if old == nil {
		status, _, w := m.do(method, "/Users/"+id, body)
		m.want(status, w, notFound)
		return
	}
	header, holds := m.precondition(id, old.version)
	status, got, w := m.do(method, "/Users/"+id, body, header...)
	switch {
	case !holds:
		m.want(status, w, staleVersion)
		return
	case m.userNameTaken(u.userName, id):
		m.want(status, w, conflict)
		return
	}
	if u.active == "" {
		u.active = old.active
	}
	m.setUser(id, u)
	m.want(status, w, verdict{200, ""})
	m.same(id, got.Get("ETag"), w)
}

// setUser gives the user its new attributes, and a new version if they are other ones.
func (m *model) setUser(id string, u *modelUser) {
	old := m.users[id]
	u.version = old.version
	if !cmp.Equal(*old, *u, cmp.AllowUnexported(modelUser{})) {
		u.version++
	}
	m.users[id] = u
}

const patchStart = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`

// patchUser sends up to three operations.
func (m *model) patchUser() {
	id := m.one("user", m.people())
	u := &modelUser{}
	old := m.users[id]
	if old != nil {
		*u = *old
		u.emails = slices.Clone(old.emails)
	}
	var ops []string
	for range rapid.IntRange(1, 3).Draw(m.rt, "operations") {
		switch rapid.IntRange(0, 6).Draw(m.rt, "operation") {
		case 0:
			u.userName = m.draw("userName", userNames)
			ops = append(ops, fmt.Sprintf(`{"op":"replace","path":"userName","value":%q}`, u.userName))
		case 1:
			u.title = m.draw("title", titles[1:])
			ops = append(ops, fmt.Sprintf(`{"op":"add","value":{"title":%q}}`, u.title))
		case 2:
			u.title = ""
			ops = append(ops, `{"op":"remove","path":"title"}`)
		case 3:
			u.active = m.draw("active", actives[1:])
			ops = append(ops, `{"op":"replace","path":"active","value":`+u.active+`}`)
		case 4:
			e := rapid.SampledFrom(emailPool).Draw(m.rt, "email")
			if !slices.Contains(u.emails, e) {
				u.emails = append(u.emails, e)
			}
			ops = append(ops, `{"op":"add","path":"emails","value":`+m.text(asSent([]modelEmail{e}))+`}`)
		case 5:
			kind := m.draw("type", []string{"work", "home", "other"})
			u.emails = slices.DeleteFunc(u.emails, func(e modelEmail) bool { return e.Type == kind })
			if len(u.emails) == 0 {
				u.emails = nil
			}
			ops = append(ops, fmt.Sprintf(`{"op":"remove","path":"emails[type eq \"%s\"]"}`, kind))
		case 6:
			u.externalID = m.draw("externalId", externalIDs[1:])
			ops = append(ops, fmt.Sprintf(`{"op":"replace","value":{"externalId":%q}}`, u.externalID))
		}
	}
	body := patchStart + strings.Join(ops, ",") + `]}`
	m.changeUser("PATCH", id, body, u)
}

func (m *model) putGroup() {
	id := m.one("group", m.circles())
	name, members, keep := m.draw("displayName", groupNames), m.membersDrawn(), m.chance("members left out", 3)
	body := map[string]any{"schemas": []string{schemas.GroupURI}, "displayName": name}
	if !keep {
		body["members"] = values(members)
	}
	m.changeGroup("PUT", id, m.text(body), name, func(have map[string]bool) ([]string, map[string]bool) {
		if keep {
			return nil, have
		}
		return members, setOf(members)
	})
}

func (m *model) patchGroup() {
	id := m.one("group", m.circles())
	name := ""
	if g := m.groups[id]; g != nil {
		name = g.displayName
	}
	var ops []string
	if m.chance("rename", 4) {
		name = m.draw("displayName", groupNames)
		ops = append(ops, fmt.Sprintf(`{"op":"replace","path":"displayName","value":%q}`, name))
	}
	members := m.membersDrawn()
	kind := rapid.IntRange(0, 6).Draw(m.rt, "operation")
	switch kind {
	case 0, 1:
		members = append(members, m.one("member", m.people(), m.circles()))
		ops = append(ops, `{"op":"add","path":"members","value":`+m.text(values(members))+`}`)
	case 2:
		members = []string{m.one("member", m.people(), m.circles())}
		ops = append(ops, fmt.Sprintf(`{"op":"remove","path":"members[value eq \"%s\"]"}`, members[0]))
	case 3:
		ops = append(ops, `{"op":"replace","path":"members","value":`+m.text(values(members))+`}`)
	case 4:
		ops = append(ops, `{"op":"remove","path":"members"}`)
	case 5:
		ops = append(ops, `{"op":"remove","path":"members[type eq \"Group\"]"}`)
	case 6: // a group, which the filter does not match
		members = []string{m.one("member", m.circles())}
		ops = append(ops, fmt.Sprintf(`{"op":"replace","path":"members[type eq \"User\"]","value":{"value":%q}}`, members[0]))
	}
	m.changeGroup("PATCH", id, patchStart+strings.Join(ops, ",")+`]}`, name, func(have map[string]bool) ([]string, map[string]bool) {
		switch kind {
		case 0, 1:
			for _, id := range members {
				have[id] = true
			}
			return members, have
		case 2:
			delete(have, members[0])
			return nil, have
		case 3:
			return members, setOf(members)
		case 5:
			maps.DeleteFunc(have, func(id string, _ bool) bool { return m.groups[id] != nil })
			return nil, have
		case 6:
			before := len(have)
			maps.DeleteFunc(have, func(id string, _ bool) bool { return m.users[id] != nil })
			if len(have) == before {
				return members, nil
			}
			have[members[0]] = true
			return members, have
		}
		return nil, map[string]bool{}
	})
}

// changeGroup sends a change of a group. edit says of whom the request speaks, and who is a
// member afterwards: nil where it has no target.
func (m *model) changeGroup(method, id, body, name string, edit func(map[string]bool) ([]string, map[string]bool)) {
	g := m.groups[id]
	if g == nil {
		status, _, w := m.do(method, "/Groups/"+id, body)
		m.want(status, w, notFound)
		return
	}
	header, holds := m.precondition(id, g.version)
	status, got, w := m.do(method, "/Groups/"+id, body, header...)
	named, after := edit(maps.Clone(g.members))
	// Who leaves in the same request does not stand in the way.
	before := g.members
	g.members = map[string]bool{}
	bad := m.badMember(id, named)
	g.members = before
	switch taken := m.groupNameTaken(name, id); {
	case !holds:
		m.want(status, w, staleVersion)
	case after == nil && taken:
		m.want(status, w, noTarget, conflict)
	case after == nil:
		m.want(status, w, noTarget)
	case taken && bad:
		m.want(status, w, conflict, badValue)
	case taken:
		m.want(status, w, conflict)
	case bad:
		m.want(status, w, badValue)
	default:
		if g.displayName != name || !maps.Equal(g.members, after) {
			g.version++
		}
		g.displayName, g.members = name, after
		m.want(status, w, verdict{200, ""})
		m.same(id, got.Get("ETag"), w)
	}
}

func (m *model) changeRole() {
	id := m.one("role", m.settings())
	r := m.roles[id]
	value, display := m.draw("value", roleValues), m.draw("display", displays)
	if r != nil && m.chance("the same value", 2) {
		value = r.value
	}
	method, body := "PUT", m.text(map[string]any{"schemas": []string{schemas.RoleURI}, "value": value, "display": display})
	if m.chance("PATCH", 2) {
		method, body = "PATCH", patchStart+fmt.Sprintf(`{"op":"replace","value":{"value":%q,"display":%q}}`, value, display)+`]}`
	}
	if r == nil {
		status, _, w := m.do(method, "/Roles/"+id, body)
		m.want(status, w, notFound)
		return
	}
	header, holds := m.precondition(id, r.version)
	status, got, w := m.do(method, "/Roles/"+id, body, header...)
	switch {
	case !holds:
		m.want(status, w, staleVersion)
		return
	case value != r.value:
		m.want(status, w, immutable)
		return
	}
	if r.display != display {
		r.display = display
		r.version++
	}
	m.want(status, w, verdict{200, ""})
	m.same(id, got.Get("ETag"), w)
}

func (m *model) createMembership() {
	group, member := m.one("group", m.circles()), m.one("member", m.people(), m.circles())
	status, _, w := m.do("POST", "/GroupMemberships", fmt.Sprintf(`{"schemas":[%q],"group":{"value":%q},"member":{"value":%q}}`, schemas.GroupMembershipURI, group, member))
	g := m.groups[group]
	switch {
	case g == nil || m.badMember(group, []string{member}):
		m.want(status, w, badValue)
	case g.members[member]:
		m.want(status, w, conflict)
	default:
		m.want(status, w, verdict{201, ""})
		g.members[member] = true
		g.version++
	}
}

func (m *model) removeMembership() {
	group := m.one("group", m.circles())
	member := m.one("member", m.people(), m.circles())
	if g := m.groups[group]; g != nil && len(g.members) > 0 && m.chance("one that is there", 2) {
		member = m.one("member", sortedKeys(g.members))
	}
	path := "/GroupMemberships/" + group + "." + member
	there := m.groups[group] != nil && m.groups[group].members[member]
	status, _, w := m.do("GET", path, "")
	if there {
		m.want(status, w, verdict{200, ""})
	} else {
		m.want(status, w, notFound)
	}
	status, _, w = m.do("DELETE", path, "")
	if !there {
		m.want(status, w, notFound)
		return
	}
	m.want(status, w, verdict{204, ""})
	delete(m.groups[group].members, member)
	m.groups[group].version++
}

// place is where the resource with the id is, or would be.
func (m *model) place(id string) string {
	switch {
	case m.groups[id] != nil:
		return "/Groups/"
	case m.roles[id] != nil:
		return "/Roles/"
	}
	return "/Users/"
}

func (m *model) version(id string) int {
	switch {
	case m.users[id] != nil:
		return m.users[id].version
	case m.groups[id] != nil:
		return m.groups[id].version
	case m.roles[id] != nil:
		return m.roles[id].version
	}
	return 0
}

func (m *model) remove() {
	id := m.one("resource", m.people(), m.circles(), m.settings())
	version := m.version(id)
	if version == 0 {
		status, _, w := m.do("DELETE", m.place(id)+id, "")
		m.want(status, w, notFound)
		return
	}
	header, holds := m.precondition(id, version)
	status, _, w := m.do("DELETE", m.place(id)+id, "", header...)
	if !holds {
		m.want(status, w, staleVersion)
		return
	}
	m.want(status, w, verdict{204, ""})
	delete(m.users, id)
	delete(m.groups, id)
	delete(m.roles, id)
	delete(m.seen, id)
	m.forget(id)
	m.gone = append(m.gone, id)
}

func (m *model) read() {
	id := m.one("resource", m.people(), m.circles(), m.settings())
	m.get(m.place(id), id)
}

func (m *model) get(path, id string) {
	status, header, w := m.do("GET", path+id, "")
	if m.version(id) == 0 {
		m.want(status, w, notFound)
		return
	}
	m.want(status, w, verdict{200, ""})
	if want := m.s.URL + path + id; w.Meta.Location != want {
		m.rt.Fatalf("meta.location %s, want %s", w.Meta.Location, want)
	}
	m.same(id, header.Get("ETag"), w)
}

// unchanged asks again with the last tag.
func (m *model) unchanged() {
	id := m.one("resource", sortedKeys(m.seen))
	last, ok := m.seen[id]
	if !ok || m.version(id) == 0 {
		return
	}
	state := m.state(id)
	status, header, w := m.do("GET", m.place(id)+id, "", "If-None-Match", last.tag)
	if state == last.state {
		m.want(status, w, verdict{304, ""})
		return
	}
	m.want(status, w, verdict{200, ""})
	m.same(id, header.Get("ETag"), w)
}

// condition is a filter and what it means.
type condition struct {
	text  string
	match func(id string) bool
}

func fold(s string) string { return strings.ToLower(s) }

func (m *model) userCondition(depth int) condition {
	users := m.users
	switch kind := rapid.IntRange(0, 12).Draw(m.rt, "condition"); kind {
	case 0:
		name := m.draw("userName", userNames)
		return condition{fmt.Sprintf("userName eq %q", name), func(id string) bool { return strings.EqualFold(users[id].userName, name) }}
	case 1:
		return condition{`userName gt "bo"`, func(id string) bool { return fold(users[id].userName) > "bo" }}
	case 2:
		title := m.draw("title", titles[1:])
		return condition{fmt.Sprintf("title eq %q", title), func(id string) bool { return strings.EqualFold(users[id].title, title) }}
	case 3:
		title := m.draw("title", titles[1:])
		return condition{fmt.Sprintf("title ne %q", title), func(id string) bool { return !strings.EqualFold(users[id].title, title) }}
	case 4:
		return condition{`title pr`, func(id string) bool { return users[id].title != "" }}
	case 5:
		external := m.draw("externalId", externalIDs[1:])
		return condition{fmt.Sprintf("externalId eq %q", external), func(id string) bool { return users[id].externalID == external }}
	case 6:
		active := m.draw("active", actives[1:])
		return condition{"active eq " + active, func(id string) bool { return users[id].active == active }}
	case 7:
		e := rapid.SampledFrom(emailPool).Draw(m.rt, "email")
		return condition{fmt.Sprintf("emails[type eq %q and value eq %q]", e.Type, e.Value), func(id string) bool { return slices.Contains(users[id].emails, e) }}
	case 8:
		return condition{`emails.value co "@x."`, func(id string) bool {
			return slices.ContainsFunc(users[id].emails, func(e modelEmail) bool { return strings.Contains(e.Value, "@x.") })
		}}
	case 9:
		group := m.one("group", m.circles())
		return condition{fmt.Sprintf("groups.value eq %q", group), func(id string) bool { return m.groupsOf(id)[group] != "" }}
	default:
		if depth == 0 {
			return condition{`userName sw "a"`, func(id string) bool { return strings.HasPrefix(fold(users[id].userName), "a") }}
		}
		a := m.userCondition(depth - 1)
		if kind == 10 {
			return condition{"not (" + a.text + ")", func(id string) bool { return !a.match(id) }}
		}
		b := m.userCondition(depth - 1)
		if kind == 11 {
			return condition{"(" + a.text + ") and (" + b.text + ")", func(id string) bool { return a.match(id) && b.match(id) }}
		}
		return condition{"(" + a.text + ") or (" + b.text + ")", func(id string) bool { return a.match(id) || b.match(id) }}
	}
}

// listUsers asks for a page by index, or walks by cursor, with a filter and in an order.
func (m *model) listUsers() {
	ids := m.people()
	query := url.Values{}
	if !m.chance("no filter", 5) {
		c := m.userCondition(2)
		query.Set("filter", c.text)
		ids = slices.DeleteFunc(ids, func(id string) bool { return !c.match(id) })
	}
	// Ids are in the order of creation, which is that of lists.
	if by := m.draw("sortBy", []string{"", "userName", "title"}); by != "" {
		query.Set("sortBy", by)
		key := func(id string) string {
			if by == "userName" {
				return "1" + fold(m.users[id].userName)
			}
			if m.users[id].title == "" {
				return "2" // after all others
			}
			return "1" + fold(m.users[id].title)
		}
		slices.SortStableFunc(ids, func(a, b string) int { return strings.Compare(key(a), key(b)) })
		if m.chance("descending", 2) {
			query.Set("sortOrder", "descending")
			slices.Reverse(ids)
		}
	}
	m.list("/Users", query, ids)
}

func (m *model) listGroups() {
	ids := m.circles()
	query := url.Values{}
	var c condition
	switch rapid.IntRange(0, 4).Draw(m.rt, "filter") {
	case 0:
		name := m.draw("displayName", groupNames)
		c = condition{fmt.Sprintf("displayName eq %q", name), func(id string) bool { return strings.EqualFold(m.groups[id].displayName, name) }}
	case 1:
		member := m.one("member", m.people(), m.circles())
		c = condition{fmt.Sprintf("members.value eq %q", member), func(id string) bool { return m.groups[id].members[member] }}
	case 2:
		c = condition{"members pr", func(id string) bool { return len(m.groups[id].members) > 0 }}
	case 3:
		c = condition{`members[type eq "Group"]`, func(id string) bool {
			return slices.ContainsFunc(sortedKeys(m.groups[id].members), func(id string) bool { return m.groups[id] != nil })
		}}
	}
	if c.match != nil {
		query.Set("filter", c.text)
		ids = slices.DeleteFunc(ids, func(id string) bool { return !c.match(id) })
	}
	m.list("/Groups", query, ids)
}

// list holds a list against the ids that it must have, in this order.
func (m *model) list(path string, query url.Values, want []string) {
	if m.chance("cursor", 3) {
		m.walk(path, query, want)
		return
	}
	total, start := len(want), 1
	if m.chance("page", 2) {
		start = rapid.IntRange(1, 4).Draw(m.rt, "startIndex")
		count := rapid.IntRange(0, 3).Draw(m.rt, "count")
		query.Set("startIndex", strconv.Itoa(start))
		query.Set("count", strconv.Itoa(count))
		want = want[min(start-1, len(want)):]
		want = want[:min(count, len(want))]
	}
	status, _, w := m.do("GET", path+"?"+query.Encode(), "")
	m.want(status, w, verdict{200, ""})
	if w.TotalResults != total || w.StartIndex != start || w.ItemsPerPage != len(want) {
		m.rt.Fatalf("totalResults %d, startIndex %d, itemsPerPage %d; want %d, %d, %d", w.TotalResults, w.StartIndex, w.ItemsPerPage, total, start, len(want))
	}
	m.listed(w.Resources, want)
}

func (m *model) walk(path string, query url.Values, want []string) {
	query.Set("count", strconv.Itoa(rapid.IntRange(1, 3).Draw(m.rt, "count")))
	query.Set("cursor", "")
	var all []wire
	for {
		status, _, w := m.do("GET", path+"?"+query.Encode(), "")
		m.want(status, w, verdict{200, ""})
		all = append(all, w.Resources...)
		if w.NextCursor == "" || len(all) > len(want) {
			break
		}
		query.Set("cursor", w.NextCursor)
	}
	m.listed(all, want)
}

func (m *model) listed(resources []wire, want []string) {
	m.rt.Helper()
	got := []string{}
	for _, r := range resources {
		got = append(got, r.ID)
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		m.rt.Fatalf("not those, or in another order (-model +server):\n%s", diff)
	}
	for _, r := range resources {
		m.same(r.ID, r.Meta.Version, r)
	}
}

func (m *model) listMemberships() {
	var want []string
	query := url.Values{}
	if m.chance("by member", 2) {
		member := m.one("member", m.people(), m.circles())
		query.Set("filter", fmt.Sprintf("member.value eq %q", member))
		for id, g := range m.groups {
			if g.members[member] {
				want = append(want, id+"."+member)
			}
		}
	} else {
		group := m.one("group", m.circles())
		query.Set("filter", fmt.Sprintf("group.value eq %q", group))
		if g := m.groups[group]; g != nil {
			for member := range g.members {
				want = append(want, group+"."+member)
			}
		}
	}
	status, _, w := m.do("GET", "/GroupMemberships?"+query.Encode(), "")
	m.want(status, w, verdict{200, ""})
	got := []string{}
	for _, r := range w.Resources {
		got = append(got, r.ID)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) || w.TotalResults != len(want) {
		m.rt.Fatalf("memberships %v of %d, want %v", got, w.TotalResults, want)
	}
}

// clear takes away what is left, so that the next sequence finds nothing.
func (m *model) clear() {
	for _, path := range m.made {
		if !slices.Contains(m.gone, path[strings.LastIndex(path, "/")+1:]) {
			m.do("DELETE", path, "")
		}
	}
}
