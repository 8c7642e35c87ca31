package scim_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	elimity "github.com/elimity-com/scim"
	elimityerrors "github.com/elimity-com/scim/errors"
	"github.com/elimity-com/scim/optional"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// What elimity's server is known to do differently, everywhere:
//
//   - It names all extensions of a type in schemas, used or not, writes
//     meta.location without the server's address, and times without milliseconds.
//     Its errors have other texts, and its lists tell the count that was asked for
//     as itemsPerPage.
//
// And in single requests, where it is wrong or has not got what we have: the
// reason stands beside the request. A request with a reason must be answered
// differently, so that the list stays true.

// opinions are requests that both servers answer. Braces stand for the id of the
// resource that a request before created under that name.
var opinions = []struct {
	create, method, path, body string
	differs                    string // why, if the answers are not the same
}{
	{create: "ana", method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"ana","title":"Pilot","emails":[{"value":"ana@x.example","type":"work","primary":true},{"value":"a@y.example"}]}`},
	{create: "bo", method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `","` + schemas.EnterpriseUserURI + `"],"externalId":"7","userName":"Bo","name":{"givenName":"Bo","familyName":"Ek"},
		"displayName":"Bo Ek","active":false,"password":"correct horse","` + schemas.EnterpriseUserURI + `":{"department":"North","employeeNumber":"12"}}`},
	{create: "crew", method: "POST", path: "/Groups", body: `{"schemas":["` + schemas.GroupURI + `"],"displayName":"Crew"}`},

	{method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"ANA"}`},
	{method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `"],"title":"nobody"}`},
	{method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `"],"userName":7}`},
	{method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"cy","active":"maybe"}`},
	{method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `"],"userName":`},
	{method: "POST", path: "/Groups", body: `{"schemas":["` + schemas.GroupURI + `"]}`},

	{method: "GET", path: "/Users/{ana}"},
	{method: "GET", path: "/Users/{bo}"},
	{method: "GET", path: "/Groups/{crew}"},
	{method: "GET", path: "/Users/{crew}"},
	{method: "GET", path: "/Users/nobody"},
	{method: "GET", path: "/Nothing"},

	{method: "GET", path: "/Users"},
	{method: "GET", path: "/Groups"},
	{method: "GET", path: "/Users?startIndex=2&count=1"},
	{method: "GET", path: "/Users?startIndex=0&count=1"},
	{method: "GET", path: "/Users?startIndex=9"},
	{method: "GET", path: "/Users?count=0"},
	{method: "GET", path: "/Users?count=-1"},
	{method: "GET", path: "/Users?count=many", differs: "its error has no scimType"},

	{method: "GET", path: `/Users?filter=userName eq "ANA"`},
	{method: "GET", path: `/Users?filter=USERNAME sw "b"`},
	{method: "GET", path: `/Users?filter=userName ne "ana"`},
	{method: "GET", path: `/Users?filter=title pr`},
	{method: "GET", path: `/Users?filter=not (title pr)`},
	{method: "GET", path: `/Users?filter=active eq false`},
	{method: "GET", path: `/Users?filter=name.familyName co "e"`},
	{method: "GET", path: `/Users?filter=title ew "T" and (displayName pr or userName gt "a")`},
	{method: "GET", path: `/Users?filter=emails[type eq "work" and value ew "X.example"]`},
	{method: "GET", path: `/Groups?filter=displayName eq "crew"`},
	{method: "GET", path: `/Users?filter=userName eq "nobody"`},
	{method: "GET", path: `/Users?filter=externalId eq "7"`, differs: "its filters do not know externalId"},
	{method: "GET", path: `/Users?filter=title ne "Pilot"`, differs: "ne does not select what has no value"},
	{method: "GET", path: `/Users?filter=emails.value eq "a@y.example"`, differs: "it does not look into lists"},
	{method: "GET", path: `/Users?filter=userName eq "an\u0061"`, differs: "it does not decode escapes"},
	{method: "GET", path: `/Users?filter=emails[type eq "work"].value eq "ana@x.example"`, differs: "it does not know the form that clients send"},

	{method: "GET", path: `/Users?filter=userName eq`},
	{method: "GET", path: `/Users?filter=userName is "ana"`},
	{method: "GET", path: `/Users?filter=nosuch eq "ana"`},
	{method: "GET", path: `/Users?filter=name.nosuch eq "ana"`},
	{method: "GET", path: `/Users?filter=nosuch[type eq "work"]`, differs: "it takes any name before brackets"},
	{method: "GET", path: `/Users?filter=userName eq 5`, differs: "it compares names with numbers"},
	{method: "GET", path: `/Users?filter=password eq "correct horse"`, differs: "it lets passwords be guessed"},

	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"replace","path":"title","value":"Captain"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"add","path":"name.givenName","value":"Ana"},{"op":"add","path":"emails","value":[{"value":"b@y.example","type":"home"}]}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"replace","path":"emails[type eq \"home\"].value","value":"c@y.example"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"remove","path":"emails[type eq \"home\"]"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"add","value":{"displayName":"Ana"}}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"remove","path":"title"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"remove"}]}`, differs: "RFC 7644 §3.5.2.2: noTarget"},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"replace","path":"nosuch","value":"x"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"replace","path":"id","value":"x"}]}`, differs: "RFC 7644 §3.12: mutability, for id is there and read-only"},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"replace","path":"active","value":"maybe"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"replace","path":"userName","value":"bo"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchStart + `{"op":"move","path":"title","value":"x"}]}`, differs: "RFC 7644 §3.12: invalidSyntax, for the operation is none"},
	{method: "PATCH", path: "/Users/nobody", body: patchStart + `{"op":"replace","path":"title","value":"x"}]}`},
	{method: "PATCH", path: "/Users/{bo}", body: patchStart + `{"op":"replace","path":"` + schemas.EnterpriseUserURI + `:department","value":"South"}]}`},
	{method: "PATCH", path: "/Groups/{crew}", body: patchStart + `{"op":"replace","path":"displayName","value":"Deck"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: `{"schemas":["` + schemas.UserURI + `"],"Operations":[]}`, differs: "RFC 7644 §3.12: invalidSyntax, for the message is another"},

	{method: "PUT", path: "/Users/{ana}", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"anna","emails":[]}`},
	{method: "PUT", path: "/Users/{ana}", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"bo"}`},
	{method: "PUT", path: "/Users/{ana}", body: `{"schemas":["` + schemas.UserURI + `"],"title":"nobody"}`},
	{method: "PUT", path: "/Users/nobody", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"nobody"}`},
	{method: "GET", path: "/Users/{ana}"},
	{method: "GET", path: "/Users?filter=userName eq \"ana\""},

	{method: "DELETE", path: "/Users/{ana}"},
	{method: "DELETE", path: "/Users/{ana}"},
	{method: "GET", path: "/Users/{ana}"},
	{method: "PUT", path: "/Users/{ana}", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"anna"}`},
	{method: "GET", path: "/Users"},

	{method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `"],"userName":"cy","emails":["cy@x.example"]}`,
		differs: "we take a bare string for the value of a complex attribute"},
	{method: "GET", path: "/Schemas/urn:nosuch"},
	{method: "GET", path: `/Schemas?filter=id eq "x"`, differs: "RFC 7644 §4: 403"},
}

