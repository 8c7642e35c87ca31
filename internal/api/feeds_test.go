package api_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// receiver is what events are sent to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []delivered
	answer func(delivered) int // the status; 202 if nil
}

type delivered struct {
	header http.Header
	body   string
}

func listenForEvents(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body) // a short one fails below
		r.mu.Lock()
		defer r.mu.Unlock()
		d := delivered{req.Header.Clone(), string(body)}
		status := http.StatusAccepted
		if r.answer != nil {
			status = r.answer(d)
		}
		if status/100 == 2 {
			r.got = append(r.got, d)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"err":"invalid_key","description":"none of ours"}`) // counts where it is one of 400
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(fn func(delivered) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = fn
}

func (r *receiver) take() []delivered {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

// told is an event as it is told.
type told struct {
	Iss, Aud, Jti, Txn string
	Iat                int64
	SubID              struct{ Format, URI, ExternalID, ID string } `json:"sub_id"`
	Sub                *string
	Events             map[string]struct {
		Version    string
		Attributes *[]string
		Data       map[string]any
		Method     string
		BulkID     string
		Location   string
		Status     string
		Response   *struct {
			Schemas                  []string
			Status, ScimType, Detail string
		}
	}
}

func (e told) kinds() string {
	var list []string
	for uri := range e.Events {
		list = append(list, strings.TrimPrefix(uri, "urn:ietf:params:scim:event:"))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

type feedAnswer struct {
	Feed   struct{ ID, URL string }
	Secret string
}

type keySet struct {
	Keys []struct{ Kid, X, Kty, Crv string }
}

// feedAdmin signs in a Global Administrator.
func (w *world) feedAdmin(t *testing.T) string {
	t.Helper()
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	w.enrol(t, admin)
	w.feedPerson = admin
	return w.mfa(t, admin).Token
}

func (w *world) feed(t *testing.T, token string, body object) feedAnswer {
	t.Helper()
	return must[feedAnswer](t, w.post(t, "/admin/v1/feeds", token, body), 201)
}

func (w *world) userNamed(t *testing.T, name, more string) string {
	t.Helper()
	r := w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":%q%s}`, schemas.UserURI, name, more))
	return must[struct{ ID string }](t, r, 201).ID
}

func (w *world) patchUser(t *testing.T, id, path string, value any) {
	t.Helper()
	v, _ := json.Marshal(value) // a text or a boolean
	r := w.Do(t, "PATCH", "/Users/"+id, patching(`{"op":"replace","path":"`+path+`","value":`+string(v)+`}`))
	if r.Status != 200 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
}

