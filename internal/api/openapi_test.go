package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/events"
)

// description is openapi.yaml as far as it is held against the code.
type description struct {
	OpenAPI    string `json:"openapi"`
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas   map[string]*schema
		Responses map[string]json.RawMessage
	}
}

type operation struct {
	OperationID string                 `json:"operationId"`
	Summary     string                 `json:"summary"`
	Need        string                 `json:"x-roster-need"`
	Security    *[]map[string][]string `json:"security"`
	Parameters  []parameter            `json:"parameters"`
	RequestBody *struct {
		Required bool
		Content  map[string]struct{ Schema schema }
	} `json:"requestBody"`
	Responses map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]struct{ Schema schema }
	} `json:"responses"`
}

type parameter struct {
	Ref      string `json:"$ref"`
	Name, In string
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Format     string
	Properties map[string]*schema
	Required   []string
	Additional *bool `json:"additionalProperties"`
	Items      *schema
	Enum       []string
}

func readDescription(t *testing.T) description {
	t.Helper()
	body, err := documentJSON()
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// endpoints are those of all surfaces by method and whole path.
func endpoints() map[string]endpoint {
	all := map[string]endpoint{}
	a := &API{}
	for base, list := range map[string][]endpoint{AuthBase: a.authEndpoints(), AdminBase: a.adminEndpoints(), EventsBase: a.eventEndpoints()} {
		for _, e := range list {
			all[e.method+" "+base+e.path] = e
		}
	}
	return all
}

const problemsRef = "#/components/responses/Problem"

// TestDescription holds openapi.yaml against the routes, both ways.
func TestDescription(t *testing.T) {
	t.Parallel()
	d := readDescription(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("openapi: %s", d.OpenAPI)
	}
	all := endpoints()
	used := map[string]bool{"Problem": true}
	ids := map[string]bool{}
	for path, methods := range d.Paths {
		for method, raw := range methods {
			if method == "parameters" {
				continue
			}
			name := strings.ToUpper(method) + " " + path
			e, ok := all[name]
			if !ok {
				t.Errorf("%s is described and no route", name)
				continue
			}
			delete(all, name)
			var o operation
			if err := json.Unmarshal(raw, &o); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if o.OperationID == "" || ids[o.OperationID] || o.Summary == "" {
				t.Errorf("%s: operationId %q, summary %q", name, o.OperationID, o.Summary)
			}
			ids[o.OperationID] = true
			if o.Need != e.needs.String() {
				t.Errorf("%s: x-roster-need is %q, want %q", name, o.Need, e.needs)
			}
			if public := o.Security != nil && len(*o.Security) == 0; public != e.needs.Public() {
				t.Errorf("%s: security is %v", name, o.Security)
			}
			if strings.Contains(path, "{id}") != slices.Contains(o.Parameters, parameter{Ref: "#/components/parameters/ID"}) {
				t.Errorf("%s: parameters are %v", name, o.Parameters)
			}
			var query []string
			for _, p := range o.Parameters {
				if p.In == "query" {
					query = append(query, p.Name)
				}
			}
			if diff := cmp.Diff(e.query, query); diff != "" {
				t.Errorf("%s: parameters of the query: %s", name, diff)
			}
			body := ""
			if o.RequestBody != nil {
				body = o.RequestBody.Content["application/json"].Schema.Ref
			}
			if want := ref(e.in); body != want {
				t.Errorf("%s: the body is %q, want %q", name, body, want)
			}
			used[typeName(e.in)], used[typeName(e.out)] = true, true
			statuses := slices.Sorted(maps.Keys(o.Responses))
			if diff := cmp.Diff([]string{fmt.Sprint(e.status), "default"}, statuses); diff != "" {
				t.Errorf("%s: responses: %s", name, diff)
			}
			if e.path != "/openapi.json" && o.Responses[fmt.Sprint(e.status)].Content["application/json"].Schema.Ref != ref(e.out) {
				t.Errorf("%s: the answer is %+v, want %s", name, o.Responses[fmt.Sprint(e.status)], ref(e.out))
			}
			if o.Responses["default"].Ref != problemsRef {
				t.Errorf("%s: an error is %+v", name, o.Responses["default"])
			}
		}
	}
	for name := range all {
		t.Errorf("%s is a route and not described", name)
	}
	sent := map[reflect.Type]bool{} // by clients
	for name, e := range endpoints() {
		if e.in != nil {
			compare(t, d, used, sent, name, reflect.TypeOf(e.in), true)
		}
	}
	for name, e := range endpoints() {
		if e.out != nil {
			compare(t, d, used, sent, name, reflect.TypeOf(e.out), false)
		}
	}
	compare(t, d, used, sent, "errors", reflect.TypeFor[Problem](), false)
	for name := range d.Components.Schemas {
		if !used[name] {
			t.Errorf("the schema %s is of no use", name)
		}
	}
}

// TestDescriptionIsWhole: a comma in a text without quotes makes two members of it in
// YAML, of which the second is null.
func TestDescriptionIsWhole(t *testing.T) {
	t.Parallel()
	body, err := documentJSON()
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case nil:
			t.Errorf("%s is null", path)
		case map[string]any:
			for name, v := range v {
				walk(path+"/"+name, v)
			}
		case []any:
			for i, v := range v {
				walk(fmt.Sprint(path, "/", i), v)
			}
		}
	}
	walk("", document)
}