// TestSecondOpinion sends the same requests to this server and to elimity's, each
// over a store of ours, and compares what they say. Of a PATCH elimity's server reads and
// checks the operations; they are applied by what applies ours, for it leaves that to
// whoever mounts it.
func TestSecondOpinion(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secondOpinion(t, testserver.Options{Open: open})
		})
	}
}

func secondOpinion(t *testing.T, opt testserver.Options) {
	ours, under := testserver.Start(t, opt), testserver.Start(t, opt)
	theirs := elimityServer(t, under.Provider)
	one, other := map[string]string{}, map[string]string{} // names of resources by their ids
	for _, o := range opinions {
		a := ours.Do(t, o.method, strings.ReplaceAll(fill(o.path, one), " ", "%20"), o.body, "Content-Type", "application/scim+json")
		w := httptest.NewRecorder()
		theirs.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), o.method, strings.ReplaceAll(fill(o.path, other), " ", "%20"), strings.NewReader(o.body)))
		if o.create != "" {
			one[created(t, a.Body)], other[created(t, w.Body.String())] = o.create, o.create
		}
		what := o.method + " " + o.path + " " + o.body
		diff := gocmp.Diff(opinion(t, a.Status, a.Body, one), opinion(t, w.Code, w.Body.String(), other))
		switch {
		case diff != "" && o.differs == "":
			t.Errorf("%s\n(-ours +elimity's):\n%s", what, diff)
		case diff == "" && o.differs != "":
			t.Errorf("%s\nboth say the same, although %s", what, o.differs)
		}
	}
}