// verify checks a security event token with the keys that the server publishes.
func (w *world) verify(t *testing.T, token string) told {
	t.Helper()
	set := must[keySet](t, w.send(t, "GET", "/events/v1/keys", ""), 200)
	parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"})).Parse(token, func(tok *jwt.Token) (any, error) {
		if tok.Header["typ"] != "secevent+jwt" {
			return nil, fmt.Errorf("typ is %v", tok.Header["typ"])
		}
		for _, k := range set.Keys {
			if k.Kid == tok.Header["kid"] {
				x, err := base64.RawURLEncoding.DecodeString(k.X)
				return ed25519.PublicKey(x), err
			}
		}
		return nil, fmt.Errorf("there is no key %v", tok.Header["kid"])
	})
	if err != nil || !parsed.Valid {
		t.Fatalf("%s: %v", token, err)
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var e told
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestWebhooks: what changes is told with a signature that the receiver's secret checks;
// what fails is tried again, then given up, and can be had again.
func TestWebhooks(t *testing.T) {
	shows(t, "A9")
	onStoresWith(t, testserver.Options{ByHand: true}, testWebhooks)
}

func testWebhooks(t *testing.T, w *world) {
	token := w.feedAdmin(t)
	hook := listenForEvents(t)
	w.userNamed(t, "before", "")
	made := w.feed(t, token, object{"name": "HR", "delivery": "webhook", "url": hook.URL + "/hook", "retryHours": 2})
	step := func() { w.Feeds.Step(t.Context(), storage.DefaultTenant, made.Feed.ID) }
	checked, err := webhooks.NewWebhook(made.Secret)
	if err != nil {
		t.Fatal(err)
	}
	take := func(secret *webhooks.Webhook) (list []told) {
		t.Helper()
		for _, d := range hook.take() {
			if err := secret.VerifyIgnoringTimestamp([]byte(d.body), d.header); err != nil { // the clock is the test's
				t.Errorf("%v: %s", err, d.header)
			}
			var e told
			if err := json.Unmarshal([]byte(d.body), &e); err != nil {
				t.Fatal(err)
			}
			if d.header.Get("webhook-id") != e.Jti {
				t.Errorf("the webhook %s has the event %s", d.header.Get("webhook-id"), e.Jti)
			}
			list = append(list, e)
		}
		return list
	}
	kinds := func(list []told) (out []string) {
		for _, e := range list {
			out = append(out, e.kinds())
		}
		return out
	}
	if strings.Contains(w.get(t, "/admin/v1/feeds/"+made.Feed.ID, token).Body, made.Secret) || made.Secret == "" {
		t.Error("the secret is shown a second time, or not at all")
	}
	if r := must[struct{ Delivered bool }](t, w.post(t, "/admin/v1/feeds/"+made.Feed.ID+"/test", token, nil), 200); !r.Delivered {
		t.Error("a test was not delivered")
	}
	if list := take(checked); len(list) != 1 || list[0].Events["urn:roster:event:test"].Version != "" {
		t.Errorf("a test: %+v", list)
	}
	id := w.userNamed(t, "ana", `,"externalId":"x-1","active":true`)
	w.patchUser(t, id, "title", "Boss")
	w.patchUser(t, id, "active", false)
	w.patchUser(t, id, "active", true)
	if r := w.Do(t, "DELETE", "/Users/"+id, ""); r.Status != 204 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	step()
	list := take(checked)
	if diff := cmp.Diff([]string{"prov:create:notice", "prov:patch:notice", "prov:deactivate prov:patch:notice", "prov:activate prov:patch:notice", "prov:delete"}, kinds(list)); diff != "" {
		t.Fatalf("what is told (-want +got):\n%s", diff)
	}
	for i, e := range list {
		if e.Iss != w.Root || e.Aud != made.Feed.ID || e.Iat == 0 || e.Sub != nil || e.SubID.Format != "scim" || e.SubID.ID != id || e.SubID.URI != "/Users/"+id || e.Txn == "" {
			t.Errorf("event %d is %+v", i, e)
		}
		for uri, p := range e.Events {
			version := fmt.Sprintf(`W/"%d"`, i+1)
			if strings.HasSuffix(uri, ":delete") {
				version = "" // RFC 9967 §2.4.4: no attributes
			}
			if p.Data != nil || p.Version != version || strings.HasSuffix(uri, "notice") != (p.Attributes != nil) {
				t.Errorf("%s: %+v", uri, p)
			}
		}
	}
	if list[0].SubID.ExternalID != "x-1" || !slices.Equal(*list[1].Events["urn:ietf:params:scim:event:prov:patch:notice"].Attributes, []string{"title"}) {
		t.Errorf("%+v", list[:2])
	}

	// An event that is refused holds back those of its resource, and no others.
	ana, ben := w.userNamed(t, "ana", ""), w.userNamed(t, "ben", "")
	hook.answers(func(d delivered) int {
		if strings.Contains(d.body, ana) {
			return 500
		}
		return 200
	})
	w.patchUser(t, ana, "title", "Boss")
	w.patchUser(t, ben, "title", "Boss")
	step()
	if list := take(checked); len(list) != 2 || list[0].SubID.ID != ben || list[1].SubID.ID != ben {
		t.Errorf("while ana's are refused: %+v", list)
	}
	hook.answers(nil)
	w.patchUser(t, ana, "title", "Clerk")
	step()
	if list := take(checked); len(list) != 0 {
		t.Errorf("what was refused, or what is behind it, is sent at once: %+v", list)
	}
	w.advance(time.Minute)
	step()
	if list := take(checked); len(list) != 3 || list[0].SubID.ID != ana || list[0].kinds() != "prov:create:notice" || list[1].kinds() != "prov:patch:notice" || list[2].Events["urn:ietf:params:scim:event:prov:patch:notice"].Version != `W/"3"` {
		t.Errorf("a minute later: %+v", list)
	}

	// Given up after two hours, and had again.
	hook.answers(func(delivered) int { return 503 })
	w.patchUser(t, ana, "title", "Chief")
	for range 6 {
		step()
		w.advance(30 * time.Minute)
	}
	hook.answers(nil)
	type letters struct {
		Total       int
		DeadLetters []struct {
			ID, ResourceID, Reason string
			Code, Attempts         int
		}
	}
	token = w.mfaAgain(t)
	dead := must[letters](t, w.get(t, "/admin/v1/feeds/"+made.Feed.ID+"/dead-letters", token), 200)
	if dead.Total != 1 || dead.DeadLetters[0].ResourceID != ana || dead.DeadLetters[0].Reason != "refused" || dead.DeadLetters[0].Code != 503 || dead.DeadLetters[0].Attempts < 3 {
		t.Fatalf("dead letters: %+v", dead)
	}
	must[struct{}](t, w.post(t, "/admin/v1/dead-letters/"+dead.DeadLetters[0].ID+"/retry", token, nil), 204)
	step()
	if list := take(checked); len(list) != 1 || list[0].Jti != dead.DeadLetters[0].ID {
		t.Errorf("a dead letter that is sent again: %+v", list)
	}
	if r := w.send(t, "DELETE", "/admin/v1/dead-letters/"+dead.DeadLetters[0].ID, "", "Authorization", "Bearer "+token); r.Status != 404 {
		t.Errorf("dropping a dead letter that is none any more: %d %s", r.Status, r.Body)
	}

	// Replay: all of it, under the same ids.
	must[struct{}](t, w.post(t, "/admin/v1/feeds/"+made.Feed.ID+"/replay", token, object{"since": w.now().Add(-24 * time.Hour)}), 200)
	step()
	again := take(checked)
	if len(again) < 10 || !slices.ContainsFunc(again, func(e told) bool { return e.Jti == list[0].Jti }) {
		t.Errorf("a replay: %d events", len(again))
	}

	// A rotated secret: both sign for a day.
	rotated := must[feedAnswer](t, w.post(t, "/admin/v1/feeds/"+made.Feed.ID+"/rotate", token, nil), 201)
	next, err := webhooks.NewWebhook(rotated.Secret)
	if err != nil || rotated.Secret == made.Secret {
		t.Fatal(err)
	}
	for _, secret := range []*webhooks.Webhook{checked, next} {
		w.patchUser(t, ben, "title", fmt.Sprint(secret == next))
		step()
		if list := take(secret); len(list) != 1 {
			t.Errorf("after the rotation: %+v", list)
		}
	}

	// Whoever is gone is told nothing more.
	hook.answers(func(delivered) int { return 410 })
	w.patchUser(t, ben, "title", "x")
	step()
	hook.answers(nil)
	w.advance(time.Hour)
	step()
	if f := must[struct{ Enabled, Gone bool }](t, w.get(t, "/admin/v1/feeds/"+made.Feed.ID, w.mfaAgain(t)), 200); f.Enabled || !f.Gone || len(take(next)) != 0 {
		t.Errorf("after 410: %+v", f)
	}
	r := w.send(t, "PATCH", "/admin/v1/feeds/"+made.Feed.ID, `{"enabled":true}`, "Authorization", "Bearer "+w.mfaAgain(t), "Content-Type", "application/json")
	must[struct{}](t, r, 200)
	step()
	if list := take(next); len(list) != 1 || list[0].SubID.ID != ben {
		t.Errorf("enabled again: %+v", list)
	}
	if m := w.Metrics(t); !strings.Contains(m, `roster_events_total{delivery="webhook",outcome="dead"} 1`) || !strings.Contains(m, "roster_events_lag_seconds ") {
		t.Error("the metrics tell nothing of it")
	}
}

// mfaAgain signs the administrator of feedAdmin in once more.
func (w *world) mfaAgain(t *testing.T) string {
	t.Helper()
	return w.mfa(t, w.feedPerson).Token
}

// TestPush: security event tokens are pushed, full ones with data, under a signature that
// the published keys check.
func TestPush(t *testing.T) {
	shows(t, "A9")
	onStoresWith(t, testserver.Options{ByHand: true}, testPush)
}

func testPush(t *testing.T, w *world) {
	token := w.feedAdmin(t)
	hook := listenForEvents(t)
	const uri = "urn:ietf:params:scim:event:"
	made := w.feed(t, token, object{"name": "SP", "delivery": "push", "url": hook.URL, "token": "receivers-token", "audience": "https://sp.example.com", "types": []string{"User", "Group"},
		"events": []string{uri + "prov:create:full", uri + "prov:put:full", uri + "prov:patch:full", uri + "prov:delete", uri + "feed:add", uri + "misc:asyncresp"}})
	if made.Secret != "" {
		t.Error("a feed that is pushed got a secret")
	}
	step := func() { w.Feeds.Step(t.Context(), storage.DefaultTenant, made.Feed.ID) }
	take := func() (list []told) {
		t.Helper()
		for _, d := range hook.take() {
			if d.header.Get("Content-Type") != "application/secevent+jwt" || d.header.Get("Accept") != "application/json" || d.header.Get("Authorization") != "Bearer receivers-token" {
				t.Errorf("headers: %v", d.header)
			}
			list = append(list, w.verify(t, d.body))
		}
		return list
	}
	id := w.userNamed(t, "ana", `,"externalId":"x-1","password":"`+goodPassword+`"`)
	step()
	list := take()
	if len(list) != 1 || list[0].kinds() != "prov:create:full" || list[0].Aud != "https://sp.example.com" || list[0].SubID.ExternalID != "x-1" {
		t.Fatalf("a creation: %+v", list)
	}
	p := list[0].Events[uri+"prov:create:full"]
	if p.Attributes != nil || p.Data["userName"] != "ana" || p.Data["id"] != id || p.Data["password"] != nil || p.Data["meta"].(map[string]any)["location"] != w.URL+"/Users/"+id {
		t.Errorf("data: %+v", p)
	}
	// What has changed since is told by the event that changed it.
	w.patchUser(t, id, "title", "Boss")
	w.patchUser(t, id, "title", "Chief")
	r := w.Do(t, "PUT", "/Users/"+id, fmt.Sprintf(`{"schemas":[%q],"userName":"ana","title":"Head"}`, schemas.UserURI))
	must[struct{}](t, r, 200)
	step()
	list = take()
	if len(list) != 3 || list[0].kinds() != "prov:patch:notice" || list[1].kinds() != "prov:patch:notice" || list[2].kinds() != "prov:put:full" ||
		list[2].Events[uri+"prov:put:full"].Data["title"] != "Head" {
		t.Errorf("three changes: %+v", list)
	}
	if r := w.Do(t, "DELETE", "/Users/"+id, ""); r.Status != 204 {
		t.Fatal(r.Status)
	}
	must[struct{}](t, w.post(t, "/admin/v1/deleted-users/"+id+"/restore", w.mfaAgain(t), object{}), 200)
	bulk := w.Do(t, "POST", "/Bulk", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[{"method":"POST","path":"/Users","bulkId":"a","data":{"schemas":["`+schemas.UserURI+`"],"userName":"bulky"}},
		{"method":"POST","path":"/Users","bulkId":"b","data":{"schemas":["`+schemas.UserURI+`"],"userName":"bulky"}},{"method":"DELETE","path":"/Users/nobody"},{"method":"POST","path":"/Nowhere","bulkId":"d"},
		{"method":"PATCH","path":"/Groups/nothing","data":{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"remove","path":"shibboleth"}]}}]}`, "Prefer", "respond-async")
	if bulk.Status != 202 {
		t.Fatalf("%d %s", bulk.Status, bulk.Body)
	}
	w.Async.Round(t.Context())
	step()
	list = take()
	var kinds []string
	for _, e := range list {
		kinds = append(kinds, e.kinds())
	}
	slices.Sort(kinds) // across resources there is no order
	if diff := cmp.Diff([]string{"feed:add", "misc:asyncresp", "misc:asyncresp", "misc:asyncresp", "misc:asyncresp", "misc:asyncresp", "prov:create:full", "prov:delete"}, kinds); diff != "" {
		t.Errorf("what is told (-want +got):\n%s", diff)
	}
	txn := bulk.Header.Get("Set-Txn")
	for _, e := range list {
		a, ok := e.Events[uri+"misc:asyncresp"]
		if !ok {
			if e.kinds() == "prov:create:full" && e.Txn != txn+":0" {
				t.Errorf("the transaction of an operation: %s of %s", e.Txn, txn)
			}
			continue
		}
		if e.Txn == txn+":0" {
			if a.Method != "POST" || a.BulkID != "a" || a.Status != "201" || a.Version != `W/"1"` || a.Response != nil || a.Location != w.URL+e.SubID.URI || e.SubID.ID == "" || e.SubID.URI != "/Users/"+e.SubID.ID {
				t.Errorf("the completion of an operation: %+v", e)
			}
			continue
		}
		// One that failed has the error, and a subject all the same (RFC 9967 §2.1, §2.5.1.3).
		if a.Response == nil || !slices.Equal(a.Response.Schemas, []string{scim.ErrorURI}) || a.Response.Status != a.Status || e.SubID.Format != "scim" {
			t.Errorf("the completion of an operation that failed: %+v", e)
			continue
		}
		got := []string{a.Method, a.Status, a.Response.ScimType, a.Response.Detail, e.SubID.URI, e.SubID.ID}
		want := map[string][]string{
			txn + ":1": {"POST", "409", "uniqueness", "userName is already in use", "/Users", ""},
			txn + ":2": {"DELETE", "404", "", "no such resource", "/Users/nobody", "nobody"},
			txn + ":3": {"POST", "400", "invalidPath", "", "/Bulk", ""},
			txn + ":4": {"PATCH", "404", "", "no such resource", "/Groups/nothing", "nothing"},
		}[e.Txn]
		if !slices.Equal(got, want) {
			t.Errorf("the completion of %s: %q, want %q", e.Txn, got, want)
		}
	}
	// Another address is another receiver: it does not get the token of the former.
	r = w.send(t, "PATCH", "/admin/v1/feeds/"+made.Feed.ID, `{"url":"`+hook.URL+`/other"}`, "Authorization", "Bearer "+w.mfaAgain(t), "Content-Type", "application/json")
	if f := must[struct{ Token bool }](t, r, 200); f.Token {
		t.Error("the token stayed")
	}
	hook.answers(func(delivered) int { return 400 })
	w.userNamed(t, "dora", "")
	step()
	if r := w.get(t, "/admin/v1/feeds/"+made.Feed.ID, w.mfaAgain(t)); !strings.Contains(r.Body, `"reason":"invalid_key","code":400`) || strings.Contains(r.Body, "none of ours") {
		t.Errorf("an error of RFC 8935: %s", r.Body)
	}
	hook.answers(nil)
	w.advance(time.Minute)
	step()
	// 200 is not the answer of a receiver of tokens (RFC 8935 §2.2).
	hook.answers(func(delivered) int { return 200 })
	w.userNamed(t, "cleo", "")
	step()
	if f := must[struct{ Position struct{ Waiting int } }](t, w.get(t, "/admin/v1/feeds/"+made.Feed.ID, w.mfaAgain(t)), 200); f.Position.Waiting != 1 {
		t.Errorf("after 200: %+v", f)
	}
}

// TestPoll: tokens are fetched and acknowledged; of each resource one at a time, the same
// again until it is acknowledged, and what is reported goes to the dead letters.
func TestPoll(t *testing.T) {
	shows(t, "A9")
	onStoresWith(t, testserver.Options{ByHand: true}, testPoll)
}

func testPoll(t *testing.T, w *world) {
	token := w.feedAdmin(t)
	issue := func(name string, scopes ...string) (string, string) {
		c := &storage.Client{Tenant: storage.DefaultTenant, Name: name, Scopes: scopes}
		text := w.Issue(t, c)
		return c.ID, text
	}
	client, clients := issue("sp", "events")
	_, stranger := issue("other", "events")
	_, powerless := issue("users", "users")
	made := w.feed(t, token, object{"name": "SP", "delivery": "poll", "client": client})
	path := "/events/v1/poll/" + made.Feed.ID
	poll := func(more object) (map[string]told, bool) {
		t.Helper()
		body := object{"returnImmediately": true}
		for k, v := range more {
			body[k] = v
		}
		r := must[struct {
			Sets          map[string]string
			MoreAvailable bool
		}](t, w.post(t, path, clients, body), 200)
		out := map[string]told{}
		for id, set := range r.Sets {
			if out[id] = w.verify(t, set); out[id].Jti != id {
				t.Errorf("the token %s is %+v", id, out[id])
			}
		}
		return out, r.MoreAvailable
	}
	for text, want := range map[string]int{stranger: 404, powerless: 403, token: 403, "": 401} {
		if r := w.post(t, path, text, object{"returnImmediately": true}); r.Status != want {
			t.Errorf("a poll by somebody else: %d %s, want %d", r.Status, r.Body, want)
		}
	}
	if sets, more := poll(nil); len(sets) != 0 || more {
		t.Errorf("nothing has happened: %v %t", sets, more)
	}
	ana, ben := w.userNamed(t, "ana", ""), w.userNamed(t, "ben", "")
	w.patchUser(t, ana, "title", "Boss")
	first, more := poll(nil)
	if len(first) != 2 || !more {
		t.Fatalf("two users, three events: %v %t", first, more)
	}
	second, _ := poll(nil)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("not acknowledged, it is not the same again: %s", diff)
	}
	var ofAna, ofBen string
	for id, e := range first {
		switch {
		case e.kinds() != "prov:create:notice":
			t.Errorf("%+v", e)
		case e.SubID.ID == ana:
			ofAna = id
		case e.SubID.ID == ben:
			ofBen = id
		}
	}
	if sets, more := poll(object{"maxEvents": 1}); len(sets) != 1 || !more {
		t.Errorf("one at most: %v %t", sets, more)
	}
	if sets, _ := poll(object{"maxEvents": 0}); len(sets) != 0 {
		t.Errorf("none: %v", sets)
	}
	if r := w.post(t, path, clients, object{"maxEvents": -1}); r.Status != 400 || !strings.Contains(r.Body, "maxEvents") {
		t.Errorf("fewer than none: %d %s", r.Status, r.Body)
	}
	sets, more := poll(object{"ack": []string{ofAna, "nonsense", "x.1", made.Feed.ID + ".999999"}})
	if len(sets) != 2 || more {
		t.Errorf("ana's first is acknowledged: %v %t", sets, more)
	}
	var patched string
	for id, e := range sets {
		if id != ofBen && (e.kinds() != "prov:patch:notice" || e.SubID.ID != ana) {
			t.Errorf("%+v", e)
		} else if id != ofBen {
			patched = id
		}
	}
	// ben's is not accepted, by an error and with members that nobody here knows.
	sets, more = poll(object{"ack": []string{patched, patched}, "setErrs": object{ofBen: object{"err": "jwtAud", "description": "who is ben?", "more": 1}}, "extension": true})
	if len(sets) != 0 || more {
		t.Errorf("all is acknowledged or reported: %v %t", sets, more)
	}
	admin := w.mfaAgain(t)
	r := w.get(t, "/admin/v1/feeds/"+made.Feed.ID+"/dead-letters", admin)
	if !strings.Contains(r.Body, ofBen) || !strings.Contains(r.Body, `"reported"`) || strings.Contains(r.Body, "who is ben") {
		t.Errorf("dead letters: %s", r.Body)
	}
	must[struct{}](t, w.post(t, "/admin/v1/dead-letters/"+ofBen+"/retry", admin, nil), 204)
	if sets, _ := poll(nil); len(sets) != 1 || sets[ofBen].SubID.ID != ben {
		t.Errorf("a dead letter that is told again: %v", sets)
	}
	poll(object{"ack": []string{ofBen}})
	// More than a page, acknowledged as it comes: everything once, in order.
	for i := range 30 {
		w.patchUser(t, []string{ana, ben}[i%2], "title", fmt.Sprint(i))
	}
	seen, last := map[string]bool{}, map[string]string{}
	var ack []string
	for range 40 {
		sets, _ := poll(object{"ack": ack})
		ack = nil
		for id, e := range sets {
			v := e.Events["urn:ietf:params:scim:event:prov:patch:notice"].Version
			if seen[id] || len(v) < len(last[e.SubID.ID]) || len(v) == len(last[e.SubID.ID]) && v <= last[e.SubID.ID] {
				t.Errorf("%s of %s after %s, or twice", v, e.SubID.ID, last[e.SubID.ID])
			}
			seen[id], last[e.SubID.ID] = true, v
			ack = append(ack, id)
		}
	}
	if len(seen) != 30 {
		t.Errorf("%d events, want 30", len(seen))
	}
	// A poll waits for what comes.
	done := make(chan string, 1)
	go func() {
		r, err := w.Page(t.Context(), "POST", path, `{}`, "Authorization", "Bearer "+clients, "Content-Type", "application/json")
		done <- fmt.Sprint(r.Status, r.Body, err)
	}()
	w.patchUser(t, ana, "title", "late")
	if got := <-done; !strings.HasPrefix(got, "200") || !strings.Contains(got, made.Feed.ID+".") {
		t.Errorf("a poll that waits: %s", got)
	}
	// What is older than the feed keeps it is passed.
	w.advance(8 * 24 * time.Hour)
	if sets, more := poll(nil); len(sets) != 0 || more {
		t.Errorf("after eight days: %v %t", sets, more)
	}
}

// TestFeedsRefused: what is no feed, and who may not have one.
// TestCompletions: a feed is told that operations are done on resources of its types, and
// of no others.
func TestCompletions(t *testing.T) {
	onStoresWith(t, testserver.Options{ByHand: true}, func(t *testing.T, w *world) {
		token, hook := w.feedAdmin(t), listenForEvents(t)
		feeds := []string{}
		for _, typ := range []string{"User", "Group"} {
			feeds = append(feeds, w.feed(t, token, object{"name": typ, "delivery": "webhook", "url": hook.URL, "audience": typ, "types": []string{typ}, "events": []string{"urn:ietf:params:scim:event:misc:asyncresp"}}).Feed.ID)
		}
		bulk := w.Do(t, "POST", "/Bulk", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[
			{"method":"POST","path":"/Users","bulkId":"good","data":{"schemas":["`+schemas.UserURI+`"],"userName":"ana"}},
			{"method":"POST","path":"/Users","bulkId":"bad","data":{"schemas":["`+schemas.UserURI+`"],"userName":"ana"}},
			{"method":"POST","path":"/Groups","bulkId":"group","data":{"schemas":["`+schemas.GroupURI+`"],"displayName":"g"}},
			{"method":"DELETE","path":"/Groups/none"},
			{"method":"DELETE","path":"/Users/none"}]}`, "Prefer", "respond-async")
		if bulk.Status != 202 {
			t.Fatalf("%d %s", bulk.Status, bulk.Body)
		}
		w.Async.Round(t.Context())
		for _, id := range feeds {
			w.Feeds.Step(t.Context(), storage.DefaultTenant, id)
		}
		got := map[string][]string{}
		for _, d := range hook.take() {
			var e told
			if err := json.Unmarshal([]byte(d.body), &e); err != nil {
				t.Fatal(err)
			}
			for _, p := range e.Events {
				got[e.Aud] = append(got[e.Aud], strings.TrimSpace(p.Method+" "+p.BulkID))
			}
		}
		for _, list := range got {
			slices.Sort(list)
		}
		if diff := cmp.Diff(map[string][]string{"User": {"DELETE", "POST bad", "POST good"}, "Group": {"DELETE", "POST group"}}, got); diff != "" {
			t.Errorf("completions (-want +got):\n%s", diff)
		}
	})
}