// TestPagesNameRoutes: what the pages send people to is a route, or where some begin, and
// no part of a route goes without a word.
func TestPagesNameRoutes(t *testing.T) {
	t.Parallel()
	pages, _ := filepath.Glob("../../docs/*.md")
	guides, _ := filepath.Glob("../../docs/guides/*.md")
	var text strings.Builder
	named := map[string]string{} // paths, and a page that names each
	for _, page := range slices.Concat([]string{"../../README.md"}, pages, guides) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
		for _, path := range regexp.MustCompile(`/(?:auth|admin|events)/v1(?:/[\w.{}-]*[\w}])+`).FindAllString(string(b), -1) {
			named[path] = page
		}
	}
	// begins: a route begins with the path of a page.
	begins := func(path, route string) bool {
		said, is := strings.Split(path, "/"), strings.Split(route, "/")
		for i, part := range said {
			if i == len(is) || is[i] != "{id}" && is[i] != part {
				return false
			}
		}
		return true
	}
	all := endpoints()
	for name, e := range all {
		for part := range strings.SplitSeq(strings.Trim(e.path, "/"), "/") {
			if part != "{id}" && !strings.Contains(text.String(), "/"+part) && !strings.Contains(text.String(), "`"+part+"`") {
				t.Errorf("no page tells of %s in %s", part, name)
			}
		}
	}
	for path, page := range named {
		found := false
		for name := range all {
			_, route, _ := strings.Cut(name, " ")
			found = found || begins(path, route)
		}
		if !found {
			t.Errorf("%s: there is no %s", page, path)
		}
	}
	if len(named) < 40 {
		t.Errorf("the pages name %d paths", len(named))
	}
}

func typeName(v any) string {
	if v == nil {
		return ""
	}
	return reflect.TypeOf(v).Name()
}

func ref(v any) string {
	if v == nil {
		return ""
	}
	return "#/components/schemas/" + typeName(v)
}

// compare holds the schema of a struct against its members.
func compare(t *testing.T, d description, used map[string]bool, sent map[reflect.Type]bool, where string, typ reflect.Type, request bool) {
	t.Helper()
	sent[typ] = sent[typ] || request
	request = sent[typ]
	used[typ.Name()] = true
	s := d.Components.Schemas[typ.Name()]
	if s == nil {
		t.Errorf("%s: there is no schema %s", where, typ.Name())
		return
	}
	closed := request && typ != reflect.TypeFor[events.PollRequest]()
	if s.Type != "object" || closed != (s.Additional != nil && !*s.Additional) {
		t.Errorf("%s is of type %s, additionalProperties %v", typ.Name(), s.Type, s.Additional)
	}
	properties := map[string]*schema{}
	var required []string
	for _, f := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() {
			continue
		}
		properties[name] = schemaOf(f.Type)
		if options == "" {
			required = append(required, name)
		}
		for inner := f.Type; ; inner = inner.Elem() {
			if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() {
				compare(t, d, used, sent, where, inner, request)
			}
			if inner.Kind() != reflect.Slice && inner.Kind() != reflect.Pointer {
				break
			}
		}
	}
	slices.Sort(required)
	slices.Sort(s.Required)
	if diff := cmp.Diff(properties, s.Properties, cmp.Transformer("shape", shape)); diff != "" {
		t.Errorf("%s: members of %s (- in Go, + in the document): %s", where, typ.Name(), diff)
	}
	if diff := cmp.Diff(required, s.Required); diff != "" {
		t.Errorf("%s: required of %s (- in Go, + in the document): %s", where, typ.Name(), diff)
	}
}

// shape is a schema in a line.
func shape(s *schema) string {
	switch {
	case s.Ref != "":
		return s.Ref
	case s.Items != nil:
		return "array of " + shape(s.Items)
	}
	return strings.TrimSpace(s.Type + " " + s.Format)
}

func schemaOf(t reflect.Type) *schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[auth.Secret]():
		return &schema{Type: "string", Format: "password"}
	case reflect.TypeFor[json.RawMessage]():
		return &schema{}
	case reflect.TypeFor[[]byte]():
		return &schema{Type: "string", Format: "byte"}
	}
	switch t.Kind() {
	case reflect.Map:
		return &schema{Type: "object"}
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Slice:
		return &schema{Items: schemaOf(t.Elem())}
	case reflect.Struct:
		return &schema{Ref: "#/components/schemas/" + t.Name()}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int, reflect.Int64:
		return &schema{Type: "integer"}
	}
	return &schema{Type: "string"}
}

// TestNoFilesInRequests: where files are is for the configuration to say (M18). No
// parameter or member is called like one; TestDescription sees to it that there are
// no others than those described.
func TestNoFilesInRequests(t *testing.T) {
	like := regexp.MustCompile(`^(file|path|dir|folder|template|command)|File|Path|Dir|Folder|(?i)url|uri`)
	seen := 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
		case reflect.Struct:
			for _, f := range reflect.VisibleFields(typ) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name == "" {
					continue
				}
				seen++
				// Where a feed sends to is looked at when the connection is made: TestRebinding in
				// internal/events.
				feeds := name == "url" && (typ == reflect.TypeFor[FeedRequest]() || typ == reflect.TypeFor[FeedChange]())
				if like.MatchString(name) && !feeds {
					t.Errorf("%s has a member %s", typ, name)
				}
				walk(f.Type)
			}
		}
	}
	for name, e := range endpoints() {
		if e.in != nil {
			walk(reflect.TypeOf(e.in))
		}
		for _, parameter := range e.query {
			seen++
			if like.MatchString(parameter) {
				t.Errorf("%s has a parameter %s", name, parameter)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d names", seen)
	}
}