// fill puts ids in the place of names.
func fill(path string, names map[string]string) string {
	for id, name := range names {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	return path
}

func created(t *testing.T, body string) string {
	t.Helper()
	var r struct{ ID string }
	if err := json.Unmarshal([]byte(body), &r); err != nil || r.ID == "" {
		t.Fatalf("nothing was created: %s", body)
	}
	return r.ID
}

// opinion is an answer without what is known to differ everywhere.
func opinion(t *testing.T, status int, body string, names map[string]string) map[string]any {
	t.Helper()
	for id, name := range names {
		body = strings.ReplaceAll(body, id, name)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(cmp.Or(body, "{}")), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	delete(v, "detail")
	delete(v, "itemsPerPage")
	list, _ := v["Resources"].([]any)
	for _, r := range append(list, v) {
		if r := r.(map[string]any); r["meta"] != nil {
			delete(r, "schemas")
			r["meta"] = map[string]any{"resourceType": r["meta"].(map[string]any)["resourceType"], "version": r["meta"].(map[string]any)["version"]}
		}
	}
	v["HTTP status"] = status
	return v
}

// elimityServer is elimity's server over a Provider.
func elimityServer(t *testing.T, p *scim.Provider) http.Handler {
	t.Helper()
	args := &elimity.ServerArgs{ServiceProviderConfig: &elimity.ServiceProviderConfig{MaxResults: scim.MaxCount}}
	for _, rt := range p.Schemas.Types() {
		their := elimity.ResourceType{Name: rt.Name, Endpoint: rt.Endpoint, Schema: rt.Schema.Elimity(), Handler: elimityHandler{p, rt}}
		for _, e := range rt.Extensions {
			their.SchemaExtensions = append(their.SchemaExtensions, elimity.SchemaExtension{Schema: e.Schema.Elimity(), Required: e.Required})
		}
		args.ResourceTypes = append(args.ResourceTypes, their)
	}
	s, err := elimity.NewServer(args)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// elimityHandler is resources of one type for elimity's server.
type elimityHandler struct {
	p  *scim.Provider
	rt *schemas.ResourceType
}

// answer turns a resource or an error of ours into theirs.
func (h elimityHandler) answer(r *http.Request, res *storage.Resource, err error) (elimity.Resource, error) {
	if err != nil {
		e := scim.WriteError(httptest.NewRecorder(), r, err)
		return elimity.Resource{}, elimityerrors.ScimError{Status: e.Status, ScimType: elimityerrors.ScimType(e.Type), Detail: e.Detail}
	}
	attrs, err := h.rt.Parse(res.Doc)
	if err != nil {
		return elimity.Resource{}, err
	}
	their := elimity.Resource{ID: res.ID, Attributes: attrs, Meta: elimity.Meta{
		Created: &res.Created, LastModified: &res.LastModified, Version: fmt.Sprintf(`W/"%d"`, res.Version),
	}}
	if id, ok := attrs["externalId"].(string); ok {
		their.ExternalID = optional.NewString(id)
	}
	return their, nil
}

func (h elimityHandler) Create(r *http.Request, attrs elimity.ResourceAttributes) (elimity.Resource, error) {
	res, err := h.p.Create(r.Context(), operator(), h.rt, map[string]any(attrs))
	return h.answer(r, res, err)
}

func (h elimityHandler) Get(r *http.Request, id string) (elimity.Resource, error) {
	res, err := h.p.Get(r.Context(), operator(), h.rt, id)
	return h.answer(r, res, err)
}

func (h elimityHandler) Replace(r *http.Request, id string, attrs elimity.ResourceAttributes) (elimity.Resource, error) {
	res, err := h.p.Replace(r.Context(), operator(), h.rt, id, scim.Precondition{}, map[string]any(attrs))
	return h.answer(r, res, err)
}

func (h elimityHandler) Delete(r *http.Request, id string) error {
	if err := h.p.Delete(r.Context(), operator(), h.rt, id, scim.Precondition{}); err != nil {
		_, err = h.answer(r, nil, err)
		return err
	}
	return nil
}

func (h elimityHandler) Patch(r *http.Request, id string, operations []elimity.PatchOperation) (elimity.Resource, error) {
	var list []any
	for _, o := range operations {
		op := map[string]any{"op": o.Op, "value": o.Value}
		if o.Path != nil {
			op["path"] = o.Path.String()
		}
		list = append(list, op)
	}
	ops, err := patch.Decode(map[string]any{"schemas": []any{patch.MessageURI}, "Operations": list}, patch.DefaultLimits, schemas.Lenient)
	if err != nil {
		return h.answer(r, nil, err)
	}
	res, err := h.p.Patch(r.Context(), operator(), h.rt, id, scim.Precondition{}, ops)
	return h.answer(r, res, err)
}

// GetAll lets their filters choose among all resources.
func (h elimityHandler) GetAll(r *http.Request, params elimity.ListRequestParams) (elimity.Page, error) {
	ours, err := h.p.Query(r.Context(), operator(), h.rt, storage.Query{Type: h.rt.Name, StartIndex: 1, Count: scim.MaxCount})
	if err != nil {
		return elimity.Page{}, err
	}
	page := elimity.Page{Resources: []elimity.Resource{}}
	for {
		portion, err := ours.Next(r.Context())
		if err != nil || len(portion) == 0 {
			return page, err
		}
		for _, res := range portion {
			copied := *res
			their, err := h.answer(r, &copied, nil)
			if err != nil {
				return page, err
			}
			if params.FilterValidator != nil && params.FilterValidator.PassesFilter(their.Attributes) != nil {
				continue
			}
			page.TotalResults++
			if page.TotalResults >= params.StartIndex && len(page.Resources) < params.Count {
				their.ID = strings.Clone(their.ID)
				page.Resources = append(page.Resources, their)
			}
		}
	}
}