func TestFeedsRefused(t *testing.T) {
	onStoresWith(t, testserver.Options{ByHand: true}, testFeedsRefused)
}

func testFeedsRefused(t *testing.T, w *world) {
	token := w.feedAdmin(t)
	hook := listenForEvents(t)
	good := object{"name": "x", "delivery": "webhook", "url": hook.URL}
	for name, change := range map[string]object{
		"name": {"name": " x"}, "delivery": {"delivery": "mail"}, "url": {"url": "https://10.0.0.1/"}, "http elsewhere": {"url": "http://169.254.169.254/"},
		"port": {"url": "https://example.com:65536/"}, "port 0": {"url": "https://example.com:0/"},
		"user": {"url": "https://a:b@example.com/"}, "client": {"client": "x"}, "token": {"token": "x"}, "types": {"types": []string{"Nothing"}}, "no types": {"types": []string{}},
		"events": {"events": []string{"urn:x"}}, "keepHours": {"keepHours": 0}, "retryHours": {"retryHours": 1000}, "poll without a client": {"delivery": "poll", "url": ""},
		"unknown": {"colour": "red"},
	} {
		body := object{}
		for _, o := range []object{good, change} {
			for k, v := range o {
				body[k] = v
			}
		}
		if r := w.post(t, "/admin/v1/feeds", token, body); r.Status != 400 {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	// Who may not read users has nobody told of them, by a new feed or by one that there is.
	boss := w.fresh(t, w.feedPerson)
	role := must[struct{ ID string }](t, w.scim(t, boss, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q,%q],"value":"feeder",%q:{"kind":"administrative","permissions":["feeds.read","feeds.write","groups.read"]}}`,
		schemas.RoleURI, schemas.RosterRoleURI, schemas.RosterRoleURI)), 201).ID
	feeder := w.person(t, "feeder")
	w.assign(t, boss, feeder.id, role, "")
	theirs := w.fresh(t, feeder)
	if r := w.post(t, "/admin/v1/feeds", theirs, good); r.Status != 403 {
		t.Errorf("a feed of users by who may not read them: %d %s", r.Status, r.Body)
	}
	groups := must[feedAnswer](t, w.post(t, "/admin/v1/feeds", theirs, object{"name": "g", "delivery": "webhook", "url": hook.URL, "types": []string{"Group"}}), 201).Feed.ID
	ofUsers := w.feed(t, boss, good).Feed.ID
	for id, body := range map[string]string{groups: `{"types":["Group","User"]}`, ofUsers: `{"url":"` + hook.URL + `/theirs"}`} {
		if r := w.send(t, "PATCH", "/admin/v1/feeds/"+id, body, "Authorization", "Bearer "+theirs, "Content-Type", "application/json"); r.Status != 403 {
			t.Errorf("%s by who may not read users: %d %s", body, r.Status, r.Body)
		}
	}
	// Whoever may change feeds at all may have one tell nothing.
	if r := w.send(t, "PATCH", "/admin/v1/feeds/"+ofUsers, `{"enabled":false}`, "Authorization", "Bearer "+theirs, "Content-Type", "application/json"); r.Status != 200 {
		t.Errorf("disabled by who may not read users: %d %s", r.Status, r.Body)
	}
	if r := w.send(t, "PATCH", "/admin/v1/feeds/"+ofUsers, `{"enabled":true}`, "Authorization", "Bearer "+theirs, "Content-Type", "application/json"); r.Status != 403 {
		t.Errorf("enabled by who may not read users: %d %s", r.Status, r.Body)
	}
	c := &storage.Client{Tenant: storage.DefaultTenant, Name: "revoked", Scopes: []string{"events"}}
	w.Issue(t, c)
	polled := w.feed(t, w.fresh(t, w.feedPerson), object{"name": "p", "delivery": "poll", "client": c.ID}).Feed.ID
	must[any](t, w.post(t, "/admin/v1/clients/"+c.ID+"/revoke", w.fresh(t, w.feedPerson), nil), 204)
	if r := w.send(t, "PATCH", "/admin/v1/feeds/"+polled, `{"enabled":false}`, "Authorization", "Bearer "+w.fresh(t, w.feedPerson), "Content-Type", "application/json"); r.Status != 200 {
		t.Errorf("disabled when its client is revoked: %d %s", r.Status, r.Body)
	}
	boss = w.fresh(t, w.feedPerson)
	for _, id := range []string{groups, ofUsers, polled} {
		must[struct{}](t, w.delete(t, "/admin/v1/feeds/"+id, boss), 204)
	}
	auditor := w.person(t, "auditor", auth.Auditor)
	w.enrol(t, auditor)
	if r := w.post(t, "/admin/v1/feeds", w.mfa(t, auditor).Token, good); r.Status != 403 {
		t.Errorf("an auditor: %d %s", r.Status, r.Body)
	}
	theirs = w.mfa(t, auditor).Token
	hidden := w.feed(t, w.mfaAgain(t), object{"name": "x", "delivery": "webhook", "url": hook.URL + "/hidden?key=hidden"}).Feed.ID
	for _, path := range []string{"/admin/v1/feeds", "/admin/v1/feeds/" + hidden} {
		if r := w.get(t, path, theirs); r.Status != 200 || strings.Contains(r.Body, "hidden?") || strings.Contains(r.Body, "/hidden\"") || !strings.Contains(r.Body, `"url":"`+hook.URL+`"`) {
			t.Errorf("what an auditor sees at %s: %d %s", path, r.Status, r.Body)
		}
		if r := w.get(t, path, w.mfaAgain(t)); r.Status != 200 || !strings.Contains(r.Body, hook.URL+"/hidden?key=hidden") {
			t.Errorf("what an administrator sees at %s: %d %s", path, r.Status, r.Body)
		}
	}
	must[struct{}](t, w.delete(t, "/admin/v1/feeds/"+hidden, w.mfaAgain(t)), 204)
	made := w.feed(t, w.mfaAgain(t), good)
	r := w.send(t, "DELETE", "/admin/v1/feeds/"+made.Feed.ID, "", "Authorization", "Bearer "+w.mfaAgain(t))
	must[struct{}](t, r, 204)
	if r := w.get(t, "/admin/v1/feeds/"+made.Feed.ID, w.mfaAgain(t)); r.Status != 404 {
		t.Errorf("a feed that was removed: %d", r.Status)
	}
	w.userNamed(t, "ana", "")
	w.Feeds.Step(t.Context(), storage.DefaultTenant, made.Feed.ID)
	if len(hook.take()) != 0 {
		t.Error("a feed that was removed is told")
	}
	audit := w.get(t, "/admin/v1/audit?type=Feed", w.mfaAgain(t)).Body
	if !strings.Contains(audit, "feed.create") || !strings.Contains(audit, "feed.delete") || strings.Contains(audit, made.Secret) {
		t.Errorf("the audit trail: %s", audit)
	}
}

// TestFetcher: what the feeds tell that a client fetches is for who may read it, whoever may
// give tokens to clients.
func TestFetcher(t *testing.T) {
	onStoresWith(t, testserver.Options{ByHand: true}, func(t *testing.T, w *world) {
		boss := w.feedAdmin(t)
		role := must[struct{ ID string }](t, w.scim(t, boss, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q,%q],"value":"keeper",%q:{"kind":"administrative","permissions":["clients.read","clients.write","groups.read"]}}`,
			schemas.RoleURI, schemas.RosterRoleURI, schemas.RosterRoleURI)), 201).ID
		keeper := w.person(t, "keeper")
		w.assign(t, boss, keeper.id, role, "")
		theirs := w.fresh(t, keeper)
		fetcher := func(name string, types ...string) string {
			c := &storage.Client{Tenant: storage.DefaultTenant, Name: name, Scopes: []string{"events"}}
			w.Issue(t, c)
			if types != nil {
				w.feed(t, boss, object{"name": name, "delivery": "poll", "client": c.ID, "types": types})
			}
			return c.ID
		}
		for id, want := range map[string]int{fetcher("idle"): 2, fetcher("groups", "Group"): 2, fetcher("users", "Group", "User"): 4} {
			if r := w.post(t, "/admin/v1/clients/"+id+"/rotate", theirs, object{}); r.Status/100 != want {
				t.Errorf("a token: %d %s, want %d00", r.Status, r.Body, want)
			}
			r := w.send(t, "PATCH", "/admin/v1/clients/"+id, `{"networks":[]}`, "Content-Type", "application/json", "Authorization", "Bearer "+theirs)
			if r.Status/100 != want {
				t.Errorf("a change: %d %s, want %d00", r.Status, r.Body, want)
			}
			must[any](t, w.post(t, "/admin/v1/clients/"+id+"/rotate", boss, object{}), 201)
		}
		// Nor does a client get the scope from them.
		c := &storage.Client{Tenant: storage.DefaultTenant, Name: "none", Scopes: []string{"groups:read"}}
		w.Issue(t, c)
		w.feed(t, boss, object{"name": "none", "delivery": "poll", "client": c.ID, "types": []string{"User"}})
		r := w.send(t, "PATCH", "/admin/v1/clients/"+c.ID, `{"scopes":["events"]}`, "Content-Type", "application/json", "Authorization", "Bearer "+theirs)
		if r.Status != 403 {
			t.Errorf("the scope: %d %s, want 403", r.Status, r.Body)
		}
	})
}
